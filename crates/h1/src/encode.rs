//! Writes heads and chunks into a caller's buffer: appends, no formatting machinery. What the head
//! says is the caller's; nothing is added.

/// The last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The last chunk when trailer fields follow: then [`header`] for each, then [`end`].
pub const LAST_CHUNK_BEFORE_TRAILERS: &[u8] = b"0\r\n";

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Room for the longest chunk head: 16 digits and CRLF.
pub const CHUNK_HEAD_BYTES: usize = 18;

pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// `METHOD target HTTP/1.1`. The method is a token and the target holds no space or control byte.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    push(out, &[method, b" ", target, b" HTTP/1.1\r\n"]);
}

/// `HTTP/1.1 status reason`. The reason may be empty.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    let mut digits = itoa::Buffer::new();
    push(out, &[b"HTTP/1.1 ", digits.format(status).as_bytes(), b" ", reason, b"\r\n"]);
}

/// The name is a token ([`crate::is_token`]) and the value free of control bytes
/// ([`crate::is_field_value`]): parsed ones are; others are for the caller to check.
#[inline]
pub fn header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(crate::is_token(name) && crate::is_field_value(value), "would split the head");
    // Without a loop over the parts: pieces of a known length are then stored, not copied by a call.
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn content_length(out: &mut Vec<u8>, length: u64) {
    let mut digits = itoa::Buffer::new();
    push(out, &[b"content-length: ", digits.format(length).as_bytes(), b"\r\n"]);
}

pub fn transfer_encoding_chunked(out: &mut Vec<u8>) {
    push(out, &[b"transfer-encoding: chunked\r\n"]);
}

/// The empty line behind a head or a trailer section.
pub fn end(out: &mut Vec<u8>) {
    push(out, &[b"\r\n"]);
}

/// The line before the data of a chunk. `length` is not zero: a zero would end the body.
pub fn chunk_head(length: u64, room: &mut [u8; CHUNK_HEAD_BYTES]) -> &[u8] {
    debug_assert!(length != 0, "a chunk of no bytes ends the body");
    let mut start = CHUNK_HEAD_BYTES - 2;
    room[start] = b'\r';
    room[start + 1] = b'\n';
    let mut left = length;
    loop {
        start -= 1;
        room[start] = b"0123456789abcdef"[(left & 15) as usize];
        left >>= 4;
        if left == 0 {
            return &room[start..];
        }
    }
}

/// A whole chunk; nothing when there are no data, as that would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        let mut room = [0; CHUNK_HEAD_BYTES];
        push(out, &[chunk_head(data.len() as u64, &mut room), data, CHUNK_END]);
    }
}

#[inline]
fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().map(|p| p.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The usual reason phrase (RFC 9110 section 15, RFC 6585); empty when there is none.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_heads() {
        let check = |length, expected: &[u8]| {
            assert_eq!(chunk_head(length, &mut [0; CHUNK_HEAD_BYTES]), expected);
        };
        check(1, b"1\r\n");
        check(15, b"f\r\n");
        check(16, b"10\r\n");
        check(0x1a2b, b"1a2b\r\n");
        check(u64::MAX, b"ffffffffffffffff\r\n");
    }

    #[test]
    fn a_head_and_a_body() {
        let mut out = Vec::new();
        status_line(&mut out, 200, reason_phrase(200).as_bytes());
        content_length(&mut out, 5);
        header(&mut out, b"server", b"a b");
        end(&mut out);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nserver: a b\r\n\r\n");
        out.clear();
        request_line(&mut out, b"GET", b"/a?b");
        transfer_encoding_chunked(&mut out);
        end(&mut out);
        chunk(&mut out, b"");
        chunk(&mut out, b"hello");
        out.extend_from_slice(LAST_CHUNK);
        let expected =
            b"GET /a?b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(out, expected);
    }
}
