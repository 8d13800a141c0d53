//! What differs between two snapshots, in the words that people use. Equal parts are skipped by digest.

use model::certificates::Certificate;
use model::edge::{Action, EdgePlan, Target};
use model::id::{ListenerId, ServicePort};
use model::{Digest, HostPattern, Kind, Node, ObjectId, Snapshot};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

/// Names that came, went or changed in one part of the plan, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

/// The difference of two snapshots by part. `Display` gives one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub hosts: Change,
    /// `namespace/name`; Ingresses with their kind before it.
    pub routes: Change,
    /// Listeners by object and section.
    pub listeners: Change,
    /// Service ports that rules lead to, as `namespace/name:port`.
    pub backends: Change,
    pub certificates: Change,
    pub zones: Change,
    pub contracts: Change,
}

/// From `old` to `new`.
pub fn difference(old: &Snapshot, new: &Snapshot) -> Difference {
    let mut found = Difference::default();
    if old.edge != new.edge {
        let (old, new) = (&*old.edge, &*new.edge);
        found.hosts = Change::between(&hosts(old), &hosts(new), ToString::to_string);
        found.routes = Change::between(&routes(old), &routes(new), |id| route_name(id));
        found.listeners = Change::between(&listeners(old), &listeners(new), |id| id.to_string());
        found.backends = Change::between(&backends(old), &backends(new), |port| port.to_string());
    }
    if old.certificates != new.certificates {
        let parts = |snapshot: &Snapshot| table(&snapshot.certificates.certificates, secret_name);
        found.certificates = Change::between(&parts(old), &parts(new), String::clone);
    }
    if old.dns != new.dns {
        let parts = |snapshot: &Snapshot| table(&snapshot.dns.zones, |zone| zone.name.to_string());
        found.zones = Change::between(&parts(old), &parts(new), String::clone);
    }
    if old.governance != new.governance {
        let parts = |snapshot: &Snapshot| {
            table(&snapshot.governance.contracts, |contract| contract.hostname.to_string())
        };
        found.contracts = Change::between(&parts(old), &parts(new), String::clone);
    }
    found
}

/// What there is, with the digests of what it is made of.
type Table<K> = HashMap<K, Vec<Digest>>;

fn table<T>(nodes: &[Node<T>], name: impl Fn(&T) -> String) -> Table<String> {
    let mut table = Table::new();
    for node in nodes {
        table.entry(name(node)).or_default().push(node.digest());
    }
    table
}

fn secret_name(certificate: &Certificate) -> String {
    format!("{}/{}", certificate.secret.namespace, certificate.secret.name)
}

/// Hosts with what serves them: listener and routes, in order.
fn hosts(edge: &EdgePlan) -> Table<&HostPattern> {
    let mut hosts: Table<&HostPattern> = HashMap::new();
    for listener in &edge.listeners {
        let entry = Digest::of(&(listener.port, listener.protocol, &listener.certificates));
        for attachment in &listener.attachments {
            let parts = hosts.entry(&attachment.host).or_default();
            parts.extend([entry, attachment.route.digest()]);
        }
    }
    hosts
}

/// An Ingress has one route a host.
fn routes(edge: &EdgePlan) -> Table<&ObjectId> {
    let mut routes: Table<&ObjectId> = HashMap::new();
    let mut seen = HashSet::new();
    for attachment in edge.listeners.iter().flat_map(|listener| &listener.attachments) {
        if seen.insert(attachment.route.address()) {
            routes.entry(&attachment.route.id).or_default().push(attachment.route.digest());
        }
    }
    routes.values_mut().for_each(|digests| digests.sort());
    routes
}

fn route_name(id: &ObjectId) -> String {
    match id.kind {
        Kind::HTTP_ROUTE => format!("{}/{}", id.namespace, id.name),
        _ => id.to_string(),
    }
}

/// Without attachments: those count as routes and hosts. One Ingress makes a listener a host.
fn listeners(edge: &EdgePlan) -> Table<&ListenerId> {
    let mut listeners: Table<&ListenerId> = HashMap::new();
    for listener in &edge.listeners {
        let own = (listener.port, listener.protocol, &listener.host, &listener.certificates);
        listeners.entry(&listener.id).or_default().push(Digest::of(&own));
    }
    listeners
}

fn backends(edge: &EdgePlan) -> Table<&ServicePort> {
    let attachments = edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let mut ports = HashMap::new();
    for rule in attachments.flat_map(|attachment| &attachment.route.rules) {
        if let Action::Forward(backends) = &rule.action {
            ports.extend(backends.iter().filter_map(|backend| match &backend.target {
                Target::Service(port) => Some((port, Vec::new())),
                Target::Invalid { .. } => None,
            }));
        }
    }
    ports
}

impl Change {
    fn between<K: Eq + Hash>(old: &Table<K>, new: &Table<K>, shown: impl Fn(&K) -> String) -> Self {
        let names = |keys: &mut dyn Iterator<Item = &K>| {
            let mut names: Vec<String> = keys.map(&shown).collect();
            names.sort();
            names
        };
        let differs =
            |(key, parts): &(&K, &Vec<Digest>)| old.get(key).is_some_and(|before| before != *parts);
        Change {
            added: names(&mut new.keys().filter(|key| !old.contains_key(key))),
            removed: names(&mut old.keys().filter(|key| !new.contains_key(key))),
            changed: names(&mut new.iter().filter(differs).map(|(key, _)| key)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    fn clauses(&self, singular: &str, plural: &str) -> Vec<String> {
        [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(verb, names)| match names.as_slice() {
                [name] => format!("{singular} {name} {verb}"),
                many => format!("{} {plural} {verb}: {}", many.len(), listed(many)),
            })
            .collect()
    }
}

/// The first few names; one line is for reading.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(|(change, ..)| change.is_empty())
    }

    fn parts(&self) -> [(&Change, &'static str, &'static str); 7] {
        [
            (&self.routes, "route", "routes"),
            (&self.hosts, "host", "hosts"),
            (&self.listeners, "listener", "listeners"),
            (&self.backends, "backend", "backends"),
            (&self.certificates, "certificate", "certificates"),
            (&self.zones, "zone", "zones"),
            (&self.contracts, "contract", "contracts"),
        ]
    }
}

/// `route shop/cart changed; host x.example.test added`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clauses: Vec<String> = self
            .parts()
            .into_iter()
            .flat_map(|(change, singular, plural)| change.clauses(singular, plural))
            .collect();
        match clauses.is_empty() {
            true => f.write_str("nothing that is served changed"),
            false => f.write_str(&clauses.join("; ")),
        }
    }
}
