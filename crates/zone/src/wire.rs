//! Numbers and names as they travel. A wire name here is uncompressed and lower case, with the root's zero at its
//! end; the functions are total, so a broken one ends a walk early and never panics.

use std::fmt;

pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 12;
/// RFC 1035 section 2.3.4, length bytes and root included.
pub(crate) const MAX_NAME_BYTES: usize = 255;
pub(crate) const MAX_LABEL_BYTES: u8 = 63;
/// RFC 2181 section 8.
pub(crate) const MAX_TTL: u32 = i32::MAX as u32;
/// Labels of the longest name: each takes two bytes at least, the root one.
const MAX_LABELS: u32 = 127;

/// A response code, RFC 1035 section 4.1.1, with the upper bits of RFC 6891 section 6.1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rcode(pub u16);

impl Rcode {
    pub const NO_ERROR: Rcode = Rcode(0);
    pub const FORM_ERR: Rcode = Rcode(1);
    pub const SERV_FAIL: Rcode = Rcode(2);
    pub const NX_DOMAIN: Rcode = Rcode(3);
    pub const NOT_IMP: Rcode = Rcode(4);
    pub const REFUSED: Rcode = Rcode(5);
    pub const BAD_VERS: Rcode = Rcode(16);
}

/// The name that IANA registered; a number for codes we never send.
impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Rcode::NO_ERROR => "NOERROR",
            Rcode::FORM_ERR => "FORMERR",
            Rcode::SERV_FAIL => "SERVFAIL",
            Rcode::NX_DOMAIN => "NXDOMAIN",
            Rcode::NOT_IMP => "NOTIMP",
            Rcode::REFUSED => "REFUSED",
            Rcode::BAD_VERS => "BADVERS",
            Rcode(other) => return write!(f, "RCODE{other}"),
        })
    }
}

/// A type of record or of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

impl RecordType {
    pub const A: RecordType = RecordType(1);
    pub const NS: RecordType = RecordType(2);
    pub const CNAME: RecordType = RecordType(5);
    pub const SOA: RecordType = RecordType(6);
    pub const MX: RecordType = RecordType(15);
    pub const TXT: RecordType = RecordType(16);
    pub const AAAA: RecordType = RecordType(28);
    pub const SRV: RecordType = RecordType(33);
    pub const OPT: RecordType = RecordType(41);
    pub const DS: RecordType = RecordType(43);
    pub const IXFR: RecordType = RecordType(251);
    pub const AXFR: RecordType = RecordType(252);
    pub const ANY: RecordType = RecordType(255);
    pub const CAA: RecordType = RecordType(257);
}

/// A valid name of the model in wire form.
pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        // The model's names have labels of at most 63 bytes.
        wire.push(u8::try_from(label.len()).unwrap_or(MAX_LABEL_BYTES));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The name without its first label; none for the root.
pub(crate) fn parent(name: &[u8]) -> Option<&[u8]> {
    let (&label, rest) = name.split_first()?;
    if label == 0 { None } else { rest.get(usize::from(label)..) }
}

/// The name itself, its parent, and so on to the root.
pub(crate) fn ancestors(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| parent(name))
}

/// Labels without the root, at most 127.
pub(crate) fn depth(name: &[u8]) -> u32 {
    let labels = ancestors(name).take(MAX_LABELS as usize + 1).count();
    u32::try_from(labels.saturating_sub(1)).unwrap_or(MAX_LABELS)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_ancestors() {
        let name = wire_name("a.bc.test");
        assert_eq!(name, b"\x01a\x02bc\x04test\0");
        let all: Vec<&[u8]> = ancestors(&name).collect();
        assert_eq!(all, [&name[..], b"\x02bc\x04test\0", b"\x04test\0", b"\0"]);
        assert_eq!((depth(&name), depth(b"\0")), (3, 0));
        assert_eq!(parent(b"\x09short"), None);
    }
}
