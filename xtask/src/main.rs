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

/// Its lists are those that run.
fn help() -> String {
    let names = |steps: &[ci::Step]| listed(steps.iter().map(|step| step.name));
    format!(
        "\
usage: cargo xtask VERB

  test                              set up what the tests need, build, run every test
  ci                                {ci}
  tidy                              the floors, purity, forbidden crates, file sizes
  bench [NAME] [--json FILE]        measure beside peers (edge)
  cost [--accept REASON]            instructions a request, against bench/results/instructions.json
  abuse [NAME] [--short] [--json FILE]
                                    faults and abuses, beside peers (default: all, 15 minutes at most)
  conformance [NAME] [--json FILE]  suites and clients of others (default: all), of:
                                    {suites}
  fuzz [NAME] [--seconds N]         run fuzz targets (default: all, 10 s each)
       [--minutes N]                the same for N minutes each
  full                              everything, for an evening: ci, then
                                    {full}
",
        ci = names(ci::CI),
        suites = listed(conformance::names()),
        full = names(ci::FULL),
    )
}

/// Beside the verbs, in lines that fit.
fn listed(names: impl Iterator<Item = &'static str>) -> String {
    const INDENT: &str = "\n                                    ";
    const WIDTH: usize = 64;
    let (mut text, mut width) = (String::new(), 0);
    for name in names {
        if width > 0 {
            text += ",";
            let fits = width + name.len() + 2 <= WIDTH;
            text += if fits { " " } else { INDENT };
            width = if fits { width + 2 } else { 0 };
        }
        text += name;
        width += name.len();
    }
    text
}

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
        Some("ci") => ci::all(ci::CI),
        Some("tidy") => tidy::run(),
        Some("abuse") => forward::abuse(rest),
        Some("bench") => forward::bench(rest),
        Some("cost") => forward::cost(rest),
        Some("conformance") => conformance::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("full") => ci::all(ci::CI).and_then(|()| ci::all(ci::FULL)),
        Some("help") | None => {
            print!("{}", help());
            Ok(())
        }
        Some(other) => bail!("unknown verb `{other}`\n\n{}", help()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_step_and_suite_in_lines_that_fit() {
        let text = help();
        let steps = ci::CI.iter().chain(ci::FULL).map(|step| step.name);
        for name in steps.chain(conformance::names()) {
            assert!(text.contains(name), "{name} in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }
}
