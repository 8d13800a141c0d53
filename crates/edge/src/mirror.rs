//! Copies of requests for mirror backends (Gateway API, RequestMirror): which requests, how a body is kept while it
//! passes to the real origin, and the task that sends the copy and drops the answer. Nothing here delays or fails the
//! real request: a copy that cannot be made or sent is given up and counted.
//!
//! ```text
//! plan: Draft (a head, an endpoint, a place) -> Tee (keeps the body as it passes) -> whole -> a task: sent | failed
//!                                                 \ too large, or never whole: given up
//! ```

use crate::access::Trace;
use crate::changes::Changes;
use crate::client::{Body, Client, ClientFault, Follow, Response, left_to_client};
use crate::dial::Dial;
use crate::grpc::Call;
use crate::ids::RequestId;
use crate::own::Sent;
use crate::pump::Terms;
use crate::upstream::{Ends, Peer};
use crate::view::EdgeView;
use crate::worker::Worker;
use bytes::Bytes;
use h1::{Framing, HeaderList, Method, Trailers};
use model::limits::{MIRROR_BODY_BYTES, MIRROR_TIMEOUT_MS, WORKER_MIRRORS};
use model::traffic;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// One mirror of a rule, made ready.
pub(crate) struct Mirror {
    number: u32,
    backend: u32,
    numerator: u32,
    denominator: u32,
    /// Instead of those of the rule.
    changes: Option<Box<Changes>>,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The mirror answered, with whatever status.
    Sent,
    Failed,
    TooLarge,
    /// The request ended before its body was whole.
    Incomplete,
    OverLimit,
    NoEndpoint,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Sent,
        Outcome::Failed,
        Outcome::TooLarge,
        Outcome::Incomplete,
        Outcome::OverLimit,
        Outcome::NoEndpoint,
    ];

    pub fn slug(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Failed => "failed",
            Outcome::TooLarge => "too-large",
            Outcome::Incomplete => "incomplete",
            Outcome::OverLimit => "over-limit",
            Outcome::NoEndpoint => "no-endpoint",
        }
    }
}

/// What one worker keeps: turns by the numbers of mirrors, and how many copies there are.
#[derive(Default)]
pub(crate) struct Mirrors {
    turns: RefCell<Vec<u32>>,
    copies: Rc<Cell<usize>>,
}

impl Mirrors {
    fn turn(&self, number: u32) -> u32 {
        let mut turns = self.turns.borrow_mut();
        let at = number as usize;
        if turns.len() <= at {
            turns.resize(at + 1, 0);
        }
        turns[at] = turns[at].wrapping_add(1);
        turns[at]
    }

    fn place(&self) -> Option<Place> {
        let taken = self.copies.get() < WORKER_MIRRORS;
        taken.then(|| {
            self.copies.set(self.copies.get() + 1);
            Place(Rc::clone(&self.copies))
        })
    }
}

/// A copy's place among those that a worker allows.
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A copy whose body is not known yet.
pub(crate) struct Draft {
    address: SocketAddr,
    alternate: Option<SocketAddr>,
    dial: Arc<Dial>,
    ends: Ends,
    head: Vec<u8>,
    place: Place,
}

impl Mirror {
    pub fn new(
        plan: &traffic::Mirror,
        (number, backend): (u32, u32),
        changes: Option<Box<Changes>>,
    ) -> Mirror {
        let traffic::Mirror { numerator, denominator, .. } = *plan;
        Mirror { number, backend, numerator, denominator, changes }
    }

    /// A draft when it is this request's turn; `write` writes the head.
    pub fn draft(
        &self,
        (worker, ends): (&Worker, Ends),
        (view, rule): (&EdgeView, &Changes),
        write: impl FnOnce(&mut Vec<u8>, &Changes),
    ) -> Option<Draft> {
        let turn = worker.mirrors.turn(self.number);
        if !takes(turn, self.numerator, self.denominator) {
            return None;
        }
        let backend = view.backend(self.backend)?;
        let Some(endpoint) = backend.members.get(turn as usize % backend.members.len().max(1))
        else {
            count(worker, Outcome::NoEndpoint);
            return None;
        };
        let Some(place) = worker.mirrors.place() else {
            count(worker, Outcome::OverLimit);
            return None;
        };
        let mut head = worker.buffers.output();
        write(&mut head, self.changes.as_deref().unwrap_or(rule));
        let dial = Arc::clone(backend.dial());
        let (address, alternate) = (endpoint.address(), endpoint.alternate());
        Some(Draft { address, alternate, dial, ends, head, place })
    }
}

