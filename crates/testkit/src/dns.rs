//! DNS messages as a scenario's client writes and reads them (RFC 1035, EDNS by RFC 6891). Independent
//! of Cutwater's own code, since it judges that code.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A query, as the step `query NAME TYPE [class=CH] [opcode=4] [edns=1232] [version=1] [rd]` asks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub opcode: u8,
    /// The UDP payload size to offer.
    pub edns: Option<u16>,
    pub version: u8,
    pub recursion_desired: bool,
}

/// A response, records as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub id: u16,
    pub code: String,
    /// Those of aa, tc, ra, ad, cd that are set.
    pub flags: Vec<&'static str>,
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    /// Without the OPT record.
    pub additional: Vec<String>,
    pub edns: bool,
}

const KINDS: [(&str, u16); 14] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("OPT", OPT),
    ("AXFR", 252),
    ("ANY", 255),
    ("CAA", 257),
    ("HTTPS", 65),
];
const OPT: u16 = 41;
const CODES: [(&str, u16); 7] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("BADVERS", 16),
];
const FLAGS: [(&str, u16); 5] =
    [("aa", 0x0400), ("tc", 0x0200), ("ra", 0x0080), ("ad", 0x0020), ("cd", 0x0010)];

impl Question {
    pub fn parse(rest: &str) -> Result<Self, String> {
        let mut words = rest.split_whitespace();
        let name = words.next().ok_or("a name is needed")?.to_owned();
        let kind = kind_number(words.next().ok_or("a type is needed")?)?;
        let mut question = Self { name, kind, class: 1, ..Self::default() };
        for option in words {
            let bad = |_| format!("{option:?} is no option of a query");
            match option.split_once('=') {
                Some(("class", "CH")) => question.class = 3,
                Some(("class", number)) => question.class = number.parse().map_err(bad)?,
                Some(("opcode", number)) => question.opcode = number.parse().map_err(bad)?,
                Some(("edns", size)) => question.edns = Some(size.parse().map_err(bad)?),
                Some(("version", number)) => question.version = number.parse().map_err(bad)?,
                None if option == "rd" => question.recursion_desired = true,
                _ => return Err(format!("{option:?} is no option of a query")),
            }
        }
        Ok(question)
    }

    pub fn encode(&self, id: u16) -> Result<Vec<u8>, String> {
        let flags = u16::from(self.opcode & 15) << 11 | u16::from(self.recursion_desired) << 8;
        let counts = [1, 0, 0, u16::from(self.edns.is_some())];
        let mut bytes = Vec::new();
        for word in [id, flags].into_iter().chain(counts) {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
            bytes.push(length.ok_or_else(|| format!("the label {label:?} is too long"))?);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend_from_slice(&self.kind.to_be_bytes());
        bytes.extend_from_slice(&self.class.to_be_bytes());
        if let Some(size) = self.edns {
            bytes.extend_from_slice(&[0, 0, 41]);
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(&[0, self.version, 0, 0, 0, 0]);
        }
        Ok(bytes)
    }
}

impl Reply {
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { bytes, at: 0 };
        let mut reply = Self { id: reader.u16()?, ..Self::default() };
        let flags = reader.u16()?;
        if flags & 0x8000 == 0 {
            return Err("the QR bit is not set".to_owned());
        }
        let set = FLAGS.iter().filter(|(_, bit)| flags & bit != 0);
        reply.flags = set.map(|(name, _)| *name).collect();
        let mut code = flags & 15;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        for _ in 0..counts[0] {
            reader.name()?;
            reader.take(4)?;
        }
        for (section, count) in counts.into_iter().enumerate().skip(1) {
            for _ in 0..count {
                match (reader.record()?, section) {
                    (Record::Opt { extended_code }, _) => {
                        code |= extended_code << 4;
                        reply.edns = true;
                    }
                    (Record::Text(text), 1) => reply.answer.push(text),
                    (Record::Text(text), 2) => reply.authority.push(text),
                    (Record::Text(text), _) => reply.additional.push(text),
                }
            }
        }
        if reader.at != bytes.len() {
            return Err(format!("{} bytes after the message", bytes.len() - reader.at));
        }
        reply.code = named(&CODES, code).unwrap_or_else(|| format!("RCODE{code}"));
        Ok(reply)
    }

    pub fn section(&self, name: &str) -> &[String] {
        match name {
            "answer" => &self.answer,
            "authority" => &self.authority,
            _ => &self.additional,
        }
    }
}

