//! `bench cost`: instructions that Cutwater spends on a request, counted by callgrind, against committed figures. Unlike
//! time they hardly depend on what else the machine does, so that they may be held to a narrow limit. Counted are
//! instructions in user space of the whole process; the kernel's are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::client::Target;
use crate::edge::Bench;
use crate::http::HOST;
use crate::http2::Scheme;
use crate::load::Pace;
use crate::measure::Effort;
use crate::origin::SMALL;
use crate::script::{Script, Work};
use crate::server::{Cutwater, folder};
use crate::tls;

/// A case, and what each client sends.
struct Case {
    name: &'static str,
    tls: bool,
    work: Work,
}

const H2C: Work = Work::Http2 { path: SMALL, streams: 1, scheme: Scheme::Http };

const CASES: &[Case] = &[
    Case { name: "http1", tls: false, work: Work::Get(SMALL) },
    Case { name: "http2", tls: false, work: H2C },
    Case { name: "tls", tls: true, work: Work::Get(SMALL) },
];

/// Two runs; their difference leaves out what starting and ending costs.
const FEW: usize = 200;
const MANY: usize = 2_200;
/// How far a figure may lie from the committed one.
const TOLERANCE_PERCENT: u64 = 3;
const WRITES_PROFILE: Duration = Duration::from_secs(60);

pub struct Options {
    pub cutwater: PathBuf,
    pub effort: Effort,
    /// Why the committed figures are replaced by the measured ones.
    pub reason: Option<String>,
}

/// The file of committed figures.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Committed {
    /// What is counted, for who reads the file.
    unit: String,
    figures: Vec<CommittedFigure>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct CommittedFigure {
    case: String,
    instructions: u64,
    /// Why it is what it is: said whenever it changes.
    reason: String,
}

