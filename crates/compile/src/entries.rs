//! Served listeners of both front ends in one table by port and host, on their way into the plan.
//!
//! A Gateway's listener stands as written. An Ingress asks for a host on port 80 or 443:
//! * where a listener of that port and host is there already, its routes and certificates join it;
//! * else a listener is made for it. A wider listener (`*.example.test`, or any host) no longer takes requests for the
//!   host then, so what its routes want there is attached to the new listener too, once all entries are known: from
//!   Gateways the routes of the most specific wider listener, as its isolation wants; from Ingresses the rules of all
//!   wider entries, since a rule without host and a default backend are for every host that an Ingress serves.
//!   Both front ends stay in one match table, neither hides the other, and no name decides what is served.
//!
//! A Gateway's listener inherits nothing: who wrote it did not ask for the routes of others.

use crate::layer4::{Family, Spoken};
use crate::listeners::{GatewayDraft, ListenerDraft};
use model::edge::{Attachment, FrontEnd, Listener, Protocol};
use model::front::{AcceptProxy, ListenerPolicy, RulePolicy};
use model::hash::{HashMap, HashSet};
use model::id::ListenerId;
use model::{HostPattern, Hostname, Node, ObjectId, Text};

#[derive(Default)]
pub(crate) struct Entries {
    listeners: Vec<Listener>,
    by_host: HashMap<(u16, HostPattern), usize>,
    protocols: HashMap<u16, Family>,
    /// Hosts that TLSRoutes have on a port.
    taken: HashSet<(u16, HostPattern)>,
    /// The first of them are Gateways'.
    gateways: usize,
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
            let protocol = match listener.served() {
                Some(Spoken::Http(protocol)) => protocol,
                Some(other) => {
                    entries.give_away(other, listener);
                    continue;
                }
                None => continue,
            };
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
                policy: listener.policy.clone(),
                unmatched: listener.unmatched.clone(),
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
        let family = Spoken::Http(protocol).family();
        if *self.protocols.entry(port).or_insert(family) != family
            || self.taken.contains(&(port, host.clone()))
        {
            return Err(());
        }
        let index = match self.by_host.get(&(port, host.clone())) {
            Some(index) => *index,
            None => self.push(Listener {
                id: ListenerId { object: ingress.clone(), section: section.into() },
                port,
                protocol,
                host: host.clone(),
                certificates: Vec::new(),
                policy: None,
                unmatched: None,
                attachments: Vec::new(),
            }),
        };
        Ok(&mut self.listeners[index])
    }

    /// Sorted as the plan wants them.
    pub fn finish(mut self) -> Vec<Listener> {
        let (of_gateways, proxies) = (HashMap::default(), self.proxies());
        let mut heirs = Heirs { entries: &self, of_gateways, proxies };
        let inherited: Vec<Inherited> =
            (self.gateways..self.listeners.len()).map(|index| heirs.inherit(index)).collect();
        for (listener, inherited) in self.listeners[self.gateways..].iter_mut().zip(inherited) {
            // Where ranks are equal the Gateway API comes first.
            listener.attachments.splice(0..0, inherited.of_gateway);
            listener.attachments.extend(inherited.of_ingresses);
            listener.policy = inherited.policy;
            listener.unmatched = inherited.unmatched;
        }
        let key = |l: &Listener| (l.port, l.protocol, l.host.clone(), l.id.clone());
        self.listeners.sort_by_cached_key(key);
        self.listeners
    }

    /// By port: Gateways' listeners have agreed.
    fn proxies(&self) -> HashMap<u16, AcceptProxy> {
        let gateways = self.listeners.iter().take(self.gateways);
        let told = gateways.filter_map(|listener| {
            Some((listener.port, listener.policy.as_ref()?.proxy_protocol.clone()?))
        });
        told.collect()
    }

    /// To a listener below HTTP.
    fn give_away(&mut self, protocol: Spoken, listener: &ListenerDraft) {
        let port = listener.spec.port;
        match protocol.family() {
            Family::Udp => {}
            family => {
                self.protocols.insert(port, family);
                self.taken.insert((port, listener.host.clone()));
            }
        }
    }

    fn push(&mut self, listener: Listener) -> usize {
        let index = self.listeners.len();
        self.by_host.insert((listener.port, listener.host.clone()), index);
        self.protocols.insert(listener.port, Spoken::Http(listener.protocol).family());
        self.listeners.push(listener);
        index
    }

    /// Listeners whose hosts include all of `host`, the most specific first; not the one for `host` itself.
    fn wider(&self, port: u16, host: &HostPattern) -> Vec<usize> {
        let mut patterns = Vec::new();
        let mut parent = host.base().map(|name| name.as_str());
        match host {
            HostPattern::Exact(name) => {
                parent = name.parent();
                patterns.extend(
                    parent.and_then(|name| Hostname::parse(name).ok()).map(HostPattern::OneLabel),
                );
            }
            HostPattern::Wildcard(name) => parent = name.parent(),
            HostPattern::OneLabel(_) | HostPattern::Any => {}
        }
        while let Some(name) = parent {
            patterns.extend(Hostname::parse(name).ok().map(HostPattern::Wildcard));
            parent = name.split_once('.').map(|(_, rest)| rest);
        }
        if *host != HostPattern::Any {
            patterns.push(HostPattern::Any);
        }
        patterns
            .into_iter()
            .filter_map(|pattern| self.by_host.get(&(port, pattern)).copied())
            .collect()
    }
}

