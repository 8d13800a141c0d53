//! Verbs that are programs of their own.

use crate::setup::{cargo, root, run};
use anyhow::Result;

/// The bench kit measures the release build. It runs where we were called, so that `--json FILE` is written there.
pub fn bench(arguments: &[String]) -> Result<()> {
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
