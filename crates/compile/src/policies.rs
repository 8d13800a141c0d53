//! What the policies say about one backend of one rule: EdgePolicies of the Gateway, its listener, the route and the
//! Service laid over each other, BackendTLSPolicies, and what the Service says itself.

use crate::answers::Level;
use crate::backend_client::{self, BackendClients};
use crate::backend_tls::{TlsPolicies, Uses};
use crate::backends::{Reached, References};
use crate::contradictions;
use crate::entry_settings;
use crate::front_settings;
use crate::grants::Grants;
use crate::merge::{self, Attached, Target};
use crate::policy_reach;
use crate::report::{Problem, Report};
use crate::reuse::Earlier;
use crate::settings;
use crate::status::condition;
use manifest::kinds::edge_policy::{EdgePolicy, RetrySection};
use manifest::kinds::fallback::FallbackSection;
use manifest::kinds::gateway::ParentReference;
use manifest::kinds::kubernetes::IpProtocol;
use manifest::section::merged;
use manifest::{Inputs, Object};
use model::front::{ListenerPolicy, RulePolicy};
use model::hash::HashMap;
use model::status::ObjectStatus;
use model::traffic::{BackendPolicy, BackendProtocol, BackendTls, Trust};
use model::{Kind, Node, ObjectId, Text};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

const KINDS: &[Kind] = &[
    Kind::GATEWAY,
    Kind::HTTP_ROUTE,
    Kind::GRPC_ROUTE,
    Kind::TLS_ROUTE,
    Kind::TCP_ROUTE,
    Kind::UDP_ROUTE,
    Kind::INGRESS,
    Kind::SERVICE,
];

/// Number of what holds for one listener of one Gateway; 0 where nothing does.
pub(crate) type Layer = u32;

pub(crate) struct Policies<'a> {
    inputs: &'a Inputs,
    earlier: &'a Earlier<'a>,
    edge: Attached<'a, EdgePolicy>,
    pub tls: TlsPolicies<'a>,
    pub backend_clients: BackendClients<'a>,
    layers: Vec<LayerPlan>,
    /// By namespace, name and section of a Gateway.
    by_listener: HashMap<(&'a str, &'a str, Option<&'a str>), Layer>,
    by_gateway: HashMap<(&'a str, &'a str), Vec<Layer>>,
    merged: RefCell<HashMap<Claims, Rc<EdgePolicy>>>,
    nodes: RefCell<HashMap<BackendPolicy, Node<BackendPolicy>>>,
    rules: RefCell<HashMap<Claims, Option<Node<RulePolicy>>>>,
    listeners: RefCell<HashMap<Layer, Option<Box<ListenerPolicy>>>>,
}

/// What holds for one listener.
#[derive(Default)]
struct LayerPlan {
    /// The nearest first.
    claims: [Option<usize>; 2],
    /// What its Gateway shows to backends.
    client_certificate: Option<ObjectId>,
}

/// The nearest first: Service, route, listener, Gateway.
type Claims = [Option<usize>; 4];

/// From where a backend is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope {
    pub layer: Layer,
    /// None for requests that no rule takes.
    route: Option<usize>,
}

impl Scope {
    /// Of requests that no rule takes.
    pub fn of_listener(layer: Layer) -> Scope {
        Scope { layer, route: None }
    }
}

impl<'a> Policies<'a> {
    pub fn of(inputs: &'a Inputs, grants: &Grants, earlier: &'a Earlier<'a>) -> Self {
        let edge = Attached::of(inputs.edge_policies(), EdgePolicy::target_refs, KINDS);
        let backend_clients = BackendClients::of(inputs, grants);
        let (layers, by_listener) = layers(&edge, &backend_clients);
        let mut by_gateway: HashMap<(&str, &str), Vec<Layer>> = HashMap::default();
        for ((namespace, name, _), layer) in &by_listener {
            by_gateway.entry((namespace, name)).or_default().push(*layer);
        }
        Policies {
            inputs,
            earlier,
            edge,
            tls: TlsPolicies::of(inputs),
            backend_clients,
            layers,
            by_listener,
            by_gateway,
            merged: RefCell::default(),
            nodes: RefCell::default(),
            rules: RefCell::default(),
            listeners: RefCell::default(),
        }
    }

    /// Reports what is wrong with the policies themselves.
    pub fn judge(&mut self, report: &mut Report) {
        let inputs = self.inputs;
        self.edge.judge(|target| fault_of_target(target, inputs), report);
        self.tls.judge(inputs, report);
        policy_reach::check(inputs, report);
        contradictions::check(inputs, report);
    }

