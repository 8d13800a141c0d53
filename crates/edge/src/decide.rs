//! What is to become of a request: one function for HTTP/1.1 and HTTP/2. Reads the head in its normal form and the view;
//! picks no endpoint and writes nothing.

use crate::caller::{self, Told};
use crate::connection::Connection;
use crate::page::Turned;
use crate::refusal::{Cause, Refusal};
use crate::view::{EdgeView, RulePlan};
use h1::target::{Normal, normalize};
use h1::{HeaderList, Known, Method, RequestHead};
use model::front::ClientAddress;
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

    /// What follows the first `?` of the target, as it was received.
    pub fn query(&self) -> Option<&'a [u8]> {
        let target = self.head.path_and_query(self.bytes);
        target.iter().position(|byte| *byte == b'?').map(|at| &target[at + 1..])
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
    /// By whose word the client's address was found.
    pub trust: Option<&'v ClientAddress>,
    pub path: Normal<'a>,
    pub matched_prefix_len: usize,
}

/// `host` is filled with the host in normal form, `told` with what a proxy says of the client; `normal` may be used for
/// the path.
pub(crate) fn decide<'v, 'a>(
    view: &'v EdgeView,
    connection: &Connection,
    request: Head<'a>,
    (host, normal, told): (&mut String, &'a mut Vec<u8>, &mut Told),
    matching: &mut routing::Scratch,
) -> Result<Decided<'v, 'a>, Turned<'v>> {
    *told = Told::default();
    normal_host(request.authority(), host);
    if request.head.method == Method::Connect {
        return Err(turned(Cause::ConnectMethod));
    }
    let path = normalize(request.head.path_and_query(request.bytes), normal);
    let port = view.router().port(connection.port, connection.scheme());
    let port = port.ok_or(turned(Cause::NoListener))?;
    if let Some(tls) = &connection.tls
        && port.is_misdirected(tls.server_name.as_deref(), host)
    {
        return Err(turned(Cause::Misdirected));
    }
    let listener = port.listener(host).ok_or(turned(Cause::NoListener))?;
    let policy = listener.listener().policy.as_deref();
    if connection.tls.as_ref().is_some_and(|tls| !view.is_trusted_alike(listener, tls)) {
        return Err(turned(Cause::Misdirected));
    }
    if let Some(policy) = policy {
        let admitted = caller::admit(policy, connection, request);
        *told =
            admitted.map_err(|refusal| Turned { refusal, answers: view.unmatched(listener) })?;
    }
    let method = request.head.method_span.of(request.bytes);
    let wanted = Request { method, path: path.path, query: path.query, headers: &request };
    let taken = listener.take(host, &wanted, matching);
    let rule = taken.and_then(|taken| view.rule(listener, taken.slot));
    let (Some(taken), Some(rule)) = (taken, rule) else {
        let answers = view.unmatched(listener);
        return Err(Turned { refusal: Refusal::Edge(Cause::NoRoute), answers });
    };
    let trust = policy.and_then(|policy| policy.client_address.as_ref());
    Ok(Decided { rule, trust, path, matched_prefix_len: taken.matched_prefix_len })
}

fn turned<'v>(cause: Cause) -> Turned<'v> {
    Turned { refusal: Refusal::Edge(cause), answers: None }
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
