//! Spans, the byte classes of RFC 9110 section 5.6 and RFC 9112, and the scans over them.
//! No grammar beyond single bytes and lists lives here.

use std::ops::Range;

/// A piece of a buffer, by offsets from the start of the slice that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Lines that end beyond `u32::MAX` are refused (see `fields::judge`), so nothing is cut off.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes in `buf`, which must begin where the parsed slice began. A span that does not fit
    /// `buf` gives nothing.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The span of `part`, given by offsets inside this span.
    pub(crate) fn within(self, start: usize, end: usize) -> Span {
        let base = self.start as usize;
        Span::new(base + start, base + end)
    }
}

/// Whether `bytes` is a token (RFC 9110 section 5.6.2): methods, field names, options.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_tchar(b))
}

/// Whether `bytes` may stand as a field value (RFC 9110 section 5.5): no control bytes but HTAB.
pub fn is_field_value(bytes: &[u8]) -> bool {
    text_end(bytes) == bytes.len()
}

const TCHAR: u8 = 1;
const TEXT: u8 = 2;
const TARGET: u8 = 4;
const UNRESERVED: u8 = 8;
const SUB_DELIM: u8 = 16;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let alnum = b.is_ascii_alphanumeric();
        if alnum || in_set(b, b"!#$%&'*+-.^_`|~") {
            table[i] |= TCHAR;
        }
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            table[i] |= TEXT;
        }
        if b > 0x20 && b != 0x7f && b != b'#' {
            table[i] |= TARGET;
        }
        if alnum || in_set(b, b"-._~") {
            table[i] |= UNRESERVED;
        }
        if in_set(b, b"!$&'()*+,;=") {
            table[i] |= SUB_DELIM;
        }
        i += 1;
    }
    table
}

const fn in_set(b: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

#[inline]
fn has(b: u8, class: u8) -> bool {
    CLASS[b as usize] & class != 0
}

#[inline]
pub(crate) fn is_tchar(b: u8) -> bool {
    has(b, TCHAR)
}

/// HTAB, SP, visible ASCII and obs-text.
#[inline]
pub(crate) fn is_text(b: u8) -> bool {
    has(b, TEXT)
}

/// Bytes that a request target may hold: no space, no control byte, no fragment.
#[inline]
pub(crate) fn is_target(b: u8) -> bool {
    has(b, TARGET)
}

/// RFC 3986 section 2.3.
#[inline]
pub(crate) fn is_unreserved(b: u8) -> bool {
    has(b, UNRESERVED)
}

/// RFC 3986 section 2.2.
#[inline]
pub(crate) fn is_sub_delim(b: u8) -> bool {
    has(b, SUB_DELIM)
}

#[inline]
pub(crate) fn is_space(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Where the text that begins `bytes` ends: the first byte that a field value may not hold.
/// Eight bytes at a time: values are the bulk of a head.
#[inline]
pub(crate) fn text_end(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        let controls = controls(u64::from_le_bytes(*chunk));
        if controls != 0 {
            let first = (controls.trailing_zeros() / 8) as usize;
            // The first mark is right, but it may be HTAB, and those behind it may be wrong.
            let end = match chunk[first] {
                b'\t' => chunk.iter().position(|&b| !is_text(b)),
                _ => Some(first),
            };
            if let Some(end) = end {
                return i * 8 + end;
            }
        }
    }
    chunks.len() * 8 + rest.iter().position(|&b| !is_text(b)).unwrap_or(rest.len())
}

/// Marks, in their top bits, the bytes that are below 0x20 or are 0x7f. The lowest mark is right;
/// a borrow may set one above it wrongly.
#[inline]
fn controls(x: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = ONES << 7;
    let below_space = x.wrapping_sub(ONES * 0x20) & !x;
    let y = x ^ (ONES * 0x7f);
    let del = y.wrapping_sub(ONES) & !y;
    (below_space | del) & HIGH
}

/// Where the token that begins `bytes` ends.
#[inline]
pub(crate) fn token_end(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        // Without a branch for each byte; most names end in the first or second chunk.
        if chunk.iter().fold(TCHAR, |all, &b| all & CLASS[b as usize]) == 0 {
            return i * 8 + chunk.iter().position(|&b| !is_tchar(b)).unwrap_or(8);
        }
    }
    chunks.len() * 8 + rest.iter().position(|&b| !is_tchar(b)).unwrap_or(rest.len())
}

/// Without the optional whitespace around it (RFC 9110 section 5.6.3).
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&b| !is_space(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&b| !is_space(b)).map_or(start, |i| i + 1);
    bytes.get(start..end).unwrap_or_default()
}

/// The elements of a comma-separated list, trimmed; empty ones are kept, as callers differ on them.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

/// The value of a hexadecimal digit.
#[inline]
pub(crate) fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The byte that the escape at the start of `bytes` stands for; nothing when it is no valid escape.
#[inline]
pub(crate) fn escape(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_the_first_control_byte_wherever_it_stands() {
        for bad in (0u8..=0x1f).chain([0x7f]).filter(|&b| b != b'\t') {
            for at in 0..20 {
                let mut bytes = vec![b'a'; 24];
                bytes[at] = bad;
                assert_eq!(text_end(&bytes), at, "byte {bad:#x} at {at}");
            }
        }
        let all: Vec<u8> = (0x20..=0xff).filter(|&b| b != 0x7f).chain([b'\t'; 9]).collect();
        assert_eq!(text_end(&all), all.len());
    }

    #[test]
    fn a_tab_hides_no_control_byte() {
        for tab in 0..16 {
            for bad in tab + 1..20 {
                let mut bytes = [b' '; 24];
                (bytes[tab], bytes[bad]) = (b'\t', 0x7f);
                assert_eq!(text_end(&bytes), bad);
            }
        }
    }

    #[test]
    fn tokens_end_where_they_end() {
        for length in 0..30 {
            let token = vec![b'a'; length];
            assert_eq!(token_end(&token), length);
            assert_eq!(token_end(&[&token, b": aaaaaaaaaaaa".as_slice()].concat()), length);
        }
    }

    #[test]
    fn a_span_that_does_not_fit_gives_nothing() {
        assert_eq!(Span::new(2, 9).of(b"abc"), b"");
        assert_eq!(Span::new(1, 3).of(b"abc"), b"bc");
        assert!(Span::new(3, 3).is_empty());
    }

    #[test]
    fn trims_spaces_and_tabs_only() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b""), b"");
    }
}
