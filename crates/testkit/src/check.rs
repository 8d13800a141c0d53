//! What a step may ask of a message: fields, trailers, body, start line. The same for clients and
//! origins.

use regex::Regex;

use crate::failure::{Mismatch, shown};
use crate::message::Message;
use crate::text::{Text, Variables};

#[derive(Clone, Debug)]
pub enum Check {
    StartLine(Comparison),
    /// The values of a field of this name, joined by a comma (RFC 9110 section 5.3).
    Header(String, Comparison),
    HeaderAbsent(String),
    HeaderCount(String, usize),
    Trailer(String, Comparison),
    TrailerAbsent(String),
    Body(Comparison),
    BodyLength(usize),
}

#[derive(Clone, Debug)]
pub enum Comparison {
    Is(Text),
    Contains(Text),
    Lacks(Text),
    Matches(Regex),
}

impl Check {
    /// Reads a check; `None` when the word is not one of a check.
    pub fn parse(word: &str, rest: &str, block: Option<&str>) -> Option<Result<Self, String>> {
        let named = |make: fn(String, Comparison) -> Self| {
            let (name, comparison) = named_comparison(rest)?;
            Ok(make(name, comparison))
        };
        Some(match word {
            "start-line" => Comparison::parse(rest).map(Self::StartLine),
            "header" => named(Self::Header),
            "trailer" => named(Self::Trailer),
            "no-header" => Ok(Self::HeaderAbsent(rest.to_owned())),
            "no-trailer" => Ok(Self::TrailerAbsent(rest.to_owned())),
            "count" => count(rest),
            "body-length" => rest.parse().map(Self::BodyLength).map_err(|_| expected_number(rest)),
            "body" => match block {
                Some(block) => Ok(Self::Body(Comparison::Is(Text::of_block(block, "\n")))),
                None => Comparison::parse(rest).map(Self::Body),
            },
            _ => return None,
        })
    }

    pub fn hold(&self, message: &Message, variables: &Variables) -> Result<(), Mismatch> {
        match self {
            Self::StartLine(comparison) => comparison.hold(&message.start_line, variables),
            Self::Header(name, comparison) => {
                let got = joined(&message.headers, name);
                comparison.hold_if_any(got, variables, &message.head_text())
            }
            Self::Trailer(name, comparison) => {
                let got = joined(&message.trailers, name);
                comparison.hold_if_any(got, variables, &format!("{:?}", message.trailers))
            }
            Self::HeaderAbsent(name) => absent(&message.headers, name),
            Self::TrailerAbsent(name) => absent(&message.trailers, name),
            Self::HeaderCount(name, count) => {
                let got = message.values(name).count();
                equal(count, &got, &message.head_text())
            }
            Self::Body(comparison) => {
                let body: String = message.body.iter().map(|byte| char::from(*byte)).collect();
                comparison.hold(&body, variables)
            }
            Self::BodyLength(length) => equal(length, &message.body.len(), &shown(&message.body)),
        }
    }
}

impl Comparison {
    /// `contains TEXT`, `lacks TEXT`, `matches REGEX`, or the text itself.
    pub fn parse(rest: &str) -> Result<Self, String> {
        match rest.split_once(' ') {
            Some(("contains", text)) => Text::parse(text.trim()).map(Self::Contains),
            Some(("lacks", text)) => Text::parse(text.trim()).map(Self::Lacks),
            Some(("matches", pattern)) => {
                Regex::new(pattern.trim()).map(Self::Matches).map_err(|error| error.to_string())
            }
            _ => Text::parse(rest).map(Self::Is),
        }
    }

