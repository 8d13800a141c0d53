//! Every piece of automation, one verb each. `cargo xtask help` lists them.
#![forbid(unsafe_code)]

mod ci;
mod conformance;
mod forward;
mod fuzz;
mod setup;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask VERB

  test                              set up what the tests need, build, run every test
  ci                                format, clippy, tidy, tests, docs, cost, short abuse, conformance,
                                    short fuzzing
  tidy                              the floors, purity, forbidden crates, file sizes
  bench [NAME] [--json FILE]        measure beside peers (edge)
  cost [--accept REASON]            instructions a request, against bench/results/instructions.json
  abuse [NAME] [--short] [--json FILE]
                                    faults and abuses, beside peers (default: all, 15 minutes at most)
  conformance [NAME] [--json FILE]  suites and clients of others (http, dns, clients;
                                    default: all)
  fuzz [NAME] [--seconds N]         run fuzz targets (default: all, 10 s each)
       [--minutes N]                the same for N minutes each
  full                              everything, for an evening
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("test") => ci::test(),
        Some("ci") => ci::ci(),
        Some("tidy") => tidy::run(),
        Some("abuse") => forward::abuse(rest),
        Some("bench") => forward::bench(rest),
        Some("cost") => forward::cost(rest),
        Some("conformance") => conformance::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("full") => ci::full(),
        Some("help") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("unknown verb `{other}`\n\n{HELP}"),
    }
}
