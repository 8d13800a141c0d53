//! Memory of connections that have had one answer and wait: resident memory of the server's processes, with many of
//! them less with few. What the kernel holds for sockets is not in it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cases::Against;
use crate::client::Target;
use crate::edge::Bench;
use crate::http::HOST;
use crate::http2::Scheme;
use crate::load::Pace;
use crate::origin::SMALL;
use crate::report::{Peer, Row};
use crate::script::{Script, Work};
use crate::server::{Running, Server};
use crate::tls;

pub struct Case {
    pub name: &'static str,
    tls: bool,
    work: Work,
    /// Bytes a connection.
    goal: f64,
}

pub const CASES: &[Case] = &[
    Case { name: "idle-plain", tls: false, work: Work::Get(SMALL), goal: 1_500.0 },
    Case { name: "idle-tls", tls: true, work: Work::Get(SMALL), goal: 14_000.0 },
    Case {
        name: "idle-http2",
        tls: true,
        work: Work::Http2 { path: SMALL, streams: 1, scheme: Scheme::Https },
        goal: 20_000.0,
    },
];

/// Before the first look: what a server keeps for a while after a rush is there then as well.
const FEW: usize = 500;
const MORE: usize = 4_000;
/// Longer than a server takes to give buffers back.
const SETTLE: Duration = Duration::from_millis(1_500);

/// Servers are started anew: memory that other cases left free would hide what is measured.
pub fn row(bench: &mut Bench, servers: &[&dyn Server], case: &Case) -> Row {
    let mut figures = Vec::new();
    let mut reasons = Vec::new();
    for server in servers {
        let figure = figure(bench, *server, case);
        reasons.extend(figure.as_ref().err().map(|error| format!("{}: {error:#}", server.name())));
        figures.push(Peer { name: server.name(), figure: figure.ok() });
    }
    let ours = figures.first().and_then(|ours| ours.figure);
    let peers = figures.get(1..).unwrap_or(&[]);
    let mut row = Row::of_ours(case.name, "bytes", ours, case.goal);
    row.beside(peers, Against::Better);
    let others = peers.iter().filter(|peer| Some(peer.name) != row.peer_name);
    let others: Vec<String> = others
        .filter_map(|peer| Some(format!("{}: {:.0} bytes", peer.name, peer.figure?)))
        .collect();
    row.remarks.extend(others);
    row.remarks.extend(reasons);
    row
}

fn figure(bench: &mut Bench, server: &dyn Server, case: &Case) -> Result<f64> {
    let contender = bench.start(server)?;
    let running = contender.running.map_err(anyhow::Error::msg)?;
    let script = Script::new(case.work, &[HOST.to_owned()]);
    let tls = if case.tls { Some(tls::timed_client(script.protocol)?) } else { None };
    let address = if case.tls { running.https } else { running.http };
    let target = Target { address, tls };
    // A pace of nothing: every request is sent by hand.
    let mut load = bench.generator.open(&target, &script, Pace::PerSecond(0));
    bench.generator.add(&mut load, FEW)?;
    bench.generator.exchange_once(&mut load, 0)?;
    let before = settled(&running)?;
    bench.generator.add(&mut load, MORE)?;
    bench.generator.exchange_once(&mut load, FEW)?;
    Ok((settled(&running)? - before) / MORE as f64)
}

/// Resident bytes, once the server has given back what it can.
fn settled(running: &Running) -> Result<f64> {
    std::thread::sleep(SETTLE);
    let kib = running.processes().resident_kib().context("/proc shows no resident memory")?;
    Ok(kib as f64 * 1024.0)
}
