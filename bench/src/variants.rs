//! Cutwater against itself: what ten thousand routes, or the access log, add to the cost of a request. Both forms are
//! measured in the same rounds.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cases::{CONNECTIONS, plain};
use crate::edge::{Bench, OrReason, remarks};
use crate::http::HOST;
use crate::load::Pace;
use crate::measure::{Figure, Subject};
use crate::origin::SMALL;
use crate::report::Row;
use crate::script::{Script, Work};
use crate::server::{AccessLog, Cutwater, Instance, folder};

/// A form of Cutwater beside the plain one.
pub struct Variant {
    pub case: &'static str,
    /// What the plain form is called in the table.
    beside: &'static str,
    goal: f64,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    ManyRoutes,
    AccessLog,
}

pub const VARIANTS: &[Variant] = &[
    Variant { case: "routes-10000", beside: "one route", goal: 1.03, form: Form::ManyRoutes },
    Variant { case: "access-log", beside: "log off", goal: 1.05, form: Form::AccessLog },
];

/// Of the ten thousand hosts a thousand are asked in turn.
const HOSTS_STEP: usize = 10;
/// CPU time in [`QUIET_LOOK`] below which a server does nothing but look at the clock.
const QUIET: Duration = Duration::from_millis(5);
const QUIET_LOOK: Duration = Duration::from_millis(500);
const QUIET_LIMIT: Duration = Duration::from_secs(30);

pub fn rows(
    bench: &mut Bench,
    cutwater: &Cutwater,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for variant in VARIANTS.iter().filter(|variant| wanted(variant.case)) {
        eprintln!("measuring {}", variant.case);
        rows.push(row(bench, cutwater, variant)?);
    }
    Ok(rows)
}

fn row(bench: &mut Bench, cutwater: &Cutwater, variant: &Variant) -> Result<Row> {
    let plain_form = start_plain(bench, cutwater).map_err(|error| format!("{error:#}"));
    let form = start(bench, cutwater, variant.form).map_err(|error| format!("{error:#}"));
    let hosts = match variant.form {
        Form::ManyRoutes => many_hosts(),
        Form::AccessLog => vec![HOST.to_owned()],
    };
    [&form, &plain_form].into_iter().for_each(await_quiet);
    let work = Work::Get(SMALL);
    // Equal requests but for the name of the host, and equally many of them.
    let plain_hosts = vec![HOST.to_owned(); hosts.len()];
    let subjects = vec![subject(&form, work, &hosts), subject(&plain_form, work, &plain_hosts)];
    let figures = bench.figures_of(subjects, plain(work, CONNECTIONS, Pace::Saturate));
    let mut figures = figures.into_iter();
    let mut next = || figures.next().unwrap_or_else(|| Err("not measured".to_owned()));
    let (ours, beside) = (next(), next());
    let micros = |figure: &OrReason<Figure>| figure.as_ref().ok().map(Figure::micros);
    let mut row = Row::against_peer(
        variant.case.to_owned(),
        micros(&ours),
        (variant.beside, micros(&beside)),
        variant.goal,
    );
    row.spread = ours.as_ref().ok().map(Figure::spread);
    row.remarks.extend(remarks("ours", &ours));
    row.remarks.extend(remarks(variant.beside, &beside));
    Ok(row)
}

/// Waits until a server that has just become ready does nothing: what it does once is no cost of a request.
fn await_quiet(instance: &OrReason<Instance>) {
    let Ok(instance) = instance else { return };
    let end = Instant::now() + QUIET_LIMIT;
    let mut before = instance.running.processes().cpu_time();
    while Instant::now() < end {
        std::thread::sleep(QUIET_LOOK);
        let now = instance.running.processes().cpu_time();
        if now.saturating_sub(before) < QUIET {
            return;
        }
        before = now;
    }
}

fn subject<'a>(
    instance: &'a OrReason<Instance>,
    work: Work,
    hosts: &[String],
) -> OrReason<Subject<'a>> {
    let server = &instance.as_ref().map_err(String::clone)?.running;
    Ok(Subject { server, script: Script::new(work, hosts) })
}

fn start_plain(bench: &Bench, cutwater: &Cutwater) -> Result<Instance> {
    bench.effort.goes_on()?;
    let site = bench.site("plain-form")?;
    let manifests = site.folder.join("manifests");
    folder::write_bench(&manifests, &site)?;
    cutwater.up(&manifests, &site)
}

fn start(bench: &Bench, cutwater: &Cutwater, form: Form) -> Result<Instance> {
    bench.effort.goes_on()?;
    let site = bench.site("other-form")?;
    let manifests = site.folder.join(if form == Form::ManyRoutes { "many" } else { "few" });
    match form {
        Form::ManyRoutes => {
            folder::write_many_routes(&manifests, &site)?;
            cutwater.up(&manifests, &site)
        }
        Form::AccessLog => {
            folder::write_bench(&manifests, &site)?;
            cutwater.up_with(&manifests, &site, 1, AccessLog::On)
        }
    }
}

fn many_hosts() -> Vec<String> {
    let all = folder::APPLICATIONS * folder::ROUTES_PER_APPLICATION;
    (0..all)
        .step_by(HOSTS_STEP)
        // Each application is asked, and of each another route.
        .map(|n| folder::application_host(n / HOSTS_STEP % folder::APPLICATIONS, n / 100 % 10))
        .collect()
}
