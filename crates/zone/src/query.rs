//! Reading a query: header, question, EDNS. The rest of the message is stepped over, and must be well formed.

use crate::wire::{
    HEADER_BYTES, MAX_LABEL_BYTES, MAX_NAME_BYTES, Rcode, RecordType, u16_at, u32_at,
};

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const OPCODE_MASK: u16 = 0x7800;

/// Why a message gets no answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// Shorter than a header: there is no id to answer with.
    Short,
    /// A response: answering it could start an endless exchange between two servers.
    Response,
}

pub(crate) struct Query<'a> {
    pub id: u16,
    /// What the answer's flags start from: the query's opcode and RD.
    pub echoed_flags: u16,
    pub question: Option<Question<'a>>,
    pub edns: Option<Edns>,
    /// Set when the answer is this code and nothing more.
    pub fault: Option<Rcode>,
}

pub(crate) struct Question<'a> {
    /// Name, type and class as they were sent, case preserved.
    pub raw: &'a [u8],
    pub kind: RecordType,
    pub class: u16,
    lower: [u8; MAX_NAME_BYTES],
    length: usize,
}

impl Question<'_> {
    /// The wire name in lower case.
    pub fn name(&self) -> &[u8] {
        self.lower.get(..self.length).unwrap_or_default()
    }
}

/// The parts of OPT that matter here, RFC 6891 section 6.1.
#[derive(Clone, Copy)]
pub(crate) struct Edns {
    pub udp_bytes: u16,
    pub dnssec_ok: bool,
    version: u8,
}

impl<'a> Query<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Query<'a>, Unanswerable> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(Unanswerable::Short)?;
        let word = |at: usize| u16_at(header, at).unwrap_or_default();
        let flags = word(2);
        if flags & FLAG_RESPONSE != 0 {
            return Err(Unanswerable::Response);
        }
        let mut query = Query {
            id: word(0),
            echoed_flags: flags & (OPCODE_MASK | FLAG_RECURSION_DESIRED),
            question: None,
            edns: None,
            fault: None,
        };
        let counts =
            Counts { questions: word(4), before: [word(6), word(8)], additional: word(10) };
        query.fault = query.read_body(bytes, &counts).err();
        Ok(query)
    }

    fn read_body(&mut self, bytes: &'a [u8], counts: &Counts) -> Result<(), Rcode> {
        if self.echoed_flags & OPCODE_MASK != 0 {
            return Err(Rcode::NOT_IMP);
        }
        if counts.questions != 1 {
            return Err(Rcode::FORM_ERR);
        }
        let (question, mut at) = read_question(bytes).ok_or(Rcode::FORM_ERR)?;
        self.question = Some(question);
        for _ in 0..counts.before.iter().map(|count| u32::from(*count)).sum() {
            let record = read_record(bytes, at).ok_or(Rcode::FORM_ERR)?;
            if record.kind == RecordType::OPT {
                return Err(Rcode::FORM_ERR);
            }
            at = record.end;
        }
        for _ in 0..counts.additional {
            let record = read_record(bytes, at).ok_or(Rcode::FORM_ERR)?;
            if record.kind == RecordType::OPT {
                self.take_opt(&record)?;
            }
            at = record.end;
        }
        self.check_end(bytes, at)
    }

    /// RFC 6891 section 6.1.1: one OPT at most, owned by the root.
    fn take_opt(&mut self, record: &Record<'_>) -> Result<(), Rcode> {
        if self.edns.is_some() || !record.at_root {
            return Err(Rcode::FORM_ERR);
        }
        let edns = Edns {
            udp_bytes: record.class,
            dnssec_ok: record.ttl & 0x8000 != 0,
            version: record.ttl.to_be_bytes()[1],
        };
        self.edns = Some(edns);
        // The options of a later version have a format that nobody knows yet.
        if edns.version == 0 && !are_options(record.data) {
            return Err(Rcode::FORM_ERR);
        }
        Ok(())
    }

    fn check_end(&self, bytes: &[u8], at: usize) -> Result<(), Rcode> {
        if self.edns.is_some_and(|edns| edns.version != 0) {
            return Err(Rcode::BAD_VERS);
        }
        if at == bytes.len() { Ok(()) } else { Err(Rcode::FORM_ERR) }
    }
}

struct Counts {
    questions: u16,
    /// Of the answer and the authority section.
    before: [u16; 2],
    additional: u16,
}

/// The first question and where it ends. A compressed name has nothing before it to point at, so it is refused.
fn read_question(bytes: &[u8]) -> Option<(Question<'_>, usize)> {
    let (mut lower, mut length) = ([0; MAX_NAME_BYTES], 0);
    loop {
        let label = *bytes.get(HEADER_BYTES + length)?;
        if label > MAX_LABEL_BYTES {
            return None;
        }
        let end = length + 1 + usize::from(label);
        let part = bytes.get(HEADER_BYTES + length..HEADER_BYTES + end)?;
        lower.get_mut(length..end)?.copy_from_slice(part);
        length = end;
        if label == 0 {
            break;
        }
    }
    // Length bytes are below the letters, so that the whole name can be lowered at once.
    lower.make_ascii_lowercase();
    let after = HEADER_BYTES + length;
    let (kind, class) = (RecordType(u16_at(bytes, after)?), u16_at(bytes, after + 2)?);
    let raw = bytes.get(HEADER_BYTES..after + 4)?;
    Some((Question { raw, kind, class, lower, length }, after + 4))
}

struct Record<'a> {
    at_root: bool,
    kind: RecordType,
    class: u16,
    ttl: u32,
    data: &'a [u8],
    end: usize,
}

fn read_record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let fixed = skip_name(bytes, at)?;
    let data = fixed + 10;
    let end = data + usize::from(u16_at(bytes, fixed + 8)?);
    Some(Record {
        at_root: fixed == at + 1,
        kind: RecordType(u16_at(bytes, fixed)?),
        class: u16_at(bytes, fixed + 2)?,
        ttl: u32_at(bytes, fixed + 4)?,
        data: bytes.get(data..end)?,
        end,
    })
}

/// Where the name at `at` ends; a compression pointer ends it, RFC 1035 section 4.1.4.
pub(crate) fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let label = *bytes.get(at)?;
        match label {
            0 => return Some(at + 1),
            0xc0.. => return bytes.get(at + 1).map(|_| at + 2),
            1..=MAX_LABEL_BYTES => at += 1 + usize::from(label),
            _ => return None,
        }
    }
}

/// RFC 6891 section 6.1.2: code, length, data, up to the end.
fn are_options(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let rest = u16_at(data, 2).and_then(|length| data.get(4 + usize::from(length)..));
        match rest {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    true
}
