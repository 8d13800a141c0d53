//! Where things came from. Origins lie in a table beside the plan, in neither its equality nor its digest: moving a
//! line changes no identity.

use crate::{ObjectId, Text};
use std::collections::HashMap;

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
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectOrigin {
    /// A document of a file, with the spans of its fields.
    File { file: u32, fields: FieldSpans },
    /// An object of an API server.
    Cluster { generation: i64, resource_version: Text },
}

/// Spans of fields by a hash of their path. Small on purpose: ten thousand routes keep theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSpans(Vec<(u64, u32, u32)>);

impl FieldSpans {
    /// Pairs of path and byte span; the empty path is the document itself.
    pub fn from_paths(paths: impl IntoIterator<Item = (u64, u32, u32)>) -> Self {
        let mut spans: Vec<_> = paths.into_iter().collect();
        spans.sort_unstable();
        spans.dedup_by_key(|span| span.0);
        spans.shrink_to_fit();
        FieldSpans(spans)
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
        Some(place_in(&source.name, &source.text, start, end))
    }

    pub fn source(&self, name: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| &*file.name == name)
    }
}

/// Line and column of a byte span.
pub fn place_in(name: &Text, text: &str, start: u32, end: u32) -> Place {
    let at = floor_char_boundary(text, start as usize);
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        file: name.clone(),
        line: before.bytes().filter(|b| *b == b'\n').count() as u32 + 1,
        column: before[line_start..].chars().count() as u32 + 1,
        start: at as u32,
        end: floor_char_boundary(text, (end as usize).max(at)) as u32,
    }
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
        origins.files.push(SourceFile { name: "a.yaml".into(), text: text.into() });
        origins.objects.insert(object.clone(), ObjectOrigin::File { file: 0, fields });
        let at = |field: &str| origins.place(&object, field).map(|p| (p.line, p.column));
        assert_eq!(at("spec.ports[0].port"), Some((4, 11)));
        assert_eq!(at("spec.ports[0].name"), Some((4, 5)));
        assert_eq!(at("metadata.labels"), Some((1, 1)));
    }
}
