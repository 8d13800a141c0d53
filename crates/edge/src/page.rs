//! The answer to a request that is refused: the page that a policy has for it, or the edge's own. A request of gRPC
//! reads no pages and gets none.
//!
//! A Service is asked for its page as any backend is asked for anything: with balancing, health and a deadline. It is
//! told what happened in the lines that default backends of ingress-nginx read. Its answer gets the status of the
//! refusal; where it gives none, the edge's own is sent.

use crate::access::Trace;
use crate::additions::Additions;
use crate::answers::{Answers, Asked, Content};
use crate::care::Care;
use crate::client::{Body, Client, ClientFault, Response, left_to_client};
use crate::decide::Head;
use crate::exchange::{Received, Scratch, reply};
use crate::forward::{Route, Run};
use crate::grpc::Call;
use crate::ids::RequestId;
use crate::pump::Terms;
use crate::refusal::{Media, Refusal};
use crate::view::{Backend, EdgeView, RuleAction, RulePlan};
use h1::{Framing, Known, Method, encode};
use model::id::ServicePort;
use std::task::{Context, Poll};

/// A request that gets no response of an origin.
#[derive(Clone, Copy)]
pub(crate) struct Turned<'v> {
    pub refusal: Refusal,
    /// What its rule has instead of the edge's own answer.
    pub answers: Option<&'v Answers>,
}

/// From where a request is turned away.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'v> {
    pub view: &'v EdgeView,
    pub rule: Option<&'v RulePlan>,
    /// Number of the backend that it was for, if it got so far.
    pub backend: Option<u32>,
}

pub(crate) async fn refuse<C: Client>(
    received: Received<'_>,
    (client, scratch): (&mut C, &mut Scratch),
    (turned, scene): (Turned<'_>, Scene<'_>),
    (id, additions): (&RequestId, &mut Additions),
    trace: &mut Trace,
) {
    let request = Head { bytes: client.request(), head: received.head, list: &scratch.request };
    let accept = request.find(Known::Accept).unwrap_or_default();
    let media = Media::wanted(request);
    let answers = turned.answers.filter(|_| !matches!(media, Media::Grpc(_)));
    let page = answers.and_then(|answers| answers.page(turned.refusal, accept));
    let content = page.map(|page| &page.content);
    let status = turned.refusal.status();
    if let Some(Content::Service(Some(asked))) = content {
        write_question(&mut scratch.upload, request, (status, &asked.path), scene, id);
    }
    reply(received, id, additions).note(client, turned.refusal, trace);
    match content {
        Some(Content::Body(template)) => {
            let reply = reply(received, id, additions);
            return reply.page(client, turned.refusal, template, trace).await;
        }
        Some(Content::Service(Some(asked))) => {
            // Boxed: few requests need the room.
            let asking =
                ask(received, (client, scratch), (asked, status), (scene.view, id), additions);
            if let Some(page) = Box::pin(asking).await {
                trace.status = status;
                trace.bytes_out = page.bytes_out;
                return;
            }
        }
        Some(Content::Service(None)) | None => {}
    }
    reply(received, id, additions).plain(client, turned.refusal, media, trace).await;
}

/// Callers of gRPC read statuses and trailers.
pub(crate) fn takes_pages(request: Head<'_>) -> bool {
    Call::of(request) == Call::No
}

/// None when there is no page, and the client still has no answer.
async fn ask<C: Client>(
    received: Received<'_>,
    (client, scratch): (&mut C, &mut Scratch),
    (asked, status): (&Asked, u16),
    (view, id): (&EdgeView, &RequestId),
    additions: &mut Additions,
) -> Option<Trace> {
    let backend = backend_of(asked, view)?;
    let rule = &asked.rule;
    let route = Route {
        rule,
        changes: &rule.changes,
        backend,
        held: None,
        visit: None,
        limit: None,
        is_clients_limit: false,
        instead: None,
    };
    let care = Care::for_page(status);
    let terms = Terms {
        method: method(received),
        framing: Framing::None,
        call: Call::No,
        asks_upgrade: false,
        needs_upgrade: false,
        response_edits: None,
        again_on: None,
        care: Some(&care),
        is_clients_time: false,
        id,
    };
    let mut trace = Trace::new(std::time::Instant::now());
    let run = Run::new(received, view, route, terms);
    let mut paged = Paged { client, status };
    let asked = run.forward(&mut paged, (scratch, additions), &mut trace).await;
    asked.ok().map(|()| trace)
}

