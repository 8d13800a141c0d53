//! What is served, as lines for a person: hostnames with URLs, backends, certificate and zone, and commands to copy.

use crate::streams;
use model::certificates::Source;
use model::edge::{Action, Attachment, Listener, Match, PathMatch, Protocol, Rule, Target};
use model::id::ServicePort;
use model::{Facts, HostPattern, ObjectId, Snapshot};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where this instance listens, and the file that its local CA is printed to.
pub struct Where<'a> {
    pub bind: IpAddr,
    pub port_offset: u16,
    pub dns: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub ca_file: &'a str,
}

/// One hostname, over all listeners.
#[derive(Default)]
struct Host {
    /// A pattern is nothing that a client could ask for.
    is_exact: bool,
    entries: BTreeMap<(u16, Protocol), Entry>,
    services: BTreeSet<ServicePort>,
    has_redirect: bool,
    certificates: BTreeSet<String>,
    zone: Option<String>,
}

/// One port of a hostname.
#[derive(Default)]
struct Entry {
    trust: Trust,
    /// One that a rule takes.
    path: Option<SamplePath>,
}

/// A path to try, the best first: without further conditions, and the root before others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SamplePath {
    has_conditions: bool,
    is_below_root: bool,
    path: String,
}

/// What a client must trust at an entry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Trust {
    /// The local CA, whichever certificate is chosen; in clear nothing at all.
    #[default]
    LocalCa,
    /// Whoever issued the certificate of a Secret.
    Issuer,
}

pub fn to_text(snapshot: &Snapshot, facts: &Facts, place: &Where<'_>) -> String {
    let hosts = hosts(snapshot);
    let mut out = String::new();
    for (name, host) in &hosts {
        out.push_str(&host_text(name, host, facts, place));
    }
    out.push_str(&streams::to_text(snapshot, facts, place));
    if out.is_empty() {
        out.push_str("  nothing yet: no route is attached to a listener\n");
    }
    out.push_str(&commands(&hosts, place));
    out
}

fn hosts(snapshot: &Snapshot) -> BTreeMap<String, Host> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for listener in &snapshot.edge.listeners {
        let certificates = certificates(snapshot, listener);
        for attachment in &listener.attachments {
            let name = attachment.host.to_string();
            let host = hosts.entry(name).or_insert_with_key(|name| Host {
                is_exact: matches!(attachment.host, HostPattern::Exact(_)),
                zone: zone(snapshot, name),
                ..Host::default()
            });
            let entry = host.entries.entry((listener.port, listener.protocol)).or_default();
            for (text, needs) in &certificates {
                host.certificates.insert(text.clone());
                if *needs == Trust::Issuer {
                    entry.trust = Trust::Issuer;
                }
            }
            let reached: Vec<&Rule> = reached_rules(listener, attachment).collect();
            let matches = reached.iter().flat_map(|rule| &rule.matches);
            let paths = matches.filter_map(sample_path);
            entry.path = paths.chain(entry.path.take()).min();
            for rule in reached {
                collect_action(host, &rule.action);
            }
        }
    }
    hosts
}

/// Rules that some request of the host can come to. Of one effective host the routes that wrote a more specific one
/// are asked first, and may take every path of a rule.
fn reached_rules<'a>(
    listener: &'a Listener,
    attachment: &'a Attachment,
) -> impl Iterator<Item = &'a Rule> {
    let own = attachment.original.specificity();
    let before: Vec<&Match> = listener
        .attachments
        .iter()
        .filter(|a| a.host == attachment.host && a.original.specificity() > own)
        .flat_map(|a| &a.route.rules)
        .flat_map(|rule| &rule.matches)
        .filter(|earlier| earlier.conditions.is_empty())
        .collect();
    let is_reached =
        move |found: &Match| !before.iter().any(|earlier| takes_all(&earlier.path, &found.path));
    attachment.route.rules.iter().filter(move |rule| rule.matches.iter().any(&is_reached))
}

