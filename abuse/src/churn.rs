//! Ten thousand changes, one after the other: connections that were there at the beginning answer at the end, and memory
//! has not grown.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::client::Client;
use crate::origin::Origin;
use crate::program::Context;
use crate::report::Report;
use crate::subject::{ABUSED, Backend, Kind, Subject, write_backend};

const CHANGES: usize = 10_000;
const SHORT_CHANGES: usize = 300;
/// Before memory is measured first: what changes need at all is there then.
const WARM_UP_SHARE: usize = 10;
/// However many are made until then.
const LIMIT: Duration = Duration::from_secs(150);
const LIVE: Duration = Duration::from_secs(5);
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// Open all the time; each asks once in so many changes.
const CONNECTIONS: usize = 50;
const ASK_EVERY: usize = 100;
const MEMORY_RATIO: f64 = 1.05;
/// A server has that long to give memory back.
const SETTLE: Duration = Duration::from_secs(5);

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let abused = Origin::echo()?;
    context.beside_good_traffic(report, &[Kind::Cutwater], &abused, |subject, report| {
        churn(context, subject, abused.address, report)
    })
}

fn churn(
    context: &Context,
    subject: &Subject,
    origin: SocketAddr,
    report: &mut Report,
) -> Result<()> {
    let changes = context.pick(SHORT_CHANGES, CHANGES);
    let address = subject.ports.http;
    let mut clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client::connect(address, LIVE)).collect::<Result<_>>()?;
    let mut dropped = ask_all(address, &mut clients, 0);
    let (began, mut before, mut made, mut slowest) = (Instant::now(), None, 0, Duration::ZERO);
    let mut watcher = Client::connect(address, LIVE)?;
    while made < changes && began.elapsed() < LIMIT {
        made += 1;
        slowest = slowest.max(one_change(subject, origin, &mut watcher, made)?);
        if made % ASK_EVERY == 0 {
            dropped += ask_all(address, &mut clients, made);
        }
        if made == changes / WARM_UP_SHARE {
            before = Some(subject.vitals()?.resident_kib);
        }
    }
    dropped += ask_all(address, &mut clients, made);
    let name = subject.name();
    let seconds = began.elapsed().as_secs_f64();
    let figure = format!("{made} in {seconds:.0} s, slowest {} ms", slowest.as_millis());
    report.row(name, "changes, each live", figure, format!("{changes}"), made == changes);
    let limit = format!("none of {CONNECTIONS}");
    report.row(name, "connections dropped", format!("{dropped}"), limit, dropped == 0);
    let before = before.context("too few changes to measure memory")?;
    let after = settled(subject, before)?;
    let held = within(after, before);
    let figure = format!("{after} KiB, after a tenth of them {before} KiB");
    if context.short {
        report.skip("memory after all changes", format!("{figure}: too few to judge"));
    } else {
        report.row(name, "memory after all changes", figure, "at most 5 % more", held);
    }
    Ok(())
}

fn within(after: u64, before: u64) -> bool {
    after as f64 <= before as f64 * MEMORY_RATIO
}

fn settled(subject: &Subject, before: u64) -> Result<u64> {
    let end = Instant::now() + SETTLE;
    loop {
        let now = subject.vitals()?.resident_kib;
        if within(now, before) || Instant::now() > end {
            return Ok(now);
        }
        sleep(Duration::from_millis(200));
    }
}

/// How long it took until an answer showed it.
fn one_change(
    subject: &Subject,
    origin: SocketAddr,
    watcher: &mut Client,
    edition: usize,
) -> Result<Duration> {
    let began = Instant::now();
    write_backend(subject.folder.path(), &Backend::new(ABUSED, [origin]), edition)?;
    let edition = edition.to_string();
    while began.elapsed() < LIVE {
        let answer = watcher.get(ABUSED, "/edition")?;
        if answer.values("x-edition").next() == Some(&edition) {
            return Ok(began.elapsed());
        }
        sleep(LOOK_PAUSE);
    }
    anyhow::bail!("change {edition} was not live within {LIVE:?}")
}

/// How many connections gave no right answer. Those that did not are opened anew.
fn ask_all(address: SocketAddr, clients: &mut [Client], number: usize) -> usize {
    let mut dropped = 0;
    for client in clients {
        let path = format!("/{number}");
        let answer = client.get(ABUSED, &path);
        let is_right = answer.is_ok_and(|answer| {
            let is_last = answer.values("connection").any(|it| it.eq_ignore_ascii_case("close"));
            answer.status() == Some(200) && answer.body == number.to_string().as_bytes() && !is_last
        });
        if !is_right {
            dropped += 1;
            // One that cannot be opened is dropped again at the next look.
            if let Ok(anew) = Client::connect(address, LIVE) {
                *client = anew;
            }
        }
    }
    dropped
}
