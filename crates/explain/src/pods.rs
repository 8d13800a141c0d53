//! Link 8, service: exists and has the port. Link 9, pod: ready endpoints that take a connection.

use crate::gateway::Taken;
use crate::own;
use crate::reach;
use crate::spread::{self, Tier};
use crate::subject::Subject;
use crate::{Evidence, Failing, Finding, Nowhere, Probed, State, TakenOut, Try};
use manifest::Inputs;
use model::edge::{Action, Backend, Target};
use model::facts::Endpoint;
use model::id::{RuleId, ServicePort};
use model::layer4::{Attachment, Transport};
use model::reach::Unreached;
use model::{Diagnostic, Kind, Link, Text};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Backends of the rule that takes the request, those with weight.
fn backends<'a>(subject: &'a Subject<'_>) -> Result<Vec<(usize, &'a Backend)>, &'static str> {
    match &subject.taken {
        Taken::Rule { matched, .. } => match &matched.rule.action {
            Action::Forward(backends) => {
                Ok(backends.iter().enumerate().filter(|(_, b)| b.weight > 0).collect())
            }
            Action::Redirect(_) => Err("the rule answers with a redirect"),
            Action::Fail { .. } => Err("the rule cannot be served"),
        },
        Taken::Stream(stream) => match stream.attachment {
            Some(Attachment { route, .. }) => {
                Ok(route.backends.iter().enumerate().filter(|(_, b)| b.weight > 0).collect())
            }
            None => Err("no route takes the connection"),
        },
        _ => Err("no rule takes the request"),
    }
}

fn rule<'a>(subject: &'a Subject<'_>) -> Option<&'a RuleId> {
    match &subject.taken {
        Taken::Rule { matched } => Some(&matched.rule.id),
        Taken::Stream(stream) => stream.rule(),
        _ => None,
    }
}

fn is_udp(subject: &Subject<'_>) -> bool {
    subject.stream().is_some_and(|stream| stream.transport() == Transport::Udp)
}

/// Of the transport that the connection has.
fn endpoints<'a>(subject: &'a Subject<'_>, port: &ServicePort) -> &'a [Endpoint] {
    let facts = subject.world.facts;
    let all = if is_udp(subject) { &facts.datagram_endpoints } else { &facts.endpoints };
    all.get(port).map_or(&[], |set| &set.endpoints)
}

/// With weight, of the rule that takes the request.
pub fn services<'a>(subject: &'a Subject<'_>) -> Vec<&'a ServicePort> {
    let backends = backends(subject).unwrap_or_default();
    backends
        .into_iter()
        .filter_map(|(_, backend)| match &backend.target {
            Target::Service(port) => Some(port),
            Target::Invalid { .. } => None,
        })
        .collect()
}

/// What is to be said about how requests are spread.
pub fn spread(subject: &Subject<'_>, evidence: &Evidence) -> Vec<String> {
    let backends = backends(subject).unwrap_or_default();
    let each = backends.iter().flat_map(|(_, b)| spread::sentences(subject, evidence, b));
    each.collect()
}

/// Names that should lead to endpoints and do not.
pub fn names(subject: &Subject<'_>) -> Vec<Text> {
    let backends = backends(subject).unwrap_or_default();
    let tiers = backends.into_iter().flat_map(|(_, backend)| spread::tiers(backend));
    let lost = tiers.filter(|tier| usable(subject, tier.port).is_empty());
    lost.filter_map(|tier| tier.external().cloned()).collect()
}

/// Endpoints worth a connection.
pub fn tries(subject: &Subject<'_>) -> Vec<Try> {
    // A port of UDP takes no connection, and answers what it likes.
    if is_udp(subject) {
        return Vec::new();
    }
    let backends = backends(subject).unwrap_or_default();
    let tiers = backends.into_iter().flat_map(|(_, backend)| spread::tiers(backend));
    let of_tier = |tier: Tier<'_>| {
        let each = usable(subject, tier.port).into_iter();
        let each = each.map(|endpoint| Try {
            port: tier.port.clone(),
            address: endpoint.address,
            alternate: endpoint.alternate,
            policy: tier.policy.cloned(),
            is_stream: subject.stream().is_some(),
        });
        each.collect::<Vec<_>>()
    };
    let mut tries: Vec<Try> = tiers.flat_map(of_tier).collect();
    tries.sort_by(|a, b| (&a.port, a.address).cmp(&(&b.port, b.address)));
    tries.dedup_by(|a, b| (&a.port, a.address) == (&b.port, b.address));
    tries
}

