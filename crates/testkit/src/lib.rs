//! Tools for tests of the whole: scenario files and their runner, scripted origins, clients that judge
//! what they receive, and instances of the real binary on free ports.
//!
//! Nothing here is shared with what it tests: messages are read by code of its own, so that a mistake
//! in a codec is not excused by the same mistake here. Blocking sockets and threads; a runtime is
//! only under HTTP/2.
#![forbid(unsafe_code)]

mod actions;
mod check;
mod client;
mod dns;
mod dns_client;
mod failure;
mod http2;
pub mod instance;
mod lines;
pub mod message;
#[cfg(test)]
mod peer_tests;
mod ports;
mod process;
mod runner;
mod scenario;
mod scripted;
mod secrets;
pub mod suite;
mod text;
mod wire;

pub use client::Entry;
pub use failure::Failure;
pub use instance::{Finished, Instance};
pub use ports::free_port;
pub use runner::{Outcome, run_file};
pub use rustix::process::Signal;
pub use scenario::Scenario;
