//! What one worker needs to serve requests, made off the workers from the plan, the facts and the keys: the router, a
//! side table of rules made ready, endpoints by service, TLS by port. Immutable. A change of facts shares all but the
//! endpoints.

use crate::changes::Changes;
use crate::cors::Cors;
use crate::metrics::{Metrics, RouteMetrics};
use crate::mirror::Mirror;
use crate::sticky::{SESSION_KEY_BYTES, Sealer, ServiceTag, Sticky};
use crate::tls::{KeyTable, PortTls};
use model::edge::{Action, Backend, Protocol, Redirect, Rule, Target, Timeouts};
use model::facts::EndpointSet;
use model::id::{RuleId, ServicePort};
use model::{Facts, Snapshot, traffic};
use routing::{ListenerTable, Router, RuleSlot};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What outlives views: counters, and the numbers by which live state is kept.
pub struct Registry {
    pub metrics: Arc<Metrics>,
    numbers: Mutex<Numbers>,
    sealer: Arc<Sealer>,
}

#[derive(Default)]
struct Numbers {
    rules: HashMap<RuleId, u32>,
    services: HashMap<ServicePort, u32>,
    mirrors: HashMap<(RuleId, usize), u32>,
}

impl Registry {
    /// For an edge with that many workers.
    pub fn new(workers: usize) -> Registry {
        let sealer = Arc::new(Sealer::random());
        Registry { metrics: Metrics::new(workers), numbers: Mutex::default(), sealer }
    }

    /// Sessions are sealed with this key instead of one of the registry's own, so that they outlive it.
    pub fn with_session_key(self, key: &[u8; SESSION_KEY_BYTES]) -> Registry {
        Registry { sealer: Arc::new(Sealer::new(key)), ..self }
    }
}

/// See the module.
pub struct EdgeView {
    plan: Arc<Plan>,
    /// By the numbers of services.
    endpoints: Vec<Endpoints>,
}

struct Plan {
    router: Arc<Router>,
    /// By the address of the router's table.
    listeners: HashMap<usize, Arc<ListenerPlan>, BuildHasherDefault<AddressHasher>>,
    ports: Vec<PortPlan>,
    services: Vec<(ServicePort, u32)>,
}

/// One socket's worth of listeners.
pub(crate) struct PortPlan {
    pub port: u16,
    pub protocol: Protocol,
    pub tls: Option<Arc<PortTls>>,
}

#[derive(Clone, Default)]
struct Endpoints {
    usable: Arc<[SocketAddr]>,
    /// What `usable` was made from; held so that an address that is equal means the same set.
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
    pub service: Option<u32>,
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
        let previous = previous.map(|view| &*view.plan);
        let router = Arc::new(Router::build(&snapshot.edge, previous.map(|plan| &*plan.router)));
        let mut numbers = registry.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut builder =
            Builder { metrics: &registry.metrics, numbers: &mut numbers, sealer: &registry.sealer };
        let listeners = router
            .listeners()
            .map(|table| {
                let known = previous.and_then(|plan| plan.listeners.get(&address(table)));
                let plan = known.cloned().unwrap_or_else(|| Arc::new(builder.listener(table)));
                (address(table), plan)
            })
            .collect();
        let services = numbers.services.iter().map(|(port, number)| (port.clone(), *number));
        let plan = Plan {
            listeners,
            ports: ports(&router, snapshot, keys),
            services: services.collect(),
            router,
        };
        EdgeView { plan: Arc::new(plan), endpoints: Vec::new() }.with_facts(facts)
    }

    /// The same plan with other endpoints. Costs one look at each service.
    pub fn with_facts(&self, facts: &Facts) -> EdgeView {
        let count = self.plan.services.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
        let mut endpoints = self.endpoints.clone();
        endpoints.resize(count as usize, Endpoints::default());
        for (port, number) in &self.plan.services {
            endpoints[*number as usize].update(facts.endpoints.get(port));
        }
        EdgeView { plan: Arc::clone(&self.plan), endpoints }
    }

    /// The ports of the plan, as written, in ascending order.
    pub fn ports(&self) -> impl Iterator<Item = (u16, Protocol)> {
        self.plan.ports.iter().map(|port| (port.port, port.protocol))
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

    /// Of the backend at that place.
    pub(crate) fn endpoints_of(&self, backends: &Backends, share: usize) -> &[SocketAddr] {
        let service = backends.shares().get(share).and_then(|share| share.service);
        service.map_or(&[], |service| self.endpoints(service))
    }

    pub(crate) fn endpoints(&self, service: u32) -> &[SocketAddr] {
        self.endpoints.get(service as usize).map_or(&[], |endpoints| &endpoints.usable)
    }
}

impl Endpoints {
    fn update(&mut self, source: Option<&Arc<EndpointSet>>) {
        let same = match (&self.source, source) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let usable = source.into_iter().flat_map(|set| set.usable());
            self.usable = usable.map(|endpoint| endpoint.address).collect();
            self.source = source.cloned();
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
    sealer: &'r Arc<Sealer>,
}

impl Builder<'_> {
    fn listener(&mut self, table: &ListenerTable) -> ListenerPlan {
        ListenerPlan { rules: table.rules().map(|slot| self.rule(&slot)).collect() }
    }

    fn rule(&mut self, slot: &RuleSlot<'_>) -> RulePlan {
        let Rule { id, request_headers, response_headers, rewrite, timeouts, action, .. } =
            slot.rule;
        let changes = Changes::new(request_headers, response_headers, rewrite);
        RulePlan {
            id: id.clone(),
            number: number(&mut self.numbers.rules, id),
            metrics: self.metrics.route(&slot.route.id),
            timeouts: *timeouts,
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
        let of = |(at, mirror): (usize, &traffic::Mirror)| {
            let service = self.share(&mirror.backend).service?;
            let turns = number(&mut self.numbers.mirrors, &(rule.id.clone(), at));
            let edits = mirror.backend.edits.as_deref();
            let changes = edits.map(|edits| Box::new(changes.then(edits)));
            Some(Mirror::new(mirror, (turns, service), changes))
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

    fn share(&mut self, backend: &Backend) -> Share {
        let service = match &backend.target {
            Target::Service(port) => Some(number(&mut self.numbers.services, port)),
            Target::Invalid { .. } => None,
        };
        Share { weight: backend.weight, service }
    }
}

fn number<K: Clone + Eq + std::hash::Hash>(numbers: &mut HashMap<K, u32>, key: &K) -> u32 {
    match numbers.get(key) {
        Some(number) => *number,
        None => {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            numbers.insert(key.clone(), next);
            next
        }
    }
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
            action: Action::Forward(vec![Backend::plain(1, target)]),
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
            attachments: vec![attachment],
        })
    }

    fn snapshot(listeners: Vec<Node<Listener>>) -> Snapshot {
        Snapshot::new(
            Node::new(EdgePlan { listeners }),
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
        assert!(Arc::ptr_eq(&second.endpoints[0].usable, &third.endpoints[0].usable));
    }
}
