//! A client's connection from accept to close: handshake where the port has TLS, then the version of HTTP that the
//! client speaks.

use crate::access::TlsFacts;
use crate::http1::{Http1, Next};
use crate::stream::{self, Arrival, Https};
use crate::tls::{self, HandshakeFault, PortTls};
use crate::upstream::Ends;
use crate::worker::Worker;
use crate::{deadline::Deadline, http2};
use model::edge::Protocol;
use model::limits;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::TcpStream;

/// What is known of a connection and does not change.
pub(crate) struct Connection {
    pub peer: SocketAddr,
    /// Where the client connected to; as good as unknown where the system does not say.
    pub local: SocketAddr,
    /// The client's address as text.
    pub client: String,
    /// As written in the plan.
    pub port: u16,
    pub tls: Option<TlsFacts>,
}

impl Connection {
    pub fn scheme(&self) -> Protocol {
        if self.tls.is_some() { Protocol::Https } else { Protocol::Http }
    }

    pub fn ends(&self) -> Ends {
        Ends { peer: self.peer, local: self.local }
    }

    pub fn scheme_name(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

pub(crate) async fn serve(worker: &Rc<Worker>, port: u16, io: TcpStream, peer: SocketAddr) {
    // A socket that cannot be told to send at once still works.
    let _ = io.set_nodelay(true);
    let local = io.local_addr().ok();
    let view = worker.view();
    let has_streams = view.streams().has_tcp(port);
    let tls = match view.port(port) {
        Some(plan) => plan.tls.clone(),
        None if has_streams => None,
        None => return,
    };
    drop(view);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let local = local.unwrap_or(SocketAddr::new(worker.config.bind, port));
    let connection = Connection { peer, local, client: peer.ip().to_string(), port, tls: None };
    let deadline = worker.deadlines.register();
    if has_streams {
        return Box::pin(beside_streams(worker, connection, io, deadline, tls)).await;
    }
    match tls {
        None => plain(worker, Rc::new(connection), io, deadline).await,
        // Boxed: what a handshake and its session need would lie in every connection's task.
        Some(tls) => Box::pin(secure(worker, connection, io, deadline, tls)).await,
    }
}

/// A port that has listeners below HTTP: what is not for them is HTTPS.
async fn beside_streams(
    worker: &Rc<Worker>,
    connection: Connection,
    io: TcpStream,
    deadline: Deadline,
    tls: Option<Arc<PortTls>>,
) {
    let (port, ends) = (connection.port, connection.ends());
    let arrival = Arrival { worker, deadline: &deadline, port, ends };
    if let (Some(Https(io)), Some(tls)) = (stream::serve(arrival, io).await, tls) {
        secure(worker, connection, io, deadline, tls).await;
    }
}

async fn plain(worker: &Rc<Worker>, connection: Rc<Connection>, io: TcpStream, deadline: Deadline) {
    let mut http1 = Http1::new(worker, &connection, io, &deadline, true);
    if http1.serve().await == Next::Http2 {
        let (io, first) = http1.into_parts();
        Box::pin(http2::serve(worker, connection, io, first, deadline)).await;
    }
}

async fn secure(
    worker: &Rc<Worker>,
    mut connection: Connection,
    io: TcpStream,
    deadline: Deadline,
    tls: Arc<PortTls>,
) {
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
