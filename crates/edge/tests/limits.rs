//! Deadlines of the edge's own, and the access record.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::{AccessRecord, Config, Edge, EdgeView, KeyTable, Recorder, Registry};
use model::certificates::CertificatePlan;
use model::edge::Protocol;
use model::limits::HEAD_TIMEOUT_MS;
use publish::Cell;
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

#[test]
fn slow_heads_end_with_408_and_silent_connections_without_a_word() {
    let (_running, port) = one_origin(says("fine"));
    let start = Instant::now();
    let patience = Some(Duration::from_millis(2 * HEAD_TIMEOUT_MS));
    let (mut slow, mut silent) = (Peer::connect(port), Peer::connect(port));
    slow.stream.set_read_timeout(patience).unwrap();
    silent.stream.set_read_timeout(patience).unwrap();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    let (head, _) = slow.response();
    assert_eq!((status(&head), header(&head, "connection")), (408, Some("close")));
    assert!(silent.is_closed());
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(HEAD_TIMEOUT_MS), "{elapsed:?}");
    assert!(elapsed < Duration::from_millis(HEAD_TIMEOUT_MS + 2_000), "{elapsed:?}");
}

/// Sends what it is given as lines of text.
struct Lines(mpsc::Sender<String>);

impl Recorder for Lines {
    fn record(&mut self, record: &AccessRecord<'_>) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(record.request_id.len(), 32);
        assert!(record.total >= record.first_byte.unwrap_or_default());
        let line = format!(
            "{} {} {} {} {} {} {} in={} out={} rule={} refusal={} endpoint={}",
            record.client.ip(),
            record.protocol,
            record.scheme,
            text(record.method),
            record.host,
            text(record.path),
            record.status,
            record.bytes_in,
            record.bytes_out,
            record.rule.map_or("-".to_owned(), ToString::to_string),
            record.refusal.unwrap_or("-"),
            record.endpoint.is_some(),
        );
        self.0.send(line).unwrap();
    }
}

#[test]
fn every_answer_has_a_record() {
    let origin = Origin::start(|peer| {
        loop {
            let head = peer.head();
            let Some(length) = header(&head, "content-length") else { return };
            peer.count(length.parse().unwrap());
            match head.starts_with("POST /chunks ") {
                true => peer.send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nth\r\n3\r\nree\r\n0\r\n\r\n",
                ),
                false => peer.send(ok("three")),
            }
        }
    });
    let port = free_port();
    let plan = snapshot(
        vec![listener(port, Protocol::Http, "a.test", vec![forward("r", "/", "a")])],
        CertificatePlan::default(),
    );
    let registry = Registry::new(1);
    let facts = facts(&[("a", &[origin.address])]);
    let view = EdgeView::build(&plan, &facts, &KeyTable::default(), &registry, None);
    let views = Cell::new(Arc::new(view));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
    let (sender, lines) = mpsc::channel();
    let recorder = |_| Some(Box::new(Lines(sender.clone())) as Box<dyn Recorder>);
    let edge = Edge::start(config, &views, &registry, recorder).unwrap();
    let mut client = Peer::connect(port);
    client.send("POST /%61?q HTTP/1.1\r\nHost: A.test:1\r\nContent-Length: 2\r\n\r\nhi");
    client.response();
    client.send("POST /chunks HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    client.head();
    client.until("0\r\n\r\n");
    client.get("/x", "b.test");
    client.send("bad\r\n\r\n");
    client.response();
    for expected in [
        "127.0.0.1 HTTP/1.1 http POST a.test /a 200 in=2 out=5 rule=HTTPRoute test/r rule 0 refusal=- endpoint=true",
        // Bytes of the body, and not of its framing.
        "127.0.0.1 HTTP/1.1 http POST a.test /chunks 200 in=0 out=5 rule=HTTPRoute test/r rule 0 refusal=- endpoint=true",
        "127.0.0.1 HTTP/1.1 http GET b.test /x 404 in=0 out=101 rule=- refusal=no-listener endpoint=false",
        "127.0.0.1 HTTP/1.1 http    400 in=0 out=149 rule=- refusal=request-line endpoint=false",
    ] {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        // The length of a body of ours is its text's matter.
        let strip = |line: &str| {
            let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            words.retain(|word| !word.starts_with("out=") || word == "out=5");
            words.join(" ")
        };
        assert_eq!(strip(&line), strip(expected));
    }
    assert!(edge.drain(PATIENCE));
}

#[test]
fn a_head_behind_another_has_its_own_time() {
    let (_running, port) = one_origin(says("fine"));
    let mut client = Peer::connect(port);
    let patience = Some(Duration::from_millis(2 * HEAD_TIMEOUT_MS));
    client.stream.set_read_timeout(patience).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /sl");
    assert_eq!(client.response().1, "fine");
    ends_in_head_time(|| assert_eq!(status(&client.response().0), 408));
}

#[test]
fn a_connection_of_http2_without_a_whole_request_ends() {
    let (_running, port) = one_origin(says("fine"));
    let mut client = Peer::connect(port);
    let patience = Some(Duration::from_millis(2 * HEAD_TIMEOUT_MS));
    client.stream.set_read_timeout(patience).unwrap();
    // Settings, and a HEADERS frame without END_HEADERS (RFC 9113 section 6.2).
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    client.send(b"\0\0\x03\x01\0\0\0\0\x01\x82\x86\x84");
    ends_in_head_time(|| while client.more() {});
}

fn ends_in_head_time(wait: impl FnOnce()) {
    let start = Instant::now();
    wait();
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(HEAD_TIMEOUT_MS - 500), "{elapsed:?}");
    assert!(elapsed < Duration::from_millis(HEAD_TIMEOUT_MS + 3_000), "{elapsed:?}");
}
