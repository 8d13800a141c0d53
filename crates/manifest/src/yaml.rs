//! YAML text to [`Node`] trees: documents, anchors, merge keys, the scalars of the core schema, and the limits that
//! keep a hostile file small. Not here: what a document means (`recognise`, `read`); JSON files (`json`).

use crate::codes;
use crate::decode::Finding;
use crate::node::{Entry, Node, Span, Value};
use model::limits::{MANIFEST_DEPTH, MANIFEST_NODES};
use model::{Code, Diagnostic, Text};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};
use std::collections::{HashMap, HashSet};

/// Syntax errors that one file reports before reading of it ends.
const SYNTAX_ERRORS: usize = 20;

/// Entries up to which keys are compared one by one.
const SMALL_MAP: usize = 16;

/// What could be read of a text, and what could not.
#[derive(Debug, Default)]
pub struct Parsed {
    pub documents: Vec<Node>,
    pub findings: Vec<Finding>,
}

/// Reads every document. A document with a syntax error is left out; reading goes on after the next `---`.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut budget = MANIFEST_NODES;
    let mut start = text.len() - text.trim_start_matches('\u{feff}').len();
    for _ in 0..SYNTAX_ERRORS {
        let section = Section::new(text, start);
        match section.read(&mut parsed, &mut budget) {
            Ok(()) => break,
            Err(stop) => {
                let resume = if stop.for_good { None } else { next_document(text, stop.at, start) };
                parsed.findings.push(*stop.finding);
                match resume {
                    Some(resume) => start = resume,
                    None => break,
                }
            }
        }
    }
    parsed
}

/// Where the next line `---` begins, at or after the mistake and always after the start of the section.
fn next_document(text: &str, mistake: usize, start: usize) -> Option<usize> {
    let line = text[..mistake].rfind('\n').map_or(0, |newline| newline + 1);
    let from = if line > start && line == mistake { line } else { next_line(text, mistake)? };
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        let mark = line.strip_prefix("---");
        if mark.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn next_line(text: &str, after: usize) -> Option<usize> {
    text[after..].find('\n').map(|newline| after + newline + 1)
}

/// Why reading of a section ended early.
struct Stop {
    finding: Box<Finding>,
    /// Byte where it went wrong.
    at: usize,
    /// True when no later document may be read either.
    for_good: bool,
}

/// The text from one byte on.
struct Section<'t> {
    text: &'t str,
    bytes: ByteOffsets<'t>,
}

impl<'t> Section<'t> {
    fn new(text: &'t str, start: usize) -> Self {
        Section { text, bytes: ByteOffsets::new(text, start) }
    }

    fn read(&self, parsed: &mut Parsed, budget: &mut usize) -> Result<(), Stop> {
        let mut parser = Parser::new_from_str(&self.text[self.bytes.start..]);
        while let Some(event) = parser.next_event() {
            let (event, _) = event.map_err(|error| self.syntax(&error, None))?;
            if let Event::DocumentStart(_) = event {
                let document = Builder::new(self, budget).document(&mut parser)?;
                parsed.findings.extend(document.findings);
                parsed.documents.extend(document.root.filter(|node| node.value != Value::Null));
            }
        }
        Ok(())
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        let start = self.bytes.of(span.start.index());
        let end = self.bytes.of(span.end.index()).max(start);
        let end = start + self.text[start..end].trim_end().len();
        (start as u32, end as u32)
    }

    /// `bracket` is where the innermost collection in brackets begins that is open.
    fn syntax(&self, error: &ScanError, bracket: Option<usize>) -> Stop {
        let marker = self.bytes.of(error.marker().index());
        let info = if self.joins_keys(error.info(), marker) { NO_COLON } else { error.info() };
        let at = self.place(info, marker, bracket);
        let (message, help) = explain(info, &self.text[at..], bracket.is_some());
        let end = at + self.text[at..].chars().next().map_or(0, char::len_utf8);
        let mut stop =
            self.stop(&codes::YAML_SYNTAX, (at as u32, end as u32), message, help, false);
        let is_far = |open: &usize| self.text[*open..at].contains('\n');
        if let Some(open) = bracket.filter(is_far) {
            let span = (open as u32, open as u32 + 1);
            stop.finding.related.push(("this bracket is open".to_owned(), span));
        }
        stop
    }

