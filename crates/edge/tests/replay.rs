//! Requests whose body was sent, and which a backend of HTTP/2 did not look at: they are sent again, whole; and nothing
//! is that something may have come of.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use bytes::Bytes;
use common::*;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use http2_origin::{body, client, go_away, listen, send_all};
use model::Node;
use model::edge::*;
use model::fallback::{Fallback, Tier};
use model::traffic::{BackendPolicy, BackendProtocol, Mirror, Retry};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;

/// What the origin does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Resets the stream with this reason, once so many bytes of the body have come.
    Reset(Reason, usize),
    /// The same, after early hints.
    HintAndRefuse(usize),
    /// Answers with the body and its trailers.
    Answer,
    /// The same, with the head before a byte of the body.
    AnswerAtOnce,
    /// Takes it and says nothing.
    Silence,
}

use Act::{Answer, AnswerAtOnce, HintAndRefuse, Reset, Silence};

fn refuse(bytes: usize) -> Act {
    Reset(Reason::REFUSED_STREAM, bytes)
}

/// Less than bodies have here: they come in pieces.
const WINDOW_BYTES: u32 = 8 << 10;

/// An origin that does this with its first requests, in their order, and answers the others.
#[derive(Clone)]
struct Script {
    acts: Arc<[Act]>,
    /// The last stream that the first connection ends with, when its first request is there.
    goes_away_at: Option<u32>,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Bodies of requests that it looked at.
    processed: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Script {
    fn of(acts: &[Act]) -> Script {
        let (connections, requests, processed) = Default::default();
        Script { acts: acts.into(), goes_away_at: None, connections, requests, processed }
    }

    fn start(&self) -> SocketAddr {
        let script = self.clone();
        listen(move |io| script.clone().connection(io))
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    fn processed(&self) -> Vec<Vec<u8>> {
        self.processed.lock().unwrap().clone()
    }

    async fn connection(self, mut io: TcpStream) {
        if let Some(last) = self.goes_away_at
            && self.connections.fetch_add(1, SeqCst) == 0
        {
            self.requests.fetch_add(1, SeqCst);
            return go_away(&mut io, last).await;
        }
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(WINDOW_BYTES);
        let Ok(mut http2) = builder.handshake::<_, Bytes>(io).await else { return };
        while let Some(Ok((request, respond))) = http2.accept().await {
            let at = self.requests.fetch_add(1, SeqCst);
            let act = self.acts.get(at).copied().unwrap_or(Answer);
            tokio::task::spawn_local(self.clone().request(act, request, respond));
        }
    }

    async fn request(
        self,
        act: Act,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let mut body = request.into_body();
        let response =
            || Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        match act {
            HintAndRefuse(bytes) => {
                let hints = Response::builder().status(103).body(()).unwrap();
                respond.send_informational(hints).unwrap();
                read(&mut body, bytes).await;
                respond.send_reset(Reason::REFUSED_STREAM);
            }
            Reset(reason, bytes) => {
                let came = read(&mut body, bytes).await;
                if reason != Reason::REFUSED_STREAM {
                    self.processed.lock().unwrap().push(came);
                }
                respond.send_reset(reason);
            }
            Silence => {
                let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            }
            Answer | AnswerAtOnce => {
                let early = matches!(act, AnswerAtOnce)
                    .then(|| respond.send_response(response(), false).unwrap());
                let came = read(&mut body, usize::MAX).await;
                let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
                trailers.insert("grpc-status", "0".parse().unwrap());
                self.processed.lock().unwrap().push(came.clone());
                let mut send =
                    early.unwrap_or_else(|| respond.send_response(response(), false).unwrap());
                send_all(&mut send, came.into()).await.unwrap();
                send.send_trailers(trailers).unwrap();
            }
        }
    }
}

/// So much of a body at least, or all of it.
async fn read(body: &mut RecvStream, least: usize) -> Vec<u8> {
    let mut came = Vec::new();
    while came.len() < least {
        let Some(Ok(piece)) = body.data().await else { break };
        body.flow_control().release_capacity(piece.len()).unwrap();
        came.extend_from_slice(&piece);
    }
    came
}

/// An edge in front of one such origin.
fn start(script: &Script) -> (Running, u16) {
    start_with(script, |_| ())
}

fn start_with(script: &Script, change: impl Fn(&mut Rule)) -> (Running, u16) {
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    let mut rule = rule("all", "/", Action::Forward(vec![backend]));
    change(&mut rule);
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    (Running::start(listeners, &facts(&[("a", &[script.start()])])), port)
}

fn post() -> Request<()> {
    Request::post("http://a.test/a.B/C")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// A call with these messages, each sent when the origin has begun with so many requests, and trailers.
fn call(port: u16, script: &Script, pieces: &[(usize, &[u8])]) -> (HeaderMap, Vec<u8>, HeaderMap) {
    client(port, async |mut send| {
        let (response, mut stream) = send.send_request(post(), false).unwrap();
        for (requests, piece) in pieces {
            while script.requests() < *requests {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            send_all(&mut stream, Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        // The answer may be there already.
        let _ = stream.send_trailers(trailers);
        let response = response.await.unwrap();
        let headers = response.headers().clone();
        let (bytes, trailers) = body(response).await;
        (headers, bytes, trailers.unwrap_or_default())
    })
}

#[test]
fn a_call_that_was_refused_after_its_body_is_sent_again_whole() {
    const LONG: &[u8] = &[7; 60 << 10];
    for (acts, pieces) in [
        (&[refuse(3)] as &[Act], &[(0_usize, b"one".as_slice())] as &[(usize, &[u8])]),
        // The next attempt has begun when the second piece comes.
        (&[refuse(3)], &[(0, b"one"), (2, b"two")]),
        (&[refuse(6), refuse(3)], &[(0, b"one"), (0, b"two"), (3, b"three")]),
        (&[refuse(0), refuse(0), refuse(0)], &[(0, b"one")]),
        (&[refuse(60 << 10)], &[(0, LONG)]),
        (&[refuse(60 << 10), AnswerAtOnce], &[(0, LONG), (2, b"more")]),
        (&[refuse(60 << 10), AnswerAtOnce], &[(0, LONG), (2, LONG), (2, LONG)]),
    ] {
        let script = Script::of(acts);
        let (_running, port) = start(&script);
        let (_, bytes, trailers) = call(port, &script, pieces);
        let whole = pieces.iter().map(|(_, piece)| *piece).collect::<Vec<_>>().concat();
        assert!(bytes == whole, "{} of {} bytes", bytes.len(), whole.len());
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-sum"]),
            (&"0".parse().unwrap(), &"7".parse().unwrap())
        );
        let attempts = acts.iter().filter(|act| matches!(act, Reset(..))).count() + 1;
        assert_eq!((script.requests(), script.processed()), (attempts, vec![whole]));
    }
}

#[test]
fn clients_of_http1_have_it_too() {
    for (framing, sent) in [
        ("Content-Length: 5", "hello"),
        ("Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 7\r\n\r\n"),
    ] {
        let script = Script::of(&[refuse(5)]);
        let (running, port) = start(&script);
        let mut peer = Peer::connect(port);
        for _ in 0..2 {
            peer.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n{sent}"));
            assert_eq!(status(&peer.head()), 200);
            let answer = peer.until("\r\n\r\n");
            assert!(answer.starts_with("5\r\nhello\r\n0\r\n"), "{answer}");
            assert_eq!(answer.contains("x-sum: 7"), sent.contains("x-sum"), "{answer}");
        }
        assert_eq!((script.requests(), script.processed().len()), (3, 2));
        // What came of the client, however often it was sent on.
        let route = format!("HTTPRoute test/any-{port}");
        let received =
            format!("cutwater_body_bytes_total{{route=\"{route}\",direction=\"request\"}} 10\n");
        eventually(|| edge::render_metrics(&running.registry).contains(&received));
    }
}

#[test]
fn a_call_of_grpc_web_is_decoded_anew() {
    for bytes in [0, 3] {
        let script = Script::of(&[refuse(bytes)]);
        let (_running, port) = start(&script);
        let mut peer = Peer::connect(port);
        // The last two of these characters are no whole piece of base64 yet, and are taken from the client all the same.
        peer.send(
            "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\n\
             Content-Length: 8\r\n\r\nAAAAAA",
        );
        eventually(|| script.requests() == 2);
        peer.send("A=");
        assert_eq!(status(&peer.head()), 200);
        assert!(peer.until("0\r\n\r\n").contains("AAAAAAA="));
        assert_eq!((script.requests(), script.processed()), (2, vec![vec![0; 5]]));
    }
}

/// An origin of HTTP/2 that goes away from its first request without a look at it, and is not to be reached then.
fn leaves() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (io, _) = listener.accept().unwrap();
        drop(listener);
        io.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { go_away(&mut TcpStream::from_std(io).unwrap(), 0).await });
    });
    address
}

/// An edge whose rule leads to the first of these Services; the others stand in for it.
fn start_chain(services: &[(BackendProtocol, SocketAddr)]) -> (Running, u16) {
    const NAMES: [&str; 3] = ["first", "second", "third"];
    let policy = |at: usize| {
        let (protocol, _) = services[at];
        Some(Node::new(BackendPolicy { protocol, ..BackendPolicy::default() }))
    };
    let tier = |at| Tier { port: service(NAMES[at]), policy: policy(at) };
    let fallback = Fallback { tiers: (1..services.len()).map(tier).collect(), response: None };
    let fallback = Some(Node::new(fallback));
    let backend = Backend { policy: policy(0), fallback, ..to(NAMES[0], 1) };
    let rule = rule("all", "/", Action::Forward(vec![backend]));
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let endpoints: Vec<(&str, &[SocketAddr])> = (services.iter().zip(NAMES))
        .map(|((_, address), name)| (name, std::slice::from_ref(address)))
        .collect();
    (Running::start(listeners, &facts(&endpoints)), port)
}

#[test]
fn what_stands_in_has_the_body_from_its_beginning() {
    const HTTP1: BackendProtocol = BackendProtocol::Http1;
    const HTTP2: BackendProtocol = BackendProtocol::Http2;
    let nobody = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    // The last one refuses at first, too.
    for before in [
        &[(HTTP1, nobody())] as &[(BackendProtocol, SocketAddr)],
        &[(HTTP2, leaves())],
        &[(HTTP2, leaves()), (HTTP1, nobody())],
        &[(HTTP2, leaves()), (HTTP2, leaves())],
    ] {
        let script = Script::of(&[refuse(5)]);
        let (_running, port) = start_chain(&[before, &[(HTTP2, script.start())]].concat());
        assert_eq!((posted(port, 5), script.requests()), (200, 2));
        assert_eq!(script.processed(), [b"xxxxx".to_vec()]);
    }
    let (tell, told) = channel();
    let plain = Origin::start(move |peer: &mut Peer| {
        peer.head();
        tell(text(peer.count(5)));
        peer.send(ok(""));
    });
    let (_running, port) = start_chain(&[(HTTP2, leaves()), (HTTP1, plain.address)]);
    assert_eq!(posted(port, 5), 200);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "xxxxx");
}

