//! Settings of an EdgePolicy that undo each other, or that cannot do what they are written for, whatever the policy is for.
//! What is not for its targets is `policy_reach`; what cannot be meant at all is refused where it is read.

use crate::codes;
use crate::report::Report;
use manifest::Inputs;
use manifest::kinds::edge_policy::{AlgorithmName, EdgePolicy, ProbeProtocol};
use model::traffic::HashKey;
use model::{Kind, ObjectId};

pub(crate) fn check(inputs: &Inputs, report: &mut Report) {
    let said = Said::of(inputs);
    for (object, policy) in inputs.edge_policies() {
        check_companions(&object.id, policy, &said, report);
        check_hash(&object.id, policy, report);
        check_hedging(&object.id, policy, report);
        check_fallback(&object.id, policy, inputs, report);
    }
}

/// What a field of one policy may want of a policy for another level.
struct Said {
    hashing: bool,
    grpc_checks: bool,
}

impl Said {
    fn of(inputs: &Inputs) -> Said {
        let any = |says: fn(&EdgePolicy) -> bool| inputs.edge_policies().any(|(_, p)| says(p));
        Said {
            hashing: any(|policy| {
                let section = policy.load_balancing.as_ref();
                section.is_some_and(|s| s.algorithm == Some(AlgorithmName::ConsistentHash))
            }),
            grpc_checks: any(|policy| {
                let section = policy.health_check.as_ref();
                section.is_some_and(|s| s.protocol == Some(ProbeProtocol::Grpc))
            }),
        }
    }
}

/// A field that belongs to a choice that no policy makes. What its own policy chooses otherwise is said where that is read.
fn check_companions(id: &ObjectId, policy: &EdgePolicy, said: &Said, report: &mut Report) {
    let hashes = policy.load_balancing.as_ref();
    let hashes = hashes.is_some_and(|s| s.hash.is_some() && s.algorithm.is_none());
    let asks = policy.health_check.as_ref();
    let asks = asks.is_some_and(|s| s.service.is_some() && s.protocol.is_none());
    for (is_alone, field, name, choice) in [
        (hashes && !said.hashing, "spec.loadBalancing.hash", "hash", "algorithm: ConsistentHash"),
        (asks && !said.grpc_checks, "spec.healthCheck.service", "service", "protocol: GRPC"),
    ] {
        if is_alone {
            let message = format!("`{name}` belongs to `{choice}`, which no policy says");
            let help = format!("add `{choice}`, or remove `{name}`");
            report.add(&codes::CONTRADICTION, id, field, message).help(help);
        }
    }
}

/// Fields of a connection, not of a request (RFC 9110 section 7.6.1); HTTP/2 has none of them.
const OF_CONNECTIONS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn check_hash(id: &ObjectId, policy: &EdgePolicy, report: &mut Report) {
    let hash = policy.load_balancing.as_ref().and_then(|section| section.hash.as_ref());
    let Some(HashKey::Header(name)) = hash.map(|hash| &hash.0) else { return };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let why = match () {
        () if name.is_empty() || !name.bytes().all(is_token) => "no request can have such a field",
        () if OF_CONNECTIONS.contains(&&**name) => {
            "it is about a connection, and alike in all requests"
        }
        () => return,
    };
    let message = format!("`hash` by the header `{name}` keeps nothing at an endpoint: {why}");
    report
        .add(&codes::CONTRADICTION, id, "spec.loadBalancing.hash.header", message)
        .help("name a header that tells clients or tenants apart, like x-tenant");
}

fn check_hedging(id: &ObjectId, policy: &EdgePolicy, report: &mut Report) {
    let Some(retry) = &policy.retry else { return };
    let never = retry.attempts.is_some_and(|attempts| attempts.0 == 0);
    if never && retry.hedge_after.is_some() {
        let message = "`attempts: 0` says that no request is sent twice, and `hedgeAfter` sends slow ones twice all the same";
        report
            .add(&codes::CONTRADICTION, id, "spec.retry.hedgeAfter", message)
            .help("remove `hedgeAfter`, or `attempts: 0`");
    }
}

/// A Service that would stand in for itself, where the policy is for nothing else: with one port it is never another.
fn check_fallback(id: &ObjectId, policy: &EdgePolicy, inputs: &Inputs, report: &mut Report) {
    let backends = policy.fallback.as_ref().and_then(|section| section.backends.as_ref());
    for (index, spec) in backends.iter().flat_map(|list| list.0.iter().enumerate()) {
        let is_itself = |kind: &str, name: &str| kind == Kind::SERVICE.0 && *name == *spec.name;
        let mut targets = policy.target_refs().iter();
        let service = inputs.service(&id.namespace, &spec.name);
        let has_one_port = service.is_some_and(|(_, service)| service.ports.len() == 1);
        if has_one_port && targets.all(|target| is_itself(&target.kind, &target.name)) {
            let message =
                format!("Service {} would stand in for itself, which changes nothing", spec.name);
            report
                .add(
                    &codes::CONTRADICTION,
                    id,
                    format!("spec.fallback.backendRefs[{index}]"),
                    message,
                )
                .help("name another Service, or remove it");
        }
    }
}
