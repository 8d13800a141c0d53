//! Listeners of our Gateways: what is valid, what conflicts, which certificates they name. All Gateways share one
//! address, so listeners are compared over all of them.

use crate::backends::References;
use crate::certificates;
use crate::client_trust;
use crate::codes;
use crate::entry_settings;
use crate::grants::Grants;
use crate::policies::{Layer, Scope};
use crate::report::{Problem, Report};
use manifest::kinds::gateway::{self, Gateway, TlsMode};
use manifest::{Inputs, Object};
use model::edge::{Attachment, Protocol};
use model::front::{ListenerPolicy, RulePolicy};
use model::hash::HashMap;
use model::id::ListenerId;
use model::{HostPattern, Kind, Node, ObjectId};
use std::sync::Arc;

pub(crate) struct GatewayDraft<'a> {
    pub object: &'a Arc<Object>,
    pub listeners: Vec<ListenerDraft<'a>>,
    /// Why the certificate that it would show to backends cannot be; none where it names none.
    pub client_certificate: Option<Result<(), Problem>>,
}

pub(crate) struct ListenerDraft<'a> {
    pub spec: &'a gateway::Listener,
    pub id: ListenerId,
    /// Path of the listener in its Gateway.
    pub field: String,
    /// None for one that is not served.
    pub protocol: Option<Protocol>,
    pub host: HostPattern,
    /// HTTPRoutes or GRPCRoutes may attach, as far as kinds go.
    pub takes_routes: bool,
    pub rejected: Option<Problem>,
    pub conflict: Option<Conflict>,
    pub unresolved: Option<Problem>,
    pub certificates: Vec<ObjectId>,
    pub attachments: Vec<Attachment>,
    pub attached_routes: u32,
    /// What policies say of it.
    pub layer: Layer,
    pub policy: Option<Box<ListenerPolicy>>,
    pub unmatched: Option<Node<RulePolicy>>,
    /// The last route that was counted.
    pub newest_route: Option<ObjectId>,
}

pub(crate) struct Conflict {
    /// `HostnameConflict` or `ProtocolConflict`.
    pub reason: &'static str,
    pub message: String,
    pub with: ListenerId,
}

impl ListenerDraft<'_> {
    /// Kinds of routes that may attach.
    pub fn route_kinds(&self) -> impl Iterator<Item = Kind> {
        let kinds = self.spec.allowed_routes.as_ref().map_or(&[][..], |allowed| &allowed.kinds);
        let is_named = move |kind: &Kind| {
            kinds.is_empty() || kinds.iter().any(|written| *written.kind == *kind.0)
        };
        let takes = self.takes_routes;
        ROUTE_KINDS.into_iter().filter(move |kind| takes && is_named(kind))
    }

    /// The protocol it is served with; none when it is not served.
    pub fn served(&self) -> Option<Protocol> {
        let protocol = self.protocol?;
        let lacks_certificate = protocol == Protocol::Https && self.certificates.is_empty();
        (self.rejected.is_none() && self.conflict.is_none() && !lacks_certificate)
            .then_some(protocol)
    }
}

pub(crate) fn drafts<'a>(
    gateways: Vec<(&'a Arc<Object>, &'a Gateway)>,
    references: References,
    report: &mut Report,
) -> Vec<GatewayDraft<'a>> {
    for (object, spec) in &gateways {
        client_trust::report_idle_ports(&object.id, spec, report);
    }
    let mut drafts: Vec<GatewayDraft<'a>> = gateways
        .into_iter()
        .map(|(object, spec)| GatewayDraft {
            object,
            client_certificate: client_certificate(&object.id, references, report),
            listeners: spec
                .listeners
                .iter()
                .enumerate()
                .map(|(index, listener)| {
                    let mut draft = draft(object, index, listener, references, report);
                    ask_clients(&mut draft, spec, references, report);
                    draft
                })
                .collect(),
        })
        .collect();
    find_conflicts(&mut drafts, report);
    entry_settings::agree_on_proxy_protocol(&mut drafts, report);
    drafts
}