    /// Where the mistake is: the scanner finds some of them later, and says where that was.
    fn place(&self, info: &str, marker: usize, bracket: Option<usize>) -> usize {
        let (before, after) = self.text.split_at(marker);
        // A tab when it was passed,
        let passed = before.trim_end_matches('\t').len();
        if passed < marker {
            return passed;
        }
        // or at the beginning of the text that holds it.
        if is_about_tab(info) {
            return marker + after.find('\t').unwrap_or(0);
        }
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        let is_first = before[line..].trim_start().is_empty();
        match bracket {
            Some(open) if after.trim_start().is_empty() || after.starts_with("---") => open,
            // That a key has no colon when the next line begins.
            None if lacks_colon(info) && (is_first || info == NO_COLON) => {
                self.line_before(line).unwrap_or(marker)
            }
            _ => marker,
        }
    }

    /// The first key of a map has no space behind its colon: with the next one it is a text of two lines, and the colon
    /// of that one is too many.
    fn joins_keys(&self, info: &str, marker: usize) -> bool {
        let line = self.text[..marker].rfind('\n').map_or(0, |newline| newline + 1);
        let indent = |line: usize| self.text[line..].find(|c| c != ' ');
        let before = self
            .line_before(line)
            .map(|at| self.text[..at].rfind('\n').map_or(0, |newline| newline + 1));
        info.contains("mapping values")
            && !self.text[line..marker].contains(':')
            && before.is_some_and(|before| indent(before) == indent(line))
    }

    /// The beginning of what the last line before this one says.
    fn line_before(&self, line: usize) -> Option<usize> {
        let mut end = line;
        for line in self.text.get(self.bytes.start..line)?.split_inclusive('\n').rev() {
            let text = line.trim_start();
            if !text.is_empty() && !text.starts_with('#') {
                return Some(end - text.len());
            }
            end -= line.len();
        }
        None
    }

    fn stop(
        &self,
        code: &Code,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        for_good: bool,
    ) -> Stop {
        let diagnostic = Diagnostic::new(code, message).help(help);
        let finding = Box::new(Finding::new(diagnostic, span));
        Stop { finding, at: span.0 as usize, for_good }
    }
}

/// The scanner's words for a key that no colon follows.
const NO_COLON: &str = "simple key expected";

fn lacks_colon(info: &str) -> bool {
    info.contains("simple key") || info.contains("':' indicator")
}

fn is_about_tab(info: &str) -> bool {
    info.contains(" tab") || info.starts_with("tab")
}

/// What went wrong and how to mend it, in plainer words than the scanner's where the case is a common one.
fn explain(info: &str, at: &str, is_in_brackets: bool) -> (String, &'static str) {
    let (message, help) = match info {
        _ if info.contains("recursion limit") => {
            ("values are nested too deep", "no manifest needs that many levels")
        }
        _ if at.starts_with('\t') || is_about_tab(info) => {
            ("a tab stands where YAML wants spaces", "indent with spaces")
        }
        _ if info.contains("mapping values are not allowed") => (
            "a second `:` in one value, or a line indented deeper than the one before",
            "align the line with its siblings, or put the value in quotes",
        ),
        _ if info.contains("did not find expected") && info.contains("block") => {
            ("this line does not line up with those before it", "align it with its siblings")
        }
        _ if is_in_brackets && (info.contains("flow") || lacks_colon(info)) => (
            "a comma or a closing bracket is missing",
            "close what `[` or `{` opened, and separate items with commas",
        ),
        _ if info.contains("quoted scalar") && info.contains("escape") => (
            "the text in double quotes holds an escape that YAML does not know",
            "write \\\\ for a backslash, or use single quotes",
        ),
        _ if info.contains("quoted scalar") => {
            ("a text in quotes is not closed", "add the closing quote")
        }
        _ if info.contains("unknown anchor") => (
            "this alias names an anchor that the document does not define before it",
            "define it with `&name`, or put the text in quotes if no alias is meant",
        ),
        _ if lacks_colon(info) => (
            "a key without `: `, or a key that spans lines",
            "write `key: value`, each key on its line",
        ),
        _ if at.starts_with(['@', '`', '%']) => {
            ("a value cannot begin with this character", "put the value in quotes")
        }
        _ if info.contains("node content") => (
            "a value is wanted here and none begins",
            "write the value, or put it in quotes if it begins with a mark of YAML",
        ),
        _ => {
            let help =
                "correct the line, or the one before it; a text with marks of YAML goes in quotes";
            return (format!("this is no YAML: {info}"), help);
        }
    };
    (message.to_owned(), help)
}

