//! One zone compiled: every name with its record sets in wire form, empty non-terminals, cuts. And looking a name up.

use crate::wire::{
    CLASS_IN, MAX_NAME_BYTES, MAX_TTL, RecordType, ancestors, parent, u16_at, wire_name,
};
use model::dns::{Caa, RecordData, RecordSet, Soa, Zone};
use model::{Hostname, Node};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Type, class, TTL and length, which stand before the data of each record.
const FIXED_BYTES: usize = 10;

pub(crate) struct ZoneData {
    pub node: Node<Zone>,
    pub serial: u32,
    pub entry: Box<[IpAddr]>,
    pub apex: Box<[u8]>,
    /// SOA with the TTL of negative answers, RFC 2308 section 3.
    pub negative: Set,
    names: HashMap<Box<[u8]>, Owner>,
}

/// A name that exists. One without sets is an empty non-terminal, RFC 8020.
#[derive(Default)]
pub(crate) struct Owner {
    /// Sorted by type.
    sets: Box<[Set]>,
    /// At or below a cut: how many bytes of this name stand before the cut's name.
    cut: Option<u8>,
}

/// All records of one name and type, one after the other: type, class, TTL, length, data (names uncompressed).
pub(crate) struct Set {
    pub kind: RecordType,
    wire: Box<[u8]>,
}

/// What a zone knows about a name inside it.
pub(crate) enum Found<'a, 'n> {
    /// The name exists or a wildcard stands for it.
    Owner(&'a Owner),
    /// The name is at or below this cut; the owner is the cut's own.
    Delegated {
        cut: &'n [u8],
        owner: &'a Owner,
    },
    Missing,
}

impl ZoneData {
    pub fn new(node: Node<Zone>, serial: u32, entry: &[IpAddr]) -> Self {
        let apex = wire_name(node.name.as_str()).into_boxed_slice();
        let mut sets: HashMap<Box<[u8]>, Vec<Set>> = HashMap::new();
        for set in node.sets.iter().filter(|set| set.name.is_within(node.name.as_str())) {
            let owner = wire_name(set.name.as_str()).into_boxed_slice();
            sets.entry(owner).or_default().extend(compile_set(set, entry));
        }
        let own_ttl = node.soa.ttl.min(MAX_TTL);
        sets.entry(apex.clone()).or_default().push(soa_set(&node.soa, serial, own_ttl));
        add_empty_non_terminals(&mut sets, &apex);
        let cuts = cuts(&sets, &apex);
        let names = sets.into_iter().map(|(name, sets)| owner(name, sets, &cuts)).collect();
        let negative = soa_set(&node.soa, serial, own_ttl.min(node.soa.negative_ttl));
        ZoneData { node, serial, entry: entry.into(), apex, negative, names }
    }

    pub fn name(&self) -> &Hostname {
        &self.node.name
    }

    /// The owner of exactly this name, whatever cut stands above it: what glue is read from.
    pub fn owner(&self, name: &[u8]) -> Option<&Owner> {
        self.names.get(name)
    }

    /// RFC 1034 section 4.3.2 step 3 and RFC 4592 section 3.3. `name` is at or below the apex.
    pub fn lookup<'n>(&self, name: &'n [u8]) -> Found<'_, 'n> {
        if let Some(owner) = self.names.get(name) {
            return self.found(name, owner);
        }
        let encloser = ancestors(name).find_map(|name| Some((name, self.names.get(name)?)));
        match encloser {
            Some((name, owner)) if owner.cut.is_some() => self.found(name, owner),
            Some((encloser, _)) => self.wildcard(encloser).map_or(Found::Missing, Found::Owner),
            None => Found::Missing,
        }
    }

    fn found<'a, 'n>(&'a self, name: &'n [u8], owner: &'a Owner) -> Found<'a, 'n> {
        let cut = owner.cut.and_then(|before| name.get(usize::from(before)..));
        match cut.and_then(|cut| Some((cut, self.names.get(cut)?))) {
            Some((cut, owner)) => Found::Delegated { cut, owner },
            None => Found::Owner(owner),
        }
    }