fn usable<'a>(subject: &'a Subject<'_>, port: &ServicePort) -> Vec<&'a Endpoint> {
    let facts = subject.world.facts;
    let all = if is_udp(subject) { &facts.datagram_endpoints } else { &facts.endpoints };
    all.get(port).map(|set| set.usable().collect()).unwrap_or_default()
}

pub fn judge_services(subject: &Subject<'_>) -> Finding {
    let found = |state, detail: String| Finding::new(Link::Service, state, detail);
    let backends = match backends(subject) {
        Ok(backends) if backends.is_empty() => {
            return found(State::Skipped, "no backend has weight".to_owned());
        }
        Ok(backends) => backends,
        Err(why) => return found(State::Skipped, why.to_owned()),
    };
    let Some(rule) = rule(subject) else {
        return found(State::Skipped, "no rule takes the request".to_owned());
    };
    let invalid = backends.iter().find_map(|(index, backend)| match &backend.target {
        Target::Invalid { message, .. } => Some((index, message)),
        Target::Service(_) => None,
    });
    if let Some((index, message)) = invalid {
        let route = &rule.object;
        let field = backend_field(subject.world.inputs, rule, *index);
        let found_by =
            |d: &Diagnostic| d.field.starts_with(&field) && d.message.contains(&**message);
        let diagnostic = subject.diagnostic(route, found_by);
        let place = diagnostic.map_or(&*field, |diagnostic| &diagnostic.field);
        let help = diagnostic.map(|diagnostic| diagnostic.help.clone()).unwrap_or_default();
        let what = match subject.stream() {
            Some(_) => "connections is closed",
            None => "requests answers 500",
        };
        let detail = format!("{message}; its share of {what}");
        return found(State::Broken, detail).help(help).about(subject, route, place);
    }
    let names: Vec<String> = services(subject).iter().map(ToString::to_string).collect();
    let finding = found(State::Ok, names.join(", "));
    match services(subject).first() {
        Some(port) => finding.about(subject, &port.service(), ""),
        None => finding,
    }
}

/// Routes name their backends in lists; an Ingress has one a path.
fn backend_field(inputs: &Inputs, rule: &RuleId, backend: usize) -> String {
    let field = compile::field_of_rule(inputs, rule);
    if rule.object.kind != Kind::INGRESS {
        format!("{field}.backendRefs[{backend}]")
    } else {
        field
    }
}

/// Each backend as the edge asks: itself, what stands in for it where it cannot be reached, the declared answer.
pub fn judge(subject: &Subject<'_>, evidence: &Evidence) -> Finding {
    let found = |state, detail: String| Finding::new(Link::Pod, state, detail);
    let backends = match backends(subject) {
        Ok(backends) => backends,
        Err(why) => return found(State::Skipped, why.to_owned()),
    };
    let (mut takers, mut remarks) = (Vec::new(), Vec::new());
    for (_, backend) in backends {
        let Target::Service(own) = &backend.target else { continue };
        let asked = spread::asked(subject, evidence, backend);
        let mut first = None;
        let mut tiers = asked.tiers.iter();
        let taker = tiers.find(|tier| {
            let fault = fault(subject, tier, evidence);
            let is_well = fault.is_none();
            first = first.take().or(fault);
            is_well
        });
        let taker = taker.map(|tier| tier.port);
        match (taker, asked.declared, first) {
            (None, _, Some(fault)) if fault.state == State::Skipped => return fault,
            (Some(taker), _, first) => {
                remarks.extend(
                    first.map(|fault| format!("{}: {taker} stands in for {own}", fault.detail)),
                );
                takers.push(taker);
            }
            (None, Some(status), first) => {
                let nobody = || format!("no endpoint for {own} is in use");
                let why = first.map_or_else(nobody, |fault| fault.detail);
                remarks.push(format!("{why}: the declared answer {status} is given"));
            }
            (None, None, Some(fault)) => return fault,
            (None, None, None) => {}
        }
    }
    match takers.as_slice() {
        [] if remarks.is_empty() => {
            found(State::Skipped, "no valid backend to look behind".to_owned())
        }
        [] => found(State::Ok, remarks.join("; ")),
        takers => {
            let mut finding = probed(subject, takers, evidence);
            for remark in remarks {
                finding.detail.push_str(&format!("; {remark}"));
            }
            finding
        }
    }
}

