//! What one worker needs to serve requests, made off the workers from the plan, the facts and the keys: the router, a
//! side table of rules made ready, endpoints by service, TLS by port. Immutable. A change of facts shares all but the
//! endpoints.

mod build;

use self::build::{Builder, by_number};
use crate::access::TlsFacts;
use crate::answers::Answers;
use crate::changes::Changes;
use crate::cors::Cors;
use crate::dial::{Dial, Dials};
use crate::entry::PortEntry;
use crate::fallback::Fallback;
use crate::live::{Live, default_policy};
use crate::metrics::{Metrics, RouteMetrics};
use crate::mirror::Mirror;
use crate::numbers::{Held, Numbers};
use crate::port_limits::PortLimits;
use crate::sticky::{SESSION_KEY_BYTES, Sealer, Sticky};
use crate::streams::Streams;
use crate::tls::{KeyTable, PortTls};
use model::answers::ConnectionLimits;
use model::edge::{Protocol, Redirect, Timeouts};
use model::facts::{EndpointSet, Locality};
use model::front::RulePolicy;
use model::id::{RuleId, ServicePort};
use model::traffic::{BackendPolicy, HealthCheck, Nearest, Retry};
use model::{Digest, Facts, Node, Snapshot};
use routing::{ListenerTable, Router};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use traffic::{Balancer, Endpoint, Members, Outcome, State};

/// What outlives views: counters, and the numbers by which live state is kept.
pub struct Registry {
    pub metrics: Arc<Metrics>,
    pub live: Arc<Live>,
    numbers: Mutex<Numbering>,
    dials: Mutex<Dials>,
    sealer: Arc<Sealer>,
    here: Arc<Locality>,
}

#[derive(Default)]
struct Numbering {
    rules: Numbers<RuleId>,
    /// By Service port and policy: one of them with two policies is balanced and limited twice.
    backends: Held<(ServicePort, bool, Option<Digest>), BackendPlan>,
    mirrors: Numbers<(RuleId, usize)>,
}

impl Registry {
    /// For an edge with that many workers.
    pub fn new(workers: usize) -> Registry {
        Registry {
            metrics: Metrics::new(workers),
            live: Arc::new(Live::new()),
            numbers: Mutex::default(),
            dials: Mutex::default(),
            sealer: Arc::new(Sealer::random()),
            here: Arc::default(),
        }
    }

    /// Sessions are sealed with this key instead of one of the registry's own, so that they outlive it.
    pub fn with_session_key(self, key: &[u8; SESSION_KEY_BYTES]) -> Registry {
        Registry { sealer: Arc::new(Sealer::new(key)), ..self }
    }

    /// How the endpoints of a backend are connected to.
    pub(crate) fn dial(&self, port: &ServicePort, policy: Option<&BackendPolicy>) -> Arc<Dial> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner).of(port, policy)
    }

    /// Endpoints are near or far as seen from there.
    pub fn located(self, here: Locality) -> Registry {
        Registry { here: Arc::new(here), ..self }
    }
}

/// See the module.
pub struct EdgeView {
    plan: Arc<Plan>,
    live: Arc<Live>,
    here: Arc<Locality>,
    /// By the numbers of backends; those that the plan does not have are gaps.
    endpoints: Vec<Option<Endpoints>>,
}

struct Plan {
    source: Source,
    router: Arc<Router>,
    /// By the address of the router's table.
    listeners: Listeners,
    ports: Vec<PortPlan>,
    streams: Streams,
    /// In order of their numbers.
    backends: Vec<Arc<BackendPlan>>,
    tells_of_clients: bool,
}

/// What a plan was made from: the same makes the same.
#[derive(PartialEq)]
struct Source {
    edge: Digest,
    certificates: Digest,
    keys: KeyTable,
}

type Listeners = HashMap<usize, Arc<ListenerPlan>, BuildHasherDefault<AddressHasher>>;

/// A Service port with the policy by which it is used.
pub(crate) struct BackendPlan {
    number: u32,
    port: ServicePort,
    is_udp: bool,
    policy: Option<Node<BackendPolicy>>,
    /// How its endpoints are connected to.
    dial: Arc<Dial>,
    shared: traffic::Backend,
}

