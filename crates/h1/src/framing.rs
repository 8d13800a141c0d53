//! What the fields of a head say about the message and the connection: length, coding, persistence
//! (RFC 9112 sections 6 and 9). Shared by requests and responses; what differs stays with them.

use crate::bytes::{Span, is_token, list};
use crate::headers::HeaderList;
use crate::known::Known;
use crate::refusal::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    /// HTTP/1.1, and every higher minor version (RFC 9110 section 2.5).
    Http11,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// Content-Length, zero included.
    Length(u64),
    Chunked,
    /// The body of a response that ends with the connection; never of a request.
    UntilClose,
}

/// What one pass over the fields found.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub length: Option<u64>,
    pub chunked: bool,
    pub host: Option<Span>,
    pub host_repeated: bool,
    pub expect_continue: bool,
    pub upgrade: Option<Span>,
    connection: Connection,
    coding: Coding,
}

#[derive(Debug, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// An option that names a field which is not hop-by-hop by itself.
    nominates: bool,
}

/// The codings of every Transfer-Encoding line, in order.
#[derive(Debug, Default)]
struct Coding {
    present: bool,
    chunked: u32,
    chunked_last: bool,
    unknown: bool,
}

impl Facts {
    /// Refuses what makes the framing ambiguous.
    pub fn of(buf: &[u8], fields: &mut HeaderList, version: Version) -> Result<Facts, Reason> {
        let mut facts = Facts::default();
        for header in fields.iter() {
            match header.known {
                Known::Other => {}
                Known::ContentLength => facts.content_length(header.value(buf))?,
                Known::TransferEncoding => facts.coding.add(header.value(buf))?,
                Known::Connection => facts.connection.add(header.value(buf)),
                Known::Upgrade => facts.upgrade = facts.upgrade.or(Some(header.value)),
                Known::Expect => {
                    facts.expect_continue |=
                        header.value(buf).eq_ignore_ascii_case(b"100-continue");
                }
                Known::Host => {
                    facts.host_repeated |= facts.host.is_some();
                    facts.host = Some(header.value);
                }
                _ => {}
            }
        }
        facts.settle(version)?;
        fields.nominations = facts.connection.nominates;
        Ok(facts)
    }

    /// RFC 9112 section 9.3.
    pub fn keep_alive(&self, version: Version) -> bool {
        !self.connection.close && (version == Version::Http11 || self.connection.keep_alive)
    }

    /// Digits only, and once: `5, 5` and two equal lines are legal to merge (RFC 9110 section 8.6),
    /// yet a sender that means well writes neither.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.length.is_some() {
            return Err(Reason::ContentLengthRepeated);
        }
        self.length = Some(decimal(value).ok_or(Reason::ContentLengthInvalid)?);
        Ok(())
    }

    fn settle(&mut self, version: Version) -> Result<(), Reason> {
        if self.coding.present {
            if self.length.is_some() {
                return Err(Reason::ContentLengthBesideTransferEncoding);
            }
            if version == Version::Http10 {
                return Err(Reason::TransferEncodingInHttp10);
            }
            self.coding.check()?;
            self.chunked = true;
        }
        // An Upgrade field counts only when Connection lists it, and never in HTTP/1.0 (RFC 9110
        // section 7.8); nor does the expectation (section 10.1.1).
        if !self.connection.upgrade || version == Version::Http10 {
            self.upgrade = None;
        }
        self.expect_continue &= version == Version::Http11;
        Ok(())
    }
}

impl Connection {
    fn add(&mut self, value: &[u8]) {
        for option in list(value).filter(|o| !o.is_empty()) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
                continue;
            }
            match Known::of(option) {
                Known::KeepAlive => self.keep_alive = true,
                Known::Upgrade => self.upgrade = true,
                known => self.nominates |= !known.is_hop_by_hop(),
            }
        }
    }
}

impl Coding {
    fn add(&mut self, value: &[u8]) -> Result<(), Reason> {
        self.present = true;
        for coding in list(value) {
            if !is_token(coding) {
                return Err(coding_fault(coding));
            }
            self.chunked_last = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked += u32::from(self.chunked_last);
            self.unknown |= !self.chunked_last;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Reason> {
        match self.chunked {
            2.. => Err(Reason::ChunkedRepeated),
            1 if !self.chunked_last => Err(Reason::ChunkedNotLast),
            _ if self.unknown => Err(Reason::TransferCodingUnknown),
            _ => Ok(()),
        }
    }
}

/// A coding with parameters is unknown; chunked has none (RFC 9112 section 7.1).
#[cold]
fn coding_fault(coding: &[u8]) -> Reason {
    let name = coding.split(|&b| b == b';').next().map(crate::bytes::trim).unwrap_or_default();
    match is_token(name) && name.len() < coding.len() && !name.eq_ignore_ascii_case(b"chunked") {
        true => Reason::TransferCodingUnknown,
        false => Reason::TransferEncodingInvalid,
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// `HTTP/1.x` in exactly eight bytes.
pub(crate) fn version(bytes: &[u8]) -> Result<Version, Reason> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match major {
                b'1' => Ok(Version::Http11),
                _ => Err(Reason::VersionUnsupported),
            }
        }
        _ => Err(Reason::Version),
    }
}
