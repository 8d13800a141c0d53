//! What one worker needs to serve requests, made off the workers from the plan, the facts and the keys: the router, a
//! side table of rules made ready, endpoints by service, TLS by port. Immutable. A change of facts shares all but the
//! endpoints.

use crate::changes::Changes;
use crate::cors::Cors;
use crate::dial::{Dial, Dials};
use crate::live::{Live, default_policy};
use crate::metrics::{Metrics, RouteMetrics};
use crate::mirror::Mirror;
use crate::sticky::{SESSION_KEY_BYTES, Sealer, ServiceTag, Sticky};
use crate::streams::{StreamPlan, Streams};
use crate::tls::{KeyTable, PortTls};
use model::edge::{Action, Protocol, Redirect, Rule, Target, Timeouts};
use model::facts::EndpointSet;
use model::id::{RuleId, ServicePort};
use model::layer4::Transport;
use model::traffic::{BackendPolicy, HealthCheck, Retry};
use model::{Digest, Facts, Node, Snapshot};
use routing::{ListenerTable, Router, RuleSlot};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use traffic::{Balancer, Endpoint, Members};

/// What outlives views: counters, and the numbers by which live state is kept.
pub struct Registry {
    pub metrics: Arc<Metrics>,
    pub live: Arc<Live>,
    numbers: Mutex<Numbers>,
    dials: Mutex<Dials>,
    sealer: Arc<Sealer>,
}

#[derive(Default)]
struct Numbers {
    rules: HashMap<RuleId, u32>,
    /// By Service port and policy: one of them with two policies is balanced and limited twice.
    backends: HashMap<(ServicePort, bool, Option<Digest>), Arc<BackendPlan>>,
    mirrors: HashMap<(RuleId, usize), u32>,
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
        }
    }

    /// Sessions are sealed with this key instead of one of the registry's own, so that they outlive it.
    pub fn with_session_key(self, key: &[u8; SESSION_KEY_BYTES]) -> Registry {
        Registry { sealer: Arc::new(Sealer::new(key)), ..self }
    }
}

/// See the module.
pub struct EdgeView {
    plan: Arc<Plan>,
    live: Arc<Live>,
    /// By the numbers of backends.
    endpoints: Vec<Endpoints>,
}

struct Plan {
    router: Arc<Router>,
    /// By the address of the router's table.
    listeners: HashMap<usize, Arc<ListenerPlan>, BuildHasherDefault<AddressHasher>>,
    ports: Vec<PortPlan>,
    streams: Streams,
    backends: Vec<Arc<BackendPlan>>,
}

/// A Service port with the policy by which it is used.
struct BackendPlan {
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
    pub number: u32,
    pub members: &'v Members,
    pub policy: &'v BackendPolicy,
    pub dial: &'v Arc<Dial>,
    pub shared: &'v traffic::Backend,
}

/// One socket's worth of listeners.
pub(crate) struct PortPlan {
    pub port: u16,
    pub protocol: Protocol,
    pub tls: Option<Arc<PortTls>>,
}

#[derive(Clone)]
struct Endpoints {
    plan: Arc<BackendPlan>,
    members: Members,
    /// What `members` was made from; held so that an address that is equal means the same set.
    source: Option<Arc<EndpointSet>>,
}

