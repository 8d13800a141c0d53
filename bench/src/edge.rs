//! `bench edge`: Cutwater's edge against nginx, HAProxy and Envoy, against itself, and its own figures.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::accounts::{self, Cpus};
use crate::cases::{CASES, CONNECTIONS, Case};
use crate::client::Target;
use crate::http::HOST;
use crate::load::{Generator, Pace, Workload};
use crate::measure::{self, Effort, Figure, Shape, Subject};
use crate::origin::SMALL;
use crate::report::{Peer, Report, Row};
use crate::script::Script;
use crate::server::{Cutwater, Envoy, Haproxy, Nginx, Running, Server, Site};
use crate::tls::Certificate;
use crate::{idle, latency, own, sys, variants, workers};

/// How long the generator is measured without a server.
const GENERATOR_ALONE: Duration = Duration::from_secs(1);

pub struct Options {
    pub cutwater: PathBuf,
    pub effort: Effort,
    /// Empty for all.
    pub cases: Vec<String>,
}

/// A value, or the reason why there is none.
pub type OrReason<T> = std::result::Result<T, String>;

/// What all measurements of a run share.
pub struct Bench {
    pub generator: Generator,
    pub certificate: Certificate,
    pub effort: Effort,
    cpus: Cpus,
    folder: WorkFolder,
}

/// A server, started or not.
pub struct Contender {
    pub name: &'static str,
    pub running: OrReason<Running>,
}

pub fn run(options: &Options) -> Result<Report> {
    reject_unknown(&options.cases)?;
    let cutwater = Cutwater::at(options.cutwater.clone());
    if let Some(reason) = cutwater.missing() {
        bail!(reason);
    }
    let wanted = |case: &str| options.cases.is_empty() || options.cases.iter().any(|c| c == case);
    let mut bench = Bench::new(options.effort)?;
    let mut rows = bench.beside_peers(&[&cutwater, &Nginx, &Haproxy, &Envoy], &wanted)?;
    rows.extend(variants::rows(&mut bench, &cutwater, &wanted)?);
    rows.extend(workers::rows(&mut bench, &cutwater, &wanted)?);
    rows.extend(bench.own_figures(&cutwater, &wanted)?);
    if !bench.cpus.are_two() {
        let remark = "server and generator shared the only CPU".to_owned();
        rows.iter_mut().for_each(|row| row.remarks.push(remark.clone()));
    }
    Ok(Report {
        name: "edge",
        machine: accounts::machine(),
        date: accounts::today(),
        cutwater: options.cutwater.display().to_string(),
        rows,
    })
}

/// Every name that `--case` knows.
fn known_cases() -> Vec<&'static str> {
    let own = own::FIGURES.iter().map(|figure| figure.case);
    let cases = CASES.iter().map(|case| case.name);
    let beside = latency::CASES.iter().chain(idle::CASES.iter().map(|case| &case.name)).copied();
    let variants = variants::VARIANTS.iter().map(|variant| variant.case);
    cases.chain(beside).chain(variants).chain([workers::CASE]).chain(own).collect()
}

fn reject_unknown(cases: &[String]) -> Result<()> {
    let known = known_cases();
    match cases.iter().find(|case| !known.contains(&case.as_str())) {
        Some(case) => bail!("there is no case {case}; the cases are {}", known.join(", ")),
        None => Ok(()),
    }
}

impl Bench {
    pub fn new(effort: Effort) -> Result<Bench> {
        let cpus = Cpus::of_this_machine()?;
        sys::pin(cpus.generator)?;
        let folder = WorkFolder::new()?;
        let (generator, certificate) = (Generator::new()?, Certificate::new()?);
        Ok(Bench { generator, certificate, effort, cpus, folder })
    }