/// True when the first takes every path that the second takes.
fn takes_all(first: &PathMatch, second: &PathMatch) -> bool {
    match (first, second) {
        (PathMatch::Prefix(prefix), _) if prefix.is_empty() => true,
        (PathMatch::Prefix(prefix), PathMatch::Prefix(path) | PathMatch::Exact(path)) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        (first, second) => first == second,
    }
}

/// None for a regular expression: what it takes is not for a program to guess.
fn sample_path(found: &Match) -> Option<SamplePath> {
    let path = match &found.path {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(path) if path.is_empty() => "/".to_owned(),
        PathMatch::Prefix(path) => path.to_string(),
        PathMatch::Regex(_) => return None,
    };
    let has_conditions = !found.conditions.is_empty();
    Some(SamplePath { has_conditions, is_below_root: path != "/", path })
}

fn collect_action(host: &mut Host, action: &Action) {
    match action {
        Action::Forward(backends) => {
            host.services.extend(backends.iter().filter_map(|backend| match &backend.target {
                Target::Service(port) => Some(port.clone()),
                Target::Invalid { .. } => None,
            }));
        }
        Action::Redirect(_) => host.has_redirect = true,
        Action::Fail { .. } => {}
    }
}

fn certificates(snapshot: &Snapshot, listener: &Listener) -> Vec<(String, Trust)> {
    let planned = &snapshot.certificates.certificates;
    let describe = |secret: &ObjectId| {
        let at = planned.binary_search_by(|planned| planned.secret.cmp(secret)).ok()?;
        Some(match &planned.get(at)?.source {
            Source::Secret(leaf) => (format!("{secret}, issued by {}", leaf.issuer), Trust::Issuer),
            Source::Missing { .. } => ("local CA".to_owned(), Trust::LocalCa),
        })
    };
    listener.certificates.iter().filter_map(describe).collect()
}

/// The closest zone around a name.
fn zone(snapshot: &Snapshot, name: &str) -> Option<String> {
    let name = name.trim_start_matches("*.");
    let names = snapshot.dns.zones.iter().map(|zone| zone.name.as_str());
    let around = names.filter(|zone| model::hostname::is_within(name, zone));
    around.max_by_key(|zone| zone.len()).map(str::to_owned)
}

fn host_text(name: &str, host: &Host, facts: &Facts, place: &Where<'_>) -> String {
    let urls: Vec<String> =
        host.entries.keys().map(|(port, of)| url(name, *port, *of, "/", place)).collect();
    let backends: Vec<String> = host
        .services
        .iter()
        .map(|port| {
            let endpoints = facts.endpoints(port);
            format!(
                "{port} ({} of {} ready)",
                endpoints.iter().filter(|e| e.ready).count(),
                endpoints.len()
            )
        })
        .collect();
    let backends = match (backends.is_empty(), host.has_redirect) {
        (true, true) => "redirect".to_owned(),
        (true, false) => "none".to_owned(),
        (false, _) => backends.join(", "),
    };
    let certificates: Vec<&str> = host.certificates.iter().map(String::as_str).collect();
    let certificates =
        if certificates.is_empty() { "none".to_owned() } else { certificates.join(", ") };
    format!(
        "  {name}\n    {}\n    backends     {backends}\n    certificate  {certificates}\n    zone         {}\n",
        urls.join("  "),
        host.zone.as_deref().unwrap_or("none"),
    )
}

fn url(name: &str, port: u16, protocol: Protocol, path: &str, place: &Where<'_>) -> String {
    let (scheme, standard) = match protocol {
        Protocol::Https => ("https", 443),
        Protocol::Http => ("http", 80),
    };
    let bound = port.saturating_add(place.port_offset);
    let shown = if bound == standard { String::new() } else { format!(":{bound}") };
    format!("{scheme}://{name}{shown}{path}")
}