    pub fn hold(&self, got: &str, variables: &Variables) -> Result<(), Mismatch> {
        let (holds, expected) = match self {
            Self::Is(text) => {
                let text = text.expand_text(variables)?;
                (got == text, shown(&latin1(&text)))
            }
            Self::Contains(text) => {
                let text = text.expand_text(variables)?;
                (got.contains(&text), format!("something with {}", shown(&latin1(&text))))
            }
            Self::Lacks(text) => {
                let text = text.expand_text(variables)?;
                (!got.contains(&text), format!("nothing with {}", shown(&latin1(&text))))
            }
            Self::Matches(pattern) => {
                (pattern.is_match(got), format!("something that matches {pattern}"))
            }
        };
        if holds { Ok(()) } else { Err(Mismatch::new(expected, shown(&latin1(got)))) }
    }

    fn hold_if_any(
        &self,
        got: Option<String>,
        variables: &Variables,
        among: &str,
    ) -> Result<(), Mismatch> {
        match got {
            Some(got) => self.hold(&got, variables),
            None => Err(Mismatch::new("the field", format!("none in {}", shown(among.as_bytes())))),
        }
    }
}

/// `name: value`, or `name contains|lacks|matches …`.
fn named_comparison(rest: &str) -> Result<(String, Comparison), String> {
    let end = rest.find([':', ' ']).ok_or("a name and `: value` or `contains …` are needed")?;
    let (name, rest) = rest.split_at(end);
    let comparison = match rest.strip_prefix(':') {
        Some(value) => Comparison::Is(Text::parse(value.trim())?),
        None => Comparison::parse(rest.trim())?,
    };
    Ok((name.to_owned(), comparison))
}

fn count(rest: &str) -> Result<Check, String> {
    let (name, number) = rest.split_once(' ').ok_or("a name and a number are needed")?;
    let number = number.trim().parse().map_err(|_| expected_number(number))?;
    Ok(Check::HeaderCount(name.to_owned(), number))
}

fn expected_number(got: &str) -> String {
    format!("{got:?} is not a number")
}

fn joined(fields: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> = fields
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn absent(fields: &[(String, String)], name: &str) -> Result<(), Mismatch> {
    match joined(fields, name) {
        None => Ok(()),
        Some(value) => Err(Mismatch::new(format!("no field {name}"), format!("{name}: {value}"))),
    }
}

fn equal(expected: &usize, got: &usize, among: &str) -> Result<(), Mismatch> {
    match expected == got {
        true => Ok(()),
        false => Err(Mismatch::new(expected.to_string(), format!("{got}, in {among}"))),
    }
}

/// The bytes that the letters stand for.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Message {
            start_line: "HTTP/1.1 200 OK".to_owned(),
            headers: vec![field("X-A", "1"), field("Via", "x"), field("x-a", "2")],
            body: b"hello".to_vec(),
            trailers: vec![field("sum", "7")],
        }
    }

    #[test]
    fn checks_hold_or_not() {
        for (step, holds) in [
            ("start-line HTTP/1.1 200 OK", true),
            ("header x-a: 1, 2", true),
            ("header x-a: 1", false),
            ("header via contains x", true),
            ("header via lacks x", false),
            ("header x-a matches ^1, .$", true),
            ("header none: 1", false),
            ("no-header none", true),
            ("no-header VIA", false),
            ("count X-A 2", true),
            ("count X-A 1", false),
            ("trailer sum: 7", true),
            ("no-trailer sum", false),
            ("body hello", true),
            ("body \"hell\"", false),
            ("body contains \"ell\"", true),
            ("body-length 5", true),
            ("body-length 4", false),
        ] {
            let (word, rest) = step.split_once(' ').unwrap();
            let check = Check::parse(word, rest, None).unwrap().unwrap();
            assert_eq!(check.hold(&message(), &Variables::default()).is_ok(), holds, "{step}");
        }
    }

    #[test]
    fn a_mismatch_shows_both_sides() {
        let check = Check::parse("body", "\"a\\n\"", None).unwrap().unwrap();
        let mismatch = check.hold(&message(), &Variables::default()).unwrap_err();
        assert_eq!(mismatch, Mismatch::new("a\\n", "hello"));
    }
}
