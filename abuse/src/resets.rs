//! Streams that are opened only to be reset, by the client (CVE-2023-44487) or, provoked by it, by the server
//! (CVE-2025-8671): the connection ends before it costs the origin much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::frames::{self, Connection, END_HEADERS, END_STREAM, frame};
use crate::origin::Origin;
use crate::program::Context;
use crate::report::Report;
use crate::subject::{ABUSED, Kind, MOVED, Subject};

/// Resets until GOAWAY or the end of the connection.
const RESETS: usize = 200;
/// Requests at the origin that nobody waits for, a connection.
const CANCELLED: u64 = 100;
/// Resets that are tried, so that a server that never ends a connection is seen as such.
const TRIED: usize = 2_000;
/// An origin takes this long, unless it is told that nobody waits.
const WORK: Duration = Duration::from_secs(3);
/// Without a request at the origin for so long, none is under way to it.
const QUIET: Duration = Duration::from_millis(300);

/// What follows the head of a request to have its stream reset.
type Trigger = fn(u32) -> Vec<u8>;

struct Attack {
    name: &'static str,
    path: &'static str,
    trigger: Trigger,
    pace: Pace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Head and trigger in one write, several streams at a time.
    Burst,
    /// The trigger once the request is at the origin.
    Paced,
    /// As many streams as are allowed, then a trigger for each.
    Waves,
}

const WAVE: usize = 100;
/// What the origin works on.
const WORK_PATH: &str = "/work";

const BY_CLIENT: &[Attack] = &[
    Attack { name: "in bursts", path: WORK_PATH, trigger: rst, pace: Pace::Burst },
    Attack { name: "each once at the origin", path: WORK_PATH, trigger: rst, pace: Pace::Paced },
    Attack { name: "in waves of 100", path: WORK_PATH, trigger: rst, pace: Pace::Waves },
    Attack { name: "at a redirect, in bursts", path: MOVED, trigger: rst, pace: Pace::Burst },
];

const BY_SERVER: &[Attack] = &[
    Attack {
        name: "WINDOW_UPDATE of 0",
        path: WORK_PATH,
        trigger: window_of_zero,
        pace: Pace::Paced,
    },
    Attack {
        name: "WINDOW_UPDATE beyond 2^31",
        path: WORK_PATH,
        trigger: window_overflow,
        pace: Pace::Paced,
    },
    Attack {
        name: "DATA after the end",
        path: WORK_PATH,
        trigger: data_after_end,
        pace: Pace::Paced,
    },
    Attack {
        name: "HEADERS after the end",
        path: WORK_PATH,
        trigger: headers_after_end,
        pace: Pace::Paced,
    },
    Attack {
        name: "PRIORITY of 4 bytes",
        path: WORK_PATH,
        trigger: short_priority,
        pace: Pace::Paced,
    },
    Attack {
        name: "PRIORITY on itself",
        path: WORK_PATH,
        trigger: priority_on_itself,
        pace: Pace::Paced,
    },
    Attack {
        name: "by server and client in turn",
        path: WORK_PATH,
        trigger: either,
        pace: Pace::Paced,
    },
    Attack {
        name: "WINDOW_UPDATE of 0, in bursts",
        path: WORK_PATH,
        trigger: window_of_zero,
        pace: Pace::Burst,
    },
];

/// By the server and by the client in turn: one budget holds for both.
fn either(stream: u32) -> Vec<u8> {
    match stream % 4 {
        1 => rst(stream),
        _ => priority_on_itself(stream),
    }
}

