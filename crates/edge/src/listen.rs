//! Listening sockets: one for each worker and port, made together so that a port is taken by all workers or by none.
//! Sockets of a process that this one follows are taken over instead, with the connections that wait in them. Sockets of
//! UDP are kept the same way; ports of the two have nothing to do with each other.

use crate::config::{BindFault, Config};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that wait to be accepted, for each worker.
const BACKLOG: i32 = 4_096;

/// A socket that several workers have side by side on one port.
pub(crate) trait PortSocket: Sized {
    const IS_UDP: bool;
    /// Bound, and taking what comes at once.
    fn open(address: SocketAddr, is_shared: bool) -> io::Result<Self>;
    /// Bound beside sockets of a process that still serves, without taking anything from them. None where that cannot
    /// be.
    fn beside(address: SocketAddr) -> io::Result<Option<Self>>;
    fn second(&self) -> io::Result<Self>;
    fn address(&self) -> io::Result<SocketAddr>;
}

impl PortSocket for TcpListener {
    const IS_UDP: bool = false;

    fn open(address: SocketAddr, is_shared: bool) -> io::Result<Self> {
        listen(address, is_shared).map(Into::into)
    }

    /// It listens when its worker accepts.
    fn beside(address: SocketAddr) -> io::Result<Option<Self>> {
        bind(address, true).map(|socket| Some(socket.into()))
    }

