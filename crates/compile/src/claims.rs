//! The table of claims: every published name, who claims it, and whether it is granted.

use crate::listeners::GatewayDraft;
use model::dns::{RecordData, Zone};
use model::edge::EdgePlan;
use model::governance::{Claim, Verdict, Visibility};
use model::hash::{HashMap, HashSet};
use model::{HostPattern, Node, ObjectId};

/// A listener's lost claim to its host: the host, the Gateway, and who holds it.
pub(crate) struct Lost {
    host: HostPattern,
    by: ObjectId,
    with: ObjectId,
}

pub(crate) fn lost(drafts: &[GatewayDraft]) -> Vec<Lost> {
    let listeners = drafts.iter().flat_map(|draft| &draft.listeners);
    listeners
        .filter(|listener| listener.host != HostPattern::Any)
        .filter_map(|listener| {
            let conflict = listener.conflict.as_ref()?;
            let (host, by) = (listener.host.clone(), listener.id.object.clone());
            Some(Lost { host, by, with: conflict.with.object.clone() })
        })
        .collect()
}

/// Sorted by host, then claimant. A route for any host publishes no name. The `earlier` claims decide nothing.
pub(crate) fn claims(
    edge: &EdgePlan,
    zones: &[Node<Zone>],
    lost: Vec<Lost>,
    visibilities: &HashMap<&str, Visibility>,
    earlier: &[Claim],
) -> Vec<Claim> {
    let attachments = edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let streams = edge.layer4.iter().flat_map(|listener| &listener.attachments);
    let names = attachments
        .map(|attachment| (&attachment.host, &attachment.route.id))
        .chain(streams.map(|attachment| (&attachment.host, attachment.route.id())))
        .filter(|(host, _)| **host != HostPattern::Any);
    // Listeners of one Gateway share most of them.
    let mut routed = HashSet::with_capacity_and_hasher(earlier.len(), Default::default());
    routed.extend(names);
    let routed = in_order(routed, earlier);
    let granted = routed
        .into_iter()
        .map(|(host, by)| (host.clone(), by.clone()))
        .chain(zones.iter().flat_map(records));
    let visibility = |host: &HostPattern| match host {
        HostPattern::Exact(name) => visibilities.get(name.as_str()).copied(),
        _ => None,
    };
    let mut claims: Vec<Claim> = granted
        .map(|(host, by)| (host, by, Verdict::Granted))
        .chain(lost.into_iter().map(|l| (l.host, l.by, Verdict::InConflict { with: l.with })))
        .map(|(host, by, verdict)| Claim { visibility: visibility(&host), host, by, verdict })
        .collect();
    claims.sort_by(|a, b| (&a.host, &a.by).cmp(&(&b.host, &b.by)));
    claims.dedup();
    claims
}

type Routed<'a> = (&'a HostPattern, &'a ObjectId);

/// Sorts. What was claimed before is in order there, so that only what is new has to find its place.
fn in_order<'a>(mut routed: HashSet<Routed<'a>>, earlier: &'a [Claim]) -> Vec<Routed<'a>> {
    let known = earlier.iter().map(|claim| (&claim.host, &claim.by));
    let mut sorted: Vec<Routed> = known.filter(|claim| routed.remove(claim)).collect();
    let is_new = sorted.len();
    sorted.extend(routed);
    sorted[is_new..].sort_unstable();
    // Two runs in order: they are merged.
    sorted.sort();
    sorted
}

/// Hostnames that a zone's own records publish.
fn records(zone: &Node<Zone>) -> impl Iterator<Item = (HostPattern, ObjectId)> {
    let publishes = |data: &RecordData| {
        matches!(data, RecordData::A(_) | RecordData::Aaaa(_) | RecordData::Cname(_))
    };
    let mut names: Vec<&str> =
        zone.sets.iter().filter(|set| publishes(&set.data)).map(|set| set.name.as_str()).collect();
    names.dedup();
    let id = &zone.id;
    names
        .into_iter()
        // A name with an underscore is no hostname and is published to no browser.
        .filter_map(move |name| Some((HostPattern::parse(name).ok()?, id.clone())))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Kind;

    #[test]
    fn what_was_claimed_before_changes_no_order() {
        let ids = ["x", "y"].map(|name| ObjectId::new(Kind::HTTP_ROUTE, "shop", name));
        let hosts = ["a.test", "b.test", "c.test", "*.d.test"]
            .map(|host| HostPattern::parse(host).expect("a hostname"));
        let all: Vec<Routed> =
            hosts.iter().flat_map(|host| ids.iter().map(move |id| (host, id))).collect();
        // Every choice of what is claimed now, beside every third of what was.
        for (now, before) in (0..256).flat_map(|now| (0..256).step_by(3).map(move |b| (now, b))) {
            let chosen = |bits: u32| {
                let of = |(at, _): &(usize, &Routed)| bits >> at & 1 == 1;
                let mut chosen: Vec<Routed> =
                    all.iter().enumerate().filter(of).map(|(_, claim)| *claim).collect();
                chosen.sort();
                chosen
            };
            let earlier: Vec<Claim> = chosen(before)
                .into_iter()
                .map(|(host, by)| Claim {
                    visibility: None,
                    host: host.clone(),
                    by: by.clone(),
                    verdict: Verdict::Granted,
                })
                .collect();
            let routed = chosen(now).into_iter().collect();
            assert_eq!(in_order(routed, &earlier), chosen(now));
        }
    }
}
