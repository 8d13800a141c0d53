//! A rule's header edits, made ready for heads that are written line by line: which names to leave out, which lines to
//! add at the end.

use model::Text;
use model::edge::HeaderEdits;

/// Names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    dropped: Vec<Box<[u8]>>,
    added: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Edits {
    /// None when nothing is left to do. Edits of fields that frame the message or belong to one connection are passed
    /// over: they would let two servers disagree about where a message ends.
    pub fn new(edits: &HeaderEdits) -> Option<Edits> {
        let names = edits.remove.iter().chain(edits.set.iter().map(|(name, _)| name));
        let dropped = names.map(lower).filter(|name| is_editable(name)).collect();
        let lines = edits.set.iter().chain(&edits.add);
        let added = lines
            .map(|(name, value)| Line { name: lower(name), value: value.as_bytes().into() })
            .filter(|line| is_editable(&line.name) && h1::is_field_value(&line.value))
            .collect();
        let edits = Edits { dropped, added };
        (edits != Edits::default()).then_some(edits)
    }

    /// These, then `after`.
    pub fn then(&self, after: &Edits) -> Edits {
        let added = self.added.iter().filter(|line| !after.drops(&line.name));
        Edits {
            dropped: self.dropped.iter().chain(&after.dropped).cloned().collect(),
            added: added.chain(&after.added).cloned().collect(),
        }
    }

    #[inline]
    pub fn drops(&self, name: &[u8]) -> bool {
        self.dropped.iter().any(|dropped| dropped.eq_ignore_ascii_case(name))
    }

    pub fn added(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.added.iter().map(|line| (&*line.name, &*line.value))
    }

    /// The value that the edits give to Host, if they do.
    pub fn host(&self) -> Option<&[u8]> {
        self.added().find(|(name, _)| *name == b"host").map(|(_, value)| value)
    }
}

fn lower(name: &Text) -> Box<[u8]> {
    name.to_ascii_lowercase().into_bytes().into()
}

/// Not for fields that frame the message or belong to one connection.
pub(crate) fn is_editable(name: &[u8]) -> bool {
    use h1::Known::*;
    let known = h1::Known::of(name);
    h1::is_token(name)
        && !known.is_hop_by_hop()
        && !matches!(known, ContentLength | Trailer | XRequestId | Expect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&str, &str)]) -> Vec<(Text, Text)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn set_drops_and_adds_and_framing_is_left_alone() {
        let edits = Edits::new(&HeaderEdits {
            set: text(&[("X-A", "1"), ("Content-Length", "0")]),
            add: text(&[("X-B", "2"), ("Transfer-Encoding", "chunked"), ("x-c", "a\r\nb")]),
            remove: vec!["X-D".into(), "Connection".into()],
        })
        .expect("some are left");
        assert!(edits.drops(b"x-a") && edits.drops(b"X-D"));
        assert!(!edits.drops(b"x-b") && !edits.drops(b"content-length"));
        let added: Vec<_> = edits.added().collect();
        assert_eq!(added, [(b"x-a".as_slice(), b"1".as_slice()), (b"x-b", b"2")]);
        assert_eq!(Edits::new(&HeaderEdits::default()), None);
    }
}
