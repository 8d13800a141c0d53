//! Interim responses to clients of HTTP/2, from origins of both versions (RFC 8297).
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use common::*;
use http::Request;
use http2_origin::*;
use model::Node;
use model::edge::{Action, Backend, Protocol};
use model::traffic::{BackendPolicy, BackendProtocol};
use std::future::poll_fn;

/// The `link` of every interim response that comes before the final one, whose status must be 200.
fn links(port: u16, path: &str) -> Vec<String> {
    client(port, async |mut send| {
        let request = Request::get(format!("http://a.test{path}")).body(()).unwrap();
        let mut response = send.send_request(request, true).unwrap().0;
        let mut links = Vec::new();
        while let Some(interim) = poll_fn(|cx| response.poll_informational(cx)).await {
            let interim = interim.unwrap();
            assert_eq!(interim.status(), 103);
            links.push(interim.headers()["link"].to_str().unwrap().to_owned());
        }
        assert_eq!(response.await.unwrap().status(), 200);
        links
    })
}

#[test]
fn several_of_an_origin_of_http1() {
    let (_running, port) = one_origin(|peer| {
        while !peer.head().is_empty() {
            let hint = |name| format!("HTTP/1.1 103 Early Hints\r\nlink: </{name}>\r\n\r\n");
            peer.send(hint("one") + &hint("two"));
            peer.send(hint("three") + &ok("body"));
        }
    });
    for _ in 0..2 {
        assert_eq!(links(port, "/"), ["</one>", "</two>", "</three>"]);
    }
}

#[test]
fn several_of_an_origin_of_http2() {
    let origin = Http2Origin::start(Manner::default());
    let port = free_port();
    let policy = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    let rules = vec![rule("all", "/", Action::Forward(vec![backend]))];
    let listeners = vec![listener(port, Protocol::Http, "", rules)];
    let _running = Running::start(listeners, &facts(&[("a", &[origin.address])]));
    assert_eq!(links(port, "/hints"), ["</a>"]);
    assert_eq!(links(port, "/more-hints"), ["</a>", "</b>", "</c>"]);
    // A client of HTTP/1.0 knows none of them (RFC 9110 section 15.2).
    let mut peer = Peer::connect(port);
    peer.send("GET /more-hints HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert!(peer.rest().starts_with("HTTP/1.1 200 "));
}
