//! What each worker has open, for all to see, and a door to each: a worker that has more than its share gives a new
//! connection to another one, before a byte of it is read. Costs a look at each worker's numbers when a connection is
//! accepted, and nothing afterwards. Who has too much, `traffic` decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use traffic::Open;

/// Connections under way from one worker to another; beyond that, whoever accepted one keeps it.
const DOOR_PLACES: usize = 256;

pub(crate) struct Census {
    workers: Box<[Desk]>,
}

/// Aligned so that two workers do not write to one cache line.
#[repr(align(64))]
struct Desk {
    connections: AtomicU32,
    http2: AtomicU32,
    door: Sender<Handed>,
}

/// A connection from another worker, counted as its new worker's already.
pub(crate) struct Handed {
    pub port: u16,
    pub io: std::net::TcpStream,
    pub peer: SocketAddr,
}

impl Census {
    /// With what comes through each worker's door.
    pub fn new(workers: usize) -> (Arc<Census>, Vec<Receiver<Handed>>) {
        let doors = (0..workers).map(|_| channel(DOOR_PLACES));
        let (workers, received) = doors
            .map(|(door, received)| {
                let (connections, http2) = (AtomicU32::new(0), AtomicU32::new(0));
                (Desk { connections, http2, door }, received)
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        (Arc::new(Census { workers: workers.into() }), received)
    }

    pub fn open(&self) -> impl Iterator<Item = Open> + Clone {
        self.workers.iter().map(|desk| Open {
            connections: desk.connections.load(Relaxed),
            http2: desk.http2.load(Relaxed),
        })
    }

    pub fn enter(&self, worker: usize) {
        self.workers[worker].connections.fetch_add(1, Relaxed);
    }

    pub fn leave(&self, worker: usize) {
        self.workers[worker].connections.fetch_sub(1, Relaxed);
    }

    /// Counts a connection of HTTP/2 for as long as it is held.
    pub fn http2(self: &Arc<Self>, worker: usize) -> Http2Place {
        self.workers[worker].http2.fetch_add(1, Relaxed);
        Http2Place { census: Arc::clone(self), worker }
    }

    /// Gives the connection to a worker that has less open. It comes back where it is to stay.
    pub fn pass_on(
        &self,
        (own, port): (usize, u16),
        io: TcpStream,
        peer: SocketAddr,
    ) -> Option<TcpStream> {
        if self.workers.len() < 2 {
            return Some(io);
        }
        let Some(to) = traffic::elsewhere(own, self.open()) else { return Some(io) };
        let desk = &self.workers[to];
        let Ok(place) = desk.door.try_reserve() else { return Some(io) };
        // Out of this worker's poller.
        let Ok(io) = io.into_std() else { return None };
        desk.connections.fetch_add(1, Relaxed);
        place.send(Handed { port, io, peer });
        None
    }
}

pub(crate) struct Http2Place {
    census: Arc<Census>,
    worker: usize,
}

impl Drop for Http2Place {
    fn drop(&mut self) {
        self.census.workers[self.worker].http2.fetch_sub(1, Relaxed);
    }
}
