//! Answers of the edge's own: refusals and redirects.

use crate::access::Trace;
use crate::additions::{Additions, ResponseEdits};
use crate::answers::Template;
use crate::client::{Client, ClientFault, Fields, Follow, Response};
use crate::deadline::Deadline;
use crate::grpc;
use crate::ids::RequestId;
use crate::refusal::{self, Media, Refusal};
use crate::view::RulePlan;
use crate::worker::Worker;
use h1::Framing;
use model::fallback::StaticResponse;
use model::limits::BODY_STALL_TIMEOUT_MS;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

pub(crate) struct Reply<'a> {
    pub worker: &'a Worker,
    pub deadline: &'a Deadline,
    /// The request was HEAD: the answer has no body.
    pub is_head: bool,
    pub id: &'a RequestId,
    pub additions: &'a Additions,
}

impl Reply<'_> {
    pub async fn refuse<C: Client>(
        &self,
        client: &mut C,
        refusal: Refusal,
        media: Media,
        trace: &mut Trace,
    ) {
        self.note(client, refusal, trace);
        self.plain(client, refusal, media, trace).await;
    }

    /// The edge's own answer to a refusal that was noted.
    pub async fn plain<C: Client>(
        &self,
        client: &mut C,
        refusal: Refusal,
        media: Media,
        trace: &mut Trace,
    ) {
        if let Media::Grpc(content_type) = media {
            let told = (content_type, grpc::status(refusal), refusal.sentence());
            return self.refuse_call(client, None, told, trace).await;
        }
        let status = refusal.status();
        let body = refusal::body(media, status, refusal.sentence(), self.id);
        let own: [(&[u8], &[u8]); 2] =
            [(b"content-type", media.content_type()), (b"cache-control", b"no-store")];
        self.answer(client, (None, status), &own, &body, trace).await;
    }

    /// A page of a policy's instead of the edge's own, for a refusal that was noted.
    pub async fn page<C: Client>(
        &self,
        client: &mut C,
        refusal: Refusal,
        page: &Template,
        trace: &mut Trace,
    ) {
        let status = refusal.status();
        let own: [(&[u8], &[u8]); 2] =
            [(b"content-type", page.content_type.as_bytes()), (b"cache-control", b"no-store")];
        match page.plain() {
            Some(body) => self.answer(client, (None, status), &own, body, trace).await,
            None => {
                let body = page.filled(self.id.as_str(), status);
                self.answer(client, (None, status), &own, &body, trace).await;
            }
        }
    }

    /// Counts it, and ends the connection where no further request could follow.
    pub fn note<C: Client>(&self, client: &mut C, refusal: Refusal, trace: &mut Trace) {
        self.worker.counters().refusal(refusal);
        trace.refusal = Some(refusal.slug());
        if refusal.closes() {
            client.close_after();
        }
    }

    /// A call's client reads its status from a response that is a head alone (gRPC over HTTP/2, Trailers-Only).
    async fn refuse_call<C: Client>(
        &self,
        client: &mut C,
        rule: Option<&RulePlan>,
        (content_type, status, message): (&[u8], u8, &str),
        trace: &mut Trace,
    ) {
        let mut digits = itoa::Buffer::new();
        let own: [(&[u8], &[u8]); 3] = [
            (b"content-type", content_type),
            (b"grpc-status", digits.format(status).as_bytes()),
            (b"grpc-message", message.as_bytes()),
        ];
        self.answer(client, (rule, 200), &own, b"", trace).await;
    }

    pub async fn redirect<C: Client>(
        &self,
        client: &mut C,
        (rule, status, location): (&RulePlan, u16, &[u8]),
        trace: &mut Trace,
    ) {
        self.answer(client, (Some(rule), status), &[(b"location", location)], b"", trace).await;
    }

    /// What the rule declares for when no backend can answer, instead of the edge's own answer to the refusal. Of it the
    /// client of a call gets the status.
    pub async fn declared<C: Client>(
        &self,
        client: &mut C,
        (rule, answer, refusal): (&RulePlan, &StaticResponse, Refusal),
        media: Media,
        trace: &mut Trace,
    ) {
        self.note(client, refusal, trace);
        let StaticResponse { status, page } = answer;
        if let Media::Grpc(content_type) = media {
            let told = (content_type, grpc::status_of_http(*status), refusal.sentence());
            return self.refuse_call(client, Some(rule), told, trace).await;
        }
        let has_body = !matches!(status, 204 | 205 | 304);
        let body = has_body.then(|| Template::new(page).filled(self.id.as_str(), *status));
        let body = body.as_deref().unwrap_or_default();
        let own: [(&[u8], &[u8]); 2] =
            [(b"cache-control", b"no-store"), (b"content-type", page.content_type.as_bytes())];
        let own = if has_body { &own[..] } else { &own[..1] };
        self.answer(client, (Some(rule), *status), own, body, trace).await;
    }

    /// A preflight succeeds with any ok status (Fetch, CORS-preflight fetch); it is the lines of CORS that allow.
    pub async fn preflight<C: Client>(&self, client: &mut C, rule: &RulePlan, trace: &mut Trace) {
        self.answer(client, (Some(rule), 204), &[], b"", trace).await;
    }

    async fn answer<C: Client>(
        &self,
        client: &mut C,
        (rule, status): (Option<&RulePlan>, u16),
        own: &[(&[u8], &[u8])],
        body: &[u8],
        trace: &mut Trace,
    ) {
        let mut length = itoa::Buffer::new();
        let date = self.worker.date.get();
        let mut fields = own.to_vec();
        // That of 304 would be the length of what was not modified (RFC 9110 section 8.6).
        if !matches!(status, 204 | 304) {
            fields.push((b"content-length", length.format(body.len()).as_bytes()));
        }
        let body = if self.is_head { b"" } else { body };
        trace.status = status;
        // The route's own time is over or was never asked for: only a client that reads nothing is to be feared.
        self.deadline.cap_at(trace.started, None);
        self.deadline.stall_after(BODY_STALL_TIMEOUT_MS);
        client.head(&Response {
            status,
            reason: h1::encode::reason_phrase(status).as_bytes(),
            framing: Framing::Length(body.len() as u64),
            fields: Fields::Own(&fields),
            edits: ResponseEdits::of(
                rule.and_then(|rule| rule.changes.response_edits.as_ref()),
                self.additions,
            ),
            id: self.id,
            date: &date,
        });
        let mut sent = 0;
        let sending = poll_fn(|cx| match poll_body(client, body, &mut sent, cx) {
            Poll::Pending => self.deadline.poll(cx).map(|_| Err(ClientFault::Gone)),
            ready => ready,
        });
        if sending.await.is_err() {
            client.abort();
        }
        trace.bytes_out = sent as u64;
    }
}

fn poll_body<C: Client>(
    client: &mut C,
    body: &[u8],
    sent: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(), ClientFault>> {
    while let Some(rest @ [_, ..]) = body.get(*sent..) {
        *sent += ready!(client.poll_send(cx, rest, Follow::End))?;
    }
    client.poll_finish(cx, None)
}
