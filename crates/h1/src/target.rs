//! The request target: splitting the absolute form, and the one normal form of a path that matching,
//! cache, origin and log share (for HTTP/2's `:path` too).
//!
//! The normal form (RFC 3986 section 6.2.2): escapes of unreserved characters are decoded, the
//! hexadecimal digits of the others are written in upper case, dot segments are removed (written
//! `%2e` too) and never lead above the root. What an origin may tell apart is kept: `%2F`, `%5C`,
//! empty segments (`//`), the case of letters, bytes above 0x7f, and a `%` that begins no escape. The
//! query is split off and left alone.

use memchr::{memchr, memchr_iter, memchr2};

use crate::bytes::{escape, is_unreserved};
use crate::refusal::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// An absolute-form target in its parts (RFC 9112 section 3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absolute<'a> {
    pub scheme: Scheme,
    /// Not checked: see [`crate::host::parse`].
    pub authority: &'a [u8],
    /// May be empty, or begin with `?`.
    pub path_and_query: &'a [u8],
}

/// Splits `http://authority/path?query`.
pub fn absolute(target: &[u8]) -> Result<Absolute<'_>, Reason> {
    let colon = memchr(b':', target).ok_or(Reason::TargetForm)?;
    let (name, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(Reason::TargetForm)?;
    let scheme = match name {
        _ if name.eq_ignore_ascii_case(b"http") => Scheme::Http,
        _ if name.eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => return Err(Reason::TargetScheme),
    };
    let (authority, path_and_query) =
        rest.split_at(memchr2(b'/', b'?', rest).unwrap_or(rest.len()));
    Ok(Absolute { scheme, authority, path_and_query })
}

/// A path in its normal form, and the query as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    /// Begins with `/`, or is `*`.
    pub path: &'a [u8],
    /// What follows the first `?`, without it.
    pub query: Option<&'a [u8]>,
    /// The path differs from the one given; it then lies in the caller's buffer.
    pub changed: bool,
}

/// Brings `path_and_query` to its normal form. A path that is normal already is returned as it is;
/// otherwise `out` is cleared and holds the new one. An empty path becomes `/`; a path without a
/// leading `/` gets one, but `*` stays.
pub fn normalize<'a>(path_and_query: &'a [u8], out: &'a mut Vec<u8>) -> Normal<'a> {
    let (path, query) = match memchr(b'?', path_and_query) {
        Some(i) => (&path_and_query[..i], Some(&path_and_query[i + 1..])),
        None => (path_and_query, None),
    };
    if is_normal(path) {
        return Normal { path, query, changed: false };
    }
    out.clear();
    rewrite(path, out);
    Normal { path: out, query, changed: true }
}

/// Whether [`normalize`] would leave the path as it is.
pub fn is_normal(path: &[u8]) -> bool {
    match path {
        [b'/', ..] => !has_dot_segment(path) && escapes_are_normal(path),
        _ => path == b"*",
    }
}

fn has_dot_segment(path: &[u8]) -> bool {
    memchr_iter(b'.', path).any(|i| {
        let ends = |at: usize| matches!(path.get(at), None | Some(b'/'));
        i > 0
            && path[i - 1] == b'/'
            && (ends(i + 1) || (path.get(i + 1) == Some(&b'.') && ends(i + 2)))
    })
}

/// Every `%` begins an escape that the normal form keeps. Says no to some paths with a `%` that
/// begins none, which are then rewritten to themselves.
fn escapes_are_normal(path: &[u8]) -> bool {
    memchr_iter(b'%', path).all(|i| {
        let at = &path[i..];
        escape(at).is_some_and(|b| !is_unreserved(b))
            && at[1..3].iter().all(|b| !b.is_ascii_lowercase())
    })
}

fn rewrite(path: &[u8], out: &mut Vec<u8>) {
    out.reserve(path.len() + 1);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut segments = path.split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push(b'/');
        decode(segment, out);
        match &out[start + 1..] {
            b"." => out.truncate(start),
            b".." => {
                out.truncate(start);
                out.truncate(memchr::memrchr(b'/', out).unwrap_or(0));
            }
            _ => continue,
        }
        // `/a/.` and `/a/b/..` end in a slash (RFC 3986 section 5.2.4).
        if segments.peek().is_none() {
            out.push(b'/');
        }
    }
}

