//! The plan as a whole: four sections, each with its digest, under one root digest.

use crate::certificates::CertificatePlan;
use crate::dns::DnsPlan;
use crate::edge::EdgePlan;
use crate::governance::GovernancePlan;
use crate::{Digest, Node};

/// Immutable. Sections that did not change keep their node, so a reader skips them by identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub digest: Digest,
    pub edge: Node<EdgePlan>,
    pub dns: Node<DnsPlan>,
    pub certificates: Node<CertificatePlan>,
    pub governance: Node<GovernancePlan>,
}

impl Snapshot {
    pub fn new(
        edge: Node<EdgePlan>,
        dns: Node<DnsPlan>,
        certificates: Node<CertificatePlan>,
        governance: Node<GovernancePlan>,
    ) -> Self {
        let digest =
            Digest::of(&[edge.digest(), dns.digest(), certificates.digest(), governance.digest()]);
        Snapshot { digest, edge, dns, certificates, governance }
    }
}

/// Nothing served: what readers hold before the first compile.
impl Default for Snapshot {
    fn default() -> Self {
        Snapshot::new(
            Node::new(EdgePlan::default()),
            Node::new(DnsPlan::default()),
            Node::new(CertificatePlan::default()),
            Node::new(GovernancePlan::default()),
        )
    }
}
