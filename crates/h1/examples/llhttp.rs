//! Runs the vectors of the llhttp project against the codec: `llhttp DIR [--json FILE]`.
//!
//! A vector is Markdown: a heading, a comment with its type, a block of bytes, and the log of events
//! that llhttp gives. Each is fed whole and byte by byte. What is compared: accepted or refused, and
//! of accepted messages method or status, target, fields, body and trailer fields.
//!
//! Differences that no vector is about are bridged here, in the open:
//! * Most vectors have no Host. Where that alone is why we refuse an HTTP/1.1 request, the runner adds
//!   one and looks again.
//! * A `lenient-*` vector turns a check of llhttp off. We have no such switch: we pass when we refuse,
//!   or when we agree with the log.
//! * llhttp refuses within a line, we when the line is complete: for a vector that must be refused the
//!   runner ends the last line.
//! * Many vectors about other things have a fragment in the target, which we refuse. Outside `uri.md`
//!   and `url.md`, which are about targets, the runner takes it out, of the log too, and looks again.
//! * Bytes behind a message with `Connection: close` are an error to llhttp; we would close unread.
//! * llhttp pauses on request; a decoder that is only called with bytes has nothing to pause.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use h1::{
    BodyDecoder, Event, Framing, HeaderList, Limits, Method, Preface, Reason, TargetForm,
    is_http2_preface, parse_request, parse_response, target::Scheme,
};

/// Where we are stricter or narrower on purpose: the reason, and the cases.
const SKIPPED: &[(&str, &[&str])] = &[
    (
        "llhttp can be told to skip a body; ours is always read by its framing",
        &["request/content-length.md: Content-Length reset when no body is received"],
    ),
    (
        "any token is a method (RFC 9110 section 9.1); llhttp has a closed list",
        &[
            "request/invalid.md: HTTP protocol and ANNOUNCE method",
            "request/invalid.md: Invalid method",
        ],
    ),
    (
        "stricter: CONNECT has no content (RFC 9110 section 9.3.6), and whether the bytes behind a \
         length are body or tunnel is what two servers could differ on",
        &["request/method.md: CONNECT with body"],
    ),
    (
        "stricter: the asterisk form is for OPTIONS only (RFC 9112 section 3.2.4)",
        &["request/method.md: M-SEARCH request", "request/method.md: PRI request HTTP2"],
    ),
    (
        "narrower: we speak HTTP/1.0 and HTTP/1.1, not RTSP, ICE or HTTP/0.9",
        &[
            "request/method.md: SOURCE request with ICE",
            "request/method.md: OPTIONS request with RTSP",
            "request/method.md: ANNOUNCE request with RTSP",
            "request/sample.md: No HTTP version",
            "response/sample.md: RTSP response",
            "response/sample.md: ICE response",
            "response/sample.md: HTTP version 0.9",
        ],
    ),
    (
        "narrower: chunked is the only transfer coding we know, others get 501 (RFC 9112 section 6.1)",
        &[
            "request/transfer-encoding.md: POST with `chunked` as last transfer-encoding",
            "request/transfer-encoding.md: POST with `chunked` as last transfer-encoding (multiple headers)",
        ],
    ),
    (
        "stricter: a response whose last transfer coding is not chunked is an error of the origin; \
         llhttp reads it until the connection closes (RFC 9112 section 6.3)",
        &[
            "response/transfer-encoding.md: `chunked` before other transfer-encoding",
            "response/transfer-encoding.md: multiple transfer-encoding where chunked is not the last one",
            "response/transfer-encoding.md: `chunkedchunked` transfer-encoding does not enable chunked \
             enconding",
        ],
    ),
    (
        "stricter: empty lines are passed over before a request only (RFC 9112 section 2.2); bytes \
         between two responses mean that the origin's connection is out of step",
        &[
            "response/connection.md: HTTP 304 with Content-Length",
            "response/connection.md: HTTP 100 first, then 400",
            "response/pipelining.md: Should parse multiple events",
            "response/sample.md: Response starting with CRLF",
        ],
    ),
    (
        "stricter: a target has no fragment (RFC 9112 section 3.2)",
        &[
            "request/uri.md: Fragment in URI",
            "url.md: URL tests: Absolute URL",
            "url.md: URL tests: Relative URL",
            "url.md: URL tests: URL fragment",
            "url.md: URL tests: Complex URL fragment",
            "url.md: URL tests: Complex URL from node.js url parser doc",
            "url.md: URL tests: Complex URL with basic auth from node.js url parser doc",
        ],
    ),
    (
        "stricter: user information in a target is refused (RFC 9110 section 4.2.4)",
        &[
            "request/uri.md: `host:port` and basic auth",
            "url.md: URL tests: Proxy basic auth with url encoded space",
            "url.md: URL tests: Proxy basic auth with unreserved chars",
        ],
    ),
    (
        "stricter: an IPv6 zone has a meaning on its own host only and is not part of RFC 3986",
        &[
            "url.md: URL tests: IPv6 address with Zone ID",
            "url.md: URL tests: IPv6 address with Zone ID, but `%` is not percent-encoded",
        ],
    ),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(dir) = args.next() else {
        eprintln!("usage: llhttp DIR [--json FILE]");
        return ExitCode::from(64);
    };
    let json = match (args.next().as_deref(), args.next()) {
        (None, _) => None,
        (Some("--json"), Some(file)) => Some(file),
        _ => {
            eprintln!("usage: llhttp DIR [--json FILE]");
            return ExitCode::from(64);
        }
    };
    let report = match run(Path::new(&dir)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("cannot read the vectors in {dir}: {error}");
            return ExitCode::from(2);
        }
    };
    for (case, why) in &report.failed {
        println!("FAILED {case}\n    {why}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        report.passed,
        report.failed.len(),
        report.skipped.len()
    );
    if let Some(file) = json
        && let Err(error) = std::fs::write(&file, report.json())
    {
        eprintln!("cannot write {file}: {error}");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(!report.failed.is_empty()))
}

