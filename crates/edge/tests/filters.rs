//! Filters of rules end to end: CORS, edits of backends, mirrors, sessions.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::edge::*;
use model::traffic::{Carrier, Cors, Mirror, Names, OriginPattern, Persistence};
use std::time::Duration;

/// An edge with one rule for everything.
fn serving(rule: Rule, services: &[(&str, &[std::net::SocketAddr])]) -> (Running, u16) {
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    (Running::start(listeners, &facts(services)), port)
}

fn lines<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let values = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    values.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
}

fn set(name: &str, value: &str) -> HeaderEdits {
    HeaderEdits { set: vec![(name.into(), value.into())], ..HeaderEdits::default() }
}

fn cors() -> Cors {
    Cors {
        origins: vec![OriginPattern::Exact("https://shop.test".into())],
        allow_credentials: true,
        methods: Names::Listed(vec!["GET".into(), "PUT".into()]),
        headers: Names::Any,
        expose: Names::Listed(vec!["x-total".into()]),
        max_age: Duration::from_secs(60),
    }
}

#[test]
fn a_preflight_is_answered_by_the_edge() {
    let origin = Origin::start(|_| panic!("a preflight is not for the origin"));
    let mut rule = forward("cors", "/", "a");
    rule.cors = Some(Box::new(cors()));
    rule.response_headers = set("x-edited", "yes");
    let (running, port) = serving(rule, &[("a", &[origin.address])]);
    let mut client = Peer::connect(port);
    for (asking, allowed) in [("https://shop.test", true), ("https://other.test", false)] {
        client.send(format!(
            "OPTIONS /a HTTP/1.1\r\nHost: a\r\nOrigin: {asking}\r\nAccess-Control-Request-Method: PUT\r\n\
             Access-Control-Request-Headers: x-token\r\n\r\n"
        ));
        let head = client.head();
        let of = |name: &str| header(&head, name);
        let (status, _) = (status(&head), assert_eq!(of("content-length"), None));
        assert_eq!((status, of("vary"), of("x-edited")), (204, Some("Origin"), Some("yes")));
        for (name, value) in [
            ("access-control-allow-origin", asking),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "x-token"),
            ("access-control-expose-headers", "x-total"),
            ("access-control-max-age", "60"),
        ] {
            assert_eq!(of(name), allowed.then_some(value), "{name}");
        }
    }
    let name = "cutwater_requests_total{route=\"HTTPRoute test/any-";
    eventually(|| {
        let metrics = edge::render_metrics(&running.registry);
        let is_counted = |l: &str| l.starts_with(name) && l.ends_with("class=\"2xx\"} 2");
        metrics.lines().any(is_counted)
    });
}

#[test]
fn other_requests_get_lines_of_cors_instead_of_the_origins() {
    let origin = Origin::start(|peer| {
        while !peer.head().is_empty() {
            peer.send(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nVary: Accept\r\nAccess-Control-Allow-Origin: *\r\n\
                 Access-Control-Allow-Methods: DELETE\r\n\r\nok",
            );
        }
    });
    let mut rule = forward("cors", "/", "a");
    rule.cors = Some(Box::new(cors()));
    rule.response_headers = set("Access-Control-Allow-Origin", "https://edited.test");
    let (_running, port) = serving(rule, &[("a", &[origin.address])]);
    let mut client = Peer::connect(port);
    for (line, allowed) in [
        ("Origin: https://shop.test\r\n", vec!["https://shop.test"]),
        ("Origin: https://other.test\r\n", vec![]),
        ("", vec![]),
    ] {
        client.send(format!("GET /a HTTP/1.1\r\nHost: a\r\n{line}\r\n"));
        let (head, body) = client.response();
        assert_eq!((status(&head), body.as_str()), (200, "ok"));
        assert_eq!(lines(&head, "access-control-allow-origin"), allowed, "{line}");
        assert_eq!(lines(&head, "vary"), ["Accept", "Origin"]);
        assert_eq!(header(&head, "access-control-allow-methods"), None);
    }
}

