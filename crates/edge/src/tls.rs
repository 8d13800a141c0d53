//! TLS to clients: keys, the choice of a certificate, the handshake. With `tls_client`, which is TLS to backends, the
//! only module that knows rustls.

use crate::access::{Asked, TlsFacts};
use crate::client_certificate::NotBelieved;
use crate::served_key::ServedKey;
use crate::tls_terms::{Terms, TermsTable};
use crate::transport::Io;
use model::certificates::{CertificatePlan, Source};
use model::edge::Protocol;
use model::limits::CLIENT_HELLO_BYTES;
use model::{Digest, HostPattern, ObjectId};
use routing::{ListenerTable, Router};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

/// Certificates with their keys by the Secret that holds them, parsed once.
#[derive(Clone, Default, PartialEq)]
pub struct KeyTable {
    keys: HashMap<ObjectId, Entry>,
}

#[derive(Clone)]
struct Entry {
    /// Of both texts: what tells that a Secret changed.
    digest: Digest,
    key: Arc<ServedKey>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.digest == other.digest
    }
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
                None => parse(chain, key)
                    .map(|key| Entry { digest, key: Arc::new(ServedKey::new(key)) }),
            };
            match entry {
                Ok(entry) => drop(table.keys.insert(secret, entry)),
                Err(fault) => faults.push((secret, fault)),
            }
        }
        (table, faults)
    }

    pub(crate) fn key(&self, secret: &ObjectId) -> Option<&Arc<CertifiedKey>> {
        self.keys.get(secret).map(|entry| entry.key.plain())
    }

    /// What lasts from table to table for as long as the Secret says the same.
    pub fn served(&self, secret: &ObjectId) -> Option<&Arc<ServedKey>> {
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
    certificates: Arc<Certificates>,
    /// By the address of the listener's table, as its certificates.
    terms: HashMap<usize, Arc<Terms>>,
}

impl PortTls {
    pub fn new(
        router: &Arc<Router>,
        port: u16,
        plan: &CertificatePlan,
        keys: &KeyTable,
    ) -> PortTls {
        let certificates = Arc::new(Certificates::new(router, port, plan, keys));
        let resolver = Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>;
        let mut made = TermsTable::new(resolver);
        let tables = router.port(port, Protocol::Https).map_or(&[][..], |table| table.listeners());
        let terms = tables
            .iter()
            .filter_map(|table| Some((Arc::as_ptr(table) as usize, made.of(table.listener())?)));
        PortTls { terms: terms.collect(), certificates }
    }

    fn terms(&self, lower_name: Option<&str>) -> Option<&Arc<Terms>> {
        let listener = self.certificates.listener(lower_name)?;
        self.terms.get(&(std::ptr::from_ref(listener) as usize))
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
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
    key: Arc<ServedKey>,
}

impl Candidate {
    /// None where the Secret holds none that is usable.
    pub fn of(secret: &ObjectId, plan: &CertificatePlan, keys: &KeyTable) -> Option<Candidate> {
        let key = Arc::clone(&keys.keys.get(secret)?.key);
        Some(Candidate { names: names(plan, secret), key })
    }

    fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }

    /// The first that covers the name, which is in lower case; else the first of all, for the client to judge.
    pub fn choose<'c>(
        candidates: &'c [Candidate],
        name: Option<&str>,
    ) -> Option<&'c Arc<ServedKey>> {
        let covers = |found: &&Candidate| name.is_some_and(|name| found.covers(name));
        candidates.iter().find(covers).or(candidates.first()).map(|found| &found.key)
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

    fn choose(&self, server_name: Option<&str>) -> Option<&Arc<ServedKey>> {
        let lower = server_name.map(str::to_ascii_lowercase);
        let listener = self.listener(lower.as_deref())?;
        let candidates = self.by_listener.get(&(std::ptr::from_ref(listener) as usize))?;
        Candidate::choose(candidates, lower.as_deref())
    }

    fn listener(&self, lower_name: Option<&str>) -> Option<&ListenerTable> {
        self.router.port(self.port, Protocol::Https)?.sni(lower_name).map(|table| &**table)
    }

    /// Why there is no certificate: nobody listens under this name, or the listener has none.
    fn alert(&self, lower_name: Option<&str>) -> Alert {
        match lower_name.is_some() && self.listener(lower_name).is_none() {
            true => Alert::UnrecognizedName,
            false => Alert::HandshakeFailure,
        }
    }
}

/// RFC 8446 section 6.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alert {
    HandshakeFailure = 40,
    AccessDenied = 49,
    DecodeError = 50,
    /// RFC 6066 section 3.
    UnrecognizedName = 112,
}

/// Ends a connection without a handshake: a fatal alert in a record of its own. What the client sent is taken first: a
/// close with bytes unread is a reset, and the alert would be lost. Whether it is heard does not matter.
pub(crate) async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin, alert: Alert) {
    poll_fn(|cx| {
        let mut room = [0; CLIENT_HELLO_BYTES];
        let _ = Pin::new(&mut io).poll_read(cx, &mut ReadBuf::new(&mut room));
        Poll::Ready(())
    })
    .await;
    let _: io::Result<()> = io.write_all(&[21, 3, 3, 0, 2, 2, alert as u8]).await;
    let _ = io.shutdown().await;
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|key| key.current())
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
    let start = start.await.map_err(|_| HandshakeFault::Failed)?;
    let server_name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let terms = tls.terms(server_name.as_deref());
    let has_certificate = tls.certificates.choose(server_name.as_deref()).is_some();
    let Some(terms) = terms.filter(|_| has_certificate) else {
        refuse(start.io, tls.certificates.alert(server_name.as_deref())).await;
        return Err(HandshakeFault::NoCertificate);
    };
    let (io, facts) = finish(start, terms, server_name).await?;
    let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted { io, facts, is_http2 })
}

/// The rest of a handshake, by these terms.
pub(crate) async fn finish<S: Io>(
    start: StartHandshake<S>,
    terms: &Terms,
    server_name: Option<String>,
) -> Result<(Box<TlsStream<S>>, TlsFacts), HandshakeFault> {
    let accepting = start.into_stream(Arc::clone(&terms.config)).into_fallible();
    let stream = match accepting.await {
        Ok(stream) => stream,
        Err((_, io)) => {
            // A client without a good certificate has sent its first request by now.
            if terms.clients.is_some() {
                Box::pin(part(io)).await;
            }
            return Err(HandshakeFault::Failed);
        }
    };
    let Ok(asked) = asked(stream.get_ref().1, terms) else {
        Box::pin(part(stream)).await;
        return Err(HandshakeFault::Failed);
    };
    let facts = facts(stream.get_ref().1, server_name, asked);
    Ok((Box::new(stream), facts))
}

/// Ends the writing side and reads on for a moment: a close with unread bytes would be a reset, which can take the
/// alert from the client.
async fn part(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = io.shutdown().await;
    let mut room = [0; 512];
    // A client that goes on is cut off, at the latest when the time for handshakes is over.
    for _ in 0..64 {
        if !matches!(io.read(&mut room).await, Ok(1..)) {
            break;
        }
    }
}

fn asked(session: &ServerConnection, terms: &Terms) -> Result<Option<Box<Asked>>, NotBelieved> {
    let Some(clients) = &terms.clients else { return Ok(None) };
    let certificate = clients.judge(session)?;
    Ok(Some(Box::new(Asked { trust: clients.trust, certificate })))
}

fn facts(
    session: &ServerConnection,
    server_name: Option<String>,
    asked: Option<Box<Asked>>,
) -> TlsFacts {
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
        asked,
    }
}