fn rst(stream: u32) -> Vec<u8> {
    frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn window_of_zero(stream: u32) -> Vec<u8> {
    frame(frames::WINDOW_UPDATE, 0, stream, &[0; 4])
}

fn window_overflow(stream: u32) -> Vec<u8> {
    frame(frames::WINDOW_UPDATE, 0, stream, &(u32::MAX >> 1).to_be_bytes())
}

fn data_after_end(stream: u32) -> Vec<u8> {
    frame(frames::DATA, END_STREAM, stream, b"more")
}

fn headers_after_end(stream: u32) -> Vec<u8> {
    let block = frames::block([(&b"x-more"[..], &b"1"[..])]);
    frame(frames::HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

fn short_priority(stream: u32) -> Vec<u8> {
    frame(frames::PRIORITY, 0, stream, &[0; 4])
}

fn priority_on_itself(stream: u32) -> Vec<u8> {
    let mut payload = stream.to_be_bytes().to_vec();
    payload.push(16);
    frame(frames::PRIORITY, 0, stream, &payload)
}

pub fn by_client(context: &Context, report: &mut Report) -> Result<()> {
    run(context, report, BY_CLIENT)
}

pub fn by_server(context: &Context, report: &mut Report) -> Result<()> {
    run(context, report, BY_SERVER)
}

/// What the origin saw.
#[derive(Default)]
struct Work {
    began: AtomicU64,
    cancelled: AtomicU64,
    done: AtomicU64,
}

impl Work {
    fn running(&self) -> u64 {
        let began = self.began.load(Ordering::SeqCst);
        let ended = self.cancelled.load(Ordering::SeqCst) + self.done.load(Ordering::SeqCst);
        began.saturating_sub(ended)
    }

    /// The origin hears of the last ones, also of those that are still under way to it, and is done with them: none is
    /// counted with the next attack.
    fn settle(&self) {
        let end = Instant::now() + WORK + Duration::from_secs(1);
        let mut quiet = Instant::now();
        while quiet.elapsed() < QUIET && Instant::now() < end {
            sleep(Duration::from_millis(10));
            if self.running() > 0 {
                quiet = Instant::now();
            }
        }
    }
}

fn run(context: &Context, report: &mut Report, attacks: &[Attack]) -> Result<()> {
    let work = Arc::new(Work::default());
    let for_origin = Arc::clone(&work);
    let abused = Origin::start(move |peer| {
        while let Ok(Some(_)) = peer.request() {
            for_origin.began.fetch_add(1, Ordering::SeqCst);
            if peer.closes_within(WORK) {
                for_origin.cancelled.fetch_add(1, Ordering::SeqCst);
                return;
            }
            for_origin.done.fetch_add(1, Ordering::SeqCst);
            if peer.answer(b"done").is_err() {
                return;
            }
        }
    })?;
    context.beside_good_traffic(report, Kind::ALL, &abused, |subject, report| {
        for attack in attacks {
            let found = play(context, subject, attack, &work)?;
            let name = attack.name;
            let (held, figure) = match found.ended_after {
                Some(count) => (count <= RESETS, format!("{count}")),
                None => (false, format!("none in {}", found.tried)),
            };
            let limit = format!("at most {RESETS}");
            report.row(subject.name(), format!("{name}: resets to the end"), figure, limit, held);
            let cancelled = found.cancelled;
            let case = format!("{name}: cancelled at the origin");
            let limit = format!("at most {CANCELLED} a connection");
            report.row(subject.name(), case, cancelled, limit, cancelled <= CANCELLED);
        }
        Ok(())
    })
}

struct Found {
    /// Resets until the connection ended.
    ended_after: Option<usize>,
    tried: usize,
    cancelled: u64,
}

fn play(context: &Context, subject: &Subject, attack: &Attack, work: &Work) -> Result<Found> {
    let before = work.cancelled.load(Ordering::SeqCst);
    let mut streams =
        Streams { connection: Connection::open(subject.ports.h2c)?, tried: 0, last: None };
    let end = Instant::now() + context.pick(Duration::from_millis(1_200), Duration::from_secs(5));
    while streams.tried < TRIED && !streams.has_ended() && Instant::now() < end {
        match attack.pace {
            Pace::Burst => streams.burst(attack),
            Pace::Paced => streams.paced(attack, work),
            Pace::Waves => streams.wave(attack, work),
        }
    }
    let ended_after = streams.has_ended().then(|| streams.processed());
    let tried = streams.tried;
    drop(streams);
    work.settle();
    let cancelled = work.cancelled.load(Ordering::SeqCst) - before;
    Ok(Found { ended_after, tried, cancelled })
}

/// One connection and the streams that were opened on it.
struct Streams {
    connection: Connection,
    /// Streams with a trigger.
    tried: usize,
    /// The last stream that a GOAWAY with an error names.
    last: Option<u32>,
}

impl Streams {
    fn has_ended(&self) -> bool {
        self.connection.is_closed || self.last.is_some()
    }

    /// Streams that the server looked at: what was sent after its GOAWAY does not count.
    fn processed(&self) -> usize {
        match self.last {
            Some(last) if last < u32::MAX >> 1 => self.tried.min((last as usize).div_ceil(2)),
            _ => self.tried,
        }
    }

    fn look(&mut self, within: Duration) {
        for frame in self.connection.drain(within) {
            if let Some((last, code)) = frame.goaway()
                && code != 0
            {
                self.last = Some(last);
            }
        }
    }

    fn head(stream: u32, path: &str) -> Vec<u8> {
        let block = frames::get(ABUSED, path);
        frame(frames::HEADERS, END_STREAM | END_HEADERS, stream, &block)
    }

    fn id(number: usize) -> u32 {
        number as u32 * 2 + 1
    }

    fn burst(&mut self, attack: &Attack) {
        let mut bytes = Vec::new();
        for _ in 0..10 {
            let id = Self::id(self.tried);
            bytes.extend(Self::head(id, attack.path));
            bytes.extend((attack.trigger)(id));
            self.tried += 1;
        }
        self.connection.send(&bytes);
        self.look(Duration::from_millis(1));
    }

    fn paced(&mut self, attack: &Attack, work: &Work) {
        let id = Self::id(self.tried);
        let began = work.began.load(Ordering::SeqCst);
        self.connection.send(&Self::head(id, attack.path));
        await_until(Duration::from_millis(20), || work.began.load(Ordering::SeqCst) > began);
        self.connection.send(&(attack.trigger)(id));
        self.tried += 1;
        self.look(Duration::from_micros(200));
    }

    fn wave(&mut self, attack: &Attack, work: &Work) {
        let ids: Vec<u32> = (self.tried..self.tried + WAVE).map(Self::id).collect();
        let began = work.began.load(Ordering::SeqCst);
        let heads: Vec<u8> = ids.iter().flat_map(|id| Self::head(*id, attack.path)).collect();
        self.connection.send(&heads);
        let all = began + WAVE as u64;
        await_until(Duration::from_millis(200), || work.began.load(Ordering::SeqCst) >= all);
        let triggers: Vec<u8> = ids.iter().flat_map(|id| (attack.trigger)(*id)).collect();
        self.connection.send(&triggers);
        self.tried += WAVE;
        self.look(Duration::from_millis(20));
    }
}

fn await_until(patience: Duration, is_so: impl Fn() -> bool) {
    let end = Instant::now() + patience;
    while !is_so() && Instant::now() < end {
        sleep(Duration::from_micros(200));
    }
}