#[test]
fn a_mirror_gets_the_body_once() {
    let (tell, told) = channel();
    let copy = Origin::start(move |peer: &mut Peer| {
        let head = peer.head();
        let length = header(&head, "content-length").unwrap().parse().unwrap();
        tell(text(peer.count(length)));
        peer.send(ok(""));
    });
    let script = Script::of(&[refuse(5)]);
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    let mut rule = rule("all", "/", Action::Forward(vec![backend]));
    rule.mirrors = vec![Mirror { backend: to("copy", 1), numerator: 1, denominator: 1 }];
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let endpoints: &[(&str, &[SocketAddr])] =
        &[("a", &[script.start()]), ("copy", &[copy.address])];
    let _running = Running::start(listeners, &facts(endpoints));
    let mut peer = Peer::connect(port);
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole");
    assert_eq!(status(&peer.head()), 200);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "whole");
    assert_eq!((script.requests(), script.processed().len()), (2, 1));
}

/// A POST, and the status of its answer.
fn posted(port: u16, bytes: usize) -> u16 {
    let mut peer = Peer::connect(port);
    peer.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {bytes}\r\n\r\n"));
    peer.send(vec![b'x'; bytes]);
    status(&peer.head())
}

#[test]
fn a_body_beyond_the_bound_is_sent_once() {
    let script = Script::of(&[refuse(100 << 10)]);
    let (_running, port) = start(&script);
    assert_eq!((posted(port, 100 << 10), script.requests()), (502, 1));
    assert_eq!((posted(port, 100 << 10), script.requests()), (200, 2));
}

