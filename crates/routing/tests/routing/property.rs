//! The tables give the same answer as the specification, written here as a scan over all matches of the plan.

use crate::plan::*;
use model::edge::*;
use model::{HostPattern, Node};
use proptest::prelude::*;
use proptest::sample::select;
use routing::{Matched, Router, RuleVerdict, Scratch, Taken};
use std::cmp::Reverse;

const HOSTS: [&str; 10] =
    ["", "*.t", "+.t", "a.t", "*.a.t", "+.a.t", "b.a.t", "*.b.a.t", "c.b.a.t", "t"];
const ASKED: [&str; 8] = ["a.t", "b.t", "b.a.t", "x.a.t", "c.b.a.t", "d.c.b.a.t", "t", ""];
const PATHS: [&str; 15] = [
    "",
    "/a",
    "/a/b",
    "/a/b/c",
    "/b",
    "= /",
    "= /a",
    "= /a/",
    "= /a/b",
    "= /a/b/c",
    "~ /a|/a/b",
    "~ /[ab]",
    "~ .*",
    "~ /a/.*",
    "/a/",
];
const TARGETS: [&str; 11] =
    ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/a", "/a//b", "/c", "*"];
const VALUES: [&str; 5] = ["1", "2", "1,2", "~ 1", "~ ^2$"];
const QUERIES: [&str; 6] = ["", "?p=1", "?p=2&p=1", "?q=1&p=%31", "?%70=1,2", "?p"];

/// Written by hand for the patterns above: no regular expressions in the specification.
fn pattern_takes(pattern: &str, path: &str) -> bool {
    match pattern {
        "/a|/a/b" => path == "/a" || path == "/a/b",
        "/[ab]" => path == "/a" || path == "/b",
        ".*" => true,
        "/a/.*" => path.starts_with("/a/"),
        other => panic!("{other} is not one of the patterns"),
    }
}

fn value_takes(value: &ValueMatch, text: &str) -> bool {
    match value {
        ValueMatch::Exact(expected) => **expected == *text,
        ValueMatch::Regex(pattern) if &**pattern == "1" => text.contains('1'),
        ValueMatch::Regex(pattern) if &**pattern == "^2$" => text == "2",
        ValueMatch::Regex(other) => panic!("{other} is not one of the patterns"),
    }
}

#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    line: String,
    headers: Vec<&'static str>,
}

impl Asked {
    fn path(&self) -> &str {
        self.line.split([' ', '?']).nth(1).expect("a target")
    }

    fn fields(&self) -> Fields {
        self.headers.iter().map(|value| ("x-h".to_owned(), value.as_bytes().to_vec())).collect()
    }

    /// The only escapes in the queries above stand for `1` and `p`.
    fn parameter(&self) -> Option<String> {
        let (_, query) = self.line.split_once('?')?;
        let plain = query.replace("%31", "1").replace("%70", "p");
        let pairs = plain.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(name, _)| *name == "p").map(|(_, value)| value.to_owned()).next()
    }

    fn meets(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Method(method) => self.line.starts_with(&format!("{method} ")),
            Condition::Header { value, .. } => {
                !self.headers.is_empty() && value_takes(value, &self.headers.join(","))
            }
            Condition::Query { value, .. } => {
                self.parameter().is_some_and(|text| value_takes(value, &text))
            }
        }
    }

    fn takes(&self, wanted: &Match) -> bool {
        let path = self.path();
        let path_holds = match &wanted.path {
            PathMatch::Exact(exact) => path == &**exact,
            PathMatch::Prefix(prefix) => {
                prefix.is_empty() || path == &**prefix || path.starts_with(&format!("{prefix}/"))
            }
            PathMatch::Regex(pattern) => pattern_takes(pattern, path),
        };
        path_holds && wanted.conditions.iter().all(|condition| self.meets(condition))
    }
}

/// The Gateway API's words as one sort: the most specific listener; then the hostname as the route wrote it, the rank,
/// and the order.
fn specified(plan: &EdgePlan, asked: &Asked) -> Option<String> {
    let listeners = plan.listeners.iter().filter(|l| l.host.matches(asked.host));
    let listener = listeners.min_by(|a, b| a.host.cmp(&b.host))?;
    let mut found = Vec::new();
    for (a, attachment) in listener.attachments.iter().enumerate() {
        for (r, rule) in attachment.route.rules.iter().enumerate() {
            for (m, wanted) in rule.matches.iter().enumerate() {
                if attachment.host.matches(asked.host) && asked.takes(wanted) {
                    let original = Reverse(attachment.original.specificity());
                    let name = format!("{}/{r}/{m}", attachment.route.id.name);
                    found.push(((original, Reverse(wanted.rank), a, r, m), name));
                }
            }
        }
    }
    found.into_iter().min().map(|(_, name)| name)
}

