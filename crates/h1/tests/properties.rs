//! Properties: how bytes are split changes nothing, what is written is read back, arbitrary bytes do
//! not panic, and what the normal form of a path promises.

use h1::{
    BodyDecoder, ChunkDecoder, Event, Framing, HeaderList, Limits, Method, encode, is_token,
    parse_request, parse_response, target,
};
use proptest::prelude::*;

const LIMITS: Limits =
    Limits { head_bytes: 400, headers: 8, target_bytes: 120, trailer_bytes: 60, ..Limits::DEFAULT };

/// Every outcome on the way to the last one, as text, with what the list then holds.
fn parse_in_steps(kind: Kind, buf: &[u8], ends: &[usize]) -> String {
    let mut fields = HeaderList::new();
    let mut last = String::new();
    for &end in ends {
        let (text, more) = kind.parse(&buf[..end], &mut fields);
        last = text;
        if !more {
            break;
        }
    }
    last
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Request,
    Response,
}

impl Kind {
    fn parse(self, buf: &[u8], fields: &mut HeaderList) -> (String, bool) {
        let (text, more, whole) = match self {
            Kind::Request => {
                let outcome = parse_request(buf, fields, &LIMITS);
                (format!("{outcome:?}"), outcome == Ok(None), matches!(outcome, Ok(Some(_))))
            }
            Kind::Response => {
                let outcome = parse_response(buf, fields, Method::Get, &LIMITS);
                (format!("{outcome:?}"), outcome == Ok(None), matches!(outcome, Ok(Some(_))))
            }
        };
        let fields: &[h1::Header] = if whole { fields } else { &[] };
        (format!("{text} {fields:?}"), more)
    }
}

/// The prefix that decides: feeding byte by byte stops there, feeding more at once may not change it.
fn splits_agree(kind: Kind, buf: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let every: Vec<usize> = (0..=buf.len()).collect();
    let mut some: Vec<usize> = cuts.iter().map(|c| c % (buf.len() + 1)).collect();
    some.push(buf.len());
    some.sort_unstable();
    let whole = parse_in_steps(kind, buf, &[buf.len()]);
    prop_assert_eq!(&parse_in_steps(kind, buf, &every), &whole);
    prop_assert_eq!(&parse_in_steps(kind, buf, &some), &whole);
    // A fresh list on each prefix: what was remembered between calls changed nothing.
    let mut kept = HeaderList::new();
    for end in 0..=buf.len() {
        let (with, more) = kind.parse(&buf[..end], &mut kept);
        let (without, _) = kind.parse(&buf[..end], &mut HeaderList::new());
        prop_assert_eq!(with, without, "at {}", end);
        if !more {
            break;
        }
    }
    Ok(())
}

/// Heads that are nearly right: pieces in any order, good and bad.
fn nearly_a_head(start: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        6 => prop::sample::select(&["Host: a\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
            "Connection: close, x\r\n", "X-Long: 0123456789 0123456789 0123456789\r\n", "Accept:*/*\r\n", "\r\n"][..])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::sample::select(&["\r", "\n", " ", "a : b\r\n", " fold\r\n", "a: b\n", "\0", ":", "a\r\n", "Host: a b\r\n"][..])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (0usize..300).prop_map(|n| format!("L: {}\r\n", "x".repeat(n)).into_bytes()),
    ];
    (prop::sample::select(start), prop::collection::vec(pieces, 0..12), any::<bool>()).prop_map(
        |(first, rest, end)| {
            let mut head = first.as_bytes().to_vec();
            rest.iter().for_each(|piece| head.extend_from_slice(piece));
            head.extend_from_slice(if end { b"\r\n\r\nrest" } else { b"" });
            head
        },
    )
}

const REQUEST_STARTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST /a?b HTTP/1.1\r\nHost: a:80\r\n",
    "\r\nGET http://x/y HTTP/1.1\r\nHost: b\r\n",
    "GET / HTTP/1.0\r\n",
    "GET /0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
    "CONNECT a:1 HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "\r\n\r\n\r\n",
    "GET ",
    "GET /\r\n",
    "G",
    "HTTP/1\r\n",
    "GET / HTTP/1",
    "GET / HTTP/2.0\r\n",
    "\r\n",
    "",
];

const RESPONSE_STARTS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 204\r\n",
    "HTTP/1.1 304 \r\n",
    "HTTP/1.1 20",
    "HTTP/2.0 200 OK\r\n",
    "\r\n",
    "",
];

/// A chunked body from the encoder's view: chunks and trailer fields.
type Fields = Vec<(String, Vec<u8>)>;