#[test]
fn who_refuses_for_ever_is_asked_four_times() {
    let script = Script::of(&[refuse(5); 4]);
    let (_running, port) = start(&script);
    assert_eq!((posted(port, 5), script.requests()), (502, 4));
}

#[test]
fn what_may_have_been_looked_at_is_sent_once() {
    for acts in [&[Reset(Reason::INTERNAL_ERROR, 5)], &[Reset(Reason::CANCEL, 5)]] {
        let script = Script::of(acts);
        let (_running, port) = start(&script);
        assert_eq!(posted(port, 5), 502);
        assert_eq!((script.requests(), script.processed().len()), (1, 1));
    }
    // It began to answer.
    let script = Script::of(&[HintAndRefuse(5)]);
    let (_running, port) = start(&script);
    let mut peer = Peer::connect(port);
    peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhel");
    assert_eq!(status(&peer.head()), 103);
    peer.send("lo");
    assert_eq!((status(&peer.head()), script.requests()), (502, 1));
}

#[test]
fn above_the_last_stream_of_a_goaway_is_sent_again_and_up_to_it_is_not() {
    for (last, expected) in [(0, 200), (1, 502)] {
        let script = Script { goes_away_at: Some(last), ..Script::of(&[]) };
        let (_running, port) = start(&script);
        assert_eq!(posted(port, 5), expected);
        assert_eq!(script.requests(), if expected == 200 { 2 } else { 1 });
    }
}

