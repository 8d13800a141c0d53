//! Calls of gRPC: refusals in its words, and the time that a client gives.
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
use model::traffic::{BackendPolicy, BackendProtocol};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// An edge whose rule for `/` leads to an origin of HTTP/2, and that for `/nowhere` to a Service without endpoints.
fn start(change: impl Fn(&mut Rule)) -> (Running, u16, Http2Origin) {
    let origin = Http2Origin::start(Manner::default());
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let to_policy = |name| Backend { policy: Some(Node::new(policy.clone())), ..to(name, 1) };
    let mut all = rule("all", "/call", Action::Forward(vec![to_policy("a")]));
    all.matches = ["/echo", "/never", "/flood", "/unavailable"].map(prefix).to_vec();
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
