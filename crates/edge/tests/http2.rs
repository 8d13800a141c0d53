//! HTTP/2 with prior knowledge, by the client of the `h2` crate.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]
#![allow(
    clippy::field_reassign_with_default,
    reason = "a policy may say more than a test is about"
)]

mod common;

use bytes::Bytes;
use common::*;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use model::edge::Protocol;
use std::future::Future;
use std::time::Duration;

/// Runs a client's part, bounded in time.
fn client<F: Future>(port: u16, run: impl FnOnce(SendRequest<Bytes>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let io = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        tokio::time::timeout(PATIENCE, run(send)).await.expect("in time")
    })
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

async fn body(response: Response<h2::RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let mut stream = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, stream.trailers().await.unwrap())
}

#[test]
fn streams_are_requests_of_their_own_and_cookies_are_joined() {
    let (_running, port) = one_origin(echo_heads);
    client(port, async |mut send| {
        let mut waiting = Vec::new();
        for n in 0..20 {
            let mut request = get(&format!("/{n}?q"));
            request.headers_mut().append("cookie", "a=1".parse().unwrap());
            request.headers_mut().append("cookie", "b=2".parse().unwrap());
            send = send.ready().await.unwrap();
            waiting.push(send.send_request(request, true).unwrap().0);
        }
        for (n, response) in waiting.into_iter().enumerate() {
            let response = response.await.unwrap();
            let id = response.headers()["x-request-id"].clone();
            let seen = text(body(response).await.0);
            assert!(seen.starts_with(&format!("GET /{n}?q HTTP/1.1\r\n")), "{seen}");
            assert_eq!(header(&seen, "host"), Some("a.test"));
            assert_eq!(header(&seen, "cookie"), Some("a=1; b=2"));
            assert_eq!(header(&seen, "x-request-id"), Some(id.to_str().unwrap()));
            assert_eq!(header(&seen, "x-forwarded-proto"), Some("http"));
            assert_eq!(header(&seen, "transfer-encoding"), None);
        }
    });
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
        let body = peer.until("\r\n0\r\n");
        let trailers = peer.head();
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        peer.send(format!(
            "{:x}\r\n{body}\r\n0\r\nx-got: {}\r\nhost: evil\r\n\r\n",
            body.len(),
            trailers.trim()
        ));
        peer.more();
    });
    client(port, async |mut send| {
        let request = Request::post("http://a.test/").body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"first"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.send_data(Bytes::from_static(b"second"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "11".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        let (bytes, trailers) = body(response.await.unwrap()).await;
        let bytes = text(bytes);
        assert!(
            bytes.contains("first") && bytes.contains("second") && bytes.ends_with("\r\n0\r\n")
        );
        let trailers = trailers.unwrap();
        assert_eq!((trailers["x-got"].as_bytes(), trailers.len()), (b"x-sum: 11".as_slice(), 1));
    });
}

#[test]
fn large_bodies_pass_within_the_windows() {
    const LENGTH: usize = 2 << 20;
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        let body = peer.count(header(&head, "content-length").unwrap().parse().unwrap());
        peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()));
        peer.send(body);
        peer.more();
    });
    client(port, async |mut send| {
        let request =
            Request::post("http://a.test/").header("content-length", LENGTH).body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        let mut left = vec![7; LENGTH];
        while !left.is_empty() {
            stream.reserve_capacity(left.len().min(1 << 16));
            let count = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
            let rest = left.split_off(count.min(left.len()));
            let is_end = rest.is_empty();
            stream.send_data(std::mem::replace(&mut left, rest).into(), is_end).unwrap();
        }
        let (bytes, _) = body(response.await.unwrap()).await;
        assert!(bytes.len() == LENGTH && bytes.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn refusals_and_heads_without_a_body() {
    let (running, port) = one_origin(|peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    client(port, async |mut send| {
        let response = send.send_request(get("/"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 204);
        assert!(response.headers().contains_key("date"));
        assert!(response.body().is_end_stream());
        for (request, expected) in [
            (Request::connect("a.test:443").body(()).unwrap(), 501),
            (Request::get("http://user@a.test/").body(()).unwrap(), 400),
            (Request::get("http://a.test/").header("host", "b.test").body(()).unwrap(), 400),
            (Request::get("http://a.test/").header("x", "y".repeat(33_000)).body(()).unwrap(), 431),
        ] {
            let mut ready = send.clone().ready().await.unwrap();
            match ready.send_request(request, true) {
                Ok((response, _)) => {
                    let response = response.await.unwrap();
                    assert_eq!(response.status(), expected);
                    assert!(response.headers().contains_key("x-request-id"));
                    assert!(response.headers().contains_key("date"));
                    assert!(text(body(response).await.0).starts_with(&expected.to_string()));
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    let metrics = edge::render_metrics(&running.registry);
    let counted = r#"cutwater_refusals_total{reason="head-too-large"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

/// RFC 9113 section 8.3.1.
#[test]
fn host_may_repeat_the_authority_in_another_form_and_say_nothing_else() {
    let (running, port) = one_origin(echo_heads);
    client(port, async |send| {
        for (authority, host, expected) in [
            ("a.test", "a.test", 200),
            ("a.test", "A.TEST:80", 200),
            ("a.test:80", "a.test", 200),
            ("a.test", "a.test:443", 400),
            ("a.test", "b.test", 400),
            ("a.test", "", 400),
        ] {
            let request = Request::get(format!("http://{authority}/")).header("host", host);
            let mut ready = send.clone().ready().await.unwrap();
            let sent = ready.send_request(request.body(()).unwrap(), true).unwrap().0;
            let response = sent.await.unwrap();
            assert_eq!(response.status(), expected, "{authority} {host}");
            let said = text(body(response).await.0);
            assert_eq!(said.contains(":authority (RFC 9113"), expected == 400, "{said}");
        }
    });
    let metrics = edge::render_metrics(&running.registry);
    let counted = r#"cutwater_refusals_total{reason="host-differs"} 3"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn hints_arrive_and_a_cut_off_body_is_a_reset() {
    let (_running, port) = one_origin(|peer| {
        let head = peer.head();
        if head.contains("/hints") {
            peer.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            peer.send(ok("end"));
            peer.more();
        } else {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
            // A reset overtakes what waits to be sent: the head is to arrive first.
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    client(port, async |mut send| {
        let (mut response, _) = send.send_request(get("/hints"), true).unwrap();
        let hints = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(hints.unwrap().unwrap().headers()["link"], "</a>");
        assert_eq!(body(response.await.unwrap()).await.0, b"end");
        let (response, _) = send.send_request(get("/short"), true).unwrap();
        let mut stream = response.await.unwrap().into_body();
        let error = loop {
            match stream.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("the body was passed off as whole"),
            }
        };
        assert!(error.is_reset());
    });
}

/// The client has seen nothing of it: it gets an answer that says what happened, or that of another endpoint.
#[test]
fn a_malformed_body_behind_a_good_head_is_502_while_nothing_was_sent() {
    let healthy = Origin::start(|peer| {
        while !peer.head().is_empty() {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole");
        }
    });
    let bad = Origin::start(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nrubbish\r\n");
    });
    let asked = |backends: &[std::net::SocketAddr], times| {
        let port = free_port();
        let _running = Running::start(
            vec![listener(port, Protocol::Http, "", vec![forward("all", "/", "a")])],
            &facts(&[("a", backends)]),
        );
        client(port, async |mut send| {
            let mut answers = Vec::new();
            for _ in 0..times {
                send = send.ready().await.unwrap();
                let response = send.send_request(get("/"), true).unwrap().0.await.unwrap();
                answers.push((response.status().as_u16(), text(body(response).await.0)));
            }
            answers
        })
    };
    let (status, page) = asked(&[bad.address], 1).remove(0);
    assert_eq!(status, 502);
    assert!(page.contains("no usable response"), "{page}");
    for answer in asked(&[bad.address, healthy.address], 4) {
        assert_eq!(answer, (200, "whole".to_owned()));
    }
}

/// Whoever only waits for the head gets it before there is a body.
#[test]
fn a_head_is_sent_before_its_body_is_there() {
    let (_running, port) = one_origin(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
        // The rest comes when the client has the head.
        peer.head();
    });
    client(port, async |send| {
        let mut send = send.ready().await.unwrap();
        let response = send.send_request(get("/"), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 200);
    });
}

#[test]
fn a_stream_that_the_client_gives_up_frees_the_origin() {
    let (closed, seen) = channel();
    let (_running, port) = one_origin(move |peer| {
        let head = peer.head();
        if head.contains("/wait") {
            closed(peer.is_closed());
        } else {
            peer.send(ok("fine"));
        }
    });
    client(port, async |mut send| {
        let (response, mut stream) = send.send_request(get("/wait"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        let other = send.send_request(get("/other"), true).unwrap().0.await.unwrap();
        assert_eq!(body(other).await.0, b"fine");
    });
    assert!(seen.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn drain_lets_streams_end_and_says_goodbye() {
    let (running, port) = one_origin(|peer| {
        peer.head();
        std::thread::sleep(Duration::from_millis(300));
        peer.send(ok("late"));
    });
    client(port, async |mut send| {
        let (response, _) = send.send_request(get("/"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let draining = std::thread::spawn(move || running.edge.drain(PATIENCE));
        assert_eq!(body(response.await.unwrap()).await.0, b"late");
        assert!(tokio::task::spawn_blocking(|| draining.join().unwrap()).await.unwrap());
        assert!(send.ready().await.is_err());
    });
}

#[test]
fn policies_say_what_is_taken_and_what_is_answered() {
    use model::answers::*;
    use model::edge::Rule;
    use model::front::{ListenerPolicy, RulePolicy};
    let body = PageBody { content_type: "text/plain".into(), text: "ours {status}".into() };
    let page =
        ErrorPage { statuses: vec![400..=599], intercept: false, content: PageContent::Body(body) };
    let limits = RequestLimits { body_bytes: Some(4), ..RequestLimits::default() };
    let answers = Answers { pages: vec![page], limits, maintenance: None };
    let mut rules = RulePolicy::default();
    rules.answers = Some(Box::new(answers));
    let mut policy = ListenerPolicy::default();
    policy.limits.headers = Some(5);
    policy.limits.streams = Some(7);
    let port = free_port();
    let origin = Origin::start(|peer| {
        peer.head();
        peer.until("0\r\n\r\n");
        peer.send(ok("taken"));
    });
    let rule = Rule { policy: Some(model::Node::new(rules)), ..forward("r", "/", "a") };
    let listener = model::edge::Listener {
        policy: Some(Box::new(policy)),
        ..listener(port, model::edge::Protocol::Http, "", vec![rule])
    };
    let _running = Running::start(vec![listener], &facts(&[("a", &[origin.address])]));
    client(port, async |send| {
        let mut send = send.ready().await.unwrap();
        let post = || Request::post("http://a.test/").body(()).unwrap();
        for (length, expected) in [(4, (200, "taken")), (5, (413, "ours 413"))] {
            let (response, mut upload) = send.send_request(post(), false).unwrap();
            upload.send_data(Bytes::from(vec![b'x'; length]), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), expected.0);
            assert_eq!(text(body_of(response).await), expected.1);
        }
        assert_eq!(send.current_max_send_streams(), 7);
        let mut request = get("/");
        for n in 0..6 {
            request.headers_mut().append("x-many", n.to_string().parse().unwrap());
        }
        // Before the host is known there is no page.
        let response = send.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 431);
        assert!(text(body_of(response).await).contains("more field lines"));
    });
}

async fn body_of(response: Response<h2::RecvStream>) -> Vec<u8> {
    body(response).await.0
}
