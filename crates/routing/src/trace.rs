//! Why a request goes where it goes: every listener of the port, every layer of the host, every rule, with the reason.
//! Reads the same tables as a request does, but one by one; the taker is the one that a request finds.

use crate::condition::{Condition, Outcome};
use crate::listener::{Entry, Layer, ListenerTable};
use crate::pattern::Scratch;
use crate::{Headers, PortTable, Request, Router};
use model::edge::{self, Listener, PathMatch, Protocol, Rule};
use model::id::RuleId;
use model::{HostPattern, Node};
use std::collections::HashMap;
use std::fmt;

/// Empty where the plan has no such port.
pub struct Trace<'t> {
    pub listeners: Vec<ListenerTrace<'t>>,
    /// Of the listener that takes the host, most specific first.
    pub layers: Vec<LayerTrace<'t>>,
    pub taker: Option<&'t Rule>,
}

pub struct ListenerTrace<'t> {
    pub listener: &'t Node<Listener>,
    pub verdict: ListenerVerdict<'t>,
}

#[derive(Clone, Copy)]
pub enum ListenerVerdict<'t> {
    Takes,
    HostDiffers,
    /// It is for the host too, but another listener is for fewer hosts, or comes first.
    Outranked {
        by: &'t Node<Listener>,
    },
}

/// The rules for one effective host.
pub struct LayerTrace<'t> {
    pub host: &'t HostPattern,
    /// By precedence of each rule's first match.
    pub rules: Vec<RuleTrace<'t>>,
}

pub struct RuleTrace<'t> {
    pub rule: &'t Rule,
    pub verdict: RuleVerdict<'t>,
    /// Every match of the rule, by precedence.
    pub matches: Vec<MatchTrace<'t>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleVerdict<'t> {
    Takes,
    /// One of its matches holds, but so does one of the other rule, which has precedence.
    Outranked {
        by: &'t RuleId,
    },
    /// No match holds: see the reasons there.
    Differs,
}

pub struct MatchTrace<'t> {
    pub index: usize,
    /// Empty when the match holds.
    pub misses: Vec<Miss<'t>>,
}

/// A condition that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss<'t> {
    Path(&'t PathMatch),
    Method(&'t str),
    HeaderAbsent(&'t str),
    HeaderDiffers(&'t str),
    QueryAbsent(&'t str),
    QueryDiffers(&'t str),
}

impl Router {
    /// Judges one request, as the edge would. `host` in normal form and without its port.
    pub fn trace<H: Headers>(
        &self,
        port: u16,
        protocol: Protocol,
        host: &str,
        request: &Request<'_, H>,
    ) -> Trace<'_> {
        let Some(port) = self.port(port, protocol) else {
            return Trace { listeners: Vec::new(), layers: Vec::new(), taker: None };
        };
        let mut scratch = Scratch::default();
        let table = port.listener(host);
        let taker = table.and_then(|t| t.select_entry(host, request, &mut scratch));
        let taker = taker.map(|found| found.entry);
        let mut judge = Judge { request, scratch, taker };
        Trace {
            listeners: trace_listeners(port, host),
            layers: table.map(|table| judge.layers(table, host)).unwrap_or_default(),
            taker: table.zip(taker).and_then(|(table, at)| rule_at(table, at)),
        }
    }
}

/// A reason for people: "the path does not begin with /cart".
impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Path(PathMatch::Exact(path)) => write!(f, "the path is not {path}"),
            Miss::Path(PathMatch::Prefix(path)) => {
                write!(f, "the path does not begin with the elements {path}")
            }
            Miss::Path(PathMatch::Regex(pattern)) => write!(f, "the path does not match {pattern}"),
            Miss::Method(method) => write!(f, "the method is not {method}"),
            Miss::HeaderAbsent(name) => write!(f, "there is no header {name}"),
            Miss::HeaderDiffers(name) => write!(f, "header {name} has another value"),
            Miss::QueryAbsent(name) => write!(f, "there is no query parameter {name}"),
            Miss::QueryDiffers(name) => write!(f, "query parameter {name} has another value"),
        }
    }
}

fn trace_listeners<'t>(port: &'t PortTable, host: &str) -> Vec<ListenerTrace<'t>> {
    let taker = port.listener(host);
    let verdict = |table: &ListenerTable| match taker {
        Some(taker) if std::ptr::eq(&**taker, table) => ListenerVerdict::Takes,
        Some(taker) if table.host().matches(host) => {
            ListenerVerdict::Outranked { by: taker.listener() }
        }
        _ => ListenerVerdict::HostDiffers,
    };
    port.listeners()
        .iter()
        .map(|table| ListenerTrace { listener: table.listener(), verdict: verdict(table) })
        .collect()
}

