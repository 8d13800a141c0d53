//! Certificates of one root, each with a key and an intermediate CA of its own: a leaf of one with the intermediate of
//! another does not verify. And the client that shakes hands with them.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

use crate::origin::lock;
use crate::subject::{ABUSED, Certificate, GOOD};

pub struct Chains {
    issuer: Issuer<'static, KeyPair>,
    client: Arc<ClientConfig>,
    /// Every chain that was made.
    made: Mutex<Vec<Vec<Vec<u8>>>>,
}

impl Chains {
    pub fn new() -> Result<Chains> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let parameters = authority("root");
        let root = parameters.self_signed(&key)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session shows no chain.
        client.resumption = rustls::client::Resumption::disabled();
        let issuer = Issuer::new(parameters, key);
        Ok(Chains { issuer, client: Arc::new(client), made: Mutex::default() })
    }

    /// A session that has not begun. It trusts the root, and does not resume.
    pub fn session(&self) -> Result<ClientConnection> {
        Ok(ClientConnection::new(Arc::clone(&self.client), ServerName::try_from(ABUSED)?)?)
    }

    /// The chain that the server showed, verified with its signature against the root.
    pub fn handshake(&self, address: SocketAddr) -> Result<Vec<Vec<u8>>> {
        let mut stream = connect(address)?;
        let mut session = self.session()?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let chain = session.peer_certificates().context("no certificate")?;
        Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
    }

    pub fn make(&self) -> Result<Certificate> {
        let number = lock(&self.made).len();
        let between_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let parameters = authority(&format!("intermediate {number}"));
        let between = parameters.signed_by(&between_key, &self.issuer)?;
        let issuer = Issuer::new(parameters, between_key);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = vec![ABUSED.to_owned(), GOOD.to_owned()];
        let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        lock(&self.made).push(vec![leaf.der().to_vec(), between.der().to_vec()]);
        let chain_pem = leaf.pem() + &between.pem();
        Ok(Certificate { chain_pem, key_pem: key.serialize_pem() })
    }

    /// Whether a chain is one that was made, whole.
    pub fn knows(&self, chain: &[Vec<u8>]) -> Result<()> {
        match lock(&self.made).iter().any(|made| made == chain) {
            true => Ok(()),
            false => bail!("a chain of {} certificates that nobody made", chain.len()),
        }
    }

    /// Whether a handshake shows the chain that was made last, before this time is over.
    pub fn serves_last(&self, address: SocketAddr, within: Duration) -> bool {
        let (last, end) = (self.last(), Instant::now() + within);
        loop {
            if self.handshake(address).is_ok_and(|chain| chain == last) {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn last(&self) -> Vec<Vec<u8>> {
        lock(&self.made).last().cloned().unwrap_or_default()
    }
}

/// What either side of a handshake has for one read or write.
pub const PATIENCE: Duration = Duration::from_secs(3);

pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_two_halves_is_not_known() {
        let chains = Chains::new().unwrap();
        chains.make().unwrap();
        let first = chains.last();
        chains.make().unwrap();
        let second = chains.last();
        assert!(chains.knows(&first).is_ok() && chains.knows(&second).is_ok());
        let mixed = [first[0].clone(), second[1].clone()];
        assert!(chains.knows(&mixed).is_err() && chains.knows(&first[..1]).is_err());
    }
}
