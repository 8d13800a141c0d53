//! What stands in for a backend: other Services in their order, then a declared answer.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use common::*;
use edge::{AccessRecord, Config, Edge, EdgeView, KeyTable, Recorder, Registry};
use http2_origin::{Http2Origin, Manner};
use model::answers::PageBody;
use model::certificates::CertificatePlan;
use model::edge::{Action, Backend, Listener, Protocol, Rule, Target};
use model::fallback::{Fallback, StaticResponse, Tier};
use model::traffic::{
    Algorithm, BackendPolicy, BackendProtocol, Balance, Carrier, Ejection, HashKey, Mirror,
    Persistence,
};
use model::{Facts, Node};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

fn policy() -> Option<Node<BackendPolicy>> {
    let ejection = Ejection {
        consecutive_failures: 2,
        max_percent: 100,
        spares_last: false,
        ..Ejection::default()
    };
    Some(Node::new(BackendPolicy { ejection, ..BackendPolicy::default() }))
}

/// `first`, then the Services of `tiers`, then the answer.
fn listeners(port: u16, tiers: &[&str], answers: bool) -> Vec<Listener> {
    vec![listener(port, Protocol::Http, "", vec![all(tiers, answers)])]
}

fn all(tiers: &[&str], answers: bool) -> Rule {
    let response = answers.then(|| StaticResponse {
        status: 503,
        page: PageBody { content_type: "text/html".into(), text: "<p>later</p>".into() },
    });
    let tier = |name: &&str| Tier { port: service(name), policy: policy() };
    let fallback = Fallback { tiers: tiers.iter().map(tier).collect(), response };
    let backend = Backend {
        policy: policy(),
        fallback: Some(Node::new(fallback)),
        ..Backend::plain(1, Target::Service(service("first")))
    };
    rule("all", "/", Action::Forward(vec![backend]))
}

fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn answer(port: u16) -> (u16, String) {
    let mut peer = Peer::connect(port);
    peer.send(GET);
    let (head, body) = peer.response();
    (status(&head), body)
}

fn named(name: &'static str) -> SocketAddr {
    Origin::start(says(name)).address
}

fn run(port: u16, listeners: Vec<Listener>, endpoints: &[(&str, &[SocketAddr])]) -> Running {
    let facts: Facts = facts(endpoints);
    let running = Running::start(listeners, &facts);
    assert_eq!(running.views.current().ports().next(), Some((port, Protocol::Http)));
    running
}

#[test]
fn the_next_service_takes_what_the_first_cannot() {
    let (second, third) = (named("second"), named("third"));
    let dead = [nobody(), nobody()];
    for (endpoints, expected) in [
        (
            &[("first", &[] as &[SocketAddr]), ("second", &[second]), ("third", &[third])][..],
            "second",
        ),
        (&[("first", &[]), ("second", &[]), ("third", &[third])], "third"),
        // Attempts at all of the first fail: the same request goes on.
        (&[("first", &dead[..1]), ("second", &[second])], "second"),
        (&[("first", &dead[..1]), ("second", &dead[1..]), ("third", &[third])], "third"),
    ] {
        let port = free_port();
        let running = run(port, listeners(port, &["second", "third"], true), endpoints);
        for _ in 0..6 {
            assert_eq!(answer(port), (200, expected.to_owned()), "{endpoints:?}");
        }
        drop(running);
    }
}

#[test]
fn a_service_that_was_ejected_whole_is_not_asked_any_more() {
    let (port, dead, second) = (free_port(), nobody(), named("second"));
    let endpoints: &[(&str, &[SocketAddr])] = &[("first", &[dead]), ("second", &[second])];
    let running = run(port, listeners(port, &["second"], false), endpoints);
    for _ in 0..6 {
        assert_eq!(answer(port).0, 200);
    }
    let out = running.views.current().live().out();
    assert_eq!(out.iter().map(|out| out.address).collect::<Vec<_>>(), [dead]);
}

struct Attempts(Arc<Mutex<Vec<u32>>>);

impl Recorder for Attempts {
    fn record(&mut self, record: &AccessRecord<'_>) {
        self.0.lock().unwrap().push(record.attempts);
    }
}

#[test]
fn attempts_at_all_backends_are_recorded() {
    let second = named("second");
    let dead = [nobody(), nobody(), nobody()];
    for (first, tier, expected) in [
        (&[][..], &[second][..], 1),
        (&dead[..1], &[second], 2),
        (&dead[..2], &[second], 3),
        (&dead[..2], &dead[2..], 3),
    ] {
        let port = free_port();
        let (registry, keys) = (Registry::new(1), KeyTable::default());
        let plan = snapshot(listeners(port, &["second"], false), CertificatePlan::default());
        let facts = facts(&[("first", first), ("second", tier)]);
        let view = EdgeView::build(&plan, &facts, &keys, &registry, None);
        let views = publish::Cell::new(Arc::new(view));
        let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
        let attempts = Arc::<Mutex<Vec<u32>>>::default();
        let recorder = |_| Some(Box::new(Attempts(Arc::clone(&attempts))) as Box<dyn Recorder>);
        let edge = Edge::start(config, &views, &registry, recorder).unwrap();
        answer(port);
        eventually(|| !attempts.lock().unwrap().is_empty());
        assert_eq!(*attempts.lock().unwrap(), [expected], "{first:?} {tier:?}");
        drop(edge);
    }
}

