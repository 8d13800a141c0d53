//! How requests are spread at the moment, as far as that is not over all endpoints alike: what stands in for a backend,
//! a panic, and near endpoints first. By the same decisions that the edge makes.

use crate::Evidence;
use crate::subject::Subject;
use model::edge::{Backend, Target};
use model::facts::Endpoint;
use model::id::ServicePort;
use model::traffic::{BackendPolicy, Balance, Nearest};
use model::{Node, Text};
use traffic::{LEVELS, Level, Standing, Takes};

/// A backend, or one that stands in for it.
#[derive(Clone, Copy)]
pub struct Tier<'a> {
    pub port: &'a ServicePort,
    pub policy: Option<&'a Node<BackendPolicy>>,
}

impl<'a> Tier<'a> {
    /// The name that a Service of type ExternalName leads to.
    pub fn external(&self) -> Option<&'a Text> {
        self.policy?.external.as_ref()
    }

    fn balance(&self) -> Balance {
        self.policy.map(|policy| policy.balance.clone()).unwrap_or_default()
    }
}

/// Every Service that may take requests for the backend, in the order in which they are asked.
pub fn tiers(backend: &Backend) -> Vec<Tier<'_>> {
    let Target::Service(port) = &backend.target else { return Vec::new() };
    let own = Tier { port, policy: backend.policy.as_ref() };
    let behind = backend.fallback.iter().flat_map(|fallback| &fallback.tiers);
    let behind = behind.map(|tier| Tier { port: &tier.port, policy: tier.policy.as_ref() });
    std::iter::once(own).chain(behind).collect()
}

/// Who is asked for a backend at the moment, each where the one before it cannot be reached.
#[derive(Default)]
pub struct Asked<'a> {
    pub tiers: Vec<Tier<'a>>,
    /// Where none of them can be reached: the status of the declared answer.
    pub declared: Option<u16>,
}

pub fn asked<'a>(subject: &Subject<'_>, evidence: &Evidence, backend: &'a Backend) -> Asked<'a> {
    let tiers = tiers(backend);
    let standings: Vec<Standing> =
        tiers.iter().map(|tier| standing(subject, evidence, tier)).collect();
    let declared = backend.fallback.as_ref().and_then(|fallback| fallback.response.as_ref());
    let declared = declared.map(|response| response.status);
    let first = match traffic::takes(standings.iter().copied()) {
        Takes::Enough(at) | Takes::Panic(at) => at,
        Takes::Nobody if declared.is_some() => tiers.len(),
        Takes::Nobody => 0,
    };
    let behind = standings.iter().map(|standing| standing.used > 0);
    let in_order = tiers.iter().zip(behind).enumerate().skip(first);
    let asked = in_order.filter(|(at, (_, has_any))| *at == first || *has_any);
    Asked { tiers: asked.map(|(_, (tier, _))| *tier).collect(), declared }
}

/// What is to be said about a backend, in sentences.
pub fn sentences(subject: &Subject<'_>, evidence: &Evidence, backend: &Backend) -> Vec<String> {
    let tiers = tiers(backend);
    let Some(own) = tiers.first() else { return Vec::new() };
    let standings: Vec<Standing> =
        tiers.iter().map(|tier| standing(subject, evidence, tier)).collect();
    let mut said = Vec::new();
    let at = match traffic::takes(standings.iter().copied()) {
        Takes::Enough(at) | Takes::Panic(at) => at,
        Takes::Nobody => {
            let fallback = backend.fallback.as_deref();
            let response = fallback.and_then(|fallback| fallback.response.as_ref());
            said.extend(response.map(|response| {
                let status = response.status;
                format!("no endpoint of {} or of what stands in for it is in use: the declared answer {status} is given", own.port)
            }));
            return said;
        }
    };
    if at > 0 {
        let stands = format!("{} takes its requests", tiers[at].port);
        said.push(format!("{}: {stands}", shortage(own, standings[0])));
    }
    if standings[at].is_in_panic() {
        let shortage = shortage(&tiers[at], standings[at]);
        said.push(format!("{shortage}, and nothing else has more, so all of its endpoints are used, those that are taken out too"));
    } else {
        said.extend(locality(subject, evidence, &tiers[at]));
    }
    said
}

fn shortage(tier: &Tier<'_>, standing: Standing) -> String {
    let Standing { used, all, panic_percent } = standing;
    match used {
        0 => format!("{} has no endpoint in use", tier.port),
        _ => format!(
            "{} has {used} of {all} endpoints in use, less than its panic threshold of {panic_percent} %",
            tier.port
        ),
    }
}

fn standing(subject: &Subject<'_>, evidence: &Evidence, tier: &Tier<'_>) -> Standing {
    let all = usable(subject, tier.port).count();
    let used = usable(subject, tier.port).filter(|endpoint| is_in(evidence, endpoint)).count();
    Standing { used, all, panic_percent: tier.balance().panic_percent }
}

/// Where near endpoints come first: what they take.
fn locality(subject: &Subject<'_>, evidence: &Evidence, tier: &Tier<'_>) -> Option<String> {
    let nearest = tier.balance().nearest;
    let (here, port) = (&subject.world.entry.here, tier.port);
    let (own, option) = match nearest {
        Nearest::Any => return None,
        Nearest::Zone => (&here.zone, "--zone"),
        Nearest::Node => (&here.node, "--node"),
    };
    let Some(own) = own.as_ref().or(here.zone.as_ref()) else {
        return Some(format!(
            "{port} asks for near endpoints first, and where the edge runs is not known ({option}): all are alike"
        ));
    };
    let mut levels = [Level::default(); LEVELS];
    for endpoint in usable(subject, port) {
        let level = &mut levels[usize::from(traffic::level(here, nearest, endpoint))];
        level.all += 1;
        level.used += usize::from(is_in(evidence, endpoint));
    }
    let shares = traffic::shares(&levels);
    let [node, zone, _] = shares.map(|share| (share * 100.0).round());
    let (used, all) = (levels[0].used + levels[1].used, levels[0].all + levels[1].all);
    let near = node + zone;
    Some(match all {
        0 => format!("{port} has no endpoint near {own}: others take all requests"),
        _ => format!(
            "{used} of {all} endpoints of {port} near {own} are in use and take {near} % of its requests"
        ),
    })
}

fn usable<'a>(subject: &'a Subject<'_>, port: &ServicePort) -> impl Iterator<Item = &'a Endpoint> {
    let set = subject.world.facts.endpoints.get(port);
    set.into_iter().flat_map(|set| set.usable())
}

fn is_in(evidence: &Evidence, endpoint: &Endpoint) -> bool {
    !evidence.out.contains_key(&endpoint.address)
}
