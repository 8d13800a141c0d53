//! Bodies, case by case: chunked with extensions and trailers, fixed length, until close.

use h1::{BodyDecoder, ChunkDecoder, Event, Framing, LengthDecoder, Limits, PassedOn, Reason};

/// What a chunked body came to: data, trailer fields, and the bytes behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    rest: Vec<u8>,
}

/// Gives the input in steps of that size. Nothing while the body goes on.
fn decode(input: &[u8], step: usize, limits: &Limits) -> Result<Option<Body>, Reason> {
    let mut decoder = ChunkDecoder::new();
    let (mut buf, mut data) = (Vec::new(), Vec::new());
    let mut parts = input.chunks(step.max(1));
    loop {
        let step = decoder.decode(&buf, limits)?;
        match &step.event {
            Event::Data(range) => data.extend_from_slice(&buf[range.clone()]),
            Event::More => assert_eq!(step.consumed, buf.len(), "More leaves nothing"),
            Event::End => {
                buf.drain(..step.consumed);
                let rest = [buf, parts.collect::<Vec<_>>().concat()].concat();
                return Ok(Some(Body { data, trailers: trailers(&decoder), rest }));
            }
        }
        buf.drain(..step.consumed);
        if step.event == Event::More {
            match parts.next() {
                Some(part) => buf.extend_from_slice(part),
                None => return Ok(None),
            }
        }
    }
}

fn trailers(decoder: &ChunkDecoder) -> Vec<(String, String)> {
    let text = |b| String::from_utf8_lossy(b).into_owned();
    decoder.trailers().map_or(Vec::new(), |t| {
        t.fields().iter().map(|h| (text(h.name(t.bytes())), text(h.value(t.bytes())))).collect()
    })
}

#[track_caller]
fn accepted(input: impl AsRef<[u8]>, data: &[u8], trailers: &[(&str, &str)], rest: &[u8]) {
    let expected = Body {
        data: data.to_vec(),
        trailers: trailers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        rest: rest.to_vec(),
    };
    for step in [1, 2, 3, 7, usize::MAX] {
        let step = step.min(input.as_ref().len());
        let outcome = decode(input.as_ref(), step, &Limits::DEFAULT);
        assert_eq!(outcome.as_ref(), Ok(&Some(expected.clone())), "in steps of {step}");
    }
}

#[track_caller]
fn refused(input: impl AsRef<[u8]>, slug: &str) {
    refused_within(input, slug, &Limits::DEFAULT);
}

#[track_caller]
fn refused_within(input: impl AsRef<[u8]>, slug: &str, limits: &Limits) {
    let input = input.as_ref();
    for step in [1, 2, 3, input.len()] {
        let outcome = decode(input, step, limits).map_err(Reason::slug);
        assert_eq!(outcome, Err(slug), "{:?} in steps of {step}", String::from_utf8_lossy(input));
    }
}

#[test]
fn chunks() {
    accepted("0\r\n\r\n", b"", &[], b"");
    accepted("5\r\nhello\r\n0\r\n\r\nGET", b"hello", &[], b"GET");
    accepted(
        "A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n",
        b"01234567890123456789",
        &[],
        b"",
    );
    accepted("0000000000000001\r\nx\r\n0\r\n\r\n", b"x", &[], b"");
    accepted("2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", &[], b"");
    assert_eq!(decode(b"5\r\nhel", 1, &Limits::DEFAULT), Ok(None));
    assert_eq!(decode(b"0\r\n\r", 1, &Limits::DEFAULT), Ok(None));
    assert_eq!(decode(b"ffffffffffffffff\r\nx", 1, &Limits::DEFAULT), Ok(None));
}

