//! What is led on as bytes, over real sockets: TCP, TLS that is passed through or ended here, HTTPS beside it, UDP.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::{AccessRecord, Config, Edge, EdgeView, Inherited, KeyTable, Recorder, Registry};
use model::certificates::{Certificate, CertificatePlan, Leaf, Source};
use model::edge::{Backend, Protocol};
use model::facts::EndpointSet;
use model::fallback::{Fallback, Tier};
use model::front::{
    AcceptProxy, AddressList, ClientTrust, ListOrigin, ListenerPolicy, Restriction,
};
use model::id::{ListenerId, RuleId};
use model::layer4::{Attachment, Listener, Route, Transport};
use model::{Digest, Facts, Kind, Node, ObjectId};
use publish::Cell;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{
    StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn stream(
    port: u16,
    transport: Transport,
    host: &str,
    routes: &[(&str, Vec<Backend>)],
) -> Listener {
    let kind = match transport {
        Transport::TlsPassthrough | Transport::TlsTerminate => Kind::TLS_ROUTE,
        Transport::Tcp => Kind::TCP_ROUTE,
        Transport::Udp => Kind::UDP_ROUTE,
    };
    let attachments = routes.iter().enumerate().map(|(at, (host, backends))| {
        let object = ObjectId::new(kind, "test", format!("route-{port}-{at}").as_str());
        let rule = RuleId { object, index: 0, name: None };
        Attachment {
            host: pattern(host),
            route: Node::new(Route { rule, backends: backends.clone() }),
        }
    });
    let object = ObjectId::new(Kind::GATEWAY, "test", "gateway");
    let section = format!("{transport:?}-{port}-{host}");
    Listener {
        id: ListenerId { object, section: section.as_str().into() },
        port,
        transport,
        host: pattern(host),
        certificates: Vec::new(),
        policy: None,
        attachments: attachments.collect(),
    }
}

fn datagrams(name: &str, addresses: &[SocketAddr]) -> Facts {
    let mut facts = facts(&[(name, addresses)]);
    facts.datagram_endpoints = std::mem::take(&mut facts.endpoints);
    facts
}

/// What was recorded, as `protocol host endpoint refusal in/out`.
type Lines = Arc<Mutex<Vec<String>>>;

struct Lined(Lines);

impl Recorder for Lined {
    fn record(&mut self, record: &AccessRecord<'_>) {
        if record.protocol.starts_with("HTTP") {
            return;
        }
        assert!(record.request_id.is_empty() && record.status == 0);
        let AccessRecord { protocol, host, refusal, bytes_in, bytes_out, .. } = record;
        let route = record.rule.map(|rule| rule.object.name.to_string()).unwrap_or_default();
        let line = format!("{protocol} {host} {route} {refusal:?} {bytes_in}/{bytes_out}");
        self.0.lock().unwrap().push(line);
    }
}

struct Bytes {
    edge: Edge,
    views: Cell<EdgeView>,
    registry: Registry,
    lines: Lines,
}

fn serve(
    https: Vec<model::edge::Listener>,
    layer4: Vec<Listener>,
    facts: &Facts,
    issued: &[Issued],
) -> Bytes {
    let registry = Registry::new(1);
    let (plan, keys) = certificates(issued);
    let snapshot = snapshot_with(https, layer4, plan);
    let views = Cell::new(Arc::new(EdgeView::build(&snapshot, facts, &keys, &registry, None)));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
    let lines = Lines::default();
    let recorder = |_| Some(Box::new(Lined(Arc::clone(&lines))) as Box<dyn Recorder>);
    let edge = Edge::start(config, &views, &registry, recorder).unwrap();
    Bytes { edge, views, registry, lines }
}

impl Bytes {
    fn line(&self) -> String {
        eventually(|| !self.lines.lock().unwrap().is_empty());
        self.lines.lock().unwrap().remove(0)
    }

    fn has(&self, sample: &str) {
        eventually(|| edge::render_metrics(&self.registry).lines().any(|line| line == sample));
    }
}

struct Issued {
    secret: ObjectId,
    chain: String,
    key: String,
    name: String,
}

fn issue(name: &str) -> Issued {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Issued {
        secret: ObjectId::new(Kind::SECRET, "test", name),
        chain: certified.cert.pem(),
        key: certified.signing_key.serialize_pem(),
        name: name.to_owned(),
    }
}

fn certificates(issued: &[Issued]) -> (CertificatePlan, KeyTable) {
    let certificate = |issued: &Issued| {
        let leaf = Leaf {
            names: vec![pattern(&issued.name)],
            issuer: "self".into(),
            not_before: 0,
            not_after: i64::MAX,
            chain: Digest::of(&issued.chain),
        };
        let (secret, source) = (issued.secret.clone(), Source::Secret(leaf));
        Node::new(Certificate { secret, source })
    };
    let mut certificates: Vec<_> = issued.iter().map(certificate).collect();
    certificates.sort_by(|a, b| a.secret.cmp(&b.secret));
    let pairs = issued.iter().map(|i| (i.secret.clone(), i.chain.as_str(), i.key.as_str()));
    let (keys, faults) = KeyTable::build(pairs, None);
    assert_eq!(faults, []);
    (CertificatePlan { certificates }, keys)
}

fn der(issued: &Issued) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap()
}

