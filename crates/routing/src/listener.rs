//! The match table of one listener: its attachments as layers of effective hosts, and in each layer the matches in
//! their order of precedence.
//!
//! A request is given to the most specific layer of its host, and falls to the next when no match of that layer holds.
//! Precedence is by the hostname that a route wrote, and layers agree with it: of two hosts that a listener and a
//! route share, the narrower one comes from the narrower hostname. Where two are equal, the hostname as written
//! decides, then the rank, then the order of attachments, rules and matches.

use crate::condition::{Condition, Outcome};
use crate::hosts::HostTable;
use crate::index::position;
use crate::paths::{PathTree, PathTreeBuilder};
use crate::pattern::{Extent, Pattern, Patterns, Scratch};
use crate::{Headers, Request};
use model::edge::{Attachment, Listener, Match, PathMatch, Route, Rule};
use model::id::ListenerId;
use model::{HostPattern, Node, ObjectId};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Immutable; shared by the routers of all snapshots in which the listener is the same.
pub struct ListenerTable {
    listener: Node<Listener>,
    hosts: HostTable,
    /// By the numbers that `hosts` gives.
    layers: Box<[Layer]>,
    /// Layer after layer, each in its order of precedence.
    entries: Box<[Entry]>,
    paths: PathTree,
    /// Positions of the entries whose path is a regular expression.
    regexes: Box<[u32]>,
    slots: Box<[Place]>,
}

pub(crate) struct Layer {
    pub(crate) entries: Range<u32>,
    root: u32,
    regexes: Range<u32>,
}

/// One match of one rule of one attachment.
pub(crate) struct Entry {
    pub(crate) attachment: u32,
    pub(crate) rule: u32,
    pub(crate) match_: u32,
    slot: u32,
    /// Only where the path is a regular expression; the tree knows the others.
    pub(crate) path: Option<Arc<Pattern>>,
    pub(crate) conditions: Box<[Condition]>,
}

/// Where a slot's rule lies.
struct Place {
    attachment: u32,
    rule: u32,
}

/// The rule that a request is given to, for whoever has a table of rules of his own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The rule's number in this table, below [`ListenerTable::rules_len`].
    pub slot: u32,
    /// See [`Matched::matched_prefix_len`].
    pub matched_prefix_len: usize,
}

/// What a request is given to.
#[derive(Clone, Copy)]
pub struct Matched<'t> {
    pub listener: &'t ListenerTable,
    /// Holds the host pattern and the route.
    pub attachment: &'t Attachment,
    pub rule: &'t Rule,
    pub rule_index: usize,
    pub match_index: usize,
    /// The rule's number in this table, below [`ListenerTable::rules_len`].
    pub slot: u32,
    /// Bytes of the path that the prefix took; the whole path where the match was exact or a regular expression.
    pub matched_prefix_len: usize,
}

impl<'t> Matched<'t> {
    pub fn route(&self) -> &'t Node<Route> {
        &self.attachment.route
    }
}

/// A rule of the table with its number.
#[derive(Clone, Copy)]
pub struct RuleSlot<'t> {
    pub slot: u32,
    pub route: &'t Node<Route>,
    pub rule: &'t Rule,
    pub rule_index: usize,
}

