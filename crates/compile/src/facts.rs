//! Endpoints by Service port, from EndpointSlices: what changes without a new plan.

use manifest::Inputs;
use manifest::kinds::kubernetes::{
    EndpointSlice, IpProtocol, Service, ServicePortSpec, ServiceType, SliceEndpoint,
};
use model::facts::{Endpoint, EndpointSet};
use model::hash::HashMap;
use model::id::ServicePort;
use model::{Facts, ObjectId, Text};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

type Slices<'a> = HashMap<(&'a str, &'a str), Vec<(&'a ObjectId, &'a EndpointSlice)>>;

/// Endpoints of every Service that has EndpointSlices. A Service's selector is not looked at: whoever writes the
/// slices has done that. An ExternalName Service has none (see [`crate::codes::EXTERNAL_NAME`]).
pub fn facts(inputs: &Inputs) -> Facts {
    let mut slices: Slices = HashMap::default();
    for (object, slice) in inputs.endpoint_slices() {
        if let Some(service) = &slice.service {
            slices.entry((&object.id.namespace, service)).or_default().push((&object.id, slice));
        }
    }
    let mut facts = Facts::default();
    for (object, service) in inputs.services() {
        let id = &object.id;
        let Some(slices) = slices.get(&(&*id.namespace, &*id.name)) else { continue };
        for port in served_ports(service) {
            let key = ServicePort {
                namespace: id.namespace.clone(),
                name: id.name.clone(),
                port: port.port,
            };
            let of_protocol = match port.protocol {
                IpProtocol::Udp => &mut facts.datagram_endpoints,
                _ => &mut facts.endpoints,
            };
            of_protocol.insert(key, Arc::new(endpoints(port, slices)));
        }
    }
    facts
}

fn served_ports(service: &Service) -> impl Iterator<Item = &ServicePortSpec> {
    let ports = match service.kind {
        ServiceType::ExternalName => &[][..],
        _ => &service.ports,
    };
    ports.iter().filter(|port| matches!(port.protocol, IpProtocol::Tcp | IpProtocol::Udp))
}

/// A port of a slice belongs to the Service's port of the same name; an absent name is the empty one.
fn endpoints(port: &ServicePortSpec, slices: &[(&ObjectId, &EndpointSlice)]) -> EndpointSet {
    fn named(name: &Option<Text>) -> &str {
        name.as_deref().unwrap_or_default()
    }
    let mut merged: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for (id, slice) in slices {
        let numbers = slice
            .ports
            .iter()
            .filter(|p| p.protocol == port.protocol && named(&p.name) == named(&port.name));
        for number in numbers {
            for found in &slice.endpoints {
                for address in &found.addresses {
                    let address = SocketAddr::new(*address, number.port);
                    merge(&mut merged, endpoint(address, found, id));
                }
            }
        }
    }
    EndpointSet { endpoints: merged.into_values().collect() }
}

fn endpoint(address: SocketAddr, found: &SliceEndpoint, slice: &ObjectId) -> Endpoint {
    Endpoint {
        address,
        ready: found.ready,
        serving: found.serving,
        terminating: found.terminating,
        zone: found.zone.clone(),
        target: found.target.clone(),
        observed_in: slice.clone(),
    }
}

/// While an endpoint moves between slices it stands in both; the better word counts.
fn merge(merged: &mut BTreeMap<SocketAddr, Endpoint>, endpoint: Endpoint) {
    let better = |e: &Endpoint| (e.ready, e.serving, !e.terminating);
    match merged.get(&endpoint.address) {
        Some(earlier) if better(earlier) >= better(&endpoint) => {}
        _ => {
            merged.insert(endpoint.address, endpoint);
        }
    }
}
