//! Floor 2: outside formats to [`Inputs`]. One table of recognisers, one decoder for folder and cluster alike, every
//! field with its place.
//!
//! Not here: reading files (`folder`), talking to an API server, deciding what objects mean together (`compile`).
#![forbid(unsafe_code)]

pub mod annotations;
pub mod codes;
mod decode;
pub mod inputs;
mod json;
pub mod kinds;
mod metadata;
pub mod networks;
pub mod node;
pub mod pem;
mod read;
mod recognise;
pub mod section;
pub mod suggest;
mod yaml;

pub use inputs::Inputs;
pub use kinds::{Object, Spec};
pub use read::{FileRead, Foreign, ReadObject, Reading, assemble, read_file};
