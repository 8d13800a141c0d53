//! A request on its way to an origin: attempts at the endpoints of a backend, until one gives a response or no other
//! is sound. What is sound, and which endpoint is next, `traffic` decides.

use crate::access::Trace;
use crate::additions::{Additions, ResponseEdits};
use crate::balance;
use crate::caller::Caller;
use crate::changes::Changes;
use crate::client::Client;
use crate::decide::Head;
use crate::exchange::{Received, Scratch, Site};
use crate::fallback;
use crate::metrics::{NotRetried, RouteCounters, UpstreamFailure};
use crate::own::Sent;
use crate::pump::{Aftermath, Fault, Terms};
use crate::refusal::{Cause, Refusal};
use crate::replay::Replay;
use crate::sticky::Visit;
use crate::upstream::{ConnectFault, Peer, Upstream};
use crate::view::{Backend, Backends, EdgeView, RulePlan};
use crate::worker::Worker;
use h1::Method;
use model::edge::Protocol;
use model::fallback::StaticResponse;
use model::traffic::BackendProtocol;
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};
use traffic::{Attempt, Choice, Endpoint, Failure, Outcome, Random, Repeat};

mod hedge;
mod verdict;

use verdict::{blames_endpoint, failure_of, outcome, verdict};

/// Where a forwarded request may go.
pub(crate) struct Route<'v> {
    pub rule: &'v RulePlan,
    pub changes: &'v Changes,
    pub backend: Backend<'v>,
    /// The endpoint that the request's session is at.
    pub held: Option<usize>,
    pub visit: Option<Box<Visit<'v>>>,
    /// Of the whole request: the rule's, or the client's of a call of gRPC where it is shorter.
    pub limit: Option<Duration>,
    pub is_clients_limit: bool,
    /// Where something stands in for the backend: those of the rule, and the place of this one among them.
    pub instead: Option<(&'v Backends, usize)>,
}

pub(crate) struct Run<'a> {
    received: Received<'a>,
    view: &'a EdgeView,
    route: Route<'a>,
    terms: Terms<'a>,
    /// It counts among the retries that are under way.
    retries: Cell<bool>,
    /// The last attempt failed in a way that another backend may mend.
    goes_on: Cell<bool>,
    /// The time for the attempt that is under way is the one that the client gives.
    is_clients_time: Cell<bool>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.leave_retries();
    }
}

/// Endpoints that a request has been to.
#[derive(Default)]
struct Tried {
    members: [u32; TRIED],
    count: usize,
    attempts: u32,
    /// The last one is to be tried again, on a connection of its own: it had closed the one that was kept.
    wants_fresh: bool,
}

/// A pause that is asked for does not grow beyond this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// As many as `traffic` allows attempts.
const TRIED: usize = 16;

/// An attempt that gave no response.
struct Failed {
    failure: Failure,
    refusal: Refusal,
    took_body: bool,
    was_reused: bool,
}

/// A request that has no response, and what its rule declares instead of the edge's own answer.
pub(crate) struct Unanswered<'v> {
    pub refusal: Refusal,
    pub declared: Option<&'v StaticResponse>,
}

/// How an attempt that needs no other one ended.
enum Ended {
    /// The response was passed on.
    Whole,
    /// Something failed that is not to be tried again; the client is told, or gone.
    Refused(Refusal),
    /// Part of a response was passed on; nothing more can be said.
    Cut,
}