/// A low-discrepancy sequence (multiples of the golden ratio): any run of turns has close to its share.
fn takes(turn: u32, numerator: u32, denominator: u32) -> bool {
    /// 2^32 divided by the golden ratio.
    const GOLDEN: u32 = 0x9E37_79B9;
    let point = u64::from(turn.wrapping_mul(GOLDEN));
    (point * u64::from(denominator)) >> 32 < u64::from(numerator)
}

fn count(worker: &Worker, outcome: Outcome) {
    worker.counters().mirrors[outcome as usize].add(1);
}

/// What the copies of one request share.
struct Whole {
    method: Method,
    framing: Framing,
    id: RequestId,
    body: Vec<u8>,
    /// As field lines.
    trailers: Vec<u8>,
}

/// A client whose request's body is kept as it is consumed. Dropping it gives up what is not whole by then.
pub(crate) struct Tee<'a, C> {
    client: &'a mut C,
    worker: &'a Rc<Worker>,
    /// None once the copies were sent or given up.
    pending: Option<(Vec<Draft>, Whole)>,
}

impl<'a, C: Client> Tee<'a, C> {
    pub fn new(
        client: &'a mut C,
        worker: &'a Rc<Worker>,
        drafts: Vec<Draft>,
        terms: &Terms<'_>,
    ) -> Tee<'a, C> {
        let Terms { method, framing, id, .. } = *terms;
        let (body, trailers) = (Vec::new(), Vec::new());
        let pending = Some((drafts, Whole { method, framing, id: *id, body, trailers }));
        let mut tee = Tee { client, worker, pending };
        match framing {
            Framing::None | Framing::Length(0) => tee.send(),
            Framing::Length(length) if length > MIRROR_BODY_BYTES as u64 => {
                tee.give_up(Outcome::TooLarge);
            }
            _ => {}
        }
        tee
    }

    fn keep(&mut self, count: usize) {
        let Some((_, whole)) = &mut self.pending else { return };
        whole.body.extend_from_slice(&self.client.body()[..count]);
        let length = whole.body.len();
        if length > MIRROR_BODY_BYTES {
            self.give_up(Outcome::TooLarge);
        } else if whole.framing == Framing::Length(length as u64) {
            self.send();
        }
    }

    fn end(&mut self) {
        if let Some((_, whole)) = &mut self.pending
            && whole.framing == Framing::Chunked
        {
            self.client.write_trailers(&mut whole.trailers);
        }
        self.send();
    }

    fn send(&mut self) {
        let Some((drafts, whole)) = self.pending.take() else { return };
        let whole = Rc::new(whole);
        for draft in drafts {
            tokio::task::spawn_local(run(Rc::clone(self.worker), draft, Rc::clone(&whole)));
        }
    }
}

impl<C> Tee<'_, C> {
    fn give_up(&mut self, outcome: Outcome) {
        for draft in self.pending.take().into_iter().flat_map(|(drafts, _)| drafts) {
            count(self.worker, outcome);
            self.worker.buffers.give_back_output(draft.head);
        }
    }
}

impl<C> Drop for Tee<'_, C> {
    fn drop(&mut self) {
        self.give_up(Outcome::Incomplete);
    }
}

impl<C: Client> Client for Tee<'_, C> {
    left_to_client!(
        request,
        body,
        limit_body,
        write_trailers,
        want_body,
        interim,
        head,
        switch_protocols,
        poll_send,
        poll_flush,
        poll_finish,
        may_trail,
        close_after,
        watch,
        retract,
        abort
    );

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        let body = ready!(self.client.poll_body(cx))?;
        if body == Body::End {
            self.end();
        }
        Poll::Ready(Ok(body))
    }

    fn consume(&mut self, count: usize) {
        self.keep(count);
        self.client.consume(count);
    }

    fn take(&mut self, count: usize) -> Bytes {
        self.keep(count);
        self.client.take(count)
    }
}

/// The task of one copy. It is tried once.
async fn run(worker: Rc<Worker>, draft: Draft, whole: Rc<Whole>) {
    let Draft { address, alternate, dial, ends, mut head, place } = draft;
    let peer = Peer { address, dial: &dial, ends };
    let outcome = match send(&worker, (peer, alternate), &mut head, &whole).await {
        true => Outcome::Sent,
        false => Outcome::Failed,
    };
    count(&worker, outcome);
    worker.buffers.give_back_output(head);
    drop(place);
}

