//! Which listeners take a route, for which hosts, and if none does, why: judged for each parentRef by itself.

use crate::codes;
use crate::layer4::{self, Spoken, Written};
use crate::listeners::{GatewayDraft, ListenerDraft};
use crate::namespaces::Namespaces;
use crate::report::{Problem, Report};
use crate::routes::{RouteDraft, RouteVerdict};
use crate::status::{self, Verdict};
use manifest::kinds::gateway::{HttpRoute, ParentReference};
use manifest::{Inputs, Object};
use model::edge::Attachment;
use model::hash::HashMap;
use model::status::ParentStatus;
use model::{HostPattern, Kind, ObjectId, Text};

/// Gateways by namespace and name.
pub(crate) struct Parents<'a, 'd> {
    inputs: &'a Inputs,
    gateways: &'d mut [GatewayDraft<'a>],
    by_name: HashMap<(&'a str, &'a str), usize>,
    namespaces: Namespaces<'a>,
}

/// A route with what it came to by itself.
#[derive(Clone, Copy)]
pub(crate) struct Drafted<'a> {
    object: &'a Object,
    parent_refs: &'a [ParentReference],
    hostnames: &'a [HostPattern],
    verdict: &'a RouteVerdict,
    form: Form<'a>,
}

#[derive(Clone, Copy)]
enum Form<'a> {
    Http(&'a RouteDraft),
    Stream(&'a layer4::Draft),
}

impl<'a> Drafted<'a> {
    pub fn http(object: &'a Object, spec: &'a HttpRoute, draft: &'a RouteDraft) -> Self {
        let (parent_refs, hostnames) = (&*spec.parent_refs, &*spec.hostnames);
        let (verdict, form) = (&draft.verdict, Form::Http(draft));
        Drafted { object, parent_refs, hostnames, verdict, form }
    }

    pub fn stream(written: &Written<'a>, draft: &'a layer4::Draft) -> Self {
        let Written { object, parent_refs, hostnames, .. } = *written;
        let (verdict, form) = (&draft.verdict, Form::Stream(draft));
        Drafted { object, parent_refs, hostnames, verdict, form }
    }

    fn kind(&self) -> Kind {
        self.object.id.kind
    }

    fn attach_to(&self, listener: &mut ListenerDraft, hosts: Vec<Met>) {
        match (self.form, listener.protocol) {
            (Form::Http(draft), _) => {
                let node = draft.node(listener.layer);
                listener.attachments.extend(hosts.into_iter().map(|(host, original)| Attachment {
                    host,
                    original: original.clone(),
                    route: node.clone(),
                }));
            }
            (Form::Stream(draft), Some(Spoken::Layer4(transport))) => {
                let node = draft.node(listener.layer, transport);
                listener.streams.extend(hosts.into_iter().map(|(host, original)| {
                    (model::layer4::Attachment { host, route: node.clone() }, original.clone())
                }));
            }
            // Its kinds have refused the route already.
            (Form::Stream(_), _) => {}
        }
    }
}

/// A host that both a listener and a route want, and the hostname as the route wrote it.
type Met<'a> = (HostPattern, &'a HostPattern);

/// What a parentRef came to.
enum Outcome {
    /// At least one listener serves the route.
    Attached,
    Refused(Verdict),
    /// The parent is not ours: nothing to say.
    Elsewhere,
}

