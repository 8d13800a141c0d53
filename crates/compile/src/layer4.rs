//! TLSRoutes, TCPRoutes and UDPRoutes: what each comes to by itself, and the listeners of the plan that they attach to.
//! Where they attach is judged with HTTPRoutes, in `attach`.

use crate::backends::{Reference, References, Resolved};
use crate::classes::age;
use crate::codes;
use crate::lint;
use crate::listeners::GatewayDraft;
use crate::policies::{Layer, Scope};
use crate::report::Report;
use crate::reuse::Earlier;
use crate::routes::RouteVerdict;
use manifest::kinds::gateway::ParentReference;
use manifest::kinds::layer4::{Layer4Rule, TcpRoute};
use manifest::{Inputs, Object};
use model::edge::Protocol;
use model::hash::{HashMap, HashSet};
use model::id::RuleId;
use model::layer4::{Attachment, Listener, Route, Transport};
use model::{HostPattern, Kind, Node, ObjectId};
use std::sync::Arc;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Spoken {
    Http(Protocol),
    Layer4(Transport),
}

/// What can be told apart on one port, and what cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Http,
    /// HTTPS and TLS: the server's name in the handshake decides.
    Tls,
    Tcp,
    Udp,
}

/// Port numbers of TCP and those of UDP have nothing to do with each other.
pub(crate) type Port = (bool, u16);

impl Spoken {
    pub fn family(self) -> Family {
        match self {
            Spoken::Http(Protocol::Http) => Family::Http,
            Spoken::Http(Protocol::Https) => Family::Tls,
            Spoken::Layer4(Transport::TlsPassthrough | Transport::TlsTerminate) => Family::Tls,
            Spoken::Layer4(Transport::Tcp) => Family::Tcp,
            Spoken::Layer4(Transport::Udp) => Family::Udp,
        }
    }

    pub fn port(self, number: u16) -> Port {
        (self.family() == Family::Udp, number)
    }

    pub fn ends_tls(self) -> bool {
        matches!(self, Spoken::Http(Protocol::Https) | Spoken::Layer4(Transport::TlsTerminate))
    }

    /// Kinds of routes that may attach.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Spoken::Http(_) => &[Kind::HTTP_ROUTE, Kind::GRPC_ROUTE],
            Spoken::Layer4(Transport::TlsPassthrough) => &[Kind::TLS_ROUTE],
            Spoken::Layer4(Transport::TlsTerminate) => &[Kind::TLS_ROUTE, Kind::TCP_ROUTE],
            Spoken::Layer4(Transport::Tcp) => &[Kind::TCP_ROUTE],
            Spoken::Layer4(Transport::Udp) => &[Kind::UDP_ROUTE],
        }
    }
}

/// A route as it is written, whichever of the three kinds it is.
#[derive(Clone, Copy)]
pub(crate) struct Written<'a> {
    pub object: &'a Arc<Object>,
    pub parent_refs: &'a [ParentReference],
    pub hostnames: &'a [HostPattern],
    rules: &'a [Layer4Rule],
}

/// The oldest first: where two want the same, it wins.
pub(crate) fn written(inputs: &Inputs) -> Vec<Written<'_>> {
    let tls = inputs.tls_routes().map(|(object, spec)| Written {
        object,
        parent_refs: &spec.parent_refs,
        hostnames: &spec.hostnames,
        rules: &spec.rules,
    });
    let plain = Written::without_hosts;
    let mut routes: Vec<Written> =
        tls.chain(inputs.tcp_routes().map(plain)).chain(inputs.udp_routes().map(plain)).collect();
    routes.sort_by(|a, b| age(a.object).cmp(&age(b.object)));
    routes
}

/// What a route comes to by itself.
pub(crate) struct Draft {
    /// By what policies say of the listeners that the route names, and whether its TLS is passed through.
    variants: Vec<((Layer, bool), Node<Route>)>,
    pub verdict: RouteVerdict,
    pub report: Report,
}

impl Draft {
    /// The route as a listener of this layer serves it.
    pub fn node(&self, layer: Layer, transport: Transport) -> &Node<Route> {
        let key = (layer, transport == Transport::TlsPassthrough);
        let found = self.variants.iter().find(|(of, _)| *of == key);
        &found.unwrap_or(&self.variants[0]).1
    }
}

impl<'a> Written<'a> {
    fn without_hosts((object, spec): (&'a Arc<Object>, &'a TcpRoute)) -> Self {
        let (parent_refs, rules) = (&*spec.parent_refs, &*spec.rules);
        Written { object, parent_refs, hostnames: &[], rules }
    }

    pub fn draft(&self, references: References, earlier: &Earlier) -> Draft {
        let id = &self.object.id;
        let (mut verdict, mut report) =
            (RouteVerdict { rules: 1, ..RouteVerdict::default() }, Report::default());
        let resolved = self.resolve(references, &mut verdict, &mut report);
        self.say_what_is_idle(&mut report);
        let passes: &[bool] = if id.kind == Kind::TLS_ROUTE { &[false, true] } else { &[false] };
        let layers = references.policies.layers(id, self.parent_refs);
        let keys =
            layers.into_iter().flat_map(|layer| passes.iter().map(move |pass| (layer, *pass)));
        let variants = keys.map(|(layer, is_passed)| {
            let scope = references.policies.scope(id, layer);
            let route = self.route(references, &resolved, scope, is_passed);
            ((layer, is_passed), earlier.layer4_routes.node(route))
        });
        Draft { variants: variants.collect(), verdict, report }
    }

