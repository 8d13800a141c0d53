//! Reads lines: one field line, a section of them, and what holds for every line of a head.
//! What the fields mean lives in `framing`.
//!
//! Only complete lines are judged, so that the outcome depends on the bytes and never on how they
//! were split into reads.

use memchr::memchr;

use crate::bytes::{Span, is_space, text_end, token_end};
use crate::headers::{Header, HeaderList};
use crate::known::Known;
use crate::refusal::Reason;

/// What a complete line says and the offset behind it, or nothing when its end has not come yet.
pub(crate) type Line<T> = Option<(T, usize)>;

/// How far a section may reach into the buffer, and the fault when it reaches further.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub max: usize,
    pub fault: Reason,
}

/// Reads field lines from `list.progress.at` to the empty line. Gives the offset behind it, or
/// nothing when the section is not complete.
pub(crate) fn read_section(
    buf: &[u8],
    list: &mut HeaderList,
    headers_max: usize,
    bound: Bound,
) -> Result<Option<usize>, Reason> {
    loop {
        let at = list.progress.at;
        let line = field_line(buf, at, list.is_empty());
        let Some((field, next)) = judge(buf, at, bound, line)? else {
            wait(buf, list, bound);
            return Ok(None);
        };
        let Some(header) = field else { return Ok(Some(next)) };
        if list.len() >= headers_max {
            return Err(Reason::TooManyHeaders);
        }
        list.push(header);
        list.progress.at = next;
    }
}

/// What was read of the line at `at` counts only when the line is complete and inside the bound.
#[inline]
pub(crate) fn judge<T>(
    buf: &[u8],
    at: usize,
    bound: Bound,
    line: Result<Line<T>, Reason>,
) -> Result<Line<T>, Reason> {
    match line {
        Ok(Some((_, next))) if next > bound.max.min(u32::MAX as usize) => Err(bound.fault),
        Ok(Some(line)) => Ok(Some(line)),
        Ok(None) => judge_partial(buf, at, bound, None),
        Err(reason) => judge_partial(buf, at, bound, Some(reason)),
    }
}

#[cold]
fn judge_partial<T>(
    buf: &[u8],
    at: usize,
    bound: Bound,
    fault: Option<Reason>,
) -> Result<Line<T>, Reason> {
    let end = memchr(b'\n', buf.get(at..).unwrap_or_default());
    debug_assert!(fault.is_some() || end.is_none(), "a complete line was not judged");
    match (end, fault) {
        (None, _) if buf.len() > bound.max => Err(bound.fault),
        (Some(i), Some(_)) if at + i >= bound.max => Err(bound.fault),
        (Some(_), Some(reason)) => Err(reason),
        _ => Ok(None),
    }
}

/// Remembers that no line end lies in the buffer yet.
pub(crate) fn wait(buf: &[u8], list: &mut HeaderList, bound: Bound) {
    list.progress.scanned = buf.len();
    list.progress.max = bound.max;
}

/// Whether the bytes that have come since [`wait`] can change nothing: no line end is among them.
pub(crate) fn still_waiting(buf: &[u8], list: &HeaderList) -> bool {
    let progress = &list.progress;
    progress.scanned > 0
        && buf.len() <= progress.max
        && memchr(b'\n', buf.get(progress.scanned..).unwrap_or_default()).is_none()
}

/// One field line (RFC 9112 section 5); no header for the empty line.
#[inline]
fn field_line(buf: &[u8], at: usize, first: bool) -> Result<Line<Option<Header>>, Reason> {
    let line = buf.get(at..).unwrap_or_default();
    if let Some(b'\r') = line.first() {
        return Ok(line_end(line, 0)?.map(|next| (None, at + next)));
    }
    let colon = token_end(line);
    match line.get(colon) {
        Some(b':') if colon > 0 => {}
        Some(_) => return Err(name_fault(&line[colon..], colon == 0, first)),
        None => return Ok(None),
    }
    let text = &line[colon + 1..];
    let lead = text.iter().position(|&b| !is_space(b)).unwrap_or(text.len());
    let stop = colon + 1 + lead + text_end(&text[lead..]);
    let Some(next) = line_end(line, stop)? else { return Ok(None) };
    let value = &line[colon + 1 + lead..stop];
    let length = value.iter().rposition(|&b| !is_space(b)).map_or(0, |i| i + 1);
    let start = at + colon + 1 + lead;
    let header = Header {
        name: Span::new(at, at + colon),
        value: Span::new(start, start + length),
        known: Known::of_token(&line[..colon]),
    };
    Ok(Some((Some(header), at + next)))
}

/// The offset behind the CRLF at `stop`; nothing when the bytes end too early to tell.
#[inline]
pub(crate) fn line_end(line: &[u8], stop: usize) -> Result<Option<usize>, Reason> {
    match line.get(stop..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(Some(stop + 2)),
        [] | [b'\r'] => Ok(None),
        [b'\r', ..] => Err(Reason::BareCarriageReturn),
        [b'\n', ..] => Err(Reason::BareLineFeed),
        _ => Err(Reason::HeaderValue),
    }
}

/// Why a field name is none; `rest` begins with the byte that ended it.
#[cold]
fn name_fault(rest: &[u8], empty: bool, first: bool) -> Reason {
    let behind_spaces = rest.iter().copied().find(|&b| !is_space(b));
    match rest.first() {
        Some(b' ' | b'\t') if empty && first => Reason::SpaceBeforeHeaders,
        Some(b' ' | b'\t') if empty => Reason::FoldedHeader,
        Some(b' ' | b'\t') if behind_spaces == Some(b':') => Reason::SpaceBeforeColon,
        Some(b'\n') if empty => Reason::BareLineFeed,
        Some(b'\r') if rest.get(1) != Some(&b'\n') => Reason::BareCarriageReturn,
        _ => Reason::HeaderName,
    }
}
