//! The command line: parses arguments, calls a shell or a pure function, prints, and exits with a documented code.
//!
//! Messages to people go to standard error, data to standard output.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes that several commands share (sysexits.h).
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// An input (a folder) cannot be read.
    pub const NO_INPUT: u8 = 66;
    /// No instance to ask.
    pub const UNAVAILABLE: u8 = 69;
    /// Something of ours failed: a port in use, a state folder that cannot be written.
    pub const FAILED: u8 = 1;
}

fn main() -> ExitCode {
    let arguments = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; clap prints them to standard output.
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match commands::run(arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{} {error:#}", terminal::paint_stderr(terminal::ERROR, "error:"));
            ExitCode::from(exit::FAILED)
        }
    }
}
