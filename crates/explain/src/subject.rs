//! The request under judgement, joined with what the plan holds for it.

use crate::gateway::{self, Taken};
use crate::{Question, World};
use model::dns::Zone;
use model::edge::{Listener, Protocol};
use model::governance::{Claim, Contract};
use model::hostname::is_within;
use model::{Diagnostic, HostPattern, Kind, Node, ObjectId, Owner, Severity};

pub struct Subject<'a> {
    pub world: &'a World<'a>,
    pub question: &'a Question,
    pub host: &'a str,
    pub contract: Option<&'a Node<Contract>>,
    /// The longest zone of ours that holds the host.
    pub zone: Option<&'a Node<Zone>>,
    pub protocol: Protocol,
    /// As manifests write it.
    pub port: u16,
    pub taken: Taken<'a>,
}

impl<'a> Subject<'a> {
    pub fn new(world: &'a World<'a>, question: &'a Question) -> Self {
        let host = question.host.as_str();
        let snapshot = &world.compiled.snapshot;
        let protocol = question.scheme.unwrap_or_else(|| default_scheme(world, host));
        let port = port(world, question, protocol);
        let zones = snapshot.dns.zones.iter().filter(|zone| is_within(host, zone.name.as_str()));
        Subject {
            world,
            question,
            host,
            contract: snapshot.governance.contract(host),
            zone: zones.max_by_key(|zone| zone.name.as_str().len()),
            protocol,
            port,
            taken: gateway::take(world, question, protocol, port),
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.protocol == Protocol::Https { "https" } else { "http" };
        let port = self.question.port.map(|port| format!(":{port}")).unwrap_or_default();
        let query =
            self.question.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{}{port}{}{query}", self.host, self.question.path)
    }

    /// Where a handshake can be probed.
    pub fn tls_port(&self) -> Option<u16> {
        (self.protocol == Protocol::Https
            && self.listeners().any(|listener| listener.port == self.port))
        .then_some(self.port)
    }

    /// Listeners of the scheme.
    pub fn listeners(&self) -> impl Iterator<Item = &'a Node<Listener>> {
        let protocol = self.protocol;
        self.world
            .compiled
            .snapshot
            .edge
            .listeners
            .iter()
            .filter(move |listener| listener.protocol == protocol)
    }

    /// True when some listener serves some route for the host.
    pub fn is_served(&self) -> bool {
        serves(self.world, self.host, |_| true)
    }

    pub fn claims(&self) -> impl Iterator<Item = &'a Claim> {
        let host = self.host;
        self.world
            .compiled
            .snapshot
            .governance
            .claims
            .iter()
            .filter(move |claim| claim.host.matches(host))
    }

    /// Routes that name the host, attached or not: HTTPRoutes first.
    pub fn routes(&self) -> Vec<ObjectId> {
        let inputs = self.world.inputs;
        let names = |hosts: &[HostPattern]| hosts.iter().any(|pattern| pattern.matches(self.host));
        let http = inputs
            .http_routes()
            .filter(|(_, route)| names(&route.hostnames))
            .map(|(object, _)| object.id.clone());
        let ingress = inputs
            .ingresses()
            .filter(|(_, ingress)| {
                ingress
                    .rules
                    .iter()
                    .any(|r| r.host.as_ref().is_some_and(|h| h.0.matches(self.host)))
            })
            .map(|(object, _)| object.id.clone());
        http.chain(ingress).collect()
    }

    /// The contract's owner, or the team of the namespace that routes the host.
    pub fn owner(&self) -> Option<Owner> {
        let governance = &self.world.compiled.snapshot.governance;
        let routed_in = self.routes().into_iter().next().map(|route| route.namespace);
        governance.owner(self.host, routed_in.as_deref())
    }

    /// The contract of the host first: the promise is the owner's whatever object breaks it. Objects of another host's
    /// namespace belong to that namespace's team.
    pub fn owner_of(&self, object: &ObjectId) -> Option<Owner> {
        let governance = &self.world.compiled.snapshot.governance;
        governance.owner(self.host, Some(&object.namespace)).or_else(|| self.owner())
    }

    /// The worst diagnostic about an object.
    pub fn diagnostic(
        &self,
        object: &ObjectId,
        relevant: impl Fn(&Diagnostic) -> bool,
    ) -> Option<&'a Diagnostic> {
        let found = self
            .world
            .compiled
            .diagnostics
            .iter()
            .filter(|d| d.object.as_ref() == Some(object) && relevant(d));
        found.min_by_key(|d| d.severity).filter(|d| d.severity != Severity::Note)
    }

    /// Gateways whose listeners, as written, would take the host on the port.
    pub fn gateways(&self) -> Vec<ObjectId> {
        let inputs = self.world.inputs;
        let takes = |listener: &manifest::kinds::gateway::Listener| {
            listener.port == self.port
                && listener.hostname.as_ref().is_none_or(|pattern| pattern.matches(self.host))
        };
        inputs
            .gateways()
            .filter(|(_, g)| g.listeners.iter().any(takes))
            .map(|(object, _)| object.id.clone())
            .collect()
    }

    pub fn contract_object(&self) -> Option<ObjectId> {
        self.contract.map(|contract| {
            ObjectId::new(
                Kind::ENDPOINT_CONTRACT,
                contract.id.namespace.clone(),
                contract.id.name.clone(),
            )
        })
    }
}

fn serves(world: &World<'_>, host: &str, wanted: impl Fn(&Listener) -> bool) -> bool {
    let listeners = &world.compiled.snapshot.edge.listeners;
    listeners.iter().any(|listener| {
        wanted(listener) && listener.attachments.iter().any(|a| a.host.matches(host))
    })
}

/// HTTPS where a listener serves the host, else HTTP.
fn default_scheme(world: &World<'_>, host: &str) -> Protocol {
    let has_https = serves(world, host, |listener| listener.protocol == Protocol::Https);
    if has_https { Protocol::Https } else { Protocol::Http }
}

/// A port in a URL may be the one that is bound (8443) or the one that is written (443).
fn port(world: &World<'_>, question: &Question, protocol: Protocol) -> u16 {
    let listeners = &world.compiled.snapshot.edge.listeners;
    let is_written = |port: u16| listeners.iter().any(|l| l.port == port && l.protocol == protocol);
    let default = if protocol == Protocol::Https { 443 } else { 80 };
    match question.port {
        Some(port) => {
            let unshifted =
                port.checked_sub(world.entry.port_offset).filter(|port| is_written(*port));
            unshifted.unwrap_or(port)
        }
        None if is_written(default) => default,
        None => {
            let serving = listeners.iter().find(|l| {
                l.protocol == protocol
                    && l.attachments.iter().any(|a| a.host.matches(question.host.as_str()))
            });
            serving.map_or(default, |listener| listener.port)
        }
    }
}