#[derive(Debug, Default)]
pub struct Report {
    pub passed: usize,
    pub failed: Vec<(String, String)>,
    pub skipped: Vec<(String, String)>,
}

impl Report {
    fn json(&self) -> String {
        let skipped: Vec<_> = self
            .skipped
            .iter()
            .map(|(case, reason)| serde_json::json!({"case": case, "reason": reason}))
            .collect();
        serde_json::json!({
            "name": "http", "passed": self.passed, "failed": self.failed.len(), "skipped": skipped,
        })
        .to_string()
    }
}

/// Runs every vector under `dir`.
pub fn run(dir: &Path) -> std::io::Result<Report> {
    let mut report = Report::default();
    let mut reasons: BTreeMap<&str, &str> =
        SKIPPED.iter().flat_map(|(reason, cases)| cases.iter().map(|c| (*c, *reason))).collect();
    for vector in vectors(dir)? {
        let outcome = check(&vector);
        match (outcome, reasons.remove(vector.name.as_str())) {
            (Ok(()), None) => report.passed += 1,
            (Err(why), None) => report.failed.push((vector.name, why)),
            (Err(_), Some(reason)) => report.skipped.push((vector.name, reason.to_owned())),
            (Ok(()), Some(_)) => {
                report.failed.push((vector.name, "is listed as skipped, but passes".to_owned()));
            }
        }
    }
    for name in reasons.into_keys() {
        report
            .failed
            .push((name.to_owned(), "is listed as skipped, but does not exist".to_owned()));
    }
    Ok(report)
}

// ---- the vectors, as files --------------------------------------------------------------------

struct Vector {
    name: String,
    /// `request`, `response-lenient-headers`, `url`, ...
    kind: String,
    skip_body: bool,
    input: Vec<u8>,
    log: Vec<String>,
}

