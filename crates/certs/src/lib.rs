//! What Cutwater keeps on disk between runs, in one state folder: a local certificate authority with
//! the certificates it issued, the SOA serial of each zone, and the key of session tokens.
//! Beside the folder, and without it: whether a certificate still stands (`ocsp`).
//!
//! Not here: certificates from Secrets (`manifest` reads them), choosing one by SNI (`edge`), zone
//! content (`zone`). The time is an argument everywhere. All calls block on the disk for a moment, so
//! they belong on the control plane's threads.
//!
//! Two processes share a folder while one hands over to the other: changes happen under one lock file, and
//! each file is replaced as a whole. Two instances beside each other are kept apart by a claim.
#![forbid(unsafe_code)]

mod der;
mod error;
mod leaf;
mod local_ca;
mod ocsp;
mod serials;
mod session_key;
mod state;

pub use error::Error;
pub use leaf::Leaf;
pub use local_ca::LocalCa;
pub use ocsp::{OcspFault, OcspQuery, Staple};
pub use serials::Serials;
pub use session_key::SessionKey;
pub use state::{Claim, StateFolder};
