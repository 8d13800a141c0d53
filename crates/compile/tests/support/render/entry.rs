//! What listeners and rules ask of clients.

use model::edge::Rule;
use model::front::{AddressList, ListOrigin, ListenerPolicy, Restriction};

pub fn of_listener(policy: Option<&ListenerPolicy>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(policy) = policy {
        lines.extend(policy.client_address.iter().map(|trust| format!("{trust:?}")));
        lines.extend(policy.proxy_protocol.iter().map(|proxy| format!("{proxy:?}")));
        lines.extend(policy.peers.iter().map(|peers| format!("peers {}", restriction(peers))));
        let sources = policy.sources.iter();
        lines.extend(sources.map(|sources| format!("sources {}", restriction(sources))));
    }
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

pub fn of_rule(rule: &Rule) -> Vec<String> {
    let sources = rule.policy.iter().flat_map(|policy| &policy.sources);
    sources.map(|sources| format!("sources {}", restriction(sources))).collect()
}

fn restriction(of: &Restriction) -> String {
    let lists = |lists: &[AddressList]| lists.iter().map(list).collect::<Vec<_>>().join(", ");
    let allow = of.allow.as_deref().map_or("all".to_owned(), |allow| format!("[{}]", lists(allow)));
    format!("of {}: allow {allow}, deny [{}]", of.policy, lists(&of.deny))
}

fn list(list: &AddressList) -> String {
    match &list.origin {
        ListOrigin::Field(field) => format!("{field} {:?}", list.networks),
        ListOrigin::Entry { object, key } => format!("{object} {key} {:?}", list.networks),
    }
}
