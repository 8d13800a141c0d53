//! The caller-owned list of field lines, used again for one head after another.
//! How lines are read lives in `fields`.

use std::ops::{Deref, Range};

use crate::bytes::{Span, list};
use crate::encode;
use crate::known::Known;
use crate::request::RequestLine;
use crate::response::StatusLine;

/// One field line; the spans lie in the buffer that was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Span,
    /// Without the whitespace around it.
    pub value: Span,
    pub known: Known,
}

impl Header {
    #[inline]
    pub fn name(self, buf: &[u8]) -> &[u8] {
        self.name.of(buf)
    }

    #[inline]
    pub fn value(self, buf: &[u8]) -> &[u8] {
        self.value.of(buf)
    }

    /// Where the line lies, if it was received as it would be written: one space behind the colon, none at the end.
    #[inline]
    fn plain_line(self, buf: &[u8]) -> Option<Range<usize>> {
        let (name, value) = (self.name.range(), self.value.range());
        let is_plain = value.start == name.end + 2
            && buf.get(name.end..value.start) == Some(b": ")
            && buf.get(value.end..value.end + 2) == Some(b"\r\n");
        is_plain.then_some(name.start..value.end + 2)
    }
}

/// The field lines of one head, in order, and how far an unfinished head was read.
///
/// A list serves one message at a time: the same list goes into every call until the head is whole,
/// with a buffer that only grows at its end. The next head clears it. Call [`HeaderList::clear`] to
/// give up a head in the middle.
#[derive(Clone, Debug, Default)]
pub struct HeaderList {
    entries: Vec<Header>,
    pub(crate) nominations: bool,
    pub(crate) progress: Progress,
}

/// Where reading goes on when more bytes have come. Complete lines are never read twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Start of the first line that is not complete.
    pub at: usize,
    /// No line end lies between `at` and here.
    pub scanned: usize,
    /// The incomplete line may reach to here and no further.
    pub max: usize,
    pub start: StartLine,
    /// The head is whole or refused: the next call begins a new one.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum StartLine {
    #[default]
    Unread,
    Request(RequestLine),
    Status(StatusLine),
}

impl HeaderList {
    pub fn new() -> HeaderList {
        HeaderList::default()
    }

    /// With room for `headers` lines before it allocates.
    pub fn with_capacity(headers: usize) -> HeaderList {
        HeaderList { entries: Vec::with_capacity(headers), ..HeaderList::default() }
    }

    /// Keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.nominations = false;
        self.progress = Progress::default();
    }

    /// The first line of that meaning; nothing for `Known::Other`.
    pub fn find(&self, known: Known) -> Option<Header> {
        self.entries.iter().copied().find(|h| h.known == known && known != Known::Other)
    }

    /// The first line of that name, in any case.
    pub fn find_name(&self, buf: &[u8], name: &[u8]) -> Option<Header> {
        self.entries.iter().copied().find(|h| h.name(buf).eq_ignore_ascii_case(name))
    }

    /// Whether the sender's Connection field names this one, so that a proxy removes it (RFC 9110
    /// section 7.6.1). Never for Host and Content-Length: the next hop needs them, whatever a sender
    /// claims. Cheap when Connection names nothing unusual.
    pub fn is_nominated(&self, buf: &[u8], header: Header) -> bool {
        self.nominations
            && !matches!(header.known, Known::Host | Known::ContentLength)
            && self.connection_options(buf).any(|o| o.eq_ignore_ascii_case(header.name(buf)))
    }

    /// Not to be forwarded: hop-by-hop by its name, or nominated by Connection.
    pub fn is_hop_by_hop(&self, buf: &[u8], header: Header) -> bool {
        header.known.is_hop_by_hop() || self.is_nominated(buf, header)
    }

    fn connection_options<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.entries
            .iter()
            .filter(|h| h.known == Known::Connection)
            .flat_map(|h| list(h.value(buf)))
    }

    /// Appends the lines that `keep` says yes to, each as `name: value` and CRLF. Neighbours that were received in this
    /// form, as most are, are copied in one piece.
    pub fn copy_lines(&self, buf: &[u8], out: &mut Vec<u8>, mut keep: impl FnMut(Header) -> bool) {
        let mut run = 0..0;
        for header in self.entries.iter().copied().filter(|header| keep(*header)) {
            let Some(line) = header.plain_line(buf) else {
                out.extend_from_slice(buf.get(run).unwrap_or_default());
                run = 0..0;
                encode::header(out, header.name(buf), header.value(buf));
                continue;
            };
            if line.start != run.end {
                out.extend_from_slice(buf.get(run).unwrap_or_default());
                run = line.start..line.start;
            }
            run.end = line.end;
        }
        out.extend_from_slice(buf.get(run).unwrap_or_default());
    }

    pub(crate) fn push(&mut self, header: Header) {
        self.entries.push(header);
    }

    /// Begins a new head unless one is being read.
    pub(crate) fn resume(&mut self) {
        if self.progress.done {
            self.clear();
        }
    }
}

impl Deref for HeaderList {
    type Target = [Header];

    fn deref(&self) -> &[Header] {
        &self.entries
    }
}
