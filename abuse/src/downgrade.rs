//! What HTTP/2 can write and HTTP/1.1 must not read: CR, LF, NUL, colons and spaces in names, values and pseudo-header
//! fields, framing by fields, bodies that contradict them. Refused, or forwarded as exactly one request and answered.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::frames::{self, Connection, END_HEADERS, END_STREAM, frame};
use crate::origin::{Origin, lock};
use crate::program::Context;
use crate::report::Report;
use crate::subject::{ABUSED, Kind, Subject};

type Field = (&'static [u8], &'static [u8]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// RFC 9113 section 8.1.1: malformed, nothing reaches the origin.
    Refused,
    /// Well-formed: one request, and its answer.
    One,
    /// Malformed once its head is forwarded, maybe: one request at most.
    AtMostOne,
}

struct Injection {
    name: &'static str,
    /// Instead of the pseudo-header field of this name, or beside the others.
    fields: &'static [Field],
    body: Option<&'static [u8]>,
    expected: Expected,
}

const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: abused.test\r\n\r\n";

const fn refused(name: &'static str, fields: &'static [Field]) -> Injection {
    Injection { name, fields, body: None, expected: Expected::Refused }
}

const fn with_body(name: &'static str, fields: &'static [Field], body: &'static [u8]) -> Injection {
    Injection { name, fields, body: Some(body), expected: Expected::Refused }
}

