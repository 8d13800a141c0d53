//! The parts of the previous snapshot by digest, so that what did not change keeps its identity.

use model::answers::Answers;
use model::certificates::{Certificate, CertificatePlan};
use model::digest::Reuse;
use model::dns::{DnsPlan, Zone};
use model::edge::{EdgePlan, Listener, Route, Rule};
use model::front::RulePolicy;
use model::governance::{Claim, Contract, GovernancePlan};
use model::hash::HashMap;
use model::layer4;
use model::traffic::BackendPolicy;
use model::{Digest, Node, Snapshot};
use std::cell::OnceCell;

#[derive(Default)]
pub(crate) struct Earlier<'a> {
    pub routes: Reuse<'a, Route>,
    pub listeners: Reuse<'a, Listener>,
    pub layer4: Reuse<'a, layer4::Listener>,
    pub layer4_routes: Reuse<'a, layer4::Route>,
    pub edge: Reuse<'a, EdgePlan>,
    pub zones: Reuse<'a, Zone>,
    pub dns: Reuse<'a, DnsPlan>,
    pub certificates: Reuse<'a, Certificate>,
    pub certificate_plan: Reuse<'a, CertificatePlan>,
    pub contracts: Reuse<'a, Contract>,
    pub governance: Reuse<'a, GovernancePlan>,
    previous: Option<&'a Snapshot>,
    /// Gathered when the first is wanted: most plans have none.
    policies: OnceCell<HashMap<Digest, Node<BackendPolicy>>>,
    rule_policies: OnceCell<HashMap<Digest, Node<RulePolicy>>>,
}

impl<'a> Earlier<'a> {
    pub fn of(previous: Option<&'a Snapshot>) -> Self {
        let Some(previous) = previous else { return Earlier::default() };
        let attachments = previous.edge.listeners.iter().flat_map(|l| &l.attachments);
        Earlier {
            routes: Reuse::from_nodes(attachments.map(|attachment| &attachment.route)),
            listeners: Reuse::from_nodes(&previous.edge.listeners),
            layer4: Reuse::from_nodes(&previous.edge.layer4),
            layer4_routes: Reuse::from_nodes(streams(previous).map(|attachment| &attachment.route)),
            edge: Reuse::from_nodes([&previous.edge]),
            zones: Reuse::from_nodes(&previous.dns.zones),
            dns: Reuse::from_nodes([&previous.dns]),
            certificates: Reuse::from_nodes(&previous.certificates.certificates),
            certificate_plan: Reuse::from_nodes([&previous.certificates]),
            contracts: Reuse::from_nodes(&previous.governance.contracts),
            governance: Reuse::from_nodes([&previous.governance]),
            previous: Some(previous),
            policies: OnceCell::new(),
            rule_policies: OnceCell::new(),
        }
    }

    pub fn claims(&self) -> &'a [Claim] {
        self.previous.map_or(&[], |previous| &previous.governance.claims)
    }

    pub fn policy(&self, policy: BackendPolicy) -> Node<BackendPolicy> {
        let gather = || self.previous.map(policies).unwrap_or_default();
        let node = Node::new(policy);
        self.policies.get_or_init(gather).get(&node.digest()).cloned().unwrap_or(node)
    }

    pub fn rule_policy(&self, policy: RulePolicy) -> Node<RulePolicy> {
        let gather = || self.previous.map(rule_policies).unwrap_or_default();
        let node = Node::new(policy);
        self.rule_policies.get_or_init(gather).get(&node.digest()).cloned().unwrap_or(node)
    }
}

fn streams(previous: &Snapshot) -> impl Iterator<Item = &layer4::Attachment> {
    previous.edge.layer4.iter().flat_map(|listener| &listener.attachments)
}

fn rule_policies(previous: &Snapshot) -> HashMap<Digest, Node<RulePolicy>> {
    nodes_of_rules(previous).map(|node| (node.digest(), node.clone())).collect()
}

/// Of rules, and of requests that no rule takes.
fn nodes_of_rules(previous: &Snapshot) -> impl Iterator<Item = &Node<RulePolicy>> {
    let unmatched =
        previous.edge.listeners.iter().filter_map(|listener| listener.unmatched.as_ref());
    unmatched.chain(rules(previous).filter_map(|rule| rule.policy.as_ref()))
}

fn rules(previous: &Snapshot) -> impl Iterator<Item = &Rule> {
    let attachments = previous.edge.listeners.iter().flat_map(|listener| &listener.attachments);
    attachments.flat_map(|attachment| &attachment.route.rules)
}

/// Of backends, of what stands in for them, and of what gives pages.
fn policies(previous: &Snapshot) -> HashMap<Digest, Node<BackendPolicy>> {
    let answers = nodes_of_rules(previous).filter_map(|policy| policy.answers.as_deref());
    let pages = answers.flat_map(Answers::services).map(|page| &page.backend);
    let of_rules = rules(previous).flat_map(Rule::backends);
    let backends = of_rules.chain(streams(previous).flat_map(|a| &a.route.backends)).chain(pages);
    let nodes = backends.flat_map(|backend| {
        let tiers = backend.fallback.iter().flat_map(|fallback| &fallback.tiers);
        tiers.filter_map(|tier| tier.policy.as_ref()).chain(&backend.policy)
    });
    nodes.map(|node| (node.digest(), node.clone())).collect()
}