fn client(issued: &Issued, port: u16) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    client_with(issued, port, None)
}

/// Shows a certificate where it is asked for one.
fn client_with(
    issued: &Issued,
    port: u16,
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(der(issued)).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some((leaf, key)) => config.with_client_auth_cert(vec![leaf], key).unwrap(),
    };
    let name = issued.name.clone().try_into().unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, Peer::connect(port).stream)
}

/// A TLS server that greets with its name.
fn tls_origin(issued: &Issued) -> Origin {
    use rustls::pki_types::pem::PemObject;
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![der(issued)], key)
        .unwrap();
    let (config, name) = (Arc::new(config), issued.name.clone());
    Origin::start(move |peer| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, peer.stream.try_clone().unwrap());
        let _ = stream.write_all(format!("{name}\n").as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let _ = stream.sock.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

fn echo(peer: &mut Peer) {
    while peer.more() {
        let held = std::mem::take(&mut peer.held);
        peer.send(held);
    }
    peer.send("end");
}

fn dead() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn tcp_is_led_on_with_its_halves_and_recorded() {
    let origin = Origin::start(echo);
    let port = free_port();
    let listener = stream(port, Transport::Tcp, "", &[("", vec![to("a", 1)])]);
    let bytes = serve(vec![], vec![listener], &facts(&[("a", &[origin.address])]), &[]);
    let mut client = Peer::connect(port);
    let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        // The origin's last word comes after the client's end.
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(client.count(sent.len()) == sent);
    assert_eq!(client.rest(), "end");
    writing.join().unwrap();
    assert_eq!(bytes.line(), format!("tcp  route-{port}-0 None 300000/300003"));
    let route = format!("route=\"TCPRoute test/route-{port}-0\"");
    bytes.has(&format!("cutwater_stream_connections_total{{{route},result=\"led\"}} 1"));
    bytes.has(&format!("cutwater_stream_bytes_total{{{route},direction=\"out\"}} 300003"));
    bytes.has(&format!("cutwater_stream_connections{{{route}}} 0"));
}

#[test]
fn a_connection_finds_the_endpoint_that_takes_it() {
    let origin = Origin::start(says_on_connect("here"));
    let port = free_port();
    let listener = stream(port, Transport::Tcp, "", &[("", vec![to("a", 1)])]);
    let endpoints = [dead(), origin.address, dead()];
    let bytes = serve(vec![], vec![listener], &facts(&[("a", &endpoints)]), &[]);
    for _ in 0..40 {
        assert_eq!(Peer::connect(port).rest(), "here");
    }
    // Five refusals in a row took one of the dead out; of three endpoints half may be.
    assert_eq!(bytes.views.current().live().out().len(), 1);
    let nobody = facts(&[("a", &[])]);
    let view = bytes.views.current().with_facts(&nobody);
    bytes.views.set(Arc::new(view));
    eventually(|| Peer::connect(port).rest().is_empty());
    eventually(|| bytes.lines.lock().unwrap().iter().any(|line| line.contains("no-endpoint")));
}

/// Also where all endpoints of the one before are known to be out, or none is left of it.
#[test]
fn another_service_stands_in_for_a_backend_that_takes_no_connection() {
    let (second, third) =
        (Origin::start(says_on_connect("second")), Origin::start(says_on_connect("third")));
    let dead = [dead(), dead()];
    let tier = |name| Tier { port: service(name), policy: None };
    let fallback = Fallback { tiers: vec![tier("second"), tier("third")], response: None };
    for (first, next, expected) in [
        (&[][..], &[second.address][..], "second"),
        (&dead[..], &[second.address][..], "second"),
        (&dead[..1], &dead[1..], "third"),
        (&[][..], &[][..], "third"),
    ] {
        let backend = Backend { fallback: Some(Node::new(fallback.clone())), ..to("first", 1) };
        let port = free_port();
        let listener = stream(port, Transport::Tcp, "", &[("", vec![backend])]);
        let endpoints = [("first", first), ("second", next), ("third", &[third.address][..])];
        let _bytes = serve(vec![], vec![listener], &facts(&endpoints), &[]);
        for _ in 0..12 {
            assert_eq!(Peer::connect(port).rest(), expected, "{endpoints:?}");
        }
    }
}

fn says_on_connect(text: &'static str) -> impl Fn(&mut Peer) + Send + Sync {
    move |peer| peer.send(text)
}

#[test]
fn backends_share_by_weight() {
    let origins = ["a", "b", "c"].map(|name| Origin::start(says_on_connect(name)));
    let port = free_port();
    let backends = vec![to("a", 3), to("b", 1), to("c", 0)];
    let listener = stream(port, Transport::Tcp, "", &[("", backends)]);
    let addresses = origins.each_ref().map(|origin| [origin.address]);
    let facts = facts(&[("a", &addresses[0]), ("b", &addresses[1]), ("c", &addresses[2])]);
    let _bytes = serve(vec![], vec![listener], &facts, &[]);
    let answers: Vec<String> = (0..40).map(|_| Peer::connect(port).rest()).collect();
    let count = |name: &str| answers.iter().filter(|answer| *answer == name).count();
    assert!((28..=32).contains(&count("a")) && count("a") + count("b") == 40, "{answers:?}");
}

#[test]
fn one_port_of_tls_is_shared_by_name() {
    let issued = ["pass.test", "end.test", "web.test"].map(issue);
    let pass = tls_origin(&issued[0]);
    let plain = Origin::start(echo);
    let web = Origin::start(says("web"));
    let port = free_port();
    let mut end =
        stream(port, Transport::TlsTerminate, "end.test", &[("end.test", vec![to("plain", 1)])]);
    end.certificates = vec![issued[1].secret.clone()];
    let passed = [("pass.test", vec![to("pass", 1)]), ("*.pass.test", vec![to("pass", 1)])];
    let layer4 = vec![stream(port, Transport::TlsPassthrough, "pass.test", &passed[..1]), end];
    let mut https = listener(port, Protocol::Https, "", vec![forward("all", "/", "web")]);
    https.certificates = vec![issued[2].secret.clone()];
    let facts =
        facts(&[("pass", &[pass.address]), ("plain", &[plain.address]), ("web", &[web.address])]);
    let bytes = serve(vec![https], layer4, &facts, &issued);

    // The backend's own certificate, and its own end.
    let mut text = String::new();
    client(&issued[0], port).read_to_string(&mut text).unwrap();
    assert_eq!(text, "pass.test\n");
    assert!(bytes.line().starts_with(&format!("tls pass.test route-{port}-0 None ")));

    let mut ended = client(&issued[1], port);
    ended.write_all(b"in the clear").unwrap();
    let mut room = [0; 12];
    ended.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"in the clear");
    ended.conn.send_close_notify();
    ended.flush().unwrap();
    text.clear();
    ended.read_to_string(&mut text).unwrap();
    assert_eq!(text, "end");
    assert_eq!(bytes.line(), format!("tls end.test route-{port}-0 None 12/15"));

    let mut web = client(&issued[2], port);
    web.write_all(b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n").unwrap();
    text.clear();
    web.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("web"), "{text}");
}

