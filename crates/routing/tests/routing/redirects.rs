//! Rewritten paths and the targets of redirects, after the tables of the Gateway API.

use model::edge::{PathRewrite, Protocol, Redirect};
use routing::{RedirectRequest, redirect_location, rewrite_path};

fn rewritten(rewrite: &PathRewrite, path: &str, prefix_len: usize, query: Option<&str>) -> String {
    let mut out = Vec::new();
    rewrite_path(rewrite, path.as_bytes(), prefix_len, query.map(str::as_bytes), &mut out);
    String::from_utf8(out).expect("test paths are UTF-8")
}

/// The table of HTTPPathModifier; prefixes are stored without their trailing slash.
#[test]
fn prefixes_are_replaced() {
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        // Beside the table.
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/foo", "/foo", "/xyz/", "/xyz/"),
        ("/bar", "", "/xyz", "/xyz/bar"),
        ("/", "", "/xyz", "/xyz/"),
        ("/", "", "/", "/"),
        ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "//", "/bar"),
        ("/foo/b%2Fr", "/foo", "/x%20y", "/x%20y/b%2Fr"),
    ] {
        let rewrite = PathRewrite::ReplacePrefix(replacement.into());
        let found = rewritten(&rewrite, path, prefix.len(), None);
        assert_eq!(found, expected, "{path} {prefix} {replacement:?}");
    }
}

#[test]
fn full_paths_are_replaced_and_queries_kept() {
    let full = |text: &str| PathRewrite::ReplaceFull(text.into());
    assert_eq!(rewritten(&full("/new"), "/a/b", 2, None), "/new");
    assert_eq!(rewritten(&full("/new/"), "/a/b", 2, Some("x=1")), "/new/?x=1");
    assert_eq!(rewritten(&full(""), "/a/b", 2, Some("")), "/?");
    assert_eq!(rewritten(&full("new"), "/a/b", 2, None), "/new");
    let prefix = PathRewrite::ReplacePrefix("/x".into());
    assert_eq!(rewritten(&prefix, "/a/b", 2, Some("q=%20")), "/x/b?q=%20");
    // A length beyond the path is no panic.
    assert_eq!(rewritten(&prefix, "/a", 9, None), "/x");
}

const KEEP: Redirect =
    Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };

fn location(redirect: &Redirect, scheme: Protocol, port: u16, offset: u16) -> String {
    let request = RedirectRequest {
        scheme,
        host: "shop.test",
        port,
        path: b"/a/b",
        query: Some(b"q=1"),
        matched_prefix_len: 2,
    };
    let public_port = |protocol| match (offset, protocol) {
        (0, _) => None,
        (_, Protocol::Http) => Some(80 + offset),
        (_, Protocol::Https) => Some(443 + offset),
    };
    let mut out = Vec::new();
    redirect_location(redirect, &request, public_port, &mut out);
    String::from_utf8(out).expect("test locations are UTF-8")
}

#[test]
fn ports_of_redirects() {
    use Protocol::{Http, Https};
    let to = |scheme, port| Redirect { scheme, port, ..KEEP };
    for (redirect, scheme, port, offset, expected) in [
        // Scheme without a port: its well-known port, which is left out.
        (to(Some(Https), None), Http, 80, 0, "https://shop.test"),
        (to(Some(Https), None), Http, 8080, 0, "https://shop.test"),
        (to(Some(Http), None), Https, 8443, 0, "http://shop.test"),
        // Neither: the listener's port.
        (to(None, None), Http, 80, 0, "http://shop.test"),
        (to(None, None), Https, 443, 0, "https://shop.test"),
        (to(None, None), Http, 8080, 0, "http://shop.test:8080"),
        (to(None, None), Https, 80, 0, "https://shop.test:80"),
        // A port that the rule names.
        (to(None, Some(8083)), Http, 80, 0, "http://shop.test:8083"),
        (to(Some(Https), Some(8443)), Http, 80, 0, "https://shop.test:8443"),
        (to(Some(Https), Some(443)), Http, 80, 0, "https://shop.test"),
        (to(Some(Https), Some(80)), Http, 80, 0, "https://shop.test:80"),
        (to(None, Some(80)), Http, 8080, 0, "http://shop.test"),
        // Ports bound with an offset.
        (to(Some(Https), None), Http, 8080, 8000, "https://shop.test:8443"),
        (to(Some(Http), None), Https, 8443, 8000, "http://shop.test:8080"),
        (to(None, None), Http, 8080, 8000, "http://shop.test:8080"),
        (to(Some(Https), Some(9443)), Http, 8080, 8000, "https://shop.test:9443"),
        (to(Some(Https), Some(443)), Http, 8080, 8000, "https://shop.test"),
    ] {
        let found = location(&redirect, scheme, port, offset);
        assert_eq!(found, format!("{expected}/a/b?q=1"), "{redirect:?} {scheme:?} {port} {offset}");
    }
}

#[test]
fn hosts_and_paths_of_redirects() {
    let prefix = |text: &str| Some(PathRewrite::ReplacePrefix(text.into()));
    for (redirect, expected) in [
        (Redirect { hostname: Some("example.org".into()), ..KEEP }, "http://example.org/a/b?q=1"),
        (Redirect { path: prefix("/x"), ..KEEP }, "http://shop.test/x/b?q=1"),
        (Redirect { path: prefix("/"), ..KEEP }, "http://shop.test/b?q=1"),
        (
            Redirect { path: Some(PathRewrite::ReplaceFull("/full".into())), ..KEEP },
            "http://shop.test/full?q=1",
        ),
    ] {
        assert_eq!(location(&redirect, Protocol::Http, 80, 0), expected, "{redirect:?}");
    }
}