#[test]
fn answers_of_the_edge_may_be_read_by_scripts_too() {
    let redirect = Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };
    let fail = Action::Fail { status: 500, why: "why".into(), message: "message".into() };
    for (action, expected) in [
        (Action::Forward(vec![to("nobody", 1)]), 503),
        (Action::Redirect(redirect), 302),
        (fail, 500),
    ] {
        let mut rule = rule("cors", "/", action);
        rule.cors = Some(Box::new(cors()));
        let (_running, port) = serving(rule, &[]);
        let mut client = Peer::connect(port);
        client.send("GET /a HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.test\r\n\r\n");
        let (head, _) = client.response();
        let allowed = header(&head, "access-control-allow-origin");
        assert_eq!((status(&head), allowed), (expected, Some("https://shop.test")));
    }
}

#[test]
fn a_backend_edits_after_its_rule() {
    let origin = Origin::start(echo_heads);
    let edits = BackendEdits {
        request_headers: HeaderEdits {
            set: vec![("x-both".into(), "backend".into())],
            add: vec![("x-more".into(), "backend".into())],
            remove: vec!["x-rule".into()],
        },
        response_headers: set("x-from", "a"),
        rewrite: Rewrite {
            hostname: Some("backend.test".into()),
            path: Some(PathRewrite::ReplacePrefix("/new".into())),
        },
    };
    let backend = |weight, name: &str| to(name, weight);
    let edited = Backend { edits: Some(Box::new(edits)), ..backend(1, "a") };
    let mut rule = rule("edits", "/old", Action::Forward(vec![edited, backend(1, "b")]));
    rule.request_headers = HeaderEdits {
        set: vec![("x-both".into(), "rule".into()), ("x-rule".into(), "rule".into())],
        ..HeaderEdits::default()
    };
    rule.response_headers = set("x-from", "rule");
    let address = origin.address;
    let (_running, port) = serving(rule, &[("a", &[address]), ("b", &[address])]);
    let mut client = Peer::connect(port);
    let mut seen = [0, 0];
    for _ in 0..10 {
        let (head, body) = client.get("/old/x?q=1", "shop.test");
        let of = |name: &str| lines(&body, name);
        if header(&head, "x-from") == Some("a") {
            seen[0] += 1;
            assert!(body.starts_with("GET /new/x?q=1 HTTP/1.1\r\n"), "{body}");
            assert_eq!((of("host"), of("x-both")), (vec!["backend.test"], vec!["backend"]));
            assert_eq!((of("x-more"), of("x-rule")), (vec!["backend"], vec![]));
        } else {
            seen[1] += 1;
            assert!(body.starts_with("GET /old/x?q=1 HTTP/1.1\r\n"), "{body}");
            assert_eq!((of("host"), of("x-both")), (vec!["shop.test"], vec!["rule"]));
            assert_eq!((of("x-more"), of("x-rule")), (vec![], vec!["rule"]));
        }
    }
    assert_eq!(seen, [5, 5]);
}

fn mirror(name: &str, numerator: u32, denominator: u32) -> Mirror {
    Mirror { backend: to(name, 1), numerator, denominator }
}

