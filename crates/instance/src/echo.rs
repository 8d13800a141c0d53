//! `--echo`: the built-in origin on every loopback endpoint where nothing listens.

use model::Facts;
use origin::{Options, Origin};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// Running origins.
pub struct Echo {
    running: BTreeMap<SocketAddr, Running>,
    /// Listening already in the process that this one follows.
    inherited: BTreeMap<SocketAddr, std::net::TcpListener>,
    /// Origins that only finish what runs.
    closed: Vec<oneshot::Sender<()>>,
    /// Accepting begins when this is true.
    opened: watch::Receiver<bool>,
}

/// Dropping it ends the origin.
struct Running {
    /// A second descriptor, for another process.
    listener: std::net::TcpListener,
    /// Ends the accepting alone; the answer comes when nothing is accepted any more.
    close: oneshot::Sender<oneshot::Sender<()>>,
    stop: oneshot::Sender<()>,
}

impl Echo {
    pub fn new(inherited: Vec<std::net::TcpListener>, opened: watch::Receiver<bool>) -> Echo {
        let addressed = inherited.into_iter().filter_map(|l| Some((l.local_addr().ok()?, l)));
        Echo {
            running: BTreeMap::new(),
            inherited: addressed.collect(),
            closed: Vec::new(),
            opened,
        }
    }

    /// Starts and stops origins so that they fit the endpoints.
    pub async fn follow(&mut self, facts: &Facts) {
        let wanted: BTreeSet<(SocketAddr, String)> = facts
            .endpoints
            .iter()
            .flat_map(|(port, set)| {
                set.endpoints
                    .iter()
                    .map(move |e| (e.address, format!("{}/{}", port.namespace, port.name)))
            })
            .filter(|(address, _)| address.ip().is_loopback())
            .collect();
        let addresses: BTreeSet<SocketAddr> = wanted.iter().map(|(address, _)| *address).collect();
        self.running.retain(|address, _| addresses.contains(address));
        for (address, service) in wanted {
            if !self.running.contains_key(&address)
                && let Ok(running) = self.start(address, &service).await
            {
                self.running.insert(address, running);
            }
        }
        // Endpoints that are gone.
        self.inherited.clear();
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Descriptors of all sockets, for another process to take over.
    pub fn listeners(&self) -> io::Result<Vec<std::net::TcpListener>> {
        self.running.values().map(|running| running.listener.try_clone()).collect()
    }

    /// Accepts no more; connections go on until the process ends. What waits in the sockets is left to whoever has
    /// them too.
    pub async fn close(&mut self) {
        for (_, Running { listener, close, stop }) in std::mem::take(&mut self.running) {
            let (answer, answered) = oneshot::channel();
            if close.send(answer).is_ok() {
                // An error means that the origin has ended.
                let _ = answered.await;
            }
            drop(listener);
            self.closed.push(stop);
        }
    }

    /// An error means that the address is in use: somebody answers there already, which is what `--echo` leaves alone.
    async fn start(&mut self, address: SocketAddr, service: &str) -> io::Result<Running> {
        let listener = match self.inherited.remove(&address) {
            Some(listener) => listener,
            None => TcpListener::bind(address).await?.into_std()?,
        };
        let kept = listener.try_clone()?;
        let listener = TcpListener::from_std(listener)?;
        let (close, closed) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let origin = Origin::new(Options { name: format!("{service} {address}") });
        tokio::spawn(serve(listener, origin, self.opened.clone(), closed, stopped));
        Ok(Running { listener: kept, close, stop })
    }
}

async fn serve(
    listener: TcpListener,
    mut origin: Origin,
    mut opened: watch::Receiver<bool>,
    closing: oneshot::Receiver<oneshot::Sender<()>>,
    mut stopped: oneshot::Receiver<()>,
) {
    tokio::select! {
        _ = opened.wait_for(|is_open| *is_open) => {}
        _ = &mut stopped => return,
    }
    let mut answer = None;
    // A sender that is gone ends it too.
    origin.accept(&listener, async { answer = closing.await.ok() }).await;
    drop(listener);
    if let Some(answer) = answer {
        let _ = answer.send(());
        let _ = stopped.await;
    }
    origin.finish().await;
}
