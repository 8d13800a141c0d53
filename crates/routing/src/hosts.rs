//! Host patterns by host, most specific first: used for the listeners of a port and for the layers of a listener.

use crate::index::{Index, hash, position};
use memchr::memchr_iter;
use model::HostPattern;

const EXACT: u32 = 1;
const ONE_LABEL: u32 = 2;
const WILDCARD: u32 = 3;

/// Distinct patterns, numbered in the order in which they were added.
#[derive(Default)]
pub(crate) struct HostTable {
    patterns: Vec<HostPattern>,
    index: Index,
    any: Option<u32>,
    /// No suffix of a host that is longer is looked up: a long Host header costs nothing.
    longest_suffix: usize,
}

impl HostTable {
    /// The number of the pattern; a new one when it was not in the table.
    pub(crate) fn add(&mut self, pattern: &HostPattern) -> u32 {
        if let Some(id) = self.number(pattern) {
            return id;
        }
        let id = position(self.patterns.len());
        match key(pattern) {
            None => self.any = Some(id),
            Some((kind, name)) => {
                self.index.insert(hash(kind, name.as_bytes()), id);
                if kind != EXACT {
                    self.longest_suffix = self.longest_suffix.max(name.len());
                }
            }
        }
        self.patterns.push(pattern.clone());
        id
    }

    /// Numbers of all patterns that match, most specific first. `host` in normal form.
    pub(crate) fn matching(&self, host: &str) -> impl Iterator<Item = u32> {
        let exact = self.find(EXACT, host);
        exact.into_iter().chain(self.wildcards(host)).chain(self.any)
    }

    pub(crate) fn any(&self) -> Option<u32> {
        self.any
    }

    pub(crate) fn pattern(&self, id: u32) -> Option<&HostPattern> {
        self.patterns.get(id as usize)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.patterns.capacity() * size_of::<HostPattern>() + self.index.bytes()
    }

    /// Suffix by suffix, the longest first; a pattern for one label before one for any depth.
    fn wildcards(&self, host: &str) -> impl Iterator<Item = u32> {
        memchr_iter(b'.', host.as_bytes())
            .enumerate()
            .filter(move |(_, dot)| *dot > 0 && host.len() - dot - 1 <= self.longest_suffix)
            .filter_map(move |(nth, dot)| Some((nth == 0, host.get(dot + 1..)?)))
            .flat_map(move |(is_first, suffix)| {
                let one = is_first.then(|| self.find(ONE_LABEL, suffix)).flatten();
                one.into_iter().chain(self.find(WILDCARD, suffix))
            })
    }

    fn number(&self, pattern: &HostPattern) -> Option<u32> {
        match key(pattern) {
            None => self.any,
            Some((kind, name)) => self.find(kind, name),
        }
    }

    fn find(&self, kind: u32, name: &str) -> Option<u32> {
        self.index.find(hash(kind, name.as_bytes()), |id| {
            self.patterns.get(id as usize).and_then(key) == Some((kind, name))
        })
    }
}

fn key(pattern: &HostPattern) -> Option<(u32, &str)> {
    match pattern {
        HostPattern::Exact(name) => Some((EXACT, name.as_str())),
        HostPattern::OneLabel(name) => Some((ONE_LABEL, name.as_str())),
        HostPattern::Wildcard(name) => Some((WILDCARD, name.as_str())),
        HostPattern::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> HostPattern {
        match text.strip_prefix("+.") {
            Some(_) => HostPattern::parse_one_label(&text.replacen('+', "*", 1)),
            None => HostPattern::parse(text),
        }
        .expect("test pattern is well formed")
    }

    proptest! {
        /// The table's order is that of `HostPattern`'s own rules, on every host, odd ones included.
        #[test]
        fn same_as_a_linear_scan(
            texts in prop::collection::vec("([*+]\\.)?[ab](\\.[ab]){0,3}|", 0..12),
            host in "[ab.]{0,9}",
        ) {
            let mut table = HostTable::default();
            let patterns: Vec<HostPattern> = texts.iter().map(|text| pattern(text)).collect();
            patterns.iter().for_each(|pattern| { table.add(pattern); });
            let mut expected: Vec<&HostPattern> =
                patterns.iter().filter(|pattern| pattern.matches(&host)).collect();
            expected.sort();
            expected.dedup();
            let found: Vec<&HostPattern> =
                table.matching(&host).filter_map(|id| table.pattern(id)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
