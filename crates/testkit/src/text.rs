//! Bytes as a scenario file writes them: quoted with escapes, repeated, in a block, with variables.

use std::collections::BTreeMap;

use crate::failure::Mismatch;
use crate::secrets;

/// Bytes in which `${name}` still stands for a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Vec<u8>);

/// What `${name}` stands for, and the port offset behind `${bound:PORT}`.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    pub values: BTreeMap<String, String>,
    pub port_offset: u16,
}

impl Text {
    /// The lines of a block, each ended by this.
    pub fn of_block(lines: &str, ending: &str) -> Self {
        Self(lines.lines().flat_map(|line| [line, ending]).collect::<String>().into_bytes())
    }

    /// `"quoted" "parts" * 3`, or one unquoted rest of a line.
    pub fn parse(rest: &str) -> Result<Self, String> {
        if !rest.starts_with('"') {
            return Ok(Self(rest.as_bytes().to_vec()));
        }
        let mut bytes = Vec::new();
        let mut rest = rest;
        while !rest.is_empty() {
            let (part, after) = quoted(rest)?;
            let (times, after) = repetition(after)?;
            bytes.extend(part.repeat(times));
            rest = after;
        }
        Ok(Self(bytes))
    }

    /// Whether this stands in it, variables unexpanded.
    pub fn mentions(&self, text: &str) -> bool {
        position(&self.0, text.as_bytes()).is_some()
    }

    pub fn expand(&self, variables: &Variables) -> Result<Vec<u8>, Mismatch> {
        let mut bytes = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_slice();
        while let Some(at) = position(rest, b"${") {
            let end = position(&rest[at..], b"}")
                .ok_or_else(|| Mismatch::new("a } after ${", crate::failure::shown(rest)))?;
            bytes.extend_from_slice(&rest[..at]);
            let name = String::from_utf8_lossy(&rest[at + 2..at + end]);
            bytes.extend_from_slice(variables.value(&name)?.as_bytes());
            rest = &rest[at + end + 1..];
        }
        bytes.extend_from_slice(rest);
        Ok(bytes)
    }

    /// As `expand`, for what is compared as text; bytes stand for the letters of Latin-1.
    pub fn expand_text(&self, variables: &Variables) -> Result<String, Mismatch> {
        Ok(self.expand(variables)?.iter().map(|byte| char::from(*byte)).collect())
    }
}

impl Variables {
    fn value(&self, name: &str) -> Result<String, Mismatch> {
        if let Some(port) = name.strip_prefix("bound:").and_then(|port| port.parse::<u16>().ok()) {
            return Ok(port.saturating_add(self.port_offset).to_string());
        }
        if let Some((what, name)) = name.split_once(':') {
            return secrets::value(what, name);
        }
        self.values.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = self.values.keys().map(String::as_str).collect();
            Mismatch::new(format!("one of {}", known.join(", ")), format!("${{{name}}}"))
        })
    }
}

pub fn position(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// One quoted part, and what follows it.
fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut letters = text.strip_prefix('"').ok_or("expected a quote")?.char_indices();
    let mut bytes = Vec::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((bytes, text[at + 2..].trim_start())),
            '\\' => bytes.push(escape(&mut letters)?),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("the closing quote is missing".to_owned())
}

fn escape(letters: &mut std::str::CharIndices<'_>) -> Result<u8, String> {
    let mut next = || letters.next().map(|(_, letter)| letter);
    match next() {
        Some('r') => Ok(b'\r'),
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('"') => Ok(b'"'),
        Some('x') => {
            let digits: String = [next(), next()].into_iter().flatten().collect();
            u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is not a byte"))
        }
        other => Err(format!("unknown escape \\{}", other.unwrap_or(' '))),
    }
}

fn repetition(text: &str) -> Result<(usize, &str), String> {
    let Some(rest) = text.strip_prefix('*') else { return Ok((1, text)) };
    let rest = rest.trim_start();
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let times = rest[..end].parse().map_err(|_| "a number must follow *".to_owned())?;
    Ok((times, rest[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let values = [("origin1".to_owned(), "4711".to_owned())].into();
        Variables { values, port_offset: 8000 }
    }

    fn expanded(text: &str) -> Vec<u8> {
        Text::parse(text).unwrap().expand(&variables()).unwrap()
    }

    #[test]
    fn texts_are_read() {
        for (text, bytes) in [
            (r"plain words", &b"plain words"[..]),
            (r#""a\r\n\t\0\x7f\\\"""#, b"a\r\n\t\0\x7f\\\""),
            (r#""ab" * 3 "c""#, b"abababc"),
            (r#""é""#, "é".as_bytes()),
            (r#""""#, b""),
            ("port ${origin1} and ${bound:443}", b"port 4711 and 8443"),
        ] {
            assert_eq!(expanded(text), bytes, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for text in [r#""open"#, r#""\q""#, r#""\xzz""#, r#""a" * b"#, r#""a" b"#] {
            assert!(Text::parse(text).is_err(), "{text}");
        }
        let unknown = Text::parse("${nobody}").unwrap().expand(&variables()).unwrap_err();
        assert_eq!(unknown, Mismatch::new("one of origin1", "${nobody}"));
    }
}
