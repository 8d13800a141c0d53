//! Limits of a port's connections, where a policy says other ones than the edge's own: they hold before a name is
//! known. A connection keeps those with which it began.

use crate::deadline::millis;
use crate::worker::LIMITS;
use model::answers::ConnectionLimits;
use model::limits;

#[derive(Clone, Debug)]
pub(crate) struct PortLimits {
    pub head: h1::Limits,
    pub head_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub streams: u32,
}

pub(crate) const DEFAULT: PortLimits = PortLimits {
    head: LIMITS,
    head_timeout_ms: limits::HEAD_TIMEOUT_MS,
    idle_timeout_ms: limits::IDLE_TIMEOUT_MS,
    streams: limits::HTTP2_STREAMS,
};

impl PortLimits {
    /// None where the edge's own limits hold.
    pub fn of(written: ConnectionLimits) -> Option<PortLimits> {
        let ConnectionLimits {
            headers,
            head_bytes,
            target_bytes,
            head_timeout,
            idle_timeout,
            streams,
        } = written;
        let bytes = |written: Option<u32>, own: usize| written.map_or(own, |bytes| bytes as usize);
        let limits = PortLimits {
            head: h1::Limits {
                headers: headers.map_or(LIMITS.headers, usize::from),
                head_bytes: bytes(head_bytes, LIMITS.head_bytes),
                target_bytes: bytes(target_bytes, LIMITS.target_bytes),
                ..LIMITS
            },
            head_timeout_ms: head_timeout.map_or(DEFAULT.head_timeout_ms, millis),
            idle_timeout_ms: idle_timeout.map_or(DEFAULT.idle_timeout_ms, millis),
            streams: streams.unwrap_or(DEFAULT.streams),
        };
        (written != ConnectionLimits::default()).then_some(limits)
    }
}
