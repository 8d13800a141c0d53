//! Link 7: the listener, route and rule that take the request, and why the others do not.

use crate::stream::{self, Stream};
use crate::subject::Subject;
use crate::{Finding, Question, State, World};
use model::edge::{Action, Protocol, Target};
use model::id::RuleId;
use model::{Diagnostic, Link, ObjectId};
use routing::{ListenerTable, Matched, Request, RuleVerdict, Scratch};
use std::sync::Arc;

/// What becomes of the request at the gateway.
pub enum Taken<'a> {
    Rule {
        matched: Matched<'a>,
    },
    /// No listener of the port and scheme is for the host.
    NoListener,
    /// It is no request: a listener below HTTP leads the connection on.
    Stream(Stream<'a>),
    /// The listener takes the host, but none of its rules takes the request.
    NoRule {
        table: &'a Arc<ListenerTable>,
    },
}

/// Asks the same tables that the edge asks.
pub fn take<'a>(
    world: &World<'a>,
    question: &Question,
    protocol: Protocol,
    port: u16,
) -> Taken<'a> {
    if let Some(stream) = stream::take(world, question, protocol, port) {
        return Taken::Stream(stream);
    }
    let host = question.host.as_str();
    let Some(table) = world.router.port(port, protocol).and_then(|port| port.listener(host)) else {
        return Taken::NoListener;
    };
    let mut buffer = Vec::new();
    let target = target(question);
    let normal = h1::target::normalize(target.as_bytes(), &mut buffer);
    let headers = no_headers();
    let request = Request {
        method: question.method.as_bytes(),
        path: normal.path,
        query: normal.query,
        headers: &headers,
    };
    match table.select(host, &request, &mut Scratch::default()) {
        Some(matched) => Taken::Rule { matched },
        None => Taken::NoRule { table },
    }
}

/// The request that is judged carries no header of its own.
fn no_headers() -> Vec<(String, String)> {
    Vec::new()
}

fn target(question: &Question) -> String {
    match &question.query {
        Some(query) => format!("{}?{query}", question.path),
        None => question.path.clone(),
    }
}

pub fn judge(subject: &Subject<'_>) -> Finding {
    match &subject.taken {
        Taken::Rule { matched, .. } => rule(subject, matched),
        Taken::Stream(stream) => stream::judge_gateway(subject, stream),
        Taken::NoListener | Taken::NoRule { .. } if !subject.is_served() => unattached(subject),
        Taken::NoListener => no_listener(subject),
        Taken::NoRule { table } => no_rule(subject, table),
    }
}

fn rule(subject: &Subject<'_>, matched: &Matched<'_>) -> Finding {
    let found = |state, detail: String| Finding::new(Link::Gateway, state, detail);
    let field = compile::field_of_rule(subject.world.inputs, &matched.rule.id);
    let route = &matched.route().id;
    let by = format!("{}, {}", matched.listener.id(), matched.rule.id);
    let finding = match &matched.rule.action {
        Action::Fail { status, message, why } => {
            let is_cause = |d: &Diagnostic| d.code == &**why && d.field.starts_with(&field);
            let help = subject.diagnostic(route, is_cause).map(|d| d.help.clone());
            found(State::Broken, format!("{by} answers {status}: {message}"))
                .help(help.unwrap_or_default())
        }
        Action::Redirect(redirect) => {
            found(State::Ok, format!("{by} answers {} with a redirect", redirect.status))
        }
        Action::Forward(_) => found(State::Ok, by),
    };
    finding.about(subject, route, &field)
}

/// Routes that name the host, none of which is attached to a listener.
fn unattached(subject: &Subject<'_>) -> Finding {
    if let Some(finding) = route_at_fault(subject, |_| true) {
        return finding;
    }
    let finding =
        Finding::new(Link::Gateway, State::Broken, format!("no route serves {}", subject.host))
            .help("add an HTTPRoute, a TLSRoute or an Ingress with the hostname");
    match (subject.answering().first(), subject.contract_object()) {
        (Some(route), _) => finding.about(subject, route, "spec.hostnames"),
        (None, Some(contract)) => finding.about(subject, &contract, "spec.hostname"),
        (None, None) => finding,
    }
}

