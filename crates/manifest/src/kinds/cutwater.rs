//! Our own kinds, group `cutwater.dev`: Zone and EndpointContract.

use crate::decode::object;
use model::dns::{RecordData, RecordSet, Soa};
use model::governance::Visibility;
use model::hostname::DnsName;
use model::{Hostname, Text};

/// A zone with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub name: Hostname,
    pub soa: Soa,
    /// NS at the apex. Defaults to `ns1.<zone>`, which then answers with this installation's addresses.
    pub nameservers: Vec<DnsName>,
    pub ttl: u32,
    /// One set per name and type, sorted; NS at the apex included.
    pub sets: Vec<RecordSet>,
    /// For each set the index of the first entry of `spec.records` that is in it.
    pub first_records: Vec<usize>,
}

impl Zone {
    /// Where in `spec.records` the addresses, the alias or the delegation of a name are written. The apex is not asked
    /// for: its NS come from `spec.nameservers`.
    pub fn record_index(&self, name: &str) -> Option<usize> {
        let leads = |data: &RecordData| {
            matches!(
                data,
                RecordData::A(_) | RecordData::Aaaa(_) | RecordData::Cname(_) | RecordData::Ns(_)
            )
        };
        let mut sets = self.sets.iter().zip(&self.first_records);
        sets.find(|(set, _)| set.name.as_str() == name && leads(&set.data)).map(|(_, index)| *index)
    }

    pub fn has(&self, name: &str, is_kind: impl Fn(&RecordData) -> bool) -> bool {
        self.sets.iter().any(|set| set.name.as_str() == name && is_kind(&set.data))
    }
}

object! {
    /// What an endpoint promises. Fields that name systems may name systems that are not ours.
    pub struct EndpointContract {
        "hostname" => hostname: Hostname,
        "visibility" => visibility: Option<Visibility>,
        "dnsProvider" => dns_provider: Option<Text>,
        "dnsZone" => dns_zone: Option<Text>,
        "tlsTermination" => tls_termination: Option<Text>,
        "certificateSource" => certificate_source: Option<Text>,
        "ingressApi" => ingress_api: Option<Text>,
        "ingressController" => ingress_controller: Option<Text>,
        "backendService" => backend_service: Option<Text>,
        "backendProtocol" => backend_protocol: Option<Text>,
        "authLayer" => auth_layer: Option<Text>,
        "waf" => waf: Option<Text>,
        "ownerTeam" => owner_team: Option<Text>,
        "appOwner" => app_owner: Option<Text>,
    }
}

impl crate::decode::Decode for Visibility {
    fn decode(node: &crate::node::Node, decoder: &mut crate::decode::Decoder) -> Option<Self> {
        const CHOICES: &[(&str, Visibility)] = &[
            ("public", Visibility::Public),
            ("private", Visibility::Private),
            ("partner", Visibility::Partner),
            ("internal", Visibility::Internal),
        ];
        crate::decode::choose(node, decoder, CHOICES)
    }
}
