//! Good traffic: HTTP/1.1 and HTTP/2 requests at a fixed rate, each with an id of its own that has to come back. It
//! runs on a thread of its own beside an abuse; latency counts from the moment at which a request was due.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use testkit::message::{self, Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until, timeout};

use crate::subject::{GOOD, Ports, Subject};

/// Requests a second.
#[derive(Clone, Copy)]
pub struct Rate {
    http1: u32,
    http2: u32,
    cpus: usize,
}

const FULL_HTTP1: u32 = 500;
const FULL_HTTP2: u32 = 200;
/// With fewer CPUs for client, origin, abuser and server the rate is less in proportion.
const FULL_CPUS: usize = 4;
const HTTP1_CONNECTIONS: u32 = 10;
const HTTP2_CONNECTIONS: u32 = 2;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);

impl Rate {
    pub fn of_this_machine() -> Rate {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let scaled = |rate: u32| rate * cpus.min(FULL_CPUS) as u32 / FULL_CPUS as u32;
        Rate { http1: scaled(FULL_HTTP1), http2: scaled(FULL_HTTP2), cpus }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "good traffic is {} requests/s of HTTP/1.1 and {} of HTTP/2 with {} CPUs \
             ({FULL_HTTP1} and {FULL_HTTP2} with {FULL_CPUS} or more)",
            self.http1, self.http2, self.cpus
        )
    }
}

/// Good traffic that runs.
pub struct Good {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub sent: u64,
    pub right: u64,
    pub first_fault: Option<String>,
    latencies_us: Vec<u64>,
}

impl Good {
    pub fn start(subject: &Subject) -> Good {
        let stop = Arc::new(AtomicBool::new(false));
        let (for_thread, ports) = (Arc::clone(&stop), subject.ports);
        let thread = thread::spawn(move || run(ports, for_thread));
        Good { stop, thread }
    }

    pub fn run_for(subject: &Subject, time: Duration) -> Tally {
        let good = Good::start(subject);
        thread::sleep(time);
        good.finish()
    }

    /// Lets what is under way come to its end.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let fault = |_| Tally {
            sent: 1,
            first_fault: Some("the client of good traffic panicked".to_owned()),
            ..Tally::default()
        };
        self.thread.join().unwrap_or_else(fault)
    }
}

