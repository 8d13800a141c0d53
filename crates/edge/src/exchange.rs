//! One request from its head to the end of its response, for every version of HTTP: decide, find an endpoint, run the
//! attempt, answer instead where there is no response of an origin, account.

use crate::access::{AccessRecord, Trace};
use crate::additions::Additions;
use crate::balance::{self, Picked, pick};
use crate::changes::Changes;
use crate::client::Client;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::decide::{Decided, Head, decide};
use crate::forward::{Call, Route, Run};
use crate::grpc;
use crate::grpc_web::{self, Form, GrpcWeb};
use crate::ids::RequestId;
use crate::mirror::{Draft, Tee};
use crate::pump::Terms;
use crate::refusal::{Cause, Media, Refusal};
use crate::reply::Reply;
use crate::request_head;
use crate::sticky::Visit;
use crate::view::{Backends, EdgeView, RuleAction, RulePlan};
use crate::worker::Worker;
use h1::{HeaderList, Known, Method, RequestHead};
use model::edge::Redirect;
use model::traffic::BackendProtocol;
use routing::RedirectRequest;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Memory that a request needs and the next one uses again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub request: HeaderList,
    pub response: HeaderList,
    host: String,
    normal: Vec<u8>,
    /// What is written to the origin.
    pub upload: Vec<u8>,
    additions: Additions,
    /// Copies for mirrors.
    drafts: Vec<Draft>,
}

/// As the access log calls it.
pub(crate) const HTTP2: &str = "HTTP/2";

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
pub(crate) struct Received<'a> {
    pub site: Site<'a>,
    pub head: &'a RequestHead,
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
            deadline.cap_at(trace.started, route.limit);
            let run = Run::new(received, &view, route, terms);
            let lines = additions.len();
            let drafts = std::mem::take(&mut scratch.drafts);
            let memory = (&mut *scratch, &mut additions);
            let result = match (drafts.is_empty(), run.call()) {
                // Boxed, as what follows: few requests need the room.
                (_, Call::Web(form)) => {
                    let mut web = GrpcWeb::new(client, form);
                    Box::pin(run.forward(&mut web, memory, &mut trace)).await
                }
                (true, _) => run.forward(client, memory, &mut trace).await,
                (false, _) => {
                    let mut tee = Tee::new(client, worker, drafts, run.terms());
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
            let sticky = rule.sticky.as_deref();
            let mut visit =
                sticky.map(|sticky| Box::new(Visit::new(sticky, request, additions.len())));
            let held = visit.as_ref().and_then(|visit| held(visit, view, backends));
            let pick = || pick(&worker.rotation, rule.number, backends, |at| view.backend(at));
            let (picked, held) = held.map_or_else(|| (pick(), None), |(to, at)| (to, Some(at)));
            let cause = match picked {
                Picked::Backend { backend, share } => {
                    upload.clear();
                    let changes = backends.changes(share).unwrap_or(&rule.changes);
                    request_head::write(upload, request, (&decided, changes), connection, id);
                    if request_head::upgrade(request).is_none() {
                        let write = |out: &mut Vec<u8>, changes: &Changes| {
                            request_head::write(out, request, (&decided, changes), connection, id);
                        };
                        let (from, changes) =
                            ((&**worker, connection.ends()), (view, &rule.changes));
                        let copies = rule.mirrors.iter();
                        drafts.extend(copies.filter_map(|m| m.draft(from, changes, write)));
                    }
                    if let Some(visit) = &mut visit {
                        visit.share = share;
                    }
                    let algorithm = &backend.policy.balance.algorithm;
                    let key = balance::key(algorithm, request, decided.path.query, connection);
                    // gRPC is not spoken to others.
                    let call = match backend.dial.protocol {
                        BackendProtocol::Http2 => call(request),
                        BackendProtocol::Http1 => Call::No,
                    };
                    if matches!(call, Call::Web(_)) {
                        grpc_web::translate_head(upload);
                        drafts.clear();
                    }
                    let own_limit = if call == Call::No { None } else { grpc::limit(request) };
                    let limit = shorter(rule.timeouts.request, own_limit);
                    let route = Route { rule, changes, backend, held, visit, key, limit, call };
                    return Step::Forward(route, terms(received, request, id));
                }
                Picked::NoEndpoint => Cause::NoEndpoint,
                Picked::InvalidBackend => Cause::InvalidBackend,
                Picked::NoWeight => Cause::NoWeight,
            };
            Step::Refuse(Some(rule), Refusal::Edge(cause))
        }
    }
}

fn call(request: Head<'_>) -> Call {
    match Form::of(request) {
        Some(form) => Call::Web(form),
        None if grpc::is_request(request) => Call::Grpc,
        None => Call::No,
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Where the session of a request is, if it is anywhere: the backend, and the endpoint's place in it.
fn held<'v>(
    visit: &Visit<'_>,
    view: &'v EdgeView,
    backends: &Backends,
) -> Option<(Picked<'v>, usize)> {
    let position = |share, address| {
        let members = view.backend_of(backends, share)?.members;
        members.iter().position(|member| member.address() == address && member.is_in())
    };
    let (share, at) = visit.wanted(position)?;
    let backend = view.backend_of(backends, share)?;
    Some((Picked::Backend { backend, share }, at))
}

/// Without what changes the response: that is settled with each attempt.
fn terms<'v>(received: Received<'_>, request: Head<'_>, id: &'v RequestId) -> Terms<'v> {
    let asks_upgrade = request_head::upgrade(request).is_some();
    Terms {
        method: request.head.method,
        framing: request.head.framing,
        asks_upgrade,
        needs_upgrade: asks_upgrade && received.site.protocol == HTTP2,
        response_edits: None,
        again_on: None,
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

fn media<C: Client>(received: Received<'_>, client: &C, scratch: &Scratch) -> Media {
    let request = Head { bytes: client.request(), head: received.head, list: &scratch.request };
    match call(request) {
        Call::Grpc => Media::Grpc,
        Call::Web(_) => Media::GrpcWeb,
        Call::No => Media::of(request.find(Known::Accept).unwrap_or_default()),
    }
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
