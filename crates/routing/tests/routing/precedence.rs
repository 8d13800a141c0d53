//! Order between matches: each tie-break alone, path semantics, fall-through of layers.

use crate::plan::*;
use model::edge::Attachment;
use routing::{Router, Scratch};

fn check(attachments: Vec<Attachment>, cases: &[(&str, &str, Option<&str>)]) {
    let router = Router::build(&plan(vec![listener("l", "", attachments)]), None);
    let table = router.listeners().next().expect("one listener");
    let none = fields(&[]);
    for (host, line, expected) in cases {
        let found = table.select(host, &request(line, &none), &mut Scratch::default());
        assert_eq!(found.map(|m| name(&m)).as_deref(), *expected, "{host} {line}");
    }
}

#[test]
fn paths_match_by_element() {
    let r = route(
        "r",
        vec![
            vec![on("/foo")],
            vec![on("= /foo/exact")],
            vec![on("/foo/bar/deep")],
            vec![on("= /")],
            vec![on("= /slash/")],
            vec![on("/a//b")],
        ],
    );
    check(
        vec![attach("", "", &r)],
        &[
            ("h", "GET /foo", Some("r/0/0")),
            ("h", "GET /foo/", Some("r/0/0")),
            ("h", "GET /foo/bar", Some("r/0/0")),
            ("h", "GET /foobar", None),
            ("h", "GET /fo", None),
            ("h", "GET /Foo", None),
            ("h", "GET /", Some("r/3/0")),
            ("h", "GET /slash/", Some("r/4/0")),
            ("h", "GET /slash", None),
            ("h", "GET /slash/x", None),
            ("h", "GET /a//b/c", Some("r/5/0")),
            ("h", "GET /a/b", None),
            ("h", "OPTIONS *", None),
        ],
    );
    let all = route("all", vec![vec![on("")]]);
    check(
        vec![attach("", "", &all)],
        &[
            ("h", "GET /", Some("all/0/0")),
            ("h", "GET /x/y", Some("all/0/0")),
            ("h", "OPTIONS *", Some("all/0/0")),
        ],
    );
}

#[test]
fn regular_expressions_take_the_whole_path() {
    let r = route("r", vec![vec![on("~ /v[0-9]+")], vec![on("~ /a|/a/b")], vec![on("~ .*[.]png")]]);
    check(
        vec![attach("", "", &r)],
        &[
            ("h", "GET /v12", Some("r/0/0")),
            ("h", "GET /v12/x", None),
            ("h", "GET /x/v12", None),
            ("h", "GET /a/b", Some("r/1/0")),
            ("h", "GET /x/y.png", Some("r/2/0")),
            ("h", "GET /x/y.png?z", Some("r/2/0")),
        ],
    );
}

#[test]
fn rank_decides_between_kinds_of_paths() {
    let r = |ranks: [u32; 3]| {
        let [prefix, exact, regex] = ranks;
        route(
            "r",
            vec![
                vec![ranked("/a", prefix)],
                vec![ranked("= /a/b", exact)],
                vec![ranked("~ /a/.", regex)],
            ],
        )
    };
    for (ranks, expected) in [
        ([3, 2, 1], "r/0/0"),
        ([1, 3, 2], "r/1/0"),
        ([1, 2, 3], "r/2/0"),
        // Equal: the order of rules.
        ([1, 1, 1], "r/0/0"),
        ([1, 2, 2], "r/1/0"),
    ] {
        check(vec![attach("", "", &r(ranks))], &[("h", "GET /a/b", Some(expected))]);
    }
}

#[test]
fn each_tie_break() {
    let plain = |name: &str| route(name, vec![vec![on("")]]);
    let (a, b) = (plain("a"), plain("b"));
    // The order of attachments.
    check(vec![attach("h", "h", &a), attach("h", "h", &b)], &[("h", "GET /", Some("a/0/0"))]);
    check(vec![attach("h", "h", &b), attach("h", "h", &a)], &[("h", "GET /", Some("b/0/0"))]);
    // The hostname as written, before the order and before the rank.
    let high = route("high", vec![vec![ranked("", 9)]]);
    let at = "x.shop.test";
    check(
        vec![
            attach(at, "", &high),
            attach(at, "*.test", &high),
            attach(at, "*.shop.test", &b),
            attach(at, at, &a),
        ],
        &[(at, "GET /", Some("a/0/0"))],
    );
    check(
        vec![attach(at, "", &high), attach(at, "*.test", &high), attach(at, "*.shop.test", &b)],
        &[(at, "GET /", Some("b/0/0"))],
    );
    check(
        vec![attach(at, "*.shop.test", &high), attach(at, "+.shop.test", &b)],
        &[(at, "GET /", Some("b/0/0"))],
    );
    // Rank before the order of attachments, each place of it before the next.
    check(vec![attach("h", "h", &a), attach("h", "h", &high)], &[("h", "GET /", Some("high/0/0"))]);
    // Rules, then matches.
    let r = route("r", vec![vec![on("/x"), on("/y")], vec![on("/y"), on("")]]);
    check(
        vec![attach("h", "h", &r)],
        &[("h", "GET /y", Some("r/0/1")), ("h", "GET /z", Some("r/1/1"))],
    );
}

#[test]
fn a_layer_without_a_match_hands_on_to_the_next() {
    let exact = route("exact", vec![vec![on("/exact")]]);
    let one = route("one", vec![vec![on("/one")]]);
    let wild = route("wild", vec![vec![on("/wild")], vec![on("/exact")]]);
    let any = route("any", vec![vec![ranked("", 9)]]);
    check(
        vec![
            attach("", "", &any),
            attach("*.shop.test", "*.shop.test", &wild),
            attach("+.shop.test", "+.shop.test", &one),
            attach("a.shop.test", "a.shop.test", &exact),
        ],
        &[
            ("a.shop.test", "GET /exact", Some("exact/0/0")),
            ("a.shop.test", "GET /one", Some("one/0/0")),
            ("a.shop.test", "GET /wild", Some("wild/0/0")),
            ("a.shop.test", "GET /x", Some("any/0/0")),
            ("b.shop.test", "GET /exact", Some("wild/1/0")),
            ("b.a.shop.test", "GET /one", Some("any/0/0")),
            ("shop.test", "GET /wild", Some("any/0/0")),
        ],
    );
}

#[test]
fn a_match_whose_conditions_fail_gives_way_to_a_shorter_path() {
    let r = route(
        "r",
        vec![
            vec![when("= /a/b", vec![method("POST")])],
            vec![when("/a", vec![method("PUT")])],
            vec![on("")],
        ],
    );
    check(
        vec![attach("", "", &r)],
        &[
            ("h", "POST /a/b", Some("r/0/0")),
            ("h", "PUT /a/b", Some("r/1/0")),
            ("h", "GET /a/b", Some("r/2/0")),
        ],
    );
}

#[test]
fn the_matched_prefix_is_measured() {
    let r =
        route("r", vec![vec![on("/a/b")], vec![on("= /e/f")], vec![on("~ /r.*")], vec![on("")]]);
    let router = Router::build(&plan(vec![listener("l", "", vec![attach("", "", &r)])]), None);
    let table = router.listeners().next().expect("one listener");
    let none = fields(&[]);
    for (line, expected) in
        [("GET /a/b/c", 4), ("GET /a/b", 4), ("GET /e/f", 4), ("GET /rest", 5), ("GET /x", 0)]
    {
        let found = table.select("h", &request(line, &none), &mut Scratch::default());
        assert_eq!(found.map(|m| m.matched_prefix_len), Some(expected), "{line}");
    }
}
