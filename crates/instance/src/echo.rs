//! `--echo`: the built-in origin on every loopback endpoint where nothing listens.

use model::Facts;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Running origins; dropping an entry's sender stops it.
#[derive(Default)]
pub struct Echo {
    running: BTreeMap<SocketAddr, oneshot::Sender<()>>,
}

impl Echo {
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
            if !self.running.contains_key(&address) {
                self.start(address, service).await;
            }
        }
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }

    async fn start(&mut self, address: SocketAddr, service: String) {
        // In use: somebody answers there already, which is what `--echo` leaves alone.
        let Ok(listener) = TcpListener::bind(address).await else { return };
        let (stop, stopped) = oneshot::channel();
        let options = origin::Options { name: format!("{service} {address}") };
        tokio::spawn(origin::serve(listener, options, async {
            // A dropped sender stops the origin too.
            let _ = stopped.await;
        }));
        self.running.insert(address, stop);
    }
}
