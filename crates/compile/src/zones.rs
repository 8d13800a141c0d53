//! Zones of the plan: what Zone objects say, and our own entry's address for every hostname that is served inside them.

use crate::classes::age;
use crate::codes;
use crate::report::Report;
use crate::reuse::Earlier;
use manifest::kinds::cutwater;
use manifest::{Inputs, Object};
use model::dns::{RecordData, RecordSet, Zone};
use model::edge::EdgePlan;
use model::hash::{HashMap, HashSet};
use model::hostname::DnsName;
use model::{HostPattern, Node, ObjectId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sorted by name.
pub(crate) fn plan(
    inputs: &Inputs,
    edge: &EdgePlan,
    earlier: &Earlier,
    report: &mut Report,
) -> Vec<Node<Zone>> {
    let mut drafts = drafts(inputs, report);
    if drafts.is_empty() {
        return Vec::new();
    }
    for (host, published) in published(edge) {
        let zone = longest_zone(host, &drafts).and_then(|name| drafts.get_mut(&name));
        match zone {
            Some(zone) => zone.publish(host, &published, report),
            None => {
                let message = format!("{host} is served but lies in no Zone");
                report
                    .add(&codes::HOST_IN_NO_ZONE, published.route, "spec.hostnames", message)
                    .host(host)
                    .help("add a Zone for its domain, or correct the hostname");
            }
        }
    }
    drafts.into_values().map(|draft| earlier.zones.node(draft.finish())).collect()
}

/// Who wants a host to lead here.
struct Published<'a> {
    route: &'a ObjectId,
    listener_of: &'a ObjectId,
}

/// Every host once, with the first listener that serves it.
fn published(edge: &EdgePlan) -> BTreeMap<&HostPattern, Published<'_>> {
    let mut hosts: HashMap<&HostPattern, Published> = HashMap::default();
    for listener in &edge.listeners {
        for attachment in &listener.attachments {
            hosts.entry(&attachment.host).or_insert(Published {
                route: &attachment.route.id,
                listener_of: &listener.id.object,
            });
        }
    }
    for listener in &edge.layer4 {
        for attachment in &listener.attachments {
            hosts.entry(&attachment.host).or_insert(Published {
                route: attachment.route.id(),
                listener_of: &listener.id.object,
            });
        }
    }
    hosts.remove(&HostPattern::Any);
    hosts.into_iter().collect()
}

struct Draft<'a> {
    object: &'a Arc<Object>,
    spec: &'a cutwater::Zone,
    /// Names with an address or an alias of their own.
    addressed: HashSet<&'a str>,
    /// Names below the apex with NS: somebody else answers there.
    delegated: HashSet<&'a str>,
    entries: BTreeMap<DnsName, ObjectId>,
}

fn drafts<'a>(inputs: &'a Inputs, report: &mut Report) -> BTreeMap<&'a str, Draft<'a>> {
    let mut objects: Vec<_> = inputs.zones().collect();
    objects.sort_by(|a, b| age(a.0).cmp(&age(b.0)));
    let mut drafts: BTreeMap<&str, Draft> = BTreeMap::new();
    for (object, spec) in objects {
        if let Some(first) = drafts.get(spec.name.as_str()) {
            let message =
                format!("{} and {} are both zone {}", object.id, first.object.id, spec.name);
            report
                .add(&codes::ZONE_CONFLICT, &object.id, "spec.name", message)
                .help("join the two, or rename one")
                .related("the zone that is served", &first.object.id, "spec.name");
            continue;
        }
        drafts.insert(spec.name.as_str(), Draft::of(object, spec));
    }
    drafts
}

fn longest_zone<'a>(host: &HostPattern, drafts: &BTreeMap<&'a str, Draft<'a>>) -> Option<&'a str> {
    let name = host.base()?.as_str();
    suffixes(name).find_map(|suffix| drafts.get_key_value(suffix).map(|(name, _)| *name))
}

/// The name and every name above it.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest))
}

impl<'a> Draft<'a> {
    fn of(object: &'a Arc<Object>, spec: &'a cutwater::Zone) -> Self {
        let named = |is: fn(&RecordData) -> bool| {
            spec.sets.iter().filter(move |set| is(&set.data)).map(|set| set.name.as_str())
        };
        let addressed = named(|data| {
            matches!(data, RecordData::A(_) | RecordData::Aaaa(_) | RecordData::Cname(_))
        });
        let delegated = named(|data| matches!(data, RecordData::Ns(_)));
        let mut draft = Draft {
            object,
            spec,
            addressed: addressed.collect(),
            delegated: delegated.filter(|name| *name != spec.name.as_str()).collect(),
            entries: BTreeMap::new(),
        };
        draft.add_glue();
        draft
    }

    /// A nameserver inside the zone without an address is this installation.
    fn add_glue(&mut self) {
        for server in &self.spec.nameservers {
            let name = server.as_str();
            if server.is_within(self.spec.name.as_str())
                && !self.addressed.contains(name)
                && self.delegation_of(name).is_none()
            {
                self.entries.insert(server.clone(), self.object.id.clone());
            }
        }
    }

    fn publish(&mut self, host: &HostPattern, published: &Published, report: &mut Report) {
        let Ok(name) = DnsName::parse(&host.to_string()) else { return };
        if let Some(delegation) = self.delegation_of(name.as_str()) {
            let message = format!(
                "{host} is served, but {} delegates {delegation} to other nameservers",
                self.object.id
            );
            report
                .add(&codes::BELOW_DELEGATION, &self.object.id, "spec.records", message)
                .host(host);
        } else if self.addressed.contains(name.as_str()) {
            let message = format!(
                "{host} is served by {}, but {} has its own record for it, which is answered",
                published.route, self.object.id
            );
            report
                .add(&codes::RECORD_WINS, &self.object.id, "spec.records", message)
                .host(host)
                .help("remove the record to lead the name to this installation")
                .related("the route", published.route, "spec");
        } else {
            self.entries.insert(name, published.listener_of.clone());
        }
    }

    fn delegation_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        if self.delegated.is_empty() {
            return None;
        }
        suffixes(name).find(|suffix| self.delegated.contains(suffix))
    }

    fn finish(self) -> Zone {
        let ttl = self.spec.ttl;
        let entries = self.entries.into_iter().map(|(name, listener_of)| RecordSet {
            name,
            ttl,
            data: RecordData::Entry { listener_of },
        });
        let mut sets: Vec<RecordSet> = self.spec.sets.iter().cloned().chain(entries).collect();
        sets.sort_by(|a, b| (&a.name, kind(&a.data)).cmp(&(&b.name, kind(&b.data))));
        Zone {
            id: self.object.id.clone(),
            name: self.spec.name.clone(),
            soa: self.spec.soa.clone(),
            sets,
        }
    }
}

/// Type numbers of RFC 1035 and its successors; our own entry stands for A.
fn kind(data: &RecordData) -> u16 {
    match data {
        RecordData::A(_) | RecordData::Entry { .. } => 1,
        RecordData::Ns(_) => 2,
        RecordData::Cname(_) => 5,
        RecordData::Mx(_) => 15,
        RecordData::Txt(_) => 16,
        RecordData::Aaaa(_) => 28,
        RecordData::Srv(_) => 33,
        RecordData::Caa(_) => 257,
    }
}
