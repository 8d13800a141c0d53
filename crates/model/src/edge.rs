//! The edge's section of the plan: listeners, routes, rules and what they lead to. Pure data; `routing` builds the
//! match tables from it, `edge` serves it, `explain` reads it.

use crate::fallback::Fallback;
use crate::front::{ListenerPolicy, RulePolicy};
use crate::id::{ListenerId, RuleId, ServicePort};
use crate::layer4;
use crate::traffic::{BackendPolicy, Cors, Mirror, Persistence, Retry};
use crate::{HostPattern, Node, ObjectId, Text};
use std::time::Duration;

/// Listeners sorted by port, then protocol, then host (most specific first), then id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EdgePlan {
    pub listeners: Vec<Node<Listener>>,
    /// In the same order, by transport.
    pub layer4: Vec<Node<layer4::Listener>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Http,
    Https,
}

/// One host pattern on one port. Listeners of the same port and protocol share a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    pub id: ListenerId,
    /// As written (80); the shell adds the port offset.
    pub port: u16,
    pub protocol: Protocol,
    pub host: HostPattern,
    /// Secrets in order of preference; empty for HTTP.
    pub certificates: Vec<ObjectId>,
    /// None is the default.
    pub policy: Option<Box<ListenerPolicy>>,
    /// Of requests that no rule takes.
    pub unmatched: Option<Node<RulePolicy>>,
    /// In order of precedence where host and rank of two matches are equal (older first, then by object).
    pub attachments: Vec<Attachment>,
}

/// A route attached to a listener for one of its hostnames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// What both the listener and the route want: the hosts that are served.
    pub host: HostPattern,
    /// The hostname as the route wrote it: precedence between routes is decided by it.
    pub original: HostPattern,
    pub route: Node<Route>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontEnd {
    GatewayApi,
    Ingress,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub id: ObjectId,
    pub front_end: FrontEnd,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub id: RuleId,
    /// Never empty: a rule without matches has one that takes every path.
    pub matches: Vec<Match>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// Ignored by a redirect, which carries its own.
    pub rewrite: Rewrite,
    pub timeouts: Timeouts,
    pub retry: Option<Box<Retry>>,
    pub cors: Option<Box<Cors>>,
    pub mirrors: Vec<Mirror>,
    pub persistence: Option<Box<Persistence>>,
    /// None is the default. One node of it serves every rule that asks for the same.
    pub policy: Option<Node<RulePolicy>>,
    pub action: Action,
}

impl Rule {
    /// Without filters, limits of time or policies.
    pub fn plain(id: RuleId, matches: Vec<Match>, action: Action) -> Rule {
        Rule {
            id,
            matches,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: Rewrite::default(),
            timeouts: Timeouts::default(),
            retry: None,
            cors: None,
            mirrors: Vec::new(),
            persistence: None,
            policy: None,
            action,
        }
    }

    /// Those that requests are forwarded to, then those of its mirrors.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let forwarded = match &self.action {
            Action::Forward(backends) => backends.as_slice(),
            Action::Redirect(_) | Action::Fail { .. } => &[],
        };
        forwarded.iter().chain(self.mirrors.iter().map(|mirror| &mirror.backend))
    }
}

/// All conditions must hold. `rank` is what the front end says about precedence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    pub path: PathMatch,
    pub conditions: Vec<Condition>,
    pub rank: Rank,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    Exact(Text),
    /// By path element: `/a` takes `/a` and `/a/b`, not `/ab`. Without a trailing slash; the root is empty.
    Prefix(Text),
    /// Anchored at the start and at the end of the path.
    Regex(Text),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    Method(Text),
    /// Name in lower case. Several headers of that name are joined with a comma, RFC 9110 section 5.3.
    Header {
        name: Text,
        value: ValueMatch,
    },
    /// Name as written; the first parameter of that name counts.
    Query {
        name: Text,
        value: ValueMatch,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueMatch {
    Exact(Text),
    /// Matches anywhere in the value, as RE2 does unless anchored.
    Regex(Text),
}

/// Precedence between matches of one host, the larger first, compared from left to right. A front end fills it from
/// its own specification. What is equal is decided by the order of attachments, then of rules, then of matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub [u32; 5]);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeaderEdits {
    /// Replaces every header of the name.
    pub set: Vec<(Text, Text)>,
    pub add: Vec<(Text, Text)>,
    pub remove: Vec<Text>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rewrite {
    pub hostname: Option<Text>,
    pub path: Option<PathRewrite>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathRewrite {
    ReplaceFull(Text),
    /// Replaces the prefix that the matched [`PathMatch::Prefix`] took.
    ReplacePrefix(Text),
}

/// None means no deadline of that kind was asked for (the edge's own limits still hold).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// From the request's head to the last byte of the response.
    pub request: Option<Duration>,
    /// One attempt at a backend, to its response's last byte.
    pub backend_request: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// At least one backend; weights may all be zero (answers 500, GEP HTTPBackendRef weight).
    Forward(Vec<Backend>),
    Redirect(Redirect),
    /// The rule cannot be served as written; `why` is a slug for logs, `message` for people.
    Fail {
        status: u16,
        why: Text,
        message: Text,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    pub weight: u32,
    pub target: Target,
    /// None is [`BackendPolicy::default`].
    pub policy: Option<Node<BackendPolicy>>,
    /// Filters of this backend, after those of its rule.
    pub edits: Option<Box<BackendEdits>>,
    /// Where too few of its endpoints are in.
    pub fallback: Option<Node<Fallback>>,
}

impl Backend {
    /// With the default policy and no edits.
    pub fn plain(weight: u32, target: Target) -> Backend {
        Backend { weight, target, policy: None, edits: None, fallback: None }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendEdits {
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub rewrite: Rewrite,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Service(ServicePort),
    /// Its share of requests answers 500.
    Invalid {
        why: Text,
        message: Text,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    pub scheme: Option<Protocol>,
    pub hostname: Option<Text>,
    /// As written by the rule; without it the port follows the scheme or the listener (GEP: RequestRedirect).
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}
