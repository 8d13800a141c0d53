//! Calls of gRPC: refusals in its words, and the time that a client gives.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use bytes::Bytes;
use common::*;
use http::{HeaderMap, Request, Response};
use http2_origin::*;
use model::Node;
use model::edge::*;
use model::traffic::{BackendPolicy, BackendProtocol};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// An edge whose rule for `/` leads to an origin of HTTP/2, and that for `/nowhere` to a Service without endpoints.
fn start(change: impl Fn(&mut Rule)) -> (Running, u16, Http2Origin) {
    let origin = Http2Origin::start(Manner::default());
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let to_policy = |name| Backend { policy: Some(Node::new(policy.clone())), ..to(name, 1) };
    let mut all = rule("all", "/call", Action::Forward(vec![to_policy("a")]));
    all.matches =
        ["/echo", "/never", "/flood", "/half", "/unavailable", "/unknown"].map(prefix).to_vec();
    change(&mut all);
    let nowhere = rule("none", "/nowhere", Action::Forward(vec![to_policy("b")]));
    let listeners = vec![listener(port, Protocol::Http, "", vec![all, nowhere])];
    let facts = facts(&[("a", &[origin.address]), ("b", &[])]);
    (Running::start(listeners, &facts), port, origin)
}

fn prefix(path: &str) -> Match {
    let path = PathMatch::Prefix(path.into());
    Match { path, conditions: vec![], rank: Rank::default() }
}

fn call(path: &str) -> http::request::Builder {
    Request::post(format!("http://a.test{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc+proto")
}

/// The headers of the only frame that the answer to a call with an empty message is.
fn trailers_only(port: u16, request: Request<()>) -> HeaderMap {
    client(port, async |mut send| {
        let (response, _) = send.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.body().is_end_stream());
        response.headers().clone()
    })
}

#[test]
fn refusals_are_statuses_of_grpc() {
    let (_running, port, origin) = start(|_| ());
    for (path, expected, said) in
        [("/shop.Cart/Add", "12", "No route matches this request."), ("/nowhere/a", "14", "")]
    {
        let headers = trailers_only(port, call(path).body(()).unwrap());
        assert_eq!(headers["grpc-status"], expected);
        assert_eq!(headers["content-type"], "application/grpc");
        assert!(headers["grpc-message"].to_str().unwrap().contains(said));
        assert!(headers.contains_key("x-request-id"));
    }
    // Who does not call reads the status of HTTP.
    let mut peer = Peer::connect(port);
    assert_eq!(status(&peer.get("/shop.Cart/Add", "a.test").0), 404);
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_call_ends_when_its_clients_time_is_over() {
    let (_running, port, origin) = start(|_| ());
    let headers =
        trailers_only(port, call("/never").header("grpc-timeout", "150m").body(()).unwrap());
    assert_eq!(headers["grpc-status"], "4");
    // The origin is told how long the client waits.
    client(port, async |mut send| {
        let request = call("/echo").header("grpc-timeout", "5S").body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"message"), true).unwrap();
        let (bytes, trailers) = body(response.await.unwrap()).await;
        assert_eq!(
            (bytes.as_slice(), &trailers.unwrap()["grpc-status"]),
            (&b"message"[..], &"0".parse().unwrap())
        );
    });
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_response_that_has_begun_ends_with_the_status_in_its_trailers() {
    let (_running, port, origin) = start(|_| ());
    client(port, async |mut send| {
        let request = call("/flood").header("grpc-timeout", "300m").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        // Reads late, so that the origin is still sending when the time is over.
        let response = response.await.unwrap();
        tokio::time::sleep(Duration::from_millis(800)).await;
        let (_, trailers) = body(response).await;
        assert_eq!(trailers.unwrap()["grpc-status"], "4");
    });
    eventually(|| origin.seen.cut.load(SeqCst) == 1);
}

