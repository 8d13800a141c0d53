//! `bench edge`: Cutwater's edge against nginx and HAProxy, and its own figures.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::accounts::{self, Cpus};
use crate::cases::{CASES, CONNECTIONS, Case};
use crate::client::Target;
use crate::load::{Generator, Pace, Workload};
use crate::measure::{self, Effort, Figure};
use crate::origin::SMALL;
use crate::own;
use crate::report::{Report, Row};
use crate::server::{Cutwater, Haproxy, Nginx, Running, Server, Site};
use crate::sys;
use crate::tls::Certificate;

/// How long the generator is measured without a server.
const GENERATOR_ALONE: Duration = Duration::from_secs(1);

pub struct Options {
    pub cutwater: PathBuf,
    pub effort: Effort,
    /// Empty for all.
    pub cases: Vec<String>,
}

/// A value, or the reason why there is none.
type OrReason<T> = std::result::Result<T, String>;

/// What all measurements of a run share.
struct Bench {
    generator: Generator,
    certificate: Certificate,
    cpus: Cpus,
    folder: WorkFolder,
}

/// A server, started or not.
struct Contender {
    name: &'static str,
    running: OrReason<Running>,
}

pub fn run(options: &Options) -> Result<Report> {
    reject_unknown(&options.cases)?;
    let cutwater = Cutwater::at(options.cutwater.clone());
    if let Some(reason) = cutwater.missing() {
        bail!(reason);
    }
    let wanted = |case: &str| options.cases.is_empty() || options.cases.iter().any(|c| c == case);
    let cases: Vec<&Case> = CASES.iter().filter(|case| wanted(case.name)).collect();
    let mut bench = Bench::new()?;
    let mut rows = bench.against_peers(&[&cutwater, &Nginx, &Haproxy], &cases, options.effort)?;
    rows.extend(bench.own_figures(&cutwater, &wanted)?);
    Ok(Report { name: "edge", machine: accounts::machine(), rows })
}

fn reject_unknown(cases: &[String]) -> Result<()> {
    let own = own::FIGURES.iter().map(|figure| figure.case);
    let known: Vec<&str> = CASES.iter().map(|case| case.name).chain(own).collect();
    match cases.iter().find(|case| !known.contains(&case.as_str())) {
        Some(case) => bail!("there is no case {case}; the cases are {}", known.join(", ")),
        None => Ok(()),
    }
}

impl Bench {
    fn new() -> Result<Bench> {
        let cpus = Cpus::of_this_machine()?;
        sys::pin(cpus.generator)?;
        let folder = WorkFolder::new()?;
        let (generator, certificate) = (Generator::new()?, Certificate::new()?);
        Ok(Bench { generator, certificate, cpus, folder })
    }

    /// The rows of `cases`, the first server against each other one.
    fn against_peers(
        &mut self,
        servers: &[&dyn Server],
        cases: &[&Case],
        effort: Effort,
    ) -> Result<Vec<Row>> {
        if cases.is_empty() {
            return Ok(Vec::new());
        }
        let contenders: Vec<Contender> =
            servers.iter().map(|server| self.start(*server)).collect::<Result<_>>()?;
        self.say_what_the_generator_can()?;
        let mut rows = Vec::new();
        for case in cases {
            eprintln!("measuring {}", case.name);
            let figures = self.figures(&contenders, case, effort);
            rows.extend(rows_of(case, &figures));
        }
        if !self.cpus.are_two() {
            let remark = "server and generator shared the only CPU".to_owned();
            rows.iter_mut().for_each(|row| row.remarks.push(remark.clone()));
        }
        Ok(rows)
    }

    /// Clients straight to the origin: a server that answers more than this cannot fill its CPU.
    fn say_what_the_generator_can(&mut self) -> Result<()> {
        let target = Target { address: self.generator.origin()?, tls: None };
        let pace = Pace::Saturate;
        let workload = Workload { target, path: SMALL, connections: CONNECTIONS, pace };
        let mut load = self.generator.begin(&workload)?;
        self.generator.run(&mut load, GENERATOR_ALONE)?;
        let rate = load.answered as f64 / GENERATOR_ALONE.as_secs_f64();
        eprintln!("generator and origin alone: {rate:.0} requests/s (HTTP/1.1, 1 KiB)");
        Ok(())
    }

