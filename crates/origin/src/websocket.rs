//! A WebSocket endpoint that echoes messages (RFC 6455, the server's side; no extensions, no
//! subprotocols). A message is echoed whole, in one frame.

use std::io;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Stop, limits};

/// The answer to a handshake with this `sec-websocket-key`, RFC 6455 section 4.2.2.
pub(crate) fn handshake(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        accept_key(key)
    )
}

/// Echoes until either side closes, or nothing has come for five minutes.
pub(crate) async fn echo(io: TcpStream, first: BytesMut, stop: &mut Stop) -> io::Result<()> {
    let mut endpoint = Endpoint { io, buffer: first, message: None };
    let code = endpoint.messages(stop).await?;
    endpoint.send(Kind::Close, &code.to_be_bytes()).await?;
    endpoint.io.shutdown().await
}

fn accept_key(key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let joined = format!("{key}{GUID}");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes()))
}

/// Status codes, RFC 6455 section 7.4.1.
mod code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const PROTOCOL_ERROR: u16 = 1002;
    pub(super) const NOT_UTF8: u16 = 1007;
    pub(super) const TOO_BIG: u16 = 1009;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Kind {
    fn of(opcode: u8) -> Option<Self> {
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|kind| *kind as u8 == opcode)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    last: bool,
    kind: Kind,
    payload: Vec<u8>,
}

struct Endpoint {
    io: TcpStream,
    buffer: BytesMut,
    /// The message whose fragments are arriving.
    message: Option<(Kind, Vec<u8>)>,
}