/// What is said about a route of the host, or about the Gateway or class that it leans on.
fn route_at_fault(
    subject: &Subject<'_>,
    relevant: impl Fn(&Diagnostic) -> bool,
) -> Option<Finding> {
    subject.answering().iter().find_map(|route| {
        let said = subject.diagnostic(route, &relevant).or_else(|| subject.not_ours(route));
        // The cause is said where it is: at the Gateway.
        let is_of_listener = |d: &&Diagnostic| d.code == compile::codes::LISTENER_NOT_SERVED.slug;
        if said.filter(is_of_listener).is_some()
            && let Some(finding) = gateway_at_fault(subject, route)
        {
            return Some(finding);
        }
        let finding = said.map(|diagnostic| {
            Finding::new(Link::Gateway, State::Broken, diagnostic.message.clone())
                .help(diagnostic.help.clone())
                .about(subject, route, &diagnostic.field)
        });
        finding.or_else(|| gateway_at_fault(subject, route))
    })
}

/// A route may be right and its Gateway wrong, or not ours.
fn gateway_at_fault(subject: &Subject<'_>, route: &ObjectId) -> Option<Finding> {
    stream::parents(subject.world.inputs, route).iter().find_map(|parent| {
        let namespace = parent.namespace.clone().unwrap_or_else(|| route.namespace.clone());
        let (gateway, spec) = subject.world.inputs.gateway(&namespace, &parent.name)?;
        let fields: Vec<String> = (0..)
            .zip(&spec.listeners)
            .filter(|(_, listener)| {
                parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                    && listener.hostname.as_ref().is_none_or(|host| host.matches(subject.host))
            })
            .map(|(index, _): (usize, _)| format!("spec.listeners[{index}]"))
            .collect();
        let is_of_host =
            |d: &Diagnostic| d.is_error() && fields.iter().any(|field| is_within(&d.field, field));
        let diagnostic = subject
            .diagnostic(&gateway.id, is_of_host)
            .or_else(|| subject.diagnostic(&gateway.id, Diagnostic::is_error))
            .or_else(|| subject.not_ours(&gateway.id))?;
        let detail = match diagnostic.is_error() {
            true => format!("{}; so {route} is detached", diagnostic.message),
            false => diagnostic.message.clone(),
        };
        let finding = Finding::new(Link::Gateway, State::Broken, detail);
        Some(finding.help(diagnostic.help.clone()).about(subject, &gateway.id, &diagnostic.field))
    })
}

/// About attaching, not about one rule.
fn is_of_parents(diagnostic: &Diagnostic) -> bool {
    diagnostic.field.starts_with("spec.parentRefs") || diagnostic.field.is_empty()
}

/// The host is served, but not on this port and scheme.
fn no_listener(subject: &Subject<'_>) -> Finding {
    if let Some(finding) = route_at_fault(subject, is_of_parents) {
        return finding;
    }
    let scheme = if subject.protocol == Protocol::Https { "HTTPS" } else { "HTTP" };
    let served: Vec<String> = subject
        .world
        .compiled
        .snapshot
        .edge
        .listeners
        .iter()
        .filter(|listener| listener.attachments.iter().any(|a| a.host.matches(subject.host)))
        .map(|listener| format!("{} (port {})", listener.id, listener.port))
        .collect();
    let detail = format!("no {scheme} listener on port {} takes the host", subject.port);
    let finding = Finding::new(Link::Gateway, State::Broken, detail)
        .help(format!("it is served by {}", served.join(", ")));
    for gateway in subject.gateways() {
        if let Some(diagnostic) = subject.diagnostic(&gateway, Diagnostic::is_error) {
            return Finding::new(Link::Gateway, State::Broken, diagnostic.message.clone())
                .help(diagnostic.help.clone())
                .about(subject, &gateway, &diagnostic.field);
        }
    }
    match subject.answering().first() {
        Some(route) => finding.about(subject, route, "spec.parentRefs"),
        None => finding,
    }
}

/// The listener is there; says of each rule of the host why it does not take the request.
fn no_rule(subject: &Subject<'_>, table: &ListenerTable) -> Finding {
    let reasons = why_not(subject);
    if reasons.is_empty()
        && let Some(finding) = route_at_fault(subject, is_of_parents)
    {
        return finding;
    }
    let shown = reasons.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    let detail = match reasons.len() {
        0 => format!("{} takes the host, but no route is attached there for it", table.id()),
        n if n > 5 => format!(
            "no rule takes {} {}: {shown}; and {} more",
            subject.question.method,
            subject.question.path,
            n - 5
        ),
        _ => {
            format!("no rule takes {} {}: {shown}", subject.question.method, subject.question.path)
        }
    };
    let finding = Finding::new(Link::Gateway, State::Broken, detail)
        .help("add a rule whose match takes the request");
    match subject.answering().first() {
        Some(route) => finding.about(subject, route, "spec.rules"),
        None => finding.about(subject, &table.id().object, "spec.listeners"),
    }
}

