//! From what EdgePolicies say about clients to the plan's form: who is believed, and who is let in. Restrictions of all
//! levels hold together: nobody opens what a Gateway closes.

use crate::answers::Level;
use crate::codes;
use crate::layer4::Spoken;
use crate::listeners::GatewayDraft;
use crate::report::Report;
use manifest::Inputs;
use manifest::kinds::edge_policy::EdgePolicy;
use manifest::kinds::edge_policy_entry::{
    AcceptMode, AcceptProxySection, AddressesSection, Cidr, ClientAddressSection, ListReference,
};
use manifest::networks::parse_list;
use model::front::{
    AcceptProxy, AddressHeader, AddressList, ClientAddress, ListOrigin, Restriction, Trusted,
};
use model::hash::HashMap;
use model::id::ListenerId;
use model::layer4::Transport;
use model::network::Networks;
use model::{ObjectId, Text};
use std::sync::Arc;

pub(crate) fn client_address(policy: &EdgePolicy) -> Option<ClientAddress> {
    let section: &ClientAddressSection = &policy.client_address.as_ref()?.0;
    let header = section.header().0;
    let trusted = match section.trusted_hops {
        Some(hops) => Trusted::Hops(hops.0),
        None => Trusted::Networks(networks(section.trusted_proxies.as_deref())),
    };
    let is = |name: &str| header.eq_ignore_ascii_case(name);
    let header = match () {
        () if is("x-forwarded-for") => AddressHeader::XForwardedFor,
        () if is("forwarded") => AddressHeader::Forwarded,
        () => AddressHeader::Named(header.to_ascii_lowercase().into()),
    };
    let scheme = section.scheme_header.as_ref().map(|name| name.0.to_ascii_lowercase().into());
    Some(ClientAddress { trusted, header, scheme })
}

pub(crate) fn accept_proxy(policy: &EdgePolicy) -> Option<AcceptProxy> {
    let section: &AcceptProxySection = &policy.accept_proxy_protocol.as_ref()?.0;
    let from = networks(section.from.as_deref());
    Some(AcceptProxy { from, is_optional: section.mode() == AcceptMode::Optional })
}

/// Who may connect.
pub(crate) fn peers<'a>(
    levels: impl Iterator<Item = Level<'a>>,
    inputs: &Inputs,
) -> Vec<Restriction> {
    let each = levels.filter_map(|(id, spec)| Some((id, "peers", &spec.peers.as_ref()?.0)));
    each.map(|level| restriction(level, inputs)).collect()
}

/// Whose requests are served.
pub(crate) fn sources<'a>(
    levels: impl Iterator<Item = Level<'a>>,
    inputs: &Inputs,
) -> Vec<Restriction> {
    let each = levels.filter_map(|(id, spec)| Some((id, "sources", &spec.sources.as_ref()?.0)));
    each.map(|level| restriction(level, inputs)).collect()
}

fn restriction(
    (policy, key, section): (&ObjectId, &str, &AddressesSection),
    inputs: &Inputs,
) -> Restriction {
    let lists = |field: &str, own: &Option<Vec<Cidr>>, named: &Option<Vec<ListReference>>| {
        let own = own.as_deref().map(|own| AddressList {
            origin: ListOrigin::Field(format!("spec.{key}.{field}").into()),
            networks: Arc::new(networks(Some(own))),
        });
        let named = named.iter().flatten().flat_map(|list| entries(policy, list, inputs));
        own.into_iter().chain(named).collect::<Vec<_>>()
    };
    let is_closed = section.allow.is_some() || section.allow_lists.is_some();
    Restriction {
        policy: policy.clone(),
        allow: is_closed.then(|| lists("allow", &section.allow, &section.allow_lists)),
        deny: lists("deny", &section.deny, &section.deny_lists),
    }
}

/// Lines with mistakes and lists that are not there are told of by the reader; they let nobody in.
fn entries(policy: &ObjectId, list: &ListReference, inputs: &Inputs) -> Vec<AddressList> {
    let Some((object, map)) = inputs.config_map(&policy.namespace, &list.config_map) else {
        return Vec::new();
    };
    let of = |(key, text): (&Text, &Text)| AddressList {
        origin: ListOrigin::Entry { object: object.id.clone(), key: key.clone() },
        networks: Arc::new(parse_list(text).filter_map(Result::ok).collect()),
    };
    list.entries(map).map(of).collect()
}

fn networks(written: Option<&[Cidr]>) -> Networks {
    written.unwrap_or_default().iter().map(|cidr| cidr.0).collect()
}

/// Names of ConfigMaps that a policy reads addresses from.
pub(crate) fn config_maps(policy: &EdgePolicy) -> impl Iterator<Item = &Text> {
    policy.addresses().flat_map(|(_, section)| section.lists().map(|(_, list)| &list.config_map))
}

/// What comes first on a connection is the same for all names of a port, since none is known yet. What the first listener
/// of the oldest Gateway says counts; what others say is reported.
pub(crate) fn agree_on_proxy_protocol(drafts: &mut [GatewayDraft], report: &mut Report) {
    let mut ports: HashMap<u16, (ListenerId, String, Option<AcceptProxy>)> = HashMap::default();
    for listener in drafts.iter_mut().flat_map(|draft| &mut draft.listeners) {
        // No header comes before datagrams, whose ports are others.
        if matches!(listener.served(), None | Some(Spoken::Layer4(Transport::Udp))) {
            continue;
        }
        let own = listener.policy.as_ref().and_then(|policy| policy.proxy_protocol.clone());
        let first = (listener.id.clone(), listener.field.clone(), own.clone());
        let (first, field, counts) = ports.entry(listener.spec.port).or_insert(first);
        if own == *counts {
            continue;
        }
        let message = format!(
            "listener {} shares port {} with {first}, which is told otherwise about the PROXY protocol; that counts",
            listener.id.section, listener.spec.port
        );
        report
            .add(&codes::PROXY_DISAGREES, &listener.id.object, &listener.field, message)
            .help("name the Gateway in `targetRefs` without `sectionName`, or use another port")
            .related("the listener that counts", &first.object, &**field);
        let mut policy = listener.policy.take().unwrap_or_default();
        policy.proxy_protocol.clone_from(counts);
        listener.policy = Some(policy);
    }
}
