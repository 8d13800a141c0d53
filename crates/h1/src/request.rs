//! The head of a request: request line, target form, effective host (RFC 9112 section 3).
//! Field lines live in `fields`, body lengths in `framing`.

use memchr::memchr;

use crate::bytes::{Span, is_target, is_tchar, token_end};
use crate::fields::{Bound, Line, judge, read_section, still_waiting, wait};
use crate::framing::{Facts, Framing, Version, version};
use crate::headers::{HeaderList, StartLine};
use crate::host;
use crate::limits::Limits;
use crate::refusal::{Reason, Refusal};
use crate::target;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token; its bytes are in [`RequestHead::method_span`].
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }
}

/// RFC 9112 sections 3.2.1 to 3.2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    Origin,
    Absolute(target::Scheme),
    /// `host:port`, for CONNECT only.
    Authority,
    /// `*`, for OPTIONS only.
    Asterisk,
}

/// A request head that was accepted. Spans lie in the parsed buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes of the head, leading empty lines and the last empty line included: the body begins here.
    pub len: usize,
    pub method: Method,
    pub method_span: Span,
    /// The target as received.
    pub target: Span,
    pub form: TargetForm,
    /// The path as received, without the query. Empty for the authority form and for an absolute
    /// form without a path (which means `/`, or `*` for OPTIONS: RFC 9112 section 3.2.4); `*` for
    /// the asterisk form.
    pub path: Span,
    /// What follows the first `?`, without it.
    pub query: Option<Span>,
    pub version: Version,
    /// The effective authority: the target's when it has one, which then wins over Host (RFC 9112
    /// section 3.2.2). Checked by [`host::parse`]. Absent only in HTTP/1.0.
    pub host: Option<Span>,
    /// `None`, `Length` or `Chunked`.
    pub framing: Framing,
    /// Whether the client would use the connection again (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The client holds its body back for a 100 (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The value of the first Upgrade field, when Connection lists `upgrade` (RFC 9110 section 7.8).
    pub upgrade: Option<Span>,
}

impl RequestHead {
    /// Path and query as received, for [`target::normalize`]; nothing for the authority form.
    pub fn path_and_query<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        let end = self.query.map_or(self.path.end, |q| q.end);
        Span { start: self.path.start, end }.of(buf)
    }
}

/// Reads a request head from the start of `buf`.
///
/// `Ok(None)` asks for more bytes: call again with the same list and the same bytes plus new ones.
/// Complete lines are not read again. Bytes behind the head (body, next request) are not looked at.
pub fn parse_request(
    buf: &[u8],
    headers: &mut HeaderList,
    limits: &Limits,
) -> Result<Option<RequestHead>, Refusal> {
    headers.resume();
    let outcome = read(buf, headers, limits);
    headers.progress.done = !matches!(outcome, Ok(None));
    outcome.map_err(Reason::in_request)
}

/// What the request line says; kept in the list while the fields are still coming.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine {
    method: Method,
    method_span: Span,
    target: Span,
    parts: Parts,
    version: Version,
}

#[derive(Clone, Copy, Debug)]
struct Parts {
    form: TargetForm,
    authority: Option<Span>,
    path: Span,
    query: Option<Span>,
}

fn read(
    buf: &[u8],
    headers: &mut HeaderList,
    limits: &Limits,
) -> Result<Option<RequestHead>, Reason> {
    if still_waiting(buf, headers) {
        return Ok(None);
    }
    let line = match headers.progress.start {
        StartLine::Request(line) => line,
        _ => match read_line(buf, headers, limits)? {
            Some(line) => line,
            None => return Ok(None),
        },
    };
    let bound = Bound { max: limits.head_bytes, fault: Reason::HeadTooLarge };
    match read_section(buf, headers, limits.headers, bound)? {
        Some(len) => finish(buf, headers, line, len).map(Some),
        None => Ok(None),
    }
}