#[test]
fn who_shows_no_certificate_where_one_is_asked_for_is_not_led_on() {
    let issued = [issue("end.test")];
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key).unwrap().der().to_vec();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["anna".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().der().clone();
    let own = Some((leaf, PrivateKeyDer::try_from(key.serialize_der()).unwrap()));

    let origin = Origin::start(echo);
    let port = free_port();
    let mut end = stream(port, Transport::TlsTerminate, "", &[("", vec![to("a", 1)])]);
    end.certificates = vec![issued[0].secret.clone()];
    let trust = ClientTrust { is_required: true, authorities: vec![authority] };
    let policy = ListenerPolicy { client_trust: Some(Box::new(trust)), ..Default::default() };
    end.policy = Some(Box::new(policy));
    let bytes = serve(vec![], vec![end], &facts(&[("a", &[origin.address])]), &issued);

    let mut known = client_with(&issued[0], port, own);
    known.write_all(b"anna").unwrap();
    let mut room = [0; 4];
    known.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"anna");
    drop(known);
    assert!(bytes.line().starts_with(&format!("tls end.test route-{port}-0 ")));
    let mut unknown = client(&issued[0], port);
    let _ = unknown.write_all(b"who");
    let error = unknown.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    bytes.has(&format!("cutwater_stream_connections_total{{route=\"TLSRoute test/route-{port}-0\",result=\"led\"}} 1"));
}