fn why_not(subject: &Subject<'_>) -> Vec<String> {
    let mut buffer = Vec::new();
    let target = target(subject.question);
    let normal = h1::target::normalize(target.as_bytes(), &mut buffer);
    let headers = no_headers();
    let request = Request {
        method: subject.question.method.as_bytes(),
        path: normal.path,
        query: normal.query,
        headers: &headers,
    };
    let trace = subject.world.router.trace(subject.port, subject.protocol, subject.host, &request);
    let rules = trace.layers.iter().flat_map(|layer| &layer.rules);
    rules
        .filter(|rule| rule.verdict == RuleVerdict::Differs)
        .map(|rule| {
            let misses: Vec<String> = rule
                .matches
                .iter()
                .filter_map(|m| m.misses.first())
                .map(ToString::to_string)
                .collect();
            format!("{}: {}", rule.rule.id, misses.join(", or "))
        })
        .collect()
}

/// Other rules of the host that are broken.
pub fn notes(subject: &Subject<'_>) -> Vec<String> {
    let taken = match &subject.taken {
        Taken::Rule { matched } => Some(&matched.rule.id),
        Taken::Stream(stream) => stream.rule(),
        _ => None,
    };
    let listeners = &subject.world.compiled.snapshot.edge.listeners;
    let attachments =
        listeners.iter().flat_map(|l| &l.attachments).filter(|a| a.host.matches(subject.host));
    let said = said_of_routes(subject);
    let mut notes: Vec<String> = attachments
        .flat_map(|attachment| &attachment.route.rules)
        .filter(|rule| Some(&rule.id) != taken)
        .filter_map(|rule| fault(subject, &rule.action).map(|fault| (&rule.id, fault)))
        .filter(|(rule, _)| !said.iter().any(|d| is_about(subject, d, rule)))
        .map(|(rule, fault)| format!("{rule}: {fault}"))
        .collect();
    let others = said.iter().filter(|d| taken.is_none_or(|rule| !is_about(subject, d, rule)));
    notes.extend(
        others.filter_map(|d| Some(format!("{}, {}: {}", d.object.as_ref()?, d.field, d.message))),
    );
    notes.sort();
    notes.dedup();
    notes
}

/// Errors of the routes that name the host, and of its contracts: a rule that was left out is in no plan.
fn said_of_routes<'a>(subject: &Subject<'a>) -> Vec<&'a Diagnostic> {
    let mut objects = subject.answering();
    let contracts = &subject.world.compiled.snapshot.governance.contracts;
    objects.extend(
        contracts.iter().filter(|c| c.hostname.as_str() == subject.host).map(|c| c.id.clone()),
    );
    let diagnostics = subject.world.compiled.diagnostics.iter();
    diagnostics
        .filter(|d| {
            d.is_error() && d.object.as_ref().is_some_and(|object| objects.contains(object))
        })
        .collect()
}

/// True when an error is one of the rule: it is not said again in other words.
fn is_about(subject: &Subject<'_>, diagnostic: &Diagnostic, rule: &RuleId) -> bool {
    let field = compile::field_of_rule(subject.world.inputs, rule);
    diagnostic.object.as_ref() == Some(&rule.object)
        && !field.is_empty()
        && is_within(&diagnostic.field, &field)
}

/// `spec.rules[1].filters[0]` is within `spec.rules[1]`, `spec.rules[12]` is not.
fn is_within(field: &str, outer: &str) -> bool {
    field.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn fault(subject: &Subject<'_>, action: &Action) -> Option<String> {
    let backends = match action {
        Action::Redirect(_) => return None,
        Action::Fail { status, message, .. } => {
            return Some(format!("answers {status}: {message}"));
        }
        Action::Forward(backends) => backends,
    };
    if backends.iter().all(|backend| backend.weight == 0) {
        return Some("every backend has weight 0".to_owned());
    }
    backends.iter().filter(|backend| backend.weight > 0).find_map(|backend| match &backend.target {
        Target::Invalid { message, .. } => Some(message.to_string()),
        Target::Service(port) => {
            let usable = subject
                .world
                .facts
                .endpoints
                .get(port)
                .is_some_and(|set| set.usable().next().is_some());
            (!usable).then(|| format!("{port} has no ready endpoint"))
        }
    })
}