/// A backend as a request meets it.
#[derive(Clone, Copy)]
pub(crate) struct Backend<'v> {
    pub members: &'v Members,
    pub policy: &'v BackendPolicy,
    of: &'v Endpoints,
}

/// One socket's worth of listeners.
pub(crate) struct PortPlan {
    pub port: u16,
    pub protocol: Protocol,
    pub tls: Option<Arc<PortTls>>,
    /// None where a connection is taken as it comes.
    pub entry: Option<Arc<PortEntry>>,
    pub limits: Option<Arc<PortLimits>>,
}

#[derive(Clone)]
struct Endpoints {
    plan: Arc<BackendPlan>,
    members: Members,
    /// How near each of them is; empty where that counts for nothing.
    levels: Box<[u8]>,
    /// What `members` was made from; held so that an address that is equal means the same set.
    source: Option<Arc<EndpointSet>>,
}

struct ListenerPlan {
    rules: Box<[RulePlan]>,
    /// Whose certificates a client may show; none where it is not asked.
    client_trust: Option<Digest>,
    /// For requests that no rule takes.
    unmatched: Option<Arc<Answers>>,
    /// Those that its rules lead to, which is what keeps them.
    backends: Box<[Arc<BackendPlan>]>,
}

/// A rule made ready to be served.
pub(crate) struct RulePlan {
    pub id: RuleId,
    /// Where the rotation over backends is kept.
    pub number: u32,
    pub metrics: Arc<RouteMetrics>,
    pub changes: Changes,
    pub cors: Option<Box<Cors>>,
    pub mirrors: Box<[Mirror]>,
    pub sticky: Option<Box<Sticky>>,
    pub timeouts: Timeouts,
    pub retry: Option<Box<Retry>>,
    /// What the entry asks of clients beside what the route says.
    pub policy: Option<Node<RulePolicy>>,
    pub answers: Option<Arc<Answers>>,
    pub action: RuleAction,
}

pub(crate) enum RuleAction {
    Forward(Backends),
    Redirect(Redirect),
    Fail { status: u16 },
}

/// The backends of a rule with their weights.
pub(crate) struct Backends {
    shares: Box<[Share]>,
    total: u64,
    /// By share, the rule's own included; empty when no backend has any.
    changes: Box<[Option<Box<Changes>>]>,
    /// By share; empty when no backend has any.
    fallbacks: Box<[Option<Box<Fallback>>]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub weight: u32,
    /// None for a backend that is not valid.
    pub backend: Option<u32>,
}

impl Backends {
    pub fn new(shares: Vec<Share>) -> Backends {
        let total = shares.iter().map(|share| u64::from(share.weight)).sum();
        Backends {
            shares: shares.into(),
            total,
            changes: Box::default(),
            fallbacks: Box::default(),
        }
    }

    pub fn with_changes(self, changes: impl Iterator<Item = Option<Box<Changes>>>) -> Backends {
        let changes: Box<[_]> = changes.collect();
        let has_some = changes.iter().any(Option::is_some);
        Backends { changes: if has_some { changes } else { Box::default() }, ..self }
    }

    pub fn with_fallbacks(self, fallbacks: Vec<Option<Box<Fallback>>>) -> Backends {
        let has_some = fallbacks.iter().any(Option::is_some);
        Backends { fallbacks: if has_some { fallbacks.into() } else { Box::default() }, ..self }
    }

    pub fn have_fallbacks(&self) -> bool {
        !self.fallbacks.is_empty()
    }

    pub fn fallback(&self, share: usize) -> Option<&Fallback> {
        self.fallbacks.get(share)?.as_deref()
    }