fn draft<'a>(
    object: &'a Arc<Object>,
    index: usize,
    spec: &'a gateway::Listener,
    references: References,
    report: &mut Report,
) -> ListenerDraft<'a> {
    let References { inputs, grants, policies } = references;
    let field = format!("spec.listeners[{index}]");
    let layer = policies.layer(&object.id, &spec.name);
    let mut draft = ListenerDraft {
        spec,
        id: ListenerId { object: object.id.clone(), section: spec.name.clone() },
        protocol: None,
        host: spec.hostname.clone().unwrap_or(HostPattern::Any),
        takes_routes: false,
        rejected: None,
        conflict: None,
        unresolved: None,
        certificates: Vec::new(),
        attachments: Vec::new(),
        attached_routes: 0,
        layer,
        policy: policies.of_listener(layer),
        unmatched: policies.of_rule(Scope::of_listener(layer), references),
        newest_route: None,
        field,
    };
    match protocol(spec) {
        Ok(protocol) => draft.protocol = Some(protocol),
        Err(problem) => draft.rejected = Some(problem.within(&draft.field)),
    }
    if let Some(problem) = &draft.rejected {
        report.problem(&object.id, problem);
    }
    if draft.protocol.is_some() {
        check_kinds(&mut draft, report);
    }
    if draft.protocol == Some(Protocol::Https) {
        resolve_certificates(&mut draft, inputs, grants, report);
    }
    draft
}

fn client_certificate(
    gateway: &ObjectId,
    references: References,
    report: &mut Report,
) -> Option<Result<(), Problem>> {
    let verdict = references.policies.backend_clients.verdict(gateway)?;
    if let Err(problem) = verdict {
        report.problem(gateway, problem);
    }
    Some(verdict.as_ref().map(|_| ()).map_err(Problem::clone))
}

/// Whom a listener with TLS asks for certificates.
fn ask_clients(
    draft: &mut ListenerDraft,
    spec: &Gateway,
    references: References,
    report: &mut Report,
) {
    if draft.protocol != Some(Protocol::Https) {
        return;
    }
    let (gateway, sources) = (&draft.id.object, (references.inputs, references.grants));
    let Some(asked) = client_trust::asked(gateway, spec, draft.spec.port, sources, report) else {
        return;
    };
    draft.unresolved = asked.unresolved.or(draft.unresolved.take());
    match asked.trust {
        Ok(trust) => draft.policy.get_or_insert_default().client_trust = Some(trust),
        Err(problem) => draft.rejected = Some(problem),
    }
}

fn protocol(spec: &gateway::Listener) -> Result<Protocol, Problem> {
    match (&*spec.protocol, &spec.tls) {
        ("HTTP", _) => Ok(Protocol::Http),
        ("HTTPS", Some(tls)) if tls.mode == TlsMode::Passthrough => Err(Problem::new(
            &codes::TLS_MODE_NOT_SERVED,
            "UnsupportedValue",
            "tls.mode",
            "an HTTPS listener cannot pass TLS through",
        )
        .help("use mode `Terminate`")),
        ("HTTPS", _) => Ok(Protocol::Https),
        (other, _) => Err(Problem::new(
            &codes::PROTOCOL_NOT_SERVED,
            "UnsupportedProtocol",
            "protocol",
            format!("protocol \"{other}\" is not served; the listener is not accepted"),
        )
        .help("HTTP and HTTPS are served")),
    }
}

/// Kinds of routes that listeners of HTTP and HTTPS take.
const ROUTE_KINDS: [Kind; 2] = [Kind::HTTP_ROUTE, Kind::GRPC_ROUTE];

fn check_kinds(draft: &mut ListenerDraft, report: &mut Report) {
    let kinds = draft.spec.allowed_routes.as_ref().map_or(&[][..], |allowed| &allowed.kinds);
    let is_served = |kind: &gateway::RouteGroupKind| {
        &*kind.group == "gateway.networking.k8s.io"
            && ROUTE_KINDS.iter().any(|k| k.0 == &*kind.kind)
    };
    draft.takes_routes = kinds.is_empty() || kinds.iter().any(is_served);
    if let Some((index, kind)) = kinds.iter().enumerate().find(|(_, kind)| !is_served(kind)) {
        let problem = Problem::new(
            &codes::ROUTE_KIND_NOT_SERVED,
            "InvalidRouteKinds",
            format!("{}.allowedRoutes.kinds[{index}]", draft.field),
            format!("routes of kind {} are not served by this listener", kind.kind),
        )
        .help("HTTPRoute and GRPCRoute are served");
        report.problem(&draft.id.object, &problem);
        draft.unresolved = Some(problem);
    }
}

