//! The parts of the previous snapshot by digest, so that what did not change keeps its identity.

use model::Snapshot;
use model::certificates::{Certificate, CertificatePlan};
use model::digest::Reuse;
use model::dns::{DnsPlan, Zone};
use model::edge::{EdgePlan, Listener, Route};
use model::governance::{Contract, GovernancePlan};

#[derive(Default)]
pub(crate) struct Earlier {
    pub routes: Reuse<Route>,
    pub listeners: Reuse<Listener>,
    pub edge: Reuse<EdgePlan>,
    pub zones: Reuse<Zone>,
    pub dns: Reuse<DnsPlan>,
    pub certificates: Reuse<Certificate>,
    pub certificate_plan: Reuse<CertificatePlan>,
    pub contracts: Reuse<Contract>,
    pub governance: Reuse<GovernancePlan>,
}

impl Earlier {
    pub fn of(previous: Option<&Snapshot>) -> Self {
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