    /// Instead of the rule's own.
    pub fn changes(&self, share: usize) -> Option<&Changes> {
        self.changes.get(share)?.as_deref()
    }

    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

impl EdgeView {
    /// Everything but endpoints is shared with `previous` where they alone are others; else the tables of listeners that
    /// are the same.
    pub fn build(
        snapshot: &Snapshot,
        facts: &Facts,
        keys: &KeyTable,
        registry: &Registry,
        previous: Option<&EdgeView>,
    ) -> EdgeView {
        let source = Source {
            edge: snapshot.edge.digest(),
            certificates: snapshot.certificates.digest(),
            keys: keys.clone(),
        };
        if let Some(view) = previous.filter(|view| view.plan.source == source) {
            return view.with_facts(facts);
        }
        let previous_endpoints = previous.map_or_else(Vec::new, |view| view.endpoints.clone());
        let previous = previous.map(|view| &*view.plan);
        let router = Arc::new(Router::build(&snapshot.edge, previous.map(|plan| &*plan.router)));
        let mut numbers = registry.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dials = registry.dials.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = &registry.metrics;
        let sealer = &registry.sealer;
        let mut builder = Builder::new(metrics, &mut numbers, &mut dials, sealer);
        let listeners: Listeners = router
            .listeners()
            .map(|table| {
                let known = previous.and_then(|plan| plan.listeners.get(&address(table)));
                let plan = known.cloned().unwrap_or_else(|| Arc::new(builder.listener(table)));
                (address(table), plan)
            })
            .collect();
        let streams = builder.streams(snapshot, keys);
        dials.renew(keys);
        numbers.sweep(&listeners, &streams);
        let of_streams = streams.plans().flat_map(|plan| &*plan.kept);
        let backends = listeners.values().flat_map(|listener| &*listener.backends);
        let backends = by_number(backends.chain(of_streams));
        let tells_of_clients = backends.iter().any(|backend| backend.dial.proxy_protocol.is_some());
        let ports = ports(&router, snapshot, &streams, keys);
        let plan = Plan { source, listeners, ports, streams, backends, tells_of_clients, router };
        let live = Arc::clone(&registry.live);
        let here = Arc::clone(&registry.here);
        EdgeView { plan: Arc::new(plan), live, here, endpoints: previous_endpoints }
            .with_facts(facts)
    }

    /// The same plan with other endpoints. Costs one look at each backend.
    pub fn with_facts(&self, facts: &Facts) -> EdgeView {
        let count = self.plan.backends.last().map_or(0, |last| last.number as usize + 1);
        let mut endpoints = vec![None; count];
        for plan in &self.plan.backends {
            let of_transport = match plan.is_udp {
                true => &facts.datagram_endpoints,
                false => &facts.endpoints,
            };
            let (at, source) = (plan.number as usize, of_transport.get(&plan.port));
            let known = self.endpoints.get(at).and_then(Option::as_ref);
            let known = known.filter(|known| known.is_of(plan, source)).cloned();
            let place = (&*self.live, &*self.here);
            endpoints[at] = known.or_else(|| Some(Endpoints::new(plan, source, place)));
        }
        EdgeView {
            plan: Arc::clone(&self.plan),
            live: Arc::clone(&self.live),
            here: Arc::clone(&self.here),
            endpoints,
        }
    }

    /// The ports of the plan, as written, in ascending order.
    pub fn ports(&self) -> impl Iterator<Item = (u16, Protocol)> {
        self.plan.ports.iter().map(|port| (port.port, port.protocol))
    }

    /// The ports of TCP, for HTTP or not, and those of UDP.
    pub(crate) fn sockets(&self) -> (BTreeSet<u16>, BTreeSet<u16>) {
        let http = self.plan.ports.iter().map(|plan| plan.port);
        let tcp = http.chain(self.plan.streams.tcp_ports()).collect();
        (tcp, self.plan.streams.udp_ports().collect())
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.plan.streams
    }

    pub(crate) fn port(&self, port: u16) -> Option<&PortPlan> {
        let at = self.plan.ports.binary_search_by_key(&port, |plan| plan.port).ok()?;
        self.plan.ports.get(at)
    }

    /// Some backend is told of clients' connections by the PROXY protocol.
    pub(crate) fn tells_of_clients(&self) -> bool {
        self.plan.tells_of_clients
    }

    /// The match tables, for whoever explains.
    pub fn router(&self) -> &Router {
        &self.plan.router
    }