    /// The rows that compare the first server with each other one.
    fn beside_peers(
        &mut self,
        servers: &[&dyn Server],
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Row>> {
        let cases: Vec<&Case> = CASES.iter().filter(|case| wanted(case.name)).collect();
        let has_latency = latency::CASES.iter().any(|case| wanted(case));
        let idle = idle::CASES.iter().filter(|case| wanted(case.name)).collect::<Vec<_>>();
        if cases.is_empty() && idle.is_empty() && !has_latency {
            return Ok(Vec::new());
        }
        let contenders: Vec<Contender> =
            servers.iter().map(|server| self.start(*server)).collect::<Result<_>>()?;
        self.say_what_the_generator_can()?;
        let mut rows = Vec::new();
        for case in cases {
            eprintln!("measuring {}", case.name);
            let figures = self.figures(&contenders, case);
            rows.extend(rows_of(case, &figures));
        }
        if has_latency {
            eprintln!("measuring latency at half of saturation");
            rows.extend(latency::rows(self, &contenders, wanted));
        }
        drop(contenders);
        for case in idle {
            eprintln!("measuring {}", case.name);
            rows.push(idle::row(self, servers, case));
        }
        Ok(rows)
    }

    /// Clients straight to the origin: a server that answers more than this cannot fill its CPU.
    fn say_what_the_generator_can(&mut self) -> Result<()> {
        let target = Target { address: self.generator.origin()?, tls: None };
        let (pace, script) = (Pace::Saturate, Script::get(HOST, SMALL));
        let workload = Workload { target, script, connections: CONNECTIONS, pace };
        let mut load = self.generator.begin(&workload)?;
        self.generator.run(&mut load, GENERATOR_ALONE)?;
        let rate = load.answered as f64 / GENERATOR_ALONE.as_secs_f64();
        eprintln!("the generator alone exchanges {rate:.0} requests/s with its origin");
        Ok(())
    }

    fn own_figures(
        &mut self,
        cutwater: &Cutwater,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Row>> {
        let site = self.site("own")?;
        Ok(own::measure(cutwater, &mut self.generator, self.effort, &site, wanted))
    }

    /// What servers are told, with a folder of the name for their files.
    pub fn site(&self, folder: &str) -> Result<Site> {
        Ok(Site {
            folder: self.folder.part(folder)?,
            origin: self.generator.origin()?,
            certificate: self.certificate.clone(),
            cpus: self.cpus,
        })
    }

    pub fn start(&self, server: &dyn Server) -> Result<Contender> {
        let name = server.name();
        if let Some(reason) = server.missing() {
            return Ok(Contender { name, running: Err(reason) });
        }
        let site = self.site(name)?;
        let running = self.effort.goes_on().and_then(|()| server.start(&site));
        Ok(Contender { name, running: running.map_err(|error| format!("{name}: {error:#}")) })
    }

    /// One figure a contender: those that give the right bytes are measured.
    fn figures(
        &mut self,
        contenders: &[Contender],
        case: &Case,
    ) -> Vec<(&'static str, OrReason<Figure>)> {
        let script = Script::new(case.shape.work, &[HOST.to_owned()]);
        let subject = |contender| subject(contender, &script);
        let subjects: Vec<OrReason<Subject<'_>>> = contenders.iter().map(subject).collect();
        let figures = self.figures_of(subjects, case.shape);
        contenders.iter().map(|contender| contender.name).zip(figures).collect()
    }

    /// One figure for each that could be started and gives the right bytes.
    pub fn figures_of(
        &mut self,
        subjects: Vec<OrReason<Subject<'_>>>,
        shape: Shape,
    ) -> Vec<OrReason<Figure>> {
        let checked: Vec<OrReason<Subject<'_>>> = subjects
            .into_iter()
            .map(|subject| {
                let subject = subject?;
                measure::check(&mut self.generator, &subject, &self.certificate, shape)
                    .map_err(|error| format!("failed the check: {error:#}"))?;
                Ok(subject)
            })
            .collect();
        let sound: Vec<Subject<'_>> = checked.iter().flatten().cloned().collect();
        let mut figures =
            measure::measure(&mut self.generator, &sound, shape, self.effort).into_iter();
        let figure = |checked: OrReason<Subject<'_>>| {
            checked.and_then(|_| match figures.next() {
                Some(figure) => figure.map_err(|error| format!("{error:#}")),
                None => Err("not measured".to_owned()),
            })
        };
        checked.into_iter().map(figure).collect()
    }
}

/// A contender with what is said to it.
pub fn subject<'a>(contender: &'a Contender, script: &Arc<Script>) -> OrReason<Subject<'a>> {
    let server = contender.running.as_ref().map_err(String::clone)?;
    Ok(Subject { server, script: Arc::clone(script) })
}