    pub fn layer(&self, gateway: &ObjectId, section: &str) -> Layer {
        let key = |section| (&*gateway.namespace, &*gateway.name, section);
        let found = self.by_listener.get(&key(Some(section)));
        found.or_else(|| self.by_listener.get(&key(None))).copied().unwrap_or_default()
    }

    /// Layers of the listeners that a route names; at least one.
    pub fn layers(&self, route: &ObjectId, parents: &[ParentReference]) -> Vec<Layer> {
        if self.by_listener.is_empty() {
            return vec![0];
        }
        let each = parents.iter().flat_map(|parent| {
            let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
            self.layers_of_parent(namespace, parent)
        });
        let mut layers: Vec<Layer> = each.collect();
        layers.sort_unstable();
        layers.dedup();
        if layers.is_empty() { vec![0] } else { layers }
    }

    fn layers_of_parent(&self, namespace: &Text, parent: &ParentReference) -> Vec<Layer> {
        if let Some(section) = &parent.section_name {
            let gateway = ObjectId::new(Kind::GATEWAY, namespace.clone(), parent.name.clone());
            return vec![self.layer(&gateway, section)];
        }
        let own = self.by_listener.get(&(&**namespace, &*parent.name, None));
        let sections = self.by_gateway.get(&(&**namespace, &*parent.name));
        sections.into_iter().flatten().chain(Some(own.unwrap_or(&0))).copied().collect()
    }

    pub fn scope(&self, route: &ObjectId, layer: Layer) -> Scope {
        let target = target(route.kind, &route.namespace, &route.name);
        Scope { layer, route: self.edge.find(target) }
    }

    /// None where everything is as by default; a problem where no connection could be made.
    pub fn of_backend(
        &self,
        scope: Scope,
        reached: &Reached,
    ) -> Result<Option<Node<BackendPolicy>>, Problem> {
        let claims = self.claims(scope, reached);
        let tls = self.tls(reached).map_err(Problem::clone)?;
        let is_plain = claims == Claims::default() && tls.is_none() && reached.is_plain();
        if is_plain {
            return Ok(None);
        }
        let mut policy = settings::backend_policy(&self.merged(claims));
        policy.protocol = reached.protocol;
        policy.balance.nearest = reached.nearest();
        policy.tls = tls;
        if let Some(tls) = &mut policy.tls {
            let shown = &self.layers[scope.layer as usize].client_certificate;
            tls.client_certificate.clone_from(shown);
        }
        policy.external = reached.external().cloned();
        Ok((policy != BackendPolicy::default()).then(|| self.node(policy)))
    }

    /// The owner of the Gateway lets its routes lead to the name.
    pub fn allows_external(&self, scope: Scope, name: &str) -> bool {
        let merged = self.merged(self.claims_beyond_service(Scope { route: None, ..scope }));
        let section = merged.external_name.as_ref();
        let allowed = section.and_then(|section| section.allow.as_ref());
        allowed.is_some_and(|allowed| allowed.0.iter().any(|pattern| pattern.matches(name)))
    }

    /// What stands in for a backend, and the policy that names its Services.
    pub fn fallback(
        &self,
        scope: Scope,
        reached: &Reached,
    ) -> Option<(&'a ObjectId, FallbackSection)> {
        let claims = self.claims(scope, reached);
        let section = self.merged(claims).fallback.clone()?;
        let of = |claim: usize| self.edge.spec(claim).fallback.as_ref();
        let names = |claim: &usize| of(*claim).is_some_and(|of| of.backends.is_some());
        let mut levels = claims.into_iter().flatten();
        // Without Services, whoever declares the answer.
        let nearest = levels.clone().find(names).or_else(|| levels.find(|at| of(*at).is_some()))?;
        Some((self.edge.object(nearest), section))
    }

    /// As [`Policies::of_backend`], for bytes. TLS that is passed through is not ours to add to, and what a Service
    /// announces says what its clients speak.
    pub fn of_stream(
        &self,
        scope: Scope,
        reached: &Reached,
        is_passed: bool,
    ) -> Result<Option<Node<BackendPolicy>>, Problem> {
        let claims = self.claims(scope, reached);
        let tls = match self.tls_policy(reached).filter(|_| !is_passed) {
            Some(found) => Some(found.map_err(Problem::clone)?.clone()),
            None => None,
        };
        // Only Services can stand in for a backend of bytes, and of UDP nothing does.
        let mut merged = EdgePolicy::clone(&self.merged(claims));
        if reached.spec.protocol == IpProtocol::Udp {
            merged.fallback = None;
        }
        if let Some(fallback) = &mut merged.fallback {
            fallback.response = None;
        }
        let mut policy = settings::backend_policy(&merged);
        policy.balance.nearest = reached.nearest();
        policy.tls = tls;
        if let Some(tls) = &mut policy.tls {
            policy.protocol = BackendProtocol::Opaque;
            let shown = &self.layers[scope.layer as usize].client_certificate;
            tls.client_certificate.clone_from(shown);
        }
        Ok((policy != BackendPolicy::default()).then(|| self.node(policy)))
    }

