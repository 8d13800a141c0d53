//! Certificates of clients: whom a listener believes, what a certificate says, and its form for backends (RFC 9440).
//! The handshake itself is `tls`; which backends are told is a rule's matter (`request_head`).

use crate::tls::provider;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Digest;
use model::front::{ClientTrust, ForwardedCertificate};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, HandshakeKind, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A client's certificate that was found valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Such as `CN=Anna, O=Shop`.
    pub subject: String,
    /// SHA-256 of the certificate in DER, as hexadecimal digits.
    pub fingerprint: String,
    /// Value of `Client-Cert`: a byte sequence of structured fields (RFC 8941 section 3.3.5).
    header: Box<[u8]>,
    /// Value of `Client-Cert-Chain`; empty where the client sent no further certificate.
    chain: Box<[u8]>,
}

impl ClientCertificate {
    fn of(chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
        let (leaf, above) = chain.split_first()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let above: Vec<String> = above.iter().map(|der| byte_sequence(der)).collect();
        Some(ClientCertificate {
            subject: parsed.subject().to_string(),
            fingerprint: Digest::of_bytes(leaf).to_string(),
            header: byte_sequence(leaf).into_bytes().into(),
            chain: above.join(", ").into_bytes().into(),
        })
    }

    /// The field lines for a backend.
    pub(crate) fn lines(
        &self,
        forwarded: ForwardedCertificate,
    ) -> impl Iterator<Item = (&'static [u8], &[u8])> {
        let leaf = (forwarded >= ForwardedCertificate::Leaf).then_some(&*self.header);
        let chain = (forwarded >= ForwardedCertificate::Chain).then_some(&*self.chain);
        let chain = chain.filter(|value| !value.is_empty());
        let names: [&'static [u8]; 2] = [b"client-cert", b"client-cert-chain"];
        names.into_iter().zip([leaf, chain]).filter_map(|(name, value)| Some((name, value?)))
    }
}

fn byte_sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// Whom a listener believes.
#[derive(Debug)]
pub(crate) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    is_required: bool,
    /// Connections that were made under another trust are for other listeners.
    pub trust: Digest,
}

/// A client that has to show a certificate, and has none that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotBelieved;

impl Clients {
    /// None where no authority can be used: nobody could be believed.
    pub fn new(trust: &ClientTrust) -> Option<Clients> {
        let mut roots = RootCertStore::empty();
        let ders = trust.authorities.iter().map(|der| CertificateDer::from(der.as_slice()));
        roots.add_parsable_certificates(ders);
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = builder.build().ok()?;
        Some(Clients { verifier, is_required: trust.is_required, trust: Digest::of(trust) })
    }

    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        match self.is_required {
            true => Arc::clone(&self.verifier),
            false => Arc::new(LetsAllIn(Arc::clone(&self.verifier))),
        }
    }

    /// Who the client is, once the handshake is over. A session that goes on is looked at again: its certificate may
    /// have ended since.
    pub fn judge(
        &self,
        session: &ServerConnection,
    ) -> Result<Option<ClientCertificate>, NotBelieved> {
        let was_verified =
            self.is_required && session.handshake_kind() != Some(HandshakeKind::Resumed);
        let chain = session.peer_certificates().unwrap_or_default();
        let holds = was_verified
            || chain.split_first().is_some_and(|(leaf, above)| {
                self.verifier.verify_client_cert(leaf, above, UnixTime::now()).is_ok()
            });
        let found = if holds { ClientCertificate::of(chain) } else { None };
        match found {
            None if self.is_required => Err(NotBelieved),
            found => Ok(found),
        }
    }
}

/// Asks for a certificate and lets everybody in. That the client has the key to what it shows is verified all the same.
#[derive(Debug)]
struct LetsAllIn(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for LetsAllIn {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_asked() {
        let made = |names: &str| {
            let made = rcgen::generate_simple_self_signed(vec![names.to_owned()]);
            made.expect("a certificate").cert.der().clone()
        };
        let chain = [made("a.test"), made("b.test"), made("c.test")];
        let whole = ClientCertificate::of(&chain).expect("it can be read");
        let names =
            |forwarded| -> Vec<&[u8]> { whole.lines(forwarded).map(|(name, _)| name).collect() };
        assert!(names(ForwardedCertificate::Nothing).is_empty());
        assert_eq!(names(ForwardedCertificate::Leaf), [b"client-cert"]);
        assert_eq!(names(ForwardedCertificate::Chain), [&b"client-cert"[..], b"client-cert-chain"]);
        let value = |at: usize| -> Vec<u8> {
            let (_, value) = whole.lines(ForwardedCertificate::Chain).nth(at).expect("a line");
            value.to_vec()
        };
        assert_eq!(value(0), byte_sequence(&chain[0]).as_bytes());
        let above = format!("{}, {}", byte_sequence(&chain[1]), byte_sequence(&chain[2]));
        assert_eq!(value(1), above.as_bytes());
        let alone = ClientCertificate::of(&chain[..1]).expect("it can be read");
        assert_eq!(alone.lines(ForwardedCertificate::Chain).count(), 1);
        assert!(ClientCertificate::of(&[CertificateDer::from(&b"rubbish"[..])]).is_none());
    }
}
