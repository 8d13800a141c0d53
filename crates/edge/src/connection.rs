//! A client's connection from accept to close: handshake where the port has TLS, then the version of HTTP that the
//! client speaks.

use crate::access::TlsFacts;
use crate::config::Config;
use crate::entry::PortEntry;
use crate::http1::{Http1, Next};
use crate::port_limits::{self, PortLimits};
use crate::stream::{self, Arrival, Https};
use crate::tls::{self, HandshakeFault, PortTls};
use crate::upstream::Ends;
use crate::worker::{Place, Worker};
use crate::{deadline::Deadline, http2};
use h1::proxy_header::ProxyEnds;
use model::edge::Protocol;
use model::limits;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// What is known of a connection and does not change.
pub(crate) struct Connection {
    /// The other end, or the one that a PROXY header tells of.
    pub peer: SocketAddr,
    /// The peer's address as text.
    pub client: String,
    /// As written in the plan.
    pub port: u16,
    pub tls: Option<TlsFacts>,
    /// None is the edge's own limits.
    pub limits: Option<Arc<PortLimits>>,
    rare: Option<Box<Rare>>,
}

/// What few connections need.
struct Rare {
    /// Where the client connected to.
    local: Option<SocketAddr>,
    /// Who sent the PROXY header.
    proxy: Option<SocketAddr>,
}

impl Connection {
    pub fn new(peer: SocketAddr, port: u16) -> Connection {
        Connection {
            peer,
            client: peer.ip().to_string(),
            port,
            tls: None,
            limits: None,
            rare: None,
        }
    }

    /// Who is at the other end, where the peer is another.
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.rare.as_ref()?.proxy
    }

    /// What a PROXY header tells: who connected to whom.
    fn behind(self, ProxyEnds { client, server }: ProxyEnds) -> Connection {
        let rare = Rare { local: Some(server), proxy: Some(self.peer) };
        Connection {
            rare: Some(Box::new(rare)),
            limits: self.limits,
            ..Connection::new(client, self.port)
        }
    }

    /// Asks the system where the client connected to, where that may be told to a backend and is not known.
    fn learn_local(&mut self, worker: &Worker, io: &TcpStream) {
        if worker.config.bind.is_unspecified()
            && worker.view().tells_of_clients()
            && let Ok(local) = io.local_addr()
        {
            self.rare = Some(Box::new(Rare { local: Some(local), proxy: None }));
        }
    }

    pub fn scheme(&self) -> Protocol {
        if self.tls.is_some() { Protocol::Https } else { Protocol::Http }
    }

    pub fn limits(&self) -> &PortLimits {
        self.limits.as_deref().unwrap_or(&port_limits::DEFAULT)
    }

    /// A connection that is older than the policy by which backends are told of it, on a port of every address, is said
    /// to lead to that.
    pub fn ends(&self, config: &Config) -> Ends {
        let known = self.rare.as_ref().and_then(|rare| rare.local).or(config.address(self.port));
        let local = known.unwrap_or(SocketAddr::new(config.bind, self.port));
        Ends { peer: self.peer, local }
    }

    pub fn scheme_name(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// Serves a connection to its end, in a task whose form is that of what its port needs: what a handshake, a PROXY header
/// or a listener below HTTP needs does not lie in the task of a plain connection.
pub(crate) fn start(place: Place, port: u16, io: TcpStream, peer: SocketAddr) {
    let worker = place.worker();
    // A socket that cannot be told to send at once still works.
    let _ = io.set_nodelay(true);
    let view = worker.view();
    let has_streams = view.streams().has_tcp(port);
    let (tls, entry, limits) = match view.port(port) {
        Some(plan) => (plan.tls.clone(), plan.entry.clone(), plan.limits.clone()),
        None if has_streams => (None, view.streams().entry(port).cloned(), None),
        None => return,
    };
    drop(view);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut connection = Connection { limits, ..Connection::new(peer, port) };
    connection.learn_local(worker, &io);
    let deadline = worker.deadlines.register();
    match (tls, entry) {
        (tls, entry) if entry.is_some() || has_streams => {
            let guard = Guard { entry, has_streams, tls };
            drop(spawn_local(guarded(place, connection, io, deadline, guard)));
        }
        (None, _) => drop(spawn_local(plain(place, Rc::new(connection), io, deadline))),
        (Some(tls), _) => drop(spawn_local(secure(place, connection, io, deadline, tls))),
    }
}

/// What a connection passes before it is one of HTTP.
struct Guard {
    entry: Option<Arc<PortEntry>>,
    /// The port has listeners below HTTP: what is not for them is HTTPS.
    has_streams: bool,
    tls: Option<Arc<PortTls>>,
}

async fn guarded(
    place: Place,
    mut connection: Connection,
    mut io: TcpStream,
    deadline: Deadline,
    guard: Guard,
) {
    let worker = place.worker();
    if let Some(entry) = guard.entry {
        match entry.pass(&io, connection.peer, &deadline).await {
            Ok(None) => {}
            Ok(Some(ends)) => connection = connection.behind(ends),
            Err(unwelcome) => return worker.counters().unwelcome[unwelcome as usize].add(1),
        }
    }
    if guard.has_streams {
        let (port, ends) = (connection.port, connection.ends(&worker.config));
        let proxy = connection.proxy();
        let arrival = Arrival { worker, deadline: &deadline, port, ends, proxy };
        match Box::pin(stream::serve(arrival, io)).await {
            Some(Https(https)) if guard.tls.is_some() => io = https,
            _ => return,
        }
    }
    match guard.tls {
        None => Box::pin(plain(place, Rc::new(connection), io, deadline)).await,
        Some(tls) => Box::pin(secure(place, connection, io, deadline, tls)).await,
    }
}

async fn plain(place: Place, connection: Rc<Connection>, io: TcpStream, deadline: Deadline) {
    let worker = place.worker();
    let mut http1 = Http1::new(worker, &connection, io, &deadline, true);
    if http1.serve().await == Next::Http2 {
        let (io, first) = http1.into_parts();
        Box::pin(http2::serve(worker, connection, io, first, deadline)).await;
    }
}

async fn secure(
    place: Place,
    mut connection: Connection,
    io: TcpStream,
    deadline: Deadline,
    tls: Arc<PortTls>,
) {
    let worker = place.worker();
    deadline.stall_after(limits::HANDSHAKE_TIMEOUT_MS);
    let mut accepting = Box::pin(tls::accept(io, &tls));
    let accepted = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => deadline.poll(cx).map(|_| Err(HandshakeFault::Failed)),
    })
    .await;
    drop(accepting);
    let counters = worker.counters();
    match accepted {
        Err(HandshakeFault::NoCertificate) => counters.handshakes_without_certificate.add(1),
        Err(HandshakeFault::Failed) => counters.handshakes_failed.add(1),
        Ok(accepted) => {
            counters.handshakes.add(1);
            connection.tls = Some(accepted.facts);
            if accepted.is_http2 {
                let connection = Rc::new(connection);
                Box::pin(http2::serve(worker, connection, accepted.io, None, deadline)).await;
            } else {
                Http1::new(worker, &connection, accepted.io, &deadline, false).serve().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the task of a function's connection; the function is not called.
    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn size_with_tls<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle connection costs its task: whoever makes one larger makes each of a million connections larger.
    #[test]
    fn tasks_stay_small() {
        assert!(size(plain) <= 576, "{}", size(plain));
        assert!(size_with_tls(secure) <= 1_024, "{}", size_with_tls(secure));
        assert!(size_with_tls(guarded) <= 1_280, "{}", size_with_tls(guarded));
    }
}
