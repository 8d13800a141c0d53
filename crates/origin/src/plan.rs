//! What a request's target asks for. Pure; how it is answered is in `answer`.

use std::time::Duration;

use crate::limits;

/// What to do with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Describe the request, with this status, after this time.
    Describe {
        status: u16,
        delay: Duration,
    },
    Bytes(u64),
    Drip {
        bytes: u64,
        every: Duration,
    },
    Stream,
    Close,
    WebSocket,
    /// The path is one of ours, and its numbers are not.
    Refuse(&'static str),
}

impl Plan {
    /// Reads the path of a request target in any of its forms (RFC 9112 section 3.2).
    pub(crate) fn of(target: &str) -> Self {
        let parts: Vec<&str> = path(target).split('/').skip(1).collect();
        match parts.as_slice() {
            ["status", number] => status(number),
            ["delay", ms] => delay(ms),
            ["bytes", number] => bytes(number),
            ["drip", number, ms] => drip(number, ms),
            ["stream"] => Self::Stream,
            ["close"] => Self::Close,
            ["ws"] => Self::WebSocket,
            _ => Self::describe(200),
        }
    }

    fn describe(status: u16) -> Self {
        Self::Describe { status, delay: Duration::ZERO }
    }
}

fn path(target: &str) -> &str {
    let without_query = target.split(['?', '#']).next().unwrap_or(target);
    match without_query.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => without_query,
    }
}

fn status(number: &str) -> Plan {
    match number.parse() {
        Ok(status @ 200..=599) => Plan::describe(status),
        _ => Plan::Refuse("/status/N takes N from 200 to 599"),
    }
}

fn delay(ms: &str) -> Plan {
    match milliseconds(ms) {
        Some(delay) => Plan::Describe { status: 200, delay },
        None => Plan::Refuse("/delay/MS takes MS from 0 to 600000"),
    }
}

fn bytes(number: &str) -> Plan {
    match number.parse() {
        Ok(number) if number <= limits::BYTES_PATH => Plan::Bytes(number),
        _ => Plan::Refuse("/bytes/N takes N from 0 to 1073741824"),
    }
}

fn drip(number: &str, ms: &str) -> Plan {
    let bytes: Option<u64> = number.parse().ok().filter(|bytes| *bytes <= limits::DRIP_BYTES);
    match (bytes, milliseconds(ms)) {
        (Some(bytes), Some(every)) if lasts_at_most_the_longest(bytes, every) => {
            Plan::Drip { bytes, every }
        }
        _ => Plan::Refuse("/drip/N/MS takes N to 1048576, and N times MS to 600000"),
    }
}

fn lasts_at_most_the_longest(bytes: u64, every: Duration) -> bool {
    u128::from(bytes) * every.as_millis() <= limits::LONGEST.as_millis()
}

fn milliseconds(text: &str) -> Option<Duration> {
    let duration = Duration::from_millis(text.parse().ok()?);
    (duration <= limits::LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let describe = Plan::describe(200);
        let ms = Duration::from_millis;
        for (target, expected) in [
            ("/", describe.clone()),
            ("*", describe.clone()),
            ("", describe.clone()),
            ("host:443", describe.clone()),
            ("/status", describe.clone()),
            ("/status/503?x=/status/1", Plan::describe(503)),
            ("http://a.test/status/404", Plan::describe(404)),
            ("http://a.test", describe.clone()),
            ("/delay/250", Plan::Describe { status: 200, delay: ms(250) }),
            ("/bytes/1073741824", Plan::Bytes(1 << 30)),
            ("/drip/3/10", Plan::Drip { bytes: 3, every: ms(10) }),
            ("/stream", Plan::Stream),
            ("/close", Plan::Close),
            ("/ws", Plan::WebSocket),
        ] {
            assert_eq!(Plan::of(target), expected, "{target}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for target in [
            "/status/100",
            "/status/600",
            "/status/x",
            "/delay/600001",
            "/delay/-1",
            "/bytes/1073741825",
            "/bytes/",
            "/drip/1048577/0",
            "/drip/1048576/600000",
            "/drip/601/1000",
        ] {
            assert!(matches!(Plan::of(target), Plan::Refuse(_)), "{target}");
        }
    }
}
