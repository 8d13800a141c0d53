//! Who takes a handshake on a port that HTTPS and TLS share, and which route of a listener takes a connection.

use crate::plan::{host as pattern, listener};
use model::edge::{self, EdgePlan, Protocol};
use model::id::{ListenerId, RuleId};
use model::layer4::{Attachment, Listener, Route, Transport};
use model::{Kind, Node, ObjectId};
use routing::{Router, StreamTable, TlsEntry};

fn stream(port: u16, transport: Transport, host: &str, routes: &[(&str, &str)]) -> Node<Listener> {
    let attachment = |(host, name): &(&str, &str)| {
        let object = ObjectId::new(Kind::TLS_ROUTE, "test", *name);
        let rule = RuleId { object, index: 0, name: None };
        Attachment { host: pattern(host), route: Node::new(Route { rule, backends: Vec::new() }) }
    };
    let object = ObjectId::new(Kind::GATEWAY, "test", "gateway");
    Node::new(Listener {
        id: ListenerId { object, section: format!("{port}{host}").as_str().into() },
        port,
        transport,
        host: pattern(host),
        certificates: Vec::new(),
        policy: None,
        attachments: routes.iter().map(attachment).collect(),
    })
}

/// `https`, `nobody`, or the route, with `-` for a listener without one.
fn taken(plan: &EdgePlan, port: u16, name: Option<&str>) -> String {
    let (table, router) = (StreamTable::build(plan), Router::build(plan, None));
    let Some(port) = table.tcp_port(port) else { return "none".to_owned() };
    match port.tls_entry(&router, name) {
        TlsEntry::Https => "https".to_owned(),
        TlsEntry::Nobody => "nobody".to_owned(),
        TlsEntry::Stream(_, listener) => listener
            .attachment(name)
            .map_or("-".to_owned(), |(_, found)| found.route.id().name.to_string()),
    }
}

#[test]
fn the_most_specific_name_takes_a_handshake() {
    use Transport::{Tcp, TlsPassthrough, TlsTerminate, Udp};
    let secured = |host: &str| {
        let plain = listener(host, host, Vec::new());
        Node::new(edge::Listener { port: 443, protocol: Protocol::Https, ..plain })
    };
    let plan = EdgePlan {
        listeners: vec![secured("web.test"), secured("*.a.test")],
        layer4: vec![
            stream(53, Udp, "", &[("", "dns")]),
            stream(443, TlsPassthrough, "x.a.test", &[("x.a.test", "x")]),
            stream(443, TlsTerminate, "*.b.a.test", &[("y.b.a.test", "y"), ("*.b.a.test", "b")]),
            stream(443, TlsPassthrough, "*.test", &[("c.test", "first"), ("c.test", "second")]),
            stream(444, TlsPassthrough, "", &[("named.test", "named"), ("", "any")]),
            stream(5432, Tcp, "", &[("", "postgres"), ("", "later")]),
        ],
    };
    for (port, name, expected) in [
        (443, Some("x.a.test"), "x"),
        (443, Some("z.a.test"), "https"),
        (443, Some("web.test"), "https"),
        (443, Some("y.b.a.test"), "y"),
        (443, Some("z.b.a.test"), "b"),
        (443, Some("c.test"), "first"),
        (443, Some("d.test"), "-"),
        (443, Some("elsewhere"), "nobody"),
        // No listener of TLS is for any host, and none of HTTPS has a certificate here.
        (443, None, "nobody"),
        (444, Some("named.test"), "named"),
        (444, Some("other"), "any"),
        (444, None, "any"),
        (53, None, "none"),
    ] {
        assert_eq!(taken(&plan, port, name), expected, "{port} {name:?}");
    }
    let table = StreamTable::build(&plan);
    let postgres = &table.tcp_port(5432).expect("of the plan").listeners()[0];
    let (at, found) = postgres.attachment(None).expect("a route for any host");
    assert_eq!((at, &*found.route.id().name), (0, "postgres"));
    assert!(table.udp_port(53).is_some() && !table.tcp_port(5432).expect("there").is_tls());
}
