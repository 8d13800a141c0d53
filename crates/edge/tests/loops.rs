//! Endpoints at which the edge listens itself: what is sent there does not go round.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::KeyTable;
use model::certificates::CertificatePlan;
use model::edge::Protocol;
use model::id::{ListenerId, RuleId};
use model::layer4::{Attachment, Listener, Route, Transport};
use model::traffic::Mirror;
use model::{Facts, Kind, Node, ObjectId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

/// Leads all that comes to its port to one Service.
fn bytes(port: u16, transport: Transport, backend: &str) -> Listener {
    let kind = if transport == Transport::Udp { Kind::UDP_ROUTE } else { Kind::TCP_ROUTE };
    let object = ObjectId::new(kind, "test", format!("route-{port}").as_str());
    let rule = RuleId { object, index: 0, name: None };
    let route = Node::new(Route { rule, backends: vec![to(backend, 1)] });
    let object = ObjectId::new(Kind::GATEWAY, "test", "gateway");
    Listener {
        id: ListenerId { object, section: format!("{port}").as_str().into() },
        port,
        transport,
        host: pattern(""),
        certificates: Vec::new(),
        policy: None,
        attachments: vec![Attachment { host: pattern(""), route }],
    }
}

fn http(port: u16, backend: &str) -> model::edge::Listener {
    listener(port, Protocol::Http, "", vec![forward("all", "/", backend)])
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn start(https: Vec<model::edge::Listener>, layer4: Vec<Listener>, facts: &Facts) -> Running {
    let snapshot = snapshot_with(https, layer4, CertificatePlan::default());
    Running::start_with(snapshot, facts, KeyTable::default(), 2)
}

fn sample(running: &Running, name: &str) -> u64 {
    let text = edge::render_metrics(&running.registry);
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

const ACCEPTED: &str = "cutwater_connections_total";

#[test]
fn a_request_is_sent_to_no_listener_of_the_edge() {
    let (first, second, third) = (free_port(), free_port(), free_port());
    // To itself, to one that leads back, and to one that leads bytes back.
    let listeners = || vec![http(first, "a"), http(second, "b")];
    for endpoint in [first, second, third] {
        let facts = facts(&[("a", &[here(endpoint)]), ("b", &[here(first)])]);
        let running = start(listeners(), vec![bytes(third, Transport::Tcp, "b")], &facts);
        let mut peer = Peer::connect(first);
        for turn in 1..=3 {
            let (head, body) = peer.get("/", "a.test");
            assert_eq!(status(&head), 502, "{body}");
            assert!(body.contains("leads back"), "{body}");
            assert_eq!(sample(&running, "cutwater_refusals_total{reason=\"loop\"}"), turn);
        }
        assert_eq!(sample(&running, ACCEPTED), 1);
        assert!(running.views.current().live().out().is_empty());
    }
}

#[test]
fn other_endpoints_take_what_one_would_send_back() {
    let (origin, port) = (Origin::start(says("origin")), free_port());
    let facts = facts(&[("a", &[here(port), origin.address])]);
    let running = start(vec![http(port, "a")], vec![], &facts);
    let mut peer = Peer::connect(port);
    for _ in 0..6 {
        assert_eq!(peer.get("/", "a.test").1, "origin");
    }
    assert_eq!(sample(&running, ACCEPTED), 1);
}

#[test]
fn a_copy_is_sent_to_no_listener_of_the_edge() {
    let (origin, port) = (Origin::start(says("origin")), free_port());
    let mut rule = forward("all", "/", "a");
    rule.mirrors = vec![Mirror { backend: to("copies", 1), numerator: 1, denominator: 1 }];
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let facts = facts(&[("a", &[origin.address]), ("copies", &[here(port)])]);
    let running = start(listeners, vec![], &facts);
    assert_eq!(Peer::connect(port).get("/", "a.test").1, "origin");
    eventually(|| sample(&running, "cutwater_mirrored_requests_total{result=\"failed\"}") == 1);
    assert_eq!(sample(&running, ACCEPTED), 1);
}

/// On every address of the machine.
#[test]
fn an_edge_on_every_address_knows_those_of_its_machine() {
    let own = own_address();
    for to in [Some(Ipv4Addr::LOCALHOST.into()), Some([127, 0, 0, 9].into()), own] {
        let Some(to) = to else { continue };
        let port = free_port();
        let snapshot = snapshot(vec![http(port, "a")], CertificatePlan::default());
        let facts = facts(&[("a", &[SocketAddr::new(to, port)])]);
        let running = Running::start_at(
            Ipv4Addr::UNSPECIFIED.into(),
            snapshot,
            &facts,
            (KeyTable::default(), 1),
        );
        let (head, _) = Peer::connect(port).get("/", "a.test");
        assert_eq!((status(&head), sample(&running, ACCEPTED)), (502, 1), "{to}");
    }
}

/// Where this machine has one beside the loopback.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn bytes_come_back_to_no_listener_of_bytes() {
    let (first, second) = (free_port(), free_port());
    for endpoint in [first, second] {
        let facts = facts(&[("a", &[here(endpoint)]), ("b", &[here(first)])]);
        let layer4 = vec![bytes(first, Transport::Tcp, "a"), bytes(second, Transport::Tcp, "b")];
        let running = start(vec![], layer4, &facts);
        assert!(Peer::connect(first).is_closed());
        let refused = format!(
            "cutwater_stream_upstream_failures_total{{route=\"TCPRoute test/route-{first}\",reason=\"loop\"}}"
        );
        eventually(|| sample(&running, &refused) == 1);
        assert_eq!(sample(&running, ACCEPTED), 1);
    }
}

/// As a TLSRoute that passes a name through to a listener of HTTPS on another port.
#[test]
fn bytes_are_led_to_a_listener_of_http_which_goes_on_to_its_backend() {
    let (origin, outer, inner) = (Origin::start(says("origin")), free_port(), free_port());
    let facts = facts(&[("inner", &[here(inner)]), ("a", &[origin.address])]);
    let layer4 = vec![bytes(outer, Transport::Tcp, "inner")];
    let running = start(vec![http(inner, "a")], layer4, &facts);
    assert_eq!(Peer::connect(outer).get("/", "a.test").1, "origin");
    assert_eq!(sample(&running, ACCEPTED), 2);
}

#[test]
fn datagrams_come_back_to_no_listener() {
    let (first, second) = (free_port(), free_port());
    let mut facts = facts(&[("a", &[here(second)]), ("b", &[here(first)])]);
    facts.datagram_endpoints = std::mem::take(&mut facts.endpoints);
    let layer4 = vec![bytes(first, Transport::Udp, "a"), bytes(second, Transport::Udp, "b")];
    let running = start(vec![], layer4, &facts);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(b"round", here(first)).unwrap();
    let of = |port: u16, end: &str| {
        format!("cutwater_stream_{end}{{route=\"UDPRoute test/route-{port}\"")
    };
    let refused = format!("{},reason=\"loop\"}}", of(first, "upstream_failures_total"));
    eventually(|| sample(&running, &refused) == 1);
    // Long enough for one that goes round to have gone on.
    thread::sleep(Duration::from_millis(50));
    let led = format!("{},result=\"led\"}}", of(second, "connections_total"));
    assert_eq!(sample(&running, &led), 0);
}
