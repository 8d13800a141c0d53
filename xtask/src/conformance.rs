//! Suites that nobody on the project wrote.

use crate::setup::{cargo, in_ci, root};
use anyhow::{Result, bail};
use std::path::PathBuf;

struct Suite {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    data: &'static str,
}

/// Each suite is an example program of its crate: `DIR [--json FILE]`, exit 1 on any failed case.
const SUITES: &[Suite] = &[
    Suite { name: "http", package: "h1", example: "llhttp", data: "llhttp" },
    Suite { name: "dns", package: "testkit", example: "rfc8906", data: "rfc8906" },
];

pub fn run(arguments: &[String]) -> Result<()> {
    let (names, json) = split(arguments)?;
    let chosen: Vec<&Suite> = match names.as_slice() {
        [] => SUITES.iter().collect(),
        [name] => SUITES.iter().filter(|suite| suite.name == name.as_str()).collect(),
        _ => bail!("one suite at a time"),
    };
    if chosen.is_empty() {
        bail!(
            "no such suite; known: {}",
            SUITES.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
        );
    }
    if json.is_some() && chosen.len() != 1 {
        bail!("--json needs the name of one suite");
    }
    chosen.into_iter().try_for_each(|suite| play(suite, json.as_deref()))
}

fn split(arguments: &[String]) -> Result<(Vec<String>, Option<String>)> {
    let mut names = Vec::new();
    let mut json = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--json" => match rest.next() {
                Some(file) => json = Some(file.clone()),
                None => bail!("--json needs a FILE"),
            },
            name => names.push(name.to_owned()),
        }
    }
    Ok((names, json))
}

fn play(suite: &Suite, json: Option<&str>) -> Result<()> {
    let data = suites().join(suite.data);
    if !data.is_dir() {
        let reason = format!("conformance {}: {} is absent", suite.name, data.display());
        if in_ci() {
            bail!("{reason}");
        }
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    if suite.package == "testkit" {
        // These play against the real binary.
        crate::setup::run(cargo().args(["build", "--quiet", "-p", "cutwater"]))?;
        crate::setup::python_module("dns.message", "dnspython")?;
    }
    let mut command = cargo();
    command
        .args(["run", "--quiet", "-p", suite.package, "--example", suite.example, "--"])
        .arg(data);
    if let Some(file) = json {
        command.arg("--json").arg(std::path::absolute(file)?);
    }
    crate::setup::run(&mut command)
}

/// Test data that lies beside the checkout.
fn suites() -> PathBuf {
    std::env::var_os("CUTWATER_SUITES")
        .map_or_else(|| root().join("../shared/suites"), PathBuf::from)
}
