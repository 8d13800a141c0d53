//! The listeners below HTTP by port, and which of their routes takes a connection: by the name in a handshake where the
//! port speaks TLS, else by the port alone.

use crate::Router;
use crate::hosts::HostTable;
use crate::index::position;
use model::Node;
use model::edge::{EdgePlan, Protocol};
use model::layer4::{Attachment, Listener, Transport};

/// Ports of TCP and ports of UDP, each sorted by number.
#[derive(Default)]
pub struct StreamTable {
    tcp: Vec<StreamPort>,
    udp: Vec<StreamPort>,
}

/// The listeners of one port: several only where it speaks TLS.
pub struct StreamPort {
    port: u16,
    listeners: Vec<StreamListener>,
    /// Numbers hosts as `listeners` are numbered: of two for one host the first stands.
    hosts: HostTable,
}

pub struct StreamListener {
    listener: Node<Listener>,
    hosts: HostTable,
    /// The first attachment of each host pattern, by the numbers that `hosts` gives.
    by_host: Vec<u32>,
}

/// Who ends or passes on a handshake.
#[derive(Clone, Copy)]
pub enum TlsEntry<'t> {
    Https,
    /// The listener by its place among those of the port.
    Stream(usize, &'t StreamListener),
    Nobody,
}

impl StreamTable {
    pub fn build(plan: &EdgePlan) -> StreamTable {
        let mut table = StreamTable::default();
        for listener in &plan.layer4 {
            let ports = match listener.transport {
                Transport::Udp => &mut table.udp,
                _ => &mut table.tcp,
            };
            let at = match ports.binary_search_by_key(&listener.port, |port| port.port) {
                Ok(at) => at,
                Err(at) => {
                    let (listeners, hosts) = Default::default();
                    ports.insert(at, StreamPort { port: listener.port, listeners, hosts });
                    at
                }
            };
            ports[at].add(listener);
        }
        table
    }

    pub fn tcp(&self) -> &[StreamPort] {
        &self.tcp
    }

    pub fn udp(&self) -> &[StreamPort] {
        &self.udp
    }

    pub fn tcp_port(&self, port: u16) -> Option<&StreamPort> {
        find(&self.tcp, port)
    }

    pub fn udp_port(&self, port: u16) -> Option<&StreamPort> {
        find(&self.udp, port)
    }
}

fn find(ports: &[StreamPort], port: u16) -> Option<&StreamPort> {
    ports.binary_search_by_key(&port, |found| found.port).ok().and_then(|at| ports.get(at))
}

impl StreamPort {
    /// As written in the plan; the shell adds its offset.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn listeners(&self) -> &[StreamListener] {
        &self.listeners
    }

    /// Whether a name decides: then the client speaks first.
    pub fn is_tls(&self) -> bool {
        self.listeners.iter().any(|found| found.listener.transport.is_tls())
    }

    /// The most specific listener for the name, among those of HTTPS on this port too. Without a name: one for any
    /// host, else HTTPS, where some certificate is the default.
    pub fn tls_entry<'t>(&'t self, router: &Router, name: Option<&str>) -> TlsEntry<'t> {
        let own = match name {
            Some(name) => self.hosts.matching(name).next(),
            None => self.hosts.any(),
        };
        let own = own.and_then(|at| Some((at as usize, self.listeners.get(at as usize)?)));
        let https = router.port(self.port, Protocol::Https);
        let https = https.and_then(|port| port.sni(name)).map(|table| table.host());
        match (own, https) {
            // The more specific pattern is the smaller.
            (Some((_, own)), Some(https)) if name.is_some() && *https < own.listener.host => {
                TlsEntry::Https
            }
            (Some((at, own)), _) => TlsEntry::Stream(at, own),
            (None, Some(_)) => TlsEntry::Https,
            (None, None) => TlsEntry::Nobody,
        }
    }

    fn add(&mut self, listener: &Node<Listener>) {
        if self.hosts.add(&listener.host) as usize == self.listeners.len() {
            self.listeners.push(StreamListener::new(listener));
        }
    }
}

impl StreamListener {
    pub fn plan(&self) -> &Node<Listener> {
        &self.listener
    }

    /// The route that takes a connection, and its place among the listener's. Without a name only one for any host.
    pub fn attachment(&self, name: Option<&str>) -> Option<(usize, &Attachment)> {
        let host = match name {
            Some(name) => self.hosts.matching(name).next(),
            None => self.hosts.any(),
        };
        let at = *self.by_host.get(host? as usize)? as usize;
        Some((at, self.listener.attachments.get(at)?))
    }

    fn new(listener: &Node<Listener>) -> StreamListener {
        let (mut hosts, mut by_host) = (HostTable::default(), Vec::new());
        for (at, Attachment { host, .. }) in listener.attachments.iter().enumerate() {
            if hosts.add(host) as usize == by_host.len() {
                by_host.push(position(at));
            }
        }
        StreamListener { listener: listener.clone(), hosts, by_host }
    }
}
