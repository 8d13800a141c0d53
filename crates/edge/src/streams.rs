//! What a worker needs to serve the listeners below HTTP: a part of the view, made off the workers. Choosing by name is
//! done by `routing`; `stream` and `datagrams` serve.

use crate::entry::PortEntry;
use crate::stream_metrics::StreamMetrics;
use crate::stream_tls::StreamTls;
use crate::tls::KeyTable;
use crate::view::{BackendPlan, Backends};
use model::certificates::CertificatePlan;
use model::edge::EdgePlan;
use model::front::{self, ListenerPolicy, Restriction};
use model::id::RuleId;
use model::layer4::{Attachment, Transport};
use routing::{Router, StreamPort, StreamTable, TlsEntry};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// All ports of a plan. Empty for one without such listeners.
#[derive(Default)]
pub(crate) struct Streams {
    table: StreamTable,
    tcp: HashMap<u16, PortStreams>,
    udp: HashMap<u16, PortStreams>,
    /// What ports of TCP ask where HTTPS has no part in them.
    entries: HashMap<u16, Arc<PortEntry>>,
}

/// One port, by the places of its listeners in the table.
type PortStreams = Vec<ListenerStreams>;

struct ListenerStreams {
    /// Where TLS ends here; none then says that there is no usable certificate.
    tls: Option<Arc<StreamTls>>,
    /// Who may connect. A connection that is led on is one request: what is said of those holds for it too.
    closed: Box<[Restriction]>,
    routes: Box<[Arc<StreamPlan>]>,
}

impl ListenerStreams {
    fn admits(&self, client: IpAddr) -> bool {
        front::refusal(&self.closed, client).is_none()
    }
}

/// A route made ready to be served.
pub(crate) struct StreamPlan {
    pub rule: RuleId,
    /// Where the rotation over backends is kept.
    pub number: u32,
    pub metrics: Arc<StreamMetrics>,
    pub backends: Backends,
    /// Those that it leads to, which is what keeps them.
    pub kept: Box<[Arc<BackendPlan>]>,
}

/// What becomes of a handshake.
pub(crate) enum Entrance {
    Https,
    Pass(Arc<StreamPlan>),
    End(Arc<StreamTls>, Arc<StreamPlan>),
    /// Nobody wants the name, or the port has no route.
    Nobody,
    /// The client is none of those who may connect.
    Refused,
}

impl Streams {
    pub fn build(
        plan: &EdgePlan,
        (certificates, keys): (&CertificatePlan, &KeyTable),
        mut prepare: impl FnMut(&Attachment, Transport) -> Arc<StreamPlan>,
    ) -> Streams {
        let table = StreamTable::build(plan);
        let mut port = |port: &StreamPort| {
            let listeners = port.listeners().iter().map(|listener| {
                let listener = listener.plan();
                let ends = listener.transport == Transport::TlsTerminate;
                let tls = ends.then(|| StreamTls::new(listener, certificates, keys)).flatten();
                let prepared = listener.attachments.iter().map(|a| prepare(a, listener.transport));
                let policy = listener.policy.as_deref().into_iter();
                let closed = policy.flat_map(|policy| policy.peers.iter().chain(&policy.sources));
                let (tls, closed) = (tls.map(Arc::new), closed.cloned().collect());
                ListenerStreams { tls, closed, routes: prepared.collect() }
            });
            (port.port(), listeners.collect())
        };
        let tcp = table.tcp().iter().map(&mut port).collect();
        let udp = table.udp().iter().map(&mut port).collect();
        let entry =
            |port: &StreamPort| Some((port.port(), Arc::new(PortEntry::of(policies(port))?)));
        let entries = table.tcp().iter().filter_map(entry).collect();
        Streams { table, tcp, udp, entries }
    }

    pub fn plans(&self) -> impl Iterator<Item = &StreamPlan> {
        let ports = self.tcp.values().chain(self.udp.values());
        ports.flatten().flat_map(|listener| &*listener.routes).map(|plan| &**plan)
    }

    pub fn tcp_ports(&self) -> impl Iterator<Item = u16> {
        self.table.tcp().iter().map(StreamPort::port)
    }

    pub fn udp_ports(&self) -> impl Iterator<Item = u16> {
        self.table.udp().iter().map(StreamPort::port)
    }

    pub fn has_tcp(&self, port: u16) -> bool {
        !self.tcp.is_empty() && self.tcp.contains_key(&port)
    }

    /// A name decides on this port: the client is to be listened to first.
    pub fn is_tls(&self, port: u16) -> bool {
        self.table.tcp_port(port).is_some_and(StreamPort::is_tls)
    }

    /// What listeners of a port of TCP ask of whoever connects.
    pub fn policies(&self, port: u16) -> impl Iterator<Item = Option<&ListenerPolicy>> + Clone {
        self.table.tcp_port(port).into_iter().flat_map(policies)
    }

    /// Of a port that HTTP has no part in.
    pub fn entry(&self, port: u16) -> Option<&Arc<PortEntry>> {
        self.entries.get(&port)
    }

    pub fn entrance(
        &self,
        router: &Router,
        port: u16,
        name: Option<&str>,
        client: IpAddr,
    ) -> Entrance {
        let found = self.table.tcp_port(port).zip(self.tcp.get(&port));
        let Some((table, plans)) = found else { return Entrance::Https };
        let (at, listener) = match table.tls_entry(router, name) {
            TlsEntry::Https => return Entrance::Https,
            TlsEntry::Nobody => return Entrance::Nobody,
            TlsEntry::Stream(at, listener) => (at, listener),
        };
        let plans = &plans[at];
        if !plans.admits(client) {
            return Entrance::Refused;
        }
        let Some((route, _)) = listener.attachment(name) else { return Entrance::Nobody };
        let route = Arc::clone(&plans.routes[route]);
        match (listener.plan().transport, &plans.tls) {
            (Transport::TlsTerminate, Some(tls)) => Entrance::End(Arc::clone(tls), route),
            (Transport::TlsTerminate, None) => Entrance::Nobody,
            _ => Entrance::Pass(route),
        }
    }

    /// Of a port of TCP where no name decides.
    pub fn tcp(&self, port: u16, client: IpAddr) -> Entrance {
        Self::plain(&self.tcp, port, client)
    }

    pub fn udp(&self, port: u16, client: IpAddr) -> Entrance {
        Self::plain(&self.udp, port, client)
    }

    fn plain(ports: &HashMap<u16, PortStreams>, port: u16, client: IpAddr) -> Entrance {
        let listener = ports.get(&port).and_then(|port| port.first());
        match listener.map(|listener| (listener, listener.routes.first())) {
            Some((listener, _)) if !listener.admits(client) => Entrance::Refused,
            Some((_, Some(route))) => Entrance::Pass(Arc::clone(route)),
            Some((_, None)) | None => Entrance::Nobody,
        }
    }
}

fn policies(port: &StreamPort) -> impl Iterator<Item = Option<&ListenerPolicy>> + Clone {
    port.listeners().iter().map(|listener| listener.plan().policy.as_deref())
}