struct ListenerPlan {
    rules: Box<[RulePlan]>,
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
        Backends { shares: shares.into(), total, changes: Box::default() }
    }

    pub fn with_changes(self, changes: impl Iterator<Item = Option<Box<Changes>>>) -> Backends {
        let changes: Box<[_]> = changes.collect();
        let has_some = changes.iter().any(Option::is_some);
        Backends { changes: if has_some { changes } else { Box::default() }, ..self }
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
    /// Tables of listeners that are the same in `previous` are shared with it.
    pub fn build(
        snapshot: &Snapshot,
        facts: &Facts,
        keys: &KeyTable,
        registry: &Registry,
        previous: Option<&EdgeView>,
    ) -> EdgeView {
        let previous_endpoints = previous.map_or_else(Vec::new, |view| view.endpoints.clone());
        let previous = previous.map(|view| &*view.plan);
        let router = Arc::new(Router::build(&snapshot.edge, previous.map(|plan| &*plan.router)));
        let mut numbers = registry.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dials = registry.dials.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = &registry.metrics;
        let sealer = &registry.sealer;
        let mut builder = Builder { metrics, numbers: &mut numbers, dials: &mut dials, sealer };
        let listeners = router
            .listeners()
            .map(|table| {
                let known = previous.and_then(|plan| plan.listeners.get(&address(table)));
                let plan = known.cloned().unwrap_or_else(|| Arc::new(builder.listener(table)));
                (address(table), plan)
            })
            .collect();
        let streams = builder.streams(snapshot, keys);
        dials.renew(keys);
        let mut backends: Vec<_> = numbers.backends.values().cloned().collect();
        backends.sort_unstable_by_key(|backend| backend.number);
        let ports = ports(&router, snapshot, keys);
        let plan = Plan { listeners, ports, streams, backends, router };
        let live = Arc::clone(&registry.live);
        EdgeView { plan: Arc::new(plan), live, endpoints: previous_endpoints }.with_facts(facts)
    }

    /// The same plan with other endpoints. Costs one look at each backend.
    pub fn with_facts(&self, facts: &Facts) -> EdgeView {
        let backends = self.plan.backends.iter().enumerate();
        let endpoints = backends.map(|(at, plan)| {
            let of_transport = match plan.is_udp {
                true => &facts.datagram_endpoints,
                false => &facts.endpoints,
            };
            let source = of_transport.get(&plan.port);
            let known = self.endpoints.get(at).filter(|known| known.is_of(source));
            known.cloned().unwrap_or_else(|| Endpoints::new(plan, source, &self.live))
        });
        EdgeView {
            plan: Arc::clone(&self.plan),
            live: Arc::clone(&self.live),
            endpoints: endpoints.collect(),
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

    /// The match tables, for whoever explains.
    pub fn router(&self) -> &Router {
        &self.plan.router
    }

    pub(crate) fn rule(&self, listener: &ListenerTable, slot: u32) -> Option<&RulePlan> {
        let key = std::ptr::from_ref(listener) as usize;
        self.plan.listeners.get(&key)?.rules.get(slot as usize)
    }

    pub(crate) fn backend(&self, number: u32) -> Option<Backend<'_>> {
        self.endpoints.get(number as usize).map(Endpoints::backend)
    }

    /// Of the backend at that place among those of a rule.
    pub(crate) fn backend_of(&self, backends: &Backends, share: usize) -> Option<Backend<'_>> {
        self.backend(backends.shares().get(share)?.backend?)
    }

    pub(crate) fn backends(&self) -> impl Iterator<Item = Backend<'_>> {
        self.endpoints.iter().map(Endpoints::backend)
    }

    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Endpoints that are to be checked, each once, by the check of the first backend that has one.
    pub fn checks(&self) -> Vec<(Arc<Endpoint>, HealthCheck)> {
        let mut seen = std::collections::HashSet::new();
        let plans = self.endpoints.iter();
        // A port of UDP answers no check; one on another port speaks for it.
        let checked = plans.filter_map(|found| {
            let backend = found.backend();
            let check = backend.policy.health.as_ref()?;
            (!found.plan.is_udp || check.port.is_some()).then_some((backend, check))
        });
        checked
            .flat_map(|(backend, check)| backend.members.iter().map(move |member| (member, check)))
            .filter(|(member, _)| seen.insert(Arc::as_ptr(member)))
            .map(|(member, check)| (Arc::clone(member), check.clone()))
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
        let found = self.endpoints.get(number as usize)?;
        match found.backend().policy.limits.requests {
            None => Some(Seat(None)),
            Some(limit) => {
                let enters = found.plan.shared.requests.enter(limit);
                enters.then(|| Seat(Some(Arc::clone(&found.plan))))
            }
        }
    }
}