/// Appends a segment with its escapes in normal form.
///
/// A `%` that begins no escape stays. So that a second pass changes nothing, an escape is not decoded
/// where its character would complete such a `%` to an escape: `%%32e` does not become `%2e`.
fn decode(segment: &[u8], out: &mut Vec<u8>) {
    let mut rest = segment;
    let mut after_stray = usize::MAX;
    while let Some(&b) = rest.first() {
        let taken = match escape(rest) {
            Some(c) if is_unreserved(c) && !(c.is_ascii_hexdigit() && after_stray < 2) => {
                out.push(c);
                after_stray = after_stray.saturating_add(1);
                3
            }
            Some(_) => {
                out.extend(rest[..3].iter().map(u8::to_ascii_uppercase));
                after_stray = usize::MAX;
                3
            }
            None => {
                out.push(b);
                after_stray = if b == b'%' { 0 } else { after_stray.saturating_add(1) };
                1
            }
        };
        rest = &rest[taken..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        let mut out = Vec::new();
        let normal = normalize(input.as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(normal.path), expected, "{input}");
        assert_eq!(normal.changed, input.as_bytes() != normal.path || normal.changed, "{input}");
    }

    #[test]
    fn dot_segments() {
        check("/", "/");
        check("", "/");
        check("*", "*");
        check("a/b", "/a/b");
        check("/a/./b", "/a/b");
        check("/a/../b", "/b");
        check("/a/b/..", "/a/");
        check("/a/b/.", "/a/b/");
        check("/..", "/");
        check("/.", "/");
        check("/../../../etc/passwd", "/etc/passwd");
        check("/a/../../b", "/b");
        check("/a//../b", "/a/b");
        check("/a/..//b", "//b");
        check("/a/.../b", "/a/.../b");
        check("/a/.b/..c/d.", "/a/.b/..c/d.");
        check("/a/..;/b", "/a/..;/b");
    }

    #[test]
    fn escapes() {
        check("/%41%2d%2E%5f%7e%39", "/A-._~9");
        check("/a%2fb%5cc", "/a%2Fb%5Cc");
        check("/a//b%2F%2F", "/a//b%2F%2F");
        check("/a/%2e%2E/b", "/b");
        check("/a/.%2e/b", "/b");
        check("/a/%2e/b", "/a/b");
        check("/a/%2e%2e%2fb", "/a/..%2Fb");
        check("/%252e%252e/", "/%252e%252e/");
        check("/%00%0d%ff", "/%00%0D%FF");
        check("/caf\u{e9}/%C3%A9", "/caf\u{e9}/%C3%A9");
    }

    #[test]
    fn bad_escapes_pass() {
        check("/%", "/%");
        check("/%2", "/%2");
        check("/%zz%4", "/%zz%4");
        check("/%%32e%%32e/x", "/%%32e%%32e/x");
        check("/%2%65/x", "/%2%65/x");
        check("/%%41%41A", "/%%41AA");
        check("/%u0041", "/%u0041");
    }

    #[test]
    fn the_query_is_left_alone() {
        let mut out = Vec::new();
        let normal = normalize(b"/a/%2e%2e/b?x=/../%41?y", &mut out);
        assert_eq!(normal.path, b"/b");
        assert_eq!(normal.query, Some(b"x=/../%41?y".as_slice()));
        let normal = normalize(b"?", &mut out);
        assert_eq!((normal.path, normal.query), (b"/".as_slice(), Some(b"".as_slice())));
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        for path in ["/", "/a/b.c/d-e_f~g", "/a%2Fb", "/%C3%A9//", "*", "/a.b./c..d/..e"] {
            let mut out = b"kept".to_vec();
            let normal = normalize(path.as_bytes(), &mut out);
            assert!(!normal.changed && normal.path.as_ptr() == path.as_ptr(), "{path}");
            assert_eq!(out, b"kept");
        }
    }

    #[test]
    fn absolute_targets() {
        let split = |text: &'static str| {
            let url = absolute(text.as_bytes())?;
            let text = |b| std::str::from_utf8(b).unwrap();
            Ok((url.scheme, text(url.authority), text(url.path_and_query)))
        };
        assert_eq!(split("http://a/b?c"), Ok((Scheme::Http, "a", "/b?c")));
        assert_eq!(split("HTTPS://a:1"), Ok((Scheme::Https, "a:1", "")));
        assert_eq!(split("http://a?b/c"), Ok((Scheme::Http, "a", "?b/c")));
        assert_eq!(split("http:///b"), Ok((Scheme::Http, "", "/b")));
        assert_eq!(split("ftp://a/b"), Err(Reason::TargetScheme));
        assert_eq!(split("a:443"), Err(Reason::TargetForm));
        assert_eq!(split("http:/a"), Err(Reason::TargetForm));
        assert_eq!(split("a/b"), Err(Reason::TargetForm));
    }
}
