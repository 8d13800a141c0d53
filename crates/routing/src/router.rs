//! The match tables of a whole plan: ports, and on each port the listener for a host.

use crate::hosts::HostTable;
use crate::listener::ListenerTable;
use crate::pattern::Patterns;
use model::edge::{EdgePlan, Listener, Protocol};
use model::{Digest, Node};
use std::collections::HashMap;
use std::sync::Arc;

/// Sorted by port, then protocol.
#[derive(Default)]
pub struct Router {
    ports: Vec<PortTable>,
}

/// The listeners that share a socket.
pub struct PortTable {
    port: u16,
    protocol: Protocol,
    listeners: Vec<Arc<ListenerTable>>,
    hosts: HostTable,
    /// The listener of each host pattern, by the numbers that `hosts` gives.
    by_host: Vec<u32>,
}

impl Router {
    /// A listener that is equal to one of `previous` keeps that one's table.
    pub fn build(plan: &EdgePlan, previous: Option<&Router>) -> Router {
        let mut tables = Tables::new(previous);
        let mut ports: Vec<PortTable> = Vec::new();
        for listener in &plan.listeners {
            let table = tables.table(listener);
            let key = (listener.port, listener.protocol);
            match ports.binary_search_by_key(&key, PortTable::key) {
                Ok(at) => ports[at].add(table),
                Err(at) => {
                    ports.insert(at, PortTable::new(key));
                    ports[at].add(table);
                }
            }
        }
        Router { ports }
    }

    pub fn ports(&self) -> &[PortTable] {
        &self.ports
    }

    pub fn port(&self, port: u16, protocol: Protocol) -> Option<&PortTable> {
        let at = self.ports.binary_search_by_key(&(port, protocol), PortTable::key).ok()?;
        self.ports.get(at)
    }

    pub fn listeners(&self) -> impl Iterator<Item = &Arc<ListenerTable>> {
        self.ports.iter().flat_map(|port| &port.listeners)
    }
}

impl PortTable {
    /// As written in the plan; the shell adds its offset.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// In the order of the plan.
    pub fn listeners(&self) -> &[Arc<ListenerTable>] {
        &self.listeners
    }

    /// The most specific listener for the host, which alone takes its requests: no other is asked when it has no
    /// route (listener isolation, Gateway API). `host` in normal form and without its port; empty where there is none.
    pub fn listener(&self, host: &str) -> Option<&Arc<ListenerTable>> {
        self.by_number(self.hosts.matching(host).next()?)
    }

    /// The listener whose certificate answers a handshake. Without a name: the one for any host, else the first that
    /// has a certificate.
    pub fn sni(&self, name: Option<&str>) -> Option<&Arc<ListenerTable>> {
        match name {
            Some(name) => self.listener(name),
            None => self.default_listener(),
        }
    }

    /// Whether a request for `host` came over a connection that another listener answers for: to be refused with 421
    /// (RFC 9110 section 15.5.20). `sni` is the name that the client sent in its handshake.
    pub fn is_misdirected(&self, sni: Option<&str>, host: &str) -> bool {
        match (self.sni(sni), self.listener(host)) {
            (Some(connected), Some(wanted)) => !connected.is_same_listener(wanted),
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    fn new((port, protocol): (u16, Protocol)) -> PortTable {
        let (listeners, hosts, by_host) = Default::default();
        PortTable { port, protocol, listeners, hosts, by_host }
    }

    fn key(&self) -> (u16, Protocol) {
        (self.port, self.protocol)
    }

    /// Of two listeners for one host, the first of the plan serves it.
    fn add(&mut self, table: Arc<ListenerTable>) {
        let number = crate::index::position(self.listeners.len());
        if self.hosts.add(table.host()) as usize == self.by_host.len() {
            self.by_host.push(number);
        }
        self.listeners.push(table);
    }

    fn default_listener(&self) -> Option<&Arc<ListenerTable>> {
        self.hosts
            .any()
            .and_then(|host| self.by_number(host))
            .or_else(|| self.listeners.iter().find(|table| !table.certificates().is_empty()))
    }

    fn by_number(&self, host: u32) -> Option<&Arc<ListenerTable>> {
        let listener = *self.by_host.get(host as usize)?;
        self.listeners.get(listener as usize)
    }
}

/// Tables and patterns of the previous router, for what did not change.
struct Tables<'p> {
    previous: Option<&'p Router>,
    by_digest: HashMap<Digest, &'p Arc<ListenerTable>>,
    /// Filled from `previous` when the first listener is built: often none is.
    patterns: Option<Patterns>,
}

impl<'p> Tables<'p> {
    fn new(previous: Option<&'p Router>) -> Tables<'p> {
        let tables = previous.into_iter().flat_map(Router::listeners);
        let by_digest = tables.map(|table| (table.listener().digest(), table)).collect();
        Tables { previous, by_digest, patterns: None }
    }

    fn table(&mut self, listener: &Node<Listener>) -> Arc<ListenerTable> {
        if let Some(table) = self.by_digest.get(&listener.digest()) {
            return Arc::clone(table);
        }
        let previous = self.previous;
        let patterns = self.patterns.get_or_insert_with(|| known_patterns(previous));
        Arc::new(ListenerTable::build(listener, patterns))
    }
}

fn known_patterns(previous: Option<&Router>) -> Patterns {
    let mut patterns = Patterns::default();
    let tables = previous.into_iter().flat_map(Router::listeners);
    tables.flat_map(|table| table.patterns()).for_each(|pattern| patterns.keep(pattern));
    patterns
}
