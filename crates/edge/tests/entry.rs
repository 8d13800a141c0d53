//! Who asks, and who may come in: trust in proxies, the PROXY protocol, address lists.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]
#![allow(clippy::needless_update, reason = "policies grow")]

mod common;

use common::*;
use model::edge::{Action, Listener, Protocol, Redirect};
use model::front::{
    AcceptProxy, AddressHeader, AddressList, ClientAddress, ListOrigin, ListenerPolicy,
    Restriction, RulePolicy, Trusted,
};
use model::network::{Network, Networks};
use model::{Kind, Node, ObjectId};
use std::io::Write;
use std::sync::Arc;

fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| Network::parse(text).unwrap()).collect()
}

fn restriction(allow: Option<&[&str]>, deny: &[&str]) -> Restriction {
    let list = |texts: &[&str]| {
        let networks = Arc::new(networks(texts));
        vec![AddressList { origin: ListOrigin::Field("spec".into()), networks }]
    };
    let policy = ObjectId::new(Kind::EDGE_POLICY, "test", "policy");
    Restriction { policy, allow: allow.map(list), deny: list(deny) }
}

fn trusting(proxies: &[&str], header: AddressHeader) -> ListenerPolicy {
    let trusted = Trusted::Networks(networks(proxies));
    let client_address = Some(ClientAddress { trusted, header, scheme: None });
    ListenerPolicy { client_address, ..ListenerPolicy::default() }
}

/// An entry whose origin answers with the head that it got.
fn entry(policy: ListenerPolicy, change: impl FnOnce(&mut Listener)) -> (Running, u16) {
    let origin = Origin::start(echo_heads);
    let port = free_port();
    let rules = vec![forward("all", "/", "a"), redirect()];
    let mut listener = listener(port, Protocol::Http, "", rules);
    listener.policy = Some(Box::new(policy));
    change(&mut listener);
    (Running::start(vec![listener], &facts(&[("a", &[origin.address])])), port)
}

fn redirect() -> model::edge::Rule {
    let to = Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };
    rule("redirect", "/moved", Action::Redirect(to))
}

fn ask(client: &mut Peer, path: &str, fields: &str) -> (String, String) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    client.response()
}

fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
}

const CLAIMS: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: b.test\r\nX-Forwarded-Port: 8443\r\nForwarded: for=192.0.2.8;proto=https;host=c.test\r\n\
    CF-Connecting-IP: 192.0.2.9\r\nX-Real-IP: 6.6.6.6\r\n";

#[test]
fn a_proxys_word_goes_on_and_the_chain_grows() {
    let (_running, port) = entry(trusting(&["127.0.0.0/8"], AddressHeader::XForwardedFor), |_| {});
    let (_, head) = ask(&mut Peer::connect(port), "/", CLAIMS);
    for (name, expected) in [
        ("x-forwarded-for", "6.6.6.6, 192.0.2.7, 127.0.0.1"),
        ("x-real-ip", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "b.test"),
        ("x-forwarded-port", "8443"),
        ("host", "a.test"),
        ("forwarded", "for=192.0.2.7;proto=https;host=\"b.test\", for=127.0.0.1;proto=http"),
        ("cf-connecting-ip", "192.0.2.9"),
    ] {
        assert_eq!(values(&head, name), [expected], "{name} in {head}");
    }
}

#[test]
fn the_standard_field_is_believed_alone_where_it_is_named() {
    let (_running, port) = entry(trusting(&["127.0.0.1"], AddressHeader::Forwarded), |_| {});
    let mut client = Peer::connect(port);
    let (_, head) = ask(&mut client, "/", CLAIMS);
    for (name, expected) in [
        ("x-forwarded-for", "192.0.2.8, 127.0.0.1"),
        ("x-real-ip", "192.0.2.8"),
        ("x-forwarded-host", "c.test"),
        (
            "forwarded",
            "for=192.0.2.8;proto=https;host=c.test, for=127.0.0.1;proto=http;host=\"a.test\"",
        ),
    ] {
        assert_eq!(values(&head, name), [expected], "{name} in {head}");
    }
    assert!(values(&head, "x-forwarded-port").is_empty());
    // Quotes that do not end would swallow what is written behind them.
    let (_, head) = ask(&mut client, "/", "Forwarded: for=1.1.1.1\r\nForwarded: for=\"6.6\r\n");
    assert_eq!(values(&head, "forwarded"), ["for=127.0.0.1;proto=http;host=\"a.test\""]);
}

