//! Link 6, the load balancer: the entry in front, and what balancing holds back.

use crate::evidence::PortState;
use crate::gateway::Taken;
use crate::pods;
use crate::subject::Subject;
use crate::{Evidence, Finding, Probed, State};
use model::Link;
use model::edge::{Action, Backend};
use model::layer4::Transport;

pub fn judge(subject: &Subject<'_>, evidence: &Evidence) -> Finding {
    let found = |state, detail: String| Finding::new(Link::LoadBalancer, state, detail);
    let held = held_back(subject);
    match &evidence.ports {
        Probed::Seen(ports) => match ports.get(&(is_udp(subject), subject.port)) {
            Some(PortState::Failed(why)) => {
                with_listener(subject, found(State::Broken, why.clone()))
                    .help("free the port, or choose another with --port-offset or --bind")
            }
            Some(PortState::Bound(address)) => held.unwrap_or_else(|| {
                let mut said = vec![format!("listening on {address}")];
                said.extend(pods::spread(subject, evidence));
                with_listener(subject, found(State::Ok, said.join("; ")))
            }),
            None if is_udp(subject) => {
                found(State::Skipped, "ports of UDP are not looked at".to_owned())
            }
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
        Probed::Skipped => held.unwrap_or_else(|| {
            let mut said = vec!["not asked".to_owned()];
            said.extend(pods::spread(subject, evidence));
            found(State::Skipped, said.join("; "))
        }),
    }
}

/// True when it is known that nothing listens on the port.
pub fn is_unbound(subject: &Subject<'_>, evidence: &Evidence) -> bool {
    match &evidence.ports {
        Probed::Seen(_) if is_udp(subject) => false,
        Probed::Seen(ports) => {
            !matches!(ports.get(&(false, subject.port)), Some(PortState::Bound(_)))
        }
        Probed::Unknown(_) | Probed::Skipped => false,
    }
}

fn is_udp(subject: &Subject<'_>) -> bool {
    subject.stream().is_some_and(|stream| stream.transport() == Transport::Udp)
}

fn with_listener(subject: &Subject<'_>, finding: Finding) -> Finding {
    match subject.listener() {
        Some(id) => finding.about(subject, &id.object, &subject.field_of_listener(id)),
        None => finding,
    }
}

/// Ready and yet not used: weights that are all zero.
fn held_back(subject: &Subject<'_>) -> Option<Finding> {
    let (rule, backends, what) = match &subject.taken {
        Taken::Rule { matched } => match &matched.rule.action {
            Action::Forward(backends) => (&matched.rule.id, backends, "request answers 500"),
            _ => return None,
        },
        Taken::Stream(stream) => {
            let route = &stream.attachment?.route;
            (&route.rule, &route.backends, "connection is closed")
        }
        _ => return None,
    };
    let sum: u64 = backends.iter().map(|backend: &Backend| u64::from(backend.weight)).sum();
    (sum == 0).then(|| {
        let field = compile::field_of_rule(subject.world.inputs, rule);
        Finding::new(
            Link::LoadBalancer,
            State::Broken,
            format!("every backend has weight 0, so every {what}"),
        )
        .help("give one backend a weight above 0")
        .about(subject, &rule.object, &format!("{field}.backendRefs"))
    })
}
