//! All zones of a plan, and which one a name belongs to.

use crate::data::ZoneData;
use crate::wire::{ancestors, depth, wire_name};
use model::dns::{DnsPlan, RecordData, Zone};
use model::{Digest, Hostname, Node};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Immutable; building the next one reuses the zones that did not change.
#[derive(Default)]
pub struct Zones {
    zones: Vec<Arc<ZoneData>>,
    by_apex: HashMap<Box<[u8]>, usize>,
    /// Bit n is set when some apex has n labels: only those ancestors of a name are looked up.
    depths: u128,
}

impl Zones {
    /// `serials` gives a zone's serial from its name and the digest of its content, in which the entry's addresses
    /// count when a record leads to them. `entry` are the advertised addresses.
    pub fn build(
        plan: &DnsPlan,
        serials: &dyn Fn(&Hostname, Digest) -> u32,
        entry: &[IpAddr],
        previous: Option<&Zones>,
    ) -> Zones {
        let mut zones = Zones::default();
        for node in &plan.zones {
            let serial = serials(&node.name, content(node, entry));
            zones.add(
                kept(node, serial, entry, previous)
                    .unwrap_or_else(|| Arc::new(ZoneData::new(node.clone(), serial, entry))),
            );
        }
        zones
    }

    /// The zone that answers for this name: the one with the longest apex above it.
    pub fn zone_of(&self, name: &Hostname) -> Option<&Node<Zone>> {
        self.nearest(&wire_name(name.as_str())).map(|(_, zone)| &zone.node)
    }

    /// Name and serial of each zone; the position is the `zone` of an [`Outcome`](crate::Outcome).
    pub fn serials(&self) -> impl Iterator<Item = (&Hostname, u32)> {
        self.zones.iter().map(|zone| (zone.name(), zone.serial))
    }

    pub(crate) fn nearest(&self, name: &[u8]) -> Option<(usize, &ZoneData)> {
        let labels = depth(name);
        let candidates = ancestors(name).zip((0..=labels).rev());
        candidates
            .filter(|(_, labels)| self.depths & (1 << labels) != 0)
            .find_map(|(name, _)| self.by_apex.get(name))
            .and_then(|&index| Some((index, &**self.zones.get(index)?)))
    }

    /// Of two zones with one name the first is served.
    fn add(&mut self, zone: Arc<ZoneData>) {
        if !self.by_apex.contains_key(&zone.apex) {
            self.depths |= 1 << depth(&zone.apex);
            self.by_apex.insert(zone.apex.clone(), self.zones.len());
            self.zones.push(zone);
        }
    }

    fn same_name(&self, zone: &Zone) -> Option<&Arc<ZoneData>> {
        let index = *self.by_apex.get(wire_name(zone.name.as_str()).as_slice())?;
        self.zones.get(index)
    }
}

fn kept(
    node: &Node<Zone>,
    serial: u32,
    entry: &[IpAddr],
    previous: Option<&Zones>,
) -> Option<Arc<ZoneData>> {
    let zone = previous?.same_name(node)?;
    let same = zone.node.is(node) && zone.serial == serial && *zone.entry == *entry;
    same.then(|| Arc::clone(zone))
}

fn content(node: &Node<Zone>, entry: &[IpAddr]) -> Digest {
    let leads_to_entry = node.sets.iter().any(|set| matches!(set.data, RecordData::Entry { .. }));
    if leads_to_entry { Digest::of(&(node.digest(), entry)) } else { node.digest() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::dns::{RecordSet, Soa};
    use model::hostname::DnsName;
    use model::{Kind, ObjectId};

    fn zone(name: &str, sets: Vec<RecordSet>) -> Node<Zone> {
        let dns_name = DnsName::parse(name).expect("name");
        Node::new(Zone {
            id: ObjectId::new(Kind::ZONE, "dns", name),
            name: Hostname::parse(name).expect("name"),
            soa: Soa {
                primary: dns_name.clone(),
                mailbox: dns_name,
                refresh: 1,
                retry: 1,
                expire: 1,
                negative_ttl: 1,
                ttl: 1,
            },
            sets,
        })
    }

    fn entry_at(name: &str) -> RecordSet {
        let listener_of = ObjectId::new(Kind::GATEWAY, "edge", "public");
        let name = DnsName::parse(name).expect("name");
        RecordSet { name, ttl: 60, data: RecordData::Entry { listener_of } }
    }

    #[test]
    fn the_longest_apex_wins() {
        let plan = DnsPlan {
            zones: ["test", "a.test", "b.a.test"].map(|name| zone(name, Vec::new())).into(),
        };
        let zones = Zones::build(&plan, &|_, _| 1, &[], None);
        for (name, expected) in [
            ("x.b.a.test", Some("b.a.test")),
            ("b.a.test", Some("b.a.test")),
            ("xb.a.test", Some("a.test")),
            ("xa.test", Some("test")),
            ("example", None),
        ] {
            let found = zones.zone_of(&Hostname::parse(name).expect("name"));
            assert_eq!(found.map(|zone| zone.name.as_str()), expected, "{name}");
        }
    }

    #[test]
    fn unchanged_zones_are_reused_and_serials_follow_the_content() {
        let (plain, leading) =
            (zone("a.test", Vec::new()), zone("b.test", vec![entry_at("www.b.test")]));
        let plan = DnsPlan { zones: vec![plain, leading] };
        let serials = |_: &Hostname, content: Digest| {
            content.short().bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte))
        };
        let here: IpAddr = "192.0.2.1".parse().expect("address");
        let there: IpAddr = "192.0.2.2".parse().expect("address");
        let first = Zones::build(&plan, &serials, &[here], None);
        let again = Zones::build(&plan, &serials, &[here], Some(&first));
        let same: Vec<bool> =
            first.zones.iter().zip(&again.zones).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(same, [true, true]);
        let moved = Zones::build(&plan, &serials, &[there], Some(&first));
        let rises: Vec<bool> =
            first.serials().zip(moved.serials()).map(|(a, b)| a.1 != b.1).collect();
        assert_eq!(rises, [false, true]);
        let bumped = Zones::build(&plan, &|_, _| 7, &[here], Some(&first));
        assert!(bumped.serials().all(|(_, serial)| serial == 7));
    }
}
