//! Writing an answer: header, compressed names (RFC 1035 section 4.1.4), whole record sets up to a limit.

use crate::data::Set;
use crate::query::{Edns, Query};
use crate::wire::{HEADER_BYTES, Rcode, RecordType, ancestors, parent};

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const OPT_BYTES: usize = 11;
/// The first offset that a pointer cannot reach.
const POINTER_END: usize = 0x4000;
/// Names remembered for compression, in labels: enough for a question, its zone and some targets.
const REMEMBERED: usize = 32;

#[derive(Clone, Copy)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record set did not fit and was not written.
#[derive(Debug)]
pub(crate) struct Full;

pub(crate) struct Flags {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub truncated: bool,
}

pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    suffixes: [Suffix; REMEMBERED],
    remembered: usize,
    questions: u16,
    question_end: usize,
}

/// Where a name, or the end of one, stands in the message.
#[derive(Clone, Copy, Default)]
struct Suffix {
    at: u16,
    /// In wire form without compression: what makes most comparisons needless.
    length: u8,
}

impl<'o> Writer<'o> {
    /// Starts with room for the header and with the question as it was asked.
    pub fn new(out: &'o mut Vec<u8>, query: &Query<'_>, limit: usize) -> Self {
        out.clear();
        out.resize(HEADER_BYTES, 0);
        let reserved = if query.edns.is_some() { OPT_BYTES } else { 0 };
        let mut writer = Writer {
            out,
            limit: limit.saturating_sub(reserved),
            counts: [0; 3],
            suffixes: [Suffix::default(); REMEMBERED],
            remembered: 0,
            questions: 0,
            question_end: HEADER_BYTES,
        };
        if let Some(question) = &query.question {
            for name in ancestors(question.name()) {
                writer.remember(HEADER_BYTES + question.name().len() - name.len(), name);
            }
            writer.out.extend_from_slice(question.raw);
            writer.questions = 1;
            writer.question_end = writer.out.len();
        }
        writer
    }

    /// The whole set, or nothing of it.
    pub fn set(&mut self, section: Section, owner: &[u8], set: &Set) -> Result<(), Full> {
        let (start, remembered) = (self.out.len(), self.remembered);
        let mut records = 0u16;
        for (fixed, data) in set.records() {
            self.name(owner);
            self.out.extend_from_slice(fixed);
            self.data(set.kind, data);
            if self.out.len() > self.limit {
                self.out.truncate(start);
                self.remembered = remembered;
                return Err(Full);
            }
            records = records.saturating_add(1);
        }
        let count = &mut self.counts[section as usize];
        *count = count.saturating_add(records);
        Ok(())
    }

    /// Back to the question: what a truncated answer holds, as a part of an answer misleads (RFC 2181 section 9).
    pub fn clear_sections(&mut self) {
        self.out.truncate(self.question_end);
        self.counts = [0; 3];
    }

    pub fn finish(self, query: &Query<'_>, flags: &Flags) {
        let mut bits = query.echoed_flags | FLAG_RESPONSE | (flags.rcode.0 & 0xf);
        bits |= if flags.authoritative { FLAG_AUTHORITATIVE } else { 0 };
        bits |= if flags.truncated { FLAG_TRUNCATED } else { 0 };
        let [answer, authority, mut additional] = self.counts;
        if let Some(edns) = &query.edns {
            write_opt(self.out, edns, flags.rcode);
            additional = additional.saturating_add(1);
        }
        let words = [query.id, bits, self.questions, answer, authority, additional];
        for (place, word) in self.out.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Length and data. Only the types of RFC 1035 may be compressed, RFC 3597 section 4.
    fn data(&mut self, kind: RecordType, data: &[u8]) {
        let before = match kind {
            RecordType::NS | RecordType::CNAME | RecordType::SOA => 0,
            RecordType::MX => 2,
            _ => return self.plain_data(data),
        };
        let start = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        let (numbers, mut rest) = data.split_at_checked(before).unwrap_or((data, &[]));
        self.out.extend_from_slice(numbers);
        for _ in 0..if kind == RecordType::SOA { 2 } else { 1 } {
            let root = ancestors(rest).last().map_or(0, <[u8]>::len);
            let length = rest.len() - root + 1;
            let (name, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.name(name);
            rest = after;
        }
        self.out.extend_from_slice(rest);
        let length = u16::try_from(self.out.len() - start - 2).unwrap_or(u16::MAX);
        if let Some(place) = self.out.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn plain_data(&mut self, data: &[u8]) {
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(data);
    }

    fn name(&mut self, name: &[u8]) {
        let mut rest = name;
        while rest.len() > 1 {
            if let Some(at) = self.position(rest) {
                self.out.extend_from_slice(&(0xc000 | at).to_be_bytes());
                return;
            }
            self.remember(self.out.len(), rest);
            let after = parent(rest).unwrap_or_default();
            self.out.extend_from_slice(&rest[..rest.len() - after.len()]);
            rest = after;
        }
        self.out.push(0);
    }

    fn position(&self, name: &[u8]) -> Option<u16> {
        self.suffixes[..self.remembered]
            .iter()
            .filter(|suffix| usize::from(suffix.length) == name.len())
            .find(|suffix| self.reads_as(usize::from(suffix.at), name))
            .map(|suffix| suffix.at)
    }

    /// The question keeps its case, so case is ignored. Pointers lead backwards only: they are our own.
    fn reads_as(&self, mut at: usize, mut name: &[u8]) -> bool {
        while let Some(&label) = self.out.get(at) {
            if label >= 0xc0 {
                at = (usize::from(label & 0x3f) << 8)
                    | usize::from(self.out.get(at + 1).copied().unwrap_or_default());
                continue;
            }
            let end = 1 + usize::from(label);
            match (self.out.get(at..at + end), name.get(..end)) {
                (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
                _ => return false,
            }
            if label == 0 {
                return true;
            }
            (at, name) = (at + end, &name[end..]);
        }
        false
    }

    fn remember(&mut self, at: usize, name: &[u8]) {
        let room = self.suffixes.get_mut(self.remembered);
        if let (Some(room), Ok(length), Ok(place)) =
            (room, u8::try_from(name.len()), u16::try_from(at))
            && at < POINTER_END
            && length > 1
        {
            *room = Suffix { at: place, length };
            self.remembered += 1;
        }
    }
}

/// RFC 6891 section 6.1: our UDP size, the code's upper bits, version 0, DO as it was asked (RFC 3225 section 3).
fn write_opt(out: &mut Vec<u8>, edns: &Edns, rcode: Rcode) {
    let size = u16::try_from(model::limits::DNS_EDNS_BYTES).unwrap_or(u16::MAX);
    let upper = u8::try_from(rcode.0 >> 4).unwrap_or_default();
    out.push(0);
    out.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&[upper, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0]);
    out.extend_from_slice(&[0, 0]);
}
