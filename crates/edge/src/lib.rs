//! Floor 4: the HTTP edge. A thread a core, each with its own runtime, listening sockets, upstream connections, buffers
//! and counters; nothing shared is written on the request path.
//!
//! ```text
//! listen ── entry ── connection ─┬─ tls ─┬─ http1 ─┬─ exchange ── decide ── balance ── forward ── upstream ─┬─ pump (HTTP/1.1)
//!                                └───────┴─ http2 ─┘     │        sticky      mirror                         └─ http2_pump
//!                                                        └─ refusal, redirect, cors
//! ```
//!
//! Not here: the wire codec (`h1`), matching (`routing`), what a manifest means (`compile`), where keys come from
//! (`certs`), the access log's writer and the admin pages (`telemetry`, `console`).
#![forbid(unsafe_code)]

mod access;
mod additions;
mod answers;
mod balance;
mod buffers;
mod caller;
mod care;
mod census;
mod changes;
mod client;
mod client_certificate;
mod config;
mod connection;
mod cors;
mod course;
mod datagrams;
mod date;
mod deadline;
mod decide;
mod dial;
mod edits;
mod entry;
mod exchange;
mod exposition;
mod eyeballs;
mod fallback;
mod field_names;
mod forward;
mod forwarded_lines;
#[cfg(any(test, feature = "fuzzed"))]
pub mod fuzzed;
mod grpc;
mod grpc_web;
mod http1;
mod http2;
mod http2_budget;
mod http2_io;
mod http2_pump;
mod http2_request;
mod http2_stream;
mod http2_upstream;
mod ids;
mod knock;
mod listen;
mod live;
mod metrics;
mod mirror;
mod numbers;
mod own;
mod page;
mod port_limits;
mod proxy_protocol;
mod pump;
mod refusal;
mod relay;
mod replay;
mod reply;
mod request_head;
mod served_key;
mod shortage;
mod sticky;
mod stream;
mod stream_metrics;
mod stream_tls;
mod streams;
mod strict_transport;
mod timers;
mod tls;
mod tls_client;
mod tls_terms;
mod transport;
mod upstream;
mod view;
mod websocket;
mod worker;

pub use access::{AccessRecord, Recorder, TlsFacts};
pub use client_certificate::ClientCertificate;
pub use config::{BindFault, Config, StartError};
pub use date::civil_date;
pub use exposition::render as render_metrics;
pub use eyeballs::connect_either;
pub use knock::Door;
pub use live::{Failing, Live, Out};
pub use metrics::{Counter, LATENCY_BOUNDS_US, Metrics, UpstreamFailure};
pub use refusal::{Cause, Refusal};
pub use served_key::ServedKey;
pub use shortage::{is_shortage, raise_descriptor_limit};
pub use sticky::SESSION_KEY_BYTES;
pub use tls::{KeyError, KeyTable};
pub use view::{EdgeView, Registry};

use census::Census;
use listen::Ports;
use publish::Cell;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timers::Timers;
use tokio::sync::watch;
use worker::{Phase, Seed};

/// Sockets of a process that this one follows.
#[derive(Debug, Default)]
pub struct Inherited {
    pub listeners: Vec<TcpListener>,
    pub datagrams: Vec<UdpSocket>,
}

/// A running edge. Dropping it aborts what still runs.
pub struct Edge {
    config: Arc<Config>,
    ports: Arc<Ports>,
    census: Arc<Census>,
    datagrams: Arc<Ports<UdpSocket>>,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
}

impl Edge {
    /// Starts the workers and binds the ports of the cell's current view. `recorder` gives each worker, by its number,
    /// its own recorder; none where the access log is off. `registry` is the one that the views are built with, for as
    /// many workers as `config` says.
    pub fn start(
        config: Config,
        views: &Cell<EdgeView>,
        registry: &Registry,
        recorder: impl Fn(usize) -> Option<Box<dyn Recorder>>,
    ) -> Result<Edge, StartError> {
        let edge = Edge::prepare(config, views, registry, recorder, Inherited::default())?;
        edge.open();
        Ok(edge)
    }

