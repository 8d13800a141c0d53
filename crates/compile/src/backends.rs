//! Backends: what a reference leads to, and why it leads nowhere. An invalid backend keeps its share of the requests
//! and answers 500 (HTTPBackendRef).

use crate::codes;
use crate::fallback;
use crate::grants::{self, Grants};
use crate::policies::{Policies, Scope};
use crate::report::Problem;
use manifest::kinds::edge_policy_answers::{DefaultBackendRef, PageServiceRef};
use manifest::kinds::fallback::FallbackRef;
use manifest::kinds::gateway::HttpBackendRef;
use manifest::kinds::kubernetes::{
    IngressServiceBackend, IpProtocol, Service, ServicePortSpec, ServiceType,
};
use manifest::kinds::layer4::BackendRef;
use manifest::kinds::traffic::MirrorBackendRef;
use manifest::{Inputs, suggest};
use model::edge::{Backend, Target};
use model::id::ServicePort;
use model::traffic::{BackendPolicy, BackendProtocol, Nearest};
use model::{Hostname, Kind, Node, ObjectId, Text};

/// What resolving needs to know of the world.
#[derive(Clone, Copy)]
pub(crate) struct References<'a> {
    pub inputs: &'a Inputs,
    pub grants: &'a Grants<'a>,
    pub policies: &'a Policies<'a>,
}

/// A route's reference to a backend, whichever field holds it.
#[derive(Clone, Copy)]
pub(crate) struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: Option<&'a Text>,
    name: &'a Text,
    port: Option<u16>,
}

macro_rules! reference {
    ($type:ty) => {
        impl<'a> From<&'a $type> for Reference<'a> {
            fn from(spec: &'a $type) -> Self {
                let (group, kind, namespace) = (&spec.group, &spec.kind, spec.namespace.as_ref());
                Reference { group, kind, namespace, name: &spec.name, port: spec.port }
            }
        }
    };
}

/// What policies name is a Service without more words.
macro_rules! service_reference {
    ($type:ty) => {
        impl<'a> From<&'a $type> for Reference<'a> {
            fn from(spec: &'a $type) -> Self {
                let (group, kind, namespace) = ("", Kind::SERVICE.0, spec.namespace.as_ref());
                Reference { group, kind, namespace, name: &spec.name, port: Some(spec.port) }
            }
        }
    };
}

impl<'a> From<&'a FallbackRef> for Reference<'a> {
    fn from(spec: &'a FallbackRef) -> Self {
        let (group, kind, port) = (&*spec.group, &*spec.kind, Some(spec.port));
        Reference { group, kind, namespace: None, name: &spec.name, port }
    }
}

service_reference!(DefaultBackendRef);
service_reference!(PageServiceRef);
reference!(HttpBackendRef);
reference!(MirrorBackendRef);
reference!(BackendRef);

/// A Service's port that a reference leads to, and how it wants to be spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Reached<'a> {
    pub port: ServicePort,
    pub service: &'a Service,
    pub spec: &'a ServicePortSpec,
    pub protocol: BackendProtocol,
    pub announces_tls: bool,
}

impl Reached<'_> {
    /// Nothing about it is other than by default.
    pub fn is_plain(&self) -> bool {
        self.protocol == BackendProtocol::Http1
            && !self.announces_tls
            && self.nearest() == Nearest::Any
            && self.external().is_none()
    }

    /// Of the words of `trafficDistribution`, those that ask for near endpoints first.
    pub fn nearest(&self) -> Nearest {
        self.service.traffic_distribution.as_deref().and_then(nearest).unwrap_or_default()
    }

    /// The name that the Service stands for.
    pub fn external(&self) -> Option<&Text> {
        let is_external = self.service.kind == ServiceType::ExternalName;
        self.service.external_name.as_ref().filter(|_| is_external)
    }

    /// As the Service is called in a certificate: by its name in the cluster, or by the one that it stands for.
    pub fn tls_name(&self) -> Text {
        let in_cluster = || format!("{}.{}.svc", self.port.name, self.port.namespace).into();
        self.external().cloned().unwrap_or_else(in_cluster)
    }
}

