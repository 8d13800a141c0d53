//! What differs between two snapshots, in the words that people use. Equal parts are skipped by identity or digest.

use model::certificates::Certificate;
use model::edge::{Attachment, EdgePlan, Listener, Protocol, Rule, Target};
use model::front::{ListenerPolicy, RulePolicy};
use model::hash::{HashMap, HashSet};
use model::id::{ListenerId, ServicePort};
use model::layer4;
use model::{Digest, HostPattern, Hostname, Kind, Node, ObjectId, Snapshot};
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

/// A host as it is written: the wildcards of both front ends read the same. None is any host.
type HostName<'a> = (bool, Option<&'a Hostname>);

fn host_parts(host: &HostPattern) -> HostName<'_> {
    (host.is_wildcard(), host.base())
}

fn host_name(name: &HostName<'_>) -> String {
    match name {
        (true, Some(base)) => format!("*.{base}"),
        (_, Some(base)) => base.to_string(),
        (_, None) => HostPattern::Any.to_string(),
    }
}

/// From `old` to `new`.
pub fn difference(old: &Snapshot, new: &Snapshot) -> Difference {
    let (before, after) = (old, new);
    let mut found = Difference::default();
    if old.edge != new.edge {
        let (old, new) = Parts::of(&old.edge, &new.edge);
        found.hosts = Change::between(&old.hosts(&new), &new.hosts(&old), host_name);
        found.routes = Change::between(&old.routes(&new), &new.routes(&old), |id| route_name(id));
        found.listeners =
            Change::between(&old.listeners(&new), &new.listeners(&old), ToString::to_string);
        found.backends =
            Change::between(&old.backends(&new), &new.backends(&old), ToString::to_string);
        layer4(&before.edge, &after.edge, &mut found);
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

/// Few, so they are compared whole.
fn layer4(old: &EdgePlan, new: &EdgePlan, found: &mut Difference) {
    if old.layer4 != new.layer4 {
        let same = String::clone;
        found.listeners.merge(Change::between(&own_streams(old), &own_streams(new), same));
        found.hosts.merge(Change::between(&stream_hosts(old), &stream_hosts(new), same));
        found.routes.merge(Change::between(&stream_routes(old), &stream_routes(new), same));
        found.backends.merge(Change::between(&stream_ports(old), &stream_ports(new), same));
    }
    if old.layer4.is_empty() && new.layer4.is_empty() {
        return;
    }
    // What came or went on one side may stay on the other.
    let hosts = |edge: &EdgePlan| -> HashSet<String> {
        let attachments = edge.listeners.iter().flat_map(|listener| &listener.attachments);
        let hosts = attachments.map(|attachment| host_name(&host_parts(&attachment.host)));
        hosts.chain(stream_hosts(edge).into_keys()).collect()
    };
    let backends = |edge: &EdgePlan| -> HashSet<String> {
        let attachments = edge.listeners.iter().flat_map(|listener| &listener.attachments);
        let ports = attachments.flat_map(ports).map(ToString::to_string);
        ports.chain(stream_ports(edge).into_keys()).collect()
    };
    let stayed = found.hosts.take_what_stayed(|| (hosts(old), hosts(new)));
    found.hosts.merge(Change { changed: stayed, ..Change::default() });
    found.backends.take_what_stayed(|| (backends(old), backends(new)));
}

fn own_streams(edge: &EdgePlan) -> Table<String, Digest> {
    let own = |listener: &layer4::Listener| Digest::of(&(&listener.host, own_stream(listener)));
    gathered(edge.layer4.iter().map(|listener| (listener.id.to_string(), own(listener))))
}

/// What a listener is beside its name, its host and its routes.
fn own_stream(listener: &layer4::Listener) -> impl Hash {
    let layer4::Listener { id: _, port, transport, host: _, certificates, policy, attachments: _ } =
        listener;
    (port, transport, certificates, policy)
}

fn streams(edge: &EdgePlan) -> impl Iterator<Item = (&layer4::Listener, &layer4::Attachment)> {
    edge.layer4.iter().flat_map(|listener| {
        listener.attachments.iter().map(move |attachment| (&**listener, attachment))
    })
}

/// Ports of TCP and UDP have no host.
fn stream_hosts(edge: &EdgePlan) -> Table<String, Digest> {
    gathered(streams(edge).filter(|(listener, _)| listener.transport.is_tls()).map(
        |(listener, attachment)| {
            let part = Digest::of(&(own_stream(listener), attachment.route.digest()));
            (host_name(&host_parts(&attachment.host)), part)
        },
    ))
}

fn stream_routes(edge: &EdgePlan) -> Table<String, Digest> {
    let mut routes = gathered(
        streams(edge).map(|(_, found)| (found.route.id().to_string(), found.route.digest())),
    );
    for digests in routes.values_mut() {
        digests.sort();
        digests.dedup();
    }
    routes
}

fn stream_ports(edge: &EdgePlan) -> Table<String, ()> {
    let ports = streams(edge).flat_map(|(_, attachment)| attachment.route.ports());
    ports.map(|port| (port.to_string(), Vec::new())).collect()
}

fn gathered<V>(pairs: impl Iterator<Item = (String, V)>) -> Table<String, V> {
    let mut table = Table::default();
    for (name, part) in pairs {
        table.entry(name).or_insert_with(Vec::new).push(part);
    }
    table
}

/// What there is, with what it is made of.
type Table<K, V> = HashMap<K, Vec<V>>;

fn table<T>(nodes: &[Node<T>], name: impl Fn(&T) -> String) -> Table<String, Digest> {
    let mut table = Table::default();
    for node in nodes {
        table.entry(name(node)).or_default().push(node.digest());
    }
    table
}

fn secret_name(certificate: &Certificate) -> String {
    format!("{}/{}", certificate.secret.namespace, certificate.secret.name)
}

/// A plan of the edge with those of its parts that do not stand equal in the other plan. What is named in neither
/// plan's parts is made of the same in both, so tables hold only what is named there.
struct Parts<'a> {
    edge: &'a EdgePlan,
    listeners: Vec<&'a Listener>,
    attachments: Vec<&'a Attachment>,
}

impl<'a> Parts<'a> {
    fn of(old: &'a EdgePlan, new: &'a EdgePlan) -> (Parts<'a>, Parts<'a>) {
        let parts = |edge| Parts { edge, listeners: Vec::new(), attachments: Vec::new() };
        let (mut old, mut new) = (parts(old), parts(new));
        let (before, after) = unequal(&old.edge.listeners, &new.edge.listeners);
        let are_paired = before.len() == after.len()
            && before
                .iter()
                .zip(&after)
                .all(|(a, b)| (&a.id, &a.host, own(a)) == (&b.id, &b.host, own(b)));
        if are_paired {
            for (before, after) in before.iter().zip(&after) {
                let (before, after) = unequal(&before.attachments, &after.attachments);
                old.attachments.extend(before);
                new.attachments.extend(after);
            }
        } else {
            old.take_whole(before);
            new.take_whole(after);
        }
        (old, new)
    }

    fn take_whole(&mut self, listeners: Vec<&'a Node<Listener>>) {
        self.attachments = listeners.iter().flat_map(|listener| &listener.attachments).collect();
        self.listeners = listeners.into_iter().map(|listener| &**listener).collect();
    }

    /// Hosts with what serves them: listener and routes, in order.
    fn hosts(&self, other: &Self) -> Table<HostName<'a>, (Own<'a>, Digest)> {
        let both = self.attachments.iter().chain(&other.attachments);
        let named: HashSet<HostName> =
            both.map(|attachment| host_parts(&attachment.host)).collect();
        let mut hosts = Table::default();
        for listener in &self.edge.listeners {
            for attachment in &listener.attachments {
                let name = host_parts(&attachment.host);
                if named.contains(&name) {
                    let part = (own(listener), attachment.route.digest());
                    hosts.entry(name).or_insert_with(Vec::new).push(part);
                }
            }
        }
        hosts
    }

    /// An Ingress has one route a host.
    fn routes(&self, other: &Self) -> Table<&'a ObjectId, Digest> {
        let both = self.attachments.iter().chain(&other.attachments);
        let named: HashSet<&ObjectId> = both.map(|attachment| &attachment.route.id).collect();
        let mut routes: Table<&ObjectId, Digest> = Table::default();
        let mut seen = HashSet::default();
        for attachment in self.all_attachments() {
            let route = &attachment.route;
            if named.contains(&route.id) && seen.insert(route.address()) {
                routes.entry(&route.id).or_default().push(route.digest());
            }
        }
        routes.values_mut().for_each(|digests| digests.sort());
        routes
    }

    /// Without attachments: those count as routes and hosts. One Ingress makes a listener a host.
    fn listeners(&self, other: &Self) -> Table<&'a ListenerId, (&'a HostPattern, Own<'a>)> {
        let both = self.listeners.iter().chain(&other.listeners);
        let named: HashSet<&ListenerId> = both.map(|listener| &listener.id).collect();
        let mut listeners = Table::default();
        for listener in self.edge.listeners.iter().filter(|l| named.contains(&l.id)) {
            let part = (&listener.host, own(listener));
            listeners.entry(&listener.id).or_insert_with(Vec::new).push(part);
        }
        listeners
    }

    /// Ports that the parts of one plan name and those of the other do not, where the whole plan has them.
    fn backends(&self, other: &Self) -> Table<&'a ServicePort, ()> {
        let (ours, others): (HashSet<_>, HashSet<_>) = (
            self.attachments.iter().flat_map(|attachment| ports(attachment)).collect(),
            other.attachments.iter().flat_map(|attachment| ports(attachment)).collect(),
        );
        if ours == others {
            return Table::default();
        }
        self.all_attachments()
            .flat_map(ports)
            .filter(|port| ours.contains(port) != others.contains(port))
            .map(|port| (port, Vec::new()))
            .collect()
    }

    fn all_attachments(&self) -> impl Iterator<Item = &'a Attachment> + use<'a> {
        self.edge.listeners.iter().flat_map(|listener| &listener.attachments)
    }
}

