//! The nameserver's section of the plan: zones with their record sets, and names that lead to our own entry.

use crate::hostname::DnsName;
use crate::{Hostname, Node, ObjectId};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Zones sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DnsPlan {
    pub zones: Vec<Node<Zone>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zone {
    pub id: ObjectId,
    pub name: Hostname,
    pub soa: Soa,
    /// Sorted by name, then type; one set per name and type. SOA is not among them, NS at the apex is.
    pub sets: Vec<RecordSet>,
}

/// Without the serial, which is a fact of the replica that serves the zone (RFC 1982, kept outside the digest).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Soa {
    pub primary: DnsName,
    /// Mailbox as a name (`hostmaster.example.test`).
    pub mailbox: DnsName,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    /// TTL of negative answers, RFC 2308 section 4.
    pub negative_ttl: u32,
    pub ttl: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordSet {
    /// Absolute; the first label may be `*` (RFC 4592).
    pub name: DnsName,
    pub ttl: u32,
    pub data: RecordData,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordData {
    A(Vec<Ipv4Addr>),
    Aaaa(Vec<Ipv6Addr>),
    Ns(Vec<DnsName>),
    Cname(DnsName),
    /// Each record is one or more strings of at most 255 bytes.
    Txt(Vec<Vec<Vec<u8>>>),
    Mx(Vec<Mx>),
    Caa(Vec<Caa>),
    Srv(Vec<Srv>),
    /// A and AAAA of this installation's entry: the advertised addresses, joined by the nameserver.
    Entry {
        listener_of: ObjectId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mx {
    pub preference: u16,
    pub exchange: DnsName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caa {
    pub flags: u8,
    pub tag: String,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: DnsName,
}
