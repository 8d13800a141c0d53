//! TLS to clients: keys, the choice of a certificate, the handshake. With `tls_client`, which is TLS to backends, the
//! only module that knows rustls.

use crate::access::TlsFacts;
use crate::transport::Io;
use model::certificates::{CertificatePlan, Source};
use model::edge::Protocol;
use model::{Digest, HostPattern, ObjectId};
use routing::{ListenerTable, Router};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    ServerConfig, ServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Certificates with their keys by the Secret that holds them, parsed once.
#[derive(Clone, Default)]
pub struct KeyTable {
    keys: HashMap<ObjectId, Entry>,
}

#[derive(Clone)]
struct Entry {
    /// Of both texts: what tells that a Secret changed.
    digest: Digest,
    key: Arc<CertifiedKey>,
}

/// Why a pair of texts is no certificate with its key. Never holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    Chain,
    EmptyChain,
    Key,
    /// The key has a kind that TLS does not use here.
    KeyKind,
    /// Certificate and key do not belong together.
    Mismatch,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Chain => "the certificate chain is not well-formed PEM",
            KeyError::EmptyChain => "the certificate chain holds no certificate",
            KeyError::Key => "the private key is not well-formed PEM (PKCS #8, PKCS #1 or SEC 1)",
            KeyError::KeyKind => "the private key is of a kind that TLS servers do not use (RSA, ECDSA and Ed25519 are)",
            KeyError::Mismatch => "certificate and private key do not belong together",
        })
    }
}

impl std::error::Error for KeyError {}

impl KeyTable {
    /// Takes `(secret, certificate chain, private key)` as PEM. What is the same in `previous` is not parsed again.
    /// A pair that is not sound is left out and reported.
    pub fn build<'p>(
        pairs: impl IntoIterator<Item = (ObjectId, &'p str, &'p str)>,
        previous: Option<&KeyTable>,
    ) -> (KeyTable, Vec<(ObjectId, KeyError)>) {
        let (mut table, mut faults) = (KeyTable::default(), Vec::new());
        for (secret, chain, key) in pairs {
            let digest = Digest::of(&(chain, key));
            let known = previous.and_then(|table| table.keys.get(&secret));
            let entry = match known.filter(|entry| entry.digest == digest) {
                Some(entry) => Ok(entry.clone()),
                None => parse(chain, key).map(|key| Entry { digest, key: Arc::new(key) }),
            };
            match entry {
                Ok(entry) => drop(table.keys.insert(secret, entry)),
                Err(fault) => faults.push((secret, fault)),
            }
        }
        (table, faults)
    }

    pub(crate) fn key(&self, secret: &ObjectId) -> Option<&Arc<CertifiedKey>> {
        self.keys.get(secret).map(|entry| &entry.key)
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn parse(chain: &str, key: &str) -> Result<CertifiedKey, KeyError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| KeyError::Chain)?;
    if chain.is_empty() {
        return Err(KeyError::EmptyChain);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| KeyError::Key)?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| KeyError::KeyKind)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(_) => Err(KeyError::Mismatch),
    }
}