/// Where two lists differ. What they have in common at the start and at the end is left out, and where the rest is
/// equally long, what stands equal at its place in it.
fn unequal<'a, T: PartialEq>(old: &'a [T], new: &'a [T]) -> (Vec<&'a T>, Vec<&'a T>) {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    match old.len() == new.len() {
        true => old.iter().zip(new).filter(|(a, b)| a != b).unzip(),
        false => (old.iter().collect(), new.iter().collect()),
    }
}

/// What a listener is beside its name, its host and its routes.
type Own<'a> = (u16, Protocol, &'a [ObjectId], Option<&'a ListenerPolicy>, Option<&'a RulePolicy>);

fn own(listener: &Listener) -> Own<'_> {
    let Listener {
        id: _,
        port,
        protocol,
        host: _,
        certificates,
        policy,
        unmatched,
        attachments: _,
    } = listener;
    (*port, *protocol, certificates, policy.as_deref(), unmatched.as_deref())
}

fn ports(attachment: &Attachment) -> impl Iterator<Item = &ServicePort> {
    let backends = attachment.route.rules.iter().flat_map(Rule::backends);
    backends.filter_map(|backend| match &backend.target {
        Target::Service(port) => Some(port),
        Target::Invalid { .. } => None,
    })
}

fn route_name(id: &ObjectId) -> String {
    match id.kind {
        Kind::HTTP_ROUTE => format!("{}/{}", id.namespace, id.name),
        _ => id.to_string(),
    }
}