    pub(crate) fn rule(&self, listener: &ListenerTable, slot: u32) -> Option<&RulePlan> {
        let key = std::ptr::from_ref(listener) as usize;
        self.plan.listeners.get(&key)?.rules.get(slot as usize)
    }

    /// Whether a connection was made as the listener wants it: to be refused with 421 where the plan has changed since.
    pub(crate) fn is_trusted_alike(&self, listener: &ListenerTable, made: &TlsFacts) -> bool {
        if made.asked.is_none() && listener.listener().policy.is_none() {
            return true;
        }
        let plan = self.plan.listeners.get(&(std::ptr::from_ref(listener) as usize));
        let trust = made.asked.as_ref().map(|asked| asked.trust);
        plan.is_some_and(|plan| plan.client_trust == trust)
    }

    /// What a listener has for requests that no rule takes.
    pub(crate) fn unmatched(&self, listener: &ListenerTable) -> Option<&Answers> {
        let key = std::ptr::from_ref(listener) as usize;
        self.plan.listeners.get(&key)?.unmatched.as_deref()
    }

    pub(crate) fn backend(&self, number: u32) -> Option<Backend<'_>> {
        self.endpoints.get(number as usize)?.as_ref().map(Endpoints::backend)
    }

    pub(crate) fn port_of(&self, number: u32) -> Option<&ServicePort> {
        Some(&self.endpoints.get(number as usize)?.as_ref()?.plan.port)
    }

    /// Of the backend at that place among those of a rule.
    pub(crate) fn backend_of(&self, backends: &Backends, share: usize) -> Option<Backend<'_>> {
        self.backend(backends.shares().get(share)?.backend?)
    }

    pub(crate) fn backends(&self) -> impl Iterator<Item = Backend<'_>> {
        self.endpoints.iter().flatten().map(Endpoints::backend)
    }

    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Endpoints that are to be checked, each once, by the check of the first backend that has one, and for which Service.
    pub fn checks(&self) -> Vec<(Arc<Endpoint>, HealthCheck, ServicePort)> {
        let mut seen = std::collections::HashSet::new();
        let plans = self.endpoints.iter().flatten();
        // A port of UDP answers no check; one on another port speaks for it.
        let checked = plans.filter_map(|found| {
            let backend = found.backend();
            let check = backend.policy.health.as_ref()?;
            let is_asked = !found.plan.is_udp || check.port.is_some();
            is_asked.then_some((backend.members, check, &found.plan.port))
        });
        checked
            .flat_map(|(members, check, port)| members.iter().map(move |m| (m, check, port)))
            .filter(|(member, ..)| seen.insert(Arc::as_ptr(member)))
            .map(|(member, check, port)| (Arc::clone(member), check.clone(), port.clone()))
            .collect()
    }
}

/// A place among the connections that a backend may have, for as long as one lasts: views come and go meanwhile.
pub(crate) struct Seat(Option<Arc<BackendPlan>>);

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(plan) = &self.0 {
            plan.shared.requests.leave();
        }
    }
}

impl EdgeView {
    /// None where the backend has as many as it may have. Costs nothing where there is no limit.
    pub(crate) fn seat(&self, number: u32) -> Option<Seat> {
        let found = self.endpoints.get(number as usize)?.as_ref()?;
        match found.backend().policy.limits.requests {
            None => Some(Seat(None)),
            Some(limit) => {
                let enters = found.plan.shared.requests.enter(limit);
                enters.then(|| Seat(Some(Arc::clone(&found.plan))))
            }
        }
    }
}

impl<'v> Backend<'v> {
    pub fn number(&self) -> u32 {
        self.of.plan.number
    }