impl Tally {
    /// The time within which 99 of 100 right answers came.
    pub fn p99_ms(&self) -> f64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(f64::INFINITY, |us| *us as f64 / 1e3)
    }

    fn count(&mut self, due: Instant, outcome: Result<()>) {
        self.sent += 1;
        match outcome {
            Ok(()) => {
                self.right += 1;
                self.latencies_us.push(due.elapsed().as_micros() as u64);
            }
            Err(error) => {
                self.first_fault.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

/// Ids of one process never come twice.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

fn next_path() -> (String, String) {
    let id = format!("id-{}", NEXT_ID.fetch_add(1, Ordering::Relaxed));
    (format!("/good/{id}"), id)
}

#[derive(Clone)]
struct Line {
    tally: Rc<RefCell<Tally>>,
    stop: Arc<AtomicBool>,
    period: Duration,
    first: Instant,
}

fn run(ports: Ports, stop: Arc<AtomicBool>) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Tally::default() };
    let tally = Rc::new(RefCell::new(Tally::default()));
    let rate = Rate::of_this_machine();
    let work = async {
        let line = |index: u32, lines: u32, rate: u32| {
            let period = Duration::from_secs(1) * lines / rate.max(1);
            let first = Instant::now() + period * index / lines;
            Line { tally: Rc::clone(&tally), stop: Arc::clone(&stop), period, first }
        };
        let http1 = (0..HTTP1_CONNECTIONS).map(|index| {
            let line = line(index, HTTP1_CONNECTIONS, rate.http1);
            spawn_local(http1(line, ports.http))
        });
        let mut lines: Vec<_> = http1.collect();
        lines.extend((0..HTTP2_CONNECTIONS).map(|index| {
            let line = line(index, HTTP2_CONNECTIONS, rate.http2);
            spawn_local(http2(line, ports.h2c))
        }));
        for line in lines {
            // A line that panicked is missing in the figures of right answers only if it was counted: it is not
            // expected to, and `expect` would hide the others' figures.
            if line.await.is_err() {
                tally.borrow_mut().sent += 1;
            }
        }
    };
    LocalSet::new().block_on(&runtime, work);
    tally.take()
}

impl Line {
    /// The moment of each request until the end.
    async fn next(&self, number: u32) -> Option<Instant> {
        let due = self.first + self.period * number;
        sleep_until(due).await;
        (!self.stop.load(Ordering::SeqCst)).then_some(due)
    }

    fn count(&self, due: Instant, outcome: Result<()>) {
        self.tally.borrow_mut().count(due, outcome);
    }
}

async fn http1(line: Line, address: SocketAddr) {
    let mut kept = None;
    let mut number = 0;
    while let Some(due) = line.next(number).await {
        number += 1;
        let outcome = timeout(PATIENCE, one_http1(&mut kept, address)).await;
        let outcome = outcome.unwrap_or_else(|_| bail_late());
        if outcome.is_err() {
            kept = None;
        }
        line.count(due, outcome);
    }
}

fn bail_late() -> Result<()> {
    bail!("no answer within {PATIENCE:?}")
}

async fn one_http1(kept: &mut Option<TcpStream>, address: SocketAddr) -> Result<()> {
    let (path, id) = next_path();
    let stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await.context("connecting")?;
            stream.set_nodelay(true)?;
            kept.insert(stream)
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {GOOD}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("sending a request")?;
    let mut held = Vec::with_capacity(512);
    let answer = loop {
        let parsed = message::parse(&held, Kind::Response { ended: false });
        if let Some((answer, _)) = parsed.map_err(anyhow::Error::msg)? {
            break answer;
        }
        if stream.read_buf(&mut held).await.context("reading an answer")? == 0 {
            bail!("the connection ended before the answer");
        }
    };
    let closes = answer.values("connection").any(|value| value.eq_ignore_ascii_case("close"));
    if closes {
        *kept = None;
    }
    judge(answer.status().unwrap_or_default(), &answer.body, &id)
}

fn judge(status: u16, body: &[u8], id: &str) -> Result<()> {
    match status == 200 && body == id.as_bytes() {
        true => Ok(()),
        false => bail!("{status} `{}` instead of `{id}`", body.escape_ascii()),
    }
}

async fn http2(line: Line, address: SocketAddr) {
    let mut kept: Option<SendRequest<Bytes>> = None;
    let running = Rc::new(Cell::new(0_u32));
    let mut number = 0;
    while let Some(due) = line.next(number).await {
        number += 1;
        // A connection that said GOAWAY takes no more requests, and is replaced.
        let ready = match kept.take() {
            Some(sender) => sender.ready().await.ok(),
            None => None,
        };
        let sender = match ready {
            Some(sender) => Ok(sender),
            None => timeout(PATIENCE, connect_http2(address))
                .await
                .unwrap_or_else(|_| bail!("no HTTP/2 connection within {PATIENCE:?}")),
        };
        match sender {
            Ok(sender) => {
                kept = Some(sender.clone());
                let (line, running) = (line.clone(), Rc::clone(&running));
                running.set(running.get() + 1);
                spawn_local(async move {
                    let outcome = timeout(PATIENCE, one_http2(sender)).await;
                    line.count(due, outcome.unwrap_or_else(|_| bail_late()));
                    running.set(running.get() - 1);
                });
            }
            Err(error) => line.count(due, Err(error)),
        }
    }
    while running.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connect_http2(address: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await.context("HTTP/2 handshake")?;
    // Its errors are those of the requests that it carries.
    spawn_local(async move { drop(connection.await) });
    sender.ready().await.context("HTTP/2 handshake")
}

async fn one_http2(mut sender: SendRequest<Bytes>) -> Result<()> {
    let (path, id) = next_path();
    let request = http::Request::get(format!("http://{GOOD}{path}")).body(())?;
    let (answer, _) = sender.send_request(request, true).context("sending a request")?;
    let (head, mut stream) = answer.await.context("reading an answer")?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.context("reading a body")?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    judge(head.status.as_u16(), &body, &id)
}
