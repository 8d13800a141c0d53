//! Floor 1: authoritative DNS answers. [`Zones`] holds the plan's zones with their record sets in wire form;
//! [`Zones::answer`] takes the bytes of a query and writes the bytes of the answer.
//!
//! ```text
//! bytes ── query ──> question, EDNS ── zones ──> zone ── lookup ──> owner, cut or none ── answer, writer ──> bytes
//! ```
//!
//! [`client`] is the other side: a query as bytes, and what an answer says.
//!
//! Not here: sockets, time-outs and counters (`nameserver`), reading Zone objects (`compile`), choosing a serial.
#![forbid(unsafe_code)]

mod answer;
pub mod client;
mod data;
mod query;
mod wire;
mod writer;
mod zones;

pub use answer::{Outcome, Transport};
pub use query::Unanswerable;
pub use wire::{Rcode, RecordType};
pub use zones::Zones;