/// Byte offsets of characters: the scanner counts characters, everything else here counts bytes.
struct ByteOffsets<'t> {
    text: &'t str,
    start: usize,
    /// Byte of every 64th character, empty for ASCII.
    marks: Vec<u32>,
}

impl<'t> ByteOffsets<'t> {
    const STEP: usize = 64;

    fn new(text: &'t str, start: usize) -> Self {
        let tail = &text[start..];
        let marks = if tail.is_ascii() {
            Vec::new()
        } else {
            tail.char_indices().step_by(Self::STEP).map(|(at, _)| at as u32).collect()
        };
        ByteOffsets { text, start, marks }
    }

    fn of(&self, character: usize) -> usize {
        let tail = &self.text[self.start..];
        let offset = if self.marks.is_empty() {
            character.min(tail.len())
        } else {
            let mark = (character / Self::STEP).min(self.marks.len() - 1);
            let from = self.marks[mark] as usize;
            let more = character - mark * Self::STEP;
            tail[from..].char_indices().nth(more).map_or(tail.len(), |(at, _)| from + at)
        };
        self.start + offset
    }
}

/// Builds the tree of one document from its events.
struct Builder<'s, 't> {
    section: &'s Section<'t>,
    budget: &'s mut usize,
    findings: Vec<Finding>,
    anchors: HashMap<usize, Built>,
    stack: Vec<Frame>,
    root: Option<Node>,
}

struct Document {
    root: Option<Node>,
    findings: Vec<Finding>,
}

/// A finished value with what its copies cost.
#[derive(Clone)]
struct Built {
    node: Node,
    /// Nodes in the tree, itself included.
    size: usize,
    depth: usize,
}

/// A collection that is still open.
struct Frame {
    anchor: usize,
    span: Span,
    is_map: bool,
    size: usize,
    depth: usize,
    items: Vec<Node>,
    entries: Vec<Entry>,
    /// A key that waits for its value; none inside for one that was refused.
    key: Option<(Option<Text>, Span)>,
    /// Values of merge keys.
    merged: Vec<(Span, Node)>,
}

impl Frame {
    fn add(&mut self, node: Node) {
        match self.key.take() {
            None => self.items.push(node),
            Some((Some(key), span)) if &*key == "<<" => self.merged.push((span, node)),
            Some((Some(key), key_span)) => {
                // The scanner finds a value that is not written at the next token, which is elsewhere.
                let empty = node.value == Value::Null && node.span.0 == node.span.1;
                let span = if empty { key_span } else { node.span };
                self.entries.push(Entry { key, key_span, value: Node { span, ..node } });
            }
            Some((None, _)) => {}
        }
    }

    /// A flow collection reaches to its bracket. A block has no end of its own: its first key or item stands for it.
    fn span_until(&self, end: Span) -> Span {
        let key = self.entries.first().map(|entry| entry.key_span);
        let first = key.or_else(|| self.items.first().map(|item| item.span));
        match first {
            _ if end.0 < end.1 && self.span.0 < self.span.1 => (self.span.0, end.1),
            Some(first) => first,
            None => self.span,
        }
    }
}

impl<'s, 't> Builder<'s, 't> {
    fn new(section: &'s Section<'t>, budget: &'s mut usize) -> Self {
        Builder {
            section,
            budget,
            findings: Vec::new(),
            anchors: HashMap::new(),
            stack: Vec::new(),
            root: None,
        }
    }

