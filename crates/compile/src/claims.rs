//! The table of claims: every published name, who claims it, and whether it is granted.

use crate::listeners::GatewayDraft;
use model::dns::{RecordData, Zone};
use model::edge::EdgePlan;
use model::governance::{Claim, Verdict, Visibility};
use model::hash::HashMap;
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

/// Sorted by host, then claimant. A route for any host publishes no name.
pub(crate) fn claims(
    edge: &EdgePlan,
    zones: &[Node<Zone>],
    lost: Vec<Lost>,
    visibilities: &HashMap<&str, Visibility>,
) -> Vec<Claim> {
    let attachments = edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let streams = edge.layer4.iter().flat_map(|listener| &listener.attachments);
    let mut routed: Vec<(&HostPattern, &ObjectId)> = attachments
        .map(|attachment| (&attachment.host, &attachment.route.id))
        .chain(streams.map(|attachment| (&attachment.host, attachment.route.id())))
        .filter(|(host, _)| **host != HostPattern::Any)
        .collect();
    routed.sort_unstable();
    routed.dedup();
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
