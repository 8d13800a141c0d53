//! Floor 0: the words that every other crate speaks. Hostnames, ids, places, owners, diagnostics, the nine links
//! of the chain, quantities, limits, the [`Snapshot`] (the plan) and the [`Facts`] (what changes without a new plan).
//!
//! Not here: any outside format (`manifest`), any decision (`compile`), any clock, socket or file.
#![forbid(unsafe_code)]

pub mod answers;
pub mod certificates;
pub mod chain;
pub mod diagnostic;
pub mod digest;
pub mod dns;
pub mod edge;
pub mod facts;
pub mod fallback;
pub mod front;
pub mod governance;
pub mod hash;
pub mod hostname;
pub mod id;
pub mod layer4;
pub mod limits;
pub mod network;
pub mod origin;
pub mod owner;
pub mod quantity;
pub mod reach;
pub mod snapshot;
pub mod status;
pub mod traffic;

pub use chain::Link;
pub use diagnostic::{Code, Diagnostic, Severity};
pub use digest::{Digest, Node};
pub use facts::Facts;
pub use hostname::{HostPattern, Hostname};
pub use id::{Kind, ObjectId};
pub use origin::{Origins, Place};
pub use owner::Owner;
pub use snapshot::Snapshot;

/// An immutable string that is shared instead of copied: names, namespaces, messages.
pub type Text = std::sync::Arc<str>;