/// Lines that work as printed, each for the first exact hostname that it can work for.
fn commands(hosts: &BTreeMap<String, Host>, place: &Where<'_>) -> String {
    let exact: Vec<(&str, &Host)> = hosts
        .iter()
        .filter(|(_, host)| host.is_exact)
        .map(|(name, host)| (name.as_str(), host))
        .collect();
    let mut lines = Vec::new();
    lines.extend(over_tls(&exact, place));
    lines.extend(in_clear(&exact, place));
    lines.extend(asks_dns(&exact, place));
    if let Some((name, host)) = exact.first() {
        let question = question(name, host);
        lines.push(format!("cutwater explain {}{}", quoted(&question), admin_option(place.admin)));
    }
    if lines.is_empty() {
        return String::new();
    }
    let shown: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    format!("\ntry\n{shown}")
}

/// The name alone asks for the root, over HTTPS where it is served.
fn question(name: &str, host: &Host) -> String {
    let entry = host.entries.iter().max_by_key(|((_, protocol), _)| *protocol == Protocol::Https);
    match entry.and_then(|((_, protocol), entry)| Some((protocol, entry.path.as_ref()?))) {
        Some((protocol, sample)) if sample.is_below_root => {
            let scheme = if *protocol == Protocol::Https { "https" } else { "http" };
            format!("{scheme}://{name}{}", sample.path)
        }
        _ => name.to_owned(),
    }
}

/// With the local CA where a hostname has its certificate from there: that file is at hand.
fn over_tls(exact: &[(&str, &Host)], place: &Where<'_>) -> Vec<String> {
    if let Some((name, port, path)) = entry(exact, Protocol::Https, Trust::LocalCa) {
        let trust = format!("--cacert {} ", quoted(place.ca_file));
        return vec![curl(name, (port, Protocol::Https), path, &trust, place)];
    }
    let Some((name, port, path)) = entry(exact, Protocol::Https, Trust::Issuer) else {
        return Vec::new();
    };
    vec![
        "# no hostname has its certificate from the local CA: this needs an issuer that curl trusts"
            .to_owned(),
        curl(name, (port, Protocol::Https), path, "", place),
    ]
}

fn in_clear(exact: &[(&str, &Host)], place: &Where<'_>) -> Option<String> {
    let (name, port, path) = entry(exact, Protocol::Http, Trust::LocalCa)?;
    Some(curl(name, (port, Protocol::Http), path, "", place))
}

/// The first that fits: its name, port, and a path that is routed.
fn entry<'a>(
    exact: &[(&'a str, &'a Host)],
    of: Protocol,
    trust: Trust,
) -> Option<(&'a str, u16, &'a str)> {
    exact.iter().find_map(|(name, host)| {
        let mut entries = host.entries.iter();
        let found = entries.find(|((_, protocol), e)| *protocol == of && e.trust == trust);
        found.map(|((port, _), entry)| {
            (*name, *port, entry.path.as_ref().map_or("/", |sample| sample.path.as_str()))
        })
    })
}

fn curl(
    name: &str,
    (port, protocol): (u16, Protocol),
    path: &str,
    trust: &str,
    place: &Where<'_>,
) -> String {
    let bound = port.saturating_add(place.port_offset);
    let address = match reachable(place.bind) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let url = url(name, port, protocol, path, place);
    format!("curl --resolve {name}:{bound}:{address} {trust}{}", quoted(&url))
}

/// A name outside every zone would be refused.
fn asks_dns(exact: &[(&str, &Host)], place: &Where<'_>) -> Option<String> {
    let dns = place.dns?;
    let (name, _) = exact.iter().find(|(_, host)| host.zone.is_some())?;
    Some(format!("dig @{} -p {} {name}", reachable(dns.ip()), dns.port()))
}

fn admin_option(admin: SocketAddr) -> String {
    let admin = SocketAddr::new(reachable(admin.ip()), admin.port());
    if admin.to_string() == "127.0.0.1:9180" { String::new() } else { format!(" --admin {admin}") }
}

/// An address that a client on this machine can connect to.
fn reachable(bound: IpAddr) -> IpAddr {
    match bound {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// One word of a POSIX shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}
