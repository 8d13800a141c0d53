//! Start, live change of ports, drain.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::{Config, Edge, EdgeView, KeyTable, Registry, StartError};
use model::certificates::CertificatePlan;
use model::edge::Protocol;
use publish::Cell;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn ports_come_and_go_and_connections_of_a_port_that_went_may_end_their_request() {
    let origin = Origin::start(|peer| {
        while !peer.head().is_empty() {
            thread::sleep(Duration::from_millis(200));
            peer.send(ok("slow"));
        }
    });
    let facts = facts(&[("a", &[origin.address])]);
    let (first, second) = (free_port(), free_port());
    let on = |port| listener(port, Protocol::Http, "", vec![forward("all", "/", "a")]);
    let running = Running::start_with(
        snapshot(vec![on(first)], CertificatePlan::default()),
        &facts,
        KeyTable::default(),
        3,
    );
    assert_eq!(running.edge.bound_ports(), [first]);
    let mut old = Peer::connect(first);
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    running.publish(vec![on(second)], &facts);
    assert_eq!(old.response().1, "slow");
    assert_eq!(Peer::connect(second).get("/", "a").1, "slow");
    eventually(|| running.edge.bound_ports() == [second]);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, first)).is_err());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
    running.publish(vec![on(first), on(second)], &facts);
    assert_eq!(running.edge.bind_faults().len(), 1);
    assert_eq!(Peer::connect(second).get("/", "a").1, "slow");
    drop(taken);
    running.publish(vec![on(first), on(second)], &facts);
    assert!(running.edge.bind_faults().is_empty());
    assert_eq!(Peer::connect(first).get("/", "a").1, "slow");
}

#[test]
fn a_port_in_use_is_named_with_its_mend() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let registry = Registry::new(2);
    let plan =
        snapshot(vec![listener(port - 1, Protocol::Http, "", vec![])], CertificatePlan::default());
    let view = EdgeView::build(&plan, &facts(&[]), &KeyTable::default(), &registry, None);
    let views = Cell::new(Arc::new(view));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 1, workers: 2 };
    let error = match Edge::start(config, &views, &registry, |_| None) {
        Err(error @ StartError::Bind(_)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the port is taken"),
    };
    let expected = format!("port {} + offset 1 = {port} is in use; use --port-offset", port - 1);
    assert_eq!(error, expected);
}

#[test]
fn drain_loses_no_request_and_says_that_each_was_the_last() {
    let (running, port) = one_origin(|peer| {
        while !peer.head().is_empty() {
            thread::sleep(Duration::from_millis(300));
            peer.send(ok("late"));
        }
    });
    let mut silent = Peer::connect(port);
    let mut idle = Peer::connect(port);
    let mut busy = Peer::connect(port);
    silent.get("/", "a");
    idle.get("/", "a");
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    let draining = thread::spawn(move || running.edge.drain(PATIENCE));
    let (head, body) = busy.response();
    assert_eq!((header(&head, "connection"), body.as_str()), (Some("close"), "late"));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    // An idle one is not cut off under a request that is on its way.
    let (head, body) = idle.get("/", "a");
    assert_eq!((header(&head, "connection"), body.as_str()), (Some("close"), "late"));
    assert!(idle.is_closed());
    // One that stays silent ends all the same.
    assert!(silent.is_closed());
    assert!(draining.join().unwrap());
}

#[test]
fn an_edge_that_leaves_answers_its_clients_and_keeps_no_new_one_from_its_follower() {
    let (running, port) = one_origin(|peer| {
        while !peer.head().is_empty() {
            peer.send(ok("here"));
        }
    });
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
    let inherited = running.edge.listeners().unwrap();
    let follow = |listeners| {
        let inherited = edge::Inherited { listeners, ..edge::Inherited::default() };
        Edge::prepare(config.clone(), &running.views, &running.registry, |_| None, inherited)
    };
    let given_up = follow(running.edge.listeners().unwrap()).unwrap();
    let follower = follow(inherited).unwrap();
    // Prepared and dropped, it took nothing.
    drop(given_up);
    let mut idle = Peer::connect(port);
    assert_eq!(idle.get("/", "a").1, "here");
    let edge = running.edge;
    let leaving = thread::spawn(move || edge.leave(PATIENCE));
    // This one waits in the socket, and the follower takes it.
    thread::sleep(Duration::from_millis(50));
    let mut new = Peer::connect(port);
    new.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    follower.open();
    let (head, body) = new.response();
    assert_eq!((header(&head, "connection"), body.as_str()), (None, "here"));
    // This one belongs to the edge that leaves, which ends as soon as it has answered it.
    let start = Instant::now();
    let (head, body) = idle.get("/", "a");
    assert_eq!((header(&head, "connection"), body.as_str()), (Some("close"), "here"));
    assert!(idle.is_closed());
    assert!(leaving.join().unwrap());
    assert!(start.elapsed() < Duration::from_millis(model::limits::HANDOVER_IDLE_MS));
    assert_eq!(new.get("/", "a").1, "here");
}

#[test]
fn drain_ends_at_its_limit() {
    let (running, port) = one_origin(|peer| {
        peer.head();
        thread::sleep(Duration::from_secs(20));
    });
    let mut busy = Peer::connect(port);
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    assert!(!running.edge.drain(Duration::from_millis(200)));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_request_is_served_from_one_view() {
    let (release, waiting) = std::sync::mpsc::channel::<()>();
    let waiting = std::sync::Mutex::new(waiting);
    let (running, port) = one_origin(move |peer| {
        peer.head();
        let _ = waiting.lock().unwrap().recv_timeout(PATIENCE);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(50));
    running.publish(vec![listener(port, Protocol::Http, "other.test", vec![])], &facts(&[]));
    assert_eq!(running.views.collect(), 1);
    release.send(()).unwrap();
    assert_eq!(client.response().1, "1");
    assert_eq!(status(&client.get("/", "a").0), 404);
    eventually(|| running.views.collect() == 0);
}

/// An edge with a tunnel in use, and the client's end of it. The origin tells how its end ended.
fn tunnel() -> (Running, Peer, std::sync::mpsc::Receiver<std::io::Result<usize>>) {
    use std::io::Read;
    let (ended, seen) = channel();
    let (running, port) = one_origin(move |peer| {
        peer.head();
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi",
        );
        ended(peer.stream.read(&mut [0; 16]));
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(status(&client.head()), 101);
    assert_eq!(client.count(2), b"hi");
    (running, client, seen)
}

#[test]
fn a_tunnel_without_bytes_does_not_hold_up_a_drain() {
    use std::io::Read;
    let (running, mut client, seen) = tunnel();
    let start = Instant::now();
    let draining = thread::spawn(move || running.edge.drain(Duration::from_secs(30)));
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0, "a FIN and no reset");
    assert!(start.elapsed() >= Duration::from_secs(4));
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap().unwrap(), 0);
    assert!(draining.join().unwrap());
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_tunnel_ends_with_a_fin_at_the_limit_of_a_drain() {
    use std::io::Read;
    let (running, mut client, seen) = tunnel();
    assert!(!running.edge.drain(Duration::from_millis(300)));
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0, "a FIN and no reset");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap().unwrap(), 0);
}
