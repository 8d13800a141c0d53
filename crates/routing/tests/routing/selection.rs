//! Which listener and which layer take a host; reuse of tables; slots.

use crate::plan::*;
use model::edge::{EdgePlan, Listener, Protocol};
use model::{Kind, ObjectId};
use routing::{ListenerTable, PortTable, Router, Scratch};
use std::sync::Arc;

fn port(router: &Router) -> &PortTable {
    router.port(80, Protocol::Http).expect("the plan has a port 80")
}

fn section(table: &Arc<ListenerTable>) -> &str {
    &table.id().section
}

fn https(section: &str, host: &str) -> Listener {
    let secret = ObjectId::new(Kind::SECRET, "shop", section);
    let certificates = vec![secret];
    Listener {
        port: 443,
        protocol: Protocol::Https,
        certificates,
        ..listener(section, host, vec![])
    }
}

#[test]
fn the_most_specific_listener_takes_the_host() {
    let router = Router::build(
        &plan(vec![
            listener("exact", "a.shop.test", vec![]),
            listener("one", "+.shop.test", vec![]),
            listener("wild", "*.shop.test", vec![]),
            listener("wider", "*.test", vec![]),
            listener("any", "", vec![]),
        ]),
        None,
    );
    for (host, expected) in [
        ("a.shop.test", "exact"),
        ("b.shop.test", "one"),
        ("c.b.shop.test", "wild"),
        ("a.a.shop.test", "wild"),
        ("shop.test", "wider"),
        ("test", "any"),
        ("", "any"),
        (".shop.test", "wider"),
        ("ashop.test", "wider"),
        ("[::1]", "any"),
    ] {
        assert_eq!(port(&router).listener(host).map(section), Some(expected), "{host}");
    }
    let only = Router::build(&plan(vec![listener("exact", "a.test", vec![])]), None);
    assert!(port(&only).listener("b.test").is_none());
    assert!(only.port(81, Protocol::Http).is_none());
    assert!(only.port(80, Protocol::Https).is_none());
}

#[test]
fn a_listener_without_a_match_does_not_hand_on() {
    let any = route("any", vec![vec![on("")]]);
    let cart = route("cart", vec![vec![on("/cart")]]);
    let router = Router::build(
        &plan(vec![
            listener("exact", "a.test", vec![attach("a.test", "a.test", &cart)]),
            listener("any", "", vec![attach("", "", &any)]),
        ]),
        None,
    );
    let none = fields(&[]);
    let select = |host: &str, line: &str| {
        let table = port(&router).listener(host)?;
        table.select(host, &request(line, &none), &mut Scratch::default()).map(|m| name(&m))
    };
    assert_eq!(select("a.test", "GET /cart/1").as_deref(), Some("cart/0/0"));
    assert_eq!(select("a.test", "GET /other"), None);
    assert_eq!(select("b.test", "GET /other").as_deref(), Some("any/0/0"));
}

#[test]
fn of_two_listeners_for_one_host_the_first_serves() {
    let router = Router::build(
        &plan(vec![
            listener("first", "a.test", vec![]),
            listener("second", "a.test", vec![]),
            listener("last", "", vec![]),
        ]),
        None,
    );
    assert_eq!(port(&router).listener("a.test").map(section), Some("first"));
    assert_eq!(port(&router).listener("b.test").map(section), Some("last"));
    assert_eq!(port(&router).listeners().len(), 3);
}

