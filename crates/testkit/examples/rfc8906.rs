//! The server checks of RFC 8906 section 8 against the real binary: `rfc8906 SUITE [--json FILE]`. The suite is a Python
//! program that prints PASS or FAIL a check.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use testkit::instance::{Instance, Plan};

const ZONE: &str = "\
apiVersion: cutwater.dev/v1alpha1
kind: Zone
metadata: {name: example-test}
spec:
  name: example.test
  records:
  - {name: ns1, type: A, values: [192.0.2.53]}
  - {name: www, type: A, values: [192.0.2.80]}
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (suite, json) = match arguments.as_slice() {
        [suite] => (suite, None),
        [suite, flag, file] if flag == "--json" => (suite, Some(PathBuf::from(file))),
        _ => {
            eprintln!("usage: rfc8906 SUITE [--json FILE]");
            return ExitCode::from(64);
        }
    };
    match play(Path::new(suite), json.as_deref()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns how many checks failed.
fn play(suite: &Path, json: Option<&Path>) -> Result<usize, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    std::fs::write(folder.path().join("zone.yaml"), ZONE).map_err(|error| error.to_string())?;
    let mut plan = Plan::new(folder.path());
    plan.ports = vec![53];
    let instance = Instance::start(&plan)?;
    let port = instance.bound(53).port().to_string();
    let run = Command::new("python3")
        .arg(suite.join("run.py"))
        .args(["127.0.0.1", &port, "example.test"])
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    instance.stop()?;
    let text = String::from_utf8_lossy(&run.stdout);
    let count = |verdict: &str| text.lines().filter(|line| line.starts_with(verdict)).count();
    let (passed, failed) = (count("PASS "), count("FAIL "));
    for line in text.lines().filter(|line| line.starts_with("FAIL ")) {
        println!("{line}");
    }
    if passed + failed == 0 {
        return Err(format!("the suite checked nothing: {}", String::from_utf8_lossy(&run.stderr)));
    }
    println!("rfc8906: {passed} passed, {failed} failed, 0 skipped");
    if let Some(file) = json {
        let result =
            serde_json::json!({"name": "dns", "passed": passed, "failed": failed, "skipped": []});
        std::fs::write(file, format!("{result:#}\n")).map_err(|error| error.to_string())?;
    }
    Ok(failed)
}
