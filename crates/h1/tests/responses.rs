//! Response heads, case by case.

use h1::{Framing, HeaderList, Limits, Method, ResponseHead, Version, parse_response};

fn parse(bytes: &[u8], method: Method) -> Result<Option<ResponseHead>, &'static str> {
    parse_response(bytes, &mut HeaderList::new(), method, &Limits::DEFAULT).map_err(|refusal| {
        assert_eq!(refusal.status, 502, "an origin's fault is 502");
        refusal.reason.slug()
    })
}

#[track_caller]
fn accepted(bytes: impl AsRef<[u8]>) -> ResponseHead {
    parse(bytes.as_ref(), Method::Get).expect("is accepted").expect("is whole")
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, slug: &'static str) {
    let bytes = bytes.as_ref();
    assert_eq!(parse(bytes, Method::Get), Err(slug), "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn status_lines() {
    let check = |line: &[u8], status, reason: &[u8]| {
        let buf = [line, b"\r\nContent-Length: 3\r\n\r\nabc"].concat();
        let head = accepted(&buf);
        assert_eq!((head.status, head.reason.of(&buf), head.len), (status, reason, buf.len() - 3));
    };
    check(b"HTTP/1.1 200 OK", 200, b"OK");
    check(b"HTTP/1.1 404 Not Found", 404, b"Not Found");
    check(b"HTTP/1.1 200 ", 200, b"");
    check(b"HTTP/1.1 301", 301, b"");
    check(b"HTTP/1.1 200  OK\t!", 200, b" OK\t!");
    check(b"HTTP/1.1 500 Ori\xebnt", 500, b"Ori\xebnt");
    check(b"HTTP/1.0 999 x", 999, b"x");
    assert_eq!(accepted("HTTP/1.0 200 OK\r\n\r\n").version, Version::Http10);
    assert_eq!(accepted("HTTP/1.1 200 OK\r\n\r\n").version, Version::Http11);
    for bad in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 099 x",
        "HTTP/1.1 20a x",
        "HTTP/1.1 +20 x",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 \x7f",
        "",
        "x",
        "HTTP/1.1200 OK",
    ] {
        refused(format!("{bad}\r\n\r\n"), "status-line");
    }
    refused("HTTP/2.0 200 OK\r\n\r\n", "version-unsupported");
    refused("http/1.1 200 OK\r\n\r\n", "version");
    refused("ICY 200 OK\r\n\r\n", "version");
    refused("HTTP/1.1 200 OK\n\r\n", "bare-line-feed");
    refused("HTTP/1.1 200 OK\rX: y\r\n\r\n", "bare-carriage-return");
    refused("HTTP/1.1 200 OK\r\n X: y\r\n\r\n", "space-before-headers");
    refused("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", "folded-header");
    refused("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "space-before-colon");
    assert_eq!(parse(b"HTTP/1.1 200 OK", Method::Get), Ok(None));
}

#[test]
fn framing() {
    let check = |method, status: u16, fields: &str, framing, keep_alive| {
        let bytes = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        let head = parse(bytes.as_bytes(), method).unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{method:?} {bytes}");
    };
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    check(Method::Get, 200, length, Framing::Length(5), true);
    check(Method::Get, 200, "Content-Length: 0\r\n", Framing::Length(0), true);
    check(Method::Get, 200, chunked, Framing::Chunked, true);
    check(Method::Get, 200, "", Framing::UntilClose, false);
    check(Method::Get, 200, "Connection: close\r\n", Framing::UntilClose, false);
    check(
        Method::Get,
        200,
        "Connection: close\r\nContent-Length: 5\r\n",
        Framing::Length(5),
        false,
    );
    for status in [100, 101, 103, 204, 304] {
        for fields in ["", length, chunked] {
            check(Method::Get, status, fields, Framing::None, true);
        }
    }
    for fields in ["", length, chunked] {
        check(Method::Head, 200, fields, Framing::None, true);
        check(Method::Head, 404, fields, Framing::None, true);
        check(Method::Connect, 200, fields, Framing::None, true);
        check(Method::Connect, 299, fields, Framing::None, true);
    }
    check(Method::Connect, 403, length, Framing::Length(5), true);
    check(Method::Connect, 300, chunked, Framing::Chunked, true);
    check(Method::Get, 205, length, Framing::Length(5), true);
}

#[test]
fn ambiguous_framing() {
    let check = |fields: &str, slug| {
        for status in [200, 204, 304] {
            refused(format!("HTTP/1.1 {status} x\r\n{fields}\r\n"), slug);
        }
    };
    check(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "content-length-beside-transfer-encoding",
    );
    check("Content-Length: 5\r\nContent-Length: 5\r\n", "content-length-repeated");
    check("Content-Length: 5, 5\r\n", "content-length-invalid");
    check("Transfer-Encoding: gzip, chunked\r\n", "transfer-coding-unknown");
    check("Transfer-Encoding: chunked, gzip\r\n", "chunked-not-last");
    refused("HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding-in-http10");
}

#[test]
fn persistence_in_http10() {
    let head = accepted("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n");
    assert!(!head.keep_alive);
    assert!(
        accepted("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n")
            .keep_alive
    );
    assert!(!accepted("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").keep_alive);
}

#[test]
fn interim_responses_and_upgrades() {
    let mut fields = HeaderList::new();
    let buf = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let (mut at, mut seen) = (0, Vec::new());
    while at < buf.len() {
        let head = parse_response(&buf[at..], &mut fields, Method::Post, &Limits::DEFAULT)
            .unwrap()
            .unwrap();
        seen.push((head.status, head.is_interim(), fields.len()));
        at += head.len;
    }
    assert_eq!(seen, [(100, true, 0), (103, true, 1), (200, false, 0)]);
    let buf = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00";
    let head = accepted(buf);
    assert!(!head.is_interim());
    assert_eq!(head.upgrade.map(|u| u.of(buf)), Some(b"websocket".as_slice()));
    assert_eq!(head.len, buf.len() - 2);
}

#[test]
fn limits() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(Limits::HEADERS + 1));
    refused(many, "too-many-headers");
    refused(format!("HTTP/1.1 200 {}", "a".repeat(Limits::HEAD_BYTES)), "head-too-large");
}
