//! Findings that need facts: kept apart from compiling, so that a pod that comes or goes compiles nothing.

use crate::codes;
use crate::contracts::Owners;
use crate::report::Report;
use model::edge::{Rule, Target};
use model::id::ServicePort;
use model::layer4::Transport;
use model::{Code, Diagnostic, Facts, Origins, Snapshot};
use std::collections::BTreeSet;

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
    let attachments = snapshot.edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let rules = attachments.flat_map(|attachment| &attachment.route.rules);
    let backends = rules.flat_map(Rule::backends).filter_map(|backend| match &backend.target {
        Target::Service(port) => Some((port, false)),
        Target::Invalid { .. } => None,
    });
    let streams = snapshot.edge.layer4.iter().flat_map(|listener| {
        let is_udp = listener.transport == Transport::Udp;
        let ports = listener.attachments.iter().flat_map(|attachment| attachment.route.ports());
        ports.map(move |port| (port, is_udp))
    });
    backends.chain(streams).collect()
}