fn vectors(dir: &Path) -> std::io::Result<Vec<Vector>> {
    let mut files = Vec::new();
    for folder in ["", "request", "response"] {
        for entry in std::fs::read_dir(dir.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let label = file.strip_prefix(dir).unwrap_or(&file).display().to_string();
        read_file(&label, &std::fs::read_to_string(&file)?, &mut all);
    }
    Ok(all)
}

fn read_file(label: &str, text: &str, all: &mut Vec<Vector>) {
    let mut headings: Vec<(usize, &str)> = Vec::new();
    let mut meta = serde_json::Value::Null;
    let mut input = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix('#') {
            let title = heading.trim_start_matches('#');
            let depth = heading.len() - title.len();
            headings.retain(|(above, _)| *above < depth);
            headings.push((depth, title.trim()));
            meta = serde_json::Value::Null;
        } else if let Some(found) = line.trim().strip_prefix("<!-- meta=") {
            let found = found.trim_end_matches("-->").trim();
            meta = serde_json::from_str(found).expect("the meta comment is JSON");
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            match language {
                "http" | "url" => input = Some(bytes_of(&block, language == "url")),
                _ => all.push(Vector {
                    name: headings.iter().fold(label.to_owned(), |name, (_, h)| name + ": " + h),
                    kind: meta["type"].as_str().unwrap_or("url").to_owned(),
                    skip_body: meta["skipBody"] == true,
                    input: input.take().expect("a log follows its input"),
                    log: block.into_iter().map(str::to_owned).collect(),
                }),
            }
        }
    }
}

/// A backslash at the end joins lines; other line ends are CRLF (none in a URL); then escapes.
fn bytes_of(block: &[&str], url: bool) -> Vec<u8> {
    let text = block.join("\n").replace("\\\n", "").replace('\n', if url { "" } else { "\r\n" });
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let (escaped, length) = match rest.as_bytes() {
            [b'\\', b'r', ..] => ('\r', 2),
            [b'\\', b'n', ..] => ('\n', 2),
            [b'\\', b't', ..] => ('\t', 2),
            [b'\\', b'f', ..] => ('\x0c', 2),
            [b'\\', b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                let code = u8::from_str_radix(&rest[2..4], 16).expect("two hexadecimal digits");
                (char::from(code), 4)
            }
            _ => (c, c.len_utf8()),
        };
        out.push(escaped);
        rest = &rest[length..];
    }
    out.into_bytes()
}

// ---- what the log expects ---------------------------------------------------------------------

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    method: String,
    target: String,
    /// The reason phrase of a response.
    reason: String,
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    head_done: bool,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The bytes are used up, between messages or in one.
    Open,
    Refused,
    /// What follows is another protocol.
    Upgraded,
}

#[derive(Debug)]
struct Expected {
    messages: Vec<Message>,
    end: End,
    /// What ending the connection here would mean: 0 sound, 1 ends the body, 2 truncated.
    finish: Option<u8>,
    url: BTreeMap<String, String>,
}

fn expected(vector: &Vector) -> Result<Expected, String> {
    let mut log =
        Expected { messages: Vec::new(), end: End::Open, finish: None, url: BTreeMap::new() };
    let mut open = Fields::default();
    for line in &vector.log {
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest);
        if let Some(error) = rest.strip_prefix("error code=") {
            log.end = match error.split(' ').next() {
                Some("22" | "23") => End::Upgraded,
                _ => End::Refused,
            };
        } else if let Some(finish) = rest.strip_prefix("finish=") {
            log.finish = finish.parse().ok();
        } else if let Some((name, text)) = span(line, &vector.input)? {
            match name.strip_prefix("url.") {
                Some(part) => *log.url.entry(part.to_owned()).or_default() += &lossy(&text),
                None => open.span(log.messages.last_mut(), name, &text),
            }
        } else if rest == "message begin" {
            log.messages.push(Message::default());
            open = Fields::default();
        } else if let Some(message) = log.messages.last_mut() {
            open.event(message, rest);
        }
    }
    Ok(log)
}

/// The field that is being built from spans.
#[derive(Default)]
struct Fields {
    name: String,
    value: String,
}

impl Fields {
    fn span(&mut self, message: Option<&mut Message>, name: &str, text: &[u8]) {
        let Some(message) = message else { return };
        match name {
            "method" => message.method += &lossy(text),
            "url" => message.target += &lossy(text),
            "status" => message.reason += &lossy(text),
            "header_field" => self.name += &lossy(text),
            "header_value" => self.value += &lossy(text),
            "body" => message.body.extend_from_slice(text),
            _ => {}
        }
    }