struct Judge<'r, H> {
    request: &'r Request<'r, H>,
    scratch: Scratch,
    /// The entry that a request finds.
    taker: Option<u32>,
}

impl<H: Headers> Judge<'_, H> {
    fn layers<'t>(&mut self, table: &'t ListenerTable, host: &str) -> Vec<LayerTrace<'t>> {
        table
            .layers(host)
            .map(|(host, layer)| LayerTrace { host, rules: self.rules(table, layer) })
            .collect()
    }

    fn rules<'t>(&mut self, table: &'t ListenerTable, layer: &Layer) -> Vec<RuleTrace<'t>> {
        let mut rules: Vec<RuleTrace<'t>> = Vec::new();
        let mut places = HashMap::new();
        for at in layer.entries.clone() {
            let Some((entry, (_, rule, condition))) =
                table.entry(at).and_then(|entry| Some((entry, table.parts(entry)?)))
            else {
                continue;
            };
            let misses = self.misses(entry, condition);
            let verdict = self.verdict(table, at, &misses);
            let traced = MatchTrace { index: entry.match_ as usize, misses };
            let place = *places.entry((entry.attachment, entry.rule)).or_insert(rules.len());
            match rules.get_mut(place) {
                Some(known) => known.add(traced, verdict),
                None => rules.push(RuleTrace { rule, verdict, matches: vec![traced] }),
            }
        }
        rules
    }

    fn verdict<'t>(&self, table: &'t ListenerTable, at: u32, misses: &[Miss]) -> RuleVerdict<'t> {
        match self.taker {
            Some(taker) if taker == at => RuleVerdict::Takes,
            Some(taker) if misses.is_empty() => rule_at(table, taker)
                .map_or(RuleVerdict::Differs, |rule| RuleVerdict::Outranked { by: &rule.id }),
            _ => RuleVerdict::Differs,
        }
    }

    fn misses<'t>(&mut self, entry: &Entry, condition: &'t edge::Match) -> Vec<Miss<'t>> {
        let path_holds = self.path_holds(entry, &condition.path);
        let path = (!path_holds).then_some(Miss::Path(&condition.path));
        let others = entry.conditions.iter().zip(&condition.conditions);
        path.into_iter()
            .chain(others.filter_map(|(tested, written)| {
                miss(written, Condition::check(tested, self.request, &mut self.scratch))
            }))
            .collect()
    }

    fn path_holds(&mut self, entry: &Entry, written: &PathMatch) -> bool {
        let path = self.request.path;
        match written {
            PathMatch::Exact(exact) => path == exact.as_bytes(),
            PathMatch::Prefix(prefix) => path
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest[0] == b'/'),
            PathMatch::Regex(_) => entry
                .path
                .as_ref()
                .is_some_and(|pattern| pattern.matches(path, &mut self.scratch.searches)),
        }
    }
}

impl<'t> RuleTrace<'t> {
    /// What is said of a rule is the best that is said of one of its matches.
    fn add(&mut self, traced: MatchTrace<'t>, verdict: RuleVerdict<'t>) {
        self.matches.push(traced);
        if self.verdict == RuleVerdict::Differs || verdict == RuleVerdict::Takes {
            self.verdict = verdict;
        }
    }
}

fn miss(condition: &edge::Condition, outcome: Outcome) -> Option<Miss<'_>> {
    use edge::Condition::{Header, Method, Query};
    match (condition, outcome) {
        (_, Outcome::Holds) => None,
        (Method(method), _) => Some(Miss::Method(method)),
        (Header { name, .. }, Outcome::Absent) => Some(Miss::HeaderAbsent(name)),
        (Header { name, .. }, Outcome::Differs) => Some(Miss::HeaderDiffers(name)),
        (Query { name, .. }, Outcome::Absent) => Some(Miss::QueryAbsent(name)),
        (Query { name, .. }, Outcome::Differs) => Some(Miss::QueryDiffers(name)),
    }
}

fn rule_at(table: &ListenerTable, at: u32) -> Option<&Rule> {
    table.parts(table.entry(at)?).map(|(_, rule, _)| rule)
}