impl ListenerTable {
    /// The rule that takes the request; none is a 404. `host` in normal form and without its port.
    pub fn select<H: Headers>(
        &self,
        host: &str,
        request: &Request<'_, H>,
        scratch: &mut Scratch,
    ) -> Option<Matched<'_>> {
        let found = self.select_entry(host, request, scratch)?;
        self.matched(found)
    }

    /// The same without a look at the plan: of many rules hardly any part of it is in a processor's cache.
    pub fn take<H: Headers>(
        &self,
        host: &str,
        request: &Request<'_, H>,
        scratch: &mut Scratch,
    ) -> Option<Taken> {
        let Found { entry, taken } = self.select_entry(host, request, scratch)?;
        Some(Taken { slot: self.entry(entry)?.slot, matched_prefix_len: taken })
    }

    pub fn listener(&self) -> &Node<Listener> {
        &self.listener
    }

    pub fn id(&self) -> &ListenerId {
        &self.listener.id
    }

    pub fn host(&self) -> &HostPattern {
        &self.listener.host
    }

    /// Secrets in order of preference.
    pub fn certificates(&self) -> &[ObjectId] {
        &self.listener.certificates
    }

    /// True when both stand for the same listener, though perhaps of different snapshots.
    pub fn is_same_listener(&self, other: &ListenerTable) -> bool {
        std::ptr::eq(self, other) || self.id() == other.id()
    }

    /// How many slots there are. A route attached for several hosts has one slot for each of its rules.
    pub fn rules_len(&self) -> usize {
        self.slots.len()
    }

    /// Every rule once, by slot: for side tables with live state.
    pub fn rules(&self) -> impl Iterator<Item = RuleSlot<'_>> {
        (0..).zip(&self.slots).filter_map(|(slot, place)| {
            let route = &self.attachment(place.attachment)?.route;
            let rule_index = place.rule as usize;
            Some(RuleSlot { slot, route, rule: route.rules.get(rule_index)?, rule_index })
        })
    }

    /// What the table takes beside the plan's own nodes: an estimate for reports, without the allocator's overhead.
    pub fn memory_bytes(&self) -> usize {
        let conditions: usize = self.entries.iter().map(|e| size_of_val(&*e.conditions)).sum();
        let patterns: HashMap<_, _> =
            self.patterns().map(|pattern| (Arc::as_ptr(pattern), pattern.bytes())).collect();
        size_of_val(self)
            + self.hosts.bytes()
            + size_of_val(&*self.layers)
            + size_of_val(&*self.entries)
            + conditions
            + self.paths.bytes()
            + size_of_val(&*self.regexes)
            + size_of_val(&*self.slots)
            + patterns.values().sum::<usize>()
    }

    pub(crate) fn build(listener: &Node<Listener>, patterns: &mut Patterns) -> ListenerTable {
        let (slots, first_slots) = number_slots(&listener.attachments);
        let mut hosts = HostTable::default();
        let drafts = sorted_drafts(&listener.attachments, &mut hosts);
        let mut assembly = Assembly::default();
        let layers = drafts
            .chunk_by(|a, b| a.layer == b.layer)
            .map(|drafts| assembly.layer(drafts, &first_slots, patterns))
            .collect();
        ListenerTable {
            listener: listener.clone(),
            hosts,
            layers,
            entries: assembly.entries.into(),
            paths: assembly.paths.finish(),
            regexes: assembly.regexes.into(),
            slots,
        }
    }

    pub(crate) fn select_entry<H: Headers>(
        &self,
        host: &str,
        request: &Request<'_, H>,
        scratch: &mut Scratch,
    ) -> Option<Found> {
        self.layers(host).find_map(|(_, layer)| self.best(layer, request, scratch))
    }

    /// The layers of a host with their patterns, most specific first.
    pub(crate) fn layers(&self, host: &str) -> impl Iterator<Item = (&HostPattern, &Layer)> {
        self.hosts
            .matching(host)
            .filter_map(|id| Some((self.hosts.pattern(id)?, self.layers.get(id as usize)?)))
    }

    pub(crate) fn entry(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)
    }

    /// The parts of the plan that an entry stands for.
    pub(crate) fn parts(&self, entry: &Entry) -> Option<(&Attachment, &Rule, &Match)> {
        let attachment = self.attachment(entry.attachment)?;
        let rule = attachment.route.rules.get(entry.rule as usize)?;
        Some((attachment, rule, rule.matches.get(entry.match_ as usize)?))
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.entries.iter().flat_map(|entry| {
            entry.path.iter().chain(entry.conditions.iter().filter_map(Condition::pattern))
        })
    }

    fn attachment(&self, number: u32) -> Option<&Attachment> {
        self.listener.attachments.get(number as usize)
    }

    fn best<H: Headers>(
        &self,
        layer: &Layer,
        request: &Request<'_, H>,
        scratch: &mut Scratch,
    ) -> Option<Found> {
        let mut search = Search { table: self, request, scratch, best: None };
        self.paths.walk(layer.root, request.path, |list, taken| search.consider(list, taken));
        let regexes = layer.regexes.start as usize..layer.regexes.end as usize;
        search.consider(self.regexes.get(regexes).unwrap_or_default(), request.path.len());
        search.best
    }

    fn matched(&self, found: Found) -> Option<Matched<'_>> {
        let entry = self.entry(found.entry)?;
        let (attachment, rule, _) = self.parts(entry)?;
        Some(Matched {
            listener: self,
            attachment,
            rule,
            rule_index: entry.rule as usize,
            match_index: entry.match_ as usize,
            slot: entry.slot,
            matched_prefix_len: found.taken,
        })
    }
}

/// An entry by position, and the bytes of the path that it took.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) entry: u32,
    taken: usize,
}

struct Search<'s, 'r, H> {
    table: &'s ListenerTable,
    request: &'s Request<'r, H>,
    scratch: &'s mut Scratch,
    best: Option<Found>,
}

