//! What the tests of the edge share: plans written by hand, scripted origins, a raw client. Everything is bounded in
//! time by socket timeouts.
#![allow(dead_code)]

use edge::{Config, Edge, EdgeView, KeyTable, Registry};
use model::certificates::CertificatePlan;
use model::dns::DnsPlan;
use model::edge::*;
use model::facts::{Endpoint, EndpointSet};
use model::governance::GovernancePlan;
use model::id::{ListenerId, RuleId, ServicePort};
use model::{Facts, HostPattern, Kind, Node, ObjectId, Snapshot};
use publish::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(10);

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

pub fn pattern(host: &str) -> HostPattern {
    HostPattern::parse(host).unwrap()
}

pub fn service(name: &str) -> ServicePort {
    ServicePort { namespace: "test".into(), name: name.into(), port: 80 }
}

pub fn to(name: &str, weight: u32) -> Backend {
    Backend::plain(weight, Target::Service(service(name)))
}

/// A rule for a path prefix that forwards to one service.
pub fn rule(route: &str, prefix: &str, action: Action) -> Rule {
    let prefix = prefix.trim_end_matches('/');
    Rule::plain(
        RuleId { object: ObjectId::new(Kind::HTTP_ROUTE, "test", route), index: 0, name: None },
        vec![Match {
            path: PathMatch::Prefix(prefix.into()),
            conditions: vec![],
            rank: Rank([prefix.len() as u32, 0, 0, 0, 0]),
        }],
        action,
    )
}

pub fn forward(route: &str, prefix: &str, backend: &str) -> Rule {
    rule(route, prefix, Action::Forward(vec![to(backend, 1)]))
}

pub fn listener(port: u16, protocol: Protocol, host: &str, rules: Vec<Rule>) -> Listener {
    let name = if host.is_empty() { "any" } else { host };
    let route = Route {
        id: ObjectId::new(Kind::HTTP_ROUTE, "test", format!("{name}-{port}").as_str()),
        front_end: FrontEnd::GatewayApi,
        rules,
    };
    let attachment =
        Attachment { host: pattern(host), original: pattern(host), route: Node::new(route) };
    Listener {
        id: ListenerId {
            object: ObjectId::new(Kind::GATEWAY, "test", "gateway"),
            section: format!("{name}-{port}").as_str().into(),
        },
        port,
        protocol,
        host: pattern(host),
        certificates: vec![],
        policy: None,
        unmatched: None,
        attachments: vec![attachment],
    }
}

pub fn snapshot(listeners: Vec<Listener>, certificates: CertificatePlan) -> Snapshot {
    snapshot_with(listeners, Vec::new(), certificates)
}

pub fn snapshot_with(
    mut listeners: Vec<Listener>,
    layer4: Vec<model::layer4::Listener>,
    certificates: CertificatePlan,
) -> Snapshot {
    listeners.sort_by(|a, b| (a.port, a.protocol, &a.host).cmp(&(b.port, b.protocol, &b.host)));
    let listeners = listeners.into_iter().map(Node::new).collect();
    Snapshot::new(
        Node::new(EdgePlan { listeners, layer4: layer4.into_iter().map(Node::new).collect() }),
        Node::new(DnsPlan::default()),
        Node::new(certificates),
        Node::new(GovernancePlan::default()),
    )
}

pub fn facts(services: &[(&str, &[SocketAddr])]) -> Facts {
    let mut facts = Facts::default();
    for (name, addresses) in services {
        let endpoints = addresses.iter().map(|address| {
            Endpoint::ready(*address, ObjectId::new(Kind::ENDPOINT_SLICE, "test", *name))
        });
        let set = EndpointSet { endpoints: endpoints.collect() };
        facts.endpoints.insert(service(name), Arc::new(set));
    }
    facts
}

/// An edge with one worker, and what is needed to change its view.
pub struct Running {
    pub edge: Edge,
    pub views: Cell<EdgeView>,
    pub registry: Registry,
    pub keys: KeyTable,
}

impl Running {
    pub fn start(listeners: Vec<Listener>, facts: &Facts) -> Running {
        Running::start_with(
            snapshot(listeners, CertificatePlan::default()),
            facts,
            KeyTable::default(),
            1,
        )
    }

    pub fn start_with(
        snapshot: Snapshot,
        facts: &Facts,
        keys: KeyTable,
        workers: usize,
    ) -> Running {
        Running::start_at(Ipv4Addr::LOCALHOST.into(), snapshot, facts, (keys, workers))
    }

