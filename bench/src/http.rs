//! As much HTTP/1.1 as a load generator needs: request bytes, the head of an answer, and where an
//! answer ends. Not a codec: the origin and the servers under test are known and well behaved.

use anyhow::{Context, Result, bail};

/// The host that the requests of the bench name, but for those to the folder of 10,000 routes.
pub const HOST: &str = "bench.example.test";

/// A head larger than this is not one of ours.
const HEAD_LIMIT: usize = 16 * 1024;

/// A GET request with the headers of a small client.
pub fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// A POST request with a body of a known length.
pub fn post(host: &str, path: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; length]].concat()
}

/// Length of the head at the start of `bytes`, with its empty line, once it is complete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header of a head, as it was sent.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n')
        .skip(1)
        .find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let (field, value) = line.split_at(colon);
            field.eq_ignore_ascii_case(name.as_bytes()).then(|| value.get(1..).unwrap_or(&[]))
        })
        .map(<[u8]>::trim_ascii)
}

/// The length that a head gives for its body.
pub fn content_length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(header(head, "content-length")?).ok()?.parse().ok()
}

/// A whole answer, its body without framing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captured {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// Follows one answer after another to its end.
#[derive(Default)]
pub struct Answer {
    /// The first bytes, kept only while the head is incomplete.
    partial: Vec<u8>,
    state: State,
    /// The answer, when it is asked for.
    captured: Option<Captured>,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    /// Bytes of the body still to come.
    Body(usize),
    Chunked(Chunks),
}

impl Answer {
    /// Keeps the next answer whole.
    pub fn capture(&mut self) {
        self.captured = Some(Captured::default());
    }

    pub fn take_captured(&mut self) -> Captured {
        self.captured.take().unwrap_or_default()
    }

    /// Takes the next bytes; true when the answer is complete, and ready for the next one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut rest = bytes;
        if matches!(self.state, State::Head) {
            match self.feed_head(bytes)? {
                Some(taken) => rest = bytes.get(taken..).unwrap_or(&[]),
                None => return Ok(false),
            }
        }
        let body = self.captured.as_mut().map(|captured| &mut captured.body);
        let is_complete = match &mut self.state {
            State::Head => false,
            State::Body(left) => feed_body(left, rest, body)?,
            State::Chunked(chunks) => chunks.feed(rest, body)?,
        };
        if is_complete {
            self.state = State::Head;
        }
        Ok(is_complete)
    }

    /// How many of `bytes` belong to the head, once it is complete.
    fn feed_head(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let before = self.partial.len();
        let length = if before == 0 {
            head_length(bytes)
        } else {
            self.partial.extend_from_slice(bytes);
            head_length(&self.partial)
        };
        let Some(length) = length else {
            if before == 0 {
                self.partial.extend_from_slice(bytes);
            }
            if self.partial.len() > HEAD_LIMIT {
                bail!("the head of the answer does not end within {HEAD_LIMIT} bytes");
            }
            return Ok(None);
        };
        let head = if before == 0 { bytes } else { &self.partial };
        let head = head.get(..length).unwrap_or(head);
        self.state = framing(head)?;
        if let Some(captured) = &mut self.captured {
            captured.head.extend_from_slice(head);
        }
        self.partial.clear();
        Ok(Some(length - before))
    }
}

fn framing(head: &[u8]) -> Result<State> {
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("the answer is {:?}, not HTTP/1.1 200", first_line(head));
    }
    if header(head, "transfer-encoding").is_some_and(|value| value == b"chunked") {
        return Ok(State::Chunked(Chunks::default()));
    }
    let length = content_length(head);
    length.map(State::Body).context("the answer has no length, though the origin sent one")
}

fn feed_body(left: &mut usize, bytes: &[u8], body: Option<&mut Vec<u8>>) -> Result<bool> {
    match left.checked_sub(bytes.len()) {
        Some(rest) => *left = rest,
        None => bail!("the answer is longer than its Content-Length"),
    }
    if let Some(body) = body {
        body.extend_from_slice(bytes);
    }
    Ok(*left == 0)
}

/// Where the chunks of a body end (RFC 9112 section 7.1), without extensions and trailers.
#[derive(Default)]
struct Chunks {
    at: At,
    size: usize,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum At {
    #[default]
    Size,
    Data,
    /// The line end after data, or after the last chunk's empty trailers.
    End,
}

impl Chunks {
    fn feed(&mut self, mut bytes: &[u8], mut body: Option<&mut Vec<u8>>) -> Result<bool> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.at {
                At::Data => {
                    let (data, after) = bytes.split_at(self.size.min(bytes.len()));
                    if let Some(body) = &mut body {
                        body.extend_from_slice(data);
                    }
                    self.size -= data.len();
                    bytes = after;
                    if self.size == 0 {
                        (self.at, self.size) = (At::End, 1);
                    }
                    continue;
                }
                At::Size => self.on_size(first)?,
                At::End if first == b'\r' => {}
                At::End if first == b'\n' && self.size == 0 => return ends(rest),
                At::End if first == b'\n' => (self.at, self.size) = (At::Size, 0),
                At::End => bail!("a chunk does not end with its size"),
            }
            bytes = rest;
        }
        Ok(false)
    }

    fn on_size(&mut self, byte: u8) -> Result<()> {
        match byte {
            b'\r' => {}
            b'\n' => self.at = if self.size == 0 { At::End } else { At::Data },
            _ => {
                let digit = char::from(byte).to_digit(16).context("a chunk's size is no number")?;
                self.size = self.size * 16 + digit as usize;
            }
        }
        Ok(())
    }
}

fn ends(rest: &[u8]) -> Result<bool> {
    if rest.is_empty() { Ok(true) } else { bail!("the answer is longer than its chunks") }
}

fn first_line(head: &[u8]) -> String {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or(&[]);
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length:  5 \r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

    #[test]
    fn an_answer_ends_where_its_framing_says_however_it_is_split() {
        for bytes in [LENGTH, CHUNKED] {
            for first in 1..bytes.len() {
                for second in first..bytes.len() {
                    let mut answer = Answer::default();
                    answer.capture();
                    let (a, rest) = bytes.split_at(first);
                    let (b, c) = rest.split_at(second - first);
                    let mut done = answer.feed(a).unwrap();
                    if !b.is_empty() {
                        assert!(!done);
                        done = answer.feed(b).unwrap();
                    }
                    assert!(!done, "split at {first} and {second}");
                    assert!(answer.feed(c).unwrap(), "split at {first} and {second}");
                    assert_eq!(answer.take_captured().body, b"hello");
                }
            }
        }
    }

    #[test]
    fn an_answer_object_follows_one_answer_after_another() {
        let mut answer = Answer::default();
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert!(answer.feed(bytes).unwrap());
        assert!(answer.feed(CHUNKED).unwrap());
        assert!(answer.feed(bytes).unwrap());
    }

    #[test]
    fn what_is_not_the_expected_answer_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlong",
        ] {
            assert!(Answer::default().feed(bytes).is_err());
        }
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let head = b"HTTP/1.1 200 OK\r\nX-Edit: 7\r\nVia: a:b\r\n\r\n";
        assert_eq!(header(head, "x-edit"), Some(&b"7"[..]));
        assert_eq!(header(head, "VIA"), Some(&b"a:b"[..]));
        assert_eq!(header(head, "http/1.1 200 ok"), None);
    }
}
