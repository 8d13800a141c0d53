//! The server checks of RFC 8906 section 8, by a suite outside this repository: a Python program that prints PASS or
//! FAIL a check. Its folder is `RFC8906_SUITE`, or the one below.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const SUITE: &str = "/work/shared/suites/rfc8906";
const CHECKS: usize = 21;

/// The example server, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_check_passes() {
    let folder = std::env::var_os("RFC8906_SUITE").map_or(PathBuf::from(SUITE), PathBuf::from);
    let program = folder.join("run.py");
    if let Some(reason) = missing(&program) {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut server = start();
    let output = server.0.stdout.take().expect("standard output is a pipe");
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address).expect("the server prints its address");
    let port = address.trim().rsplit(':').next().expect("an address with a port");
    let run = Command::new("python3")
        .arg(&program)
        .args(["127.0.0.1", port, "example.test"])
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(text.lines().filter(|line| line.starts_with("PASS ")).count(), CHECKS, "{text}");
}

fn missing(program: &std::path::Path) -> Option<String> {
    if !program.exists() {
        return Some(format!("{} does not exist", program.display()));
    }
    let imported = Command::new("python3").args(["-c", "import dns.message"]).output();
    match imported {
        Ok(run) if run.status.success() => None,
        Ok(_) => Some("python3 has no dnspython (pip install dnspython)".to_owned()),
        Err(_) => Some("python3 is not installed".to_owned()),
    }
}

/// Cargo builds examples beside the tests, in `examples` next to the `deps` that this test runs from.
fn start() -> Server {
    let test = std::env::current_exe().expect("a test knows its program");
    let target = test.ancestors().nth(2).expect("tests run from target/<profile>/deps");
    let server = Command::new(target.join("examples/serve"))
        .arg("127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`cargo test` builds the example `serve` before it runs tests");
    Server(server)
}