impl<'a, 'd> Parents<'a, 'd> {
    pub fn of(inputs: &'a Inputs, gateways: &'d mut [GatewayDraft<'a>]) -> Self {
        let by_name = gateways
            .iter()
            .enumerate()
            .map(|(index, gateway)| {
                let id = &gateway.object.id;
                ((&*id.namespace, &*id.name), index)
            })
            .collect();
        Parents { inputs, gateways, by_name, namespaces: Namespaces::of(inputs) }
    }

    /// Attaches a route to every listener that takes it. Routes come in order of age.
    pub fn attach(&mut self, route: &Drafted, report: &mut Report) -> Vec<ParentStatus> {
        let id = &route.object.id;
        if route.parent_refs.is_empty() {
            report
                .add(&codes::NO_PARENT, id, "spec", format!("{id} names no Gateway in parentRefs"))
                .help("add `parentRefs` with the name of a Gateway");
        }
        let mut statuses = Vec::with_capacity(route.parent_refs.len());
        for (index, reference) in route.parent_refs.iter().enumerate() {
            let outcome = self.attach_to(route, reference, index, report);
            let refused = match outcome {
                Outcome::Elsewhere => continue,
                Outcome::Attached => None,
                Outcome::Refused(verdict) => Some(verdict),
            };
            let namespace = reference.namespace.as_ref().unwrap_or(&id.namespace);
            let parent = ObjectId::new(Kind::GATEWAY, namespace.clone(), reference.name.clone());
            let conditions = status::route_conditions(route.verdict, refused);
            statuses.push(ParentStatus {
                parent,
                section: reference.section_name.clone(),
                port: reference.port,
                conditions,
            });
        }
        statuses
    }

    fn attach_to(
        &mut self,
        route: &Drafted,
        reference: &ParentReference,
        index: usize,
        report: &mut Report,
    ) -> Outcome {
        let id = &route.object.id;
        let field = || format!("spec.parentRefs[{index}]");
        if &*reference.group != "gateway.networking.k8s.io" || &*reference.kind != Kind::GATEWAY.0 {
            let message = format!("a parent of kind {} is not served", reference.kind);
            report.add(&codes::PARENT_KIND, id, format!("{}.kind", field()), message);
            return Outcome::Elsewhere;
        }
        let namespace = reference.namespace.as_ref().unwrap_or(&id.namespace);
        let Some(&gateway) = self.by_name.get(&(&**namespace, &*reference.name)) else {
            self.report_absent(id, namespace, reference, &field(), report);
            return Outcome::Elsewhere;
        };
        let listeners = &mut self.gateways[gateway].listeners;
        match take(&mut self.namespaces, listeners, route, reference) {
            Ok(()) => Outcome::Attached,
            Err(problem) => {
                report
                    .add(
                        problem.code,
                        id,
                        format!("{}{}", field(), problem.field),
                        format!(
                            "{id} does not attach to Gateway {namespace}/{}: {}",
                            reference.name, problem.message
                        ),
                    )
                    .help(problem.help);
                Outcome::Refused(Verdict { reason: problem.reason, message: problem.message })
            }
        }
    }

    fn report_absent(
        &self,
        route: &ObjectId,
        namespace: &Text,
        reference: &ParentReference,
        field: &str,
        report: &mut Report,
    ) {
        // A Gateway that is there and not among ours belongs to another controller.
        if self.inputs.gateway(namespace, &reference.name).is_some() {
            return;
        }
        let ids = self.gateways.iter().map(|gateway| &gateway.object.id);
        let near: Vec<&str> =
            ids.filter(|id| id.namespace == *namespace).map(|id| &*id.name).collect();
        let help = match manifest::suggest::nearest(&reference.name, near) {
            Some(found) => format!("did you mean {found}?"),
            None => "write the Gateway, or correct the name".to_owned(),
        };
        let message = format!("Gateway {namespace}/{} does not exist", reference.name);
        report.add(&codes::ATTACHED_NOWHERE, route, format!("{field}.name"), message).help(help);
    }
}

/// Attaches where everything fits; else says at which step the last listeners fell away.
fn take<'a>(
    namespaces: &mut Namespaces<'a>,
    listeners: &mut [ListenerDraft<'a>],
    route: &Drafted,
    reference: &ParentReference,
) -> Result<(), Problem> {
    let from = &route.object.id.namespace;
    let mut furthest = Step::Named;
    let mut served = false;
    let mut unserved: Option<&Text> = None;
    let mut refusal: Option<(String, String)> = None;
    let mut contested: Option<Problem> = None;
    for listener in listeners.iter_mut() {
        let named = reference.section_name.as_ref().is_none_or(|name| *name == listener.spec.name)
            && reference.port.is_none_or(|port| port == listener.spec.port);
        if !named {
            continue;
        }
        furthest = furthest.max(Step::Kind);
        if !listener.kinds.contains(&route.kind()) {
            continue;
        }
        furthest = furthest.max(Step::Namespace);
        let own = &listener.id.object.namespace;
        if !namespaces.allow(listener.spec, own, from) {
            refusal.get_or_insert_with(|| namespaces.refusal(listener.spec, own, from));
            continue;
        }
        furthest = furthest.max(Step::Hosts);
        let hosts = common_hosts(&listener.host, route.hostnames);
        if hosts.is_empty() {
            continue;
        }
        if let Some(held) = held_by_other_kind(listener, &hosts, &route.object.id) {
            contested.get_or_insert(held);
            continue;
        }
        // Two parentRefs of a route may meet one listener.
        let is_first = listener.newest_route.as_ref() != Some(&route.object.id);
        if is_first {
            listener.newest_route = Some(route.object.id.clone());
            listener.attached_routes += 1;
            if !listener.attached_kinds.contains(&route.object.id.kind) {
                listener.attached_kinds.push(route.object.id.kind);
            }
        }
        match listener.served() {
            Some(_) => {
                if is_first {
                    route.attach_to(listener, hosts);
                }
                served = true;
            }
            None => unserved = Some(&listener.spec.name),
        }
    }
    match (served, unserved) {
        (true, _) => Ok(()),
        (false, Some(name)) => Err(Problem::new(
            &codes::LISTENER_NOT_SERVED,
            "NoMatchingParent",
            "",
            format!("its listener {name} is not served"),
        )
        .help("mend the listener")),
        (false, None) if contested.is_some() => contested.map_or(Ok(()), Err),
        (false, None) => Err(furthest.problem(listeners, route, reference, refusal)),
    }
}

/// A hostname of a listener is an HTTPRoute's or a GRPCRoute's: the older route keeps it, and the other one does not
/// attach at all (GRPCRouteSpec, hostnames).
fn held_by_other_kind(
    listener: &ListenerDraft,
    wanted: &[Met],
    route: &ObjectId,
) -> Option<Problem> {
    // Few listeners have both, and routes may be many.
    if listener.attached_kinds.iter().all(|kind| *kind == route.kind) {
        return None;
    }
    let mut held = listener.attachments.iter().filter(|held| held.route.id.kind != route.kind);
    let meets =
        |held: &&Attachment| wanted.iter().any(|(host, _)| host.intersect(&held.host).is_some());
    let held = held.find(meets)?;
    let message = format!(
        "its listener {} serves {} to {}, and a hostname is of one kind of route",
        listener.spec.name, held.host, held.route.id
    );
    let problem = Problem::new(&codes::ROUTE_KINDS_CONFLICT, "HostnameConflict", "", message);
    Some(problem.help("give the calls of gRPC a hostname or a listener of their own, or write them as rules of an HTTPRoute"))
}

/// How far the judgement of a parentRef came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Named,
    Kind,
    Namespace,
    Hosts,
}

