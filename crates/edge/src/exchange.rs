//! One request from its head to the end of its response, for every version of HTTP: decide, find an endpoint, run the
//! attempt, answer instead where there is no response of an origin, account.

use crate::access::{AccessRecord, Trace};
use crate::additions::Additions;
use crate::answers::Answers;
use crate::balance::{Picked, pick};
use crate::caller::{self, Caller, Told};
use crate::care::Care;
use crate::changes::Changes;
use crate::client::Client;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::decide::{Decided, Head, decide};
use crate::fallback::{self, Way};
use crate::forward::{Route, Run, Unanswered};
use crate::grpc::{self, Call};
use crate::ids::RequestId;
use crate::mirror::{Draft, Tee};
use crate::page::{self, Scene, Turned};
use crate::pump::Terms;
use crate::refusal::{Cause, Media, Refusal};
use crate::reply::Reply;
use crate::request_head;
use crate::sticky::Visit;
use crate::strict_transport;
use crate::view::{Backends, EdgeView, RuleAction, RulePlan};
use crate::worker::Worker;
use h1::{Framing, HeaderList, Method, RequestHead};
use model::edge::Redirect;
use model::fallback::StaticResponse;
use model::limits::REQUEST_BODY_BYTES;
use model::traffic::BackendProtocol;
use routing::RedirectRequest;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Memory that a request needs and the next one uses again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub request: HeaderList,
    pub response: HeaderList,
    /// What a proxy says of the client, from the moment that the request's listener is known.
    pub told: Told,
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
    let Site { worker, connection, deadline, .. } = site;
    let received = Received { site, head };
    let id = worker.ids.next();
    let mut trace = Trace::new(Instant::now());
    let view = worker.view();
    let mut additions = std::mem::take(&mut scratch.additions);
    let step = plan(received, client, scratch, &view, (&id, &mut additions));
    let rule = step.rule();
    let answers = rule.and_then(|rule| rule.answers.as_deref());
    if let Some(bytes) = answers.and_then(|answers| answers.limits.body_bytes) {
        client.limit_body(bytes);
    }
    match step {
        Step::Forward(route, terms) => {
            let memory = (&mut *scratch, &mut additions);
            forward(received, (&view, &id), (route, terms), client, memory, &mut trace).await;
        }
        Step::Preflight(rule) => {
            reply(received, &id, &additions).preflight(client, rule, &mut trace).await;
        }
        Step::Redirect(rule, status, location) => {
            let reply = reply(received, &id, &additions);
            reply.redirect(client, (rule, status, &location), &mut trace).await;
        }
        Step::Answer(rule, answer) => {
            let refusal = Refusal::Edge(Cause::FallbackResponse);
            let media = media(received, client, scratch);
            let reply = reply(received, &id, &additions);
            reply.declared(client, (rule, answer, refusal), media, &mut trace).await;
        }
        Step::Refuse(_, turned) => {
            strict_transport::add(connection, &view, (rule, &scratch.host), &mut additions);
            let scene = Scene { view: &view, rule, backend: None };
            let (turned, head) = ((turned, scene), (&id, &mut additions));
            page::refuse(received, (client, scratch), turned, head, &mut trace).await;
        }
    }
    deadline.cap_at(trace.started, None);
    account(received, client, scratch, rule, &id, &trace);
    additions.clear();
    scratch.additions = additions;
}

