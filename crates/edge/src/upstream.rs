//! Connections of one worker to endpoints: made, kept idle, checked before they are used again. Those that speak HTTP/2
//! are kept in `http2_upstream`, where many requests share one.

use crate::access::Trace;
use crate::client::Client;
use crate::deadline::{Deadline, Deadlines, Passed};
use crate::dial::{Dial, Security};
use crate::eyeballs::connect_either;
use crate::grpc::Call;
use crate::grpc_web::GrpcWeb;
use crate::http2_pump;
use crate::http2_upstream::{Joined, Lease, Sessions};
use crate::metrics::UpstreamFailure;
use crate::proxy_protocol;
use crate::pump::{Aftermath, Fault, Pump, Terms};
use crate::refusal::Cause;
use crate::request_head;
use crate::shortage::is_shortage;
use crate::timers::Timers;
use crate::tls_client::TlsFault;
use crate::transport::{Counted, UpstreamIo};
use crate::worker::Worker;
use h1::HeaderList;
use model::hash::HashMap;
use model::traffic::BackendProtocol;
use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;
use traffic::Connections;

pub(crate) struct Pool {
    deadlines: Rc<Deadlines>,
    timers: Timers,
    idle: RefCell<HashMap<PeerKey, Vec<Idle>>>,
    sessions: Sessions,
}

/// An endpoint, how to connect to it, and for whom.
#[derive(Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub address: SocketAddr,
    pub dial: &'a Arc<Dial>,
    pub ends: Ends,
}

/// The two ends of a client's connection, for whom the endpoint is told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// Requests with the same key may share a connection. Endpoints are ours, so a table of keys needs no secret hash; with
/// the PROXY protocol clients have a part in it, at most as many as a worker has connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey {
    address: SocketAddr,
    dial: u32,
    /// A connection that began with the name of a client is that client's alone.
    client: Option<SocketAddr>,
}

/// What one attempt may use.
pub(crate) enum Upstream {
    Http1(UpstreamIo),
    Http2(Lease),
}

struct Idle {
    io: UpstreamIo,
    until_ms: u64,
}

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectFault {
    Refused,
    TimedOut,
    Tls(TlsFault),
    /// The time that the route allows is over.
    Passed,
    /// There are as many connections as there may be.
    Full,
    /// Something is short here.
    Shortage,
    /// The edge listens there itself.
    Loop,
}

impl Upstream {
    /// One attempt: the request goes up while the response comes down. `request` holds the request's head.
    pub async fn attempt<C: Client>(
        &mut self,
        client: &mut C,
        place: (&Worker, &Deadline),
        terms: Terms<'_>,
        trace: &mut Trace,
        (request, list): (&mut Vec<u8>, &mut HeaderList),
    ) -> (Result<(), Fault>, Aftermath) {
        match self {
            Upstream::Http1(_) if !request_head::announces(request, terms.framing) => {
                debug_assert!(false, "a head that does not announce the body behind it");
                (Err(Fault::NotProcessed), Aftermath::default())
            }
            Upstream::Http1(io) => {
                let mut pump = Pump::new(client, io, place, terms, trace, (request, list));
                let result = poll_fn(|cx| pump.poll(cx)).await;
                (result, pump.aftermath())
            }
            // Boxed: what it needs would lie in the memory of every request.
            Upstream::Http2(lease) => {
                let request = (request.as_slice(), list);
                match terms.call {
                    Call::Web(form) => {
                        let mut web = Box::new(GrpcWeb::new(client, form));
                        Box::pin(http2_pump::attempt(
                            &mut *web, lease, place, terms, trace, request,
                        ))
                        .await
                    }
                    Call::No | Call::Grpc => {
                        Box::pin(http2_pump::attempt(client, lease, place, terms, trace, request))
                            .await
                    }
                }
            }
        }
    }
}

impl From<std::io::Error> for ConnectFault {
    fn from(error: std::io::Error) -> ConnectFault {
        if is_shortage(&error) { ConnectFault::Shortage } else { ConnectFault::Refused }
    }
}

impl ConnectFault {
    /// It counts against the endpoint. That the edge listens there does not: to bytes it may be of use.
    pub fn blames_endpoint(self) -> bool {
        !matches!(self, ConnectFault::Full | ConnectFault::Shortage | ConnectFault::Loop)
    }

