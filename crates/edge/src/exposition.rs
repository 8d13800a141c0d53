//! The counters in Prometheus's text format. Names begin with `cutwater_`; counters begin at 0.

use crate::entry::Unwelcome;
use crate::live::Live;
use crate::metrics::Counter;
use crate::metrics::{
    LATENCY_BOUNDS_US, Metrics, NotRetried, RouteMetrics, UpstreamFailure, WorkerCounters,
};
use crate::mirror;
use crate::refusal::Cause;
use crate::stream_metrics;
use crate::view::Registry;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use traffic::{State, TakenOutFor};

/// Every family of the edge, with its help.
pub fn render(registry: &Registry) -> String {
    let metrics = &registry.metrics;
    let mut text = String::new();
    let routes = metrics.routes();
    requests(&mut text, &routes);
    latency(&mut text, &routes);
    bytes(&mut text, &routes);
    failures(&mut text, &routes);
    not_retried(&mut text, &routes);
    connections(&mut text, metrics);
    stream_metrics::render(&mut text, &metrics.streams, |read| metrics.sum(read));
    mirrors(&mut text, metrics);
    refusals(&mut text, metrics);
    endpoints(&mut text, &registry.live);
    text
}

pub(crate) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

pub(crate) fn sample(
    text: &mut String,
    name: &str,
    labels: &[(&str, &str)],
    value: impl std::fmt::Display,
) {
    text.push_str(name);
    for (at, (label, value)) in labels.iter().enumerate() {
        let before = if at == 0 { '{' } else { ',' };
        let _ = write!(text, "{before}{label}=\"{}\"", escape(value));
    }
    let after = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(text, "{after} {value}");
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn requests(text: &mut String, routes: &[Arc<RouteMetrics>]) {
    const NAME: &str = "cutwater_requests_total";
    family(text, NAME, "counter", "Requests answered, by route and status class.");
    for route in routes {
        for (at, class) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
            let labels = [("route", route.label.as_str()), ("class", class)];
            sample(text, NAME, &labels, route.sum(|counters| &counters.classes[at]));
        }
    }
}

