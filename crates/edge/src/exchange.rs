//! One request from its head to the end of its response, for every version of HTTP: decide, find an endpoint, run the
//! attempt, answer instead where there is no response of an origin, account.

use crate::access::{AccessRecord, Trace};
use crate::additions::{Additions, ResponseEdits};
use crate::balance::{Picked, pick};
use crate::changes::Changes;
use crate::client::{Client, ClientFault};
use crate::connection::Connection;
use crate::deadline::{Deadline, Passed};
use crate::decide::{Decided, Head, decide};
use crate::ids::RequestId;
use crate::metrics::{RouteCounters, UpstreamFailure};
use crate::mirror::{Draft, Tee};
use crate::pump::{Aftermath, Fault, Pump, Terms};
use crate::refusal::{Cause, Media, Refusal};
use crate::reply::Reply;
use crate::request_head;
use crate::sticky::Visit;
use crate::upstream::{ConnectFault, connect};
use crate::view::{Backends, EdgeView, RuleAction, RulePlan};
use crate::worker::Worker;
use h1::{HeaderList, Known, Method, RequestHead};
use model::edge::Redirect;
use routing::RedirectRequest;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Memory that a request needs and the next one uses again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub request: HeaderList,
    response: HeaderList,
    host: String,
    normal: Vec<u8>,
    /// What is written to the origin.
    upload: Vec<u8>,
    additions: Additions,
    /// Copies for mirrors.
    drafts: Vec<Draft>,
}

/// Where a request is served.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub worker: &'a Rc<Worker>,
    pub connection: &'a Connection,
    pub deadline: &'a Deadline,
    pub protocol: &'static str,
}

/// The request as its connection has received it.
#[derive(Clone, Copy)]
struct Received<'a> {
    site: Site<'a>,
    head: &'a RequestHead,
}

/// Where a forwarded request may go.
struct Route<'v> {
    rule: &'v RulePlan,
    changes: &'v Changes,
    endpoints: &'v [SocketAddr],
    first: usize,
    visit: Option<Visit<'v>>,
}

/// Serves one request.
pub(crate) async fn serve<C: Client>(
    site: Site<'_>,
    head: &RequestHead,
    client: &mut C,
    scratch: &mut Scratch,
) {
    let Site { worker, deadline, .. } = site;
    let received = Received { site, head };
    let id = worker.ids.next();
    let mut trace = Trace::new(Instant::now());
    let view = worker.view();
    let mut additions = std::mem::take(&mut scratch.additions);
    let step = plan(received, client, scratch, &view, (&id, &mut additions));
    let rule = step.rule();
    match step {
        Step::Forward(route, terms) => {
            let limits = route.rule.timeouts.request;
            deadline.cap_at(trace.started, limits);
            let run = Run { received, route, terms };
            let lines = additions.len();
            let drafts = std::mem::take(&mut scratch.drafts);
            let memory = (&mut *scratch, &mut additions);
            let result = match drafts.is_empty() {
                true => run.forward(client, memory, &mut trace).await,
                false => {
                    let mut tee = Tee::new(client, worker, drafts, &run.terms);
                    // Boxed: only requests that are mirrored need the room.
                    Box::pin(run.forward(&mut tee, memory, &mut trace)).await
                }
            };
            if let Err(refusal) = result {
                additions.truncate(lines);
                let media = media(received, client, scratch);
                let reply = reply(received, &id, &additions);
                reply.refuse(client, refusal, media, &mut trace).await;
            }
        }
        Step::Preflight(rule) => {
            reply(received, &id, &additions).preflight(client, rule, &mut trace).await;
        }
        Step::Redirect(rule, status, location) => {
            let reply = reply(received, &id, &additions);
            reply.redirect(client, (rule, status, &location), &mut trace).await;
        }
        Step::Refuse(_, refusal) => {
            let media = media(received, client, scratch);
            let reply = reply(received, &id, &additions);
            reply.refuse(client, refusal, media, &mut trace).await;
        }
    }
    deadline.cap_at(trace.started, None);
    account(received, client, scratch, rule, &id, &trace);
    additions.clear();
    scratch.additions = additions;
}

fn reply<'a>(received: Received<'a>, id: &'a RequestId, additions: &'a Additions) -> Reply<'a> {
    let Received { site: Site { worker, deadline, .. }, head } = received;
    Reply { worker, deadline, is_head: head.method == Method::Head, id, additions }
}