    /// How it is counted, and what is answered when no other endpoint is left.
    pub fn verdict(self) -> (UpstreamFailure, Cause) {
        match self {
            ConnectFault::Refused => (UpstreamFailure::Connect, Cause::ConnectFailed),
            ConnectFault::TimedOut => (UpstreamFailure::ConnectTimeout, Cause::ConnectFailed),
            ConnectFault::Passed => (UpstreamFailure::Timeout, Cause::RouteTimeout),
            ConnectFault::Full => (UpstreamFailure::Connect, Cause::CircuitOpen),
            ConnectFault::Shortage => (UpstreamFailure::Shortage, Cause::Shortage),
            ConnectFault::Loop => (UpstreamFailure::Loop, Cause::Loop),
            ConnectFault::Tls(fault) => (
                UpstreamFailure::Tls,
                match fault {
                    TlsFault::Expired => Cause::UpstreamTlsExpired,
                    TlsFault::Name => Cause::UpstreamTlsName,
                    TlsFault::Authority => Cause::UpstreamTlsAuthority,
                    TlsFault::Client | TlsFault::Refused | TlsFault::Version | TlsFault::Failed => {
                        Cause::UpstreamTls
                    }
                },
            ),
        }
    }
}

impl Peer<'_> {
    fn key(self) -> PeerKey {
        let client = self.dial.proxy_protocol.map(|_| self.ends.peer);
        PeerKey { address: self.address, dial: self.dial.number, client }
    }
}

impl Pool {
    pub fn new(deadlines: Rc<Deadlines>, timers: Timers) -> Pool {
        let sessions = Sessions::new(Rc::clone(&deadlines));
        Pool { deadlines, timers, idle: RefCell::default(), sessions }
    }

    /// The connection that was used last, so that the others may go idle for good.
    pub fn take(&self, peer: Peer<'_>) -> Option<Upstream> {
        if peer.dial.protocol == BackendProtocol::Http2
            && let Some(lease) = self.sessions.take(peer.key())
        {
            return Some(Upstream::Http2(lease));
        }
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&peer.key())?;
        while let Some(Idle { mut io, .. }) = connections.pop() {
            if io.is_alive() {
                return Some(Upstream::Http1(io));
            }
        }
        None
    }

    /// Takes back what may be used again.
    pub fn put(&self, peer: Peer<'_>, upstream: Upstream) {
        // A session of HTTP/2 never left.
        let Upstream::Http1(io) = upstream else { return };
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(peer.key()).or_default();
        let is_wanted = peer.dial.connections.as_ref().is_some_and(|all| all.is_wanted());
        if connections.len() < peer.dial.max_idle && !self.deadlines.is_draining() && !is_wanted {
            let until_ms = self.deadlines.now_ms().saturating_add(peer.dial.idle_timeout_ms);
            connections.push(Idle { io, until_ms });
        }
    }

    /// Closes what nobody used for long, and what the origin has closed.
    pub fn evict(&self) {
        let now_ms = self.deadlines.now_ms();
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain_mut(|idle| now_ms < idle.until_ms && idle.io.is_worth_keeping());
            !connections.is_empty()
        });
        self.sessions.evict();
    }

    /// Idle connections to other endpoints make room.
    fn let_go(&self, dial: &Dial) {
        self.idle.borrow_mut().retain(|key, _| key.dial != dial.number);
    }

    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.sessions.clear();
    }

    /// A new connection, within the limits for connecting and the request's own deadline. For HTTP/2 it may be one that
    /// another request was about to make. `alternate` is the endpoint's other address.
    pub async fn connect(
        &self,
        peer: Peer<'_>,
        alternate: Option<SocketAddr>,
        deadline: &Deadline,
    ) -> Result<Upstream, ConnectFault> {
        if peer.dial.connections.as_ref().is_some_and(|all| all.is_full()) {
            self.let_go(peer.dial);
        }
        match peer.dial.protocol {
            BackendProtocol::Http1 | BackendProtocol::Opaque => {
                open(peer, (alternate, &self.timers), deadline)
                    .await
                    .map(|opened| Upstream::Http1(opened.io))
            }
            BackendProtocol::Http2 => self.connect_http2(peer, alternate, deadline).await,
        }
    }

    async fn connect_http2(
        &self,
        peer: Peer<'_>,
        alternate: Option<SocketAddr>,
        deadline: &Deadline,
    ) -> Result<Upstream, ConnectFault> {
        let key = peer.key();
        let opening = loop {
            match self.sessions.join(key) {
                Joined::First(opening) => break opening,
                Joined::Waiting(gate) => {
                    deadline.stall_after(peer.dial.connect_timeout_ms);
                    let mut waiting = pin!(gate.opened());
                    poll_fn(|cx| match waiting.as_mut().poll(cx) {
                        Poll::Ready(outcome) => Poll::Ready(outcome),
                        Poll::Pending => deadline.poll(cx).map(|passed| Err(over(passed))),
                    })
                    .await?;
                    if let Some(lease) = self.sessions.take(key) {
                        return Ok(Upstream::Http2(lease));
                    }
                }
            }
        };
        let opened = open(peer, (alternate, &self.timers), deadline).await;
        opening.settle(peer.dial, opened)
    }
}

