//! Bytes and behaviour that no good client shows: refused or answered, and the edge serves on.

#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::edge::{Action, Protocol, Redirect};
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
        let metrics = edge::render_metrics(&running.registry);
        metrics
            .lines()
            .any(|line| line == "cutwater_connections 0" || line == "cutwater_connections 1")
    });
    assert!(running.edge.drain(PATIENCE));
}

/// Opens a stream, and resets it once its request is at the origin; how many until the connection has ended.
async fn resets_until_the_end(
    port: u16,
    arrived: &std::sync::mpsc::Receiver<()>,
) -> (usize, String) {
    let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut count = 0;
    while count < 1_000 && !connection.is_finished() {
        let request = http::Request::get("http://a.test/").body(()).unwrap();
        let Ok(ready) = send.clone().ready().await else { break };
        send = ready;
        let Ok((_, mut stream)) = send.send_request(request, true) else { break };
        while arrived.try_recv().is_err() && !connection.is_finished() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        count += 1;
    }
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("in time").unwrap();
    (count, ended.err().map(|error| error.to_string()).unwrap_or_default())
}

#[test]
fn streams_that_are_reset_at_the_origin_end_their_connection() {
    let (told, arrived) = channel();
    let (_running, port) = one_origin(move |peer| {
        let head = peer.head();
        match head.contains("/fine") {
            true => peer.send(ok("fine")),
            false => told(()),
        }
        peer.is_closed();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (count, error) = runtime.block_on(async { resets_until_the_end(port, &arrived).await });
    assert!((50..=200).contains(&count), "{count}: {error}");
    assert_eq!(Peer::connect(port).get("/fine", "a").1, "fine");
}

/// An answer without a body is whole with its head: one that was never sent is none.
#[test]
fn streams_that_are_reset_in_one_breath_end_their_connection_whatever_they_are_answered() {
    let answers = |path: &str, action| rule(path, path, action);
    let redirect = Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };
    let rules = vec![
        answers("/moved", Action::Redirect(redirect)),
        answers("/failed", Action::Fail { status: 500, why: "x".into(), message: "x".into() }),
    ];
    let port = free_port();
    let _running = Running::start(vec![listener(port, Protocol::Http, "", rules)], &facts(&[]));
    for path in ["/moved", "/failed", "/none"] {
        let mut peer = Peer::connect(port);
        peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        let head = [b"\x82\x86\x01\x01a\x04", &[path.len() as u8][..], path.as_bytes()].concat();
        let is_over = (0..1_000_u32).any(|number| {
            let stream = (number * 2 + 1).to_be_bytes();
            let headers = [&[0, 0, head.len() as u8, 1, 5][..], &stream, &head].concat();
            let reset = [&[0, 0, 4, 3, 0][..], &stream, &[0, 0, 0, 8]].concat();
            // A few at a time: `h2` itself minds many that come together.
            let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &stream].concat();
            peer.send([headers, reset, ping].concat());
            let answered = [&[0, 0, 8, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], &stream].concat();
            loop {
                if peer.held.windows(answered.len()).any(|bytes| bytes == answered) {
                    peer.held.clear();
                    break false;
                }
                if !peer.more() {
                    break true;
                }
            }
        });
        assert!(is_over, "{path}");
    }
}

#[test]
fn frames_that_carry_nothing_end_their_connection_unless_requests_are_answered() {
    let (_running, port) = one_origin(echo_heads);
    let ping = b"\0\0\x08\x06\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08";
    let mut flood = Peer::connect(port);
    flood.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let piece = ping.repeat(200);
    // More than the sockets on the way hold.
    let sent = std::iter::repeat_with(|| flood.stream.write_all(&piece)).take(20_000);
    let sent = sent.take_while(Result::is_ok).count();
    assert!(sent < 20_000, "{sent}");
    // As many, with an answered request between them now and then.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (send, mut connection) = h2::client::handshake(io).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        for _ in 0..200 {
            for _ in 0..40 {
                pings.ping(h2::Ping::opaque()).await.unwrap();
            }
            let request = http::Request::get("http://a.test/").body(()).unwrap();
            let mut send = send.clone().ready().await.unwrap();
            let response = send.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), 200);
        }
    });
}

