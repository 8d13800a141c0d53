//! What runs before anything lands.

use crate::setup::{cargo, debian, in_ci, run};
use crate::{conformance, forward, fuzz, tidy};
use anyhow::Result;
use std::time::Instant;

/// Programs that tests talk to, and the packages that bring them.
const TEST_PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("dig", "dnsutils"),
    ("strace", "strace"),
    ("python3", "python3"),
    ("cc", "build-essential"),
];

/// The suite of clients takes a browser and ten minutes: `xtask full` plays it.
const SUITES_OF_EVERY_RUN: &[&str] = &["http", "dns", "http2", "grpc"];

/// Any number: it only has to stay.
const PROPTEST_SEED: &str = "20261121";

pub fn test() -> Result<()> {
    debian(TEST_PROGRAMS)?;
    // The scenario and command-line tests start the real binary.
    step("build the binary", || run(cargo().args(["build", "-p", "cutwater"])))?;
    step("test", || {
        let mut command = cargo();
        if in_ci() {
            // The same cases at every run; a desk and `xtask full` look further.
            command.env("PROPTEST_RNG_SEED", PROPTEST_SEED);
        }
        run(command.args(["test", "--workspace", "--no-fail-fast"]))
    })
}

pub fn ci() -> Result<()> {
    step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", || {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("tidy", tidy::run)?;
    test()?;
    step("docs", || {
        run(cargo().env("RUSTDOCFLAGS", "-D warnings").args([
            "doc",
            "--workspace",
            "--no-deps",
            "--quiet",
        ]))
    })?;
    for suite in SUITES_OF_EVERY_RUN {
        step(&format!("conformance {suite}"), || conformance::run(&[(*suite).to_owned()]))?;
    }
    step("fuzz", || fuzz::run(&["--seconds".to_owned(), "10".to_owned()]))
}

pub fn full() -> Result<()> {
    ci()?;
    step("cost", || forward::cost(&[]))?;
    step("abuse, the short form", || forward::abuse(&["--short".to_owned()]))?;
    step("conformance clients", || conformance::run(&["clients".to_owned()]))?;
    step("fuzz for longer", || fuzz::run(&["--seconds".to_owned(), "300".to_owned()]))?;
    step("bench", || forward::bench(&[]))
}

fn step(name: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {name}");
    let start = Instant::now();
    action()?;
    eprintln!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
