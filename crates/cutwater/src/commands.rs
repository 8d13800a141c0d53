//! What each command does. Each returns its exit code.

mod check;
mod explaining;
mod origin;
mod snapshot;
mod up;
mod upgrade;

use crate::cli::{Cli, Command};
use crate::terminal;
use anyhow::Result;
use clap::CommandFactory;
use compile::Compiled;
use folder::{Folder, Reading, Unreadable};
use std::collections::HashSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn run(command: Command) -> Result<u8> {
    match command {
        Command::Up(arguments) => up::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explaining::run(&arguments),
        Command::Origin(arguments) => origin::run(arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        Command::Upgrade(arguments) => upgrade::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cutwater", &mut script);
            terminal::print(&String::from_utf8_lossy(&script))?;
            Ok(0)
        }
        Command::Man => {
            terminal::print(&man()?)?;
            Ok(0)
        }
    }
}

/// The page of the program, and after it one of each command.
fn man() -> Result<String> {
    let mut program = Cli::command();
    program.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(program.clone()).render(&mut page)?;
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
    }
    Ok(String::from_utf8(page)?)
}

/// A folder that is read once, and compiled.
struct Study {
    reading: Reading,
    compiled: Compiled,
    facts: model::Facts,
}

fn study(dir: &Path) -> Result<Study, Unreadable> {
    let reading = Folder::new(dir, None).read(&HashSet::new())?;
    let compiled = compile::compile(&reading.inputs, None);
    let facts = compile::facts(&reading.inputs);
    Ok(Study { reading, compiled, facts })
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// One thread is enough for a client.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
