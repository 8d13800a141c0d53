//! Floor 5: one running Cutwater. Joins a source, the compiler and the shells:
//!
//! ```text
//! folder ──reading──> compile ──snapshot, facts──> views ──publish──> edge workers · nameserver
//!    ^                                                                      │
//!    └── change, SIGHUP                        console <── what is served, probes, counters
//! ```
//!
//! One process replaces another without a lost connection by `handover`.
//!
//! Nothing is decided here that a pure crate could decide. Not here: the command line (`cutwater`).
#![forbid(unsafe_code)]

mod admin;
mod checks;
mod config;
mod dns;
mod echo;
mod external;
mod findings;
mod handover;
mod handshake;
mod http_client;
mod keys;
mod metrics;
mod predecessor;
mod probe;
mod publisher;
mod receipt;
mod rotation;
mod run;
mod service_manager;
mod serving;
mod staples;
mod upgrade;

pub use config::{AccessLogTo, Config, StartError};
pub use findings::{all_diagnostics, codes};
pub use run::run;
