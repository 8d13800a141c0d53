//! What a worker needs to serve the listeners below HTTP: a part of the view, made off the workers. Choosing by name is
//! done by `routing`; `stream` and `datagrams` serve.

use crate::stream_metrics::StreamMetrics;
use crate::stream_tls::StreamTls;
use crate::tls::KeyTable;
use crate::view::{BackendPlan, Backends};
use model::certificates::CertificatePlan;
use model::edge::EdgePlan;
use model::id::RuleId;
use model::layer4::{Attachment, Transport};
use routing::{Router, StreamPort, StreamTable, TlsEntry};
use std::collections::HashMap;
use std::sync::Arc;

/// All ports of a plan. Empty for one without such listeners.
#[derive(Default)]
pub(crate) struct Streams {
    table: StreamTable,
    tcp: HashMap<u16, PortStreams>,
    udp: HashMap<u16, PortStreams>,
}

/// One port, by the places of its listeners in the table.
struct PortStreams {
    listeners: Vec<ListenerStreams>,
}

struct ListenerStreams {
    /// Where TLS ends here; none then says that there is no usable certificate.
    tls: Option<Arc<StreamTls>>,
    routes: Box<[Arc<StreamPlan>]>,
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
    /// Nobody wants the name.
    Nobody,
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
                ListenerStreams { tls: tls.map(Arc::new), routes: prepared.collect() }
            });
            (port.port(), PortStreams { listeners: listeners.collect() })
        };
        let tcp = table.tcp().iter().map(&mut port).collect();
        let udp = table.udp().iter().map(&mut port).collect();
        Streams { table, tcp, udp }
    }

    pub fn plans(&self) -> impl Iterator<Item = &StreamPlan> {
        let ports = self.tcp.values().chain(self.udp.values());
        let listeners = ports.flat_map(|port| &port.listeners);
        listeners.flat_map(|listener| &*listener.routes).map(|plan| &**plan)
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

    pub fn entrance(&self, router: &Router, port: u16, name: Option<&str>) -> Entrance {
        let found = self.table.tcp_port(port).zip(self.tcp.get(&port));
        let Some((table, plans)) = found else { return Entrance::Https };
        let (at, listener) = match table.tls_entry(router, name) {
            TlsEntry::Https => return Entrance::Https,
            TlsEntry::Nobody => return Entrance::Nobody,
            TlsEntry::Stream(at, listener) => (at, listener),
        };
        let plans = &plans.listeners[at];
        let Some((route, _)) = listener.attachment(name) else { return Entrance::Nobody };
        let route = Arc::clone(&plans.routes[route]);
        match (listener.plan().transport, &plans.tls) {
            (Transport::TlsTerminate, Some(tls)) => Entrance::End(Arc::clone(tls), route),
            (Transport::TlsTerminate, None) => Entrance::Nobody,
            _ => Entrance::Pass(route),
        }
    }

    /// Of a port of TCP where no name decides.
    pub fn tcp(&self, port: u16) -> Option<&Arc<StreamPlan>> {
        self.tcp.get(&port)?.listeners.first()?.routes.first()
    }

    pub fn udp(&self, port: u16) -> Option<&Arc<StreamPlan>> {
        self.udp.get(&port)?.listeners.first()?.routes.first()
    }
}
