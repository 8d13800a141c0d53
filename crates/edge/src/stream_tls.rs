//! TLS that ends here for a TLSRoute or TCPRoute: the certificates of one listener, whom it asks, and the handshake. What
//! protocol is inside is not known, so none is agreed on by ALPN. HTTPS is in `tls`.

use crate::access::TlsFacts;
use crate::tls::{Candidate, HandshakeFault, KeyTable, finish};
use crate::tls_terms::Terms;
use model::certificates::CertificatePlan;
use model::layer4::Listener;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) struct StreamTls(Terms);

/// In the listener's order of preference.
struct Certificates(Vec<Candidate>);

impl StreamTls {
    /// None without a usable certificate, and where clients are asked and nobody could be believed.
    pub fn new(listener: &Listener, plan: &CertificatePlan, keys: &KeyTable) -> Option<StreamTls> {
        let candidates = listener.certificates.iter();
        let candidates: Vec<_> =
            candidates.filter_map(|secret| Candidate::of(secret, plan, keys)).collect();
        if candidates.is_empty() {
            return None;
        }
        let policy = listener.policy.as_deref();
        let wanted = (
            policy.map(|policy| &policy.tls),
            policy.and_then(|policy| policy.client_trust.as_deref()),
        );
        let resolver = Arc::new(Certificates(candidates));
        Terms::new(wanted, Vec::new(), resolver).map(StreamTls)
    }

    /// The time limit is the caller's.
    pub async fn accept(
        &self,
        io: TcpStream,
    ) -> Result<(Box<TlsStream<TcpStream>>, TlsFacts), HandshakeFault> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io);
        let start = start.await.map_err(|_| HandshakeFault::Failed)?;
        let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
        finish(start, &self.0, name).await
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Candidate::choose(&self.0, name.as_deref()).map(|key| key.current())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}
