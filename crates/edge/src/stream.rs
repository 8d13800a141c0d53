//! A client's connection that is led on as bytes: the peek at a ClientHello where a name decides, the choice of an
//! endpoint, the relay, the record. HTTPS that shares the port goes back to `connection`.
//!
//! ```text
//! peek ─┬─ pass ──────────────┐
//!       ├─ end ── handshake ──┼─ lead: backend, endpoint, connect (the next one where that fails) ── relay ── record
//!  tcp ─┼─────────────────────┘
//!       └─ HTTPS: as if nothing had been looked at
//! ```

use crate::access::{AccessRecord, TlsFacts};
use crate::balance::{Picked, key_of_address, pick};
use crate::deadline::Deadline;
use crate::entry::Unwelcome;
use crate::fallback::{self, Way};
use crate::metrics::UpstreamFailure;
use crate::own::Sent;
use crate::relay::{End, Relay};
use crate::stream_tls::StreamTls;
use crate::streams::{Entrance, StreamPlan};
use crate::tls::{Alert, HandshakeFault, refuse};
use crate::transport::{Io, UpstreamIo};
use crate::upstream::{self, ConnectFault, Ends, Peer};
use crate::view::{Backend, EdgeView, Seat};
use crate::worker::Worker;
use hello::Hello;
use model::limits::{CLIENT_HELLO_BYTES, HANDSHAKE_TIMEOUT_MS};
use model::traffic::{Algorithm, HashKey};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::net::TcpStream;
use traffic::{Choice, Endpoint, Outcome};

/// Endpoints of one backend that one connection tries.
const ATTEMPTS: usize = 5;
/// The backend has as many as it may have.
const FULL: &str = "circuit-open";

/// What is known of a connection before it is led anywhere.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub worker: &'a Rc<Worker>,
    pub deadline: &'a Deadline,
    /// As written in the plan.
    pub port: u16,
    pub ends: Ends,
    /// Who sent the PROXY header.
    pub proxy: Option<SocketAddr>,
}

impl Arrival<'_> {
    fn turn_away(&self) {
        self.worker.counters().unwelcome[Unwelcome::Peer as usize].add(1);
    }
}

/// A connection that this module does not serve: it is HTTPS, and nothing of it was taken.
pub(crate) struct Https(pub TcpStream);

/// Serves a connection to a port that has listeners below HTTP.
pub(crate) async fn serve(arrival: Arrival<'_>, io: TcpStream) -> Option<Https> {
    let view = arrival.worker.view();
    if view.streams().is_tls(arrival.port) {
        drop(view);
        return serve_tls(arrival, io).await;
    }
    let entrance = view.streams().tcp(arrival.port, arrival.ends.peer.ip());
    drop(view);
    match entrance {
        Entrance::Pass(plan) => lead(arrival, Visit::new("tcp", plan), io).await,
        Entrance::Refused => arrival.turn_away(),
        _ => arrival.worker.counters().streams_without_route.add(1),
    }
    None
}

async fn serve_tls(arrival: Arrival<'_>, io: TcpStream) -> Option<Https> {
    let Arrival { worker, deadline, port, ends, .. } = arrival;
    deadline.stall_after(HANDSHAKE_TIMEOUT_MS);
    let hello = match peek(arrival, &io).await {
        Ok(hello) => hello,
        Err(NoHello::Gone) => return None,
        Err(NoHello::Bad) => {
            worker.counters().hellos_refused.add(1);
            refuse(io, Alert::DecodeError).await;
            return None;
        }
    };
    let view = worker.view();
    let name = hello.server_name.as_deref();
    let entrance = view.streams().entrance(view.router(), port, name, ends.peer.ip());
    drop(view);
    match entrance {
        Entrance::Https => return Some(Https(io)),
        Entrance::Pass(plan) => {
            let visit = Visit { host: hello.server_name, ..Visit::new("tls", plan) };
            lead(arrival, visit, io).await;
        }
        Entrance::End(tls, plan) => {
            let visit = Visit { host: hello.server_name, ..Visit::new("tls", plan) };
            end_tls(arrival, visit, io, &tls).await;
        }
        Entrance::Nobody => {
            worker.counters().streams_without_route.add(1);
            refuse(io, Alert::UnrecognizedName).await;
        }
        Entrance::Refused => {
            arrival.turn_away();
            refuse(io, Alert::AccessDenied).await;
        }
    }
    None
}