    fn event(&mut self, message: &mut Message, event: &str) {
        if event == "header_value complete" {
            let field = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
            let field = (field.0, field.1.trim_matches([' ', '\t']).to_owned());
            let fields =
                if message.head_done { &mut message.trailers } else { &mut message.fields };
            fields.push(field);
        } else if let Some(facts) = event.strip_prefix("headers complete") {
            message.head_done = true;
            let status = facts.split("status=").nth(1).and_then(|s| s.split(' ').next());
            message.status = status.and_then(|s| s.parse().ok()).unwrap_or(0);
        } else if event == "message complete" {
            message.done = true;
        }
    }
}

/// `off=0 len=3 span[method]="GET"`: the bytes are taken from the input, and the text, where it is
/// plain, says whether the input was read as its author meant it.
fn span<'a>(line: &'a str, input: &[u8]) -> Result<Option<(&'a str, Vec<u8>)>, String> {
    let Some((place, rest)) = line.split_once(" span[") else { return Ok(None) };
    let Some((name, text)) = rest.split_once("]=") else { return Ok(None) };
    let number = |part: &str| part.split('=').nth(1).and_then(|n| n.parse::<usize>().ok());
    let mut parts = place.split(' ').map(number);
    let (Some(Some(off)), Some(Some(len))) = (parts.next(), parts.next()) else {
        return Err(format!("the log line `{line}` has no place"));
    };
    let bytes = input.get(off..off + len).ok_or(format!("`{line}` is outside the input"))?.to_vec();
    let plain = text.trim_matches('"');
    let quoted = text.starts_with('"') && !plain.contains(['\\', '"']);
    if quoted && plain != lossy(&bytes).trim_matches('"') {
        return Err(format!("`{line}` is not at its place: {:?}", lossy(&bytes)));
    }
    Ok(Some((name, bytes)))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// ---- what the codec does ----------------------------------------------------------------------

struct Peer {
    /// The method of the request that the responses answer; nothing where requests are read.
    response_to: Option<Method>,
    drop_fragments: bool,
    buf: Vec<u8>,
    fields: HeaderList,
    messages: Vec<Message>,
    phase: Phase,
}

enum Phase {
    Head,
    Body {
        decoder: BodyDecoder,
        keep_alive: bool,
        upgrade: bool,
    },
    /// The last message said that the connection ends.
    Closing,
    Upgraded,
    Refused(Reason),
}

const LIMITS: Limits = Limits::DEFAULT;
const ADDED_HOST: &[u8] = b"Host: added.test\r\n";

impl Peer {
    fn new(response_to: Option<Method>, drop_fragments: bool) -> Peer {
        Peer {
            response_to,
            drop_fragments,
            buf: Vec::new(),
            fields: HeaderList::new(),
            messages: Vec::new(),
            phase: Phase::Head,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        loop {
            let went_on = match &self.phase {
                Phase::Head => self.head(),
                Phase::Body { .. } => self.body(),
                Phase::Closing => {
                    let rest = self.buf.iter().any(|b| !b"\r\n".contains(b));
                    if rest {
                        self.phase = Phase::Refused(Reason::RequestLine);
                    }
                    false
                }
                Phase::Upgraded | Phase::Refused(_) => false,
            };
            if !went_on {
                return;
            }
        }
    }

    fn head(&mut self) -> bool {
        if self.response_to.is_none() && is_http2_preface(&self.buf) == Preface::Yes {
            self.phase = Phase::Upgraded;
            return false;
        }
        let outcome = match self.response_to {
            None => self.request_head(),
            Some(method) => self.response_head(method),
        };
        match outcome {
            Ok(went_on) => went_on,
            Err(Reason::HostMissing) => {
                let at = self.request_line().end + 2;
                self.buf.splice(at..at, ADDED_HOST.iter().copied());
                true
            }
            Err(Reason::TargetBytes) if self.drop_fragments && self.fragment().is_some() => {
                self.buf.drain(self.fragment().expect("just found"));
                true
            }
            Err(reason) => {
                self.phase = Phase::Refused(reason);
                false
            }
        }
    }

    /// Of a complete head, without the line end.
    fn request_line(&self) -> std::ops::Range<usize> {
        let blank = self.buf.iter().take_while(|b| b"\r\n".contains(b)).count();
        let line = self.buf[blank..].windows(2).position(|w| w == b"\r\n");
        blank..blank + line.unwrap_or(0)
    }

    fn fragment(&self) -> Option<std::ops::Range<usize>> {
        let line = self.request_line();
        let start = line.start + self.buf[line.clone()].iter().position(|&b| b == b'#')?;
        let length = self.buf[start..line.end].iter().position(|&b| b == b' ')?;
        Some(start..start + length)
    }

    fn request_head(&mut self) -> Result<bool, Reason> {
        let head = parse_request(&self.buf, &mut self.fields, &LIMITS).map_err(|r| r.reason)?;
        let Some(head) = head else { return Ok(false) };
        let message = Message {
            method: lossy(head.method_span.of(&self.buf)),
            target: lossy(head.target.of(&self.buf)),
            ..self.message(&self.fields, &self.buf)
        };
        let upgrade = head.upgrade.is_some() || head.method == Method::Connect;
        self.begin_body(message, head.len, head.framing, head.keep_alive, upgrade);
        Ok(true)
    }

    fn response_head(&mut self, method: Method) -> Result<bool, Reason> {
        let head = parse_response(&self.buf, &mut self.fields, method, &LIMITS);
        let Some(head) = head.map_err(|r| r.reason)? else { return Ok(false) };
        let message = Message {
            status: head.status,
            reason: lossy(head.reason.of(&self.buf)),
            ..self.message(&self.fields, &self.buf)
        };
        self.begin_body(message, head.len, head.framing, head.keep_alive, head.status == 101);
        Ok(true)
    }

    fn message(&self, fields: &HeaderList, buf: &[u8]) -> Message {
        Message { fields: texts(fields, buf), head_done: true, ..Message::default() }
    }

    fn begin_body(
        &mut self,
        message: Message,
        len: usize,
        framing: Framing,
        keep_alive: bool,
        upgrade: bool,
    ) {
        let keep_alive = keep_alive || framing == Framing::UntilClose;
        self.phase = Phase::Body { decoder: BodyDecoder::new(framing), keep_alive, upgrade };
        self.messages.push(message);
        self.buf.drain(..len);
    }

    fn body(&mut self) -> bool {
        let Phase::Body { decoder, keep_alive, upgrade } = &mut self.phase else { return false };
        let message = self.messages.last_mut().expect("a body has a head");
        let step = match decoder.decode(&self.buf, &LIMITS) {
            Ok(step) => step,
            Err(reason) => {
                self.phase = Phase::Refused(reason);
                return false;
            }
        };
        let more = step.event == Event::More;
        match step.event {
            Event::Data(range) => message.body.extend_from_slice(&self.buf[range]),
            Event::More => {}
            Event::End => {
                message.done = true;
                message.trailers =
                    decoder.trailers().map_or(Vec::new(), |t| texts(t.fields(), t.bytes()));
                self.phase = match (*upgrade, *keep_alive) {
                    (true, _) => Phase::Upgraded,
                    (_, true) => Phase::Head,
                    (_, false) => Phase::Closing,
                };
            }
        }
        self.buf.drain(..step.consumed);
        !more
    }

    fn end(&self) -> End {
        match self.phase {
            Phase::Refused(_) => End::Refused,
            Phase::Upgraded => End::Upgraded,
            _ => End::Open,
        }
    }

    /// As `Expected::finish`.
    fn finish(&self) -> u8 {
        match &self.phase {
            Phase::Body { decoder: BodyDecoder::UntilClose, .. } => 1,
            Phase::Body { decoder, .. } if decoder.end_of_input().is_err() => 2,
            Phase::Head if !self.buf.is_empty() => 2,
            _ => 0,
        }
    }
}

fn texts(fields: &HeaderList, buf: &[u8]) -> Vec<(String, String)> {
    fields
        .iter()
        .filter(|h| !ADDED_HOST.ends_with(&[h.value(buf), b"\r\n"].concat()) || h.value.is_empty())
        .map(|h| (lossy(h.name(buf)), lossy(h.value(buf))))
        .collect()
}

// ---- the comparison ---------------------------------------------------------------------------

fn check(vector: &Vector) -> Result<(), String> {
    let mut log = expected(vector)?;
    if vector.kind == "url" {
        return check_url(vector, &log);
    }
    let drop_fragments = !vector.name.starts_with("request/uri.md");
    if drop_fragments {
        for message in &mut log.messages {
            let end = message.target.find('#').unwrap_or(message.target.len());
            message.target.truncate(end);
        }
    }
    let lenient = vector.kind.contains("-lenient-");
    let whole = drive(vector, &log, vector.input.len(), drop_fragments);
    let split = drive(vector, &log, 1, drop_fragments);
    if whole.messages != split.messages || whole.end() != split.end() {
        return Err(format!("differs byte by byte: {:?} and {:?}", whole.messages, split.messages));
    }
    match compare(&log, &whole) {
        Err(_) if lenient && end_line(whole).end() == End::Refused => Ok(()),
        outcome => outcome,
    }
}

/// The peer that the bytes of the vector make, given in steps.
fn drive(vector: &Vector, log: &Expected, step: usize, drop_fragments: bool) -> Peer {
    let response_to = match (vector.kind.starts_with("response"), vector.skip_body) {
        (true, true) => Some(Method::Head),
        (true, false) => Some(Method::Get),
        _ => None,
    };
    let mut peer = Peer::new(response_to, drop_fragments);
    vector.input.chunks(step.max(1)).for_each(|bytes| peer.feed(bytes));
    match log.end {
        End::Refused => end_line(peer),
        _ => peer,
    }
}

fn end_line(mut peer: Peer) -> Peer {
    if matches!(peer.phase, Phase::Head) && !peer.buf.is_empty() {
        peer.feed(b"\r\n\r\n");
    }
    peer
}

fn compare(log: &Expected, ours: &Peer) -> Result<(), String> {
    let fault = match ours.phase {
        Phase::Refused(reason) => format!(" ({})", reason.slug()),
        _ => String::new(),
    };
    if log.end != ours.end() {
        return Err(format!("expected {:?}, got {:?}{fault}", log.end, ours.end()));
    }
    if log.finish.is_some_and(|f| f != ours.finish()) {
        return Err(format!("expected finish {:?}, got {}", log.finish, ours.finish()));
    }
    let mut wanted = log.messages.iter().filter(|m| m.head_done);
    let mut got = ours.messages.iter();
    loop {
        match (wanted.next(), got.next()) {
            (None, None) => return Ok(()),
            // llhttp judges the coding behind the head, we in it.
            (Some(w), None) if log.end == End::Refused && !w.done && w.body.is_empty() => {}
            (Some(w), Some(g)) if log.end == End::Refused && !w.done => same_head(w, g)?,
            (Some(w), Some(g)) if w == g => {}
            (w, g) => return Err(difference(w, g)),
        }
    }
}

/// A refused message: how much of its body came before is no one's promise.
fn same_head(wanted: &Message, got: &Message) -> Result<(), String> {
    let head =
        |m: &Message| Message { body: Vec::new(), trailers: Vec::new(), done: false, ..m.clone() };
    match head(wanted) == head(got) && got.body.starts_with(&wanted.body) {
        true => Ok(()),
        false => Err(difference(Some(wanted), Some(got))),
    }
}

fn difference(wanted: Option<&Message>, got: Option<&Message>) -> String {
    let mut out = String::new();
    let _ = write!(out, "expected {wanted:?}\n    got      {got:?}");
    out
}

fn check_url(vector: &Vector, log: &Expected) -> Result<(), String> {
    let request =
        [b"GET ", vector.input.as_slice(), b" HTTP/1.1\r\n", ADDED_HOST, b"\r\n"].concat();
    let mut fields = HeaderList::new();
    let head = match (parse_request(&request, &mut fields, &LIMITS), log.end) {
        (Err(_), End::Refused) => return Ok(()),
        (Ok(Some(head)), End::Open) => head,
        (outcome, end) => return Err(format!("expected {end:?}, got {outcome:?}")),
    };
    let mut parts = BTreeMap::new();
    let mut put = |name: &str, bytes: &[u8]| parts.insert(name.to_owned(), lossy(bytes));
    if let TargetForm::Absolute(scheme) = head.form {
        put("schema", if scheme == Scheme::Http { b"http" } else { b"https" });
        put("host", head.host.unwrap_or_default().of(&request));
    }
    put("path", head.path.of(&request));
    if let Some(query) = head.query {
        put("query", query.of(&request));
    }
    match parts == log.url {
        true => Ok(()),
        false => Err(format!("expected {:?}, got {parts:?}", log.url)),
    }
}
