//! HTTP/2 as bytes (RFC 9113): frames that no client library would send, and what comes back.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::client::{Read1, read_until};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// RFC 9113 section 4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Literal fields without indexing, names and values as they are (RFC 7541 section 6.2.2).
pub fn block<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// Without Huffman coding (RFC 7541 sections 5.1 and 5.2).
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend(text);
}

/// A GET that ends its stream.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    request("GET", host, path)
}

/// The pseudo-header fields of a request.
pub fn request(method: &str, host: &str, path: &str) -> Vec<u8> {
    block([
        (&b":method"[..], method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", host.as_bytes()),
        (b":path", path.as_bytes()),
    ])
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Of a GOAWAY: the last stream and the error code.
    pub fn goaway(&self) -> Option<(u32, u32)> {
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
        };
        if self.kind == GOAWAY { Some((number(0)? & (u32::MAX >> 1), number(4)?)) } else { None }
    }

    /// Whether it begins an answer 200, whose status is the first field (RFC 7541 appendix A, index 8), after changes
    /// of the table's size.
    pub fn is_ok(&self) -> bool {
        let first = self.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
        self.kind == HEADERS && first == Some(&0x88)
    }
}

/// A connection whose settings were exchanged.
pub struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
    /// Why nothing more comes.
    pub is_closed: bool,
    /// What was written so far, after the preface.
    pub sent: usize,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Connection> {
        Connection::open_with(address, &[])
    }

    /// With settings of its own, as the bytes of their frame.
    pub fn open_with(address: SocketAddr, settings: &[u8]) -> Result<Connection> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let mut connection = Connection { stream, held: Vec::new(), is_closed: false, sent: 0 };
        connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        let end = Instant::now() + WRITE_PATIENCE;
        while let Some(frame) = connection.next(end) {
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                connection.send(&self::frame(SETTINGS, ACK, 0, &[]));
                break;
            }
        }
        connection.sent = 0;
        Ok(connection)
    }

    /// A peer that reads no more, or has gone, closes the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.is_closed && self.stream.write_all(bytes).is_err() {
            self.is_closed = true;
        }
        self.sent += bytes.len();
    }

    /// The next frame until `end`.
    pub fn next(&mut self, end: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match read_until(&mut self.stream, &mut self.held, end) {
                Read1::Bytes => {}
                Read1::Late => return None,
                Read1::Closed | Read1::Reset => {
                    self.is_closed = true;
                    return self.take();
                }
            }
        }
    }

    /// Frames that have come by now, or come within this time.
    pub fn drain(&mut self, within: Duration) -> Vec<Frame> {
        let end = Instant::now() + within;
        std::iter::from_fn(|| self.next(end)).collect()
    }

    /// Reads until GOAWAY with an error or the end of the connection; false at the deadline.
    pub fn ends_within(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            match self.next(end) {
                Some(frame) if frame.goaway().is_some_and(|(_, code)| code != 0) => return true,
                Some(_) => {}
                None => return self.is_closed,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.held.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        let (kind, flags) = (head[3], head[4]);
        let payload = self.held.get(9..9 + length)?.to_vec();
        self.held.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_strings() {
        for (length, head) in
            [(0, &[0][..]), (126, &[126]), (127, &[127, 0]), (4_000, &[127, 161, 30])]
        {
            let mut out = Vec::new();
            string(&mut out, &vec![b'a'; length]);
            assert_eq!(&out[..head.len()], head, "{length}");
            assert_eq!(out.len(), head.len() + length);
        }
    }

    #[test]
    fn frames_have_a_head_of_nine_bytes() {
        assert_eq!(frame(PING, ACK, 3, &[7; 8])[..9], [0, 0, 8, 6, 1, 0, 0, 0, 3]);
    }

    #[test]
    fn a_status_is_found_behind_a_change_of_the_table() {
        let answer = |payload: &[u8]| Frame {
            kind: HEADERS,
            flags: END_HEADERS,
            stream: 1,
            payload: payload.to_vec(),
        };
        assert!(answer(&[0x88]).is_ok() && answer(&[0x20, 0x88]).is_ok());
        assert!(!answer(&[0x8c]).is_ok() && !answer(&[]).is_ok());
    }
}