/// What a port needs to shake hands.
pub(crate) struct PortTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl PortTls {
    pub fn new(
        router: &Arc<Router>,
        port: u16,
        plan: &CertificatePlan,
        keys: &KeyTable,
    ) -> PortTls {
        let certificates = Arc::new(Certificates::new(router, port, plan, keys));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if let Some(ticketer) = ticketer() {
            config.ticketer = ticketer;
        }
        PortTls { config: Arc::new(config), certificates }
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// One key for tickets a process, changed by rustls every few hours: sessions survive new snapshots. Without
/// randomness from the system there are no tickets.
pub(crate) fn ticketer() -> Option<Arc<dyn ProducesTickets>> {
    static TICKETER: OnceLock<Option<Arc<dyn ProducesTickets>>> = OnceLock::new();
    TICKETER.get_or_init(|| aws_lc_rs::Ticketer::new().ok()).clone()
}

/// The certificates of one port's listeners.
struct Certificates {
    router: Arc<Router>,
    port: u16,
    /// By the address of the listener's table, which `router` keeps alive; in the listener's order of preference.
    by_listener: HashMap<usize, Vec<Candidate>>,
}

/// A certificate that a handshake may be answered with.
pub(crate) struct Candidate {
    names: Vec<HostPattern>,
    key: Arc<CertifiedKey>,
}

impl Candidate {
    /// None where the Secret holds none that is usable.
    pub fn of(secret: &ObjectId, plan: &CertificatePlan, keys: &KeyTable) -> Option<Candidate> {
        let key = Arc::clone(&keys.keys.get(secret)?.key);
        Some(Candidate { names: names(plan, secret), key })
    }

    /// `name` in lower case.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }

    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl Certificates {
    fn new(
        router: &Arc<Router>,
        port: u16,
        plan: &CertificatePlan,
        keys: &KeyTable,
    ) -> Certificates {
        let candidate = |secret: &ObjectId| Candidate::of(secret, plan, keys);
        let tables = router.port(port, Protocol::Https).map_or(&[][..], |table| table.listeners());
        let by_listener = tables
            .iter()
            .map(|table| {
                let candidates = table.certificates().iter().filter_map(candidate).collect();
                (Arc::as_ptr(table) as usize, candidates)
            })
            .collect();
        Certificates { router: Arc::clone(router), port, by_listener }
    }

    /// The first that covers the name; else the first of all, for the client to judge.
    fn choose(&self, server_name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let lower = server_name.map(str::to_ascii_lowercase);
        let listener = self.listener(lower.as_deref())?;
        let candidates = self.by_listener.get(&(std::ptr::from_ref(listener) as usize))?;
        let covers =
            |candidate: &&Candidate| lower.as_ref().is_some_and(|name| candidate.covers(name));
        candidates.iter().find(covers).or(candidates.first()).map(Candidate::key)
    }

    fn listener(&self, lower_name: Option<&str>) -> Option<&ListenerTable> {
        self.router.port(self.port, Protocol::Https)?.sni(lower_name).map(|table| &**table)
    }

    /// Why there is no certificate: nobody listens under this name, or the listener has none.
    fn alert(&self, lower_name: Option<&str>) -> u8 {
        const HANDSHAKE_FAILURE: u8 = 40;
        const UNRECOGNIZED_NAME: u8 = 112;
        match lower_name.is_some() && self.listener(lower_name).is_none() {
            true => UNRECOGNIZED_NAME,
            false => HANDSHAKE_FAILURE,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates of port {}", self.port)
    }
}

/// What the plan knows of the names in a Secret's certificate.
fn names(plan: &CertificatePlan, secret: &ObjectId) -> Vec<HostPattern> {
    let at = plan.certificates.binary_search_by(|certificate| certificate.secret.cmp(secret));
    match at.ok().and_then(|at| plan.certificates.get(at)).map(|certificate| &certificate.source) {
        Some(Source::Secret(leaf)) => leaf.names.clone(),
        Some(Source::Missing { hosts }) => hosts.clone(),
        None => Vec::new(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFault {
    /// No certificate for the name that the client asked for.
    NoCertificate,
    Failed,
}

pub(crate) struct Accepted<S> {
    /// Boxed: it is moved a few times, and each place would keep room for it in the connection's task.
    pub io: Box<TlsStream<S>>,
    pub facts: TlsFacts,
    pub is_http2: bool,
}

/// The handshake. Its time limit is the caller's.
pub(crate) async fn accept<S: Io>(io: S, tls: &PortTls) -> Result<Accepted<S>, HandshakeFault> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), io);
    let mut start = start.await.map_err(|_| HandshakeFault::Failed)?;
    let server_name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    if tls.certificates.choose(server_name.as_deref()).is_none() {
        // A fatal alert in a record of its own (RFC 8446 section 6, RFC 6066 section 3). Whether the client hears it
        // does not matter.
        let alert = [21, 3, 3, 0, 2, 2, tls.certificates.alert(server_name.as_deref())];
        let _: io::Result<()> = start.io.write_all(&alert).await;
        let _ = start.io.shutdown().await;
        return Err(HandshakeFault::NoCertificate);
    }
    let accepting = start.into_stream(Arc::clone(&tls.config));
    let stream = accepting.await.map_err(|_| HandshakeFault::Failed)?;
    let (_, session) = stream.get_ref();
    let facts = facts(session, server_name);
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    Ok(Accepted { io: Box::new(stream), facts, is_http2 })
}

pub(crate) fn facts(session: &ServerConnection, server_name: Option<String>) -> TlsFacts {
    TlsFacts {
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
        server_name,
    }
}
