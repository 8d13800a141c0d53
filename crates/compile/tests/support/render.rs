//! A stable text of a compile's results, for people to review. Without digests: they are compared elsewhere.

mod answers;
mod entry;
mod front;
mod traffic;

use compile::Compiled;
use model::certificates::Source;
use model::dns::RecordData;
use model::edge::{
    Action, Attachment, Backend, Condition, HeaderEdits, Listener, Match, PathMatch, PathRewrite,
    Redirect, Rule, Target, ValueMatch,
};
use model::governance::Verdict;
use model::layer4;
use model::status::ObjectStatus;
use model::{Diagnostic, Facts, Snapshot};
use std::collections::HashSet;
use std::fmt::Write;

pub fn all(compiled: &Compiled, facts: &Facts, advice: &[Diagnostic]) -> String {
    let mut out = String::new();
    snapshot(&mut out, &compiled.snapshot);
    endpoints(&mut out, facts);
    section(&mut out, "status", compiled.statuses.iter().flat_map(status));
    section(&mut out, "diagnostics", compiled.diagnostics.iter().flat_map(diagnostic));
    section(&mut out, "advice", advice.iter().flat_map(diagnostic));
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        writeln!(out, "# {title}").expect("a string takes text");
        for line in lines {
            writeln!(out, "{line}").expect("a string takes text");
        }
    }
}

fn snapshot(out: &mut String, snapshot: &Snapshot) {
    let mut seen = HashSet::new();
    let edge = snapshot.edge.listeners.iter().flat_map(|l| listener(l, &mut seen));
    section(out, "edge", edge.collect::<Vec<_>>().into_iter());
    section(out, "layer4", snapshot.edge.layer4.iter().flat_map(|l| stream_listener(l)));
    let zones = snapshot.dns.zones.iter().flat_map(|zone| {
        let head = format!("zone {} ({})", zone.name, zone.id);
        let sets = zone.sets.iter().map(|s| format!("  {} {} {}", s.name, s.ttl, record(&s.data)));
        std::iter::once(head).chain(sets).collect::<Vec<_>>()
    });
    section(out, "dns", zones);
    let certificates = snapshot.certificates.certificates.iter().map(|c| match &c.source {
        Source::Secret(leaf) => format!("{}: names {}", c.secret, list(&leaf.names)),
        Source::Missing { hosts } => format!("{}: missing, for {}", c.secret, list(hosts)),
    });
    section(out, "certificates", certificates);
    let governance = &snapshot.governance;
    let contracts =
        governance.contracts.iter().map(|c| format!("contract {} ({})", c.hostname, c.id));
    let claims = governance.claims.iter().map(|claim| {
        let verdict = match &claim.verdict {
            Verdict::Granted => String::new(),
            Verdict::InConflict { with } => format!(", in conflict with {with}"),
        };
        let visibility = claim.visibility.map(|v| format!(", {}", v.name())).unwrap_or_default();
        format!("claim {} by {}{visibility}{verdict}", claim.host, claim.by)
    });
    let teams = governance.teams.iter().map(|(namespace, owner)| {
        format!("team of {namespace}: {} {}", owner.team, owner.escalation.as_deref().unwrap_or(""))
    });
    section(
        out,
        "governance",
        contracts.chain(claims).chain(teams).map(|l| l.trim_end().to_owned()),
    );
}

fn listener(listener: &Listener, seen: &mut HashSet<usize>) -> Vec<String> {
    let certificates = match listener.certificates.is_empty() {
        true => String::new(),
        false => format!(" with {}", list(&listener.certificates)),
    };
    let head = format!(
        "{} {:?} {} ({}){certificates}",
        listener.port, listener.protocol, listener.host, listener.id
    );
    let mut lines = vec![head];
    lines.extend(entry::of_listener(listener.policy.as_deref()));
    lines.extend(front::of_listener(listener).into_iter().map(|line| format!("  {line}")));
    lines.extend(answers::of_listener(listener).into_iter().map(|line| format!("  {line}")));
    for attachment in &listener.attachments {
        lines.extend(self::attachment(attachment, seen));
    }
    lines
}

