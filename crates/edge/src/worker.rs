//! One worker: its thread, its runtime, and everything that its connections share without a lock.

use crate::access::Recorder;
use crate::balance::Rotation;
use crate::buffers::{Buffers, Spares};
use crate::census::{Census, Handed};
use crate::config::Config;
use crate::deadline::{Deadlines, SWEEP};
use crate::exchange::Scratch;
use crate::ids::RequestIds;
use crate::listen::{Ports, start_listening};
use crate::metrics::{Metrics, WorkerCounters};
use crate::mirror::Mirrors;
use crate::own::OwnPorts;
use crate::replay::Replays;
use crate::timers::Timers;
use crate::upstream::Pool;
use crate::view::EdgeView;
use crate::{connection, datagrams, date, shortage};
use model::limits;
use publish::Reader;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use traffic::Balancer;

/// The codec's limits, by the edge's names for them.
pub(crate) const LIMITS: h1::Limits = h1::Limits {
    head_bytes: limits::HEAD_BYTES,
    headers: limits::HEAD_HEADERS,
    target_bytes: limits::TARGET_BYTES,
    ..h1::Limits::DEFAULT
};

/// Between two looks at whether all connections have ended.
const LOOK: Duration = Duration::from_millis(2);

/// What a worker is told from outside, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Ports are bound, and nothing is accepted.
    Bind,
    Serve,
    /// Another process accepts from the same sockets now.
    Leave,
    Drain,
    Abort,
}

pub(crate) struct Worker {
    pub index: usize,
    pub config: Arc<Config>,
    pub deadlines: Rc<Deadlines>,
    pub timers: Timers,
    pub buffers: Buffers,
    pub pool: Pool,
    pub rotation: Rotation,
    pub balancer: RefCell<Balancer>,
    pub census: Arc<Census>,
    pub mirrors: Mirrors,
    pub replays: Replays,
    pub own_ports: RefCell<OwnPorts>,
    pub ids: RequestIds,
    pub metrics: Arc<Metrics>,
    pub recorder: RefCell<Option<Box<dyn Recorder>>>,
    pub date: Cell<[u8; date::BYTES]>,
    #[allow(clippy::vec_box, reason = "a task holds the box, which is smaller than what is in it")]
    scratches: RefCell<Spares<Box<Scratch>>>,
    pub matching: RefCell<routing::Scratch>,
    /// With a count of its own of who holds it: requests on this thread never write to the shared one.
    view: RefCell<Rc<HeldView>>,
    /// Counts the views that it has had.
    pub views: Cell<u64>,
    connections: Cell<usize>,
    /// Of UDP.
    pub flows: Cell<usize>,
    pub flow_limit: usize,
}

/// One hold of the shared view, counted among this worker's requests by an `Rc`.
pub(crate) struct HeldView(Arc<EdgeView>);

impl Deref for HeldView {
    type Target = EdgeView;

    fn deref(&self) -> &EdgeView {
        &self.0
    }
}

/// What a thread needs to become a worker.
pub(crate) struct Seed {
    pub index: usize,
    pub config: Arc<Config>,
    pub reader: Reader<EdgeView>,
    pub ports: Arc<Ports>,
    pub census: Arc<Census>,
    /// Connections that other workers give to this one.
    pub door: Receiver<Handed>,
    pub datagrams: Arc<Ports<std::net::UdpSocket>>,
    pub metrics: Arc<Metrics>,
    pub recorder: Option<Box<dyn Recorder>>,
    pub phase: watch::Receiver<Phase>,
    pub timers: Timers,
    /// Told once, when the first view's ports have been tried.
    pub ready: std::sync::mpsc::Sender<io::Result<()>>,
}

/// The thread's whole life.
pub(crate) fn run(seed: Seed) {
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(live(seed)),
        // Nobody to tell means that the edge is gone already.
        Err(error) => drop(seed.ready.send(Err(error))),
    }
}

