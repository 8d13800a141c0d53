//! Request smuggling, differential: payloads on which servers have disagreed, each on a kept connection before a
//! canary, through the server to origins of four makes. Between server and origin a tap records what is forwarded: the
//! origin has to see the requests that the server meant, and the client gets an answer for each and no other.

mod origins;
mod payloads;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testkit::message::{self, Kind as Part, Message};

use crate::client::{Read1, read_until};
use crate::origin::Origin;
use crate::program::Context;
use crate::report::Report;
use crate::subject::{Backend, GOOD, Kind, Site, Subject};
use origins::{Make, Tapped, Wire};
use payloads::Payload;

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let good = Origin::echo()?;
    let mut origins = Vec::new();
    for make in Make::ALL {
        match Tapped::start(*make) {
            Ok(origin) => origins.push(origin),
            Err(error) => report.skip(format!("origin {}", make.name()), format!("{error:#}")),
        }
    }
    let close_idle = || {
        good.close_idle();
        origins.iter().for_each(Tapped::close);
    };
    let site = || {
        let abused = origins.iter().map(|origin| Backend::new(origin.host(), [origin.address]));
        Site::new(std::iter::once(Backend::new(GOOD, [good.address])).chain(abused).collect())
    };
    context.each_subject(report, Kind::ALL, site, |context, subject, report| {
        context.with_good_traffic(subject, &close_idle, report, |report| {
            // Origins do not disturb each other.
            let played: Vec<Result<Played>> = std::thread::scope(|scope| {
                let play = |origin| scope.spawn(move || play(context, subject, origin));
                let threads: Vec<_> = origins.iter().map(play).collect();
                let ended = threads.into_iter().map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
                });
                ended.collect()
            });
            for (origin, played) in origins.iter().zip(played) {
                played?.judge(subject, origin, report);
            }
            Ok(())
        })
    })
}

/// What came of all payloads at one origin.
#[derive(Default)]
struct Played {
    payloads: usize,
    /// Payloads of which something reached the origin.
    forwarded: usize,
    faults: Vec<Fault>,
}

struct Fault {
    payload: String,
    rule: Rule,
    what: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Requests answered are requests seen.
    Boundaries,
    /// Exactly one of Content-Length and Transfer-Encoding, in a well-formed head.
    Framing,
    /// The next client gets its own answer.
    Pool,
}

const RULES: &[(Rule, &str)] = &[
    (Rule::Boundaries, "requests answered are requests seen"),
    (Rule::Framing, "forwarded with one framing"),
    (Rule::Pool, "the next client's answer is its own"),
];

impl Played {
    fn judge(&self, subject: &Subject, origin: &Tapped, report: &mut Report) {
        let make = origin.make.name();
        for (rule, text) in RULES {
            let faults: Vec<&Fault> = self.faults.iter().filter(|f| f.rule == *rule).collect();
            let right = self.payloads - faults.len();
            let figure = format!("{right} of {} ({} forwarded)", self.payloads, self.forwarded);
            let case = format!("to {make}: {text}");
            report.row(subject.name(), case, figure, "all", faults.is_empty());
            for fault in faults {
                let case = format!("to {make}: {}", fault.payload);
                report.row(subject.name(), case, &fault.what, *text, false);
            }
        }
    }
}

fn play(context: &Context, subject: &Subject, origin: &Tapped) -> Result<Played> {
    let mut played = Played::default();
    for payload in payloads::all(&origin.host()) {
        let exchange = Exchange {
            address: subject.ports.http,
            host: origin.host(),
            number: played.payloads,
            patience: context.pick(Duration::from_millis(250), Duration::from_millis(1_200)),
            pause: context.pick(Duration::from_millis(30), Duration::from_millis(60)),
        };
        played.payloads += 1;
        let found = one(&exchange, origin, &payload)?;
        played.forwarded += usize::from(found.is_forwarded);
        let fault = |(rule, what)| Fault { payload: payload.name.clone(), rule, what };
        played.faults.extend(found.faults.into_iter().map(fault));
    }
    Ok(played)
}

struct Exchange {
    address: SocketAddr,
    host: String,
    number: usize,
    /// For the canary's answer: a payload may leave the server waiting for the rest of a body.
    patience: Duration,
    /// Between payload and canary.
    pause: Duration,
}

#[derive(Default)]
struct Found {
    is_forwarded: bool,
    faults: Vec<(Rule, String)>,
}

fn one(exchange: &Exchange, origin: &Tapped, payload: &Payload) -> Result<Found> {
    origin.forget();
    let answers = send(exchange, payload)?;
    // What the server gives up reaches the tap in a moment.
    std::thread::sleep(Duration::from_millis(10));
    let wires = origin.recorded();
    let mut found = Found { is_forwarded: !wires.is_empty(), faults: Vec::new() };
    match (forwarded(&wires), &answers) {
        (Err(error), _) => found.faults.push((Rule::Framing, error)),
        (Ok(forwarded), Ok(answers)) => {
            if let Some(fault) = disagree(&forwarded, answers) {
                found.faults.push((Rule::Boundaries, fault));
            }
        }
        (Ok(_), Err(error)) => {
            found.faults.push((Rule::Boundaries, format!("no HTTP for the client: {error}")));
        }
    }
    if let Err(error) = next_client(exchange) {
        found.faults.push((Rule::Pool, format!("{error:#}")));
    }
    Ok(found)
}

fn canary(exchange: &Exchange, which: &str) -> (String, String) {
    let path = format!("/canary-{which}-{}", exchange.number);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", exchange.host);
    (path, request)
}

