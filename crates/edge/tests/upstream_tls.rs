//! TLS to backends: whom the edge believes, whom it shows itself as, what it says when it does not; the PROXY protocol.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;
#[path = "common/http2_origin.rs"]
mod http2_origin;

use common::*;
use edge::{AccessRecord, Config, Edge, EdgeView, KeyTable, Recorder, Registry};
use http2_origin::{Manner, Seen, connection, listen};
use model::certificates::CertificatePlan;
use model::edge::*;
use model::reach::Unreachable;
use model::traffic::{BackendPolicy, BackendProtocol, BackendTls, ProxyProtocol, Trust};
use model::{Kind, Node, ObjectId};
use publish::Cell;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), der }
    }

    fn issue(&self, name: &str, last_year: i32) -> (rcgen::Certificate, KeyPair) {
        let (names, uri) = match name.contains("://") {
            true => (vec![], Some(rcgen::SanType::URI(name.try_into().unwrap()))),
            false => (vec![name.to_owned()], None),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(uri);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn trust(&self) -> Trust {
        Trust::Authorities(vec![self.der.to_vec()])
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    /// A server's settings with a certificate for `name`; with `clients`, it asks them for one.
    fn server(&self, name: &str, last_year: i32, alpn: &[&[u8]], clients: bool) -> ServerConfig {
        let (certificate, key) = self.issue(name, last_year);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            false => builder.with_no_client_auth(),
            true => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(self.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }
}

/// A server's settings with this certificate, whoever issued it.
fn server_of(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    builder.with_single_cert(vec![certificate], key).unwrap()
}

/// What an origin saw of handshakes.
#[derive(Default)]
struct Handshakes {
    resumed: AtomicUsize,
    names: Mutex<Vec<String>>,
}

/// Over TLS: HTTP/2 where ALPN says so; else every request is answered with its body or its head, on `/close` the
/// connection ends, and an upgrade makes it an echo to the end of the client's side.
fn tls_origin(config: ServerConfig) -> (SocketAddr, Arc<Seen>, Arc<Handshakes>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (seen, handshakes) = (Arc::<Seen>::default(), Arc::<Handshakes>::default());
    let held = (Arc::clone(&seen), Arc::clone(&handshakes));
    let address = listen(move |io| {
        let (acceptor, (seen, handshakes)) = (acceptor.clone(), held.clone());
        async move {
            let Ok(mut io) = acceptor.accept(io).await else { return };
            let session = io.get_ref().1;
            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            handshakes.resumed.fetch_add(usize::from(resumed), SeqCst);
            let name = session.server_name().unwrap_or_default().to_owned();
            handshakes.names.lock().unwrap().push(name);
            if session.alpn_protocol() == Some(b"h2") {
                return connection(io, Manner::default(), seen).await;
            }
            seen.connections.fetch_add(1, SeqCst);
            let mut held = Vec::new();
            while let Ok(1..) = io.read_buf(&mut held).await {
                if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                    let head = text(held.drain(..end + 4).collect());
                    if header(&head, "upgrade").is_some() {
                        return echo(&mut io, held).await;
                    }
                    let length = header(&head, "content-length").map_or(0, |n| n.parse().unwrap());
                    while held.len() < length {
                        io.read_buf(&mut held).await.unwrap();
                    }
                    let body: Vec<u8> = held.drain(..length).collect();
                    let answer = if length > 0 { text(body) } else { head.clone() };
                    seen.requests.fetch_add(1, SeqCst);
                    io.write_all(ok(&answer).as_bytes()).await.unwrap();
                    io.flush().await.unwrap();
                    if head.contains("/close ") {
                        return;
                    }
                }
            }
        }
    });
    (address, seen, handshakes)
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, mut held: Vec<u8>) {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    io.write_all(head).await.unwrap();
    loop {
        io.write_all(&held).await.unwrap();
        io.flush().await.unwrap();
        held.clear();
        if io.read_buf(&mut held).await.unwrap() == 0 {
            break;
        }
    }
    io.write_all(b"the end").await.unwrap();
    io.shutdown().await.unwrap();
}

fn policy(hostname: &str, trust: Trust) -> BackendPolicy {
    let tls = BackendTls {
        hostname: hostname.into(),
        names: Vec::new(),
        uris: Vec::new(),
        trust,
        client_certificate: None,
    };
    BackendPolicy { tls: Some(tls), ..BackendPolicy::default() }
}

/// Keeps the refusals of the access log.
struct Kept(Arc<Mutex<Vec<Option<&'static str>>>>);

impl Recorder for Kept {
    fn record(&mut self, record: &AccessRecord<'_>) {
        self.0.lock().unwrap().push(record.refusal);
    }
}

struct Fixture {
    port: u16,
    refusals: Arc<Mutex<Vec<Option<&'static str>>>>,
    running: Running,
}

fn listeners(port: u16, policy: BackendPolicy) -> Vec<Listener> {
    let backend = Backend { policy: Some(Node::new(policy)), ..to("a", 1) };
    let rule = rule("all", "/", Action::Forward(vec![backend]));
    vec![listener(port, Protocol::Http, "", vec![rule])]
}

fn start(address: SocketAddr, policy: BackendPolicy) -> Fixture {
    start_with(address, policy, KeyTable::default())
}

fn start_with(address: SocketAddr, policy: BackendPolicy, keys: KeyTable) -> Fixture {
    let port = free_port();
    let registry = Registry::new(1);
    let snapshot = snapshot(listeners(port, policy), CertificatePlan::default());
    let facts = facts(&[("a", &[address])]);
    let view = EdgeView::build(&snapshot, &facts, &keys, &registry, None);
    let views = Cell::new(Arc::new(view));
    let config = Config { bind: Ipv4Addr::LOCALHOST.into(), port_offset: 0, workers: 1 };
    let refusals = Arc::<Mutex<Vec<_>>>::default();
    let recorder = |_| Some(Box::new(Kept(Arc::clone(&refusals))) as Box<dyn Recorder>);
    let edge = Edge::start(config, &views, &registry, recorder).unwrap();
    Fixture { port, refusals, running: Running { edge, views, registry, keys } }
}

impl Fixture {
    /// Status and body of one request, with the reason of a refusal.
    fn get(&self, path: &str) -> (u16, String, Option<&'static str>) {
        let (head, body) = Peer::connect(self.port).get(path, "shop.test");
        eventually(|| !self.refusals.lock().unwrap().is_empty());
        (status(&head), body, self.refusals.lock().unwrap().pop().unwrap())
    }

    fn failures(&self, reason: &str) -> u64 {
        let text = edge::render_metrics(&self.running.registry);
        let wanted = format!("reason=\"{reason}\"");
        let mut lines = text.lines().filter(|line| {
            line.starts_with("cutwater_upstream_failures_total") && line.contains(&wanted)
        });
        lines.next().unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

const WEB: &str = "spiffe://s.test/web";
const NAME: Option<&str> = Some("upstream-tls-name");
const EXPIRED: Option<&str> = Some("upstream-tls-expired");
const AUTHORITY: Option<&str> = Some("upstream-tls-authority");

#[test]
fn whom_the_edge_believes() {
    let (ours, others) = (Authority::new(), Authority::new());
    let named = |names: &[&str], mut policy: BackendPolicy| {
        let tls = policy.tls.as_mut().unwrap();
        let (uris, names): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        tls.names = names.into_iter().map(Into::into).collect();
        tls.uris = uris.into_iter().map(Into::into).collect();
        policy
    };
    for (name, last_year, policy, refusal) in [
        ("a.test", 2999, policy("a.test", ours.trust()), None),
        ("*.w.test", 2999, policy("x.w.test", ours.trust()), None),
        ("b.test", 2999, named(&["c.test", "b.test"], policy("a.test", ours.trust())), None),
        ("a.test", 2999, named(&["b.test"], policy("a.test", ours.trust())), NAME),
        (WEB, 2999, named(&[WEB], policy("a.test", ours.trust())), None),
        ("b.test", 2999, named(&[WEB, "b.test"], policy("a.test", ours.trust())), None),
        (WEB, 2999, named(&["spiffe://s.test/x"], policy("a.test", ours.trust())), NAME),
        (WEB, 2001, named(&[WEB], policy("a.test", ours.trust())), EXPIRED),
        (WEB, 2999, named(&[WEB], policy("a.test", others.trust())), AUTHORITY),
        ("b.test", 2999, policy("a.test", ours.trust()), NAME),
        ("a.test", 2001, policy("a.test", ours.trust()), EXPIRED),
        ("a.test", 2999, policy("a.test", others.trust()), AUTHORITY),
        ("a.test", 2999, policy("a.test", Trust::Authorities(vec![])), Some("upstream-tls")),
        ("a.test", 2999, policy("not a name", ours.trust()), Some("upstream-tls")),
    ] {
        let hostname = policy.tls.as_ref().unwrap().hostname.to_string();
        let (address, seen, handshakes) =
            tls_origin(ours.server(name, last_year, &[b"http/1.1"], false));
        let fixture = start(address, policy);
        let (status, body, found) = fixture.get("/");
        assert_eq!(found, refusal, "{name} {last_year}");
        let is_refused = u64::from(refusal.is_some());
        assert_eq!(
            (status, fixture.failures("tls")),
            ([200, 502][is_refused as usize], is_refused)
        );
        if refusal.is_none() {
            assert_eq!(header(&body, "host"), Some("shop.test"));
            assert_eq!(*handshakes.names.lock().unwrap(), [hostname]);
        }
        assert_eq!(seen.requests.load(SeqCst) as u64, 1 - is_refused);
    }
}

/// Certificates that are no authority's, as authorities: what `check` says of them goes by this.
#[test]
fn a_certificate_that_is_no_authority_believes_itself_alone() {
    let params = |is_ca| {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.is_ca = is_ca;
        params
    };
    let trusting = |der: &CertificateDer<'_>| Trust::Authorities(vec![der.to_vec()]);
    let key = || KeyPair::generate().unwrap();
    let ours = Authority::new();
    let issued_key = key();
    let issued = params(IsCa::ExplicitNoCa).signed_by(&issued_key, &ours.issuer).unwrap();
    let mut cases = vec![(
        "issued by an authority",
        issued.der().clone(),
        issued_key,
        issued.der().clone(),
        AUTHORITY,
    )];
    for (what, is_ca, refusal) in [
        ("signed by itself, silent", IsCa::NoCa, None),
        ("signed by itself", IsCa::ExplicitNoCa, None),
    ] {
        let own = key();
        let der = params(is_ca).self_signed(&own).unwrap().der().clone();
        cases.push((what, der.clone(), own, der, refusal));
    }
    let signing = key();
    let mut no_ca = params(IsCa::ExplicitNoCa);
    no_ca.distinguished_name.push(rcgen::DnType::CommonName, "no authority");
    let der = no_ca.self_signed(&signing).unwrap().der().clone();
    let leaf_key = key();
    let leaf =
        params(IsCa::ExplicitNoCa).signed_by(&leaf_key, &Issuer::new(no_ca, signing)).unwrap();
    cases.push(("signing others", leaf.der().clone(), leaf_key, der, None));
    for (what, shown, key, believed, refusal) in cases {
        let (address, ..) = tls_origin(server_of(shown, &key));
        let (_, _, found) = start(address, policy("a.test", trusting(&believed))).get("/");
        assert_eq!(found, refusal, "{what}");
    }
}

/// As a request would reach it, and without one.
#[test]
fn what_is_found_by_knocking() {
    use Unreachable::*;
    let (ours, others) = (Authority::new(), Authority::new());
    let speaks = |said: &'static str| {
        Origin::start(move |peer| {
            peer.send(said);
            while peer.more() {}
        })
    };
    let (silent, smtp) = (speaks(""), speaks("220 mail.test ESMTP\r\n"));
    let closes = Origin::start(|_| ());
    let http1 = Origin::start(|peer| {
        peer.more();
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let http2 = http2_origin::Http2Origin::start(Manner::default());
    let tls = |name, last_year, clients| {
        tls_origin(ours.server(name, last_year, &[b"h2", b"http/1.1"], clients)).0
    };
    let trusting = || policy("a.test", ours.trust());
    let over = |protocol, policy| BackendPolicy { protocol, ..policy };
    let plain = |protocol| over(protocol, BackendPolicy::default());
    let (one, two) = (BackendProtocol::Http1, BackendProtocol::Http2);
    let registry = Registry::new(1);
    let port = model::id::ServicePort { namespace: "n".into(), name: "s".into(), port: 80 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (address, policy, is_stream, expected) in [
        (tls("a.test", 2999, false), trusting(), false, None),
        (tls("a.test", 2999, false), over(two, trusting()), false, None),
        (tls("b.test", 2999, false), trusting(), false, Some(TlsName)),
        (tls("a.test", 2001, false), trusting(), false, Some(TlsTime)),
        (tls("a.test", 2999, false), policy("a.test", others.trust()), false, Some(TlsAuthority)),
        (tls("a.test", 2999, true), trusting(), false, Some(TlsClient)),
        (tls("a.test", 2999, true), over(two, trusting()), false, Some(TlsClient)),
        (tls("a.test", 2999, true), trusting(), true, Some(TlsClient)),
        (http1.address, trusting(), false, Some(Tls)),
        (silent.address, policy("not a name", ours.trust()), false, Some(TlsPolicy)),
        (silent.address, plain(one), false, None),
        (silent.address, plain(two), false, None),
        (closes.address, plain(one), false, Some(Closes)),
        (closes.address, plain(one), true, None),
        (smtp.address, plain(one), false, Some(Protocol)),
        (smtp.address, plain(one), true, None),
        (http1.address, plain(two), false, Some(Protocol)),
        (http2.address, plain(two), false, None),
        (([127, 0, 0, 1], free_port()).into(), plain(one), false, Some(NotConnected)),
    ] {
        let knock = || {
            let door = registry.door((&port, Some(&policy)), (address, None), is_stream);
            runtime.block_on(door.knock(PATIENCE)).err()
        };
        // A machine that is busy may answer after the moment that it is listened to.
        let mut found = knock();
        for _ in 0..20 {
            found = found.or_else(|| expected.and_then(|_| knock()));
        }
        assert_eq!(found.as_ref().map(|found| found.cause), expected, "{found:?} {policy:?}");
    }
}

/// To the first bytes, which are a ClientHello.
fn answers_hello(said: &[u8]) -> Origin {
    let said = said.to_vec();
    Origin::start(move |peer| {
        peer.more();
        peer.send(&said);
        while peer.more() {}
    })
}

/// A certificate that is wanted over TLS 1.2 and not shown is refused by OpenSSL with handshake_failure, and a version that
/// it has not with protocol_version (RFC 5246 section 7.2.2).
#[test]
fn what_is_found_by_knocking_where_a_handshake_fails() {
    use Unreachable::*;
    let authority = Authority::new();
    let silent = Origin::start(|peer| while peer.more() {});
    let begins = answers_hello(&[22, 3, 3]);
    let refuses = answers_hello(&[21, 3, 3, 0, 2, 2, 40]);
    let has_not = answers_hello(&[21, 3, 1, 0, 2, 2, 70]);
    // A ServerHello of TLS 1.1, RFC 4346 section 7.4.1.3.
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let older = answers_hello(&hello);
    let registry = Registry::new(1);
    let port = model::id::ServicePort { namespace: "n".into(), name: "s".into(), port: 80 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let policy = policy("a.test", authority.trust());
    // Of those that do not answer a short patience finds it out as well.
    let short = Duration::from_millis(200);
    for (origin, is_stream, patience, expected) in [
        (&silent, false, short, TlsSilent),
        (&silent, true, short, TlsSilent),
        (&begins, false, short, TlsSilent),
        (&refuses, false, PATIENCE, TlsRefused),
        (&has_not, false, PATIENCE, TlsVersion),
        (&older, false, PATIENCE, TlsVersion),
    ] {
        let door = registry.door((&port, Some(&policy)), (origin.address, None), is_stream);
        let found = runtime.block_on(door.knock(patience)).unwrap_err();
        assert_eq!(found.cause, expected, "{}", found.why);
        let says_when = found.why.ends_with("did not complete the handshake within 0.2 s");
        assert_eq!(says_when, expected == TlsSilent, "{}", found.why);
    }
}

#[test]
fn a_backend_without_tls_is_not_talked_to() {
    let (saw, heads) = channel();
    let origin = Origin::start(move |peer| {
        peer.more();
        saw(std::mem::take(&mut peer.held));
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let fixture = start(origin.address, policy("a.test", Authority::new().trust()));
    let (status, _, refusal) = fixture.get("/secret");
    assert_eq!((status, refusal), (502, Some("upstream-tls")));
    let hello = heads.recv_timeout(PATIENCE).unwrap();
    assert_eq!(hello[0], 22, "a handshake record and nothing else");
}

/// Of two requests at once, one waits for the connection of the other over HTTP/2.
#[test]
fn a_handshake_that_does_not_end_is_given_up_as_a_fault_of_tls() {
    let origin = Origin::start(|peer| while peer.more() {});
    for protocol in [BackendProtocol::Http1, BackendProtocol::Http2] {
        let mut policy = BackendPolicy { protocol, ..policy("a.test", Authority::new().trust()) };
        policy.pool.connect_timeout = Some(Duration::from_millis(200));
        let fixture = start(origin.address, policy);
        let mut peers = [Peer::connect(fixture.port), Peer::connect(fixture.port)];
        for peer in &mut peers {
            peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for peer in &mut peers {
            assert_eq!(status(&peer.response().0), 502);
        }
        eventually(|| fixture.refusals.lock().unwrap().len() == 2);
        let refusals = fixture.refusals.lock().unwrap();
        assert_eq!(*refusals, [Some("upstream-tls"); 2], "{protocol:?}");
        let counts = ["tls", "connect-timeout"].map(|reason| fixture.failures(reason));
        assert_eq!(counts, [2, 0], "{protocol:?}");
    }
}

#[test]
fn connections_are_used_again_and_sessions_resumed() {
    let authority = Authority::new();
    let (address, seen, handshakes) =
        tls_origin(authority.server("a.test", 2999, &[b"http/1.1"], false));
    let fixture = start(address, policy("a.test", authority.trust()));
    for _ in 0..20 {
        assert_eq!(fixture.get("/").0, 200);
    }
    assert_eq!((seen.connections.load(SeqCst), seen.requests.load(SeqCst)), (1, 20));
    // The same policy in another node: the same connections.
    let mut same = policy("a.test", authority.trust());
    same.limits.requests = Some(9);
    fixture.running.publish(listeners(fixture.port, same), &facts(&[("a", &[address])]));
    assert_eq!(fixture.get("/close").0, 200);
    assert_eq!(seen.connections.load(SeqCst), 1);
    assert_eq!(fixture.get("/").0, 200);
    assert_eq!((seen.connections.load(SeqCst), handshakes.resumed.load(SeqCst)), (2, 1));
}

/// What a backend speaks is known when the connection is there, not before: with HTTP/1.1 the body is announced as it
/// came, and no part of it is another request.
#[test]
fn grpc_web_to_a_port_that_settles_on_http1_passes_as_it_came() {
    let authority = Authority::new();
    let (address, seen, _) = tls_origin(authority.server("a.test", 2999, &[b"http/1.1"], false));
    let mut policy = policy("a.test", authority.trust());
    policy.protocol = BackendProtocol::Http2;
    let fixture = start(address, policy);
    let sent = "GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let mut peer = Peer::connect(fixture.port);
    for content_type in ["application/grpc-web", "application/grpc-web-text+proto"] {
        peer.send(format!(
            "POST /a.B/C HTTP/1.1\r\nHost: a.test\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{sent}",
            sent.len()
        ));
        assert_eq!(peer.response().1, sent);
        let (_, head) = peer.get("/next", "a.test");
        assert!(head.starts_with("GET /next HTTP/1.1\r\n"), "{head}");
    }
    assert_eq!((seen.connections.load(SeqCst), seen.requests.load(SeqCst)), (1, 4));
}

#[test]
fn bodies_pass_over_tls() {
    const LENGTH: usize = 2 << 20;
    let authority = Authority::new();
    let (address, seen, _) = tls_origin(authority.server("a.test", 2999, &[], false));
    let fixture = start(address, policy("a.test", authority.trust()));
    for _ in 0..3 {
        let mut peer = Peer::connect(fixture.port);
        let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LENGTH}\r\n\r\n");
        peer.send(head);
        peer.send("y".repeat(LENGTH));
        let (head, body) = peer.response();
        assert_eq!(status(&head), 200);
        assert!(body.len() == LENGTH && body.bytes().all(|b| b == b'y'));
    }
    assert_eq!(seen.connections.load(SeqCst), 1);
}

#[test]
fn a_tunnel_over_tls_has_two_ends() {
    const LENGTH: usize = 1 << 20;
    let authority = Authority::new();
    let (address, ..) = tls_origin(authority.server("a.test", 2999, &[], false));
    let fixture = start(address, policy("a.test", authority.trust()));
    let mut peer = Peer::connect(fixture.port);
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst");
    assert_eq!(status(&peer.head()), 101);
    assert_eq!(peer.count(5), b"first");
    peer.send("x");
    assert_eq!(peer.count(1), b"x");
    let mut writer = peer.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&[b'y'; LENGTH]).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let rest = peer.rest();
    assert!(rest.ends_with("the end") && rest.len() == LENGTH + 7, "{}", rest.len());
    writing.join().unwrap();
}

#[test]
fn alpn_chooses_the_version() {
    let authority = Authority::new();
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (protocol, alpn, expected) in [
        (BackendProtocol::Http2, both, "https://shop.test/x"),
        (BackendProtocol::Http2, &both[1..], "GET /x HTTP/1.1"),
        (BackendProtocol::Http2, &[], "GET /x HTTP/1.1"),
        (BackendProtocol::Http1, both, "GET /x HTTP/1.1"),
    ] {
        let (address, seen, _) = tls_origin(authority.server("a.test", 2999, alpn, false));
        let policy = BackendPolicy { protocol, ..policy("a.test", authority.trust()) };
        let fixture = start(address, policy);
        for _ in 0..5 {
            let (status, body, _) = fixture.get("/x");
            assert_eq!(status, 200);
            assert!(body.contains(expected), "{body}");
        }
        assert_eq!(seen.connections.load(SeqCst), 1);
    }
}

#[test]
fn the_edge_shows_its_certificate_and_a_new_one_when_the_secret_changes() {
    let (authority, others) = (Authority::new(), Authority::new());
    let (address, seen, _) = tls_origin(authority.server("a.test", 2999, &[], true));
    let secret = ObjectId::new(Kind::SECRET, "test", "client");
    let mut policy = policy("a.test", authority.trust());
    policy.tls.as_mut().unwrap().client_certificate = Some(secret.clone());
    let keys = |by: &Authority| {
        let (certificate, key) = by.issue("edge.test", 2999);
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        let (keys, faults) = KeyTable::build([(secret.clone(), &*chain, &*key)], None);
        assert!(faults.is_empty());
        keys
    };
    let mut fixture = start_with(address, policy.clone(), keys(&others));
    assert_eq!(fixture.get("/").0, 502);
    assert_eq!(seen.requests.load(SeqCst), 0);
    fixture.running.keys = keys(&authority);
    fixture.running.publish(listeners(fixture.port, policy), &facts(&[("a", &[address])]));
    assert_eq!(fixture.get("/").0, 200);
}

/// TLS 1.3 says so only after the handshake, where the response is waited for.
#[test]
fn a_client_certificate_that_is_refused_is_a_fault_of_tls() {
    let (authority, others) = (Authority::new(), Authority::new());
    let secret = ObjectId::new(Kind::SECRET, "test", "client");
    let (certificate, key) = others.issue("edge.test", 2999);
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    let (keys, _) = KeyTable::build([(secret.clone(), &*chain, &*key)], None);
    for protocol in [BackendProtocol::Http1, BackendProtocol::Http2] {
        for shown in [None, Some(secret.clone())] {
            let server = authority.server("a.test", 2999, &[b"h2", b"http/1.1"], true);
            let (address, seen, _) = tls_origin(server);
            let mut policy = BackendPolicy { protocol, ..policy("a.test", authority.trust()) };
            policy.tls.as_mut().unwrap().client_certificate = shown;
            let fixture = start_with(address, policy, keys.clone());
            let (status, _, refusal) = fixture.get("/");
            assert_eq!((status, refusal), (502, Some("upstream-tls")), "{protocol:?}");
            assert_eq!((fixture.failures("tls"), fixture.failures("no-response")), (1, 0));
            assert_eq!(seen.requests.load(SeqCst), 0);
        }
    }
}

#[test]
fn the_client_is_named_ahead_of_its_own_connection() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let (saw, heads) = channel();
        let origin = Origin::start(move |peer| {
            let start = match version {
                ProxyProtocol::V1 => peer.until("\r\n").into_bytes(),
                ProxyProtocol::V2 => peer.count(28),
            };
            saw(start);
            echo_heads(peer);
        });
        let policy = BackendPolicy { proxy_protocol: Some(version), ..BackendPolicy::default() };
        let fixture = start(origin.address, policy);
        let mut clients = [Peer::connect(fixture.port), Peer::connect(fixture.port)];
        for _ in 0..3 {
            for client in &mut clients {
                assert_eq!(status(&client.get("/", "a.test").0), 200);
            }
        }
        for client in &clients {
            let port = client.stream.local_addr().unwrap().port();
            let expected = match version {
                ProxyProtocol::V1 => {
                    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", fixture.port)
                        .into_bytes()
                }
                ProxyProtocol::V2 => [
                    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".as_slice(),
                    &port.to_be_bytes(),
                    &fixture.port.to_be_bytes(),
                ]
                .concat(),
            };
            assert_eq!(heads.recv_timeout(PATIENCE).unwrap(), expected);
        }
        assert!(heads.try_recv().is_err(), "each client has one connection and keeps it");
    }
}
