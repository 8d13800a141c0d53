//! Floor 2: outside formats to [`Inputs`]. One table of recognisers, one decoder for folder and cluster alike, every
//! field with its place.
//!
//! Not here: reading files (`folder`), talking to an API server, deciding what objects mean together (`compile`).
#![forbid(unsafe_code)]

pub mod codes;
mod decode;
pub mod inputs;
pub mod kinds;
pub mod node;
pub mod pem;
mod suggest;

pub use inputs::Inputs;
pub use kinds::{Object, Spec};
