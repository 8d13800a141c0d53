//! Slow clients: heads that come byte by byte, bodies that do, answers that are not read. Good traffic holds, a
//! connection costs little, and a head that does not end is cut off in time. slowhttptest is a further client.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::limits::HEAD_TIMEOUT_MS;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::origin::Origin;
use crate::program::{Context, is_back};
use crate::report::Report;
use crate::subject::{ABUSED, Kind, Subject, Vitals};

const CONNECTIONS: usize = 4_000;
const SHORT_CONNECTIONS: usize = 300;
const KIB_A_CONNECTION: f64 = 32.0;
/// What comes, comes this slowly.
const DRIP: Duration = Duration::from_secs(1);
/// What was in use is given back by then, where the server does.
const SETTLE_PATIENCE: Duration = Duration::from_secs(4);
/// With good traffic, and nothing else.
const SETTLED_DESCRIPTORS: u64 = 80;
/// What a busy server has to accept all of them.
const TAKEN_PATIENCE: Duration = Duration::from_secs(8);
/// So many are opened before the next pause, and closed: no accept queue runs over, and the machine's time does not go to
/// the attacker and its origins, whose threads begin and end with connections.
const BATCH: usize = 100;
const BATCH_PAUSE: Duration = Duration::from_millis(20);
/// Each of these moves some hundred KiB before it stalls.
const UNREAD_BATCH_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    Head,
    Body,
    Read,
}

const ALL: &[(Slow, &str)] =
    &[(Slow::Head, "slow heads"), (Slow::Body, "slow bodies"), (Slow::Read, "answers not read")];

/// More than a server should hold for one client.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'x'; 1 << 20]);
/// Fewer of those that do not read: what the kernel holds for them is taken from everybody on the machine.
const UNREAD_CONNECTIONS: usize = 1_000;
/// In the send buffer of a client's connection.
const QUEUED_KIB_A_CONNECTION: f64 = 256.0;

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let abused = Origin::start(|peer| {
        // The proxy is to hold little for a client; neither is the kernel.
        let _ = socket2::SockRef::from(&peer.stream).set_send_buffer_size(16 << 10);
        while let Ok(Some(_)) = peer.request() {
            if peer.answer(&LARGE).is_err() {
                return;
            }
        }
    })?;
    context.beside_good_traffic(report, Kind::ALL, &abused, |subject, report| {
        let count = context.pick(SHORT_CONNECTIONS, CONNECTIONS);
        let before = subject.vitals()?;
        for (slow, name) in ALL {
            let count = match slow {
                Slow::Read => count.min(UNREAD_CONNECTIONS),
                _ => count,
            };
            attack(context, subject, *slow, name, count, report)?;
            abused.close_idle();
            settle(subject, &before)?;
        }
        others(context, subject, report)
    })
}

/// Waits until what the last attack left is closed and given back, where the server does: it does not count for the next.
fn settle(subject: &Subject, before: &Vitals) -> Result<()> {
    let end = Instant::now() + SETTLE_PATIENCE;
    let is_settled = |now: &Vitals| {
        now.descriptors <= SETTLED_DESCRIPTORS && is_back(now.resident_kib, before.resident_kib)
    };
    while !is_settled(&subject.vitals()?) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How connections of one kind ended.
#[derive(Default)]
struct Ends {
    opened: usize,
    open: usize,
    longest: Duration,
}

/// What the server held while all were open, and how they ended.
struct Held {
    peak: Vitals,
    /// By the kernel, for clients that do not read.
    queued_bytes: u64,
    ends: Ends,
}

fn attack(
    context: &Context,
    subject: &Subject,
    slow: Slow,
    name: &str,
    count: usize,
    report: &mut Report,
) -> Result<()> {
    // Heads are watched past their time, where there is time.
    let limit = Duration::from_millis(HEAD_TIMEOUT_MS + 1_000);
    let hold = match (slow, context.short) {
        (Slow::Head, false) => limit + Duration::from_secs(1),
        (_, true) => Duration::from_millis(500),
        (_, false) => Duration::from_secs(3),
    };
    let before = subject.vitals()?;
    let wanted = before.descriptors + count as u64;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Held { peak, queued_bytes, ends } =
        runtime.block_on(open(subject, slow, count, wanted, hold))?;
    let server = subject.name();
    let taken = peak.descriptors.saturating_sub(before.descriptors);
    let figure = format!("{taken} descriptors more, {} of {count} connected", ends.opened);
    let case = format!("{name}: connections taken");
    let held = taken >= count as u64 && ends.opened == count;
    report.row(server, case, figure, format!("at least {count}"), held);
    let kib = peak.resident_kib.saturating_sub(before.resident_kib) as f64 / count as f64;
    let limit_text = format!("at most {KIB_A_CONNECTION} KiB");
    let case = format!("{name}: memory a connection");
    report.row(server, case, format!("{kib:.1} KiB"), limit_text, kib <= KIB_A_CONNECTION);
    if slow == Slow::Read {
        let kib = queued_bytes as f64 / 1024.0 / count as f64;
        let limit_text = format!("at most {QUEUED_KIB_A_CONNECTION} KiB");
        let case = format!("{name}: queued in the kernel, a connection");
        let held = kib <= QUEUED_KIB_A_CONNECTION;
        report.row(server, case, format!("{kib:.0} KiB"), limit_text, held);
    }
    match (slow, context.short) {
        (Slow::Head, false) => {
            let figure = format!("{} open, longest {:.1} s", ends.open, ends.longest.as_secs_f64());
            let held = ends.open == 0 && ends.longest <= limit;
            let case = format!("{name}: all closed");
            report.row(server, case, figure, format!("within {} s", limit.as_secs()), held);
        }
        (Slow::Head, true) => {
            report.skip("slow heads: all closed", "the time for a head is longer than a short run");
        }
        _ => {}
    }
    Ok(())
}

/// Opens connections, waits until the server has them, holds them, and lets them go.
async fn open(
    subject: &Subject,
    slow: Slow,
    count: usize,
    wanted: u64,
    hold: Duration,
) -> Result<Held> {
    let (go, gone) = watch::channel(false);
    let mut clients = JoinSet::new();
    let pause = if slow == Slow::Read { UNREAD_BATCH_PAUSE } else { BATCH_PAUSE };
    for number in 0..count {
        let waits = pause * (number / BATCH) as u32;
        clients.spawn(client(subject.ports.http, slow, gone.clone(), waits));
        if number % BATCH == BATCH - 1 {
            sleep(pause).await;
        }
    }
    let opened = Instant::now();
    let mut peak = subject.vitals()?;
    while peak.descriptors < wanted && opened.elapsed() < TAKEN_PATIENCE {
        sleep(Duration::from_millis(100)).await;
        let now = subject.vitals()?;
        peak.descriptors = peak.descriptors.max(now.descriptors);
        peak.resident_kib = peak.resident_kib.max(now.resident_kib);
    }
    tokio::time::sleep_until(opened + hold).await;
    peak.resident_kib = peak.resident_kib.max(subject.vitals()?.resident_kib);
    let queued_bytes = queued_bytes(subject.ports.http.port());
    // Every client waits for this, or has ended.
    let _ = go.send(true);
    let mut ends = Ends::default();
    while let Some(ended) = clients.join_next().await {
        if let Ok(Ok((time, is_open))) = ended {
            ends.opened += 1;
            ends.open += usize::from(is_open);
            ends.longest = ends.longest.max(time);
        }
    }
    Ok(Held { peak, queued_bytes, ends })
}

/// Bytes that the kernel holds for clients of this port (proc(5), `/proc/net/tcp`): sent by the server, not taken.
fn queued_bytes(port: u16) -> u64 {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!(":{port:04X}");
    let queued = text.lines().filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let is_ours = columns.next()?.ends_with(&local);
        let (sent, _) = columns.nth(2)?.split_once(':')?;
        u64::from_str_radix(sent, 16).ok().filter(|_| is_ours)
    });
    queued.sum()
}

