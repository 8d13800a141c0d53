//! The certificates' section of the plan: which are wanted, where they come from, what they cover. Never a key.

use crate::{Digest, HostPattern, Node, ObjectId, Text};

/// Sorted by Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CertificatePlan {
    pub certificates: Vec<Node<Certificate>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The Secret that holds it, or would hold it.
    pub secret: ObjectId,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The Secret is there and its certificate and key belong together.
    Secret(Leaf),
    /// A listener names a Secret that nobody wrote: where a local CA exists it issues one for these hosts.
    Missing { hosts: Vec<HostPattern> },
}

/// What a certificate says of itself. Times are seconds since 1970; a reader that has a clock judges them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// SHA-256 of the chain as written.
    pub chain: Digest,
    pub names: Vec<HostPattern>,
    pub issuer: Text,
    pub not_before: i64,
    pub not_after: i64,
}
