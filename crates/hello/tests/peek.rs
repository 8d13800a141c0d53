//! Hellos made byte by byte: what is read of them, however they are cut, and what is refused.

use hello::{Fault, Hello, peek};
use proptest::prelude::*;

const LIMIT: usize = 16 << 10;

fn list16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list16(data)].concat()
}

fn sni(name: &str) -> Vec<u8> {
    extension(0, &list16(&[&[0][..], &list16(name.as_bytes())].concat()))
}

/// The message with its head.
fn message(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([1, 9]);
    body.extend(list16(&[0x13, 1, 0x13, 2]));
    body.extend([1, 0]);
    body.extend(extensions.map(list16).unwrap_or_default());
    headed(1, &body)
}

fn headed(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &list16(fragment)].concat()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(22, &message(Some(&extensions.concat())))
}

fn named(name: Option<&str>) -> Result<Option<Hello>, Fault> {
    Ok(Some(Hello { server_name: name.map(str::to_owned) }))
}

#[test]
fn names_are_found_wherever_they_stand() {
    let grease = extension(0x2a2a, b"");
    let encrypted = extension(0xfe0d, &[0; 200]);
    for (extensions, expected) in [
        (vec![sni("shop.example.test")], Some("shop.example.test")),
        (vec![grease.clone(), sni("Shop.Example.TEST")], Some("shop.example.test")),
        (vec![encrypted, grease, sni("outer.test")], Some("outer.test")),
        (vec![sni("a_b.x-y.test")], Some("a_b.x-y.test")),
        (vec![sni("10.0.0.1")], Some("10.0.0.1")),
        (vec![extension(16, b"\0\x03\x02h2")], None),
        (vec![], None),
    ] {
        assert_eq!(peek(&hello(&extensions), LIMIT), named(expected));
    }
    assert_eq!(peek(&record(22, &message(None)), LIMIT), named(None), "no extensions at all");
}

#[test]
fn what_is_no_hello_is_said_at_once() {
    let twice = hello(&[sni("a.test"), sni("b.test")]);
    let two_names = [&[0][..], &list16(b"a"), &[0], &list16(b"b")].concat();
    let odd_suites = {
        let mut message = message(None);
        let at = 4 + 34 + 2;
        message[at + 1] = 3;
        message
    };
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), Fault::NotTls),
        (b"G".to_vec(), Fault::NotTls),
        (vec![22, 2], Fault::NotTls),
        (record(21, &[2, 40]), Fault::NotTls),
        (vec![22, 3, 1, 0x40, 1], Fault::NotTls),
        (vec![22, 3, 1, 0, 0], Fault::Malformed),
        (record(22, &headed(2, b"server hello")), Fault::NotHello),
        (record(22, &[1, 0xff, 0xff, 0xff]), Fault::TooLong),
        (twice, Fault::Malformed),
        (hello(&[extension(0, &list16(&two_names))]), Fault::Malformed),
        (hello(&[extension(0, &list16(&[1, 0, 0]))]), Fault::Malformed),
        (hello(&[extension(0, b"")]), Fault::Malformed),
        (hello(&[vec![0, 5, 0, 9]]), Fault::Malformed),
        (record(22, &headed(1, b"short")), Fault::Malformed),
        (record(22, &odd_suites), Fault::Malformed),
        (hello(&[sni("")]), Fault::BadName),
        (hello(&[sni("a.test.")]), Fault::BadName),
        (hello(&[sni("a b.test")]), Fault::BadName),
        (hello(&[sni("::1")]), Fault::BadName),
        (hello(&[sni(&"a.".repeat(127))]), Fault::BadName),
    ] {
        assert_eq!(peek(&bytes, LIMIT), Err(expected), "{bytes:?}");
    }
}

#[test]
fn a_hello_ends_within_the_limit() {
    let whole = hello(&[extension(99, &[0; 500]), sni("a.test")]);
    assert_eq!(peek(&whole, whole.len()), named(Some("a.test")));
    assert_eq!(peek(&whole, whole.len() - 1), Err(Fault::TooLong));
    // Many small records are long by their heads.
    let pieces: Vec<u8> =
        message(Some(&sni("a.test"))).chunks(1).flat_map(|piece| record(22, piece)).collect();
    assert_eq!(peek(&pieces, LIMIT), named(Some("a.test")));
    assert_eq!(peek(&pieces, 300), Err(Fault::TooLong));
    assert_eq!(peek(&[], LIMIT), Ok(None));
}

proptest! {
    /// Cut into records and into reads in any way, a hello says the same, and nothing before it is whole.
    #[test]
    fn pieces_say_what_the_whole_says(
        cuts in prop::collection::vec(1usize..40, 0..30),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let message = message(Some(&[extension(7, &[1; 30]), sni("a.example.test")].concat()));
        let mut bytes = Vec::new();
        let mut left = message.as_slice();
        for cut in cuts {
            let (piece, behind) = left.split_at(cut.min(left.len()));
            if !piece.is_empty() {
                bytes.extend(record(22, piece));
            }
            left = behind;
        }
        if !left.is_empty() {
            bytes.extend(record(22, left));
        }
        for end in 0..bytes.len() {
            prop_assert_eq!(peek(&bytes[..end], LIMIT), Ok(None));
        }
        bytes.extend(rest);
        prop_assert_eq!(peek(&bytes, LIMIT), named(Some("a.example.test")));
    }

    /// What was said of the first bytes is not taken back.
    #[test]
    fn any_bytes_have_one_outcome(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let head = [22, 3, 1, 0, 90, 1, 0, 0, 60];
        for bytes in [bytes.clone(), [&head[..], &bytes].concat()] {
            let whole = peek(&bytes, LIMIT);
            let first = (0..=bytes.len()).find_map(|end| match peek(&bytes[..end], LIMIT) {
                Ok(None) => None,
                said => Some(said),
            });
            prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
        }
    }
}
