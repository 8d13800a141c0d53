//! Matches of HTTPRoutes and Ingresses, with the rank that orders them.
//!
//! A rank is compared from left to right, the larger first:
//! 1. kind of path: 3 exact, 2 regular expression, 1 prefix, 0 the default backend of an Ingress;
//! 2. length of the path in characters (the Gateway API leaves regular expressions open; ours lie between exact paths
//!    and prefixes, longer before shorter);
//! 3. 1 with a method;
//! 4. number of header matches;
//! 5. number of query parameter matches.
//!
//! Ingress ranks by kind and length of the path too, so both front ends share one order: the more specific path wins
//! wherever it was written.

use crate::codes;
use crate::report::Problem;
use manifest::kinds::gateway::{
    HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpValueMatch, PathMatchType, ValueMatchType,
};
use manifest::kinds::kubernetes::{HttpIngressPath, IngressPathType};
use model::Text;
use model::edge::{Condition, Match, PathMatch, Rank, ValueMatch};
use model::hash::HashSet;
use std::fmt::Write;

const UNSUPPORTED: &str = "UnsupportedValue";

/// The matches of a rule that can be served, and what is wrong with the others.
pub(crate) fn of_rule(rule: &HttpRouteRule) -> (Vec<Match>, Vec<Problem>) {
    if rule.matches.is_empty() {
        let everything = PathMatch::Prefix("".into());
        return (vec![ranked(everything, Vec::new())], Vec::new());
    }
    let mut matches = Vec::with_capacity(rule.matches.len());
    let mut problems = Vec::new();
    for (index, spec) in rule.matches.iter().enumerate() {
        match of_match(spec) {
            Ok(found) => matches.push(found),
            Err(problem) => problems.push(problem.within(&format!("matches[{index}]"))),
        }
    }
    (matches, problems)
}

pub(crate) fn of_ingress(path: &HttpIngressPath) -> Result<Match, Problem> {
    let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = match path.path_type {
        IngressPathType::Exact => PathMatch::Exact(normal_path(text)?),
        IngressPathType::Prefix | IngressPathType::ImplementationSpecific => prefix(text)?,
    };
    Ok(ranked(path, Vec::new()))
}

/// Takes what nothing else takes.
pub(crate) fn last_resort() -> Match {
    Match { path: PathMatch::Prefix("".into()), conditions: Vec::new(), rank: Rank::default() }
}

fn of_match(spec: &HttpRouteMatch) -> Result<Match, Problem> {
    let path = match &spec.path {
        Some(path) => path_match(path).map_err(|problem| problem.within("path"))?,
        None => PathMatch::Prefix("".into()),
    };
    let mut conditions = Vec::new();
    conditions.extend(spec.method.map(|method| Condition::Method(method.name().into())));
    let mut seen = HashSet::default();
    for (index, header) in spec.headers.iter().enumerate() {
        let name: Text = header.name.to_ascii_lowercase().into();
        // Of equivalent names only the first counts (HTTPRouteMatch, headers).
        if seen.insert(name.clone()) {
            let value = value(header).map_err(|p| p.within(&format!("headers[{index}]")))?;
            conditions.push(Condition::Header { name, value });
        }
    }
    seen.clear();
    for (index, parameter) in spec.query_params.iter().enumerate() {
        if seen.insert(parameter.name.clone()) {
            let value = value(parameter).map_err(|p| p.within(&format!("queryParams[{index}]")))?;
            conditions.push(Condition::Query { name: parameter.name.clone(), value });
        }
    }
    Ok(ranked(path, conditions))
}

fn path_match(spec: &HttpPathMatch) -> Result<PathMatch, Problem> {
    match spec.kind {
        PathMatchType::Exact => normal_path(&spec.value).map(PathMatch::Exact),
        PathMatchType::PathPrefix => prefix(&spec.value),
        PathMatchType::RegularExpression => {
            checked_regex(&spec.value)?;
            Ok(PathMatch::Regex(spec.value.clone()))
        }
    }
}

fn value(spec: &HttpValueMatch) -> Result<ValueMatch, Problem> {
    match spec.kind {
        ValueMatchType::Exact => Ok(ValueMatch::Exact(spec.value.clone())),
        ValueMatchType::RegularExpression => {
            checked_regex(&spec.value)?;
            Ok(ValueMatch::Regex(spec.value.clone()))
        }
    }
}