/// KEP-4444 and KEP-3015. PreferClose is the older word for PreferSameZone.
pub(crate) fn nearest(distribution: &str) -> Option<Nearest> {
    match distribution {
        "PreferClose" | "PreferSameZone" => Some(Nearest::Zone),
        "PreferSameNode" => Some(Nearest::Node),
        _ => None,
    }
}

pub(crate) type Resolved<'a> = Result<Reached<'a>, Problem>;

impl<'a> References<'a> {
    pub fn of_route(
        &self,
        scope: Option<Scope>,
        from: &ObjectId,
        reference: Reference,
    ) -> Resolved<'a> {
        let (service, spec, port) = self.port_of(scope, from, reference, |_| true)?;
        resolved(service, spec, port)
    }

    /// Of a TLSRoute or TCPRoute, or of a UDPRoute. What its port says of its application does not matter: bytes are
    /// passed on as they come. A Service may have one number for both transports.
    pub fn of_stream(&self, from: &ObjectId, reference: Reference, is_udp: bool) -> Resolved<'a> {
        let wanted = if is_udp { IpProtocol::Udp } else { IpProtocol::Tcp };
        let is_wanted = |port: &ServicePortSpec| port.protocol == wanted;
        let (service, spec, found) = self.port_of(None, from, reference, is_wanted)?;
        if found.protocol != wanted {
            let (has, wants) = (found.protocol.name(), wanted.name());
            let message = format!(
                "port {} of {service} speaks {has}, and a {} leads to {wants}",
                found.port, from.kind
            );
            let problem =
                Problem::new(&codes::BACKEND_PROTOCOL, "UnsupportedProtocol", "port", message);
            return Err(problem.help(format!("name a port of protocol {wants}")));
        }
        let port =
            ServicePort { namespace: service.namespace, name: service.name, port: found.port };
        let (protocol, announces_tls) = (BackendProtocol::Http1, false);
        Ok(Reached { port, service: spec, spec: found, protocol, announces_tls })
    }

    /// The port that a reference names; of several with its number the one that is wanted.
    fn port_of(
        &self,
        scope: Option<Scope>,
        from: &ObjectId,
        reference: Reference,
        is_wanted: impl Fn(&ServicePortSpec) -> bool,
    ) -> Result<(ObjectId, &'a Service, &'a ServicePortSpec), Problem> {
        if !matches!(reference.group, "" | "core") || reference.kind != Kind::SERVICE.0 {
            let kind = &reference.kind;
            let message = format!("a backend of kind {kind} is not served");
            return Err(Problem::new(&codes::BACKEND_KIND, "InvalidKind", "kind", message)
                .help("name a Service"));
        }
        let namespace = reference.namespace.unwrap_or(&from.namespace);
        let service = ObjectId::new(Kind::SERVICE, namespace.clone(), reference.name.clone());
        if !self.grants.allow(from, &service) {
            let message = format!("no ReferenceGrant lets {from} use {service}");
            let problem = Problem::new(
                &codes::REFERENCE_NOT_PERMITTED,
                "RefNotPermitted",
                "namespace",
                message,
            );
            return Err(problem.help(grants::mend(from, &service)));
        }
        let spec = self.service(&service, scope)?;
        let Some(number) = reference.port else {
            return Err(no_port("", format!("the backend names no port of {service}"), spec));
        };
        let numbered = || spec.ports.iter().filter(|port| port.port == number);
        match numbered().find(|port| is_wanted(port)).or_else(|| numbered().next()) {
            Some(port) => Ok((service, spec, port)),
            None => Err(no_port("port", format!("{service} has no port {number}"), spec)),
        }
    }

    pub fn of_ingress(&self, from: &ObjectId, reference: &IngressServiceBackend) -> Resolved<'a> {
        let namespace = from.namespace.clone();
        let service = ObjectId::new(Kind::SERVICE, namespace, reference.name.clone());
        let spec = self.service(&service, None)?;
        let wanted = &reference.port;
        let found = spec.ports.iter().find(|port| match (&wanted.number, &wanted.name) {
            (Some(number), _) => port.port == *number,
            (None, Some(name)) => port.name.as_ref() == Some(name),
            (None, None) => false,
        });
        match found {
            Some(port) => resolved(service, spec, port),
            None => {
                let named = wanted.name.as_deref().map(str::to_owned);
                let shown = wanted.number.map(|number| number.to_string()).or(named);
                let shown = shown.unwrap_or_else(|| "(none)".to_owned());
                Err(no_port("port", format!("{service} has no port {shown}"), spec))
            }
        }
    }

    /// A backend of the plan for what was resolved. Where a policy allows no connection it is an invalid one.
    pub fn backend(self, weight: u32, resolved: &Resolved, scope: Scope) -> Backend {
        let backend =
            self.backend_by(weight, resolved, |reached| self.policies.of_backend(scope, reached));
        let is_led = matches!(backend.target, Target::Service(_));
        let reached = resolved.as_ref().ok().filter(|_| is_led);
        let fallback = reached.and_then(|reached| fallback::of_backend(self, scope, reached));
        Backend { fallback, ..backend }
    }

    /// As [`References::backend`], for bytes instead of requests. TLS that is passed through is the client's.
    pub fn stream_backend(
        self,
        weight: u32,
        resolved: &Resolved,
        scope: Scope,
        is_passed: bool,
    ) -> Backend {
        let backend = self.backend_by(weight, resolved, |reached| {
            self.policies.of_stream(scope, reached, is_passed)
        });
        let is_led = matches!(backend.target, Target::Service(_));
        // Of UDP nobody says whether an endpoint took it.
        let is_over_tcp = |reached: &&Reached| reached.spec.protocol == IpProtocol::Tcp;
        let reached = resolved.as_ref().ok().filter(|_| is_led).filter(is_over_tcp);
        let fallback =
            reached.and_then(|reached| fallback::of_stream(self, scope, reached, is_passed));
        Backend { fallback, ..backend }
    }

    fn backend_by(
        &self,
        weight: u32,
        resolved: &Resolved,
        policy: impl Fn(&Reached) -> Result<Option<Node<BackendPolicy>>, Problem>,
    ) -> Backend {
        let invalid = |problem: &Problem| Target::Invalid {
            why: problem.code.slug.into(),
            message: problem.message.as_str().into(),
        };
        let reached = match resolved {
            Ok(reached) => reached,
            Err(problem) => return Backend::plain(weight, invalid(problem)),
        };
        match policy(reached) {
            Ok(policy) => {
                Backend { policy, ..Backend::plain(weight, Target::Service(reached.port.clone())) }
            }
            Err(problem) => Backend::plain(weight, invalid(&problem)),
        }
    }

    /// What somebody who names the backend should know.
    pub fn remark(&self, reached: &Reached) -> Option<Problem> {
        let is_public = reached.external().is_some();
        if !reached.announces_tls || is_public || self.policies.tls_policy(reached).is_some() {
            return None;
        }
        let message = format!(
            "{} announces TLS, and no BackendTLSPolicy says whom to trust: the system's authorities are, for the name {}",
            reached.port,
            reached.tls_name()
        );
        let problem = Problem::new(&codes::TLS_WITHOUT_POLICY, "", "port", message);
        Some(problem.help("add a BackendTLSPolicy for the Service, with the name and the authority of its certificate"))
    }

    /// Without a scope no Gateway's owner allows anything.
    fn service(&self, id: &ObjectId, scope: Option<Scope>) -> Result<&'a Service, Problem> {
        let Some((_, spec)) = self.inputs.service(&id.namespace, &id.name) else {
            let message = format!("{id} does not exist");
            return Err(Problem::new(
                &codes::BACKEND_NOT_FOUND,
                "BackendNotFound",
                "name",
                message,
            )
            .help(self.similar(id)));
        };
        if spec.kind == ServiceType::ExternalName {
            let name = spec.external_name.as_deref().unwrap_or_default();
            // Nobody can allow what is no name.
            if let Err(error) = Hostname::parse(name) {
                return Err(
                    not_allowed(id, &format!("and has no valid name: {error}"), "").said(true)
                );
            }
            match scope {
                None => return Err(not_allowed(id, "which is refused here", "")),
                Some(scope) if !self.policies.allows_external(scope, name) => {
                    let why = format!("and no policy of the Gateway lets it lead to {name}");
                    let or = format!(
                        "; or an EdgePolicy for the Gateway with `externalName: {{allow: [{name}]}}`"
                    );
                    return Err(not_allowed(id, &why, &or));
                }
                Some(_) => {}
            }
        }
        Ok(spec)
    }

    /// The Service of the namespace whose name is nearest, else what there is.
    fn similar(&self, id: &ObjectId) -> String {
        let names: Vec<&str> = self
            .inputs
            .services()
            .filter(|(object, _)| object.id.namespace == id.namespace)
            .map(|(object, _)| &*object.id.name)
            .collect();
        if let Some(near) = suggest::nearest(&id.name, names.iter().copied()) {
            return format!("did you mean {near}?");
        }
        let shown = &names[..names.len().min(SHOWN_SERVICES)];
        let more = if names.len() > SHOWN_SERVICES { ", ..." } else { "" };
        match shown.is_empty() {
            true => format!("write the Service; namespace {} has none", id.namespace),
            false => format!("Services of namespace {}: {}{more}", id.namespace, shown.join(", ")),
        }
    }
}

