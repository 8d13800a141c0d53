//! Backends that speak HTTP/2 in the clear: requests of both versions, gRPC's ways, shared connections, and what is tried
//! again.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use bytes::Bytes;
use common::*;
use http::{HeaderMap, Request};
use http2_origin::*;
use model::Node;
use model::edge::*;
use model::traffic::{
    Algorithm, BackendLimits, BackendPolicy, BackendProtocol, Balance, ConnectionPool, Retry,
};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// An edge in front of one such origin.
fn start(manner: Manner) -> (Running, u16, Http2Origin) {
    start_with(manner, |_| ())
}

fn start_with(manner: Manner, change: impl Fn(&mut Rule)) -> (Running, u16, Http2Origin) {
    let origin = Http2Origin::start(manner);
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let mut rule = rule_to(policy);
    change(&mut rule);
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    (Running::start(listeners, &facts(&[("a", &[origin.address])])), port, origin)
}

fn rule_to(policy: BackendPolicy) -> Rule {
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    rule("all", "/", Action::Forward(vec![backend]))
}

fn post(path: &str) -> Request<()> {
    let uri = format!("http://a.test{path}");
    Request::post(uri)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

fn failures(running: &Running, reason: &str) -> u64 {
    metric(running, "cutwater_upstream_failures_total", reason)
}

/// The sum of a family's samples that have a reason.
fn metric(running: &Running, family: &str, reason: &str) -> u64 {
    let text = edge::render_metrics(&running.registry);
    let wanted = format!("reason=\"{reason}\"");
    let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(&wanted));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn the_request_of_http1_in_the_form_of_http2() {
    let (_running, port, origin) = start(Manner::default());
    let mut peer = Peer::connect(port);
    for _ in 0..5 {
        peer.send(
            "GET /x/y?q=1 HTTP/1.1\r\nHost: a.test:81\r\nConnection: keep-alive, x-mine, te\r\nX-Mine: 1\r\n\
             TE: trailers\r\nUpgrade: other\r\nCookie: c=d\r\n\r\n",
        );
        let (head, seen) = peer.response();
        assert_eq!(status(&head), 200, "{head}");
        assert!(header(&head, "x-request-id").is_some() && header(&head, "date").is_some());
        assert!(seen.starts_with("GET http://a.test:81/x/y?q=1\n"), "{seen}");
        assert_eq!(header(&seen, "cookie"), Some("c=d"));
        assert_eq!(header(&seen, "te"), Some("trailers"));
        assert_eq!(header(&seen, "x-forwarded-proto"), Some("http"));
        for absent in ["connection", "host", "upgrade", "x-mine", "transfer-encoding"] {
            assert_eq!(header(&seen, absent), None, "{seen}");
        }
    }
    assert_eq!((origin.connections(), origin.requests()), (1, 5));
}

#[test]
fn bodies_of_http1_with_interim_responses_and_trailers() {
    let (_running, port, _origin) = start(Manner::default());
    let mut peer = Peer::connect(port);
    peer.send(
        "POST /hints HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    );
    // Both of them, in the order in which they come.
    let interim = [peer.head(), peer.head()];
    assert!(interim.iter().any(|head| status(head) == 100), "{interim:?}");
    let hints = interim.iter().find(|head| status(head) == 103).unwrap();
    assert_eq!(header(hints, "link"), Some("</a>"));
    let head = peer.head();
    assert_eq!((status(&head), header(&head, "transfer-encoding")), (200, Some("chunked")));
    peer.send("3\r\nabc\r\n");
    assert_eq!(peer.until("abc\r\n"), "3\r\nabc\r\n");
    peer.send("0\r\nx-sum: 6\r\n\r\n");
    let end = peer.until("\r\n\r\n");
    assert!(end.starts_with("0\r\n") && end.contains("x-sum: 6\r\n"), "{end}");
    assert!(end.contains("grpc-status: 0\r\n"), "{end}");
}

#[test]
fn grpc_streams_both_ways_with_trailers() {
    let (_running, port, origin) = start(Manner::default());
    client(port, async |mut send| {
        let (response, mut stream) = send.send_request(post("/echo"), false).unwrap();
        // The head comes before a byte of the request's body.
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut incoming = response.into_body();
        for round in 0..20u8 {
            stream.send_data(Bytes::from(vec![round; 100]), false).unwrap();
            let mut came = Vec::new();
            while came.len() < 100 {
                let piece = incoming.data().await.unwrap().unwrap();
                incoming.flow_control().release_capacity(piece.len()).unwrap();
                came.extend_from_slice(&piece);
            }
            assert_eq!(came, vec![round; 100]);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        assert!(incoming.data().await.is_none());
        let trailers = incoming.trailers().await.unwrap().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-sum"]),
            (&"0".parse().unwrap(), &"7".parse().unwrap())
        );
        assert_eq!(trailers["x-te"], "trailers");
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn grpc_unary_and_trailers_only() {
    let (_running, port, origin) = start(Manner::default());
    client(port, async |mut send| {
        for round in 0..50 {
            send = send.ready().await.unwrap();
            let (response, mut stream) = send.send_request(post("/echo"), false).unwrap();
            stream.send_data(Bytes::from(format!("message {round}")), true).unwrap();
            let (bytes, trailers) = body(response.await.unwrap()).await;
            assert_eq!(bytes, format!("message {round}").as_bytes());
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
        let response = send.send_request(post("/trailers-only"), true).unwrap().0.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "5");
        assert!(response.body().is_end_stream());
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn large_bodies_pass_both_ways() {
    const LENGTH: usize = 3 << 20;
    let (_running, port, _origin) = start(Manner::default());
    client(port, async |mut send| {
        let (response, mut stream) = send.send_request(post("/echo"), false).unwrap();
        let data: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
        let sending = Bytes::from(data.clone());
        let sender = tokio::spawn(async move {
            send_all(&mut stream, sending).await.unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
        });
        let (bytes, _) = body(response.await.unwrap()).await;
        assert!(bytes == data);
        sender.await.unwrap();
    });
    // A client of HTTP/1.1 reads and writes too.
    let mut peer = Peer::connect(port);
    let mut writer = peer.stream.try_clone().unwrap();
    peer.send(format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\nConnection: close\r\n\r\n"
    ));
    let writer = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &vec![b'x'; LENGTH]).unwrap();
    });
    assert_eq!(status(&peer.head()), 200);
    let rest = peer.rest();
    assert_eq!(rest.bytes().filter(|b| *b == b'x').count(), LENGTH);
    assert!(rest.ends_with("0\r\ngrpc-status: 0\r\n\r\n"));
    writer.join().unwrap();
}

#[test]
fn a_client_that_reads_nothing_holds_the_origin_back() {
    let (_running, port, origin) = start(Manner::default());
    client(port, async |mut send| {
        let request = Request::get("http://a.test/flood").body(()).unwrap();
        let response = send.send_request(request, true).unwrap().0.await.unwrap();
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = origin.seen.flooded.load(SeqCst);
            if now == before {
                break;
            }
            before = now;
        }
        assert!(before < 1 << 20, "{before} bytes are under way");
        assert_eq!(body(response).await.0.len(), FLOOD_BYTES);
    });
}

#[test]
fn clients_that_read_nothing_hold_nobody_else_back() {
    let (_running, port, origin) = start(Manner::default());
    client(port, async |mut send| {
        let mut stalled = Vec::new();
        for _ in 0..12 {
            send = send.ready().await.unwrap();
            let request = Request::get("http://a.test/flood").body(()).unwrap();
            stalled.push(send.send_request(request, true).unwrap().0.await.unwrap());
        }
        // What their windows take has come.
        let mut before = 0;
        while before != origin.seen.flooded.load(SeqCst) {
            before = origin.seen.flooded.load(SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::task::spawn_blocking(move || {
            let mut peer = Peer::connect(port);
            peer.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            assert_eq!(status(&peer.head()), 200);
            assert!(peer.until("\r\n\r\n").contains("hello"));
        })
        .await
        .unwrap();
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn many_requests_share_a_connection_and_more_than_its_streams_make_another() {
    for (max_streams, expected) in [(None, 1), (Some(2), 4)] {
        let (_running, port, origin) = start(Manner { max_streams, ..Manner::default() });
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut peer = Peer::connect(port);
                peer.send("GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n");
                peer
            })
            .collect();
        for mut peer in clients {
            assert_eq!(status(&peer.head()), 200);
            assert!(peer.until("\r\n\r\n").contains("grpc-status: 0"));
        }
        assert_eq!((origin.connections(), origin.requests()), (expected, 8));
    }
}

#[test]
fn requests_that_come_together_make_one_connection() {
    let (_running, port, origin) = start(Manner::default());
    client(port, async |mut send| {
        let mut waiting = Vec::new();
        for _ in 0..30 {
            send = send.ready().await.unwrap();
            let request = Request::get("http://a.test/").body(()).unwrap();
            waiting.push(send.send_request(request, true).unwrap().0);
        }
        for response in waiting {
            assert_eq!(response.await.unwrap().status(), 200);
        }
    });
    assert_eq!((origin.connections(), origin.requests()), (1, 30));
}

#[test]
fn what_was_not_processed_is_tried_again() {
    let (running, port, origin) = start(Manner { goes_away: true, ..Manner::default() });
    let mut peer = Peer::connect(port);
    peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    let (head, _) = peer.response();
    assert_eq!(status(&head), 200, "{head}");
    assert_eq!((origin.connections(), origin.requests()), (2, 1));
    // Some times, with its body too, and no connection is made for it.
    let (head, _) = {
        peer.send("POST /refuse HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi");
        peer.response()
    };
    assert_eq!((status(&head), origin.requests()), (502, 5));
    assert_eq!(failures(&running, "not-processed"), 5, "each attempt counts");
    assert_eq!(status(&peer.get("/refuse", "a.test").0), 502);
    assert_eq!((origin.connections(), origin.requests()), (2, 9));
}

#[test]
fn a_stream_that_is_reset_is_a_fault_and_no_reason_to_connect() {
    let (running, port, origin) = start(Manner::default());
    let mut peer = Peer::connect(port);
    for _ in 0..5 {
        assert_eq!(status(&peer.get("/reset", "a.test").0), 502);
    }
    assert_eq!(failures(&running, "malformed"), 5);
    assert_eq!((origin.connections(), origin.requests()), (1, 5));
}

#[test]
fn a_connection_that_goes_away_finishes_and_the_next_request_makes_another() {
    let (_running, port, origin) = start(Manner::default());
    let mut peer = Peer::connect(port);
    for round in 1..=5 {
        peer.send("POST /last HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(status(&peer.head()), 200);
        assert!(peer.until("\r\n\r\n").contains("hi"));
        // GOAWAY comes with the response or behind it: a request that runs into it is sent again.
        assert_eq!(status(&peer.get("/", "a.test").0), 200);
        assert_eq!(origin.requests(), round * 2);
    }
    assert!(origin.connections() >= 5, "{}", origin.connections());
}

#[test]
fn truncated_bodies_are_resets() {
    let (running, port, _origin) = start(Manner::default());
    for path in ["/truncate", "/short"] {
        let mut peer = Peer::connect(port);
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"));
        let seen = peer.rest();
        // Found before the head was sent, it is an answer of the edge's own.
        let is_refusal = seen.starts_with("HTTP/1.1 502 ");
        assert!(is_refusal || seen.is_empty() || !seen.ends_with("0\r\n\r\n"), "{seen}");
        client(port, async |mut send| {
            let request = Request::get(format!("http://a.test{path}")).body(()).unwrap();
            let response = send.send_request(request, true).unwrap().0;
            let Ok(response) = response.await else { return };
            let is_refusal = response.status() == 502;
            let mut body = response.into_body();
            let end = loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    end => break end,
                }
            };
            let is_reset = matches!(end, Some(Err(error)) if error.is_reset());
            assert!(is_reset != is_refusal, "{path}");
        });
    }
    assert_eq!(failures(&running, "truncated"), 4);
}

/// An edge with one such origin, and a route to `/never` with little time.
fn start_with_little_time() -> (Running, u16, Http2Origin) {
    let origin = Http2Origin::start(Manner::default());
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let mut hurried = rule_to(policy.clone());
    hurried.matches[0].path = PathMatch::Exact("/never".into());
    hurried.matches[0].rank = Rank([6, 0, 0, 0, 0]);
    hurried.timeouts.request = Some(Duration::from_millis(300));
    let listeners = vec![listener(port, Protocol::Http, "", vec![hurried, rule_to(policy)])];
    (Running::start(listeners, &facts(&[("a", &[origin.address])])), port, origin)
}

#[test]
fn a_route_s_time_ends_a_stream_and_not_its_connection() {
    let (running, port, origin) = start_with_little_time();
    let (mut peer, mut other) = (Peer::connect(port), Peer::connect(port));
    other.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(status(&other.head()), 200);
    for _ in 0..2 {
        peer.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
        std::thread::sleep(Duration::from_millis(150));
        other.send("1\r\nx\r\n");
        assert_eq!(other.until("x\r\n"), "1\r\nx\r\n");
        assert_eq!(status(&peer.response().0), 504);
    }
    assert_eq!(status(&peer.get("/", "a.test").0), 200);
    assert_eq!((origin.connections(), failures(&running, "timeout")), (1, 2));
}

#[test]
fn a_connection_on_which_nothing_comes_is_given_up() {
    let (running, port, origin) = start_with_little_time();
    let mut peer = Peer::connect(port);
    for _ in 0..2 {
        assert_eq!(status(&peer.get("/never", "a.test").0), 504);
    }
    assert_eq!(status(&peer.get("/", "a.test").0), 200);
    assert_eq!((origin.connections(), failures(&running, "timeout")), (3, 2));
}

#[test]
fn a_client_that_gives_up_ends_the_stream_at_the_origin() {
    let (_running, port, origin) = start(Manner::default());
    client(port, async |mut send| {
        let (response, stream) = send.send_request(post("/echo"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(origin.seen.cut.load(SeqCst), 0);
        drop((response, stream));
        while origin.seen.cut.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let response = send.send_request(post("/echo"), true).unwrap().0.await.unwrap();
        assert_eq!(body(response).await.1.unwrap()["grpc-status"], "0");
    });
    assert_eq!(origin.connections(), 1);
}

/// Takes requests, and counts those that are given up.
async fn frozen(io: tokio::net::TcpStream, seen: Arc<Seen>) {
    let mut http2 = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((_, mut respond))) = http2.accept().await {
        seen.requests.fetch_add(1, SeqCst);
        let seen = Arc::clone(&seen);
        tokio::task::spawn_local(async move {
            if std::future::poll_fn(|cx| respond.poll_reset(cx)).await.is_ok() {
                seen.cut.fetch_add(1, SeqCst);
            }
        });
    }
}

fn hedged(after: Duration, codes: &[u16]) -> Rule {
    let balance = Balance { algorithm: Algorithm::RoundRobin, ..Balance::default() };
    let protocol = BackendProtocol::Http2;
    let retry = Retry {
        attempts: 1,
        codes: codes.to_vec(),
        backoff: None,
        per_try_timeout: None,
        hedge_after: Some(after),
    };
    let policy = BackendPolicy { protocol, balance, ..BackendPolicy::default() };
    Rule { retry: Some(Box::new(retry)), ..rule_to(policy) }
}

#[test]
fn a_rival_answers_where_the_first_is_silent_whose_stream_is_reset() {
    let (origin, silent) = (Http2Origin::start(Manner::default()), Arc::<Seen>::default());
    let held = Arc::clone(&silent);
    let address = listen(move |io| frozen(io, Arc::clone(&held)));
    let port = free_port();
    let rule = hedged(Duration::from_millis(50), &[]);
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let running = Running::start(listeners, &facts(&[("a", &[address, origin.address])]));
    let mut peer = Peer::connect(port);
    for round in 1..=6 {
        let (head, seen) = peer.get("/x", "a.test");
        assert_eq!(status(&head), 200);
        assert!(seen.starts_with("GET http://a.test/x\n"), "{seen}");
        assert_eq!(origin.requests(), round);
    }
    let begun = silent.requests.load(SeqCst);
    assert!(begun > 0, "the silent one had its turn");
    eventually(|| silent.cut.load(SeqCst) == begun);
    assert_eq!(origin.connections(), 1);
    assert!(running.views.current().live().out().is_empty(), "to be slower is no failure");
}

#[test]
fn what_comes_before_there_is_a_rival_is_passed_on() {
    let origins = [0, 1].map(|_| Http2Origin::start(Manner::default()));
    let addresses = [0, 1].map(|at: usize| origins[at].address);
    let requests = || origins.iter().map(Http2Origin::requests).sum::<usize>();
    let port = free_port();
    let listeners =
        vec![listener(port, Protocol::Http, "", vec![hedged(Duration::from_secs(60), &[503])])];
    let _running = Running::start(listeners, &facts(&[("a", &addresses)]));
    let mut peer = Peer::connect(port);
    peer.send("GET /hints HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let heads = [peer.head(), peer.head()];
    assert_eq!(heads.map(|head| status(&head)), [103, 200]);
    assert!(peer.until("\r\n\r\n").contains("grpc-status: 0"));
    assert_eq!(requests(), 1);
    // Tried again, as without hedging.
    for (path, expected, attempts) in
        [("/unavailable", 503, 2), ("/reset", 502, 2), ("/refuse", 502, 4)]
    {
        let before = requests();
        let (head, _) = peer.get(path, "a.test");
        assert_eq!((status(&head), requests() - before), (expected, attempts), "{path}");
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let idle = Duration::from_millis(200);
    let (_running, port, origin) = start_with(Manner::default(), |rule| {
        let pool = ConnectionPool { idle_timeout: Some(idle), ..ConnectionPool::default() };
        let protocol = BackendProtocol::Http2;
        *rule = rule_to(BackendPolicy { pool, protocol, ..BackendPolicy::default() });
    });
    let mut peer = Peer::connect(port);
    eventually(|| {
        assert_eq!(status(&Peer::connect(port).get("/", "a.test").0), 200);
        std::thread::sleep(Duration::from_millis(1_500));
        origin.connections() > 1
    });
    assert_eq!(status(&peer.get("/", "a.test").0), 200);
}

#[test]
fn an_origin_that_speaks_no_http2_is_a_fault_of_its_own() {
    let origin = Origin::start(|peer| {
        peer.until("SM\r\n\r\n");
        peer.send("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    });
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule_to(policy)])];
    let _running = Running::start(listeners, &facts(&[("a", &[origin.address])]));
    for _ in 0..3 {
        assert_eq!(status(&Peer::connect(port).get("/", "a.test").0), 502);
    }
}

/// Its window of TCP stays closed, so that nothing can be said to it any more.
async fn takes_nothing(mut io: tokio::net::TcpStream) {
    const MOST: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];
    let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4][..], &MOST].concat();
    let window = [&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0][..]].concat();
    io.write_all(&[settings, window].concat()).await.unwrap();
    std::future::pending().await
}

#[test]
fn a_connection_that_nobody_needs_ends_though_its_origin_takes_nothing() {
    let count = AtomicUsize::new(0);
    let seen = Arc::<Seen>::default();
    let address = listen(move |io| {
        let (is_first, seen) = (count.fetch_add(1, SeqCst) == 0, Arc::clone(&seen));
        async move {
            match is_first {
                true => takes_nothing(io).await,
                false => connection(io, Manner::default(), seen).await,
            }
        }
    });
    let limits = BackendLimits { connections: Some(1), ..BackendLimits::default() };
    let protocol = BackendProtocol::Http2;
    let mut rule = rule_to(BackendPolicy { protocol, limits, ..BackendPolicy::default() });
    rule.timeouts.request = Some(Duration::from_millis(1_500));
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let _running = Running::start(listeners, &facts(&[("a", &[address])]));
    let mut sender = Peer::connect(port);
    sender.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000000\r\n\r\n");
    // Until the answer comes, and the connection is closed.
    while sender.stream.write_all(&[7; 64 << 10]).is_ok() {}
    assert_eq!(status(&Peer::connect(port).get("/", "a.test").0), 503, "it has its place yet");
    eventually(|| status(&Peer::connect(port).get("/", "a.test").0) == 200);
}
