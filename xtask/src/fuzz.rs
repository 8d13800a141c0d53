//! Fuzz targets, each for a bounded time, from its committed corpus.

use crate::setup::{cargo, has, in_ci, root};
use anyhow::{Context, Result, bail};
use std::process::Command;

const DEFAULT_SECONDS: u32 = 10;

pub fn run(arguments: &[String]) -> Result<()> {
    let (chosen, seconds) = parse(arguments)?;
    if let Some(reason) = unavailable()? {
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
    for target in targets {
        run_one(&target, seconds)?;
    }
    Ok(())
}

fn run_one(target: &str, seconds: u32) -> Result<()> {
    let scratch = root().join("fuzz/target/corpus").join(target);
    std::fs::create_dir_all(&scratch)?;
    // New inputs go to the scratch corpus; the committed one is read only.
    let command = &mut Command::new("cargo");
    command.current_dir(root()).env_remove("RUSTUP_TOOLCHAIN");
    command.args(["+nightly", "fuzz", "run", "--fuzz-dir", "fuzz", target]).arg(&scratch);
    let seeds = root().join("fuzz/corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-timeout=10",
        "-rss_limit_mb=2048",
    ]);
    crate::setup::run(command)
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

/// Why fuzzing cannot run here, after trying to install what it needs.
fn unavailable() -> Result<Option<String>> {
    let nightly = Command::new("rustup").args(["toolchain", "list"]).output();
    let has_nightly =
        nightly.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nightly"));
    if !has_nightly {
        return Ok(Some(
            "fuzzing needs a nightly toolchain (rustup toolchain install nightly)".to_owned(),
        ));
    }
    let installed = has("cargo-fuzz")
        || crate::setup::run(cargo().args(["install", "--locked", "cargo-fuzz"])).is_ok();
    Ok((!installed).then(|| "cargo-fuzz could not be installed".to_owned()))
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
