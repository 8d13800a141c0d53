//! What the edge knows of gRPC: which requests are calls, how long they may take, and how a refusal is told to their
//! clients. Nothing is read of their messages. (gRPC over HTTP/2; gRPC's HTTP to status mapping)

use crate::decide::Head;
use crate::grpc_web::Form;
use crate::refusal::{Cause, Refusal};
use h1::{BodyDecoder, Event, Framing, Known};
use routing::Headers;
use std::time::Duration;

pub(crate) const CONTENT_TYPE: &[u8] = b"application/grpc";

const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// Whether a request calls something of gRPC. What becomes of it is settled with each connection: gRPC is spoken over
/// HTTP/2 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    No,
    Grpc,
    Web(Form),
}

impl Call {
    pub fn of(request: Head<'_>) -> Call {
        match request.find(Known::ContentType) {
            Some(content_type) if is_call(content_type) => Call::Grpc,
            Some(content_type) => Form::of(content_type).map_or(Call::No, Call::Web),
            None => Call::No,
        }
    }

    /// Of what its client reads; none for what is no call.
    pub fn content_type(self) -> Option<&'static [u8]> {
        match self {
            Call::No => None,
            Call::Grpc => Some(CONTENT_TYPE),
            Call::Web(form) => Some(form.content_type()),
        }
    }
}

/// Digits of `grpc-timeout`.
const DIGITS: usize = 8;

/// `application/grpc`, with or without the form of its messages. Not grpc-web.
pub(crate) fn is_call(content_type: &[u8]) -> bool {
    after(content_type, CONTENT_TYPE)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t')))
}

/// What follows the prefix, in whatever case it is written.
pub(crate) fn after<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// How long the client of a call waits for it; none for what is no call, and for a call that does not say.
pub(crate) fn limit(request: Head<'_>) -> Option<Duration> {
    timeout(request.values("grpc-timeout").next()?)
}

/// The value of `grpc-timeout`: up to eight digits and a unit. What is written in another way says nothing to the edge;
/// it is the origin's to refuse.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The status by which a refusal is told.
pub(crate) fn status(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Edge(Cause::RouteTimeout) => DEADLINE_EXCEEDED,
        Refusal::Edge(Cause::BodyTooLarge) => RESOURCE_EXHAUSTED,
        refusal => status_of_http(refusal.status()),
    }
}

/// What clients of gRPC make of a status of HTTP. A request that is malformed is INTERNAL: INVALID_ARGUMENT is for a
/// service to say, of arguments that it has read.
pub(crate) fn status_of_http(status: u16) -> u8 {
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// The trailer section that ends a call whose time is over and whose response has begun.
pub(crate) fn deadline_trailers() -> BodyDecoder {
    const SECTION: &[u8] =
        b"0\r\ngrpc-status: 4\r\ngrpc-message: The time for the call is over.\r\n\r\n";
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let step = decoder.decode(SECTION, &crate::worker::LIMITS);
    debug_assert!(matches!(step, Ok(step) if step.event == Event::End));
    decoder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_by_their_content_type() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web-text+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_call(content_type.as_bytes()), expected, "{content_type}");
        }
    }

    #[test]
    fn timeouts_as_they_are_written() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("00000007n", Some(Duration::from_nanos(7))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("0S", Some(Duration::ZERO)),
            ("100000000n", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("5h", None),
            ("-5S", None),
            ("+5S", None),
            ("5 S", None),
            ("1.5S", None),
            ("", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn refusals_in_the_words_of_grpc() {
        for (refusal, expected) in [
            (Refusal::Edge(Cause::NoRoute), UNIMPLEMENTED),
            (Refusal::Edge(Cause::NoListener), UNIMPLEMENTED),
            (Refusal::Edge(Cause::NoEndpoint), UNAVAILABLE),
            (Refusal::Edge(Cause::ConnectFailed), UNAVAILABLE),
            (Refusal::Edge(Cause::BackendTimeout), UNAVAILABLE),
            (Refusal::Edge(Cause::RouteTimeout), DEADLINE_EXCEEDED),
            (Refusal::Edge(Cause::BodyTooLarge), RESOURCE_EXHAUSTED),
            (Refusal::Edge(Cause::BodyEncoding), INTERNAL),
            (Refusal::Edge(Cause::InvalidBackend), UNKNOWN),
            (Refusal::Edge(Cause::Misdirected), UNKNOWN),
            (Refusal::Message(h1::Reason::TargetForm), INTERNAL),
            (Refusal::Rule { status: 403 }, PERMISSION_DENIED),
            (Refusal::Rule { status: 429 }, UNAVAILABLE),
        ] {
            assert_eq!(status(refusal), expected, "{refusal:?}");
        }
    }

    /// `grpc-message` is percent-encoded where it holds anything else.
    #[test]
    fn sentences_need_no_encoding() {
        for cause in Cause::ALL {
            let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'%';
            assert!(cause.sentence().bytes().all(is_plain), "{cause:?}");
        }
    }

    #[test]
    fn the_end_of_a_call_that_is_out_of_time() {
        let decoder = deadline_trailers();
        let trailers = decoder.trailers().expect("a section");
        let status = trailers.fields().iter().next().expect("a field");
        assert_eq!(status.value(trailers.bytes()), b"4");
    }
}