/// Why a Service takes no request.
fn fault(subject: &Subject<'_>, tier: &Tier<'_>, evidence: &Evidence) -> Option<Finding> {
    if usable(subject, tier.port).is_empty() {
        return Some(match tier.external() {
            Some(name) => leads_nowhere(subject, tier.port, name, evidence),
            None => not_ready(subject, tier.port),
        });
    }
    if let Some(finding) = own_listeners(subject, tier.port, evidence) {
        return Some(finding);
    }
    // What an endpoint does now says more than that it was taken out for it.
    unreachable(subject, tier, evidence)
        .or_else(|| failing(subject, tier.port, evidence))
        .or_else(|| taken_out(subject, tier.port, evidence))
}

/// A port of UDP is not looked at.
fn own_listeners(
    subject: &Subject<'_>,
    port: &ServicePort,
    evidence: &Evidence,
) -> Option<Finding> {
    let found = own::finding(subject, port, &usable(subject, port), evidence);
    found.filter(|_| !is_udp(subject)).map(|finding| first_slice(subject, port, finding))
}

fn probed(subject: &Subject<'_>, services: &[&ServicePort], evidence: &Evidence) -> Finding {
    let found = |state, detail: String| Finding::new(Link::Pod, state, detail);
    match &evidence.endpoints {
        Probed::Skipped => {
            found(State::Skipped, format!("{} ready; none was probed", ready(subject, services)))
        }
        Probed::Unknown(why) => {
            found(State::Unknown, format!("endpoints could not be probed: {why}"))
        }
        Probed::Seen(results) => {
            let mut finding = reached(subject, services, results);
            let out = |port: &ServicePort, endpoint: &Endpoint| {
                evidence.out.get(&endpoint.address).map(|out| taken_out_for(port, out))
            };
            let failing = |port: &ServicePort, endpoint: &Endpoint| {
                let is_out = evidence.out.contains_key(&endpoint.address);
                let failing = fails(evidence, endpoint).filter(|_| !is_out)?;
                Some(lately(failing) + &kept_in(subject, port, failing, evidence))
            };
            let own = |_: &ServicePort, endpoint: &Endpoint| {
                let leads_back = !is_udp(subject) && own::leads_back(subject, endpoint, evidence);
                leads_back.then(|| own::WHY.to_owned())
            };
            finding.detail += &some_of(subject, services, "refused (`loop`)", own);
            finding.detail += &some_of(subject, services, "taken out", out);
            finding.detail += &some_of(subject, services, "failing", failing);
            finding
        }
    }
}

/// Failures in a row that say something about an endpoint, and for how long they do.
const FAILURES: u32 = 3;
const LATELY_S: u64 = 60;

fn fails<'e>(evidence: &'e Evidence, endpoint: &Endpoint) -> Option<&'e Failing> {
    let failing = evidence.failing.get(&endpoint.address)?;
    (failing.in_row >= FAILURES && failing.ago_s <= LATELY_S).then_some(failing)
}

fn lately(Failing { in_row, ago_s, what }: &Failing) -> String {
    format!("{in_row} in a row, the last {ago_s} s ago: {what}")
}

