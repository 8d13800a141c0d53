//! Long connections over several workers: SO_REUSEPORT spreads them by a hash, the workers even that out.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::certificates::CertificatePlan;
use model::edge::Protocol;

const WORKERS: usize = 4;

fn start() -> (Running, u16) {
    let origin = Origin::start(says("fine"));
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![forward("all", "/", "a")])];
    let snapshot = snapshot(listeners, CertificatePlan::default());
    let facts = facts(&[("a", &[origin.address])]);
    (Running::start_with(snapshot, &facts, edge::KeyTable::default(), WORKERS), port)
}

/// The busiest worker has at most one and a half times the mean.
fn is_even(counts: impl Iterator<Item = u32> + Clone, all: u32) -> bool {
    counts.clone().sum::<u32>() == all
        && counts.max().unwrap_or_default() * 2 * WORKERS as u32 <= 3 * all
}

#[test]
fn sixty_four_long_connections_of_http2_are_spread_and_answered() {
    let (running, port) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut senders = Vec::new();
        for _ in 0..64 {
            let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (send, connection) = h2::client::handshake(io).await.unwrap();
            tokio::spawn(connection);
            senders.push(send);
        }
        // Those that moved are answered like the others.
        for send in &mut senders {
            let request = http::Request::get("http://a.test/").body(()).unwrap();
            let (response, _) = send.send_request(request, true).unwrap();
            let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
        }
        let open = running.edge.open_connections();
        assert!(is_even(open.iter().map(|open| open.http2), 64), "{open:?}");
        assert!(is_even(open.iter().map(|open| open.connections), 64), "{open:?}");
    });
    drop(runtime);
    eventually(|| running.edge.open_connections() == [traffic::Open::default(); WORKERS]);
}

/// What waits in the system's queue when a drain begins has been connected, as far as its client knows.
#[test]
fn a_drain_answers_everybody_who_is_connected() {
    let (running, port) = start();
    let mut clients: Vec<Peer> = (0..40).map(|_| Peer::connect(port)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    let draining = std::thread::spawn(move || running.edge.drain(PATIENCE));
    for client in &mut clients {
        assert_eq!(client.response().1, "fine");
    }
    drop(clients);
    assert!(draining.join().unwrap());
}
