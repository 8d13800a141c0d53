//! Certificates that the local CA issued: made, kept in `<state>/leaf`, read back, and judged whether
//! they still serve.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use crate::Error;
use crate::local_ca::{HEAD_START, crypto, instant, with_certificate};
use crate::state::{damaged, read};

/// Ninety days.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// A server certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate; the CA that clients trust is not part of it.
    pub chain_pem: String,
    pub key_pem: String,
    pub not_after: SystemTime,
}

impl Leaf {
    pub(crate) fn file(&self) -> String {
        format!("{}{}", self.chain_pem, self.key_pem)
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain_pem, key_pem: _, not_after } = self;
        out.debug_struct("Leaf")
            .field("chain_pem", chain_pem)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

/// A certificate as it was found in the state folder.
pub(crate) struct Kept {
    pub(crate) leaf: Leaf,
    not_before: SystemTime,
}

impl Kept {
    /// Whether this CA signed it and over a third of its life is left.
    pub(crate) fn serves(&self, now: SystemTime, ca_pem: &str) -> bool {
        let life = self.leaf.not_after.duration_since(self.not_before).unwrap_or_default();
        let left = self.leaf.not_after.duration_since(now).unwrap_or_default();
        self.not_before <= now && left >= life / 3 && signed_by(&self.leaf.chain_pem, ca_pem)
    }
}

pub(crate) fn file_name(names: &BTreeSet<String>) -> String {
    let joined: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{}.pem", hex(digest(&SHA256, joined.join("\n").as_bytes()).as_ref()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn make(
    names: &BTreeSet<String>,
    issuer: &Issuer<'_, KeyPair>,
    now: SystemTime,
    ca_not_after: SystemTime,
) -> Result<Leaf, Error> {
    let refuse = |reason: String| Error::Names { names: names.iter().cloned().collect(), reason };
    let Some(first) = names.first() else { return Err(refuse("the list is empty".to_owned())) };
    let not_after = (now + LIFE).min(ca_not_after);
    let alternatives: Vec<String> = names.iter().cloned().collect();
    let mut parameters =
        CertificateParams::new(alternatives).map_err(|error| refuse(error.to_string()))?;
    parameters.distinguished_name = DistinguishedName::new();
    // Only for people: names are judged by the alternatives (RFC 9525 section 2). 64 characters at
    // most, RFC 5280 appendix A.1.
    if first.len() <= 64 {
        parameters.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    parameters.not_before = (now - HEAD_START).into();
    parameters.not_after = not_after.into();
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto("make a key"))?;
    let certificate = parameters.signed_by(&key, issuer).map_err(crypto("sign a certificate"))?;
    let chain_pem = certificate.pem();
    // As the certificate says it, in whole seconds.
    let not_after = not_after_of(&chain_pem).unwrap_or(not_after);
    Ok(Leaf { chain_pem, key_pem: key.serialize_pem(), not_after })
}

/// What the state folder keeps under this name, if anything.
pub(crate) fn read_kept(path: &Path) -> Result<Option<Kept>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    kept(&text).map(Some).map_err(|reason| damaged(path, reason))
}

fn kept(text: &str) -> Result<Kept, String> {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----";
    let at = text.find(KEY).ok_or("no private key can be read")?;
    let (chain_pem, key_pem) = text.split_at(at);
    let key = KeyPair::from_pem(key_pem)
        .map_err(|error| format!("no private key can be read: {error}"))?;
    with_certificate(chain_pem, |certificate| {
        if certificate.public_key().subject_public_key.data != key.public_key_raw() {
            return Err("the certificate and the key do not belong together".to_owned());
        }
        let validity = certificate.validity();
        let leaf = Leaf {
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            not_after: instant(validity.not_after.timestamp()),
        };
        Ok(Kept { leaf, not_before: instant(validity.not_before.timestamp()) })
    })
}

fn not_after_of(pem: &str) -> Result<SystemTime, String> {
    with_certificate(pem, |found| Ok(instant(found.validity().not_after.timestamp())))
}

fn signed_by(pem: &str, ca_pem: &str) -> bool {
    with_certificate(ca_pem, |ca| {
        with_certificate(pem, |leaf| {
            Ok(leaf.issuer() == ca.subject()
                && leaf.verify_signature(Some(ca.public_key())).is_ok())
        })
    })
    .unwrap_or(false)
}