    pub fn dial(&self) -> &'v Arc<Dial> {
        &self.of.plan.dial
    }

    pub fn shared(&self) -> &'v traffic::Backend {
        &self.of.plan.shared
    }

    /// How an attempt at one of the members went.
    pub fn observe(&self, endpoint: &Endpoint, outcome: Outcome, (live, now_ms): (&Live, u64)) {
        let peers = self.members.iter().map(|member| &**member);
        if endpoint.observe(outcome, &self.policy.ejection, now_ms, peers) {
            endpoint.ejected_for(&self.of.plan.port);
            live.changed();
        }
    }

    /// Of the members, see [`traffic::level`].
    pub fn levels(&self) -> &'v [u8] {
        &self.of.levels
    }

    /// What one sweep of a worker does about the backend as a whole.
    pub fn sweep(&self, balancer: &mut Balancer, live: &Live, now_ms: u64) {
        let requests = balancer.take_requests(self.number());
        if requests > 0 {
            self.shared().budget.add_requests(requests, &self.policy.budget, now_ms);
        }
        if self.policy.ejection.success_rate_below_mean > 0 {
            let endpoints: Vec<&Endpoint> = self.members.iter().map(|member| &**member).collect();
            if self.shared().tick(self.policy, &endpoints, now_ms) {
                let is_new =
                    |state| matches!(state, State::Ejected { since_ms, .. } if since_ms == now_ms);
                let ejected = endpoints.iter().filter(|endpoint| is_new(endpoint.state()));
                ejected.for_each(|endpoint| endpoint.ejected_for(&self.of.plan.port));
                live.changed();
            }
        }
    }
}

impl Endpoints {
    fn new(
        plan: &Arc<BackendPlan>,
        source: Option<&Arc<EndpointSet>>,
        (live, here): (&Live, &Locality),
    ) -> Endpoints {
        let usable = || source.into_iter().flat_map(|set| set.usable());
        let members = usable()
            .map(|endpoint| live.endpoint((endpoint.address, endpoint.alternate), plan.is_udp))
            .collect();
        let nearest = plan.policy().balance.nearest;
        let levels = match nearest {
            Nearest::Any => Box::default(),
            _ => usable().map(|endpoint| traffic::level(here, nearest, endpoint)).collect(),
        };
        Endpoints { plan: Arc::clone(plan), members, levels, source: source.cloned() }
    }

    fn is_of(&self, plan: &Arc<BackendPlan>, source: Option<&Arc<EndpointSet>>) -> bool {
        let is_same = match (&self.source, source) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        is_same && Arc::ptr_eq(&self.plan, plan)
    }

    fn backend(&self) -> Backend<'_> {
        Backend { members: &self.members, policy: self.plan.policy(), of: self }
    }
}

impl BackendPlan {
    fn policy(&self) -> &BackendPolicy {
        self.policy.as_deref().unwrap_or_else(|| default_policy())
    }
}

fn address(table: &Arc<ListenerTable>) -> usize {
    Arc::as_ptr(table) as usize
}

/// One entry a port number; where a plan has both protocols on one, the first stands.
fn ports(
    router: &Arc<Router>,
    snapshot: &Snapshot,
    streams: &Streams,
    keys: &KeyTable,
) -> Vec<PortPlan> {
    let mut ports: Vec<PortPlan> = Vec::new();
    for table in router.ports() {
        if ports.last().is_none_or(|last| last.port != table.port()) {
            let is_tls = table.protocol() == Protocol::Https;
            let tls = is_tls.then(|| {
                Arc::new(PortTls::new(router, table.port(), &snapshot.certificates, keys))
            });
            let entry = {
                let own = table.listeners().iter().map(|table| table.listener().policy.as_deref());
                PortEntry::of(own.chain(streams.policies(table.port()))).map(Arc::new)
            };
            let limits = limits_of(table.listeners()).map(Arc::new);
            let (port, protocol) = (table.port(), table.protocol());
            ports.push(PortPlan { port, protocol, tls, entry, limits });
        }
    }
    ports
}

/// The first listener that says a limit says it for all of the port.
fn limits_of(listeners: &[Arc<ListenerTable>]) -> Option<PortLimits> {
    let said = listeners.iter().filter_map(|table| table.listener().policy.as_ref());
    let limits = said.fold(ConnectionLimits::default(), |counts, policy| counts.or(policy.limits));
    PortLimits::of(limits)
}

