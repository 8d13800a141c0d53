//! Connections of one worker to endpoints that speak HTTP/2: many requests share one, and a further one is made when its
//! streams are taken. What goes through a stream is `http2_pump`.
//!
//! ```text
//! opening -> started -> open -> retired (GOAWAY, closed, or silent): takes no more streams, ends with the last of them
//!            one stream,
//!            until the origin has said how many it allows
//! ```

use crate::deadline::{Deadline, Deadlines};
use crate::dial::{Dial, Security};
use crate::http2_io::{Drain, Gathered, gather};
use crate::transport::UpstreamIo;
use crate::upstream::{ConnectFault, Opened, PeerKey, Upstream};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use model::hash::HashMap;
use model::limits;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::Notify;

const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Room for the windows of all streams: clients that do not read shall hold their own streams back and no others.
const CONNECTION_WINDOW_BYTES: u32 = STREAMS * STREAM_WINDOW_BYTES;
/// Streams of one connection, where the origin does not allow fewer.
const STREAMS: u32 = 128;
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams that we remember after a reset of ours, and resets that an origin's faults may provoke.
const RESETS: usize = 50;
const FAULT_RESETS: usize = 256;
/// For what is left to be said to an origin that nobody wants anything of any more.
const FAREWELL_MS: u64 = 1_000;
/// Stands for the number of streams until the origin's settings have come: more than these can say.
const NOT_KNOWN: usize = usize::MAX - 1;

pub(crate) struct Sessions {
    deadlines: Rc<Deadlines>,
    hosts: RefCell<HashMap<PeerKey, Host>>,
}

#[derive(Default)]
struct Host {
    sessions: Vec<Rc<Session>>,
    opening: Option<Rc<Gate>>,
    /// The last handshake settled on HTTP/1.1, where a connection is one request's at a time: nobody waits for another's.
    speaks_http1: bool,
    touched_ms: u64,
}

struct Session {
    send: SendRequest<Bytes>,
    is_secure: bool,
    gate: Rc<Gate>,
    streams: Cell<usize>,
    retired: Rc<Cell<bool>>,
    /// Ends the connection, where it has not ended by itself.
    farewell: Rc<Deadline>,
    deadlines: Rc<Deadlines>,
    idle_timeout_ms: u64,
    /// When something came over it last, and one more; 0 when nothing ever did.
    heard_ms: Cell<u64>,
    /// Holds while there are no streams.
    idle_until_ms: Cell<u64>,
}

/// The right to one stream.
pub(crate) struct Lease(Rc<Session>);

/// A request that wants a connection makes it, or waits for the one that is being made.
pub(crate) enum Joined<'s> {
    First(Opening<'s>),
    Waiting(Rc<Gate>),
}

/// Where the others wait while one request makes a connection, and until it is known how many may use it.
#[derive(Default)]
pub(crate) struct Gate {
    told: Notify,
    is_open: Cell<bool>,
    fault: Cell<Option<ConnectFault>>,
}

/// The one that makes it. Dropped early, the next in line does.
pub(crate) struct Opening<'s> {
    sessions: &'s Sessions,
    key: PeerKey,
    gate: Rc<Gate>,
    /// The driver of the connection opens the gate.
    started: Cell<bool>,
}

impl Sessions {
    pub fn new(deadlines: Rc<Deadlines>) -> Sessions {
        Sessions { deadlines, hosts: RefCell::default() }
    }

    /// The first with a stream to spare, so that the others may go idle for good.
    pub fn take(&self, key: PeerKey) -> Option<Lease> {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.get_mut(&key)?;
        host.sessions.retain(|session| !session.retired.get());
        host.sessions.iter().find(|session| session.has_room()).map(Lease::of)
    }

    pub fn join(&self, key: PeerKey) -> Joined<'_> {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.entry(key).or_default();
        host.touched_ms = self.deadlines.now_ms();
        match &host.opening {
            Some(gate) if !gate.is_open.get() && !host.speaks_http1 => {
                Joined::Waiting(Rc::clone(gate))
            }
            _ => {
                let gate = Rc::<Gate>::default();
                host.opening = Some(Rc::clone(&gate));
                Joined::First(Opening { sessions: self, key, gate, started: Cell::new(false) })
            }
        }
    }

    /// Closes what nobody used for long, and forgets what is closed.
    pub fn evict(&self) {
        let now_ms = self.deadlines.now_ms();
        self.hosts.borrow_mut().retain(|_, host| {
            host.sessions.retain(|session| !session.retired.get() && !session.is_idle(now_ms));
            let is_known = host.touched_ms + limits::UPSTREAM_IDLE_TIMEOUT_MS > now_ms;
            let is_opening = host.opening.as_ref().is_some_and(|gate| !gate.is_open.get());
            is_known || is_opening || !host.sessions.is_empty()
        });
    }

    /// Streams that run keep their session.
    pub fn clear(&self) {
        for host in self.hosts.borrow_mut().values_mut() {
            host.sessions.clear();
        }
    }
}

impl Session {
    fn has_room(&self) -> bool {
        let most = (STREAMS as usize).min(self.send.current_max_send_streams());
        self.gate.is_open.get() && self.streams.get() < most
    }

    fn is_idle(&self, now_ms: u64) -> bool {
        self.streams.get() == 0 && self.idle_until_ms.get() <= now_ms
    }
}