fn checked_regex(pattern: &str) -> Result<(), Problem> {
    routing::check_regex(pattern).map_err(|why| {
        Problem::new(&codes::BAD_MATCH, UNSUPPORTED, "value", why)
            .help("write the regular expression in RE2 syntax")
    })
}

fn ranked(path: PathMatch, conditions: Vec<Condition>) -> Match {
    let length = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let (class, length) = match &path {
        PathMatch::Exact(path) => (3, length(path)),
        PathMatch::Regex(pattern) => (2, length(pattern)),
        PathMatch::Prefix(path) => (1, length(path)),
    };
    let count = |is: fn(&Condition) -> bool| conditions.iter().filter(|c| is(c)).count() as u32;
    let rank = Rank([
        class,
        length,
        count(|condition| matches!(condition, Condition::Method(_))),
        count(|condition| matches!(condition, Condition::Header { .. })),
        count(|condition| matches!(condition, Condition::Query { .. })),
    ]);
    Match { path, conditions, rank }
}

/// Without its trailing slash: `/a/` and `/a` take the same paths.
fn prefix(text: &str) -> Result<PathMatch, Problem> {
    let normal = normal_path(text)?;
    Ok(PathMatch::Prefix(match normal.strip_suffix('/') {
        Some(shorter) => shorter.into(),
        None => normal,
    }))
}

/// A path in the form that requests are matched in: escapes of unreserved characters decoded, others in upper case
/// (RFC 3986 section 6.2.2), characters beyond ASCII escaped as clients send them (RFC 3987 section 3.1).
fn normal_path(text: &str) -> Result<Text, Problem> {
    if !text.starts_with('/') {
        let message = format!("path \"{text}\" does not begin with a slash");
        return Err(Problem::new(&codes::BAD_MATCH, UNSUPPORTED, "value", message));
    }
    let needs_work = |b: &u8| *b == b'%' || !b.is_ascii_graphic();
    if !text.as_bytes().iter().any(needs_work) {
        return Ok(text.into());
    }
    let mut normal = String::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, left @ ..]) if is_hex(*high) && is_hex(*low) => {
                push_escape(&mut normal, hex_value(*high) << 4 | hex_value(*low));
                rest = left;
            }
            (byte, _) if byte.is_ascii_graphic() => normal.push(char::from(*byte)),
            (byte, _) => escape(&mut normal, *byte),
        }
    }
    Ok(normal.into())
}

fn push_escape(normal: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        normal.push(char::from(byte));
    } else {
        escape(normal, byte);
    }
}

fn escape(normal: &mut String, byte: u8) {
    // Writing to a String does not fail.
    let _ = write!(normal, "%{byte:02X}");
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex_value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_take_the_form_of_requests() {
        for (written, expected) in [
            ("/a", Some("/a")),
            ("/%41%2fb", Some("/A%2Fb")),
            ("/caf\u{e9}", Some("/caf%C3%A9")),
            ("/a b", Some("/a%20b")),
            ("/100%", Some("/100%")),
            ("/%zz", Some("/%zz")),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(normal_path(written).ok().as_deref(), expected, "{written:?}");
        }
        assert!(matches!(prefix("/a/"), Ok(PathMatch::Prefix(path)) if &*path == "/a"));
        assert!(matches!(prefix("/"), Ok(PathMatch::Prefix(path)) if path.is_empty()));
    }

    #[test]
    fn ranks_order_as_the_specification_says() {
        let rank = |path: PathMatch, conditions: Vec<Condition>| ranked(path, conditions).rank;
        let method = || Condition::Method("GET".into());
        let header =
            || Condition::Header { name: "a".into(), value: ValueMatch::Exact("b".into()) };
        let ordered = [
            rank(PathMatch::Exact("/a".into()), vec![]),
            rank(PathMatch::Regex("/long.*".into()), vec![]),
            rank(PathMatch::Prefix("/longer/path".into()), vec![]),
            rank(PathMatch::Prefix("/long".into()), vec![method()]),
            rank(PathMatch::Prefix("/long".into()), vec![header(), header()]),
            rank(PathMatch::Prefix("/long".into()), vec![header()]),
            rank(PathMatch::Prefix("".into()), vec![]),
            last_resort().rank,
        ];
        assert!(ordered.is_sorted_by(|a, b| a > b), "{ordered:?}");
    }
}
