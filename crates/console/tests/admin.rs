//! The admin address and its client, over a socket, with an instance that is whatever a test says.

use console::client::{Error, encode, get, post};
use console::{Subject, serve};
use explain::Question;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Ready or not, and what is missing then.
struct Fake(Result<(), &'static str>);

impl Fake {
    fn state(&self) -> Result<(), String> {
        self.0.map_err(str::to_owned)
    }
}

impl Subject for Fake {
    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }

    fn ready(&self) -> Result<(), String> {
        self.state()
    }

    fn snapshot(&self) -> Result<Value, String> {
        self.state().map(|()| json!({"digest": "abc"}))
    }

    async fn upgrade(&self) -> Result<Value, String> {
        self.state().map(|()| json!({"newPid": 7}))
    }

    async fn explain(&self, question: Question) -> Result<Value, String> {
        let asked = json!({"host": question.host.as_str(), "path": question.path, "method": question.method});
        self.state().map(|()| asked)
    }
}

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    is_closed: oneshot::Receiver<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn served(fake: Fake) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let (stop, stopped) = oneshot::channel();
    let (closed, is_closed) = oneshot::channel();
    let task = tokio::spawn(serve(
        listener,
        Arc::new(fake),
        async {
            // A sender that is gone stops it too.
            let _ = stopped.await;
        },
        closed,
    ));
    Served { address, stop, is_closed, task }
}

/// Status code and body, as any HTTP client sees them.
async fn raw(address: SocketAddr, path: &str) -> (u16, String) {
    send(address, hyper::Request::get(path).header("host", address.to_string())).await
}

async fn send(address: SocketAddr, request: hyper::http::request::Builder) -> (u16, String) {
    use http_body_util::{BodyExt, Empty};
    let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("it speaks HTTP/1.1");
    let connection = tokio::spawn(connection);
    let request = request.body(Empty::<hyper::body::Bytes>::new()).expect("a valid request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    drop(sender);
    connection.abort();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn every_path_of_an_instance_that_is_ready() {
    let served = served(Fake(Ok(()))).await;
    let table = [
        ("/livez", 200, "ok\n"),
        ("/readyz", 200, "ok\n"),
        ("/metrics", 200, "up 1\n"),
        ("/snapshot", 200, r#"{"digest":"abc"}"#),
        (
            "/explain?host=https%3A%2F%2Fshop.example.test%2Fcart&method=POST",
            200,
            r#"{"host":"shop.example.test","method":"POST","path":"/cart"}"#,
        ),
        ("/explain?host=shop.example.test", 200, r#""method":"GET""#),
        ("/explain", 400, "the query needs host=HOST or host=URL"),
        ("/explain?host=ftp%3A%2F%2Fshop.example.test", 400, "scheme `ftp` is not served"),
        ("/explain?host=..", 400, r#"{"error":"#),
        ("/healthz", 404, "known paths: /livez"),
    ];
    for (path, status, part) in table {
        let (found, body) = raw(served.address, path).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
    }
}

#[tokio::test]
async fn an_instance_that_is_not_ready_says_what_is_missing() {
    let served = served(Fake(Err("no snapshot yet"))).await;
    assert_eq!(raw(served.address, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(raw(served.address, "/readyz").await, (503, "no snapshot yet\n".to_owned()));
    let refusal = (503, r#"{"error":"no snapshot yet"}"#.to_owned());
    assert_eq!(raw(served.address, "/snapshot").await, refusal);
    assert_eq!(raw(served.address, "/explain?host=shop.example.test").await, refusal);
}

#[tokio::test]
async fn what_changes_something_is_for_programs_of_this_machine() {
    let served = served(Fake(Ok(()))).await;
    let upgraded = post(served.address, "/upgrade", Duration::from_secs(5)).await;
    assert_eq!(upgraded.expect("it is ours"), r#"{"newPid":7}"#);
    assert_eq!(raw(served.address, "/upgrade").await.0, 405);
    let field = "x-cutwater-command";
    let table = [
        ("127.0.0.1:9180", Some(field), 200),
        ("localhost:9180", Some(field), 200),
        ("[::1]:9180", Some(field), 200),
        ("::1", Some(field), 200),
        // A page in a browser sends none of ours, and one behind a name of its own can.
        ("127.0.0.1:9180", None, 403),
        ("attacker.example:9180", Some(field), 403),
        ("localhost.attacker.example", Some(field), 403),
        ("", Some(field), 403),
    ];
    for (host, field, status) in table {
        let request = hyper::Request::post("/upgrade").header("host", host);
        let request = match field {
            Some(field) => request.header(field, "1"),
            None => request,
        };
        let (found, body) = send(served.address, request).await;
        assert_eq!(found, status, "{host} {field:?}: {body}");
    }
}

#[tokio::test]
async fn the_client_tells_a_refusal_from_an_instance_that_is_not_there() {
    let served = served(Fake(Err("no snapshot yet"))).await;
    assert_eq!(get(served.address, "/livez").await.expect("it lives"), "ok\n");
    for path in ["/snapshot", "/readyz"] {
        match get(served.address, path).await {
            Err(Error::Refused(message)) => assert_eq!(message, "no snapshot yet"),
            other => panic!("{path}: {other:?}"),
        }
    }
    // The same address once nobody listens there.
    served.stop.send(()).expect("it runs");
    // Told by the drop of the sender.
    assert!(served.is_closed.await.is_err());
    served.task.await.expect("it does not panic").expect("it ends well");
    match get(served.address, "/livez").await {
        Err(error @ Error::NoInstance(address, _)) => {
            assert_eq!(address, served.address);
            assert!(error.to_string().contains("start one with `cutwater up DIR`"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_speaks_no_http_is_no_instance() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let stranger = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(b"220 mail.example.test\r\n").await.expect("the client reads");
    });
    let answer = get(address, "/livez").await;
    assert!(matches!(answer, Err(Error::NoInstance(..))), "{answer:?}");
    stranger.await.expect("it does not panic");
}

#[test]
fn a_query_value_survives_whatever_it_holds() {
    let check = |value: &str, expected: &str| assert_eq!(encode(value), expected);
    check("shop.example.test", "shop.example.test");
    check("https://a.test/?x=1&y#z", "https%3A%2F%2Fa.test%2F%3Fx%3D1%26y%23z");
    check("\u{fc} +%", "%C3%BC%20%2B%25");
}