/// Why an endpoint is not out that fails so often in a row that it would be.
fn kept_in(
    subject: &Subject<'_>,
    port: &ServicePort,
    failing: &Failing,
    evidence: &Evidence,
) -> String {
    let backends = backends(subject).unwrap_or_default();
    let mut tiers = backends.into_iter().flat_map(|(_, backend)| spread::tiers(backend));
    let policy = tiers.find(|tier| tier.port == port).and_then(|tier| tier.policy);
    let rules = policy.map(|policy| policy.ejection.clone()).unwrap_or_default();
    let usable = usable(subject, port);
    let is_out = |endpoint: &&&Endpoint| evidence.out.contains_key(&endpoint.address);
    let out = usable.iter().filter(is_out).count();
    let is_enough = (1..=failing.in_row).contains(&rules.consecutive_failures);
    if !is_enough || traffic::is_within_share(&rules, out, usable.len()) {
        return String::new();
    }
    format!("; kept in because at most {} % may be out", rules.max_percent)
}

/// Every ready endpoint of a Service fails the requests that it is given.
fn failing(subject: &Subject<'_>, port: &ServicePort, evidence: &Evidence) -> Option<Finding> {
    let usable = usable(subject, port);
    let first = usable.first()?;
    let why = lately(fails(evidence, first)?);
    let detail = format!(
        "the last requests to all {} ready endpoints of {port} failed ({}: {why})",
        usable.len(),
        first.address
    );
    let finding = Finding::new(Link::Pod, State::Broken, detail)
        .help("see the pod's own log; does it speak what `appProtocol` of the Service's port says, and without TLS where no BackendTLSPolicy is for it?");
    let all = usable.iter().all(|endpoint| fails(evidence, endpoint).is_some());
    all.then(|| first_slice(subject, port, finding))
}

/// Every ready endpoint of a Service is taken out.
fn taken_out(subject: &Subject<'_>, port: &ServicePort, evidence: &Evidence) -> Option<Finding> {
    let usable = usable(subject, port);
    let first = evidence.out.get(&usable.first()?.address)?;
    let all = usable.iter().all(|endpoint| evidence.out.contains_key(&endpoint.address));
    let detail = format!(
        "all {} ready endpoints of {port} are taken out, so all are used nevertheless ({}: {})",
        usable.len(),
        usable.first()?.address,
        taken_out_for(port, first)
    );
    let finding = Finding::new(Link::Pod, State::Broken, detail)
        .help("see what these pods answer: they are asked again when their time is over or a check passes");
    all.then(|| first_slice(subject, port, finding))
}

/// What is to be said of some endpoints, where others serve: the first of them and how many more there are.
fn some_of(
    subject: &Subject<'_>,
    services: &[&ServicePort],
    what: &str,
    why: impl Fn(&ServicePort, &Endpoint) -> Option<String>,
) -> String {
    let endpoints =
        services.iter().flat_map(|port| usable(subject, port).into_iter().map(move |e| (port, e)));
    let mut found = endpoints.filter_map(|(port, e)| Some((e.address, why(port, e)?)));
    let Some((address, why)) = found.next() else { return String::new() };
    let more = match found.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; {what}: {address} ({why}){more}")
}

/// With the Service for which that was, where it is another one.
fn taken_out_for(port: &ServicePort, out: &TakenOut) -> String {
    match out.service.as_ref().filter(|service| **service != port.service()) {
        Some(service) => {
            format!("{}; by what {service} found, which has this endpoint too", out.why)
        }
        None => out.why.clone(),
    }
}

fn reached(subject: &Subject<'_>, services: &[&ServicePort], results: &Tried) -> Finding {
    let all = || services.iter().flat_map(|port| each_tried(subject, port, results));
    let mut failing =
        all().filter_map(|(endpoint, tried)| Some((endpoint, tried?.as_ref().err()?)));
    let (first, count) = (failing.next(), 1 + failing.count());
    let untried = all().filter(|(_, tried)| tried.is_none()).count();
    let mut detail = format!("{} ready", ready(subject, services));
    match first {
        Some((endpoint, Unreached { why, .. })) => {
            let failing = format!(", {count} of them cannot be used ({}: {why})", endpoint.address);
            detail.push_str(&failing);
        }
        None if untried == 0 => detail.push_str(" and reachable"),
        None => {}
    }
    if untried > 0 {
        detail.push_str(&format!(", {untried} not probed"));
    }
    first_slice(subject, services[0], Finding::new(Link::Pod, State::Ok, detail))
}