    fn second(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl PortSocket for UdpSocket {
    const IS_UDP: bool = true;

    fn open(address: SocketAddr, is_shared: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(is_shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// A socket of UDP gets its share from the moment it is bound, and flows would move.
    fn beside(_: SocketAddr) -> io::Result<Option<Self>> {
        Ok(None)
    }

    fn second(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// The sockets of all workers. Locked only when the set of ports changes, and to hand the sockets on.
pub(crate) struct Ports<S = TcpListener> {
    config: Arc<Config>,
    state: Mutex<State<S>>,
}

struct State<S> {
    bound: BTreeMap<u16, Bound<S>>,
    faults: BTreeMap<u16, BindFault>,
    /// Taken over from another process, and not yet wanted.
    inherited: BTreeMap<SocketAddr, Vec<S>>,
    holds: u64,
}

/// A port that at least one worker holds.
struct Bound<S> {
    /// By worker: made and not yet taken. Several where there are fewer workers than sockets taken over.
    waiting: Vec<Vec<S>>,
    is_inherited: bool,
    /// Second descriptors of the sockets that workers took, by the number of the hold.
    held: BTreeMap<u64, Vec<S>>,
}

impl<S> Default for Bound<S> {
    fn default() -> Self {
        Bound { waiting: Vec::new(), is_inherited: false, held: BTreeMap::new() }
    }
}

/// A worker's hold on a port; the port is free when the last one is dropped.
pub(crate) struct Held<S: PortSocket = TcpListener> {
    ports: Arc<Ports<S>>,
    port: u16,
    number: u64,
}

impl<S: PortSocket> Drop for Held<S> {
    fn drop(&mut self) {
        let mut state = self.ports.lock();
        if let Some(bound) = state.bound.get_mut(&self.port) {
            bound.held.remove(&self.number);
            if bound.held.is_empty() {
                state.bound.remove(&self.port);
            }
        }
    }
}

impl<S: PortSocket> Ports<S> {
    pub fn new(config: Arc<Config>, inherited: Vec<S>) -> Arc<Ports<S>> {
        let (bound, faults) = (BTreeMap::new(), BTreeMap::new());
        let mut state = State { bound, faults, inherited: BTreeMap::new(), holds: 0 };
        for listener in inherited {
            // A socket that cannot say where it is bound is none that a port could want.
            if let Ok(address) = listener.address() {
                state.inherited.entry(address).or_default().push(listener);
            }
        }
        Arc::new(Ports { config, state: Mutex::new(state) })
    }

    /// A worker's own sockets for a port, each to be made ready by [`start_listening`]. None when the port cannot be
    /// bound, which [`Ports::faults`] then explains.
    pub fn take(self: &Arc<Self>, port: u16, worker: usize) -> Option<(Vec<S>, Held<S>)> {
        let mut state = self.lock();
        match self.take_locked(&mut state, port, worker) {
            Ok((listeners, number)) => {
                state.faults.remove(&port);
                Some((listeners, Held { ports: Arc::clone(self), port, number }))
            }
            Err(fault) => {
                state.faults.insert(port, fault);
                None
            }
        }
    }

    /// What cannot be bound now.
    pub fn faults(&self) -> Vec<BindFault> {
        self.lock().faults.values().cloned().collect()
    }

    /// The ports that are bound, as written in the plan.
    pub fn bound(&self) -> Vec<u16> {
        self.lock().bound.keys().copied().collect()
    }

    /// Faults of ports that nobody wants any more are no faults.
    pub fn forget_faults(&self, is_wanted: impl Fn(u16) -> bool) {
        self.lock().faults.retain(|port, _| is_wanted(*port));
    }

    /// Lets go of the sockets taken over that no port of the plan wants.
    pub fn forget_inherited(&self) {
        self.lock().inherited.clear();
    }

    /// Descriptors of all sockets, for another process to take over.
    pub fn listeners(&self) -> io::Result<Vec<S>> {
        let state = self.lock();
        let sockets = state
            .bound
            .values()
            .flat_map(|bound| bound.held.values().flatten().chain(bound.waiting.iter().flatten()));
        sockets.map(S::second).collect()
    }

    fn take_locked(
        &self,
        state: &mut State<S>,
        port: u16,
        worker: usize,
    ) -> Result<(Vec<S>, u64), BindFault> {
        let config = &*self.config;
        let address =
            config.address(port).ok_or_else(|| BindFault::no_such_port(config, S::IS_UDP, port))?;
        let fault = |error: io::Error| BindFault::of(config, S::IS_UDP, port, &error);
        if !state.bound.contains_key(&port) {
            let bound = match state.inherited.remove(&address) {
                Some(sockets) => Bound::inherited(sockets, config.workers),
                None => Bound::new(address, config.workers).map_err(fault)?,
            };
            state.bound.insert(port, bound);
        }
        state.holds += 1;
        let number = state.holds;
        let bound = state.bound.entry(port).or_default();
        let taken = bound.take(address, worker, number);
        if bound.held.is_empty() {
            state.bound.remove(&port);
        }
        Ok((taken.map_err(fault)?, number))
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: PortSocket> Bound<S> {
    /// `SO_REUSEPORT` lets another process of this user share a port in silence: a socket without it is tried first,
    /// which finds whoever listens already.
    fn new(address: SocketAddr, workers: usize) -> io::Result<Bound<S>> {
        drop(S::open(address, false)?);
        let waiting = (0..workers).map(|_| Ok(vec![S::open(address, true)?]));
        Ok(Bound { waiting: waiting.collect::<io::Result<_>>()?, ..Bound::default() })
    }

    /// Every socket gets a worker: what waits in one that nobody accepts from would be lost.
    fn inherited(sockets: Vec<S>, workers: usize) -> Bound<S> {
        let mut waiting: Vec<Vec<S>> = Vec::new();
        waiting.resize_with(workers.max(1), Vec::new);
        for (worker, socket) in (0..waiting.len()).cycle().zip(sockets) {
            waiting[worker].push(socket);
        }
        Bound { waiting, is_inherited: true, ..Bound::default() }
    }

    fn take(&mut self, address: SocketAddr, worker: usize, number: u64) -> io::Result<Vec<S>> {
        let mut taken = self.waiting.get_mut(worker).map(std::mem::take).unwrap_or_default();
        if taken.is_empty() {
            // Beside sockets of a process that still serves, one more would draw connections at once.
            match self.is_inherited {
                true => taken.extend(S::beside(address)?),
                false => taken.push(S::open(address, true)?),
            }
        }
        let kept: io::Result<Vec<_>> = taken.iter().map(S::second).collect();
        self.held.insert(number, kept?);
        Ok(taken)
    }
}

/// Of a socket that listens already: changes nothing.
pub(crate) fn start_listening(socket: &TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

fn listen(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = bind(address, is_shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    // Connections have it from their listener. Where the kernel has no such option it keeps more.
    let _ = socket.set_tcp_notsent_lowat(model::limits::CLIENT_UNSENT_BYTES);
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ports(workers: usize) -> Arc<Ports<TcpListener>> {
        let bind = Ipv4Addr::LOCALHOST.into();
        Ports::new(Arc::new(Config { bind, port_offset: 0, workers }), Vec::new())
    }

    fn free_port() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        listener.local_addr().expect("bound").port()
    }

    #[test]
    fn connections_take_over_how_much_may_be_unsent() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener: TcpListener = listen(any, true).expect("bound").into();
        listener.set_nonblocking(false).expect("set");
        let address = listener.local_addr().expect("bound");
        let _client = std::net::TcpStream::connect(address).expect("loopback");
        let (accepted, _) = listener.accept().expect("a client");
        let unsent = socket2::SockRef::from(&accepted).tcp_notsent_lowat().expect("an option");
        assert_eq!(unsent, model::limits::CLIENT_UNSENT_BYTES);
    }

    #[test]
    fn all_workers_share_a_port_that_others_may_not_have() {
        let port = free_port();
        let ours = ports(2);
        let first = ours.take(port, 0).expect("free");
        let second = ours.take(port, 1).expect("ours");
        let theirs = ports(1);
        assert!(theirs.take(port, 0).is_none());
        let message = format!("port {port} is in use; use --port-offset");
        assert_eq!(theirs.faults(), [BindFault { is_udp: false, port, message }]);
        drop(first);
        assert_eq!(ours.bound(), [port]);
        // Dropped by one worker and wanted again while the other still holds it.
        let again = ours.take(port, 0).expect("ours");
        drop((second, again));
        assert!(ours.bound().is_empty());
        assert!(theirs.take(port, 0).is_some());
        assert!(theirs.faults().is_empty());
    }

    #[test]
    fn faults_name_the_mend() {
        let bind = Ipv4Addr::LOCALHOST.into();
        let config = Config { bind, port_offset: 8_000, workers: 1 };
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(
            BindFault::of(&config, false, 80, &in_use).message,
            "port 80 + offset 8000 = 8080 is in use; use --port-offset"
        );
        let ports = Ports::<TcpListener>::new(Arc::new(config), Vec::new());
        assert!(ports.take(60_000, 0).is_none());
        assert_eq!(
            ports.faults()[0].message,
            "port 60000 + offset 8000 is more than 65535; use a smaller --port-offset"
        );
    }
    #[test]
    fn sockets_taken_over_are_shared_out_and_every_one_has_a_worker() {
        let bind = Ipv4Addr::LOCALHOST.into();
        for (before, after) in [(1, 1), (1, 3), (3, 1), (3, 2), (2, 4)] {
            let port = free_port();
            let old = ports(before);
            let first: Vec<_> =
                (0..before).map(|worker| old.take(port, worker).expect("free")).collect();
            let inherited = old.listeners().expect("descriptors");
            assert_eq!(inherited.len(), before);
            let config = Arc::new(Config { bind, port_offset: 0, workers: after });
            let new = Ports::new(config, inherited);
            let taken: Vec<_> =
                (0..after).map(|worker| new.take(port, worker).expect("taken over")).collect();
            let counts: Vec<usize> = taken.iter().map(|(sockets, _)| sockets.len()).collect();
            assert!(counts.iter().all(|count| *count >= 1), "{before} to {after}: {counts:?}");
            assert_eq!(counts.iter().sum::<usize>(), before.max(after));
            assert_eq!(new.listeners().expect("descriptors").len(), before.max(after));
            // The old process is gone, and the port is still taken by us alone.
            drop((first, old));
            assert!(ports(1).take(port, 0).is_none());
            drop(taken);
            assert!(ports(1).take(port, 0).is_some());
        }
    }

    #[test]
    fn a_connection_that_waits_outlives_the_process_that_did_not_take_it() {
        let port = free_port();
        let old = ports(1);
        let (sockets, held) = old.take(port, 0).expect("free");
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("queued");
        let new = Ports::new(Arc::clone(&old.config), old.listeners().expect("descriptors"));
        drop((sockets, held, old));
        let (sockets, _held) = new.take(port, 0).expect("taken over");
        let (_, peer) = sockets[0].accept().expect("it waits");
        assert_eq!(peer, client.local_addr().expect("connected"));
    }

    #[test]
    fn a_port_that_the_plan_lost_is_let_go() {
        let port = free_port();
        let old = ports(1);
        let held = old.take(port, 0).expect("free");
        let new = Ports::new(Arc::clone(&old.config), old.listeners().expect("descriptors"));
        drop((held, old));
        assert!(ports(1).take(port, 0).is_none());
        new.forget_inherited();
        assert!(ports(1).take(port, 0).is_some());
    }
}