fn refused(running: &Running, reason: &str) -> u64 {
    let metrics = edge::render_metrics(&running.registry);
    let name = format!("cutwater_refusals_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[test]
fn the_declared_answer_comes_last() {
    let dead = [nobody()];
    for endpoints in [
        &[("first", &[] as &[SocketAddr]), ("second", &[])][..],
        &[("first", &dead[..]), ("second", &[])],
        &[("first", &[]), ("second", &dead[..])],
    ] {
        let port = free_port();
        let running = run(port, listeners(port, &["second"], true), endpoints);
        for _ in 0..4 {
            assert_eq!(answer(port), (503, "<p>later</p>".to_owned()), "{endpoints:?}");
        }
        // Each is counted once: by the reason that led to it, where there was an attempt.
        let counts =
            ["fallback-response", "connect-failed"].map(|reason| refused(&running, reason));
        assert_eq!(counts.iter().sum::<u64>(), 4, "{counts:?}");
        assert_eq!(counts[1] > 0, endpoints.iter().any(|(_, found)| !found.is_empty()));
    }
    let port = free_port();
    let _running =
        run(port, listeners(port, &["second"], false), &[("first", &[]), ("second", &[])]);
    let (status, body) = answer(port);
    assert_eq!(status, 503);
    assert!(!body.contains("later"), "{body}");
}

/// A session is at an endpoint, not at a place in a list: whichever Service takes the other requests.
#[test]
fn a_session_stays_at_its_endpoint_while_another_service_stands_in_and_none_begins_there() {
    let (alive, second) = (named("alive"), named("second"));
    let mut rule = all(&["second"], false);
    rule.persistence = Some(Box::new(Persistence {
        carrier: Carrier::Header,
        name: "session".into(),
        absolute_timeout: None,
        idle_timeout: None,
    }));
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let first = [nobody(), nobody(), nobody(), alive];
    let running = run(port, listeners, &[("first", &first), ("second", &[second])]);
    let mut peer = Peer::connect(port);
    let (head, body) = peer.get("/", "a");
    assert_eq!(body, "alive");
    let session = header(&head, "session").unwrap().to_owned();
    eventually(|| {
        answer(port);
        running.views.current().live().out().len() == 3
    });
    for _ in 0..4 {
        let (head, body) = peer.get("/", "a");
        assert_eq!((body.as_str(), header(&head, "session")), ("second", None));
        peer.send(format!("GET / HTTP/1.1\r\nHost: a\r\nSession: {session}\r\n\r\n"));
        let (head, body) = peer.response();
        assert_eq!((body.as_str(), header(&head, "session")), ("alive", None));
    }
}

const HTTP1: BackendProtocol = BackendProtocol::Http1;
const HTTP2: BackendProtocol = BackendProtocol::Http2;

/// A rule whose Service speaks the first of these, and what stands in for it the second.
fn speaking(own: BackendProtocol, other: BackendProtocol) -> Rule {
    let policy = |protocol| {
        let policy = policy().unwrap();
        Some(Node::new(BackendPolicy { protocol, ..(*policy).clone() }))
    };
    let tier = Tier { port: service("second"), policy: policy(other) };
    let fallback = Fallback { tiers: [tier].into_iter().collect(), response: None };
    let backend = Backend {
        policy: policy(own),
        fallback: Some(Node::new(fallback)),
        ..Backend::plain(1, Target::Service(service("first")))
    };
    rule("all", "/", Action::Forward(vec![backend]))
}

/// Answers every request with its body, whose length is announced.
fn echo_bodies(peer: &mut Peer) {
    loop {
        let head = peer.head();
        if head.is_empty() {
            return;
        }
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        let body = text(peer.count(length));
        peer.send(ok(if length == 0 { &head } else { &body }));
    }
}

fn grpc_web(path: &str, content_type: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn grpc_web_passes_as_it_came_to_a_service_of_http1_behind_one_of_http2() {
    let second = Origin::start(echo_bodies).address;
    for first in [&[] as &[SocketAddr], &[nobody()]] {
        let port = free_port();
        let rule = speaking(HTTP2, HTTP1);
        let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
        let _running = run(port, listeners, &[("first", first), ("second", &[second])]);
        let mut peer = Peer::connect(port);
        let sent = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for content_type in ["application/grpc-web", "application/grpc-web-text"] {
            peer.send(grpc_web("/a.B/C", content_type, sent));
            assert_eq!(peer.response().1, sent);
            let (_, head) = peer.get("/next", "a");
            assert!(head.starts_with("GET /next HTTP/1.1\r\n"), "{head}");
        }
    }
}

#[test]
fn grpc_web_becomes_grpc_wherever_that_is_spoken() {
    for (own, others) in [(HTTP2, HTTP2), (HTTP1, HTTP2)] {
        let second = Http2Origin::start(Manner::default());
        let port = free_port();
        let listeners = vec![listener(port, Protocol::Http, "", vec![speaking(own, others)])];
        let endpoints: &[(&str, &[SocketAddr])] =
            &[("first", &[nobody()]), ("second", &[second.address])];
        let _running = run(port, listeners, endpoints);
        for _ in 0..4 {
            let mut peer = Peer::connect(port);
            // A frame of no bytes.
            peer.send(grpc_web("/echo", "application/grpc-web-text", "AAAAAAA="));
            let head = peer.head();
            assert_eq!(header(&head, "content-type"), Some("application/grpc-web-text"), "{head}");
            let body = peer.until("0\r\n\r\n");
            // The frame, and that of the trailers.
            assert!(body.contains("AAAAAAA=") && body.contains("\r\ngAAAA"), "{body}");
        }
    }
}

/// With and without an attempt that failed before it.
#[test]
fn of_a_declared_answer_a_call_gets_the_status_alone() {
    for first in [&[] as &[SocketAddr], &[nobody()]] {
        let port = free_port();
        let listeners = listeners(port, &[], true);
        let _running = run(port, listeners, &[("first", first)]);
        let mut peer = Peer::connect(port);
        for content_type in
            ["application/grpc", "application/grpc-web", "application/grpc-web-text"]
        {
            peer.send(grpc_web("/a.B/C", content_type, ""));
            let (head, body) = peer.response();
            assert_eq!((status(&head), body.as_str()), (200, ""), "{head}");
            assert_eq!(header(&head, "grpc-status"), Some("14"), "{head}");
            assert_eq!(header(&head, "content-type"), Some(content_type), "{head}");
        }
        let (head, body) = peer.get("/", "a");
        assert_eq!((status(&head), body.as_str()), (503, "<p>later</p>"));
    }
}

#[test]
fn what_is_hashed_is_what_the_service_hashes_by_that_takes_the_request() {
    let by = |name: &str| Algorithm::ConsistentHash(HashKey::Header(name.into()));
    let query = || Algorithm::ConsistentHash(HashKey::QueryParameter("b".into()));
    for (own, other) in
        [(Algorithm::LeastRequest, by("x-b")), (by("x-a"), by("x-b")), (by("x-a"), query())]
    {
        let balanced = |algorithm| {
            let ejection = Ejection { consecutive_failures: 0, ..Ejection::default() };
            let balance = Balance { algorithm, ..Balance::default() };
            Some(Node::new(BackendPolicy { balance, ejection, ..BackendPolicy::default() }))
        };
        let tier = Tier { port: service("second"), policy: balanced(other) };
        let fallback = Fallback { tiers: [tier].into_iter().collect(), response: None };
        let backend = Backend {
            policy: balanced(own),
            fallback: Some(Node::new(fallback)),
            ..Backend::plain(1, Target::Service(service("first")))
        };
        let rule = rule("all", "/", Action::Forward(vec![backend]));
        let port = free_port();
        let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
        let second = ["1", "2", "3", "4"].map(named);
        let _running = run(port, listeners, &[("first", &[nobody()]), ("second", &second)]);
        let mut peer = Peer::connect(port);
        let mut seen = std::collections::BTreeSet::new();
        for b in 0..16 {
            let mut bodies = (0..4).map(|a| {
                peer.send(format!(
                    "GET /?a={a}&b={b} HTTP/1.1\r\nHost: a\r\nX-A: {a}\r\nX-B: {b}\r\n\r\n"
                ));
                peer.response().1
            });
            let first = bodies.next().unwrap();
            assert!(bodies.all(|body| body == first), "{b}");
            seen.insert(first);
        }
        assert!(seen.len() > 1, "{seen:?}");
    }
}

#[test]
fn a_request_that_goes_on_is_mirrored_whole() {
    let second = Origin::start(echo_bodies).address;
    let (tell, told) = channel();
    let copy = Origin::start(move |peer: &mut Peer| {
        let head = peer.head();
        let length = header(&head, "content-length").unwrap().parse().unwrap();
        tell(text(peer.count(length)));
        peer.send(ok(""));
    });
    let mut rule = all(&["second"], false);
    rule.mirrors = vec![Mirror { backend: to("copy", 1), numerator: 1, denominator: 1 }];
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let endpoints: &[(&str, &[SocketAddr])] =
        &[("first", &[nobody()]), ("second", &[second]), ("copy", &[copy.address])];
    let _running = run(port, listeners, endpoints);
    let mut peer = Peer::connect(port);
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole");
    assert_eq!(peer.response().1, "whole");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "whole");
}
