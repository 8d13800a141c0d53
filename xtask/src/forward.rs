//! Verbs that are programs of their own.

use crate::setup::{cargo, run};
use anyhow::Result;

/// The bench kit measures the release build.
pub fn bench(arguments: &[String]) -> Result<()> {
    run(cargo().args(["build", "--release", "-p", "cutwater"]))?;
    let named = arguments.first().is_some_and(|first| !first.starts_with('-'));
    let name: &[&str] = if named { &[] } else { &["edge"] };
    run(cargo().args(["run", "--release", "-p", "bench", "--"]).args(name).args(arguments))
}