    /// Reads up to the end of the document.
    fn document(mut self, parser: &mut Parser<'t, StrInput<'t>>) -> Result<Document, Stop> {
        while let Some(event) = parser.next_event() {
            let (event, span) =
                event.map_err(|error| self.section.syntax(&error, self.bracket()))?;
            let span = self.section.span(span);
            match event {
                Event::DocumentEnd => break,
                Event::Scalar(text, style, anchor, tag) => {
                    self.spend(1, span)?;
                    let tag = tag.as_deref().filter(|tag| tag.is_yaml_core_schema());
                    let value = scalar(&text, style, tag.map(|tag| &*tag.suffix));
                    self.place(anchor, Built { node: Node { span, value }, size: 1, depth: 0 })?;
                }
                Event::Alias(id) => {
                    let built = self.alias(id, span)?;
                    self.place(0, built)?;
                }
                Event::SequenceStart(anchor, _) => self.open(anchor, span, false)?,
                Event::MappingStart(anchor, _) => self.open(anchor, span, true)?,
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_) => {}
            }
        }
        Ok(Document { root: self.root, findings: self.findings })
    }

    /// Takes nodes from what the file may hold.
    fn spend(&mut self, nodes: usize, span: Span) -> Result<(), Stop> {
        match self.budget.checked_sub(nodes) {
            Some(rest) => {
                *self.budget = rest;
                Ok(())
            }
            None => Err(self.section.stop(
                &codes::TOO_LARGE,
                span,
                format!("the file holds more than {MANIFEST_NODES} values, aliases counted"),
                "split the file, or repeat fewer aliases",
                true,
            )),
        }
    }

    fn too_deep(&self, span: Span) -> Stop {
        let message = format!("values are nested deeper than {MANIFEST_DEPTH} levels");
        self.section.stop(&codes::TOO_LARGE, span, message, "no manifest needs that", true)
    }

    /// Where the innermost collection begins, if that is in brackets.
    fn bracket(&self) -> Option<usize> {
        let frame = self.stack.last()?;
        (frame.span.0 < frame.span.1).then_some(frame.span.0 as usize)
    }

    fn open(&mut self, anchor: usize, span: Span, is_map: bool) -> Result<(), Stop> {
        self.spend(1, span)?;
        if self.stack.len() >= MANIFEST_DEPTH {
            return Err(self.too_deep(span));
        }
        self.stack.push(Frame {
            anchor,
            span,
            is_map,
            size: 1,
            depth: 0,
            items: Vec::new(),
            entries: Vec::new(),
            key: None,
            merged: Vec::new(),
        });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let Some(mut frame) = self.stack.pop() else { return Ok(()) };
        self.check_duplicates(&mut frame.entries);
        self.merge(&mut frame);
        let span = frame.span_until(end);
        let value = match frame.is_map {
            true => Value::Map(frame.entries),
            false => Value::List(frame.items),
        };
        let node = Node { span, value };
        self.place(frame.anchor, Built { node, size: frame.size, depth: frame.depth })
    }

    /// Puts a finished value where it belongs, and keeps a copy for aliases.
    fn place(&mut self, anchor: usize, built: Built) -> Result<(), Stop> {
        if anchor != 0 {
            self.spend(built.size, built.node.span)?;
            self.anchors.insert(anchor, built.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(built.node),
            Some(frame) => {
                frame.size += built.size;
                frame.depth = frame.depth.max(built.depth + 1);
                if frame.is_map && frame.key.is_none() {
                    let span = built.node.span;
                    let key = self.key(built.node);
                    if let Some(frame) = self.stack.last_mut() {
                        frame.key = Some((key, span));
                    }
                } else {
                    frame.add(built.node);
                }
            }
        }
        Ok(())
    }

    /// The text of a key. Kubernetes turns numbers into text; booleans, nothing and collections are refused.
    fn key(&mut self, node: Node) -> Option<Text> {
        let noun = match node.value {
            Value::String(text) | Value::Number(text) => return Some(text),
            other => other.noun(),
        };
        let diagnostic =
            Diagnostic::new(&codes::WRONG_TYPE, format!("a key must be a string, not {noun}"))
                .help("write it in quotes");
        self.findings.push(Finding::new(diagnostic, node.span));
        None
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Built, Stop> {
        let Some((size, depth)) = self.anchors.get(&id).map(|built| (built.size, built.depth))
        else {
            let message = "this alias names nothing that is complete before it in its document";
            let help = "define the value with `&name` in the same document, before the alias";
            return Err(self.section.stop(&codes::YAML_SYNTAX, span, message, help, false));
        };
        if self.stack.len() + depth >= MANIFEST_DEPTH {
            return Err(self.too_deep(span));
        }
        self.spend(size, span)?;
        Ok(self.anchors[&id].clone())
    }

    /// Merge keys (`<<: *base`): entries of the named maps that the map does not have itself; earlier maps win.
    fn merge(&mut self, frame: &mut Frame) {
        if frame.merged.is_empty() {
            return;
        }
        let mut own: HashSet<Text> = frame.entries.iter().map(|e| e.key.clone()).collect();
        for (span, value) in std::mem::take(&mut frame.merged) {
            let maps = match value.value {
                Value::Map(_) => vec![value],
                Value::List(items) => items,
                _ => vec![value],
            };
            for map in maps {
                let Value::Map(entries) = map.value else {
                    let message = "`<<` takes a map, or a list of maps";
                    let help = "name one with an alias, as in `<<: *base`";
                    let diagnostic = Diagnostic::new(&codes::WRONG_TYPE, message).help(help);
                    self.findings.push(Finding::new(diagnostic, span));
                    continue;
                };
                // The keys of one map differ: `check_duplicates` has seen to it.
                frame.entries.extend(entries.into_iter().filter(|e| own.insert(e.key.clone())));
            }
        }
    }

    /// Reports repeated keys and keeps the first of each.
    fn check_duplicates(&mut self, entries: &mut Vec<Entry>) {
        // Most maps are small, and comparing is cheaper than hashing.
        let repeated = |(at, entry): (usize, &Entry)| {
            entries[..at].iter().any(|earlier| earlier.key == entry.key)
        };
        if entries.len() <= SMALL_MAP && !entries.iter().enumerate().any(repeated) {
            return;
        }
        let mut seen: HashMap<Text, Span> = HashMap::with_capacity(entries.len());
        let findings = &mut self.findings;
        entries.retain(|entry| {
            let Some(first) = seen.get(&entry.key) else {
                seen.insert(entry.key.clone(), entry.key_span);
                return true;
            };
            let message = format!("key `{}` stands here a second time", entry.key);
            let diagnostic =
                Diagnostic::new(&codes::DUPLICATE_KEY, message).help("keep one of the two");
            let mut finding = Finding::new(diagnostic, entry.key_span);
            finding.related.push(("first written here".to_owned(), *first));
            findings.push(finding);
            false
        });
    }
}

/// The value of a scalar: core schema (YAML 1.2 section 10.3), and the booleans of YAML 1.1, as Kubernetes reads them.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Value {
    match tag {
        Some("str") => return Value::String(text.into()),
        None if style != ScalarStyle::Plain => return Value::String(text.into()),
        _ => {}
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Value::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Value::Bool(false)
        }
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::String(text.into()),
    }
}