impl<'a> Run<'a> {
    pub fn terms(&self) -> &Terms<'a> {
        &self.terms
    }

    pub fn new(
        received: Received<'a>,
        view: &'a EdgeView,
        route: Route<'a>,
        terms: Terms<'a>,
    ) -> Run<'a> {
        let (retries, goes_on, is_clients_time) = Default::default();
        Run { received, view, route, terms, retries, goes_on, is_clients_time }
    }

    /// After a failure that is sound to try again: the same request, at the backend that stands in for this one.
    fn at_next_backend(&self) -> Option<Run<'a>> {
        let place = (&**self.received.site.worker, self.view);
        let instead = self.route.instead.filter(|_| self.goes_on.get())?;
        let backend = fallback::next(place, instead, self.route.backend)?;
        self.leave_retries();
        let Route { rule, changes, limit, is_clients_limit, .. } = self.route;
        let route = Route {
            rule,
            changes,
            backend,
            held: None,
            visit: None,
            limit,
            is_clients_limit,
            instead: self.route.instead,
        };
        Some(Run::new(self.received, self.view, route, self.terms))
    }

    /// The body of the request is worth keeping for another attempt: only with HTTP/2 can an endpoint say that it did not
    /// look at what it was sent.
    pub fn keeps_body(&self) -> bool {
        self.terms.has_body() && self.route.backend.dial().protocol == BackendProtocol::Http2
    }

    fn unanswered(&self, refusal: Refusal) -> Unanswered<'a> {
        Unanswered { refusal, declared: self.declared(refusal) }
    }

    fn declared(&self, refusal: Refusal) -> Option<&'a StaticResponse> {
        let (backends, share) = self.route.instead?;
        let fails = matches!(refusal, Refusal::Edge(_)) && matches!(refusal.status(), 502..=504);
        backends.fallback(share).filter(|_| fails)?.response.as_deref()
    }

    /// At the backend and, where that fails, at those that stand in for it.
    pub async fn forward<C: Client>(
        &self,
        client: &mut C,
        (scratch, additions): (&mut Scratch, &mut Additions),
        trace: &mut Trace,
    ) -> Result<(), Unanswered<'a>> {
        let mut place = None;
        if let Some(limit) = self.route.backend.policy.limits.requests {
            match Place::take(&self.route.backend.shared().requests, limit) {
                Ok(taken) => place = Some(taken),
                Err(refusal) => return Err(self.unanswered(refusal)),
            }
        }
        let mut tried = Tried::default();
        let refusal = loop {
            let key = self.key(client, scratch);
            let Some(at) = self.pick(&tried, key) else { break Refusal::Edge(Cause::NoEndpoint) };
            tried.note(at);
            trace.attempts += 1;
            let endpoint = &*self.route.backend.members[at];
            if let Some(visit) = &self.route.visit {
                let is_secure = self.caller(scratch).scheme() == Protocol::Https;
                visit.keep(endpoint.address(), is_secure, additions);
            }
            let memory = (&mut *scratch, &*additions);
            let failed = match self.attempt(endpoint, &mut tried, client, memory, trace).await {
                Err(failed) => failed,
                Ok(Ended::Whole | Ended::Cut) => return Ok(()),
                Ok(Ended::Refused(refusal)) => break refusal,
            };
            if !self.may_repeat(&failed, &mut tried) {
                break failed.refusal;
            }
            self.received.site.worker.counters().retries.add(1);
            match self.pause(&failed, &tried, client, trace).await {
                Ok(()) => {}
                Err(Ended::Refused(refusal)) => break refusal,
                Err(Ended::Whole | Ended::Cut) => return Ok(()),
            }
        };
        drop(place);
        let Some(next) = self.at_next_backend() else { return Err(self.unanswered(refusal)) };
        if let Some(visit) = &self.route.visit {
            visit.forget(additions);
        }
        let memory = (scratch, additions);
        // Boxed: only where all of a backend's endpoints fail.
        Box::pin(next.forward_kept(client, memory, trace)).await
    }

    /// The same, with the body kept for another attempt where that is worth it.
    pub async fn forward_kept<C: Client>(
        &self,
        client: &mut C,
        memory: (&mut Scratch, &mut Additions),
        trace: &mut Trace,
    ) -> Result<(), Unanswered<'a>> {
        if !self.keeps_body() {
            return self.forward(client, memory, trace).await;
        }
        let mut replay = Replay::new(client, self.received.site.worker);
        self.forward(&mut replay, memory, trace).await
    }

    fn caller(&self, scratch: &Scratch) -> Caller<'a> {
        Caller { connection: self.received.site.connection, told: scratch.told }
    }

    /// What consistent hashing at this backend goes by.
    fn key<C: Client>(&self, client: &C, scratch: &Scratch) -> Option<u64> {
        let (bytes, head, list) = (client.request(), self.received.head, &scratch.request);
        let algorithm = &self.route.backend.policy.balance.algorithm;
        balance::key(algorithm, Head { bytes, head, list }, self.caller(scratch))
    }

    fn pick(&self, tried: &Tried, key: Option<u64>) -> Option<usize> {
        if tried.wants_fresh {
            return tried.last();
        }
        let Route { backend, held, .. } = &self.route;
        if tried.attempts == 0 && held.is_some() {
            return *held;
        }
        let worker = self.received.site.worker;
        let choice = Choice {
            group: backend.number(),
            now_ms: worker.deadlines.now_ms(),
            changes: self.view.live().changes(),
            levels: backend.levels(),
            key,
            tried: tried.members(),
        };
        let mut balancer = worker.balancer.borrow_mut();
        // With every endpoint tried, a retry that the route asks for goes to one of them once more.
        balancer.pick(backend.members, &backend.policy.balance, &choice).or_else(|| {
            balancer.pick(
                backend.members,
                &backend.policy.balance,
                &Choice { tried: &[], ..choice },
            )
        })
    }

    /// One endpoint. An error says that there is no response of it.
    async fn attempt<C: Client>(
        &self,
        endpoint: &'a Endpoint,
        tried: &mut Tried,
        client: &mut C,
        memory: (&mut Scratch, &Additions),
        trace: &mut Trace,
    ) -> Result<Ended, Failed> {
        let worker = self.received.site.worker;
        let mut load = Load::begin(worker, endpoint);
        let peer = self.peer(endpoint);
        trace.endpoint = Some(peer.address);
        self.cap(trace, tried.attempts);
        let began = if trace.attempts == 1 { Duration::ZERO } else { trace.started.elapsed() };
        let fresh = std::mem::take(&mut tried.wants_fresh);
        let pooled = if fresh { None } else { worker.pool.take(peer) };
        let was_reused = pooled.is_some();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => match self.connect(&mut load, trace).await {
                Ok(upstream) => upstream,
                Err(instead) => return instead,
            },
        };
        load.began = began;
        if let Some(after) = self.hedge_after(tried) {
            // Boxed: rare, and two attempts at once.
            let runner = (upstream, load, was_reused);
            return Box::pin(self.hedged(runner, (after, tried), client, memory, trace)).await;
        }
        let pumped = self.pump(&mut upstream, tried, client, memory, trace).await;
        self.conclude(pumped, (upstream, was_reused), &mut load, client, trace)
    }

    /// What comes of an attempt whose connection has done what it could.
    fn conclude<C: Client>(
        &self,
        (result, aftermath): (Result<(), Fault>, Aftermath),
        (upstream, was_reused): (Upstream, bool),
        load: &mut Load<'_>,
        client: &mut C,
        trace: &mut Trace,
    ) -> Result<Ended, Failed> {
        if aftermath.reusable {
            self.received.site.worker.pool.put(self.peer(load.endpoint), upstream);
        }
        let Err(fault) = result else {
            load.first_byte = trace.first_byte.map(|time| time.saturating_sub(load.began));
            let is_error = trace.status >= 500;
            self.observe(load, if is_error { Outcome::ServerError } else { Outcome::Success });
            return Ok(Ended::Whole);
        };
        // A connection that was kept may end at any moment: that says nothing about the endpoint.
        if blames_endpoint(fault) && !(was_reused && fault == Fault::NoResponse) {
            match verdict(fault).0 {
                Some(failure) => self.fail(load, failure),
                None => self.observe(load, outcome(fault)),
            }
            if let (Fault::Timeout(_), None) = (fault, trace.first_byte) {
                // So long at least it would have taken.
                load.first_byte = Some(trace.started.elapsed().saturating_sub(load.began));
            }
        }
        self.judge(fault, aftermath, was_reused, client, trace)
    }

    async fn pump<C: Client>(
        &self,
        upstream: &mut Upstream,
        tried: &Tried,
        client: &mut C,
        (scratch, additions): (&mut Scratch, &Additions),
        trace: &mut Trace,
    ) -> (Result<(), Fault>, Aftermath) {
        let Site { worker, deadline, .. } = self.received.site;
        if client.rewind() {
            trace.bytes_in = 0;
        }
        let started = trace.started;
        let again_on = |status| self.has_time(tried, started) && self.is_again(status, tried);
        let terms = self.terms_of_attempt(&again_on, additions);
        let request = (&mut scratch.upload, &mut scratch.response);
        upstream.attempt(client, (worker, deadline), terms, trace, request).await
    }

    fn terms_of_attempt<'t>(
        &'t self,
        again_on: &'t dyn Fn(u16) -> bool,
        additions: &'t Additions,
    ) -> Terms<'t> {
        let wanted = self.route.rule.retry.as_deref().filter(|retry| !retry.codes.is_empty());
        let edits = self.route.changes.response_edits.as_ref();
        Terms {
            again_on: wanted.map(|_| again_on),
            response_edits: ResponseEdits::of(edits, additions),
            is_clients_time: self.is_clients_time.get(),
            ..self.terms
        }
    }

    fn peer(&self, endpoint: &Endpoint) -> Peer<'a> {
        let Route { backend, .. } = &self.route;
        let ends = self.received.site.connection.ends(&self.received.site.worker.config);
        Peer { address: endpoint.address(), dial: backend.dial(), ends }
    }

    /// A response with this status is not passed on: there will be another attempt. Takes it from the budget.
    fn is_again(&self, status: u16, tried: &Tried) -> bool {
        let attempt = self.facts(Failure::Status(status), false, false, tried);
        let repeat = traffic::repeat(&attempt, self.route.rule.retry.as_deref());
        repeat == Repeat::Budgeted && self.is_within_budget()
    }

    /// What the attempt's fault means for the client.
    fn judge<C: Client>(
        &self,
        fault: Fault,
        aftermath: Aftermath,
        was_reused: bool,
        client: &mut C,
        trace: &mut Trace,
    ) -> Result<Ended, Failed> {
        let (failure, refusal) = verdict(fault);
        if let Some(failure) = failure {
            self.count(failure);
        }
        let is_begun = aftermath.head_sent && !(fault == Fault::Truncated && client.retract());
        if !is_begun {
            trace.bytes_out = 0;
        }
        let Some(refusal) = refusal.filter(|_| !is_begun) else {
            trace.refusal = Some(match fault {
                Fault::Client(_) => "client-gone",
                Fault::Slow(slow) => {
                    let refusal = Refusal::Edge(slow.cause());
                    self.received.site.worker.counters().refusal(refusal);
                    refusal.slug()
                }
                _ => failure.map_or("client-gone", UpstreamFailure::slug),
            });
            if !aftermath.is_told {
                client.abort();
            }
            return Ok(Ended::Cut);
        };
        let is_final = matches!(fault, Fault::Timeout(_)) && self.is_out_of_time(trace);
        match failure_of(fault).filter(|_| !is_final) {
            Some(failure) => {
                Err(Failed { failure, refusal, took_body: aftermath.took_body, was_reused })
            }
            None => Ok(Ended::Refused(refusal)),
        }
    }

    fn may_repeat(&self, failed: &Failed, tried: &mut Tried) -> bool {
        // Decided, and paid for, when the response was read.
        if matches!(failed.failure, Failure::Status(_)) {
            return true;
        }
        let attempt = self.facts(failed.failure, failed.took_body, failed.was_reused, tried);
        tried.wants_fresh = failed.failure == Failure::NoResponse && failed.was_reused;
        match traffic::repeat(&attempt, self.route.rule.retry.as_deref()) {
            Repeat::No => {
                self.note_if_sound(attempt);
                false
            }
            Repeat::Free => true,
            Repeat::Budgeted => self.is_within_budget(),
        }
    }

    /// What is not tried again for want of an endpoint may be at another backend.
    fn note_if_sound(&self, attempt: Attempt) {
        if self.route.instead.is_some() {
            let elsewhere = Attempt { untried: 1, ..attempt };
            let goes_on = match traffic::repeat(&elsewhere, self.route.rule.retry.as_deref()) {
                Repeat::No => false,
                Repeat::Free => true,
                Repeat::Budgeted => self.is_within_budget(),
            };
            self.goes_on.set(goes_on);
        }
    }

    fn facts(&self, failure: Failure, took_body: bool, was_reused: bool, tried: &Tried) -> Attempt {
        Attempt {
            failure,
            is_idempotent: is_idempotent(self.terms.method),
            took_body,
            was_reused,
            attempts: tried.attempts,
            untried: self.route.backend.members.len().saturating_sub(tried.count),
        }
    }

    /// Takes a further attempt from the budget, or counts that there is none.
    fn is_within_budget(&self) -> bool {
        let (shared, policy) = (self.route.backend.shared(), self.route.backend.policy);
        let now_ms = self.received.site.worker.deadlines.now_ms();
        let refused = match self.has_place(policy.limits.retries) {
            false => NotRetried::Limit,
            true if shared.budget.take(&policy.budget, now_ms) => return true,
            true => NotRetried::Budget,
        };
        self.counters().not_retried[refused as usize].add(1);
        false
    }

    /// Below the limit of retries under way, where there is one; a request counts once.
    fn has_place(&self, limit: Option<u32>) -> bool {
        let Some(limit) = limit.filter(|_| !self.retries.get()) else { return true };
        let has_place = self.route.backend.shared().retries.enter(limit);
        self.retries.set(has_place);
        has_place
    }

    fn leave_retries(&self) {
        if self.retries.take() {
            self.route.backend.shared().retries.leave();
        }
    }

    /// Before a further attempt, where the route asks for it: longer each time, and spread. Says how the request ended
    /// where it did: its client left, or its time is over.
    async fn pause<C: Client>(
        &self,
        failed: &Failed,
        tried: &Tried,
        client: &mut C,
        trace: &mut Trace,
    ) -> Result<(), Ended> {
        if failed.failure == Failure::NotConnected {
            return Ok(());
        }
        let Some(least) = self.least_pause(tried) else { return Ok(()) };
        if !self.has_time(tried, trace.started) {
            return Err(Ended::Refused(failed.refusal));
        }
        let Site { worker, deadline, .. } = self.received.site;
        deadline.cap_at(trace.started, self.route.limit);
        deadline.lift();
        let spread = Random::new(u64::from(trace.started.elapsed().subsec_nanos())).share();
        // Boxed: rare, and its state would lie in every connection's task.
        let mut sleep = Box::pin(worker.timers.sleep(least.mul_f64(1.0 + spread)));
        let paused = poll_fn(|cx| {
            if let Err(fault) = client.watch(cx) {
                return Poll::Ready(Err(Fault::Client(fault)));
            }
            match sleep.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending => deadline.poll(cx).map(|passed| Err(Fault::Timeout(passed))),
            }
        });
        match paused.await {
            Ok(()) => Ok(()),
            Err(Fault::Client(_)) => {
                trace.refusal = Some("client-gone");
                client.abort();
                Err(Ended::Cut)
            }
            Err(_) => Err(Ended::Refused(failed.refusal)),
        }
    }

    fn least_pause(&self, tried: &Tried) -> Option<Duration> {
        let wanted = self.route.rule.retry.as_deref()?.backoff?;
        Some(least_pause(wanted, tried.attempts))
    }

    /// The route's time lasts longer than the longest pause before the next attempt.
    fn has_time(&self, tried: &Tried, started: Instant) -> bool {
        let (Some(all), Some(least)) = (self.route.limit, self.least_pause(tried)) else {
            return true;
        };
        all.saturating_sub(started.elapsed()) > least.saturating_mul(2)
    }

    /// The time for one attempt, within the time for the request.
    fn cap(&self, trace: &Trace, attempts: u32) {
        let rule = self.route.rule;
        let per_try = rule.retry.as_deref().and_then(|retry| retry.per_try_timeout);
        self.is_clients_time.set(self.route.is_clients_limit);
        let Some(limit) = per_try.or(rule.timeouts.backend_request) else {
            if attempts > 1 {
                self.received.site.deadline.cap_at(trace.started, self.route.limit);
            }
            return;
        };
        let limit = trace.elapsed(Instant::now()) + limit;
        let limit = self.route.limit.map_or(limit, |request| request.min(limit));
        let is_whole = self.route.limit == Some(limit);
        self.is_clients_time.set(self.route.is_clients_limit && is_whole);
        self.received.site.deadline.cap_at(trace.started, Some(limit));
    }

    fn is_out_of_time(&self, trace: &Trace) -> bool {
        self.route.limit.is_some_and(|all| trace.started.elapsed() >= all)
    }

    /// A connection, or what comes of the attempt without one.
    async fn connect(
        &self,
        load: &mut Load<'_>,
        trace: &mut Trace,
    ) -> Result<Upstream, Result<Ended, Failed>> {
        let (shared, policy) = (self.route.backend.shared(), self.route.backend.policy);
        let _pending = match policy.limits.pending.map(|limit| Place::take(&shared.pending, limit))
        {
            None => None,
            Some(Ok(place)) => Some(place),
            Some(Err(refusal)) => return Err(Ok(Ended::Refused(refusal))),
        };
        let start = Instant::now();
        let Site { worker, deadline, .. } = self.received.site;
        let (peer, alternate) = (self.peer(load.endpoint), load.endpoint.alternate());
        let result = match worker.leads_back(Sent::Requests, (peer.address, alternate)) {
            true => Err(ConnectFault::Loop),
            // Boxed: connecting is rare, and its state would lie in every connection's task.
            false => Box::pin(worker.pool.connect(peer, alternate, deadline)).await,
        };
        trace.connect = Some(start.elapsed());
        let fault = match result {
            Ok(upstream) => return Ok(upstream),
            Err(fault) => fault,
        };
        let (counted, cause) = fault.verdict();
        let refusal = Refusal::Edge(cause);
        if cause == Cause::CircuitOpen {
            return Err(Ok(Ended::Refused(refusal)));
        }
        self.count(counted);
        if cause == Cause::RouteTimeout && self.is_clients_time.get() {
            return Err(Ok(Ended::Refused(refusal)));
        }
        if fault.blames_endpoint() {
            self.fail(load, counted);
        }
        if cause == Cause::RouteTimeout && self.is_out_of_time(trace) {
            return Err(Ok(Ended::Refused(refusal)));
        }
        let failure = Failure::NotConnected;
        Err(Err(Failed { failure, refusal, took_body: false, was_reused: false }))
    }

    fn fail(&self, load: &mut Load<'_>, failure: UpstreamFailure) {
        let now_ms = self.received.site.worker.deadlines.now_ms();
        load.endpoint.failed(failure as u8, now_ms);
        self.observe(load, Outcome::Failure);
    }

    fn observe(&self, load: &mut Load<'_>, outcome: Outcome) {
        load.outcome = Some(outcome);
        let now_ms = self.received.site.worker.deadlines.now_ms();
        self.route.backend.observe(load.endpoint, outcome, (self.view.live(), now_ms));
    }

    fn counters(&self) -> &RouteCounters {
        self.route.rule.metrics.of(self.received.site.worker.index)
    }

    fn count(&self, failure: UpstreamFailure) {
        self.counters().failures[failure as usize].add(1);
    }
}

