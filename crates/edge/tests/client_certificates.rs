//! Certificates of clients by a rustls client: whom a listener lets in, what backends are told, whom a session of
//! another listener helps. And the terms that a listener sets for handshakes.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::*;
use edge::{EdgeView, KeyTable};
use model::certificates::{Certificate, CertificatePlan, Leaf, Source};
use model::edge::*;
use model::front::*;
use model::{Digest, Kind, Node, ObjectId, Snapshot};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

const HOST: &str = "a.test";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().clone();
    Authority { issuer: Issuer::new(params, key), der }
}

/// A chain with its key.
struct Identity(Vec<CertificateDer<'static>>, Vec<u8>);

impl Authority {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn leaf(&self, name: &str) -> Identity {
        self.sign(Authority::params(name))
    }

    fn ended_leaf(&self, name: &str) -> Identity {
        let mut params = Authority::params(name);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Identity(vec![leaf.der().clone()], key.serialize_der())
    }

    /// Below an authority that this one signed.
    fn deep_leaf(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = Authority::params("Middle");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let middle = Authority { issuer: Issuer::new(params, key), der: der.clone() };
        let mut identity = middle.leaf(name);
        identity.0.push(der);
        identity
    }

    fn trust(&self, is_required: bool) -> ListenerPolicy {
        let trust = ClientTrust { is_required, authorities: vec![self.der.to_vec()] };
        ListenerPolicy { client_trust: Some(Box::new(trust)), ..ListenerPolicy::default() }
    }
}

struct Fixture {
    running: Running,
    facts: model::Facts,
    certificates: CertificatePlan,
    roots: Arc<RootCertStore>,
}

/// A listener on each port under the policy.
fn secured(port: u16, host: &str, policy: Option<ListenerPolicy>) -> Listener {
    let mut rule = forward("all", "/", "a");
    let forwarded = ForwardedCertificate::Chain;
    let told = RulePolicy { client_certificate: forwarded, ..RulePolicy::default() };
    rule.policy = Some(Node::new(told));
    let mut made = listener(port, Protocol::Https, host, vec![rule]);
    made.certificates = vec![ObjectId::new(Kind::SECRET, "test", "served")];
    made.policy = policy.map(Box::new);
    made
}

impl Fixture {
    fn start(listeners: Vec<Listener>) -> Fixture {
        Fixture::start_to(listeners, Origin::start(echo_heads))
    }

    fn start_to(listeners: Vec<Listener>, origin: Origin) -> Fixture {
        let names = vec![HOST.to_owned(), "b.test".to_owned()];
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let secret = ObjectId::new(Kind::SECRET, "test", "served");
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let leaf = Leaf {
            chain: Digest::of_bytes(chain.as_bytes()),
            names: names.iter().map(|name| pattern(name)).collect(),
            issuer: "test".into(),
            not_before: 0,
            not_after: i64::MAX,
        };
        let certificate = Certificate { secret: secret.clone(), source: Source::Secret(leaf) };
        let certificates = CertificatePlan { certificates: vec![Node::new(certificate)] };
        let (keys, _) = KeyTable::build([(secret, chain.as_str(), key.as_str())], None);
        let facts = facts(&[("a", &[origin.address])]);
        let plan = snapshot(listeners, certificates.clone());
        let running = Running::start_with(plan, &facts, keys, 1);
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Fixture { running, facts, certificates, roots: Arc::new(roots) }
    }

    fn publish(&self, listeners: Vec<Listener>) {
        let plan: Snapshot = snapshot(listeners, self.certificates.clone());
        let Running { views, keys, registry, .. } = &self.running;
        let view = EdgeView::build(&plan, &self.facts, keys, registry, Some(&views.current()));
        self.running.set(view);
    }

    /// What a client is made of; connections of one share their sessions.
    fn client(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(Identity(chain, key)) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                builder.with_client_auth_cert(chain.clone(), key).unwrap()
            }
        })
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(config: &Arc<ClientConfig>, port: u16, name: &'static str) -> Stream {
    let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, tcp)
}