/// Answers what is no request; its connection or stream ends with that.
pub(crate) async fn refuse_message<C: Client>(site: Site<'_>, client: &mut C, refusal: Refusal) {
    let Site { worker, connection, deadline, protocol } = site;
    let id = worker.ids.next();
    let mut trace = Trace::new(Instant::now());
    let additions = Additions::default();
    let reply = Reply { worker, deadline, is_head: false, id: &id, additions: &additions };
    reply.refuse(client, refusal, Media::Text, &mut trace).await;
    let total = trace.elapsed(Instant::now());
    worker.metrics.unmatched().of(worker.index).request(&trace, micros(total));
    if let Some(recorder) = worker.recorder.borrow_mut().as_mut() {
        recorder.record(&trace.record(connection, protocol, id.as_str(), total));
    }
}

enum Step<'v> {
    Forward(Route<'v>, Terms<'v>),
    Preflight(&'v RulePlan),
    Redirect(&'v RulePlan, u16, Vec<u8>),
    Refuse(Option<&'v RulePlan>, Refusal),
}

impl<'v> Step<'v> {
    fn rule(&self) -> Option<&'v RulePlan> {
        match self {
            Step::Forward(route, _) => Some(route.rule),
            Step::Preflight(rule) | Step::Redirect(rule, ..) => Some(rule),
            Step::Refuse(rule, _) => *rule,
        }
    }
}

/// Decides, and writes the head for the origin where there is one.
fn plan<'v, C: Client>(
    received: Received<'_>,
    client: &C,
    scratch: &mut Scratch,
    view: &'v EdgeView,
    (id, additions): (&'v RequestId, &mut Additions),
) -> Step<'v> {
    let Received { site: Site { worker, connection, .. }, head } = received;
    let request = Head { bytes: client.request(), head, list: &scratch.request };
    let Scratch { host, normal, upload, drafts, .. } = scratch;
    let mut matching = worker.matching.borrow_mut();
    let decided = match decide(view, connection, request, (host, normal), &mut matching) {
        Ok(decided) => decided,
        Err(refusal) => return Step::Refuse(None, refusal),
    };
    let rule = decided.rule;
    if rule.cors.as_ref().is_some_and(|cors| cors.judge(request, additions)) {
        return Step::Preflight(rule);
    }
    match &rule.action {
        RuleAction::Fail { status } => Step::Refuse(Some(rule), Refusal::Rule { status: *status }),
        RuleAction::Redirect(redirect) => {
            let location = location(received, &decided, redirect, host);
            Step::Redirect(rule, redirect.status, location)
        }
        RuleAction::Forward(backends) => {
            let endpoints = |service| view.endpoints(service);
            let sticky = rule.sticky.as_deref();
            let mut visit = sticky.map(|sticky| Visit::new(sticky, request, additions.len()));
            let held = visit.as_ref().and_then(|visit| held(visit, view, backends));
            let pick = || pick(&worker.rotation, rule.number, backends, endpoints);
            let cause = match held.unwrap_or_else(pick) {
                Picked::Endpoints { endpoints, first, share } => {
                    upload.clear();
                    let changes = backends.changes(share).unwrap_or(&rule.changes);
                    request_head::write(upload, request, (&decided, changes), connection, id);
                    if request_head::upgrade(request).is_none() {
                        let write = |out: &mut Vec<u8>, changes: &Changes| {
                            request_head::write(out, request, (&decided, changes), connection, id);
                        };
                        let changes = (view, &rule.changes);
                        let copies = rule.mirrors.iter();
                        drafts.extend(copies.filter_map(|m| m.draft(worker, changes, write)));
                    }
                    if let Some(visit) = &mut visit {
                        visit.share = share;
                    }
                    let route = Route { rule, changes, endpoints, first, visit };
                    return Step::Forward(route, terms(request, id));
                }
                Picked::NoEndpoint => Cause::NoEndpoint,
                Picked::InvalidBackend => Cause::InvalidBackend,
                Picked::NoWeight => Cause::NoWeight,
            };
            Step::Refuse(Some(rule), Refusal::Edge(cause))
        }
    }
}

/// Where the session of a request is, if it is anywhere.
fn held<'v>(visit: &Visit<'_>, view: &'v EdgeView, backends: &Backends) -> Option<Picked<'v>> {
    let (share, first) = visit.wanted(|share| view.endpoints_of(backends, share))?;
    Some(Picked::Endpoints { endpoints: view.endpoints_of(backends, share), first, share })
}

