//! TLS by a rustls client: SNI, ALPN, 421, missing certificates, versions.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]

mod common;

use common::*;
use edge::{KeyError, KeyTable};
use model::certificates::{Certificate, CertificatePlan, Leaf, Source};
use model::edge::*;
use model::front::{AcceptProxy, ListenerPolicy};
use model::network::Network;
use model::traffic::{Carrier, Persistence};
use model::{Digest, Kind, Node, ObjectId};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

struct Issued {
    secret: ObjectId,
    chain: String,
    key: String,
    names: Vec<String>,
}

fn issue(name: &str, hosts: &[&str]) -> Issued {
    let names: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
    let certified = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    Issued {
        secret: ObjectId::new(Kind::SECRET, "test", name),
        chain: certified.cert.pem(),
        key: certified.signing_key.serialize_pem(),
        names,
    }
}

struct Fixture {
    _running: Running,
    port: u16,
    roots: Arc<RootCertStore>,
    /// Sent before the handshake.
    ahead: &'static str,
}

/// Listeners on one port: `a.test`, `*.w.test` and, without a certificate, `bare.test`; with `any`, one for the rest.
fn fixture(with_any: bool) -> Fixture {
    fixture_with(with_any, None)
}

fn fixture_with(with_any: bool, policy: Option<ListenerPolicy>) -> Fixture {
    let origin = Origin::start(echo_heads);
    let port = free_port();
    let issued = [
        issue("a", &["a.test"]),
        issue("b", &["b.test"]),
        issue("w", &["*.w.test"]),
        issue("any", &["default.test"]),
    ];
    let secured = |host: &str, names: &[&str]| {
        let mut rule = forward("all", "/", "a");
        rule.persistence = Some(Box::new(Persistence {
            carrier: Carrier::PermanentCookie,
            name: "stay".into(),
            absolute_timeout: Some(Duration::from_secs(60)),
            idle_timeout: None,
        }));
        let mut made = listener(port, Protocol::Https, host, vec![rule]);
        made.policy = policy.clone().map(Box::new);
        made.certificates = names.iter().map(|n| ObjectId::new(Kind::SECRET, "test", *n)).collect();
        made
    };
    let mut listeners = vec![
        secured("a.test", &["missing", "b", "a"]),
        secured("*.w.test", &["w"]),
        secured("bare.test", &["missing"]),
    ];
    if with_any {
        listeners.push(secured("", &["any"]));
    }
    let mut certificates: Vec<Node<Certificate>> =
        issued.iter().map(|issued| Node::new(certificate(issued))).collect();
    certificates.sort_by(|a, b| a.secret.cmp(&b.secret));
    let pairs = issued.iter().map(|i| (i.secret.clone(), i.chain.as_str(), i.key.as_str()));
    let (keys, faults) = KeyTable::build(pairs, None);
    assert!(faults.is_empty());
    let snapshot = snapshot(listeners, CertificatePlan { certificates });
    let running = Running::start_with(snapshot, &facts(&[("a", &[origin.address])]), keys, 1);
    let mut roots = RootCertStore::empty();
    for issued in &issued {
        use rustls_pki_types::pem::PemObject;
        roots
            .add(rustls_pki_types::CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap())
            .unwrap();
    }
    Fixture { _running: running, port, roots: Arc::new(roots), ahead: "" }
}

fn certificate(issued: &Issued) -> Certificate {
    let names =
        issued.names.iter().map(|n| model::HostPattern::parse_one_label(n).unwrap()).collect();
    let chain = Digest::of_bytes(issued.chain.as_bytes());
    let leaf = Leaf { chain, names, issuer: "self".into(), not_before: 0, not_after: i64::MAX };
    Certificate { secret: issued.secret.clone(), source: Source::Secret(leaf) }
}

impl Fixture {
    fn connect(
        &self,
        name: &str,
        alpn: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let session =
            ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut io = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        io.write_all(self.ahead.as_bytes()).unwrap();
        io.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(session, io)
    }