fn ask(stream: &mut Stream, host: &str, lines: &str) -> io::Result<String> {
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n")?;
    let mut bytes = Vec::new();
    loop {
        let mut room = [0; 8192];
        let count = stream.read(&mut room)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&room[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(at) = text.find("\r\n\r\n") else { continue };
        let length = header(&text, "content-length").unwrap().parse::<usize>().unwrap();
        if text.len() >= at + 4 + length {
            return Ok(text);
        }
    }
}

/// The head that the origin received.
fn told(answer: &str) -> &str {
    assert_eq!(status(answer), 200, "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1
}

fn get(fixture: &Fixture, port: u16, identity: Option<&Identity>) -> io::Result<String> {
    let config = fixture.client(identity, &[&TLS13, &TLS12]);
    ask(&mut connect(&config, port, HOST), HOST, "")
}

fn sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

#[test]
fn a_listener_that_wants_certificates_lets_in_who_has_one_and_says_who_it_is() {
    let (ours, others) = (authority("Ours"), authority("Others"));
    let port = free_port();
    let fixture = Fixture::start(vec![secured(port, HOST, Some(ours.trust(true)))]);
    for version in [&TLS12, &TLS13] {
        let anna = ours.leaf("Anna");
        let config = fixture.client(Some(&anna), &[version]);
        let answer = ask(&mut connect(&config, port, HOST), HOST, "").unwrap();
        let told = told(&answer);
        assert_eq!(header(told, "client-cert"), Some(sequence(&anna.0[0]).as_str()));
        assert_eq!(header(told, "client-cert-chain"), None);
        for refused in [None, Some(&others.leaf("Eve")), Some(&ours.ended_leaf("Old"))] {
            let config = fixture.client(refused, &[version]);
            let error = ask(&mut connect(&config, port, HOST), HOST, "").unwrap_err();
            // The alert is heard: no reset is faster than it.
            assert!(error.to_string().contains("alert"), "{error}");
        }
    }
    let deep = ours.deep_leaf("Bert");
    let answer = get(&fixture, port, Some(&deep)).unwrap();
    assert_eq!(header(told(&answer), "client-cert-chain"), Some(sequence(&deep.0[1]).as_str()));
}

#[test]
fn a_listener_that_lets_all_in_tells_of_valid_certificates_alone() {
    let (ours, others) = (authority("Ours"), authority("Others"));
    let port = free_port();
    let fixture = Fixture::start(vec![secured(port, HOST, Some(ours.trust(false)))]);
    for unknown in [None, Some(&others.leaf("Eve")), Some(&ours.ended_leaf("Old"))] {
        let answer = get(&fixture, port, unknown).unwrap();
        assert_eq!(header(told(&answer), "client-cert"), None);
    }
    let anna = ours.leaf("Anna");
    let answer = get(&fixture, port, Some(&anna)).unwrap();
    assert_eq!(header(told(&answer), "client-cert"), Some(sequence(&anna.0[0]).as_str()));
}

#[test]
fn no_client_says_itself_who_it_is() {
    let ours = authority("Ours");
    let (port, plain) = (free_port(), free_port());
    let mut unsecured = secured(plain, HOST, None);
    unsecured.protocol = Protocol::Http;
    let listeners = vec![secured(port, HOST, Some(ours.trust(false))), unsecured];
    let fixture = Fixture::start(listeners);
    let lines = "Client-Cert: :AAAA:\r\nclient-cert-chain: :AAAA:\r\nCLIENT_CERT: :AAAA:\r\n";
    let config = fixture.client(None, &[&TLS13]);
    let answer = ask(&mut connect(&config, port, HOST), HOST, lines).unwrap();
    assert!(!told(&answer).to_ascii_lowercase().contains("client"), "{answer}");
    let anna = ours.leaf("Anna");
    let config = fixture.client(Some(&anna), &[&TLS13]);
    let answer = ask(&mut connect(&config, port, HOST), HOST, lines).unwrap();
    assert_eq!(header(told(&answer), "client-cert"), Some(sequence(&anna.0[0]).as_str()));
    assert!(!answer.contains("AAAA"), "{answer}");
    let mut peer = Peer::connect(plain);
    peer.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{lines}\r\n"));
    let (_, received) = peer.response();
    assert!(!received.to_ascii_lowercase().contains("client"), "{received}");
}

#[test]
fn nor_in_trailers() {
    let port = free_port();
    let origin = Origin::start(|peer| {
        peer.head();
        let received = peer.until("0\r\nx-sum: 1\r\n\r\n");
        peer.send(ok(&received));
    });
    let mut unsecured = secured(port, HOST, None);
    unsecured.protocol = Protocol::Http;
    let _fixture = Fixture::start_to(vec![unsecured], origin);
    let mut peer = Peer::connect(port);
    peer.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n"));
    peer.send(
        "1\r\na\r\n0\r\nclient-cert: :AAAA:\r\nClient_Cert-Chain: :AAAA:\r\nx-sum: 1\r\n\r\n",
    );
    let (head, received) = peer.response();
    assert_eq!(status(&head), 200);
    assert!(!received.contains("AAAA"), "{received}");
}

#[test]
fn a_connection_serves_the_listener_alone_that_it_was_made_for() {
    let ours = authority("Ours");
    let port = free_port();
    let wanted = || secured(port, HOST, Some(ours.trust(true)));
    let fixture = Fixture::start(vec![wanted(), secured(port, "b.test", None)]);
    let config = fixture.client(None, &[&TLS13]);
    let mut stream = connect(&config, port, "b.test");
    assert_eq!(status(&ask(&mut stream, "b.test", "").unwrap()), 200);
    assert_eq!(status(&ask(&mut stream, HOST, "").unwrap()), 421);
    // From now on b.test wants a certificate, too: the connection was made without.
    fixture.publish(vec![wanted(), secured(port, "b.test", Some(ours.trust(true)))]);
    assert_eq!(status(&ask(&mut stream, "b.test", "").unwrap()), 421);
    fixture.publish(vec![wanted(), secured(port, "b.test", None)]);
    assert_eq!(status(&ask(&mut stream, "b.test", "").unwrap()), 200);
}

#[test]
fn a_session_goes_on_where_the_same_certificates_count_and_nowhere_else() {
    let ours = authority("Ours");
    for version in [&TLS12, &TLS13] {
        let (open, closed, alike) = (free_port(), free_port(), free_port());
        let fixture = Fixture::start(vec![
            secured(open, HOST, None),
            secured(closed, HOST, Some(ours.trust(true))),
            secured(alike, HOST, Some(ours.trust(true))),
        ]);
        let resumed =
            |stream: &Stream| stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let anonymous = fixture.client(None, &[version]);
        for expected in [false, true] {
            let mut stream = connect(&anonymous, open, HOST);
            assert_eq!(status(&ask(&mut stream, HOST, "").unwrap()), 200);
            assert_eq!(resumed(&stream), expected);
        }
        assert!(ask(&mut connect(&anonymous, closed, HOST), HOST, "").is_err());
        let anna = ours.leaf("Anna");
        let known = fixture.client(Some(&anna), &[version]);
        for (port, expected) in [(closed, false), (closed, true), (alike, true), (open, false)] {
            let mut stream = connect(&known, port, HOST);
            let answer = ask(&mut stream, HOST, "").unwrap();
            assert_eq!(resumed(&stream), expected, "{version:?}");
            let value = header(told(&answer), "client-cert").is_some();
            assert_eq!(value, port != open);
        }
    }
}

/// Of the edge's own answers too; never over plain HTTP, and once where the origin says it as well.
#[test]
fn strict_transport_security_is_in_every_answer_over_tls() {
    let value = "max-age=60; includeSubDomains";
    let policy = || {
        let strict_transport_security = Some(value.into());
        Some(Node::new(RulePolicy { strict_transport_security, ..RulePolicy::default() }))
    };
    let redirect = Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };
    let rules = || {
        let mut rules = vec![
            forward("ok", "/ok", "a"),
            rule("moved", "/moved", Action::Redirect(redirect.clone())),
            forward("gone", "/gone", "nobody"),
        ];
        rules.iter_mut().for_each(|rule| rule.policy = policy());
        let mut own = forward("own", "/own", "a");
        own.policy = policy();
        own.response_headers.set.push(("Strict-Transport-Security".into(), "max-age=1".into()));
        rules.push(own);
        rules
    };
    let (port, plain) = (free_port(), free_port());
    let make = |port, protocol| {
        let mut made = listener(port, protocol, HOST, rules());
        made.certificates = vec![ObjectId::new(Kind::SECRET, "test", "served")];
        made.unmatched = policy();
        made
    };
    let listeners = vec![make(port, Protocol::Https), make(plain, Protocol::Http)];
    let origin = Origin::start(|peer| {
        while !peer.head().is_empty() {
            let line = "strict-transport-security: max-age=7";
            peer.send(format!("HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let fixture = Fixture::start_to(listeners, origin);
    let config = fixture.client(None, &[&TLS13]);
    for (path, status, expected) in [
        ("/ok", 200, value),
        ("/moved", 302, value),
        ("/gone", 503, value),
        ("/none", 404, value),
        ("/own", 200, "max-age=1"),
        ("/a b", 400, value),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        let mut stream = connect(&config, port, HOST);
        stream.write_all(request.as_bytes()).unwrap();
        let head = head(&mut stream);
        assert_eq!(common::status(&head), status, "{head}");
        let lines: Vec<&str> =
            head.lines().filter_map(|l| l.strip_prefix("strict-transport-security: ")).collect();
        assert_eq!(lines, [expected], "{head}");
        let mut peer = Peer::connect(plain);
        peer.send(request);
        let head = peer.head();
        assert_eq!(common::status(&head), status, "{head}");
        assert!(!head.contains(value), "{head}");
    }
}

fn head(stream: &mut Stream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    text(bytes)
}

/// The next handshakes show what the key was given last; the connection that is there goes on.
#[test]
fn a_staple_is_shown_from_the_next_handshake_on() {
    let port = free_port();
    let fixture = Fixture::start(vec![secured(port, HOST, None)]);
    let secret = ObjectId::new(Kind::SECRET, "test", "served");
    let key = Arc::clone(fixture.running.keys.served(&secret).unwrap());
    let seen = Arc::new(SeenStaple::default());
    let mut config = ClientConfig::clone(&fixture.client(None, &[&TLS13]));
    config.resumption = rustls::client::Resumption::disabled();
    config.dangerous().set_certificate_verifier(Arc::clone(&seen) as Arc<_>);
    let config = Arc::new(config);
    for staple in [None, Some(b"good".to_vec()), Some(b"better".to_vec()), None] {
        key.staple(staple.clone());
        let mut stream = connect(&config, port, HOST);
        assert_eq!(status(&ask(&mut stream, HOST, "").unwrap()), 200);
        assert_eq!(*seen.0.lock().unwrap(), staple.unwrap_or_default());
    }
}

#[derive(Debug, Default)]
struct SeenStaple(std::sync::Mutex<Vec<u8>>);

impl ServerCertVerifier for SeenStaple {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        ocsp_response: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp_response.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn terms_of_a_listener_hold_for_its_name_alone() {
    let port = free_port();
    let terms = TlsTerms { preset: TlsPreset::Modern, alpn: vec![Alpn::Http1] };
    let policy = ListenerPolicy { tls: terms, ..ListenerPolicy::default() };
    let fixture =
        Fixture::start(vec![secured(port, HOST, Some(policy)), secured(port, "b.test", None)]);
    for (name, version, expected) in [
        (HOST, &TLS12, false),
        (HOST, &TLS13, true),
        ("b.test", &TLS12, true),
        ("b.test", &TLS13, true),
    ] {
        let config = fixture.client(None, &[version]);
        let answer = ask(&mut connect(&config, port, name), name, "");
        assert_eq!(answer.is_ok(), expected, "{name} {version:?}");
    }
    for (name, expected) in [(HOST, b"http/1.1".as_slice()), ("b.test", b"h2")] {
        let mut config = ClientConfig::clone(&fixture.client(None, &[&TLS13]));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut stream = connect(&Arc::new(config), port, name);
        stream.flush().unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(expected));
    }
}