#[test]
fn what_is_no_hello_and_what_nobody_wants_gets_an_alert() {
    let issued = ["a.test", "b.test"].map(issue);
    let origin = tls_origin(&issued[0]);
    let port = free_port();
    let listener = stream(port, Transport::TlsPassthrough, "", &[("a.test", vec![to("a", 1)])]);
    let bytes = serve(vec![], vec![listener], &facts(&[("a", &[origin.address])]), &[]);
    let mut http = Peer::connect(port);
    http.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(http.count(7), [21, 3, 3, 0, 2, 2, 50]);
    assert!(http.is_closed());
    bytes.has("cutwater_stream_unrouted_total{reason=\"bad-client-hello\"} 1");

    let mut other = client(&issued[1], port);
    let error = other.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    bytes.has("cutwater_stream_unrouted_total{reason=\"no-route\"} 1");

    // A hello that comes byte by byte.
    let mut slow = client(&issued[0], port);
    let mut hello = Vec::new();
    slow.conn.write_tls(&mut hello).unwrap();
    for piece in hello.chunks(61) {
        slow.sock.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a.test\n");
}

fn networks(text: &str) -> model::network::Networks {
    [model::network::Network::parse(text).unwrap()].into_iter().collect()
}

/// Keeps a network out.
fn without(denied: &str) -> ListenerPolicy {
    let networks = Arc::new(networks(denied));
    let deny = vec![AddressList { origin: ListOrigin::Field("spec".into()), networks }];
    let policy = ObjectId::new(Kind::EDGE_POLICY, "test", "policy");
    ListenerPolicy { peers: vec![Restriction { policy, allow: None, deny }], ..Default::default() }
}

const REFUSED: &str = "cutwater_connections_refused_total{reason=\"peer-refused\"} 1";

#[test]
fn a_proxy_header_ends_here_and_its_client_is_judged() {
    let origin = Origin::start(echo);
    let port = free_port();
    let mut listener = stream(port, Transport::Tcp, "", &[("", vec![to("a", 1)])]);
    let proxy_protocol = Some(AcceptProxy { from: networks("127.0.0.0/8"), is_optional: false });
    listener.policy = Some(Box::new(ListenerPolicy { proxy_protocol, ..without("192.0.2.0/24") }));
    let bytes = serve(vec![], vec![listener], &facts(&[("a", &[origin.address])]), &[]);
    let mut client = Peer::connect(port);
    client.send("PROXY TCP4 198.51.100.7 127.0.0.1 4000 80\r\nhello");
    assert_eq!(client.count(5), b"hello");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "end");
    assert_eq!(bytes.line(), format!("tcp  route-{port}-0 None 5/8"));
    let mut refused = Peer::connect(port);
    refused.send("PROXY TCP4 192.0.2.7 127.0.0.1 4000 80\r\nhello");
    assert!(refused.is_closed());
    bytes.has(REFUSED);
}

