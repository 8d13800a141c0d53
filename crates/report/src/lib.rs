//! Floor 3: what people and programs read. Diagnostics as text, JSON and SARIF; the plan as JSON; what is served, as
//! the lines that `cutwater up` prints.
//!
//! Not here: why a name is broken (`explain`), metrics and access logs (`telemetry`).
#![forbid(unsafe_code)]

mod answers;
pub mod diagnostics;
mod entry;
mod front;
pub mod plan;
pub mod serving;
mod streams;
mod traffic;
