//! Changes under load: routes and certificates are rewritten, and then the binary is upgraded again and again, while
//! requests and long downloads run. No request fails, downloads are whole, each change comes live.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use model::limits::DRAIN_TIMEOUT_MS;

use crate::chains::Chains;
use crate::client::Client;
use crate::origin::{Origin, echoed, lock};
use crate::program::Context;
use crate::report::Report;
use crate::subject::{
    ABUSED, Backend, GOOD, Kind, Site, Subject, write_backend, write_certificate,
};

const UPGRADES: usize = 10;
const SHORT_UPGRADES: usize = 2;
/// Requests run between two upgrades.
const UPGRADE_PAUSE: Duration = Duration::from_millis(300);
/// Less than a process has to drain: a download that goes on for longer is cut off.
const DOWNLOAD_THROUGH_UPGRADES: Duration = Duration::from_secs(5);
/// What a replaced process has to drain, and a little.
const REPLACED: Duration = Duration::from_millis(DRAIN_TIMEOUT_MS + 10_000);
const CHANGES: usize = 100;
const SHORT_CHANGES: usize = 20;
/// A change that takes longer is not live.
const LIVE: Duration = Duration::from_secs(2);
/// Between two changes: requests run between them too.
const CHANGE_PAUSE: Duration = Duration::from_millis(40);
/// Of the download, every so often until the changes are done.
const PIECE: usize = 16 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(20);
const DOWNLOAD_PATIENCE: Duration = Duration::from_secs(120);
/// One change in so many replaces the certificate too.
const CERTIFICATE_EVERY: usize = 10;
const CLIENTS: usize = 2;
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The path of the download.
const DOWNLOAD: &str = "/download";

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let good = Origin::echo()?;
    let done = Arc::new(AtomicBool::new(false));
    let for_origin = Arc::clone(&done);
    let abused = Origin::start(move |peer| {
        while let Ok(Some(request)) = peer.request() {
            let is_download = request.request().is_some_and(|(_, target)| target == DOWNLOAD);
            let answered = match is_download {
                false => peer.answer(&echoed(&request)),
                true => download(peer, &for_origin),
            };
            if answered.is_err() {
                return;
            }
        }
    })?;
    let close_idle = || [&good, &abused].into_iter().for_each(Origin::close_idle);
    let chains = Chains::new()?;
    let site = || {
        let mut site = Site::of_two(good.address, abused.address)?;
        site.certificate = chains.make()?;
        Ok(site)
    };
    context.each_subject(report, &[Kind::Cutwater], site, |context, subject, report| {
        done.store(false, Ordering::SeqCst);
        context.with_good_traffic(subject, &close_idle, report, |report| {
            change(context, subject, &chains, abused.address, &done, report)?;
            upgrade(context, subject, &done, report)
        })
    })
}

/// In chunks until all changes are done; the last piece says how much came before it.
fn download(peer: &mut crate::origin::Peer, done: &AtomicBool) -> std::io::Result<()> {
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let piece = "x".repeat(PIECE);
    let mut total = 0;
    while !done.load(Ordering::SeqCst) {
        peer.send(format!("{PIECE:x}\r\n{piece}\r\n"))?;
        total += PIECE;
        thread::sleep(PIECE_PAUSE);
    }
    let last = format!(" {total}");
    peer.send(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()))
}

