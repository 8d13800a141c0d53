//! One request from its head to the end of its response, for every version of HTTP: decide, find an endpoint, run the
//! attempt, answer instead where there is no response of an origin, account.

use crate::access::{AccessRecord, Trace};
use crate::balance::{Picked, pick};
use crate::client::{Client, ClientFault};
use crate::connection::Connection;
use crate::deadline::{Deadline, Passed};
use crate::decide::{Decided, Head, decide};
use crate::dial::Dial;
use crate::ids::RequestId;
use crate::metrics::{RouteCounters, UpstreamFailure};
use crate::pump::{Aftermath, Fault, Terms};
use crate::refusal::{Cause, Media, Refusal};
use crate::reply::Reply;
use crate::request_head;
use crate::upstream::{Peer, Upstream};
use crate::view::{EdgeView, RuleAction, RulePlan};
use crate::worker::Worker;
use h1::{HeaderList, Known, Method, RequestHead};
use model::edge::Redirect;
use routing::RedirectRequest;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Memory that a request needs and the next one uses again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub request: HeaderList,
    response: HeaderList,
    host: String,
    normal: Vec<u8>,
    /// What is written to the origin.
    upload: Vec<u8>,
}

/// Where a request is served.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub worker: &'a Worker,
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
    endpoints: &'v [SocketAddr],
    first: usize,
    dial: &'v Arc<Dial>,
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
    let reply = Reply { worker, deadline, is_head: head.method == Method::Head, id: &id };
    let step = plan(received, client, scratch, &view, &id);
    let rule = step.rule();
    match step {
        Step::Forward(route, terms) => {
            let limits = route.rule.timeouts.request;
            deadline.cap_at(trace.started, limits);
            let run = Run { received, route, terms };
            if let Err(refusal) = run.forward(client, scratch, &mut trace).await {
                let media = media(received, client, scratch);
                reply.refuse(client, refusal, media, &mut trace).await;
            }
        }
        Step::Redirect(rule, status, location) => {
            reply.redirect(client, (rule, status, &location), &mut trace).await;
        }
        Step::Refuse(_, refusal) => {
            let media = media(received, client, scratch);
            reply.refuse(client, refusal, media, &mut trace).await;
        }
    }
    deadline.cap_at(trace.started, None);
    account(received, client, scratch, rule, &id, &trace);
}

/// Answers what is no request; its connection or stream ends with that.
pub(crate) async fn refuse_message<C: Client>(site: Site<'_>, client: &mut C, refusal: Refusal) {
    let Site { worker, connection, deadline, protocol } = site;
    let id = worker.ids.next();
    let mut trace = Trace::new(Instant::now());
    let reply = Reply { worker, deadline, is_head: false, id: &id };
    reply.refuse(client, refusal, Media::Text, &mut trace).await;
    let total = trace.elapsed(Instant::now());
    worker.metrics.unmatched().of(worker.index).request(&trace, micros(total));
    if let Some(recorder) = worker.recorder.borrow_mut().as_mut() {
        recorder.record(&trace.record(connection, protocol, id.as_str(), total));
    }
}