async fn live(seed: Seed) {
    let Seed { index, config, mut reader, ports, datagrams, metrics, recorder, .. } = seed;
    let Seed { mut phase, ready, census, door, timers, .. } = seed;
    let view = Rc::new(HeldView(Arc::clone(reader.current())));
    // All workers count from one moment, which is that of their endpoints too.
    let deadlines = Deadlines::new(view.live().epoch());
    deadlines.sweep(Instant::now());
    let workers = config.workers;
    let worker = Rc::new(Worker {
        index,
        config,
        pool: Pool::new(Rc::clone(&deadlines), timers.clone()),
        deadlines,
        timers,
        buffers: Buffers::default(),
        rotation: Rotation::starting_at(index as u32),
        balancer: RefCell::new(Balancer::new(index as u64)),
        census,
        mirrors: Mirrors::default(),
        replays: Replays::default(),
        own_ports: RefCell::default(),
        ids: RequestIds::new(),
        metrics,
        recorder: RefCell::new(recorder),
        date: Cell::new(date::format(SystemTime::now())),
        scratches: RefCell::default(),
        matching: RefCell::default(),
        view: RefCell::new(view),
        views: Cell::new(0),
        connections: Cell::new(0),
        flows: Cell::new(0),
        flow_limit: shortage::flows(workers),
    });
    let mut sockets = Sockets::new(Rc::clone(&worker), (ports, datagrams), phase.clone());
    sockets.sync();
    reader.acknowledge();
    let _ = ready.send(Ok(()));
    drop(ready);
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    let receiving = tokio::task::spawn_local(receive(Rc::clone(&worker), door, phase.clone()));
    loop {
        tokio::select! {
            () = reader.changed() => {
                worker.views.set(worker.views.get() + 1);
                worker.view.replace(Rc::new(HeldView(Arc::clone(reader.current()))));
                sockets.sync();
                reader.acknowledge();
            }
            _ = phase.wait_for(|phase| *phase > Phase::Serve) => break,
        }
    }
    drop(reader);
    drop(sockets);
    // What others have given belongs to this worker. A task that panicked has said so.
    let _ = receiving.await;
    // The accepting tasks take what is theirs, before idle connections end.
    tokio::task::yield_now().await;
    worker.leave(&mut phase).await;
    worker.drain(&mut phase).await;
}

impl Worker {
    /// The view to serve a request from, first byte to last.
    pub fn view(&self) -> Rc<HeldView> {
        Rc::clone(&self.view.borrow())
    }

    pub fn counters(&self) -> &WorkerCounters {
        &self.metrics.workers[self.index]
    }

    pub fn scratch(&self) -> Box<Scratch> {
        self.scratches.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_back_scratch(&self, mut scratch: Box<Scratch>) {
        // A head that was given up in the middle must not be gone on with by another connection.
        scratch.request.clear();
        self.scratches.borrow_mut().keep(scratch);
    }

    /// Tells the other workers how busy endpoints are, and lets those back in whose time out is over.
    fn sweep_endpoints(&self) {
        let (view, now_ms) = (self.view(), self.deadlines.now_ms());
        let mut balancer = self.balancer.borrow_mut();
        for backend in view.backends() {
            for endpoint in backend.members.iter() {
                balancer.exchange(endpoint);
                if endpoint.tick(now_ms) {
                    view.live().changed();
                }
            }
            backend.sweep(&mut balancer, view.live(), now_ms);
        }
    }

    /// A connection or a flow of UDP is still open.
    fn is_busy(&self) -> bool {
        self.connections.get() + self.flows.get() > 0
    }

    /// Gives clients the time to end their connections with a request, which is told that it was the last.
    async fn leave(&self, phase: &mut watch::Receiver<Phase>) {
        let told = *phase.borrow();
        let idle = match told {
            Phase::Leave => Duration::from_millis(limits::HANDOVER_IDLE_MS),
            Phase::Drain => Duration::from_millis(limits::DRAIN_IDLE_MS),
            Phase::Bind | Phase::Serve | Phase::Abort => return,
        };
        self.deadlines.leave();
        let all_ended = async {
            while self.is_busy() {
                self.timers.sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = all_ended => {}
            () = self.timers.sleep(idle) => {}
            _ = phase.wait_for(|phase| *phase > told) => {}
        }
    }

    /// Ends idle connections at once and the others with their response; all of them when told to abort.
    async fn drain(&self, phase: &mut watch::Receiver<Phase>) {
        self.deadlines.drain();
        self.pool.clear();
        while self.is_busy() {
            tokio::select! {
                () = self.timers.sleep(LOOK) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Abort) => {
                    self.deadlines.abort();
                    break;
                }
            }
        }
        // Each task that waits is woken once and ends; what does not is dropped with the runtime.
        let end = Instant::now() + SWEEP;
        while self.is_busy() && Instant::now() < end {
            self.timers.sleep(LOOK).await;
        }
    }
}

async fn sweep(worker: Rc<Worker>) {
    const EVICT_EVERY: u32 = 10;
    let mut ticks = worker.timers.interval(SWEEP);
    for count in 0u32.. {
        ticks.tick().await;
        worker.deadlines.sweep(Instant::now());
        worker.sweep_endpoints();
        if count.is_multiple_of(EVICT_EVERY) {
            worker.date.set(date::format(SystemTime::now()));
            worker.pool.evict();
            worker.deadlines.trim();
            worker.buffers.trim();
            worker.scratches.borrow_mut().trim();
            nudge_allocator();
        }
    }
}

/// mimalloc gives memory that nobody used for a second back to the system when a page of blocks is freed, and after a rush
/// no more are. A block above its largest class (512 KiB) is a page of its own; it is not written to.
fn nudge_allocator() {
    const PAGE_OF_ITS_OWN: usize = 1 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(PAGE_OF_ITS_OWN)));
}

