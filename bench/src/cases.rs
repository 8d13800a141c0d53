//! The cases of `bench edge` that compare Cutwater with peers: what each sends, and its goal.

use crate::load::Pace;
use crate::measure::Shape;
use crate::origin::{LARGE, SMALL};

/// A case measured against peers.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub shape: Shape,
    /// Our CPU time a request, as a share of the peer's.
    pub goal: f64,
}

/// Connections of clients in every case.
pub const CONNECTIONS: usize = 64;

pub const CASES: &[Case] = &[
    Case { name: "http1-1k", shape: plain(SMALL, Pace::Saturate), goal: 1.00 },
    Case { name: "tls-1k", shape: over_tls(Pace::Saturate), goal: 1.00 },
    Case { name: "http1-1k-10000rps", shape: plain(SMALL, Pace::PerSecond(10_000)), goal: 0.90 },
    Case { name: "http1-100k", shape: plain(LARGE, Pace::Saturate), goal: 0.85 },
    Case { name: "tls-handshake", shape: over_tls(Pace::Reconnect), goal: 0.70 },
];

const fn plain(path: &'static str, pace: Pace) -> Shape {
    Shape { tls: false, path, connections: CONNECTIONS, pace }
}

const fn over_tls(pace: Pace) -> Shape {
    Shape { tls: true, path: SMALL, connections: CONNECTIONS, pace }
}
