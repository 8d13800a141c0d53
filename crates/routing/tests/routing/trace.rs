//! Why the others do not take a request.

use crate::plan::*;
use model::edge::{Attachment, Protocol};
use routing::{ListenerVerdict, Router, RuleVerdict, Trace};

fn shown(trace: &Trace<'_>) -> Vec<String> {
    let listeners = trace.listeners.iter().map(|traced| {
        let verdict = match traced.verdict {
            ListenerVerdict::Takes => "takes".to_owned(),
            ListenerVerdict::HostDiffers => "host differs".to_owned(),
            ListenerVerdict::Outranked { by } => format!("outranked by {}", by.id.section),
        };
        format!("{}: {verdict}", traced.listener.id.section)
    });
    let layers = trace.layers.iter().flat_map(|layer| {
        layer.rules.iter().flat_map(move |traced| {
            let verdict = match traced.verdict {
                RuleVerdict::Takes => "takes".to_owned(),
                RuleVerdict::Differs => "differs".to_owned(),
                RuleVerdict::Outranked { by } => {
                    format!("outranked by {}/{}", by.object.name, by.index)
                }
            };
            let id = &traced.rule.id;
            let head = format!("{} {}/{}: {verdict}", layer.host, id.object.name, id.index);
            let matches = traced
                .matches
                .iter()
                .flat_map(|m| m.misses.iter().map(move |miss| format!("  {}: {miss}", m.index)));
            std::iter::once(head).chain(matches)
        })
    });
    listeners.chain(layers).collect()
}

/// On a.test the rules of two routes, and one of a wildcard behind them.
fn attachments() -> Vec<Attachment> {
    let picky = route(
        "picky",
        vec![
            vec![when("/cart", vec![method("POST")]), when("= /cart", vec![header("x-a", "1")])],
            vec![when("~ /c.*", vec![header("x-b", "1"), query("p", "1"), query("q", "1")])],
        ],
    );
    let cart = route("cart", vec![vec![on("/other"), on("/cart")], vec![on("")]]);
    let any = route("any", vec![vec![on("")], vec![on("/no")]]);
    vec![
        attach("a.test", "a.test", &picky),
        attach("a.test", "a.test", &cart),
        attach("*.test", "*.test", &any),
    ]
}

#[test]
fn every_listener_has_its_reason() {
    let router = Router::build(
        &plan(vec![
            listener("exact", "a.test", vec![]),
            listener("second", "a.test", vec![]),
            listener("wild", "*.test", attachments()),
            listener("other", "b.test", vec![]),
        ]),
        None,
    );
    let headers = fields(&[("x-b", "2")]);
    let trace = router.trace(80, Protocol::Http, "a.test", &request("GET /cart?q=2", &headers));
    assert!(trace.taker.is_none() && trace.layers.is_empty());
    assert_eq!(
        shown(&trace),
        [
            "exact: takes",
            "second: outranked by exact",
            "wild: outranked by exact",
            "other: host differs",
        ]
    );
}

#[test]
fn every_layer_and_rule_has_its_reason() {
    let headers = fields(&[("x-b", "2")]);
    let plan = plan(vec![listener("wild", "*.test", attachments())]);
    let router = Router::build(&plan, None);
    let trace = router.trace(80, Protocol::Http, "a.test", &request("GET /cart?q=2", &headers));
    assert_eq!(
        trace.taker.map(|rule| rule.id.to_string()).as_deref(),
        Some("HTTPRoute shop/cart rule 0")
    );
    assert_eq!(
        shown(&trace),
        [
            "wild: takes",
            "a.test picky/0: differs",
            "  0: the method is not POST",
            "  1: there is no header x-a",
            "a.test picky/1: differs",
            "  0: header x-b has another value",
            "  0: there is no query parameter p",
            "  0: query parameter q has another value",
            "a.test cart/0: takes",
            "  0: the path does not begin with the elements /other",
            "a.test cart/1: outranked by cart/0",
            "*.test any/0: outranked by cart/0",
            "*.test any/1: differs",
            "  0: the path does not begin with the elements /no",
        ]
    );
    assert!(
        router
            .trace(81, Protocol::Http, "a.test", &request("GET /", &headers))
            .listeners
            .is_empty()
    );
}