fn ready(subject: &Subject<'_>, services: &[&ServicePort]) -> String {
    let usable: usize = services.iter().map(|port| usable(subject, port).len()).sum();
    let total: usize = services.iter().map(|port| endpoints(subject, port).len()).sum();
    format!("{usable} of {total} endpoints")
}

fn first_slice(subject: &Subject<'_>, port: &ServicePort, finding: Finding) -> Finding {
    match endpoints(subject, port).first() {
        Some(endpoint) => finding.about(subject, &endpoint.observed_in, "endpoints"),
        None => finding.about(subject, &port.service(), "spec.selector"),
    }
}

fn not_ready(subject: &Subject<'_>, port: &ServicePort) -> Finding {
    let total = endpoints(subject, port).len();
    let (detail, help) = match total {
        0 => (
            format!("{port} has no endpoint"),
            "does an EndpointSlice name the Service and its port? do the pods exist?",
        ),
        total => (
            format!("none of the {total} endpoints of {port} is ready"),
            "see why the pods' readiness probes fail",
        ),
    };
    first_slice(subject, port, Finding::new(Link::Pod, State::Broken, detail).help(help))
}

/// A Service of type ExternalName has the addresses of its name as endpoints, and no slice.
fn leads_nowhere(
    subject: &Subject<'_>,
    port: &ServicePort,
    name: &Text,
    evidence: &Evidence,
) -> Finding {
    let found = match &evidence.names {
        Probed::Skipped => {
            let detail = format!("the endpoints of {port} are the addresses of {name}; not asked");
            Finding::new(Link::Pod, State::Skipped, detail)
        }
        Probed::Unknown(why) => {
            Finding::new(Link::Pod, State::Unknown, format!("{name} could not be asked for: {why}"))
        }
        Probed::Seen(names) => {
            let (why, help) = nowhere(name, names.get(name).unwrap_or(&Nowhere::NoAddress));
            let detail = format!("no endpoint for {port}: {name} {why}");
            Finding::new(Link::Pod, State::Broken, detail).help(help)
        }
    };
    found.about(subject, &port.service(), "spec.externalName")
}

/// What follows the name in a sentence, and the mend.
fn nowhere(name: &Text, why: &Nowhere) -> (String, String) {
    let correct = format!("correct `externalName`, or the records of {name}");
    match why {
        Nowhere::NotAsked => ("is not asked for yet".to_owned(), "ask again in a moment".to_owned()),
        Nowhere::Unanswered => (
            "could not be asked for: no nameserver has answered".to_owned(),
            "name a nameserver that answers with `up --resolver ADDRESS:PORT`; without it those of /etc/resolv.conf are asked"
                .to_owned(),
        ),
        Nowhere::NoAddress => ("has no address, says the nameserver".to_owned(), correct),
        Nowhere::Forbidden(address, what) => (
            format!("leads to {address}, which is {what}"),
            format!(
                "{correct}; addresses inside (loopback, link-local, metadata, API server) are never gone to"
            ),
        ),
    }
}

/// Only endpoints that were probed are judged: of very many the first are.
fn unreachable(subject: &Subject<'_>, tier: &Tier<'_>, evidence: &Evidence) -> Option<Finding> {
    let Probed::Seen(results) = &evidence.endpoints else { return None };
    let each = each_tried(subject, tier.port, results);
    let mut tried = each.filter_map(|(endpoint, tried)| Some((endpoint, tried?)));
    let (first, result) = tried.next()?;
    let unreached = result.as_ref().err().filter(|_| tried.all(|(_, result)| result.is_err()))?;
    let first = (first.address, &first.observed_in);
    Some(reach::finding(subject, tier, first, unreached))
}

type Tried = BTreeMap<(ServicePort, SocketAddr), Result<(), Unreached>>;

/// The endpoints that requests may go to, each with what came of trying it where it was tried.
fn each_tried<'a>(
    subject: &'a Subject<'_>,
    port: &ServicePort,
    results: &'a Tried,
) -> impl Iterator<Item = (&'a Endpoint, Option<&'a Result<(), Unreached>>)> {
    let port = port.clone();
    let usable = usable(subject, &port).into_iter();
    usable.map(move |endpoint| (endpoint, results.get(&(port.clone(), endpoint.address))))
}
