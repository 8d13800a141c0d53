//! Suites that nobody on the project wrote.

use crate::setup::{cargo, debian, in_ci, line, python_module, root};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

struct Suite {
    name: &'static str,
    length: Length,
    package: &'static str,
    example: &'static str,
    needs: Needs,
    /// What must be there first.
    prepare: fn() -> Result<()>,
}

/// A long one takes a browser and ten minutes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Short,
    Long,
}

/// What the program of a suite is given as DIR.
enum Needs {
    /// Test data beside the checkout.
    Data(&'static str),
    /// A folder of the checkout.
    Own(&'static str),
    /// Packages of Go, built from the module in `xtask/go` and its sums.
    Go(&'static [&'static str]),
}

/// Each suite is an example program of its crate: `DIR --json FILE`, exit 0 or, with any failed case, 1. Suites of
/// clients, servers and vectors that others made.
const SUITES: &[Suite] = &[
    Suite {
        name: "http",
        length: Length::Short,
        package: "h1",
        example: "llhttp",
        needs: Needs::Data("llhttp"),
        prepare: || Ok(()),
    },
    Suite {
        name: "dns",
        length: Length::Short,
        package: "testkit",
        example: "rfc8906",
        needs: Needs::Data("rfc8906"),
        prepare: for_dns,
    },
    Suite {
        name: "clients",
        length: Length::Long,
        package: "testkit",
        example: "clients",
        needs: Needs::Own("crates/testkit/clients"),
        prepare: for_clients,
    },
    Suite {
        name: "http2",
        length: Length::Short,
        package: "testkit",
        example: "h2spec",
        needs: Needs::Go(H2SPEC),
        prepare: build_cutwater,
    },
    Suite {
        name: "grpc",
        length: Length::Short,
        package: "testkit",
        example: "grpc",
        needs: Needs::Go(GRPC),
        prepare: build_cutwater,
    },
];

const H2SPEC: &[&str] = &["github.com/summerwind/h2spec/cmd/h2spec"];
const GRPC: &[&str] =
    &["google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server"];

/// Clients of others, by the package that brings each.
const CLIENTS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("h2load", "nghttp2-client"),
    ("wrk", "wrk"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("go", "golang-go"),
    ("chromium", "chromium"),
    ("testssl", "testssl.sh"),
    // Which testssl.sh wants.
    ("hexdump", "bsdextrautils"),
];

fn for_dns() -> Result<()> {
    build_cutwater()?;
    python_module("dns.message", "dnspython")
}

/// A client that cannot be had is a skipped case with its reason; in CI it is a fault.
fn for_clients() -> Result<()> {
    debian(CLIENTS)?;
    let httpx = python_module("httpx", "httpx[http2]");
    match httpx {
        Err(error) if !in_ci() => eprintln!("skipped: {error:#}"),
        result => result?,
    }
    build_cutwater()
}

/// Suites that play against the real binary need it.
fn build_cutwater() -> Result<()> {
    crate::setup::run(cargo().args(["build", "--quiet", "-p", "cutwater"]))
}

/// Every name that `run` knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name)
}

pub fn all(length: Length) -> Result<()> {
    play_all(SUITES.iter().filter(|suite| suite.length == length)).verdict(in_ci())
}

/// Plays every chosen suite; the file is written in any case.
pub fn run(arguments: &[String]) -> Result<()> {
    let request = Request::parse(arguments)?;
    let sum = play_all(request.suites.iter().copied());
    if let Some(file) = &request.json {
        let text = format!("{:#}\n", sum.to_json(request.name));
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    sum.verdict(in_ci())
}

/// What was asked for.
struct Request {
    name: &'static str,
    suites: Vec<&'static Suite>,
    json: Option<PathBuf>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Request> {
        let mut request = Request { name: "all", suites: SUITES.iter().collect(), json: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--json" => request.json = Some(rest.next().context("--json needs a FILE")?.into()),
                flag if flag.starts_with('-') => bail!("unknown option `{flag}`; known: --json"),
                _ if request.name != "all" => bail!("one suite at a time, or none for all"),
                name => {
                    let suite = find(name)?;
                    request.name = suite.name;
                    request.suites = vec![suite];
                }
            }
        }
        Ok(request)
    }
}