fn mirrored(running: &Running, result: &str) -> u64 {
    let metrics = edge::render_metrics(&running.registry);
    let name = format!("cutwater_mirrored_requests_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// Answers requests with `ok` when their body is whole, and tells of each head and body.
fn telling() -> (Origin, std::sync::mpsc::Receiver<(String, String)>) {
    let (tell, told) = channel();
    let origin = Origin::start(move |peer| {
        loop {
            let head = peer.head();
            if head.is_empty() {
                return;
            }
            let body = match header(&head, "transfer-encoding") {
                Some(_) => peer.until("0\r\n") + &peer.until("\r\n"),
                None => {
                    let length = header(&head, "content-length").unwrap_or("0").parse().unwrap();
                    text(peer.count(length))
                }
            };
            tell((head, body));
            peer.send(ok("ok"));
        }
    });
    (origin, told)
}

#[test]
fn every_mirror_gets_the_request_and_its_answer_is_dropped() {
    let (origin, seen) = telling();
    let (mirror_a, seen_a) = telling();
    let (mirror_b, seen_b) = telling();
    let mut rule = forward("mirrored", "/", "a");
    rule.request_headers = set("x-rule", "1");
    let edits = BackendEdits { request_headers: set("x-mirror", "b"), ..BackendEdits::default() };
    let edited = Backend { edits: Some(Box::new(edits)), ..to("mb", 1) };
    rule.mirrors = vec![mirror("ma", 1, 1), Mirror { backend: edited, ..mirror("mb", 1, 1) }];
    let services: [(&str, &[std::net::SocketAddr]); 3] =
        [("a", &[origin.address]), ("ma", &[mirror_a.address]), ("mb", &[mirror_b.address])];
    let (running, port) = serving(rule, &services);
    let mut client = Peer::connect(port);
    let long = "x".repeat(40_000);
    for (framing, body, arrives) in [
        ("", String::new(), String::new()),
        ("Content-Length: 5\r\n", "hello".to_owned(), "hello".to_owned()),
        ("Content-Length: 40000\r\n", long.clone(), long),
        (
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n".to_owned(),
            "3\r\nabc\r\n0\r\nX-Sum: 3\r\n".to_owned(),
        ),
    ] {
        client.send(format!("POST /p?q HTTP/1.1\r\nHost: a\r\n{framing}\r\n{body}"));
        let (head, answer) = client.response();
        assert_eq!((status(&head), answer.as_str()), (200, "ok"));
        let (real, body) = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(body, arrives);
        let (copy, body) = seen_a.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&copy, &body), (&real, &arrives), "a copy is what the origin got");
        assert_eq!(header(&copy, "x-rule"), Some("1"));
        let (copy, body) = seen_b.recv_timeout(PATIENCE).unwrap();
        assert_eq!((header(&copy, "x-mirror"), body), (Some("b"), arrives));
    }
    eventually(|| mirrored(&running, "sent") == 8);
    assert_eq!(mirrored(&running, "failed"), 0);
}

#[test]
fn a_mirror_that_fails_or_hangs_changes_nothing() {
    let (origin, _seen) = telling();
    let hangs = Origin::start(|peer| while peer.more() {});
    let gone = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut rule = forward("mirrored", "/", "a");
    rule.mirrors = ["hangs", "gone", "none"].map(|name| mirror(name, 1, 1)).to_vec();
    let services: [(&str, &[std::net::SocketAddr]); 3] =
        [("a", &[origin.address]), ("hangs", &[hangs.address]), ("gone", &[gone])];
    let (running, port) = serving(rule, &services);
    let mut client = Peer::connect(port);
    for _ in 0..3 {
        let (head, body) = client.get("/", "a");
        assert_eq!((status(&head), body.as_str()), (200, "ok"));
    }
    eventually(|| mirrored(&running, "failed") == 3);
    assert_eq!((mirrored(&running, "no-endpoint"), mirrored(&running, "sent")), (3, 0));
}

#[test]
fn bodies_that_are_too_large_or_never_whole_are_not_mirrored() {
    let (origin, _seen) = telling();
    let (copy, seen) = telling();
    let mut rule = forward("mirrored", "/", "a");
    rule.mirrors = vec![mirror("m", 1, 1)];
    let services: [(&str, &[std::net::SocketAddr]); 2] =
        [("a", &[origin.address]), ("m", &[copy.address])];
    let (running, port) = serving(rule, &services);
    let mut client = Peer::connect(port);
    let length = 64 * 1024 + 1;
    let body = "x".repeat(length);
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
    assert_eq!(status(&client.response().0), 200);
    assert_eq!(mirrored(&running, "too-large"), 1);
    let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
    assert_eq!(status(&client.response().0), 200);
    assert_eq!(mirrored(&running, "too-large"), 2);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    drop(client);
    eventually(|| mirrored(&running, "incomplete") == 1);
    assert!(seen.try_recv().is_err(), "no part of it was sent");
}

#[test]
fn a_fraction_of_requests_is_mirrored() {
    let (origin, _seen) = telling();
    let (copy, seen) = telling();
    let mut rule = forward("mirrored", "/", "a");
    rule.mirrors = vec![mirror("m", 25, 100)];
    let services: [(&str, &[std::net::SocketAddr]); 2] =
        [("a", &[origin.address]), ("m", &[copy.address])];
    let (running, port) = serving(rule, &services);
    let mut client = Peer::connect(port);
    (0..200).for_each(|_| assert_eq!(client.get("/", "a").1, "ok"));
    eventually(|| mirrored(&running, "sent") >= 48);
    let count = seen.try_iter().count();
    assert!((48..=52).contains(&count), "{count} of 200");
}

