//! WebSockets from one version of HTTP to the other (RFC 8441), and CONNECT that is none.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use bytes::Bytes;
use common::*;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use http2_origin::*;
use model::Node;
use model::answers::{Answers, Rates, RequestLimits};
use model::edge::{Action, Backend, Protocol as Scheme};
use model::front::RulePolicy;
use model::traffic::{BackendPolicy, BackendProtocol};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// The key and its answer of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn start_before(address: SocketAddr, protocol: BackendProtocol) -> (Running, u16) {
    let port = free_port();
    let policy = BackendPolicy { protocol, ..BackendPolicy::default() };
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    let rules = vec![rule("all", "/", Action::Forward(vec![backend]))];
    let listeners = vec![listener(port, Scheme::Http, "", rules)];
    (Running::start(listeners, &facts(&[("a", &[address])])), port)
}

/// An origin of HTTP/1.1 that answers by what the request's path says, and echoes in a tunnel what it is sent.
fn http1_origin() -> SocketAddr {
    let script = |peer: &mut Peer| {
        let head = peer.head();
        if head.is_empty() {
            return;
        }
        if head.starts_with("GET /refused ") {
            return peer.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        }
        if head.starts_with("GET /no-socket ") {
            return peer.send(ok("a page"));
        }
        assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "host"), Some("a.test"));
        assert_eq!(header(&head, "connection"), Some("upgrade"));
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
        let key = header(&head, "sec-websocket-key").unwrap();
        assert_eq!(key.len(), 24);
        assert_ne!(key, KEY, "a client of HTTP/2 has none");
        let accept =
            if header(&head, "x-wrong").is_some() { ACCEPT.to_owned() } else { answer_to(key) };
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello"
        ));
        loop {
            let came = peer.count(1);
            if came.is_empty() {
                return peer.send("bye");
            }
            peer.send(text(came));
        }
    };
    Origin::start(script).address
}

fn answer_to(key: &str) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine;
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

fn socket(path: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://a.test{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
}

async fn open(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    // The settings come with the first answer at the latest.
    while !send.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (response, stream) = send.send_request(request, false).unwrap();
    (response.await.unwrap(), stream)
}

async fn read(body: &mut RecvStream, count: usize) -> String {
    let mut came = Vec::new();
    while came.len() < count {
        let piece = body.data().await.expect("more").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        came.extend_from_slice(&piece);
    }
    text(came)
}

#[test]
fn a_client_of_http2_talks_to_an_origin_of_http1() {
    let (_running, port) = start_before(http1_origin(), BackendProtocol::Http1);
    client(port, async |mut send| {
        let (response, mut stream) =
            open(&mut send, socket("/chat?room=1").body(()).unwrap()).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        for absent in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!headers.contains_key(absent), "{absent}");
        }
        let mut body = response.into_body();
        assert_eq!(read(&mut body, 5).await, "hello");
        for message in ["one", "two and more", "three"] {
            stream.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(read(&mut body, message.len()).await, message);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(&mut body, 3).await, "bye");
        // The stream ends with the tunnel.
        while let Some(piece) = body.data().await {
            assert!(piece.unwrap().is_empty());
        }
    });
}

#[test]
fn what_is_no_tunnel_is_not_taken_for_one() {
    let (_running, port) = start_before(http1_origin(), BackendProtocol::Http1);
    client(port, async |mut send| {
        let (response, _stream) = open(&mut send, socket("/refused").body(()).unwrap()).await;
        assert_eq!(response.status(), 403);
        assert_eq!(body(response).await.0, b"no");
        // Success would be read as a tunnel.
        let (response, _stream) = open(&mut send, socket("/no-socket").body(()).unwrap()).await;
        assert_eq!(response.status(), 502);
        let request = socket("/chat?room=1").header("x-wrong", "1").body(()).unwrap();
        let (response, _stream) = open(&mut send, request).await;
        assert_eq!(response.status(), 502);
    });
}

#[test]
fn other_kinds_of_connect_are_refused() {
    let (_running, port) = start_before(http1_origin(), BackendProtocol::Http1);
    client(port, async |mut send| {
        let other = Request::builder().method(Method::CONNECT).uri("http://a.test/");
        let other = other.extension(Protocol::from_static("connect-udp")).body(()).unwrap();
        let (response, _stream) = open(&mut send, other).await;
        assert_eq!(response.status(), 501);
        let plain = Request::builder().method(Method::CONNECT).uri("a.test:443").body(()).unwrap();
        let (response, _stream) = send.send_request(plain, false).unwrap();
        assert_eq!(response.await.unwrap().status(), 501);
    });
}

