//! Hedging, where the route asks for it: when no byte of a response has come after a while, the request is sent to another
//! endpoint too. The first that answers is listened to, the other connection is closed. The plain path is not touched:
//! what is here is boxed, and only for idempotent requests without a body over HTTP/1.1.

use super::{Ended, Failed, Load, Run, Tried};
use crate::access::Trace;
use crate::additions::{Additions, ResponseEdits};
use crate::buffers::{Buffer, Buffers};
use crate::client::Client;
use crate::exchange::{Scratch, Site};
use crate::pump::{Pump, Terms};
use crate::transport::{UpstreamIo, poll_fill, poll_write_all};
use crate::upstream::Upstream;
use h1::Framing;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use traffic::Outcome;

/// A request that was sent on a connection, and the first bytes that came back.
struct Runner<'a> {
    io: UpstreamIo,
    load: Load<'a>,
    sent: usize,
    input: Option<Buffer>,
    was_reused: bool,
}

impl Runner<'_> {
    /// Ready when the connection has answered, or ended.
    fn poll(&mut self, request: &[u8], buffers: &Buffers, cx: &mut Context<'_>) -> Poll<bool> {
        if ready!(poll_write_all(&mut self.io, request, &mut self.sent, cx)).is_err()
            || ready!(Pin::new(&mut self.io).poll_flush(cx)).is_err()
        {
            return Poll::Ready(false);
        }
        match ready!(poll_fill(&mut self.io, &mut self.input, buffers, cx)) {
            Ok(1..) => Poll::Ready(true),
            Ok(0) | Err(_) => Poll::Ready(false),
        }
    }
}

impl<'a> Run<'a> {
    /// After how long the attempt is to get a rival; none where it is to have none.
    pub(super) fn hedge_after(&self, upstream: &Upstream, tried: &Tried) -> Option<Duration> {
        let after = self.route.rule.retry.as_deref()?.hedge_after?;
        let has_body = !matches!(self.terms.framing, Framing::None | Framing::Length(0));
        let is_plain = matches!(upstream, Upstream::Http1(_)) && !self.terms.asks_upgrade;
        let attempt = self.facts(traffic::Failure::TimedOut, has_body, false, tried);
        let is_free = is_plain && self.route.visit.is_none();
        (is_free && traffic::hedges(&attempt)).then_some(after)
    }

    /// An attempt that may get a rival. As [`Run::attempt`] once it has a connection.
    pub(super) async fn hedged<C: Client>(
        &self,
        (io, load, was_reused): (UpstreamIo, Load<'a>, bool),
        (after, tried): (Duration, &mut Tried),
        client: &mut C,
        (scratch, additions): (&mut Scratch, &Additions),
        trace: &mut Trace,
    ) -> Result<Ended, Failed> {
        let Site { worker, deadline, .. } = self.received.site;
        let first = Runner { io, load, sent: 0, input: None, was_reused };
        let runner = self.race(first, (after, tried), &scratch.upload, trace).await;
        let Runner { mut io, mut load, input, was_reused, .. } = runner;
        let peer = self.peer(load.endpoint);
        trace.endpoint = Some(peer.address);
        let edits = self.route.changes.response_edits.as_ref();
        let terms = Terms { response_edits: ResponseEdits::of(edits, additions), ..self.terms };
        let request = (&mut scratch.upload, &mut scratch.response);
        let mut pump = Pump::new(client, &mut io, (worker, deadline), terms, trace, request);
        pump.is_answered(input);
        let result = poll_fn(|cx| pump.poll(cx)).await;
        let aftermath = pump.aftermath();
        let upstream = Upstream::Http1(io);
        self.conclude((result, aftermath), (upstream, was_reused), &mut load, client, trace)
    }

    /// The one that answers first; the other is dropped, and its connection closed.
    async fn race(
        &self,
        mut first: Runner<'a>,
        (after, tried): (Duration, &mut Tried),
        request: &[u8],
        trace: &mut Trace,
    ) -> Runner<'a> {
        let Site { worker, deadline, .. } = self.received.site;
        let buffers = &worker.buffers;
        let mut pause = pin!(worker.timers.sleep(after));
        let is_alone = poll_fn(|cx| {
            let is_over =
                first.poll(request, buffers, cx).is_ready() || deadline.poll(cx).is_ready();
            if is_over { Poll::Ready(true) } else { pause.as_mut().poll(cx).map(|()| false) }
        });
        if is_alone.await || !self.is_within_budget() {
            return first;
        }
        let Some(at) = self.pick(tried) else { return first };
        tried.note(at);
        trace.attempts = tried.attempts;
        worker.counters().retries.add(1);
        let mut connecting = Box::pin(self.rival(at));
        let mut second = None;
        let (mut first_ended, mut second_ended) = (false, false);
        let second_wins = poll_fn(|cx| {
            if !first_ended && let Poll::Ready(answered) = first.poll(request, buffers, cx) {
                if answered {
                    return Poll::Ready(false);
                }
                first_ended = true;
            }
            if second.is_none()
                && !second_ended
                && let Poll::Ready(made) = connecting.as_mut().poll(cx)
            {
                second_ended = made.is_none();
                second = made;
            }
            if !second_ended
                && let Some(runner) = &mut second
                && let Poll::Ready(answered) = runner.poll(request, buffers, cx)
            {
                if answered {
                    return Poll::Ready(true);
                }
                second_ended = true;
            }
            let is_over = first_ended && second_ended || deadline.poll(cx).is_ready();
            if is_over { Poll::Ready(false) } else { Poll::Pending }
        });
        let second_wins = second_wins.await;
        drop(connecting);
        match second.filter(|_| second_wins) {
            Some(second) => {
                if first_ended {
                    self.observe(&mut first.load, Outcome::Failure);
                }
                second
            }
            None => first,
        }
    }

    /// A connection for the rival; none where there is none to be had.
    async fn rival(&self, at: usize) -> Option<Runner<'a>> {
        let Site { worker, deadline, .. } = self.received.site;
        let backend = self.route.backend;
        let endpoint: &'a traffic::Endpoint = backend.members.get(at)?;
        let mut load = Load::begin(worker, endpoint);
        let peer = self.peer(endpoint);
        let pooled = worker.pool.take(peer);
        let was_reused = pooled.is_some();
        let upstream = match pooled {
            Some(upstream) => upstream,
            None => match worker.pool.connect(peer, endpoint.alternate(), deadline).await {
                Ok(upstream) => upstream,
                Err(fault) => {
                    self.count(fault.verdict().0);
                    if fault.blames_endpoint() {
                        self.observe(&mut load, Outcome::Failure);
                    }
                    return None;
                }
            },
        };
        let Upstream::Http1(io) = upstream else { return None };
        Some(Runner { io, load, sent: 0, input: None, was_reused })
    }
}
