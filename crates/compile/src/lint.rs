//! What is legal and surely unwanted in the edge's plan: rules that an equal, earlier one takes everything from, and
//! listeners without routes. Words of Services that ask for nothing.

use crate::codes;
use crate::ingress;
use crate::report::Report;
use manifest::kinds::kubernetes::Service;
use manifest::{Inputs, suggest};
use model::edge::{Attachment, Condition, FrontEnd, Listener, Match, PathMatch, Rank, Rule};
use model::hash::{HashMap, HashSet};
use model::id::{ListenerId, RuleId};
use model::{HostPattern, Kind, Node, ObjectId};
use std::collections::hash_map::Entry;

pub(crate) fn check(listeners: &[Node<Listener>], inputs: &Inputs, report: &mut Report) {
    let mut said = HashSet::default();
    for listener in listeners {
        if listener.attachments.is_empty() {
            let message = format!("{} has no routes; it answers 404", listener.id);
            let field = listener_field(inputs, listener);
            report
                .add(&codes::LISTENER_IDLE, &listener.id.object, field, message)
                .help("attach a route that names it in `parentRefs`, or remove the listener");
        }
        find_shadowed(listener, inputs, &mut said, report);
    }
}

/// Words of Services that are not known, and so ask for nothing.
pub(crate) fn check_services(inputs: &Inputs, report: &mut Report) {
    for (object, service) in inputs.services() {
        check_app_protocols(&object.id, service, report);
        let Some(word) = &service.traffic_distribution else { continue };
        if crate::backends::nearest(word).is_some() {
            continue;
        }
        let message = format!("trafficDistribution {word} is not known, so it asks for nothing");
        report
            .add(&codes::DISTRIBUTION_UNKNOWN, &object.id, "spec.trafficDistribution", message)
            .help("write PreferSameZone (or PreferClose, its older name), or PreferSameNode");
    }
}

/// Kubernetes' own words begin with this, and there are these (KEP-3726).
const KUBERNETES: &str = "kubernetes.io/";
const APP_PROTOCOLS: [&str; 3] = ["h2c", "ws", "wss"];

fn check_app_protocols(id: &ObjectId, service: &Service, report: &mut Report) {
    for (index, port) in service.ports.iter().enumerate() {
        let lower = port.app_protocol.as_deref().unwrap_or_default().to_ascii_lowercase();
        let Some(word) = lower.strip_prefix(KUBERNETES) else { continue };
        if APP_PROTOCOLS.contains(&word) {
            continue;
        }
        let message = format!(
            "Kubernetes defines no appProtocol `{KUBERNETES}{word}`, so it asks for nothing"
        );
        let help = match suggest::nearest(word, APP_PROTOCOLS) {
            Some(near) => format!("did you mean `{KUBERNETES}{near}`?"),
            None => {
                let known = APP_PROTOCOLS.map(|word| format!("`{KUBERNETES}{word}`"));
                format!("write one of {}, or a word of your own domain", known.join(", "))
            }
        };
        let field = format!("spec.ports[{index}].appProtocol");
        report.add(&codes::APP_PROTOCOL_UNKNOWN, id, field, message).help(help);
    }
}

/// Path of a listener in its object.
pub(crate) fn listener_field(inputs: &Inputs, listener: &Listener) -> String {
    field_of_listener(inputs, &listener.id)
}

pub(crate) fn field_of_listener(inputs: &Inputs, listener: &ListenerId) -> String {
    let id = &listener.object;
    let gateway = inputs.gateway(&id.namespace, &id.name).filter(|_| id.kind == Kind::GATEWAY);
    let position = gateway.and_then(|(_, gateway)| {
        gateway.listeners.iter().position(|spec| spec.name == listener.section)
    });
    position.map_or_else(|| "spec".to_owned(), |index| format!("spec.listeners[{index}]"))
}

/// Requests that a match takes: equal keys take the same.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    host: &'a HostPattern,
    original: (u8, usize),
    path: &'a PathMatch,
    conditions: Vec<&'a Condition>,
    /// Tells the default backend of an Ingress from a rule for every path.
    rank: Rank,
}