impl Tried {
    fn note(&mut self, at: usize) {
        self.attempts += 1;
        if !self.members().contains(&(at as u32)) && self.count < TRIED {
            self.members[self.count] = at as u32;
            self.count += 1;
        }
    }

    fn members(&self) -> &[u32] {
        &self.members[..self.count]
    }

    fn last(&self) -> Option<usize> {
        self.members().last().map(|at| *at as usize)
    }
}

/// One request more at an endpoint, for as long as this is held.
struct Load<'a> {
    worker: &'a Worker,
    endpoint: &'a Endpoint,
    /// What the attempt says about the endpoint; nothing when the client was at fault.
    outcome: Option<Outcome>,
    /// Since the request's start.
    began: Duration,
    first_byte: Option<Duration>,
}

impl<'a> Load<'a> {
    fn begin(worker: &'a Worker, endpoint: &'a Endpoint) -> Load<'a> {
        worker.balancer.borrow_mut().begin(endpoint);
        Load { worker, endpoint, outcome: None, began: Duration::ZERO, first_byte: None }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let latency_us = self.first_byte.map(|time| time.as_micros() as u64);
        let now_ms = self.worker.deadlines.now_ms();
        self.worker.balancer.borrow_mut().end(self.endpoint, self.outcome, latency_us, now_ms);
    }
}

/// A place below a limit that all workers share.
struct Place<'a>(&'a traffic::Gauge);

impl<'a> Place<'a> {
    fn take(gauge: &'a traffic::Gauge, limit: u32) -> Result<Place<'a>, Refusal> {
        match gauge.enter(limit) {
            true => Ok(Place(gauge)),
            false => Err(Refusal::Edge(Cause::CircuitOpen)),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn least_pause(wanted: Duration, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(6);
    wanted.saturating_mul(1 << doublings).min(wanted.max(LONGEST_PAUSE))
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: Method) -> bool {
    use Method::{Delete, Get, Head, Options, Put, Trace};
    matches!(method, Get | Head | Options | Put | Delete | Trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_never_are_shorter_than_is_asked_for() {
        for (wanted_ms, attempts, expected_ms) in [
            (25, 1, 25),
            (25, 2, 50),
            (25, 7, 1_600),
            (25, 16, 1_600),
            (1_000, 6, 30_000),
            (45_000, 1, 45_000),
            (45_000, 5, 45_000),
        ] {
            let pause = least_pause(Duration::from_millis(wanted_ms), attempts);
            assert_eq!(pause, Duration::from_millis(expected_ms), "{wanted_ms} {attempts}");
        }
    }
}