impl Step {
    fn problem(
        self,
        listeners: &[ListenerDraft],
        route: &Drafted,
        reference: &ParentReference,
        refusal: Option<(String, String)>,
    ) -> Problem {
        let names = |text: fn(&ListenerDraft) -> String| {
            listeners.iter().map(text).collect::<Vec<_>>().join(", ")
        };
        let named = |l: &&ListenerDraft| {
            !l.kinds.contains(&route.kind())
                && reference.section_name.as_ref().is_none_or(|n| *n == l.spec.name)
        };
        let refusing: Vec<String> = listeners.iter().filter(named).map(kinds).collect();
        let (reason, field, message, help) = match self {
            Step::Named => {
                let section =
                    reference.section_name.as_ref().map(|name| format!("the name {name}"));
                let port = reference.port.map(|port| format!("port {port}"));
                let wanted: Vec<String> = section.into_iter().chain(port).collect();
                (
                    "NoMatchingParent",
                    if reference.section_name.is_some() { ".sectionName" } else { ".port" },
                    format!("no listener has {}", wanted.join(" and ")),
                    format!(
                        "listeners: {}",
                        names(|l| format!("{} ({})", l.spec.name, l.spec.port))
                    ),
                )
            }
            Step::Kind => (
                "NotAllowedByListeners",
                "",
                format!("no listener takes {}s ({})", route.kind(), refusing.join(", ")),
                wanted_listener(route.kind()),
            ),
            Step::Namespace => {
                let (message, help) = refusal.unwrap_or_default();
                ("NotAllowedByListeners", "", message, help)
            }
            Step::Hosts => (
                "NoMatchingListenerHostname",
                "",
                format!("no listener takes {}", shown(route.hostnames)),
                format!("hosts of the listeners: {}", names(|l| l.host.to_string())),
            ),
        };
        Problem::new(&codes::ATTACHED_NOWHERE, reason, field, message).help(help)
    }
}

/// What a listener takes instead.
fn kinds(listener: &ListenerDraft) -> String {
    let allowed = listener.spec.allowed_routes.as_ref().map_or(&[][..], |routes| &routes.kinds);
    let kinds: Vec<&str> = allowed.iter().map(|kind| &*kind.kind).collect();
    match kinds.is_empty() {
        true => {
            format!("listener {} is of protocol {}", listener.spec.name, listener.spec.protocol)
        }
        false => format!("listener {} takes only {}", listener.spec.name, kinds.join(", ")),
    }
}

fn wanted_listener(kind: Kind) -> String {
    let protocol = match kind {
        Kind::TLS_ROUTE => "TLS",
        Kind::TCP_ROUTE => "TCP",
        Kind::UDP_ROUTE => "UDP",
        _ => "HTTP or HTTPS",
    };
    format!("use a listener of protocol {protocol} that allows kind {kind}")
}

fn shown(hosts: &[HostPattern]) -> String {
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The hosts that both want, for the most specific hostname of the route first.
fn common_hosts<'r>(listener: &HostPattern, hostnames: &'r [HostPattern]) -> Vec<Met<'r>> {
    match hostnames {
        [] => vec![(listener.clone(), &HostPattern::Any)],
        [one] => listener.intersect(one).map(|host| (host, one)).into_iter().collect(),
        many => {
            let mut sorted: Vec<&HostPattern> = many.iter().collect();
            sorted.sort();
            sorted.dedup();
            let mut found: Vec<Met> = Vec::new();
            for original in sorted {
                // Two hostnames of one route may meet a listener in one host: the more specific counts.
                if let Some(host) = listener.intersect(original)
                    && !found.iter().any(|(earlier, _)| *earlier == host)
                {
                    found.push((host, original));
                }
            }
            found
        }
    }
}
