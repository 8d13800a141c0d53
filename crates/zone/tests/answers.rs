//! Queries against one fixture. Answers are rendered by a decoder of this file's own, which shares no code with the
//! crate, as `RCODE flags` and one line a record: `section owner ttl type data`.

mod fixture;
mod render;

use fixture::{Question, zones};
use render::render;
use zone::{Outcome, Transport, Unanswerable};

fn answer(query: &[u8], transport: Transport) -> String {
    let mut out = b"left over from the last answer".to_vec();
    let outcome = zones().answer(query, transport, &mut out);
    match outcome {
        Outcome::Dropped(reason) => {
            assert!(out.is_empty(), "a dropped query has no answer");
            format!("dropped {reason:?}")
        }
        Outcome::Answered { rcode, truncated, .. } => {
            let text = render(&out);
            assert!(text.starts_with(&rcode.to_string()), "{rcode}: {text}");
            assert_eq!(truncated, text.lines().next().is_some_and(|line| line.contains(" TC")));
            text
        }
    }
}

#[track_caller]
fn check(question: Question, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let text = answer(&question.bytes(), Transport::Udp);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

fn ask(name: &str, kind: u16) -> Question {
    Question::new(name, kind)
}

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const DS: u16 = 43;
const IXFR: u16 = 251;
const AXFR: u16 = 252;
const ANY: u16 = 255;
const CAA: u16 = 257;

const NODATA: &str = "NOERROR AA
    authority example.test 60 SOA ns1.example.test hostmaster.example.test 7 7200 900 1209600 60";
const NXDOMAIN: &str = "NXDOMAIN AA
    authority example.test 60 SOA ns1.example.test hostmaster.example.test 7 7200 900 1209600 60";

#[test]
fn every_type_of_record() {
    check(
        ask("www.example.test", A),
        "NOERROR AA
        answer www.example.test 300 A 192.0.2.80
        answer www.example.test 300 A 192.0.2.81",
    );
    check(
        ask("www.example.test", AAAA),
        "NOERROR AA
        answer www.example.test 300 AAAA 2001:db8::80",
    );
    check(ask("example.test", SOA), "NOERROR AA
        answer example.test 3600 SOA ns1.example.test hostmaster.example.test 7 7200 900 1209600 60");
    check(
        ask("example.test", NS),
        "NOERROR AA
        answer example.test 300 NS ns1.example.test
        answer example.test 300 NS ns.elsewhere.test
        additional ns1.example.test 300 A 192.0.2.53",
    );
    check(
        ask("example.test", MX),
        "NOERROR AA
        answer example.test 300 MX 10 mail.example.test
        answer example.test 300 MX 20 mail.example.test
        additional mail.example.test 300 A 192.0.2.25
        additional mail.example.test 300 AAAA 2001:db8::25",
    );
    check(
        ask("example.test", TXT),
        "NOERROR AA
        answer example.test 300 TXT \"one\" \"two\"
        answer example.test 300 TXT \"\"",
    );
    check(
        ask("example.test", CAA),
        "NOERROR AA
        answer example.test 300 CAA 128 issue ca.example",
    );
    check(
        ask("_sip._tcp.example.test", SRV),
        "NOERROR AA
        answer _sip._tcp.example.test 300 SRV 1 2 5060 mail.example.test
        answer _sip._tcp.example.test 300 SRV 1 2 5061 mail.example.test
        additional mail.example.test 300 A 192.0.2.25
        additional mail.example.test 300 AAAA 2001:db8::25",
    );
}

#[test]
fn negative_answers_rfc_2308() {
    check(ask("missing.example.test", A), NXDOMAIN);
    check(ask("a.b.missing.example.test", A), NXDOMAIN);
    check(ask("www.example.test", MX), NODATA);
    check(ask("www.example.test", 1000), NODATA);
    check(ask("example.test", 48), NODATA);
    // Empty non-terminals exist, RFC 8020.
    check(ask("_tcp.example.test", A), NODATA);
    check(ask("ent.example.test", A), NODATA);
    check(ask("x.ent.example.test", A), NXDOMAIN);
    // The SOA's own TTL is the lower one here.
    check(
        ask("x.low.test", A),
        "NXDOMAIN AA
        authority low.test 5 SOA low.test low.test 7 1 1 1 60",
    );
}

#[test]
fn the_entry_answers_with_the_advertised_addresses() {
    check(
        ask("shop.example.test", A),
        "NOERROR AA
        answer shop.example.test 30 A 198.51.100.1
        answer shop.example.test 30 A 198.51.100.2",
    );
    check(ask("shop.example.test", AAAA), NODATA);
    check(ask("shop.example.test", TXT), NODATA);
}

#[test]
fn wildcards_rfc_4592() {
    check(
        ask("a.wild.example.test", A),
        "NOERROR AA
        answer a.wild.example.test 300 A 192.0.2.99",
    );
    check(
        ask("a.b.wild.example.test", A),
        "NOERROR AA
        answer a.b.wild.example.test 300 A 192.0.2.99",
    );
    check(
        ask("*.wild.example.test", A),
        "NOERROR AA
        answer *.wild.example.test 300 A 192.0.2.99",
    );
    check(ask("a.*.wild.example.test", A), NXDOMAIN);
    check(ask("a.wild.example.test", MX), NODATA);
    check(ask("wild.example.test", A), NODATA);
    // An existing name, or an empty one between, is the closest encloser and stops the wildcard above it.
    check(ask("host.wild.example.test", A), NODATA);
    check(ask("x.host.wild.example.test", A), NXDOMAIN);
    check(ask("deep.wild.example.test", A), NODATA);
    check(ask("x.deep.wild.example.test", A), NXDOMAIN);
    // Nor does it cross a cut.
    check(
        ask("x.cut.wild.example.test", A),
        "NOERROR
        authority cut.wild.example.test 300 NS ns.elsewhere.test",
    );
    check(
        ask("x.alias-wild.example.test", A),
        "NOERROR AA
        answer x.alias-wild.example.test 300 CNAME www.example.test
        answer www.example.test 300 A 192.0.2.80
        answer www.example.test 300 A 192.0.2.81",
    );
}

#[test]
fn chains_of_cname_records() {
    check(
        ask("alias.example.test", A),
        "NOERROR AA
        answer alias.example.test 300 CNAME alias2.example.test
        answer alias2.example.test 300 CNAME www.example.test
        answer www.example.test 300 A 192.0.2.80
        answer www.example.test 300 A 192.0.2.81",
    );
    check(
        ask("alias.example.test", CNAME),
        "NOERROR AA
        answer alias.example.test 300 CNAME alias2.example.test",
    );
    check(
        ask("to-other-zone.example.test", A),
        "NOERROR AA
        answer to-other-zone.example.test 300 CNAME host.low.test
        answer host.low.test 300 A 192.0.2.7",
    );
    check(
        ask("outside.example.test", A),
        "NOERROR AA
        answer outside.example.test 300 CNAME www.elsewhere.test",
    );
    check(ask("dangling.example.test", A), "NXDOMAIN AA
        answer dangling.example.test 300 CNAME missing.example.test
        authority example.test 60 SOA ns1.example.test hostmaster.example.test 7 7200 900 1209600 60");
    check(ask("alias2.example.test", MX), "NOERROR AA
        answer alias2.example.test 300 CNAME www.example.test
        authority example.test 60 SOA ns1.example.test hostmaster.example.test 7 7200 900 1209600 60");
    check(
        ask("to-cut.example.test", A),
        "NOERROR AA
        answer to-cut.example.test 300 CNAME x.sub.example.test
        authority sub.example.test 300 NS ns.sub.example.test
        authority sub.example.test 300 NS ns1.example.test
        additional ns.sub.example.test 300 A 192.0.2.54
        additional ns1.example.test 300 A 192.0.2.53",
    );
    check(
        ask("loop1.example.test", A),
        "NOERROR AA
        answer loop1.example.test 300 CNAME loop2.example.test
        answer loop2.example.test 300 CNAME loop1.example.test",
    );
    check(
        ask("self.example.test", A),
        "NOERROR AA
        answer self.example.test 300 CNAME self.example.test",
    );
    let long = answer(&ask("chain0.example.test", A).bytes(), Transport::Udp);
    assert_eq!(long.matches(" CNAME ").count(), 8, "{long}");
}

const REFERRAL: &str = "NOERROR
    authority sub.example.test 300 NS ns.sub.example.test
    authority sub.example.test 300 NS ns1.example.test
    additional ns.sub.example.test 300 A 192.0.2.54
    additional ns1.example.test 300 A 192.0.2.53";

#[test]
fn delegations() {
    check(ask("sub.example.test", A), REFERRAL);
    check(ask("sub.example.test", NS), REFERRAL);
    check(ask("x.y.sub.example.test", A), REFERRAL);
    // Occluded: glue is no answer, and a cut below a cut is not ours to know.
    check(ask("ns.sub.example.test", A), REFERRAL);
    check(ask("lower.sub.example.test", A), REFERRAL);
    check(ask("sub.example.test", ANY), REFERRAL);
    check(ask("sub.example.test", DS), NODATA);
    check(ask("x.sub.example.test", DS), REFERRAL);
    // A zone of our own below ours answers for itself.
    check(
        ask("www.child.example.test", A),
        "NOERROR AA
        answer www.child.example.test 300 A 192.0.2.44",
    );
}

#[test]
fn any_is_minimal_rfc_8482() {
    check(
        ask("www.example.test", ANY),
        "NOERROR AA
        answer www.example.test 300 A 192.0.2.80
        answer www.example.test 300 A 192.0.2.81",
    );
    check(
        ask("alias.example.test", ANY),
        "NOERROR AA
        answer alias.example.test 300 CNAME alias2.example.test",
    );
    check(ask("ent.example.test", ANY), NODATA);
    check(ask("missing.example.test", ANY), NXDOMAIN);
}

#[test]
fn refusals() {
    for (name, kind) in [("example.invalid", A), ("test", SOA), ("xexample.test", A), ("", NS)] {
        check(ask(name, kind), "REFUSED");
    }
    for class in [3, 4, 254, 255, 0] {
        check(ask("www.example.test", A).class(class), "REFUSED");
    }
    check(ask("example.test", AXFR), "REFUSED");
    check(ask("example.test", IXFR), "REFUSED");
}

#[test]
fn the_header_is_echoed_or_cleared() {
    let lines = |flags| answer(&ask("www.example.test", AAAA).flags(flags).bytes(), Transport::Udp);
    for (flags, expected) in [
        (0x0100, "NOERROR AA RD"),
        // AA, TC, RA, Z, AD and CD of a query mean nothing to us.
        (0x0400, "NOERROR AA"),
        (0x0200, "NOERROR AA"),
        (0x0080, "NOERROR AA"),
        (0x0040, "NOERROR AA"),
        (0x0020, "NOERROR AA"),
        (0x0010, "NOERROR AA"),
        // A query's response code too.
        (0x0005, "NOERROR AA"),
    ] {
        assert_eq!(lines(flags).lines().next(), Some(expected), "{flags:#06x}");
    }
    for opcode in 1..16 {
        let query = ask("www.example.test", A).flags(opcode << 11 | 0x0100).edns(1232).bytes();
        let mut out = Vec::new();
        zones().answer(&query, Transport::Udp, &mut out);
        // RFC 8906 section 3.1.4: the header alone, with the opcode.
        let flags = (0x8104 | opcode << 11).to_be_bytes();
        assert_eq!(out, [0x12, 0x34, flags[0], flags[1], 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn the_case_of_the_question_is_kept() {
    let query = ask("wWw.ExAmple.TEST", A).bytes();
    let mut out = Vec::new();
    zones().answer(&query, Transport::Udp, &mut out);
    assert_eq!(out[12..query.len()], query[12..]);
    // Two answers, each a pointer to the question: 2 + 10 + 4 bytes.
    assert_eq!(out.len(), query.len() + 2 * 16);
    assert_eq!(out[query.len()..query.len() + 2], [0xc0, 12]);
}

#[test]
fn edns_rfc_6891() {
    let www = || ask("www.example.test", AAAA);
    let plain = "NOERROR AA
        answer www.example.test 300 AAAA 2001:db8::80";
    check(www(), plain);
    check(www().edns(4096), &format!("{plain}\nadditional OPT 1232 v0"));
    check(www().edns(0), &format!("{plain}\nadditional OPT 1232 v0"));
    check(www().edns(1232).ttl(0x0000_8000), &format!("{plain}\nadditional OPT 1232 v0 DO"));
    // Flags that nobody defined are cleared.
    check(www().edns(1232).ttl(0x0000_7fff), &format!("{plain}\nadditional OPT 1232 v0"));
    let options = [0, 100, 0, 0, 0, 10, 0, 3, 1, 2, 3];
    check(www().edns(1232).options(&options), &format!("{plain}\nadditional OPT 1232 v0"));
    check(www().edns(1232).ttl(0x0001_0000), "BADVERS\nadditional OPT 1232 v0");
    check(www().edns(1232).ttl(0x00ff_8000), "BADVERS\nadditional OPT 1232 v0 DO");
    // A later version may write its options otherwise.
    check(www().edns(1232).ttl(0x0001_0000).options(&[1]), "BADVERS\nadditional OPT 1232 v0");
    check(www().edns(1232).options(&[0, 10, 0, 9, 1]), "FORMERR\nadditional OPT 1232 v0");
    check(www().edns(1232).options(&[0]), "FORMERR\nadditional OPT 1232 v0");
    check(www().edns(1232).edns(1232), "FORMERR\nadditional OPT 1232 v0");
    check(ask("example.invalid", A).edns(1232), "REFUSED\nadditional OPT 1232 v0");
    check(
        ask("missing.example.test", A).edns(1232),
        &format!("{NXDOMAIN}\nadditional OPT 1232 v0"),
    );
}

#[test]
fn malformed_queries() {
    let www = || ask("www.example.test", A).bytes();
    let edit = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = www();
        change(&mut bytes);
        answer(&bytes, Transport::Udp)
    };
    for (name, change, expected) in [
        (
            "cut short",
            (&|b: &mut Vec<u8>| b.truncate(11)) as &dyn Fn(&mut Vec<u8>),
            "dropped Short",
        ),
        ("empty", &|b| b.clear(), "dropped Short"),
        ("a response", &|b| b[2] |= 0x80, "dropped Response"),
        ("header alone", &|b| b.truncate(12), "FORMERR"),
        ("no question counted", &|b| b[5] = 0, "FORMERR"),
        ("two questions counted", &|b| b[5] = 2, "FORMERR"),
        ("an answer counted", &|b| b[7] = 1, "FORMERR"),
        ("an authority counted", &|b| b[9] = 1, "FORMERR"),
        ("an additional counted", &|b| b[11] = 1, "FORMERR"),
        ("all counts at most", &|b| b[6..12].fill(0xff), "FORMERR"),
        ("bytes after the end", &|b| b.push(0), "FORMERR"),
        ("class cut off", &|b| b.truncate(b.len() - 1), "FORMERR"),
        ("name cut off", &|b| b.truncate(20), "FORMERR"),
        ("pointer in the question", &|b| b[12] = 0xc0, "FORMERR"),
        ("label type 0x40", &|b| b[12] = 0x41, "FORMERR"),
        ("label type 0x80", &|b| b[12] = 0x80, "FORMERR"),
    ] {
        assert_eq!(edit(change), expected, "{name}");
    }
    let name_of_256 = format!("{}.example.test", ["a".repeat(60).as_str(); 4].join("."));
    check(ask(&name_of_256, A), "FORMERR");
    let longest = format!("{}.example.test", ["a".repeat(59).as_str(); 4].join("."));
    check(ask(&longest, A), NXDOMAIN);
    // OPT counted as an answer.
    let mut early = ask("www.example.test", A).edns(512).bytes();
    early.swap(7, 11);
    assert_eq!(answer(&early, Transport::Udp), "FORMERR");
}

#[test]
fn truncation() {
    let records = |text: &str| text.matches("answer big.example.test").count();
    check(ask("big.example.test", A), "NOERROR AA TC");
    check(ask("big.example.test", A).edns(512), "NOERROR AA TC\nadditional OPT 1232 v0");
    let whole = answer(&ask("big.example.test", A).edns(4096).bytes(), Transport::Udp);
    assert_eq!((records(&whole), whole.lines().next()), (40, Some("NOERROR AA")));
    let over_tcp = answer(&ask("big.example.test", A).bytes(), Transport::Tcp);
    assert_eq!(records(&over_tcp), 40);
    // Never more than 1232 bytes over UDP, whatever the client says.
    check(ask("huge.example.test", A).edns(u16::MAX), "NOERROR AA TC\nadditional OPT 1232 v0");
    let huge = answer(&ask("huge.example.test", A).bytes(), Transport::Tcp);
    assert_eq!(huge.matches("answer huge.example.test").count(), 2000);
    // A chain whose end does not fit is no answer.
    check(ask("to-big.example.test", A), "NOERROR AA TC");
    // What is merely helpful is left out without a word.
    check(
        ask("mailbig.example.test", MX),
        "NOERROR AA
        answer mailbig.example.test 300 MX 10 big.example.test",
    );
    // Glue is not merely helpful, RFC 9471 section 3.1.
    check(ask("x.glue.example.test", A), "NOERROR TC");
    let whole = answer(&ask("x.glue.example.test", A).edns(1232).bytes(), Transport::Udp);
    assert_eq!(whole.matches("additional ns.glue.example.test").count(), 40);
}

#[test]
fn an_answer_over_16_kib_stays_readable_without_pointers_that_far() {
    let text = answer(&ask("many.example.test", MX).bytes(), Transport::Tcp);
    assert_eq!(text.matches("answer many.example.test 300 MX").count(), 900, "{text:.400}");
    assert!(text.contains("MX 899 mx899.of.elsewhere.test"));
}

#[test]
fn a_query_is_not_answered_twice() {
    let mut out = Vec::new();
    zones().answer(&ask("www.example.test", A).bytes(), Transport::Udp, &mut out);
    let mut again = Vec::new();
    let outcome = zones().answer(&out, Transport::Udp, &mut again);
    assert_eq!(outcome, Outcome::Dropped(Unanswerable::Response));
}
