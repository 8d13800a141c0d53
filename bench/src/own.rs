//! The figures of `bench edge` that only Cutwater has: compile times, memory, and how fast a change
//! of a file is live.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::Target;
use crate::http::{self, HOST};
use crate::load::{Generator, Load};
use crate::measure::{Effort, median};
use crate::origin::SMALL;
use crate::report::Row;
use crate::script::Script;
use crate::server::{Cutwater, Instance, Site, folder};

const COMPILE: &str = "compile-10000-routes-ms";
const COMPILE_ONE: &str = "compile-one-changed-route-ms";
const MEMORY: &str = "memory-10000-routes-mib";
const FILE_CHANGE: &str = "file-change-live-ms";

/// What a figure is called, and its goal in its unit.
pub struct Kind {
    pub case: &'static str,
    unit: &'static str,
    goal: f64,
}

pub const FIGURES: &[Kind] = &[
    Kind { case: COMPILE, unit: "ms", goal: 250.0 },
    Kind { case: COMPILE_ONE, unit: "ms", goal: 50.0 },
    Kind { case: MEMORY, unit: "MiB", goal: 100.0 },
    Kind { case: FILE_CHANGE, unit: "ms", goal: 20.0 },
];

const COMPILE_METRIC: &str = "cutwater_compile_last_seconds";
const EDITS_OF_LARGE_FOLDER: usize = 10;
const EDITS_OF_A_FILE: usize = 20;
/// Between edits, so that each finds a quiet folder.
const PAUSE: Duration = Duration::from_millis(200);
/// Between looks whether an edit is live: the server has one CPU, and asking without a pause would take half of it
/// from the compile that is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);
const LIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Measures what `wanted` names.
pub fn measure(
    cutwater: &Cutwater,
    generator: &mut Generator,
    effort: Effort,
    site: &Site,
    wanted: &dyn Fn(&str) -> bool,
) -> Vec<Row> {
    let mut figures = Vec::new();
    if [COMPILE, COMPILE_ONE, MEMORY].into_iter().any(wanted) {
        eprintln!("measuring 10,000 routes");
        figures.extend(large_folder(cutwater, generator, effort, site));
    }
    if wanted(FILE_CHANGE) {
        eprintln!("measuring {FILE_CHANGE}");
        let figure = effort.goes_on().and_then(|()| file_change(cutwater, generator, site));
        figures.push((FILE_CHANGE, figure));
    }
    let kinds = FIGURES.iter().filter(|kind| wanted(kind.case));
    kinds
        .filter_map(|kind| {
            let at = figures.iter().position(|(case, _)| *case == kind.case)?;
            Some(row(kind, figures.swap_remove(at).1))
        })
        .collect()
}

type Named = (&'static str, Result<f64>);

fn row(kind: &Kind, figure: Result<f64>) -> Row {
    let remark = figure.as_ref().err().map(|error| format!("{error:#}"));
    let mut row = Row::of_ours(kind.case, kind.unit, figure.ok(), kind.goal);
    row.remarks.extend(remark);
    row
}

fn large_folder(
    cutwater: &Cutwater,
    generator: &mut Generator,
    effort: Effort,
    site: &Site,
) -> Vec<Named> {
    let manifests = site.folder.join("large");
    let start = || {
        effort.goes_on()?;
        folder::write_large(&manifests, site)?;
        cutwater.up(&manifests, site)
    };
    let instance = match start() {
        Ok(instance) => instance,
        Err(error) => {
            let reason = format!("cutwater did not serve the folder of 10,000 routes: {error:#}");
            return [COMPILE, COMPILE_ONE, MEMORY]
                .map(|case| (case, Err(anyhow::Error::msg(reason.clone()))))
                .into();
        }
    };
    vec![
        (COMPILE, last_compile_ms(&instance)),
        (MEMORY, memory(&instance, generator)),
        (COMPILE_ONE, one_changed_route(&instance, generator, site, &manifests)),
    ]
}

/// Resident memory once ready, after an answer through the last route.
fn memory(instance: &Instance, generator: &mut Generator) -> Result<f64> {
    let target = Target { address: instance.running.http, tls: None };
    let host =
        folder::application_host(folder::APPLICATIONS - 1, folder::ROUTES_PER_APPLICATION - 1);
    generator.fetch(&target, &Script::get(&host, SMALL))?;
    match instance.running.processes().resident_kib() {
        Some(kib) => Ok(kib as f64 / 1024.0),
        None => bail!("/proc shows no resident memory of cutwater"),
    }
}

fn one_changed_route(
    instance: &Instance,
    generator: &mut Generator,
    site: &Site,
    manifests: &Path,
) -> Result<f64> {
    let mut figures = Vec::new();
    for edition in 1..=EDITS_OF_LARGE_FOLDER {
        let application = edition * 97 % folder::APPLICATIONS;
        let host = folder::application_host(application, 0);
        folder::write_application(manifests, site, application, edition)?;
        until_live(instance, generator, &host, edition)?;
        figures.push(last_compile_ms(instance)?);
    }
    Ok(median(figures))
}

/// From the end of a write to the first answer that shows it: the median of some edits.
fn file_change(cutwater: &Cutwater, generator: &mut Generator, site: &Site) -> Result<f64> {
    let manifests = site.folder.join("small");
    fs::create_dir_all(&manifests)?;
    folder::write_bench(&manifests, site)?;
    let instance = cutwater.up(&manifests, site)?;
    let mut figures = Vec::new();
    for edition in 1..=EDITS_OF_A_FILE {
        std::thread::sleep(PAUSE);
        folder::write_edit(&manifests, site, edition)?;
        figures.push(until_live(&instance, generator, HOST, edition)?.as_secs_f64() * 1e3);
    }
    Ok(median(figures))
}

/// Asks until an answer carries the edition, on one connection for as long as it is kept.
fn until_live(
    instance: &Instance,
    generator: &mut Generator,
    host: &str,
    edition: usize,
) -> Result<Duration> {
    let start = Instant::now();
    let mut poller = None;
    loop {
        let seen = edition_seen(instance, generator, host, &mut poller);
        if matches!(&seen, Ok(seen) if *seen == Some(edition)) {
            return Ok(start.elapsed());
        }
        if seen.is_err() {
            poller = None;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        if start.elapsed() > LIVE_TIMEOUT {
            let last = seen.err().map_or(String::new(), |error| format!("; last: {error:#}"));
            bail!("edit {edition} was not live within {} s{last}", LIVE_TIMEOUT.as_secs());
        }
    }
}

/// The edition that the next answer carries.
fn edition_seen(
    instance: &Instance,
    generator: &mut Generator,
    host: &str,
    poller: &mut Option<Load>,
) -> Result<Option<usize>> {
    let connected = match poller {
        Some(connected) => connected,
        None => {
            let target = Target { address: instance.running.http, tls: None };
            poller.insert(generator.poller(&target, &Script::get(host, SMALL))?)
        }
    };
    let answer = generator.poll(connected)?;
    let value =
        http::header(&answer.head, "x-edition").and_then(|value| std::str::from_utf8(value).ok());
    Ok(value.and_then(|value| value.parse().ok()))
}

fn last_compile_ms(instance: &Instance) -> Result<f64> {
    Ok(instance.metric(COMPILE_METRIC)? * 1e3)
}
