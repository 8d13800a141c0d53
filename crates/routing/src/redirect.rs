//! Where a redirect leads. Gateway API, HTTPRequestRedirectFilter.

use crate::rewrite::{push_query, rewrite_path};
use model::edge::{Protocol, Redirect};

/// The request that is redirected.
#[derive(Clone, Copy)]
pub struct RedirectRequest<'a> {
    pub scheme: Protocol,
    /// Without its port; an IPv6 address in brackets.
    pub host: &'a str,
    /// The listener's port as the client sees it: the port that is bound.
    pub port: u16,
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
    /// That of [`crate::Taken`].
    pub matched_prefix_len: usize,
}

/// Appends the value of `Location` to `out`.
///
/// `public_port` says, where ports are bound with an offset, which port a protocol's well-known port is bound as, and
/// none where they are bound as they are. A port that the rule names is written as it stands.
pub fn redirect_location(
    redirect: &Redirect,
    request: &RedirectRequest<'_>,
    public_port: impl Fn(Protocol) -> Option<u16>,
    out: &mut Vec<u8>,
) {
    let scheme = redirect.scheme.unwrap_or(request.scheme);
    let port = match (redirect.port, redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(scheme)) => public_port(scheme).unwrap_or(well_known_port(scheme)),
        (None, None) => request.port,
    };
    out.extend_from_slice(match scheme {
        Protocol::Http => b"http://",
        Protocol::Https => b"https://",
    });
    let host = redirect.hostname.as_deref().unwrap_or(request.host);
    out.extend_from_slice(host.as_bytes());
    if port != well_known_port(scheme) {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    match &redirect.path {
        Some(rewrite) => {
            rewrite_path(rewrite, request.path, request.matched_prefix_len, request.query, out);
        }
        None => {
            out.extend_from_slice(request.path);
            push_query(request.query, out);
        }
    }
}

fn well_known_port(scheme: Protocol) -> u16 {
    match scheme {
        Protocol::Http => 80,
        Protocol::Https => 443,
    }
}
