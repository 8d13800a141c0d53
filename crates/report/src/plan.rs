//! The compiled plan as JSON (`cutwater snapshot`, `/snapshot`). There is no key in a snapshot, so none can leak here.

use crate::{answers, entry, front, streams, traffic};
use model::certificates::{Certificate, Source};
use model::dns::{RecordData, RecordSet, Zone};
use model::edge::{
    Action, Attachment, Backend, BackendEdits, Condition, HeaderEdits, Listener, Match, PathMatch,
    PathRewrite, Protocol, Redirect, Rule, Target, ValueMatch,
};
use model::governance::{Claim, Contract, Verdict};
use model::status::{self, ListenerStatus, ObjectStatus, ParentStatus};
use model::traffic::Mirror;
use model::{ObjectId, Snapshot, Text};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// `statuses` are what the specification's conditions of each object are; they are part of no digest.
pub fn to_json(snapshot: &Snapshot, statuses: &[ObjectStatus]) -> Value {
    let edge = &snapshot.edge;
    json!({
        "digest": snapshot.digest.to_string(),
        "sections": {
            "edge": snapshot.edge.digest().to_string(),
            "dns": snapshot.dns.digest().to_string(),
            "certificates": snapshot.certificates.digest().to_string(),
            "governance": snapshot.governance.digest().to_string(),
        },
        "edge": {
            "listeners": edge.listeners.iter().map(|l| listener(l)).collect::<Vec<_>>(),
            "layer4": edge.layer4.iter().map(|l| streams::to_json(l)).collect::<Vec<_>>(),
            "routes": routes(edge.listeners.iter().flat_map(|l| &l.attachments)),
        },
        "dns": {"zones": snapshot.dns.zones.iter().map(|z| zone(z)).collect::<Vec<_>>()},
        "certificates": snapshot.certificates.certificates.iter().map(|c| certificate(c)).collect::<Vec<_>>(),
        "governance": {
            "contracts": snapshot.governance.contracts.iter().map(|c| contract(c)).collect::<Vec<_>>(),
            "claims": snapshot.governance.claims.iter().map(claim).collect::<Vec<_>>(),
            "teams": snapshot.governance.teams.iter().map(|(namespace, owner)| {
                json!({"namespace": &**namespace, "team": &*owner.team})
            }).collect::<Vec<_>>(),
        },
        "status": statuses.iter().map(status).collect::<Vec<_>>(),
    })
}

fn status(status: &ObjectStatus) -> Value {
    sparse([
        ("object", json!(id(&status.object))),
        ("conditions", conditions(&status.conditions)),
        ("listeners", status.listeners.iter().map(listener_status).collect()),
        ("parents", status.parents.iter().map(parent_status).collect()),
    ])
}

fn listener_status(status: &ListenerStatus) -> Value {
    json!({
        "name": &*status.name,
        "attachedRoutes": status.attached_routes,
        "supportedKinds": status.supported_kinds,
        "conditions": conditions(&status.conditions),
    })
}

fn parent_status(status: &ParentStatus) -> Value {
    sparse([
        ("parent", json!(id(&status.parent))),
        ("sectionName", status.section.as_deref().into()),
        ("port", status.port.map_or(Value::Null, |port| json!(port))),
        ("conditions", conditions(&status.conditions)),
    ])
}

fn conditions(conditions: &[status::Condition]) -> Value {
    let word = |is_true: bool| if is_true { "True" } else { "False" };
    conditions
        .iter()
        .map(|c| json!({"type": c.kind, "status": word(c.status), "reason": c.reason, "message": c.message}))
        .collect()
}

fn id(object: &ObjectId) -> String {
    object.to_string()
}

fn listener(listener: &Listener) -> Value {
    let mut shown = json!({
        "object": id(&listener.id.object),
        "section": &*listener.id.section,
        "port": listener.port,
        "protocol": protocol(listener.protocol),
        "host": listener.host.to_string(),
        "certificates": listener.certificates.iter().map(id).collect::<Vec<_>>(),
        "routes": listener.attachments.iter().map(|attachment| json!({
            "host": attachment.host.to_string(),
            "route": id(&attachment.route.id),
        })).collect::<Vec<_>>(),
    });
    let unmatched = sparse([
        ("policy", listener.unmatched.as_deref().map_or(Value::Null, front::rule)),
        ("answers", answers::of_rule(listener.unmatched.as_ref())),
    ]);
    let said = sparse([
        ("limits", answers::of_listener(listener.policy.as_deref())),
        ("policy", listener.policy.as_deref().map_or(Value::Null, front::listener)),
        ("clients", entry::of_listener(listener.policy.as_deref())),
        ("unmatched", unmatched),
    ]);
    if let (Some(shown), Value::Object(said)) = (shown.as_object_mut(), said) {
        shown.extend(said);
    }
    shown
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Https => "HTTPS",
    }
}