fn not_allowed(id: &ObjectId, why: &str, or: &str) -> Problem {
    let message = format!("{id} is of type ExternalName, {why}");
    let help =
        format!("use a Service without selector and an EndpointSlice with the addresses{or}");
    Problem::new(&codes::EXTERNAL_NAME, "UnsupportedValue", "name", message).help(help)
}

/// Services of a namespace that a help names.
const SHOWN_SERVICES: usize = 10;

fn no_port(field: &str, message: String, service: &Service) -> Problem {
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| match &port.name {
            Some(name) => format!("{} ({name})", port.port),
            None => port.port.to_string(),
        })
        .collect();
    let help = match ports.is_empty() {
        true => "the Service has no ports".to_owned(),
        false => format!("its ports: {}", ports.join(", ")),
    };
    Problem::new(&codes::BACKEND_PORT, "BackendNotFound", field, message).help(help)
}

/// What `appProtocol` asks for: HTTP/2 or not, TLS or not. The words are Kubernetes' (KEP-3726), and those that are
/// in wide use beside them; a word that is not known asks for nothing. None for what is no HTTP.
fn announced(word: &str) -> Option<(BackendProtocol, bool)> {
    Some(match word.to_ascii_lowercase().as_str() {
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => (BackendProtocol::Http2, false),
        "grpcs" => (BackendProtocol::Http2, true),
        "kubernetes.io/wss" | "wss" | "https" => (BackendProtocol::Http1, true),
        "tls" => return None,
        _ => (BackendProtocol::Http1, false),
    })
}

fn resolved<'a>(id: ObjectId, service: &'a Service, spec: &'a ServicePortSpec) -> Resolved<'a> {
    let word = spec.app_protocol.as_deref().unwrap_or_default();
    let unspoken = match (spec.protocol, announced(word)) {
        (IpProtocol::Tcp, Some((protocol, announces_tls))) => {
            let port = ServicePort { namespace: id.namespace, name: id.name, port: spec.port };
            return Ok(Reached { port, service, spec, protocol, announces_tls });
        }
        (IpProtocol::Tcp, None) => word,
        (other, _) => other.name(),
    };
    let message = format!("port {} of {id} speaks {unspoken}, which is not served", spec.port);
    Err(Problem::new(&codes::BACKEND_PROTOCOL, "UnsupportedProtocol", "port", message)
        .help("HTTP/1.1 and HTTP/2 over TCP, with TLS or without, are spoken to backends"))
}
