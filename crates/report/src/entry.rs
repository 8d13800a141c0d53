//! What the plan asks of clients, as JSON: who is believed, and who is let in. Of lists their length is shown; `explain`
//! judges an address by them.

use crate::plan::sparse;
use model::front::{
    AcceptProxy, AddressHeader, AddressList, ClientAddress, ListOrigin, ListenerPolicy,
    Restriction, RulePolicy, Trusted,
};
use serde_json::{Value, json};

/// Null where nothing is asked.
pub(crate) fn of_listener(policy: Option<&ListenerPolicy>) -> Value {
    let Some(policy) = policy else { return Value::Null };
    sparse([
        ("clientAddress", policy.client_address.as_ref().map_or(Value::Null, client_address)),
        ("acceptProxyProtocol", policy.proxy_protocol.as_ref().map_or(Value::Null, accept_proxy)),
        ("peers", policy.peers.iter().map(restriction).collect()),
        ("sources", policy.sources.iter().map(restriction).collect()),
    ])
}

/// An empty list where nothing is asked.
pub(crate) fn sources_of_rule(policy: Option<&RulePolicy>) -> Value {
    policy.into_iter().flat_map(|policy| &policy.sources).map(restriction).collect()
}

fn client_address(trust: &ClientAddress) -> Value {
    let header = match &trust.header {
        AddressHeader::XForwardedFor => "x-forwarded-for",
        AddressHeader::Forwarded => "forwarded",
        AddressHeader::Named(name) => name,
    };
    let mut value = match &trust.trusted {
        Trusted::Networks(proxies) => json!({"header": header, "trustedRanges": proxies.len()}),
        Trusted::Hops(hops) => json!({"header": header, "trustedHops": hops}),
    };
    if let Some(scheme) = &trust.scheme {
        value["schemeHeader"] = json!(**scheme);
    }
    value
}

fn accept_proxy(proxy: &AcceptProxy) -> Value {
    let mode = if proxy.is_optional { "Optional" } else { "Required" };
    json!({"mode": mode, "fromRanges": proxy.from.len()})
}

fn restriction(restriction: &Restriction) -> Value {
    let lists = |lists: &[AddressList]| lists.iter().map(list).collect::<Value>();
    let mut value = json!({"policy": restriction.policy.to_string()});
    if let Some(allow) = &restriction.allow {
        value["allow"] = lists(allow);
    }
    if !restriction.deny.is_empty() {
        value["deny"] = lists(&restriction.deny);
    }
    value
}

fn list(list: &AddressList) -> Value {
    let from = match &list.origin {
        ListOrigin::Field(field) => field.to_string(),
        ListOrigin::Entry { object, key } => format!("{object} {key}"),
    };
    json!({"from": from, "ranges": list.networks.len()})
}