#[test]
fn bad_sizes() {
    for bad in [
        "\r\n",
        ";a\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        "x\r\n",
        "g\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\t\r\n",
        "1 ;a\r\n",
        "_1\r\n",
        "00000000000000001\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffffff\r\n",
        "1,\r\n",
        "1.0\r\n",
        "\n",
        "\0\r\n",
        "\u{ff11}\r\n",
    ] {
        refused(bad, "chunk-size");
    }
    refused("1\nx\r\n", "bare-line-feed");
    refused("1\rx", "bare-carriage-return");
    refused("1\r\r\n", "bare-carriage-return");
    refused("0\r\n\rx", "bare-carriage-return");
    refused("0\r\n\n", "bare-line-feed");
    for bad in ["3\r\nfoo0\r\n", "3\r\nfoo\n", "3\r\nfoo\rx", "3\r\nfooo\r\n"] {
        refused(bad, "chunk-end");
    }
}

#[test]
fn extensions() {
    for good in [
        ";a",
        ";a=b",
        ";a;b=c;d",
        ";a=\"b\"",
        ";a=\"\"",
        ";a=\"b;\\\"c\\\\ \t\u{e9}\";d",
        ";!#$%&'*+-.^_`|~=x",
    ] {
        accepted(format!("1{good}\r\nx\r\n0{good}\r\n\r\n"), b"x", &[], b"");
    }
    for bad in [
        ";",
        ";;a",
        ";=b",
        ";a=",
        ";a=;b",
        ";a b",
        "; a",
        ";a =b",
        ";a= b",
        ";a=b\"c\"",
        ";a=\"b\"c",
        ";a=\"b",
        ";a=\"\0\"",
        ";a=\"\\\0\"",
        ";a,",
        ";(a)",
        ";a=b=c",
        ";a\0",
        ";\u{e9}",
        ";a=\"b\r",
    ] {
        refused(format!("1{bad}\r\nx\r\n0\r\n\r\n"), "chunk-extension");
    }
    refused("1;a\nx\r\n0\r\n\r\n", "bare-line-feed");
    refused("1;a=\"b\nc\"\r\nx\r\n", "bare-line-feed");
    refused("1;a\rx\r\n", "bare-carriage-return");
}

#[test]
fn extensions_have_limits() {
    let limits = Limits { chunk_extension_bytes: 4, body_extension_bytes: 10, ..Limits::DEFAULT };
    let chunk = |ext: &str| format!("1{ext}\r\nx\r\n");
    assert!(decode(chunk(";abc").as_bytes(), 1, &limits).is_ok());
    refused_within(chunk(";abcd"), "chunk-extensions-too-long", &limits);
    refused_within(chunk(";a=\"\""), "chunk-extensions-too-long", &limits);
    assert!(decode(chunk(";ab").repeat(3).as_bytes(), 1, &limits).is_ok());
    refused_within(chunk(";ab").repeat(4), "chunk-extensions-too-long", &limits);
}

#[test]
fn trailer_fields() {
    accepted("0\r\na: b\r\n\r\n", b"", &[("a", "b")], b"");
    accepted(
        "1\r\nx\r\n0\r\nVary: *\r\nX-Sum:\t1 \r\n\r\nnext",
        b"x",
        &[("Vary", "*"), ("X-Sum", "1")],
        b"next",
    );
    refused("0\r\n a: b\r\n\r\n", "space-before-headers");
    refused("0\r\na: b\r\n c\r\n\r\n", "folded-header");
    refused("0\r\na : b\r\n\r\n", "space-before-colon");
    refused("0\r\na: b\n\r\n", "bare-line-feed");
    refused("0\r\na: b\r\n\n", "bare-line-feed");
    refused("0\r\na: b\rc: d\r\n\r\n", "bare-carriage-return");
    refused("0\r\na: \0\r\n\r\n", "header-value");
    refused("0\r\nGET / HTTP/1.1\r\n\r\n", "header-name");
    let mut decoder = ChunkDecoder::new();
    decoder.decode(b"0\r\na: b\r\n", &Limits::DEFAULT).unwrap();
    assert!(decoder.trailers().is_none(), "not before they are whole");
}

#[test]
fn trailers_have_limits() {
    let limits = Limits { trailer_bytes: 12, headers: 2, ..Limits::DEFAULT };
    assert!(matches!(decode(b"0\r\na: bcdef\r\n\r\n", 1, &limits), Ok(Some(_))));
    refused_within("0\r\na: bcdefg\r\n\r\n", "trailers-too-large", &limits);
    refused_within("0\r\naaaaaaaaaaaaaaaaaaaaaaaaaa", "trailers-too-large", &limits);
    refused_within(
        "0\r\na:\r\nb:\r\nc:\r\n",
        "too-many-headers",
        &Limits { trailer_bytes: 99, ..limits },
    );
}

