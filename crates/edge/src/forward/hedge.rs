//! Hedging, where the route asks for it: when no byte of a response has come after a while, the request is sent to another
//! endpoint too. The first that answers is listened to, the other connection is closed, or its stream of HTTP/2 reset. The plain path is not touched:
//! what is here is boxed, and only for idempotent requests without a body.

use super::{Ended, Failed, Load, Run, Tried};
use crate::access::Trace;
use crate::additions::Additions;
use crate::buffers::{Buffer, Buffers};
use crate::client::Client;
use crate::deadline::{Deadline, Passed, millis};
use crate::exchange::{Scratch, Site};
use crate::grpc::Call;
use crate::http2_pump;
use crate::http2_request::Stream;
use crate::http2_upstream::Lease;
use crate::metrics::UpstreamFailure;
use crate::pump::{Aftermath, Fault, Pump};
use crate::transport::{UpstreamIo, poll_fill, poll_write_all};
use crate::upstream::Upstream;
use h1::HeaderList;
use model::limits::BODY_STALL_TIMEOUT_MS;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;

/// A request that was sent on a connection, and the first bytes that came back.
struct Runner<'a> {
    on: On,
    load: Load<'a>,
    was_reused: bool,
}

enum On {
    Http1 { io: UpstreamIo, sent: usize, input: Option<Buffer> },
    Http2(Lease, Box<Stream>),
}

impl Runner<'_> {
    /// Ready when the endpoint has answered, or the connection or stream has ended.
    fn poll(&mut self, request: &[u8], buffers: &Buffers, cx: &mut Context<'_>) -> Poll<bool> {
        let (io, sent, input) = match &mut self.on {
            On::Http2(_, stream) => return stream.poll(cx),
            On::Http1 { io, sent, input } => (io, sent, input),
        };
        if ready!(poll_write_all(io, request, sent, cx)).is_err()
            || ready!(Pin::new(&mut *io).poll_flush(cx)).is_err()
        {
            return Poll::Ready(false);
        }
        match ready!(poll_fill(io, input, buffers, cx)) {
            Ok(1..) => Poll::Ready(true),
            Ok(0) | Err(_) => Poll::Ready(false),
        }
    }
}

impl On {
    /// Its end says nothing about the endpoint.
    fn was_refused(&self) -> bool {
        matches!(self, On::Http2(_, stream) if stream.was_refused())
    }

    /// What is left of an attempt that ended so before there was an answer.
    fn given_up(self, fault: Fault) -> Upstream {
        match self {
            On::Http1 { io, .. } => Upstream::Http1(io),
            On::Http2(lease, stream) => {
                if let Fault::Timeout(_) = fault {
                    stream.out_of_time(&lease);
                }
                Upstream::Http2(lease)
            }
        }
    }
}

impl<'a> Run<'a> {
    /// After how long the attempt is to get a rival; none where it is to have none.
    pub(super) fn hedge_after(&self, tried: &Tried) -> Option<Duration> {
        let after = self.route.rule.retry.as_deref()?.hedge_after?;
        let is_plain = !self.terms.asks_upgrade && self.terms.call == Call::No;
        let attempt = self.facts(traffic::Failure::TimedOut, self.terms.has_body(), false, tried);
        let is_free = is_plain && self.route.visit.is_none();
        (is_free && traffic::hedges(&attempt)).then_some(after)
    }

    /// The request sent on its way, as far as that needs no waiting.
    fn start(&self, upstream: Upstream, scratch: &Scratch) -> Result<On, (Fault, Upstream)> {
        match upstream {
            Upstream::Http1(io) => Ok(On::Http1 { io, sent: 0, input: None }),
            Upstream::Http2(lease) => {
                let worker = self.received.site.worker;
                let request = (&*scratch.upload, &mut HeaderList::new());
                match Stream::open(&lease, worker, &self.terms, request) {
                    Ok(stream) => Ok(On::Http2(lease, Box::new(stream))),
                    Err(fault) => Err((fault, Upstream::Http2(lease))),
                }
            }
        }
    }