/// A connection that is ready for its first request.
pub(crate) struct Opened {
    pub io: UpstreamIo,
    /// As ALPN settled it, or as it was known before.
    pub is_http2: bool,
}

/// A place below the limit of the backend, where there is one, as long as no connection has it.
struct Entered<'d>(&'d Arc<Connections>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<'d> Entered<'d> {
    fn of(dial: &'d Dial) -> Result<Option<Entered<'d>>, ConnectFault> {
        let Some(connections) = &dial.connections else { return Ok(None) };
        connections.enter().then(|| Some(Entered(connections))).ok_or(ConnectFault::Full)
    }

    /// The connection has the place from now on.
    fn give(self, io: UpstreamIo) -> UpstreamIo {
        let connections = Arc::clone(self.0);
        std::mem::forget(self);
        UpstreamIo::Counted(Counted::new(io, connections))
    }
}

/// A connection that counts, where the number of them is limited.
pub(crate) async fn open(
    peer: Peer<'_>,
    other: (Option<SocketAddr>, &Timers),
    deadline: &Deadline,
) -> Result<Opened, ConnectFault> {
    let entered = Entered::of(peer.dial)?;
    let Opened { io, is_http2 } = open_any(peer, other, deadline).await?;
    let io = match entered {
        None => io,
        Some(entered) => entered.give(io),
    };
    Ok(Opened { io, is_http2 })
}

/// Connects, says who the client is where that is asked for, shakes hands.
async fn open_any(
    peer: Peer<'_>,
    other: (Option<SocketAddr>, &Timers),
    deadline: &Deadline,
) -> Result<Opened, ConnectFault> {
    let Peer { address, dial, ends } = peer;
    let (alternate, timers) = other;
    let connecting = async {
        let mut io = connect_either(address, alternate, |time| timers.sleep(time)).await?;
        // A socket that cannot be told to send at once still works.
        let _ = io.set_nodelay(true);
        if let Some(version) = dial.proxy_protocol {
            io.write_all(&proxy_protocol::header(version, ends.peer, ends.local)).await?;
        }
        Ok::<_, std::io::Error>(io)
    };
    let connected = within(dial.connect_timeout_ms, deadline, connecting).await?;
    let io = connected?;
    match &dial.security {
        Security::Plain => {
            let is_http2 = dial.protocol == BackendProtocol::Http2;
            Ok(Opened { io: UpstreamIo::Plain(io), is_http2 })
        }
        Security::Tls(tls) => {
            let shaking = within(dial.connect_timeout_ms, deadline, tls.handshake(io));
            let (io, is_http2) = match shaking.await {
                Ok(shaken) => shaken.map_err(ConnectFault::Tls)?,
                // It took the connection: it is TLS that it does not answer.
                Err(ConnectFault::TimedOut) => return Err(ConnectFault::Tls(TlsFault::Failed)),
                Err(fault) => return Err(fault),
            };
            Ok(Opened { io: UpstreamIo::Tls(io), is_http2 })
        }
        Security::Unusable => Err(ConnectFault::Tls(TlsFault::Failed)),
    }
}

async fn within<T>(
    limit_ms: u64,
    deadline: &Deadline,
    future: impl Future<Output = T>,
) -> Result<T, ConnectFault> {
    deadline.stall_after(limit_ms);
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Ok(result)),
        Poll::Pending => deadline.poll(cx).map(|passed| Err(over(passed))),
    })
    .await
}

fn over(passed: Passed) -> ConnectFault {
    match passed {
        Passed::Stall => ConnectFault::TimedOut,
        Passed::Cap => ConnectFault::Passed,
    }
}
