//! Every limit of the echo origin, with its unit. Nothing else.

use std::time::Duration;

pub(crate) const CONNECTIONS: usize = 4096;
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
pub(crate) const HEADERS: usize = 256;
pub(crate) const CHUNK_LINE_BYTES: usize = 4096;
/// A request body beyond this is answered with 413.
pub(crate) const BODY_BYTES: u64 = 64 << 20;
pub(crate) const BYTES_PATH: u64 = 1 << 30;
pub(crate) const DRIP_BYTES: u64 = 1 << 20;
/// The longest that a path may make an answer last.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);
pub(crate) const STREAM_LINES: u64 = 100;
pub(crate) const STREAM_PAUSE: Duration = Duration::from_millis(100);
/// One WebSocket message.
pub(crate) const MESSAGE_BYTES: usize = 1 << 20;
/// Long, so that a proxy's pooled connections are closed by the proxy and not under it.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// One read of a request under way.
pub(crate) const READ: Duration = Duration::from_secs(120);
/// One write, which a client that does not read holds up.
pub(crate) const WRITE: Duration = Duration::from_secs(120);
pub(crate) const LINGER: Duration = Duration::from_secs(1);
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const STREAMS: u32 = 256;
