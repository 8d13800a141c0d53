//! Sections of an EdgePolicy that can do nothing for its targets: what is settled with a client before a route or a
//! Service is known.

use crate::codes;
use crate::report::Report;
use manifest::Inputs;
use manifest::kinds::edge_policy::EdgePolicy;
use model::Kind;

type Section = (&'static str, fn(&EdgePolicy) -> bool, &'static [Kind]);

/// With the kinds of targets that it is for.
const SECTIONS: &[Section] = &[
    ("tls", |policy| policy.tls.is_some(), &[Kind::GATEWAY]),
    ("clientCertificate", |policy| policy.client_certificate.is_some(), FRONT),
    ("strictTransportSecurity", |policy| policy.strict_transport_security.is_some(), FRONT),
];

const FRONT: &[Kind] = &[Kind::GATEWAY, Kind::HTTP_ROUTE];

pub(crate) fn check(inputs: &Inputs, report: &mut Report) {
    for (object, policy) in inputs.edge_policies() {
        for (section, _, kinds) in SECTIONS.iter().filter(|(_, is_written, _)| is_written(policy)) {
            let is_idle = |kind: &str| !kinds.iter().any(|known| known.0 == kind);
            let mut targets = policy.target_refs().iter();
            let Some(target) = targets.find(|target| is_idle(&target.kind)) else { continue };
            let message = format!("`{section}` has no effect on {} {}", target.kind, target.name);
            let words: Vec<&str> = kinds.iter().map(|kind| kind.0).collect();
            report
                .add(&codes::POLICY_SECTION_IDLE, &object.id, format!("spec.{section}"), message)
                .help(format!("write it in a policy for a {}", words.join(" or ")));
        }
    }
}