/// Trailers say how a call went: where the end of a response cannot carry them it is cut, so that nobody takes it for
/// whole, or what follows for the rest of it.
#[test]
fn a_response_that_cannot_say_so_is_cut_when_the_time_is_over() {
    let (_running, port, _origin) = start(|_| ());
    for (fields, may_end) in [
        ("X-Content-Type: application/grpc\r\n", true),
        ("X-Content-Type: application/grpc\r\nX-Content-Length: 1000\r\n", false),
        ("X-Content-Length: 1000\r\n", false),
        ("X-Content-Type: text/plain\r\n", false),
    ] {
        let call = "Host: a.test\r\nContent-Type: application/grpc\r\ngrpc-timeout: 200m";
        let mut peer = Peer::connect(port);
        peer.send(format!("GET /half HTTP/1.1\r\n{call}\r\n{fields}\r\n"));
        assert_eq!(status(&peer.head()), 200, "{fields}");
        if may_end {
            assert!(peer.until("0\r\n").ends_with("x\r\n0\r\n"), "{fields}");
            assert_eq!(
                header(&peer.head(), "grpc-message"),
                Some("The time for the call is over.")
            );
            continue;
        }
        peer.send("GET /unavailable HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let rest = peer.rest();
        assert!(!rest.contains("HTTP/1.1") && !rest.contains("\r\n0\r\n"), "{fields}{rest}");
    }
    // An old client has no chunks: the connection's end is the body's.
    let mut peer = Peer::connect(port);
    peer.send("GET /half HTTP/1.0\r\nHost: a.test\r\nContent-Type: application/grpc\r\ngrpc-timeout: 200m\r\nX-Content-Type: application/grpc\r\n\r\n");
    peer.head();
    peer.count(500);
    assert!(
        matches!(peer.stream.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
    );
}

#[test]
fn the_shorter_of_the_rules_time_and_the_clients_counts() {
    let request = Some(Duration::from_millis(150));
    let (_running, port, _origin) =
        start(|rule| rule.timeouts = Timeouts { request, backend_request: None });
    for timeout in ["8S", "no time"] {
        let request = call("/never").header("grpc-timeout", timeout).body(()).unwrap();
        assert_eq!(trailers_only(port, request)["grpc-status"], "4");
    }
}

/// gRPC's clients map a status of HTTP themselves: a body that says more is not taken from them.
#[test]
fn an_origins_answer_that_is_not_of_grpc_passes_as_it_is() {
    let (_running, port, _origin) = start(|_| ());
    client(port, async |mut send| {
        let request = call("/unavailable").body(()).unwrap();
        let response = send.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 503);
        assert!(!response.headers().contains_key("grpc-status"));
    });
}

/// A frame of gRPC: not compressed, with its length.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// The frames of a body of grpc-web: messages, then trailers as text.
fn frames(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut messages = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (content, rest) = rest.split_at(length);
        if *kind == 0x80 {
            assert!(rest.is_empty(), "the trailers are the last frame");
            return (messages, text(content.to_vec()));
        }
        messages.push(content.to_vec());
        body = rest;
    }
    panic!("no frame of trailers: {body:?}");
}

#[test]
fn grpc_web_over_http2_and_http1() {
    let (_running, port, origin) = start(|_| ());
    let sent = [frame(b"one"), frame(&[7; 40_000])].concat();
    client(port, async |mut send| {
        let request = Request::post("http://a.test/echo")
            .header("content-type", "application/grpc-web+proto")
            .header("content-length", sent.len())
            .body(())
            .unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        send_all(&mut stream, Bytes::from(sent.clone())).await.unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        // The origin answers without a form of messages.
        assert_eq!(response.headers()["content-type"], "application/grpc-web");
        let (bytes, trailers) = body(response).await;
        assert!(trailers.is_none());
        let (messages, said) = frames(&bytes);
        assert_eq!(messages, [b"one".to_vec(), vec![7; 40_000]]);
        assert!(
            said.contains("grpc-status: 0\r\n") && said.contains("x-te: trailers\r\n"),
            "{said}"
        );
    });
    // The text form, padded piece by piece, over HTTP/1.1.
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    let coded = base64.encode(frame(b"one")) + &base64.encode(frame(b"another"));
    let mut peer = Peer::connect(port);
    for _ in 0..2 {
        peer.send(format!(
            "POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc-web-text\r\nContent-Length: {}\r\n\r\n{coded}",
            coded.len()
        ));
        let head = peer.head();
        assert_eq!(header(&head, "content-type"), Some("application/grpc-web-text"));
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
        let mut decoded = Vec::new();
        loop {
            let length = peer.until("\r\n");
            let length = usize::from_str_radix(length.trim(), 16).unwrap();
            let piece = peer.count(length + 2);
            if length == 0 {
                break;
            }
            for four in piece[..length].chunks(4) {
                base64.decode_vec(four, &mut decoded).unwrap();
            }
        }
        let (messages, said) = frames(&decoded);
        assert_eq!(messages, [b"one".to_vec(), b"another".to_vec()]);
        assert!(said.contains("grpc-status: 0\r\n"), "{said}");
    }
    assert_eq!(origin.requests(), 3);
}