fn change(
    context: &Context,
    subject: &Subject,
    chains: &Chains,
    origin: SocketAddr,
    done: &AtomicBool,
    report: &mut Report,
) -> Result<()> {
    let (faults, count) = (Mutex::new(Vec::new()), Mutex::new(0_usize));
    let address = subject.ports.http;
    let (changed, downloaded) = thread::scope(|scope| {
        let downloading = scope.spawn(|| whole_download(address));
        for _ in 0..CLIENTS {
            scope.spawn(|| requests(address, Keeps::Stays, done, &faults, &count));
        }
        let changed = make_changes(context, subject, chains, origin);
        done.store(true, Ordering::SeqCst);
        (changed, downloading.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a panic"))))
    });
    let Changes { made: changes, live, certificates, shown } = changed?;
    let name = subject.name();
    let slowest = live.iter().max().copied().unwrap_or_default();
    let figure = format!("{} of {changes}, slowest {} ms", live.len(), slowest.as_millis());
    let limit = format!("all, each in {} s", LIVE.as_secs());
    report.row(name, "changes live", figure, limit, live.len() == changes);
    let figure = format!("{shown} of {certificates}");
    let held = shown == certificates && shown > 0;
    report.row(name, "certificates in a handshake after their change", figure, "all", held);
    let (faults, count) = (lock(&faults), lock(&count));
    let mut figure = format!("{} of {count}", faults.len());
    if let Some(fault) = faults.first() {
        figure += &format!(" (first: {fault})");
    }
    report.row(name, "failed requests", figure, "none", faults.is_empty() && *count > 0);
    let figure = match &downloaded {
        Ok(bytes) => format!("{:.1} MiB, whole", *bytes as f64 / (1 << 20) as f64),
        Err(error) => format!("{error:#}"),
    };
    report.row(name, "download through all changes", figure, "whole", downloaded.is_ok());
    Ok(())
}

/// One binary after another takes over, while requests and a download run.
fn upgrade(
    context: &Context,
    subject: &Subject,
    done: &AtomicBool,
    report: &mut Report,
) -> Result<()> {
    let (faults, count) = (Mutex::new(Vec::new()), Mutex::new(0_usize));
    let address = subject.ports.http;
    let upgrades = context.pick(SHORT_UPGRADES, UPGRADES);
    let ended = AtomicBool::new(false);
    done.store(false, Ordering::SeqCst);
    let (upgraded, downloaded) = thread::scope(|scope| {
        let downloading = scope.spawn(|| whole_download(address));
        for _ in 0..CLIENTS {
            scope.spawn(|| requests(address, Keeps::MayEnd, &ended, &faults, &count));
        }
        let upgraded = upgrades_of(subject, upgrades, done);
        ended.store(true, Ordering::SeqCst);
        done.store(true, Ordering::SeqCst);
        (upgraded, downloading.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a panic"))))
    });
    let name = subject.name();
    let times = upgraded?;
    let slowest = times.iter().max().copied().unwrap_or_default();
    let figure = format!("{} of {upgrades}, slowest {} ms", times.len(), slowest.as_millis());
    report.row(name, "upgrades of the binary", figure, "all", times.len() == upgrades);
    let (faults, count) = (lock(&faults), lock(&count));
    let mut figure = format!("{} of {count}", faults.len());
    if let Some(fault) = faults.first() {
        figure += &format!(" (first: {fault})");
    }
    let held = faults.is_empty() && *count > 0;
    report.row(name, "failed requests through upgrades", figure, "none", held);
    let figure = match &downloaded {
        Ok(bytes) => format!("{:.1} MiB, whole", *bytes as f64 / (1 << 20) as f64),
        Err(error) => format!("{error:#}"),
    };
    report.row(name, "download through an upgrade", figure, "whole", downloaded.is_ok());
    let replaced = subject.await_replaced(REPLACED);
    let figure = replaced.as_ref().map_or_else(|error| format!("{error:#}"), |()| "yes".to_owned());
    report.row(name, "every old process ended in peace", figure, "yes", replaced.is_ok());
    Ok(())
}

/// The time of each. The download ends within the time that a process has to drain.
fn upgrades_of(subject: &Subject, upgrades: usize, done: &AtomicBool) -> Result<Vec<Duration>> {
    let first = Instant::now();
    let mut times = Vec::new();
    for _ in 0..upgrades {
        thread::sleep(UPGRADE_PAUSE);
        let began = Instant::now();
        subject.upgrade()?;
        times.push(began.elapsed());
        if first.elapsed() > DOWNLOAD_THROUGH_UPGRADES {
            done.store(true, Ordering::SeqCst);
        }
    }
    Ok(times)
}

#[derive(Default)]
struct Changes {
    made: usize,
    /// The time of each that came live.
    live: Vec<Duration>,
    /// Those that replaced the certificate too, and how many of these a handshake showed.
    certificates: usize,
    shown: usize,
}

fn make_changes(
    context: &Context,
    subject: &Subject,
    chains: &Chains,
    origin: SocketAddr,
) -> Result<Changes> {
    let mut changes = Changes { made: context.pick(SHORT_CHANGES, CHANGES), ..Changes::default() };
    let mut client = Client::connect(subject.ports.http, PATIENCE)?;
    for edition in 1..=changes.made {
        let is_renewed = edition % CERTIFICATE_EVERY == 0;
        if is_renewed {
            write_certificate(subject.folder.path(), &chains.make()?)?;
        }
        let began = Instant::now();
        write_backend(subject.folder.path(), &Backend::new(ABUSED, [origin]), edition)?;
        // A route that comes and goes, beside the one that is watched.
        let other = Backend::new("other.test", [origin]);
        write_backend(subject.folder.path(), &other, edition)?;
        let edition = edition.to_string();
        while began.elapsed() < LIVE {
            let answer = client.get(ABUSED, "/edition")?;
            if answer.values("x-edition").next() == Some(&edition) {
                changes.live.push(began.elapsed());
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if is_renewed {
            changes.certificates += 1;
            changes.shown += usize::from(chains.serves_last(subject.ports.https, LIVE));
        }
        thread::sleep(CHANGE_PAUSE);
    }
    Ok(changes)
}

/// Requests one after the other until all is done, on connections that are kept.
fn requests(
    address: SocketAddr,
    keeps: Keeps,
    done: &AtomicBool,
    faults: &Mutex<Vec<String>>,
    count: &Mutex<usize>,
) {
    let mut client = None;
    let mut number = 0;
    while !done.load(Ordering::SeqCst) {
        number += 1;
        let host = if number % 2 == 0 { ABUSED } else { GOOD };
        let outcome = one(&mut client, address, keeps, host, number);
        *lock(count) += 1;
        if let Err(error) = outcome {
            lock(faults).push(format!("{error:#}"));
            client = None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a client expects of its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// No answer ends it.
    Stays,
    /// An answer may say that it is the last one; then there is another connection.
    MayEnd,
}

fn one(
    kept: &mut Option<Client>,
    address: SocketAddr,
    keeps: Keeps,
    host: &str,
    number: usize,
) -> Result<()> {
    let client = match kept {
        Some(client) => client,
        None => kept.insert(Client::connect(address, PATIENCE)?),
    };
    let answer = client.get(host, &format!("/{number}"))?;
    let is_right = answer.status() == Some(200) && answer.body == number.to_string().as_bytes();
    ensure!(is_right, "{} to {host}", answer.start_line);
    let is_last = answer.values("connection").any(|value| value.eq_ignore_ascii_case("close"));
    ensure!(!is_last || keeps == Keeps::MayEnd, "the connection is closed by a change");
    if is_last {
        *kept = None;
    }
    Ok(())
}

/// The bytes of a download whose last piece says that they are all there.
fn whole_download(address: SocketAddr) -> Result<usize> {
    let mut client = Client::connect(address, DOWNLOAD_PATIENCE)?;
    let answer = client.get(ABUSED, DOWNLOAD)?;
    let at = answer.body.iter().rposition(|byte| *byte == b' ').context("no last piece")?;
    let told: usize = std::str::from_utf8(&answer.body[at + 1..])?.parse()?;
    ensure!(told == at, "{at} of {told} bytes");
    Ok(told)
}
