//! What is served, as lines for a person: hostnames with URLs, backends, certificate and zone, and commands to copy.

use model::certificates::Source;
use model::edge::{Action, Listener, Protocol, Target};
use model::id::ServicePort;
use model::{Facts, HostPattern, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

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
    ports: BTreeSet<(u16, bool)>,
    services: BTreeSet<ServicePort>,
    has_redirect: bool,
    certificate: Option<String>,
}

pub fn to_text(snapshot: &Snapshot, facts: &Facts, place: &Where<'_>) -> String {
    let hosts = hosts(snapshot);
    let mut out = String::new();
    for (name, host) in &hosts {
        out.push_str(&host_text(name, host, snapshot, facts, place));
    }
    if hosts.is_empty() {
        out.push_str("  nothing yet: no route is attached to a listener\n");
    }
    out.push_str(&commands(&hosts, place));
    out
}

fn hosts(snapshot: &Snapshot) -> BTreeMap<String, Host> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for listener in &snapshot.edge.listeners {
        for attachment in &listener.attachments {
            let host = hosts.entry(attachment.host.to_string()).or_default();
            host.ports.insert((listener.port, listener.protocol == Protocol::Https));
            for rule in &attachment.route.rules {
                collect_action(host, &rule.action);
            }
            if let Some(text) = certificate(snapshot, listener, &attachment.host) {
                host.certificate = Some(text);
            }
        }
    }
    hosts
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

fn certificate(snapshot: &Snapshot, listener: &Listener, _: &HostPattern) -> Option<String> {
    let secret = listener.certificates.first()?;
    let found = snapshot
        .certificates
        .certificates
        .iter()
        .find(|certificate| certificate.secret == *secret)?;
    Some(match &found.source {
        Source::Secret(leaf) => format!("{secret}, issued by {}", leaf.issuer),
        Source::Missing { .. } => "local CA".to_owned(),
    })
}

fn host_text(
    name: &str,
    host: &Host,
    snapshot: &Snapshot,
    facts: &Facts,
    place: &Where<'_>,
) -> String {
    let urls: Vec<String> =
        host.ports.iter().map(|(port, is_tls)| url(name, *port, *is_tls, place)).collect();
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
    let zones = snapshot.dns.zones.iter().filter(|zone| {
        model::hostname::is_within(name.trim_start_matches("*."), zone.name.as_str())
    });
    let zone =
        zones.max_by_key(|zone| zone.name.as_str().len()).map_or("none", |zone| zone.name.as_str());
    format!(
        "  {name}\n    {}\n    backends     {backends}\n    certificate  {}\n    zone         {zone}\n",
        urls.join("  "),
        host.certificate.as_deref().unwrap_or("none"),
    )
}

fn url(name: &str, port: u16, is_tls: bool, place: &Where<'_>) -> String {
    let (scheme, standard) = if is_tls { ("https", 443) } else { ("http", 80) };
    let bound = port.saturating_add(place.port_offset);
    let shown = if bound == standard { String::new() } else { format!(":{bound}") };
    format!("{scheme}://{name}{shown}/")
}

/// Lines that work as printed: for the first exact hostname of each kind.
fn commands(hosts: &BTreeMap<String, Host>, place: &Where<'_>) -> String {
    let exact = || hosts.iter().filter(|(name, _)| !name.starts_with('*'));
    let with = |is_tls: bool| {
        exact().find_map(|(name, host)| {
            host.ports
                .iter()
                .find(|(_, tls)| *tls == is_tls)
                .map(|(port, _)| (name.as_str(), *port))
        })
    };
    let client =
        if place.bind.is_unspecified() { "127.0.0.1".to_owned() } else { place.bind.to_string() };
    let mut lines = Vec::new();
    if let Some((name, port)) = with(true) {
        let bound = port.saturating_add(place.port_offset);
        lines.push(format!(
            "curl --resolve {name}:{bound}:{client} --cacert {} {}",
            place.ca_file,
            url(name, port, true, place)
        ));
    }
    if let Some((name, port)) = with(false) {
        let bound = port.saturating_add(place.port_offset);
        lines.push(format!(
            "curl --resolve {name}:{bound}:{client} {}",
            url(name, port, false, place)
        ));
    }
    if let Some((name, _)) = exact().next() {
        if let Some(dns) = place.dns {
            lines.push(format!("dig @{client} -p {} {name}", dns.port()));
        }
        let admin = if place.admin.to_string() == "127.0.0.1:9180" {
            String::new()
        } else {
            format!(" --admin {}", place.admin)
        };
        lines.push(format!("cutwater explain {name}{admin}"));
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "\ntry\n{}\n",
        lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    )
}