/// True when the whole answer came.
async fn send(
    worker: &Worker,
    (peer, alternate): (Peer<'_>, Option<SocketAddr>),
    head: &mut Vec<u8>,
    whole: &Whole,
) -> bool {
    let deadline = worker.deadlines.register();
    let mut trace = Trace::new(Instant::now());
    deadline.cap_at(trace.started, Some(Duration::from_millis(MIRROR_TIMEOUT_MS)));
    let upstream = match worker.pool.take(peer) {
        Some(upstream) => Ok(upstream),
        None if worker.leads_back(Sent::Requests, (peer.address, alternate)) => return false,
        None => worker.pool.connect(peer, alternate, &deadline).await,
    };
    let Ok(mut upstream) = upstream else { return false };
    let terms = Terms {
        method: whole.method,
        framing: whole.framing,
        call: Call::No,
        asks_upgrade: false,
        needs_upgrade: false,
        response_edits: None,
        again_on: None,
        care: None,
        is_clients_time: false,
        id: &whole.id,
    };
    let (mut copy, mut list) = (Copied { whole, taken: 0 }, HeaderList::new());
    let place = (worker, &deadline);
    let request = (head, &mut list);
    let (result, aftermath) = upstream.attempt(&mut copy, place, terms, &mut trace, request).await;
    if aftermath.reusable {
        worker.pool.put(peer, upstream);
    }
    result.is_ok()
}

/// The client of a copy: the body is there, and nobody reads the answer.
struct Copied<'a> {
    whole: &'a Whole,
    taken: usize,
}

impl Client for Copied<'_> {
    /// The head was written for the mirror already.
    fn request(&self) -> &[u8] {
        b""
    }

    fn poll_body(&mut self, _: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        Poll::Ready(Ok(if self.body().is_empty() { Body::End } else { Body::Data }))
    }

    fn body(&self) -> &[u8] {
        &self.whole.body[self.taken..]
    }

    /// The copy is of what was taken.
    fn limit_body(&mut self, _: u64) {}

    fn consume(&mut self, count: usize) {
        self.taken += count;
    }

    fn write_trailers(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.whole.trailers);
        !self.whole.trailers.is_empty()
    }

    fn want_body(&mut self) {}

    fn interim(&mut self, _: &Response<'_>) {}

    fn head(&mut self, _: &Response<'_>) {}

    /// Never: a request that asks for it is not copied.
    fn switch_protocols(&mut self, _: &Response<'_>, _: &[u8]) -> bool {
        false
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        data: &[u8],
        _: Follow,
    ) -> Poll<Result<usize, ClientFault>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        Poll::Ready(Ok(()))
    }

    fn poll_finish(
        &mut self,
        _: &mut Context<'_>,
        _: Option<&Trailers>,
    ) -> Poll<Result<(), ClientFault>> {
        Poll::Ready(Ok(()))
    }

    fn may_trail(&self) -> bool {
        false
    }

    fn close_after(&mut self) {}

    fn watch(&mut self, _: &mut Context<'_>) -> Result<(), ClientFault> {
        Ok(())
    }

    fn abort(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_run_of_turns_has_its_share() {
        for (numerator, denominator) in
            [(0, 1), (0, 100), (1, 1), (100, 100), (20, 100), (25, 50), (1, 1000), (7, 3)]
        {
            for start in [0u32, 4_711, u32::MAX - 500] {
                let turns = (0..1_000).map(|turn| start.wrapping_add(turn));
                let taken = turns.filter(|turn| takes(*turn, numerator, denominator)).count();
                let share = 1_000.0 * (f64::from(numerator) / f64::from(denominator)).min(1.0);
                let error = (taken as f64 - share).abs();
                assert!(error <= 6.0, "{numerator}/{denominator}: {taken}");
                assert!(error == 0.0 || (0 < numerator && numerator < denominator));
            }
        }
    }

    #[test]
    fn copies_have_a_bound() {
        let mirrors = Mirrors::default();
        let mut places: Vec<Place> = std::iter::from_fn(|| mirrors.place()).collect();
        assert_eq!(places.len(), WORKER_MIRRORS);
        places.pop();
        assert!(mirrors.place().is_some());
        assert_eq!(mirrors.copies.get(), WORKER_MIRRORS - 1);
    }
}