#[test]
fn handshakes_and_misdirected_requests() {
    let build = |listeners| Router::build(&plan(listeners), None);
    let router = build(vec![https("exact", "a.test"), https("wild", "*.test")]);
    let port = router.port(443, Protocol::Https).expect("port 443");
    for (sni, expected) in [
        (Some("a.test"), Some("exact")),
        (Some("b.test"), Some("wild")),
        (Some("other"), None),
        (None, Some("exact")),
    ] {
        assert_eq!(port.sni(sni).map(section), expected, "{sni:?}");
    }
    for (sni, host, misdirected) in [
        (Some("a.test"), "a.test", false),
        (Some("b.test"), "c.test", false),
        // Another listener is for the host more specifically, or alone.
        (Some("b.test"), "a.test", true),
        (Some("a.test"), "b.test", true),
        (Some("other"), "a.test", true),
        // No listener is for the host: 404, not 421.
        (Some("a.test"), "other", false),
        (None, "a.test", false),
        (None, "b.test", true),
    ] {
        assert_eq!(port.is_misdirected(sni, host), misdirected, "{sni:?} {host}");
    }
    let router = build(vec![https("exact", "a.test"), https("any", "")]);
    let port = router.port(443, Protocol::Https).expect("port 443");
    assert_eq!(port.sni(None).map(section), Some("any"));
    assert_eq!(port.sni(None).map(|t| t.certificates().len()), Some(1));
}

#[test]
fn ports_are_sorted_and_protocols_apart() {
    let at = |port, section: &str| Listener { port, ..listener(section, "", vec![]) };
    let router =
        Router::build(&plan(vec![at(8080, "c"), at(80, "a"), https("b", ""), at(80, "x")]), None);
    let found: Vec<_> =
        router.ports().iter().map(|p| (p.port(), p.protocol(), p.listeners().len())).collect();
    let expected = [(80, Protocol::Http, 2), (443, Protocol::Https, 1), (8080, Protocol::Http, 1)];
    assert_eq!(found, expected);
}

#[test]
fn an_equal_listener_keeps_its_table() {
    let cart = route("cart", vec![vec![on("/cart"), on("~ /c[0-9]+")]]);
    let other = route("other", vec![vec![on("/other")]]);
    let make = |second: &_| {
        plan(vec![
            listener("a", "a.test", vec![attach("a.test", "a.test", &cart)]),
            listener("b", "b.test", vec![attach("b.test", "b.test", second)]),
        ])
    };
    let before = Router::build(&make(&cart), None);
    let same = Router::build(&make(&cart), Some(&before));
    let after = Router::build(&make(&other), Some(&before));
    let tables = |router: &Router| -> Vec<_> { router.listeners().cloned().collect() };
    let kept = |a: &Router, b: &Router| -> Vec<bool> {
        tables(a).iter().zip(&tables(b)).map(|(a, b)| Arc::ptr_eq(a, b)).collect()
    };
    assert_eq!(kept(&before, &same), [true, true]);
    assert_eq!(kept(&before, &after), [true, false]);
    assert!(tables(&before)[1].is_same_listener(&tables(&after)[1]));
    assert!(!tables(&before)[0].is_same_listener(&tables(&before)[1]));
    assert!(tables(&Router::build(&EdgePlan::default(), Some(&before))).is_empty());
}

#[test]
fn slots_number_each_rule_once() {
    let two = route("two", vec![vec![on("/a"), on("/b")], vec![on("/c")]]);
    let one = route("one", vec![vec![on("/d")]]);
    let attachments = vec![
        attach("x.test", "x.test", &two),
        attach("y.test", "y.test", &one),
        attach("y.test", "y.test", &two),
    ];
    let router = Router::build(&plan(vec![listener("l", "", attachments)]), None);
    let table = router.listeners().next().expect("one listener");
    let rules: Vec<_> = table
        .rules()
        .map(|r| format!("{} {}/{}", r.slot, r.route.id.name, r.rule.id.index))
        .collect();
    assert_eq!(rules, ["0 two/0", "1 two/1", "2 one/0"]);
    assert_eq!(table.rules_len(), 3);
    let none = fields(&[]);
    let slot = |host: &str, line: &str| {
        table.select(host, &request(line, &none), &mut Scratch::default()).map(|m| m.slot)
    };
    assert_eq!(slot("x.test", "GET /b"), Some(0));
    assert_eq!(slot("x.test", "GET /c"), Some(1));
    assert_eq!(slot("y.test", "GET /c"), Some(1));
    assert_eq!(slot("y.test", "GET /d"), Some(2));
    assert_eq!(slot("x.test", "GET /d"), None);
}

#[test]
fn tables_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Router>();
    fn movable<T: Send>() {}
    movable::<Scratch>();
}