fn find(name: &str) -> Result<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name).with_context(|| {
        let known: Vec<&str> = names().collect();
        format!("no suite `{name}`; known: {}", known.join(", "))
    })
}

/// What came of suites.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Objects of `case` and `reason`.
    skipped: Vec<Value>,
    /// Suites whose data is not here: no fault on a developer's machine.
    absent: Vec<String>,
    /// Suites that could not be played to their end.
    broken: Vec<String>,
}

impl Tally {
    fn sum(tallies: Vec<Tally>) -> Tally {
        tallies.into_iter().fold(Tally::default(), |mut sum, tally| {
            sum.passed = sum.passed.saturating_add(tally.passed);
            sum.failed = sum.failed.saturating_add(tally.failed);
            sum.skipped.extend(tally.skipped);
            sum.absent.extend(tally.absent);
            sum.broken.extend(tally.broken);
            sum
        })
    }

    /// As a suite's program wrote it.
    fn from_json(text: &str) -> Option<Tally> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(Tally {
            passed: value["passed"].as_u64()?,
            failed: value["failed"].as_u64()?,
            skipped: value["skipped"].as_array()?.clone(),
            ..Tally::default()
        })
    }

    fn absent(suite: &str, reason: String) -> Tally {
        let skipped = vec![json!({"case": suite, "reason": &reason})];
        Tally { skipped, absent: vec![reason], ..Tally::default() }
    }

    fn broken(suite: &str, reason: String) -> Tally {
        let skipped = vec![json!({"case": suite, "reason": &reason})];
        Tally { skipped, broken: vec![reason], ..Tally::default() }
    }

    fn to_json(&self, name: &str) -> Value {
        json!({"name": name, "passed": self.passed, "failed": self.failed, "skipped": self.skipped})
    }

    fn verdict(&self, is_ci: bool) -> Result<()> {
        let mut faults = self.broken.clone();
        if is_ci {
            faults.extend_from_slice(&self.absent);
        }
        if self.failed > 0 {
            faults.push(format!("{} case(s) failed", self.failed));
        }
        if faults.is_empty() { Ok(()) } else { bail!("conformance: {}", faults.join("; ")) }
    }
}

/// Whatever became of the one before.
fn play_all(suites: impl Iterator<Item = &'static Suite>) -> Tally {
    Tally::sum(suites.map(play).collect())
}

fn play(suite: &Suite) -> Tally {
    let data = match suite.needs.met(suite.name) {
        Ok(data) => data,
        Err(reason) => {
            eprintln!("skipped: conformance {}: {reason}", suite.name);
            return Tally::absent(suite.name, reason);
        }
    };
    let report = std::env::temp_dir().join(format!("xtask-{}-{}", std::process::id(), suite.name));
    let tally = measure(suite, &data, &report);
    // It is not there when the suite broke; a file left over in the folder for such harms nobody.
    let _ = std::fs::remove_file(&report);
    tally.unwrap_or_else(|error| {
        eprintln!("error: conformance {}: {error:#}", suite.name);
        Tally::broken(suite.name, format!("{}: {error:#}", suite.name))
    })
}

fn measure(suite: &Suite, data: &Path, report: &Path) -> Result<Tally> {
    (suite.prepare)()?;
    let mut command = cargo();
    command
        .args(["run", "--quiet", "-p", suite.package, "--example", suite.example, "--"])
        .arg(data)
        .arg("--json")
        .arg(report);
    eprintln!("+ {}", line(&command));
    let status = command.status().with_context(|| format!("cannot start `{}`", line(&command)))?;
    let ended = || format!("`{}` ended without a result: {status}", line(&command));
    let text = std::fs::read_to_string(report).with_context(ended)?;
    let tally = Tally::from_json(&text).with_context(ended)?;
    if status.success() != (tally.failed == 0) {
        bail!("{status}, though {} case(s) failed", tally.failed);
    }
    Ok(tally)
}