async fn end_tls(arrival: Arrival<'_>, mut visit: Visit, io: TcpStream, tls: &StreamTls) {
    let Arrival { worker, deadline, .. } = arrival;
    let mut accepting = pin!(tls.accept(io));
    let accepted = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => deadline.poll(cx).map(|_| Err(HandshakeFault::Failed)),
    })
    .await;
    match accepted {
        Err(_) => worker.counters().handshakes_failed.add(1),
        Ok((io, facts)) => {
            worker.counters().handshakes.add(1);
            visit.tls = Some(facts);
            lead(arrival, visit, io).await;
        }
    }
}

enum NoHello {
    Gone,
    Bad,
}

/// Looks at what has come and takes nothing: whoever shakes hands reads it from its beginning. No buffer is held while
/// more is waited for.
async fn peek(arrival: Arrival<'_>, io: &TcpStream) -> Result<Hello, NoHello> {
    let Arrival { worker, deadline, .. } = arrival;
    let mut seen = 0;
    loop {
        let ready = {
            let mut ready = pin!(io.ready(Interest::READABLE));
            poll_fn(|cx| match ready.as_mut().poll(cx) {
                Poll::Ready(ready) => Poll::Ready(ready.ok()),
                // A client that has said nothing yet has nothing to lose when the process ends.
                Poll::Pending if seen == 0 && worker.deadlines.is_closing_idle() => {
                    Poll::Ready(None)
                }
                Poll::Pending => deadline.poll(cx).map(|_| None),
            })
            .await
            .ok_or(NoHello::Gone)?
        };
        let mut buffer = worker.buffers.small();
        // What has been seen is no news: else the loop would turn until the rest comes.
        let looked = io.try_io(Interest::READABLE, || {
            let flags = rustix::net::RecvFlags::PEEK;
            match rustix::net::recv(io, buffer.room(), flags)?.0 {
                count if count == seen && count > 0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        });
        let said = match &looked {
            Ok(count) => {
                seen = *count;
                buffer.filled(seen);
                hello::peek(buffer.data(), CLIENT_HELLO_BYTES)
            }
            Err(_) => Ok(None),
        };
        buffer.consume(seen);
        worker.buffers.give_back(buffer);
        match (said, looked) {
            (Ok(Some(hello)), _) => return Ok(hello),
            (Err(_), _) => return Err(NoHello::Bad),
            (Ok(None), Ok(0)) => return Err(NoHello::Gone),
            (Ok(None), Ok(_)) => {}
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if ready.is_read_closed() {
                    return Err(NoHello::Gone);
                }
            }
            (Ok(None), Err(_)) => return Err(NoHello::Gone),
        }
    }
}

/// One connection on its way to the access log.
struct Visit {
    protocol: &'static str,
    plan: Arc<StreamPlan>,
    host: Option<String>,
    tls: Option<TlsFacts>,
    began: Instant,
    connect: Option<Duration>,
    endpoint: Option<SocketAddr>,
    attempts: u32,
    /// Why it ended before its time.
    refusal: Option<&'static str>,
}

impl Visit {
    fn new(protocol: &'static str, plan: Arc<StreamPlan>) -> Visit {
        Visit {
            protocol,
            plan,
            host: None,
            tls: None,
            began: Instant::now(),
            connect: None,
            endpoint: None,
            attempts: 0,
            refusal: None,
        }
    }

