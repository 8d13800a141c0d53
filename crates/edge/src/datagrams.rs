//! UDP: flows of datagrams between clients and endpoints. A flow is one client's address at one port; it has a socket of
//! its own towards its endpoint, so that answers find their way, and lasts while datagrams come.
//!
//! ```text
//! port's socket ── flow of the client ──> endpoint        a datagram that finds no room is dropped, as UDP does
//! client <── port's socket ── flow's task <── endpoint    "refused" (ICMP) ends the flow and counts against the endpoint
//! ```

use crate::access::AccessRecord;
use crate::deadline::Deadline;
use crate::entry::Unwelcome;
use crate::metrics::UpstreamFailure;
use crate::own::Sent;
use crate::shortage::is_shortage;
use crate::stream::{Active, choose, count, observe, place};
use crate::stream_metrics::StreamCounters;
use crate::streams::{Entrance, StreamPlan};
use crate::worker::{FlowPlace, Phase, Worker};
use model::limits::{TUNNEL_DRAIN_IDLE_MS, UDP_FLOW_IDLE_MS};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use traffic::Outcome;

/// Datagrams that are taken from a socket before others get their turn.
const TURN: usize = 64;
/// Endpoints that the first datagram of a flow is sent to, where the first ones refuse it.
const ATTEMPTS: usize = 3;

/// One worker's socket of one port, with its flows.
struct Port {
    worker: Rc<Worker>,
    /// As written in the plan.
    number: u16,
    socket: UdpSocket,
    /// Clients choose the keys, so their order must not be theirs to foresee.
    flows: RefCell<HashMap<SocketAddr, Rc<Flow>>>,
}

struct Flow {
    client: SocketAddr,
    upstream: UdpSocket,
    plan: Arc<StreamPlan>,
    /// Number of its backend.
    backend: u32,
    /// The number of the view in which its endpoint was last looked up.
    seen_in: Cell<u64>,
    active: RefCell<Active>,
    deadline: Deadline,
    began: Instant,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// No datagram goes this way any more.
    is_over: Cell<Option<Over>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Refused,
    /// The plan or the facts lead elsewhere now.
    Moved,
}

/// Serves until told otherwise. Flows last beyond that when the process ends; when the plan has lost the port, they end
/// with it: what the socket still got would reach nobody.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    number: u16,
    socket: UdpSocket,
    phase: watch::Receiver<Phase>,
    mut told: watch::Receiver<()>,
) {
    let flows = RefCell::default();
    let port = Rc::new(Port { worker: Rc::clone(worker), number, socket, flows });
    loop {
        tokio::select! {
            ready = port.socket.readable() => {
                if ready.is_err() {
                    return;
                }
            }
            // Only its end is told.
            _ = told.changed() => {
                if *phase.borrow() == Phase::Serve {
                    port.flows.borrow().values().for_each(|flow| flow.end(Over::Moved));
                }
                return;
            }
        }
        port.take_turn();
        tokio::task::yield_now().await;
    }
}

