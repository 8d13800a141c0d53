//! Regular expressions with bounded size, searched without a lock: the mutable part of a search lies in the
//! caller's [`Scratch`], not in a pool that workers share.
//!
//! As in RE2, `\d`, `\w` and `\s` stand for ASCII and nothing looks around or back. Bytes are searched, so that a
//! header that is not UTF-8 has an answer too; a pattern that needs Unicode (`\p{Greek}`, `[à-ü]`) is read as Unicode.

use model::Text;
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use regex_syntax::hir::{Hir, Look};
use std::collections::HashMap;
use std::sync::Arc;

/// Longest pattern that is accepted: the Gateway API's own bound for a header value is 4,096 bytes.
const PATTERN_BYTES: usize = 4 << 10;
/// Size of a compiled pattern: stops `(a{1000}){1000}`.
const PATTERN_STATE_BYTES: usize = 256 << 10;
/// What one worker's searches of one pattern may remember.
const PATTERN_CACHE_BYTES: usize = 256 << 10;
const PATTERN_DEPTH: u32 = 64;
/// Patterns for which one worker keeps search state; above it the state is dropped and built anew.
const SCRATCH_PATTERNS: usize = 1_024;

/// Says whether routes may use the pattern, in a sentence for the person who wrote it.
pub fn check_regex(pattern: &str) -> Result<(), String> {
    [Extent::Anywhere, Extent::Whole]
        .into_iter()
        .try_for_each(|extent| compile(pattern, extent).map(drop))
}

/// What one worker keeps between requests: search state of regular expressions and a buffer for joined or decoded
/// values. It makes matching free of allocations once it is warm.
#[derive(Default)]
pub struct Scratch {
    pub(crate) searches: Searches,
    pub(crate) buffer: Vec<u8>,
}

/// Whether a pattern must take the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Extent {
    Whole,
    Anywhere,
}

pub(crate) struct Pattern {
    source: Text,
    extent: Extent,
    /// None never matches: `compile` reports a pattern that [`check_regex`] refuses before it comes here.
    regex: Option<Regex>,
}

impl Pattern {
    fn new(source: &Text, extent: Extent) -> Pattern {
        let regex = compile(source, extent);
        debug_assert!(regex.is_ok(), "unchecked pattern {source:?}: {:?}", regex.as_ref().err());
        Pattern { source: source.clone(), extent, regex: regex.ok() }
    }

    pub(crate) fn matches(self: &Arc<Self>, text: &[u8], searches: &mut Searches) -> bool {
        let Some(regex) = &self.regex else { return false };
        let cache = searches.cache(self, regex);
        regex.search_half_with(cache, &Input::new(text).earliest(true)).is_some()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.regex.as_ref().map_or(0, Regex::memory_usage) + size_of::<Pattern>()
    }
}

/// Search state by the address of its pattern. The pattern is held beside it: while it lives, no other has its
/// address.
#[derive(Default)]
pub(crate) struct Searches(HashMap<usize, (Arc<Pattern>, Cache)>);

impl Searches {
    fn cache(&mut self, pattern: &Arc<Pattern>, regex: &Regex) -> &mut Cache {
        let address = Arc::as_ptr(pattern) as usize;
        if self.0.len() >= SCRATCH_PATTERNS && !self.0.contains_key(&address) {
            self.make_room();
        }
        let (_, cache) =
            self.0.entry(address).or_insert_with(|| (Arc::clone(pattern), regex.create_cache()));
        cache
    }

    /// Patterns of earlier snapshots go first.
    fn make_room(&mut self) {
        self.0.retain(|_, (pattern, _)| Arc::strong_count(pattern) > 1);
        if self.0.len() >= SCRATCH_PATTERNS {
            self.0.clear();
        }
    }
}

/// Each pattern is compiled once in a router, and not again while it stays in use.
#[derive(Default)]
pub(crate) struct Patterns(HashMap<(Text, Extent), Arc<Pattern>>);

impl Patterns {
    pub(crate) fn keep(&mut self, pattern: &Arc<Pattern>) {
        self.0.insert((pattern.source.clone(), pattern.extent), Arc::clone(pattern));
    }

    pub(crate) fn pattern(&mut self, source: &Text, extent: Extent) -> Arc<Pattern> {
        let entry = self.0.entry((source.clone(), extent));
        Arc::clone(entry.or_insert_with(|| Arc::new(Pattern::new(source, extent))))
    }
}

