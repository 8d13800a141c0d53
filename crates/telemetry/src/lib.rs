//! Floor 4: the access log, and the program's own log.
//!
//! Not here: metrics, which each shell counts itself (`edge::metrics`, `nameserver`).
#![forbid(unsafe_code)]

pub mod access;
mod line;
pub mod log_file;

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The program's own log goes to standard error, at `warn` unless `CUTWATER_LOG` says otherwise.
pub fn start_log() {
    let filter = EnvFilter::try_from_env("CUTWATER_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured)
        .try_init();
    // A second start in one process (tests) keeps the first.
    drop(started);
}
