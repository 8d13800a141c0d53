//! Backends: what a reference leads to, and why it leads nowhere. An invalid backend keeps its share of the requests
//! and answers 500 (HTTPBackendRef).

use crate::codes;
use crate::grants::{self, Grants};
use crate::report::Problem;
use manifest::kinds::gateway::HttpBackendRef;
use manifest::kinds::kubernetes::{
    IngressServiceBackend, IpProtocol, Service, ServicePortSpec, ServiceType,
};
use manifest::kinds::traffic::MirrorBackendRef;
use manifest::{Inputs, suggest};
use model::edge::{Backend, Target};
use model::id::ServicePort;
use model::{Kind, ObjectId, Text};

/// What resolving needs to know of the world.
#[derive(Clone, Copy)]
pub(crate) struct References<'a> {
    pub inputs: &'a Inputs,
    pub grants: &'a Grants<'a>,
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

reference!(HttpBackendRef);
reference!(MirrorBackendRef);

pub(crate) type Resolved = Result<ServicePort, Problem>;

impl References<'_> {
    pub fn of_route(&self, from: &ObjectId, reference: Reference) -> Resolved {
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
        let spec = self.service(&service)?;
        let Some(number) = reference.port else {
            return Err(no_port("", format!("the backend names no port of {service}"), spec));
        };
        let Some(port) = spec.ports.iter().find(|port| port.port == number) else {
            return Err(no_port("port", format!("{service} has no port {number}"), spec));
        };
        resolved(service, port)
    }

    pub fn of_ingress(&self, from: &ObjectId, reference: &IngressServiceBackend) -> Resolved {
        let namespace = from.namespace.clone();
        let service = ObjectId::new(Kind::SERVICE, namespace, reference.name.clone());
        let spec = self.service(&service)?;
        let wanted = &reference.port;
        let found = spec.ports.iter().find(|port| match (&wanted.number, &wanted.name) {
            (Some(number), _) => port.port == *number,
            (None, Some(name)) => port.name.as_ref() == Some(name),
            (None, None) => false,
        });
        match found {
            Some(port) => resolved(service, port),
            None => {
                let named = wanted.name.as_deref().map(str::to_owned);
                let shown = wanted.number.map(|number| number.to_string()).or(named);
                let shown = shown.unwrap_or_else(|| "(none)".to_owned());
                Err(no_port("port", format!("{service} has no port {shown}"), spec))
            }
        }
    }

    fn service(&self, id: &ObjectId) -> Result<&Service, Problem> {
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
            let message = format!("{id} is of type ExternalName, which is refused as a backend");
            return Err(Problem::new(&codes::EXTERNAL_NAME, "UnsupportedValue", "name", message)
                .help("use a Service without selector and an EndpointSlice with the addresses"));
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

/// Protocols that a Service may announce and that are not spoken towards backends yet.
const UNSPOKEN: &[&str] =
    &["kubernetes.io/h2c", "kubernetes.io/wss", "grpc", "grpcs", "h2c", "http2", "https", "tls"];

fn resolved(service: ObjectId, port: &ServicePortSpec) -> Resolved {
    let announced = port.app_protocol.as_deref().unwrap_or_default();
    let unspoken = match port.protocol {
        IpProtocol::Tcp if UNSPOKEN.contains(&announced) => announced,
        IpProtocol::Tcp => {
            return Ok(ServicePort {
                namespace: service.namespace,
                name: service.name,
                port: port.port,
            });
        }
        other => other.name(),
    };
    let message = format!("port {} of {service} speaks {unspoken}, which is not served", port.port);
    Err(Problem::new(&codes::BACKEND_PROTOCOL, "UnsupportedProtocol", "port", message)
        .help("HTTP/1.1 over TCP is spoken to backends"))
}

/// A backend of the plan for what was resolved.
pub(crate) fn backend(weight: u32, resolved: &Resolved) -> Backend {
    let target = match resolved {
        Ok(port) => Target::Service(port.clone()),
        Err(problem) => Target::Invalid {
            why: problem.code.slug.into(),
            message: problem.message.as_str().into(),
        },
    };
    Backend::plain(weight, target)
}