/// Each route once, however many listeners carry it; one that differs between listeners (by host, by policies) as often
/// as it differs.
fn routes<'a>(attachments: impl Iterator<Item = &'a Attachment>) -> Value {
    let unique: BTreeMap<(String, String), &Attachment> =
        attachments.map(|a| ((id(&a.route.id), a.route.digest().to_string()), a)).collect();
    let shown = unique.into_iter().map(|((name, _), attachment)| {
        json!({"route": name, "rules": attachment.route.rules.iter().map(rule).collect::<Vec<_>>()})
    });
    Value::Array(shown.collect())
}

/// Leaves out what is not set, so that a plan can be read.
pub(crate) fn sparse(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    Value::Object(
        pairs
            .into_iter()
            .filter(|(_, v)| is_set(v))
            .map(|(k, v)| (k.to_owned(), v))
            .collect::<Map<_, _>>(),
    )
}

fn rule(rule: &Rule) -> Value {
    sparse([
        ("name", rule.id.name.as_deref().into()),
        ("matches", rule.matches.iter().map(matching).collect()),
        ("requestHeaders", edits(&rule.request_headers)),
        ("responseHeaders", edits(&rule.response_headers)),
        ("rewriteHostname", rule.rewrite.hostname.as_deref().into()),
        ("rewritePath", rule.rewrite.path.as_ref().map_or(Value::Null, path_rewrite)),
        (
            "timeouts",
            sparse([
                ("requestMs", duration(rule.timeouts.request)),
                ("backendRequestMs", duration(rule.timeouts.backend_request)),
            ]),
        ),
        ("policy", rule.policy.as_deref().map_or(Value::Null, front::rule)),
        ("retry", rule.retry.as_deref().map_or(Value::Null, traffic::retry)),
        ("cors", rule.cors.as_deref().map_or(Value::Null, traffic::cors)),
        (
            "sessionPersistence",
            rule.persistence.as_deref().map_or(Value::Null, traffic::persistence),
        ),
        ("sources", entry::sources_of_rule(rule.policy.as_deref())),
        ("mirrors", rule.mirrors.iter().map(mirror).collect()),
        ("answers", answers::of_rule(rule.policy.as_ref())),
        ("action", action(&rule.action)),
    ])
}

fn mirror(mirror: &Mirror) -> Value {
    let share = [mirror.numerator, mirror.denominator];
    json!({"share": share, "backend": backend(&mirror.backend)})
}

pub(crate) fn duration(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Null, |duration| json!(duration.as_millis() as u64))
}

fn matching(matching: &Match) -> Value {
    let (kind, path) = match &matching.path {
        PathMatch::Exact(path) => ("exact", path),
        PathMatch::Prefix(path) => ("prefix", path),
        PathMatch::Regex(path) => ("regex", path),
    };
    sparse([
        ("path", json!({kind: &**path})),
        ("conditions", matching.conditions.iter().map(condition).collect()),
    ])
}

fn condition(condition: &Condition) -> Value {
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(text) => json!({"exact": &**text}),
        ValueMatch::Regex(text) => json!({"regex": &**text}),
    };
    match condition {
        Condition::Method(method) => json!({"method": &**method}),
        Condition::Header { name, value: wanted } => {
            json!({"header": &**name, "value": value(wanted)})
        }
        Condition::Query { name, value: wanted } => {
            json!({"query": &**name, "value": value(wanted)})
        }
    }
}

fn edits(edits: &HeaderEdits) -> Value {
    let pairs =
        |pairs: &[(Text, Text)]| pairs.iter().map(|(n, v)| json!([&**n, &**v])).collect::<Value>();
    sparse([
        ("set", pairs(&edits.set)),
        ("add", pairs(&edits.add)),
        ("remove", edits.remove.iter().map(|name| json!(&**name)).collect()),
    ])
}

fn path_rewrite(rewrite: &PathRewrite) -> Value {
    match rewrite {
        PathRewrite::ReplaceFull(path) => json!({"replaceFull": &**path}),
        PathRewrite::ReplacePrefix(path) => json!({"replacePrefix": &**path}),
    }
}

fn action(action: &Action) -> Value {
    match action {
        Action::Forward(backends) => {
            json!({"forward": backends.iter().map(backend).collect::<Vec<_>>()})
        }
        Action::Redirect(to) => json!({"redirect": redirect(to)}),
        Action::Fail { status, why, message } => {
            json!({"fail": {"status": status, "why": &**why, "message": &**message}})
        }
    }
}

pub(crate) fn backend(backend: &Backend) -> Value {
    let (service, why, message) = match &backend.target {
        Target::Service(port) => (json!(port.to_string()), Value::Null, Value::Null),
        Target::Invalid { why, message } => (Value::Null, json!(&**why), json!(&**message)),
    };
    sparse([
        ("weight", json!(backend.weight)),
        ("service", service),
        ("invalid", why),
        ("message", message),
        ("policy", backend.policy.as_ref().map_or(Value::Null, |policy| traffic::policy(policy))),
        ("fallback", backend.fallback.as_deref().map_or(Value::Null, traffic::fallback)),
        ("edits", backend.edits.as_deref().map_or(Value::Null, backend_edits)),
    ])
}