#[test]
fn grpc_web_that_is_refused_malformed_or_out_of_time() {
    let (_running, port, _origin) = start(|_| ());
    let call = |path: &str| {
        Request::post(format!("http://a.test{path}"))
            .header("content-type", "application/grpc-web-text+proto")
    };
    let headers = trailers_only(port, call("/nowhere").body(()).unwrap());
    assert_eq!(
        (&headers["grpc-status"], &headers["content-type"]),
        (&"14".parse().unwrap(), &"application/grpc-web-text".parse().unwrap())
    );
    let headers =
        trailers_only(port, call("/never").header("grpc-timeout", "150m").body(()).unwrap());
    assert_eq!(headers["grpc-status"], "4");
    let mut peer = Peer::connect(port);
    // No base64, and base64 that lacks its last character: the connection goes on behind both.
    for body in ["!!!!!!!!", "AAAAAAA"] {
        peer.send(format!(
            "POST /never HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc-web-text\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let head = peer.head();
        assert_eq!(header(&head, "grpc-status"), Some("13"), "{head}");
        assert!(header(&head, "grpc-message").unwrap().contains("base64"), "{head}");
        assert_eq!(header(&head, "content-type"), Some("application/grpc-web-text"), "{head}");
    }
}

#[test]
fn a_refusal_has_the_content_type_of_the_call() {
    let (_running, port, _origin) = start(|_| ());
    for content_type in ["application/grpc", "application/grpc-web", "application/grpc-web-text"] {
        let mut peer = Peer::connect(port);
        peer.send(format!(
            "POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Type: {content_type}\r\nContent-Length: 0\r\n\r\n",
        ));
        let head = peer.head();
        assert_eq!(header(&head, "content-type"), Some(content_type), "{head}");
        assert_eq!(header(&head, "grpc-status"), Some("12"), "{head}");
    }
}

#[test]
fn a_call_of_grpc_web_that_fails_in_its_head_ends_with_it() {
    let (_running, port, _origin) = start(|_| ());
    for content_type in ["application/grpc", "application/grpc-web", "application/grpc-web-text"] {
        let mut peer = Peer::connect(port);
        for _ in 0..2 {
            peer.send(format!(
                "POST /unknown HTTP/1.1\r\nHost: a.test\r\nContent-Type: {content_type}\r\nContent-Length: 0\r\n\r\n",
            ));
            let head = peer.head();
            assert_eq!(header(&head, "grpc-status"), Some("12"), "{head}");
            assert_eq!(header(&head, "content-type"), Some(content_type));
            assert_eq!(header(&head, "content-length"), Some("0"), "{head}");
        }
    }
}

fn to_http2() -> Rule {
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    rule("all", "/", Action::Forward(vec![backend]))
}

/// Breaks its first answer off behind the head, and has plain words for every other request.
fn breaks_off_once(seen: Arc<AtomicUsize>) -> SocketAddr {
    listen(move |io| {
        let seen = Arc::clone(&seen);
        async move {
            let Ok(mut http2) = h2::server::handshake(io).await else { return };
            while let Some(Ok((_, mut respond))) = http2.accept().await {
                let is_first = seen.fetch_add(1, SeqCst) == 0;
                let (content_type, length, data) = match is_first {
                    true => ("application/grpc", 10, ""),
                    false => ("text/plain", 5, "plain"),
                };
                let response = Response::builder()
                    .header("content-type", content_type)
                    .header("content-length", length);
                let mut send = respond.send_response(response.body(()).unwrap(), false).unwrap();
                send.send_data(Bytes::from_static(data.as_bytes()), true).unwrap();
            }
        }
    })
}

#[test]
fn an_answer_that_was_taken_back_leaves_nothing_to_the_next_one() {
    for content_type in ["application/grpc-web", "application/grpc-web-text"] {
        let seen = Arc::new(AtomicUsize::new(0));
        let origins = [0, 1].map(|_| breaks_off_once(Arc::clone(&seen)));
        let port = free_port();
        let listeners = vec![listener(port, Protocol::Http, "", vec![to_http2()])];
        let _running = Running::start(listeners, &facts(&[("a", &origins)]));
        let mut peer = Peer::connect(port);
        peer.send(format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n"
        ));
        let head = peer.head();
        assert_eq!(header(&head, "content-type"), Some("text/plain"));
        assert_eq!((peer.rest().as_str(), seen.load(SeqCst)), ("plain", 2));
    }
}
