//! The lines about a client that an origin gets where a proxy before this one is believed: what it wrote goes on, with its
//! own address behind it. The field that addresses are not taken from is written anew, from what is known.
//! The lines of a plain request are in `request_head`.

use crate::caller::{Caller, lines};
use crate::decide::Head;
use crate::edits::Edits;
use h1::forwarded::has_whole_quotes;
use h1::{Known, encode};
use model::front::{AddressHeader, ClientAddress};
use std::io::Write;
use std::net::IpAddr;

/// A rule that sets one of them has the last word.
pub(crate) fn write(
    out: &mut Vec<u8>,
    request: Head<'_>,
    (caller, trust): (Caller<'_>, &ClientAddress),
    edits: Option<&Edits>,
) {
    let is_ours = |name: &[u8]| edits.is_none_or(|edits| !edits.drops(name));
    let host = caller.host(trust, request).unwrap_or(request.authority());
    let is_standard = trust.header == AddressHeader::Forwarded;
    if is_ours(b"x-forwarded-for") {
        let is_chain = trust.header == AddressHeader::XForwardedFor;
        x_forwarded_for(out, request, caller, is_chain);
    }
    if is_ours(b"x-forwarded-proto") {
        encode::header(out, b"x-forwarded-proto", caller.scheme_name().as_bytes());
    }
    if is_ours(b"x-real-ip") {
        display(out, format_args!("x-real-ip: {}\r\n", caller.ip()));
    }
    if !host.is_empty() && is_ours(b"x-forwarded-host") {
        encode::header(out, b"x-forwarded-host", host);
    }
    if let Some(port) = caller.port().filter(|_| is_ours(b"x-forwarded-port")) {
        display(out, format_args!("x-forwarded-port: {port}\r\n"));
    }
    if is_ours(b"forwarded") {
        forwarded(out, request, caller, (is_standard, host));
    }
}

fn x_forwarded_for(out: &mut Vec<u8>, request: Head<'_>, caller: Caller<'_>, is_chain: bool) {
    out.extend_from_slice(b"x-forwarded-for: ");
    if is_chain {
        chain(out, lines(request, Known::XForwardedFor).rev());
    } else if let Some(client) = caller.told.client() {
        display(out, format_args!("{client}, "));
    }
    display(out, format_args!("{}\r\n", caller.connection.peer.ip()));
}

/// Each value with a comma behind it.
fn chain<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]>) {
    for value in values.filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

fn forwarded(
    out: &mut Vec<u8>,
    request: Head<'_>,
    caller: Caller<'_>,
    (is_standard, host): (bool, &[u8]),
) {
    let peer = caller.connection.peer.ip();
    out.extend_from_slice(b"forwarded: ");
    if is_standard {
        // Behind quotes that do not end nothing would be understood.
        let whole =
            lines(request, Known::Forwarded).take_while(|line| has_whole_quotes(line)).count();
        let all = lines(request, Known::Forwarded).count();
        chain(out, lines(request, Known::Forwarded).rev().skip(all - whole));
        element(out, peer, caller.connection.scheme_name(), request.authority());
    } else {
        element(out, caller.ip(), caller.scheme_name(), host);
        if caller.told.client().is_some() {
            out.extend_from_slice(b", ");
            element(out, peer, caller.connection.scheme_name(), b"");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 7239 section 4; an IPv6 address stands in brackets and quotes (section 6). A host that the codec accepts holds
/// neither quotes nor backslashes.
fn element(out: &mut Vec<u8>, node: IpAddr, scheme: &str, host: &[u8]) {
    match node {
        IpAddr::V4(node) => display(out, format_args!("for={node};proto={scheme}")),
        IpAddr::V6(node) => display(out, format_args!("for=\"[{node}]\";proto={scheme}")),
    }
    if !host.is_empty() {
        [b";host=\"".as_slice(), host, b"\""].iter().for_each(|part| out.extend_from_slice(part));
    }
}

fn display(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}
