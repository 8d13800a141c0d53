//! Any bytes as a DNS query: no panic, an answer with the query's id within the size limit, and never one to a
//! response. The client's reader takes the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::dns::{DnsPlan, Mx, RecordData, RecordSet, Soa, Zone};
use model::hostname::DnsName;
use model::{Hostname, Kind, Node, ObjectId};
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use zone::client::Inquiry;
use zone::{Outcome, RecordType, Transport, Zones};

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    Zones::build(&DnsPlan { zones: vec![Node::new(zone())] }, &|_, _| 1, &[], None)
});

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        match ZONES.answer(bytes, transport, &mut out) {
            Outcome::Dropped(_) => assert!(out.is_empty() && (bytes.len() < 12 || bytes[2] > 0x7f)),
            Outcome::Answered { .. } => {
                assert!((12..=limit).contains(&out.len()));
                assert_eq!(out[..2], bytes[..2]);
                assert!(out[2] > 0x7f);
            }
        }
    }
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let _ = Inquiry::new(id, &name("a.test"), RecordType::A).read(bytes);
});

fn zone() -> Zone {
    let set = |owner, data| RecordSet { name: name(owner), ttl: 300, data };
    let mx = Mx { preference: 1, exchange: name("b.test") };
    Zone {
        id: ObjectId::new(Kind::ZONE, "dns", "test"),
        name: Hostname::parse("test").expect("name"),
        soa: Soa {
            primary: name("ns.test"),
            mailbox: name("mail.test"),
            refresh: 1,
            retry: 1,
            expire: 1,
            negative_ttl: 1,
            ttl: 1,
        },
        sets: vec![
            set("test", RecordData::Mx(vec![mx])),
            set("a.test", RecordData::A((0..100).map(Ipv4Addr::from_bits).collect())),
            set("b.test", RecordData::A(vec![Ipv4Addr::LOCALHOST])),
            set("c.test", RecordData::Cname(name("x.w.test"))),
            set("*.w.test", RecordData::Cname(name("a.test"))),
            set("s.test", RecordData::Ns(vec![name("ns.s.test")])),
            set("ns.s.test", RecordData::A((0..60).map(Ipv4Addr::from_bits).collect())),
        ],
    }
}

fn name(text: &str) -> DnsName {
    DnsName::parse(text).expect("name")
}