impl<H: Headers> Search<'_, '_, H> {
    /// Takes the first entry of a sorted list that holds, unless an earlier one was found already.
    fn consider(&mut self, list: &[u32], taken: usize) {
        let bound = self.best.map_or(u32::MAX, |best| best.entry);
        let (request, scratch) = (self.request, &mut *self.scratch);
        let found = list
            .iter()
            .take_while(|at| **at < bound)
            .find(|at| self.table.entry(**at).is_some_and(|entry| entry.holds(request, scratch)));
        if let Some(entry) = found {
            self.best = Some(Found { entry: *entry, taken });
        }
    }
}

impl Entry {
    /// For an entry whose path is in the tree, the walk has shown already that the path matches.
    fn holds<H: Headers>(&self, request: &Request<'_, H>, scratch: &mut Scratch) -> bool {
        self.path.as_ref().is_none_or(|path| path.matches(request.path, &mut scratch.searches))
            && self.conditions.iter().all(|c| c.check(request, scratch) == Outcome::Holds)
    }
}

/// The parts of a table that grow layer by layer.
#[derive(Default)]
struct Assembly {
    entries: Vec<Entry>,
    paths: PathTreeBuilder,
    regexes: Vec<u32>,
}

impl Assembly {
    /// `drafts` in their order of precedence.
    fn layer(
        &mut self,
        drafts: &[Draft<'_>],
        first_slots: &[u32],
        patterns: &mut Patterns,
    ) -> Layer {
        let root = self.paths.root();
        let (first, first_regex) = (self.entries.len(), self.regexes.len());
        for draft in drafts {
            let at = position(self.entries.len());
            match &draft.condition.path {
                PathMatch::Exact(path) => self.paths.add_exact(root, path, at),
                PathMatch::Prefix(path) => self.paths.add_prefix(root, path, at),
                PathMatch::Regex(_) => self.regexes.push(at),
            }
            let first_slot = first_slots.get(draft.attachment as usize).copied();
            self.entries.push(draft.entry(first_slot.unwrap_or_default(), patterns));
        }
        Layer {
            entries: position(first)..position(self.entries.len()),
            root,
            regexes: position(first_regex)..position(self.regexes.len()),
        }
    }
}

/// A match on its way into the table.
struct Draft<'p> {
    layer: u32,
    original: (u8, usize),
    attachment: u32,
    rule: u32,
    match_: u32,
    condition: &'p Match,
}

impl Draft<'_> {
    fn entry(&self, first_slot: u32, patterns: &mut Patterns) -> Entry {
        let path = match &self.condition.path {
            PathMatch::Regex(source) => Some(patterns.pattern(source, Extent::Whole)),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
        };
        let conditions = &self.condition.conditions;
        Entry {
            attachment: self.attachment,
            rule: self.rule,
            match_: self.match_,
            slot: first_slot + self.rule,
            path,
            conditions: conditions.iter().map(|c| Condition::new(c, patterns)).collect(),
        }
    }
}

/// All matches, layer by layer in the order of `hosts`, in their order of precedence.
fn sorted_drafts<'p>(attachments: &'p [Attachment], hosts: &mut HostTable) -> Vec<Draft<'p>> {
    let mut drafts = Vec::with_capacity(attachments.len());
    for (number, attachment) in (0..).zip(attachments) {
        if attachment.route.rules.iter().all(|rule| rule.matches.is_empty()) {
            continue;
        }
        let layer = hosts.add(&attachment.host);
        let original = attachment.original.specificity();
        for (rule_number, rule) in (0..).zip(&attachment.route.rules) {
            drafts.extend((0..).zip(&rule.matches).map(|(match_, condition)| Draft {
                layer,
                original,
                attachment: number,
                rule: rule_number,
                match_,
                condition,
            }));
        }
    }
    // Stable: what is equal keeps the order of attachments, rules and matches.
    drafts.sort_by_key(|d| (d.layer, Reverse(d.original), Reverse(d.condition.rank)));
    drafts
}

/// Slots of all rules, and the first slot of each attachment's route. Attachments of one route share them.
fn number_slots(attachments: &[Attachment]) -> (Box<[Place]>, Vec<u32>) {
    let mut slots = Vec::with_capacity(attachments.len());
    let mut known = HashMap::with_capacity(attachments.len());
    let first_slots = (0..)
        .zip(attachments)
        .map(|(attachment, at)| {
            *known.entry(at.route.address()).or_insert_with(|| {
                let first = position(slots.len());
                let rules = 0..position(at.route.rules.len());
                slots.extend(rules.map(|rule| Place { attachment, rule }));
                first
            })
        })
        .collect();
    (slots.into(), first_slots)
}
