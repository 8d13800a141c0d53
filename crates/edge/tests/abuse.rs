//! Bytes and behaviour that no good client shows: refused or answered, and the edge serves on.

#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::edge::Protocol;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A small generator of numbers, so that a failure can be had again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

const SEEDS: [&[u8]; 5] = [
    b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\x82\x86\x84\x41\x00",
    b"\x16\x03\x01\x00\x30\x01\x00\x00\x2c\x03\x03",
];

fn mutated(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = SEEDS[numbers.below(SEEDS.len())].to_vec();
    for _ in 0..numbers.below(6) {
        let at = numbers.below(bytes.len());
        match numbers.below(4) {
            0 => bytes[at] = numbers.next() as u8,
            1 => bytes.insert(at, b"\r\n :,;\0%"[numbers.below(8)]),
            2 => bytes.truncate(at.max(1)),
            _ => {
                let again = bytes[..at].to_vec();
                bytes.extend(again);
            }
        }
    }
    bytes
}

#[test]
fn any_bytes_on_any_port() {
    let origin = Origin::start(|peer| {
        while peer.more() {
            peer.held.clear();
            peer.send(ok("x"));
        }
    });
    let ports = [free_port(), free_port()];
    let rules = || vec![forward("all", "/", "a")];
    let listeners = vec![
        listener(ports[0], Protocol::Http, "", rules()),
        listener(ports[1], Protocol::Https, "", rules()),
    ];
    let running = Running::start(listeners, &facts(&[("a", &[origin.address])]));
    let mut numbers = Numbers(0x5EED_0001);
    for round in 0..600 {
        let bytes = mutated(&mut numbers);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[round % 2])).unwrap();
        let cut = numbers.below(bytes.len() + 1);
        let _ = stream.write_all(&bytes[..cut]);
        if numbers.below(8) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = stream.write_all(&bytes[cut..]);
        if numbers.below(2) == 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }
    assert_eq!(status(&Peer::connect(ports[0]).get("/", "a").0), 200);
    // A thread that panicked could not drain; connections of this test are gone but for lingering ones.
    assert!(running.edge.drain(PATIENCE));
}

#[test]
fn streams_that_are_opened_and_reset_at_once_do_no_lasting_harm() {
    let (running, port) = one_origin(|peer| {
        peer.head();
        std::thread::sleep(Duration::from_millis(200));
        peer.send(ok("fine"));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..5_000 {
            let request = http::Request::get("http://a.test/").body(()).unwrap();
            let Ok(ready) = send.clone().ready().await else { break };
            send = ready;
            match send.send_request(request, true) {
                Ok((_, mut stream)) => {
                    // The head is on its way before the reset.
                    tokio::task::yield_now().await;
                    stream.send_reset(h2::Reason::CANCEL);
                }
                Err(_) => break,
            }
        }
        drop(send);
        // It may have been ended for this: that is the edge's right.
        let _ = tokio::time::timeout(PATIENCE, connection).await.expect("in time").unwrap();
    });
    assert_eq!(Peer::connect(port).get("/", "a").1, "fine");
    eventually(|| {
        let metrics = edge::render_metrics(&running.registry.metrics);
        metrics
            .lines()
            .any(|line| line == "cutwater_connections 0" || line == "cutwater_connections 1")
    });
    assert!(running.edge.drain(PATIENCE));
}
