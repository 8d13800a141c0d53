//! Rules, backends and streams made ready to be served, from the plan and what outlives views. Which of them a view has
//! is settled by its parent.

use super::{
    BackendPlan, Backends, ListenerPlan, Listeners, Numbering, RuleAction, RulePlan, Share,
};
use crate::answers::{Answers, Asked};
use crate::changes::Changes;
use crate::cors::Cors;
use crate::dial::Dials;
use crate::fallback::Fallback;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::sticky::{Sealer, ServiceTag, Sticky};
use crate::streams::{StreamPlan, Streams};
use crate::strict_transport;
use crate::tls::KeyTable;
use model::answers::PageService;
use model::edge::{Action, Protocol, Rule, Target, Timeouts};
use model::front::RulePolicy;
use model::id::{RuleId, ServicePort};
use model::layer4::Transport;
use model::traffic::BackendPolicy;
use model::{Digest, Node, Snapshot, limits};
use routing::{ListenerTable, RuleSlot};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Builder<'r> {
    metrics: &'r Metrics,
    numbers: &'r mut Numbering,
    dials: &'r mut Dials,
    sealer: &'r Arc<Sealer>,
    answers: HashMap<Digest, Arc<Answers>>,
    /// Backends of the listener that is being made.
    used: Vec<Arc<BackendPlan>>,
}

impl Numbering {
    /// Forgets what neither these listeners nor a view that is still held know.
    pub fn sweep(&mut self, listeners: &Listeners, streams: &Streams) {
        let of_listeners = || listeners.values().flat_map(|listener| &*listener.rules);
        let of_streams = || streams.plans().map(|plan| &plan.rule);
        let rules = || of_listeners().map(|rule| &rule.id).chain(of_streams());
        let (count, used) = (rules().count(), OnceCell::new());
        let is_used = |id: &RuleId| {
            let used = used.get_or_init(|| rules().collect::<HashSet<_>>());
            used.contains(id)
        };
        self.rules.keep(count, is_used);
        self.mirrors.keep(count, |(id, _)| is_used(id));
        self.backends.sweep();
    }
}

/// Each once, in order of their numbers.
pub(super) fn by_number<'b>(
    backends: impl Iterator<Item = &'b Arc<BackendPlan>>,
) -> Vec<Arc<BackendPlan>> {
    let mut backends: Vec<_> = backends.cloned().collect();
    backends.sort_unstable_by_key(|backend| backend.number);
    backends.dedup_by_key(|backend| backend.number);
    backends
}

