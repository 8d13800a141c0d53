//! TLS that ends here for a TLSRoute or TCPRoute: the certificates of one listener, and the handshake. What protocol is
//! inside is not known, so none is agreed on by ALPN. HTTPS is in `tls`.

use crate::access::TlsFacts;
use crate::tls::{Candidate, KeyTable, facts};
use crate::tls_terms;
use model::certificates::CertificatePlan;
use model::layer4::Listener;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) struct StreamTls(Arc<ServerConfig>);

/// In the listener's order of preference.
struct Certificates(Vec<Candidate>);

impl StreamTls {
    /// None without a usable certificate.
    pub fn new(listener: &Listener, plan: &CertificatePlan, keys: &KeyTable) -> Option<StreamTls> {
        let candidates = listener.certificates.iter();
        let candidates: Vec<_> =
            candidates.filter_map(|secret| Candidate::of(secret, plan, keys)).collect();
        if candidates.is_empty() {
            return None;
        }
        let resolver = Arc::new(Certificates(candidates));
        let terms = listener.policy.as_deref().map(|policy| &policy.tls);
        Some(StreamTls(Arc::new(tls_terms::config(terms, None, resolver))))
    }

    /// The time limit is the caller's.
    pub async fn accept(&self, io: TcpStream) -> io::Result<(Box<TlsStream<TcpStream>>, TlsFacts)> {
        let stream = Box::new(TlsAcceptor::from(Arc::clone(&self.0)).accept(io).await?);
        let session = stream.get_ref().1;
        let name = session.server_name().map(str::to_ascii_lowercase);
        let facts = facts(session, name, None);
        Ok((stream, facts))
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that covers the name; else the first of all, for the client to judge.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let covers = |found: &&Candidate| name.as_deref().is_some_and(|name| found.covers(name));
        let found = self.0.iter().find(covers).or(self.0.first());
        found.map(|candidate| candidate.key().current())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}