    /// The owner that stands for missing names whose closest encloser is this one.
    fn wildcard(&self, encloser: &[u8]) -> Option<&Owner> {
        let mut name = [0; MAX_NAME_BYTES];
        let end = encloser.len() + 2;
        name.get_mut(..2)?.copy_from_slice(b"\x01*");
        name.get_mut(2..end)?.copy_from_slice(encloser);
        self.names.get(name.get(..end)?)
    }
}

impl Owner {
    pub fn set(&self, kind: RecordType) -> Option<&Set> {
        self.sets.iter().find(|set| set.kind == kind)
    }

    /// For ANY: one set is enough, RFC 8482 section 4.1.
    pub fn first_set(&self) -> Option<&Set> {
        self.sets.first()
    }
}

impl Set {
    /// Each record as its eight bytes of type, class and TTL, and its data.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = &self.wire;
        std::iter::from_fn(move || {
            let length = usize::from(u16_at(rest, 8)?);
            let (record, after) = rest.split_at_checked(FIXED_BYTES + length)?;
            rest = after;
            Some((record.get(..8)?, record.get(FIXED_BYTES..)?))
        })
    }

    /// The names that the records lead to, whose addresses are worth adding (RFC 1034 section 3.7, RFC 2782).
    pub fn targets(&self) -> impl Iterator<Item = &[u8]> {
        let before = match self.kind {
            RecordType::NS | RecordType::CNAME => Some(0),
            RecordType::MX => Some(2),
            RecordType::SRV => Some(6),
            _ => None,
        };
        self.records().filter_map(move |(_, data)| data.get(before?..))
    }
}

fn owner(name: Box<[u8]>, mut sets: Vec<Set>, cuts: &HashSet<Box<[u8]>>) -> (Box<[u8]>, Owner) {
    sets.sort_by_key(|set| set.kind);
    sets.dedup_by_key(|set| set.kind);
    let cut = match cuts.is_empty() {
        true => None,
        // The cut nearest the apex: what lies below it belongs to somebody else, other cuts included.
        false => ancestors(&name).filter(|name| cuts.contains(*name)).last(),
    };
    let before = cut.and_then(|cut| u8::try_from(name.len() - cut.len()).ok());
    (name, Owner { sets: sets.into(), cut: before })
}

/// RFC 4592 section 2.2.2: a name exists when something below it exists.
fn add_empty_non_terminals(sets: &mut HashMap<Box<[u8]>, Vec<Set>>, apex: &[u8]) {
    let missing: HashSet<Box<[u8]>> = sets
        .keys()
        .flat_map(|name| ancestors(name).skip(1).take_while(|name| name.len() > apex.len()))
        .filter(|name| !sets.contains_key(*name))
        .map(Box::from)
        .collect();
    sets.extend(missing.into_iter().map(|name| (name, Vec::new())));
}

/// Names below the apex with NS records. A wildcard delegates nothing, RFC 4592 section 4.2.
fn cuts(sets: &HashMap<Box<[u8]>, Vec<Set>>, apex: &[u8]) -> HashSet<Box<[u8]>> {
    sets.iter()
        .filter(|(name, _)| name.len() > apex.len() && !name.starts_with(b"\x01*"))
        .filter(|(_, sets)| sets.iter().any(|set| set.kind == RecordType::NS))
        .map(|(name, _)| name.clone())
        .collect()
}

