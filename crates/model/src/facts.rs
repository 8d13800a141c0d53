//! What changes without a new plan. Joined with the plan by id when read.

use crate::id::ServicePort;
use crate::{ObjectId, Text};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Endpoints by Service port. A Service port that is absent has no EndpointSlice; one with an empty set has slices
/// without endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of ports of TCP.
    pub endpoints: HashMap<ServicePort, Arc<EndpointSet>>,
    /// Of ports of UDP: a Service may have one number for both.
    pub datagram_endpoints: HashMap<ServicePort, Arc<EndpointSet>>,
}

impl Facts {
    pub fn endpoints(&self, port: &ServicePort) -> &[Endpoint] {
        self.endpoints.get(port).map_or(&[], |set| &set.endpoints)
    }
}

/// Sorted by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    pub endpoints: Vec<Endpoint>,
}

impl EndpointSet {
    /// Those that new requests may go to; when none is ready, those that still serve while terminating (KEP-1669).
    pub fn usable(&self) -> impl Iterator<Item = &Endpoint> {
        let any_ready = self.endpoints.iter().any(|e| e.ready);
        self.endpoints
            .iter()
            .filter(move |e| if any_ready { e.ready } else { e.serving && e.terminating })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The same endpoint's address of the other family.
    pub alternate: Option<SocketAddr>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub zone: Option<Text>,
    pub node: Option<Text>,
    /// For whom the slice says that the endpoint is meant.
    pub hints: Hints,
    /// The pod behind it, where the slice names one.
    pub target: Option<Text>,
    /// The slice that says so.
    pub observed_in: ObjectId,
}

impl Endpoint {
    /// Of which nothing else is known.
    pub fn ready(address: SocketAddr, observed_in: ObjectId) -> Endpoint {
        Endpoint {
            address,
            alternate: None,
            ready: true,
            serving: true,
            terminating: false,
            zone: None,
            node: None,
            hints: Hints::default(),
            target: None,
            observed_in,
        }
    }
}

/// EndpointSlice, `hints`: empty where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hints {
    pub zones: Vec<Text>,
    pub nodes: Vec<Text>,
}

/// Where an edge runs, as far as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    pub zone: Option<Text>,
    pub node: Option<Text>,
}
