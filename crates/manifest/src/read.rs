//! The two entries: [`read_file`] turns one text into objects and diagnostics and depends on nothing else, so its result
//! may be kept while the file does not change; [`assemble`] joins files.

use crate::decode::{Decode, Decoder, Finding, Keys, check_keys};
use crate::kinds::cutwater::EndpointContract;
use crate::metadata::Metadata;
use crate::node::{Entry, Node, Span, Value};
use crate::recognise::{self, BARE_CONTRACT, Body, Recognised, Row};
use crate::{Inputs, Object, Spec, annotations, codes, json, networks, yaml};
use model::limits::{FOLDER_OBJECTS, MANIFEST_FILE_BYTES};
use model::origin::{FieldSpans, ObjectOrigin, Origins, SourceFile, path_hash};
use model::{Diagnostic, Kind, ObjectId, Place, Text, diagnostic};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Diagnostics that one file gives; what is beyond is counted in the last one.
const FILE_DIAGNOSTICS: usize = 1_000;

/// Kinds of somebody else, by `apiVersion` and `kind`, with how many there are.
pub type Foreign = BTreeMap<(Text, Text), usize>;

/// Everything that one file says.
#[derive(Debug, Default, PartialEq)]
pub struct FileRead {
    pub objects: Vec<ReadObject>,
    pub diagnostics: Vec<Diagnostic>,
    pub foreign: Foreign,
    /// Objects of served kinds that a mistake leaves nothing of.
    pub unread: Vec<ObjectId>,
}

#[derive(Debug, PartialEq)]
pub struct ReadObject {
    pub object: Arc<Object>,
    pub fields: FieldSpans,
    /// Where the object begins.
    pub place: Place,
}

/// All files of a folder, joined.
#[derive(Debug, Default)]
pub struct Reading {
    pub inputs: Inputs,
    /// In order of print.
    pub diagnostics: Vec<Diagnostic>,
    pub foreign: Foreign,
}

