//! What the edge answers itself: refusals, redirects, failures of origins, deadlines.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::Facts;
use model::edge::*;
use std::thread;
use std::time::{Duration, Instant};

const BACKENDS_DEAD: &str = "dead";

fn fixture() -> (Running, u16) {
    let origin = Origin::start(says("fine"));
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let port = free_port();
    let mut invalid = forward("invalid", "/invalid", "a");
    let target = Target::Invalid { why: "x".into(), message: "secret detail".into() };
    invalid.action = Action::Forward(vec![Backend::plain(1, target)]);
    let fail = Action::Fail { status: 500, why: "x".into(), message: "secret detail".into() };
    let rules = vec![
        forward("fine", "/fine", "a"),
        rule("weightless", "/weightless", Action::Forward(vec![to("a", 0)])),
        invalid,
        rule("fails", "/fails", fail),
        forward("nobody", "/nobody", "nobody"),
        forward(BACKENDS_DEAD, "/dead", BACKENDS_DEAD),
    ];
    let facts = facts(&[("a", &[origin.address]), ("nobody", &[]), (BACKENDS_DEAD, &[dead])]);
    let listeners = vec![listener(port, Protocol::Http, "a.test", rules)];
    (Running::start(listeners, &facts), port)
}

#[test]
fn statuses_with_an_id_and_no_detail_and_the_connection_goes_on() {
    let (running, port) = fixture();
    let mut client = Peer::connect(port);
    for (path, host, expected) in [
        ("/fine", "a.test", 200),
        ("/fine", "A.Test.:99", 200),
        ("/none", "a.test", 404),
        ("/fine", "b.test", 404),
        ("/weightless", "a.test", 500),
        ("/invalid", "a.test", 500),
        ("/fails", "a.test", 500),
        ("/nobody", "a.test", 503),
        ("/dead", "a.test", 502),
        ("/fine", "a.test", 200),
    ] {
        let (head, body) = client.get(path, host);
        assert_eq!(status(&head), expected, "{path} {host}");
        let id = header(&head, "x-request-id").unwrap();
        if expected != 200 {
            assert!(body.contains(id) && body.contains(&expected.to_string()), "{body}");
            assert!(!body.contains("secret") && !body.contains("127.0.0.1"), "{body}");
            assert!(header(&head, "date").is_some());
        }
    }
    let metrics = edge::render_metrics(&running.registry);
    for line in [
        "cutwater_refusals_total{reason=\"no-route\"} 1",
        "cutwater_refusals_total{reason=\"no-listener\"} 1",
        "cutwater_refusals_total{reason=\"connect-failed\"} 1",
        "cutwater_connections 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

#[test]
fn bodies_as_asked() {
    let (_running, port) = fixture();
    let mut client = Peer::connect(port);
    for (accept, media, begins) in [
        ("text/html,*/*", "text/html; charset=utf-8", "<!doctype html>"),
        ("application/json", "application/json", "{\"status\":404,"),
        ("*/*", "text/plain; charset=utf-8", "404 Not Found\n"),
    ] {
        client.send(format!("GET /none HTTP/1.1\r\nHost: a.test\r\nAccept: {accept}\r\n\r\n"));
        let (head, body) = client.response();
        assert_eq!(header(&head, "content-type"), Some(media));
        assert!(body.starts_with(begins), "{body}");
    }
    client.send("HEAD /none HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let head = client.head();
    assert_eq!(status(&head), 404);
    assert_eq!(client.get("/fine", "a.test").1, "fine");
}

#[test]
fn messages_that_are_no_requests_end_the_connection() {
    let (_running, port) = fixture();
    let long = "x".repeat(9_000);
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(), 501),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", format!("x: {long}\r\n").repeat(4)), 431),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n".to_owned(), 501),
        (
            "POST /fine HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9999999999999\r\n\r\n"
                .to_owned(),
            413,
        ),
        (
            "POST /fine HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
                .to_owned(),
            400,
        ),
    ] {
        let mut client = Peer::connect(port);
        client.send(&bytes);
        let (head, body) = client.response();
        assert_eq!(status(&head), expected, "{bytes:.60}");
        assert_eq!(header(&head, "connection"), Some("close"));
        assert!(body.contains(header(&head, "x-request-id").unwrap()));
        assert!(client.is_closed());
    }
}