    /// An attempt that may get a rival. As [`Run::attempt`] once it has a connection.
    pub(super) async fn hedged<C: Client>(
        &self,
        (upstream, mut load, was_reused): (Upstream, Load<'a>, bool),
        (after, tried): (Duration, &mut Tried),
        client: &mut C,
        (scratch, additions): (&mut Scratch, &Additions),
        trace: &mut Trace,
    ) -> Result<Ended, Failed> {
        let Site { worker, deadline, .. } = self.received.site;
        let on = match self.start(upstream, scratch) {
            Ok(on) => on,
            Err((fault, upstream)) => {
                let pumped = (Err(fault), Aftermath::default());
                return self.conclude(pumped, (upstream, was_reused), &mut load, client, trace);
            }
        };
        let first = Runner { on, load, was_reused };
        let (runner, outcome) =
            self.race(first, (after, &mut *tried), (client, &*scratch), trace).await;
        let Runner { on, mut load, was_reused } = runner;
        trace.endpoint = Some(load.endpoint.address());
        let started = trace.started;
        let again_on = |status| self.has_time(tried, started) && self.is_again(status, tried);
        let terms = self.terms_of_attempt(&again_on, additions);
        let place = (&**worker, deadline);
        let (pumped, upstream) = match (outcome, on) {
            (Err(fault), on) => ((Err(fault), Aftermath::default()), on.given_up(fault)),
            (Ok(()), On::Http1 { mut io, sent, input }) => {
                let request = (&mut scratch.upload, &mut scratch.response);
                let mut pump = Pump::new(client, &mut io, place, terms, trace, request);
                pump.go_on(sent, input);
                let result = poll_fn(|cx| pump.poll(cx)).await;
                ((result, pump.aftermath()), Upstream::Http1(io))
            }
            (Ok(()), On::Http2(lease, stream)) => {
                let (way, list) = ((&lease, *stream), &mut scratch.response);
                let pumped = http2_pump::go_on(client, way, place, terms, trace, list).await;
                (pumped, Upstream::Http2(lease))
            }
        };
        self.conclude(pumped, (upstream, was_reused), &mut load, client, trace)
    }

    /// The one that answers first; the other is dropped, and its connection closed. A fault ends the attempt before one
    /// has answered.
    async fn race<C: Client>(
        &self,
        mut first: Runner<'a>,
        (after, tried): (Duration, &mut Tried),
        (client, scratch): (&mut C, &Scratch),
        trace: &mut Trace,
    ) -> (Runner<'a>, Result<(), Fault>) {
        let Site { worker, deadline, .. } = self.received.site;
        let (buffers, request) = (&worker.buffers, &*scratch.upload);
        let mut pause = pin!(worker.timers.sleep(after));
        // The time to answer begins again with the rival.
        deadline.stall_after(BODY_STALL_TIMEOUT_MS.saturating_add(millis(after)));
        let is_alone = poll_fn(|cx| {
            if first.poll(request, buffers, cx).is_ready() {
                return Poll::Ready(Ok(true));
            }
            match pause.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(false)),
                Poll::Pending => self.poll_over(client, cx).map(Err),
            }
        });
        match is_alone.await {
            Err(fault) => return (first, Err(fault)),
            Ok(is_alone) if is_alone || !self.is_within_budget() => return (first, Ok(())),
            Ok(_) => {}
        }
        let Some(at) = self.pick(tried, self.key(client, scratch)) else { return (first, Ok(())) };
        tried.note(at);
        trace.attempts += 1;
        worker.counters().retries.add(1);
        deadline.stall_after(BODY_STALL_TIMEOUT_MS);
        let connect = trace.connect;
        let mut rival = Rival::Connecting(Box::pin(self.rival(at, scratch, trace)));
        let mut first_ended = false;
        let second_wins = poll_fn(|cx| {
            if !first_ended && let Poll::Ready(answered) = first.poll(request, buffers, cx) {
                if answered {
                    return Poll::Ready(Ok(false));
                }
                first_ended = true;
            }
            match rival.poll(request, (buffers, deadline), cx) {
                Poll::Ready(true) => Poll::Ready(Ok(true)),
                Poll::Ready(false) if first_ended => Poll::Ready(Ok(false)),
                Poll::Ready(false) | Poll::Pending => self.poll_over(client, cx).map(Err),
            }
        });
        let outcome = second_wins.await;
        let second = rival.into_runner();
        match (outcome, second) {
            (Ok(true), Some(second)) => {
                if first_ended && !first.on.was_refused() {
                    self.fail(&mut first.load, UpstreamFailure::NoResponse);
                }
                (second, Ok(()))
            }
            (outcome, second) => {
                trace.connect = connect;
                if let (Err(fault @ Fault::Timeout(_)), Some(mut second)) = (outcome, second) {
                    self.fail(&mut second.load, UpstreamFailure::Timeout);
                    second.on.given_up(fault);
                }
                (first, outcome.map(|_| ()))
            }
        }
    }

    /// Ready when nobody waits for an answer any more.
    fn poll_over<C: Client>(&self, client: &mut C, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Err(fault) = client.watch(cx) {
            return Poll::Ready(Fault::Client(fault));
        }
        self.received.site.deadline.poll(cx).map(|passed| match passed {
            Passed::Cap if self.is_clients_time.get() => Fault::Overdue,
            Passed::Cap | Passed::Stall => Fault::Timeout(passed),
        })
    }

    /// A connection for the rival; none where there is none to be had.
    async fn rival(&self, at: usize, scratch: &Scratch, trace: &mut Trace) -> Option<Runner<'a>> {
        let worker = self.received.site.worker;
        let endpoint: &'a traffic::Endpoint = self.route.backend.members.get(at)?;
        let mut load = Load::begin(worker, endpoint);
        load.began = trace.started.elapsed();
        let pooled = worker.pool.take(self.peer(endpoint));
        let was_reused = pooled.is_some();
        let upstream = match pooled {
            Some(upstream) => upstream,
            None => self.connect(&mut load, trace).await.ok()?,
        };
        let on = self.start(upstream, scratch).ok()?;
        Some(Runner { on, load, was_reused })
    }
}

/// The second of two.
enum Rival<'a, F> {
    Connecting(Pin<Box<F>>),
    Running(Runner<'a>),
    /// It has no connection, or none any more.
    Ended,
}

impl<'a, F: Future<Output = Option<Runner<'a>>>> Rival<'a, F> {
    /// As [`Runner::poll`], behind the connecting.
    fn poll(
        &mut self,
        request: &[u8],
        (buffers, deadline): (&Buffers, &Deadline),
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        if let Rival::Connecting(connecting) = self {
            let made = ready!(connecting.as_mut().poll(cx));
            // Connecting had a time of its own.
            deadline.stall_after(BODY_STALL_TIMEOUT_MS);
            *self = made.map_or(Rival::Ended, Rival::Running);
        }
        let Rival::Running(runner) = self else { return Poll::Ready(false) };
        let answered = ready!(runner.poll(request, buffers, cx));
        if !answered {
            *self = Rival::Ended;
        }
        Poll::Ready(answered)
    }

    fn into_runner(self) -> Option<Runner<'a>> {
        match self {
            Rival::Running(runner) => Some(runner),
            Rival::Connecting(_) | Rival::Ended => None,
        }
    }
}
