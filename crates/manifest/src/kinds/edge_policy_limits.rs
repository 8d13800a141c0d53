//! The section of an EdgePolicy about limits of clients: what a head and a body may be, and how slow. The edge's own
//! limits hold for what is not written (`model::limits`).

use crate::codes;
use crate::decode::{Decode, Decoder, integer};
use crate::kinds::edge_policy::Period;
use crate::node::{Node, Value};
use crate::section::{Field, bounded, section};
use model::limits;
use std::time::Duration;

section! {
    pub struct LimitsSection {
        /// Header lines of a request; beyond it 431. Of a port.
        "headers" => headers: HeaderCount = HeaderCount(limits::HEAD_HEADERS as u16),
        /// A request's head; beyond it 431. Of a port.
        "headBytes" => head_bytes: HeadBytes = HeadBytes(limits::HEAD_BYTES as u64),
        /// The request target; beyond it 414. Of a port.
        "targetBytes" => target_bytes: TargetBytes = TargetBytes(limits::TARGET_BYTES as u64),
        /// A request's body; beyond it 413.
        "bodyBytes" => body_bytes: BodyBytes = BodyBytes(limits::REQUEST_BODY_BYTES),
        /// Until a head is whole; beyond it 408. Of a port.
        "headTimeout" => head_timeout: Period = Period(Duration::from_millis(limits::HEAD_TIMEOUT_MS)),
        /// After which a connection without a request is closed. Of a port.
        "idleTimeout" => idle_timeout: Period = Period(Duration::from_millis(limits::IDLE_TIMEOUT_MS)),
        /// A body, in either direction, without a byte; of a request, 408.
        "bodyTimeout" => body_timeout: Period = Period(Duration::from_millis(limits::BODY_STALL_TIMEOUT_MS)),
        /// Bytes a second that the body of a request has at least; 408 when it is slower. Without it, any.
        "requestRate" => request_rate: Rate,
        /// Bytes a second at which a client takes a response at least; its connection or stream is reset when it is
        /// slower. Without it, any.
        "responseRate" => response_rate: Rate,
        /// Time that a client may fall behind `requestRate` and `responseRate`.
        "rateGrace" => rate_grace: Period = Period(Duration::from_secs(10)),
        /// Streams that a connection of HTTP/2 may have open at once. Of a port.
        "streams" => streams: Streams = Streams(limits::HTTP2_STREAMS),
    }
}

bounded! {
    HeaderCount(u16) = 1..=200;
    Streams(u32) = 1..=10_000;
}

/// Declares an amount of bytes within bounds, written as a number or like `64Ki`.
macro_rules! bytes {
    ($( $name:ident = $low:expr, $high:expr; )*) => {
        $(
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name(pub u64);

            impl Decode for $name {
                fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                    amount(node, decoder, $low, $high).map($name)
                }
            }

            impl Field for $name {
                fn words() -> String {
                    format!("bytes, {} to {}", shown_bytes($low), shown_bytes($high))
                }

                fn shown(&self) -> String {
                    shown_bytes(self.0)
                }
            }
        )*
    };
}

bytes! {
    HeadBytes = 1 << 10, 48 << 10;
    TargetBytes = 64, 16 << 10;
    BodyBytes = 0, 1 << 40;
    Rate = 1, 1 << 30;
}

fn amount(node: &Node, decoder: &mut Decoder, low: u64, high: u64) -> Option<u64> {
    let Value::String(text) = &node.value else {
        return integer(node, decoder, low as i64, high as i64).map(|value| value as u64);
    };
    let bounds = || format!("write {} to {}", shown_bytes(low), shown_bytes(high));
    match model::quantity::parse_bytes(text) {
        Ok(bytes) if (low..=high).contains(&bytes) => return Some(bytes),
        Ok(_) => {
            let message = format!("`{text}` is out of range");
            decoder.report(&codes::OUT_OF_RANGE, node.span, message, bounds());
        }
        Err(why) => decoder.report(&codes::BAD_VALUE, node.span, why, bounds()),
    }
    None
}

/// The largest unit that leaves a whole number.
fn shown_bytes(bytes: u64) -> String {
    let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let fits = |(unit, _): &(u64, &str)| bytes > 0 && bytes.is_multiple_of(*unit);
    match units.into_iter().find(fits) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_as_they_are_read() {
        for (bytes, shown) in
            [(0, "0"), (64, "64"), (8192, "8Ki"), (1 << 30, "1Gi"), (1025, "1025")]
        {
            assert_eq!(shown_bytes(bytes), shown);
            assert_eq!(model::quantity::parse_bytes(shown), Ok(bytes));
        }
    }
}
