//! The certificate of a run, and the client's side of TLS: 1.3 only, one cipher suite and one group,
//! so that every server does the same arithmetic.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::http::HOST;
use crate::script::Protocol;

/// An ECDSA P-256 key with a certificate for the bench's host, made anew for each run.
#[derive(Clone)]
pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Result<Certificate> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate =
            rcgen::CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&key)?;
        Ok(Certificate {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
        })
    }

    /// A client that verifies the certificate in full: for the check before timing.
    pub fn verifying_client(&self, protocol: Protocol) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).context("the certificate of this run")?;
        let config = versions(provider())?.with_root_certificates(roots).with_no_client_auth();
        Ok(finish(config, protocol))
    }
}

/// A client that verifies nothing: the generator must be cheaper than the server, and this server
/// has just shown its certificate to [`Certificate::verifying_client`].
pub fn timed_client(protocol: Protocol) -> Result<Arc<ClientConfig>> {
    let config = versions(provider())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll))
        .with_no_client_auth();
    Ok(finish(config, protocol))
}

/// The name that every TLS connection asks for.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(HOST).expect("the bench's host is a valid DNS name")
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn versions(provider: CryptoProvider) -> Result<Builder> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    Ok(builder.with_protocol_versions(&[&rustls::version::TLS13])?)
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

fn finish(mut config: ClientConfig, protocol: Protocol) -> Arc<ClientConfig> {
    let name: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![name.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("the bench speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
