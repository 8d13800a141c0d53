//! Contracts, teams and owners, and what contracts promise that is not so.

use crate::codes;
use crate::report::Report;
use crate::reuse::Earlier;
use manifest::Inputs;
use manifest::kinds::cutwater::EndpointContract;
use model::edge::{Action, EdgePlan, Target};
use model::governance::{Contract, Visibility};
use model::hash::{HashMap, HashSet};
use model::hostname::is_within;
use model::{HostPattern, Hostname, Kind, Node, ObjectId, Owner, Text};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a namespace that name its team, the first that is there counts.
const TEAM_LABELS: &[&str] = &["cutwater.dev/team", "platform.example.com/team", "team"];
const TEAM_LABEL_PREFIX: &str = "service/team/";
const ESCALATION: &str = "cutwater.dev/escalation";

/// Who a host or a namespace belongs to; the same answer as [`model::governance::GovernancePlan::owner`], by hash.
pub(crate) struct Owners {
    hosts: HashMap<Text, Owner>,
    teams: BTreeMap<Text, Owner>,
}

impl Owners {
    pub fn of(contracts: &[Node<Contract>], teams: &BTreeMap<Text, Owner>) -> Self {
        let mut hosts = HashMap::default();
        for contract in contracts {
            if let Some(owner) = contract.owner() {
                hosts.entry(contract.hostname.text()).or_insert(owner);
            }
        }
        Owners { hosts, teams: teams.clone() }
    }

    pub fn owner(&self, host: Option<&HostPattern>, namespace: &str) -> Option<Owner> {
        let by_host = match host {
            Some(HostPattern::Exact(name)) => self.hosts.get(name.as_str()),
            _ => None,
        };
        by_host.or_else(|| self.teams.get(namespace)).cloned()
    }
}

pub(crate) fn teams(inputs: &Inputs) -> BTreeMap<Text, Owner> {
    inputs
        .of(Kind::NAMESPACE)
        .filter_map(|namespace| {
            let team = team(&namespace.labels)?;
            let escalation = namespace.annotations.get(ESCALATION).cloned();
            let owner = Owner { team, app: None, contract: None, escalation };
            Some((namespace.id.name.clone(), owner))
        })
        .collect()
}

/// Also `service/team/<team>` as a label by itself.
fn team(labels: &BTreeMap<Text, Text>) -> Option<Text> {
    let named = TEAM_LABELS.iter().find_map(|label| labels.get(*label).cloned());
    named.filter(|team| !team.is_empty()).or_else(|| {
        labels.keys().find_map(|key| key.strip_prefix(TEAM_LABEL_PREFIX).map(Text::from))
    })
}

/// Sorted by hostname, then id.
pub(crate) fn contracts(inputs: &Inputs, earlier: &Earlier) -> Vec<Node<Contract>> {
    let mut contracts: Vec<Contract> =
        inputs.endpoint_contracts().map(|(object, spec)| contract(&object.id, spec)).collect();
    contracts.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
    contracts.into_iter().map(|contract| earlier.contracts.node(contract)).collect()
}

fn contract(id: &ObjectId, spec: &EndpointContract) -> Contract {
    Contract {
        id: id.clone(),
        hostname: spec.hostname.clone(),
        visibility: spec.visibility,
        dns_provider: spec.dns_provider.clone(),
        dns_zone: spec.dns_zone.clone(),
        tls_termination: spec.tls_termination.clone(),
        certificate_source: spec.certificate_source.clone(),
        ingress_api: spec.ingress_api.clone(),
        ingress_controller: spec.ingress_controller.clone(),
        backend_service: spec.backend_service.clone(),
        backend_protocol: spec.backend_protocol.clone(),
        auth_layer: spec.auth_layer.clone(),
        waf: spec.waf.clone(),
        owner_team: spec.owner_team.clone(),
        app_owner: spec.app_owner.clone(),
    }
}

/// Visibility of hosts, for claims.
pub(crate) fn visibilities(contracts: &[Node<Contract>]) -> HashMap<&str, Visibility> {
    let stated = |c: &'_ Node<Contract>| c.visibility;
    contracts.iter().filter_map(|c| Some((c.hostname.as_str(), stated(c)?))).collect()
}

/// Compares each contract with what is served.
pub(crate) fn check(contracts: &[Node<Contract>], edge: &EdgePlan, report: &mut Report) {
    let served = ServedHosts::of(contracts, edge);
    for (index, contract) in contracts.iter().enumerate() {
        let host = HostPattern::Exact(contract.hostname.clone());
        let first = contracts[..index].last().filter(|first| first.hostname == contract.hostname);
        if let Some(first) = first {
            let message = format!("{} and {} promise one hostname, {host}", contract.id, first.id);
            report
                .add(&codes::CONTRACT_TWICE, &contract.id, field(contract, "hostname"), message)
                .host(&host)
                .help("keep one of the two contracts")
                .related("the other contract", &first.id, "");
        }
        check_zone(contract, &host, report);
        match served.services(&contract.hostname) {
            None => {
                report
                    .add(
                        &codes::CONTRACT_HOST,
                        &contract.id,
                        field(contract, "hostname"),
                        format!("{} promises {host}, which nobody serves", contract.id),
                    )
                    .host(&host)
                    .help("attach a route with this hostname, or correct it");
            }
            Some(backends) => check_backend(contract, &host, &backends, report),
        }
    }
}

