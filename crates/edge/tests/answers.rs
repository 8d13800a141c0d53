//! What the edge answers by the word of a policy: pages, maintenance, limits of a route and of a port.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]
#![allow(clippy::needless_update, reason = "a policy may say more than these tests are about")]

mod common;

use common::*;
use model::answers::*;
use model::edge::{Action, Backend, Listener, Protocol, Rule};
use model::fallback::{Fallback, StaticResponse};
use model::front::{ListenerPolicy, RulePolicy};
use model::network::Network;
use model::traffic::Retry;
use model::{Kind, Node, ObjectId};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

fn policy() -> ObjectId {
    ObjectId::new(Kind::EDGE_POLICY, "test", "policy")
}

fn page(statuses: RangeInclusive<u16>, content_type: &str, text: &str) -> ErrorPage {
    let body = PageBody { content_type: content_type.into(), text: text.into() };
    ErrorPage { statuses: vec![statuses], intercept: false, content: PageContent::Body(body) }
}

fn page_of(statuses: RangeInclusive<u16>, service: &str) -> ErrorPage {
    let service = PageService { backend: to(service, 1), path: "/page?q".into(), policy: policy() };
    let content = PageContent::Service(Box::new(service));
    ErrorPage { statuses: vec![statuses], intercept: false, content }
}

fn intercepting(page: ErrorPage) -> ErrorPage {
    ErrorPage { intercept: true, ..page }
}

fn with(answers: Answers) -> Option<Node<RulePolicy>> {
    Some(Node::new(RulePolicy { answers: Some(Box::new(answers)), ..RulePolicy::default() }))
}

fn pages(pages: Vec<ErrorPage>) -> Answers {
    Answers { pages, ..Answers::default() }
}

/// To the backend `a`, with these answers.
fn answering(prefix: &str, answers: Answers) -> Rule {
    Rule { policy: with(answers), ..forward(&format!("r{}", prefix.len()), prefix, "a") }
}

fn plain(port: u16, rules: Vec<Rule>) -> Listener {
    listener(port, Protocol::Http, "", rules)
}

