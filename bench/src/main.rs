//! `cargo xtask bench`: Cutwater against the servers that people use today, and its own figures.
//! README.md says how it measures and how to read it. Nothing here is shipped.

mod accounts;
mod cases;
mod client;
mod cost;
mod edge;
mod http;
mod http2;
mod idle;
mod latency;
mod load;
mod measure;
mod origin;
mod own;
mod report;
mod script;
mod server;
mod sys;
mod tls;
mod variants;
mod workers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

/// Measure Cutwater against nginx, HAProxy and Envoy on this machine.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  bench edge --json edge.json\n  \
                  bench edge --case http1-1k --case tls-1k --rounds 3 --seconds 1\n  \
                  bench edge --json bench/results/edge.json   # the result to commit"
)]
struct Arguments {
    /// What to measure
    #[arg(default_value = "edge")]
    name: Name,
    /// Write the rows to this file as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this case only (may be repeated)
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Rounds of each server in each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a round, in seconds
    #[arg(long, default_value_t = 0.8, value_parser = seconds)]
    seconds: f64,
    /// Nothing more begins after so many minutes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// Replace the committed figures of `cost`, for this reason
    #[arg(long, value_name = "REASON")]
    accept: Option<String>,
    /// The program to measure; by default the one that was built beside this one
    #[arg(long, value_name = "PATH")]
    cutwater: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Ratios of CPU time to other servers, and own figures
    Edge,
    /// Instructions a request, against committed figures
    Cost,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let cutwater = arguments.cutwater.map_or_else(built_beside, Ok)?;
    let effort = measure::Effort {
        rounds: arguments.rounds as usize,
        time: Duration::from_secs_f64(arguments.seconds),
        until: Instant::now() + Duration::from_secs(60) * arguments.minutes,
    };
    match arguments.name {
        Name::Cost => {
            let reason = arguments.accept;
            let holds = cost::run(&cost::Options { cutwater, effort, reason })?;
            Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Name::Edge => {
            let options = edge::Options { cutwater, effort, cases: arguments.case };
            run_edge(&options, arguments.json.as_deref())
        }
    }
}

fn run_edge(options: &edge::Options, json: Option<&Path>) -> Result<ExitCode> {
    warn();
    let report = edge::run(options)?;
    let last = report::Last::committed(report.name)?;
    print!("{}", report.table(last.as_ref()));
    if let Some(file) = json {
        report.write_json(file)?;
    }
    if report.is_complete() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("bench: some figures could not be measured; the reasons are under the table");
    Ok(ExitCode::FAILURE)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("between 0.05 and 600 seconds".to_owned()),
    }
}

fn built_beside() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("this program lies in no folder")?.join("cutwater"))
}

/// What speaks against every figure of this run.
fn warn() {
    if cfg!(debug_assertions) {
        eprintln!("bench: built without optimisation: not to be trusted, use --release");
    }
    if let Some(load) = accounts::load_average().filter(|&load| load > 1.0) {
        eprintln!(
            "bench: the load average is {load}: a busy machine's figures are not to be trusted"
        );
    }
}
