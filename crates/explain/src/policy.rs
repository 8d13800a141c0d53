//! Link 5, policy: whether the entry lets the client in, and by which list it does not.

use crate::gateway::Taken;
use crate::subject::Subject;
use crate::{Finding, State};
use model::Link;
use model::front::{ListOrigin, ListenerPolicy, Refused, Restriction};
use std::net::IpAddr;

pub fn judge(subject: &Subject<'_>) -> Finding {
    let Some(policy) = policy(subject) else {
        return Finding::new(Link::Policy, State::Skipped, "no rule takes the request");
    };
    let closed = restrictions(subject, policy);
    if let Some(finding) = subject.question.from.and_then(|from| refused(subject, &closed, from)) {
        return finding;
    }
    if let Some(finding) = in_maintenance(subject) {
        return finding;
    }
    match &subject.taken {
        Taken::Rule { matched, .. } => Finding::new(
            Link::Policy,
            State::Ok,
            let_in(subject, &closed),
        )
        .about(subject, &matched.route().id, ""),
        Taken::Stream(_) if closed.is_empty() => {
            Finding::new(Link::Policy, State::Skipped, "no policy looks into a connection")
        }
        Taken::Stream(_) => Finding::new(Link::Policy, State::Ok, let_in(subject, &closed)),
        _ => Finding::new(Link::Policy, State::Skipped, "no rule takes the request"),
    }
}

/// Maintenance of the rule that takes the request.
fn in_maintenance(subject: &Subject<'_>) -> Option<Finding> {
    let Taken::Rule { matched, .. } = &subject.taken else { return None };
    let answers = matched.rule.policy.as_ref()?.answers.as_ref()?;
    let maintenance = answers.maintenance.as_ref()?;
    let passes = |from: IpAddr| maintenance.allow.contains(from);
    if subject.question.from.is_some_and(passes) {
        return None;
    }
    let whom = match maintenance.allow.is_empty() {
        true => "every request is",
        false => "requests are, but for those of clients in `maintenance.allow`,",
    };
    let detail = format!("maintenance is switched on: {whom} answered 503");
    let finding = Finding::new(Link::Policy, State::Broken, detail);
    let finding = finding.help("set `maintenance.enabled` to false");
    Some(finding.about(subject, &maintenance.policy, "spec.maintenance"))
}

/// A probe from here would be refused, or be taken for what it is not.
pub fn is_guarded(subject: &Subject<'_>) -> bool {
    policy(subject).flatten().is_some_and(|policy| {
        let wants_header = policy.proxy_protocol.as_ref().is_some_and(|proxy| !proxy.is_optional);
        wants_header || !policy.peers.is_empty()
    })
}

/// What is judged, and by whom.
struct Closed<'a> {
    field: &'static str,
    restriction: &'a Restriction,
}

/// Of the listener, where there is one.
fn policy<'a>(subject: &'a Subject<'_>) -> Option<Option<&'a ListenerPolicy>> {
    match &subject.taken {
        Taken::Rule { matched } => Some(matched.listener.listener().policy.as_deref()),
        Taken::NoRule { table } => Some(table.listener().policy.as_deref()),
        Taken::Stream(stream) => Some(stream.listener.policy.as_deref()),
        Taken::NoListener => None,
    }
}

fn restrictions<'a>(
    subject: &'a Subject<'_>,
    policy: Option<&'a ListenerPolicy>,
) -> Vec<Closed<'a>> {
    let peers = policy.into_iter().flat_map(|policy| &policy.peers);
    let sources = policy.into_iter().flat_map(|policy| &policy.sources);
    let of_rule = match &subject.taken {
        Taken::Rule { matched } => matched.rule.policy.as_deref(),
        _ => None,
    };
    let sources = sources.chain(of_rule.into_iter().flat_map(|policy| &policy.sources));
    let named = |field| move |restriction| Closed { field, restriction };
    peers.map(named("spec.peers")).chain(sources.map(named("spec.sources"))).collect()
}

fn refused(subject: &Subject<'_>, closed: &[Closed<'_>], from: IpAddr) -> Option<Finding> {
    let (found, why) =
        closed.iter().find_map(|closed| Some((closed, closed.restriction.refusal(from)?)))?;
    let policy = &found.restriction.policy;
    let (list, help) = match why {
        Refused::By(list) => (
            format!("it is kept out by {}", origin(&list.origin)),
            "remove it from the list, if it should be let in".to_owned(),
        ),
        Refused::InNoList => {
            let lists = found.restriction.allow.iter().flatten();
            let names: Vec<String> = lists.map(|list| origin(&list.origin)).collect();
            let where_ = if names.is_empty() { found.field.to_owned() } else { names.join(", ") };
            (
                format!("it is not in {where_}"),
                format!("add it to {where_}, if it should be let in"),
            )
        }
    };
    let what = match found.field {
        "spec.peers" => "may not connect by itself",
        _ if subject.stream().is_some() => "may not connect",
        _ => "is answered 403",
    };
    let detail = format!("{from} {what}: {list} ({policy})");
    let finding = Finding::new(Link::Policy, State::Broken, detail).help(help);
    Some(match why {
        Refused::By(list) => match &list.origin {
            ListOrigin::Entry { object, .. } => finding.about(subject, object, "data"),
            ListOrigin::Field(field) => finding.about(subject, policy, field),
        },
        Refused::InNoList => finding.about(subject, policy, found.field),
    })
}

fn origin(origin: &ListOrigin) -> String {
    match origin {
        ListOrigin::Field(field) => field.to_string(),
        ListOrigin::Entry { object, key } => format!("{object} `{key}`"),
    }
}

fn let_in(subject: &Subject<'_>, closed: &[Closed<'_>]) -> String {
    let mut policies: Vec<String> =
        closed.iter().map(|closed| closed.restriction.policy.to_string()).collect();
    policies.dedup();
    match (policies.as_slice(), subject.question.from) {
        ([], _) => "no policy refuses the request".to_owned(),
        (_, Some(from)) => format!("{from} is let in ({})", policies.join(", ")),
        (_, None) => format!(
            "some addresses are let in, others are not ({}); ask with --from ADDRESS",
            policies.join(", ")
        ),
    }
}
