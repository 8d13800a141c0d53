//! As much HTTP/1.1 as a load generator needs: request bytes, the head of an answer, and where an
//! answer ends. Not a codec: the origin and the servers under test are known and well behaved.

use anyhow::{Result, bail};

/// The host that every request of the bench names.
pub const HOST: &str = "bench.example.test";

/// A head larger than this is not one of ours.
const HEAD_LIMIT: usize = 16 * 1024;

/// A GET request with the headers of a small client.
pub fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n")
        .into_bytes()
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

/// Follows one answer to its end.
#[derive(Default)]
pub struct Answer {
    /// The first bytes, kept only while the head is incomplete.
    partial: Vec<u8>,
    body_left: Option<usize>,
    /// Every byte of the answer, when asked for.
    captured: Option<Vec<u8>>,
}

impl Answer {
    /// An answer whose bytes are all kept.
    pub fn captured() -> Answer {
        Answer { captured: Some(Vec::new()), ..Answer::default() }
    }

    pub fn take_captured(&mut self) -> Vec<u8> {
        self.captured.take().unwrap_or_default()
    }

    /// Takes the next bytes; true when the answer is complete, and ready for the next one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        if let Some(captured) = &mut self.captured {
            captured.extend_from_slice(bytes);
        }
        let left = match self.body_left {
            Some(left) => left.checked_sub(bytes.len()),
            None if self.partial.is_empty() => self.feed_head(bytes)?,
            None => {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(bytes);
                self.feed_head(&whole)?
            }
        };
        let Some(left) = left else { bail!("the answer is longer than its Content-Length") };
        if !self.partial.is_empty() {
            return Ok(false);
        }
        self.body_left = (left > 0).then_some(left);
        Ok(left == 0)
    }

    /// Bytes of the body still to come after `bytes`; `None` when there are too many.
    fn feed_head(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(length) = head_length(bytes) else {
            if bytes.len() > HEAD_LIMIT {
                bail!("the head of the answer does not end within {HEAD_LIMIT} bytes");
            }
            self.partial.extend_from_slice(bytes);
            return Ok(Some(1));
        };
        let (head, body) = bytes.split_at(length);
        Ok(body_length(head)?.checked_sub(body.len()))
    }
}

fn body_length(head: &[u8]) -> Result<usize> {
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("the answer is {:?}, not HTTP/1.1 200", first_line(head));
    }
    let length = header(head, "content-length")
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| value.parse().ok());
    match length {
        Some(length) => Ok(length),
        None => bail!("the answer has no Content-Length, though the origin sent one"),
    }
}

fn first_line(head: &[u8]) -> String {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or(&[]);
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says_however_it_is_split() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length:  5 \r\n\r\nhello";
        for first in 1..bytes.len() {
            for second in first..bytes.len() {
                let mut answer = Answer::default();
                let (a, rest) = bytes.split_at(first);
                let (b, c) = rest.split_at(second - first);
                let mut done = answer.feed(a).unwrap();
                if !b.is_empty() {
                    assert!(!done);
                    done = answer.feed(b).unwrap();
                }
                assert!(!done, "split at {first} and {second}");
                assert!(answer.feed(c).unwrap(), "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_answer_object_follows_one_answer_after_another() {
        let mut answer = Answer::default();
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert!(answer.feed(bytes).unwrap());
        assert!(answer.feed(bytes).unwrap());
    }

    #[test]
    fn what_is_not_the_expected_answer_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
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
