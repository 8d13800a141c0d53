//! What clients bring about by themselves says nothing about an endpoint: none is taken out for it.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use common::*;
use h2::ext::Protocol as Asked;
use http::{Method, Request};
use http2_origin::*;
use model::Node;
use model::answers::{Answers, RequestLimits};
use model::edge::{Action, Backend, Protocol, Rule, Timeouts};
use model::front::RulePolicy;
use model::traffic::{BackendPolicy, BackendProtocol, Ejection};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// More than it takes to have an endpoint taken out.
const COUNT: usize = 12;

fn start(
    protocol: BackendProtocol,
    addresses: &[SocketAddr],
    change: impl Fn(&mut Rule),
) -> (Running, u16) {
    let port = free_port();
    let ejection = Ejection { consecutive_failures: 3, max_percent: 100, ..Ejection::default() };
    let policy = BackendPolicy { protocol, ejection, ..BackendPolicy::default() };
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    let mut rule = rule("all", "/", Action::Forward(vec![backend]));
    change(&mut rule);
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    (Running::start(listeners, &facts(&[("a", addresses)])), port)
}

fn nobody_is_out(running: &Running) {
    assert_eq!(running.registry.live.out().len(), 0);
}

#[test]
fn calls_whose_clients_give_them_no_time() {
    let origins = [0, 1].map(|_| Http2Origin::start(Manner::default()));
    let addresses = origins.each_ref().map(|origin| origin.address);
    let request = Some(Duration::from_secs(8));
    let (running, port) = start(BackendProtocol::Http2, &addresses, |rule| {
        rule.timeouts = Timeouts { request, backend_request: None };
    });
    for path in ["/never", "/gives-up"].repeat(COUNT) {
        client(port, async |mut send| {
            let request = Request::post(format!("http://a.test{path}"))
                .header("content-type", "application/grpc")
                .header("grpc-timeout", "50m");
            let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
            assert_eq!(response.await.unwrap().headers()["grpc-status"], "4");
        });
    }
    nobody_is_out(&running);
    let connections: usize = origins.iter().map(Http2Origin::connections).sum();
    assert!(connections <= 2, "their session is shared on: {connections}");
}

#[test]
fn tunnels_that_are_asked_for_at_a_page() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origins = [0, 1].map(|_| {
        let asked = Arc::clone(&asked);
        Origin::start(move |peer| {
            while !peer.head().is_empty() {
                asked.fetch_add(1, SeqCst);
                peer.send(ok("a page"));
            }
        })
    });
    let addresses = origins.each_ref().map(|origin| origin.address);
    let (running, port) = start(BackendProtocol::Http1, &addresses, |_| ());
    client(port, async |mut send| {
        while !send.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..COUNT {
            let request = Request::builder()
                .method(Method::CONNECT)
                .uri("http://a.test/")
                .extension(Asked::from_static("websocket"));
            let (response, _stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
            assert_eq!(response.await.unwrap().status(), 502);
        }
    });
    assert_eq!(asked.load(SeqCst), COUNT, "none is tried again");
    nobody_is_out(&running);
}

/// An origin whose responses do not end, and word of each whose connection is gone.
fn endless() -> (Origin, std::sync::mpsc::Receiver<()>) {
    let (told, gone) = channel();
    let origin = Origin::start(move |peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
        while peer.stream.write_all(&[7; 64 << 10]).is_ok() {}
        told(());
    });
    (origin, gone)
}

fn deaf_clients(change: impl Fn(&mut Rule)) {
    let ((one, one_gone), (other, other_gone)) = (endless(), endless());
    let addresses = [one.address, other.address];
    let (running, port) = start(BackendProtocol::Http1, &addresses, change);
    let mut deaf: Vec<Peer> = (0..COUNT).map(|_| Peer::connect(port)).collect();
    deaf.iter_mut().for_each(|peer| peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let ended = AtomicUsize::new(0);
    eventually(|| {
        let count = one_gone.try_iter().count() + other_gone.try_iter().count();
        ended.fetch_add(count, SeqCst) + count == COUNT
    });
    nobody_is_out(&running);
}

#[test]
fn responses_that_clients_do_not_read() {
    deaf_clients(|rule| rule.timeouts.request = Some(Duration::from_millis(500)));
    let body_timeout = Some(Duration::from_millis(500));
    let limits = RequestLimits { body_timeout, ..RequestLimits::default() };
    let answers = Some(Box::new(Answers { limits, ..Answers::default() }));
    let policy = RulePolicy { answers, ..RulePolicy::default() };
    deaf_clients(|rule| rule.policy = Some(Node::new(policy.clone())));
}

/// The origin has answered, and says more when it is told more.
#[test]
fn bodies_that_clients_do_not_go_on_with() {
    let origins = [0, 1].map(|_| Http2Origin::start(Manner::default()));
    let addresses = origins.each_ref().map(|origin| origin.address);
    let (running, port) = start(BackendProtocol::Http2, &addresses, |rule| {
        rule.timeouts.request = Some(Duration::from_millis(200));
    });
    for _ in 0..COUNT {
        client(port, async |mut send| {
            let request = Request::post("http://a.test/echo").body(()).unwrap();
            let (response, _stream) = send.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.into_body().data().await.unwrap().is_err(), "cut");
        });
    }
    nobody_is_out(&running);
}
