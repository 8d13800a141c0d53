//! Floor 4: the nameserver's shell. [`Sockets`] are bound first, so that a port in use is known before anything
//! starts; [`Sockets::serve`] answers from the current [`zone::Zones`] until it is told to stop.
//!
//! Not here: what is answered (`zone`), which zones there are (`compile`), how counters are shown (`instance`).
#![forbid(unsafe_code)]

mod counters;
mod error;
pub mod probe;
mod sockets;
mod tcp;
mod udp;

pub use counters::{Counters, Rcodes};
pub use error::Error;
pub use sockets::{Running, Service, Sockets};
