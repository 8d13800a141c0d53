//! Link 8, service: exists and has the port. Link 9, pod: ready endpoints that take a connection.

use crate::gateway::Taken;
use crate::spread;
use crate::subject::Subject;
use crate::{Evidence, Finding, Probed, State};
use manifest::Inputs;
use model::edge::{Action, Backend, Target};
use model::facts::Endpoint;
use model::id::{RuleId, ServicePort};
use model::layer4::{Attachment, Transport};
use model::{Diagnostic, Kind, Link};
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

/// Endpoints worth a connection.
pub fn addresses(subject: &Subject<'_>) -> Vec<SocketAddr> {
    // A port of UDP takes no connection, and answers what it likes.
    if is_udp(subject) {
        return Vec::new();
    }
    let backends = backends(subject).unwrap_or_default();
    let mut addresses: Vec<SocketAddr> = backends
        .into_iter()
        .flat_map(|(_, backend)| spread::ports(backend))
        .flat_map(|port| usable(subject, port))
        .map(|e| e.address)
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
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
        let taker = asked.ports.iter().copied().find(|port| {
            let fault = fault(subject, port, evidence);
            let is_well = fault.is_none();
            first = first.take().or(fault);
            is_well
        });
        match (taker, asked.declared, first) {
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
fn fault(subject: &Subject<'_>, port: &ServicePort, evidence: &Evidence) -> Option<Finding> {
    if usable(subject, port).is_empty() {
        return Some(not_ready(subject, port));
    }
    taken_out(subject, port, evidence).or_else(|| unreachable(subject, port, evidence))
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
            if let Some(some) = partly_out(subject, services, evidence) {
                finding.detail.push_str(&some);
            }
            finding
        }
    }
}

/// Every ready endpoint of a Service is taken out.
fn taken_out(subject: &Subject<'_>, port: &ServicePort, evidence: &Evidence) -> Option<Finding> {
    let usable = usable(subject, port);
    let first = evidence.out.get(&usable.first()?.address)?;
    let all = usable.iter().all(|endpoint| evidence.out.contains_key(&endpoint.address));
    let detail = format!(
        "all {} ready endpoints of {port} are taken out, so all are used nevertheless ({}: {first})",
        usable.len(),
        usable.first()?.address
    );
    let finding = Finding::new(Link::Pod, State::Broken, detail)
        .help("see what these pods answer: they are asked again when their time is over or a check passes");
    all.then(|| first_slice(subject, port, finding))
}

fn partly_out(
    subject: &Subject<'_>,
    services: &[&ServicePort],
    evidence: &Evidence,
) -> Option<String> {
    let endpoints = services.iter().flat_map(|port| usable(subject, port));
    let mut out = endpoints
        .filter_map(|endpoint| Some((endpoint.address, evidence.out.get(&endpoint.address)?)));
    let (address, why) = out.next()?;
    let more = match out.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("; taken out: {address} ({why}){more}"))
}

fn reached(
    subject: &Subject<'_>,
    services: &[&ServicePort],
    results: &BTreeMap<SocketAddr, Result<(), String>>,
) -> Finding {
    let refuses = |endpoint: &&Endpoint| results.get(&endpoint.address).is_some_and(Result::is_err);
    let all = || services.iter().flat_map(|port| usable(subject, port));
    let silent = all().filter(refuses).count();
    let untried = all().filter(|endpoint| !results.contains_key(&endpoint.address)).count();
    let mut detail = format!("{} ready", ready(subject, services));
    match (silent, untried) {
        (0, 0) => detail.push_str(" and reachable"),
        (0, _) => {}
        (silent, _) => detail.push_str(&format!(", {silent} of them refuse connections")),
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

/// Only endpoints that were probed are judged: of very many the first are.
fn unreachable(subject: &Subject<'_>, port: &ServicePort, evidence: &Evidence) -> Option<Finding> {
    let Probed::Seen(results) = &evidence.endpoints else { return None };
    let usable = usable(subject, port);
    let mut probed = usable.iter().filter_map(|endpoint| {
        results.get(&endpoint.address).map(|result| (endpoint.address, result))
    });
    let (first, result) = probed.next()?;
    let why = result.as_ref().err().filter(|_| probed.all(|(_, result)| result.is_err()))?;
    let detail = format!("no ready endpoint of {port} takes a connection ({first}: {why})");
    let finding = Finding::new(Link::Pod, State::Broken, detail)
        .help("is the process running, and on that port?");
    Some(first_slice(subject, port, finding))
}