/// Closes with a reset, as a client does that crashes.
fn reset(peer: Peer) {
    socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

fn has_connections(running: &Running, count: usize) -> bool {
    let metrics = edge::render_metrics(&running.registry);
    metrics.lines().any(|line| line == format!("cutwater_connections {count}"))
}

#[test]
fn clients_that_go_away_while_the_origin_is_silent_free_both_sides() {
    const CLIENTS: usize = 50;
    let (closed, seen) = channel();
    let (running, port) = one_origin(move |peer| {
        let head = peer.head();
        // Of a response that has begun, and of one that has not.
        if head.contains("/begun") {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        }
        closed(peer.is_closed());
    });
    let clients: Vec<Peer> = (0..CLIENTS)
        .map(|n| {
            let mut client = Peer::connect(port);
            let path = if n % 2 == 0 { "/" } else { "/begun" };
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            if n % 3 == 0 {
                // What is pipelined must not hide the reset behind it.
                client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            client
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    assert!(has_connections(&running, CLIENTS));
    let start = std::time::Instant::now();
    clients.into_iter().for_each(reset);
    for _ in 0..CLIENTS {
        assert!(seen.recv_timeout(PATIENCE).unwrap());
    }
    eventually(|| has_connections(&running, 0));
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}

#[test]
fn a_client_that_ends_only_its_side_gets_its_answer() {
    let (_running, port) = one_origin(|peer| {
        peer.head();
        std::thread::sleep(Duration::from_millis(300));
        peer.send(ok("late"));
    });
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.response().1, "late");
    assert!(client.is_closed());
}

#[test]
fn heads_that_were_given_up_leave_nothing_to_other_connections() {
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        match head.contains("/cut") {
            true => peer.send("HTTP/1.1 200 OK\r\nX-Secret: one\r\ncontent-length: 3\r\nX-Cut"),
            false => peer.send(ok(&head)),
        }
    });
    const PARTIAL: [&str; 4] = [
        "GET /other HTTP/1.1\r\nHost: b.test\r\nX-Secret: one\r\n",
        "GET /other HTTP/1.1\r\nHost: b.te",
        "POST /other HTTP/1.1\r\nHost: b.test\r\nContent-Length: 100\r\nX-Sec",
        "GET /oth",
    ];
    for round in 0..8 {
        let mut partial: Vec<Peer> = (0..8).map(|_| Peer::connect(port)).collect();
        partial.iter_mut().enumerate().for_each(|(n, peer)| peer.send(PARTIAL[n % 4]));
        let mut cut = Peer::connect(port);
        assert_eq!(status(&cut.get("/cut", "a.test").0), 502);
        std::thread::sleep(Duration::from_millis(20));
        drop(partial);
        std::thread::sleep(Duration::from_millis(20));
        for n in 0..12 {
            let path = format!("/good-{round}-{n}");
            let (head, seen) = Peer::connect(port).get(&path, "a.test");
            assert_eq!((status(&head), header(&head, "x-secret")), (200, None));
            assert!(
                seen.starts_with(&format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n")),
                "{seen}"
            );
            assert_eq!((header(&seen, "x-secret"), header(&seen, "content-length")), (None, None));
        }
        let seen = over_http2(port, "/two");
        assert!(seen.starts_with("GET /two HTTP/1.1\r\nhost: a.test\r\n"), "{seen}");
        assert_eq!(header(&seen, "x-secret"), None);
    }
}

fn over_http2(port: u16, path: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exchange = async {
        let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://a.test{path}")).body(()).unwrap();
        let response = send.send_request(request, true).unwrap().0.await.unwrap();
        let mut stream = response.into_body();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.data().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        text(bytes)
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await.unwrap() })
}

#[test]
fn interim_responses_without_end_are_cut_off() {
    let (told, totals) = channel();
    let (running, port) = one_origin(move |peer| {
        peer.head();
        let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n", "x".repeat(1_000));
        let mut total = 0;
        while total < (256 << 20) && peer.stream.write_all(hints.as_bytes()).is_ok() {
            total += hints.len();
        }
        told(total);
    });
    let mut reader = Peer::connect(port);
    reader.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let heads: Vec<u16> = std::iter::repeat_with(|| status(&reader.head()))
        .take_while(|status| *status == 103)
        .take(1_000)
        .collect();
    assert_eq!(heads.len(), model::limits::INTERIM_RESPONSES);
    let mut deaf = Peer::connect(port);
    deaf.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        // What the sockets on the way may hold, and no more.
        let total = totals.recv_timeout(PATIENCE).unwrap();
        assert!(total < (32 << 20), "{total}");
    }
    eventually(|| {
        let metrics = edge::render_metrics(&running.registry);
        metrics.contains(r#"cutwater_refusals_total{reason="bad-response"} 2"#)
    });
    assert_eq!(status(&deaf.head()), 103);
}
