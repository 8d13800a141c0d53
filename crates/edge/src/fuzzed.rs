//! What the fuzz targets hold: properties of parts of the edge that nobody outside of it calls. Only built for them
//! (feature `fuzzed`) and for the tests, which try the committed corpus.

use crate::additions::{Additions, ResponseEdits};
use crate::decide::Head;
use crate::http2_stream::write_head;
use crate::sticky::{Sealer, ServiceTag, Sticky, cookies};
use crate::worker::LIMITS;
use h1::{Framing, HeaderList, Known};
use http::header::{HeaderName, HeaderValue};
use model::id::ServicePort;
use model::traffic::{Carrier, Persistence};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const COOKIE: &str = "session";

/// Any bytes as a Cookie field: nothing in them is a session that this key has not sealed, pairs lie within the field,
/// and a session that it has sealed is found behind them.
pub fn cookie(bytes: &[u8]) {
    // Would be the end of the field.
    if bytes.contains(&b'\r') || bytes.contains(&b'\n') {
        return;
    }
    let sticky = sticky();
    with_cookie(bytes, |head| {
        assert!(sticky.session(head, NOW).is_none());
        let length: usize = cookies(head).map(|(name, value)| name.len() + value.len() + 1).sum();
        assert!(length <= bytes.len() + 1);
    });
    let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let Some(pair) = sealed(&sticky, endpoint) else { return };
    with_cookie(&[bytes, b"; ", &pair].concat(), |head| {
        let session = sticky.session(head, NOW).expect("a sealed session is found");
        assert_eq!(session.endpoint, endpoint);
    });
}

fn sticky() -> Sticky {
    let plan = Persistence {
        carrier: Carrier::SessionCookie,
        name: COOKIE.into(),
        absolute_timeout: None,
        idle_timeout: None,
    };
    let sealer = Arc::new(Sealer::new(&[7; crate::SESSION_KEY_BYTES]));
    let services = std::iter::once(Some(ServiceTag::of(&service())));
    Sticky::new(&plan, sealer, services).expect("the name may stand in a head")
}

fn service() -> ServicePort {
    ServicePort { namespace: "fuzz".into(), name: "fuzz".into(), port: 80 }
}

/// `name=token` as a browser sends it back.
fn sealed(sticky: &Sticky, endpoint: SocketAddr) -> Option<Vec<u8>> {
    let mut answer = Additions::default();
    sticky.keep(None, (0, endpoint), (NOW, false), &mut answer);
    let (_, value) = ResponseEdits::of(None, &answer)?.added().next()?;
    Some(value.split(|&b| b == b';').next()?.to_vec())
}

fn with_cookie(value: &[u8], check: impl FnOnce(Head<'_>)) {
    let bytes = [b"GET / HTTP/1.1\r\nhost: a\r\ncookie: ".as_slice(), value, b"\r\n\r\n"].concat();
    let mut list = HeaderList::new();
    if let Ok(Some(head)) = h1::parse_request(&bytes, &mut list, &LIMITS)
        && head.len == bytes.len()
    {
        check(Head { bytes: &bytes, head: &head, list: &list });
    }
}

/// Lines of `name: value`, the pseudo-header fields with their colons, as a request of HTTP/2: what is written for
/// HTTP/1.1 is refused, or is one head, to its last byte, with one Host and at most one framing.
pub fn http2_to_http1(bytes: &[u8]) {
    let (is_end, bytes) = match bytes.split_first() {
        Some((first, rest)) => (first & 1 == 0, rest),
        None => return,
    };
    let Some(request) = request(bytes) else { return };
    let (parts, ()) = request.into_parts();
    let mut out = Vec::new();
    if write_head(&parts, is_end, None, &mut out).is_err() {
        return;
    }
    let mut list = HeaderList::new();
    let Ok(parsed) = h1::parse_request(&out, &mut list, &LIMITS) else { return };
    let head = parsed.expect("what is written ends");
    assert_eq!(head.len, out.len(), "one request, and nothing behind it");
    let count = |known| list.iter().filter(|header| header.known == known).count();
    assert_eq!(count(Known::Host), 1);
    assert!(count(Known::ContentLength) + count(Known::TransferEncoding) <= 1);
    assert!(count(Known::Cookie) <= 1);
    // A body that is to come has a framing; one that is not has none but a length.
    match head.framing {
        Framing::None => assert!(is_end, "a body is to come and has no framing"),
        Framing::Chunked => assert!(!is_end, "chunks are announced, and none will come"),
        Framing::Length(_) => {}
        Framing::UntilClose => panic!("a request has no such framing (RFC 9112 section 6.3)"),
    }
}

/// As `h2` builds it.
fn request(bytes: &[u8]) -> Option<http::Request<()>> {
    let mut request = http::Request::builder();
    let mut uri = http::Uri::builder();
    for line in bytes.split(|&b| b == b'\n') {
        let at = 1 + line.get(1..)?.iter().position(|&b| b == b':')?;
        let (name, value) = (&line[..at], &line[at + 1..]);
        match name {
            b":method" => request = request.method(value),
            b":scheme" => uri = uri.scheme(value),
            b":authority" => uri = uri.authority(value),
            b":path" => uri = uri.path_and_query(value),
            _ => {
                let name = HeaderName::from_lowercase(name).ok()?;
                request = request.header(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
    }
    request.uri(uri.build().ok()?).body(()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Each input of a target's corpus, and each of them cut off everywhere.
    fn each_of(target: &str, check: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().flatten().collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            let bytes = std::fs::read(input.path()).unwrap();
            (0..=bytes.len()).for_each(|end| check(&bytes[..end]));
        }
    }

    #[test]
    fn the_corpus_of_cookies_holds() {
        each_of("edge_cookie", cookie);
    }

    #[test]
    fn the_corpus_of_requests_of_http2_holds() {
        each_of("edge_http2_to_http1", http2_to_http1);
    }

    #[test]
    fn a_request_of_the_corpus_is_translated() {
        let lines = b":method:GET\n:scheme:https\n:authority:a.test\n:path:/x";
        let (parts, ()) = request(lines).unwrap().into_parts();
        let mut out = Vec::new();
        write_head(&parts, true, None, &mut out).unwrap();
        assert_eq!(out, b"GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n");
    }
}