impl Reading {
    /// True when a reload must wait: something could not be read, so nobody knows what was meant.
    pub fn holds_back(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads one file. `name` is relative to the folder; its ending tells JSON from YAML.
pub fn read_file(name: &Text, text: &str) -> FileRead {
    let mut reader = Reader::default();
    if text.len() > MANIFEST_FILE_BYTES {
        let message =
            format!("the file has {} bytes, at most {MANIFEST_FILE_BYTES} are read", text.len());
        let diagnostic = Diagnostic::new(&codes::TOO_LARGE, message).help("split it");
        reader.findings.push(Finding::new(diagnostic, (0, 0)));
    } else {
        let is_json = name.ends_with(".json");
        let parsed = if is_json { json::parse(text) } else { yaml::parse(text) };
        reader.findings = parsed.findings;
        parsed.documents.iter().for_each(|document| reader.document(document));
    }
    reader.finish(name, text)
}

/// Joins files. Of two objects with one id the one that comes first by file and line counts, and the other is reported.
pub fn assemble(files: &[(Text, Text, Arc<FileRead>)]) -> Reading {
    let mut sorted: Vec<&(Text, Text, Arc<FileRead>)> = files.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut reading = Reading::default();
    let mut origins = Origins::default();
    let mut objects: HashMap<&ObjectId, &ReadObject> = HashMap::new();
    let mut unread = BTreeSet::new();
    for (index, (name, text, read)) in sorted.into_iter().enumerate() {
        origins.files.push(SourceFile::new(name.clone(), text.clone()));
        reading.diagnostics.extend(read.diagnostics.iter().cloned());
        unread.extend(read.unread.iter().cloned());
        for (kind, count) in &read.foreign {
            *reading.foreign.entry(kind.clone()).or_default() += count;
        }
        for found in &read.objects {
            let id = &found.object.id;
            if let Some(first) = objects.get(id) {
                reading.diagnostics.push(duplicate(first, found));
            } else if objects.len() < FOLDER_OBJECTS {
                let origin =
                    ObjectOrigin::File { file: index as u32, fields: found.fields.clone() };
                origins.objects.insert(id.clone(), origin);
                objects.insert(id, found);
            } else {
                return too_many(reading, found);
            }
        }
    }
    let objects = objects.into_values().map(|found| found.object.clone());
    reading.inputs = Inputs::new(objects, Arc::new(origins));
    reading.inputs.unread = unread;
    reading.diagnostics.extend(networks::check(&reading.inputs));
    diagnostic::sort(&mut reading.diagnostics);
    reading
}

fn duplicate(first: &ReadObject, second: &ReadObject) -> Diagnostic {
    let id = &second.object.id;
    let mut diagnostic =
        Diagnostic::new(&codes::DUPLICATE_OBJECT, format!("{id} is defined a second time"))
            .at(id, "")
            .place(Some(second.place.clone()))
            .help("remove one of the two, or rename it");
    diagnostic.related.push(("first defined here".to_owned(), first.place.clone()));
    diagnostic
}

fn too_many(mut reading: Reading, at: &ReadObject) -> Reading {
    let message = format!("the folder holds more than {FOLDER_OBJECTS} objects");
    let diagnostic = Diagnostic::new(&codes::TOO_LARGE, message).place(Some(at.place.clone()));
    reading.diagnostics.push(diagnostic);
    diagnostic::sort(&mut reading.diagnostics);
    reading
}

#[derive(Default)]
struct Reader {
    objects: Vec<(Object, FieldSpans, Span)>,
    findings: Vec<Finding>,
    foreign: Foreign,
    unread: Vec<ObjectId>,
}

impl Reader {
    fn document(&mut self, root: &Node) {
        let mut decoder = Decoder::default();
        if let Some(object) = self.recognise(root, &mut decoder) {
            decoder.spans.push((path_hash(""), root.span.0, root.span.1));
            let spans = FieldSpans::from_paths(std::mem::take(&mut decoder.spans));
            self.objects.push((object, spans, root.span));
        }
        self.findings.append(&mut decoder.findings);
    }

    fn recognise(&mut self, root: &Node, decoder: &mut Decoder) -> Option<Object> {
        if !matches!(root.value, Value::Map(_)) {
            let message = format!("the document is {}, not an object", root.value.noun());
            decoder.report(&codes::NOT_A_MANIFEST, root.span, message, "");
            return None;
        }
        let (api_version, kind) = (root.field("apiVersion"), root.field("kind"));
        match (api_version, kind) {
            (None, None) => return shape(root, decoder),
            (None, Some(_)) => missing(root, "apiVersion", decoder),
            (Some(_), None) => missing(root, "kind", decoder),
            _ => {}
        }
        let api_version = decoder.field(root, "apiVersion", Text::decode)??;
        let kind = decoder.field(root, "kind", Text::decode)??;
        match recognise::by_kind(root, &api_version, &kind, decoder) {
            Recognised::Row(row) => object(root, row, decoder).or_else(|| {
                let is_served = !matches!(row.body, Body::NotServed);
                self.unread.extend(id_of(root, row).filter(|_| is_served));
                None
            }),
            Recognised::List => self.list(root, decoder),
            Recognised::Foreign => {
                *self.foreign.entry((api_version, kind)).or_default() += 1;
                None
            }
            Recognised::Refused => None,
        }
    }

    /// `kind: List`: each item is a document.
    fn list(&mut self, root: &Node, decoder: &mut Decoder) -> Option<Object> {
        const KEYS: Keys = Keys {
            served: &["items"],
            unserved: &[],
            ignored: &["apiVersion", "kind", "metadata"],
        };
        check_keys(root, decoder, &KEYS)?;
        match root.field("items").map(|items| (items, &items.value)) {
            None => missing(root, "items", decoder),
            Some((_, Value::List(items))) => items.iter().for_each(|item| self.document(item)),
            Some((_, Value::Null)) => {}
            Some((items, _)) => decoder.wrong_type(items, "a list", "start each item with a dash"),
        }
        None
    }

    fn finish(mut self, name: &Text, text: &str) -> FileRead {
        self.findings.sort_by_key(|finding| finding.span);
        let beyond = self.findings.len().saturating_sub(FILE_DIAGNOSTICS);
        if beyond > 0 {
            // What holds a reload back is never among those left out for a warning.
            self.findings.sort_by_key(|finding| finding.diagnostic.severity);
        }
        self.findings.truncate(FILE_DIAGNOSTICS);
        let related = self.findings.iter().flat_map(|finding| finding.related.iter().map(|r| r.1));
        let spans = self.findings.iter().map(|finding| finding.span);
        let objects = self.objects.iter().map(|(_, _, span)| *span);
        let places = Places::new(name, text, spans.chain(related).chain(objects));
        let mut diagnostics: Vec<Diagnostic> =
            self.findings.into_iter().map(|finding| places.diagnostic(finding)).collect();
        if let (true, Some(last)) = (beyond > 0, diagnostics.last()) {
            let message = format!("{beyond} further findings of this file are not shown");
            let help = "mend those above and look again";
            let place = last.place.clone();
            diagnostics
                .push(Diagnostic::new(&codes::FINDINGS_LEFT_OUT, message).help(help).place(place));
        }
        let objects = self.objects.into_iter().map(|(object, fields, span)| ReadObject {
            object: Arc::new(object),
            fields,
            place: places.of(span),
        });
        let (foreign, unread) = (self.foreign, self.unread);
        FileRead { objects: objects.collect(), diagnostics, foreign, unread }
    }
}

/// Lines and columns of many spans, found in one pass over the text.
struct Places<'n> {
    name: &'n Text,
    /// Line and column by byte.
    at: HashMap<u32, (u32, u32)>,
}

impl<'n> Places<'n> {
    fn new(name: &'n Text, text: &str, spans: impl Iterator<Item = Span>) -> Self {
        let mut starts: Vec<u32> = spans.map(|span| span.0).collect();
        starts.sort_unstable();
        starts.dedup();
        let (mut line, mut column, mut from) = (1, 1, 0);
        let mut at = HashMap::with_capacity(starts.len());
        for start in starts {
            let passed = text.get(from..start as usize).unwrap_or_default();
            let newlines = passed.bytes().filter(|b| *b == b'\n').count() as u32;
            if newlines > 0 {
                line += newlines;
                column = 1;
            }
            let last = passed.rsplit('\n').next().unwrap_or_default();
            column += last.chars().filter(|c| *c != '\u{feff}').count() as u32;
            from = start as usize;
            at.insert(start, (line, column));
        }
        Places { name, at }
    }

