//! Origins that fail in every way: a GET with a healthy peer left succeeds while no byte of an answer was passed on, a
//! POST reaches an origin at most once, and half an answer is never passed off as a whole one.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use testkit::message::Message;

use crate::client::{self, Outcome, Request};
use crate::origin::{Origin, Peer, echoed, lock};
use crate::program::Context;
use crate::report::Report;
use crate::subject::{Backend, GOOD, Kind, Site, Subject};

struct Fault {
    name: &'static str,
    /// No byte that a client could see was sent: a healthy peer can still answer a GET.
    is_before_answer: bool,
    /// The origin answers right, if slowly.
    is_harmless: bool,
    play: Play,
}

enum Play {
    /// Nobody listens.
    Refuse,
    /// On each request; false ends the connection.
    Request(fn(&mut Peer, &Message) -> io::Result<bool>),
    /// On each connection.
    Accept(fn(&mut Peer)),
}

const ATTEMPT_S: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(5);

const FAULTS: &[Fault] = &[
    Fault { name: "refuse", is_before_answer: true, is_harmless: false, play: Play::Refuse },
    before("reset-at-once", Play::Accept(Peer::reset)),
    before("reset-before-head", Play::Request(reset_before_head)),
    before("close-before-head", Play::Request(|_, _| Ok(false))),
    before("reset-in-head", Play::Request(reset_in_head)),
    before("close-in-head", Play::Request(close_in_head)),
    before("reset-when-reused", Play::Request(reset_when_reused)),
    before("stall", Play::Request(stall)),
    after("reset-after-head", Play::Request(reset_after_head)),
    after("short-of-length", Play::Request(short_of_length)),
    after("chunked-without-end", Play::Request(chunked_without_end)),
    after("chunk-cut", Play::Request(chunk_cut)),
    after("reset-until-close", Play::Request(reset_until_close)),
    after("stall-in-body", Play::Request(stall_in_body)),
    before("rubbish", Play::Request(rubbish)),
    before("bad-status", Play::Request(bad_status)),
    before("two-framings", Play::Request(two_framings)),
    Fault { name: "drip", is_before_answer: false, is_harmless: true, play: Play::Request(drip) },
];

const fn before(name: &'static str, play: Play) -> Fault {
    Fault { name, is_before_answer: true, is_harmless: false, play }
}

const fn after(name: &'static str, play: Play) -> Fault {
    Fault { name, is_before_answer: false, is_harmless: false, play }
}

fn reset_before_head(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.reset();
    Ok(false)
}

fn reset_in_head(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\ncontent-le")?;
    // The bytes are read before the reset makes them void.
    sleep(Duration::from_millis(20));
    peer.reset();
    Ok(false)
}

fn close_in_head(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\ncontent-le").map(|()| false)
}

/// The first answer is right, and its connection kept.
fn reset_when_reused(peer: &mut Peer, request: &Message) -> io::Result<bool> {
    peer.answer(&echoed(request))?;
    if peer.head()?.is_some() {
        peer.reset();
    }
    Ok(false)
}

fn stall(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.closes_within(PATIENCE);
    Ok(false)
}

fn reset_after_head(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
    sleep(Duration::from_millis(20));
    peer.reset();
    Ok(false)
}

fn short_of_length(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    let half = "x".repeat(500);
    peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{half}")).map(|()| false)
}

fn chunked_without_end(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").map(|()| false)
}

fn chunk_cut(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\nhalf").map(|()| false)
}

/// Its length is where the connection ends, and that end is none.
fn reset_until_close(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\n\r\nhalf")?;
    sleep(Duration::from_millis(20));
    peer.reset();
    Ok(false)
}

fn stall_in_body(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")?;
    peer.closes_within(PATIENCE);
    Ok(false)
}

fn rubbish(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send(b"\x16\x03\x01\x02\x00rubbish\r\nrubbish: rubbish\r\n\r\nrubbish").map(|()| false)
}

fn bad_status(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    peer.send("HTTP/1.1 2OO fine\r\ncontent-length: 2\r\n\r\nok").map(|()| false)
}

