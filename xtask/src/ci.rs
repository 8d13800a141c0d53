//! What runs before anything lands.

use crate::conformance::Length;
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

/// A part of `ci` or `full`, as `help` names it.
pub struct Step {
    pub name: &'static str,
    run: fn() -> Result<()>,
}

pub const CI: &[Step] = &[
    Step { name: "format", run: || run(cargo().args(["fmt", "--all", "--check"])) },
    Step { name: "clippy", run: clippy },
    Step { name: "tidy", run: tidy::run },
    Step { name: "tests", run: test },
    Step { name: "docs", run: docs },
    Step { name: "conformance but for long suites", run: || conformance::all(Length::Short) },
    Step { name: "short abuse", run: || forward::abuse(&["--short".to_owned()]) },
    Step { name: "cost", run: || forward::cost(&[]) },
    Step { name: "10 s of fuzzing a target", run: || fuzz_for("10") },
];

/// After those of `ci`.
pub const FULL: &[Step] = &[
    Step { name: "long suites of conformance", run: || conformance::all(Length::Long) },
    Step { name: "300 s of fuzzing a target", run: || fuzz_for("300") },
    Step { name: "bench", run: || forward::bench(&[]) },
];

pub fn all(steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|named| step(named.name, named.run))
}

fn clippy() -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    let mut command = cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command.args(["doc", "--workspace", "--no-deps", "--quiet"]))
}

fn fuzz_for(seconds: &str) -> Result<()> {
    fuzz::run(&["--seconds".to_owned(), seconds.to_owned()])
}

fn step(name: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {name}");
    let start = Instant::now();
    action()?;
    eprintln!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