/// With the last that held it. The driver may wait for an origin that takes nothing, and is not told by `h2` then.
impl Drop for Session {
    fn drop(&mut self) {
        self.farewell.stall_after(FAREWELL_MS);
    }
}

impl Lease {
    fn of(session: &Rc<Session>) -> Lease {
        session.streams.set(session.streams.get() + 1);
        Lease(Rc::clone(session))
    }

    /// Opens one stream.
    pub fn send(&self) -> SendRequest<Bytes> {
        self.0.send.clone()
    }

    /// Returns once the origin has said what it allows, or is gone.
    pub async fn settled(&self) {
        if !self.0.gate.is_open.get() {
            // A fault is found by what follows.
            let _ = self.0.gate.opened().await;
        }
    }

    /// The origin takes extended CONNECT (RFC 8441 section 3).
    pub fn takes_sockets(&self) -> bool {
        self.0.send.is_extended_connect_protocol_enabled()
    }

    pub fn scheme(&self) -> &'static str {
        if self.0.is_secure { "https" } else { "http" }
    }

    /// The origin has sent something.
    pub fn heard(&self) {
        self.0.heard_ms.set(self.0.deadlines.now_ms() + 1);
    }

    /// A request that began then is out of time. Where nothing came for any request since, nothing tells a slow origin
    /// from one that is gone: the next requests shall not wait behind this one.
    pub fn out_of_time(&self, began_ms: u64) {
        if self.0.heard_ms.get() <= began_ms {
            self.retire();
        }
    }

    /// No further request goes this way.
    pub fn retire(&self) {
        self.0.retired.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let session = &self.0;
        session.streams.set(session.streams.get() - 1);
        let now_ms = session.deadlines.now_ms();
        session.idle_until_ms.set(now_ms.saturating_add(session.idle_timeout_ms));
    }
}

impl Gate {
    /// Returns when the connection is there, or when somebody else has to make it.
    pub async fn opened(&self) -> Result<(), ConnectFault> {
        self.told.notified().await;
        self.fault.get().map_or(Ok(()), Err)
    }

    fn open(&self) {
        self.is_open.set(true);
        self.told.notify_waiters();
    }
}

impl Opening<'_> {
    /// Takes what came of it: those who wait share a session, and a fault of the endpoint.
    pub fn settle(
        self,
        dial: &Dial,
        opened: Result<Opened, ConnectFault>,
    ) -> Result<Upstream, ConnectFault> {
        match opened {
            Ok(Opened { io, is_http2: false }) => {
                self.host(|host| host.speaks_http1 = true);
                Ok(Upstream::Http1(io))
            }
            Ok(Opened { io, is_http2: true }) => self.start(dial, io).map(Upstream::Http2),
            Err(fault) => {
                // The time of one route is not another's.
                self.gate.fault.set(Some(fault).filter(|fault| *fault != ConnectFault::Passed));
                Err(fault)
            }
        }
    }

    /// The preface and the settings are gathered, so that the handshake never waits: the driver sends them.
    fn start(&self, dial: &Dial, io: UpstreamIo) -> Result<Lease, ConnectFault> {
        let (io, drain) = gather(io, None, None);
        let mut handshake = std::pin::pin!(settings().handshake(io));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Ok((send, connection))) = handshake.as_mut().poll(&mut cx) else {
            return Err(ConnectFault::Refused);
        };
        let retired = Rc::<Cell<bool>>::default();
        let gate = Rc::clone(&self.gate);
        self.started.set(true);
        let farewell = Rc::new(self.sessions.deadlines.register());
        let ends = (Rc::clone(&retired), gate, Rc::clone(&farewell));
        tokio::task::spawn_local(drive(connection, drain, ends));
        let session = Rc::new(Session {
            send,
            is_secure: matches!(dial.security, Security::Tls(_)),
            gate: Rc::clone(&self.gate),
            streams: Cell::new(0),
            retired,
            farewell,
            deadlines: Rc::clone(&self.sessions.deadlines),
            idle_timeout_ms: dial.idle_timeout_ms,
            heard_ms: Cell::new(0),
            idle_until_ms: Cell::new(0),
        });
        let lease = Lease::of(&session);
        if !self.sessions.deadlines.is_draining() {
            self.host(|host| {
                host.speaks_http1 = false;
                host.sessions.push(session);
            });
        }
        Ok(lease)
    }

    fn host(&self, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.sessions.hosts.borrow_mut().get_mut(&self.key) {
            change(host);
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.started.get() {
            self.gate.open();
        }
    }
}

fn settings() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(NOT_KNOWN)
        .max_header_list_size(limits::HTTP2_HEADER_LIST_BYTES as u32)
        .max_concurrent_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(FAULT_RESETS))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// Reads and writes for all streams of a connection, to its end: that of the origin, or when nobody holds a stream or
/// the session any more. What is left to be said then has a short time: an origin may never take it.
async fn drive(
    mut connection: h2::client::Connection<Gathered<UpstreamIo>, Bytes>,
    drain: Drain<UpstreamIo>,
    (retired, gate, farewell): (Rc<Cell<bool>>, Rc<Gate>, Rc<Deadline>),
) {
    poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if !gate.is_open.get() && connection.max_concurrent_send_streams() != NOT_KNOWN {
            gate.open();
        }
        match (polled, drain.poll(cx)) {
            (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Pending, _) => farewell.poll(cx).map(|_| ()),
        }
    })
    .await;
    retired.set(true);
    gate.open();
}
