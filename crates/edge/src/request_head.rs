//! Writes the head that the origin gets: the client's lines without what is about its connection or may not be
//! believed, then the edge's own.

use crate::access::TlsFacts;
use crate::caller::Caller;
use crate::changes::Changes;
use crate::connection::Connection;
use crate::decide::{Decided, Head};
use crate::edits::Edits;
use crate::field_names::{is_alike, is_edge_field};
use crate::forwarded_lines;
use crate::ids::RequestId;
use h1::{Framing, Known, Method, encode};
use model::front::{AddressHeader, ForwardedCertificate};

/// Appends the whole head, the empty line included.
pub(crate) fn write(
    out: &mut Vec<u8>,
    request: Head<'_>,
    (decided, changes): (&Decided<'_, '_>, &Changes),
    caller: Caller<'_>,
    id: &RequestId,
) {
    let edits = changes.request_edits.as_ref();
    request_line(out, request, decided, changes);
    encode::header(out, b"host", host(request, changes, edits));
    request.list.copy_lines(request.bytes, out, |header| {
        let name = header.name(request.bytes);
        is_forwarded(request, header, name)
            && !is_claimed(name, decided, caller)
            && edits.is_none_or(|edits| !edits.drops(name))
    });
    connection_lines(out, request);
    match decided.trust.filter(|_| caller.told.is_believed()) {
        None => forwarded_lines(out, request, caller.connection, edits),
        Some(trust) => forwarded_lines::write(out, request, (caller, trust), edits),
    }
    if let Some(policy) = &decided.rule.policy {
        certificate_lines(out, policy.client_certificate, caller.connection, edits);
    }
    for (name, value) in edits.into_iter().flat_map(Edits::added).filter(|line| line.0 != b"host") {
        encode::header(out, name, value);
    }
    encode::header(out, b"x-request-id", id.as_bytes());
    framing_line(out, request.head.framing, request.head.method);
    encode::end(out);
}

/// Says where the body ends: the last line of a head, and the only one of its kind. It comes from the framing by which
/// the body is sent, not from what the client wrote.
fn framing_line(out: &mut Vec<u8>, framing: Framing, method: Method) {
    match (framing, method) {
        (Framing::Chunked, _) => encode::transfer_encoding_chunked(out),
        (Framing::Length(length), _) => encode::content_length(out, length),
        // Without a body is not without a length where a body is usual (RFC 9110 section 8.6).
        (Framing::None, Method::Post | Method::Put | Method::Patch) => {
            encode::content_length(out, 0)
        }
        (Framing::None | Framing::UntilClose, _) => {}
    }
}

/// Whether a whole head announces the body that is to follow it. To an origin that is told otherwise, a body is another
/// request (RFC 9112 section 11.2).
pub(crate) fn announces(head: &[u8], framing: Framing) -> bool {
    let Some(lines) = head.strip_suffix(b"\r\n\r\n") else { return false };
    match framing {
        Framing::None | Framing::Length(0) => true,
        Framing::Chunked => lines.ends_with(b"\r\ntransfer-encoding: chunked"),
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            let line = lines.strip_suffix(digits.format(length).as_bytes());
            line.is_some_and(|line| line.ends_with(b"\r\ncontent-length: "))
        }
        // Requests have no such bodies (RFC 9112 section 6.3).
        Framing::UntilClose => false,
    }
}