    /// What is said about retries of a rule with these backends. Where they differ, what is said of Services does not
    /// count: which of them a request goes to is not known when it is tried again.
    pub fn retry<'r>(
        &self,
        scope: Scope,
        backends: impl Iterator<Item = &'r Reached<'r>>,
    ) -> Option<RetrySection> {
        if self.edge.is_empty() {
            return None;
        }
        let mut found =
            backends.map(|reached| self.merged(self.claims(scope, reached)).retry.clone());
        let first = found.next().flatten();
        match found.all(|other| other == first) {
            true => first,
            false => self.merged(self.claims_beyond_service(scope)).retry.clone(),
        }
    }

    /// What a listener of this layer asks of its clients; None where everything is as by default.
    pub fn of_listener(&self, layer: Layer) -> Option<Box<ListenerPolicy>> {
        let claims = self.claims_beyond_service(Scope::of_listener(layer));
        if claims == Claims::default() {
            return None;
        }
        if let Some(known) = self.listeners.borrow().get(&layer) {
            return known.clone();
        }
        let mut policy = front_settings::listener_policy(&self.merged(claims));
        policy.peers = entry_settings::peers(self.said(claims), self.inputs);
        policy.sources = entry_settings::sources(self.said(claims), self.inputs);
        let policy = (policy != ListenerPolicy::default()).then(|| Box::new(policy));
        self.listeners.borrow_mut().insert(layer, policy.clone());
        policy
    }

    /// Of the rules of a route, or of requests that no rule takes; None where everything is as by default.
    pub fn of_rule(&self, scope: Scope, references: References) -> Option<Node<RulePolicy>> {
        let claims = self.claims_beyond_service(scope);
        if claims == Claims::default() {
            return None;
        }
        if let Some(known) = self.rules.borrow().get(&claims) {
            return known.clone();
        }
        let levels = self.levels(scope);
        let mut policy =
            front_settings::rule_policy(&self.merged(claims), &levels, references, scope);
        // What a listener says holds before its rules do.
        let own = [None, scope.route, None, None];
        policy.sources = entry_settings::sources(self.said(own), self.inputs);
        let node = (policy != RulePolicy::default()).then(|| self.earlier.rule_policy(policy));
        self.rules.borrow_mut().insert(claims, node.clone());
        node
    }

    /// Policies of a scope with the objects that hold them, the nearest first; without those of Services.
    pub fn levels(&self, scope: Scope) -> Vec<Level<'a>> {
        self.said(self.claims_beyond_service(scope)).collect()
    }

    fn claims(&self, scope: Scope, reached: &Reached) -> Claims {
        let port = &reached.port;
        let [_, route, listener, gateway] = self.claims_beyond_service(scope);
        let service = self.edge.find(target(Kind::SERVICE, &port.namespace, &port.name));
        [service, route, listener, gateway]
    }

    fn claims_beyond_service(&self, scope: Scope) -> Claims {
        let [listener, gateway] = self.layers[scope.layer as usize].claims;
        [None, scope.route, listener, gateway]
    }

    /// For what is not laid over each other.
    fn said(&self, claims: Claims) -> impl Iterator<Item = Level<'a>> {
        let each = claims.into_iter().flatten().map(|claim| &self.edge.claims()[claim]);
        each.map(|claim| (&claim.object.id, claim.spec))
    }

    fn merged(&self, claims: Claims) -> Rc<EdgePolicy> {
        let mut merged = self.merged.borrow_mut();
        let levels = || claims.into_iter().flatten().map(|claim| self.edge.spec(claim));
        Rc::clone(merged.entry(claims).or_insert_with(|| Rc::new(self::merged(levels()))))
    }

    /// Where the Service announces TLS and no policy says whom to trust: the system's authorities, for the name that the
    /// Service has in its cluster.
    fn tls(&self, reached: &Reached) -> Result<Option<BackendTls>, &Problem> {
        if let Some(found) = self.tls_policy(reached) {
            return found.map(|tls| Some(tls.clone()));
        }
        Ok(reached.announces_tls.then(|| BackendTls {
            hostname: reached.tls_name(),
            names: Vec::new(),
            uris: Vec::new(),
            trust: Trust::System,
            client_certificate: None,
        }))
    }

    pub fn tls_policy(&self, reached: &Reached) -> Option<Result<&BackendTls, &Problem>> {
        let port = &reached.port;
        self.tls.of_port(&port.namespace, &port.name, reached.spec.name.as_deref())
    }

    /// Equal policies are one node, and that of the previous snapshot where it has one.
    fn node(&self, policy: BackendPolicy) -> Node<BackendPolicy> {
        if let Some(node) = self.nodes.borrow().get(&policy) {
            return node.clone();
        }
        let node = self.earlier.policy(policy.clone());
        self.nodes.borrow_mut().insert(policy, node.clone());
        node
    }

    pub fn statuses(&self, uses: &Uses) -> Vec<ObjectStatus> {
        let mut ancestors: BTreeMap<&ObjectId, Vec<_>> = BTreeMap::new();
        for claim in self.edge.claims() {
            let accepted = match &claim.refused {
                Some(problem) => condition("Accepted", false, problem.reason, &problem.message),
                None => condition("Accepted", true, "Accepted", ""),
            };
            let ancestor =
                (claim.target.id(), claim.target.section.map(Text::from), vec![accepted]);
            ancestors.entry(&claim.object.id).or_default().push(ancestor);
        }
        let edge = ancestors.into_iter().map(|(id, each)| merge::status(id, each.into_iter()));
        edge.chain(self.tls.statuses(uses)).collect()
    }
}