fn resolve_certificates(
    draft: &mut ListenerDraft,
    inputs: &Inputs,
    grants: &Grants,
    report: &mut Report,
) {
    let gateway = draft.id.object.clone();
    let references = draft.spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificate_refs);
    if references.is_empty() {
        let problem = Problem::new(
            &codes::BAD_CERTIFICATE_REFERENCE,
            "InvalidCertificateRef",
            format!("{}.tls", draft.field),
            "an HTTPS listener needs a certificate",
        )
        .help("name a Secret of type kubernetes.io/tls in `tls.certificateRefs`");
        report.problem(&gateway, &problem);
        draft.unresolved = Some(problem);
    }
    for (index, reference) in references.iter().enumerate() {
        let field = format!("{}.tls.certificateRefs[{index}]", draft.field);
        let problem = match certificates::resolve(&gateway, reference, inputs, grants) {
            Ok(found) => {
                draft.certificates.push(found.secret);
                found.missing.map(|problem| problem.within(&field))
            }
            Err(problem) => Some(problem.within(&field)),
        };
        if let Some(problem) = problem {
            report.problem(&gateway, &problem);
            draft.unresolved.get_or_insert(problem);
        }
    }
}

/// Within one Gateway nobody wins (Gateway API, "Handling indistinct Listeners"); between Gateways the older keeps its
/// listener. `drafts` are sorted by age.
fn find_conflicts(drafts: &mut [GatewayDraft], report: &mut Report) {
    let mut ports: HashMap<u16, (Protocol, ListenerId)> = HashMap::default();
    let mut hosts: HashMap<(u16, HostPattern), ListenerId> = HashMap::default();
    let all = drafts.iter().flat_map(|gateway| &gateway.listeners);
    let fields: HashMap<ListenerId, String> =
        all.map(|listener| (listener.id.clone(), listener.field.clone())).collect();
    for gateway in drafts {
        find_own_conflicts(&mut gateway.listeners);
        for listener in &mut gateway.listeners {
            if let Some(protocol) = listener.served()
                && listener.conflict.is_none()
            {
                let port = listener.spec.port;
                let (spoken, first) =
                    ports.entry(port).or_insert_with(|| (protocol, listener.id.clone()));
                if *spoken != protocol {
                    listener.conflict = Some(Conflict::protocol(port, first));
                    continue;
                }
                let held = hosts
                    .entry((port, listener.host.clone()))
                    .or_insert_with(|| listener.id.clone());
                if *held != listener.id {
                    listener.conflict = Some(Conflict::host(port, &listener.host, held));
                }
            }
        }
        for listener in &gateway.listeners {
            if let Some(conflict) = &listener.conflict {
                report
                    .add(
                        &codes::LISTENER_CONFLICT,
                        &listener.id.object,
                        &listener.field,
                        format!("listener {} {}", listener.id.section, conflict.message),
                    )
                    .host(&listener.host)
                    .help("change its hostname or its port")
                    .related(
                        "the other",
                        &conflict.with.object,
                        fields.get(&conflict.with).map_or("", |f| f),
                    );
            }
        }
    }
}

fn find_own_conflicts(listeners: &mut [ListenerDraft]) {
    let mut hosts: HashMap<(u16, HostPattern), Vec<usize>> = HashMap::default();
    let mut ports: HashMap<u16, Vec<usize>> = HashMap::default();
    for (index, listener) in listeners.iter().enumerate() {
        if listener.served().is_some() {
            ports.entry(listener.spec.port).or_default().push(index);
            let key = (listener.spec.port, listener.host.clone());
            hosts.entry(key).or_default().push(index);
        }
    }
    for (port, members) in ports {
        for &index in &members {
            let protocol = listeners[index].protocol;
            let other = members.iter().find(|other| listeners[**other].protocol != protocol);
            if let Some(other) = other {
                let conflict = Conflict::protocol(port, &listeners[*other].id);
                listeners[index].conflict = Some(conflict);
            }
        }
    }
    for ((port, host), members) in hosts {
        for &index in &members {
            let other = members.iter().find(|other| **other != index);
            if let (Some(other), None) = (other, &listeners[index].conflict) {
                let conflict = Conflict::host(port, &host, &listeners[*other].id);
                listeners[index].conflict = Some(conflict);
            }
        }
    }
}

impl Conflict {
    fn protocol(port: u16, with: &ListenerId) -> Self {
        Conflict {
            reason: "ProtocolConflict",
            message: format!("speaks another protocol on port {port} than {with}"),
            with: with.clone(),
        }
    }

    fn host(port: u16, host: &HostPattern, with: &ListenerId) -> Self {
        Conflict {
            reason: "HostnameConflict",
            message: format!("has host {host} on port {port}, as {with} has"),
            with: with.clone(),
        }
    }
}