fn answered(router: &Router, asked: &Asked, scratch: &mut Scratch) -> Option<String> {
    let table = router.port(80, Protocol::Http)?.listener(asked.host)?;
    let fields = asked.fields();
    let matched = table.select(asked.host, &request(&asked.line, &fields), scratch);
    let taken = table.take(asked.host, &request(&asked.line, &fields), scratch);
    let of = |m: &Matched| Taken { slot: m.slot, matched_prefix_len: m.matched_prefix_len };
    assert_eq!(taken, matched.as_ref().map(of));
    let matched = matched?;
    let slot = table.rules().nth(matched.slot as usize).expect("the slot is listed");
    assert!(slot.route.is(matched.route()) && slot.rule_index == matched.rule_index);
    Some(name(&matched))
}

/// The explainer agrees with the answer, and names one taker at most.
fn check_trace(router: &Router, asked: &Asked, answer: Option<&str>) {
    let fields = asked.fields();
    let trace = router.trace(80, Protocol::Http, asked.host, &request(&asked.line, &fields));
    let rules = || trace.layers.iter().flat_map(|layer| &layer.rules);
    let takers: Vec<_> = rules().filter(|rule| rule.verdict == RuleVerdict::Takes).collect();
    assert_eq!(takers.len(), usize::from(answer.is_some()), "{asked:?}");
    if let (Some(taker), Some(answer)) = (takers.first(), answer) {
        let id = &taker.rule.id;
        assert!(answer.starts_with(&format!("{}/{}/", id.object.name, id.index)));
    }
    for rule in rules() {
        let holds = rule.matches.iter().any(|traced| traced.misses.is_empty());
        assert_eq!(holds, rule.verdict != RuleVerdict::Differs, "{asked:?}");
        for traced in &rule.matches {
            let wanted = &rule.rule.matches[traced.index];
            assert_eq!(asked.takes(wanted), traced.misses.is_empty(), "{asked:?} {wanted:?}");
        }
    }
}

prop_compose! {
    fn a_match()(
        path_text in select(&PATHS[..]),
        rank in 0..3u32,
        verb in prop::option::weighted(0.2, select(vec!["GET", "POST"])),
        field in prop::option::weighted(0.2, select(&VALUES[..])),
        parameter in prop::option::weighted(0.2, select(&VALUES[..])),
    ) -> Match {
        let conditions = verb.map(method).into_iter()
            .chain(field.map(|value| header("x-h", value)))
            .chain(parameter.map(|value| query("p", value)))
            .collect();
        Match { conditions, ..ranked(path_text, rank) }
    }
}

/// A route: its hostnames as written, the matches of its rules, and a bit for each listener that it asks for.
#[derive(Clone, Debug)]
struct Written {
    hosts: Vec<&'static str>,
    rules: Vec<Vec<Match>>,
    parents: u8,
}

prop_compose! {
    fn written()(
        hosts in prop::collection::vec(select(&HOSTS[..]), 1..3),
        rules in prop::collection::vec(prop::collection::vec(a_match(), 1..3), 1..4),
        parents in any::<u8>(),
    ) -> Written {
        Written { hosts, rules, parents }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        select(&ASKED[..]),
        select(vec!["GET", "POST"]),
        select(&TARGETS[..]),
        select(&QUERIES[..]),
        prop::collection::vec(select(vec!["1", "2"]), 0..3),
    )
        .prop_map(|(host, method, target, query, headers)| Asked {
            host,
            line: format!("{method} {target}{query}"),
            headers,
        })
}

/// Every route at the listeners that it asks for, once a hostname in common, as the compiler attaches them.
fn compiled(hosts: &[&str], written: &[Written]) -> EdgePlan {
    let routes: Vec<Node<Route>> = (0..)
        .zip(written)
        .map(|(n, written): (u32, _)| route(&format!("r{n}"), written.rules.clone()))
        .collect();
    let attached = |number: usize, at: &HostPattern| -> Vec<Attachment> {
        let here = routes.iter().zip(written).filter(|(_, w)| w.parents >> number & 1 == 1);
        let each = here.flat_map(|(route, w)| w.hosts.iter().map(move |name| (route, host(name))));
        each.filter_map(|(route, original)| {
            let host = at.intersect(&original)?;
            Some(Attachment { host, original, route: route.clone() })
        })
        .collect()
    };
    let listeners = hosts.iter().enumerate();
    plan(listeners.map(|(n, at)| listener(at, at, attached(n, &host(at)))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn same_as_the_specification(
        hosts in prop::collection::vec(select(&HOSTS[..]), 1..4),
        mut routes in prop::collection::vec(written(), 1..8),
        changed in written(),
        asked in prop::collection::vec(asked(), 12),
    ) {
        let mut scratch = Scratch::default();
        let mut check = |plan: &EdgePlan, router: &Router| {
            for asked in &asked {
                let answer = answered(router, asked, &mut scratch);
                prop_assert_eq!(&answer, &specified(plan, asked), "{:?}", asked);
                check_trace(router, asked, answer.as_deref());
            }
            Ok(())
        };
        let first = compiled(&hosts, &routes);
        let before = Router::build(&first, None);
        check(&first, &before)?;
        // One route changes: what is reused answers for the new plan as a fresh build does.
        routes[0] = changed;
        let second = compiled(&hosts, &routes);
        check(&second, &Router::build(&second, Some(&before)))?;
        check(&second, &Router::build(&second, None))?;
    }
}
