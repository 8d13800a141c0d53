//! `cargo xtask abuse`: faults and abuses against the real binary, and against nginx and HAProxy where
//! that says something. One module a program; `docs/abuse.md` says what each one holds Cutwater to.
//! Nothing here is shipped.
#![forbid(unsafe_code)]

mod bombs;
mod chains;
mod churn;
mod client;
mod downgrade;
mod frames;
mod good;
mod handshakes;
mod origin;
mod origin_faults;
mod program;
mod reload;
mod report;
mod resets;
mod slow;
mod smuggling;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use program::{Context, PROGRAMS, Program};
use report::Report;

/// Abuse a running Cutwater and print what it did, figure by figure.
#[derive(Parser)]
#[command(
    name = "abuse",
    after_help = "Exit code 1: a figure of Cutwater did not hold, or could not be measured. The figures of \
                  nginx and HAProxy are for comparison only."
)]
struct Arguments {
    /// The program to run; all of them without it
    name: Option<String>,
    /// Write the rows to this file as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// At most 10 seconds a program, Cutwater alone
    #[arg(long)]
    short: bool,
    /// Leave nginx and HAProxy out
    #[arg(long)]
    alone: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("abuse: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let chosen = chosen(arguments.name.as_deref())?;
    let context = Context { short: arguments.short, alone: arguments.alone || arguments.short };
    let mut report = Report::new(arguments.name.as_deref().unwrap_or("all"));
    eprintln!("abuse: {}", good::Rate::of_this_machine());
    for program in chosen {
        eprintln!("== {}: {}", program.name, program.what);
        report.begin(program.name);
        if let Err(error) = (program.run)(&context, &mut report) {
            report.row("cutwater", "program", format!("{error:#}"), "runs to its end", false);
        }
        report.print_program();
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    println!("{}", report.verdict());
    Ok(report.holds())
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static Program>> {
    let chosen: Vec<&Program> =
        PROGRAMS.iter().filter(|program| name.is_none_or(|name| name == program.name)).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
        bail!("no program `{}`; known: {}", name.unwrap_or_default(), known.join(", "));
    }
    Ok(chosen)
}
