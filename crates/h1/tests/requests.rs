//! Request heads, case by case: what is accepted and how it is understood, what is refused and why.

use h1::target::Scheme;
use h1::{
    Framing, HeaderList, Known, Limits, Method, RequestHead, TargetForm, Version, parse_request,
};

struct Parsed {
    buf: Vec<u8>,
    head: RequestHead,
    fields: HeaderList,
}

impl Parsed {
    fn text(&self, span: h1::Span) -> &str {
        std::str::from_utf8(span.of(&self.buf)).expect("is text")
    }
}

fn accepted(bytes: impl AsRef<[u8]>) -> Parsed {
    let buf = bytes.as_ref().to_vec();
    let mut fields = HeaderList::new();
    match parse_request(&buf, &mut fields, &Limits::DEFAULT) {
        Ok(Some(head)) => Parsed { head, fields, buf },
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(&buf)),
    }
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, slug: &str) {
    refused_within(bytes, slug, &Limits::DEFAULT);
}

#[track_caller]
fn refused_within(bytes: impl AsRef<[u8]>, slug: &str, limits: &Limits) {
    let bytes = bytes.as_ref();
    let outcome = parse_request(bytes, &mut HeaderList::new(), limits);
    let got = outcome.map_err(|refusal| refusal.reason.slug());
    assert_eq!(got, Err(slug), "{:?}", String::from_utf8_lossy(bytes));
}

#[track_caller]
fn wants_more(bytes: impl AsRef<[u8]>) {
    let outcome = parse_request(bytes.as_ref(), &mut HeaderList::new(), &Limits::DEFAULT);
    assert_eq!(outcome, Ok(None), "{:?}", String::from_utf8_lossy(bytes.as_ref()));
}

/// A request for `/` with these field lines beside Host.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_plain_request() {
    let p = accepted(
        "GET /x/y?q=1 HTTP/1.1\r\nHost: Shop.example:80\r\nAccept:*/*\r\nX-A: \t b c \t\r\n\r\nrest",
    );
    assert_eq!(p.head.len, p.buf.len() - 4);
    assert_eq!((p.head.method, p.head.version), (Method::Get, Version::Http11));
    assert_eq!(p.text(p.head.method_span), "GET");
    assert_eq!(p.text(p.head.target), "/x/y?q=1");
    assert_eq!(p.text(p.head.path), "/x/y");
    assert_eq!(p.head.query.map(|q| p.text(q)), Some("q=1"));
    assert_eq!(p.head.path_and_query(&p.buf), b"/x/y?q=1");
    assert_eq!(p.head.host.map(|h| p.text(h)), Some("Shop.example:80"));
    assert_eq!((p.head.framing, p.head.form), (Framing::None, TargetForm::Origin));
    assert!(p.head.keep_alive && !p.head.expect_continue && p.head.upgrade.is_none());
    let fields: Vec<_> =
        p.fields.iter().map(|h| (p.text(h.name), p.text(h.value), h.known)).collect();
    let expected = [
        ("Host", "Shop.example:80", Known::Host),
        ("Accept", "*/*", Known::Accept),
        ("X-A", "b c", Known::Other),
    ];
    assert_eq!(fields, expected);
    assert_eq!(p.fields.find(Known::Accept), Some(p.fields[1]));
    assert_eq!(p.fields.find(Known::Other), None);
    assert_eq!(p.fields.find_name(&p.buf, b"x-a"), Some(p.fields[2]));
}

#[test]
fn methods() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("PATCH", Method::Patch),
        ("get", Method::Other),
        ("M-SEARCH", Method::Other),
        ("!#$%&'*+.^_`|~", Method::Other),
    ] {
        let p = accepted(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((p.head.method, p.text(p.head.method_span)), (method, name));
    }
    for bad in ["G\u{e9}T", "G(T", "G\tT", "G\0T", "G:T", "G\"T"] {
        refused(format!("{bad} / HTTP/1.1\r\nHost: a\r\n\r\n"), "method");
    }
    refused(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "method");
    refused("\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", "method");
    refused("\u{16}\u{3}\u{1}\r\n", "method");
    refused("\u{16}\u{3}\u{1}", "method");
    refused("\r\n\0", "method");
    refused("GET\r\n", "request-line");
    refused("GET\n", "request-line");
}