impl Change {
    fn between<K: Eq + Hash, V: PartialEq>(
        old: &Table<K, V>,
        new: &Table<K, V>,
        shown: impl Fn(&K) -> String,
    ) -> Self {
        let names = |keys: &mut dyn Iterator<Item = &K>| {
            let mut names: Vec<String> = keys.map(&shown).collect();
            names.sort();
            names
        };
        let differs =
            |(key, parts): &(&K, &Vec<V>)| old.get(key).is_some_and(|before| before != *parts);
        Change {
            added: names(&mut new.keys().filter(|key| !old.contains_key(key))),
            removed: names(&mut old.keys().filter(|key| !new.contains_key(key))),
            changed: names(&mut new.iter().filter(differs).map(|(key, _)| key)),
        }
    }

    /// Names that are said to have come or gone and are in both plans.
    fn take_what_stayed(
        &mut self,
        names: impl FnOnce() -> (HashSet<String>, HashSet<String>),
    ) -> Vec<String> {
        if self.added.is_empty() && self.removed.is_empty() {
            return Vec::new();
        }
        let (old, new) = names();
        let mut stayed = Vec::new();
        for names in [&mut self.added, &mut self.removed] {
            names.retain(|name| {
                let stays = old.contains(name) && new.contains(name);
                stayed.extend(stays.then(|| name.clone()));
                !stays
            });
        }
        stayed
    }

    fn merge(&mut self, other: Change) {
        let pairs = [
            (&mut self.added, other.added),
            (&mut self.removed, other.removed),
            (&mut self.changed, other.changed),
        ];
        for (names, others) in pairs {
            names.extend(others);
            names.sort();
            names.dedup();
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