impl<'r> Builder<'r> {
    pub fn new(
        metrics: &'r Metrics,
        numbers: &'r mut Numbering,
        dials: &'r mut Dials,
        sealer: &'r Arc<Sealer>,
    ) -> Builder<'r> {
        let (answers, used) = (HashMap::new(), Vec::new());
        Builder { metrics, numbers, dials, sealer, answers, used }
    }

    pub fn listener(&mut self, table: &ListenerTable) -> ListenerPlan {
        let policy = table.listener().policy.as_ref();
        let client_trust = policy.and_then(|policy| policy.client_trust.as_deref());
        let rules = table.rules().map(|slot| self.rule(&slot, table.listener().protocol)).collect();
        let unmatched = self.answers(table.listener().unmatched.as_ref());
        ListenerPlan {
            rules,
            client_trust: client_trust.map(Digest::of),
            unmatched,
            backends: by_number(std::mem::take(&mut self.used).iter()).into(),
        }
    }

    fn rule(&mut self, slot: &RuleSlot<'_>, protocol: Protocol) -> RulePlan {
        let Rule {
            id, request_headers, response_headers, rewrite, timeouts, retry, action, ..
        } = slot.rule;
        let changes = Changes::new(request_headers, response_headers, rewrite);
        let policy = slot.rule.policy.as_ref().filter(|_| protocol == Protocol::Https);
        let strict = policy.and_then(|policy| policy.strict_transport_security.as_ref());
        let changes = match strict {
            Some(value) => changes.with_response_line(strict_transport::NAME, value),
            None => changes,
        };
        RulePlan {
            id: id.clone(),
            number: self.numbers.rules.of(id.clone()),
            metrics: self.metrics.routes.of(&slot.route.id),
            timeouts: *timeouts,
            retry: retry.clone(),
            policy: slot.rule.policy.clone(),
            action: self.action(action, &changes),
            sticky: self.sticky(slot.rule),
            mirrors: self.mirrors(slot.rule, &changes),
            cors: slot.rule.cors.as_deref().map(|cors| Box::new(Cors::new(cors))),
            answers: self.answers(slot.rule.policy.as_ref()),
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
                let own = Backends::new(shares).with_changes(changes);
                RuleAction::Forward(own.with_fallbacks(self.fallbacks(backends)))
            }
        }
    }

    /// Once for all rules that share a policy.
    fn answers(&mut self, policy: Option<&Node<RulePolicy>>) -> Option<Arc<Answers>> {
        let (node, plan) = policy.and_then(|node| Some((node, node.answers.as_deref()?)))?;
        if let Some(known) = self.answers.get(&node.digest()) {
            let known = Arc::clone(known);
            // This listener, too, keeps them.
            for service in plan.services() {
                self.share(&service.backend);
            }
            return Some(known);
        }
        let answers = Arc::new(Answers::new(plan, |service| self.asked(service)));
        self.answers.insert(node.digest(), Arc::clone(&answers));
        Some(answers)
    }

    /// The rule of a Service that gives pages: in bounded time, and counted by the policy that names it.
    fn asked(&mut self, service: &PageService) -> Option<Box<Asked>> {
        let share = self.share(&service.backend);
        share.backend?;
        let id = RuleId { object: service.policy.clone(), index: 0, name: None };
        let timeout = Duration::from_millis(limits::ERROR_PAGE_TIMEOUT_MS);
        let rule = RulePlan {
            // With one backend there is nothing to take turns at.
            number: 0,
            metrics: self.metrics.routes.of(&service.policy),
            timeouts: Timeouts { request: Some(timeout), backend_request: Some(timeout) },
            policy: None,
            retry: None,
            action: RuleAction::Forward(Backends::new(vec![share])),
            sticky: None,
            mirrors: Box::default(),
            cors: None,
            answers: None,
            changes: Changes::default(),
            id,
        };
        Some(Box::new(Asked { rule, path: service.path.clone() }))
    }

    fn fallbacks(&mut self, backends: &[model::edge::Backend]) -> Vec<Option<Box<Fallback>>> {
        let declared = backends.iter().map(|backend| backend.fallback.as_deref());
        declared.map(|fallback| fallback.map(|fallback| self.fallback(fallback))).collect()
    }

    fn fallback(&mut self, fallback: &model::fallback::Fallback) -> Box<Fallback> {
        let tiers = fallback.tiers.iter();
        let tiers =
            tiers.map(|tier| self.backend(&tier.port, false, tier.policy.as_ref())).collect();
        Box::new(Fallback { tiers, response: fallback.response.clone().map(Box::new) })
    }

    /// Those that have a backend.
    fn mirrors(&mut self, rule: &Rule, changes: &Changes) -> Box<[Mirror]> {
        let of = |(at, mirror): (usize, &model::traffic::Mirror)| {
            let backend = self.share(&mirror.backend).backend?;
            let turns = self.numbers.mirrors.of((rule.id.clone(), at));
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
        self.share_over(false, backend)
    }

    fn share_over(&mut self, is_udp: bool, backend: &model::edge::Backend) -> Share {
        let number = match &backend.target {
            Target::Service(port) => Some(self.backend(port, is_udp, backend.policy.as_ref())),
            Target::Invalid { .. } => None,
        };
        Share { weight: backend.weight, backend: number }
    }

    pub fn streams(&mut self, snapshot: &Snapshot, keys: &KeyTable) -> Streams {
        if snapshot.edge.layer4.is_empty() {
            return Streams::default();
        }
        let tls = (&*snapshot.certificates, keys);
        Streams::build(&snapshot.edge, tls, |attachment, transport| {
            let route = &*attachment.route;
            let is_udp = transport == Transport::Udp;
            let shares = route.backends.iter().map(|backend| self.share_over(is_udp, backend));
            let backends = Backends::new(shares.collect());
            let backends = backends.with_fallbacks(self.fallbacks(&route.backends));
            Arc::new(StreamPlan {
                rule: route.rule.clone(),
                number: self.numbers.rules.of(route.rule.clone()),
                metrics: self.metrics.streams.of(route.id()),
                backends,
                kept: by_number(std::mem::take(&mut self.used).iter()).into(),
            })
        })
    }

    fn backend(
        &mut self,
        port: &ServicePort,
        is_udp: bool,
        policy: Option<&Node<BackendPolicy>>,
    ) -> u32 {
        let key = (port.clone(), is_udp, policy.map(Node::digest));
        let dials = &mut *self.dials;
        let plan = self.numbers.backends.of(key, |number| BackendPlan {
            number,
            port: port.clone(),
            is_udp,
            policy: policy.cloned(),
            dial: dials.of(port, policy.map(|policy| &**policy)),
            shared: traffic::Backend::default(),
        });
        let number = plan.number;
        self.used.push(plan);
        number
    }
}
