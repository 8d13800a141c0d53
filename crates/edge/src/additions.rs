//! Field lines that a response gets for the sake of its own request, such as those of CORS: behind the edits that were
//! compiled with the rule, and stronger than they are. Not here: what the lines say (`cors`, `sticky`).

use crate::edits::Edits;

/// Written once a request into memory that the next one uses again.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// In lower case: whatever else has these names is left out of the response.
    owned: &'static [&'static [u8]],
}

/// Where a line lies in the bytes: the name up to `middle`, the value up to `end`.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: usize,
    middle: usize,
    end: usize,
    /// No other line of that name stays.
    replaces: bool,
}

impl Additions {
    pub fn clear(&mut self) {
        self.truncate(0);
        self.owned = &[];
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn truncate(&mut self, lines: usize) {
        self.lines.truncate(lines);
        self.bytes.truncate(self.lines.last().map_or(0, |line| line.end));
    }

    pub fn own(&mut self, names: &'static [&'static [u8]]) {
        self.owned = names;
    }

    /// A line beside others of its name. The name is a token, and the parts make a field value.
    pub fn add(&mut self, name: &[u8], parts: &[&[u8]]) {
        self.push(name, parts, false);
    }

    /// A line instead of others of its name.
    pub fn set(&mut self, name: &[u8], parts: &[&[u8]]) {
        self.push(name, parts, true);
    }

    fn push(&mut self, name: &[u8], parts: &[&[u8]], replaces: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let end = self.bytes.len();
        debug_assert!(h1::is_token(name) && h1::is_field_value(&self.bytes[middle..]));
        self.lines.push(Line { start, middle, end, replaces });
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.owned.is_empty()
    }

    fn drops(&self, name: &[u8]) -> bool {
        self.owned.iter().any(|owned| owned.eq_ignore_ascii_case(name))
            || self.lines.iter().any(|line| {
                line.replaces && self.bytes[line.start..line.middle].eq_ignore_ascii_case(name)
            })
    }

    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let bytes = &self.bytes;
        self.lines.iter().map(|at| (&bytes[at.start..at.middle], &bytes[at.middle..at.end]))
    }
}

/// Everything that changes the field lines of a response.
#[derive(Clone, Copy)]
pub(crate) struct ResponseEdits<'a> {
    plan: Option<&'a Edits>,
    request: Option<&'a Additions>,
}

impl<'a> ResponseEdits<'a> {
    /// None when there is nothing to do.
    pub fn of(plan: Option<&'a Edits>, additions: &'a Additions) -> Option<ResponseEdits<'a>> {
        let request = (!additions.is_empty()).then_some(additions);
        (plan.is_some() || request.is_some()).then_some(ResponseEdits { plan, request })
    }

    #[inline]
    pub fn drops(&self, name: &[u8]) -> bool {
        self.plan.is_some_and(|edits| edits.drops(name)) || self.is_taken(name)
    }

    pub fn added(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let plan = self.plan.into_iter().flat_map(Edits::added);
        let plan = plan.filter(move |(name, _)| !self.is_taken(name));
        plan.chain(self.request.into_iter().flat_map(Additions::lines))
    }

    fn is_taken(&self, name: &[u8]) -> bool {
        self.request.is_some_and(|additions| additions.drops(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::edge::HeaderEdits;

    #[test]
    fn are_behind_the_edits_of_the_plan_and_stronger() {
        let plan = Edits::new(&HeaderEdits {
            set: vec![("x-set".into(), "1".into()), ("x-owned".into(), "plan".into())],
            add: vec![("x-session".into(), "plan".into())],
            remove: vec!["x-gone".into()],
        });
        let mut additions = Additions::default();
        additions.own(&[b"x-owned"]);
        additions.add(b"x-set", &[b"2"]);
        additions.set(b"x-session", &[b"a", b"b"]);
        let edits = ResponseEdits::of(plan.as_ref(), &additions).expect("there is something");
        for (name, expected) in [
            ("X-Owned", true),
            ("X-Session", true),
            ("x-gone", true),
            ("x-set", true),
            ("vary", false),
        ] {
            assert_eq!(edits.drops(name.as_bytes()), expected, "{name}");
        }
        let added: Vec<_> = edits.added().collect();
        assert_eq!(
            added,
            [(b"x-set".as_slice(), b"1".as_slice()), (b"x-set", b"2"), (b"x-session", b"ab")]
        );
        additions.clear();
        assert!(ResponseEdits::of(None, &additions).is_none());
    }

    #[test]
    fn what_was_added_last_is_taken_back_alone() {
        let mut additions = Additions::default();
        additions.add(b"a", &[b"1"]);
        let before = additions.len();
        additions.set(b"b", &[b"2"]);
        additions.truncate(before);
        additions.set(b"c", &[b"3"]);
        let lines: Vec<_> = additions.lines().collect();
        assert_eq!(lines, [(b"a".as_slice(), b"1".as_slice()), (b"c", b"3")]);
    }
}