    /// One request over a connection for `name`: the head and the body, or the handshake's error.
    fn get(&self, name: &str, host: &str) -> Result<String, std::io::Error> {
        let mut stream = self.connect(name, &[b"http/1.1"], rustls::ALL_VERSIONS);
        stream.write_all(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A close without close_notify: the length in the head tells whether the answer is whole.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        Ok(text(answer))
    }
}

#[test]
fn the_certificate_follows_the_name_and_421_a_host_of_another_listener() {
    let fixture = fixture(true);
    for (name, host, expected) in [
        ("a.test", "a.test", 200),
        ("x.w.test", "x.w.test", 200),
        ("x.w.test", "y.w.test", 200),
        ("default.test", "default.test", 200),
        ("a.test", "x.w.test", 421),
        ("default.test", "a.test", 421),
        ("a.test", "other.test", 421),
        ("x.w.test", "A.test:8443", 421),
    ] {
        let answer = fixture.get(name, host).unwrap();
        assert_eq!(status(&answer), expected, "{name} {host}");
        if expected == 200 {
            assert_eq!(
                header(answer.split("\r\n\r\n").nth(1).unwrap(), "x-forwarded-proto"),
                Some("https")
            );
        }
    }
}

#[test]
fn a_proxy_header_comes_ahead_of_the_handshake() {
    let from = [Network::parse("127.0.0.1").unwrap()].into_iter().collect();
    let proxy_protocol = Some(AcceptProxy { from, is_optional: false });
    let policy = ListenerPolicy { proxy_protocol, ..ListenerPolicy::default() };
    let mut fixture = fixture_with(true, Some(policy));
    assert!(fixture.get("a.test", "a.test").is_err(), "it begins without one");
    fixture.ahead = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n";
    let answer = fixture.get("a.test", "a.test").unwrap();
    let seen = answer.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(header(seen, "x-real-ip"), Some("192.0.2.7"), "{answer}");
    assert_eq!(header(seen, "x-forwarded-proto"), Some("https"));
}

#[test]
fn a_session_cookie_of_https_never_goes_over_http() {
    let answer = fixture(true).get("a.test", "a.test").unwrap();
    let cookie = header(&answer, "set-cookie").unwrap();
    let attributes = "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60";
    assert!(cookie.starts_with("stay=") && cookie.ends_with(attributes), "{cookie}");
}

#[test]
fn a_host_that_no_listener_serves_is_404_and_a_name_without_a_certificate_an_alert() {
    let fixture = fixture(false);
    assert_eq!(status(&fixture.get("a.test", "other.test").unwrap()), 404);
    for (name, expected) in
        [("bare.test", "HandshakeFailure"), ("unknown.test", "UnrecognisedName")]
    {
        let error = fixture.get(name, name).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    eventually(|| {
        let metrics = edge::render_metrics(&fixture._running.registry);
        metrics.contains("cutwater_tls_handshakes_total{result=\"no-certificate\"} 2\n")
            && metrics.contains("cutwater_tls_handshakes_total{result=\"ok\"} 1\n")
    });
}

#[test]
fn both_versions_and_http2_by_alpn() {
    let fixture = fixture(true);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = fixture.connect("a.test", &[b"http/1.1", b"h2"], &[version]);
        stream.write_all(h1::HTTP2_PREFACE).unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(frame[3], 4, "the first frame is SETTINGS");
    }
}

#[test]
fn keys_are_parsed_once_and_faults_are_told() {
    let (a, b) = (issue("a", &["a.test"]), issue("b", &["b.test"]));
    let secret = a.secret.clone();
    for (chain, key, expected) in [
        (a.chain.as_str(), b.key.as_str(), KeyError::Mismatch),
        ("", a.key.as_str(), KeyError::EmptyChain),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            a.key.as_str(),
            KeyError::Chain,
        ),
        (a.chain.as_str(), "no key", KeyError::Key),
    ] {
        let (table, faults) = KeyTable::build([(secret.clone(), chain, key)], None);
        assert!(table.is_empty());
        assert_eq!(faults, [(secret.clone(), expected)]);
    }
    let pairs = [(secret, a.chain.as_str(), a.key.as_str())];
    let (first, _) = KeyTable::build(pairs.clone(), None);
    let (second, _) = KeyTable::build(pairs, Some(&first));
    assert_eq!((first.len(), second.len()), (1, 1));
}