/// The origin gets the normal form that was matched, or what the rule makes of it.
fn request_line(
    out: &mut Vec<u8>,
    request: Head<'_>,
    decided: &Decided<'_, '_>,
    changes: &Changes,
) {
    let path = &decided.path;
    out.extend_from_slice(request.head.method_span.of(request.bytes));
    out.push(b' ');
    match &changes.rewrite_path {
        Some(rewrite) if path.path != b"*" => {
            let taken = decided.matched_prefix_len;
            routing::rewrite_path(rewrite, path.path, taken, path.query, out);
        }
        _ => {
            out.extend_from_slice(path.path);
            if let Some(query) = path.query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

fn host<'a>(request: Head<'a>, changes: &'a Changes, edits: Option<&'a Edits>) -> &'a [u8] {
    let edited = edits.and_then(Edits::host).filter(|host| h1::host::parse(host).is_some());
    edited.or(changes.rewrite_host.as_deref()).unwrap_or(request.authority())
}

/// A field that a proxy would be believed by, from somebody who is not; in other spellings from anybody.
fn is_claimed(name: &[u8], decided: &Decided<'_, '_>, caller: Caller<'_>) -> bool {
    let Some(trust) = decided.trust else { return false };
    let address = match &trust.header {
        AddressHeader::Named(field) => Some(field),
        AddressHeader::XForwardedFor | AddressHeader::Forwarded => None,
    };
    address.into_iter().chain(&trust.scheme).any(|field| {
        let is_it = caller.told.is_believed() && name.eq_ignore_ascii_case(field.as_bytes());
        !is_it && is_alike(name, field.as_bytes())
    })
}

/// Fields that say where a request comes from are the edge's to write. What a proxy that is believed wrote goes on in
/// `forwarded_lines`.
fn is_forwarded(request: Head<'_>, header: h1::Header, name: &[u8]) -> bool {
    match header.known {
        Known::Host
        | Known::ContentLength
        | Known::Expect
        | Known::Forwarded
        | Known::XForwardedFor
        | Known::XForwardedHost
        | Known::XForwardedPort
        | Known::XForwardedProto
        | Known::XRequestId => false,
        Known::Other if is_edge_field(name) => false,
        _ => !request.list.is_hop_by_hop(request.bytes, header),
    }
}

/// TE and Upgrade are about one connection: what the edge takes part in is said anew.
fn connection_lines(out: &mut Vec<u8>, request: Head<'_>) {
    let trailers = request.find(Known::Te).is_some_and(accepts_trailers);
    if trailers {
        encode::header(out, b"te", b"trailers");
    }
    match (upgrade(request), trailers) {
        (Some(protocol), _) => {
            encode::header(out, b"connection", if trailers { b"upgrade, te" } else { b"upgrade" });
            encode::header(out, b"upgrade", protocol);
        }
        (None, true) => encode::header(out, b"connection", b"te"),
        (None, false) => {}
    }
}

fn accepts_trailers(te: &[u8]) -> bool {
    te.split(|&b| b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The protocols that a client may change to. Not HTTP/2: an origin that agreed would get requests that no rule has seen.
pub(crate) fn upgrade(request: Head<'_>) -> Option<&[u8]> {
    let protocols = request.head.upgrade?.of(request.bytes);
    let mut names = protocols.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    let is_http = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"h2c")
            || name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"http/"))
    };
    (!names.any(is_http)).then_some(protocols)
}

/// As with the others, a rule that sets one of them has the last word.
fn certificate_lines(
    out: &mut Vec<u8>,
    forwarded: ForwardedCertificate,
    connection: &Connection,
    edits: Option<&Edits>,
) {
    let client = connection.tls.as_ref().and_then(TlsFacts::client);
    let lines = client.into_iter().flat_map(|client| client.lines(forwarded));
    for (name, value) in lines.filter(|(name, _)| edits.is_none_or(|edits| !edits.drops(name))) {
        encode::header(out, name, value);
    }
}

/// A rule that sets one of them has the last word.
fn forwarded_lines(
    out: &mut Vec<u8>,
    request: Head<'_>,
    connection: &Connection,
    edits: Option<&Edits>,
) {
    let is_ours = |name: &[u8]| edits.is_none_or(|edits| !edits.drops(name));
    let (client, scheme) = (connection.client.as_bytes(), connection.scheme_name().as_bytes());
    let authority = request.authority();
    for (name, value) in [
        (b"x-forwarded-for".as_slice(), client),
        (b"x-forwarded-proto", scheme),
        (b"x-real-ip", client),
        (b"x-forwarded-host", authority),
    ] {
        if !value.is_empty() && is_ours(name) {
            encode::header(out, name, value);
        }
    }
    if !is_ours(b"forwarded") {
        return;
    }
    // RFC 7239 section 6: an IPv6 address stands in brackets and quotes. An authority that the codec accepts holds
    // neither quotes nor backslashes.
    let quotes: [&[u8]; 2] = if connection.peer.is_ipv6() { [b"\"[", b"]\""] } else { [b"", b""] };
    let parts: [&[u8]; 6] = [b"forwarded: for=", quotes[0], client, quotes[1], b";proto=", scheme];
    parts.iter().for_each(|part| out.extend_from_slice(part));
    if !authority.is_empty() {
        [b";host=\"".as_slice(), authority, b"\""]
            .iter()
            .for_each(|part| out.extend_from_slice(part));
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use h1::HeaderList;

    #[test]
    fn a_head_announces_the_body_that_it_was_written_for_and_no_other() {
        const BODIES: [Framing; 4] =
            [Framing::Chunked, Framing::Length(1), Framing::Length(11), Framing::Length(100_000)];
        for written in BODIES.into_iter().chain([Framing::None, Framing::Length(0)]) {
            for claimed in ["", "x-content-length: 1\r\n", "x: transfer-encoding: chunked\r\n"] {
                let mut head = format!("PUT / HTTP/1.1\r\nhost: a\r\n{claimed}").into_bytes();
                framing_line(&mut head, written, Method::Put);
                assert!(!announces(&head, written), "it is not whole");
                encode::end(&mut head);
                assert!(announces(&head, written), "{written:?}");
                for other in BODIES.into_iter().filter(|other| *other != written) {
                    assert!(!announces(&head, other), "{written:?} {other:?}");
                }
                let limits = &crate::worker::LIMITS;
                let parsed = h1::parse_request(&head, &mut HeaderList::new(), limits);
                let parsed = parsed.expect("accepted").expect("whole").framing;
                let is_bodiless = written == Framing::None;
                assert_eq!(parsed, if is_bodiless { Framing::Length(0) } else { written });
            }
        }
    }
}