fn fields() -> impl Strategy<Value = Fields> {
    let value = prop::collection::vec(prop_oneof![0x21u8..0x7f, 0x80u8..=0xff], 0..20);
    prop::collection::vec(("x-[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}", value), 0..7)
}

fn decode_chunked(
    input: &[u8],
    cuts: &[usize],
) -> Result<(Vec<u8>, Fields, usize, bool), h1::Reason> {
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut decoder = ChunkDecoder::new();
    let (mut at, mut data, mut done) = (0, Vec::new(), false);
    for end in ends {
        loop {
            let step = decoder.decode(&input[at..end], &LIMITS)?;
            if let Event::Data(range) = &step.event {
                data.extend_from_slice(&input[at..end][range.clone()]);
            }
            at += step.consumed;
            done = step.event == Event::End;
            if !matches!(step.event, Event::Data(_)) {
                break;
            }
        }
    }
    Ok((data, trailers_of(&decoder), at, done))
}

fn trailers_of(decoder: &ChunkDecoder) -> Fields {
    decoder.trailers().map_or(Vec::new(), |t| {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        t.fields().iter().map(|h| (text(h.name(t.bytes())), h.value(t.bytes()).to_vec())).collect()
    })
}

/// A chunked body as whoever passes it on writes it: what is written plainly as it stands, the rest framed anew. With
/// how many bytes of data were counted.
fn relay_chunked(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize), h1::Reason> {
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut decoder = ChunkDecoder::new();
    let (mut at, mut out, mut count) = (0, Vec::new(), 0);
    for end in ends {
        loop {
            let here = &input[at..end];
            let passed = decoder.pass(here, &LIMITS)?;
            if passed.bytes > 0 {
                out.extend_from_slice(&here[..passed.bytes]);
                (at, count) = (at + passed.bytes, count + passed.data);
                continue;
            }
            let step = decoder.decode(here, &LIMITS)?;
            at += step.consumed;
            match step.event {
                Event::More => break,
                Event::Data(range) => {
                    count += range.len();
                    encode::chunk(&mut out, &here[range]);
                }
                Event::End if out.ends_with(encode::LAST_CHUNK) && decoder.trailers().is_none() => {
                    return Ok((out, count));
                }
                Event::End => {
                    out.extend_from_slice(encode::LAST_CHUNK_BEFORE_TRAILERS);
                    for (name, value) in trailers_of(&decoder) {
                        encode::header(&mut out, name.as_bytes(), &value);
                    }
                    encode::end(&mut out);
                    return Ok((out, count));
                }
            }
        }
    }
    Ok((out, count))
}

fn nearly_chunked() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|data| {
            let mut out = Vec::new();
            encode::chunk(&mut out, &data);
            out
        }),
        2 => prop::sample::select(&["3;a=\"b\\\"\";c\r\nabc\r\n", "0\r\n", "0\r\n\r\n", "a: b\r\n", "0;x\r\na: b\r\nc:d\r\n\r\n", "\r\n"][..])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::sample::select(&["\r", "\n", "g", "0x1\r\n", "1 \r\n", "1;\r\n", ";", "\"", " x\r\n"][..])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(pieces, 0..8).prop_map(|p| p.concat())
}