/// A contract from a bare document has its fields under `endpointContract`; places fall back to the document.
fn field(contract: &Contract, name: &str) -> String {
    let root = if contract.id.namespace.is_empty() { "endpointContract" } else { "spec" };
    format!("{root}.{name}")
}

fn check_zone(contract: &Contract, host: &HostPattern, report: &mut Report) {
    let Some(zone) = &contract.dns_zone else { return };
    let normal = zone.trim_end_matches('.').to_ascii_lowercase();
    // Other systems name zones by ids: only what looks like a domain name is compared.
    if normal.contains('.') && !is_within(contract.hostname.as_str(), &normal) {
        let message = format!("{} names zone {zone}, in which {host} does not lie", contract.id);
        report
            .add(&codes::CONTRACT_ZONE, &contract.id, field(contract, "dnsZone"), message)
            .host(host)
            .help("correct `dnsZone` or `hostname`");
    }
}

fn check_backend(
    contract: &Contract,
    host: &HostPattern,
    backends: &BTreeSet<&ObjectId>,
    report: &mut Report,
) {
    let Some(written) = &contract.backend_service else { return };
    let mut parts = written.split('.');
    let name = parts.next().unwrap_or_default();
    let namespace = parts.next();
    let is_named = |service: &ObjectId| {
        *service.name == *name && namespace.is_none_or(|namespace| *service.namespace == *namespace)
    };
    if backends.iter().copied().any(is_named) {
        return;
    }
    let shown: Vec<String> =
        backends.iter().map(|s| format!("{}.{}", s.name, s.namespace)).collect();
    let message = match shown.is_empty() {
        true => format!("{} names backend {written}, but {host} leads to no Service", contract.id),
        false => format!(
            "{} names backend {written}, but {host} leads to {}",
            contract.id,
            shown.join(", ")
        ),
    };
    report
        .add(&codes::CONTRACT_BACKEND, &contract.id, field(contract, "backendService"), message)
        .host(host)
        .help("correct the contract or the route");
}

/// The Services behind each host pattern that is served and may concern a contract.
struct ServedHosts<'a>(HashMap<PatternKey<'a>, BTreeSet<ObjectId>>);

/// A host pattern that is found without making a [`HostPattern`].
#[derive(PartialEq, Eq, Hash)]
enum PatternKey<'a> {
    Exact(&'a str),
    OneLabel(&'a str),
    Wildcard(&'a str),
    Any,
}

impl<'a> ServedHosts<'a> {
    fn of(contracts: &'a [Node<Contract>], edge: &'a EdgePlan) -> Self {
        let mut served = ServedHosts(HashMap::default());
        let promised: HashSet<&str> = contracts.iter().map(|c| c.hostname.as_str()).collect();
        if promised.is_empty() {
            return served;
        }
        let key = |host: &'a HostPattern| match host {
            HostPattern::Exact(name) if !promised.contains(name.as_str()) => None,
            HostPattern::Exact(name) => Some(PatternKey::Exact(name.as_str())),
            HostPattern::OneLabel(suffix) => Some(PatternKey::OneLabel(suffix.as_str())),
            HostPattern::Wildcard(suffix) => Some(PatternKey::Wildcard(suffix.as_str())),
            HostPattern::Any => Some(PatternKey::Any),
        };
        for attachment in edge.listeners.iter().flat_map(|listener| &listener.attachments) {
            let Some(key) = key(&attachment.host) else { continue };
            let rules = attachment.route.rules.iter();
            served.0.entry(key).or_default().extend(rules.flat_map(|rule| services(&rule.action)));
        }
        // A port of TCP or UDP has no host, and serves none that is promised.
        for attachment in
            edge.layer4.iter().filter(|l| l.transport.is_tls()).flat_map(|l| &l.attachments)
        {
            let Some(key) = key(&attachment.host) else { continue };
            let services = attachment.route.ports().map(|port| port.service());
            served.0.entry(key).or_default().extend(services);
        }
        served
    }

    /// None when nobody serves the host.
    fn services<'s>(&'s self, host: &'s Hostname) -> Option<BTreeSet<&'s ObjectId>> {
        let parents = std::iter::successors(host.parent(), |name| {
            name.split_once('.').map(|(_, parent)| parent)
        });
        let patterns = [PatternKey::Exact(host.as_str()), PatternKey::Any]
            .into_iter()
            .chain(host.parent().map(PatternKey::OneLabel))
            .chain(parents.map(PatternKey::Wildcard));
        let found: Vec<_> = patterns.filter_map(|pattern| self.0.get(&pattern)).collect();
        (!found.is_empty()).then(|| found.into_iter().flatten().collect())
    }
}

fn services(action: &Action) -> impl Iterator<Item = ObjectId> {
    let backends = match action {
        Action::Forward(backends) => backends.as_slice(),
        _ => &[],
    };
    backends.iter().filter_map(|backend| match &backend.target {
        Target::Service(port) => Some(port.service()),
        Target::Invalid { .. } => None,
    })
}
