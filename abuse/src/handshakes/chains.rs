//! Certificates of one root, each with a key and an intermediate CA of its own: a leaf of one with the intermediate of
//! another does not verify.

use std::sync::{Arc, Mutex};

use anyhow::{Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

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

    /// Trusts the root, and does not resume.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
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

    pub fn last(&self) -> Vec<Vec<u8>> {
        lock(&self.made).last().cloned().unwrap_or_default()
    }
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
