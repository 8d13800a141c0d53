//! How evenly long HTTP/2 connections spread over workers: the busiest one's CPU time by the mean of all.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::edge::Bench;
use crate::http::HOST;
use crate::http2::Scheme;
use crate::load::Pace;
use crate::measure::{self, Shape, Subject, WARM_UP, median};
use crate::origin::SMALL;
use crate::report::Row;
use crate::script::{Script, Work};
use crate::server::{AccessLog, Cutwater, Running, folder};

pub const CASE: &str = "http2-busiest-worker";
const GOAL: f64 = 1.5;
const WORKERS: usize = 4;
const CONNECTIONS: usize = 64;
/// The kernel deals connections out anew each time.
const DEALS: usize = 7;
const TIME: Duration = Duration::from_millis(500);
/// Threads of workers are called so, with a number.
const THREAD: &str = "edge-";

pub fn rows(
    bench: &mut Bench,
    cutwater: &Cutwater,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Row>> {
    if !wanted(CASE) {
        return Ok(Vec::new());
    }
    eprintln!("measuring {CASE}");
    let mut figures = Vec::new();
    let result = (0..DEALS).try_for_each(|_| {
        bench.effort.goes_on()?;
        figures.push(one_deal(bench, cutwater)?);
        anyhow::Ok(())
    });
    let worst = figures.iter().copied().fold(0.0, f64::max);
    let figure = result.is_ok().then(|| median(figures));
    let mut row = Row::of_ours(CASE, "of mean", figure, GOAL);
    match result {
        Ok(()) => row.remarks.push(format!(
            "{CONNECTIONS} connections on {WORKERS} workers; the worst of {DEALS} deals was {worst:.2}"
        )),
        Err(error) => row.remarks.push(format!("{error:#}")),
    }
    Ok(vec![row])
}

fn one_deal(bench: &mut Bench, cutwater: &Cutwater) -> Result<f64> {
    let site = bench.site("workers")?;
    let manifests = site.folder.join("manifests");
    folder::write_bench(&manifests, &site)?;
    let instance = cutwater.up_with(&manifests, &site, WORKERS, AccessLog::Off)?;
    let work = Work::Http2 { path: SMALL, streams: 1, scheme: Scheme::Https };
    let shape = Shape { tls: true, work, connections: CONNECTIONS, pace: Pace::Saturate };
    let script = Script::new(work, &[HOST.to_owned()]);
    let subject = Subject { server: &instance.running, script };
    let mut load = bench.generator.begin(&measure::workload(&subject, shape)?)?;
    bench.generator.run(&mut load, WARM_UP)?;
    let before = times(&instance.running);
    bench.generator.run(&mut load, TIME)?;
    let after = times(&instance.running);
    let spent: Vec<f64> = after
        .iter()
        .map(|(name, time)| time.saturating_sub(before.get(name).copied().unwrap_or_default()))
        .map(|time| time.as_secs_f64())
        .collect();
    if spent.len() != WORKERS {
        bail!("{} threads of workers instead of {WORKERS}", spent.len());
    }
    let mean = spent.iter().sum::<f64>() / spent.len() as f64;
    Ok(spent.into_iter().fold(0.0, f64::max) / mean)
}

fn times(server: &Running) -> BTreeMap<String, Duration> {
    let mut times = server.processes().thread_times();
    times.retain(|name, _| name.starts_with(THREAD));
    times
}
