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

/// libFuzzer's instrumentation and the address sanitizer, as `cargo fuzz` sets them, without needing that program.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cdebug-assertions -Zsanitizer=address";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn build() -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root().join("fuzz"))
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("RUSTFLAGS", FLAGS);
    crate::setup::run(command.args(["+nightly", "build", "--release", "--target", TRIPLE]))
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
            "--seconds" => {
                seconds = rest
                    .next()
                    .context("--seconds needs N")?
                    .parse()
                    .context("--seconds needs a number")?
            }
            "--minutes" => {
                seconds = 60
                    * rest
                        .next()
                        .context("--minutes needs N")?
                        .parse::<u32>()
                        .context("--minutes needs a number")?;
            }
            other => name = Some(other.to_owned()),
        }
    }
    Ok((name, seconds))
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