#[test]
fn fixed_lengths() {
    let mut decoder = LengthDecoder::new(5);
    assert_eq!(decoder.decode(b"").event, Event::More);
    assert_eq!(decoder.decode(b"hel").event, Event::Data(0..3));
    assert_eq!(decoder.left(), 2);
    let step = decoder.decode(b"loGET");
    assert_eq!((step.consumed, step.event), (2, Event::Data(0..2)));
    let step = decoder.decode(b"GET");
    assert_eq!((step.consumed, step.event), (0, Event::End));
}

#[test]
fn every_framing_knows_where_it_may_end() {
    let check = |framing, input: &[u8], done, sound: bool| {
        let mut decoder = BodyDecoder::new(framing);
        let mut at = 0;
        loop {
            let step = decoder.decode(&input[at..], &Limits::DEFAULT).unwrap();
            at += step.consumed;
            if !matches!(step.event, Event::Data(_)) {
                break;
            }
        }
        assert_eq!(decoder.is_done(), done, "{framing:?}");
        assert_eq!(decoder.end_of_input().is_ok(), sound, "{framing:?}");
    };
    check(Framing::None, b"x", true, true);
    check(Framing::Length(0), b"", true, true);
    check(Framing::Length(2), b"x", false, false);
    check(Framing::Length(2), b"xyz", true, true);
    check(Framing::Chunked, b"", false, false);
    check(Framing::Chunked, b"1\r\nx\r\n", false, false);
    check(Framing::Chunked, b"0\r\n", false, false);
    check(Framing::Chunked, b"0\r\n\r\nx", true, true);
    check(Framing::UntilClose, b"", false, true);
    check(Framing::UntilClose, b"xyz", false, true);
}

#[test]
fn faults_in_a_response_are_the_origins() {
    assert_eq!(Reason::ChunkSize.in_request().status, 400);
    assert_eq!(Reason::TrailersTooLarge.in_request().status, 431);
    assert_eq!(Reason::ChunkSize.in_response().status, 502);
}

#[test]
fn what_is_passed_on_as_it_stands() {
    // Of the input, how much is passed, and how much of that is data.
    for (input, bytes, data) in [
        ("5\r\nhello\r\n", 10, 5),
        ("5\r\nhel", 6, 3),
        ("1\r\na\r\n10\r\n0123456789abcdef\r\nB", 28, 17),
        ("1\r\na\r\n0\r\n\r\n", 11, 1),
        ("1\r\na\r\n0\r\n\r\nHTTP/1.1 200", 11, 1),
        // Written otherwise than it need be, or not there yet.
        ("05\r\nhello\r\n", 0, 0),
        ("1\r\na\r\n1;x\r\nb\r\n", 6, 1),
        ("1\r\na\r\n00\r\n\r\n", 6, 1),
        ("1\r\na\r\n0\r\nx: y\r\n\r\n", 6, 1),
        ("1\r\na\r\n0\r\n", 6, 1),
        ("5", 0, 0),
        ("5\r", 0, 0),
        ("", 0, 0),
        ("x", 0, 0),
        ("ffffffffffffffff\r\nab", 20, 2),
        ("fffffffffffffffff\r\nab", 0, 0),
    ] {
        let passed = ChunkDecoder::new().pass(input.as_bytes(), &Limits::DEFAULT);
        assert_eq!(passed, Ok(PassedOn { bytes, data }), "{input:?}");
    }
    let mut decoder = ChunkDecoder::new();
    let mut pass = |input: &str| decoder.pass(input.as_bytes(), &Limits::DEFAULT);
    assert_eq!(pass("2\r\nabx"), Ok(PassedOn { bytes: 5, data: 2 }), "what is sound goes first");
    assert_eq!(pass("x"), Err(Reason::ChunkEnd));
}