fn stream_listener(listener: &layer4::Listener) -> Vec<String> {
    let with = match listener.certificates.is_empty() {
        true => String::new(),
        false => format!(" with {}", list(&listener.certificates)),
    };
    let layer4::Listener { port, transport, host, id, .. } = listener;
    let mut lines = vec![format!("{port} {transport:?} {host} ({id}){with}")];
    lines.extend(entry::of_listener(listener.policy.as_deref()));
    let terms = front::of_policy(listener.policy.as_deref());
    lines.extend(terms.into_iter().map(|line| format!("  {line}")));
    for layer4::Attachment { host, route } in &listener.attachments {
        lines.push(format!("  {host}: {}", route.rule));
        lines.extend(route.backends.iter().map(|b| format!("    {}", traffic::of_stream(b))));
    }
    lines
}

fn attachment(attachment: &Attachment, seen: &mut HashSet<usize>) -> Vec<String> {
    let original = match attachment.original == attachment.host {
        true => String::new(),
        false => format!(" written {}", attachment.original),
    };
    let mut lines = vec![format!("  {}{original}: {}", attachment.host, attachment.route.id)];
    if seen.insert(attachment.route.address()) {
        lines.extend(attachment.route.rules.iter().flat_map(rule));
    }
    lines
}

fn rule(rule: &Rule) -> Vec<String> {
    let name = rule.id.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let mut parts = vec![format!("    rule {}{name} -> {}", rule.id.index, action(&rule.action))];
    parts.extend(rule.matches.iter().map(|found| format!("      {}", match_(found))));
    for (what, edits) in [("request", &rule.request_headers), ("response", &rule.response_headers)]
    {
        if !edits.is_empty() {
            parts.push(format!("      {what} headers:{}", header_edits(edits)));
        }
    }
    if let Some(host) = &rule.rewrite.hostname {
        parts.push(format!("      rewrite host {host}"));
    }
    if let Some(path) = &rule.rewrite.path {
        parts.push(format!("      rewrite {}", path_rewrite(path)));
    }
    for (what, timeout) in
        [("request", rule.timeouts.request), ("backend request", rule.timeouts.backend_request)]
    {
        parts.extend(timeout.map(|timeout| format!("      {what} timeout {timeout:?}")));
    }
    parts.extend(entry::of_rule(rule).into_iter().map(|line| format!("      {line}")));
    parts.extend(front::of_rule(rule.policy.as_deref()).into_iter().map(|l| format!("      {l}")));
    parts.extend(answers::of_policy(rule.policy.as_ref()).map(|line| format!("      {line}")));
    parts.extend(traffic::of_rule(rule).into_iter().map(|line| format!("      {line}")));
    parts
}

fn action(action: &Action) -> String {
    match action {
        Action::Forward(backends) => backends
            .iter()
            .map(|b| format!("{} weight {}", target(b), b.weight))
            .collect::<Vec<_>>()
            .join(", "),
        Action::Redirect(redirect) => self::redirect(redirect),
        Action::Fail { status, why, .. } => format!("{status} ({why})"),
    }
}

fn target(backend: &Backend) -> String {
    match &backend.target {
        Target::Service(port) => port.to_string(),
        Target::Invalid { why, .. } => format!("invalid ({why})"),
    }
}

fn redirect(redirect: &Redirect) -> String {
    let scheme = redirect.scheme.map(|scheme| format!(" scheme {scheme:?}"));
    let host = redirect.hostname.as_ref().map(|host| format!(" host {host}"));
    let port = redirect.port.map(|port| format!(" port {port}"));
    let path = redirect.path.as_ref().map(|path| format!(" {}", path_rewrite(path)));
    let parts: String = [scheme, host, port, path].into_iter().flatten().collect();
    format!("redirect {}{parts}", redirect.status)
}

fn path_rewrite(path: &PathRewrite) -> String {
    match path {
        PathRewrite::ReplaceFull(path) => format!("path {path}"),
        PathRewrite::ReplacePrefix(path) => format!("prefix \"{path}\""),
    }
}

fn header_edits(edits: &HeaderEdits) -> String {
    let set = edits.set.iter().map(|(name, value)| format!(" set {name}={value}"));
    let add = edits.add.iter().map(|(name, value)| format!(" add {name}={value}"));
    set.chain(add).chain(edits.remove.iter().map(|name| format!(" remove {name}"))).collect()
}

fn match_(found: &Match) -> String {
    let path = match &found.path {
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Prefix(path) => format!("prefix \"{path}\""),
        PathMatch::Regex(pattern) => format!("regex {pattern}"),
    };
    let conditions: String = found
        .conditions
        .iter()
        .map(|condition| match condition {
            Condition::Method(method) => format!(" {method}"),
            Condition::Header { name, value } => format!(" header {name}{}", value_match(value)),
            Condition::Query { name, value } => format!(" query {name}{}", value_match(value)),
        })
        .collect();
    format!("{path}{conditions} rank {:?}", found.rank.0)
}