#[test]
fn targets() {
    for target in [
        "/",
        "//",
        "/a//b",
        "/%",
        "/%zz",
        "/a%2fb",
        "/caf\u{e9}",
        "/a\"b<c>{d}|e\\f^g`h",
        "/?",
        "/??",
        "/?a=/../b",
        "/a:b@c",
        "/;p=1",
        "/..",
        "/.",
    ] {
        assert_eq!(accepted(get(target)).head.form, TargetForm::Origin, "{target}");
    }
    for bad in ["/a#b", "/#", "/a\tb", "/a\0b", "/a\x7fb", "/a\x01", "/a b", "/\x0b", "http://a/#x"]
    {
        refused(get(bad), "target-bytes");
    }
    refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request-line");
    refused("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "target-bytes");
    refused("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "target-bytes");
    refused("GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", "target-bytes");
    refused("GET / : b\r\n\0\r\n", "target-bytes");
    refused("GET /\r\nHost: a\r\n\r\n", "request-line");
    refused("GET /\n", "request-line");
    refused("GET \r\n", "request-line");
    refused("GET /a\rb HTTP/1.1\r\n", "request-line");
    for bad in ["a", "*", "a/b", "shop.example:443", "http:/a", "http:a", "?a=b", "%2F"] {
        refused(get(bad), "target-form");
    }
    for bad in ["ftp://a/", "httpx://a/", "://a", "javascript://x"] {
        refused(get(bad), "target-scheme");
    }
    for bad in [
        "http://",
        "http:///x",
        "http://:80/",
        "http://u@a/",
        "http://u:p@a/",
        "http://a:x/",
        "http://a:0/",
        "http://[::1/",
        "http://?x",
    ] {
        refused(get(bad), "host-invalid");
    }
}

#[test]
fn the_absolute_form_wins_over_host() {
    let check = |target: &str, scheme, host, path, query: Option<&str>| {
        let p = accepted(format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n"));
        assert_eq!(p.head.form, TargetForm::Absolute(scheme), "{target}");
        assert_eq!(p.head.host.map(|h| p.text(h)), Some(host), "{target}");
        assert_eq!(p.text(p.head.path), path, "{target}");
        assert_eq!(p.head.query.map(|q| p.text(q)), query, "{target}");
        assert_eq!(p.text(p.head.target), target);
    };
    check("http://a/b?c", Scheme::Http, "a", "/b", Some("c"));
    check("HTTPS://A:8443/", Scheme::Https, "A:8443", "/", None);
    check("http://[::1]:80", Scheme::Http, "[::1]:80", "", None);
    check("http://a?c/d", Scheme::Http, "a", "", Some("c/d"));
    refused("GET http://a/ HTTP/1.1\r\n\r\n", "host-missing");
    refused("GET http://a/ HTTP/1.1\r\nHost: b@c\r\n\r\n", "host-invalid");
    assert!(accepted("GET http://a/ HTTP/1.0\r\n\r\n").head.host.is_some());
}

#[test]
fn authority_and_asterisk_forms() {
    let p = accepted(
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!((p.head.form, p.head.method), (TargetForm::Authority, Method::Connect));
    assert_eq!(p.head.host.map(|h| p.text(h)), Some("a.example:443"));
    assert!(p.head.path.is_empty() && p.head.path_and_query(&p.buf).is_empty());
    for bad in ["a.example", "a:", "/x", "http://a:80/", "*", "a:0", "u@a:1", ":443", "a:99999"] {
        refused(format!("CONNECT {bad} HTTP/1.1\r\nHost: a\r\n\r\n"), "target-form");
    }
    for field in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
        refused(
            format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{field}\r\n\r\n"),
            "connect-with-content",
        );
    }
    let p = accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((p.head.form, p.text(p.head.path)), (TargetForm::Asterisk, "*"));
    assert_eq!(p.head.path_and_query(&p.buf), b"*");
    refused("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", "target-form");
}

#[test]
fn versions() {
    let check = |version: &str, expected| {
        let p = accepted(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert_eq!(p.head.version, expected, "{version}");
    };
    check("HTTP/1.1", Version::Http11);
    check("HTTP/1.0", Version::Http10);
    check("HTTP/1.2", Version::Http11);
    check("HTTP/1.9", Version::Http11);
    for bad in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"] {
        refused(format!("GET / {bad}\r\nHost: a\r\n\r\n"), "version-unsupported");
    }
    for bad in [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/1.10",
        "HTTP/11.1",
        "HTTP/01.1",
        "http/1.1",
        "HTTP/a.1",
        "HTTP",
        "HTTP/1,1",
        "HTTP/1.1\t",
        "HTTP/+1.1",
        "X",
        "HTTPS/1.1",
        "HTTP/1.1\0",
        "HTTP/",
    ] {
        refused(format!("GET / {bad}\r\nHost: a\r\n\r\n"), "version");
    }
    assert_eq!(accepted("GET / HTTP/1.0\r\n\r\n").head.host, None);
    let pri = parse_request(h1::HTTP2_PREFACE, &mut HeaderList::new(), &Limits::DEFAULT);
    assert!(pri.is_err());
}

#[test]
fn statuses_of_refusals() {
    let check = |bytes: &str, status| {
        let outcome = parse_request(bytes.as_bytes(), &mut HeaderList::new(), &Limits::DEFAULT);
        assert_eq!(outcome.map_err(|r| r.status), Err(status), "{bytes}");
    };
    check("GET / HTTP/1.1\r\n\r\n", 400);
    check("GET / HTTP/2.0\r\n\r\n", 505);
    check(&with("Transfer-Encoding: gzip, chunked\r\n"), 501);
    check(&get(&"/a".repeat(5000)), 414);
    check(&with(&"a: b\r\n".repeat(200)), 431);
    check(&with(&format!("a: {}\r\n", "b".repeat(40_000))), 431);
}

#[test]
fn line_ends() {
    refused("GET / HTTP/1.1\nHost: a\n\n", "bare-line-feed");
    refused("GET / HTTP/1.1\r\nHost: a\n\n", "bare-line-feed");
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare-line-feed");
    refused("\nGET / HTTP/1.1\r\n", "bare-line-feed");
    refused("GET / HTTP/1.1\rHost: a\r\n\r\n", "target-bytes");
    refused("GET / HTTP/1.1\r\r\n\r\n", "bare-carriage-return");
    refused("GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", "bare-carriage-return");
    refused("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "bare-carriage-return");
    refused("GET / HTTP/1.1\r\nHost: a\r\n\rGET / HTTP/1.1\r\n\r\n", "bare-carriage-return");
    refused("\rGET / HTTP/1.1\r\n", "bare-carriage-return");
    refused(with("a\r: b\r\n"), "bare-carriage-return");
}

#[test]
fn empty_lines_before_a_request() {
    assert_eq!(accepted(format!("\r\n{}", get("/"))).head.len, 2 + get("/").len());
    let p = accepted(format!("\r\n\r\n{}", get("/x")));
    assert_eq!(p.text(p.head.target), "/x");
    refused(format!("\r\n\r\n\r\n{}", get("/")), "empty-lines");
    wants_more("");
    wants_more("\r");
    wants_more("\r\n");
    wants_more("\r\n\r");
}

#[test]
fn field_lines() {
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "space-before-headers");
    refused("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", "space-before-headers");
    refused(with("a: b\r\n c\r\n"), "folded-header");
    refused(with("a:\r\n\tb\r\n"), "folded-header");
    refused(with(" \r\n"), "folded-header");
    refused(with("a : b\r\n"), "space-before-colon");
    refused(with("a\t: b\r\n"), "space-before-colon");
    refused(with("Content-Length : 5\r\n"), "space-before-colon");
    for bad in [
        ": b",
        "a",
        "a b: c",
        "a(b): c",
        "a\0: b",
        "\u{e9}: b",
        "a\"b: c",
        "a/b: c",
        "a\x7f: c",
        "{a}: b",
        "a;b: c",
    ] {
        refused(with(&format!("{bad}\r\n")), "header-name");
    }
    for bad in
        ["\0", "b\0c", "\x01", "b\x0bc", "b\x1f", "b\x7f", "\x0c", "long enough for a stride\x08"]
    {
        refused(with(&format!("a: {bad}\r\n")), "header-value");
    }
    for value in ["", "b", "b\tc", "b  c", "\u{e9}\u{ff}", "a:b", "\"", ",", "~"] {
        let p = accepted(with(&format!("a: {value}\r\n")));
        assert_eq!(p.text(p.fields[1].value), value);
    }
    let p = accepted([b"GET / HTTP/1.1\r\nHost: a\r\nb: \xff\x80\r\n\r\n".as_slice()].concat());
    assert_eq!(p.fields[1].value(&p.buf), b"\xff\x80");
    let p = accepted(with("a:\r\nb: \t \r\n!#$%&'*+-.^_`|~09:x\r\n"));
    assert!(p.fields[1].value.is_empty() && p.fields[2].value.is_empty());
    assert_eq!(p.text(p.fields[3].name), "!#$%&'*+-.^_`|~09");
}

#[test]
fn hosts() {
    refused("GET / HTTP/1.1\r\n\r\n", "host-missing");
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host-repeated");
    refused("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", "host-repeated");
    refused("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "host-repeated");
    for bad in [
        "", "a b", "a/b", "u@a", "a:b", "a:0", "a:99999", "[::1", "a, b", "a\\b", "\u{e9}",
        "http://a", ":80", "::1", "a?b", "a%zz",
    ] {
        refused(format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"), "host-invalid");
        refused(format!("GET / HTTP/1.0\r\nHost: {bad}\r\n\r\n"), "host-invalid");
    }
    for good in [
        "a",
        "a.",
        "A.b-c_d",
        "a:8080",
        "a:",
        "1.2.3.4",
        "[2001:db8::1]:443",
        "xn--bcher-kva.example",
    ] {
        let p = accepted(format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n"));
        assert_eq!(p.head.host.map(|h| p.text(h)), Some(good));
    }
}

#[test]
fn content_length() {
    let check = |value: &str, expected| {
        let head = accepted(with(&format!("Content-Length:{value}\r\n"))).head;
        assert_eq!(head.framing, Framing::Length(expected), "{value}");
    };
    check("0", 0);
    check(" 5 ", 5);
    check("\t42\t", 42);
    check("003", 3);
    check("18446744073709551615", u64::MAX);
    for bad in [
        "",
        " ",
        "5, 5",
        "5,5",
        "5,",
        "+5",
        "-5",
        "0x5",
        "5.0",
        "5 5",
        "a",
        "5a",
        "\u{665}",
        "18446744073709551616",
        "99999999999999999999999",
        "1e3",
        "5;",
        "\"5\"",
        "1_0",
    ] {
        refused(with(&format!("Content-Length: {bad}\r\n")), "content-length-invalid");
    }
    refused(with("Content-Length: 5\r\nContent-Length: 5\r\n"), "content-length-repeated");
    refused(with("Content-Length: 5\r\ncontent-length: 6\r\n"), "content-length-repeated");
    for (a, b) in [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 0", "Transfer-Encoding: identity"),
    ] {
        refused(with(&format!("{a}\r\n{b}\r\n")), "content-length-beside-transfer-encoding");
        refused(with(&format!("{b}\r\n{a}\r\n")), "content-length-beside-transfer-encoding");
    }
}

#[test]
fn transfer_encoding() {
    for good in ["chunked", "Chunked", "CHUNKED", " chunked\t"] {
        let head = accepted(with(&format!("Transfer-Encoding: {good}\r\n"))).head;
        assert_eq!(head.framing, Framing::Chunked, "{good}");
    }
    let check = |value: &str, slug| refused(with(&format!("Transfer-Encoding: {value}\r\n")), slug);
    check("gzip", "transfer-coding-unknown");
    check("gzip, chunked", "transfer-coding-unknown");
    check("identity", "transfer-coding-unknown");
    check("xchunked", "transfer-coding-unknown");
    check("chunkedchunked", "transfer-coding-unknown");
    check("gzip;q=1, chunked", "transfer-coding-unknown");
    check("chunked, gzip", "chunked-not-last");
    check("chunked, identity", "chunked-not-last");
    check("chunked, chunked", "chunked-repeated");
    check("gzip, chunked, chunked", "chunked-repeated");
    for bad in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "chun ked",
        "\"chunked\"",
        "chunked;",
        "[chunked]",
    ] {
        check(bad, "transfer-encoding-invalid");
    }
    refused(with("Transfer-Encoding: chunked\x0b\r\n"), "header-value");
    refused(
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        "chunked-repeated",
    );
    refused(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"), "chunked-not-last");
    refused(
        with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        "transfer-coding-unknown",
    );
    refused(
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "transfer-encoding-in-http10",
    );
}

#[test]
fn persistence() {
    let check = |version: &str, connection: &str, expected| {
        let head = accepted(format!("GET / {version}\r\nHost: a\r\n{connection}\r\n")).head;
        assert_eq!(head.keep_alive, expected, "{version} {connection}");
    };
    check("HTTP/1.1", "", true);
    check("HTTP/1.1", "Connection: close\r\n", false);
    check("HTTP/1.1", "Connection: Keep-Alive, CLOSE\r\n", false);
    check("HTTP/1.1", "Connection: a\r\nConnection: ,close,\r\n", false);
    check("HTTP/1.1", "Connection: closed\r\n", true);
    check("HTTP/1.0", "", false);
    check("HTTP/1.0", "Connection: keep-alive\r\n", true);
    check("HTTP/1.0", "Connection: keep-alive, close\r\n", false);
    check("HTTP/1.0", "Proxy-Connection: keep-alive\r\n", false);
}

#[test]
fn expectations_and_upgrades() {
    let expects = |fields: &str| accepted(with(fields)).head.expect_continue;
    assert!(expects("Expect: 100-Continue\r\nContent-Length: 5\r\n"));
    assert!(expects("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"));
    assert!(!expects("Expect: 100-continue\r\nContent-Length: 0\r\n"));
    assert!(!expects("Expect: 100-continue\r\n"));
    assert!(!expects("Expect: else\r\nContent-Length: 5\r\n"));
    let http10 = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    assert!(!accepted(http10).head.expect_continue);

    let p = accepted(with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
    assert_eq!(p.head.upgrade.map(|u| p.text(u)), Some("websocket"));
    assert_eq!(accepted(with("Upgrade: websocket\r\n")).head.upgrade, None);
    assert_eq!(accepted(with("Connection: upgrade\r\n")).head.upgrade, None);
    let http10 = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(accepted(http10).head.upgrade, None);
}

#[test]
fn hop_by_hop_fields() {
    let p = accepted(with(
        "Connection: close, X-Own, host, cookie\r\nConnection: x-more\r\nX-Own: 1\r\nx-MORE: 2\r\nX-Other: 3\r\n\
         Cookie: c\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTrailer: a\r\nUpgrade: b\r\n",
    ));
    let dropped: Vec<_> = p
        .fields
        .iter()
        .filter(|h| p.fields.is_hop_by_hop(&p.buf, **h))
        .map(|h| p.text(h.name))
        .collect();
    let expected = [
        "Connection",
        "Connection",
        "X-Own",
        "x-MORE",
        "Cookie",
        "TE",
        "Keep-Alive",
        "Proxy-Connection",
        "Upgrade",
    ];
    assert_eq!(dropped, expected);
    let p = accepted(with("Connection: close, Content-Length, Host\r\nContent-Length: 0\r\n"));
    assert!(p.fields.iter().all(|h| !p.fields.is_nominated(&p.buf, *h)));
}

#[test]
fn limits() {
    let limits = Limits { head_bytes: 200, headers: 3, target_bytes: 100, ..Limits::DEFAULT };
    let target = |n: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(n - 1));
    let parses = |bytes: &str| {
        parse_request(bytes.as_bytes(), &mut HeaderList::new(), &limits).map(|o| o.is_some())
    };
    assert_eq!(parses(&target(100)), Ok(true));
    refused_within(target(101), "target-too-long", &limits);
    refused_within(target(190), "target-too-long", &limits);
    refused_within(format!("GET /{}", "a".repeat(170)), "target-too-long", &limits);
    assert_eq!(parses(&format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(3))), Ok(true));
    refused_within(
        format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(4)),
        "too-many-headers",
        &limits,
    );
    let sized = |n: usize| format!("GET / HTTP/1.0\r\na: {}\r\n\r\n", "b".repeat(n - 23));
    assert_eq!((sized(200).len(), parses(&sized(200))), (200, Ok(true)));
    refused_within(sized(201), "head-too-large", &limits);
    refused_within(&sized(300)[..201], "head-too-large", &limits);
    assert_eq!(parses(&sized(300)[..200]), Ok(false));
    let small = Limits { head_bytes: 50, ..limits };
    refused_within(target(60), "head-too-large", &small);
    refused_within(&target(100)[..51], "head-too-large", &small);
}

#[test]
fn pipelined_requests_use_one_list() {
    let mut fields = HeaderList::with_capacity(4);
    let buf = [get("/1"), get("/2"), "GET /3 HT".to_owned()].concat();
    let (mut at, mut targets) = (0, Vec::new());
    while let Some(head) =
        parse_request(&buf.as_bytes()[at..], &mut fields, &Limits::DEFAULT).unwrap()
    {
        assert_eq!(fields.len(), 1);
        targets.push(head.target.of(&buf.as_bytes()[at..]).to_vec());
        at += head.len;
    }
    assert_eq!(targets, [b"/1", b"/2"]);
    assert_eq!(&buf[at..], "GET /3 HT");
    let memory = fields.as_ptr();
    fields.clear();
    assert!(parse_request(get("/4").as_bytes(), &mut fields, &Limits::DEFAULT).unwrap().is_some());
    assert_eq!(fields.as_ptr(), memory, "a list keeps its memory");
}
