//! Link 5, policy, and link 6, the load balancer: the entry in front, and what balancing holds back.

use crate::evidence::PortState;
use crate::gateway::Taken;
use crate::subject::Subject;
use crate::{Evidence, Finding, Probed, State};
use model::Link;
use model::edge::{Action, Backend};

pub fn judge_policy(subject: &Subject<'_>) -> Finding {
    if let Some(finding) = closed(subject) {
        return finding;
    }
    match &subject.taken {
        Taken::Rule { matched, .. } => Finding::new(
            Link::Policy,
            State::Ok,
            "no policy refuses the request",
        )
        .about(subject, &matched.route().id, ""),
        _ => Finding::new(Link::Policy, State::Skipped, "no rule takes the request"),
    }
}

/// Maintenance of the rule that takes the request.
fn closed(subject: &Subject<'_>) -> Option<Finding> {
    let Taken::Rule { matched, .. } = &subject.taken else { return None };
    let answers = matched.rule.policy.as_ref()?.answers.as_ref()?;
    let maintenance = answers.maintenance.as_ref()?;
    let allowed: Vec<String> = maintenance.allow.iter().map(ToString::to_string).collect();
    let whom = match allowed.is_empty() {
        true => "every request is".to_owned(),
        false => format!("requests are, but for clients of {},", allowed.join(", ")),
    };
    let finding = Finding::new(
        Link::Policy,
        State::Broken,
        format!("maintenance is switched on: {whom} answered 503"),
    );
    let field = "spec.maintenance";
    Some(finding.help("set `maintenance.enabled` to false").about(
        subject,
        &maintenance.policy,
        field,
    ))
}

pub fn judge(subject: &Subject<'_>, evidence: &Evidence) -> Finding {
    let found = |state, detail: String| Finding::new(Link::LoadBalancer, state, detail);
    let held = held_back(subject);
    match &evidence.ports {
        Probed::Seen(ports) => match ports.get(&subject.port) {
            Some(PortState::Failed(why)) => {
                with_listener(subject, found(State::Broken, why.clone()))
                    .help("free the port, or choose another with --port-offset or --bind")
            }
            Some(PortState::Bound(address)) => held.unwrap_or_else(|| {
                with_listener(subject, found(State::Ok, format!("listening on {address}")))
            }),
            None => {
                let mut finding =
                    found(State::Broken, format!("nothing listens on port {}", subject.port));
                finding.follow(Link::Gateway);
                finding
            }
        },
        Probed::Unknown(why) => {
            found(State::Unknown, format!("the entry could not be asked: {why}"))
        }
        Probed::Skipped => held.unwrap_or_else(|| found(State::Skipped, "not asked".to_owned())),
    }
}

/// True when it is known that nothing listens on the port.
pub fn is_unbound(subject: &Subject<'_>, evidence: &Evidence) -> bool {
    match &evidence.ports {
        Probed::Seen(ports) => !matches!(ports.get(&subject.port), Some(PortState::Bound(_))),
        Probed::Unknown(_) | Probed::Skipped => false,
    }
}

fn with_listener(subject: &Subject<'_>, finding: Finding) -> Finding {
    match subject.listener() {
        Some(id) => finding.about(subject, &id.object, &subject.field_of_listener(id)),
        None => finding,
    }
}

/// Ready and yet not used: weights that are all zero.
fn held_back(subject: &Subject<'_>) -> Option<Finding> {
    let Taken::Rule { matched, .. } = &subject.taken else { return None };
    let Action::Forward(backends) = &matched.rule.action else { return None };
    let sum: u64 = backends.iter().map(|backend: &Backend| u64::from(backend.weight)).sum();
    (sum == 0).then(|| {
        let rule = compile::field_of_rule(subject.world.inputs, &matched.rule.id);
        Finding::new(
            Link::LoadBalancer,
            State::Broken,
            "every backend has weight 0, so every request answers 500",
        )
        .help("give one backend a weight above 0")
        .about(subject, &matched.route().id, &format!("{rule}.backendRefs"))
    })
}