#[test]
fn refusals_have_the_page_of_their_rule_and_their_own_status() {
    let port = free_port();
    let of_rule = pages(vec![
        page(503..=503, "text/html", "<p>{status} {request-id}</p>"),
        page(500..=599, "application/json", "{\"id\":\"{request-id}\"}"),
    ]);
    let unmatched = pages(vec![page(404..=404, "text/plain", "nothing here")]);
    let listener = Listener {
        unmatched: with(unmatched),
        ..plain(port, vec![answering("/a", of_rule), forward("other", "/other", "a")])
    };
    let _running = Running::start(vec![listener], &facts(&[("a", &[])]));
    let mut client = Peer::connect(port);
    let (head, body) = client.get("/a", "h");
    let id = header(&head, "x-request-id").unwrap();
    assert_eq!((status(&head), header(&head, "content-type")), (503, Some("text/html")));
    assert_eq!(header(&head, "cache-control"), Some("no-store"));
    assert_eq!(body, format!("<p>503 {id}</p>"));
    client.send("GET /a HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n");
    let (head, body) = client.response();
    let id = header(&head, "x-request-id").unwrap();
    assert_eq!((status(&head), body), (503, format!("{{\"id\":\"{id}\"}}")));
    // A rule without pages, and requests without a rule.
    let (head, body) = client.get("/other", "h");
    assert_eq!(status(&head), 503);
    assert!(body.starts_with("503 Service Unavailable\n"), "{body}");
    let (head, body) = client.get("/nowhere", "h");
    assert_eq!((status(&head), &*body), (404, "nothing here"));
    // HEAD has the head alone, and gRPC no pages.
    client.send("HEAD /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.head();
    assert_eq!((status(&head), header(&head, "content-length")), (404, Some("12")));
    client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto\r\n\r\n");
    let (head, _) = client.response();
    assert_eq!((status(&head), header(&head, "grpc-status")), (200, Some("14")));
    // Others still are served on the connection.
    assert_eq!(client.get("/nowhere", "h").1, "nothing here");
}

/// What a policy declares for a backend without endpoints is a page like the others.
#[test]
fn a_declared_answer_has_its_page_or_no_content() {
    let port = free_port();
    let declares = |prefix: &str, status: u16| {
        let text = "<p>{status} {request-id}</p>".into();
        let page = PageBody { content_type: "text/html".into(), text };
        let response = Some(StaticResponse { status, page });
        let fallback = Some(Node::new(Fallback { tiers: Vec::new(), response }));
        let backend = Backend { fallback, ..to("a", 1) };
        rule(&format!("r{status}"), prefix, Action::Forward(vec![backend]))
    };
    let statuses = [("/a", 503), ("/b", 204), ("/c", 205), ("/d", 304)];
    let rules = statuses.iter().map(|(prefix, status)| declares(prefix, *status)).collect();
    let _running = Running::start(vec![plain(port, rules)], &facts(&[("a", &[])]));
    let mut client = Peer::connect(port);
    for (path, expected) in statuses {
        let (head, body) = client.get(path, "h");
        assert_eq!(status(&head), expected);
        let length = header(&head, "content-length");
        if expected == 503 {
            let id = header(&head, "x-request-id").unwrap();
            assert_eq!(body, format!("<p>503 {id}</p>"));
            assert_eq!(header(&head, "content-type"), Some("text/html"));
        } else {
            assert_eq!(length, (expected == 205).then_some("0"), "{expected}");
            assert_eq!(header(&head, "content-type"), None);
        }
    }
}

#[test]
fn maintenance_turns_away_and_is_live_on_change() {
    let origin = Origin::start(says("fine"));
    let known = facts(&[("a", &[origin.address])]);
    let port = free_port();
    let closed = |allow: &[&str], body: Option<&str>| {
        let page = |text: &str| PageBody { content_type: "text/plain".into(), text: text.into() };
        let maintenance = Maintenance {
            retry_after: Some(Duration::from_secs(90)),
            allow: allow.iter().map(|text| Network::parse(text).unwrap()).collect(),
            body: body.map(page),
            policy: policy(),
        };
        let answers = Answers { maintenance: Some(maintenance), ..Answers::default() };
        Listener { unmatched: with(answers.clone()), ..plain(port, vec![answering("/a", answers)]) }
    };
    let running = Running::start(vec![plain(port, vec![forward("r2", "/a", "a")])], &known);
    let mut client = Peer::connect(port);
    assert_eq!(client.get("/a", "h").1, "fine");
    running.publish(vec![closed(&["10.0.0.0/8"], Some("back soon"))], &known);
    for path in ["/a", "/b"] {
        let (head, body) = client.get(path, "h");
        assert_eq!((status(&head), header(&head, "retry-after")), (503, Some("90")));
        assert_eq!(body, "back soon");
    }
    running.publish(vec![closed(&[], None)], &known);
    let (head, body) = client.get("/a", "h");
    assert_eq!((status(&head), header(&head, "retry-after")), (503, Some("90")));
    assert!(body.contains("closed for maintenance"), "{body}");
    running.publish(vec![closed(&["127.0.0.1"], None)], &known);
    assert_eq!(client.get("/a", "h").1, "fine");
}

/// Tells what it was asked, as a page.
fn asked_page(peer: &mut Peer) {
    loop {
        let head = peer.head();
        if head.is_empty() {
            return;
        }
        let body = if head.starts_with("HEAD") { "" } else { &*head };
        let length = head.len();
        let says = "content-type: text/x-page\r\nset-cookie: a=1";
        peer.send(format!("HTTP/1.1 200 OK\r\n{says}\r\ncontent-length: {length}\r\n\r\n{body}"));
    }
}

#[test]
fn a_service_gives_the_page_and_is_told_what_happened() {
    let service = Origin::start(asked_page);
    let port = free_port();
    let rule = answering("/a", pages(vec![page_of(400..=599, "pages")]));
    let unmatched = with(pages(vec![page_of(404..=404, "pages")]));
    let listener = Listener { unmatched, ..plain(port, vec![rule]) };
    let known = facts(&[("a", &[]), ("pages", &[service.address])]);
    let _running = Running::start(vec![listener], &known);
    let mut client = Peer::connect(port);
    client.send(
        "GET /a/b?c=d HTTP/1.1\r\nHost: shop.test\r\nAccept: text/html\r\nX-Code: 200\r\n\r\n",
    );
    let (head, asked) = client.response();
    assert_eq!((status(&head), header(&head, "content-type")), (503, Some("text/x-page")));
    assert!(asked.starts_with("GET /page?q HTTP/1.1\r\n"), "{asked}");
    for (name, value) in [
        ("host", "shop.test"),
        ("x-code", "503"),
        ("x-format", "text/html"),
        ("x-original-uri", "/a/b?c=d"),
        ("x-namespace", "test"),
        ("x-ingress-name", "r2"),
        ("x-service-name", "a"),
        ("x-service-port", "80"),
    ] {
        assert_eq!(header(&asked, name), Some(value), "{asked}");
    }
    assert_eq!(header(&asked, "x-request-id"), header(&head, "x-request-id"));
    // Without a rule nobody knows whose it would have been.
    let (head, asked) = client.get("/nowhere", "shop.test");
    assert_eq!((status(&head), header(&asked, "x-code")), (404, Some("404")));
    assert_eq!((header(&asked, "x-namespace"), header(&asked, "x-service-name")), (None, None));
    client.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&client.head()), 503);
    // What a client still sends is passed over or ends the connection: it is never taken for a request.
    client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    let (head, _) = client.response();
    assert_eq!(status(&head), 503);
}

