//! Listening sockets: one for each worker and port, made together so that a port is taken by all workers or by none.

use crate::config::{BindFault, Config};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that wait to be accepted, for each worker.
const BACKLOG: i32 = 4_096;

/// The sockets of all workers. Locked only when the set of ports changes.
pub(crate) struct Ports {
    config: Arc<Config>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bound: BTreeMap<u16, Bound>,
    faults: BTreeMap<u16, BindFault>,
}

/// A port that at least one worker holds.
struct Bound {
    /// By worker: made and not yet taken.
    waiting: Vec<Option<TcpListener>>,
    holders: usize,
}

/// A worker's hold on a port; the port is free when the last one is dropped.
pub(crate) struct Held {
    ports: Arc<Ports>,
    port: u16,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.ports.lock();
        if let Some(bound) = state.bound.get_mut(&self.port) {
            bound.holders -= 1;
            if bound.holders == 0 {
                state.bound.remove(&self.port);
            }
        }
    }
}

impl Ports {
    pub fn new(config: Arc<Config>) -> Arc<Ports> {
        Arc::new(Ports { config, state: Mutex::default() })
    }

    /// A worker's own socket for a port. None when the port cannot be bound, which [`Ports::faults`] then explains.
    pub fn take(self: &Arc<Self>, port: u16, worker: usize) -> Option<(TcpListener, Held)> {
        let mut state = self.lock();
        match self.take_locked(&mut state, port, worker) {
            Ok(listener) => {
                state.faults.remove(&port);
                Some((listener, Held { ports: Arc::clone(self), port }))
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

    fn take_locked(
        &self,
        state: &mut State,
        port: u16,
        worker: usize,
    ) -> Result<TcpListener, BindFault> {
        let config = &*self.config;
        let address = config.address(port).ok_or_else(|| BindFault::no_such_port(config, port))?;
        let fault = |error: io::Error| BindFault::of(config, port, &error);
        if let Some(bound) = state.bound.get_mut(&port) {
            let waiting = bound.waiting.get_mut(worker).and_then(Option::take);
            let listener = waiting.map_or_else(|| listen(address), Ok).map_err(fault)?;
            bound.holders += 1;
            return Ok(listener);
        }
        let mut waiting = listen_for_all(address, config.workers).map_err(fault)?;
        let listener = waiting.get_mut(worker).and_then(Option::take);
        let listener = listener.map_or_else(|| listen(address), Ok).map_err(fault)?;
        state.bound.insert(port, Bound { waiting, holders: 1 });
        Ok(listener)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `SO_REUSEPORT` lets another process of this user share a port in silence: a socket without it is tried first, which
/// finds whoever listens already.
fn listen_for_all(address: SocketAddr, workers: usize) -> io::Result<Vec<Option<TcpListener>>> {
    drop(socket(address, false)?);
    (0..workers).map(|_| listen(address).map(Some)).collect()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    socket(address, true)
}

fn socket(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    // Connections have it from their listener. Where the kernel has no such option it keeps more.
    let _ = socket.set_tcp_notsent_lowat(model::limits::CLIENT_UNSENT_BYTES);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ports(workers: usize) -> Arc<Ports> {
        let bind = Ipv4Addr::LOCALHOST.into();
        Ports::new(Arc::new(Config { bind, port_offset: 0, workers }))
    }

    fn free_port() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        listener.local_addr().expect("bound").port()
    }

    #[test]
    fn connections_take_over_how_much_may_be_unsent() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = socket(any, true).expect("bound");
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
        assert_eq!(theirs.faults(), [BindFault { port, message }]);
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
            BindFault::of(&config, 80, &in_use).message,
            "port 80 + offset 8000 = 8080 is in use; use --port-offset"
        );
        let ports = Ports::new(Arc::new(config));
        assert!(ports.take(60_000, 0).is_none());
        assert_eq!(
            ports.faults()[0].message,
            "port 60000 + offset 8000 is more than 65535; use a smaller --port-offset"
        );
    }
}
