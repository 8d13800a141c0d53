//! Served listeners of both front ends in one table by port and host, on their way into the plan.
//!
//! A Gateway's listener stands as written. An Ingress asks for a host on port 80 or 443:
//! * where a listener of that port and host is there already, its routes and certificates join it;
//! * else a listener is made for it. A wider listener of a Gateway (`*.example.test`, or any host) no longer takes
//!   requests for the host then, so what its routes want there is attached to the new listener too. Both front ends
//!   stay in one match table, and neither hides the other.

use crate::listeners::GatewayDraft;
use model::edge::{Attachment, Listener, Protocol};
use model::hash::HashMap;
use model::id::ListenerId;
use model::{HostPattern, ObjectId, Text};

#[derive(Default)]
pub(crate) struct Entries {
    listeners: Vec<Listener>,
    by_host: HashMap<(u16, HostPattern), usize>,
    protocols: HashMap<u16, Protocol>,
    /// The first of them are Gateways'.
    gateways: usize,
    inherited: HashMap<usize, Inheritance>,
}

/// Attachments of a wider listener by what they can pass on.
struct Inheritance {
    exact: HashMap<Text, Vec<usize>>,
    wide: Vec<usize>,
}

impl Entries {
    /// Moves the attachments out of the drafts.
    pub fn of(drafts: &mut [GatewayDraft]) -> Self {
        let mut entries = Entries::default();
        for listener in drafts.iter_mut().flat_map(|draft| &mut draft.listeners) {
            let Some(protocol) = listener.served() else { continue };
            let certificates = match protocol {
                Protocol::Https => listener.certificates.clone(),
                Protocol::Http => Vec::new(),
            };
            entries.push(Listener {
                id: listener.id.clone(),
                port: listener.spec.port,
                protocol,
                host: listener.host.clone(),
                certificates,
                attachments: std::mem::take(&mut listener.attachments),
            });
        }
        entries.gateways = entries.listeners.len();
        entries
    }

    /// The listener for a host that an Ingress wants; an error when the port speaks another protocol.
    pub fn for_ingress(
        &mut self,
        ingress: &ObjectId,
        protocol: Protocol,
        host: &HostPattern,
    ) -> Result<&mut Listener, ()> {
        let (port, section) = match protocol {
            Protocol::Http => (80, "http"),
            Protocol::Https => (443, "https"),
        };
        if *self.protocols.entry(port).or_insert(protocol) != protocol {
            return Err(());
        }
        let index = match self.by_host.get(&(port, host.clone())) {
            Some(index) => *index,
            None => {
                let attachments = self.inherit(port, host);
                self.push(Listener {
                    id: ListenerId { object: ingress.clone(), section: section.into() },
                    port,
                    protocol,
                    host: host.clone(),
                    certificates: Vec::new(),
                    attachments,
                })
            }
        };
        Ok(&mut self.listeners[index])
    }

    /// Sorted as the plan wants them.
    pub fn finish(mut self) -> Vec<Listener> {
        let key = |l: &Listener| (l.port, l.protocol, l.host.clone(), l.id.clone());
        self.listeners.sort_by_cached_key(key);
        self.listeners
    }

    fn push(&mut self, listener: Listener) -> usize {
        let index = self.listeners.len();
        self.by_host.insert((listener.port, listener.host.clone()), index);
        self.protocols.insert(listener.port, listener.protocol);
        self.listeners.push(listener);
        index
    }

    /// What the most specific wider listener would have served for the host.
    fn inherit(&mut self, port: u16, host: &HostPattern) -> Vec<Attachment> {
        let wider = (0..self.gateways)
            .filter(|&index| {
                let listener = &self.listeners[index];
                listener.port == port && listener.host.covers(host)
            })
            .max_by_key(|&index| self.listeners[index].host.specificity());
        let Some(wider) = wider else { return Vec::new() };
        let attachments = &self.listeners[wider].attachments;
        let narrowed = |attachment: &Attachment| {
            let host = attachment.host.intersect(host)?;
            Some(Attachment { host, ..attachment.clone() })
        };
        let HostPattern::Exact(name) = host else {
            return attachments.iter().filter_map(narrowed).collect();
        };
        let index = self.inherited.entry(wider).or_insert_with(|| Inheritance::of(attachments));
        let exact = index.exact.get(name.as_str()).into_iter().flatten();
        let mut found: Vec<usize> = exact.chain(&index.wide).copied().collect();
        found.sort_unstable();
        found.into_iter().filter_map(|index| narrowed(&attachments[index])).collect()
    }
}

impl Inheritance {
    fn of(attachments: &[Attachment]) -> Self {
        let mut index = Inheritance { exact: HashMap::default(), wide: Vec::new() };
        for (number, attachment) in attachments.iter().enumerate() {
            match &attachment.host {
                HostPattern::Exact(name) => {
                    index.exact.entry(name.text()).or_default().push(number)
                }
                _ => index.wide.push(number),
            }
        }
        index
    }
}