/// How long it was open, and whether it still was in the end. Told to go, it `waits` for its turn.
async fn client(
    address: SocketAddr,
    slow: Slow,
    mut gone: watch::Receiver<bool>,
    waits: Duration,
) -> Result<(Duration, bool)> {
    let socket = TcpSocket::new_v4()?;
    if slow == Slow::Read {
        socket.set_recv_buffer_size(2 << 10)?;
    }
    let mut stream = socket.connect(address).await?;
    let began = Instant::now();
    let first = match slow {
        Slow::Head => format!("GET / HTTP/1.1\r\nHost: {ABUSED}\r\nX-Slow: "),
        Slow::Body => {
            format!("POST / HTTP/1.1\r\nHost: {ABUSED}\r\nContent-Length: 100000\r\n\r\n")
        }
        Slow::Read => format!("GET / HTTP/1.1\r\nHost: {ABUSED}\r\n\r\n"),
    };
    stream.write_all(first.as_bytes()).await?;
    loop {
        let pause = Instant::now() + DRIP;
        let is_closed = tokio::select! {
            _ = gone.changed() => {
                let open = began.elapsed();
                sleep(waits).await;
                return Ok((open, true));
            }
            is_closed = drips(&mut stream, pause), if slow != Slow::Read => is_closed,
        };
        if is_closed {
            return Ok((began.elapsed(), false));
        }
    }
}

/// Waits for the end of the connection until `pause`, and sends a byte; true once it has ended. An answer such as 408
/// is read on the way.
async fn drips(stream: &mut TcpStream, pause: Instant) -> bool {
    let mut piece = [0; 512];
    loop {
        match timeout_at(pause, stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return stream.write_all(b"a").await.is_err(),
        }
    }
}

/// slowhttptest's three kinds, against Cutwater alone.
fn others(context: &Context, subject: &Subject, report: &mut Report) -> Result<()> {
    if subject.kind != Kind::Cutwater {
        return Ok(());
    }
    let found = peers::program("slowhttptest");
    let Some(file) = found.as_ref().filter(|_| !context.short) else {
        let reason = match found {
            Some(_) => "left out of the short form",
            None => "it is not installed: `apt-get install slowhttptest`",
        };
        report.skip("slowhttptest", reason);
        return Ok(());
    };
    for (kind, name) in [("-H", "headers"), ("-B", "body"), ("-X", "read")] {
        let url = format!("http://{}/", subject.ports.http);
        let output = Command::new(file)
            .args([kind, "-c", "2000", "-r", "1000", "-i", "1", "-l", "7", "-p", "2", "-u", &url])
            .stdin(Stdio::null())
            .output()
            .context("running slowhttptest")?;
        let text = String::from_utf8_lossy(&output.stdout);
        // It looks again every five seconds.
        let looks: Vec<bool> = text.split("service available:").skip(1).map(is_yes).collect();
        let available = looks.iter().filter(|look| **look).count();
        let figure = format!("{available} of {} looks", looks.len());
        let is_available = !looks.is_empty() && available == looks.len();
        report.row(
            subject.name(),
            format!("slowhttptest {name}: available to others"),
            figure,
            "all",
            is_available,
        );
    }
    Ok(())
}

/// The word behind it, in whatever colour.
fn is_yes(look: &str) -> bool {
    look.lines().next().is_some_and(|line| line.contains("YES"))
}