    /// As [`Edge::start`], but nothing is accepted before [`Edge::open`]. `inherited` are the listening sockets of a
    /// process that this one follows: a port of the plan that is among them is taken over with what waits there.
    pub fn prepare(
        config: Config,
        views: &Cell<EdgeView>,
        registry: &Registry,
        recorder: impl Fn(usize) -> Option<Box<dyn Recorder>>,
        inherited: Inherited,
    ) -> Result<Edge, StartError> {
        let config = Arc::new(config);
        let ports = Ports::new(Arc::clone(&config), inherited.listeners);
        let datagrams = Ports::new(Arc::clone(&config), inherited.datagrams);
        let (census, doors) = Census::new(config.workers);
        let (phase, threads) = (watch::Sender::new(Phase::Bind), Vec::new());
        let mut edge = Edge { config, ports, datagrams, census, phase, threads };
        let (ready, started) = mpsc::channel();
        let timers = Timers::start().map_err(StartError::Thread)?;
        for (index, door) in doors.into_iter().enumerate() {
            let seed = Seed {
                index,
                config: Arc::clone(&edge.config),
                reader: views.reader(),
                ports: Arc::clone(&edge.ports),
                census: Arc::clone(&edge.census),
                door,
                datagrams: Arc::clone(&edge.datagrams),
                metrics: Arc::clone(&registry.metrics),
                recorder: recorder(index),
                phase: edge.phase.subscribe(),
                timers: timers.clone(),
                ready: ready.clone(),
            };
            edge.threads.push(spawn(seed).map_err(StartError::Thread)?);
        }
        drop(ready);
        edge.wait_for_start(&started)?;
        Ok(edge)
    }

    /// Accepts connections from now on.
    pub fn open(&self) {
        self.ports.forget_inherited();
        self.datagrams.forget_inherited();
        self.phase.send_replace(Phase::Serve);
    }

    /// Descriptors of all listening sockets, for another process to go on with.
    pub fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        self.ports.listeners()
    }

    /// Likewise those of UDP.
    pub fn datagram_sockets(&self) -> io::Result<Vec<UdpSocket>> {
        self.datagrams.listeners()
    }

    /// What each worker has open.
    pub fn open_connections(&self) -> Vec<traffic::Open> {
        self.census.open().collect()
    }

    /// Ports of TCP of the plan that are bound now, as written there.
    pub fn bound_ports(&self) -> Vec<u16> {
        self.ports.bound()
    }

    /// Ports of the current view that could not be bound. They are tried again with the next view.
    pub fn bind_faults(&self) -> Vec<BindFault> {
        [self.ports.faults(), self.datagrams.faults()].concat()
    }

    /// Stops accepting, lets what runs end until `limit` has passed, then aborts it. Responses say that they are the last
    /// of their connection (HTTP/2: GOAWAY, once for streams that are under way, once when the client has seen it); an
    /// idle connection may bring a last request for [`model::limits::DRAIN_IDLE_MS`]. Tunnels end, which have no end of their own, when no byte passed for [`model::limits::TUNNEL_DRAIN_IDLE_MS`], or at
    /// the limit, in both cases with a FIN to either side.
    /// Blocks the calling thread; says whether all ended by themselves.
    pub fn drain(self, limit: Duration) -> bool {
        self.end(Phase::Drain, limit)
    }

    /// As [`Edge::drain`], while another process accepts from the same sockets: connections that wait are left to it,
    /// and an idle one may bring its last request for [`model::limits::HANDOVER_IDLE_MS`].
    pub fn leave(self, limit: Duration) -> bool {
        self.end(Phase::Leave, limit)
    }

    fn end(mut self, phase: Phase, limit: Duration) -> bool {
        const LOOK: Duration = Duration::from_millis(2);
        self.phase.send_replace(phase);
        let end = Instant::now() + limit;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= end {
                self.stop();
                return false;
            }
            std::thread::sleep(LOOK);
        }
        self.stop();
        true
    }

    fn wait_for_start(&self, started: &mpsc::Receiver<io::Result<()>>) -> Result<(), StartError> {
        for _ in 0..self.config.workers {
            let result = started
                .recv()
                .unwrap_or_else(|_| Err(io::Error::other("a worker ended before it served")));
            result.map_err(StartError::Thread)?;
        }
        match self.bind_faults() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(StartError::Bind(faults)),
        }
    }

    fn stop(&mut self) {
        self.phase.send_replace(Phase::Abort);
        for thread in self.threads.drain(..) {
            // A worker that panicked has told so on stderr already.
            let _ = thread.join();
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(seed: Seed) -> io::Result<JoinHandle<()>> {
    let name = format!("edge-{}", seed.index);
    std::thread::Builder::new().name(name).spawn(move || worker::run(seed))
}