fn finish(
    buf: &[u8],
    headers: &mut HeaderList,
    line: RequestLine,
    len: usize,
) -> Result<RequestHead, Reason> {
    let facts = Facts::of(buf, headers, line.version)?;
    let framing = match (facts.chunked, facts.length) {
        (true, _) => Framing::Chunked,
        (false, Some(n)) => Framing::Length(n),
        (false, None) => Framing::None,
    };
    // Body or tunnel: two servers could differ on what the bytes behind such a head are.
    if line.method == Method::Connect && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(Reason::ConnectWithContent);
    }
    Ok(RequestHead {
        len,
        method: line.method,
        method_span: line.method_span,
        target: line.target,
        form: line.parts.form,
        path: line.parts.path,
        query: line.parts.query,
        version: line.version,
        host: effective_host(buf, &facts, &line)?,
        framing,
        keep_alive: facts.keep_alive(line.version),
        expect_continue: facts.expect_continue
            && !matches!(framing, Framing::None | Framing::Length(0)),
        upgrade: facts.upgrade,
    })
}

/// Host must be there once and be sound, even where the target's authority wins (RFC 9112
/// section 3.2).
fn effective_host(buf: &[u8], facts: &Facts, line: &RequestLine) -> Result<Option<Span>, Reason> {
    if facts.host_repeated {
        return Err(Reason::HostRepeated);
    }
    match facts.host {
        Some(host) => {
            host::parse(host.of(buf)).ok_or(Reason::HostInvalid)?;
        }
        None if line.version == Version::Http11 => return Err(Reason::HostMissing),
        None => {}
    }
    Ok(line.parts.authority.or(facts.host))
}

/// Empty lines before a request that are passed over: an old client sends one behind a body
/// (RFC 9112 section 2.2).
const EMPTY_LINES: usize = 2;

/// What may come before the end of the request line beside the target: empty lines, a method of up to
/// 48 bytes, version, spaces, CRLF.
const LINE_BESIDE_TARGET_BYTES: usize = 64;

fn read_line(
    buf: &[u8],
    headers: &mut HeaderList,
    limits: &Limits,
) -> Result<Option<RequestLine>, Reason> {
    let mut at = 0;
    for _ in 0..EMPTY_LINES {
        at += if buf.get(at..).unwrap_or_default().starts_with(b"\r\n") { 2 } else { 0 };
    }
    match buf.get(at) {
        None => return Ok(None),
        // What begins like no method (a TLS handshake, say) need not be waited for.
        Some(&b) if !is_tchar(b) && !b"\r\n".contains(&b) => return Err(Reason::Method),
        Some(_) => {}
    }
    let bound = line_bound(limits);
    let line = judge(buf, at, bound, request_line(buf, at, limits))?;
    let Some((line, next)) = line else {
        wait(buf, headers, bound);
        return Ok(None);
    };
    headers.progress.at = next;
    headers.progress.start = StartLine::Request(line);
    Ok(Some(line))
}

/// The nearer of the two limits that a request line can pass.
fn line_bound(limits: &Limits) -> Bound {
    let line_max = limits.target_bytes.saturating_add(LINE_BESIDE_TARGET_BYTES);
    match line_max <= limits.head_bytes {
        true => Bound { max: line_max, fault: Reason::TargetTooLong },
        false => Bound { max: limits.head_bytes, fault: Reason::HeadTooLarge },
    }
}

/// The request line at `at` and the offset behind it; nothing when the bytes end too early.
fn request_line(buf: &[u8], at: usize, limits: &Limits) -> Result<Line<RequestLine>, Reason> {
    let line = buf.get(at..).unwrap_or_default();
    let space = token_end(line);
    match line.get(space) {
        Some(b' ') if space > 0 => {}
        Some(_) => return Err(method_fault(&line[space..], space == 0)),
        None => return Ok(None),
    }
    let rest = &line[space + 1..];
    let Some(length) = rest.iter().position(|&b| !is_target(b)) else { return Ok(None) };
    if length == 0 || rest[length] != b' ' {
        return Err(target_fault(&rest[length..], length == 0));
    }
    let Some((version, behind)) = version_and_end(&rest[length + 1..])? else { return Ok(None) };
    if length > limits.target_bytes {
        return Err(Reason::TargetTooLong);
    }
    let method = Method::of(&line[..space]);
    let target = Span::new(at + space + 1, at + space + 1 + length);
    let parts = parts(method, target, &rest[..length])?;
    let method_span = Span::new(at, at + space);
    let next = at + space + 1 + length + 1 + behind;
    Ok(Some((RequestLine { method, method_span, target, parts, version }, next)))
}