#[test]
fn where_the_service_has_no_page_the_edge_answers_itself() {
    let port = free_port();
    let bad = [
        "HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
        "no HTTP at all\r\n\r\n",
        "",
    ];
    for answer in bad {
        let service = Origin::start(move |peer| {
            peer.head();
            peer.send(answer);
        });
        let listener = plain(port, vec![answering("/", pages(vec![page_of(503..=503, "pages")]))]);
        let known = facts(&[("a", &[]), ("pages", &[service.address])]);
        let running = Running::start(vec![listener], &known);
        let mut client = Peer::connect(port);
        let (head, body) = client.get("/", "h");
        assert_eq!(status(&head), 503, "{answer:?}");
        assert!(body.starts_with("503 Service Unavailable\nNo endpoint"), "{answer:?}: {body}");
        assert!(running.edge.drain(PATIENCE));
    }
}

#[test]
fn responses_give_way_to_pages_where_that_is_asked_for() {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&connections);
    let origin = Origin::start(move |peer| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loop {
            let head = peer.head();
            let Some(code) = head.split(' ').nth(1).and_then(|path| path.strip_prefix('/')) else {
                return;
            };
            let lines = "www-authenticate: Basic\r\nx-of-origin: 1\r\ncontent-length: 3";
            peer.send(format!("HTTP/1.1 {code} X\r\n{lines}\r\n\r\nown"));
        }
    });
    let port = free_port();
    let answers = pages(vec![
        intercepting(page(401..=404, "text/plain", "page {status}")),
        page(500..=599, "text/plain", "refused"),
    ]);
    let listener = plain(port, vec![answering("/", answers)]);
    let _running = Running::start(vec![listener], &facts(&[("a", &[origin.address])]));
    let mut client = Peer::connect(port);
    for (code, expected, authenticate) in [
        (200, "own", true),
        (401, "page 401", true),
        (404, "page 404", true),
        (410, "own", true),
        (500, "own", true),
        (404, "page 404", true),
    ] {
        let (head, body) = client.get(&format!("/{code}"), "h");
        assert_eq!((status(&head), &*body), (code, expected));
        assert_eq!(header(&head, "www-authenticate").is_some(), authenticate);
        assert_eq!(header(&head, "x-of-origin").is_some(), expected == "own");
    }
    client.send("POST /404 HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc\r\n\r\n");
    assert_eq!(client.response().1, "own");
    assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1, "kept all the while");
}

