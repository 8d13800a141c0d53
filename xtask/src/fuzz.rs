//! Fuzz targets, each for a bounded time, from its committed corpus.

use crate::setup::{in_ci, root};
use anyhow::{Context, Result, bail};
use std::process::Command;

const DEFAULT_SECONDS: u32 = 10;

pub fn run(arguments: &[String]) -> Result<()> {
    let (chosen, seconds) = parse(arguments)?;
    if let Some(reason) = unavailable() {
        if in_ci() {
            bail!("{reason}");
        }
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let mut targets = targets()?;
    if let Some(name) = chosen {
        if !targets.contains(&name) {
            bail!("no fuzz target `{name}`; known: {}", targets.join(", "));
        }
        targets = vec![name];
    }
    build()?;
    for target in targets {
        run_one(&target, seconds)?;
    }
    Ok(())
}

/// The same beginnings at every run; what a longer run finds is up to its length.
const SEED: &str = "-seed=20261121";

/// libFuzzer's instrumentation and the address sanitizer, as `cargo fuzz` sets them, without needing that program.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cdebug-assertions -Zsanitizer=address";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn build() -> Result<()> {
    let fuzz = root().join("fuzz");
    let mut command = Command::new("cargo");
    command
        .current_dir(&fuzz)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("RUSTFLAGS", FLAGS);
    command.args(["+nightly", "build", "--release", "--target", TRIPLE, "--target-dir"]);
    crate::setup::run(command.arg(fuzz.join("target")))
}

fn run_one(target: &str, seconds: u32) -> Result<()> {
    let fuzz = root().join("fuzz");
    // New inputs go to the scratch corpus; the committed one is only read.
    let scratch = fuzz.join("target/corpus").join(target);
    std::fs::create_dir_all(&scratch)?;
    let mut command = Command::new(fuzz.join("target").join(TRIPLE).join("release").join(target));
    command.current_dir(&fuzz).arg(&scratch);
    let seeds = fuzz.join("corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args([
        &format!("-max_total_time={seconds}"),
        "-timeout=10",
        SEED,
        "-rss_limit_mb=2048",
        "-print_final_stats=0",
    ]);
    crate::setup::run(&mut command)
}

fn parse(arguments: &[String]) -> Result<(Option<String>, u32)> {
    let (mut name, mut seconds) = (None, DEFAULT_SECONDS);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => seconds = number(argument, rest.next(), 1)?,
            "--minutes" => seconds = number(argument, rest.next(), 60)?,
            flag if flag.starts_with('-') => {
                bail!("unknown option `{flag}`; known: --seconds N, --minutes N")
            }
            _ if name.is_some() => bail!("one fuzz target at a time, or none for all"),
            target => name = Some(target.to_owned()),
        }
    }
    Ok((name, seconds))
}

/// In seconds. 0 would be no bound at all: libFuzzer takes it so.
fn number(flag: &str, value: Option<&String>, unit: u32) -> Result<u32> {
    let value = value.with_context(|| format!("{flag} needs a number"))?;
    let seconds = value.parse::<u32>().ok().and_then(|n| n.checked_mul(unit)).filter(|&n| n > 0);
    seconds.with_context(|| {
        format!("{flag} needs a number from 1 to {}, not `{value}`", u32::MAX / unit)
    })
}

/// Why fuzzing cannot run here.
fn unavailable() -> Option<String> {
    let nightly = Command::new("rustup").args(["toolchain", "list"]).output();
    let has_nightly =
        nightly.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nightly"));
    (!has_nightly)
        .then(|| "fuzzing needs a nightly toolchain (rustup toolchain install nightly)".to_owned())
}

fn targets() -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("fuzz/fuzz_targets"))
        .context("the folder fuzz/fuzz_targets")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], expected: Option<(Option<&str>, u32)>) {
        let owned: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let found = parse(&owned).ok();
        let expected = expected.map(|(name, seconds)| (name.map(str::to_owned), seconds));
        assert_eq!(found, expected, "{arguments:?}");
    }

    #[test]
    fn arguments() {
        check(&[], Some((None, DEFAULT_SECONDS)));
        check(&["request_head", "--seconds", "3"], Some((Some("request_head"), 3)));
        check(&["--minutes", "2"], Some((None, 120)));
        check(&["--minutes", "71582789"], None);
        check(&["--seconds", "0"], None);
        check(&["--seconds"], None);
        check(&["--second", "3"], None);
        check(&["one", "two"], None);
    }
}
