//! As much HTTP/2 as a load generator needs (RFC 9113): one fixed block of headers a request, the end of each
//! answer, and what keeps a connection going. Not a codec: the servers under test are known and well behaved.

use anyhow::{Result, bail};

use crate::http::Captured;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// PADDED and PRIORITY: nobody here sends them.
const UNEXPECTED: u8 = 0x08 | 0x20;

const LARGEST_WINDOW: u32 = 0x7fff_ffff;
/// The connection's window is filled up after so many bytes.
const REFILL: u32 = 64 << 20;
/// `:status: 200` (RFC 7541 appendix A).
const STATUS_200: u8 = 0x88;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scheme {
    Http,
    Https,
}

/// What a client sends first: windows that no answer fills, no pushes.
pub fn opening() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let enable_push = [0, 2, 0, 0, 0, 0];
    let mut settings = enable_push.to_vec();
    settings.extend([0, 4]);
    settings.extend(LARGEST_WINDOW.to_be_bytes());
    frame(&mut bytes, SETTINGS, 0, 0, &settings);
    let room = LARGEST_WINDOW - 65_535;
    frame(&mut bytes, WINDOW_UPDATE, 0, 0, &room.to_be_bytes());
    bytes
}

/// The headers of a GET request, without reference to a dynamic table.
pub fn header_block(host: &str, path: &str, scheme: Scheme) -> Vec<u8> {
    // `:method: GET` and `:scheme`, then names of the static table with values of ours.
    let scheme = match scheme {
        Scheme::Http => 0x86,
        Scheme::Https => 0x87,
    };
    let mut block = vec![0x82, scheme];
    let mut literal = |name: u8, value: &str| {
        // An index above 14 continues in a second byte (RFC 7541 section 5.1, prefix of 4 bits).
        match name.checked_sub(15) {
            Some(rest) => block.extend([0x0f, rest]),
            None => block.push(name),
        }
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    };
    literal(1, host);
    literal(4, path);
    literal(58, "bench/1");
    literal(19, "*/*");
    block
}

/// The frame that sends a request.
pub fn request(bytes: &mut Vec<u8>, stream: u32, block: &[u8]) {
    frame(bytes, HEADERS, END_STREAM | END_HEADERS, stream, block);
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    bytes.extend(length);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

/// Follows the frames of a server.
#[derive(Default)]
pub struct Frames {
    header: [u8; 9],
    /// Bytes of `header` that have come.
    known: usize,
    /// Bytes of the payload still to come.
    left: usize,
    /// The payload, but for DATA.
    payload: Vec<u8>,
    received: u32,
    captured: Option<Captured>,
}

impl Frames {
    pub fn capture(&mut self) {
        self.captured = Some(Captured::default());
    }

    pub fn take_captured(&mut self) -> Captured {
        self.captured.take().unwrap_or_default()
    }

    /// Takes the next bytes; how many answers ended with them. What is to be sent for them goes to `reply`.
    pub fn feed(&mut self, mut bytes: &[u8], reply: &mut Vec<u8>) -> Result<usize> {
        let mut complete = 0;
        while !bytes.is_empty() {
            if self.known < self.header.len() {
                let (header, rest) =
                    bytes.split_at(bytes.len().min(self.header.len() - self.known));
                let room = self.header.iter_mut().skip(self.known);
                room.zip(header).for_each(|(to, from)| *to = *from);
                self.known += header.len();
                bytes = rest;
                if self.known < self.header.len() {
                    break;
                }
                let [a, b, c, ..] = self.header;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.take(payload);
            bytes = rest;
            if self.left == 0 {
                complete += usize::from(self.finish(reply)?);
            }
        }
        Ok(complete)
    }

    fn take(&mut self, payload: &[u8]) {
        self.left -= payload.len();
        if self.kind() != DATA {
            self.payload.extend_from_slice(payload);
            return;
        }
        self.received += payload.len() as u32;
        if let Some(captured) = &mut self.captured {
            captured.body.extend_from_slice(payload);
        }
    }

    fn kind(&self) -> u8 {
        self.header[3]
    }

    fn flags(&self) -> u8 {
        self.header[4]
    }

    /// A frame is whole; true when it ends an answer.
    fn finish(&mut self, reply: &mut Vec<u8>) -> Result<bool> {
        let (kind, flags) = (self.kind(), self.flags());
        let payload = std::mem::take(&mut self.payload);
        self.known = 0;
        match kind {
            DATA | HEADERS if flags & UNEXPECTED != 0 => bail!("a frame with padding or priority"),
            HEADERS if flags & END_HEADERS == 0 => bail!("headers of an answer in two frames"),
            HEADERS if flags & END_STREAM == 0 => check_status(&payload)?,
            SETTINGS if flags & ACK == 0 => frame(reply, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(reply, PING, ACK, 0, &payload),
            RST_STREAM => bail!("the server reset a stream: {payload:?}"),
            GOAWAY => bail!("the server sent GOAWAY: {payload:?}"),
            _ => {}
        }
        if self.received >= REFILL {
            frame(reply, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
            self.received = 0;
        }
        // The allocation is worth keeping: one a connection.
        self.payload = payload;
        self.payload.clear();
        Ok(matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0)
    }
}

fn check_status(block: &[u8]) -> Result<()> {
    // A change of the table's size may stand first: 001xxxxx, five bits of ones go on in bytes with the high bit.
    let mut rest = block;
    while let Some((&first, after)) = rest.split_first().filter(|(first, _)| **first >> 5 == 1) {
        rest = after;
        if first == 0x3f {
            let more = rest.iter().take_while(|&&byte| byte & 0x80 != 0).count();
            rest = rest.get(more + 1..).unwrap_or(&[]);
        }
    }
    match rest.first() {
        Some(&STATUS_200) => Ok(()),
        other => bail!("the headers begin with {other:02x?}, not with :status 200"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x3f, 0xe1, 0x1f, STATUS_200, 0x10]);
        frame(&mut bytes, DATA, 0, 1, b"he");
        frame(&mut bytes, DATA, END_STREAM, 1, b"llo");
        bytes
    }

    #[test]
    fn an_answer_ends_with_its_stream_however_it_is_split() {
        let bytes = answer();
        for first in 1..bytes.len() {
            let (mut frames, mut reply) = (Frames::default(), Vec::new());
            frames.capture();
            let (a, b) = bytes.split_at(first);
            let before = frames.feed(a, &mut reply).unwrap();
            assert_eq!(before + frames.feed(b, &mut reply).unwrap(), 1, "split at {first}");
            assert_eq!(frames.take_captured().body, b"hello");
            assert_eq!(reply, [0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn what_is_not_the_expected_answer_is_an_error() {
        let check = |kind, flags, payload: &[u8]| {
            let mut bytes = Vec::new();
            frame(&mut bytes, kind, flags, 1, payload);
            assert!(Frames::default().feed(&bytes, &mut Vec::new()).is_err(), "{kind} {payload:?}");
        };
        check(HEADERS, END_HEADERS, &[0x8d]);
        check(HEADERS, 0, &[STATUS_200]);
        check(RST_STREAM, 0, &[0, 0, 0, 1]);
        check(GOAWAY, 0, &[0; 8]);
        check(DATA, 0x08, &[0]);
    }

    #[test]
    fn headers_are_those_of_the_static_table() {
        let block = header_block("a.test", "/x", Scheme::Https);
        let expected = b"\x82\x87\x01\x06a.test\x04\x02/x\x0f\x2b\x07bench/1\x0f\x04\x03*/*";
        assert_eq!(block, expected);
    }
}
