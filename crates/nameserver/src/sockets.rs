//! Binding, sharing sockets out among workers, starting and ending.

use crate::counters::Counters;
use crate::error::Error;
use crate::{tcp, udp};
use publish::Cell;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use zone::Zones;

/// Asked of the kernel, which may give less: a burst waits here while a worker is busy.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
const BACKLOG: i32 = 1024;
/// Port 0 takes a free TCP port; its UDP twin may be taken, so a few are tried.
const PORT_TRIES: usize = 16;

/// Bound and not yet served.
#[derive(Debug, Default)]
pub struct Sockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
    addresses: Vec<SocketAddr>,
}

/// What all tasks share. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub zones: Cell<Zones>,
    pub counters: Arc<Counters>,
    /// `true`, or the end of its sender, says stop.
    pub stop: watch::Receiver<bool>,
    connections: Arc<Semaphore>,
}

impl Service {
    pub fn new(zones: Cell<Zones>, counters: Arc<Counters>, stop: watch::Receiver<bool>) -> Self {
        let connections = Arc::new(Semaphore::new(model::limits::DNS_TCP_CONNECTIONS));
        Service { zones, counters, stop, connections }
    }

    pub(crate) fn connections(&self) -> Arc<Semaphore> {
        Arc::clone(&self.connections)
    }

    pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
        // An error means that the sender is gone, which says stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

impl Sockets {
    /// UDP and TCP on each address; `per_address` UDP sockets share a port (SO_REUSEPORT), one for each worker.
    /// Port 0 takes a free one.
    pub fn bind(addresses: &[SocketAddr], per_address: usize) -> Result<Sockets, Error> {
        let mut sockets = Sockets::default();
        for address in addresses {
            sockets.add(*address, per_address.max(1))?;
        }
        Ok(sockets)
    }

    /// Sockets that are bound already, by a process that this one follows: one listener for each address.
    pub fn inherited(
        udp: Vec<std::net::UdpSocket>,
        tcp: Vec<std::net::TcpListener>,
    ) -> io::Result<Sockets> {
        let addresses = tcp.iter().map(std::net::TcpListener::local_addr).collect::<Result<_, _>>();
        Ok(Sockets { udp, tcp, addresses: addresses? })
    }

    /// Second descriptors of the same sockets.
    pub fn try_clone(&self) -> io::Result<Sockets> {
        let udp = self.udp.iter().map(std::net::UdpSocket::try_clone).collect::<Result<_, _>>()?;
        let tcp =
            self.tcp.iter().map(std::net::TcpListener::try_clone).collect::<Result<_, _>>()?;
        Ok(Sockets { udp, tcp, addresses: self.addresses.clone() })
    }

    /// The UDP sockets and the TCP listeners.
    pub fn into_parts(self) -> (Vec<std::net::UdpSocket>, Vec<std::net::TcpListener>) {
        (self.udp, self.tcp)
    }

    /// The addresses with the ports that were given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// One share for each worker: UDP sockets in turn, the TCP listeners to the first.
    pub fn split(self, workers: usize) -> Vec<Sockets> {
        let mut shares: Vec<Sockets> = Vec::new();
        shares.resize_with(workers.max(1), Sockets::default);
        for (share, socket) in (0..shares.len()).cycle().zip(self.udp) {
            shares[share].udp.push(socket);
        }
        shares[0].tcp = self.tcp;
        for share in &mut shares {
            share.addresses.clone_from(&self.addresses);
        }
        shares
    }

    /// Starts one task a socket on the runtime of the caller.
    pub fn serve(self, service: &Service) -> io::Result<Running> {
        let mut tasks = JoinSet::new();
        for socket in self.udp {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            tasks.spawn(udp::serve(socket, service.clone()));
        }
        for listener in self.tcp {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(tcp::serve(listener, service.clone()));
        }
        Ok(Running { tasks })
    }

    fn add(&mut self, address: SocketAddr, count: usize) -> Result<(), Error> {
        let tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        let mut result = self.add_pair(address, count);
        for _ in 1..tries {
            if result.is_ok() {
                break;
            }
            result = self.add_pair(address, count);
        }
        result
    }

    fn add_pair(&mut self, address: SocketAddr, count: usize) -> Result<(), Error> {
        let fault = |transport| move |cause| Error::Bind { address, transport, cause };
        // First, as it is not shared: a second server is refused here before its UDP sockets take queries away.
        let listener = bind_tcp(address).map_err(fault("TCP"))?;
        let bound = listener.local_addr().map_err(fault("TCP"))?;
        let udp: io::Result<Vec<_>> = (0..count).map(|_| bind_udp(bound)).collect();
        self.udp.extend(udp.map_err(fault("UDP"))?);
        self.tcp.push(listener);
        self.addresses.push(bound);
        Ok(())
    }
}

/// The tasks of one share.
pub struct Running {
    tasks: JoinSet<()>,
}

impl Running {
    /// Returns when all tasks ended after a stop: queries that were read are answered. A task that panicked has ended
    /// too.
    pub async fn finished(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // Less is enough to work with.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
