//! When this process runs out of descriptors: nothing of that is an endpoint's doing. A test of its own, for the limit
//! is the process's.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::render_metrics;
use model::certificates::CertificatePlan;
use model::edge::Protocol;
use model::id::RuleId;
use model::layer4::{Attachment, Listener, Route, Transport};
use model::{Kind, Node, ObjectId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

const LIMIT: u64 = 256;

fn udp(port: u16) -> Listener {
    let rule = RuleId {
        object: ObjectId::new(Kind::UDP_ROUTE, "test", "datagrams"),
        index: 0,
        name: None,
    };
    let route = Node::new(Route { rule, backends: vec![to("a", 1)] });
    Listener {
        id: model::id::ListenerId {
            object: ObjectId::new(Kind::GATEWAY, "test", "gateway"),
            section: "udp".into(),
        },
        port,
        transport: Transport::Udp,
        host: pattern(""),
        certificates: Vec::new(),
        policy: None,
        attachments: vec![Attachment { host: pattern(""), route }],
    }
}

/// Sends one datagram from a port of its own.
fn send(port: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
}

fn sample(running: &Running, name: &str) -> u64 {
    let text = render_metrics(&running.registry);
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Those that are open stay so.
fn allow(descriptors: u64) {
    let limit = Rlimit { current: Some(descriptors), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn a_want_of_descriptors_is_nobodys_fault() {
    allow(LIMIT);
    // Connections are not kept.
    let origin = Origin::start(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nhere");
    });
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, udp_port) = (free_port(), free_port());
    let tcp = vec![listener(port, Protocol::Http, "", vec![forward("all", "/", "a")])];
    let snapshot = snapshot_with(tcp, vec![udp(udp_port)], CertificatePlan::default());
    let mut facts = facts(&[("a", &[origin.address])]);
    let endpoints: &[SocketAddr] = &[sink.local_addr().unwrap()];
    facts.datagram_endpoints = common::facts(&[("a", endpoints)]).endpoints;
    let running = Running::start_with(snapshot, &facts, edge::KeyTable::default(), 1);

    // Strangers that begin flows leave room for others.
    const TOO_MANY: &str = "cutwater_stream_unrouted_total{reason=\"too-many-flows\"}";
    (0..LIMIT / 4).for_each(|_| send(udp_port));
    assert_eq!(sample(&running, TOO_MANY), 0);
    eventually(|| {
        send(udp_port);
        sample(&running, TOO_MANY) > 0
    });
    assert_eq!(sample(&running, "cutwater_stream_connections{"), LIMIT / 4);
    let mut clients: Vec<Peer> = (0..8).map(|_| Peer::connect(port)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/", "a.test").1, "here");
    }

    // Without a descriptor nobody is reached, and nobody is blamed.
    const HERE: &str = "cutwater_refusals_total{reason=\"shortage\"}";
    allow(3);
    for client in &mut clients {
        assert_eq!(status(&client.get("/", "a.test").0), 503);
    }
    allow(LIMIT);
    assert_eq!(sample(&running, HERE), clients.len() as u64);
    assert_eq!(sample(&running, "cutwater_endpoint_ejections_total"), 0);
    assert_eq!(status(&Peer::connect(port).get("/", "a.test").0), 200);
}