/// Who writes a field of its own passes on what the client wrote into the others.
#[test]
fn with_a_field_of_its_own_nothing_else_of_a_proxy_is_believed() {
    let header = AddressHeader::Named("cf-connecting-ip".into());
    let (_running, port) = entry(trusting(&["127.0.0.1"], header), |_| {});
    let mut client = Peer::connect(port);
    let (_, head) = ask(&mut client, "/", CLAIMS);
    for (name, expected) in [
        ("x-forwarded-for", "192.0.2.9, 127.0.0.1"),
        ("x-real-ip", "192.0.2.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test"),
        ("forwarded", "for=192.0.2.9;proto=http;host=\"a.test\", for=127.0.0.1;proto=http"),
        ("cf-connecting-ip", "192.0.2.9"),
    ] {
        assert_eq!(values(&head, name), [expected], "{name} in {head}");
    }
    assert!(values(&head, "x-forwarded-port").is_empty());
    let (head, _) = ask(&mut client, "/moved", CLAIMS);
    assert_eq!(header_of(&head, "location"), format!("http://a.test:{port}/moved"));
}

#[test]
fn behind_a_field_of_its_own_the_scheme_is_where_the_policy_says() {
    let with = |networks: &[&str], scheme: &str| {
        let mut policy = trusting(networks, AddressHeader::Named("cf-connecting-ip".into()));
        if let Some(trust) = &mut policy.client_address {
            trust.scheme = Some(scheme.into());
        }
        entry(policy, |_| {})
    };
    let (_running, port) = with(&["127.0.0.1"], "x-forwarded-proto");
    let mut client = Peer::connect(port);
    let (head, _) = ask(&mut client, "/moved", "X-Forwarded-Proto: https\r\n");
    assert_eq!(header_of(&head, "location"), "https://a.test/moved");
    let (_, head) = ask(&mut client, "/", "X-Forwarded-Proto: https\r\n");
    assert_eq!(values(&head, "x-forwarded-proto"), ["https"], "{head}");
    // From strangers it counts for nothing, and does not pass in any spelling.
    let (_running, port) = with(&["10.0.0.0/8"], "cdn-proto");
    let mut client = Peer::connect(port);
    let (_, head) = ask(&mut client, "/", "CDN-Proto: https\r\nCDN_Proto: https\r\n");
    assert!(!head.contains("https"), "{head}");
    let (head, _) = ask(&mut client, "/moved", "CDN-Proto: https\r\n");
    assert_eq!(header_of(&head, "location"), format!("http://a.test:{port}/moved"));
}

/// A backend that gets fields as variables would take them for the edge's own lines.
#[test]
fn names_with_underscores_do_not_pass_for_the_edges_own() {
    const CLAIMS: &str = "X_Forwarded_For: 6.6.6.6\r\nX_Forwarded-Host: 6.6.6.6\r\n\
        x-forwarded_proto: 6.6.6.6\r\nX_FORWARDED_PORT: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n\
        X_Request_Id: 6.6.6.6\r\nCF_Connecting_IP: 6.6.6.6\r\nOwn_Name: kept\r\n";
    for networks in [&["127.0.0.1"], &["10.0.0.0/8"]] {
        let header = AddressHeader::Named("cf-connecting-ip".into());
        let (_running, port) = entry(trusting(networks, header), |_| {});
        let (_, head) = ask(&mut Peer::connect(port), "/", CLAIMS);
        assert!(!head.contains("6.6.6.6") && head.contains("Own_Name: kept"), "{head}");
    }
}

#[test]
fn a_strangers_word_is_dropped() {
    let header = AddressHeader::Named("cf-connecting-ip".into());
    let (_running, port) = entry(trusting(&["10.0.0.0/8"], header), |_| {});
    let mut client = Peer::connect(port);
    let (_, head) = ask(&mut client, "/", CLAIMS);
    for (name, expected) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test"),
    ] {
        assert_eq!(values(&head, name), [expected], "{name} in {head}");
    }
    assert!(values(&head, "cf-connecting-ip").is_empty() && !head.contains("192.0.2"), "{head}");
    let (head, _) = ask(&mut client, "/moved", CLAIMS);
    assert_eq!(header_of(&head, "location"), format!("http://a.test:{port}/moved"));
}

fn header_of<'h>(head: &'h str, name: &str) -> &'h str {
    header(head, name).unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[test]