fn persistence(carrier: Carrier) -> Option<Box<Persistence>> {
    Some(Box::new(Persistence {
        carrier,
        name: "cw-session".into(),
        absolute_timeout: None,
        idle_timeout: None,
    }))
}

/// Origins that say their number.
fn numbered(bodies: &[&'static str]) -> Vec<std::net::SocketAddr> {
    bodies.iter().map(|body| Origin::start(says(body)).address).collect()
}

fn with_cookie(client: &mut Peer, cookie: &str) -> (String, String) {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; {cookie}\r\n\r\n"));
    client.response()
}

/// The pair of a Set-Cookie field.
fn cookie(head: &str) -> &str {
    header(head, "set-cookie").unwrap().split(';').next().unwrap()
}

#[test]
fn a_session_stays_at_its_endpoint_whatever_the_weights_and_the_snapshot() {
    let (stable, canary) = (numbered(&["s1", "s2", "s3"]), numbered(&["c1", "c2"]));
    let backends =
        |stable, canary| Action::Forward(vec![to("stable", stable), to("canary", canary)]);
    let rule_of = |action| {
        let mut rule = rule("sticky", "/", action);
        rule.persistence = persistence(Carrier::SessionCookie);
        rule
    };
    let facts = facts(&[("stable", stable.as_slice()), ("canary", canary.as_slice())]);
    let port = free_port();
    let listeners = |rule| vec![listener(port, Protocol::Http, "", vec![rule])];
    let plan = snapshot(listeners(rule_of(backends(50, 50))), Default::default());
    let running = Running::start_with(plan, &facts, Default::default(), 2);
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let (head, body) = Peer::connect(port).get("/", "a");
        let line = header(&head, "set-cookie").unwrap();
        assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{line}");
        sessions.push((cookie(&head).to_owned(), body));
    }
    let at_canary = sessions.iter().filter(|(_, body)| body.starts_with('c')).count();
    assert!((1..12).contains(&at_canary), "{sessions:?}");
    for weights in [(50, 50), (1, 99), (100, 0)] {
        running.publish(listeners(rule_of(backends(weights.0, weights.1))), &facts);
        for (cookie, expected) in &sessions {
            let (head, body) = with_cookie(&mut Peer::connect(port), cookie);
            assert_eq!((&body, header(&head, "set-cookie")), (expected, None), "{weights:?}");
        }
    }
}

#[test]
fn a_session_without_its_endpoint_begins_again_elsewhere() {
    let endpoints = numbered(&["1", "2"]);
    let mut rule = forward("sticky", "/", "a");
    rule.persistence = persistence(Carrier::SessionCookie);
    let (running, port) = serving(rule.clone(), &[("a", &endpoints)]);
    let mut client = Peer::connect(port);
    let (head, first) = client.get("/", "a");
    let first_cookie = cookie(&head).to_owned();
    let left = if first == "1" { 1 } else { 0 };
    let remaining = facts(&[("a", &endpoints[left..=left])]);
    running.publish(vec![listener(port, Protocol::Http, "", vec![rule])], &remaining);
    let (head, second) = with_cookie(&mut client, &first_cookie);
    assert_ne!(second, first);
    let second_cookie = cookie(&head).to_owned();
    let (head, body) = with_cookie(&mut client, &second_cookie);
    assert_eq!((body, header(&head, "set-cookie")), (second, None));
    let (head, _) = with_cookie(&mut client, "cw-session=forged");
    assert!(header(&head, "set-cookie").is_some());
}

#[test]
fn the_session_is_at_the_endpoint_that_answered() {
    let gone = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let alive = numbered(&["alive"])[0];
    let mut rule = forward("sticky", "/", "a");
    rule.persistence = persistence(Carrier::Header);
    let (_running, port) = serving(rule, &[("a", &[gone, alive])]);
    for _ in 0..4 {
        let mut client = Peer::connect(port);
        let (head, body) = client.get("/", "a");
        assert_eq!(body, "alive");
        let [token] = lines(&head, "cw-session")[..] else { panic!("one line: {head}") };
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCW-Session: {token}\r\n\r\n"));
        let (head, body) = client.response();
        assert_eq!((body.as_str(), header(&head, "cw-session")), ("alive", None));
    }
}

