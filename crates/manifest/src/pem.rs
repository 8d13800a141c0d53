//! Certificates and keys in PEM. What is kept of a pair is the PEM itself and what the leaf says; the key never
//! appears in `Debug`.

use model::certificates::Leaf;
use std::fmt;

/// A certificate chain and its key, checked to belong together.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    pub chain_pem: String,
    key_pem: String,
    pub leaf: Leaf,
}

impl KeyPair {
    /// For the TLS stack alone.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}
