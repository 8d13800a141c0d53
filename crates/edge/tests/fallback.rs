//! What stands in for a backend: other Services in their order, then a declared answer.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use model::answers::PageBody;
use model::edge::{Action, Backend, Listener, Protocol, Target};
use model::fallback::{Fallback, StaticResponse, Tier};
use model::traffic::{BackendPolicy, Ejection};
use model::{Facts, Node};
use std::net::SocketAddr;

fn policy() -> Option<Node<BackendPolicy>> {
    let ejection = Ejection {
        consecutive_failures: 2,
        max_percent: 100,
        spares_last: false,
        ..Ejection::default()
    };
    Some(Node::new(BackendPolicy { ejection, ..BackendPolicy::default() }))
}

/// `first`, then the Services of `tiers`, then the answer.
fn listeners(port: u16, tiers: &[&str], answers: bool) -> Vec<Listener> {
    let response = answers.then(|| StaticResponse {
        status: 503,
        page: PageBody { content_type: "text/html".into(), text: "<p>later</p>".into() },
    });
    let tier = |name: &&str| Tier { port: service(name), policy: policy() };
    let fallback = Fallback { tiers: tiers.iter().map(tier).collect(), response };
    let backend = Backend {
        policy: policy(),
        fallback: Some(Node::new(fallback)),
        ..Backend::plain(1, Target::Service(service("first")))
    };
    let rule = rule("all", "/", Action::Forward(vec![backend]));
    vec![listener(port, Protocol::Http, "", vec![rule])]
}

fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn answer(port: u16) -> (u16, String) {
    let mut peer = Peer::connect(port);
    peer.send(GET);
    let (head, body) = peer.response();
    (status(&head), body)
}

fn named(name: &'static str) -> SocketAddr {
    Origin::start(says(name)).address
}

fn run(port: u16, listeners: Vec<Listener>, endpoints: &[(&str, &[SocketAddr])]) -> Running {
    let facts: Facts = facts(endpoints);
    let running = Running::start(listeners, &facts);
    assert_eq!(running.views.current().ports().next(), Some((port, Protocol::Http)));
    running
}

#[test]
fn the_next_service_takes_what_the_first_cannot() {
    let (second, third) = (named("second"), named("third"));
    let dead = [nobody(), nobody()];
    for (endpoints, expected) in [
        (
            &[("first", &[] as &[SocketAddr]), ("second", &[second]), ("third", &[third])][..],
            "second",
        ),
        (&[("first", &[]), ("second", &[]), ("third", &[third])], "third"),
        // Attempts at all of the first fail: the same request goes on.
        (&[("first", &dead[..1]), ("second", &[second])], "second"),
        (&[("first", &dead[..1]), ("second", &dead[1..]), ("third", &[third])], "third"),
    ] {
        let port = free_port();
        let running = run(port, listeners(port, &["second", "third"], true), endpoints);
        for _ in 0..6 {
            assert_eq!(answer(port), (200, expected.to_owned()), "{endpoints:?}");
        }
        drop(running);
    }
}

#[test]
fn a_service_that_was_ejected_whole_is_not_asked_any_more() {
    let (port, dead, second) = (free_port(), nobody(), named("second"));
    let endpoints: &[(&str, &[SocketAddr])] = &[("first", &[dead]), ("second", &[second])];
    let running = run(port, listeners(port, &["second"], false), endpoints);
    for _ in 0..6 {
        assert_eq!(answer(port).0, 200);
    }
    let out = running.views.current().live().out();
    assert_eq!(out.iter().map(|out| out.address).collect::<Vec<_>>(), [dead]);
}

#[test]
fn the_declared_answer_comes_last() {
    let dead = [nobody()];
    for endpoints in [
        &[("first", &[] as &[SocketAddr]), ("second", &[])][..],
        &[("first", &dead[..]), ("second", &[])],
        &[("first", &[]), ("second", &dead[..])],
    ] {
        let port = free_port();
        let _running = run(port, listeners(port, &["second"], true), endpoints);
        for _ in 0..4 {
            assert_eq!(answer(port), (503, "<p>later</p>".to_owned()), "{endpoints:?}");
        }
    }
    let port = free_port();
    let _running =
        run(port, listeners(port, &["second"], false), &[("first", &[]), ("second", &[])]);
    let (status, body) = answer(port);
    assert_eq!(status, 503);
    assert!(!body.contains("later"), "{body}");
}