fn redirects_lead_to_where_the_client_sees_the_entry() {
    let (_running, port) = entry(trusting(&["127.0.0.1"], AddressHeader::XForwardedFor), |_| {});
    let mut client = Peer::connect(port);
    for (fields, expected) in [
        ("X-Forwarded-Proto: https\r\n", "https://a.test/moved".to_owned()),
        (CLAIMS, "https://a.test:8443/moved".to_owned()),
        ("X-Forwarded-Host: b.test:99\r\n", format!("http://a.test:{port}/moved")),
        ("X-Forwarded-Proto: http\r\n", format!("http://a.test:{port}/moved")),
        ("", format!("http://a.test:{port}/moved")),
    ] {
        let (head, _) = ask(&mut client, "/moved", fields);
        assert_eq!(header_of(&head, "location"), expected, "{fields}");
    }
}

#[test]
fn lists_judge_the_client_after_trust() {
    let mut policy = trusting(&["127.0.0.1"], AddressHeader::XForwardedFor);
    policy.sources = vec![restriction(Some(&["192.0.2.0/24", "127.0.0.1"]), &["192.0.2.66"])];
    let (running, port) = entry(policy, |listener| {
        let sources = vec![restriction(None, &["192.0.2.7"])];
        let attachment = &mut listener.attachments[0];
        let mut route = (*attachment.route).clone();
        route.rules[0].policy = Some(Node::new(RulePolicy { sources, ..RulePolicy::default() }));
        attachment.route = Node::new(route);
    });
    let mut client = Peer::connect(port);
    for (address, path, expected) in [
        ("192.0.2.1", "/", 200),
        ("127.0.0.1", "/", 200),
        ("198.51.100.1", "/", 403),
        ("192.0.2.66", "/", 403),
        ("192.0.2.7", "/", 403),
        ("192.0.2.7", "/moved", 302),
        // What no rule takes is refused first.
        ("198.51.100.1", "/moved", 403),
    ] {
        let (head, body) = ask(&mut client, path, &format!("X-Forwarded-For: {address}\r\n"));
        assert_eq!(status(&head), expected, "{address} {path}");
        assert!(expected != 403 || body.contains("This address is not served here."), "{body}");
    }
    let text = edge::render_metrics(&running.registry);
    assert!(text.contains("cutwater_refusals_total{reason=\"source-refused\"} 4"), "{text}");
}

fn refused(running: &Running, reason: &str) -> u64 {
    let name = format!("cutwater_connections_refused_total{{reason=\"{reason}\"}} ");
    let text = edge::render_metrics(&running.registry);
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[test]
fn a_peer_that_no_listener_lets_in_is_closed() {
    let peers = || vec![restriction(Some(&["10.0.0.0/8"]), &[])];
    let closed = || ListenerPolicy { peers: peers(), ..ListenerPolicy::default() };
    let (running, port) = entry(closed(), |_| {});
    assert!(Peer::connect(port).is_closed());
    eventually(|| refused(&running, "peer-refused") == 1);
    // With an open listener beside it, the host decides.
    let mut one = listener(port, Protocol::Http, "a.test", vec![forward("one", "/", "a")]);
    one.policy = Some(Box::new(closed()));
    let other = listener(port, Protocol::Http, "b.test", vec![forward("two", "/", "a")]);
    running.publish(vec![one, other], &facts(&[]));
    let mut client = Peer::connect(port);
    let (head, _) = client.get("/", "b.test");
    assert_eq!(status(&head), 503);
    let (head, body) = client.get("/", "a.test");
    assert_eq!((status(&head), header(&head, "connection")), (403, Some("close")));
    assert!(body.contains("may not connect"), "{body}");
}

#[test]
fn a_list_that_changes_holds_for_connections_that_are_open() {
    let (running, port) = entry(ListenerPolicy::default(), |_| {});
    let mut client = Peer::connect(port);
    assert_eq!(status(&ask(&mut client, "/", "").0), 200);
    let mut listener = listener(port, Protocol::Http, "", vec![forward("all", "/", "a")]);
    let peers = vec![restriction(None, &["127.0.0.1"])];
    listener.policy = Some(Box::new(ListenerPolicy { peers, ..ListenerPolicy::default() }));
    running.publish(vec![listener], &facts(&[]));
    assert_eq!(status(&ask(&mut client, "/", "").0), 403);
    assert!(client.is_closed());
}

fn accepting(from: &str, is_optional: bool) -> ListenerPolicy {
    let proxy_protocol = Some(AcceptProxy { from: networks(&[from]), is_optional });
    ListenerPolicy { proxy_protocol, ..ListenerPolicy::default() }
}

fn version2(command: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11][..], &length, body].concat()
}

