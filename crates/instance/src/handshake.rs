//! A TLS handshake with our own entry, to see what a client is shown. Nothing is sent over the connection.

use explain::Handshake;
use manifest::pem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(2);

/// An error is one clause: "connection refused", "the server sent alert handshake_failure".
pub async fn probe(
    address: SocketAddr,
    name: &str,
    local_ca_pem: &str,
) -> Result<Handshake, String> {
    match tokio::time::timeout(PATIENCE, shake(address, name, local_ca_pem)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no handshake within {} s", PATIENCE.as_secs())),
    }
}

/// A session with whoever is there: no certificate is refused, it is only looked at.
pub async fn unverified(
    stream: TcpStream,
    name: &str,
) -> Result<(TlsStream<TcpStream>, Vec<CertificateDer<'static>>), String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let witness = Arc::new(Witness { provider: Arc::clone(&provider), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let connection = TlsConnector::from(Arc::new(config))
        .connect(server, stream)
        .await
        .map_err(|error| error.to_string())?;
    let chain = std::mem::take(&mut *witness.chain.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((connection, chain))
}

async fn shake(address: SocketAddr, name: &str, local_ca_pem: &str) -> Result<Handshake, String> {
    let stream =
        TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    let (connection, chain) = unverified(stream, name).await?;
    let version = match connection.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS",
    };
    let leaf = chain.first().ok_or("no certificate was sent")?;
    let facts = pem::leaf_of_der(leaf)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    Ok(Handshake {
        version: version.to_owned(),
        names: facts.names,
        issuer: facts.issuer.to_string(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        chain: judge_chain(&chain, local_ca_pem, &facts.issuer),
    })
}

/// Whether the chain leads to the local CA. Other issuers are not ours to judge, and said so.
fn judge_chain(
    chain: &[CertificateDer<'static>],
    local_ca_pem: &str,
    issuer: &str,
) -> Result<(), String> {
    let unknown = || format!("chain not verified: {issuer} is not the local CA");
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(local_ca_pem.as_bytes()).map_err(|_| unknown())?;
    roots.add(root).map_err(|_| unknown())?;
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::new(aws_lc_rs::default_provider()),
    )
    .build()
    .map_err(|_| unknown())?;
    let (leaf, intermediates) = chain.split_first().ok_or_else(unknown)?;
    let now = UnixTime::now();
    let name = ServerName::try_from("name.invalid").map_err(|_| unknown())?;
    match verifier.verify_server_cert(leaf, intermediates, &name, &[], now) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(fault)) if is_judged_elsewhere(&fault) => Ok(()),
        Err(_) => Err(unknown()),
    }
}

/// Names and times are the explainer's to judge: here only the way to the root counts.
fn is_judged_elsewhere(fault: &CertificateError) -> bool {
    matches!(
        fault,
        CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

/// Accepts every chain and keeps it: we look at our own entry, and send nothing.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
