//! Short ways to write plans and requests. Not here: any assertion.

use model::edge::*;
use model::id::{ListenerId, RuleId};
use model::{HostPattern, Kind, Node, ObjectId};
use routing::{Matched, Request};

/// `*.` stands for any depth, `+.` for one label, empty for any host.
pub fn host(text: &str) -> HostPattern {
    match text.strip_prefix("+.") {
        Some(suffix) => HostPattern::parse_one_label(&format!("*.{suffix}")),
        None => HostPattern::parse(text),
    }
    .expect("test host is well formed")
}

/// `= /path` exact, `~ pattern` regular expression, `/path` prefix, empty the root prefix.
pub fn path(text: &str) -> PathMatch {
    match (text.strip_prefix("= "), text.strip_prefix("~ ")) {
        (Some(exact), _) => PathMatch::Exact(exact.into()),
        (_, Some(pattern)) => PathMatch::Regex(pattern.into()),
        _ => PathMatch::Prefix(text.into()),
    }
}

pub fn on(text: &str) -> Match {
    Match { path: path(text), conditions: Vec::new(), rank: Rank::default() }
}

pub fn ranked(text: &str, rank: u32) -> Match {
    Match { rank: Rank([rank, 0, 0, 0, 0]), ..on(text) }
}

pub fn when(text: &str, conditions: Vec<Condition>) -> Match {
    Match { conditions, ..on(text) }
}

pub fn method(name: &str) -> Condition {
    Condition::Method(name.into())
}

pub fn header(name: &str, value: &str) -> Condition {
    Condition::Header { name: name.into(), value: value_match(value) }
}

pub fn query(name: &str, value: &str) -> Condition {
    Condition::Query { name: name.into(), value: value_match(value) }
}

fn value_match(text: &str) -> ValueMatch {
    match text.strip_prefix("~ ") {
        Some(pattern) => ValueMatch::Regex(pattern.into()),
        None => ValueMatch::Exact(text.into()),
    }
}

pub fn route(name: &str, rules: Vec<Vec<Match>>) -> Node<Route> {
    let id = ObjectId::new(Kind::HTTP_ROUTE, "shop", name);
    let rules = (0..).zip(rules).map(|(index, matches)| rule(&id, index, matches)).collect();
    Node::new(Route { id, front_end: FrontEnd::GatewayApi, rules })
}

fn rule(object: &ObjectId, index: u32, matches: Vec<Match>) -> Rule {
    Rule::plain(
        RuleId { object: object.clone(), index, name: None },
        matches,
        Action::Forward(Vec::new()),
    )
}

pub fn attach(effective: &str, original: &str, route: &Node<Route>) -> Attachment {
    Attachment { host: host(effective), original: host(original), route: route.clone() }
}

pub fn listener(section: &str, at: &str, attachments: Vec<Attachment>) -> Listener {
    Listener {
        id: ListenerId {
            object: ObjectId::new(Kind("Gateway"), "shop", "edge"),
            section: section.into(),
        },
        port: 80,
        protocol: Protocol::Http,
        host: host(at),
        certificates: Vec::new(),
        policy: None,
        unmatched: None,
        attachments,
    }
}

pub fn plan(listeners: Vec<Listener>) -> EdgePlan {
    EdgePlan { listeners: listeners.into_iter().map(Node::new).collect(), layer4: Vec::new() }
}

pub type Fields = Vec<(String, Vec<u8>)>;

pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// `GET /path?query`
pub fn request<'a>(line: &'a str, headers: &'a Fields) -> Request<'a, Fields> {
    let (method, target) = line.split_once(' ').expect("method and target");
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    Request { method: method.as_bytes(), path: path.as_bytes(), query, headers }
}

/// `route/rule/match`
pub fn name(matched: &Matched<'_>) -> String {
    format!("{}/{}/{}", matched.route().id.name, matched.rule_index, matched.match_index)
}