    pub fn start_at(
        bind: IpAddr,
        snapshot: Snapshot,
        facts: &Facts,
        (keys, workers): (KeyTable, usize),
    ) -> Running {
        let registry = Registry::new(workers);
        let view = EdgeView::build(&snapshot, facts, &keys, &registry, None);
        let views = Cell::new(Arc::new(view));
        let config = Config { bind, port_offset: 0, workers };
        let edge = Edge::start(config, &views, &registry, |_| None).unwrap();
        Running { edge, views, registry, keys }
    }

    /// Publishes and waits until every worker serves it.
    pub fn publish(&self, listeners: Vec<Listener>, facts: &Facts) {
        let snapshot = snapshot(listeners, CertificatePlan::default());
        let previous = self.views.current();
        let view = EdgeView::build(&snapshot, facts, &self.keys, &self.registry, Some(&previous));
        self.set(view);
    }

    pub fn set(&self, view: EdgeView) {
        let generation = self.views.set(Arc::new(view));
        eventually(|| self.views.progress(generation).is_complete());
    }
}

/// An edge with one HTTP listener for every host, whose only rule leads to an origin of the script given.
pub fn one_origin(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Running, u16) {
    let origin = Origin::start(script);
    let port = free_port();
    let listeners = vec![listener(port, Protocol::Http, "", vec![forward("all", "/", "a")])];
    (Running::start(listeners, &facts(&[("a", &[origin.address])])), port)
}

/// A server whose connections each run a script. Its threads end with their connections.
pub struct Origin {
    pub address: SocketAddr,
}

impl Origin {
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = Arc::clone(&script);
                thread::spawn(move || script(&mut Peer::over(stream)));
            }
        });
        Origin { address }
    }
}

/// One end of a connection, read by heads and counts.
pub struct Peer {
    pub stream: TcpStream,
    pub held: Vec<u8>,
}

impl Peer {
    pub fn over(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, held: Vec::new() }
    }

    pub fn connect(port: u16) -> Peer {
        Peer::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have closed: what it says then is the test's matter.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// False at the end of the stream, or after a reset.
    pub fn more(&mut self) -> bool {
        let mut room = [0; 16 << 10];
        match self.stream.read(&mut room) {
            Ok(0) => false,
            Ok(count) => {
                self.held.extend_from_slice(&room[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}; held: {:?}", String::from_utf8_lossy(&self.held)),
        }
    }

    /// Up to and with `end`; what came when the stream ends before.
    pub fn until(&mut self, end: &str) -> String {
        loop {
            let found = self.held.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let rest = self.held.split_off(at + end.len());
                return text(std::mem::replace(&mut self.held, rest));
            }
            if !self.more() {
                return text(std::mem::take(&mut self.held));
            }
        }
    }

    pub fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    pub fn count(&mut self, count: usize) -> Vec<u8> {
        while self.held.len() < count && self.more() {}
        let rest = self.held.split_off(count.min(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    pub fn rest(&mut self) -> String {
        while self.more() {}
        text(std::mem::take(&mut self.held))
    }

    /// A response with Content-Length: its head and its body.
    pub fn response(&mut self) -> (String, String) {
        let head = self.head();
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        let body = text(self.count(length));
        (head, body)
    }

    pub fn get(&mut self, path: &str, host: &str) -> (String, String) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    pub fn is_closed(&mut self) -> bool {
        self.held.is_empty() && !self.more()
    }
}

pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

pub fn status(head: &str) -> u16 {
    head.get(9..12).unwrap_or_else(|| panic!("no status in {head:?}")).parse().unwrap()
}

pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// An origin's answer with a body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers every request, which has no body, with its own head.
pub fn echo_heads(peer: &mut Peer) {
    loop {
        let head = peer.head();
        if head.is_empty() {
            return;
        }
        peer.send(ok(&head));
    }
}

/// Answers every request with a text.
pub fn says(body: &'static str) -> impl Fn(&mut Peer) + Send + Sync {
    move |peer| {
        while !peer.head().is_empty() {
            peer.send(ok(body));
        }
    }
}

/// Looks again and again until it holds.
pub fn eventually(holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "still not so");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A channel whose sender may be used by a script of many connections.
pub fn channel<T: Send + 'static>() -> (impl Fn(T) + Send + Sync, mpsc::Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let send = move |value| {
        let _ = sender.lock().unwrap().send(value);
    };
    (send, receiver)
}