/// Without what changes the response: that is settled with each attempt.
fn terms<'v>(request: Head<'_>, id: &'v RequestId) -> Terms<'v> {
    Terms {
        method: request.head.method,
        framing: request.head.framing,
        asks_upgrade: request_head::upgrade(request).is_some(),
        response_edits: None,
        id,
    }
}

fn location(
    received: Received<'_>,
    decided: &Decided<'_, '_>,
    redirect: &Redirect,
    host: &str,
) -> Vec<u8> {
    use model::edge::Protocol::{Http, Https};
    let config = &received.site.worker.config;
    let port = received.site.connection.port;
    let request = RedirectRequest {
        scheme: received.site.connection.scheme(),
        host,
        port: config.bound_port(port).unwrap_or(port),
        path: decided.path.path,
        query: decided.path.query,
        matched_prefix_len: decided.matched_prefix_len,
    };
    let public_port = |protocol| match (config.port_offset, protocol) {
        (0, _) => None,
        (_, Http) => config.bound_port(80),
        (_, Https) => config.bound_port(443),
    };
    let mut location = Vec::new();
    routing::redirect_location(redirect, &request, public_port, &mut location);
    location
}

/// A request on its way to an origin.
struct Run<'a> {
    received: Received<'a>,
    route: Route<'a>,
    terms: Terms<'a>,
}

impl Run<'_> {
    /// Attempts, until one gave a response or no other is sound. An error is still to be answered.
    async fn forward<C: Client>(
        &self,
        client: &mut C,
        (scratch, additions): (&mut Scratch, &mut Additions),
        trace: &mut Trace,
    ) -> Result<(), Refusal> {
        let Site { worker, deadline, .. } = self.received.site;
        let (mut tried, mut wants_fresh) = (0, false);
        loop {
            let address = self.address(tried);
            trace.endpoint = Some(address);
            self.cap(trace);
            let pooled = if wants_fresh { None } else { worker.pool.take(address) };
            let is_reused = pooled.is_some();
            let mut io = match pooled {
                Some(io) => io,
                None => match self.connect(address, trace).await {
                    Ok(io) => io,
                    Err(Some(refusal)) => return Err(refusal),
                    Err(None) => {
                        tried += 1;
                        if tried >= self.route.endpoints.len() {
                            return Err(Refusal::Edge(Cause::ConnectFailed));
                        }
                        worker.counters().retries.add(1);
                        continue;
                    }
                },
            };
            if let Some(visit) = &self.route.visit {
                let is_secure = self.received.site.connection.tls.is_some();
                visit.keep(address, is_secure, additions);
            }
            let edits = self.route.changes.response_edits.as_ref();
            let response_edits = ResponseEdits::of(edits, additions);
            let terms = Terms { response_edits, ..self.terms };
            let request = (&mut scratch.upload, &mut scratch.response);
            let mut pump = Pump::new(client, &mut io, (worker, deadline), terms, trace, request);
            let result = poll_fn(|cx| pump.poll(cx)).await;
            let aftermath = pump.aftermath();
            let Err(fault) = result else {
                if aftermath.reusable {
                    worker.pool.put(address, io);
                }
                return Ok(());
            };
            if is_reused && self.may_repeat(fault, aftermath) {
                // The origin closed a connection that it had kept: most likely it never saw the request.
                worker.counters().retries.add(1);
                wants_fresh = true;
                continue;
            }
            return self.failed(client, fault, aftermath, trace);
        }
    }

    fn address(&self, tried: usize) -> SocketAddr {
        let endpoints = self.route.endpoints;
        endpoints[(self.route.first + tried) % endpoints.len()]
    }

    /// The route's time for one attempt, within its time for the request.
    fn cap(&self, trace: &Trace) {
        let timeouts = self.route.rule.timeouts;
        if let Some(limit) = timeouts.backend_request {
            let elapsed = trace.elapsed(Instant::now());
            let limit = elapsed + limit;
            let limit = timeouts.request.map_or(limit, |request| request.min(limit));
            self.received.site.deadline.cap_at(trace.started, Some(limit));
        }
    }

    fn counters(&self) -> &RouteCounters {
        self.route.rule.metrics.of(self.received.site.worker.index)
    }

    fn count(&self, failure: UpstreamFailure) {
        self.counters().failures[failure as usize].add(1);
    }

    /// Errors without a refusal leave another endpoint to be tried: nothing was sent.
    async fn connect(
        &self,
        address: SocketAddr,
        trace: &mut Trace,
    ) -> Result<TcpStream, Option<Refusal>> {
        let start = Instant::now();
        // Boxed: connecting is rare, and its state would lie in every connection's task.
        let result = Box::pin(connect(address, self.received.site.deadline)).await;
        trace.connect = Some(start.elapsed());
        result.map_err(|fault| match fault {
            ConnectFault::Refused => {
                self.count(UpstreamFailure::Connect);
                None
            }
            ConnectFault::TimedOut => {
                self.count(UpstreamFailure::ConnectTimeout);
                None
            }
            ConnectFault::Passed => {
                self.count(UpstreamFailure::Timeout);
                Some(Refusal::Edge(Cause::RouteTimeout))
            }
        })
    }

    /// Idempotent requests only (RFC 9110 section 9.2.2), and only those whose body was not touched.
    fn may_repeat(&self, fault: Fault, aftermath: Aftermath) -> bool {
        use Method::{Delete, Get, Head, Options, Put, Trace};
        fault == Fault::NoResponse
            && !aftermath.took_body
            && matches!(self.terms.method, Get | Head | Options | Put | Delete | Trace)
    }

    fn failed<C: Client>(
        &self,
        client: &mut C,
        fault: Fault,
        aftermath: Aftermath,
        trace: &mut Trace,
    ) -> Result<(), Refusal> {
        let (failure, refusal) = judge(fault);
        if let Some(failure) = failure {
            self.count(failure);
        }
        match refusal {
            Some(refusal) if !aftermath.head_sent => Err(refusal),
            _ => {
                trace.refusal = Some(match fault {
                    Fault::Client(_) => "client-gone",
                    _ => failure.map_or("client-gone", UpstreamFailure::slug),
                });
                client.abort();
                Ok(())
            }
        }
    }
}

