//! The request under judgement, joined with what the plan holds for it.

use crate::gateway::{self, Taken};
use crate::stream::{self, Stream};
use crate::{Question, World};
use manifest::kinds::gateway::{Gateway, ParentReference};
use model::dns::Zone;
use model::edge::{Listener, Protocol};
use model::governance::{Claim, Contract};
use model::hostname::is_within;
use model::id::ListenerId;
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
            contract: contract(world, host),
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
        let is_led_on = matches!(&self.taken, Taken::Stream(stream) if stream.transport().is_tls());
        let is_https = self.protocol == Protocol::Https
            && self.listeners().any(|listener| listener.port == self.port);
        (is_led_on || is_https).then_some(self.port)
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

    /// A name of one of our zones that nobody routes or promises: DNS alone answers for it.
    pub fn is_plain_record(&self) -> bool {
        let is_written = self
            .zone
            .is_some_and(|zone| zone.sets.iter().any(|set| set.name.as_str() == self.host));
        is_written && self.contract.is_none() && self.routes().is_empty() && !self.is_served()
    }

    /// True when some listener serves some route for the host.
    pub fn is_served(&self) -> bool {
        serves(self.world, self.host, |_| true) || stream::serves(self.world, self.host)
    }

    /// The connection is led on as bytes.
    pub fn stream(&self) -> Option<&Stream<'a>> {
        match &self.taken {
            Taken::Stream(stream) => Some(stream),
            _ => None,
        }
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
        routes(self.world, self.host)
    }

    /// The routes that should answer for the host: those that name it, else those without hostnames that a listener's
    /// hostname gives it to. Of the latter the attached come first; a detached one counts when the listener that it
    /// wants has a hostname, so that not every name is everybody's.
    pub fn answering(&self) -> Vec<ObjectId> {
        let named = self.routes();
        if named.is_empty() { self.unnamed_routes() } else { named }
    }

    /// The route that takes the connection, whoever names the host.
    fn led_by(&self) -> Option<ObjectId> {
        self.stream().and_then(Stream::rule).map(|rule| rule.object.clone())
    }

    fn unnamed_routes(&self) -> Vec<ObjectId> {
        let plan = &self.world.compiled.snapshot.edge;
        let attachments = plan.listeners.iter().flat_map(|listener| &listener.attachments);
        let attached = attachments.filter(|a| a.host.matches(self.host)).map(|a| &a.route.id);
        let wanting = self.world.inputs.routes().filter(|(_, r)| r.hostnames.is_empty());
        let wanting = wanting.filter(|(object, route)| {
            route.parent_refs.iter().any(|parent| self.gives_host(&object.id, parent))
        });
        let mut routes: Vec<ObjectId> = self.led_by().into_iter().collect();
        for route in attached.chain(wanting.map(|(object, _)| &object.id)) {
            if !routes.contains(route) {
                routes.push(route.clone());
            }
        }
        routes
    }

    /// A listener that the reference names, as written, has a hostname of which the host is one.
    fn gives_host(&self, route: &ObjectId, parent: &ParentReference) -> bool {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
        self.world.inputs.gateway(namespace, &parent.name).is_some_and(|(_, gateway)| {
            gateway.listeners.iter().any(|listener| {
                parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                    && parent.port.is_none_or(|port| port == listener.port)
                    && listener.hostname.as_ref().is_some_and(|host| host.matches(self.host))
            })
        })
    }

    /// A Gateway that a route of the host names.
    pub fn is_parent(&self, gateway: &ObjectId) -> bool {
        self.answering().iter().any(|route| {
            stream::parents(self.world.inputs, route).iter().any(|parent| {
                let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
                parent.name == gateway.name && *namespace == gateway.namespace
            })
        })
    }

    /// The listener that takes the request, or would take the host: the same at every link.
    pub fn listener(&self) -> Option<&ListenerId> {
        match &self.taken {
            Taken::Rule { matched } => Some(matched.listener.id()),
            Taken::Stream(stream) => Some(&stream.listener.id),
            Taken::NoRule { table } => Some(table.id()),
            Taken::NoListener => None,
        }
    }

    /// A listener of a Gateway has a place of its own; that of an Ingress is the Ingress.
    pub fn field_of_listener(&self, id: &ListenerId) -> String {
        let gateway = self.world.inputs.gateway(&id.object.namespace, &id.object.name);
        let index = gateway
            .filter(|_| id.object.kind == Kind::GATEWAY)
            .and_then(|(_, spec)| spec.listeners.iter().position(|l| l.name == id.section));
        index.map_or_else(String::new, |index| format!("spec.listeners[{index}]"))
    }

    /// The contract's owner, or the team of the namespace that routes the host.
    pub fn owner(&self) -> Option<Owner> {
        let promised = self.contract.and_then(|contract| contract.owner());
        let routed_in = || self.answering().into_iter().next().map(|route| route.namespace);
        promised.or_else(|| self.world.compiled.snapshot.governance.team(&routed_in()?))
    }

    /// What lies in the namespaces that route the host, or in its contract's, is the contract's to answer for; what
    /// lies elsewhere (a Gateway, a zone) is the team's whose namespace it is.
    pub fn owner_of(&self, object: &ObjectId) -> Option<Owner> {
        let is_own =
            self.contract.is_some_and(|contract| contract.id.namespace == object.namespace)
                || self.answering().iter().any(|route| route.namespace == object.namespace);
        let team = || self.world.compiled.snapshot.governance.team(&object.namespace);
        if is_own { self.owner() } else { team().or_else(|| self.owner()) }
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

    /// What says that an object belongs to another controller.
    pub fn not_ours(&self, object: &ObjectId) -> Option<&'a Diagnostic> {
        let code = compile::codes::OTHER_CLASS.slug;
        self.world
            .compiled
            .diagnostics
            .iter()
            .find(|d| d.code == code && d.object.as_ref() == Some(object))
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

/// HTTPS where a listener is meant to serve the host: what is written counts, so that a listener that is broken is
/// found and not passed over.
fn default_scheme(world: &World<'_>, host: &str) -> Protocol {
    let has_https = serves(world, host, |listener| listener.protocol == Protocol::Https);
    let is_led_on =
        stream::serves(world, host) || stream::routes(world.inputs, host).next().is_some();
    if has_https || is_led_on || is_https_written(world, host) {
        Protocol::Https
    } else {
        Protocol::Http
    }
}

/// A route of the host names a Gateway with an HTTPS listener for it, or an Ingress has TLS for it.
fn is_https_written(world: &World<'_>, host: &str) -> bool {
    let has_listener = |gateway: &Gateway| {
        gateway.listeners.iter().any(|listener| {
            &*listener.protocol == "HTTPS"
                && listener.hostname.as_ref().is_none_or(|pattern| pattern.matches(host))
        })
    };
    let of_gateway = world.inputs.routes().any(|(object, route)| {
        route.hostnames.iter().any(|pattern| pattern.matches(host))
            && route.parent_refs.iter().any(|parent| {
                let namespace = parent.namespace.as_ref().unwrap_or(&object.id.namespace);
                let is_for_http = |gateway: &Gateway| {
                    let section = parent.section_name.as_ref();
                    gateway
                        .listeners
                        .iter()
                        .any(|l| Some(&l.name) == section && &*l.protocol != "HTTPS")
                };
                world
                    .inputs
                    .gateway(namespace, &parent.name)
                    .is_some_and(|(_, gateway)| has_listener(gateway) && !is_for_http(gateway))
            })
    });
    of_gateway
        || world.inputs.ingresses().any(|(_, ingress)| {
            ingress.tls.iter().any(|tls| tls.hosts.iter().any(|pattern| pattern.0.matches(host)))
        })
}

/// A port in a URL may be the one that is bound (8443) or the one that is written (443).
fn port(world: &World<'_>, question: &Question, protocol: Protocol) -> u16 {
    let listeners = &world.compiled.snapshot.edge.listeners;
    let layer4 = &world.compiled.snapshot.edge.layer4;
    let host = question.host.as_str();
    let is_written = |port: u16| {
        listeners.iter().any(|l| l.port == port && l.protocol == protocol)
            || (question.port.is_some() && layer4.iter().any(|l| l.port == port))
    };
    let default = if protocol == Protocol::Https { 443 } else { 80 };
    match question.port {
        Some(port) => {
            let unshifted =
                port.checked_sub(world.entry.port_offset).filter(|port| is_written(*port));
            unshifted.unwrap_or(port)
        }
        None if is_written(default) && !stream::serves(world, host) => default,
        None => {
            let serving = listeners.iter().find(|l| {
                l.protocol == protocol && l.attachments.iter().any(|a| a.host.matches(host))
            });
            let led = || stream::leading(world, host).next().map(|listener| listener.port);
            serving.map(|listener| listener.port).or_else(led).unwrap_or(default)
        }
    }
}

/// HTTPRoutes first, then GRPCRoutes, TLSRoutes and Ingresses.
fn routes(world: &World<'_>, host: &str) -> Vec<ObjectId> {
    let names = |hosts: &[HostPattern]| hosts.iter().any(|pattern| pattern.matches(host));
    let http = world.inputs.routes().filter(|(_, route)| names(&route.hostnames));
    let ingress = world.inputs.ingresses().filter(|(_, ingress)| {
        ingress
            .rules
            .iter()
            .any(|rule| rule.host.as_ref().is_some_and(|pattern| pattern.0.matches(host)))
    });
    http.map(|(object, _)| object.id.clone())
        .chain(stream::routes(world.inputs, host))
        .chain(ingress.map(|(object, _)| object.id.clone()))
        .collect()
}

/// Of several contracts for one host the one beside a route of the host.
fn contract<'a>(world: &World<'a>, host: &str) -> Option<&'a Node<Contract>> {
    let contracts = || {
        world.compiled.snapshot.governance.contracts.iter().filter(|c| c.hostname.as_str() == host)
    };
    let routes = routes(world, host);
    let is_beside = |contract: &&Node<Contract>| {
        routes.iter().any(|route| route.namespace == contract.id.namespace)
    };
    contracts().find(is_beside).or_else(|| contracts().next())
}