#[test]
fn who_may_connect_is_said_by_each_listener_of_a_port() {
    let issued = ["pass.test", "web.test"].map(issue);
    let pass = tls_origin(&issued[0]);
    let web = Origin::start(says("web"));
    let port = free_port();
    let mut closed =
        stream(port, Transport::TlsPassthrough, "pass.test", &[("pass.test", vec![to("pass", 1)])]);
    closed.policy = Some(Box::new(without("127.0.0.0/8")));
    let mut https = listener(port, Protocol::Https, "", vec![forward("all", "/", "web")]);
    https.certificates = vec![issued[1].secret.clone()];
    let facts = facts(&[("pass", &[pass.address]), ("web", &[web.address])]);
    let bytes = serve(vec![https], vec![closed], &facts, &issued);
    let error = client(&issued[0], port).read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    bytes.has(REFUSED);
    let mut web = client(&issued[1], port);
    web.write_all(b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    web.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("web"), "{text}");
}

#[test]
fn datagrams_of_those_who_may_not_connect_are_dropped() {
    let port = free_port();
    let mut listener = stream(port, Transport::Udp, "", &[("", vec![to("a", 1)])]);
    listener.policy = Some(Box::new(without("127.0.0.0/8")));
    let bytes = serve(vec![], vec![listener], &datagrams("a", &[udp_origin("a")]), &[]);
    udp_client(port).send(b"hello").unwrap();
    bytes.has(REFUSED);
}

#[test]
fn draining_waits_for_what_is_used_and_ends_at_the_limit() {
    let origin = Origin::start(echo);
    let port = free_port();
    let listener = stream(port, Transport::Tcp, "", &[("", vec![to("a", 1)])]);
    let bytes = serve(vec![], vec![listener], &facts(&[("a", &[origin.address])]), &[]);
    let mut client = Peer::connect(port);
    client.send("one");
    assert_eq!(client.count(3), b"one");
    let edge = bytes.edge;
    let draining = thread::spawn(move || edge.drain(Duration::from_secs(1)));
    client.send("two");
    assert_eq!(client.count(3), b"two");
    assert_eq!(client.rest(), "");
    assert!(!draining.join().unwrap(), "it was ended at the limit");
}