#[derive(Clone, Copy)]
struct Place<'a> {
    attachment: &'a Attachment,
    rule: &'a Rule,
    number: usize,
}

/// Matches in the order in which they are tried among equal keys: by rank, then as attached.
fn find_shadowed<'a>(
    listener: &'a Listener,
    inputs: &Inputs,
    said: &mut HashSet<(&'a ObjectId, u32, usize)>,
    report: &mut Report,
) {
    let mut first: HashMap<Key<'a>, Place<'a>> =
        HashMap::with_capacity_and_hasher(listener.attachments.len(), Default::default());
    let mut shadowed: Vec<(Place<'a>, Place<'a>)> = Vec::new();
    for attachment in &listener.attachments {
        for rule in &attachment.route.rules {
            for (number, found) in rule.matches.iter().enumerate() {
                let place = Place { attachment, rule, number };
                match first.entry(key(attachment, found)) {
                    Entry::Occupied(held) => shadowed.push((place, *held.get())),
                    Entry::Vacant(vacant) => {
                        vacant.insert(place);
                    }
                }
            }
        }
    }
    for (place, by) in shadowed {
        if said.insert((&place.rule.id.object, place.rule.id.index, place.number)) {
            say(place, by, inputs, report);
        }
    }
}

fn key<'a>(attachment: &'a Attachment, found: &'a Match) -> Key<'a> {
    let mut conditions: Vec<&Condition> = found.conditions.iter().collect();
    conditions.sort_by_cached_key(|condition| match condition {
        Condition::Method(_) => (0, ""),
        Condition::Header { name, .. } => (1, &**name),
        Condition::Query { name, .. } => (2, &**name),
    });
    Key {
        host: &attachment.host,
        original: attachment.original.specificity(),
        path: &found.path,
        conditions,
        rank: found.rank,
    }
}

fn say(place: Place, by: Place, inputs: &Inputs, report: &mut Report) {
    let (object, other) = (&place.rule.id.object, &by.rule.id.object);
    let host = &place.attachment.host;
    let whose = if object == other { "an earlier match of it" } else { "a rule of " };
    let other_name = if object == other { String::new() } else { other.to_string() };
    let message = format!(
        "a rule of {object} takes no request for {host}: {whose}{other_name} takes {} first",
        shown(&place.rule.matches[place.number])
    );
    report
        .add(&codes::SHADOWED, object, match_field(place, inputs), message)
        .host(host)
        .help("remove one of the two rules, or tell their matches apart")
        .related("the rule that comes first", other, match_field(by, inputs));
}

fn match_field(place: Place, inputs: &Inputs) -> String {
    let id = &place.rule.id;
    match place.attachment.route.front_end {
        FrontEnd::GatewayApi if id.object.kind == Kind::EDGE_POLICY => field_of_rule(inputs, id),
        FrontEnd::GatewayApi => format!("spec.rules[{}].matches[{}]", id.index, place.number),
        FrontEnd::Ingress => field_of_rule(inputs, id),
    }
}

/// Where a rule of the plan is written: `spec.rules[N]` of an HTTPRoute, of an Ingress the entry of its path or
/// `spec.defaultBackend`, as of an EdgePolicy; the whole object where it is no longer there.
pub fn field_of_rule(inputs: &Inputs, id: &RuleId) -> String {
    if id.object.kind != Kind::INGRESS {
        return format!("spec.rules[{}]", id.index);
    }
    if id.object.kind == Kind::EDGE_POLICY {
        return "spec.defaultBackend".to_owned();
    }
    inputs
        .ingress(&id.object.namespace, &id.object.name)
        .map_or_else(String::new, |(_, spec)| ingress::field_of_rule(spec, id.index))
}

fn shown(found: &Match) -> String {
    let path = match &found.path {
        PathMatch::Exact(path) => format!("path {path}"),
        PathMatch::Prefix(path) if path.is_empty() => "every path".to_owned(),
        PathMatch::Prefix(path) => format!("paths below {path}"),
        PathMatch::Regex(pattern) => format!("paths like {pattern}"),
    };
    match found.conditions.len() {
        0 => path,
        _ => format!("{path} with the same conditions"),
    }
}