    fn of(&self, span: Span) -> Place {
        let (line, column) = self.at.get(&span.0).copied().unwrap_or((1, 1));
        Place { file: self.name.clone(), line, column, start: span.0, end: span.1 }
    }

    fn diagnostic(&self, finding: Finding) -> Diagnostic {
        let related =
            finding.related.into_iter().map(|(message, span)| (message, self.of(span))).collect();
        Diagnostic { place: Some(self.of(finding.span)), related, ..finding.diagnostic }
    }
}

fn missing(root: &Node, field: &'static str, decoder: &mut Decoder) {
    let message = format!("missing field `{field}`");
    decoder.report(&codes::MISSING_FIELD, root.span, message, format!("add `{field}:` here"));
}

/// A document without a kind, by its shape.
fn shape(root: &Node, decoder: &mut Decoder) -> Option<Object> {
    if root.field(BARE_CONTRACT).is_none() {
        if let Some(entry) = misspelt_shape(root) {
            let message = format!("no document has the shape `{}`", entry.key);
            let help = format!("did you mean `{BARE_CONTRACT}`?");
            decoder.report(&codes::UNKNOWN_KIND, entry.key_span, message, help);
            return None;
        }
        let help = "add `apiVersion:` and `kind:`, or move the file out of the folder";
        let message =
            "the document says neither `apiVersion` nor `kind`, and its shape is not known";
        decoder.report(&codes::NOT_A_MANIFEST, root.span, message, help);
        return None;
    }
    const KEYS: Keys = Keys { served: &[BARE_CONTRACT], unserved: &[], ignored: &[] };
    check_keys(root, decoder, &KEYS)?;
    let contract = decoder.field(root, BARE_CONTRACT, EndpointContract::decode)??;
    Some(Object {
        id: ObjectId::new(Kind::ENDPOINT_CONTRACT, "", contract.hostname.text()),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created: None,
        spec: Spec::EndpointContract(contract),
    })
}

fn misspelt_shape(root: &Node) -> Option<&Entry> {
    let Value::Map(entries) = &root.value else { return None };
    let [entry] = entries.as_slice() else { return None };
    crate::suggest::nearest(&entry.key, [BARE_CONTRACT]).map(|_| entry)
}

/// An object of a kind in the table.
fn object(root: &Node, row: &Row, decoder: &mut Decoder) -> Option<Object> {
    let findings = decoder.findings.len();
    let id = id_of(root, row);
    let object = match row.body {
        Body::NotServed => {
            let message =
                format!("{} is known but not served yet; the object has no effect", row.kind);
            let help = "remove it, or leave it to a controller that serves the kind";
            decoder.report_field(root, "kind", &codes::KIND_NOT_SERVED, message, help);
            None
        }
        _ => decode(root, row, decoder),
    };
    for finding in &mut decoder.findings[findings..] {
        finding.diagnostic.object = id.clone();
    }
    object
}

/// The id for diagnostics of an object that may be broken.
fn id_of(root: &Node, row: &Row) -> Option<ObjectId> {
    let metadata = root.field("metadata")?;
    let name = metadata.field("name")?.text()?.clone();
    let namespace = match row.scope {
        recognise::Scope::Cluster => "".into(),
        recognise::Scope::Namespaced => {
            metadata.field("namespace").and_then(Node::text).cloned().unwrap_or("default".into())
        }
    };
    Some(ObjectId::new(row.kind, namespace, name))
}

fn decode(root: &Node, row: &Row, decoder: &mut Decoder) -> Option<Object> {
    let metadata = metadata(root, row, decoder);
    let spec = match (row.body, &metadata) {
        (Body::Spec(decode), _) => spec(root, decode, decoder),
        (Body::Beside(decode), Some(metadata)) => decode(root, metadata, decoder),
        (Body::Beside(decode), None) => {
            decode(root, &Metadata::default(), decoder);
            None
        }
        (Body::NotServed, _) => None,
    };
    let metadata = metadata?;
    Some(Object {
        id: ObjectId::new(row.kind, metadata.namespace?, metadata.name),
        labels: metadata.labels,
        annotations: metadata.annotations,
        created: metadata.created,
        spec: spec?,
    })
}

fn metadata(root: &Node, row: &Row, decoder: &mut Decoder) -> Option<Metadata> {
    let read = decoder.field(root, "metadata", |node, decoder| {
        annotations::check(node, row.kind, decoder);
        Metadata::decode(node, decoder)?.checked(row, node, decoder)
    });
    read.or_else(|| {
        missing(root, "metadata", decoder);
        None
    })?
}

fn spec(
    root: &Node,
    decode: fn(&Node, &mut Decoder) -> Option<Spec>,
    decoder: &mut Decoder,
) -> Option<Spec> {
    const KEYS: Keys = Keys {
        served: &["apiVersion", "kind", "metadata", "spec"],
        unserved: &[],
        ignored: &["status"],
    };
    check_keys(root, decoder, &KEYS)?;
    decoder.field(root, "spec", decode).or_else(|| {
        missing(root, "spec", decoder);
        None
    })?
}