enum Step<'v> {
    Forward(Route<'v>, Terms<'v>),
    Redirect(&'v RulePlan, u16, Vec<u8>),
    Refuse(Option<&'v RulePlan>, Refusal),
}

impl<'v> Step<'v> {
    fn rule(&self) -> Option<&'v RulePlan> {
        match self {
            Step::Forward(route, _) => Some(route.rule),
            Step::Redirect(rule, ..) => Some(rule),
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
    id: &'v RequestId,
) -> Step<'v> {
    let Received { site: Site { worker, connection, .. }, head } = received;
    let request = Head { bytes: client.request(), head, list: &scratch.request };
    let Scratch { host, normal, upload, .. } = scratch;
    let mut matching = worker.matching.borrow_mut();
    let decided = match decide(view, connection, request, (host, normal), &mut matching) {
        Ok(decided) => decided,
        Err(refusal) => return Step::Refuse(None, refusal),
    };
    let rule = decided.rule;
    match &rule.action {
        RuleAction::Fail { status } => Step::Refuse(Some(rule), Refusal::Rule { status: *status }),
        RuleAction::Redirect(redirect) => {
            let location = location(received, &decided, redirect, host);
            Step::Redirect(rule, redirect.status, location)
        }
        RuleAction::Forward(backends) => {
            let endpoints = |service| view.endpoints(service);
            let cause = match pick(&worker.rotation, rule.number, backends, endpoints) {
                Picked::Endpoints { endpoints, first, dial } => {
                    upload.clear();
                    request_head::write(upload, request, &decided, connection, id);
                    let route = Route { rule, endpoints, first, dial };
                    return Step::Forward(route, terms(request, rule, id));
                }
                Picked::NoEndpoint => Cause::NoEndpoint,
                Picked::InvalidBackend => Cause::InvalidBackend,
                Picked::NoWeight => Cause::NoWeight,
            };
            Step::Refuse(Some(rule), Refusal::Edge(cause))
        }
    }
}

fn terms<'v>(request: Head<'_>, rule: &'v RulePlan, id: &'v RequestId) -> Terms<'v> {
    Terms {
        method: request.head.method,
        framing: request.head.framing,
        asks_upgrade: request_head::upgrade(request).is_some(),
        response_edits: rule.response_edits.as_ref(),
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

/// Times that a request is sent again to an endpoint that did not look at it.
const REPEATS: u32 = 3;

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
        scratch: &mut Scratch,
        trace: &mut Trace,
    ) -> Result<(), Refusal> {
        let Site { worker, deadline, .. } = self.received.site;
        let (mut tried, mut repeats, mut wants_fresh) = (0, 0, false);
        loop {
            let peer = self.peer(tried);
            trace.endpoint = Some(peer.address);
            self.cap(trace);
            let pooled = if wants_fresh { None } else { worker.pool.take(peer) };
            let is_reused = pooled.is_some();
            let mut upstream = match pooled {
                Some(upstream) => upstream,
                None => match self.connect(peer, trace).await {
                    Ok(upstream) => upstream,
                    Err(cause) => {
                        tried += 1;
                        if cause == Cause::RouteTimeout || tried >= self.route.endpoints.len() {
                            return Err(Refusal::Edge(cause));
                        }
                        worker.counters().retries.add(1);
                        continue;
                    }
                },
            };
            let request = (&mut scratch.upload, &mut scratch.response);
            let place = (worker, deadline);
            let (result, aftermath) =
                upstream.attempt(client, place, self.terms, trace, request).await;
            let Err(fault) = result else {
                if aftermath.reusable {
                    worker.pool.put(peer, upstream);
                }
                return Ok(());
            };
            // The origin closed a connection that it had kept: most likely it never saw the request.
            let is_unseen = is_reused || fault == Fault::NotProcessed;
            if is_unseen && repeats < REPEATS && self.may_repeat(fault, aftermath) {
                repeats += 1;
                worker.counters().retries.add(1);
                // A stream is refused by an origin that has enough to do: no further connection on top.
                wants_fresh = fault != Fault::NotProcessed;
                continue;
            }
            return self.failed(client, fault, aftermath, trace);
        }
    }

    fn peer(&self, tried: usize) -> Peer<'_> {
        let Route { endpoints, first, dial, .. } = self.route;
        let address = endpoints[(first + tried) % endpoints.len()];
        Peer { address, dial, client: self.received.site.connection }
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

    /// After an error nothing was sent: another endpoint may be tried, but for the route's time.
    async fn connect(&self, peer: Peer<'_>, trace: &mut Trace) -> Result<Upstream, Cause> {
        let start = Instant::now();
        let Site { worker, deadline, .. } = self.received.site;
        // Boxed: connecting is rare, and its state would lie in every connection's task.
        let result = Box::pin(worker.pool.connect(peer, deadline)).await;
        trace.connect = Some(start.elapsed());
        result.map_err(|fault| {
            let (failure, cause) = fault.verdict();
            self.count(failure);
            cause
        })
    }

    /// Idempotent requests only (RFC 9110 section 9.2.2) unless the origin did not look at it, and only those whose body
    /// was not touched.
    fn may_repeat(&self, fault: Fault, aftermath: Aftermath) -> bool {
        use Method::{Delete, Get, Head, Options, Put, Trace};
        let is_idempotent =
            matches!(self.terms.method, Get | Head | Options | Put | Delete | Trace);
        !aftermath.took_body
            && (fault == Fault::NotProcessed || fault == Fault::NoResponse && is_idempotent)
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
        Fault::NotProcessed => (UpstreamFailure::NotProcessed, Cause::BadResponse),
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
