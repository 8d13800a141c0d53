//! HTTP/1 messages as a scenario's client and origins read them (RFC 9112), from all bytes that have
//! arrived so far. Strict, and independent of Cutwater's own codec, since it judges that codec.

use crate::failure::shown;
use crate::text::position;

/// A request or a response, read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub start_line: String,
    /// Names and values as they came.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// What is being read, as far as the framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    /// A head alone: an interim response, the answer to HEAD, a request whose body comes later.
    HeadOnly,
    /// A final response; `ended` once no more bytes can come.
    Response {
        ended: bool,
    },
}

enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// Reads one message off the front: it and its length, or `None` while it is not whole.
pub fn parse(bytes: &[u8], kind: Kind) -> Result<Option<(Message, usize)>, String> {
    let Some(end) = position(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut message = head(&bytes[..end + 2])?;
    let at = end + 4;
    let body = match framing(&message, kind)? {
        Framing::None => Some((Vec::new(), 0)),
        Framing::Length(length) => bytes.get(at..at + length).map(|body| (body.to_vec(), length)),
        Framing::Chunked => chunked(&bytes[at..], &mut message.trailers)?,
        Framing::UntilClose => {
            let ended = kind == Kind::Response { ended: true };
            ended.then(|| (bytes[at..].to_vec(), bytes.len() - at))
        }
    };
    Ok(body.map(|(body, length)| {
        message.body = body;
        (message, at + length)
    }))
}

impl Message {
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v)
    }

    pub fn status(&self) -> Option<u16> {
        let (_, rest) = self.start_line.strip_prefix("HTTP/")?.split_once(' ')?;
        rest.split(' ').next()?.parse().ok()
    }

    /// Method and target of a request.
    pub fn request(&self) -> Option<(&str, &str)> {
        let (method, rest) = self.start_line.split_once(' ')?;
        Some((method, rest.rsplit_once(' ')?.0))
    }

    /// The head as it was received.
    pub fn head_text(&self) -> String {
        let fields = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{}\r\n{}\r\n", self.start_line, fields.collect::<String>())
    }
}

/// Parses the lines of a head; each must end in CRLF.
fn head(bytes: &[u8]) -> Result<Message, String> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split_terminator("\r\n");
    let start_line = lines.next().unwrap_or_default().to_owned();
    let headers = lines.map(field).collect::<Result<_, _>>()?;
    Ok(Message { start_line, headers, ..Message::default() })
}

fn field(line: &str) -> Result<(String, String), String> {
    let malformed = || format!("a malformed field line: {}", shown(line.as_bytes()));
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    if name.is_empty() || name.contains([' ', '\t', '\n', '\r']) || value.contains(['\n', '\r']) {
        return Err(malformed());
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// RFC 9112 section 6.3.
fn framing(message: &Message, kind: Kind) -> Result<Framing, String> {
    let codings: Vec<&str> = message.values("transfer-encoding").collect();
    let lengths: Vec<&str> = message.values("content-length").collect();
    if !codings.is_empty() && !lengths.is_empty() {
        return Err(format!("both transfer-encoding and content-length: {}", message.head_text()));
    }
    if lengths.len() > 1 {
        return Err(format!("content-length {} times: {}", lengths.len(), message.head_text()));
    }
    let without_body = matches!(message.status(), Some(100..=199 | 204 | 304));
    match (kind, codings.as_slice(), lengths.first()) {
        (Kind::HeadOnly, ..) => Ok(Framing::None),
        (Kind::Response { .. }, ..) if without_body => Ok(Framing::None),
        (_, [coding], _) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (_, [_, ..], _) => Err(format!("transfer-encoding {}", codings.join(", "))),
        (_, [], Some(length)) => {
            length.parse().map(Framing::Length).map_err(|_| format!("content-length {length}"))
        }
        (Kind::Response { .. }, [], None) => Ok(Framing::UntilClose),
        (Kind::Request, [], None) => Ok(Framing::None),
    }
}

/// RFC 9112 section 7.1: the content and how many bytes it took.
fn chunked(
    bytes: &[u8],
    trailers: &mut Vec<(String, String)>,
) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(end) = position(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = &bytes[at..at + end];
        let size = std::str::from_utf8(line).ok().and_then(|size| {
            usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).ok()
        });
        let size = size.ok_or_else(|| format!("a chunk size {}", shown(line)))?;
        at += end + 2;
        if size == 0 {
            return trailer_section(bytes, at, trailers).map(|end| end.map(|end| (body, end)));
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err(format!("a chunk of {size} bytes without its end: {}", shown(chunk)));
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

fn trailer_section(
    bytes: &[u8],
    mut at: usize,
    trailers: &mut Vec<(String, String)>,
) -> Result<Option<usize>, String> {
    trailers.clear();
    loop {
        let Some(end) = position(&bytes[at..], b"\r\n") else { return Ok(None) };
        if end == 0 {
            return Ok(Some(at + 2));
        }
        let line: String = bytes[at..at + end].iter().map(|byte| char::from(*byte)).collect();
        trailers.push(field(&line)?);
        at += end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINAL: Kind = Kind::Response { ended: false };
    const ENDED: Kind = Kind::Response { ended: true };

    #[test]
    fn whole_messages_are_taken_off_the_front() {
        for (bytes, kind, body, rest) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", Kind::Request, "", "GET"),
            ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nokX", Kind::Request, "ok", "X"),
            ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nok", Kind::HeadOnly, "", "ok"),
            ("HTTP/1.1 204 No\r\n\r\nHTTP", FINAL, "", "HTTP"),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", ENDED, "to the end", ""),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nt: 1\r\n\r\nX",
                FINAL,
                "ok",
                "X",
            ),
        ] {
            let (message, length) = parse(bytes.as_bytes(), kind).unwrap().unwrap();
            assert_eq!(message.body, body.as_bytes(), "{bytes}");
            assert_eq!(&bytes[length..], rest, "{bytes}");
            if kind != ENDED {
                for cut in 0..length {
                    assert_eq!(parse(&bytes.as_bytes()[..cut], kind).unwrap(), None, "{bytes}");
                }
            }
        }
    }

    #[test]
    fn trailers_and_heads_are_kept_as_they_came() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 7\r\n\r\n";
        let (message, _) = parse(bytes, FINAL).unwrap().unwrap();
        assert_eq!(message.trailers, [("X-Sum".to_owned(), "7".to_owned())]);
        assert_eq!(message.head_text(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(message.status(), Some(200));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert!(parse(bytes.as_bytes(), FINAL).is_err(), "{bytes}");
        }
    }
}