/// The sockets of one worker.
struct Sockets {
    worker: Rc<Worker>,
    ports: Arc<Ports>,
    datagrams: Arc<Ports<std::net::UdpSocket>>,
    phase: watch::Receiver<Phase>,
    open: BTreeMap<u16, Open>,
    open_datagrams: BTreeMap<u16, Open>,
}

/// Dropping it ends the accepting tasks of a port.
struct Open {
    _closing: watch::Sender<()>,
}

type BothPorts = (Arc<Ports>, Arc<Ports<std::net::UdpSocket>>);

impl Sockets {
    fn new(
        worker: Rc<Worker>,
        (ports, datagrams): BothPorts,
        phase: watch::Receiver<Phase>,
    ) -> Sockets {
        let (open, open_datagrams) = (BTreeMap::new(), BTreeMap::new());
        Sockets { worker, ports, datagrams, phase, open, open_datagrams }
    }

    /// Opens and closes so that the ports are those of the current view.
    fn sync(&mut self) {
        let (tcp, udp) = self.worker.view().sockets();
        self.open.retain(|port, _| tcp.contains(port));
        self.open_datagrams.retain(|port, _| udp.contains(port));
        for port in &tcp {
            if !self.open.contains_key(port)
                && let Some(open) = self.open(*port)
            {
                self.open.insert(*port, open);
            }
        }
        for port in &udp {
            if !self.open_datagrams.contains_key(port)
                && let Some(open) = self.open_datagrams(*port)
            {
                self.open_datagrams.insert(*port, open);
            }
        }
        self.ports.forget_faults(|port| tcp.contains(&port));
        self.datagrams.forget_faults(|port| udp.contains(&port));
        let (tcp, udp) = (self.open.keys(), self.open_datagrams.keys());
        let own = OwnPorts { tcp: tcp.copied().collect(), udp: udp.copied().collect() };
        self.worker.own_ports.replace(own);
    }

    /// A port that cannot be bound is reported by `ports`.
    fn open(&self, port: u16) -> Option<Open> {
        let (listeners, held) = self.ports.take(port, self.worker.index)?;
        let held = Rc::new(held);
        let (closing, told) = watch::channel(());
        for listener in listeners {
            let (worker, held) = (Rc::clone(&self.worker), Rc::clone(&held));
            let (phase, told) = (self.phase.clone(), told.clone());
            tokio::task::spawn_local(async move {
                accept(&worker, port, listener, phase, told).await;
                // Behind the socket: who binds the port again finds it free.
                drop(held);
            });
        }
        Some(Open { _closing: closing })
    }

    fn open_datagrams(&self, port: u16) -> Option<Open> {
        let (sockets, held) = self.datagrams.take(port, self.worker.index)?;
        let held = Rc::new(held);
        let (closing, mut told) = watch::channel(());
        for socket in sockets {
            let (worker, held) = (Rc::clone(&self.worker), Rc::clone(&held));
            let (mut phase, mut told) = (self.phase.clone(), told.clone());
            tokio::task::spawn_local(async move {
                if opened(&mut phase, &mut told).await
                    && let Ok(socket) = UdpSocket::from_std(socket)
                {
                    datagrams::serve(&worker, port, socket, phase, told).await;
                }
                drop(held);
            });
        }
        // A worker without a socket of a port that was taken over holds it all the same.
        tokio::task::spawn_local(async move {
            let _ = told.changed().await;
            drop(held);
        });
        Some(Open { _closing: closing })
    }
}

