//! What an entry asks of its clients, and gives them beside what routes say: by listener, before a request is known,
//! and by rule. Pure data of the plan; `edge` carries it out.

use crate::answers::{Answers, ConnectionLimits};
use crate::network::Networks;
use crate::{ObjectId, Text};
use std::net::IpAddr;
use std::sync::Arc;

/// Of one listener. Listeners of a port that have to agree before a name is known follow the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerPolicy {
    /// Whose word about a client's address is believed. None: nobody's.
    pub client_address: Option<ClientAddress>,
    /// The same for all listeners of a port.
    pub proxy_protocol: Option<AcceptProxy>,
    /// Who may connect: every one of them must agree.
    pub peers: Vec<Restriction>,
    /// Whose requests are served, whatever takes them, by the client's address after trust: every one of them must
    /// agree.
    pub sources: Vec<Restriction>,
    pub tls: TlsTerms,
    /// None: no client is asked for a certificate.
    pub client_trust: Option<Box<ClientTrust>>,
    pub limits: ConnectionLimits,
}

/// What a handshake with a client may come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsTerms {
    pub preset: TlsPreset,
    /// In order of preference; empty is the default, HTTP/2 before HTTP/1.1.
    pub alpn: Vec<Alpn>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsPreset {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    Http2,
    Http1,
}

impl Alpn {
    /// As it stands in a handshake (RFC 7301).
    pub fn id(self) -> &'static str {
        match self {
            Alpn::Http2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }
}

/// Whose certificates a client may show (GEP-91).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTrust {
    /// Without a certificate that holds, no connection. Else there is one, as of a client that is not known.
    pub is_required: bool,
    /// Certificates in DER; at least one.
    pub authorities: Vec<Vec<u8>>,
}

/// Of one rule, or of the requests to a listener that no rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RulePolicy {
    /// Whose requests are served, besides what the listener says.
    pub sources: Vec<Restriction>,
    /// Value of Strict-Transport-Security (RFC 6797) in responses over TLS.
    pub strict_transport_security: Option<Text>,
    pub client_certificate: ForwardedCertificate,
    /// None is the default.
    pub answers: Option<Box<Answers>>,
}

/// What the backend is told of the client's certificate (RFC 9440).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardedCertificate {
    #[default]
    Nothing,
    /// `Client-Cert`.
    Leaf,
    /// `Client-Cert` and `Client-Cert-Chain`.
    Chain,
}

/// How a client's address is found behind proxies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    pub trusted: Trusted,
    pub header: AddressHeader,
    /// The field that these proxies write the client's scheme into, in lower case; none for the one that belongs to
    /// `header`, which of a field of its own there is not.
    pub scheme: Option<Text>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trusted {
    /// Proxies with these addresses.
    Networks(Networks),
    /// That many proxies, whatever their addresses; the nearest is the one that is connected.
    Hops(u32),
}

impl Trusted {
    /// Whether a proxy is believed that is `hops` hops away from the connection's other end.
    pub fn believes(&self, proxy: IpAddr, hops: u32) -> bool {
        match self {
            Trusted::Networks(networks) => networks.contains(proxy),
            Trusted::Hops(count) => hops < *count,
        }
    }
}

/// What proxies write addresses into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressHeader {
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
    /// One address alone; the name in lower case.
    Named(Text),
}

/// A connection begins with a header of the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcceptProxy {
    /// Who may send one.
    pub from: Networks,
    /// Connections without one are served as they are; so are those of others.
    pub is_optional: bool,
}

/// What one policy says about addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restriction {
    pub policy: ObjectId,
    /// Only these. None: all.
    pub allow: Option<Vec<AddressList>>,
    /// None of these, allowed or not.
    pub deny: Vec<AddressList>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressList {
    pub origin: ListOrigin,
    /// Shared by all that the policy reaches.
    pub networks: Arc<Networks>,
}

/// Where a list is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListOrigin {
    /// Path in the policy.
    Field(Text),
    /// An entry of a ConfigMap.
    Entry { object: ObjectId, key: Text },
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<'a> {
    By(&'a AddressList),
    InNoList,
}

impl Restriction {
    /// None where the address is let through.
    pub fn refusal(&self, address: IpAddr) -> Option<Refused<'_>> {
        let holds = |list: &&AddressList| list.networks.contains(address);
        if let Some(list) = self.deny.iter().find(holds) {
            return Some(Refused::By(list));
        }
        let allowed = self.allow.as_ref()?;
        (!allowed.iter().any(|list| holds(&list))).then_some(Refused::InNoList)
    }
}

/// The first of `restrictions` that refuses the address.
pub fn refusal(
    restrictions: &[Restriction],
    address: IpAddr,
) -> Option<(&Restriction, Refused<'_>)> {
    restrictions.iter().find_map(|each| Some((each, each.refusal(address)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::network::Network;

    fn lists(texts: &[&str]) -> Vec<AddressList> {
        let networks = texts.iter().map(|text| Network::parse(text).expect("a network"));
        let networks = Arc::new(networks.collect());
        vec![AddressList { origin: ListOrigin::Field("spec".into()), networks }]
    }

    #[test]
    fn all_restrictions_must_agree_and_denial_is_stronger() {
        let policy = ObjectId::new(Kind::EDGE_POLICY, "a", "b");
        let of = |allow: Option<&[&str]>, deny: &[&str]| Restriction {
            policy: policy.clone(),
            allow: allow.map(lists),
            deny: lists(deny),
        };
        let gateway = of(Some(&["10.0.0.0/8"]), &["10.9.0.0/16"]);
        let route = of(None, &["10.1.2.3"]);
        for (address, expected) in [
            ("10.0.0.1", true),
            ("10.1.2.3", false),
            ("10.9.0.1", false),
            ("192.0.2.1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            let both = [gateway.clone(), route.clone()];
            let found = refusal(&both, address.parse().expect("an address"));
            assert_eq!(found.is_none(), expected, "{address}");
        }
        let closed = of(Some(&[]), &[]);
        assert_eq!(closed.refusal([127, 0, 0, 1].into()), Some(Refused::InNoList));
    }
}