impl Needs {
    /// The folder, or why there is none.
    fn met(&self, name: &str) -> Result<PathBuf, String> {
        match self {
            Needs::Data(data) => {
                let data = suites().join(data);
                data.is_dir().then_some(data.clone()).ok_or(format!("{} is absent", data.display()))
            }
            Needs::Own(path) => Ok(root().join(path)),
            Needs::Go(packages) => go(name, packages).map_err(|error| format!("{error:#}")),
        }
    }
}

/// Builds programs of Go, with the versions that `xtask/go` names and no others.
fn go(name: &str, packages: &[&str]) -> Result<PathBuf> {
    crate::setup::debian(&[("go", "golang-go")])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let folder = target.unwrap_or_else(|| root().join("target")).join("conformance").join(name);
    let folder = std::path::absolute(folder).context("the current folder is gone")?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut command = std::process::Command::new("go");
    command.current_dir(root().join("xtask/go")).args(["build", "-mod=readonly", "-o"]);
    // A slash at the end says that it is a folder.
    crate::setup::run(command.arg(folder.join("")).args(packages))?;
    Ok(folder)
}

/// Test data that lies beside the checkout.
fn suites() -> PathBuf {
    std::env::var_os("CUTWATER_SUITES")
        .map_or_else(|| root().join("../shared/suites"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(arguments: &[&str]) -> Result<(&'static str, usize, Option<PathBuf>)> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Request::parse(&arguments).map(|r| (r.name, r.suites.len(), r.json))
    }

    #[test]
    fn a_file_may_be_asked_for_with_and_without_a_name() {
        let file = || Some(PathBuf::from("out.json"));
        let all = SUITES.len();
        assert_eq!(request(&[]).expect("all"), ("all", all, None));
        assert_eq!(request(&["--json", "out.json"]).expect("all"), ("all", all, file()));
        assert_eq!(request(&["dns", "--json", "out.json"]).expect("dns"), ("dns", 1, file()));
        assert_eq!(request(&["--json", "out.json", "http"]).expect("http"), ("http", 1, file()));
        for wrong in [&["tls"][..], &["--json"], &["http", "dns"], &["--jsn", "out.json"]] {
            assert!(request(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_misses_is_skipped_with_its_reason_beside_the_numbers_of_the_rest() {
        let skipped = r#"[{"case": "lenient", "reason": "asks for less"}]"#;
        let played =
            Tally::from_json(&format!(r#"{{"passed": 5, "failed": 0, "skipped": {skipped}}}"#))
                .expect("the shape of a result");
        let sum = Tally::sum(vec![Tally::absent("http", "DIR is absent".to_owned()), played]);
        let expected = json!({"name": "all", "passed": 5, "failed": 0, "skipped": [
            {"case": "http", "reason": "DIR is absent"},
            {"case": "lenient", "reason": "asks for less"},
        ]});
        assert_eq!(sum.to_json("all"), expected);
        assert!(sum.verdict(false).is_ok());
        assert!(sum.verdict(true).is_err(), "in CI every suite must be there");
    }

    #[test]
    fn a_failed_case_and_a_broken_suite_fail_everywhere() {
        let failed = Tally { failed: 1, ..Tally::default() };
        let broken = Tally::broken("dns", "no python".to_owned());
        for is_ci in [false, true] {
            assert!(failed.verdict(is_ci).is_err());
            assert!(broken.verdict(is_ci).is_err());
        }
        assert_eq!(Tally::from_json(r#"{"passed": 5}"#), None);
    }
}