/// Whose fault it is, and what to answer while that is possible.
fn judge(fault: Fault) -> (Option<UpstreamFailure>, Option<Refusal>) {
    let (failure, cause) = match fault {
        Fault::NoResponse => (UpstreamFailure::NoResponse, Cause::BadResponse),
        Fault::Malformed => (UpstreamFailure::Malformed, Cause::BadResponse),
        Fault::Truncated => (UpstreamFailure::Truncated, Cause::BadResponse),
        Fault::Timeout(Passed::Cap) => (UpstreamFailure::Timeout, Cause::RouteTimeout),
        Fault::Timeout(Passed::Stall) => (UpstreamFailure::Timeout, Cause::BackendTimeout),
        Fault::ClientTimeout => return (None, Some(Refusal::Edge(Cause::RequestTimeout))),
        Fault::Client(ClientFault::Gone) => return (None, None),
        Fault::Client(ClientFault::TooLarge) => {
            return (None, Some(Refusal::Edge(Cause::BodyTooLarge)));
        }
        Fault::Client(ClientFault::Message(reason)) => {
            return (None, Some(Refusal::Message(reason)));
        }
    };
    (Some(failure), Some(Refusal::Edge(cause)))
}

fn media<C: Client>(received: Received<'_>, client: &C, scratch: &Scratch) -> Media {
    let request = Head { bytes: client.request(), head: received.head, list: &scratch.request };
    Media::of(request.find(Known::Accept).unwrap_or_default())
}

/// Counters and, where it is on, the access log.
fn account<C: Client>(
    received: Received<'_>,
    client: &C,
    scratch: &mut Scratch,
    rule: Option<&RulePlan>,
    id: &RequestId,
    trace: &Trace,
) {
    let Received { site: Site { worker, connection, protocol, .. }, head } = received;
    let total = trace.elapsed(Instant::now());
    let metrics = rule.map_or(worker.metrics.unmatched(), |rule| &rule.metrics);
    metrics.of(worker.index).request(trace, micros(total));
    let mut recorder = worker.recorder.borrow_mut();
    let Some(recorder) = recorder.as_mut() else { return };
    let bytes = client.request();
    let path = h1::target::normalize(head.path_and_query(bytes), &mut scratch.normal);
    recorder.record(&AccessRecord {
        method: head.method_span.of(bytes),
        host: &scratch.host,
        path: path.path,
        rule: rule.map(|rule| &rule.id),
        ..trace.record(connection, protocol, id.as_str(), total)
    });
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
