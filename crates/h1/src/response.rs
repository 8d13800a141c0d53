//! The head of a response: status line, and the framing that depends on the request
//! (RFC 9112 sections 4 and 6.3).

use crate::bytes::{Span, text_end};
use crate::fields::{Bound, Line, judge, line_end, read_section, still_waiting, wait};
use crate::framing::{Facts, Framing, Version, version};
use crate::headers::{HeaderList, StartLine};
use crate::limits::Limits;
use crate::refusal::{Reason, Refusal};
use crate::request::Method;

/// A response head that was accepted. Spans lie in the parsed buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, the last empty line included: the body begins here.
    pub len: usize,
    pub version: Version,
    /// Three digits, 100 to 999 (RFC 9110 section 15).
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: Span,
    pub framing: Framing,
    /// Whether the origin would use the connection again, once the body has ended by its framing.
    pub keep_alive: bool,
    /// The value of the first Upgrade field, when Connection lists `upgrade` (RFC 9110 section 7.8).
    pub upgrade: Option<Span>,
}

impl ResponseHead {
    /// Another head follows for the same request (RFC 9110 section 15.2). Not so after 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a response head from the start of `buf`; `request_method` is that of the request that it
/// answers. Used again and again as [`crate::parse_request`] is.
pub fn parse_response(
    buf: &[u8],
    headers: &mut HeaderList,
    request_method: Method,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Refusal> {
    headers.resume();
    let outcome = read(buf, headers, request_method, limits);
    headers.progress.done = !matches!(outcome, Ok(None));
    outcome.map_err(Reason::in_response)
}

/// What the status line says; kept in the list while the fields are still coming.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
}

fn read(
    buf: &[u8],
    headers: &mut HeaderList,
    request_method: Method,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Reason> {
    if still_waiting(buf, headers) {
        return Ok(None);
    }
    let bound = Bound { max: limits.head_bytes, fault: Reason::HeadTooLarge };
    let line = match headers.progress.start {
        StartLine::Status(line) => line,
        _ => match read_line(buf, headers, bound)? {
            Some(line) => line,
            None => return Ok(None),
        },
    };
    match read_section(buf, headers, limits.headers, bound)? {
        Some(len) => finish(buf, headers, request_method, line, len).map(Some),
        None => Ok(None),
    }
}

fn finish(
    buf: &[u8],
    headers: &mut HeaderList,
    request_method: Method,
    line: StatusLine,
    len: usize,
) -> Result<ResponseHead, Reason> {
    let facts = Facts::of(buf, headers, line.version)?;
    let framing = framing(&facts, request_method, line.status);
    Ok(ResponseHead {
        len,
        version: line.version,
        status: line.status,
        reason: line.reason,
        framing,
        keep_alive: facts.keep_alive(line.version) && framing != Framing::UntilClose,
        upgrade: facts.upgrade,
    })
}

/// RFC 9112 section 6.3, in its order.
fn framing(facts: &Facts, request_method: Method, status: u16) -> Framing {
    let bodiless = request_method == Method::Head || matches!(status, 100..=199 | 204 | 304);
    let tunnel = request_method == Method::Connect && (200..=299).contains(&status);
    match facts.length {
        _ if bodiless || tunnel => Framing::None,
        _ if facts.chunked => Framing::Chunked,
        Some(n) => Framing::Length(n),
        None => Framing::UntilClose,
    }
}

fn read_line(
    buf: &[u8],
    headers: &mut HeaderList,
    bound: Bound,
) -> Result<Option<StatusLine>, Reason> {
    let Some((line, next)) = judge(buf, 0, bound, status_line(buf))? else {
        wait(buf, headers, bound);
        return Ok(None);
    };
    headers.progress.at = next;
    headers.progress.start = StartLine::Status(line);
    Ok(Some(line))
}

/// `HTTP/1.1 200 reason`. The space before an empty reason may be missing: many origins leave it
/// out, and nothing else could be meant.
fn status_line(buf: &[u8]) -> Result<Line<StatusLine>, Reason> {
    let stop = text_end(buf);
    let Some(next) = line_end(buf, stop).map_err(status_line_fault)? else { return Ok(None) };
    let line = &buf[..stop];
    let version = version(line.get(..8).ok_or(Reason::StatusLine)?)?;
    let (code, reason) = match line.get(8..).unwrap_or_default() {
        [b' ', a, b, c] | [b' ', a, b, c, b' ', ..] => {
            ([*a, *b, *c], Span::new(13.min(stop), stop))
        }
        _ => return Err(Reason::StatusLine),
    };
    Ok(Some((StatusLine { version, status: status(code)?, reason }, next)))
}

fn status(code: [u8; 3]) -> Result<u16, Reason> {
    let number = code.iter().try_fold(0u16, |n, b| match b {
        b'0'..=b'9' => Some(n * 10 + u16::from(b - b'0')),
        _ => None,
    });
    number.filter(|&n| n >= 100).ok_or(Reason::StatusLine)
}

#[cold]
fn status_line_fault(reason: Reason) -> Reason {
    match reason {
        Reason::HeaderValue => Reason::StatusLine,
        other => other,
    }
}
