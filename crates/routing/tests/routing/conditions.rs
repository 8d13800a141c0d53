//! Methods, headers and query parameters.

use crate::plan::*;
use model::edge::Condition;
use routing::{Router, Scratch};

/// Request line, headers, and whether the condition takes them.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

fn check(condition: Condition, cases: &[Case<'_>]) {
    let r = route("r", vec![vec![when("", vec![condition.clone()])]]);
    let router = Router::build(&plan(vec![listener("l", "", vec![attach("", "", &r)])]), None);
    let table = router.listeners().next().expect("one listener");
    let mut scratch = Scratch::default();
    for (line, headers, expected) in cases {
        let headers = fields(headers);
        let found = table.select("h", &request(line, &headers), &mut scratch).is_some();
        assert_eq!(found, *expected, "{condition:?} {line} {headers:?}");
    }
}

#[test]
fn methods_are_case_sensitive() {
    check(method("GET"), &[("GET /", &[], true), ("get /", &[], false), ("POST /", &[], false)]);
}

#[test]
fn exact_headers() {
    check(
        header("x-color", "red"),
        &[
            ("GET /", &[("x-color", "red")], true),
            ("GET /", &[("X-Color", "red")], true),
            ("GET /", &[("x-color", "Red")], false),
            ("GET /", &[("x-color", "")], false),
            ("GET /", &[("x-colors", "red")], false),
            ("GET /", &[], false),
            ("GET /", &[("x-color", "red"), ("x-color", "blue")], false),
        ],
    );
    check(
        header("x-color", "red,blue"),
        &[
            ("GET /", &[("x-color", "red"), ("other", "x"), ("x-color", "blue")], true),
            ("GET /", &[("x-color", "blue"), ("x-color", "red")], false),
            ("GET /", &[("x-color", "red,blue")], true),
        ],
    );
    check(header("x-empty", ""), &[("GET /", &[("x-empty", "")], true), ("GET /", &[], false)]);
    check(
        header("cookie", "a=1; b=2"),
        &[("GET /", &[("cookie", "a=1"), ("cookie", "b=2")], true)],
    );
}

#[test]
fn header_patterns_search_anywhere() {
    check(
        header("user-agent", "~ Mobile|Android"),
        &[
            ("GET /", &[("user-agent", "x Mobile y")], true),
            ("GET /", &[("user-agent", "desktop")], false),
            ("GET /", &[("user-agent", "desktop"), ("user-agent", "Android")], true),
            ("GET /", &[], false),
        ],
    );
    check(
        header("x-v", "~ ^1,2$"),
        &[("GET /", &[("x-v", "1"), ("x-v", "2")], true), ("GET /", &[("x-v", "1")], false)],
    );
}

#[test]
fn query_parameters() {
    check(
        query("q", "a b"),
        &[
            ("GET /?q=a+b", &[], true),
            ("GET /?q=a%20b", &[], true),
            ("GET /?x=1&%71=a%20b", &[], true),
            ("GET /?q=x&q=a+b", &[], false),
            ("GET /?q=a%2Bb", &[], false),
            ("GET /?Q=a+b", &[], false),
            ("GET /?q", &[], false),
            ("GET /?", &[], false),
            ("GET /", &[], false),
        ],
    );
    check(
        query("v", "~ ^[0-9]+$"),
        &[("GET /?v=12", &[], true), ("GET /?v=%31", &[], true), ("GET /?v=a1", &[], false)],
    );
    check(query("flag", ""), &[("GET /?flag", &[], true), ("GET /?flag=", &[], true)]);
}

#[test]
fn all_conditions_must_hold() {
    let all = vec![method("GET"), header("x-a", "1"), header("x-b", "~ 2"), query("c", "3")];
    let r = route("r", vec![vec![when("/p", all)]]);
    let router = Router::build(&plan(vec![listener("l", "", vec![attach("", "", &r)])]), None);
    let table = router.listeners().next().expect("one listener");
    for (line, pairs, expected) in [
        ("GET /p?c=3", [("x-a", "1"), ("x-b", "2")], true),
        ("POST /p?c=3", [("x-a", "1"), ("x-b", "2")], false),
        ("GET /q?c=3", [("x-a", "1"), ("x-b", "2")], false),
        ("GET /p?c=4", [("x-a", "1"), ("x-b", "2")], false),
        ("GET /p?c=3", [("x-a", "2"), ("x-b", "2")], false),
        ("GET /p?c=3", [("x-a", "1"), ("x-b", "3")], false),
    ] {
        let headers = fields(&pairs);
        let found = table.select("h", &request(line, &headers), &mut Scratch::default());
        assert_eq!(found.is_some(), expected, "{line} {pairs:?}");
    }
}
