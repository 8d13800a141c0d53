//! Floor 1: what can be read of a TLS ClientHello without answering it: the name of the server that the client wants
//! (RFC 8446 section 4.1.2, RFC 6066 section 3). Total and bounded; the bytes stay as they are, for whoever shakes hands.
//!
//! ```text
//! records (RFC 8446 section 5.1) ── handshake message, whole or in pieces ── extensions ── server_name
//! ```
//!
//! Not here: handshakes and certificates (`edge`), which listener a name leads to (`routing`).
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// What a whole ClientHello says. With Encrypted Client Hello (or its GREASE) it is the outer one: the name that is
/// meant for those on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// In lower case. None where the client names nobody.
    pub server_name: Option<String>,
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first bytes are no record of a handshake: another protocol, or an alert.
    NotTls,
    /// A handshake that begins with another message.
    NotHello,
    /// Longer than the limit.
    TooLong,
    /// Lengths that do not fit into each other, or an extension that stands twice.
    Malformed,
    /// A name that no server has (RFC 6066 section 3).
    BadName,
}

/// Reads the start of a connection. None while more bytes are needed; what is wrong is said as soon as it shows. A
/// hello that does not end within `limit` bytes, heads of records counted, is too long.
pub fn peek(bytes: &[u8], limit: usize) -> Result<Option<Hello>, Fault> {
    let seen = bytes.get(..limit).unwrap_or(bytes);
    match message(seen, limit)? {
        Some(message) => Ok(Some(Hello { server_name: server_name(&message)? })),
        None if seen.len() == limit => Err(Fault::TooLong),
        None => Ok(None),
    }
}

const RECORD_HEAD: usize = 5;
const MESSAGE_HEAD: usize = 4;
/// RFC 8446 section 5.1.
const RECORD_BYTES: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;

/// The body of the ClientHello, borrowed where it lies in one record.
fn message(bytes: &[u8], limit: usize) -> Result<Option<Cow<'_, [u8]>>, Fault> {
    let mut gathered: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        let Some((fragment, behind)) = record(rest)? else { return Ok(None) };
        match &mut gathered {
            Cow::Borrowed([]) => gathered = Cow::Borrowed(fragment.bytes),
            pieces => pieces.to_mut().extend_from_slice(fragment.bytes),
        }
        if let Some(length) = length(&gathered, limit)? {
            let end = MESSAGE_HEAD + length;
            if gathered.len() >= end {
                return Ok(Some(match gathered {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[MESSAGE_HEAD..end]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[MESSAGE_HEAD..end].to_vec()),
                }));
            }
        }
        if !fragment.is_whole {
            return Ok(None);
        }
        rest = behind;
    }
}

struct Fragment<'b> {
    bytes: &'b [u8],
    /// The record has no more than what is here.
    is_whole: bool,
}

/// The first record, as far as it is here, and what follows it. None before its head is.
fn record(bytes: &[u8]) -> Result<Option<(Fragment<'_>, &[u8])>, Fault> {
    const MAJOR: u8 = 3;
    // A client that speaks something else waits for an answer, and will send no more.
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != MAJOR)
    {
        return Err(Fault::NotTls);
    }
    let Some((head, body)) = bytes.split_at_checked(RECORD_HEAD) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    match length {
        // Empty fragments of a handshake are forbidden (RFC 8446 section 5.1).
        0 => Err(Fault::Malformed),
        length if length > RECORD_BYTES => Err(Fault::NotTls),
        length => {
            let (bytes, behind) = body.split_at(length.min(body.len()));
            Ok(Some((Fragment { bytes, is_whole: bytes.len() == length }, behind)))
        }
    }
}

/// The length that the message's head says. None before it is here.
fn length(message: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Fault::NotHello);
    }
    let Some([_, high, middle, low]) = message.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    match RECORD_HEAD + MESSAGE_HEAD + length > limit {
        true => Err(Fault::TooLong),
        false => Ok(Some(length)),
    }
}

fn server_name(hello: &[u8]) -> Result<Option<String>, Fault> {
    let mut hello = Reader(hello);
    // Version and random.
    hello.take(2 + 32)?;
    let session = hello.list8()?;
    let suites = hello.list16()?;
    let compressions = hello.list8()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 == 1 || compressions.is_empty() {
        return Err(Fault::Malformed);
    }
    if hello.0.is_empty() {
        // Before TLS 1.3 extensions may be left away altogether (RFC 5246 section 7.4.1.2).
        return Ok(None);
    }
    let mut extensions = Reader(hello.list16()?);
    if !hello.0.is_empty() {
        return Err(Fault::Malformed);
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let data = extensions.list16()?;
        if kind == SERVER_NAME && found.replace(data).is_some() {
            return Err(Fault::Malformed);
        }
    }
    found.map(name).transpose()
}

/// One name of type host_name: another type was never defined, and of one type there is one name (RFC 6066 section 3).
fn name(extension: &[u8]) -> Result<String, Fault> {
    const HOST_NAME: u8 = 0;
    let mut extension = Reader(extension);
    let mut names = Reader(extension.list16()?);
    let kind = names.take(1)?;
    let name = names.list16()?;
    if kind != [HOST_NAME] || !names.0.is_empty() || !extension.0.is_empty() {
        return Err(Fault::Malformed);
    }
    match is_name(name) {
        true => Ok(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect()),
        false => Err(Fault::BadName),
    }
}

/// Labels of letters, digits, hyphens and (as they occur) underscores, without a dot at the end.
fn is_name(name: &[u8]) -> bool {
    const NAME_BYTES: usize = 253;
    const LABEL_BYTES: usize = 63;
    let is_label = |label: &[u8]| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= NAME_BYTES && name.split(|byte| *byte == b'.').all(is_label)
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, Fault> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// After its length in one byte.
    fn list8(&mut self) -> Result<&'b [u8], Fault> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// After its length in two bytes.
    fn list16(&mut self) -> Result<&'b [u8], Fault> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}
