//! The asking side: a query as bytes, and the addresses that an answer gives.

use crate::query::skip_name;
use crate::wire::{
    CLASS_IN, HEADER_BYTES, MAX_LABEL_BYTES, MAX_NAME_BYTES, Rcode, RecordType, u16_at, u32_at,
    wire_name,
};
use model::hostname::DnsName;
use model::limits;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RECURSION_DESIRED: u8 = 0x01;
const OPT_BYTES: usize = 11;

/// One question, kept so that only its own answer is taken for one.
pub struct Inquiry {
    bytes: Vec<u8>,
    kind: RecordType,
}

/// What an answer to a question for addresses says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub rcode: Rcode,
    pub authoritative: bool,
    /// Not whole: ask again over TCP.
    pub truncated: bool,
    pub addresses: Vec<IpAddr>,
    /// The lowest TTL of the chain and the addresses; none without records.
    pub ttl: Option<u32>,
    /// Targets of the CNAME records on the way, in order.
    pub chain: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAnswer {
    /// Another id or another question: somebody else's answer, or a forged one.
    Unrelated,
    /// The message breaks off or contradicts itself.
    Malformed,
}

impl fmt::Display for NotAnAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotAnAnswer::Unrelated => "the message answers another question",
            NotAnAnswer::Malformed => "the message is no well-formed DNS message",
        })
    }
}

impl std::error::Error for NotAnAnswer {}

impl Inquiry {
    /// With RD and EDNS.
    pub fn new(id: u16, name: &DnsName, kind: RecordType) -> Self {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        bytes.extend(wire_name(name.as_str()));
        bytes.extend_from_slice(&kind.0.to_be_bytes());
        bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        let size = u16::try_from(limits::DNS_EDNS_BYTES).unwrap_or(u16::MAX);
        bytes.push(0);
        bytes.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
        Inquiry { bytes, kind }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn read(&self, bytes: &[u8]) -> Result<Reply, NotAnAnswer> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(NotAnAnswer::Malformed)?;
        if header[2] & 0x80 == 0 || bytes.get(..2) != self.bytes.get(..2) {
            return Err(NotAnAnswer::Unrelated);
        }
        let mut reply = Reply {
            rcode: Rcode(u16::from(header[3] & 0xf)),
            authoritative: header[2] & 0x04 != 0,
            truncated: header[2] & 0x02 != 0,
            addresses: Vec::new(),
            ttl: None,
            chain: Vec::new(),
        };
        if u16_at(header, 4) == Some(0) && reply.rcode != Rcode::NO_ERROR {
            return Ok(reply);
        }
        let at = self.question_end(bytes)?;
        self.read_answers(bytes, at, u16_at(header, 6).unwrap_or_default(), &mut reply)
            .ok_or(NotAnAnswer::Malformed)?;
        Ok(reply)
    }

    fn question_end(&self, bytes: &[u8]) -> Result<usize, NotAnAnswer> {
        let end = self.bytes.len() - OPT_BYTES;
        let (asked, echoed) = (self.bytes.get(HEADER_BYTES..end), bytes.get(HEADER_BYTES..end));
        match (asked, echoed) {
            (Some(asked), Some(echoed)) if asked.eq_ignore_ascii_case(echoed) => Ok(end),
            _ => Err(NotAnAnswer::Unrelated),
        }
    }

    /// Follows the chain from the question's name; records of other names are passed over.
    fn read_answers(
        &self,
        bytes: &[u8],
        mut at: usize,
        count: u16,
        reply: &mut Reply,
    ) -> Option<()> {
        let mut name = read_name(bytes, HEADER_BYTES)?;
        for _ in 0..count {
            let owner = read_name(bytes, at)?;
            let fixed = skip_name(bytes, at)?;
            let (data, length) = (fixed + 10, usize::from(u16_at(bytes, fixed + 8)?));
            let content = bytes.get(data..data + length)?;
            at = data + length;
            if owner != name {
                continue;
            }
            match RecordType(u16_at(bytes, fixed)?) {
                RecordType::CNAME if self.kind != RecordType::CNAME => {
                    name = read_name(bytes, data)?;
                    reply.chain.push(name.clone());
                }
                kind if kind == self.kind => reply.addresses.push(address(content)?),
                _ => continue,
            }
            let ttl = u32_at(bytes, fixed + 4)?;
            reply.ttl = Some(reply.ttl.map_or(ttl, |lowest| lowest.min(ttl)));
        }
        Some(())
    }
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(data).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
    let v6 = <[u8; 16]>::try_from(data).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
    v4.or(v6).ok()
}

/// In lower case, without the last dot; bytes that no name of ours has are written as `\DDD`, RFC 4343 section 2.1.
fn read_name(bytes: &[u8], mut at: usize) -> Option<String> {
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let label = *bytes.get(at)?;
        match label {
            0 => return Some(text),
            0xc0.. => {
                let target = (usize::from(label & 0x3f) << 8) | usize::from(*bytes.get(at + 1)?);
                // Backwards only, RFC 1035 section 4.1.4: so every walk ends.
                if target >= at {
                    return None;
                }
                at = target;
            }
            1..=MAX_LABEL_BYTES => {
                let end = at + 1 + usize::from(label);
                length += 1 + usize::from(label);
                if length >= MAX_NAME_BYTES {
                    return None;
                }
                push_label(&mut text, bytes.get(at + 1..end)?);
                at = end;
            }
            _ => return None,
        }
    }
}

fn push_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        match byte {
            b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x21..=0x7e => text.push(char::from(byte.to_ascii_lowercase())),
            _ => text.push_str(&format!("\\{byte:03}")),
        }
    }
}