/// Sends a payload and its canary; the answers that came, whole.
fn send(exchange: &Exchange, payload: &Payload) -> Result<Result<Vec<Message>, String>> {
    let mut stream = TcpStream::connect(exchange.address).context("connecting")?;
    stream.set_nodelay(true)?;
    let mut held = Vec::new();
    let (path, canary) = canary(exchange, "same");
    // Failing writes mean that the server has closed: what it answered before is read all the same.
    let _ = stream.write_all(&payload.bytes);
    let quiet = Instant::now() + exchange.pause;
    let mut state = Read1::Late;
    while state != Read1::Closed && state != Read1::Reset && Instant::now() < quiet {
        state = read_until(&mut stream, &mut held, quiet);
    }
    let _ = stream.write_all(canary.as_bytes());
    let end = Instant::now() + exchange.patience;
    loop {
        let is_ended = matches!(state, Read1::Closed | Read1::Reset);
        let answers = answers(&held, is_ended);
        let has_canary = |answers: &Vec<Message>| answers.iter().any(|a| seen(a) == Some(&path));
        if is_ended || state == Read1::Late && Instant::now() >= end {
            return Ok(answers);
        }
        if answers.as_ref().is_ok_and(has_canary) || answers.is_err() {
            return Ok(answers);
        }
        state = read_until(&mut stream, &mut held, end);
    }
}

/// Final answers off the front; a tunnel's bytes after 101 are none.
fn answers(mut bytes: &[u8], ended: bool) -> Result<Vec<Message>, String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let Some((answer, length)) = message::parse(bytes, Part::Response { ended })? else {
            break;
        };
        bytes = &bytes[length..];
        match answer.status() {
            Some(101) => break,
            Some(100..=199) => {}
            _ => answers.push(answer),
        }
    }
    Ok(answers)
}

/// The target that an origin says it has seen.
fn seen(answer: &Message) -> Option<&str> {
    answer.values("x-seen").next()
}

/// One connection to an origin, as the tap read it.
#[derive(Default)]
struct Forwarded {
    /// Targets of requests, in order; the last may be without the end of its body.
    targets: Vec<String>,
    whole: usize,
    /// Targets that the origin says it has seen; `None` is a refusal of its own: one request, whichever it was.
    seen: Vec<Option<String>>,
}

fn forwarded(wires: &[Wire]) -> Result<Vec<Forwarded>, String> {
    wires.iter().map(forwarded_on).collect()
}

fn forwarded_on(wire: &Wire) -> Result<Forwarded, String> {
    let mut found = Forwarded::default();
    let mut bytes = wire.to_origin.as_slice();
    while let Some((head, _)) = message::parse(bytes, Part::HeadOnly)? {
        framed_once(&head)?;
        let (_, target) = head.request().ok_or("a request line without a target")?;
        found.targets.push(path_of(target));
        let Some((_, length)) = message::parse(bytes, Part::Request)? else { break };
        found.whole += 1;
        bytes = &bytes[length..];
    }
    let answers = answers(&wire.from_origin, true)
        .map_err(|error| format!("what the origin answered cannot be read: {error}"))?;
    found.seen = answers.iter().map(|answer| seen(answer).map(str::to_owned)).collect();
    Ok(found)
}

/// Some origins tell the path only, of the absolute form too.
fn path_of(target: &str) -> String {
    let rest = target.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let path = rest.map_or_else(|| target.to_owned(), |(_, path)| format!("/{path}"));
    path.split('?').next().unwrap_or_default().to_owned()
}

/// RFC 9112 section 6.3: one framing where there is a body, none or an empty one where there is not.
fn framed_once(head: &Message) -> Result<(), String> {
    let count = |name: &str| head.values(name).count();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    let has_body_by_method = head.start_line.starts_with("POST ");
    match lengths + codings {
        0 if !has_body_by_method => Ok(()),
        1 => Ok(()),
        _ => Err(format!(
            "{lengths} lengths and {codings} codings: {}",
            head.head_text().escape_debug()
        )),
    }
}

/// Why answered and seen are not the same.
fn disagree(connections: &[Forwarded], answers: &[Message]) -> Option<String> {
    let mut all_seen = Vec::new();
    for connection in connections {
        let Forwarded { targets, whole, seen } = connection;
        let is_other = |(seen, target): (&Option<String>, &String)| {
            seen.as_deref().is_some_and(|seen| path_of(seen) != *target)
        };
        if seen.len() > targets.len()
            || seen.len() < *whole
            || seen.iter().zip(targets).any(is_other)
        {
            return Some(format!("forwarded {targets:?} ({whole} whole), the origin saw {seen:?}"));
        }
        all_seen.extend(seen.iter().flatten().map(|seen| path_of(seen)));
    }
    let mut answered: Vec<String> = answers.iter().filter_map(seen).map(path_of).collect();
    answered.sort_unstable();
    all_seen.sort_unstable();
    (answered != all_seen).then(|| format!("answered {answered:?}, the origin saw {all_seen:?}"))
}

/// A client after the payload's: on the connections to the origin that were kept.
fn next_client(exchange: &Exchange) -> Result<()> {
    let (path, request) = canary(exchange, "next");
    let mut stream = TcpStream::connect(exchange.address).context("connecting")?;
    stream.write_all(request.as_bytes())?;
    let (mut held, end) = (Vec::new(), Instant::now() + Duration::from_secs(5));
    loop {
        let answers = answers(&held, false).map_err(anyhow::Error::msg)?;
        if let Some(answer) = answers.first() {
            anyhow::ensure!(
                seen(answer) == Some(path.as_str()),
                "asked for {path}, got {}",
                answer.head_text().escape_debug()
            );
            return Ok(());
        }
        let state = read_until(&mut stream, &mut held, end);
        anyhow::ensure!(state == Read1::Bytes, "no answer: {state:?}");
    }
}