/// A request that goes to an origin, and its answer where no origin gives one.
async fn forward<C: Client>(
    received: Received<'_>,
    (view, id): (&EdgeView, &RequestId),
    (route, terms): (Route<'_>, Terms<'_>),
    client: &mut C,
    (scratch, additions): (&mut Scratch, &mut Additions),
    trace: &mut Trace,
) {
    let Site { worker, connection, deadline, .. } = received.site;
    let (rule, answers) = (route.rule, route.rule.answers.as_deref());
    let scene = Scene { view, rule: Some(rule), backend: Some(route.backend.number()) };
    let care = answers.and_then(|answers| care(answers, received, client, scratch));
    let terms = Terms { care: care.as_deref(), ..terms };
    deadline.cap_at(trace.started, route.limit);
    let run = Run::new(received, view, route, terms);
    let lines = additions.len();
    let drafts = std::mem::take(&mut scratch.drafts);
    let memory = (&mut *scratch, &mut *additions);
    let result = match drafts.is_empty() && !run.keeps_body() {
        true => run.forward(client, memory, trace).await,
        // Boxed: few requests need the room.
        false => Box::pin(forward_kept(&run, (client, worker), drafts, memory, trace)).await,
    };
    let Err(Unanswered { refusal, declared }) = result else { return };
    additions.truncate(lines);
    strict_transport::add(connection, view, (Some(rule), &scratch.host), additions);
    if let Some(care) = care.as_deref() {
        care.add_kept(additions);
    }
    match declared {
        Some(answer) => {
            let media = media(received, client, scratch);
            let reply = reply(received, id, additions);
            reply.declared(client, (rule, answer, refusal), media, trace).await;
        }
        None => {
            let turned = (Turned { refusal, answers }, scene);
            page::refuse(received, (client, scratch), turned, (id, additions), trace).await;
        }
    }
}

/// With the body kept as it passes: for mirrors, for another attempt.
async fn forward_kept<'v, C: Client>(
    run: &Run<'v>,
    (client, worker): (&mut C, &Rc<Worker>),
    drafts: Vec<Draft>,
    memory: (&mut Scratch, &mut Additions),
    trace: &mut Trace,
) -> Result<(), Unanswered<'v>> {
    if drafts.is_empty() {
        return run.forward_kept(client, memory, trace).await;
    }
    let mut tee = Tee::new(client, worker, drafts, run.terms());
    run.forward_kept(&mut tee, memory, trace).await
}

pub(crate) fn reply<'a>(
    received: Received<'a>,
    id: &'a RequestId,
    additions: &'a Additions,
) -> Reply<'a> {
    let Received { site: Site { worker, deadline, .. }, head } = received;
    Reply { worker, deadline, is_head: head.method == Method::Head, id, additions }
}

/// Answers what is no request; its connection or stream ends with that.
pub(crate) async fn refuse_message<C: Client>(site: Site<'_>, client: &mut C, refusal: Refusal) {
    let Site { worker, connection, deadline, protocol } = site;
    let id = worker.ids.next();
    let mut trace = Trace::new(Instant::now());
    let mut additions = Additions::default();
    let name = connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
    if let Some(name) = name {
        strict_transport::add(connection, &worker.view(), (None, name), &mut additions);
    }
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
    Answer(&'v RulePlan, &'v StaticResponse),
    Refuse(Option<&'v RulePlan>, Turned<'v>),
}