    fn record(&self, arrival: Arrival<'_>, (bytes_in, bytes_out): (u64, u64)) {
        let mut recorder = arrival.worker.recorder.borrow_mut();
        let Some(recorder) = recorder.as_deref_mut() else { return };
        let total = self.began.elapsed();
        recorder.record(&AccessRecord {
            request_id: "",
            started: SystemTime::now() - total,
            client: arrival.ends.peer,
            told: None,
            proxy: arrival.proxy,
            protocol: self.protocol,
            scheme: "",
            port: arrival.port,
            method: b"",
            host: self.host.as_deref().unwrap_or_default(),
            path: b"",
            status: 0,
            rule: Some(&self.plan.rule),
            endpoint: self.endpoint,
            attempts: self.attempts,
            refusal: self.refusal,
            total,
            connect: self.connect,
            first_byte: None,
            bytes_in,
            bytes_out,
            tls: self.tls.as_ref(),
        });
    }
}

async fn lead<C: Io>(arrival: Arrival<'_>, mut visit: Visit, client: C) {
    let Arrival { worker, deadline, .. } = arrival;
    let plan = Arc::clone(&visit.plan);
    let counters = plan.metrics.of(worker.index);
    counters.begun.add(1);
    let mut bytes = (0, 0);
    match reach(arrival, &mut visit).await {
        Err(refusal) => {
            counters.refused.add(1);
            visit.refusal = Some(refusal);
            // Not a clean end: the client could take it for the server's.
            client.reset_on_close();
        }
        Ok(reached) => {
            let mut relay = Relay::new(worker, deadline, client, reached.io);
            let end = poll_fn(|cx| {
                let polled = relay.poll(cx);
                // Connections may last for days: what they carry is counted meanwhile.
                let (bytes_in, bytes_out) = relay.bytes();
                counters.bytes_in.add(bytes_in - bytes.0);
                counters.bytes_out.add(bytes_out - bytes.1);
                bytes = (bytes_in, bytes_out);
                polled
            })
            .await;
            visit.refusal = match end {
                End::Closed => None,
                End::Reset => Some("reset"),
                End::Idle => Some("idle"),
            };
        }
    }
    counters.ended.add(1);
    visit.record(arrival, bytes);
}

/// An endpoint that took the connection.
struct Reached {
    io: UpstreamIo,
    _active: Active,
    _seat: Seat,
}

/// A connection among those that balancing counts.
pub(crate) struct Active {
    worker: Rc<Worker>,
    pub endpoint: Arc<Endpoint>,
    pub outcome: Option<Outcome>,
}

impl Active {
    pub fn begin(worker: &Rc<Worker>, endpoint: &Arc<Endpoint>) -> Active {
        worker.balancer.borrow_mut().begin(endpoint);
        Active { worker: Rc::clone(worker), endpoint: Arc::clone(endpoint), outcome: None }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let now_ms = self.worker.deadlines.now_ms();
        self.worker.balancer.borrow_mut().end(&self.endpoint, self.outcome, None, now_ms);
    }
}