fn udp_origin(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut room = [0; 2_000];
        while let Ok((count, from)) = socket.recv_from(&mut room) {
            let answer = [name.as_bytes(), &room[..count]].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn udp_client(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, text: &str) -> String {
    socket.send(text.as_bytes()).unwrap();
    let mut room = [0; 2_000];
    let count = socket.recv(&mut room).unwrap();
    String::from_utf8(room[..count].to_vec()).unwrap()
}

#[test]
fn datagrams_flow_to_one_endpoint_and_move_with_the_facts() {
    let port = free_port();
    let listener = stream(port, Transport::Udp, "", &[("", vec![to("a", 1)])]);
    let first = udp_origin("1:");
    let bytes = serve(vec![], vec![listener], &datagrams("a", &[first]), &[]);
    let clients = [udp_client(port), udp_client(port)];
    for (at, client) in clients.iter().enumerate() {
        for text in ["x", "y", "z"] {
            let text = format!("{text}{at}");
            assert_eq!(ask(client, &text), format!("1:{text}"));
        }
    }
    let route = format!("route=\"UDPRoute test/route-{port}-0\"");
    bytes.has(&format!("cutwater_stream_connections{{{route}}} 2"));
    let second = udp_origin("2:");
    let view = bytes.views.current().with_facts(&datagrams("a", &[second]));
    let generation = bytes.views.set(Arc::new(view));
    eventually(|| bytes.views.progress(generation).is_complete());
    assert_eq!(ask(&clients[0], "w"), "2:w");
    assert_eq!(bytes.line(), format!("udp  route-{port}-0 None 6/12"));
}

#[test]
fn a_port_of_udp_that_the_plan_lost_is_free_and_its_flows_end() {
    let port = free_port();
    let listener = stream(port, Transport::Udp, "", &[("", vec![to("a", 1)])]);
    let facts = datagrams("a", &[udp_origin("1:")]);
    let bytes = serve(vec![], vec![listener], &facts, &[]);
    let client = udp_client(port);
    assert_eq!(ask(&client, "x"), "1:x");
    let snapshot = snapshot_with(vec![], vec![], CertificatePlan::default());
    let keys = KeyTable::default();
    let view = EdgeView::build(&snapshot, &facts, &keys, &bytes.registry, None);
    bytes.views.set(Arc::new(view));
    assert_eq!(bytes.line(), format!("udp  route-{port}-0 None 1/3"));
    eventually(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
}

#[test]
fn an_endpoint_that_refuses_datagrams_is_left() {
    let port = free_port();
    let listener = stream(port, Transport::Udp, "", &[("", vec![to("a", 1)])]);
    let dead = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let facts = datagrams("a", &[dead, udp_origin("here:")]);
    let bytes = serve(vec![], vec![listener], &facts, &[]);
    // A first datagram may be lost to the dead one; those that follow are not.
    for _ in 0..30 {
        let client = udp_client(port);
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client.send(b"lost?").unwrap();
        let lost = client.recv(&mut [0; 100]).is_err();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(!lost || ask(&client, "again") == "here:again");
    }
    let sample = format!("cutwater_endpoint_ejections_total{{endpoint=\"udp/{dead}\"}} 1");
    bytes.has(&sample);
}

#[test]
fn sockets_of_udp_are_taken_over() {
    let port = free_port();
    let listener = stream(port, Transport::Udp, "", &[("", vec![to("a", 1)])]);
    let bytes = serve(vec![], vec![listener], &datagrams("a", &[udp_origin("1:")]), &[]);
    let client = udp_client(port);
    assert_eq!(ask(&client, "a"), "1:a");
    let inherited =
        Inherited { datagrams: bytes.edge.datagram_sockets().unwrap(), ..Inherited::default() };
    assert_eq!(inherited.datagrams.len(), 1);
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 2 };
    let registry = Registry::new(2);
    let listener = stream(port, Transport::Udp, "", &[("", vec![to("a", 1)])]);
    let snapshot = snapshot_with(vec![], vec![listener], CertificatePlan::default());
    let facts = datagrams("a", &[udp_origin("2:")]);
    let view = EdgeView::build(&snapshot, &facts, &KeyTable::default(), &registry, None);
    let views = Cell::new(Arc::new(view));
    let follower = Edge::prepare(config, &views, &registry, |_| None, inherited).unwrap();
    assert_eq!(ask(&client, "b"), "1:b", "nothing is taken before it is opened");
    let edge = bytes.edge;
    let leaving = thread::spawn(move || edge.leave(Duration::from_millis(300)));
    thread::sleep(Duration::from_millis(50));
    follower.open();
    assert_eq!(ask(&client, "c"), "2:c");
    leaving.join().unwrap();
    assert_eq!(ask(&client, "d"), "2:d");
}

#[test]
fn a_port_of_udp_that_is_in_use_is_reported() {
    let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    let layer4 = vec![stream(port, Transport::Udp, "", &[])];
    let snapshot = snapshot_with(vec![], layer4, CertificatePlan::default());
    let registry = Registry::new(1);
    let facts = Facts {
        datagram_endpoints: [(service("a"), Arc::new(EndpointSet::default()))].into(),
        ..Facts::default()
    };
    let view = EdgeView::build(&snapshot, &facts, &KeyTable::default(), &registry, None);
    let views = Cell::new(Arc::new(view));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
    let error = Edge::start(config, &views, &registry, |_| None).err().unwrap();
    assert_eq!(error.to_string(), format!("UDP port {port} is in use; use --port-offset"));
}