/// Waits until the edge serves. False where it was given up before: what waits in a socket taken over is for the process
/// that has it too.
async fn opened(phase: &mut watch::Receiver<Phase>, told: &mut watch::Receiver<()>) -> bool {
    tokio::select! {
        // In this order: an edge that drains before this was looked at has clients all the same.
        biased;
        _ = phase.wait_for(|phase| *phase >= Phase::Serve) => {}
        // Only its end is told.
        _ = told.changed() => return false,
    }
    *phase.borrow() != Phase::Abort
}

async fn accept(
    worker: &Rc<Worker>,
    port: u16,
    listener: std::net::TcpListener,
    mut phase: watch::Receiver<Phase>,
    mut told: watch::Receiver<()>,
) {
    const PAUSE: Duration = Duration::from_millis(20);
    if !opened(&mut phase, &mut told).await {
        return;
    }
    let ready = start_listening(&listener).and_then(|()| TcpListener::from_std(listener));
    let Ok(listener) = ready else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = told.changed() => break,
        };
        match accepted {
            Ok((io, peer)) => {
                if let Some(io) = worker.census.pass_on((worker.index, port), io, peer) {
                    worker.census.enter(worker.index);
                    admit(worker, port, io, peer);
                }
            }
            // A connection that was reset before it was taken, or no descriptors left: wait, go on.
            Err(_) => worker.timers.sleep(PAUSE).await,
        }
    }
    if *phase.borrow() == Phase::Leave {
        return;
    }
    // Clients that are connected already, as far as they know. The system is asked: what the runtime knows of the socket
    // may be older than they are.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((io, peer)) = listener.accept() {
        if let Ok(io) = io.set_nonblocking(true).and_then(|()| TcpStream::from_std(io)) {
            worker.census.enter(worker.index);
            admit(worker, port, io, peer);
        }
    }
}

/// Takes what other workers give, until this one is to end; and then what has been given by that time.
async fn receive(
    worker: Rc<Worker>,
    mut door: Receiver<Handed>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        tokio::select! {
            handed = door.recv() => match handed {
                Some(handed) => take(&worker, handed),
                None => return,
            },
            _ = phase.wait_for(|phase| *phase > Phase::Serve) => break,
        }
    }
    // From now on, whoever accepts a connection keeps it.
    door.close();
    while let Some(handed) = door.recv().await {
        take(&worker, handed);
    }
}

fn take(worker: &Rc<Worker>, Handed { port, io, peer }: Handed) {
    match TcpStream::from_std(io) {
        Ok(io) => admit(worker, port, io, peer),
        Err(_) => worker.census.leave(worker.index),
    }
}

/// The connection counts in the census already.
fn admit(worker: &Rc<Worker>, port: u16, io: TcpStream, peer: std::net::SocketAddr) {
    worker.counters().accepted.add(1);
    if worker.connections.get() >= limits::WORKER_CONNECTIONS {
        worker.census.leave(worker.index);
        worker.counters().over_limit.add(1);
        worker.counters().closed.add(1);
        return;
    }
    worker.connections.set(worker.connections.get() + 1);
    connection::start(Place(Rc::clone(worker)), port, io, peer);
}

/// A connection's place among those that the worker allows.
pub(crate) struct Place(Rc<Worker>);

impl Place {
    pub fn worker(&self) -> &Rc<Worker> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.census.leave(self.0.index);
        self.0.counters().closed.add(1);
    }
}

/// A flow's place among those that the worker allows.
pub(crate) struct FlowPlace(Rc<Worker>);

impl FlowPlace {
    pub fn take(worker: &Rc<Worker>) -> FlowPlace {
        worker.flows.set(worker.flows.get() + 1);
        FlowPlace(Rc::clone(worker))
    }
}

impl Drop for FlowPlace {
    fn drop(&mut self) {
        self.0.flows.set(self.0.flows.get() - 1);
    }
}