    /// Services that the route names, whether or not they are there.
    pub fn services(&self) -> impl Iterator<Item = (Option<&'a model::Text>, &'a model::Text)> {
        let backends = self.rules.first().into_iter().flat_map(|rule| &rule.backend_refs);
        backends.map(|backend| (backend.namespace.as_ref(), &backend.name))
    }

    fn resolve<'r>(
        &self,
        references: References<'r>,
        verdict: &mut RouteVerdict,
        report: &mut Report,
    ) -> Vec<Resolved<'r>> {
        let id = &self.object.id;
        let backends = self.rules.first().map_or(&[][..], |rule| &rule.backend_refs);
        let each = backends.iter().enumerate().map(|(index, backend)| {
            let resolved = references
                .of_stream(id, Reference::from(backend), id.kind == Kind::UDP_ROUTE)
                .map_err(|problem| problem.within(&format!("spec.rules[0].backendRefs[{index}]")));
            if let Err(problem) = &resolved {
                report.problem(id, problem);
                verdict.unresolved.get_or_insert_with(|| problem.clone());
            }
            resolved
        });
        each.collect()
    }

    fn route(
        &self,
        references: References,
        resolved: &[Resolved],
        scope: Scope,
        is_passed: bool,
    ) -> Route {
        let first = self.rules.first();
        let specs = first.map_or(&[][..], |rule| &rule.backend_refs);
        let backends = specs.iter().zip(resolved).map(|(spec, resolved)| {
            references.stream_backend(spec.weight.0, resolved, scope, is_passed)
        });
        let name = first.and_then(|rule| rule.name.clone());
        let rule = RuleId { object: self.object.id.clone(), index: 0, name };
        Route { rule, backends: backends.collect() }
    }

    fn say_what_is_idle(&self, report: &mut Report) {
        let id = &self.object.id;
        if self.rules.len() > 1 {
            let message = format!(
                "{id} has {} rules; the first takes every connection, so the others lead nowhere",
                self.rules.len()
            );
            report
                .add(&codes::RULE_IDLE, id, "spec.rules[1]", message)
                .help("put the backends into one rule, or write a route for each");
        }
        let weights = self.rules.first().map_or(&[][..], |rule| &rule.backend_refs);
        if !weights.is_empty() && weights.iter().all(|backend| backend.weight.0 == 0) {
            let message = "every backend has weight 0; connections are closed";
            report
                .add(&codes::WEIGHT_ZERO, id, "spec.rules[0].backendRefs", message)
                .help("give one of them a weight");
        }
    }
}

/// The served ones, as the plan sorts them. Moves the attachments out of the drafts.
pub(crate) fn listeners(drafts: &mut [GatewayDraft], earlier: &Earlier) -> Vec<Node<Listener>> {
    let mut listeners = Vec::new();
    for draft in drafts.iter_mut().flat_map(|draft| &mut draft.listeners) {
        let Some(Spoken::Layer4(transport)) = draft.served() else { continue };
        let certificates = match transport {
            Transport::TlsTerminate => draft.certificates.clone(),
            _ => Vec::new(),
        };
        let mut attachments = std::mem::take(&mut draft.streams);
        // Stable: of equal ones the older route stays first.
        attachments.sort_by(|a, b| (&a.0.host, &a.1).cmp(&(&b.0.host, &b.1)));
        listeners.push(Listener {
            id: draft.id.clone(),
            port: draft.spec.port,
            transport,
            host: draft.host.clone(),
            certificates,
            policy: draft.policy.take(),
            attachments: attachments.into_iter().map(|(attachment, _)| attachment).collect(),
        });
    }
    listeners.sort_by(|a, b| key(a).cmp(&key(b)));
    listeners.into_iter().map(|listener| earlier.layer4.node(listener)).collect()
}

fn key(l: &Listener) -> (u16, Transport, &HostPattern, &model::id::ListenerId) {
    (l.port, l.transport, &l.host, &l.id)
}

/// Listeners without routes, and routes that an older one takes everything from.
pub(crate) fn check(listeners: &[Node<Listener>], inputs: &Inputs, report: &mut Report) {
    let mut said: HashSet<&ObjectId> = HashSet::default();
    for listener in listeners {
        if listener.attachments.is_empty() {
            let message = format!("{} has no routes; it closes what connects", listener.id);
            let field = lint::field_of_listener(inputs, &listener.id);
            let kind = match listener.transport {
                Transport::TlsPassthrough | Transport::TlsTerminate => Kind::TLS_ROUTE,
                Transport::Tcp => Kind::TCP_ROUTE,
                Transport::Udp => Kind::UDP_ROUTE,
            };
            report.add(&codes::LISTENER_IDLE, &listener.id.object, field, message).help(format!(
                "attach a {kind} that names it in `parentRefs`, or remove the listener"
            ));
        }
        let mut first: HashMap<&HostPattern, &ObjectId> = HashMap::default();
        for Attachment { host, route } in &listener.attachments {
            let held = *first.entry(host).or_insert(route.id());
            if held != route.id() && said.insert(route.id()) {
                say_shadowed(listener, host, (route.id(), held), report);
            }
        }
    }
}

fn say_shadowed(
    listener: &Listener,
    host: &HostPattern,
    (route, by): (&ObjectId, &ObjectId),
    report: &mut Report,
) {
    let of = match host {
        HostPattern::Any => String::new(),
        host => format!(" for {host}"),
    };
    let message =
        format!("{route} takes nothing{of} at {}: {by} is older and takes it first", listener.id);
    report
        .add(&codes::SHADOWED, route, "spec", message)
        .host(host)
        .help("remove one of the two routes, or give one of them another listener or hostname")
        .related("the route that comes first", by, "spec");
}
