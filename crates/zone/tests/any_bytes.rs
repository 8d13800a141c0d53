//! Properties that hold for whatever arrives: no panic, an answer with the query's id, within the size limit, well
//! formed; and the client's reader takes any bytes too.

mod fixture;
mod render;

use fixture::{Question, zones};
use model::hostname::DnsName;
use proptest::prelude::*;
use render::render;
use zone::client::Inquiry;
use zone::{Outcome, RecordType, Transport};

const NAMES: &[&str] = &[
    "",
    "example.test",
    "www.example.test",
    "x.wild.example.test",
    "alias.example.test",
    "x.sub.example.test",
    "x.glue.example.test",
    "big.example.test",
    "huge.example.test",
    "many.example.test",
    "missing.example.test",
    "_sip._tcp.example.test",
    "host.low.test",
];
const TYPES: &[u16] = &[1, 2, 5, 6, 15, 16, 28, 33, 41, 43, 46, 250, 251, 252, 255, 257, 1000];

/// `None` when the query is dropped.
fn check(query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match zones().answer(query, transport, &mut out) {
        Outcome::Dropped(_) => {
            assert!(out.is_empty() && (query.len() < 12 || query[2] & 0x80 != 0));
            None
        }
        Outcome::Answered { .. } => {
            let limit = if transport == Transport::Udp { 1232 } else { 65_535 };
            assert!((12..=limit).contains(&out.len()));
            assert_eq!(out[..2], query[..2], "the id");
            assert_eq!(out[2] & 0xf9, (query[2] & 0x79) | 0x80, "QR, opcode and RD");
            Some(out)
        }
    }
}

fn query() -> impl Strategy<Value = Vec<u8>> {
    let edns = prop::option::of((any::<u16>(), prop::bool::ANY));
    (prop::sample::select(NAMES), prop::sample::select(TYPES), edns).prop_map(
        |(name, kind, edns)| {
            let question = Question::new(name, kind);
            match edns {
                Some((size, dnssec_ok)) => {
                    question.edns(size).ttl(if dnssec_ok { 0x8000 } else { 0 }).bytes()
                }
                None => question.bytes(),
            }
        },
    )
}

fn transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(&[Transport::Udp, Transport::Tcp][..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn good_queries_have_well_formed_answers(query in query(), transport in transport()) {
        let answer = check(&query, transport).expect("a good query is answered");
        prop_assert!(!render(&answer).starts_with("FORMERR"));
        prop_assert_eq!(&answer[12..14], &query[12..14]);
    }

    #[test]
    fn mutated_queries_do_no_harm(
        mut query in query(),
        transport in transport(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        is_cut in prop::bool::weighted(0.2),
    ) {
        for (at, byte) in edits {
            let at = at.index(query.len());
            query[at] = byte;
        }
        if is_cut {
            query.truncate(length.index(query.len()));
        }
        check(&query, transport);
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), transport in transport()) {
        check(&bytes, transport);
    }

    #[test]
    fn the_client_reads_any_bytes(
        name in prop::sample::select(&["www.example.test", "alias.example.test", "big.example.test"][..]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let inquiry = Inquiry::new(7, &DnsName::parse(name).expect("name"), RecordType::A);
        let mut answer = check(inquiry.bytes(), Transport::Udp).expect("a good query is answered");
        let whole = inquiry.read(&answer).expect("our own answer is readable");
        prop_assert!(whole.authoritative && !whole.addresses.is_empty());
        for (at, byte) in edits {
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        if let Ok(reply) = inquiry.read(&answer) {
            prop_assert!(reply.addresses.len() <= answer.len() / 4);
        }
    }
}
