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
    conditions.extend(header_conditions(&spec.headers)?);
    let mut seen = HashSet::default();
    for (index, parameter) in spec.query_params.iter().enumerate() {
        if seen.insert(parameter.name.clone()) {
            let value = value(parameter).map_err(|p| p.within(&format!("queryParams[{index}]")))?;
            conditions.push(Condition::Query { name: parameter.name.clone(), value });
        }
    }
    Ok(ranked(path, conditions))
}

pub(crate) fn header_conditions(specs: &[HttpValueMatch]) -> Result<Vec<Condition>, Problem> {
    let mut conditions = Vec::with_capacity(specs.len());
    let mut seen = HashSet::default();
    for (index, header) in specs.iter().enumerate() {
        let name: Text = header.name.to_ascii_lowercase().into();
        // Of equivalent names only the first counts (HTTPRouteMatch, headers).
        if seen.insert(name.clone()) {
            let value = value(header).map_err(|p| p.within(&format!("headers[{index}]")))?;
            conditions.push(Condition::Header { name, value });
        }
    }
    Ok(conditions)
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
    regex_of(pattern, "value")
}

pub(crate) fn regex_of(pattern: &str, field: &str) -> Result<(), Problem> {
    routing::check_regex(pattern).map_err(|why| {
        Problem::new(&codes::BAD_MATCH, UNSUPPORTED, field, why)
            .help("write the regular expression in RE2 syntax")
    })
}

/// By the rules of another kind of route.
pub(crate) fn ranked_as(path: PathMatch, conditions: Vec<Condition>, rank: Rank) -> Match {
    Match { path, conditions, rank }
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

/// A path in the form that requests are matched in: what a client must escape is escaped (RFC 3986 section 2.1, for
/// characters beyond ASCII RFC 3987 section 3.1), and the rest is as `h1` makes of every request's path.
fn normal_path(text: &str) -> Result<Text, Problem> {
    let wrong = |message: String, help: &str| {
        Err(Problem::new(&codes::BAD_MATCH, UNSUPPORTED, "value", message).help(help))
    };
    if !text.starts_with('/') {
        let message = format!("path \"{text}\" does not begin with a slash");
        return wrong(message, "begin the path with `/`");
    }
    if text.contains(['?', '#']) {
        let message = format!("path \"{text}\" holds `?` or `#`, which no request's path holds");
        return wrong(message, "match the path alone; the query has matches of its own");
    }
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_graphic() {
            true => escaped.push(char::from(byte)),
            // Writing to a String does not fail.
            false => _ = write!(escaped, "%{byte:02X}"),
        }
    }
    let mut buffer = Vec::new();
    let normal = h1::target::normalize(escaped.as_bytes(), &mut buffer).path;
    Ok(String::from_utf8_lossy(normal).into())
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
            ("/%%41", Some("/%%41")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/%2e%2e/..", Some("/")),
            ("/a?b", None),
            ("/a#b", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(normal_path(written).ok().as_deref(), expected, "{written:?}");
        }
        assert!(matches!(prefix("/a/"), Ok(PathMatch::Prefix(path)) if &*path == "/a"));
        assert!(matches!(prefix("/"), Ok(PathMatch::Prefix(path)) if path.is_empty()));
    }

    proptest::proptest! {
        /// Else no request would ever match it.
        #[test]
        fn a_match_is_in_its_own_normal_form(text in "/([a/.%0-9eEfF]|\\PC){0,12}") {
            if let Ok(normal) = normal_path(&text) {
                let mut buffer = Vec::new();
                let again = h1::target::normalize(normal.as_bytes(), &mut buffer).path;
                proptest::prop_assert_eq!(again, normal.as_bytes());
                proptest::prop_assert_eq!(normal_path(&normal).ok(), Some(normal));
            }
        }
    }

    #[test]
    fn paths_of_an_ingress_take_the_form_of_requests() {
        let check = |kind: IngressPathType, text: &str, expected: Option<PathMatch>| {
            let path = HttpIngressPath {
                path: Some(text.into()),
                path_type: kind,
                backend: manifest::kinds::kubernetes::IngressBackend { service: None },
            };
            assert_eq!(of_ingress(&path).ok().map(|found| found.path), expected, "{text}");
        };
        let specific = || IngressPathType::ImplementationSpecific;
        check(specific(), "/a/../b/", Some(PathMatch::Prefix("/b".into())));
        check(specific(), "/%7euser", Some(PathMatch::Prefix("/~user".into())));
        check(specific(), "/api/?(.*)", None);
        check(specific(), "api", None);
        check(IngressPathType::Exact, "/a/%2E/b", Some(PathMatch::Exact("/a/b".into())));
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
