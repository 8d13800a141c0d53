//! What the conformance programs of `examples/` share: programs that are bounded in time, and the count of cases.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Characters of what a failed case says.
const SHOWN: usize = 600;
const PAUSE: Duration = Duration::from_millis(20);

/// `DIR [--json FILE]`.
pub struct Arguments {
    pub folder: PathBuf,
    json: Option<PathBuf>,
}

impl Arguments {
    pub fn parse() -> Result<Arguments, String> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        match arguments.as_slice() {
            [folder] => Ok(Arguments { folder: folder.into(), json: None }),
            [folder, flag, file] if flag == "--json" => {
                Ok(Arguments { folder: folder.into(), json: Some(file.into()) })
            }
            _ => Err("usage: DIR [--json FILE]".to_owned()),
        }
    }
}

/// Cases as they are played.
pub struct Cases {
    name: &'static str,
    passed: usize,
    failed: usize,
    skipped: Vec<serde_json::Value>,
}

impl Cases {
    pub fn new(name: &'static str) -> Cases {
        Cases { name, passed: 0, failed: 0, skipped: Vec::new() }
    }

    pub fn count(&mut self, case: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                let why: String = why.chars().take(SHOWN).collect();
                println!("FAIL {case}: {why}");
            }
        }
    }

    pub fn skip(&mut self, case: &str, reason: &str) {
        self.skipped.push(serde_json::json!({"case": case, "reason": reason}));
    }

    fn write(&self, json: Option<&Path>) -> Result<(), String> {
        let Cases { name, passed, failed, skipped } = self;
        println!("{name}: {passed} passed, {failed} failed, {} skipped", skipped.len());
        if passed + failed == 0 {
            return Err("the suite checked nothing".to_owned());
        }
        let Some(file) = json else { return Ok(()) };
        let result = serde_json::json!(
            {"name": name, "passed": passed, "failed": failed, "skipped": skipped}
        );
        std::fs::write(file, format!("{result:#}\n")).map_err(|error| error.to_string())
    }
}

/// Plays a suite as a program does: 0 when every case holds, 1 when one fails, 2 when it could not be played.
pub fn main(play: impl FnOnce(&Path) -> Result<Cases, String>) -> ExitCode {
    let played = Arguments::parse().and_then(|arguments| {
        let cases = play(&arguments.folder)?;
        cases.write(arguments.json.as_deref()).map(|()| cases.failed)
    });
    match played {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// What a program printed that ended in time, and whether it ended well.
pub fn run(command: &mut Command, limit: Duration) -> Result<(bool, String), String> {
    let mut printed = tempfile::tempfile().map_err(|error| error.to_string())?;
    let copy = || printed.try_clone().map_err(|error| error.to_string());
    let (output, errors) = (copy()?, copy()?);
    let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    let mut child = Running(child.map_err(|error| format!("{command:?}: {error}"))?);
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.0.try_wait().map_err(|error| error.to_string())? {
            return Ok((status.success(), read(&mut printed)?));
        }
        if Instant::now() > end {
            return Err(format!("not over after {limit:?}: {}", read(&mut printed)?));
        }
        std::thread::sleep(PAUSE);
    }
}

fn read(file: &mut File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A program beside the test; it ends with this.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Result<Running, String> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().map(Running).map_err(|error| format!("{command:?}: {error}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
