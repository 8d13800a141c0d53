//! What is to become of a request: one function for HTTP/1.1 and HTTP/2. Reads the head in its normal form and the view;
//! picks no endpoint and writes nothing.

use crate::connection::Connection;
use crate::refusal::{Cause, Refusal};
use crate::view::{EdgeView, RulePlan};
use h1::target::{Normal, normalize};
use h1::{Framing, HeaderList, Known, Method, RequestHead};
use model::limits::REQUEST_BODY_BYTES;
use routing::{Headers, Request};

/// A request's head with the bytes that its spans lie in.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub bytes: &'a [u8],
    pub head: &'a RequestHead,
    pub list: &'a HeaderList,
}

impl<'a> Head<'a> {
    pub fn find(&self, known: Known) -> Option<&'a [u8]> {
        self.list.find(known).map(|header| header.value(self.bytes))
    }

    /// Host and port as received; empty only in HTTP/1.0.
    pub fn authority(&self) -> &'a [u8] {
        self.head.host.map(|span| span.of(self.bytes)).unwrap_or_default()
    }
}

impl Headers for Head<'_> {
    fn values<'a>(&'a self, lower_name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.list
            .iter()
            .filter(|header| header.name(self.bytes).eq_ignore_ascii_case(lower_name.as_bytes()))
            .map(|header| header.value(self.bytes))
    }
}

/// The rule that takes a request, with the request's normal form.
pub(crate) struct Decided<'v, 'a> {
    pub rule: &'v RulePlan,
    pub path: Normal<'a>,
    pub matched_prefix_len: usize,
}

/// `host` is filled with the host in normal form, `normal` may be used for the path.
pub(crate) fn decide<'v, 'a>(
    view: &'v EdgeView,
    connection: &Connection,
    request: Head<'a>,
    (host, normal): (&mut String, &'a mut Vec<u8>),
    matching: &mut routing::Scratch,
) -> Result<Decided<'v, 'a>, Refusal> {
    normal_host(request.authority(), host);
    check_message(request.head)?;
    let path = normalize(request.head.path_and_query(request.bytes), normal);
    let port = view.router().port(connection.port, connection.scheme());
    let port = port.ok_or(Refusal::Edge(Cause::NoListener))?;
    if let Some(tls) = &connection.tls
        && port.is_misdirected(tls.server_name.as_deref(), host)
    {
        return Err(Refusal::Edge(Cause::Misdirected));
    }
    let listener = port.listener(host).ok_or(Refusal::Edge(Cause::NoListener))?;
    let method = request.head.method_span.of(request.bytes);
    let wanted = Request { method, path: path.path, query: path.query, headers: &request };
    let matched = listener.select(host, &wanted, matching);
    let matched = matched.ok_or(Refusal::Edge(Cause::NoRoute))?;
    let rule = view.rule(listener, matched.slot).ok_or(Refusal::Edge(Cause::NoRoute))?;
    Ok(Decided { rule, path, matched_prefix_len: matched.matched_prefix_len })
}

fn check_message(head: &RequestHead) -> Result<(), Refusal> {
    match (head.method, head.framing) {
        (Method::Connect, _) => Err(Refusal::Edge(Cause::ConnectMethod)),
        (_, Framing::Length(length)) if length > REQUEST_BODY_BYTES => {
            Err(Refusal::Edge(Cause::BodyTooLarge))
        }
        _ => Ok(()),
    }
}

/// Lower case, without port and trailing dot. The codec has accepted the authority, so it has a host.
fn normal_host(authority: &[u8], host: &mut String) {
    host.clear();
    let name = h1::host::of_sound(authority);
    let name = name.strip_suffix(b".").unwrap_or(name);
    // What the codec accepts is ASCII.
    host.push_str(str::from_utf8(name).unwrap_or_default());
    host.make_ascii_lowercase();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_normal_form() {
        for (authority, expected) in [
            ("Shop.Example.TEST:8080", "shop.example.test"),
            ("shop.example.test.", "shop.example.test"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            let mut host = "before".to_owned();
            normal_host(authority.as_bytes(), &mut host);
            assert_eq!(host, expected);
        }
    }
}