fn latency(text: &mut String, routes: &[Arc<RouteMetrics>]) {
    const NAME: &str = "cutwater_request_duration_seconds";
    family(text, NAME, "histogram", "From a request's head to its response's last byte, by route.");
    for route in routes {
        let mut count = 0;
        for at in 0..=LATENCY_BOUNDS_US.len() {
            count += route.sum(|counters| &counters.latency[at]);
            let bound = match LATENCY_BOUNDS_US.get(at) {
                Some(bound) => seconds(*bound).to_string(),
                None => "+Inf".to_owned(),
            };
            let labels = [("route", route.label.as_str()), ("le", bound.as_str())];
            sample(text, "cutwater_request_duration_seconds_bucket", &labels, count);
        }
        let labels = [("route", route.label.as_str())];
        let sum = seconds(route.sum(|counters| &counters.latency_sum_us));
        sample(text, "cutwater_request_duration_seconds_sum", &labels, sum);
        sample(text, "cutwater_request_duration_seconds_count", &labels, count);
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn bytes(text: &mut String, routes: &[Arc<RouteMetrics>]) {
    const NAME: &str = "cutwater_body_bytes_total";
    family(text, NAME, "counter", "Bytes of bodies, by route and direction.");
    for route in routes {
        let label = ("route", route.label.as_str());
        let received = route.sum(|counters| &counters.bytes_in);
        sample(text, NAME, &[label, ("direction", "request")], received);
        let sent = route.sum(|counters| &counters.bytes_out);
        sample(text, NAME, &[label, ("direction", "response")], sent);
    }
}

fn failures(text: &mut String, routes: &[Arc<RouteMetrics>]) {
    const NAME: &str = "cutwater_upstream_failures_total";
    family(text, NAME, "counter", "Attempts at a backend that failed, by route and reason.");
    for route in routes {
        for failure in UpstreamFailure::ALL {
            let labels = [("route", route.label.as_str()), ("reason", failure.slug())];
            sample(text, NAME, &labels, route.sum(|counters| &counters.failures[failure as usize]));
        }
    }
}

fn not_retried(text: &mut String, routes: &[Arc<RouteMetrics>]) {
    const NAME: &str = "cutwater_upstream_retries_refused_total";
    const HELP: &str = "Retries not made, by route and reason: the retry budget, or the limit of retries under way.";
    family(text, NAME, "counter", HELP);
    for route in routes {
        for why in NotRetried::ALL {
            let labels = [("route", route.label.as_str()), ("reason", why.slug())];
            sample(text, NAME, &labels, route.sum(|counters| &counters.not_retried[why as usize]));
        }
    }
}

/// What endpoints of one address tell together: with another address beside it, one is another endpoint.
#[derive(Default)]
struct Trouble {
    ejections: u64,
    is_ejected: bool,
    is_unhealthy: bool,
    /// Whose requests and whose checks took it out last.
    taken_out_for: TakenOutFor,
}

/// Only of endpoints that were ever out: the others have nothing to tell, and are many.
fn endpoints(text: &mut String, live: &Live) {
    let mut troubled = BTreeMap::<(SocketAddr, bool), Trouble>::new();
    for (is_udp, endpoint) in live.troubled() {
        let trouble = troubled.entry((endpoint.address(), is_udp)).or_default();
        let state = endpoint.state();
        trouble.ejections += endpoint.ejections();
        trouble.is_ejected |= matches!(state, State::Ejected { .. });
        trouble.is_unhealthy |= matches!(state, State::Unhealthy { .. });
        let (known, found) = (&mut trouble.taken_out_for, endpoint.taken_out_for());
        known.requests = known.requests.take().or(found.requests);
        known.checks = known.checks.take().or(found.checks);
    }
    let labelled = troubled.iter().map(|((address, is_udp), trouble)| match is_udp {
        true => (format!("udp/{address}"), trouble),
        false => (address.to_string(), trouble),
    });
    let labelled: Vec<(String, &Trouble)> = labelled.collect();
    const EJECTIONS: &str = "cutwater_endpoint_ejections_total";
    family(text, EJECTIONS, "counter", "Times that an endpoint was taken out for what it did.");
    for (address, trouble) in &labelled {
        sample(text, EJECTIONS, &[("endpoint", address)], trouble.ejections);
    }
    const OUT: &str = "cutwater_endpoint_out";
    const HELP: &str =
        "1 while an endpoint gets no requests, by reason, and the Service for which it was last.";
    family(text, OUT, "gauge", HELP);
    for (address, trouble) in &labelled {
        let TakenOutFor { checks, requests } = &trouble.taken_out_for;
        for (reason, is_so, service) in
            [("ejected", trouble.is_ejected, requests), ("unhealthy", trouble.is_unhealthy, checks)]
        {
            let service = service.as_ref().map(ToString::to_string);
            let mut labels = vec![("endpoint", address.as_str()), ("reason", reason)];
            labels.extend(service.as_deref().map(|service| ("service", service)));
            sample(text, OUT, &labels, u8::from(is_so));
        }
    }
}

fn connections(text: &mut String, metrics: &Metrics) {
    let total = |read: fn(&WorkerCounters) -> &Counter| metrics.sum(read);
    let accepted = total(|w| &w.accepted);
    family(text, "cutwater_connections_total", "counter", "Client connections accepted.");
    sample(text, "cutwater_connections_total", &[], accepted);
    family(text, "cutwater_connections", "gauge", "Client connections open now.");
    // The two counters are read one after the other: a gauge never falls below zero for that.
    sample(text, "cutwater_connections", &[], accepted.saturating_sub(total(|w| &w.closed)));
    family(
        text,
        "cutwater_connections_over_limit_total",
        "counter",
        "Connections closed at once because a worker had its limit.",
    );
    sample(text, "cutwater_connections_over_limit_total", &[], total(|w| &w.over_limit));
    const REFUSED: &str = "cutwater_connections_refused_total";
    family(text, REFUSED, "counter", "Connections closed before a request, by reason.");
    for reason in Unwelcome::ALL {
        let refused = metrics.sum(|w| &w.unwelcome[reason as usize]);
        sample(text, REFUSED, &[("reason", reason.slug())], refused);
    }
    const HANDSHAKES: &str = "cutwater_tls_handshakes_total";
    family(text, HANDSHAKES, "counter", "TLS handshakes, by result.");
    sample(text, HANDSHAKES, &[("result", "ok")], total(|w| &w.handshakes));
    sample(text, HANDSHAKES, &[("result", "failed")], total(|w| &w.handshakes_failed));
    let without = total(|w| &w.handshakes_without_certificate);
    sample(text, HANDSHAKES, &[("result", "no-certificate")], without);
    const RETRIES: &str = "cutwater_upstream_retries_total";
    family(text, RETRIES, "counter", "Requests tried again on another connection or endpoint.");
    sample(text, RETRIES, &[], total(|w| &w.retries));
}

fn mirrors(text: &mut String, metrics: &Metrics) {
    const NAME: &str = "cutwater_mirrored_requests_total";
    family(
        text,
        NAME,
        "counter",
        "Copies of requests for mirror backends, by what became of them.",
    );
    for outcome in mirror::Outcome::ALL {
        let total = metrics.sum(|w| &w.mirrors[outcome as usize]);
        sample(text, NAME, &[("result", outcome.slug())], total);
    }
}

fn refusals(text: &mut String, metrics: &Metrics) {
    const NAME: &str = "cutwater_refusals_total";
    family(text, NAME, "counter", "Requests that the edge answered itself, by reason.");
    for (at, cause) in Cause::ALL.iter().enumerate() {
        sample(text, NAME, &[("reason", cause.slug())], metrics.sum(|w| &w.causes[at]));
    }
    for (at, reason) in h1::Reason::ALL.iter().enumerate() {
        sample(text, NAME, &[("reason", reason.slug())], metrics.sum(|w| &w.messages[at]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Trace;
    use model::id::ServicePort;
    use model::{Kind, ObjectId};

    /// Services of one family and of two may select one pod.
    #[test]
    fn endpoints_of_one_address_are_one_series() {
        let registry = Registry::new(1);
        let address = ([127, 0, 0, 1], 80).into();
        let other = Some(([127, 0, 0, 2], 80).into());
        let live = &registry.live;
        let endpoints = [(other, false), (None, false), (None, true)]
            .map(|(other, is_udp)| live.endpoint((address, other), is_udp));
        endpoints.iter().for_each(|endpoint| _ = endpoint.set_healthy(false, 0));
        let text = render(&registry);
        let series = text.lines().filter(|line| line.starts_with("cutwater_endpoint_"));
        let mut names: Vec<&str> =
            series.filter_map(|line| line.rsplit_once(' ')).map(|s| s.0).collect();
        assert_eq!(names.len(), 6, "{text}");
        names.dedup();
        assert_eq!(names.len(), 6, "{text}");
        const OUT: &str = "cutwater_endpoint_out{endpoint=\"127.0.0.1:80\",reason=\"unhealthy\"} 1";
        assert!(text.lines().any(|line| line == OUT), "{text}");
    }

    #[test]
    fn the_service_is_named_for_which_an_endpoint_is_out() {
        let registry = Registry::new(1);
        let endpoint = registry.live.endpoint((([127, 0, 0, 1], 80).into(), None), false);
        endpoint.set_healthy(false, 0);
        endpoint.unhealthy_for(&ServicePort { namespace: "n".into(), name: "s".into(), port: 80 });
        let text = render(&registry);
        const OUT: &str = "cutwater_endpoint_out{endpoint=\"127.0.0.1:80\",reason=\"unhealthy\",service=\"n/s:80\"} 1";
        assert!(text.lines().any(|line| line == OUT), "{text}");
    }

    #[test]
    fn sums_workers_and_begins_at_zero() {
        let registry = Registry::new(2);
        let metrics = &registry.metrics;
        let route = metrics.routes.of(&ObjectId::new(Kind::HTTP_ROUTE, "shop", "cart"));
        let mut trace = Trace::new(std::time::Instant::now());
        (trace.status, trace.bytes_out) = (204, 7);
        route.of(0).request(&trace, 700);
        route.of(1).request(&trace, 9_000_000);
        let text = render(&registry);
        for line in [
            "cutwater_requests_total{route=\"HTTPRoute shop/cart\",class=\"2xx\"} 2",
            "cutwater_requests_total{route=\"HTTPRoute shop/cart\",class=\"5xx\"} 0",
            "cutwater_request_duration_seconds_bucket{route=\"HTTPRoute shop/cart\",le=\"0.0005\"} 0",
            "cutwater_request_duration_seconds_bucket{route=\"HTTPRoute shop/cart\",le=\"0.001\"} 1",
            "cutwater_request_duration_seconds_bucket{route=\"HTTPRoute shop/cart\",le=\"+Inf\"} 2",
            "cutwater_request_duration_seconds_sum{route=\"HTTPRoute shop/cart\"} 9.0007",
            "cutwater_body_bytes_total{route=\"HTTPRoute shop/cart\",direction=\"response\"} 14",
            "cutwater_refusals_total{reason=\"no-route\"} 0",
            "cutwater_connections 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
