//! Listeners of our Gateways: what is valid, what conflicts, which certificates they name. All Gateways share one
//! address, so listeners are compared over all of them.

use crate::backends::References;
use crate::certificates;
use crate::client_trust;
use crate::codes;
use crate::entry_settings;
use crate::grants::Grants;
use crate::layer4::{Family, Port, Spoken};
use crate::policies::{Layer, Scope};
use crate::report::{Problem, Report};
use manifest::kinds::gateway::{self, Gateway, TlsMode};
use manifest::{Inputs, Object};
use model::edge::{Attachment, Protocol};
use model::front::{ListenerPolicy, RulePolicy};
use model::hash::HashMap;
use model::id::ListenerId;
use model::layer4::{self, Transport};
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
    pub protocol: Option<Spoken>,
    pub host: HostPattern,
    /// Kinds of routes that may attach.
    pub kinds: Vec<Kind>,
    pub rejected: Option<Problem>,
    pub conflict: Option<Conflict>,
    pub unresolved: Option<Problem>,
    pub certificates: Vec<ObjectId>,
    pub attachments: Vec<Attachment>,
    /// Of routes below HTTP, with the hostname as the route wrote it.
    pub streams: Vec<(layer4::Attachment, HostPattern)>,
    pub attached_routes: u32,
    /// Kinds of the routes that are attached.
    pub attached_kinds: Vec<Kind>,
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
    /// The protocol it is served with; none when it is not served.
    pub fn served(&self) -> Option<Spoken> {
        let protocol = self.protocol?;
        let lacks_certificate = protocol.ends_tls() && self.certificates.is_empty();
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
        kinds: Vec::new(),
        rejected: None,
        conflict: None,
        unresolved: None,
        certificates: Vec::new(),
        attachments: Vec::new(),
        streams: Vec::new(),
        attached_routes: 0,
        attached_kinds: Vec::new(),
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
    if let Some(protocol) = draft.protocol {
        check_kinds(&mut draft, protocol, report);
    }
    if draft.protocol.is_some_and(Spoken::ends_tls) {
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
    if !draft.protocol.is_some_and(Spoken::ends_tls) {
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

pub(crate) fn protocol(spec: &gateway::Listener) -> Result<Spoken, Problem> {
    match (&*spec.protocol, &spec.tls) {
        ("HTTP", _) => Ok(Spoken::Http(Protocol::Http)),
        ("TCP", _) => Ok(Spoken::Layer4(Transport::Tcp)),
        ("UDP", _) => Ok(Spoken::Layer4(Transport::Udp)),
        ("TLS", Some(tls)) if tls.mode == TlsMode::Passthrough => {
            Ok(Spoken::Layer4(Transport::TlsPassthrough))
        }
        ("TLS", _) => Ok(Spoken::Layer4(Transport::TlsTerminate)),
        ("HTTPS", Some(tls)) if tls.mode == TlsMode::Passthrough => Err(Problem::new(
            &codes::TLS_MODE_NOT_SERVED,
            "UnsupportedValue",
            "tls.mode",
            "an HTTPS listener cannot pass TLS through",
        )
        .help("use mode `Terminate`, or protocol TLS with a TLSRoute")),
        ("HTTPS", _) => Ok(Spoken::Http(Protocol::Https)),
        (other, _) => Err(Problem::new(
            &codes::PROTOCOL_NOT_SERVED,
            "UnsupportedProtocol",
            "protocol",
            format!("protocol \"{other}\" is not served; the listener is not accepted"),
        )
        .help("HTTP, HTTPS, TLS, TCP and UDP are served")),
    }
}

fn check_kinds(draft: &mut ListenerDraft, protocol: Spoken, report: &mut Report) {
    let kinds = draft.spec.allowed_routes.as_ref().map_or(&[][..], |allowed| &allowed.kinds);
    let is = |written: &gateway::RouteGroupKind, kind: &Kind| {
        &*written.group == "gateway.networking.k8s.io" && *written.kind == *kind.0
    };
    let is_served =
        |written: &gateway::RouteGroupKind| protocol.kinds().iter().any(|kind| is(written, kind));
    let is_allowed =
        |kind: &&Kind| kinds.is_empty() || kinds.iter().any(|written| is(written, kind));
    draft.kinds = protocol.kinds().iter().filter(is_allowed).copied().collect();
    let served = protocol.kinds().iter().map(|kind| kind.0).collect::<Vec<_>>();
    let verb = if served.len() == 1 { "is" } else { "are" };
    if let Some((index, kind)) = kinds.iter().enumerate().find(|(_, kind)| !is_served(kind)) {
        let problem = Problem::new(
            &codes::ROUTE_KIND_NOT_SERVED,
            "InvalidRouteKinds",
            format!("{}.allowedRoutes.kinds[{index}]", draft.field),
            format!("routes of kind {} are not served by this listener", kind.kind),
        )
        .help(format!("{} {verb} served", served.join(" and ")));
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
            format!("a listener of protocol {} needs a certificate", draft.spec.protocol),
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
    let mut ports: HashMap<Port, (Family, ListenerId)> = HashMap::default();
    let mut hosts: HashMap<(Port, HostPattern), ListenerId> = HashMap::default();
    let all = drafts.iter().flat_map(|gateway| &gateway.listeners);
    let fields: HashMap<ListenerId, String> =
        all.map(|listener| (listener.id.clone(), listener.field.clone())).collect();
    for gateway in drafts {
        find_own_conflicts(&mut gateway.listeners);
        for listener in &mut gateway.listeners {
            if let Some(protocol) = listener.served()
                && listener.conflict.is_none()
            {
                let port = protocol.port(listener.spec.port);
                let family = protocol.family();
                let (spoken, first) =
                    ports.entry(port).or_insert_with(|| (family, listener.id.clone()));
                if *spoken != family {
                    listener.conflict = Some(Conflict::protocol(port.1, first));
                    continue;
                }
                let held = hosts
                    .entry((port, listener.host.clone()))
                    .or_insert_with(|| listener.id.clone());
                if *held != listener.id {
                    listener.conflict = Some(Conflict::host(family, port.1, &listener.host, held));
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
    let mut hosts: HashMap<(Port, HostPattern), Vec<(usize, Family)>> = HashMap::default();
    let mut ports: HashMap<Port, Vec<(usize, Family)>> = HashMap::default();
    for (index, listener) in listeners.iter().enumerate() {
        if let Some(protocol) = listener.served() {
            let (port, family) = (protocol.port(listener.spec.port), protocol.family());
            ports.entry(port).or_default().push((index, family));
            hosts.entry((port, listener.host.clone())).or_default().push((index, family));
        }
    }
    for ((_, port), members) in ports {
        for &(index, family) in &members {
            if let Some((other, _)) = members.iter().find(|(_, other)| *other != family) {
                let conflict = Conflict::protocol(port, &listeners[*other].id);
                listeners[index].conflict = Some(conflict);
            }
        }
    }
    for (((_, port), host), members) in hosts {
        for &(index, family) in &members {
            let other = members.iter().find(|(other, _)| *other != index);
            if let (Some((other, _)), None) = (other, &listeners[index].conflict) {
                let conflict = Conflict::host(family, port, &host, &listeners[*other].id);
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

    fn host(family: Family, port: u16, host: &HostPattern, with: &ListenerId) -> Self {
        let message = match family {
            Family::Http | Family::Tls => format!("has host {host} on port {port}, as {with} has"),
            Family::Tcp => format!("takes TCP port {port}, as {with} does"),
            Family::Udp => format!("takes UDP port {port}, as {with} does"),
        };
        Conflict { reason: "HostnameConflict", message, with: with.clone() }
    }
}