#[test]
fn an_answer_of_the_edge_begins_no_session() {
    let gone = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut rule = forward("sticky", "/", "a");
    rule.persistence = persistence(Carrier::SessionCookie);
    let (_running, port) = serving(rule, &[("a", &[gone])]);
    let (head, _) = Peer::connect(port).get("/", "a");
    assert_eq!((status(&head), header(&head, "set-cookie")), (502, None));
}

/// Sends one request by HTTP/2 and gives the response's status, header fields and body.
fn by_http2(port: u16, request: http::Request<()>, body: &'static [u8]) -> http::Response<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exchange = async {
        let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let (response, mut stream) = send.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(bytes::Bytes::from_static(body), true).unwrap();
        }
        let (parts, mut stream) = response.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.data().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        http::Response::from_parts(parts, text(bytes))
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await.unwrap() })
}

#[test]
fn all_of_it_holds_for_http2() {
    let (origin, _seen) = telling();
    let (copy, copies) = telling();
    let mut rule = forward("http2", "/", "a");
    rule.cors = Some(Box::new(cors()));
    rule.persistence = persistence(Carrier::Header);
    rule.mirrors = vec![mirror("m", 1, 1)];
    let services: [(&str, &[std::net::SocketAddr]); 2] =
        [("a", &[origin.address]), ("m", &[copy.address])];
    let (_running, port) = serving(rule, &services);
    let request = |method: &str| {
        let request = http::Request::builder().method(method).uri("http://a.test/x");
        request.header("origin", "https://shop.test")
    };
    let preflight = request("OPTIONS").header("access-control-request-method", "PUT");
    let response = by_http2(port, preflight.body(()).unwrap(), b"");
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-methods"], "GET, PUT");
    assert!(!response.headers().contains_key("cw-session"), "no endpoint was asked");
    let response = by_http2(port, request("PUT").body(()).unwrap(), b"hello");
    assert_eq!((response.status().as_u16(), response.body().as_str()), (200, "ok"));
    assert_eq!(response.headers()["access-control-allow-origin"], "https://shop.test");
    let token = response.headers()["cw-session"].clone();
    let (_, body) = copies.recv_timeout(PATIENCE).unwrap();
    assert!(body.contains("hello"), "{body}");
    let again = request("GET").header("cw-session", token).body(()).unwrap();
    assert!(!by_http2(port, again, b"").headers().contains_key("cw-session"));
}

#[test]
fn a_session_outlives_the_edge_by_its_key() {
    let endpoints = numbered(&["1", "2", "3", "4"]);
    let port = free_port();
    let mut rule = forward("sticky", "/", "a");
    rule.persistence = persistence(Carrier::SessionCookie);
    let plan = snapshot(
        vec![listener(port, Protocol::Http, "", vec![rule])],
        model::certificates::CertificatePlan::default(),
    );
    let started = |key: [u8; edge::SESSION_KEY_BYTES]| {
        let registry = edge::Registry::new(1).with_session_key(&key);
        let (facts, keys) = (facts(&[("a", &endpoints)]), edge::KeyTable::default());
        let view = edge::EdgeView::build(&plan, &facts, &keys, &registry, None);
        let views = publish::Cell::new(std::sync::Arc::new(view));
        let bind = std::net::Ipv4Addr::LOCALHOST.into();
        let config = edge::Config { bind, port_offset: 0, workers: 1 };
        edge::Edge::start(config, &views, &registry, |_| None).unwrap()
    };
    let edge = started([1; edge::SESSION_KEY_BYTES]);
    let (head, first) = Peer::connect(port).get("/", "a");
    let first_cookie = cookie(&head).to_owned();
    drop(edge);
    for (key, is_kept) in [(1, true), (2, false)] {
        let _edge = started([key; edge::SESSION_KEY_BYTES]);
        for _ in 0..3 {
            let (head, body) = with_cookie(&mut Peer::connect(port), &first_cookie);
            assert_eq!(header(&head, "set-cookie").is_none(), is_kept);
            assert!(!is_kept || body == first);
        }
    }
}