#[test]
fn a_page_has_every_line_that_still_holds_and_none_of_an_attempt_before() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |peer| {
        while !peer.head().is_empty() {
            let lines = match count.fetch_add(1, SeqCst) {
                0 => "503 X\r\nretry-after: 9\r\nwww-authenticate: Old",
                1 => "401 X\r\nWWW-Authenticate: Basic\r\nallow: GET\r\nwww-authenticate: Bearer",
                2 => "503 X\r\nretry-after: 9",
                // No response.
                _ => return,
            };
            peer.send(format!("HTTP/1.1 {lines}\r\ncontent-length: 3\r\n\r\nown"));
        }
    });
    let port = free_port();
    let answers = pages(vec![intercepting(page(400..=599, "text/plain", "page {status}"))]);
    let mut rule = answering("/", answers);
    rule.retry = Some(Box::new(Retry {
        attempts: 1,
        codes: vec![503],
        backoff: None,
        per_try_timeout: None,
        hedge_after: None,
    }));
    let _running =
        Running::start(vec![plain(port, vec![rule])], &facts(&[("a", &[origin.address])]));
    let mut client = Peer::connect(port);
    let held = |head: &str| {
        let names = ["allow", "retry-after", "www-authenticate"];
        let is_held = |line: &&str| {
            line.split_once(':').is_some_and(|(name, _)| names.contains(&&*name.to_lowercase()))
        };
        head.lines().filter(is_held).map(str::to_lowercase).collect::<Vec<_>>()
    };
    let (head, body) = client.get("/", "h");
    assert_eq!(body, "page 401");
    assert_eq!(held(&head), ["www-authenticate: basic", "allow: get", "www-authenticate: bearer"]);
    let (head, body) = client.get("/", "h");
    assert_eq!((body.as_str(), held(&head)), ("page 502", vec![]));
}

#[test]
fn bodies_end_at_the_limit_of_their_rule() {
    let origin = Origin::start(|peer| {
        loop {
            let head = peer.head();
            match header(&head, "content-length") {
                Some(length) => drop(peer.count(length.parse().unwrap())),
                None if head.is_empty() => return,
                None => drop(peer.until("0\r\n\r\n")),
            }
            peer.send(ok("taken"));
        }
    });
    let port = free_port();
    let limits = RequestLimits { body_bytes: Some(10), ..RequestLimits::default() };
    let small = Answers { limits, ..pages(vec![page(413..=413, "text/plain", "too much")]) };
    let rules = vec![answering("/small", small), forward("large", "/large", "a")];
    let _running = Running::start(vec![plain(port, rules)], &facts(&[("a", &[origin.address])]));
    let post = |path: &str, length: usize| {
        let mut client = Peer::connect(port);
        let body = "b".repeat(length);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let (head, body) = client.response();
        (status(&head), body, client)
    };
    assert_eq!(post("/small", 10).1, "taken");
    assert_eq!(post("/large", 11).1, "taken");
    let (status_of, body, mut client) = post("/small", 11);
    assert_eq!((status_of, &*body), (413, "too much"));
    assert!(client.is_closed());
    // A length that is not announced is found when it is passed; the next rule on a connection has its own limit.
    let mut client = Peer::connect(port);
    let chunked = "HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\naaaaaa\r\n";
    client.send(format!("POST /large {chunked}6\r\nbbbbbb\r\n0\r\n\r\n"));
    assert_eq!(client.response().1, "taken");
    client.send(format!("POST /small {chunked}0\r\n\r\n"));
    assert_eq!(client.response().1, "taken");
    client.send(format!("POST /small {chunked}6\r\nbbbbbb\r\n0\r\n\r\n"));
    let (head, body) = client.response();
    assert_eq!((status(&head), &*body), (413, "too much"));
    assert!(client.is_closed());
}

fn rated(request: u32, response: u32, grace_ms: u64) -> Answers {
    let rates = Rates {
        request: NonZeroU32::new(request),
        response: NonZeroU32::new(response),
        grace: Duration::from_millis(grace_ms),
    };
    let limits = RequestLimits { rates: Some(rates), ..RequestLimits::default() };
    Answers { limits, ..Answers::default() }
}

