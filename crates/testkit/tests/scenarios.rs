//! Plays every file of `scenarios/` against the real binary; a file named in `SCENARIO` alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use testkit::{Outcome, Scenario};

/// Files are played beside each other: most of their time is waiting.
const AT_ONCE: usize = 4;

#[test]
fn every_file_can_be_read() {
    let files = files(None);
    assert!(files.len() >= 40, "{} scenario files", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let scenario = Scenario::parse(&text)
            .map_err(|failure| failure.to_string())
            .and_then(|scenario| scenario.with_common(&file.with_file_name("common")));
        scenario.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

#[test]
fn scenarios_hold() {
    testkit::instance::binary().unwrap_or_else(|error| panic!("{error}"));
    let only = std::env::var("SCENARIO").ok();
    let files = files(only.as_deref());
    assert!(!files.is_empty(), "no scenario file is called {only:?}");
    let left = Mutex::new(files.iter());
    let counts = Mutex::new((0, Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(file) = left.lock().unwrap().next() else { return };
                    let outcome = testkit::run_file(file);
                    let name = file.file_name().unwrap().to_string_lossy();
                    print!("{}", report(&name, &outcome));
                    let mut counts = counts.lock().unwrap();
                    counts.0 += outcome.passed;
                    if !outcome.failed.is_empty() {
                        counts.1.push(name.into_owned());
                    }
                }
            });
        }
    });
    let (passed, failed) = counts.into_inner().unwrap();
    println!("{passed} cases hold, of {} files", files.len());
    assert!(failed.is_empty(), "these files failed: {}", failed.join(", "));
}

fn report(name: &str, outcome: &Outcome) -> String {
    let all = outcome.passed + outcome.failed.len();
    let mut text = format!("{:>3} of {all:>2}  {name}: {}\n", outcome.passed, outcome.title);
    for (case, failures) in &outcome.failed {
        text += &format!("  FAILED {name}: {case}\n  {failures}\n");
    }
    if !outcome.printed.is_empty() {
        text += &format!("  it printed:\n{}\n", outcome.printed);
    }
    text
}

fn files(only: Option<&str>) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .filter(|path| only.is_none_or(|only| path.file_stem().unwrap() == only))
        .collect();
    files.sort();
    files
}
