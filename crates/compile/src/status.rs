//! Desired status in the words of the Gateway API.

use crate::classes::GATEWAY_CONTROLLER;
use crate::listeners::{GatewayDraft, ListenerDraft};
use crate::routes::RouteVerdict;
use manifest::Inputs;
use model::ObjectId;
use model::status::{Condition, ListenerStatus, ObjectStatus, ParentStatus};

/// Why a condition is as it is.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub reason: &'static str,
    pub message: String,
}

pub(crate) fn condition(
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: &str,
) -> Condition {
    Condition { kind, status, reason, message: message.to_owned() }
}

/// Conditions of a route under one parent.
pub(crate) fn route_conditions(verdict: &RouteVerdict, refused: Option<Verdict>) -> Vec<Condition> {
    let all_failed = verdict.failed == verdict.rules;
    let unaccepted = verdict.unaccepted.as_ref();
    let accepted = match (&refused, unaccepted) {
        (Some(refused), _) => condition("Accepted", false, refused.reason, &refused.message),
        (None, Some(problem)) if all_failed => {
            condition("Accepted", false, problem.reason, &problem.message)
        }
        (None, _) => condition("Accepted", true, "Accepted", ""),
    };
    let resolved = match &verdict.unresolved {
        Some(problem) => condition("ResolvedRefs", false, problem.reason, &problem.message),
        None => condition("ResolvedRefs", true, "ResolvedRefs", ""),
    };
    let mut conditions = vec![accepted, resolved];
    if let (Some(problem), false) = (unaccepted, all_failed) {
        // The beginning of the message is the specification's.
        let message = format!(
            "Fall Back: {} of {} rules cannot be served: {}",
            verdict.failed, verdict.rules, problem.message
        );
        conditions.push(condition("PartiallyInvalid", true, "UnsupportedValue", &message));
    }
    conditions
}

pub(crate) fn route(object: &ObjectId, parents: Vec<ParentStatus>) -> ObjectStatus {
    ObjectStatus { object: object.clone(), conditions: Vec::new(), listeners: Vec::new(), parents }
}

pub(crate) fn classes(inputs: &Inputs) -> impl Iterator<Item = ObjectStatus> {
    inputs.gateway_classes().filter(|(_, class)| &*class.controller_name == GATEWAY_CONTROLLER).map(
        |(object, _)| ObjectStatus {
            object: object.id.clone(),
            conditions: vec![condition("Accepted", true, "Accepted", "")],
            listeners: Vec::new(),
            parents: Vec::new(),
        },
    )
}

pub(crate) fn gateway(draft: &GatewayDraft) -> ObjectStatus {
    let unserved: Vec<&str> = draft
        .listeners
        .iter()
        .filter(|listener| listener.served().is_none())
        .map(|listener| &*listener.spec.name)
        .collect();
    let any_served = unserved.len() < draft.listeners.len();
    let message = match unserved.is_empty() {
        true => String::new(),
        false => format!("not served: {}", unserved.join(", ")),
    };
    let reason = |good: &'static str| match (unserved.is_empty(), any_served) {
        (true, true) => good,
        _ => "ListenersNotValid",
    };
    let programmed = if any_served { "Programmed" } else { "Invalid" };
    let mut conditions = vec![
        condition("Accepted", any_served, reason("Accepted"), &message),
        condition("Programmed", any_served, programmed, &message),
    ];
    conditions.extend(draft.client_certificate.as_ref().map(|verdict| match verdict {
        Ok(()) => condition("ResolvedRefs", true, "ResolvedRefs", ""),
        Err(problem) => condition("ResolvedRefs", false, problem.reason, &problem.message),
    }));
    conditions.extend(insecure(draft));
    ObjectStatus {
        object: draft.object.id.clone(),
        conditions,
        listeners: draft.listeners.iter().map(listener).collect(),
        parents: Vec::new(),
    }
}

/// Where clients are let in that could not prove who they are (GEP-91).
fn insecure(draft: &GatewayDraft) -> Option<Condition> {
    let lets_in = |listener: &&ListenerDraft| {
        let trust = listener.policy.as_ref().and_then(|policy| policy.client_trust.as_ref());
        trust.is_some_and(|trust| !trust.is_required)
    };
    let names: Vec<&str> =
        draft.listeners.iter().filter(lets_in).map(|listener| &*listener.spec.name).collect();
    let message =
        format!("clients without a valid certificate are let in by: {}", names.join(", "));
    let kind = "InsecureFrontendValidationMode";
    (!names.is_empty()).then(|| condition(kind, true, "ConfigurationChanged", &message))
}

fn listener(draft: &ListenerDraft) -> ListenerStatus {
    let conflict = draft.conflict.as_ref();
    let accepted = match (&draft.rejected, conflict) {
        (Some(problem), _) => condition("Accepted", false, problem.reason, &problem.message),
        (None, Some(conflict)) => condition("Accepted", false, conflict.reason, &conflict.message),
        (None, None) => condition("Accepted", true, "Accepted", ""),
    };
    let conflicted = match conflict {
        Some(conflict) => condition("Conflicted", true, conflict.reason, &conflict.message),
        None => condition("Conflicted", false, "NoConflicts", ""),
    };
    let resolved = match &draft.unresolved {
        Some(problem) => condition("ResolvedRefs", false, problem.reason, &problem.message),
        None => condition("ResolvedRefs", true, "ResolvedRefs", ""),
    };
    let programmed = match draft.served() {
        Some(_) => condition("Programmed", true, "Programmed", ""),
        None => condition("Programmed", false, "Invalid", "the listener is not served"),
    };
    ListenerStatus {
        name: draft.spec.name.clone(),
        attached_routes: draft.attached_routes,
        supported_kinds: draft.kinds.iter().map(|kind| kind.0).collect(),
        conditions: vec![accepted, conflicted, resolved, programmed],
    }
}
