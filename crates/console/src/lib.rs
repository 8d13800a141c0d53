//! Floor 4: the admin address. Health, metrics, the plan and explanations over HTTP, and the client that the command
//! line asks them with.
//!
//! Not here: what they say (`explain`, `report`, `telemetry`); how an instance is put together (`instance`).
#![forbid(unsafe_code)]

pub mod client;
mod server;

pub use server::{Subject, serve};
