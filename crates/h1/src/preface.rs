//! Recognises the HTTP/2 connection preface on a connection that may speak either version.

/// RFC 9113 section 3.4.
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// The connection speaks HTTP/2 with prior knowledge.
    Yes,
    No,
    /// Every byte so far agrees, but there are too few of them.
    Maybe,
}

pub fn is_http2_preface(buf: &[u8]) -> Preface {
    let n = buf.len().min(HTTP2_PREFACE.len());
    match buf.get(..n) == HTTP2_PREFACE.get(..n) {
        false => Preface::No,
        true if n == HTTP2_PREFACE.len() => Preface::Yes,
        true => Preface::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preface() {
        let check = |bytes: &[u8], expected| assert_eq!(is_http2_preface(bytes), expected);
        check(b"", Preface::Maybe);
        check(b"P", Preface::Maybe);
        check(b"PO", Preface::No);
        check(b"PRI * HTTP/2.0\r\n\r\n", Preface::Maybe);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Preface::Yes);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Preface::Yes);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", Preface::No);
        check(b"GET / HTTP/1.1\r\n", Preface::No);
    }
}