/// Objects that policies say something by: what a route's draft depends on besides its Services and ReferenceGrants.
pub(crate) fn world(inputs: &Inputs) -> impl Iterator<Item = &Arc<Object>> {
    let authorities = inputs.backend_tls_policies().flat_map(move |(object, policy)| {
        let namespace = &object.id.namespace;
        policy.validation.authorities.iter().filter_map(move |reference| match &*reference.kind {
            "ConfigMap" => inputs.config_map(namespace, &reference.name).map(|(object, _)| object),
            "Secret" => inputs.secret(namespace, &reference.name).map(|(object, _)| object),
            _ => None,
        })
    });
    let edge = inputs.edge_policies().map(|(object, _)| object);
    let lists = inputs.edge_policies().flat_map(move |(object, policy)| {
        let of = |name| inputs.config_map(&object.id.namespace, name).map(|(map, _)| map);
        entry_settings::config_maps(policy).filter_map(of)
    });
    let tls = inputs.backend_tls_policies().map(|(object, _)| object);
    edge.chain(lists).chain(tls).chain(authorities).chain(backend_client::world(inputs))
}

fn target<'t>(kind: Kind, namespace: &'t str, name: &'t str) -> Target<'t> {
    Target { kind, namespace, name, section: None }
}

type ListenerKey<'a> = (&'a str, &'a str, Option<&'a str>);
type Layers<'a> = (Vec<LayerPlan>, HashMap<ListenerKey<'a>, Layer>);

/// In an order that policies and Gateways alone decide: drafts of routes are kept by these numbers.
fn layers<'a>(edge: &Attached<'a, EdgePolicy>, clients: &BackendClients<'a>) -> Layers<'a> {
    let of_gateways = edge.targets().filter(|(target, _)| target.kind == Kind::GATEWAY);
    let mut sorted: BTreeMap<ListenerKey, Option<usize>> = of_gateways
        .map(|(target, claim)| ((target.namespace, target.name, target.section), Some(claim)))
        .collect();
    for (namespace, name) in clients.gateways() {
        sorted.entry((namespace, name, None)).or_default();
    }
    let mut layers = vec![LayerPlan::default()];
    let mut by_listener = HashMap::default();
    for (key, claim) in &sorted {
        by_listener.insert(*key, layers.len() as Layer);
        let claims = match key.2 {
            Some(_) => [*claim, sorted.get(&(key.0, key.1, None)).copied().flatten()],
            None => [None, *claim],
        };
        let client_certificate = clients.secret(key.0, key.1).cloned();
        layers.push(LayerPlan { claims, client_certificate });
    }
    (layers, by_listener)
}

fn fault_of_target(target: &Target, inputs: &Inputs) -> Option<Problem> {
    let id = target.id();
    if inputs.object(&id).is_none() {
        let near = inputs.of(target.kind).filter(|object| object.id.namespace == id.namespace);
        return Some(merge::absent(target, near.map(|object| &*object.id.name)));
    }
    let section = target.section.filter(|_| target.kind == Kind::GATEWAY)?;
    let (_, gateway) = inputs.gateway(&id.namespace, &id.name)?;
    let names = || gateway.listeners.iter().map(|listener| &*listener.name);
    let is_there = names().any(|name| name == section);
    (!is_there).then(|| merge::absent_section(target, section, "listener", names()))
}
