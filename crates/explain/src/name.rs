//! Link 1: who declares the name.

use crate::subject::Subject;
use crate::{Finding, State};
use model::Link;
use std::collections::BTreeSet;

pub fn judge(subject: &Subject<'_>) -> Finding {
    let routes = subject.routes();
    let declared: Vec<String> = routes.iter().map(ToString::to_string).collect();
    let found = |detail: String| Finding::new(Link::Name, State::Ok, detail);
    match (subject.contract_object(), routes.first()) {
        (Some(contract), None) => found(format!("promised by {contract}; no route names it"))
            .about(subject, &contract, "spec.hostname"),
        (Some(contract), Some(_)) => found(format!(
            "declared by {}; promised by {contract}",
            declared.join(", ")
        ))
        .about(subject, &contract, "spec.hostname"),
        (None, Some(route)) => found(format!(
            "declared by {}; no contract promises it",
            declared.join(", ")
        ))
        .about(subject, route, "spec.hostnames"),
        (None, None) => undeclared(subject),
    }
}

/// Names may still be served by a route without hostnames, or live in a zone as plain records.
fn undeclared(subject: &Subject<'_>) -> Finding {
    if let Some(route) = subject.answering().first() {
        let detail = format!("served by {route}, which takes every host of its listener");
        return Finding::new(Link::Name, State::Ok, detail).about(subject, route, "");
    }
    if let Some(zone) = subject.zone
        && let Some(set) = zone.sets.iter().find(|set| set.name.as_str() == subject.host)
    {
        let detail = format!("a record of {} ({})", zone.id, set.name);
        return Finding::new(Link::Name, State::Ok, detail).about(
            subject,
            &zone.id,
            "spec.records",
        );
    }
    if let Some(claim) = subject.claims().next() {
        let detail = format!("served by {} for {}", claim.by, claim.host);
        return Finding::new(Link::Name, State::Ok, detail).about(subject, &claim.by, "");
    }
    let near = nearest(subject);
    let help = match near.as_slice() {
        [] => "declare it in an HTTPRoute or an Ingress".to_owned(),
        near => format!("nearest known names: {}", near.join(", ")),
    };
    Finding::new(Link::Name, State::Broken, format!("nobody declares {}", subject.host)).help(help)
}

/// Up to three known names by edit distance.
fn nearest(subject: &Subject<'_>) -> Vec<String> {
    let governance = &subject.world.compiled.snapshot.governance;
    let claimed = governance.claims.iter().map(|claim| claim.host.to_string());
    let known: BTreeSet<String> =
        claimed.chain(governance.contracts.iter().map(|c| c.hostname.to_string())).collect();
    let mut scored: Vec<(usize, String)> = known
        .into_iter()
        .map(|name| (manifest::suggest::edits(subject.host, &name), name))
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
