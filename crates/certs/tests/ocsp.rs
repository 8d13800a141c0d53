//! Judgement of responses that OpenSSL made (`openssl ocsp -index … -rsigner …`), and of anything else.

use certs::{OcspFault, OcspQuery};
use proptest::prelude::*;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsp").join(name);
    std::fs::read(path).expect("the file is there")
}

fn query(leaf: &str) -> OcspQuery {
    OcspQuery::of(&[file(leaf), file("ca.der")]).expect("it names a responder")
}

/// The day on which the files were made.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_305_600)
}

#[test]
fn asks_as_openssl_asks() {
    let query = query("leaf.der");
    assert_eq!(query.url, "http://127.0.0.1:8899/");
    assert_eq!(query.request, file("leaf.req"));
}

#[test]
fn without_a_responder_or_an_issuer_there_is_no_question() {
    assert!(OcspQuery::of(&[file("leaf.der")]).is_none());
    assert!(OcspQuery::of(&[file("ca.der"), file("ca.der")]).is_none());
    assert!(OcspQuery::of(&[file("leaf.der"), file("leaf.der")]).is_none());
    assert!(OcspQuery::of(&[b"rubbish".to_vec(), file("ca.der")]).is_none());
}

#[test]
fn believes_the_issuer_and_whom_it_lets_sign() {
    for (leaf, response, expected) in [
        ("leaf.der", "good.resp", None),
        ("leaf.der", "delegated.resp", None),
        ("leaf.der", "impostor.resp", Some(OcspFault::Signature)),
        ("leaf.der", "false.resp", Some(OcspFault::Signature)),
        ("leaf.der", "other.resp", Some(OcspFault::OtherCertificate)),
        ("leaf.der", "endless.resp", Some(OcspFault::Time)),
        ("leaf.der", "old.resp", Some(OcspFault::Time)),
        ("revoked.der", "revoked.resp", Some(OcspFault::Revoked)),
    ] {
        let judged = query(leaf).judge(&file(response), then());
        assert_eq!(judged.as_ref().err(), expected.as_ref(), "{response}");
        if let Ok(staple) = judged {
            assert_eq!(staple.response, file(response));
            assert!(staple.this_update < then() && then() < staple.next_update);
        }
    }
    let refused = [0x30, 3, 0x0a, 1, 6];
    assert_eq!(query("leaf.der").judge(&refused, then()), Err(OcspFault::Refused(6)));
}

#[test]
fn a_response_has_its_time() {
    let (query, good) = (query("leaf.der"), file("good.resp"));
    let staple = query.judge(&good, then()).expect("it holds");
    let second = Duration::from_secs(1);
    for (now, holds) in [
        (staple.this_update - Duration::from_secs(301), false),
        (staple.this_update, true),
        (staple.next_update - second, true),
        (staple.next_update, false),
    ] {
        assert_eq!(query.judge(&good, now).is_ok(), holds, "{now:?}");
    }
}

/// Nothing that was signed can be changed, and nothing that comes makes it panic.
#[test]
fn no_byte_can_be_changed_or_cut() {
    let (query, good) = (query("leaf.der"), file("good.resp"));
    for at in 0..good.len() {
        assert!(query.judge(&good[..at], then()).is_err(), "{at}");
        let mut changed = good.clone();
        changed[at] ^= 1;
        // What is not signed, such as the certificate of the responder beside it, may differ.
        if let Ok(staple) = query.judge(&changed, then()) {
            assert_eq!(staple.next_update, query.judge(&good, then()).expect("good").next_update);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(query("leaf.der").judge(&bytes, then()).is_err());
    }
}
