//! Every limit with a name and a unit. A limit that is reached says so by this name.

/// One manifest file.
pub const MANIFEST_FILE_BYTES: usize = 16 << 20;
/// Nesting of a manifest.
pub const MANIFEST_DEPTH: usize = 64;
/// Nodes of one file after aliases are expanded: stops the "billion laughs".
pub const MANIFEST_NODES: usize = 4_000_000;
/// Objects in one folder.
pub const FOLDER_OBJECTS: usize = 200_000;
/// Files in one folder.
pub const FOLDER_FILES: usize = 100_000;

/// A request's or a response's head, start line and headers together.
pub const HEAD_BYTES: usize = 32 << 10;
/// Header lines in a head.
pub const HEAD_HEADERS: usize = 128;
/// The request target.
pub const TARGET_BYTES: usize = 8 << 10;
/// A request's body, unless a policy says otherwise.
pub const REQUEST_BODY_BYTES: u64 = 1 << 30;

/// A head must be complete this long after its connection, or the previous response, allowed it.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// A connection without a request in progress.
pub const IDLE_TIMEOUT_MS: u64 = 60_000;
/// A connection to a backend that nobody uses.
pub const UPSTREAM_IDLE_TIMEOUT_MS: u64 = 30_000;
/// Making a connection to a backend.
pub const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// A body, in either direction, without a single byte.
pub const BODY_STALL_TIMEOUT_MS: u64 = 60_000;
/// The TLS handshake.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// From SIGTERM to the end of what is still running.
pub const DRAIN_TIMEOUT_MS: u64 = 30_000;
/// Client connections of one worker.
pub const WORKER_CONNECTIONS: usize = 50_000;
/// Idle connections that a worker keeps to one endpoint.
pub const UPSTREAM_IDLE_CONNECTIONS: usize = 256;

/// A request's body that is copied for a mirror; a longer one is not mirrored.
pub const MIRROR_BODY_BYTES: usize = 64 << 10;
/// Copies for mirrors that a worker has under way; further ones are dropped and counted.
pub const WORKER_MIRRORS: usize = 1_024;
/// From the copy to the end of the mirror's answer.
pub const MIRROR_TIMEOUT_MS: u64 = 10_000;

/// A request's body that is kept while a backend of HTTP/2 may still say that it did not look at it; a longer one is not
/// sent a second time.
pub const REPLAY_BODY_BYTES: usize = 64 << 10;
/// The same of all requests of a worker; beyond it bodies pass without being kept.
pub const WORKER_REPLAY_BYTES: usize = 16 << 20;

/// Quiet time after the last event of a folder before it is read again.
pub const FOLDER_QUIET_MS: u64 = 3;

/// Lines of the access log that wait for the writer, of each worker; more are dropped and counted.
pub const ACCESS_LOG_BYTES: usize = 8 << 20;
/// Routes that have series of their own, some thirty each; further routes share one called `other`. Keeps an instance
/// below ten thousand series however many routes it serves.
pub const METRIC_ROUTES: usize = 300;

/// A DNS message over UDP without EDNS, RFC 1035 section 2.3.4.
pub const DNS_UDP_BYTES: usize = 512;
/// What we send over UDP at most, whatever the client's EDNS size (DNS flag day 2020).
pub const DNS_EDNS_BYTES: usize = 1_232;
/// TCP connections to the nameserver.
pub const DNS_TCP_CONNECTIONS: usize = 1_024;
/// A DNS connection without a query, RFC 7766 section 6.2.3.
pub const DNS_TCP_IDLE_MS: u64 = 10_000;

/// Names of one certificate of the local CA; beyond it siblings share a wildcard.
pub const LOCAL_CERTIFICATE_NAMES: usize = 100;

/// From the request for an error page to the end of it; then the edge's own answer is sent.
pub const ERROR_PAGE_TIMEOUT_MS: u64 = 5_000;
/// Interim responses (1xx) to one request; their heads together may have [`HEAD_BYTES`].
pub const INTERIM_RESPONSES: usize = 16;
/// What HTTP/2 decodes of a header list before it gives up; what is longer than [`HEAD_BYTES`] is refused with a body.
pub const HTTP2_HEADER_LIST_BYTES: usize = 4 * HEAD_BYTES;
/// Streams that a client of HTTP/2 may have open at once, unless a policy says otherwise: all of them may be given up
/// together.
pub const HTTP2_STREAMS: u32 = 100;
/// Streams that a client of HTTP/2 opened and reset before they were looked at: beyond it is an attack (CVE-2023-44487).
pub const HTTP2_PENDING_RESETS: usize = 50;
/// What a client of HTTP/2 may send on one stream before it is given room.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same of all streams of a connection.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What one stream of HTTP/2 keeps of an answer that its client has not taken.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams of one HTTP/2 connection that are reset, by its client or for a fault of its client, beyond those that are
/// answered; then the connection ends.
pub const HTTP2_RESETS: u32 = 100;
/// Frames of one HTTP/2 connection that are no content, beyond what answers and time give back; then it ends.
pub const HTTP2_OVERHEAD_BYTES: i64 = 64 << 10;
/// What the kernel takes of an answer before the client makes room for it: a client that does not read costs this, not
/// the megabytes to which a send buffer grows.
pub const CLIENT_UNSENT_BYTES: u32 = 128 << 10;
/// A tunnel without a byte, once draining has begun.
pub const TUNNEL_DRAIN_IDLE_MS: u64 = 5_000;
/// A process that was told to end keeps an idle connection this long for a last request.
pub const DRAIN_IDLE_MS: u64 = 2_000;
/// A ClientHello, with the heads of its records: what a client may send before the name of the server is known.
pub const CLIENT_HELLO_BYTES: usize = 16 << 10;
/// A connection of a TLSRoute or TCPRoute without a byte in either direction.
pub const STREAM_IDLE_TIMEOUT_MS: u64 = 3_600_000;
/// A flow of a UDPRoute (one client's address at one port) without a datagram in either direction.
pub const UDP_FLOW_IDLE_MS: u64 = 60_000;
/// Flows of one worker, or its part of a quarter of the descriptors where that is less; a datagram that would begin a further one is dropped and counted.
pub const WORKER_UDP_FLOWS: usize = 16_384;
/// A process that was upgraded keeps an idle connection this long for a last request.
pub const HANDOVER_IDLE_MS: u64 = 5_000;
/// From the start of a new process until every worker of it serves; then the upgrade is given up.
pub const HANDOVER_TIMEOUT_MS: u64 = 60_000;
