//! What a connection has to pass before its first byte is taken for TLS or HTTP: the header of the PROXY protocol where
//! the port wants one, and the addresses that may connect. For every protocol of a port alike.
//!
//! ```text
//! accept ── PROXY header (never a byte more) ── who connected ── TLS, HTTP, or whatever follows
//! ```

use crate::deadline::Deadline;
use h1::proxy_header::{self, ProxyEnds, ProxyHeader, VERSION1_BYTES};
use model::front::{self, AcceptProxy, ListenerPolicy, Restriction};
use model::limits;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a port asks before a name is known.
pub(crate) struct PortEntry {
    proxy: Option<AcceptProxy>,
    /// By listener; empty where one of them lets everybody in.
    peers: Vec<Vec<Restriction>>,
}

/// Why a connection is closed before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// No listener of the port lets the address in.
    Peer,
    /// Not from where a PROXY header is believed.
    ProxyUntrusted,
    ProxyMissing,
    ProxyMalformed,
    /// The header did not come in time, or the connection ended before.
    ProxyIncomplete,
}

impl Unwelcome {
    pub const ALL: [Unwelcome; 5] = [
        Unwelcome::Peer,
        Unwelcome::ProxyUntrusted,
        Unwelcome::ProxyMissing,
        Unwelcome::ProxyMalformed,
        Unwelcome::ProxyIncomplete,
    ];

    pub fn slug(self) -> &'static str {
        match self {
            Unwelcome::Peer => "peer-refused",
            Unwelcome::ProxyUntrusted => "proxy-untrusted",
            Unwelcome::ProxyMissing => "proxy-missing",
            Unwelcome::ProxyMalformed => "proxy-malformed",
            Unwelcome::ProxyIncomplete => "proxy-incomplete",
        }
    }
}

impl PortEntry {
    /// None where nothing is asked. The listeners of a port agree about the PROXY protocol.
    pub fn of<'p>(
        listeners: impl Iterator<Item = Option<&'p ListenerPolicy>> + Clone,
    ) -> Option<PortEntry> {
        let proxy = listeners.clone().flatten().find_map(|policy| policy.proxy_protocol.clone());
        let peers = listeners.map(|policy| policy.map_or(&[][..], |policy| &policy.peers).to_vec());
        let mut peers: Vec<_> = peers.collect();
        if peers.iter().any(Vec::is_empty) {
            peers.clear();
        }
        peers.dedup();
        (proxy.is_some() || !peers.is_empty()).then_some(PortEntry { proxy, peers })
    }

    /// Passes a connection on: by its own addresses, or those that its PROXY header tells.
    pub async fn pass(
        &self,
        io: &TcpStream,
        peer: SocketAddr,
        deadline: &Deadline,
    ) -> Result<Option<ProxyEnds>, Unwelcome> {
        let ends = match &self.proxy {
            Some(proxy) => receive(proxy, io, peer.ip(), deadline).await?,
            None => None,
        };
        match self.refuses(ends.map_or(peer, |ends| ends.client).ip()) {
            true => Err(Unwelcome::Peer),
            false => Ok(ends),
        }
    }

    /// Whoever the client wants to talk to would refuse it.
    fn refuses(&self, peer: IpAddr) -> bool {
        !self.peers.is_empty()
            && self.peers.iter().all(|peers| front::refusal(peers, peer).is_some())
    }
}

async fn receive(
    proxy: &AcceptProxy,
    io: &TcpStream,
    peer: IpAddr,
    deadline: &Deadline,
) -> Result<Option<ProxyEnds>, Unwelcome> {
    if !proxy.from.contains(peer) {
        return match proxy.is_optional {
            true => Ok(None),
            false => Err(Unwelcome::ProxyUntrusted),
        };
    }
    deadline.stall_after(limits::HANDSHAKE_TIMEOUT_MS);
    let mut look = pin!(look(io));
    let header = poll_fn(|cx| match look.as_mut().poll(cx) {
        Poll::Pending => deadline.poll(cx).map(|_| None),
        ready => ready,
    });
    match header.await.ok_or(Unwelcome::ProxyIncomplete)? {
        ProxyHeader::Whole { len, ends } => {
            let mut left = len;
            let taken = poll_fn(|cx| match poll_take(io, &mut left, cx) {
                Poll::Pending => deadline.poll(cx).map(|_| Err(io::ErrorKind::TimedOut.into())),
                ready => ready,
            });
            taken.await.map_err(|_| Unwelcome::ProxyIncomplete)?;
            Ok(ends)
        }
        ProxyHeader::Absent if proxy.is_optional => Ok(None),
        ProxyHeader::Absent => Err(Unwelcome::ProxyMissing),
        ProxyHeader::Malformed | ProxyHeader::More => Err(Unwelcome::ProxyMalformed),
    }
}

/// Looks at the first bytes and takes none: what is no header belongs to whoever comes next. None when the connection is
/// over.
async fn look(io: &TcpStream) -> Option<ProxyHeader> {
    // The longest line of version 1, and more than the addresses of version 2.
    let mut room = [0; VERSION1_BYTES];
    loop {
        let readiness = io.ready(Interest::READABLE).await.ok()?;
        let count = io.peek(&mut room).await.ok()?;
        match proxy_header::parse(&room[..count]) {
            ProxyHeader::More if count == 0 || readiness.is_read_closed() => return None,
            ProxyHeader::More => {}
            known => return Some(known),
        }
        // The socket stays readable; forgetting that it is, one is woken by the next bytes.
        let _ = io.try_io(Interest::READABLE, || {
            Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
        });
    }
}

fn poll_take(io: &TcpStream, left: &mut usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut room = [0; 256];
    while *left > 0 {
        ready!(io.poll_read_ready(cx))?;
        let wanted = room.len().min(*left);
        match io.try_read(&mut room[..wanted]) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => *left -= count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}