fn two_framings(peer: &mut Peer, _: &Message) -> io::Result<bool> {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    peer.send(format!("{head}3\r\nabc\r\n0\r\n\r\n")).map(|()| false)
}

fn drip(peer: &mut Peer, request: &Message) -> io::Result<bool> {
    let body = echoed(request);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    for byte in answer.into_bytes().into_iter().chain(body) {
        peer.send([byte])?;
        sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// How often a path has reached an origin.
type Seen = Arc<Mutex<HashMap<String, u32>>>;

fn note(seen: &Seen, request: &Message) {
    let target = request.request().map(|(_, target)| target.to_owned()).unwrap_or_default();
    *lock(seen).entry(target).or_default() += 1;
}

/// What refuses keeps its port without listening.
enum Faulty {
    Refuses { _bound: socket2::Socket, address: SocketAddr },
    Plays(Origin),
}

impl Faulty {
    fn start(fault: &'static Fault, seen: &Seen) -> Result<Faulty> {
        let seen = Arc::clone(seen);
        Ok(match fault.play {
            Play::Refuse => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let bound =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                bound.bind(&any.into())?;
                let address = bound.local_addr()?.as_socket().unwrap_or(any);
                Faulty::Refuses { _bound: bound, address }
            }
            Play::Accept(play) => Faulty::Plays(Origin::start(play)?),
            Play::Request(play) => Faulty::Plays(Origin::start(move |peer| {
                peer.on_request({
                    let seen = Arc::clone(&seen);
                    move |request| note(&seen, request)
                });
                while let Ok(Some(request)) = peer.request() {
                    if !matches!(play(peer, &request), Ok(true)) {
                        return;
                    }
                }
            })?),
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Faulty::Refuses { address, .. } => *address,
            Faulty::Plays(origin) => origin.address,
        }
    }
}

/// Every origin of the program, for one server.
struct Stage {
    good: Origin,
    healthy: Origin,
    faulty: Vec<Faulty>,
    seen: Seen,
}

impl Stage {
    fn start() -> Result<Stage> {
        let seen = Seen::default();
        let for_origin = Arc::clone(&seen);
        let healthy = Origin::start(move |peer| {
            while let Ok(Some(request)) = peer.request() {
                note(&for_origin, &request);
                if peer.answer(&echoed(&request)).is_err() {
                    return;
                }
            }
        })?;
        let faulty = FAULTS.iter().map(|fault| Faulty::start(fault, &seen));
        let faulty = faulty.collect::<Result<_>>()?;
        Ok(Stage { good: Origin::echo()?, healthy, faulty, seen })
    }

    fn close_idle(&self) {
        let faulty = self.faulty.iter().filter_map(|faulty| match faulty {
            Faulty::Plays(origin) => Some(origin),
            Faulty::Refuses { .. } => None,
        });
        faulty.chain([&self.good, &self.healthy]).for_each(Origin::close_idle);
    }

    /// A pair of endpoints a fault, and the faulty one alone.
    fn site(&self) -> Result<Site> {
        let mut backends = vec![Backend::new(GOOD, [self.good.address])];
        for (fault, faulty) in FAULTS.iter().zip(&self.faulty) {
            let pair = [faulty.address(), self.healthy.address];
            let name = fault.name;
            let with = |host, endpoints: &[SocketAddr]| Backend {
                attempt_timeout_s: ATTEMPT_S,
                ..Backend::new(host, endpoints)
            };
            backends.push(with(format!("pair-{name}.test"), &pair));
            backends.push(with(format!("lone-{name}.test"), &pair[..1]));
        }
        Site::new(backends)
    }
}

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let stage = Stage::start()?;
    context.each_subject(
        report,
        Kind::ALL,
        || stage.site(),
        |context, subject, report| {
            context.with_good_traffic(subject, &|| stage.close_idle(), report, |report| {
                for fault in FAULTS {
                    // What stalls takes a second a request.
                    let times = match fault.name {
                        "stall-in-body" if context.short => {
                            report.skip(fault.name, "takes too long for the short form");
                            continue;
                        }
                        "stall" | "stall-in-body" => 2,
                        _ => context.pick(4, 10),
                    };
                    play(fault, subject, &stage.seen, times, report)?;
                }
                Ok(())
            })
        },
    )
}

/// Outcomes of some requests, in words where they are not right.
#[derive(Default)]
struct Outcomes {
    right: usize,
    wrong: usize,
    silent: usize,
    others: HashMap<String, usize>,
    sent: usize,
    most_seen: u32,
}

impl Outcomes {
    fn count(&mut self, outcome: &Outcome) {
        self.sent += 1;
        match outcome {
            Outcome::Right => self.right += 1,
            Outcome::Wrong(what) => {
                self.wrong += 1;
                *self.others.entry(format!("passed on as whole: {what}")).or_default() += 1;
            }
            Outcome::Silent => {
                self.silent += 1;
                *self.others.entry("silence".to_owned()).or_default() += 1;
            }
            Outcome::Refused(status) => *self.others.entry(status.to_string()).or_default() += 1,
            Outcome::Cut => *self.others.entry("cut".to_owned()).or_default() += 1,
        }
    }

    fn text(&self) -> String {
        let mut others: Vec<String> =
            self.others.iter().map(|(what, count)| format!("{count} {what}")).collect();
        others.sort_unstable();
        let right = format!("{} of {} right", self.right, self.sent);
        std::iter::once(right).chain(others).collect::<Vec<_>>().join(", ")
    }
}

fn play(
    fault: &Fault,
    subject: &Subject,
    seen: &Seen,
    times: usize,
    report: &mut Report,
) -> Result<()> {
    let name = fault.name;
    let pair = format!("pair-{name}.test");
    let lone = format!("lone-{name}.test");
    let gets = ask(subject, "GET", &pair, times, seen, Version::Http1)?;
    if fault.is_before_answer || fault.is_harmless {
        let held = gets.right == gets.sent;
        let case = format!("{name}: GET, a healthy peer left");
        report.row(subject.name(), case, gets.text(), "all right", held);
    }
    let posts = ask(subject, "POST", &pair, times, seen, Version::Http1)?;
    let figure = format!("{} ({})", posts.most_seen, posts.text());
    let case = format!("{name}: POST reaches an origin");
    report.row(subject.name(), case, figure, "at most once", posts.most_seen <= 1);
    let alone = [
        ("HTTP/1.1", ask(subject, "GET", &lone, times, seen, Version::Http1)?),
        ("HTTP/2", ask(subject, "GET", &lone, times, seen, Version::Http2)?),
    ];
    let not_passed_on = "nothing passed on as whole";
    for (version, outcomes) in &alone {
        let held = outcomes.wrong == 0 && (!fault.is_harmless || outcomes.right == outcomes.sent);
        let limit = if fault.is_harmless { "all right" } else { not_passed_on };
        report.row(subject.name(), format!("{name}: {version}"), outcomes.text(), limit, held);
    }
    let wrong = gets.wrong + posts.wrong;
    let case = format!("{name}: beside a healthy peer");
    report.row(subject.name(), case, wrong, not_passed_on, wrong == 0);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

fn ask(
    subject: &Subject,
    method: &str,
    host: &str,
    times: usize,
    seen: &Seen,
    version: Version,
) -> Result<Outcomes> {
    let address = match version {
        Version::Http1 => subject.ports.http,
        Version::Http2 => subject.ports.h2c,
    };
    let mut outcomes = Outcomes::default();
    for number in 0..times {
        let id = format!("{method}-{number}");
        let run = version as u8 + 1;
        let path = format!("/{}/{host}/{run}/{id}", subject.name());
        let request = Request { method, host, path: &path, body: "a body", expected: &id };
        outcomes.count(&match version {
            Version::Http1 => client::http1(address, &request, PATIENCE)?,
            Version::Http2 => client::http2(address, &request, PATIENCE)?,
        });
        let times_seen = lock(seen).get(&path).copied().unwrap_or_default();
        outcomes.most_seen = outcomes.most_seen.max(times_seen);
    }
    Ok(outcomes)
}
