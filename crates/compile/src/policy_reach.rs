//! Sections of an EdgePolicy that can do nothing for any of its targets: what is settled with a client before a route
//! is known is for Gateways, what is settled before a backend is known is not for Services, and what is about requests is
//! not for routes below HTTP.

use crate::answers;
use crate::codes;
use crate::report::Report;
use manifest::Inputs;
use manifest::kinds::edge_policy::EdgePolicy;
use model::Kind;
use model::answers::ConnectionLimits;

/// With the kinds of targets that it is for.
type Section = (&'static str, fn(&EdgePolicy) -> bool, &'static [Kind]);

const ENTRY: &[Kind] = &[Kind::GATEWAY];
const FRONT: &[Kind] = &[Kind::GATEWAY, Kind::HTTP_ROUTE, Kind::GRPC_ROUTE, Kind::INGRESS];
/// What is led on as bytes has no requests.
const REQUESTS: &[Kind] =
    &[Kind::GATEWAY, Kind::HTTP_ROUTE, Kind::GRPC_ROUTE, Kind::INGRESS, Kind::SERVICE];

const SECTIONS: &[Section] = &[
    ("retry", |policy| policy.retry.is_some(), REQUESTS),
    ("fallback", |policy| policy.fallback.is_some(), REQUESTS),
    ("clientAddress", |policy| policy.client_address.is_some(), ENTRY),
    ("acceptProxyProtocol", |policy| policy.accept_proxy_protocol.is_some(), ENTRY),
    ("peers", |policy| policy.peers.is_some(), ENTRY),
    ("sources", |policy| policy.sources.is_some(), FRONT),
    ("tls", |policy| policy.tls.is_some(), ENTRY),
    ("clientCertificate", |policy| policy.client_certificate.is_some(), FRONT),
    ("strictTransportSecurity", |policy| policy.strict_transport_security.is_some(), FRONT),
    ("errorPages", |policy| policy.error_pages.is_some(), FRONT),
    ("maintenance", |policy| policy.maintenance.is_some(), FRONT),
    ("defaultBackend", |policy| policy.default_backend.is_some(), ENTRY),
    ("limits", |policy| policy.limits.is_some(), FRONT),
];

pub(crate) fn check(inputs: &Inputs, report: &mut Report) {
    for (object, policy) in inputs.edge_policies() {
        let has = |kinds: &[Kind]| {
            let mut targets = policy.target_refs().iter();
            targets.any(|target| kinds.iter().any(|kind| *kind.0 == *target.kind))
        };
        let idle = SECTIONS.iter().filter(|(_, is_said, kinds)| is_said(policy) && !has(kinds));
        let idle = idle.map(|(section, _, kinds)| (*section, format!("`{section}`"), *kinds));
        // Some of its limits hold before a route is known.
        let of_port = (limits_connections(policy) && has(FRONT) && !has(ENTRY))
            .then(|| ("limits", "what `limits` says of connections".to_owned(), ENTRY));
        for (section, what, kinds) in idle.chain(of_port) {
            let kinds = kinds.iter().map(|kind| kind.0).collect::<Vec<_>>().join(" or ");
            let message =
                format!("{what} has no effect: it is for a {kinds}, and no target is one");
            report
                .add(&codes::SECTION_IDLE, &object.id, format!("spec.{section}"), message)
                .help(format!("add a target of kind {kinds}, or move it to a policy for one"));
        }
    }
}

fn limits_connections(policy: &EdgePolicy) -> bool {
    let limits = policy.limits.as_ref().map(answers::connection_limits);
    limits.is_some_and(|limits| limits != ConnectionLimits::default())
}
