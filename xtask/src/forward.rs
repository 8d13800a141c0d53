//! Verbs that are programs of their own.

use crate::setup::{cargo, debian, root, run};
use anyhow::Result;
use std::path::PathBuf;

/// Servers that Cutwater is compared with, by the package that brings each.
const PEERS: [(&str, &str); 2] = [("nginx", "nginx-light"), ("haproxy", "haproxy")];

/// The bench kit measures the release build. It runs where we were called, so that `--json FILE` is written there.
pub fn bench(arguments: &[String]) -> Result<()> {
    debian(&PEERS)?;
    run(cargo().args(["build", "--release", "-p", "cutwater"]))?;
    let mut command = cargo();
    command
        .current_dir(std::env::current_dir()?)
        .args(["run", "--release", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["-p", "bench", "--"])
        .args(arguments);
    run(&mut command)
}

/// Instructions a request, of a build that takes less time than the release's; the same everywhere.
pub fn cost(arguments: &[String]) -> Result<()> {
    debian(&[("valgrind", "valgrind")])?;
    run(cargo().args(["build", "--profile", E2E, "-p", "cutwater"]))?;
    // What counts need not be fast: tests have built it.
    run(cargo()
        .args(["run", "-p", "bench", "--", "cost", "--cutwater"])
        .arg(built(E2E))
        .args(arguments))
}

/// The profile of end-to-end tests.
const E2E: &str = "e2e";

/// Programs that the abuses are run on too, or with.
const ABUSE_PROGRAMS: &[(&str, &str)] = &[
    PEERS[0],
    PEERS[1],
    ("node", "nodejs"),
    ("python3", "python3"),
    ("slowhttptest", "slowhttptest"),
];

/// Faults and abuses, with figures from an optimised build; the short form takes the one that tests use.
pub fn abuse(arguments: &[String]) -> Result<()> {
    let is_short = arguments.iter().any(|argument| argument == "--short");
    let (profile, folder) = if is_short { ("dev", "debug") } else { (E2E, E2E) };
    debian(ABUSE_PROGRAMS)?;
    run(cargo().args(["build", "--profile", profile, "-p", "cutwater"]))?;
    let mut command = cargo();
    command
        .current_dir(std::env::current_dir()?)
        .env("CUTWATER_BIN", built(folder))
        .args(["run", "--profile", profile, "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["-p", "abuse", "--"])
        .args(arguments);
    run(&mut command)
}

/// The program in a folder of the target directory.
fn built(folder: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root().join("target")).join(folder).join("cutwater")
}
