//! TLS abuse: handshakes that stop half-way, ClientHellos with changed bytes, and a certificate that is replaced while
//! clients shake hands: each gets one whole chain that it can verify.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::chains::{Chains, PATIENCE, connect};
use crate::client::is_late;
use crate::origin::{Origin, lock};
use crate::program::Context;
use crate::report::Report;
use crate::subject::{Kind, Site, Subject, write_certificate};

const ABORTED: usize = 2_000;
const MUTATED: usize = 4_000;
const SHORT: usize = 300;
const THREADS: usize = 2;
/// Between two certificates.
const SWAP: Duration = Duration::from_millis(100);

pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let good = Origin::echo()?;
    let abused = Origin::echo()?;
    let chains = Chains::new()?;
    let close_idle = || [&good, &abused].into_iter().for_each(Origin::close_idle);
    let site = || {
        let mut site = Site::of_two(good.address, abused.address)?;
        site.certificate = chains.make()?;
        Ok(site)
    };
    context.each_subject(report, Kind::ALL, site, |context, subject, report| {
        context.with_good_traffic(subject, &close_idle, report, |report| {
            aborted(subject, &chains, context.pick(SHORT, ABORTED), report)?;
            mutated(subject, &chains, context.pick(SHORT, MUTATED), report)?;
            match subject.kind {
                Kind::Cutwater => swapped(context, subject, &chains, report),
                _ => Ok(()),
            }
        })
    })
}

fn client_hello(chains: &Chains) -> Result<Vec<u8>> {
    let mut hello = Vec::new();
    chains.session()?.write_tls(&mut hello)?;
    Ok(hello)
}

/// A small generator of numbers, so that a failure can be had again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Part of a ClientHello, or all of it and part of the answer, then a reset or an end.
fn aborted(subject: &Subject, chains: &Chains, count: usize, report: &mut Report) -> Result<()> {
    let hello = client_hello(chains)?;
    let mut numbers = Numbers(0x5EED_0008);
    for number in 0..count {
        let mut stream = connect(subject.ports.https)?;
        let cut = match number % 3 {
            0 => hello.len(),
            _ => numbers.below(hello.len()),
        };
        // A server may have closed already.
        let _ = stream.write_all(&hello[..cut]);
        if number % 3 == 0 {
            let _ = stream.read(&mut [0; 100]);
        }
        if number % 2 == 0 {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    succeeds(subject, chains, "after aborted handshakes, a handshake", report);
    Ok(())
}

fn succeeds(subject: &Subject, chains: &Chains, case: &str, report: &mut Report) {
    let whole = chains.handshake(subject.ports.https);
    let figure = whole.as_ref().map_or_else(|error| format!("{error:#}"), |_| "yes".to_owned());
    report.row(subject.name(), case, figure, "succeeds", whole.is_ok());
}

fn mutated(subject: &Subject, chains: &Chains, count: usize, report: &mut Report) -> Result<()> {
    let hello = client_hello(chains)?;
    let mut numbers = Numbers(0x5EED_0088);
    let (mut open, mut answered) = (0, 0);
    let began = Instant::now();
    for _ in 0..count {
        let mut stream = connect(subject.ports.https)?;
        let _ = stream.write_all(&mutation(&hello, &mut numbers));
        let _ = stream.shutdown(Shutdown::Write);
        match read_to_end(&mut stream) {
            Ok(bytes) => answered += usize::from(bytes > 0),
            Err(()) => open += 1,
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let figure = format!("{open} of {count}, {answered} answered, {rate:.0}/s");
    let limit = format!("none after {} s", PATIENCE.as_secs());
    report.row(subject.name(), "mutated ClientHellos left open", figure, limit, open == 0);
    succeeds(subject, chains, "after mutated ClientHellos, a handshake", report);
    Ok(())
}

fn mutation(hello: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = hello.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        if bytes.len() < 2 {
            break;
        }
        match numbers.below(6) {
            0 => bytes.insert(at, numbers.next() as u8),
            1 => drop(bytes.remove(at)),
            2 => bytes.truncate(at.max(1)),
            3 => bytes[at] = [0, 0xff, 0x7f, 0x80][numbers.below(4)],
            _ => bytes[at] = numbers.next() as u8,
        }
    }
    bytes
}

/// Bytes until the end of the connection; an error where it did not end in time.
fn read_to_end(stream: &mut TcpStream) -> Result<usize, ()> {
    let (mut total, end) = (0, Instant::now() + PATIENCE);
    let mut piece = [0; 4 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(total),
            Ok(count) => total += count,
            Err(error) if is_late(&error) => return Err(()),
            Err(_) => return Ok(total),
        }
        if Instant::now() > end {
            return Err(());
        }
    }
}

/// What clients found while the certificate changed.
#[derive(Default)]
struct Tally {
    handshakes: AtomicUsize,
    faults: std::sync::Mutex<Vec<String>>,
}

fn swapped(
    context: &Context,
    subject: &Subject,
    chains: &Chains,
    report: &mut Report,
) -> Result<()> {
    let time = context.pick(Duration::from_millis(2_500), Duration::from_secs(10));
    let (tally, ending) = (Tally::default(), AtomicBool::new(false));
    let began = Instant::now();
    let swaps = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !ending.load(Ordering::Relaxed) {
                    let found = chains.handshake(subject.ports.https);
                    tally.handshakes.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = found.and_then(|chain| chains.knows(&chain)) {
                        lock(&tally.faults).push(format!("{error:#}"));
                    }
                }
            });
        }
        let swaps = swap_for(subject, chains, time);
        ending.store(true, Ordering::Relaxed);
        swaps
    })?;
    let handshakes = tally.handshakes.load(Ordering::Relaxed);
    let rate = handshakes as f64 / began.elapsed().as_secs_f64();
    let faults = lock(&tally.faults);
    let mut figure =
        format!("{} of {handshakes} ({rate:.0}/s, {swaps} changes)", handshakes - faults.len());
    if let Some(fault) = faults.first() {
        figure += &format!("; first fault: {fault}");
    }
    let held = faults.is_empty() && handshakes > 0;
    let case = "certificate changed: one whole chain each";
    report.row(subject.name(), case, figure, "all", held);
    let served = chains.serves_last(subject.ports.https, Duration::from_secs(2));
    let figure = if served { "served" } else { "not served" };
    report.row(
        subject.name(),
        "certificate changed: the last one",
        figure,
        "served in 2 s",
        served,
    );
    Ok(())
}

fn swap_for(subject: &Subject, chains: &Chains, time: Duration) -> Result<usize> {
    let end = Instant::now() + time;
    let mut swaps = 0;
    while Instant::now() < end {
        write_certificate(subject.folder.path(), &chains.make()?)?;
        swaps += 1;
        thread::sleep(SWAP);
    }
    match swaps {
        0 => bail!("no certificate was changed"),
        swaps => Ok(swaps),
    }
}