/// Addresses are distinct already: one multiplication spreads them.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, value: usize) {
        self.0 = (self.0 ^ value as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::certificates::CertificatePlan;
    use model::dns::DnsPlan;
    use model::edge::{
        Action, Attachment, EdgePlan, FrontEnd, Listener, Match, PathMatch, Rank, Route, Rule,
        Target,
    };
    use model::governance::GovernancePlan;
    use model::id::ListenerId;
    use model::{HostPattern, Kind, Node, ObjectId};

    fn service(name: &str) -> ServicePort {
        ServicePort { namespace: "n".into(), name: name.into(), port: 80 }
    }

    fn listener(port: u16, backend: &str) -> Node<Listener> {
        let id = ObjectId::new(Kind::HTTP_ROUTE, "n", backend);
        let path = PathMatch::Prefix("".into());
        let target = Target::Service(service(backend));
        let rule = Rule::plain(
            RuleId { object: id.clone(), index: 0, name: None },
            vec![Match { path, conditions: vec![], rank: Rank::default() }],
            Action::Forward(vec![model::edge::Backend::plain(1, target)]),
        );
        let route = Node::new(Route { id, front_end: FrontEnd::GatewayApi, rules: vec![rule] });
        let attachment = Attachment { host: HostPattern::Any, original: HostPattern::Any, route };
        Node::new(Listener {
            id: ListenerId {
                object: ObjectId::new(Kind::GATEWAY, "n", "g"),
                section: format!("{port}").as_str().into(),
            },
            port,
            protocol: Protocol::Http,
            host: HostPattern::Any,
            certificates: vec![],
            policy: None,
            unmatched: None,
            attachments: vec![attachment],
        })
    }

    fn snapshot(listeners: Vec<Node<Listener>>) -> Snapshot {
        Snapshot::new(
            Node::new(EdgePlan { listeners, layer4: Vec::new() }),
            Node::new(DnsPlan::default()),
            Node::new(CertificatePlan::default()),
            Node::new(GovernancePlan::default()),
        )
    }

    fn plan_of(view: &EdgeView, port: u16) -> Arc<ListenerPlan> {
        let table = view.router().port(port, Protocol::Http).expect("a port of the plan");
        Arc::clone(&view.plan.listeners[&address(&table.listeners()[0])])
    }

    #[test]
    fn what_did_not_change_is_shared_and_numbers_stay() {
        let registry = Registry::new(1);
        let keys = KeyTable::default();
        let mut facts = Facts::default();
        facts.endpoints.insert(service("a"), Arc::default());
        let first = snapshot(vec![listener(80, "a"), listener(81, "b")]);
        let first = EdgeView::build(&first, &facts, &keys, &registry, None);
        let second = snapshot(vec![listener(80, "a"), listener(81, "c")]);
        let second = EdgeView::build(&second, &facts, &keys, &registry, Some(&first));
        assert!(Arc::ptr_eq(&plan_of(&first, 80), &plan_of(&second, 80)));
        assert!(!Arc::ptr_eq(&plan_of(&first, 81), &plan_of(&second, 81)));
        let back = snapshot(vec![listener(81, "b")]);
        let back = EdgeView::build(&back, &facts, &keys, &registry, Some(&second));
        assert_eq!(plan_of(&first, 81).rules[0].number, plan_of(&back, 81).rules[0].number);
        let same = snapshot(vec![listener(80, "a"), listener(81, "c")]);
        let third = EdgeView::build(&same, &facts, &keys, &registry, Some(&second));
        assert!(Arc::ptr_eq(&second.plan, &third.plan), "TLS of ports included");
        let members = |view: &EdgeView| Arc::clone(view.backend(0).expect("its backend").members);
        assert!(Arc::ptr_eq(&members(&second), &members(&third)));
    }

    #[test]
    fn backends_that_no_view_has_are_freed() {
        let registry = Registry::new(1);
        let (keys, facts) = (KeyTable::default(), Facts::default());
        let build = |name: &str, previous: Option<&EdgeView>| {
            let snapshot = snapshot(vec![listener(80, "a"), listener(81, name)]);
            EdgeView::build(&snapshot, &facts, &keys, &registry, previous)
        };
        let mut view = build("b", None);
        for round in 0..500 {
            view = build(&format!("other-{round}"), Some(&view));
            assert!(view.endpoints.len() <= 4, "{}", view.endpoints.len());
            assert_eq!(view.backends().count(), 2);
        }
    }
}