fn backend_edits(edited: &BackendEdits) -> Value {
    sparse([
        ("requestHeaders", edits(&edited.request_headers)),
        ("responseHeaders", edits(&edited.response_headers)),
        ("rewriteHostname", edited.rewrite.hostname.as_deref().into()),
        ("rewritePath", edited.rewrite.path.as_ref().map_or(Value::Null, path_rewrite)),
    ])
}

fn redirect(redirect: &Redirect) -> Value {
    sparse([
        (
            "scheme",
            redirect.scheme.map_or(Value::Null, |scheme| json!(protocol(scheme).to_lowercase())),
        ),
        ("hostname", redirect.hostname.as_deref().into()),
        ("port", redirect.port.map_or(Value::Null, |port| json!(port))),
        ("path", redirect.path.as_ref().map_or(Value::Null, path_rewrite)),
        ("status", json!(redirect.status)),
    ])
}

fn zone(zone: &Zone) -> Value {
    json!({
        "object": id(&zone.id),
        "name": zone.name.as_str(),
        "primary": zone.soa.primary.as_str(),
        "negativeTtl": zone.soa.negative_ttl,
        "sets": zone.sets.iter().map(record_set).collect::<Vec<_>>(),
    })
}

fn record_set(set: &RecordSet) -> Value {
    let (kind, values) = record_data(&set.data);
    json!({"name": set.name.as_str(), "type": kind, "ttl": set.ttl, "values": values})
}

fn record_data(data: &RecordData) -> (&'static str, Vec<String>) {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match data {
        RecordData::A(addresses) => ("A", addresses.iter().map(ToString::to_string).collect()),
        RecordData::Aaaa(addresses) => {
            ("AAAA", addresses.iter().map(ToString::to_string).collect())
        }
        RecordData::Ns(names) => ("NS", names.iter().map(ToString::to_string).collect()),
        RecordData::Cname(name) => ("CNAME", vec![name.to_string()]),
        RecordData::Txt(texts) => (
            "TXT",
            texts.iter().map(|strings| strings.iter().map(|s| lossy(s)).collect()).collect(),
        ),
        RecordData::Mx(list) => {
            ("MX", list.iter().map(|mx| format!("{} {}", mx.preference, mx.exchange)).collect())
        }
        RecordData::Caa(list) => (
            "CAA",
            list.iter()
                .map(|caa| format!("{} {} \"{}\"", caa.flags, caa.tag, lossy(&caa.value)))
                .collect(),
        ),
        RecordData::Srv(list) => (
            "SRV",
            list.iter()
                .map(|s| format!("{} {} {} {}", s.priority, s.weight, s.port, s.target))
                .collect(),
        ),
        RecordData::Entry { listener_of } => ("ENTRY", vec![id(listener_of)]),
    }
}

fn certificate(certificate: &Certificate) -> Value {
    let shown = match &certificate.source {
        Source::Secret(leaf) => json!({
            "names": leaf.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "issuer": &*leaf.issuer,
            "notBefore": leaf.not_before,
            "notAfter": leaf.not_after,
            "chain": leaf.chain.to_string(),
        }),
        Source::Missing { hosts } => {
            json!({"missing": true, "hosts": hosts.iter().map(ToString::to_string).collect::<Vec<_>>()})
        }
    };
    json!({"secret": id(&certificate.secret), "certificate": shown})
}

fn contract(contract: &Contract) -> Value {
    sparse([
        ("object", json!(id(&contract.id))),
        ("hostname", json!(contract.hostname.as_str())),
        (
            "visibility",
            contract.visibility.map_or(Value::Null, |visibility| json!(visibility.name())),
        ),
        ("dnsProvider", contract.dns_provider.as_deref().into()),
        ("dnsZone", contract.dns_zone.as_deref().into()),
        ("tlsTermination", contract.tls_termination.as_deref().into()),
        ("certificateSource", contract.certificate_source.as_deref().into()),
        ("ingressApi", contract.ingress_api.as_deref().into()),
        ("ingressController", contract.ingress_controller.as_deref().into()),
        ("backendService", contract.backend_service.as_deref().into()),
        ("backendProtocol", contract.backend_protocol.as_deref().into()),
        ("authLayer", contract.auth_layer.as_deref().into()),
        ("waf", contract.waf.as_deref().into()),
        ("ownerTeam", contract.owner_team.as_deref().into()),
        ("appOwner", contract.app_owner.as_deref().into()),
    ])
}

fn claim(claim: &Claim) -> Value {
    let verdict = match &claim.verdict {
        Verdict::Granted => json!("granted"),
        Verdict::InConflict { with } => json!({"inConflictWith": id(with)}),
    };
    json!({"host": claim.host.to_string(), "by": id(&claim.by), "verdict": verdict})
}