/// An origin of HTTP/2 that echoes what it is sent in an extended CONNECT, where it takes it.
fn http2_sockets(takes: bool) -> SocketAddr {
    listen(move |io| async move {
        let mut builder = h2::server::Builder::new();
        if takes {
            builder.enable_connect_protocol();
        }
        let mut http2 = builder.handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok((request, mut respond))) = http2.accept().await {
            tokio::task::spawn_local(async move {
                let protocol = request.extensions().get::<Protocol>().cloned();
                if request.method() == Method::GET {
                    assert!(protocol.is_none());
                    let mut send = respond.send_response(Response::new(()), false).unwrap();
                    return send.send_data(Bytes::from_static(b"a page"), true).unwrap();
                }
                assert_eq!(request.method(), Method::CONNECT);
                assert_eq!(protocol.unwrap().as_str(), "websocket");
                assert_eq!(request.uri(), "http://a.test/chat");
                assert_eq!(request.headers()["sec-websocket-version"], "13");
                assert!(!request.headers().contains_key("sec-websocket-key"));
                let opened =
                    Response::builder().header("sec-websocket-protocol", "chat").body(()).unwrap();
                let mut send = respond.send_response(opened, false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(piece)) = body.data().await {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    if send_all(&mut send, piece).await.is_err() {
                        return;
                    }
                }
                let _ = send.send_data(Bytes::from_static(b"bye"), true);
            });
        }
    })
}

#[test]
fn a_client_of_http1_talks_to_an_origin_of_http2() {
    let (_running, port) = start_before(http2_sockets(true), BackendProtocol::Http2);
    let mut peer = Peer::connect(port);
    peer.send(format!(
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\nearly"
    ));
    let head = peer.head();
    assert_eq!(status(&head), 101, "{head}");
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("chat"));
    assert_eq!(text(peer.count(5)), "early");
    for message in ["one", "two and more"] {
        peer.send(message);
        assert_eq!(text(peer.count(message.len())), message);
    }
    peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(peer.rest(), "bye");
}

#[test]
fn a_client_of_http2_talks_to_an_origin_of_http2() {
    let (_running, port) = start_before(http2_sockets(true), BackendProtocol::Http2);
    client(port, async |mut send| {
        let (response, mut stream) = open(&mut send, socket("/chat").body(()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut body = response.into_body();
        stream.send_data(Bytes::from_static(b"message"), false).unwrap();
        assert_eq!(read(&mut body, 7).await, "message");
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(&mut body, 3).await, "bye");
        assert!(body.data().await.is_none());
    });
}

/// What a policy says of bodies is for requests: a tunnel lasts while it is used.
#[test]
fn a_tunnel_rests_longer_than_a_body_may() {
    let rest = Some(Duration::from_millis(300));
    let rates = Rates {
        request: NonZeroU32::new(1_000),
        response: NonZeroU32::new(1_000),
        grace: Duration::from_millis(300),
    };
    let limits =
        RequestLimits { body_timeout: rest, rates: Some(rates), ..RequestLimits::default() };
    let answers = Some(Box::new(Answers { limits, ..Answers::default() }));
    let policy = Node::new(RulePolicy { answers, ..RulePolicy::default() });
    for (address, protocol, path) in [
        (http1_origin(), BackendProtocol::Http1, "/chat?room=1"),
        (http2_sockets(true), BackendProtocol::Http2, "/chat"),
    ] {
        let port = free_port();
        let to_origin = BackendPolicy { protocol, ..BackendPolicy::default() };
        let backend = Backend { policy: Some(Node::new(to_origin)), ..to("a", 1) };
        let mut rule = rule("all", "/", Action::Forward(vec![backend]));
        rule.policy = Some(policy.clone());
        let listeners = vec![listener(port, Scheme::Http, "", vec![rule])];
        let _running = Running::start(listeners, &facts(&[("a", &[address])]));
        client(port, async |mut send| {
            let (response, mut stream) = open(&mut send, socket(path).body(()).unwrap()).await;
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            if protocol == BackendProtocol::Http1 {
                assert_eq!(read(&mut body, 5).await, "hello");
            }
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            stream.send_data(Bytes::from_static(b"message"), false).unwrap();
            assert_eq!(read(&mut body, 7).await, "message");
        });
    }
}

#[test]
fn an_origin_of_http2_that_takes_no_sockets() {
    let (_running, port) = start_before(http2_sockets(false), BackendProtocol::Http2);
    client(port, async |mut send| {
        let (response, _stream) = open(&mut send, socket("/chat").body(()).unwrap()).await;
        assert_eq!(response.status(), 502);
    });
    // As from a server that does not know Upgrade (RFC 9110 section 7.8).
    let mut peer = Peer::connect(port);
    peer.send(format!(
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    ));
    assert_eq!(status(&peer.head()), 200);
}