#[test]
fn a_body_that_comes_too_slowly_ends_with_408() {
    let origin = Origin::start(|peer| {
        let head = peer.head();
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        peer.count(length);
        peer.send(ok("taken"));
    });
    let port = free_port();
    let listener = plain(port, vec![answering("/", rated(1_000, 0, 500))]);
    let _running = Running::start(vec![listener], &facts(&[("a", &[origin.address])]));
    // Far below the rate, and never still: a limit on stalls alone would not find it.
    let start = Instant::now();
    let mut slow = Peer::connect(port);
    slow.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    let mut sender = slow.stream.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        use std::io::Write;
        while sender.write_all(b"x").is_ok() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let (head, body) = slow.response();
    assert_eq!(status(&head), 408);
    assert!(body.contains("more slowly than is allowed"), "{body}");
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    drop(slow);
    dripping.join().unwrap();
    // Above the rate for longer than the grace lasts.
    let mut steady = Peer::connect(port);
    steady.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n");
    for _ in 0..10 {
        steady.send("y".repeat(500));
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(steady.response().1, "taken");
}

/// More than the kernel holds of an answer.
const LONG: usize = 8 << 20;

fn long_answers(peer: &mut Peer) {
    peer.head();
    peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n"));
    peer.send(vec![b'z'; LONG]);
}

#[test]
fn an_answer_that_is_taken_too_slowly_ends_with_a_reset() {
    let origin = Origin::start(long_answers);
    let port = free_port();
    let listener = plain(port, vec![answering("/", rated(0, 100_000, 500))]);
    let running = Running::start(vec![listener], &facts(&[("a", &[origin.address])]));
    let mut idle = Peer::connect(port);
    idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut reader = Peer::connect(port);
    reader.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&reader.head()), 200);
    assert_eq!(reader.count(LONG).len(), LONG);
    let refused = || {
        let text = edge::render_metrics(&running.registry);
        text.contains("cutwater_refusals_total{reason=\"response-rate\"} 1")
    };
    eventually(refused);
    // It reads what was sent before the reset, and not all.
    assert!(idle.rest().len() < LONG);
}

#[test]
fn limits_of_a_port_hold_before_a_name_is_known() {
    let origin = Origin::start(says("fine"));
    let port = free_port();
    let limits = ConnectionLimits {
        headers: Some(3),
        head_bytes: Some(2_000),
        target_bytes: Some(100),
        head_timeout: Some(Duration::from_millis(300)),
        idle_timeout: Some(Duration::from_millis(600)),
        streams: None,
    };
    let limited = Listener {
        policy: Some(Box::new(ListenerPolicy { limits, ..ListenerPolicy::default() })),
        ..plain(port, vec![forward("r", "/", "a")])
    };
    let _running = Running::start(vec![limited], &facts(&[("a", &[origin.address])]));
    let answer = |head: String| {
        let mut client = Peer::connect(port);
        client.send(head);
        status(&client.response().0)
    };
    let request =
        |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    assert_eq!(answer(request("/", "a: 1\r\nb: 2\r\n")), 200);
    assert_eq!(answer(request("/", "a: 1\r\nb: 2\r\nc: 3\r\n")), 431);
    assert_eq!(answer(request("/", &format!("a: {}\r\n", "x".repeat(2_000)))), 431);
    assert_eq!(answer(request(&format!("/{}", "x".repeat(100)), "")), 414);
    let start = Instant::now();
    assert_eq!(answer("GET / HT".to_owned()), 408);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let mut client = Peer::connect(port);
    assert_eq!(client.get("/", "h").1, "fine");
    let start = Instant::now();
    assert!(client.is_closed());
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_default_rule_of_a_fixed_status_has_a_page_too() {
    let port = free_port();
    let fails = Action::Fail { status: 500, why: "x".into(), message: "y".into() };
    let answers = pages(vec![page(500..=500, "text/plain", "ours")]);
    let rule = Rule { policy: with(answers), ..rule("r", "/", fails) };
    let _running = Running::start(vec![plain(port, vec![rule])], &facts(&[]));
    let (head, body) = Peer::connect(port).get("/", "h");
    assert_eq!((status(&head), &*body), (500, "ours"));
}