impl Backend<'_> {
    /// What one sweep of a worker does about the backend as a whole.
    pub fn sweep(&self, balancer: &mut Balancer, live: &Live, now_ms: u64) {
        let requests = balancer.take_requests(self.number);
        if requests > 0 {
            self.shared.budget.add_requests(requests, &self.policy.budget, now_ms);
        }
        if self.policy.ejection.success_rate_below_mean > 0 {
            let endpoints: Vec<&Endpoint> = self.members.iter().map(|member| &**member).collect();
            if self.shared.tick(self.policy, &endpoints, now_ms) {
                live.changed();
            }
        }
    }
}

impl Endpoints {
    fn new(plan: &Arc<BackendPlan>, source: Option<&Arc<EndpointSet>>, live: &Live) -> Endpoints {
        let usable = source.into_iter().flat_map(|set| set.usable());
        let members = usable.map(|endpoint| live.endpoint(endpoint.address, plan.is_udp)).collect();
        Endpoints { plan: Arc::clone(plan), members, source: source.cloned() }
    }

    fn is_of(&self, source: Option<&Arc<EndpointSet>>) -> bool {
        match (&self.source, source) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        }
    }

    fn backend(&self) -> Backend<'_> {
        Backend {
            number: self.plan.number,
            members: &self.members,
            policy: self.plan.policy.as_deref().unwrap_or_else(|| default_policy()),
            dial: &self.plan.dial,
            shared: &self.plan.shared,
        }
    }
}

fn address(table: &Arc<ListenerTable>) -> usize {
    Arc::as_ptr(table) as usize
}

/// One entry a port number; where a plan has both protocols on one, the first stands.
fn ports(router: &Arc<Router>, snapshot: &Snapshot, keys: &KeyTable) -> Vec<PortPlan> {
    let mut ports: Vec<PortPlan> = Vec::new();
    for table in router.ports() {
        if ports.last().is_none_or(|last| last.port != table.port()) {
            let is_tls = table.protocol() == Protocol::Https;
            let tls = is_tls.then(|| {
                Arc::new(PortTls::new(router, table.port(), &snapshot.certificates, keys))
            });
            ports.push(PortPlan { port: table.port(), protocol: table.protocol(), tls });
        }
    }
    ports
}

struct Builder<'r> {
    metrics: &'r Metrics,
    numbers: &'r mut Numbers,
    dials: &'r mut Dials,
    sealer: &'r Arc<Sealer>,
}

