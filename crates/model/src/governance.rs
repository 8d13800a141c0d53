//! The governance section of the plan: contracts and claims. A change here never touches the data plane.

use crate::{HostPattern, Hostname, Node, ObjectId, Owner, Text};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GovernancePlan {
    /// Sorted by hostname, then id.
    pub contracts: Vec<Node<Contract>>,
    /// Sorted by host, then claimant.
    pub claims: Vec<Claim>,
    /// Owners by namespace, from the namespace's labels.
    pub teams: BTreeMap<Text, Owner>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    Public,
    Private,
    Partner,
    Internal,
}

impl Visibility {
    pub const fn name(self) -> &'static str {
        match self {
            Visibility::Public => "public",
            Visibility::Private => "private",
            Visibility::Partner => "partner",
            Visibility::Internal => "internal",
        }
    }
}

/// The fourteen fields of an endpoint contract. Fields that name systems keep the text: they may not be ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contract {
    pub id: ObjectId,
    pub hostname: Hostname,
    pub visibility: Option<Visibility>,
    pub dns_provider: Option<Text>,
    pub dns_zone: Option<Text>,
    pub tls_termination: Option<Text>,
    pub certificate_source: Option<Text>,
    pub ingress_api: Option<Text>,
    pub ingress_controller: Option<Text>,
    /// As written: `order-api.default.svc.cluster.local`, or a Service name.
    pub backend_service: Option<Text>,
    pub backend_protocol: Option<Text>,
    pub auth_layer: Option<Text>,
    pub waf: Option<Text>,
    pub owner_team: Option<Text>,
    pub app_owner: Option<Text>,
}

/// Somebody wants to publish a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    pub host: HostPattern,
    pub by: ObjectId,
    pub visibility: Option<Visibility>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Granted,
    /// Another object holds the name; what this one asked for it is not served.
    InConflict {
        with: ObjectId,
    },
}

impl GovernancePlan {
    /// The owner of a host by its contract, exact first, else the owner of the namespace.
    pub fn owner(&self, host: &str, namespace: Option<&str>) -> Option<Owner> {
        self.contract(host).and_then(|contract| contract.owner()).or_else(|| self.team(namespace?))
    }

    pub fn contract(&self, host: &str) -> Option<&Node<Contract>> {
        self.contracts.iter().find(|contract| contract.hostname.as_str() == host)
    }

    pub fn team(&self, namespace: &str) -> Option<Owner> {
        self.teams.get(namespace).cloned()
    }
}

impl Contract {
    pub fn owner(&self) -> Option<Owner> {
        let team = self.owner_team.clone().or_else(|| self.app_owner.clone())?;
        let contract = match self.id.namespace.is_empty() {
            true => self.id.name.clone(),
            false => format!("{}/{}", self.id.namespace, self.id.name).into(),
        };
        Some(Owner {
            team,
            app: self.app_owner.clone(),
            contract: Some(contract),
            escalation: None,
        })
    }
}