/// Works out what listeners that were made for an Ingress take over; reads only what was there before.
struct Heirs<'e> {
    entries: &'e Entries,
    of_gateways: HashMap<usize, Inheritance>,
    proxies: HashMap<u16, AcceptProxy>,
}

struct Inherited {
    of_gateway: Vec<Attachment>,
    of_ingresses: Vec<Attachment>,
    /// Of the Gateway's listener that the heir is cut out of: what that closes, stays closed.
    policy: Option<Box<ListenerPolicy>>,
    unmatched: Option<Node<RulePolicy>>,
}

impl Heirs<'_> {
    fn inherit(&mut self, index: usize) -> Inherited {
        let heir = &self.entries.listeners[index];
        let wider = self.entries.wider(heir.port, &heir.host);
        let gateway = wider.iter().find(|wider| **wider < self.entries.gateways);
        let of_gateway =
            gateway.map(|gateway| self.of_gateway(*gateway, &heir.host)).unwrap_or_default();
        let mut of_ingresses: Vec<Attachment> = Vec::new();
        // A default backend without TLS of its own is for the hosts of others that have TLS, too.
        let plain = (heir.protocol == Protocol::Https)
            .then(|| self.entries.by_host.get(&(80, HostPattern::Any)));
        for source in wider.iter().chain(plain.flatten()) {
            for attachment in &self.entries.listeners[*source].attachments {
                let is_there = |other: &Attachment| other.route.id == attachment.route.id;
                if attachment.route.front_end != FrontEnd::Ingress
                    || heir.attachments.iter().any(is_there)
                    || of_ingresses.iter().any(is_there)
                {
                    continue;
                }
                of_ingresses.extend(narrowed(attachment, &heir.host));
            }
        }
        let source = gateway.map(|gateway| &self.entries.listeners[*gateway]);
        let policy = source.and_then(|source| source.policy.clone());
        let unmatched = source.and_then(|source| source.unmatched.clone());
        Inherited {
            of_gateway,
            of_ingresses,
            policy: policy.or_else(|| self.of_port(heir.port)),
            unmatched,
        }
    }

    /// What comes before any name is known is the same for all listeners of a port.
    fn of_port(&self, port: u16) -> Option<Box<ListenerPolicy>> {
        let proxy_protocol = Some(self.proxies.get(&port)?.clone());
        Some(Box::new(ListenerPolicy { proxy_protocol, ..ListenerPolicy::default() }))
    }

    /// What a Gateway's routes want of the host.
    fn of_gateway(&mut self, gateway: usize, host: &HostPattern) -> Vec<Attachment> {
        let attachments = &self.entries.listeners[gateway].attachments;
        let is_of_gateway =
            |attachment: &&Attachment| attachment.route.front_end == FrontEnd::GatewayApi;
        let HostPattern::Exact(name) = host else {
            return attachments
                .iter()
                .filter(is_of_gateway)
                .filter_map(|a| narrowed(a, host))
                .collect();
        };
        let index = self.of_gateways.entry(gateway).or_insert_with(|| Inheritance::of(attachments));
        let exact = index.exact.get(name.as_str()).into_iter().flatten();
        let mut found: Vec<usize> = exact.chain(&index.wide).copied().collect();
        found.sort_unstable();
        found
            .into_iter()
            .map(|at| &attachments[at])
            .filter(is_of_gateway)
            .filter_map(|a| narrowed(a, host))
            .collect()
    }
}

fn narrowed(attachment: &Attachment, host: &HostPattern) -> Option<Attachment> {
    let host = attachment.host.intersect(host)?;
    Some(Attachment { host, ..attachment.clone() })
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
