//! Clients that others made, against the real binary: `clients FOLDER [--json FILE]`, with the folder `crates/testkit/clients`
//! of their programs. Each case is one client doing one thing; a client that is not here is a skipped case with its
//! reason. The origin is in this program, and knows what it was asked.

mod cases;
mod origin;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use cases::{CASES, Outcome, Site};
use serde_json::json;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, json) = match arguments.as_slice() {
        [folder] => (folder, None),
        [folder, flag, file] if flag == "--json" => (folder, Some(PathBuf::from(file))),
        _ => {
            eprintln!("usage: clients FOLDER [--json FILE]");
            return ExitCode::from(64);
        }
    };
    match play(Path::new(folder), json.as_deref()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns how many cases failed.
fn play(programs: &Path, json: Option<&Path>) -> Result<u64, String> {
    let programs = std::fs::canonicalize(programs).map_err(|error| error.to_string())?;
    let site = Site::start(&programs)?;
    let (mut passed, mut failed, mut skipped) = (0, 0, Vec::new());
    for case in CASES {
        let began = Instant::now();
        let outcome = (case.run)(&site);
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("passed   {:32} {seconds:5.1} s", case.name);
            }
            Outcome::Failed(why) => {
                failed += 1;
                println!("FAILED   {:32} {seconds:5.1} s\n{why}", case.name);
            }
            Outcome::Skipped(reason) => {
                println!("skipped  {:32} {reason}", case.name);
                skipped.push(json!({"case": case.name, "reason": reason}));
            }
        }
    }
    site.stop()?;
    if let Some(file) = json {
        let value = json!({
            "name": "clients", "passed": passed, "failed": failed, "skipped": skipped,
        });
        std::fs::write(file, format!("{value:#}\n")).map_err(|error| error.to_string())?;
    }
    Ok(failed)
}