fn path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5C", "a", "B", "%41", "%7e", "%25",
            "%", "%%", "%2", "3", "2", "e", "%32", "%65", "%45", "%c3%A9", "\u{e9}", ";", ":", "@",
            "%zz", "~", "%00",
        ][..],
    );
    prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn normal(path: &[u8]) -> Vec<u8> {
    target::normalize(path, &mut Vec::new()).path.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn splits_of_a_request_agree(buf in nearly_a_head(REQUEST_STARTS), cuts in prop::collection::vec(any::<usize>(), 0..5)) {
        splits_agree(Kind::Request, &buf, &cuts)?;
    }

    #[test]
    fn splits_of_a_response_agree(buf in nearly_a_head(RESPONSE_STARTS), cuts in prop::collection::vec(any::<usize>(), 0..5)) {
        splits_agree(Kind::Response, &buf, &cuts)?;
    }

    #[test]
    fn splits_of_a_chunked_body_agree(buf in nearly_chunked(), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let whole = decode_chunked(&buf, &[]);
        prop_assert_eq!(&decode_chunked(&buf, &cuts), &whole);
        prop_assert_eq!(&decode_chunked(&buf, &(0..=buf.len()).collect::<Vec<_>>()), &whole);
    }

    #[test]
    fn what_is_passed_on_says_what_came(buf in nearly_chunked(), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let came = decode_chunked(&buf, &[]);
        for cuts in [&cuts[..], &[], &(0..=buf.len()).collect::<Vec<_>>()] {
            match (&came, relay_chunked(&buf, cuts)) {
                (Ok((data, trailers, _, done)), Ok((out, count))) => {
                    let (passed, of_passed, used, is_done) = decode_chunked(&out, &[]).unwrap();
                    prop_assert_eq!((&passed, &of_passed, is_done), (data, trailers, *done));
                    prop_assert_eq!((count, used), (data.len(), out.len()));
                }
                (Err(reason), Err(other)) => prop_assert_eq!(*reason, other),
                (came, relayed) => prop_assert!(false, "{:?} and {:?}", came, relayed),
            }
        }
    }

    #[test]
    fn any_bytes_are_judged(buf in prop::collection::vec(any::<u8>(), 0..300)) {
        splits_agree(Kind::Request, &buf, &[])?;
        splits_agree(Kind::Response, &buf, &[])?;
        prop_assert_eq!(decode_chunked(&buf, &(0..=buf.len()).collect::<Vec<_>>()), decode_chunked(&buf, &[]));
    }

    #[test]
    fn a_written_request_is_read_back(
        method in "[A-Z!#$%&'*+.^_`|~-]{1,10}",
        target in "/[!-\"$-~]{0,60}",
        fields in fields(),
        length in any::<u64>(),
    ) {
        prop_assume!(method != "CONNECT");
        let mut buf = Vec::new();
        encode::request_line(&mut buf, method.as_bytes(), target.as_bytes());
        encode::header(&mut buf, b"host", b"shop.example");
        fields.iter().for_each(|(name, value)| encode::header(&mut buf, name.as_bytes(), value));
        prop_assume!(buf.len() < LIMITS.head_bytes - 60 && fields.len() + 2 <= LIMITS.headers);
        encode::content_length(&mut buf, length);
        encode::end(&mut buf);
        let mut list = HeaderList::new();
        let head = parse_request(&buf, &mut list, &LIMITS).unwrap().unwrap();
        prop_assert_eq!(head.method_span.of(&buf), method.as_bytes());
        prop_assert_eq!(head.target.of(&buf), target.as_bytes());
        prop_assert_eq!((head.len, head.framing), (buf.len(), Framing::Length(length)));
        let read: Vec<_> = list[1..list.len() - 1].iter().map(|h| (h.name(&buf), h.value(&buf))).collect();
        let written: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())).collect();
        prop_assert_eq!(read, written);
        // Written again from what was read, it is the same bytes.
        let mut again = Vec::new();
        encode::request_line(&mut again, head.method_span.of(&buf), head.target.of(&buf));
        list.iter().for_each(|h| encode::header(&mut again, h.name(&buf), h.value(&buf)));
        encode::end(&mut again);
        prop_assert_eq!(again, buf);
    }

    #[test]
    fn a_written_response_is_read_back(status in 100u16..1000, reason in "[ -~]{0,20}", fields in fields()) {
        let mut buf = Vec::new();
        encode::status_line(&mut buf, status, reason.as_bytes());
        fields.iter().for_each(|(name, value)| encode::header(&mut buf, name.as_bytes(), value));
        encode::transfer_encoding_chunked(&mut buf);
        encode::end(&mut buf);
        prop_assume!(buf.len() <= LIMITS.head_bytes);
        let mut list = HeaderList::new();
        let head = parse_response(&buf, &mut list, Method::Get, &LIMITS).unwrap().unwrap();
        prop_assert_eq!((head.status, head.len), (status, buf.len()));
        prop_assert_eq!(head.reason.of(&buf), reason.as_bytes());
        let framing = if status < 200 || status == 204 || status == 304 { Framing::None } else { Framing::Chunked };
        prop_assert_eq!(head.framing, framing);
        let read: Vec<_> = list[..fields.len()].iter().map(|h| (h.name(&buf), h.value(&buf))).collect();
        let written: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn copied_lines_are_as_written_ones(
        lines in prop::collection::vec(
            ("[A-Za-z-]{1,6}", "[ \t]{0,2}", "[!-~]{0,5}", "[ \t]{0,2}", any::<bool>()), 0..8),
    ) {
        let mut head = b"GET / HTTP/1.0\r\n".to_vec();
        for (name, before, value, behind, _) in &lines {
            head.extend_from_slice(format!("x{name}:{before}{value}{behind}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        let mut fields = HeaderList::new();
        let parsed = parse_request(&head, &mut fields, &Limits::DEFAULT);
        prop_assert!(matches!(parsed, Ok(Some(_))), "{parsed:?}");
        let (mut copied, mut written) = (Vec::new(), Vec::new());
        let kept: Vec<&h1::Header> =
            fields.iter().zip(&lines).filter(|(_, line)| line.4).map(|(header, _)| header).collect();
        fields.copy_lines(&head, &mut copied, |header| kept.contains(&&header));
        kept.iter().for_each(|header| encode::header(&mut written, header.name(&head), header.value(&head)));
        prop_assert_eq!(copied, written);
    }

    #[test]
    fn a_written_body_is_read_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        trailer in prop::option::of(("[a-z]{1,8}", "[!-~]{1,20}")),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut buf = Vec::new();
        chunks.iter().for_each(|data| encode::chunk(&mut buf, data));
        match &trailer {
            None => buf.extend_from_slice(encode::LAST_CHUNK),
            Some((name, value)) => {
                buf.extend_from_slice(encode::LAST_CHUNK_BEFORE_TRAILERS);
                encode::header(&mut buf, name.as_bytes(), value.as_bytes());
                encode::end(&mut buf);
            }
        }
        let (data, trailers, used, done) = decode_chunked(&buf, &cuts).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!((used, done), (buf.len(), true));
        let written: Fields = trailer.into_iter().map(|(n, v)| (n, v.into_bytes())).collect();
        prop_assert_eq!(trailers, written);
    }

    #[test]
    fn a_length_is_kept(length in 0u64..50, input in prop::collection::vec(any::<u8>(), 0..80), step in 1usize..9) {
        let mut decoder = BodyDecoder::new(Framing::Length(length));
        let mut data = Vec::new();
        for part in input.chunks(step) {
            let mut at = 0;
            while let Event::Data(range) = {
                let step = decoder.decode(&part[at..], &LIMITS).unwrap();
                at += step.consumed;
                step.event
            } {
                let base = at - range.len();
                data.extend_from_slice(&part[base..at]);
            }
        }
        let expected = (length as usize).min(input.len());
        prop_assert_eq!(&data, &input[..expected]);
        prop_assert_eq!(decoder.is_done(), input.len() as u64 >= length);
    }

    #[test]
    fn the_normal_form_is_a_fixed_point(path in path()) {
        let once = normal(path.as_bytes());
        prop_assert_eq!(normal(&once), once.clone(), "{}", path);
        prop_assert!(!target::is_normal(path.as_bytes()) || once == path.as_bytes());
    }

    #[test]
    fn the_normal_form_of_any_bytes_stays_below_the_root(path in prop::collection::vec(any::<u8>(), 0..60)) {
        let once = normal(&path);
        prop_assert_eq!(&normal(&once), &once);
        prop_assert!(once == b"*" || once.starts_with(b"/"));
        let climbs = once.split(|&b| b == b'/').any(|s| s == b"." || s == b"..");
        prop_assert!(!climbs);
    }

    #[test]
    fn the_normal_form_never_climbs(path in path()) {
        let once = normal(path.as_bytes());
        prop_assert!(once.starts_with(b"/"));
        let lower = once.to_ascii_lowercase();
        prop_assert!(!lower.windows(3).any(|w| w == b"%2e"), "{}", String::from_utf8_lossy(&once));
        prop_assert!(!once.split(|&b| b == b'/').any(|s| s == b"." || s == b".."));
    }

    #[test]
    fn equivalent_escapes_have_one_normal_form(path in "(/[a-zA-Z0-9._~-]{0,5}|/%2F|/%C3%A9|//|/[.]{1,2}){1,6}", picks in any::<u64>()) {
        let mut written = Vec::new();
        let mut in_escape = 0;
        for (i, b) in path.bytes().enumerate() {
            let pick = picks.rotate_left(i as u32) & 3;
            in_escape = if b == b'%' { 3 } else { in_escape };
            match pick {
                0 if in_escape == 0 && b != b'/' => written.extend(format!("%{b:02x}").bytes()),
                1 if in_escape == 0 && b != b'/' => written.extend(format!("%{b:02X}").bytes()),
                2 if in_escape > 0 => written.push(b.to_ascii_lowercase()),
                _ => written.push(b),
            }
            in_escape = in_escape.max(1) - 1;
        }
        prop_assert_eq!(normal(&written), normal(path.as_bytes()), "{}", String::from_utf8_lossy(&written));
    }

    #[test]
    fn a_sound_host_reads_back(name in "[a-z0-9]([a-z0-9-]{0,10})(\\.[a-z0-9]{1,5}){0,3}", port in prop::option::of(1u16..)) {
        let text = port.map_or(name.clone(), |p| format!("{name}:{p}"));
        let authority = h1::host::parse(text.as_bytes()).unwrap();
        prop_assert_eq!((authority.host, authority.port), (name.as_bytes(), port));
    }

    #[test]
    fn tokens_are_names(name in "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}") {
        prop_assert!(is_token(name.as_bytes()));
    }
}
