//! The origin on real sockets.

#![allow(clippy::unwrap_used)]
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

struct Origin {
    port: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn origin() -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel();
    let options = origin::Options { name: "one".to_owned() };
    let task = tokio::spawn(origin::serve(listener, options, async {
        let _ = stopped.await;
    }));
    Origin { port, stop, task }
}

impl Origin {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends bytes on a new connection and reads to its end.
    async fn whole(&self, request: &str) -> String {
        let mut io = self.connect().await;
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(io.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("nothing takes ten seconds here")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
}

fn json(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_description_keeps_names_case_and_order() {
    let answer = origin()
        .await
        .whole(
            "POST /a%2Fb?q=1 HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\nx-two: 2\r\nX-One: 3\r\n\
             Content-Length: 5\r\nConnection: close\r\n\r\nhello",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let expected = serde_json::json!({
        "name": "one",
        "method": "POST",
        "target": "/a%2Fb?q=1",
        "protocol": "HTTP/1.1",
        "headers": [
            ["Host", "a.test"], ["X-One", "1"], ["x-two", "2"], ["X-One", "3"],
            ["Content-Length", "5"], ["Connection", "close"],
        ],
        "body": {
            "length": 5,
            "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        },
    });
    assert_eq!(json(&answer), expected);
}

#[tokio::test]
async fn chunked_bodies_and_trailers_are_read() {
    let answer = origin()
        .await
        .whole(
            "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
        .await;
    assert_eq!(json(&answer)["body"]["length"], 5);
    assert_eq!(json(&answer)["trailers"], serde_json::json!([["X-Sum", "7"]]));
}

#[tokio::test]
async fn paths_provoke_their_situations() {
    let origin = origin().await;
    for (path, begins, ends) in [
        ("/status/503", "HTTP/1.1 503 Service Unavailable\r\n", "}\n"),
        ("/status/204", "HTTP/1.1 204 No Content\r\n", "\r\n\r\n"),
        ("/status/99", "HTTP/1.1 400 Bad Request\r\n", "200 to 599\"}\n"),
        ("/bytes/3", "HTTP/1.1 200 OK\r\n", "content-length: 3\r\nconnection: close\r\n\r\n000"),
        ("/bytes/0", "HTTP/1.1 200 OK\r\n", "content-length: 0\r\nconnection: close\r\n\r\n"),
        ("/drip/3/5", "HTTP/1.1 200 OK\r\n", "connection: close\r\n\r\n000"),
        ("/ws", "HTTP/1.1 426 Upgrade Required\r\n", "}\n"),
    ] {
        let answer = origin.whole(&get(path)).await;
        assert!(answer.starts_with(begins) && answer.ends_with(ends), "{path}: {answer}");
    }
    assert_eq!(origin.whole(&get("/close")).await, "");
    let large = origin.whole(&get("/bytes/100000")).await;
    assert_eq!(large.split_once("\r\n\r\n").unwrap().1.len(), 100_000);
}

#[tokio::test]
async fn delays_and_drips_last_as_long_as_asked() {
    let origin = origin().await;
    for path in ["/delay/120", "/drip/4/40"] {
        let begun = Instant::now();
        origin.whole(&get(path)).await;
        assert!(begun.elapsed() >= Duration::from_millis(120), "{path}");
    }
}

#[tokio::test]
async fn a_stream_comes_line_by_line_in_chunks() {
    let origin = origin().await;
    let mut io = origin.connect().await;
    io.write_all(get("/stream").as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"7\r\nline 2\n\r\n") {
        assert_ne!(within(io.read_buf(&mut seen)).await.unwrap(), 0);
    }
    assert!(String::from_utf8_lossy(&seen).contains("transfer-encoding: chunked\r\n"));
}

#[tokio::test]
async fn connections_are_kept_and_requests_pipelined() {
    let origin = origin().await;
    let mut io = origin.connect().await;
    let two = "HEAD /bytes/5 HTTP/1.1\r\nhost: a\r\n\r\nGET /status/404 HTTP/1.1\r\nhost: a\r\n\
               connection: close\r\n\r\n";
    io.write_all(two.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(io.read_to_string(&mut answer)).await.unwrap();
    let (first, second) = answer.split_once("\r\n\r\n").unwrap();
    assert!(first.contains("content-length: 5"), "{first}");
    assert!(second.starts_with("HTTP/1.1 404 "), "{second}");
}

#[tokio::test]
async fn http_1_0_is_answered_in_its_manner() {
    let origin = origin().await;
    let plain = origin.whole("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(json(&plain)["protocol"], "HTTP/1.0");
    let mut io = origin.connect().await;
    io.write_all(b"GET /bytes/1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await.unwrap();
    let mut kept = Vec::new();
    while !kept.ends_with(b"connection: keep-alive\r\n\r\n0") {
        assert_ne!(within(io.read_buf(&mut kept)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_continue() {
    let origin = origin().await;
    let mut io = origin.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\
                connection: close\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    within(io.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    io.write_all(b"ok").await.unwrap();
    let mut answer = String::new();
    within(io.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(json(&answer)["body"]["length"], 2);
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_refused() {
    let origin = origin().await;
    let long = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(70_000));
    for (request, status) in [
        ("POST / HTTP/1.1\r\ncontent-length: 67108865\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\ncontent-length: five\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        (long.as_str(), "431"),
    ] {
        let answer = origin.whole(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer}");
        assert!(json(&answer)["error"].is_string());
    }
}

#[tokio::test]
async fn bytes_beyond_ascii_in_a_target_are_answered() {
    let origin = origin().await;
    let mut io = origin.connect().await;
    io.write_all(b"GET /\xff/\xc3\xa9 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    within(io.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(json(&answer)["target"], "/\u{fffd}/\u{e9}");
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let origin = origin().await;
    let (mut client, connection) = h2::client::handshake(origin.connect().await).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://a.test/x?y").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let mut content = within(response).await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(data) = within(content.data()).await {
        text.extend_from_slice(&data.unwrap());
    }
    let description: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(description["protocol"], "HTTP/2.0");
    assert_eq!(description["target"], "/x?y");
    assert_eq!(description["body"]["length"], 5);
    assert_eq!(description["headers"][0], serde_json::json!([":authority", "a.test"]));

    let request = http::Request::get("http://a.test/close").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert!(within(response).await.unwrap_err().is_reset());
}

#[tokio::test]
async fn websocket_messages_come_back() {
    let origin = origin().await;
    let mut io = origin.connect().await;
    let handshake = "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: keep-alive, \
                     Upgrade\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    io.write_all(handshake.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(within(io.read_buf(&mut answer)).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    // A zero mask leaves the payload readable: a text in two fragments with a ping between, a close.
    io.write_all(b"\x01\x82\0\0\0\0he\x89\x81\0\0\0\0p\x80\x83\0\0\0\0llo").await.unwrap();
    io.write_all(b"\x88\x82\0\0\0\0\x03\xe8").await.unwrap();
    let mut frames = Vec::new();
    within(io.read_to_end(&mut frames)).await.unwrap();
    assert_eq!(frames, b"\x8a\x01p\x81\x05hello\x88\x02\x03\xe8");
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_closes_what_is_idle() {
    let origin = origin().await;
    let mut idle = origin.connect().await;
    let mut busy = origin.connect().await;
    busy.write_all(b"GET /delay/300 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    origin.stop.send(()).unwrap();
    let mut answer = String::new();
    within(busy.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"));
    assert_eq!(within(idle.read(&mut [0; 1])).await.unwrap(), 0);
    within(origin.task).await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", origin.port)).await.is_err());
}