#[test]
fn a_proxy_header_tells_who_connected() {
    let (_running, port) = entry(accepting("127.0.0.1", false), |_| {});
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb];
    let with_tlvs = [&addresses[..], &[7; 700]].concat();
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version2(0x21, &addresses), "192.0.2.7"),
        (version2(0x21, &with_tlvs), "192.0.2.7"),
        (version2(0x20, &[]), "127.0.0.1"),
    ] {
        let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let mut whole = Peer::connect(port);
        whole.send([&header[..], request].concat());
        let (_, head) = whole.response();
        assert_eq!(values(&head, "x-forwarded-for"), [expected], "{head}");
        // Byte by byte, as far as the network wants to know of it.
        let mut slow = Peer::connect(port);
        for part in header.chunks(7) {
            slow.send(part);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(values(&slow.get("/", "a.test").1, "x-real-ip"), [expected]);
        assert_eq!(values(&slow.get("/again", "a.test").1, "x-real-ip"), [expected]);
    }
}

#[test]
fn http2_with_prior_knowledge_follows_a_proxy_header() {
    let (_running, port) = entry(accepting("127.0.0.1", false), |_| {});
    let mut client = Peer::connect(port);
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // The first frame is SETTINGS (RFC 9113 section 3.4).
    assert_eq!(client.count(9).get(3), Some(&4));
}

#[test]
fn connections_without_the_header_that_they_need_are_closed_and_counted() {
    let (running, port) = entry(accepting("127.0.0.1", false), |_| {});
    for (bytes, reason) in [
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "proxy-missing"),
        ("PROXY TCP4 nonsense\r\n", "proxy-malformed"),
    ] {
        let mut client = Peer::connect(port);
        client.send(bytes);
        assert!(client.is_closed(), "{bytes}");
        eventually(|| refused(&running, reason) == 1);
    }
    let client = Peer::connect(port);
    (&client.stream).write_all(b"PROXY TC").unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    eventually(|| refused(&running, "proxy-incomplete") == 1);

    let (running, port) = entry(accepting("10.0.0.0/8", false), |_| {});
    let mut client = Peer::connect(port);
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n");
    assert!(client.is_closed());
    eventually(|| refused(&running, "proxy-untrusted") == 1);
}

#[test]
fn an_optional_header_is_no_duty() {
    let (_running, port) = entry(accepting("127.0.0.1", true), |_| {});
    for (bytes, expected) in
        [("", "127.0.0.1"), ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", "192.0.2.7")]
    {
        let mut client = Peer::connect(port);
        client.send(bytes);
        assert_eq!(values(&client.get("/", "a.test").1, "x-real-ip"), [expected]);
    }
    // A method that begins as the header does, in two pieces.
    let mut client = Peer::connect(port);
    client.send("P");
    std::thread::sleep(std::time::Duration::from_millis(5));
    client.send("UT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    assert!(client.response().1.starts_with("PUT / HTTP/1.1"));
    // Nobody else is believed: to them it is no header.
    let (_running, port) = entry(accepting("10.0.0.0/8", true), |_| {});
    let mut client = Peer::connect(port);
    assert_eq!(values(&client.get("/", "a.test").1, "x-real-ip"), ["127.0.0.1"]);
    let mut client = Peer::connect(port);
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n\r\n");
    assert_eq!(status(&client.head()), 400);
}

#[test]
fn lists_and_trust_go_by_what_the_header_tells() {
    let mut policy = accepting("127.0.0.1", false);
    policy.peers = vec![restriction(Some(&["192.0.2.0/24"]), &[])];
    let trusted = Trusted::Networks(networks(&["192.0.2.7"]));
    let header = AddressHeader::XForwardedFor;
    policy.client_address = Some(ClientAddress { trusted, header, scheme: None });
    let (running, port) = entry(policy, |_| {});
    let mut client = Peer::connect(port);
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
    let (_, head) = ask(&mut client, "/", "X-Forwarded-For: 203.0.113.5\r\n");
    assert_eq!(values(&head, "x-forwarded-for"), ["203.0.113.5, 192.0.2.7"]);
    assert_eq!(values(&head, "x-real-ip"), ["203.0.113.5"]);
    let mut client = Peer::connect(port);
    client.send("PROXY TCP4 198.51.100.9 198.51.100.1 1 2\r\n");
    assert!(client.is_closed());
    eventually(|| refused(&running, "peer-refused") == 1);
}
