//! Where things came from. Origins lie in a table beside the plan, in neither its equality nor its digest: moving a
//! line changes no identity.

use crate::{ObjectId, Text};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// A span of a file that a person can open. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Relative to the folder.
    pub file: Text,
    pub line: u32,
    pub column: u32,
    /// Byte offsets into the file, for the underline.
    pub start: u32,
    pub end: u32,
}

/// The text of every file that was read, and where each object and field stands in it.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    pub files: Vec<SourceFile>,
    pub objects: HashMap<ObjectId, ObjectOrigin>,
}

#[derive(Clone, Debug)]
pub struct SourceFile {
    pub name: Text,
    pub text: Text,
    /// Made when the first place is asked for: most files have nothing to report.
    marks: OnceLock<Box<[Mark]>>,
}

/// A byte whose line and column are known, so that nobody counts from the start of the file.
#[derive(Clone, Copy, Debug)]
struct Mark {
    byte: u32,
    line: u32,
    column: u32,
}

/// Long lines (JSON on one line) have marks within.
const MARK_EVERY_BYTES: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectOrigin {
    /// A document of a file, with the spans of its fields.
    File { file: u32, fields: FieldSpans },
    /// An object of an API server.
    Cluster { generation: i64, resource_version: Text },
}

/// Spans of fields by a hash of their path. Small on purpose, and shared: ten thousand routes keep theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSpans(Arc<[(u64, u32, u32)]>);

impl FieldSpans {
    /// Pairs of path and byte span; the empty path is the document itself.
    pub fn from_paths(paths: impl IntoIterator<Item = (u64, u32, u32)>) -> Self {
        let mut spans: Vec<_> = paths.into_iter().collect();
        spans.sort_unstable();
        spans.dedup_by_key(|span| span.0);
        FieldSpans(spans.into())
    }

    fn span(&self, path: &str) -> Option<(u32, u32)> {
        let hash = path_hash(path);
        let at = self.0.binary_search_by_key(&hash, |span| span.0).ok()?;
        Some((self.0[at].1, self.0[at].2))
    }
}

/// FNV-1a, 64 bit: stable, and good enough to tell the paths of one document apart.
pub fn path_hash(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Origins {
    /// The place of a field, or of the nearest enclosing field that is written.
    pub fn place(&self, object: &ObjectId, field: &str) -> Option<Place> {
        let ObjectOrigin::File { file, fields } = self.objects.get(object)? else { return None };
        let mut path = field;
        loop {
            if let Some((start, end)) = fields.span(path) {
                return self.place_of_span(*file, start, end);
            }
            if path.is_empty() {
                return None;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }

    pub fn place_of_span(&self, file: u32, start: u32, end: u32) -> Option<Place> {
        let source = self.files.get(file as usize)?;
        Some(source.place(start, end))
    }

    pub fn source(&self, name: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| &*file.name == name)
    }
}

impl SourceFile {
    pub fn new(name: Text, text: Text) -> Self {
        SourceFile { name, text, marks: OnceLock::new() }
    }

    /// Line and column of a byte span.
    pub fn place(&self, start: u32, end: u32) -> Place {
        let text = &*self.text;
        let at = floor_char_boundary(text, start as usize);
        let marks = self.marks.get_or_init(|| marks(text));
        let passed = marks.partition_point(|mark| mark.byte as usize <= at);
        let mark = marks[..passed].last().copied().unwrap_or(Mark::START);
        Place {
            file: self.name.clone(),
            line: mark.line,
            column: mark.column + text[mark.byte as usize..at].chars().count() as u32,
            start: at as u32,
            end: floor_char_boundary(text, (end as usize).max(at)) as u32,
        }
    }
}

impl Mark {
    const START: Mark = Mark { byte: 0, line: 1, column: 1 };
}

/// One at the start of each line, and more in long lines.
fn marks(text: &str) -> Box<[Mark]> {
    let mut marks = vec![Mark::START];
    let (mut line, mut column, mut last) = (1, 1, 0);
    for (byte, character) in text.char_indices() {
        if byte - last >= MARK_EVERY_BYTES {
            marks.push(Mark { byte: byte as u32, line, column });
            last = byte;
        }
        column += 1;
        if character == '\n' {
            (line, column, last) = (line + 1, 1, byte + 1);
            marks.push(Mark { byte: last as u32, line, column });
        }
    }
    marks.into()
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_field_that_is_not_written_falls_back_to_its_parent() {
        let object = ObjectId::new(Kind::SERVICE, "shop", "cart");
        let text = "kind: Service\nspec:\n  ports:\n  - pört: 80\n";
        let span = |path: &str, needle: &str| {
            let start = text.find(needle).expect("needle is in the text") as u32;
            (path_hash(path), start, start + needle.len() as u32)
        };
        let fields = FieldSpans::from_paths([
            span("", "kind"),
            span("spec.ports[0]", "pört: 80"),
            span("spec.ports[0].port", "80"),
        ]);
        let mut origins = Origins::default();
        origins.files.push(SourceFile::new("a.yaml".into(), text.into()));
        origins.objects.insert(object.clone(), ObjectOrigin::File { file: 0, fields });
        let at = |field: &str| origins.place(&object, field).map(|p| (p.line, p.column));
        assert_eq!(at("spec.ports[0].port"), Some((4, 11)));
        assert_eq!(at("spec.ports[0].name"), Some((4, 5)));
        assert_eq!(at("metadata.labels"), Some((1, 1)));
    }

    #[test]
    fn lines_and_columns_are_those_of_a_count_from_the_start() {
        let long = "pört: ".repeat(700);
        for text in [String::new(), "\n\n".to_owned(), format!("a\r\nb{long}\n\n  {long}")] {
            let file = SourceFile::new("a.json".into(), text.as_str().into());
            for at in 0..text.len() + 2 {
                let found = file.place(at as u32, at as u32 + 1);
                let before = &text[..found.start as usize];
                let newlines = before.matches('\n').count();
                let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
                assert_eq!((found.line, found.column), (newlines as u32 + 1, column as u32 + 1));
                assert!(
                    found.start as usize <= at && at < found.start as usize + 2 || at > text.len()
                );
            }
        }
    }
}
