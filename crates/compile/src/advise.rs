//! Findings that need facts: kept apart from compiling, so that a pod that comes or goes compiles nothing.

use crate::codes;
use crate::contracts::Owners;
use crate::report::Report;
use model::answers::Answers;
use model::edge::{Backend, Rule, Target};
use model::id::ServicePort;
use model::layer4::Transport;
use model::traffic::BackendPolicy;
use model::{Code, Diagnostic, Facts, Origins, Snapshot, Text};
use std::collections::{BTreeMap, BTreeSet};

/// What the endpoints say about the Services that routes lead to.
pub fn advise(snapshot: &Snapshot, facts: &Facts, origins: &Origins) -> Vec<Diagnostic> {
    let mut report = Report::default();
    for (port, is_udp) in targets(snapshot) {
        let service = port.service();
        let endpoints = if is_udp { &facts.datagram_endpoints } else { &facts.endpoints };
        let found: Option<(&Code, String, &str)> = match endpoints.get(port) {
            None => Some((
                &codes::NO_SLICE,
                format!("{service} has no EndpointSlice"),
                "write an EndpointSlice with the label kubernetes.io/service-name",
            )),
            Some(set) if set.endpoints.is_empty() => Some((
                &codes::NO_PORT_ENDPOINT,
                format!("no EndpointSlice of {service} has an endpoint for port {}", port.port),
                "the slice's port needs the name of the Service's port",
            )),
            Some(set) if set.usable().next().is_none() => Some((
                &codes::NOT_READY,
                format!("none of {} endpoints of {port} is ready", set.endpoints.len()),
                "",
            )),
            Some(_) => None,
        };
        if let Some((code, message, help)) = found {
            report.add(code, &service, "spec.ports", message).help(help);
        }
    }
    let governance = &snapshot.governance;
    report.finish(origins, &Owners::of(&governance.contracts, &governance.teams))
}

/// Ports, and whether over UDP.
fn targets(snapshot: &Snapshot) -> BTreeSet<(&ServicePort, bool)> {
    let listeners = || snapshot.edge.listeners.iter();
    let attachments = listeners().flat_map(|listener| &listener.attachments);
    let rules = attachments.flat_map(|attachment| &attachment.route.rules);
    let unmatched = listeners().filter_map(|listener| listener.unmatched.as_ref());
    let policies = rules.clone().filter_map(|rule| rule.policy.as_ref()).chain(unmatched);
    let pages = policies.filter_map(|policy| policy.answers.as_deref()).flat_map(Answers::services);
    let pages = pages.map(|page| &page.backend);
    let each = rules.flat_map(Rule::backends).chain(pages).flat_map(backend_ports);
    // The endpoints of an ExternalName are found out by whoever serves.
    let here = each.filter(|(_, policy)| policy.is_none_or(|policy| policy.external.is_none()));
    let streams = snapshot.edge.layer4.iter().flat_map(|listener| {
        let is_udp = listener.transport == Transport::Udp;
        let ports = listener.attachments.iter().flat_map(|attachment| attachment.route.ports());
        ports.map(move |port| (port, is_udp))
    });
    here.map(|(port, _)| (port, false)).chain(streams).collect()
}

/// A backend's Service port and those that stand in for it, each with its policy.
fn backend_ports(
    backend: &Backend,
) -> impl Iterator<Item = (&ServicePort, Option<&BackendPolicy>)> {
    let own = match &backend.target {
        Target::Service(port) => Some((port, backend.policy.as_deref())),
        Target::Invalid { .. } => None,
    };
    let tiers = backend.fallback.iter().flat_map(|fallback| &fallback.tiers);
    own.into_iter().chain(tiers.map(|tier| (&tier.port, tier.policy.as_deref())))
}

/// Service ports whose endpoints are the addresses of a name.
pub fn external_names(snapshot: &Snapshot) -> BTreeMap<ServicePort, Text> {
    let attachments = snapshot.edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let rules = attachments.flat_map(|attachment| &attachment.route.rules);
    let ports = rules.flat_map(Rule::backends).flat_map(backend_ports);
    ports.filter_map(|(port, policy)| Some((port.clone(), policy?.external.clone()?))).collect()
}