/// Nothing was sent yet, so every endpoint may be tried, but none twice: those of the backend, then those of what stands
/// in for it.
async fn reach(arrival: Arrival<'_>, visit: &mut Visit) -> Result<Reached, &'static str> {
    let worker: &Worker = arrival.worker;
    let held = worker.view();
    let view: &EdgeView = &held;
    let (mut backend, share) = choose(worker, view, &visit.plan)?;
    loop {
        let refusal = match reach_one(arrival, visit, (view, backend)).await {
            Ok(reached) => return Ok(reached),
            Err(refusal) => refusal,
        };
        // What is full stays so by intent.
        let next = fallback::next((worker, view), (&visit.plan.backends, share), backend);
        backend = next.filter(|_| refusal != FULL).ok_or(refusal)?;
    }
}

/// An endpoint of this backend.
async fn reach_one(
    arrival: Arrival<'_>,
    visit: &mut Visit,
    (view, backend): (&EdgeView, Backend<'_>),
) -> Result<Reached, &'static str> {
    let Arrival { worker, deadline, ends, .. } = arrival;
    let plan = Arc::clone(&visit.plan);
    let seat = view.seat(backend.number()).ok_or(FULL)?;
    let mut tried: Vec<u32> = Vec::new();
    let mut refusal = "no-endpoint";
    while tried.len() < ATTEMPTS {
        let Some(at) = place(worker, view, &backend, ends.peer.ip(), &tried) else { break };
        tried.push(at as u32);
        visit.attempts += 1;
        let endpoint = &backend.members[at];
        visit.endpoint = Some(endpoint.address());
        let mut active = Active::begin(worker, endpoint);
        let began = Instant::now();
        let peer = Peer { address: endpoint.address(), dial: backend.dial(), ends };
        let other = (endpoint.alternate(), &worker.timers);
        let opened = match worker.leads_back(Sent::Bytes, (peer.address, other.0)) {
            true => Err(ConnectFault::Loop),
            false => Box::pin(upstream::open(peer, other, deadline)).await,
        };
        visit.connect = Some(began.elapsed());
        match opened {
            Ok(opened) => {
                observe(worker, view, &backend, &mut active, Outcome::Success);
                return Ok(Reached { io: opened.io, _active: active, _seat: seat });
            }
            // The backend has as many as it may have: nothing of that is the endpoint's doing.
            Err(ConnectFault::Full) => return Err(FULL),
            Err(fault) => {
                let (failure, cause) = fault.verdict();
                count(worker, &plan, failure);
                if fault.blames_endpoint() {
                    observe(worker, view, &backend, &mut active, Outcome::Failure);
                }
                refusal = cause.slug();
            }
        }
    }
    Err(refusal)
}

/// By weight, with its place among those of the route; another one where it stands in.
pub(crate) fn choose<'v>(
    worker: &Worker,
    view: &'v EdgeView,
    plan: &StreamPlan,
) -> Result<(Backend<'v>, usize), &'static str> {
    let backends = &plan.backends;
    let picked = pick(&worker.rotation, plan.number, backends, |number| view.backend(number));
    // Bytes have no sessions, and no answer is declared for them.
    if let Way::StandIn { backend, share } = fallback::instead((worker, view), backends, picked) {
        return view.backend(backend.number()).map(|found| (found, share)).ok_or("no-endpoint");
    }
    match picked {
        Picked::Backend { backend, share } => Ok((backend, share)),
        Picked::NoEndpoint { .. } => Err("no-endpoint"),
        Picked::InvalidBackend => Err("invalid-backend"),
        Picked::NoWeight => Err("no-weight"),
    }
}

/// The endpoint by its place among the members; none when all were tried.
pub(crate) fn place(
    worker: &Worker,
    view: &EdgeView,
    backend: &Backend<'_>,
    client: IpAddr,
    tried: &[u32],
) -> Option<usize> {
    let choice = Choice {
        group: backend.number(),
        now_ms: worker.deadlines.now_ms(),
        changes: view.live().changes(),
        levels: backend.levels(),
        // Of what consistent hashing goes by, bytes have an address only.
        key: match backend.policy.balance.algorithm {
            Algorithm::ConsistentHash(HashKey::SourceAddress) => Some(key_of_address(client)),
            _ => None,
        },
        tried,
    };
    worker.balancer.borrow_mut().pick(backend.members, &backend.policy.balance, &choice)
}

pub(crate) fn observe(
    worker: &Worker,
    view: &EdgeView,
    backend: &Backend<'_>,
    active: &mut Active,
    outcome: Outcome,
) {
    active.outcome = Some(outcome);
    backend.observe(&active.endpoint, outcome, (view.live(), worker.deadlines.now_ms()));
}

pub(crate) fn count(worker: &Worker, plan: &StreamPlan, failure: UpstreamFailure) {
    plan.metrics.of(worker.index).failures[failure as usize].add(1);
}