fn compile(pattern: &str, extent: Extent) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES {
        return Err(format!(
            "the regular expression has {} bytes; at most {PATTERN_BYTES} are served",
            pattern.len()
        ));
    }
    let parsed = parse(pattern)?;
    let anchored = match extent {
        Extent::Anywhere => parsed,
        // On the parsed form: no text around the pattern can be taken for a part of it.
        Extent::Whole => Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]),
    };
    Regex::builder().configure(limits()).build_from_hir(&anchored).map_err(|error| {
        match error.size_limit() {
            Some(_) => format!(
                "the regular expression needs more than {PATTERN_STATE_BYTES} bytes once compiled; \
                 use smaller repetitions"
            ),
            None => format!("the regular expression cannot be served: {error}"),
        }
    })
}

fn parse(pattern: &str) -> Result<Hir, String> {
    let bytes = syntax::Config::new().unicode(false).utf8(false).nest_limit(PATTERN_DEPTH);
    let parsed = match syntax::parse_with(pattern, &bytes) {
        Err(_) => syntax::parse_with(pattern, &bytes.unicode(true)),
        parsed => parsed,
    };
    parsed.map_err(|error| format!("not a regular expression (RE2 syntax): {}", last_line(&error)))
}

/// The parser draws the pattern over several lines and says what is wrong in the last.
fn last_line(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Only "does it match" is asked, so nothing is spent on captures or on automata built ahead.
fn limits() -> regex_automata::meta::Config {
    Regex::config()
        .utf8_empty(false)
        .which_captures(WhichCaptures::Implicit)
        .onepass(false)
        .dfa(false)
        .nfa_size_limit(Some(PATTERN_STATE_BYTES))
        .hybrid_cache_capacity(PATTERN_CACHE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(source: &str, extent: Extent) -> Arc<Pattern> {
        Arc::new(Pattern::new(&source.into(), extent))
    }

    #[test]
    fn whole_and_anywhere() {
        for (source, text, anywhere, whole) in [
            ("b", "abc", true, false),
            ("abc", "abc", true, true),
            ("a|abc", "abc", true, true),
            ("^b", "abc", false, false),
            ("^a", "abc", true, false),
            ("^a.*$", "abc", true, true),
            ("", "abc", true, false),
            ("(?i)ABC", "abc", true, true),
            ("(?x) a b c # comment", "abc", true, true),
            (r"/v[0-9]+(/.*)?", "/v12/x", true, true),
            (r"\d", "\u{0663}", false, false),
            (r"[à-ü]+", "éê", true, true),
            (r"\p{Greek}", "aλ", true, false),
            ("é", "é", true, true),
            ("a.c", "a\nc", false, false),
        ] {
            let mut searches = Searches::default();
            for (extent, expected) in [(Extent::Anywhere, anywhere), (Extent::Whole, whole)] {
                let found = pattern(source, extent).matches(text.as_bytes(), &mut searches);
                assert_eq!(found, expected, "{source} {text} {extent:?}");
            }
        }
        let any = pattern(".", Extent::Whole);
        assert!(any.matches(b"\xff", &mut Searches::default()), "bytes that are not UTF-8");
    }

    #[test]
    fn hostile_and_wrong_patterns_are_refused_with_a_reason() {
        for (source, reason) in [
            ("(a", "unclosed group"),
            ("a)|(?:b", "unopened group"),
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(((a{100}){100}){100})", "once compiled"),
            (&"a".repeat(PATTERN_BYTES + 1), "at most 4096"),
            (&format!("{}a{}", "(".repeat(100), ")".repeat(100)), "nest"),
        ] {
            let message = check_regex(source).expect_err(source);
            assert!(message.contains(reason), "{source}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
        assert_eq!(check_regex(r"^/(users|items)/[a-z]+\.json$"), Ok(()));
    }

    #[test]
    fn search_state_is_bounded_and_old_snapshots_leave_first() {
        let mut searches = Searches::default();
        let kept = pattern("kept", Extent::Whole);
        assert!(kept.matches(b"kept", &mut searches));
        for n in 0..SCRATCH_PATTERNS {
            let dropped = pattern(&format!("{n}"), Extent::Whole);
            assert!(dropped.matches(format!("{n}").as_bytes(), &mut searches));
        }
        assert!(searches.0.len() <= SCRATCH_PATTERNS);
        assert!(searches.0.contains_key(&(Arc::as_ptr(&kept) as usize)));
        let live: Vec<_> =
            (0..=SCRATCH_PATTERNS).map(|n| pattern(&format!("{n}"), Extent::Whole)).collect();
        for (n, pattern) in live.iter().enumerate() {
            assert!(pattern.matches(n.to_string().as_bytes(), &mut searches));
            assert!(searches.0.len() <= SCRATCH_PATTERNS);
        }
    }
}