fn value_match(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Regex(pattern) => format!("~{pattern}"),
    }
}

fn record(data: &RecordData) -> String {
    match data {
        RecordData::Entry { listener_of } => format!("entry of {listener_of}"),
        RecordData::Ns(names) => format!("NS {}", list(names)),
        RecordData::A(addresses) => format!("A {}", list(addresses)),
        RecordData::Aaaa(addresses) => format!("AAAA {}", list(addresses)),
        RecordData::Cname(name) => format!("CNAME {name}"),
        RecordData::Txt(texts) => format!("TXT {}", texts.len()),
        RecordData::Mx(hosts) => format!("MX {}", hosts.len()),
        RecordData::Caa(entries) => format!("CAA {}", entries.len()),
        RecordData::Srv(targets) => format!("SRV {}", targets.len()),
    }
}

fn endpoints(out: &mut String, facts: &Facts) {
    let mut ports: Vec<_> = facts.endpoints.iter().collect();
    ports.sort_by_key(|(port, _)| *port);
    let lines = ports.into_iter().map(|(port, set)| {
        let shown = set.endpoints.iter().map(|e| {
            let ready = if e.ready { "" } else { " not ready" };
            let draining = if e.terminating { " terminating" } else { "" };
            let or = e.alternate.map(|address| format!(" or {address}")).unwrap_or_default();
            let zone = e.zone.as_ref().map(|zone| format!(" in {zone}")).unwrap_or_default();
            format!("{}{or}{zone}{ready}{draining}", e.address)
        });
        format!("{port} -> {}", shown.collect::<Vec<_>>().join(", ")).trim_end().to_owned()
    });
    let datagrams = facts.datagram_endpoints.iter().map(|(port, set)| {
        let shown: Vec<String> = set.endpoints.iter().map(|e| e.address.to_string()).collect();
        format!("{port} over UDP -> {}", shown.join(", "))
    });
    let mut datagrams: Vec<String> = datagrams.collect();
    datagrams.sort();
    section(out, "endpoints", lines.collect::<Vec<_>>().into_iter().chain(datagrams));
}

fn status(status: &ObjectStatus) -> Vec<String> {
    let mut lines = vec![format!("{}", status.object)];
    lines.extend(conditions("  ", &status.conditions));
    for listener in &status.listeners {
        lines.push(format!(
            "  listener {}: {} routes, kinds {:?}",
            listener.name, listener.attached_routes, listener.supported_kinds
        ));
        lines.extend(conditions("    ", &listener.conditions));
    }
    for parent in &status.parents {
        let section = parent.section.as_ref().map(|s| format!(" section {s}")).unwrap_or_default();
        let port = parent.port.map(|port| format!(" port {port}")).unwrap_or_default();
        lines.push(format!("  parent {}{section}{port}", parent.parent));
        lines.extend(conditions("    ", &parent.conditions));
    }
    lines
}

fn conditions<'a>(
    indent: &'a str,
    conditions: &'a [model::status::Condition],
) -> impl Iterator<Item = String> + 'a {
    conditions.iter().map(move |c| {
        let message = if c.message.is_empty() { String::new() } else { format!(": {}", c.message) };
        format!("{indent}{} {} {}{message}", c.kind, c.status, c.reason)
    })
}

fn diagnostic(found: &Diagnostic) -> Vec<String> {
    let place = match &found.place {
        Some(place) => format!("{}:{}:{}", place.file, place.line, place.column),
        None => "(no place)".to_owned(),
    };
    let mut lines =
        vec![format!("{place} {} {}: {}", found.severity.name(), found.code, found.message)];
    let object = found.object.as_ref().map(ToString::to_string).unwrap_or_default();
    lines.push(format!("  at {object} {}", found.field).trim_end().to_owned());
    if !found.help.is_empty() {
        lines.push(format!("  help: {}", found.help));
    }
    for (what, place) in &found.related {
        lines.push(format!("  {what}: {}:{}:{}", place.file, place.line, place.column));
    }
    if let Some(owner) = &found.owner {
        let contract = owner.contract.as_ref().map(|c| format!(" by contract {c}"));
        lines.push(format!("  owner: {}{}", owner.team, contract.unwrap_or_default()));
    }
    lines
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
