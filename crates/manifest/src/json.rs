//! JSON text (RFC 8259) to a [`Node`] tree. YAML 1.2 reads most of JSON, though neither tabs nor surrogate escapes.

use crate::codes;
use crate::decode::Finding;
use crate::node::{Entry, Node, Span, Value};
use crate::yaml::Parsed;
use model::limits::{MANIFEST_DEPTH, MANIFEST_NODES};
use model::{Code, Diagnostic, Text};
use std::collections::HashMap;

/// Reads the one document of a file.
pub fn parse(text: &str) -> Parsed {
    let start = text.len() - text.trim_start_matches('\u{feff}').len();
    let mut reader =
        Reader { text, at: start, depth: 0, nodes: MANIFEST_NODES, findings: Vec::new() };
    let mut documents = Vec::new();
    reader.space();
    if reader.at < text.len() {
        let read = reader.value().and_then(|node| {
            reader.space();
            match reader.at < text.len() {
                true => Err(reader.fault("something stands after the end of the document")),
                false => Ok(node),
            }
        });
        match read {
            Ok(node) => documents.push(node),
            Err(finding) => reader.findings.push(*finding),
        }
    }
    documents.retain(|node| node.value != Value::Null);
    Parsed { documents, findings: reader.findings }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    nodes: usize,
    findings: Vec<Finding>,
}

type Read<T> = Result<T, Box<Finding>>;

impl Reader<'_> {
    fn value(&mut self) -> Read<Node> {
        if self.depth >= MANIFEST_DEPTH {
            let message = format!("values are nested deeper than {MANIFEST_DEPTH} levels");
            return Err(self.stop(&codes::TOO_LARGE, message));
        }
        self.nodes = match self.nodes.checked_sub(1) {
            Some(rest) => rest,
            None => {
                let message = format!("the file holds more than {MANIFEST_NODES} values");
                return Err(self.stop(&codes::TOO_LARGE, message));
            }
        };
        let start = self.at;
        self.depth += 1;
        let value = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"') => Value::String(self.string()?.into()),
            _ => self.word()?,
        };
        self.depth -= 1;
        Ok(Node { span: (start as u32, self.at as u32), value })
    }

    fn object(&mut self) -> Read<Value> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<Text, Span> = HashMap::new();
        self.at += 1;
        self.space();
        while self.peek() != Some(b'}') {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.fault("a key in double quotes is wanted here"));
            }
            let key: Text = self.string()?.into();
            let key_span = (start as u32, self.at as u32);
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.fault("a colon is wanted here"));
            }
            self.at += 1;
            self.space();
            let value = self.value()?;
            match seen.get(&key) {
                Some(first) => self.findings.push(repeated(&key, key_span, *first)),
                None => {
                    seen.insert(key.clone(), key_span);
                    entries.push(Entry { key, key_span, value });
                }
            }
            self.next_item(b'}')?;
        }
        self.at += 1;
        Ok(Value::Map(entries))
    }

    fn array(&mut self) -> Read<Value> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        while self.peek() != Some(b']') {
            items.push(self.value()?);
            self.next_item(b']')?;
        }
        self.at += 1;
        Ok(Value::List(items))
    }

    /// Passes a comma that an item follows, or stops before the closing bracket.
    fn next_item(&mut self, close: u8) -> Read<()> {
        self.space();
        match self.peek() {
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.space();
                if self.peek() == Some(close) {
                    self.at = comma;
                    return Err(self.fault("a comma stands before the closing bracket"));
                }
                Ok(())
            }
            Some(byte) if byte == close => Ok(()),
            _ => Err(self.fault("a comma or the closing bracket is wanted here")),
        }
    }

    fn string(&mut self) -> Read<String> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(self.fault("this string is not closed")),
            }
        }
        // Escapes and control characters are judged by a parser that is not ours.
        match serde_json::from_str(&self.text[start..=end]) {
            Ok(string) => {
                self.at = end + 1;
                Ok(string)
            }
            Err(_) => Err(self.fault("this string holds a bad escape or a control character")),
        }
    }

    fn word(&mut self) -> Read<Value> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .unwrap_or(rest.len());
        let word = &rest[..length];
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ if is_number(word) => Value::Number(word.into()),
            _ => return Err(self.fault("a value is wanted here")),
        };
        self.at += length;
        Ok(value)
    }

    fn space(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fault(&self, message: &str) -> Box<Finding> {
        let help = match message {
            _ if message.starts_with("a comma stands") => "remove the comma",
            _ if message.starts_with("a comma or") => "separate items with commas, and close them",
            _ if message.starts_with("a colon") => "write `\"key\": value`",
            _ if message.contains("string") => {
                "close the string, and escape as RFC 8259 section 7 says"
            }
            _ => "write JSON as RFC 8259 has it; what is looser belongs into a .yaml file",
        };
        let mut finding = self.stop(&codes::JSON_SYNTAX, message.to_owned());
        finding.diagnostic.help = help.to_owned();
        finding
    }

    fn stop(&self, code: &Code, message: String) -> Box<Finding> {
        let end = self.at + self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        Box::new(Finding::new(Diagnostic::new(code, message), (self.at as u32, end as u32)))
    }
}

/// RFC 8259 section 6: a sign is a minus, a zero stands alone, digits on both sides of the point.
fn is_number(word: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(word).is_ok()
}

fn repeated(key: &str, span: Span, first: Span) -> Finding {
    let message = format!("key `{key}` stands here a second time");
    let diagnostic = Diagnostic::new(&codes::DUPLICATE_KEY, message).help("keep one of the two");
    let mut finding = Finding::new(diagnostic, span);
    finding.related.push(("first written here".to_owned(), first));
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = parse(text);
        match (expected, parsed.findings.first()) {
            (Ok(value), None) => {
                let node = &parsed.documents[0];
                assert_eq!(
                    node.field("a").map(|node| format!("{:?}", node.value)).as_deref(),
                    Some(value),
                    "{text}"
                );
            }
            (Err(message), Some(finding)) => {
                assert!(finding.diagnostic.message.contains(message), "{text}: {finding:?}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn reads_what_yaml_does_not() {
        check("\u{feff}{\n\t\"a\":\t1e3}", Ok("Number(\"1e3\")"));
        check(r#"{"a":"\ud83d\ude00\/"}"#, Ok("String(\"😀/\")"));
        check("{\"a\": yes}", Err("a value is wanted"));
        check("{\"a\": 1, \"a\": 2}", Err("a second time"));
        check("{\"a\": 1,}", Err("a comma stands before"));
        check("{\"a\": \"x", Err("not closed"));
        check("{\"a\": \"x\\", Err("not closed"));
        check("{\"a\": 01}", Err("a value is wanted"));
        check("{\"a\": 1} {}", Err("after the end"));
        check(&"[".repeat(100), Err("nested deeper"));
        check("{'a': 1}", Err("a key in double quotes"));
    }

    #[test]
    fn an_empty_file_holds_no_document() {
        for text in ["", " \n", "\u{feff}", "null"] {
            let parsed = parse(text);
            assert!(parsed.documents.is_empty() && parsed.findings.is_empty(), "{text:?}");
        }
    }
}