impl Builder<'_> {
    fn listener(&mut self, table: &ListenerTable) -> ListenerPlan {
        ListenerPlan { rules: table.rules().map(|slot| self.rule(&slot)).collect() }
    }

    fn rule(&mut self, slot: &RuleSlot<'_>) -> RulePlan {
        let Rule {
            id, request_headers, response_headers, rewrite, timeouts, retry, action, ..
        } = slot.rule;
        let changes = Changes::new(request_headers, response_headers, rewrite);
        RulePlan {
            id: id.clone(),
            number: number(&mut self.numbers.rules, id.clone()),
            metrics: self.metrics.route(&slot.route.id),
            timeouts: *timeouts,
            retry: retry.clone(),
            action: self.action(action, &changes),
            sticky: self.sticky(slot.rule),
            mirrors: self.mirrors(slot.rule, &changes),
            cors: slot.rule.cors.as_deref().map(|cors| Box::new(Cors::new(cors))),
            changes,
        }
    }

    fn action(&mut self, action: &Action, changes: &Changes) -> RuleAction {
        match action {
            Action::Redirect(redirect) => RuleAction::Redirect(redirect.clone()),
            Action::Fail { status, .. } => RuleAction::Fail { status: *status },
            Action::Forward(backends) => {
                let shares = backends.iter().map(|backend| self.share(backend)).collect();
                let edits = backends.iter().map(|backend| backend.edits.as_deref());
                let changes = edits.map(|edits| edits.map(|edits| Box::new(changes.then(edits))));
                RuleAction::Forward(Backends::new(shares).with_changes(changes))
            }
        }
    }

    /// Those that have a backend.
    fn mirrors(&mut self, rule: &Rule, changes: &Changes) -> Box<[Mirror]> {
        let of = |(at, mirror): (usize, &model::traffic::Mirror)| {
            let backend = self.share(&mirror.backend).backend?;
            let turns = number(&mut self.numbers.mirrors, (rule.id.clone(), at));
            let edits = mirror.backend.edits.as_deref();
            let changes = edits.map(|edits| Box::new(changes.then(edits)));
            Some(Mirror::new(mirror, (turns, backend), changes))
        };
        rule.mirrors.iter().enumerate().filter_map(of).collect()
    }

    fn sticky(&self, rule: &Rule) -> Option<Box<Sticky>> {
        let (Some(plan), Action::Forward(backends)) = (&rule.persistence, &rule.action) else {
            return None;
        };
        let services = backends.iter().map(|backend| match &backend.target {
            Target::Service(service) => Some(ServiceTag::of(service)),
            Target::Invalid { .. } => None,
        });
        Sticky::new(plan, Arc::clone(self.sealer), services).map(Box::new)
    }

    fn share(&mut self, backend: &model::edge::Backend) -> Share {
        let number = match &backend.target {
            Target::Service(port) => Some(self.backend(port, false, backend.policy.as_ref())),
            Target::Invalid { .. } => None,
        };
        Share { weight: backend.weight, backend: number }
    }

    fn streams(&mut self, snapshot: &Snapshot, keys: &KeyTable) -> Streams {
        if snapshot.edge.layer4.is_empty() {
            return Streams::default();
        }
        let tls = (&*snapshot.certificates, keys);
        Streams::build(&snapshot.edge, tls, |attachment, transport| {
            let route = &*attachment.route;
            let shares = route.backends.iter().map(|backend| Share {
                weight: backend.weight,
                backend: match &backend.target {
                    Target::Service(port) => {
                        let is_udp = transport == Transport::Udp;
                        Some(self.backend(port, is_udp, backend.policy.as_ref()))
                    }
                    Target::Invalid { .. } => None,
                },
            });
            let backends = Backends::new(shares.collect());
            Arc::new(StreamPlan {
                rule: route.rule.clone(),
                number: number(&mut self.numbers.rules, route.rule.clone()),
                metrics: self.metrics.streams.route(route.id()),
                backends,
            })
        })
    }

    fn backend(
        &mut self,
        port: &ServicePort,
        is_udp: bool,
        policy: Option<&Node<BackendPolicy>>,
    ) -> u32 {
        let backends = &mut self.numbers.backends;
        let next = backends.len() as u32;
        let key = (port.clone(), is_udp, policy.map(Node::digest));
        let plan = backends.entry(key).or_insert_with(|| {
            Arc::new(BackendPlan {
                number: next,
                port: port.clone(),
                is_udp,
                policy: policy.cloned(),
                dial: self.dials.of(policy.map(|policy| &**policy)),
                shared: traffic::Backend::default(),
            })
        });
        plan.number
    }
}

fn number<K: Eq + std::hash::Hash>(numbers: &mut HashMap<K, u32>, key: K) -> u32 {
    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    *numbers.entry(key).or_insert(next)
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
        Attachment, EdgePlan, FrontEnd, HeaderEdits, Listener, Match, PathMatch, Rank, Rewrite,
        Route,
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
        let rule = Rule {
            id: RuleId { object: id.clone(), index: 0, name: None },
            matches: vec![Match { path, conditions: vec![], rank: Rank::default() }],
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: Rewrite::default(),
            timeouts: Timeouts::default(),
            retry: None,
            cors: None,
            mirrors: Vec::new(),
            persistence: None,
            policy: None,
            action: Action::Forward(vec![model::edge::Backend::plain(1, target)]),
        };
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
        let third = second.with_facts(&facts);
        assert!(Arc::ptr_eq(&second.plan, &third.plan));
        assert!(Arc::ptr_eq(&second.endpoints[0].members, &third.endpoints[0].members));
    }
}
