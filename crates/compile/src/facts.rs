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
    EndpointSet { endpoints: both_families(merged.into_values().collect()) }
}

/// A pod with an address of each family is one endpoint. IPv6 comes first (RFC 8305 section 4). Without the name of a pod
/// each address stands for itself.
fn both_families(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut addresses: HashMap<&str, Vec<SocketAddr>> = HashMap::default();
    for endpoint in &endpoints {
        if let Some(target) = &endpoint.target {
            addresses.entry(target).or_default().push(endpoint.address);
        }
    }
    // In order of addresses, those of IPv4 come first.
    let pairs: HashMap<SocketAddr, SocketAddr> = addresses
        .values()
        .filter_map(|of_pod| match of_pod.as_slice() {
            [v4, v6] if v4.is_ipv4() && v6.is_ipv6() => Some((*v4, *v6)),
            _ => None,
        })
        .collect();
    if pairs.is_empty() {
        return endpoints;
    }
    let primaries: HashMap<SocketAddr, Endpoint> = endpoints
        .iter()
        .filter(|endpoint| pairs.contains_key(&endpoint.address))
        .map(|endpoint| (pairs[&endpoint.address], endpoint.clone()))
        .collect();
    let rest = endpoints.into_iter().filter(|endpoint| !pairs.contains_key(&endpoint.address));
    rest.map(|endpoint| match primaries.get(&endpoint.address) {
        Some(v4) => joined(endpoint, v4),
        None => endpoint,
    })
    .collect()
}

/// While the slices of a pod differ the better word counts.
fn joined(v6: Endpoint, v4: &Endpoint) -> Endpoint {
    Endpoint {
        alternate: Some(v4.address),
        ready: v6.ready || v4.ready,
        serving: v6.serving || v4.serving,
        terminating: v6.terminating && v4.terminating,
        ..v6
    }
}

fn endpoint(address: SocketAddr, found: &SliceEndpoint, slice: &ObjectId) -> Endpoint {
    Endpoint {
        address,
        alternate: None,
        ready: found.ready,
        serving: found.serving,
        terminating: found.terminating,
        zone: found.zone.clone(),
        node: found.node.clone(),
        hints: found.hints.clone(),
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