impl<'v> Step<'v> {
    fn rule(&self) -> Option<&'v RulePlan> {
        match self {
            Step::Forward(route, _) => Some(route.rule),
            Step::Preflight(rule) | Step::Redirect(rule, ..) | Step::Answer(rule, _) => Some(rule),
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
    let Scratch { host, normal, upload, drafts, told, .. } = scratch;
    let mut matching = worker.matching.borrow_mut();
    let memory = (&mut *host, normal, &mut *told);
    let decided = match decide(view, connection, request, memory, &mut matching) {
        Ok(decided) => decided,
        Err(turned) => {
            let turned = closed(turned.answers, Caller { connection, told: *told }, additions)
                .unwrap_or(turned);
            return Step::Refuse(None, turned);
        }
    };
    let (rule, caller) = (decided.rule, Caller { connection, told: *told });
    let answers = rule.answers.as_deref();
    let turn = |refusal| Step::Refuse(Some(rule), Turned { refusal, answers });
    if rule.policy.as_ref().is_some_and(|policy| caller::is_refused(policy, caller)) {
        return turn(Refusal::Edge(Cause::SourceRefused));
    }
    if let Some(turned) = closed(answers, caller, additions) {
        return Step::Refuse(Some(rule), turned);
    }
    if is_too_long(head, answers) {
        return turn(Refusal::Edge(Cause::BodyTooLarge));
    }
    if rule.cors.as_ref().is_some_and(|cors| cors.judge(request, additions)) {
        return Step::Preflight(rule);
    }
    match &rule.action {
        RuleAction::Fail { status } => turn(Refusal::Rule { status: *status }),
        RuleAction::Redirect(redirect) => {
            let location = location(received, caller, &decided, (redirect, host));
            Step::Redirect(rule, redirect.status, location)
        }
        RuleAction::Forward(backends) => {
            let memory = (upload, drafts, additions.len());
            let place = (received, view, id);
            match route(place, request, (&decided, caller), backends, memory) {
                Ok(step) => step,
                Err(cause) => turn(Refusal::Edge(cause)),
            }
        }
    }
}

/// Where a request is led, with its head for the origin written.
fn route<'v>(
    (received, view, id): (Received<'_>, &'v EdgeView, &'v RequestId),
    request: Head<'_>,
    (decided, caller): (&Decided<'v, '_>, Caller<'_>),
    backends: &'v Backends,
    (upload, drafts, lines): (&mut Vec<u8>, &mut Vec<Draft>, usize),
) -> Result<Step<'v>, Cause> {
    let (Site { worker, connection, .. }, rule) = (received.site, decided.rule);
    let mut visit =
        rule.sticky.as_deref().map(|sticky| Box::new(Visit::new(sticky, request, lines)));
    let pick = || pick(&worker.rotation, rule.number, backends, |at| view.backend(at));
    let way = match visit.as_ref().and_then(|visit| held(visit, view, backends)) {
        Some(held) => held,
        None if backends.have_fallbacks() => fallback::instead((worker, view), backends, pick()),
        None => Way::Picked(pick()),
    };
    let (backend, share, held) = match way {
        Way::Held { backend, share, at } => (backend, share, Some(at)),
        Way::Picked(Picked::Backend { backend, share }) => (backend, share, None),
        Way::StandIn { backend, share } => {
            visit = None;
            (backend, share, None)
        }
        Way::Answer(answer) => return Ok(Step::Answer(rule, answer)),
        Way::Picked(Picked::NoEndpoint { .. }) => return Err(Cause::NoEndpoint),
        Way::Picked(Picked::InvalidBackend) => return Err(Cause::InvalidBackend),
        Way::Picked(Picked::NoWeight) => return Err(Cause::NoWeight),
    };
    upload.clear();
    let changes = backends.changes(share).unwrap_or(&rule.changes);
    request_head::write(upload, request, (decided, changes), caller, id);
    if request_head::upgrade(request).is_none() {
        let write = |out: &mut Vec<u8>, changes: &Changes| {
            request_head::write(out, request, (decided, changes), caller, id);
        };
        let from = (&**worker, connection.ends(&worker.config));
        let copies = rule.mirrors.iter();
        drafts.extend(copies.filter_map(|m| m.draft(from, (view, &rule.changes), write)));
    }
    if let Some(visit) = &mut visit {
        visit.share = share;
    }
    let instead = backends.fallback(share).map(|_| (backends, share));
    // gRPC is not spoken to others. What stands in for a backend may speak anything.
    let speaks_grpc = backend.dial().protocol == BackendProtocol::Http2 || instead.is_some();
    let call = if speaks_grpc { Call::of(request) } else { Call::No };
    if matches!(call, Call::Web(_)) {
        drafts.clear();
    }
    let own_limit = if call == Call::No { None } else { grpc::limit(request) };
    let limit = shorter(rule.timeouts.request, own_limit);
    let is_clients_limit = limit != rule.timeouts.request;
    let route = Route { rule, changes, backend, held, visit, limit, is_clients_limit, instead };
    Ok(Step::Forward(route, terms(received, (request, call), id)))
}

/// Maintenance comes before everything else that a rule says.
fn closed<'v>(
    answers: Option<&'v Answers>,
    caller: Caller<'_>,
    additions: &mut Additions,
) -> Option<Turned<'v>> {
    let (refusal, retry_after) = answers?.turns_away(caller.ip())?;
    if let Some(seconds) = retry_after {
        additions.set(b"retry-after", &[seconds.as_bytes()]);
    }
    Some(Turned { refusal, answers })
}

