//! The origin behind every server under test: its bodies, and its side of a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::http;

/// The two bodies that the origin serves: path and size.
pub const SMALL: &str = "/1k";
pub const LARGE: &str = "/100k";

/// What the origin answers, made once.
pub struct Pages {
    small: Vec<u8>,
    large: Vec<u8>,
    missing: Vec<u8>,
}

impl Pages {
    pub fn new() -> Pages {
        Pages {
            small: page("200 OK", &noise(1024)),
            large: page("200 OK", &noise(100 * 1024)),
            missing: page("404 Not Found", b"no such page\n"),
        }
    }

    /// The whole answer for a request head.
    fn answer(&self, head: &[u8]) -> &[u8] {
        let path = head.strip_prefix(b"GET ").unwrap_or(&[]);
        if path.starts_with(b"/1k ") {
            &self.small
        } else if path.starts_with(b"/100k ") {
            &self.large
        } else {
            &self.missing
        }
    }

    /// The body that a client must see for a path.
    pub fn body(&self, path: &str) -> &[u8] {
        let whole = self.answer(format!("GET {path} HTTP/1.1").as_bytes());
        whole.get(http::head_length(whole).unwrap_or(0)..).unwrap_or(&[])
    }
}

/// One connection from a server under test.
pub struct OriginConnection {
    stream: TcpStream,
    /// Request bytes that are no complete head yet.
    partial: Vec<u8>,
    /// Answer bytes that the socket did not take yet.
    unsent: Vec<u8>,
}

impl OriginConnection {
    pub fn new(stream: TcpStream) -> io::Result<OriginConnection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(OriginConnection { stream, partial: Vec::new(), unsent: Vec::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends what is due and answers what has come; an error, or the other side's end, means that
    /// the connection is over.
    pub fn on_event(&mut self, pages: &Pages, buffer: &mut [u8]) -> io::Result<()> {
        self.flush()?;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.on_bytes(buffer.get(..count).unwrap_or(&[]), pages)?;
            // A read that leaves room has emptied the socket (epoll(7), edge-triggered streams).
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], pages: &Pages) -> io::Result<()> {
        if self.partial.is_empty() && http::head_length(bytes) == Some(bytes.len()) {
            return self.send(pages.answer(bytes));
        }
        self.partial.extend_from_slice(bytes);
        while let Some(length) = http::head_length(&self.partial) {
            let head: Vec<u8> = self.partial.drain(..length).collect();
            self.send(pages.answer(&head))?;
        }
        Ok(())
    }

    fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(answer);
            return Ok(());
        }
        let sent = write_some(&mut self.stream, answer)?;
        self.unsent.extend_from_slice(answer.get(sent..).unwrap_or(&[]));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = write_some(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

/// Writes until the socket takes no more; how many bytes it took.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn page(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Bytes without a pattern, the same in every run (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_sizes_that_their_paths_promise() {
        let pages = Pages::new();
        assert_eq!(pages.body(SMALL).len(), 1024);
        assert_eq!(pages.body(LARGE).len(), 100 * 1024);
        assert_eq!(pages.body("/else"), b"no such page\n");
        assert_ne!(pages.body(SMALL).first(), pages.body(SMALL).get(1));
    }
}