/// The version at the end of a request line, and the offset behind the line.
fn version_and_end(rest: &[u8]) -> Result<Line<Version>, Reason> {
    if let Some([b'\r', b'\n', ..]) = rest.get(8..)
        && let Ok(version) = version(&rest[..8])
    {
        return Ok(Some((version, 10)));
    }
    match memchr(b'\n', rest) {
        Some(end) => Err(version_fault(&rest[..end])),
        None => Ok(None),
    }
}

/// `rest` is what follows the target, up to the LF.
#[cold]
fn version_fault(rest: &[u8]) -> Reason {
    match rest.strip_suffix(b"\r") {
        _ if rest.contains(&b' ') => Reason::TargetBytes,
        Some(line) if line.contains(&b'\r') => Reason::BareCarriageReturn,
        Some(line) => version(line).err().unwrap_or(Reason::Version),
        None if version(rest).is_ok() => Reason::BareLineFeed,
        None => Reason::Version,
    }
}

fn parts(method: Method, target: Span, bytes: &[u8]) -> Result<Parts, Reason> {
    let none = target.within(bytes.len(), bytes.len());
    match (method, bytes) {
        (Method::Connect, _) => {
            let authority = host::parse(bytes).ok_or(Reason::TargetForm)?;
            authority.port.ok_or(Reason::TargetForm)?;
            Ok(Parts {
                form: TargetForm::Authority,
                authority: Some(target),
                path: none,
                query: None,
            })
        }
        (_, [b'/', ..]) => {
            let (path, query) = path_and_query(target, bytes);
            Ok(Parts { form: TargetForm::Origin, authority: None, path, query })
        }
        (Method::Options, b"*") => {
            Ok(Parts { form: TargetForm::Asterisk, authority: None, path: target, query: None })
        }
        _ => absolute(target, bytes),
    }
}

fn absolute(target: Span, bytes: &[u8]) -> Result<Parts, Reason> {
    let url = target::absolute(bytes)?;
    host::parse(url.authority).ok_or(Reason::HostInvalid)?;
    let behind = bytes.len() - url.path_and_query.len();
    let authority = target.within(behind - url.authority.len(), behind);
    let (path, query) = path_and_query(target.within(behind, bytes.len()), url.path_and_query);
    let form = TargetForm::Absolute(url.scheme);
    Ok(Parts { form, authority: Some(authority), path, query })
}

fn path_and_query(span: Span, bytes: &[u8]) -> (Span, Option<Span>) {
    match memchr(b'?', bytes) {
        Some(i) => (span.within(0, i), Some(span.within(i + 1, bytes.len()))),
        None => (span, None),
    }
}

/// `rest` begins with the byte that ended the method.
#[cold]
fn method_fault(rest: &[u8], empty: bool) -> Reason {
    match rest {
        [b'\r', b'\n', ..] if empty => Reason::EmptyLines,
        [b'\n', ..] if empty => Reason::BareLineFeed,
        [b'\r', b'\n', ..] | [b'\n', ..] => Reason::RequestLine,
        [b'\r', ..] => Reason::BareCarriageReturn,
        _ => Reason::Method,
    }
}

/// `rest` begins with the byte that ended the target.
#[cold]
fn target_fault(rest: &[u8], empty: bool) -> Reason {
    match rest {
        [b'\r' | b'\n', ..] => Reason::RequestLine,
        [b' ', ..] if empty => Reason::RequestLine,
        _ => Reason::TargetBytes,
    }
}
