//! The cases of `bench edge` that compare Cutwater with peers: what each sends, and its goal.

use crate::http2::Scheme;
use crate::load::Pace;
use crate::measure::Shape;
use crate::origin::{CHUNKED, LARGE, SMALL};
use crate::script::Work;

/// A case measured against peers.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub shape: Shape,
    pub against: Against,
    /// Our CPU time a request, as a share of the peer's.
    pub goal: f64,
}

/// The peer that a goal is about. Envoy stands beside them in rows of its own.
#[derive(Clone, Copy, PartialEq)]
pub enum Against {
    /// The cheaper one of nginx and HAProxy.
    Better,
    Haproxy,
}

/// Connections of clients, but where a case says otherwise.
pub const CONNECTIONS: usize = 64;
/// HTTP/2: as many requests in flight as elsewhere, on fewer connections.
const HTTP2: (usize, usize) = (8, 8);
const FEW: usize = 16;
const MESSAGE: usize = 128;

pub const CASES: &[Case] = &[
    case("http1-1k", 0.80, plain(Work::Get(SMALL), CONNECTIONS, Pace::Saturate)),
    case("tls-1k", 0.80, over_tls(Work::Get(SMALL), CONNECTIONS, Pace::Saturate)),
    case("http1-1k-10000rps", 0.90, plain(Work::Get(SMALL), CONNECTIONS, Pace::PerSecond(10_000))),
    case("http1-100k", 0.85, plain(Work::Get(LARGE), CONNECTIONS, Pace::Saturate)),
    case("tls-100k", 0.60, over_tls(Work::Get(LARGE), CONNECTIONS, Pace::Saturate)),
    case("tls-handshake", 0.70, over_tls(Work::Get(SMALL), CONNECTIONS, Pace::Reconnect)),
    Case { against: Against::Haproxy, ..case("http2-1k", 1.05, http2(SMALL)) },
    case("post-10k", 0.90, plain(Work::Post(10 << 10), CONNECTIONS, Pace::Saturate)),
    case("post-1m", 0.90, plain(Work::Post(1 << 20), FEW, Pace::Saturate)),
    case("chunked-16k", 0.90, plain(Work::Get(CHUNKED), CONNECTIONS, Pace::Saturate)),
    case("websocket-128", 0.90, plain(Work::WebSocket(MESSAGE), CONNECTIONS, Pace::Saturate)),
];

const fn case(name: &'static str, goal: f64, shape: Shape) -> Case {
    Case { name, shape, against: Against::Better, goal }
}

pub const fn plain(work: Work, connections: usize, pace: Pace) -> Shape {
    Shape { tls: false, work, connections, pace }
}

const fn over_tls(work: Work, connections: usize, pace: Pace) -> Shape {
    Shape { tls: true, work, connections, pace }
}

const fn http2(path: &'static str) -> Shape {
    let (connections, streams) = HTTP2;
    over_tls(Work::Http2 { path, streams, scheme: Scheme::Https }, connections, Pace::Saturate)
}
