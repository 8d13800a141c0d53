//! TLS to backends: whom a backend has to prove to be, the edge's own certificate, the handshake. The other side, TLS to
//! clients, is `tls`; no other module knows rustls.

use crate::tls::provider;
use model::Text;
use model::traffic::{BackendProtocol, BackendTls, Trust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor,
    verify_server_name,
};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{Connect, TlsConnector};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A handshake made ready. Sessions are resumed among the connections that are made by it.
pub(crate) struct TlsDial {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why a backend is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The certificate is past its time, or not yet valid.
    Expired,
    /// The certificate is for other names.
    Name,
    /// No authority that is trusted stands behind the certificate.
    Authority,
    /// The backend does not take the edge's certificate, or wants one and is shown none.
    Client,
    /// The backend refuses the handshake without a reason: over TLS 1.2 often for want of a certificate.
    Refused,
    /// The backend speaks no version of TLS that the edge does.
    Version,
    /// Everything else, such as a backend that speaks no TLS, or never answers the handshake.
    Failed,
}

impl TlsDial {
    /// None where no name can be checked, or nobody is trusted.
    pub fn new(
        tls: &BackendTls,
        protocol: BackendProtocol,
        client_key: Option<Arc<ClientKey>>,
    ) -> Option<TlsDial> {
        let name = ServerName::try_from(tls.hostname.to_string()).ok()?;
        let verifier = verifier(tls)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match client_key {
            Some(key) => builder.with_client_cert_resolver(key),
            None => builder.with_no_client_auth(),
        };
        if protocol == BackendProtocol::Http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        if protocol != BackendProtocol::Opaque {
            config.alpn_protocols.push(b"http/1.1".to_vec());
        }
        Some(TlsDial { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Says too whether HTTP/2 was agreed on. The time limit is the caller's.
    pub async fn handshake(
        &self,
        io: TcpStream,
    ) -> Result<(Box<TlsStream<TcpStream>>, bool), TlsFault> {
        let stream = self.connect(io).await.map_err(|error| TlsFault::of(&error))?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), is_http2))
    }

    /// The handshake alone. What may be agreed on is in the session.
    pub fn connect(&self, io: TcpStream) -> Connect<TcpStream> {
        self.connector.connect(self.name.clone(), io)
    }
}

impl TlsFault {
    pub fn of(error: &io::Error) -> TlsFault {
        use CertificateError::*;
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(fault)) => match fault {
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
                    TlsFault::Expired
                }
                NotValidForName | NotValidForNameContext { .. } => TlsFault::Name,
                UnknownIssuer | BadSignature => TlsFault::Authority,
                _ => TlsFault::Failed,
            },
            Some(Error::AlertReceived(alert)) => match alert {
                AlertDescription::HandshakeFailure => TlsFault::Refused,
                AlertDescription::ProtocolVersion => TlsFault::Version,
                alert if speaks_of_certificate(*alert) => TlsFault::Client,
                _ => TlsFault::Failed,
            },
            Some(Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )) => TlsFault::Version,
            _ => TlsFault::Failed,
        }
    }
}

/// Only the edge's own can be meant: it is the other end that says so (RFC 8446 section 6.2).
fn speaks_of_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::*;
    matches!(
        alert,
        CertificateRequired
            | BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | UnknownCA
            | AccessDenied
    )
}

fn verifier(tls: &BackendTls) -> Option<Arc<dyn ServerCertVerifier>> {
    let roots = match &tls.trust {
        Trust::System => Arc::clone(system_roots()),
        Trust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(
                authorities.iter().map(|der| CertificateDer::from(der.as_slice())),
            );
            Arc::new(roots)
        }
    };
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider());
    let verifier = builder.build().ok()?;
    if tls.names.is_empty() && tls.uris.is_empty() {
        return Some(verifier);
    }
    let names: Vec<_> =
        tls.names.iter().filter_map(|name| ServerName::try_from(name.to_string()).ok()).collect();
    let named = AnyName { roots, verifier, names, uris: tls.uris.clone() };
    let can_hold = !named.names.is_empty() || !named.uris.is_empty();
    can_hold.then(|| Arc::new(named) as Arc<dyn ServerCertVerifier>)
}

/// Verifies that the certificate has one of some names or URIs, whatever the name that was asked for.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    /// For signatures.
    verifier: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
    uris: Vec<Text>,
}

impl AnyName {
    fn has_uri(&self, certificate: &CertificateDer<'_>) -> bool {
        let parsed = X509Certificate::from_der(certificate);
        let names =
            parsed.as_ref().ok().and_then(|(_, parsed)| parsed.subject_alternative_name().ok());
        let names = names.flatten().map(|extension| &extension.value.general_names);
        names.into_iter().flatten().any(|name| match name {
            GeneralName::URI(uri) => self.uris.iter().any(|wanted| **wanted == **uri),
            _ => false,
        })
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let has_name = self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok());
        match has_name || (!self.uris.is_empty() && self.has_uri(end_entity)) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The certificate that the edge shows to a backend. It changes with its Secret, under dials that stay; the lock is
/// taken in handshakes only.
#[derive(Debug, Default)]
pub(crate) struct ClientKey(RwLock<Option<Arc<CertifiedKey>>>);

impl ClientKey {
    pub fn set(&self, key: Option<Arc<CertifiedKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesClientCert for ClientKey {
    /// Without the Secret none is shown: whether that is enough is the backend's to say.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.get().filter(|key| key.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.get().is_some()
    }
}

/// The authorities that the machine trusts, read when a policy first asks for them.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let usual = BUNDLES.iter().map(PathBuf::from);
        let found = named.into_iter().chain(usual).find_map(|path| read_roots(&path));
        Arc::new(found.unwrap_or_else(RootCertStore::empty))
    })
}

/// Where systems keep all of them in one file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What cannot be parsed is passed over; none when nothing is left.
fn read_roots(path: &Path) -> Option<RootCertStore> {
    let bundle = std::fs::read(path).ok()?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    (!roots.is_empty()).then_some(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_past_what_is_no_certificate() {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]);
        let made = made.expect("a certificate");
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let name = format!("cutwater-edge-roots-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, format!("# all\n{rubbish}{}", made.cert.pem())).expect("a file");
        let roots = read_roots(&path);
        std::fs::write(&path, rubbish).expect("a file");
        assert_eq!(roots.map(|roots| roots.len()), Some(1));
        assert!(read_roots(&path).is_none());
        std::fs::remove_file(&path).expect("removed");
        assert!(read_roots(&path).is_none());
    }
}