impl Endpoint {
    /// Echoes messages; returns the status code to close with.
    async fn messages(&mut self, stop: &mut Stop) -> io::Result<u16> {
        loop {
            match take_frame(&mut self.buffer) {
                Err(code) => return Ok(code),
                Ok(Some(frame)) => {
                    if let Some(code) = self.frame(frame).await? {
                        return Ok(code);
                    }
                }
                Ok(None) => {
                    let read = tokio::select! {
                        () = stop.wait() => return Ok(code::GOING_AWAY),
                        read = timeout(limits::IDLE, self.io.read_buf(&mut self.buffer)) => read??,
                    };
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    async fn frame(&mut self, frame: Frame) -> io::Result<Option<u16>> {
        match frame.kind {
            Kind::Ping => self.send(Kind::Pong, &frame.payload).await?,
            Kind::Pong => {}
            Kind::Close => return Ok(Some(closing_code(&frame.payload))),
            Kind::Text | Kind::Binary | Kind::Continuation => match self.gathered(frame) {
                Err(code) => return Ok(Some(code)),
                Ok(Some((kind, message))) => self.send(kind, &message).await?,
                Ok(None) => {}
            },
        }
        Ok(None)
    }

    /// Adds a fragment; gives the message once it is whole. RFC 6455 section 5.4.
    fn gathered(&mut self, frame: Frame) -> Result<Option<(Kind, Vec<u8>)>, u16> {
        let message = match (self.message.take(), frame.kind) {
            (None, Kind::Continuation) => return Err(code::PROTOCOL_ERROR),
            (None, kind) => (kind, frame.payload),
            (Some((kind, mut so_far)), Kind::Continuation) => {
                so_far.extend_from_slice(&frame.payload);
                (kind, so_far)
            }
            (Some(_), _) => return Err(code::PROTOCOL_ERROR),
        };
        if message.1.len() > limits::MESSAGE_BYTES {
            return Err(code::TOO_BIG);
        }
        if !frame.last {
            self.message = Some(message);
            return Ok(None);
        }
        if message.0 == Kind::Text && std::str::from_utf8(&message.1).is_err() {
            return Err(code::NOT_UTF8);
        }
        Ok(Some(message))
    }

    async fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        timeout(limits::WRITE, self.io.write_all(&encode(kind, payload))).await?
    }
}

/// The code that a close frame carries is sent back, RFC 6455 section 5.5.1.
fn closing_code(payload: &[u8]) -> u16 {
    match payload {
        [] => code::NORMAL,
        [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => {
            match u16::from_be_bytes([*high, *low]) {
                code @ (1000..=1003 | 1007..=1011 | 3000..=4999) => code,
                _ => code::PROTOCOL_ERROR,
            }
        }
        _ => code::PROTOCOL_ERROR,
    }
}

/// Takes one frame off the buffer once it is whole, RFC 6455 section 5.2; the error is the status code
/// to close with.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, u16> {
    let &[first, second, ..] = buffer.as_ref() else { return Ok(None) };
    let kind = Kind::of(first & 0x0f).ok_or(code::PROTOCOL_ERROR)?;
    let last = first & 0x80 != 0;
    let control = kind as u8 >= 8;
    let short = second & 0x7f;
    let (reserved, masked) = (first & 0x70 != 0, second & 0x80 != 0);
    if reserved || !masked || (control && (!last || short > 125)) {
        return Err(code::PROTOCOL_ERROR);
    }
    let Some((length, at)) = payload_length(buffer, short) else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limits::MESSAGE_BYTES {
        return Err(code::TOO_BIG);
    }
    if buffer.len() < at + 4 + length {
        return Ok(None);
    }
    buffer.advance(at);
    let mask = buffer.split_to(4);
    let payload = buffer.split_to(length);
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some(Frame { last, kind, payload }))
}

/// The length of the payload and where the mask begins.
fn payload_length(buffer: &[u8], short: u8) -> Option<(u64, usize)> {
    match short {
        126 => {
            let bytes = buffer.get(2..4)?.try_into().ok()?;
            Some((u64::from(u16::from_be_bytes(bytes)), 4))
        }
        127 => {
            let bytes = buffer.get(2..10)?.try_into().ok()?;
            Some((u64::from_be_bytes(bytes), 10))
        }
        short => Some((u64::from(short), 2)),
    }
}

/// One whole frame, unmasked as a server's must be.
fn encode(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind as u8];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let length = u8::try_from(payload.len()).expect("a short test payload");
        let mut frame = vec![first, 0x80 | length];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        // The example of RFC 6455 section 1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_taken_only_when_whole() {
        let whole = masked(0x81, b"hello");
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            assert_eq!(take_frame(&mut buffer), Ok(None), "{cut} bytes");
            assert_eq!(buffer.len(), cut);
        }
        let mut buffer = BytesMut::from(&whole[..]);
        let expected = Frame { last: true, kind: Kind::Text, payload: b"hello".to_vec() };
        assert_eq!(take_frame(&mut buffer), Ok(Some(expected)));
        assert!(buffer.is_empty());
    }

    #[test]
    fn bad_frames_close_with_their_code() {
        let too_big = [0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4];
        for (bytes, code) in [
            (&b"\x81\x05hello"[..], 1002), // not masked
            (&masked(0xc1, b"x"), 1002),   // a reserved bit
            (&masked(0x83, b"x"), 1002),   // an unknown kind
            (&masked(0x09, b"x"), 1002),   // a control frame in fragments
            (&[0x89, 0xfe, 0, 126], 1002), // a long control frame
            (&too_big, 1009),
        ] {
            let mut buffer = BytesMut::from(bytes);
            assert_eq!(take_frame(&mut buffer), Err(code), "{bytes:x?}");
        }
    }

    #[test]
    fn lengths_are_encoded_in_the_shortest_form() {
        for (length, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65535, &[0x82, 126, 255, 255]),
            (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = encode(Kind::Binary, &vec![0; length]);
            assert_eq!(&frame[..head.len()], head);
            assert_eq!(frame.len(), head.len() + length);
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        for (payload, code) in [
            (&b""[..], 1000),
            (b"\x03\xe8bye", 1000),
            (b"\x0f\xa0", 4000),
            (b"\x03", 1002),
            (b"\x03\xee", 1002), // 1006 must not be sent
            (b"\x03\xe8\xff", 1002),
        ] {
            assert_eq!(closing_code(payload), code, "{payload:?}");
        }
    }
}