/// The first figure against each of the others; the first row is the one that the goal is about.
fn rows_of(case: &Case, figures: &[(&'static str, OrReason<Figure>)]) -> Vec<Row> {
    let Some(((_, ours), peers)) = figures.split_first() else { return Vec::new() };
    let micros = |figure: &OrReason<Figure>| figure.as_ref().ok().map(Figure::micros);
    let named: Vec<Peer> =
        peers.iter().map(|(name, figure)| Peer { name, figure: micros(figure) }).collect();
    let rows = Row::against_peers(case.name, micros(ours), &named, case.against, case.goal);
    let with_remarks = |mut row: Row| {
        row.spread = ours.as_ref().ok().map(Figure::spread);
        row.remarks.extend(remarks("ours", ours));
        let peer = peers.iter().find(|(name, _)| Some(*name) == row.peer_name);
        row.remarks.extend(peer.and_then(|(name, figure)| remarks(name, figure)));
        row
    };
    rows.into_iter().map(with_remarks).collect()
}

pub fn remarks(name: &str, figure: &OrReason<Figure>) -> Option<String> {
    match figure {
        Ok(figure) => {
            let doubts = figure.doubts();
            (!doubts.is_empty()).then(|| format!("{name}: {}", doubts.join(", ")))
        }
        Err(reason) => Some(format!("{name}: {reason}")),
    }
}

/// A folder for this run, removed at its end.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new() -> Result<WorkFolder> {
        // Tests of one process run side by side, each with a folder that it removes.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cutwater-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(WorkFolder(path))
    }

    fn part(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Left behind at worst: it lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Work;
    use std::time::Instant;

    fn effort(rounds: usize, time: Duration) -> Effort {
        Effort { rounds, time, until: Instant::now() + Duration::from_secs(600) }
    }

    /// One short round of each shape: are the figures what a proxy on one CPU can give?
    fn measure_peer(server: &dyn Server) {
        let mut bench = Bench::new(effort(1, Duration::from_secs(1))).unwrap();
        if let Some(reason) = server.missing() {
            println!("skipped: {reason}");
            return;
        }
        let contender = bench.start(server).unwrap();
        assert!(contender.running.is_ok(), "{:?}", contender.running.err());
        for case in CASES {
            let figures = bench.figures(std::slice::from_ref(&contender), case);
            let (_, figure) = figures.into_iter().next().unwrap();
            let figure = figure.unwrap();
            let (micros, share) = (figure.micros(), figure.server_share());
            assert!((1.0..20_000.0).contains(&micros), "{}: {micros} us", case.name);
            assert!(share > 0.005 && share < 1.2, "{}: {share} of a CPU", case.name);
            // Time on the CPU is rate times cost, by two ways of counting.
            let product = figure.per_second() * micros / 1e6;
            assert!((product / share - 1.0).abs() < 0.02, "{}: {product} {share}", case.name);
        }
    }

    #[test]
    fn nginx_gives_sane_figures() {
        measure_peer(&Nginx);
    }

    #[test]
    fn haproxy_gives_sane_figures() {
        measure_peer(&Haproxy);
    }

    #[test]
    fn a_server_with_other_bytes_is_not_measured() {
        let mut bench = Bench::new(effort(1, Duration::from_millis(10))).unwrap();
        if Nginx.missing().is_some() {
            return;
        }
        let contender = bench.start(&Nginx).unwrap();
        let mut case = *CASES.first().unwrap();
        case.shape.work = Work::Get("/nothing");
        let figures = bench.figures(&[contender], &case);
        let reason = figures.into_iter().next().unwrap().1.err().unwrap();
        assert!(reason.contains("failed the check"), "{reason}");
        assert!(reason.contains("404"), "{reason}");
    }

    #[test]
    fn nothing_begins_once_the_time_is_up() {
        struct Unstarted(&'static str);
        impl Server for Unstarted {
            fn name(&self) -> &'static str {
                self.0
            }
            fn missing(&self) -> Option<String> {
                None
            }
            fn start(&self, _: &crate::server::Site) -> Result<Running> {
                unreachable!("the time is up")
            }
        }
        let [ours, nginx, haproxy] = ["cutwater", "nginx", "haproxy"].map(Unstarted);
        let mut bench = Bench::new(effort(5, Duration::ZERO)).unwrap();
        bench.effort.until = Instant::now() - Duration::from_secs(1);
        let mut rows = bench.beside_peers(&[&ours, &nginx, &haproxy], &|_| true).unwrap();
        let nobody = Cutwater::at(PathBuf::from("/no/such/program"));
        rows.extend(variants::rows(&mut bench, &nobody, &|_| true).unwrap());
        rows.extend(workers::rows(&mut bench, &nobody, &|_| true).unwrap());
        rows.extend(bench.own_figures(&nobody, &|_| true).unwrap());
        assert!(rows.len() >= known_cases().len(), "{} rows", rows.len());
        for row in rows {
            let remarks = row.remarks.join("; ");
            assert!(
                remarks.contains("the time for the whole table was up"),
                "{}: {remarks}",
                row.case
            );
        }
    }

    #[test]
    fn a_peer_that_is_absent_leaves_a_row_with_the_reason() {
        let case = CASES.first().unwrap();
        let absent = |name| (name, Err(format!("{name} is not installed")));
        let rows = rows_of(case, &[absent("cutwater"), absent("nginx"), absent("haproxy")]);
        let titles: Vec<&str> = rows.iter().map(|row| row.case.as_str()).collect();
        assert_eq!(titles, ["http1-1k", "http1-1k vs haproxy"]);
        assert!(rows.iter().all(|row| !row.met && row.ratio.is_none()));
        assert_eq!(rows[1].remarks[1], "haproxy: haproxy is not installed");
    }

    #[test]
    fn an_unknown_case_is_named_with_those_that_exist() {
        let error = reject_unknown(&["http9".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("http9") && error.contains("tls-1k"), "{error}");
        assert!(reject_unknown(&["file-change-live-ms".to_owned()]).is_ok());
    }
}