#[test]
fn an_idempotent_request_is_sent_again_with_its_body() {
    let breaks_off = Script { goes_away_at: Some(1), ..Script::of(&[]) };
    for script in [breaks_off, Script::of(&[Silence]), Script::of(&[refuse(5)])] {
        let (_running, port) = start_with(&script, |rule| {
            rule.timeouts.backend_request = Some(Duration::from_millis(500));
            rule.retry = Some(Box::new(Retry {
                attempts: 2,
                codes: vec![],
                backoff: None,
                per_try_timeout: None,
                hedge_after: None,
            }));
        });
        let mut peer = Peer::connect(port);
        peer.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nwhole");
        assert_eq!(status(&peer.head()), 200);
        assert_eq!(script.requests(), 2);
        assert_eq!(script.processed(), [b"whole".to_vec()]);
    }
}

#[test]
fn all_attempts_together_have_the_time_that_the_client_gives() {
    let script = Script::of(&[refuse(3), Silence]);
    let (_running, port) = start(&script);
    let headers = client(port, async |mut send| {
        let mut request = post();
        request.headers_mut().insert("grpc-timeout", "500m".parse().unwrap());
        let (response, mut stream) = send.send_request(request, false).unwrap();
        send_all(&mut stream, Bytes::from_static(b"one")).await.unwrap();
        response.await.unwrap().headers().clone()
    });
    assert_eq!(headers["grpc-status"], "4");
    assert_eq!(script.requests(), 2);
}
