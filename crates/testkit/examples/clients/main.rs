//! Clients that others made, against the real binary: `clients FOLDER [--json FILE]`, with the folder `crates/testkit/clients`
//! of their programs. Each case is one client doing one thing; a client that is not here is a skipped case with its
//! reason. The origin is in this program, and knows what it was asked.

mod cases;
mod origin;

use std::path::Path;
use std::process::ExitCode;

use cases::{CASES, Outcome, Site};
use testkit::suite::{self, Cases};

fn main() -> ExitCode {
    suite::main(play)
}

fn play(programs: &Path) -> Result<Cases, String> {
    let programs = std::fs::canonicalize(programs).map_err(|error| error.to_string())?;
    let site = Site::start(&programs)?;
    let mut cases = Cases::new("clients");
    for case in CASES {
        match (case.run)(&site) {
            Outcome::Passed => cases.count(case.name, Ok(())),
            Outcome::Failed(why) => cases.count(case.name, Err(why)),
            Outcome::Skipped(reason) => cases.skip(case.name, &reason),
        }
    }
    site.stop()?;
    Ok(cases)
}
