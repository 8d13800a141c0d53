//! What differs between two snapshots, in the words that people use. Equal parts are skipped by digest.

use model::edge::{Action, EdgePlan, Target};
use model::{Digest, HostPattern, Kind, Node, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
        found.hosts = Change::between(&hosts(&old.edge), &hosts(&new.edge));
        found.routes = Change::between(&routes(&old.edge), &routes(&new.edge));
        found.listeners = Change::between(&listeners(&old.edge), &listeners(&new.edge));
        found.backends = Change::between(&backends(&old.edge), &backends(&new.edge));
    }
    if old.certificates != new.certificates {
        let parts = |snapshot: &Snapshot| {
            table(&snapshot.certificates.certificates, |c| {
                format!("{}/{}", c.secret.namespace, c.secret.name)
            })
        };
        found.certificates = Change::between(&parts(old), &parts(new));
    }
    if old.dns != new.dns {
        let parts = |snapshot: &Snapshot| table(&snapshot.dns.zones, |zone| zone.name.to_string());
        found.zones = Change::between(&parts(old), &parts(new));
    }
    if old.governance != new.governance {
        let parts = |snapshot: &Snapshot| {
            table(&snapshot.governance.contracts, |contract| contract.hostname.to_string())
        };
        found.contracts = Change::between(&parts(old), &parts(new));
    }
    found
}

type Table = BTreeMap<String, Vec<Digest>>;

fn table<T>(nodes: &[Node<T>], name: impl Fn(&T) -> String) -> Table {
    let mut table = Table::new();
    for node in nodes {
        table.entry(name(node)).or_default().push(node.digest());
    }
    table
}

/// Hosts with what serves them: listener and routes, in order.
fn hosts(edge: &EdgePlan) -> Table {
    let mut hosts: BTreeMap<&HostPattern, Vec<Digest>> = BTreeMap::new();
    for listener in &edge.listeners {
        let certificates = Digest::of(&(listener.port, listener.protocol, &listener.certificates));
        for attachment in &listener.attachments {
            let parts = hosts.entry(&attachment.host).or_default();
            parts.extend([certificates, attachment.route.digest()]);
        }
    }
    hosts.into_iter().map(|(host, parts)| (host.to_string(), parts)).collect()
}

fn routes(edge: &EdgePlan) -> Table {
    let mut routes: BTreeMap<_, BTreeSet<Digest>> = BTreeMap::new();
    for attachment in edge.listeners.iter().flat_map(|listener| &listener.attachments) {
        routes.entry(&attachment.route.id).or_default().insert(attachment.route.digest());
    }
    routes
        .into_iter()
        .map(|(id, digests)| {
            let name = match id.kind {
                Kind::HTTP_ROUTE => format!("{}/{}", id.namespace, id.name),
                _ => id.to_string(),
            };
            (name, digests.into_iter().collect())
        })
        .collect()
}

/// Without attachments: those count as routes and hosts.
fn listeners(edge: &EdgePlan) -> Table {
    edge.listeners
        .iter()
        .map(|listener| {
            let own = (listener.port, listener.protocol, &listener.host, &listener.certificates);
            let host = &listener.host;
            (format!("{} (port {}, host {host})", listener.id, listener.port), vec![Digest::of(&own)])
        })
        .collect()
}

fn backends(edge: &EdgePlan) -> Table {
    let attachments = edge.listeners.iter().flat_map(|listener| &listener.attachments);
    let mut ports = BTreeSet::new();
    for rule in attachments.flat_map(|attachment| &attachment.route.rules) {
        if let Action::Forward(backends) = &rule.action {
            ports.extend(backends.iter().filter_map(|backend| match &backend.target {
                Target::Service(port) => Some(port),
                Target::Invalid { .. } => None,
            }));
        }
    }
    ports.into_iter().map(|port| (port.to_string(), Vec::new())).collect()
}

impl Change {
    fn between(old: &Table, new: &Table) -> Self {
        let only = |a: &Table, b: &Table| {
            a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
        };
        let differs = |(name, parts): &(&String, &Vec<Digest>)| {
            old.get(*name).is_some_and(|before| before != *parts)
        };
        Change {
            added: only(new, old),
            removed: only(old, new),
            changed: new.iter().filter(differs).map(|(name, _)| name.clone()).collect(),
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
