//! Conditions of a match beside its path: method, header, query parameter.

use crate::pattern::{Extent, Pattern, Patterns, Scratch, Searches};
use crate::{Headers, Request};
use memchr::memchr2;
use model::Text;
use model::edge;
use std::sync::Arc;

pub(crate) enum Condition {
    Method(Text),
    Header { name: Text, value: Value },
    Query { name: Text, value: Value },
}

pub(crate) enum Value {
    Exact(Text),
    Regex(Arc<Pattern>),
}

/// What a request says to a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Holds,
    Differs,
    /// The header or parameter is not there.
    Absent,
}

impl Condition {
    pub(crate) fn new(condition: &edge::Condition, patterns: &mut Patterns) -> Condition {
        match condition {
            edge::Condition::Method(method) => Condition::Method(method.clone()),
            edge::Condition::Header { name, value } => {
                Condition::Header { name: name.clone(), value: Value::new(value, patterns) }
            }
            edge::Condition::Query { name, value } => {
                Condition::Query { name: name.clone(), value: Value::new(value, patterns) }
            }
        }
    }

    pub(crate) fn check<H: Headers>(
        &self,
        request: &Request<'_, H>,
        scratch: &mut Scratch,
    ) -> Outcome {
        match self {
            Condition::Method(method) => Outcome::of(method.as_bytes() == request.method),
            Condition::Header { name, value } => value.check_header(name, request.headers, scratch),
            Condition::Query { name, value } => value.check_query(name, request.query, scratch),
        }
    }

    pub(crate) fn pattern(&self) -> Option<&Arc<Pattern>> {
        match self {
            Condition::Header { value: Value::Regex(pattern), .. }
            | Condition::Query { value: Value::Regex(pattern), .. } => Some(pattern),
            _ => None,
        }
    }
}

impl Outcome {
    fn of(holds: bool) -> Outcome {
        if holds { Outcome::Holds } else { Outcome::Differs }
    }
}

impl Value {
    fn new(value: &edge::ValueMatch, patterns: &mut Patterns) -> Value {
        match value {
            edge::ValueMatch::Exact(text) => Value::Exact(text.clone()),
            edge::ValueMatch::Regex(source) => {
                Value::Regex(patterns.pattern(source, Extent::Anywhere))
            }
        }
    }

    /// Several fields of one name are one list, RFC 9110 section 5.3; several cookie fields, which HTTP/2 allows, are
    /// one cookie string, RFC 9113 section 8.2.3.
    fn check_header(&self, name: &str, headers: &impl Headers, scratch: &mut Scratch) -> Outcome {
        let mut values = headers.values(name);
        let Some(first) = values.next() else { return Outcome::Absent };
        let Some(second) = values.next() else { return self.check(first, &mut scratch.searches) };
        let separator: &[u8] = if name == "cookie" { b"; " } else { b"," };
        let joined = &mut scratch.buffer;
        joined.clear();
        joined.extend_from_slice(first);
        for value in std::iter::once(second).chain(values) {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(value);
        }
        self.check(joined, &mut scratch.searches)
    }

    fn check_query(&self, name: &str, query: Option<&[u8]>, scratch: &mut Scratch) -> Outcome {
        let Some(raw) = query.and_then(|query| parameter(query, name)) else {
            return Outcome::Absent;
        };
        if memchr2(b'%', b'+', raw).is_none() {
            return self.check(raw, &mut scratch.searches);
        }
        scratch.buffer.clear();
        scratch.buffer.extend(decoded(raw));
        self.check(&scratch.buffer, &mut scratch.searches)
    }

    fn check(&self, text: &[u8], searches: &mut Searches) -> Outcome {
        Outcome::of(match self {
            Value::Exact(expected) => expected.as_bytes() == text,
            Value::Regex(pattern) => pattern.matches(text, searches),
        })
    }
}

/// The first parameter of that name, not yet decoded. A parameter without `=` has an empty value.
fn parameter<'q>(query: &'q [u8], name: &str) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (key, value) = pair.split_at(end);
        decoded(key).eq(name.bytes()).then(|| value.strip_prefix(b"=").unwrap_or(value))
    })
}

/// `application/x-www-form-urlencoded` (URL standard, section 5.1): `+` is a space, `%41` a byte; a `%` that escapes
/// nothing stands for itself.
fn decoded(raw: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let (byte, left) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, left @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (first, after),
            },
            _ => (first, after),
        };
        rest = left;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        for (query, name, expected) in [
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("1")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("&&a=1", "a", Some("1")),
            ("=1", "", Some("1")),
            ("", "", None),
            ("aa=1", "a", None),
            ("%61=1", "a", Some("1")),
            ("a+b=1", "a b", Some("1")),
            ("A=1", "a", None),
        ] {
            let found = parameter(query.as_bytes(), name).map(|value| value.to_vec());
            assert_eq!(found, expected.map(|text| text.as_bytes().to_vec()), "{query} {name}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        for (raw, expected) in [
            ("a+b%20c", "a b c"),
            ("%4a%4B", "JK"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
            ("%2541", "%41"),
            ("%00", "\0"),
        ] {
            let text: Vec<u8> = decoded(raw.as_bytes()).collect();
            assert_eq!(text, expected.as_bytes(), "{raw}");
        }
    }
}