/// True when every figure is within the tolerance, or was replaced.
pub fn run(options: &Options) -> Result<bool> {
    let cutwater = Cutwater::at(options.cutwater.clone());
    let mut bench = Bench::new(options.effort)?;
    let mut figures = Vec::new();
    for case in CASES {
        eprintln!("counting {}", case.name);
        figures.push((case.name, instructions(&mut bench, &cutwater, case)?));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/instructions.json");
    let committed = read(&file)?;
    let verdicts = judge(&figures, committed.as_ref());
    verdicts.iter().for_each(|verdict| println!("{}", verdict.line));
    if let Some(reason) = &options.reason {
        write(&file, replaced(&figures, committed, reason))?;
        println!("{} holds the new figures with their reason: commit it", file.display());
        return Ok(true);
    }
    let holds = verdicts.iter().all(|verdict| verdict.holds);
    if !holds {
        println!(
            "A figure is more than {} % off the committed one. If that is meant, say why and commit the file: \
             cargo xtask cost --accept \"the reason\"",
            TOLERANCE_PERCENT
        );
    }
    Ok(holds)
}

fn instructions(bench: &mut Bench, cutwater: &Cutwater, case: &Case) -> Result<u64> {
    let few = total(bench, cutwater, case, FEW)?;
    let many = total(bench, cutwater, case, MANY)?;
    let more = many.checked_sub(few).context("more requests took fewer instructions")?;
    Ok(more / (MANY - FEW) as u64)
}

/// Instructions of a whole run with so many requests, one after the other on one connection.
fn total(bench: &mut Bench, cutwater: &Cutwater, case: &Case, requests: usize) -> Result<u64> {
    let site = bench.site("cost")?;
    let manifests = site.folder.join("manifests");
    folder::write_bench(&manifests, &site)?;
    let profile = site.folder.join("callgrind.out");
    // One of a run before would be read as that of this one.
    let _ = fs::remove_file(&profile);
    let instance = cutwater.up_in_callgrind(&manifests, &site, &profile)?;
    let script = Script::new(case.work, &[HOST.to_owned()]);
    let tls = if case.tls { Some(tls::timed_client(script.protocol)?) } else { None };
    let address = if case.tls { instance.running.https } else { instance.running.http };
    let mut load = bench.generator.open(&Target { address, tls }, &script, Pace::PerSecond(0));
    bench.generator.add(&mut load, 1)?;
    for _ in 0..requests {
        bench.generator.exchange_once(&mut load, 0)?;
    }
    drop(load);
    instance.running.end(WRITES_PROFILE)?;
    let text = fs::read_to_string(&profile).context("callgrind left no profile")?;
    total_of(&text).with_context(|| format!("no total in {}", profile.display()))
}

/// The line `totals:` of a profile.
fn total_of(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
}

struct Verdict {
    line: String,
    holds: bool,
}

fn judge(figures: &[(&str, u64)], committed: Option<&Committed>) -> Vec<Verdict> {
    let verdict = |&(case, now): &(&str, u64)| {
        let of_case = |figure: &&CommittedFigure| figure.case == case;
        let before = committed.and_then(|committed| committed.figures.iter().find(of_case));
        let Some(before) = before else {
            let line = format!("{case:6} {now:>8} instructions a request, and none committed");
            return Verdict { line, holds: false };
        };
        let change = now as f64 / before.instructions as f64 - 1.0;
        let off = now.abs_diff(before.instructions);
        let holds = off * 100 <= before.instructions * TOLERANCE_PERCENT;
        let word = if holds { "holds" } else { "OFF" };
        let line = format!(
            "{case:6} {now:>8} instructions a request, committed {:>8}: {:+.1} %  {word}",
            before.instructions,
            change * 100.0
        );
        Verdict { line, holds }
    };
    figures.iter().map(verdict).collect()
}

/// The figures of now; the reasons of those that still hold stay.
fn replaced(figures: &[(&str, u64)], committed: Option<Committed>, reason: &str) -> Committed {
    let verdicts = judge(figures, committed.as_ref());
    let mut before = committed.map(|committed| committed.figures).unwrap_or_default();
    let figure = |(&(case, now), verdict): (&(&str, u64), &Verdict)| {
        let at = before.iter().position(|figure| figure.case == case);
        match at.map(|at| before.swap_remove(at)) {
            Some(figure) if verdict.holds => figure,
            _ => CommittedFigure {
                case: case.to_owned(),
                instructions: now,
                reason: reason.to_owned(),
            },
        }
    };
    let unit = "instructions in user space a request of 1 KiB on one kept connection, profile e2e";
    Committed {
        unit: unit.to_owned(),
        figures: figures.iter().zip(&verdicts).map(figure).collect(),
    }
}

fn read(file: &Path) -> Result<Option<Committed>> {
    match fs::read_to_string(file) {
        Ok(text) => {
            Ok(Some(serde_json::from_str(&text).with_context(|| file.display().to_string())?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => bail!("{}: {error}", file.display()),
    }
}

fn write(file: &Path, committed: Committed) -> Result<()> {
    let text = serde_json::to_string_pretty(&committed)? + "\n";
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Committed {
        let figure = |case: &str, instructions| CommittedFigure {
            case: case.to_owned(),
            instructions,
            reason: "first".to_owned(),
        };
        let figures = vec![figure("http1", 10_000), figure("tls", 20_000)];
        Committed { unit: "instructions".to_owned(), figures }
    }

    #[test]
    fn a_figure_holds_within_three_percent_either_way() {
        let holds = |figures: &[(&str, u64)]| -> Vec<bool> {
            judge(figures, Some(&committed())).iter().map(|verdict| verdict.holds).collect()
        };
        assert_eq!(holds(&[("http1", 10_300), ("tls", 19_400)]), [true, true]);
        assert_eq!(holds(&[("http1", 10_301), ("tls", 19_399)]), [false, false]);
        assert_eq!(holds(&[("http2", 1)]), [false]);
    }

    #[test]
    fn only_figures_that_moved_get_the_new_reason() {
        let new = replaced(&[("http1", 9_000), ("tls", 20_100)], Some(committed()), "faster");
        let told: Vec<_> =
            new.figures.iter().map(|it| (it.instructions, it.reason.as_str())).collect();
        assert_eq!(told, [(9_000, "faster"), (20_000, "first")]);
    }

    #[test]
    fn the_total_of_a_profile_is_read() {
        assert_eq!(total_of("events: Ir\nfn=x\n1 2\ntotals: 1234\n"), Some(1_234));
        assert_eq!(total_of("events: Ir\n"), None);
    }
}