/// What the attempts of a request are to mind.
fn care<'v, C: Client>(
    answers: &'v Answers,
    received: Received<'_>,
    client: &C,
    scratch: &Scratch,
) -> Option<Box<Care<'v>>> {
    let request = Head { bytes: client.request(), head: received.head, list: &scratch.request };
    Care::of(answers, page::takes_pages(request))
}

/// As the request asks.
fn media<C: Client>(received: Received<'_>, client: &C, scratch: &Scratch) -> Media {
    Media::wanted(Head { bytes: client.request(), head: received.head, list: &scratch.request })
}

/// Of a body whose length is announced.
fn is_too_long(head: &RequestHead, answers: Option<&Answers>) -> bool {
    let limit = answers.and_then(|answers| answers.limits.body_bytes);
    matches!(head.framing, Framing::Length(length) if length > limit.unwrap_or(REQUEST_BODY_BYTES))
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Where the session of a request is, if it is anywhere.
fn held<'v>(visit: &Visit<'_>, view: &'v EdgeView, backends: &Backends) -> Option<Way<'v>> {
    let position = |share, address| {
        let members = view.backend_of(backends, share)?.members;
        members.iter().position(|member| member.address() == address && member.is_in())
    };
    let (share, at) = visit.wanted(position)?;
    let backend = view.backend_of(backends, share)?;
    Some(Way::Held { backend, share, at })
}

/// Without what changes the response: that is settled with each attempt.
fn terms<'v>(
    received: Received<'_>,
    (request, call): (Head<'_>, Call),
    id: &'v RequestId,
) -> Terms<'v> {
    let asks_upgrade = request_head::upgrade(request).is_some();
    Terms {
        method: request.head.method,
        framing: request.head.framing,
        call,
        asks_upgrade,
        needs_upgrade: asks_upgrade && received.site.protocol == HTTP2,
        response_edits: None,
        again_on: None,
        care: None,
        is_clients_time: false,
        id,
    }
}

/// To the host that was routed by. Scheme and port are what the client sees, which a proxy that is believed says.
fn location(
    received: Received<'_>,
    caller: Caller<'_>,
    decided: &Decided<'_, '_>,
    (redirect, host): (&Redirect, &str),
) -> Vec<u8> {
    use model::edge::Protocol::{Http, Https};
    let Site { worker, connection, .. } = received.site;
    let config = &worker.config;
    let own_port = match (caller.scheme(), caller.scheme() == connection.scheme()) {
        (_, true) => config.bound_port(connection.port).unwrap_or(connection.port),
        (Http, false) => 80,
        (Https, false) => 443,
    };
    let request = RedirectRequest {
        scheme: caller.scheme(),
        host,
        port: caller.port().unwrap_or(own_port),
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
        told: scratch.told.client(),
        scheme: Caller { connection, told: scratch.told }.scheme_name(),
        ..trace.record(connection, protocol, id.as_str(), total)
    });
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Http1;
    use tokio::net::TcpStream;

    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Of the task of a request, which is allocated and filled for each: a second `await` of the same large part in one
    /// function makes it larger without a word.
    #[test]
    fn the_task_of_a_request_stays_small() {
        let size = size(serve::<Http1<'_, TcpStream>>);
        assert!(size <= 2_400, "{size}");
    }
}