#[test]
fn redirects_and_rewrites_and_edits() {
    let origin = Origin::start(echo_heads);
    let port = free_port();
    let redirect = |path, status| {
        Action::Redirect(Redirect {
            scheme: None,
            hostname: Some("new.test".into()),
            port: None,
            path,
            status,
        })
    };
    let mut edits = forward("edits", "/edits", "a");
    edits.request_headers = HeaderEdits {
        set: vec![("X-Set".into(), "new".into()), ("host".into(), "set.test".into())],
        add: vec![("x-add".into(), "2".into())],
        remove: vec!["x-gone".into()],
    };
    edits.response_headers = HeaderEdits {
        set: vec![("server".into(), "ours".into())],
        add: vec![],
        remove: vec!["x-inside".into(), "content-length".into()],
    };
    let mut rewrite = forward("rewrite", "/old", "a");
    rewrite.rewrite = Rewrite {
        hostname: Some("Inside.test".into()),
        path: Some(PathRewrite::ReplacePrefix("/new".into())),
    };
    let rules = vec![
        rule("moved", "/moved", redirect(Some(PathRewrite::ReplacePrefix("/there".into())), 308)),
        rule("plain", "/plain", redirect(None, 302)),
        edits,
        rewrite,
    ];
    let listeners = vec![listener(port, Protocol::Http, "", rules)];
    let _running = Running::start(listeners, &facts(&[("a", &[origin.address])]));
    let mut client = Peer::connect(port);
    let (head, body) = client.get("/moved/x?q=1", "a.test");
    let expected = format!("http://new.test:{port}/there/x?q=1");
    assert_eq!((status(&head), header(&head, "location")), (308, Some(expected.as_str())));
    assert!(body.is_empty() && header(&head, "x-request-id").is_some());
    assert_eq!(status(&client.get("/plain", "a.test").0), 302);
    client
        .send("GET /edits HTTP/1.1\r\nHost: a.test\r\nX-Set: old\r\nX-Add: 1\r\nX-Gone: y\r\n\r\n");
    let (head, seen) = client.response();
    assert_eq!((header(&head, "server"), header(&seen, "host")), (Some("ours"), Some("set.test")));
    assert_eq!((header(&seen, "x-set"), header(&seen, "x-gone")), (Some("new"), None));
    assert_eq!(seen.to_ascii_lowercase().matches("\r\nx-add: ").count(), 2);
    let (_, seen) = client.get("/old/%41/b?x", "a.test");
    assert!(seen.starts_with("GET /new/A/b?x HTTP/1.1\r\n"), "{seen}");
    assert_eq!(header(&seen, "host"), Some("Inside.test").map(|_| "inside.test"));
    assert_eq!(header(&seen, "x-forwarded-host"), Some("a.test"));
}

#[test]
fn responses_that_are_none_are_502_before_the_head_and_cut_off_after_it() {
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        match head.split(' ').nth(1) {
            Some("/close") => {}
            Some("/garbage") => peer.send("no http\r\n\r\n"),
            Some("/half-head") => peer.send("HTTP/1.1 200 OK\r\nx: y"),
            Some("/both") => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
            Some("/unasked") => peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
            Some("/short") => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
            Some("/chunk") => peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"),
            _ => peer.send(ok("fine")),
        }
    });
    for path in ["/close", "/garbage", "/half-head", "/both", "/unasked"] {
        let mut client = Peer::connect(port);
        assert_eq!(status(&client.get(path, "a").0), 502, "{path}");
        assert_eq!(client.get("/", "a").1, "fine");
    }
    for path in ["/short", "/chunk"] {
        let mut client = Peer::connect(port);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(status(&client.head()), 200);
        let body = client.rest();
        assert!(body.contains("abc") && !body.ends_with("0\r\n\r\n"), "{body}");
    }
}

