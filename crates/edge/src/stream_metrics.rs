//! Counters of TLSRoutes, TCPRoutes and UDPRoutes, by route, and their text form. A flow of UDP counts as a connection.
//! Those of HTTP are in `metrics`.

use crate::exposition::{family, sample};
use crate::metrics::{Counter, OfRoute, Routes, UpstreamFailure, WorkerCounters};
use std::sync::Arc;

/// One worker's counters of one route.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct StreamCounters {
    pub begun: Counter,
    pub ended: Counter,
    /// Of those, the ones that reached no endpoint.
    pub refused: Counter,
    /// From the client, and to it.
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub failures: [Counter; UpstreamFailure::ALL.len()],
}

pub(crate) type StreamMetrics = OfRoute<StreamCounters>;

pub(crate) fn render(
    text: &mut String,
    routes: &Routes<StreamCounters>,
    total: impl Fn(fn(&WorkerCounters) -> &Counter) -> u64,
) {
    let routes = routes.all();
    const TOTAL: &str = "cutwater_stream_connections_total";
    family(text, TOTAL, "counter", "Connections and flows of UDP, by route and result.");
    for route in &routes {
        let label = ("route", route.label.as_str());
        let refused = route.sum(|counters| &counters.refused);
        let begun = route.sum(|counters| &counters.begun);
        let led = begun.saturating_sub(refused);
        sample(text, TOTAL, &[label, ("result", "led")], led);
        sample(text, TOTAL, &[label, ("result", "refused")], refused);
    }
    const NOW: &str = "cutwater_stream_connections";
    family(text, NOW, "gauge", "Connections and flows of UDP open now, by route.");
    for route in &routes {
        let ended = route.sum(|counters| &counters.ended);
        let open = route.sum(|counters| &counters.begun).saturating_sub(ended);
        sample(text, NOW, &[("route", &route.label)], open);
    }
    const BYTES: &str = "cutwater_stream_bytes_total";
    family(text, BYTES, "counter", "Bytes passed on, by route and direction.");
    for route in &routes {
        let label = ("route", route.label.as_str());
        sample(text, BYTES, &[label, ("direction", "in")], route.sum(|c| &c.bytes_in));
        sample(text, BYTES, &[label, ("direction", "out")], route.sum(|c| &c.bytes_out));
    }
    failures(text, &routes);
    unrouted(text, total);
}

fn failures(text: &mut String, routes: &[Arc<StreamMetrics>]) {
    use UpstreamFailure::{Connect, ConnectTimeout, Loop, NoResponse, Shortage, Tls};
    const NAME: &str = "cutwater_stream_upstream_failures_total";
    family(text, NAME, "counter", "Endpoints that did not take a connection or a datagram.");
    for route in routes {
        for failure in [Connect, Shortage, ConnectTimeout, Loop, Tls, NoResponse] {
            let labels = [("route", route.label.as_str()), ("reason", failure.slug())];
            sample(text, NAME, &labels, route.sum(|c| &c.failures[failure as usize]));
        }
    }
}

/// Of no route: it was not known yet, or there is none.
fn unrouted(text: &mut String, total: impl Fn(fn(&WorkerCounters) -> &Counter) -> u64) {
    const NAME: &str = "cutwater_stream_unrouted_total";
    family(text, NAME, "counter", "Connections and datagrams that no route took, by reason.");
    for (reason, count) in [
        ("no-route", total(|w| &w.streams_without_route)),
        ("bad-client-hello", total(|w| &w.hellos_refused)),
        ("too-many-flows", total(|w| &w.flows_over_limit)),
    ] {
        sample(text, NAME, &[("reason", reason)], count);
    }
}