/// Integers and floats of the core schema.
pub fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("yes", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("-12", Value::Number("-12".into())),
            ("1.5e3", Value::Number("1.5e3".into())),
            (".inf", Value::Number(".inf".into())),
            ("0x1F", Value::Number("0x1F".into())),
            ("1.2.3", Value::String("1.2.3".into())),
            ("192.0.2.1", Value::String("192.0.2.1".into())),
            ("e5", Value::String("e5".into())),
            (".", Value::String(".".into())),
            ("-", Value::String("-".into())),
            ("1e", Value::String("1e".into())),
            ("10:30", Value::String("10:30".into())),
        ] {
            assert_eq!(scalar(text, ScalarStyle::Plain, None), expected, "{text:?}");
            let quoted = scalar(text, ScalarStyle::DoubleQuoted, None);
            assert_eq!(quoted, Value::String(text.into()), "{text:?}");
        }
    }

    #[test]
    fn aliases_count_against_the_limit() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let alias = format!("*a{}", level - 1);
            let items = [alias.as_str(); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let parsed = parse(&text);
        assert!(parsed.documents.is_empty());
        assert_eq!(parsed.findings[0].diagnostic.code, codes::TOO_LARGE.slug);
    }

    #[test]
    fn depth_is_limited_however_it_is_reached() {
        let mut grown = "a0: &a0 [x]\n".to_owned();
        for level in 1..80 {
            grown.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        for text in [grown, "- ".repeat(100), "[".repeat(100_000)] {
            let parsed = parse(&text);
            assert!(parsed.documents.is_empty(), "{}", &text[..20]);
            assert!(parsed.findings[0].diagnostic.message.contains("nested"));
        }
    }

    #[test]
    fn a_section_with_a_mistake_does_not_hide_the_next() {
        let parsed = parse("a: 'x\n---\nb: 1\n---\nc: [\n---\nd: 2\n");
        assert_eq!(parsed.documents.len(), 2);
        assert_eq!(parsed.findings.len(), 2);
    }
}
