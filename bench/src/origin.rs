//! The origin behind every server under test: its bodies, and its side of a connection.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

use crate::script::{MESSAGES, UPLOAD, WEBSOCKET_ACCEPT};
use crate::{http, sys};

/// The bodies that the origin serves: path and size.
pub const SMALL: &str = "/1k";
pub const LARGE: &str = "/100k";
/// 16 KiB in chunks of 2 KiB.
pub const CHUNKED: &str = "/chunked";

const CHUNKED_SIZE: usize = 16 * 1024;
const CHUNK: usize = 2 * 1024;

/// What the origin answers, made once.
pub struct Pages {
    pages: Vec<Page>,
    missing: Page,
    upgraded: Vec<u8>,
}

struct Page {
    path: &'static str,
    answer: Vec<u8>,
    body: Vec<u8>,
}

impl Pages {
    pub fn new() -> Pages {
        let upgraded = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
        );
        Pages {
            pages: vec![
                whole(SMALL, "200 OK", noise(1024)),
                whole(LARGE, "200 OK", noise(100 * 1024)),
                in_chunks(CHUNKED, noise(CHUNKED_SIZE)),
                whole(UPLOAD, "200 OK", b"taken\n".to_vec()),
            ],
            missing: whole("", "404 Not Found", b"no such page\n".to_vec()),
            upgraded: upgraded.into_bytes(),
        }
    }

    /// The whole answer to a request head.
    fn answer(&self, head: &[u8]) -> &[u8] {
        let path = head.split(|&byte| byte == b' ').nth(1).unwrap_or(&[]);
        if path == MESSAGES.as_bytes() { &self.upgraded } else { &self.page(path).answer }
    }

    fn page(&self, path: &[u8]) -> &Page {
        self.pages.iter().find(|page| page.path.as_bytes() == path).unwrap_or(&self.missing)
    }

    /// The body that a client must see for a path.
    pub fn body(&self, path: &str) -> &[u8] {
        &self.page(path.as_bytes()).body
    }
}

/// One connection from a server under test.
pub struct OriginConnection {
    stream: TcpStream,
    /// Request bytes that are no complete head yet.
    partial: Vec<u8>,
    /// Bytes of a request's body that are still to come.
    body_left: usize,
    /// Upgraded: everything goes back as it comes.
    echoes: bool,
    /// Answer bytes that the socket did not take yet.
    unsent: Vec<u8>,
}

impl OriginConnection {
    pub fn new(stream: TcpStream) -> io::Result<OriginConnection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (partial, unsent) = (Vec::new(), Vec::new());
        Ok(OriginConnection { stream, partial, body_left: 0, echoes: false, unsent })
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
        if self.echoes {
            return self.send(bytes);
        }
        // The common case, a whole request and nothing else, is not copied.
        if self.partial.is_empty() && self.body_left == 0 && is_get(bytes) {
            return self.answer(bytes, pages);
        }
        let (body, bytes) = bytes.split_at(self.body_left.min(bytes.len()));
        if !body.is_empty() {
            self.body_left -= body.len();
            if self.body_left == 0 {
                let head = std::mem::take(&mut self.partial);
                self.answer(&head, pages)?;
            }
        }
        self.partial.extend_from_slice(bytes);
        self.on_heads(pages)
    }

    /// Answers the requests that are whole. The head of one whose body is to come stays.
    fn on_heads(&mut self, pages: &Pages) -> io::Result<()> {
        while self.body_left == 0 {
            let Some(length) = http::head_length(&self.partial) else { return Ok(()) };
            let rest = self.partial.split_off(length);
            let head = std::mem::replace(&mut self.partial, rest);
            if http::header(&head, "transfer-encoding").is_some() {
                return Err(io::Error::other("the bench's requests have lengths"));
            }
            let body = http::content_length(&head).unwrap_or(0);
            let here = body.min(self.partial.len());
            self.partial.drain(..here);
            self.body_left = body - here;
            match self.body_left {
                0 => self.answer(&head, pages)?,
                _ => self.partial = head,
            }
        }
        Ok(())
    }

    fn answer(&mut self, head: &[u8], pages: &Pages) -> io::Result<()> {
        let answer = pages.answer(head);
        self.echoes = answer.starts_with(b"HTTP/1.1 101");
        self.send(answer)
    }

    fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(answer);
            return Ok(());
        }
        let sent = sys::write_some(&mut self.stream, answer)?;
        self.unsent.extend_from_slice(answer.get(sent..).unwrap_or(&[]));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = sys::write_some(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

fn is_get(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GET ") && http::head_length(bytes) == Some(bytes.len())
}

fn whole(path: &'static str, status: &str, body: Vec<u8>) -> Page {
    let head = head(status, &format!("Content-Length: {}", body.len()));
    Page { path, answer: [head.as_bytes(), &body].concat(), body }
}

fn in_chunks(path: &'static str, body: Vec<u8>) -> Page {
    let mut answer = head("200 OK", "Transfer-Encoding: chunked").into_bytes();
    for chunk in body.chunks(CHUNK) {
        answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
        answer.extend(chunk);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    Page { path, answer, body }
}

fn head(status: &str, framing: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n")
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
        assert_eq!(pages.body(CHUNKED).len(), CHUNKED_SIZE);
        assert_eq!(pages.body("/else"), b"no such page\n");
        assert_ne!(pages.body(SMALL).first(), pages.body(SMALL).get(1));
    }
}