#[test]
fn a_kept_connection_that_the_origin_closed_is_not_held_against_the_request() {
    let (_running, port) = one_origin(|peer| {
        peer.head();
        peer.send(ok("once"));
        thread::sleep(Duration::from_millis(30));
    });
    let mut client = Peer::connect(port);
    for _ in 0..5 {
        assert_eq!(client.get("/", "a").1, "once");
        thread::sleep(Duration::from_millis(20));
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        let first = status(&client.response().0);
        assert!(first == 200 || first == 502, "{first}");
        thread::sleep(Duration::from_millis(60));
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.response().1, "once", "a closed connection is seen before it is used");
        thread::sleep(Duration::from_millis(60));
    }
}

#[test]
fn another_endpoint_is_tried_when_one_does_not_accept() {
    let origin = Origin::start(says("alive"));
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![forward("all", "/", "a")])];
    let _running = Running::start(listeners, &facts(&[("a", &[dead, origin.address])]));
    let mut client = Peer::connect(port);
    for _ in 0..6 {
        assert_eq!(client.get("/", "a").1, "alive");
    }
}

#[test]
fn route_timeouts_are_504_before_the_head_and_cut_off_after_it() {
    let origin = Origin::start(|peer| {
        let head = peer.head();
        if head.contains("/body") {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
        }
        thread::sleep(Duration::from_secs(3));
        peer.send(ok("late"));
    });
    let port = free_port();
    let limit = Some(Duration::from_millis(200));
    let mut request = forward("request", "/request", "a");
    request.timeouts.request = limit;
    let mut backend = forward("backend", "/backend", "a");
    backend.timeouts = Timeouts { request: Some(Duration::from_secs(60)), backend_request: limit };
    let listeners = vec![listener(port, Protocol::Http, "", vec![request, backend])];
    let running = Running::start(listeners, &facts(&[("a", &[origin.address])]));
    for path in ["/request", "/backend"] {
        let mut client = Peer::connect(port);
        let start = Instant::now();
        assert_eq!(status(&client.get(path, "a").0), 504, "{path}");
        assert!(
            start.elapsed() >= Duration::from_millis(200)
                && start.elapsed() < Duration::from_secs(2)
        );
        client.send(format!("GET {path}/body HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(status(&client.head()), 200);
        assert_eq!(client.rest(), "abc");
        assert!(start.elapsed() < Duration::from_secs(3));
    }
    // As docs/access-log.md has it: both are times that the route asks for.
    let metrics = edge::render_metrics(&running.registry);
    for (reason, count) in [("route-timeout", 2), ("backend-timeout", 0)] {
        let sample = format!("cutwater_refusals_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.lines().any(|line| line == sample), "{sample}");
    }
}

#[test]
fn facts_change_without_a_new_plan() {
    let (first, second) = (Origin::start(says("first")), Origin::start(says("second")));
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![forward("all", "/", "a")])];
    let running = Running::start(listeners, &Facts::default());
    let mut client = Peer::connect(port);
    assert_eq!(status(&client.get("/", "a").0), 503);
    for (origin, expected) in [(&first, "first"), (&second, "second")] {
        running.set(running.views.current().with_facts(&facts(&[("a", &[origin.address])])));
        assert_eq!(client.get("/", "a").1, expected);
    }
}

#[test]
fn weights_are_kept() {
    let origins = ["a", "b", "c"].map(|name| (name, Origin::start(says(name))));
    let port = free_port();
    let backends = vec![to("a", 7), to("b", 2), to("c", 1), to("none", 0)];
    let listeners =
        vec![listener(port, Protocol::Http, "", vec![rule("all", "/", Action::Forward(backends))])];
    let addresses = origins.each_ref().map(|(name, origin)| (*name, [origin.address]));
    let services = addresses.each_ref().map(|(name, address)| (*name, address.as_slice()));
    let _running = Running::start(listeners, &facts(&services));
    let mut client = Peer::connect(port);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..200 {
        *counts.entry(client.get("/", "a").1).or_insert(0i32) += 1;
    }
    for (name, expected) in [("a", 140), ("b", 40), ("c", 20)] {
        assert!((counts[name] - expected).abs() <= 4, "{counts:?}");
    }
}
