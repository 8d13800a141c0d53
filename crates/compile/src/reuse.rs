//! The parts of the previous snapshot by digest, so that what did not change keeps its identity.

use model::Snapshot;
use model::certificates::{Certificate, CertificatePlan};
use model::digest::Reuse;
use model::dns::{DnsPlan, Zone};
use model::edge::{EdgePlan, Listener, Route};
use model::governance::{Contract, GovernancePlan};

#[derive(Default)]
pub(crate) struct Earlier<'a> {
    pub routes: Reuse<'a, Route>,
    pub listeners: Reuse<'a, Listener>,
    pub edge: Reuse<'a, EdgePlan>,
    pub zones: Reuse<'a, Zone>,
    pub dns: Reuse<'a, DnsPlan>,
    pub certificates: Reuse<'a, Certificate>,
    pub certificate_plan: Reuse<'a, CertificatePlan>,
    pub contracts: Reuse<'a, Contract>,
    pub governance: Reuse<'a, GovernancePlan>,
}

impl<'a> Earlier<'a> {
    pub fn of(previous: Option<&'a Snapshot>) -> Self {
        let Some(previous) = previous else { return Earlier::default() };
        let attachments = previous.edge.listeners.iter().flat_map(|l| &l.attachments);
        Earlier {
            routes: Reuse::from_nodes(attachments.map(|attachment| &attachment.route)),
            listeners: Reuse::from_nodes(&previous.edge.listeners),
            edge: Reuse::from_nodes([&previous.edge]),
            zones: Reuse::from_nodes(&previous.dns.zones),
            dns: Reuse::from_nodes([&previous.dns]),
            certificates: Reuse::from_nodes(&previous.certificates.certificates),
            certificate_plan: Reuse::from_nodes([&previous.certificates]),
            contracts: Reuse::from_nodes(&previous.governance.contracts),
            governance: Reuse::from_nodes([&previous.governance]),
        }
    }
}