/// One set, or two for the entry: its IPv4 and its IPv6 addresses. A family without addresses has no set.
fn compile_set(set: &RecordSet, entry: &[IpAddr]) -> Vec<Set> {
    let one = |kind, data: Vec<Vec<u8>>| records(kind, set.ttl, data).into_iter().collect();
    match &set.data {
        RecordData::A(all) => one(RecordType::A, all.iter().map(|ip| ip.octets().into()).collect()),
        RecordData::Aaaa(all) => {
            one(RecordType::AAAA, all.iter().map(|ip| ip.octets().into()).collect())
        }
        RecordData::Ns(all) => {
            one(RecordType::NS, all.iter().map(|name| wire_name(name.as_str())).collect())
        }
        RecordData::Cname(name) => one(RecordType::CNAME, vec![wire_name(name.as_str())]),
        RecordData::Txt(all) => {
            one(RecordType::TXT, all.iter().map(|text| strings(text)).collect())
        }
        RecordData::Mx(all) => one(
            RecordType::MX,
            all.iter().map(|mx| prefixed(&[mx.preference], mx.exchange.as_str())).collect(),
        ),
        RecordData::Caa(all) => one(RecordType::CAA, all.iter().map(caa).collect()),
        RecordData::Srv(all) => one(
            RecordType::SRV,
            all.iter()
                .map(|srv| prefixed(&[srv.priority, srv.weight, srv.port], srv.target.as_str()))
                .collect(),
        ),
        RecordData::Entry { .. } => entry_sets(set.ttl, entry),
    }
}

fn entry_sets(ttl: u32, entry: &[IpAddr]) -> Vec<Set> {
    let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) = entry.iter().partition(|ip| ip.is_ipv4());
    let bytes = |all: Vec<&IpAddr>| all.into_iter().map(octets).collect();
    let sets = [records(RecordType::A, ttl, bytes(v4)), records(RecordType::AAAA, ttl, bytes(v6))];
    sets.into_iter().flatten().collect()
}

fn octets(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// Records of one set in wire form. One whose data is too long for its length field is left out; no records, no set.
fn records(kind: RecordType, ttl: u32, all: Vec<Vec<u8>>) -> Option<Set> {
    let mut wire = Vec::new();
    for data in all {
        let Ok(length) = u16::try_from(data.len()) else { continue };
        wire.extend_from_slice(&kind.0.to_be_bytes());
        wire.extend_from_slice(&CLASS_IN.to_be_bytes());
        wire.extend_from_slice(&ttl.min(MAX_TTL).to_be_bytes());
        wire.extend_from_slice(&length.to_be_bytes());
        wire.extend_from_slice(&data);
    }
    (!wire.is_empty()).then(|| Set { kind, wire: wire.into() })
}

fn soa_set(soa: &Soa, serial: u32, ttl: u32) -> Set {
    let mut data = wire_name(soa.primary.as_str());
    data.extend(wire_name(soa.mailbox.as_str()));
    for number in [serial, soa.refresh, soa.retry, soa.expire, soa.negative_ttl] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    records(RecordType::SOA, ttl, vec![data])
        .expect("two names and five numbers fit a record, so the set is not empty")
}

fn prefixed(numbers: &[u16], name: &str) -> Vec<u8> {
    let mut data: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    data.extend(wire_name(name));
    data
}

/// RFC 1035 section 3.3.14. A string over 255 bytes goes out in parts; an empty list as one empty string.
fn strings(all: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    for text in all {
        let parts = text.chunks(255).chain(text.is_empty().then_some(&[][..]));
        for part in parts {
            data.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            data.extend_from_slice(part);
        }
    }
    if data.is_empty() { vec![0] } else { data }
}

/// RFC 8659 section 4.1.
fn caa(caa: &Caa) -> Vec<u8> {
    let tag = caa.tag.as_bytes();
    let length = u8::try_from(tag.len()).unwrap_or(u8::MAX);
    let mut data = vec![caa.flags, length];
    data.extend(tag.iter().take(usize::from(length)));
    data.extend_from_slice(&caa.value);
    data
}

/// True when `name` is `zone` or below it.
pub(crate) fn is_within(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = Some(name);
    while let Some(name) = rest.filter(|name| name.len() > zone.len()) {
        rest = parent(name);
    }
    rest == Some(zone)
}