const INJECTIONS: &[Injection] = &[
    refused("CRLF in a value", &[(b"x", b"a\r\nx-injected: 1")]),
    refused("LF in a value", &[(b"x", b"a\nx-injected: 1")]),
    refused("CR in a value", &[(b"x", b"a\rx-injected: 1")]),
    refused("NUL in a value", &[(b"x", b"a\0b")]),
    refused(
        "a request in a value",
        &[(b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")],
    ),
    refused("LF at the end of a value", &[(b"x", b"a\n")]),
    refused("CR at the beginning of a value", &[(b"x", b"\ra")]),
    refused("CRLF in a name", &[(b"x\r\nx-injected", b"1")]),
    refused("LF in a name", &[(b"x\nx-injected", b"1")]),
    refused("CR in a name", &[(b"x\rx", b"1")]),
    refused("NUL in a name", &[(b"x\0", b"1")]),
    refused("colon in a name", &[(b"x: a\r\ny", b"1")]),
    refused("colon within a name", &[(b"host:a", b"1")]),
    refused("colon at the end of a name", &[(b"x:", b"1")]),
    refused("space in a name", &[(b"x y", b"1")]),
    refused("space at the end of a name", &[(b"transfer-encoding ", b"chunked")]),
    refused("space at the beginning of a name", &[(b" x", b"1")]),
    refused("tab in a name", &[(b"x\ty", b"1")]),
    refused("empty name", &[(b"", b"1")]),
    refused("capital in a name", &[(b"X-Capital", b"1")]),
    refused("transfer-encoding", &[(b"transfer-encoding", b"chunked")]),
    refused("connection", &[(b"connection", b"close")]),
    refused("keep-alive", &[(b"keep-alive", b"1")]),
    refused("upgrade", &[(b"upgrade", b"websocket")]),
    refused("proxy-connection", &[(b"proxy-connection", b"close")]),
    refused("te of chunked", &[(b"te", b"chunked")]),
    refused("two lengths", &[(b"content-length", b"0"), (b"content-length", b"5")]),
    refused("length that is none", &[(b"content-length", b"0x0")]),
    refused("length without a body", &[(b"content-length", b"5")]),
    refused("CRLF in :path", &[(b":path", b"/ HTTP/1.1\r\nx-injected: 1\r\nx:")]),
    refused("LF in :path", &[(b":path", b"/\nx-injected: 1")]),
    refused("space in :path", &[(b":path", b"/smuggled HTTP/1.1")]),
    refused("tab in :path", &[(b":path", b"/\tHTTP/1.1")]),
    refused("NUL in :path", &[(b":path", b"/\0")]),
    refused("empty :path", &[(b":path", b"")]),
    refused(":path without a slash", &[(b":path", b"smuggled")]),
    refused("two :path", &[(b":path", b"/"), (b":path", b"/smuggled")]),
    refused("CRLF in :method", &[(b":method", b"GET / HTTP/1.1\r\nx-injected: 1\r\nx:")]),
    refused("space in :method", &[(b":method", b"GET /smuggled")]),
    refused("empty :method", &[(b":method", b"")]),
    refused("two :method", &[(b":method", b"GET"), (b":method", b"POST")]),
    refused("CRLF in :authority", &[(b":authority", b"abused.test\r\nx-injected: 1")]),
    refused("space in :authority", &[(b":authority", b"abused.test evil")]),
    refused("slash in :authority", &[(b":authority", b"abused.test/smuggled")]),
    refused("user in :authority", &[(b":authority", b"abused.test@evil.test")]),
    refused("two :authority", &[(b":authority", b"abused.test"), (b":authority", b"good.test")]),
    refused("host beside :authority", &[(b"host", b"good.test")]),
    refused("two host", &[(b"host", b"abused.test"), (b"host", b"abused.test")]),
    refused("CRLF in :scheme", &[(b":scheme", b"http://a/ HTTP/1.1\r\nx-injected: 1\r\n\r\n")]),
    refused("space in :scheme", &[(b":scheme", b"http x")]),
    refused("unknown pseudo-header field", &[(b":smuggled", b"1")]),
    refused(":status in a request", &[(b":status", b"200")]),
    refused("pseudo-header field after others", &[(b"x", b"1"), (b":path", b"/smuggled")]),
    refused(":protocol that was not offered", &[(b":protocol", b"websocket")]),
    // Until the body contradicts it the head is a whole request.
    Injection {
        name: "body longer than its length",
        fields: &[(b"content-length", b"0")],
        body: Some(SMUGGLED),
        expected: Expected::AtMostOne,
    },
    with_body("body shorter than its length", &[(b"content-length", b"500")], SMUGGLED),
    with_body(
        "chunks by transfer-encoding",
        &[(b"transfer-encoding", b"chunked")],
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: abused.test\r\n\r\n",
    ),
    Injection {
        name: "body without a length",
        fields: &[],
        body: Some(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: abused.test\r\n\r\n"),
        expected: Expected::One,
    },
    Injection {
        name: "a request as the body",
        fields: &[],
        body: Some(SMUGGLED),
        expected: Expected::One,
    },
    Injection {
        name: "expect",
        fields: &[(b"expect", b"100-continue")],
        body: Some(SMUGGLED),
        expected: Expected::One,
    },
    Injection {
        name: "crumbs of a cookie",
        fields: &[(b"cookie", b"a=1"), (b"cookie", b"b=2")],
        body: None,
        expected: Expected::One,
    },
    Injection {
        name: "letters beyond ASCII in a value",
        fields: &[(b"x", b"\xff\xfe")],
        body: None,
        expected: Expected::One,
    },
];

/// What an origin saw, by the number of the injection that its path or its fields name.
#[derive(Default)]
struct Seen {
    by_number: HashMap<usize, usize>,
    /// Requests or fields that nobody sent, and bytes that are no request.
    strange: Vec<String>,
}

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let for_origin = Arc::clone(&seen);
    let abused = Origin::start(move |peer| {
        loop {
            match peer.request() {
                Ok(Some(request)) => note(&for_origin, &request),
                Ok(None) => return,
                Err(error) if error.kind() == ErrorKind::Other => {
                    lock(&for_origin).strange.push(error.to_string());
                    return;
                }
                Err(_) => return,
            }
            if peer.answer(b"seen").is_err() {
                return;
            }
        }
    })?;
    context.beside_good_traffic(report, Kind::ALL, &abused, |subject, report| {
        let mut faults = Vec::new();
        for (number, injection) in INJECTIONS.iter().enumerate() {
            *lock(&seen) = Seen::default();
            let patience = context.pick(Duration::from_millis(60), Duration::from_millis(300));
            let answered = inject(subject, injection, number, patience)?;
            let seen = std::mem::take(&mut *lock(&seen));
            if let Some(fault) = judge(injection, number, answered, &seen) {
                faults.push((injection.name, fault));
            }
        }
        let (all, right) = (INJECTIONS.len(), INJECTIONS.len() - faults.len());
        let figure = format!("{right} of {all}");
        report.row(subject.name(), "refused, or one request", figure, "all", faults.is_empty());
        for (name, fault) in faults {
            report.row(subject.name(), name, fault, "refused, or one request", false);
        }
        Ok(())
    })
}

/// The field that tells which injection a request came from, when its path does not.
const NUMBER: &str = "x-number";

fn note(seen: &Mutex<Seen>, request: &testkit::message::Message) {
    let mut seen = lock(seen);
    let number = request.values(NUMBER).next().and_then(|number| number.parse().ok());
    match number {
        Some(number) => *seen.by_number.entry(number).or_default() += 1,
        None => seen.strange.push(request.start_line.clone()),
    }
    let is_smuggled = request.start_line.contains("smuggled");
    if is_smuggled || request.values("x-injected").next().is_some() {
        seen.strange.push(request.head_text());
    }
}

fn judge(injection: &Injection, number: usize, answered: bool, seen: &Seen) -> Option<String> {
    let count = seen.by_number.get(&number).copied().unwrap_or_default();
    if let Some(strange) = seen.strange.first() {
        return Some(format!("the origin saw {}", strange.escape_debug()));
    }
    match injection.expected {
        Expected::Refused if count > 0 => Some(format!("forwarded, answered: {answered}")),
        Expected::Refused if answered => Some("answered 200".to_owned()),
        Expected::One if count == 1 && !answered => Some("not answered 200".to_owned()),
        Expected::One if count != 1 => Some(format!("{count} requests of one stream")),
        Expected::AtMostOne if count > 1 => Some(format!("{count} requests of one stream")),
        _ => None,
    }
}

/// Whether the stream was answered with 200.
fn inject(
    subject: &Subject,
    injection: &Injection,
    number: usize,
    patience: Duration,
) -> Result<bool> {
    let mut connection = Connection::open(subject.ports.h2c)?;
    let block = frames::block(fields(injection, &number.to_string()));
    match injection.body {
        None => connection.send(&frame(frames::HEADERS, END_STREAM | END_HEADERS, 1, &block)),
        Some(body) => {
            connection.send(&frame(frames::HEADERS, END_HEADERS, 1, &block));
            connection.send(&frame(frames::DATA, END_STREAM, 1, body));
        }
    }
    let end = Instant::now() + patience;
    let mut answered = false;
    while let Some(frame) = connection.next(end) {
        answered |= frame.is_ok();
        let is_last = frame.flags & END_STREAM != 0 && frame.stream == 1;
        if is_last && matches!(frame.kind, frames::HEADERS | frames::DATA)
            || frame.kind == frames::RST_STREAM
            || frame.kind == frames::GOAWAY
        {
            break;
        }
    }
    // What is under way to the origin is to arrive.
    std::thread::sleep(Duration::from_millis(10));
    Ok(answered)
}

/// The usual pseudo-header fields, but for those that the injection brings, and its number before its other fields.
fn fields<'a>(injection: &'a Injection, number: &'a str) -> Vec<(&'a [u8], &'a [u8])> {
    let method: &[u8] = if injection.body.is_some() { b"POST" } else { b"GET" };
    let usual: [(&[u8], &[u8]); 4] = [
        (b":method", method),
        (b":scheme", b"http"),
        (b":authority", ABUSED.as_bytes()),
        (b":path", b"/"),
    ];
    let is_own = |name: &[u8]| injection.fields.first().is_some_and(|(own, _)| *own == name);
    let mut fields: Vec<(&[u8], &[u8])> =
        usual.into_iter().filter(|(name, _)| !is_own(name)).collect();
    let (pseudo, regular): (Vec<&Field>, Vec<&Field>) = injection
        .fields
        .iter()
        .partition(|(name, _)| name.starts_with(b":") && injection.fields[0].0.starts_with(b":"));
    fields.extend(pseudo);
    fields.push((NUMBER.as_bytes(), number.as_bytes()));
    fields.extend(regular);
    fields
}