fn backend_of<'v>(asked: &Asked, view: &'v EdgeView) -> Option<Backend<'v>> {
    match &asked.rule.action {
        RuleAction::Forward(backends) => view.backend_of(backends, 0),
        RuleAction::Redirect(_) | RuleAction::Fail { .. } => None,
    }
}

/// A client that asked with HEAD gets the head of the page.
fn method(received: Received<'_>) -> Method {
    match received.head.method {
        Method::Head => Method::Head,
        _ => Method::Get,
    }
}

/// Writes the head of the request for a page.
fn write_question(
    out: &mut Vec<u8>,
    request: Head<'_>,
    (status, path): (u16, &str),
    scene: Scene<'_>,
    id: &RequestId,
) {
    out.clear();
    let method: &[u8] = if request.head.method == Method::Head { b"HEAD" } else { b"GET" };
    encode::request_line(out, method, path.as_bytes());
    encode::header(out, b"host", request.authority());
    let accept = request.find(Known::Accept);
    let mut line = |name: &[u8], value: &[u8]| encode::header(out, name, value);
    if let Some(accept) = accept {
        line(b"accept", accept);
        line(b"x-format", accept);
    }
    line(b"x-code", itoa::Buffer::new().format(status).as_bytes());
    line(b"x-original-uri", request.head.path_and_query(request.bytes));
    if let Some(rule) = scene.rule {
        line(b"x-namespace", rule.id.object.namespace.as_bytes());
        line(b"x-ingress-name", rule.id.object.name.as_bytes());
    }
    if let Some(ServicePort { name, port, .. }) = scene.service() {
        line(b"x-service-name", name.as_bytes());
        line(b"x-service-port", itoa::Buffer::new().format(*port).as_bytes());
    }
    line(b"x-request-id", id.as_bytes());
    encode::end(out);
}

impl<'v> Scene<'v> {
    /// The Service that the request was for: of a rule with several the first, where none was chosen.
    fn service(&self) -> Option<&'v ServicePort> {
        let first = || match &self.rule?.action {
            RuleAction::Forward(backends) => {
                backends.shares().iter().find_map(|share| share.backend)
            }
            RuleAction::Redirect(_) | RuleAction::Fail { .. } => None,
        };
        self.view.port_of(self.backend.or_else(first)?)
    }
}

/// The client while a page is fetched for it: its request is over, and the page has the refusal's status.
struct Paged<'c, C> {
    client: &'c mut C,
    status: u16,
}

impl<C: Client> Client for Paged<'_, C> {
    left_to_client!(
        request,
        poll_send,
        poll_flush,
        poll_finish,
        may_trail,
        close_after,
        watch,
        retract,
        abort
    );

    fn poll_body(&mut self, _: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        Poll::Ready(Ok(Body::End))
    }

    fn body(&self) -> &[u8] {
        &[]
    }

    fn limit_body(&mut self, _: u64) {}

    fn consume(&mut self, _: usize) {}

    fn write_trailers(&self, _: &mut Vec<u8>) -> bool {
        false
    }

    fn want_body(&mut self) {}

    fn interim(&mut self, _: &Response<'_>) {}

    fn head(&mut self, response: &Response<'_>) {
        let Response { framing, fields, edits, id, date, .. } = *response;
        let (status, reason) = (self.status, encode::reason_phrase(self.status).as_bytes());
        self.client.head(&Response { status, reason, framing, fields, edits, id, date });
    }

    /// Never: the request for a page asks for no other protocol.
    fn switch_protocols(&mut self, _: &Response<'_>, _: &[u8]) -> bool {
        false
    }
}