impl Port {
    fn take_turn(self: &Rc<Self>) {
        let mut buffer = self.worker.buffers.large();
        for _ in 0..TURN {
            match self.socket.try_recv_from(buffer.room()) {
                Ok((count, client)) => {
                    let datagram = &buffer.room()[..count];
                    self.take(client, datagram);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An answer of ours came back refused: it says nothing about what waits.
                Err(_) => {}
            }
        }
        self.worker.buffers.give_back(buffer);
    }

    fn take(self: &Rc<Self>, client: SocketAddr, datagram: &[u8]) {
        let known = self.flows.borrow().get(&client).cloned();
        let Some(flow) = known.filter(|flow| self.is_current(flow)) else {
            return self.begin(client, datagram, None);
        };
        match rustix::net::send(&flow.upstream, datagram, SendFlags::NOSIGNAL) {
            Ok(_) => {
                flow.bytes_in.set(flow.bytes_in.get() + datagram.len() as u64);
                self.counters(&flow.plan).bytes_in.add(datagram.len() as u64);
                flow.progress(&self.worker);
            }
            // No room: the datagram is lost, as UDP has it.
            Err(Errno::AGAIN) => {}
            Err(error) if is_shortage(&error.into()) => {}
            // What was sent before came back refused.
            Err(_) => {
                self.refused(&flow);
                let address = flow.active.borrow().endpoint.address();
                self.begin(client, datagram, Some(address));
            }
        }
    }

    /// An endpoint that left, or a route that leads elsewhere, ends a flow with the next datagram.
    fn is_current(&self, flow: &Flow) -> bool {
        if flow.is_over.get().is_some() {
            return false;
        }
        let seen = self.worker.views.get();
        if flow.seen_in.replace(seen) == seen {
            return true;
        }
        let view = self.worker.view();
        let address = flow.active.borrow().endpoint.address();
        let leads_there = match view.streams().udp(self.number, flow.client.ip().to_canonical()) {
            Entrance::Pass(plan) => {
                let mut shares = plan.backends.shares().iter().filter(|share| share.weight > 0);
                shares.any(|share| share.backend == Some(flow.backend))
            }
            _ => false,
        };
        let is_there = view.backend(flow.backend).is_some_and(|backend| {
            backend.members.iter().any(|member| member.address() == address)
        });
        if !(leads_there && is_there) {
            flow.end(Over::Moved);
        }
        leads_there && is_there
    }

    /// Sends the first datagram of a flow, to another endpoint where one cannot be sent to.
    fn begin(self: &Rc<Self>, client: SocketAddr, datagram: &[u8], but: Option<SocketAddr>) {
        let worker = &self.worker;
        let view = worker.view();
        let plan = match view.streams().udp(self.number, client.ip().to_canonical()) {
            Entrance::Pass(plan) => plan,
            Entrance::Refused => {
                return worker.counters().unwelcome[Unwelcome::Peer as usize].add(1);
            }
            _ => return worker.counters().streams_without_route.add(1),
        };
        if worker.flows.get() >= worker.flow_limit {
            worker.counters().flows_over_limit.add(1);
            return;
        }
        let counters = plan.metrics.of(worker.index);
        counters.begun.add(1);
        let Ok((backend, _)) = choose(worker, &view, &plan) else {
            counters.refused.add(1);
            counters.ended.add(1);
            return;
        };
        let is_bad = |address: SocketAddr| backend.members.len() > 1 && but == Some(address);
        let bad = backend.members.iter().position(|member| is_bad(member.address()));
        let mut tried: Vec<u32> = bad.map(|at| at as u32).into_iter().collect();
        while tried.len() < ATTEMPTS {
            let Some(at) = place(worker, &view, &backend, client.ip(), &tried) else { break };
            tried.push(at as u32);
            let endpoint = &backend.members[at];
            if worker.leads_back(Sent::Datagrams, (endpoint.address(), None)) {
                count(worker, &plan, UpstreamFailure::Loop);
                continue;
            }
            let mut active = Active::begin(worker, endpoint);
            match open(endpoint.address(), datagram) {
                Ok(upstream) => {
                    counters.bytes_in.add(datagram.len() as u64);
                    let deadline = worker.deadlines.register();
                    let flow = Rc::new(Flow {
                        client,
                        upstream,
                        plan,
                        backend: backend.number(),
                        seen_in: Cell::new(worker.views.get()),
                        active: RefCell::new(active),
                        deadline,
                        began: Instant::now(),
                        bytes_in: Cell::new(datagram.len() as u64),
                        bytes_out: Cell::new(0),
                        is_over: Cell::new(None),
                    });
                    flow.progress(worker);
                    self.flows.borrow_mut().insert(client, Rc::clone(&flow));
                    self.spawn(flow);
                    return;
                }
                // Another endpoint would not be reached either.
                Err(error) if is_shortage(&error) => {
                    count(worker, &plan, UpstreamFailure::Shortage);
                    break;
                }
                Err(_) => {
                    count(worker, &plan, UpstreamFailure::Connect);
                    observe(worker, &view, &backend, &mut active, Outcome::Failure);
                }
            }
        }
        counters.refused.add(1);
        counters.ended.add(1);
    }

    fn spawn(self: &Rc<Self>, flow: Rc<Flow>) {
        let port = Rc::clone(self);
        let place = FlowPlace::take(&self.worker);
        tokio::task::spawn_local(async move {
            port.answer(&flow).await;
            port.forget(&flow);
            drop(place);
        });
    }

    /// Passes answers on until the flow is over.
    async fn answer(&self, flow: &Flow) {
        let buffers = &self.worker.buffers;
        let mut is_draining = false;
        poll_fn(|cx| {
            if !is_draining && self.worker.deadlines.is_draining() {
                is_draining = true;
                flow.progress(&self.worker);
            }
            if flow.is_over.get().is_some() {
                return Poll::Ready(());
            }
            for _ in 0..TURN {
                let mut buffer = buffers.large();
                let mut room = ReadBuf::new(buffer.room());
                let polled = flow.upstream.poll_recv(cx, &mut room);
                let answered = room.filled();
                match polled {
                    Poll::Ready(Ok(())) => self.pass_on(flow, answered),
                    Poll::Ready(Err(_)) => self.refused(flow),
                    Poll::Pending => {}
                }
                buffers.give_back(buffer);
                match polled {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return flow.deadline.poll(cx).map(|_| ()),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn pass_on(&self, flow: &Flow, answer: &[u8]) {
        // Without room for it the answer is lost, as UDP has it.
        let flags = SendFlags::NOSIGNAL;
        if rustix::net::sendto(&self.socket, answer, flags, &flow.client).is_err() {
            return;
        }
        self.counters(&flow.plan).bytes_out.add(answer.len() as u64);
        if flow.bytes_out.replace(flow.bytes_out.get() + answer.len() as u64) == 0 {
            self.observe(flow, Outcome::Success);
        }
        flow.progress(&self.worker);
    }

    /// Nobody listens at the endpoint.
    fn refused(&self, flow: &Flow) {
        flow.end(Over::Refused);
        count(&self.worker, &flow.plan, UpstreamFailure::Connect);
        self.observe(flow, Outcome::Failure);
    }

    fn counters<'p>(&self, plan: &'p StreamPlan) -> &'p StreamCounters {
        plan.metrics.of(self.worker.index)
    }

    fn observe(&self, flow: &Flow, outcome: Outcome) {
        let view = self.worker.view();
        if let Some(backend) = view.backend(flow.backend) {
            observe(&self.worker, &view, &backend, &mut flow.active.borrow_mut(), outcome);
        }
    }

    fn forget(&self, flow: &Rc<Flow>) {
        let mut flows = self.flows.borrow_mut();
        // The client may have a new one already.
        if flows.get(&flow.client).is_some_and(|held| Rc::ptr_eq(held, flow)) {
            flows.remove(&flow.client);
        }
        drop(flows);
        self.counters(&flow.plan).ended.add(1);
        flow.record(&self.worker, self.number);
    }
}

impl Flow {
    fn progress(&self, worker: &Worker) {
        self.deadline.stall_after(match worker.deadlines.is_draining() {
            true => TUNNEL_DRAIN_IDLE_MS,
            false => UDP_FLOW_IDLE_MS,
        });
    }

    fn end(&self, why: Over) {
        self.is_over.set(Some(why));
        // Its task looks with the next sweep.
        self.deadline.stall_after(0);
    }

    fn record(&self, worker: &Worker, port: u16) {
        let mut recorder = worker.recorder.borrow_mut();
        let Some(recorder) = recorder.as_deref_mut() else { return };
        let total = self.began.elapsed();
        recorder.record(&AccessRecord {
            request_id: "",
            started: SystemTime::now() - total,
            client: self.client,
            told: None,
            proxy: None,
            protocol: "udp",
            scheme: "",
            port,
            method: b"",
            host: "",
            path: b"",
            status: 0,
            rule: Some(&self.plan.rule),
            endpoint: Some(self.active.borrow().endpoint.address()),
            attempts: 1,
            refusal: (self.is_over.get() == Some(Over::Refused)).then_some("connect-failed"),
            total,
            connect: None,
            first_byte: None,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            tls: None,
        });
    }
}

/// A socket that hears of one endpoint only, with the first datagram sent.
fn open(endpoint: SocketAddr, datagram: &[u8]) -> io::Result<UdpSocket> {
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(endpoint)?;
    socket.send(datagram)?;
    UdpSocket::from_std(socket)
}