enum Record {
    Text(String),
    Opt { extended_code: u16 },
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..self.at + length).ok_or("the message is cut off")?;
        self.at += length;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        let taken = self.take(2)?;
        Ok(u16::from_be_bytes([taken[0], taken[1]]))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// A name, lower case, without the last dot; the root is `.`.
    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut back_at = None;
        for _ in 0..128 {
            match self.u8()? {
                0 => {
                    self.at = back_at.unwrap_or(self.at);
                    let name = name.trim_end_matches('.').to_owned();
                    return Ok(if name.is_empty() { ".".to_owned() } else { name });
                }
                high @ 0xc0..=0xff => {
                    let low = self.u8()?;
                    back_at.get_or_insert(self.at);
                    self.at = usize::from(high & 0x3f) << 8 | usize::from(low);
                }
                length @ 1..=63 => {
                    let label = self.take(length.into())?.to_ascii_lowercase();
                    let _ = write!(name, "{}.", label.escape_ascii());
                }
                other => return Err(format!("a label of type {other:#x}")),
            }
        }
        Err("a name without end".to_owned())
    }

    fn record(&mut self) -> Result<Record, String> {
        let name = self.name()?;
        let (kind, _class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if kind == OPT {
            self.take(length)?;
            return Ok(Record::Opt { extended_code: (ttl >> 24) as u16 });
        }
        let data = self.data(kind, length)?;
        if self.at != end {
            return Err(format!("the data of {name} is not {length} bytes long"));
        }
        let kind = named(&KINDS, kind).unwrap_or_else(|| format!("TYPE{kind}"));
        Ok(Record::Text(format!("{name} {ttl} {kind} {data}")))
    }

    fn data(&mut self, kind: u16, length: usize) -> Result<String, String> {
        Ok(match (kind, length) {
            (1, 4) => {
                let octets: [u8; 4] = self.take(4)?.try_into().map_err(|_| "four bytes")?;
                Ipv4Addr::from(octets).to_string()
            }
            (28, 16) => {
                let octets: [u8; 16] = self.take(16)?.try_into().map_err(|_| "sixteen bytes")?;
                Ipv6Addr::from(octets).to_string()
            }
            (2 | 5 | 12, _) => self.name()?,
            (15, _) => format!("{} {}", self.u16()?, self.name()?),
            (33, _) => {
                format!("{} {} {} {}", self.u16()?, self.u16()?, self.u16()?, self.name()?)
            }
            (6, _) => self.start_of_authority()?,
            (16, _) => self.strings(length)?,
            (257, _) => self.authorization(length)?,
            _ => self.take(length)?.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn start_of_authority(&mut self) -> Result<String, String> {
        let names = format!("{} {}", self.name()?, self.name()?);
        let numbers = [self.u32()?, self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        Ok(numbers.iter().fold(names, |text, number| format!("{text} {number}")))
    }

    fn strings(&mut self, length: usize) -> Result<String, String> {
        let end = self.at + length;
        let mut strings = Vec::new();
        while self.at < end {
            let length = self.u8()?.into();
            strings.push(format!("\"{}\"", self.take(length)?.escape_ascii()));
        }
        Ok(strings.join(" "))
    }

    /// RFC 8659 section 4.1.
    fn authorization(&mut self, length: usize) -> Result<String, String> {
        let end = self.at + length;
        let (flags, tag_length) = (self.u8()?, self.u8()?);
        let tag = self.take(tag_length.into())?.escape_ascii().to_string();
        let left = end.checked_sub(self.at).ok_or("the tag of a CAA record is too long")?;
        Ok(format!("{flags} {tag} \"{}\"", self.take(left)?.escape_ascii()))
    }
}

fn named(table: &[(&str, u16)], number: u16) -> Option<String> {
    table.iter().find(|(_, n)| *n == number).map(|(name, _)| (*name).to_owned())
}

fn kind_number(name: &str) -> Result<u16, String> {
    let known = KINDS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
    known
        .or_else(|| name.strip_prefix("TYPE")?.parse().ok())
        .ok_or_else(|| format!("{name:?} is no type of record"))
}

/// Whether a record is as expected: words compared one by one, `*` for any, a last `*` for the rest.
pub fn record_matches(expected: &str, got: &str) -> bool {
    let mut got = got.split(' ');
    let mut expected = expected.split_whitespace().peekable();
    while let Some(word) = expected.next() {
        if word == "*" && expected.peek().is_none() {
            return got.next().is_some();
        }
        match got.next() {
            Some(text) if word == "*" || word == text => {}
            _ => return false,
        }
    }
    got.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        let question = Question::parse("a.test A edns=1232 version=1 rd").unwrap();
        let expected = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x01a\x04test\0\0\x01\0\x01\
                         \0\0\x29\x04\xd0\0\x01\0\0\0\0";
        assert_eq!(question.encode(0x1234).unwrap(), expected);
        for bad in ["a.test", "a.test NOPE", "a.test A edns=x", "a.test A what"] {
            assert!(Question::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reply_is_read() {
        let bytes = b"\x12\x34\x86\x00\0\x01\0\x02\0\x01\0\x01\x01A\x04test\0\0\x01\0\x01\
            \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01\
            \xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x05\x01x\x02yz\
            \xc0\x0e\0\x06\0\x01\0\0\0\x05\0\x1a\x01n\xc0\x0e\xc0\x0e\
            \0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\
            \0\0\x29\x04\xd0\x01\0\0\0\0\0";
        let reply = Reply::parse(bytes).unwrap();
        let expected = Reply {
            id: 0x1234,
            code: "BADVERS".to_owned(),
            flags: vec!["aa", "tc"],
            answer: vec!["a.test 60 A 127.0.0.1".into(), "a.test 60 TXT \"x\" \"yz\"".into()],
            authority: vec!["test 5 SOA n.test test 1 2 3 4 5".into()],
            additional: Vec::new(),
            edns: true,
        };
        assert_eq!(reply, expected);
        for cut in 0..bytes.len() {
            assert!(Reply::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn names_that_loop_are_refused() {
        let bytes = b"\0\0\x80\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01";
        assert_eq!(Reply::parse(bytes), Err("a name without end".to_owned()));
    }

    #[test]
    fn records_match_with_stars() {
        for (expected, got, matches) in [
            ("a.test 60 A 1.2.3.4", "a.test 60 A 1.2.3.4", true),
            ("a.test * A 1.2.3.4", "a.test 60 A 1.2.3.4", true),
            ("a.test * SOA *", "a.test 60 SOA n m 1 2", true),
            ("a.test * SOA * m * 2", "a.test 60 SOA n m 1 2", true),
            ("a.test * A", "a.test 60 A 1.2.3.4", false),
            ("a.test 60 A 1.2.3.4 5", "a.test 60 A 1.2.3.4", false),
        ] {
            assert_eq!(record_matches(expected, got), matches, "{expected}");
        }
    }
}