    fn own_figures(
        &mut self,
        cutwater: &Cutwater,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Row>> {
        let folder = self.folder.part("own")?;
        let site = Site {
            folder: &folder,
            origin: self.generator.origin()?,
            certificate: &self.certificate,
            cpus: self.cpus,
        };
        Ok(own::measure(cutwater, &mut self.generator, &site, wanted))
    }

    fn start(&self, server: &dyn Server) -> Result<Contender> {
        let name = server.name();
        if let Some(reason) = server.missing() {
            return Ok(Contender { name, running: Err(reason) });
        }
        let folder = self.folder.part(name)?;
        let site = Site {
            folder: &folder,
            origin: self.generator.origin()?,
            certificate: &self.certificate,
            cpus: self.cpus,
        };
        let running = server.start(&site);
        Ok(Contender { name, running: running.map_err(|error| format!("{name}: {error:#}")) })
    }

    /// One figure a contender: those that give the right bytes are measured.
    fn figures(
        &mut self,
        contenders: &[Contender],
        case: &Case,
        effort: Effort,
    ) -> Vec<(&'static str, OrReason<Figure>)> {
        let checked: Vec<OrReason<&Running>> =
            contenders.iter().map(|contender| self.checked(contender, case)).collect();
        let sound: Vec<&Running> = checked.iter().flatten().copied().collect();
        let mut figures =
            measure::measure(&mut self.generator, &sound, case.shape, effort).into_iter();
        let names = contenders.iter().map(|contender| contender.name);
        names
            .zip(checked)
            .map(|(name, checked)| {
                let figure = checked.and_then(|_| match figures.next() {
                    Some(figure) => figure.map_err(|error| format!("{name}: {error:#}")),
                    None => Err(format!("{name} was not measured")),
                });
                (name, figure)
            })
            .collect()
    }

    fn checked<'a>(&mut self, contender: &'a Contender, case: &Case) -> OrReason<&'a Running> {
        let running = contender.running.as_ref().map_err(String::clone)?;
        measure::check(&mut self.generator, running, &self.certificate, case.shape)
            .map_err(|error| format!("{} failed the check: {error:#}", contender.name))?;
        Ok(running)
    }
}

/// The first figure against each of the others.
fn rows_of(case: &Case, figures: &[(&'static str, OrReason<Figure>)]) -> Vec<Row> {
    let Some(((_, ours), peers)) = figures.split_first() else { return Vec::new() };
    let row = |(index, (name, peer)): (usize, &(&'static str, OrReason<Figure>))| {
        // The first peer is the one that the goals are about.
        let title =
            if index == 0 { case.name.to_owned() } else { format!("{} vs {name}", case.name) };
        let micros = |figure: &OrReason<Figure>| figure.as_ref().ok().map(Figure::micros);
        let mut row = Row::against_peer(title, micros(ours), (*name, micros(peer)), case.goal);
        row.remarks.extend(remarks("ours", ours));
        row.remarks.extend(remarks(name, peer));
        row
    };
    peers.iter().enumerate().map(row).collect()
}

fn remarks(name: &str, figure: &OrReason<Figure>) -> Option<String> {
    match figure {
        Ok(figure) => {
            let doubts = figure.doubts();
            (!doubts.is_empty()).then(|| format!("{name}: {}", doubts.join(", ")))
        }
        Err(reason) => Some(reason.clone()),
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

    /// One short round of each shape: are the figures what a proxy on one CPU can give?
    fn measure_peer(server: &dyn Server) {
        let mut bench = Bench::new().unwrap();
        if let Some(reason) = server.missing() {
            println!("skipped: {reason}");
            return;
        }
        let contender = bench.start(server).unwrap();
        assert!(contender.running.is_ok(), "{:?}", contender.running.err());
        let effort = Effort { rounds: 1, time: Duration::from_secs(1) };
        for case in CASES {
            let figures = bench.figures(std::slice::from_ref(&contender), case, effort);
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
        let mut bench = Bench::new().unwrap();
        if Nginx.missing().is_some() {
            return;
        }
        let contender = bench.start(&Nginx).unwrap();
        let mut case = *CASES.first().unwrap();
        case.shape.path = "/nothing";
        let effort = Effort { rounds: 1, time: Duration::from_millis(10) };
        let figures = bench.figures(&[contender], &case, effort);
        let reason = figures.into_iter().next().unwrap().1.err().unwrap();
        assert!(reason.contains("nginx failed the check"), "{reason}");
        assert!(reason.contains("404"), "{reason}");
    }

    #[test]
    fn a_peer_that_is_absent_leaves_a_row_with_the_reason() {
        let case = CASES.first().unwrap();
        let absent = |name| (name, Err(format!("{name} is not installed")));
        let rows = rows_of(case, &[absent("cutwater"), absent("nginx"), absent("haproxy")]);
        let titles: Vec<&str> = rows.iter().map(|row| row.case.as_str()).collect();
        assert_eq!(titles, ["http1-1k", "http1-1k vs haproxy"]);
        assert!(rows.iter().all(|row| !row.met && row.ratio.is_none()));
        assert_eq!(rows[1].remarks[1], "haproxy is not installed");
    }

    #[test]
    fn an_unknown_case_is_named_with_those_that_exist() {
        let error = reject_unknown(&["http9".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("http9") && error.contains("tls-1k"), "{error}");
        assert!(reject_unknown(&["file-change-live-ms".to_owned()]).is_ok());
    }

    /// The peers against each other, with the generator's own cost: is it cheap enough?
    #[test]
    #[ignore = "takes minutes; prints figures for people"]
    fn peers_against_each_other() {
        let mut bench = Bench::new().unwrap();
        bench.say_what_the_generator_can().unwrap();
        let contenders =
            [&Nginx as &dyn Server, &Haproxy].map(|server| bench.start(server).unwrap());
        let effort = Effort { rounds: 5, time: Duration::from_secs(2) };
        for case in CASES {
            for (name, figure) in bench.figures(&contenders, case, effort) {
                let figure = figure.unwrap();
                println!(
                    "{:18} {name:8} {:7.2} us  {:6.0}/s  generator {:.2} of its CPU  {:?}",
                    case.name,
                    figure.micros(),
                    figure.per_second(),
                    figure.generator_share(),
                    figure.doubts(),
                );
            }
        }
    }
}
