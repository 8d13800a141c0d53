//! Endpoints of the edge's own zone come first, where the Service asks for it, and a change of endpoints alone is enough
//! to send requests elsewhere.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::{Config, Edge, EdgeView, KeyTable, Registry};
use model::certificates::CertificatePlan;
use model::edge::{Action, Backend, Protocol, Target};
use model::facts::{EndpointSet, Locality};
use model::traffic::{BackendPolicy, Balance, Nearest};
use model::{Facts, Node};
use publish::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Endpoints with their zones.
fn in_zones(endpoints: &[(SocketAddr, &str)]) -> Facts {
    let addresses: Vec<SocketAddr> = endpoints.iter().map(|(address, _)| *address).collect();
    let plain = facts(&[("a", &addresses)]);
    let mut set = plain.endpoints(&service("a")).to_vec();
    for (endpoint, (_, zone)) in set.iter_mut().zip(endpoints) {
        endpoint.zone = Some((*zone).into());
    }
    let mut facts = Facts::default();
    facts.endpoints.insert(service("a"), Arc::new(EndpointSet { endpoints: set }));
    facts
}

/// How often each origin answered.
fn answers(port: u16) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut peer = Peer::connect(port);
    for _ in 0..60 {
        *counts.entry(peer.get("/", "a").1).or_default() += 1;
    }
    counts
}

#[test]
fn requests_stay_in_the_zone_until_nobody_is_left_there() {
    let [near, far, other] = ["near", "far", "other"].map(|name| Origin::start(says(name)).address);
    let port = free_port();
    let policy = BackendPolicy {
        balance: Balance { nearest: Nearest::Zone, ..Balance::default() },
        ..BackendPolicy::default()
    };
    let backend = Backend {
        policy: Some(Node::new(policy)),
        ..Backend::plain(1, Target::Service(service("a")))
    };
    let rule = rule("all", "/", Action::Forward(vec![backend]));
    let listeners = vec![listener(port, Protocol::Http, "", vec![rule])];
    let snapshot = snapshot(listeners, CertificatePlan::default());
    let here = Locality { zone: Some("here".into()), node: None };
    let registry = Registry::new(1).located(here);
    let endpoints = in_zones(&[(near, "here"), (far, "there"), (other, "there")]);
    let view = EdgeView::build(&snapshot, &endpoints, &KeyTable::default(), &registry, None);
    let views = Cell::new(Arc::new(view));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
    let _edge = Edge::start(config, &views, &registry, |_| None).unwrap();
    assert_eq!(answers(port), BTreeMap::from([("near".to_owned(), 60)]));

    let left = in_zones(&[(far, "there"), (other, "there")]);
    let generation = views.set(Arc::new(views.current().with_facts(&left)));
    eventually(|| views.progress(generation).is_complete());
    let counts = answers(port);
    assert!(counts.len() == 2 && !counts.contains_key("near"), "{counts:?}");
}
