//! Certificates and keys in PEM. What is kept of a pair is the PEM itself and what the leaf says; the key never
//! appears in `Debug`.

use crate::codes;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use model::certificates::Leaf;
use model::{Code, Digest, HostPattern, Text};
use std::fmt;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate chain and its key, checked to belong together.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    pub chain_pem: String,
    key_pem: String,
    pub leaf: Leaf,
}

/// What is wrong with a pair.
#[derive(Debug)]
pub struct Fault {
    pub code: &'static Code,
    /// True for the key, false for the certificate.
    pub in_key: bool,
    pub message: String,
    pub help: &'static str,
}

impl KeyPair {
    /// Reads a pair. A warning may come with a pair that is usable.
    pub(crate) fn parse(chain: &[u8], key: &[u8]) -> Result<(KeyPair, Option<Fault>), Fault> {
        let chain_pem = text(chain, false)?;
        let key_pem = text(key, true)?;
        let ders = certificates(chain_pem)?;
        let certificates: Vec<X509Certificate<'_>> =
            ders.iter().map(|der| certificate(der)).collect::<Result<_, _>>()?;
        let Some(leaf) = certificates.first() else {
            return Err(bad_pem(false, "the text holds no certificate"));
        };
        let public = public_key(key_pem)?;
        let certified: &[u8] = &leaf.public_key().subject_public_key.data;
        if public != certified {
            return Err(mismatch(&certificates, &public));
        }
        let warning = misordered(&certificates);
        let leaf = facts(chain, leaf);
        let (chain_pem, key_pem) = (chain_pem.to_owned(), key_pem.to_owned());
        Ok((KeyPair { chain_pem, key_pem, leaf }, warning))
    }

    /// For the TLS stack alone.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

fn bad_pem(in_key: bool, message: impl Into<String>) -> Fault {
    let help = if in_key {
        "PKCS#8, SEC1 or PKCS#1 in PEM: `-----BEGIN PRIVATE KEY-----` and so on; RSA, ECDSA P-256 or P-384, or Ed25519"
    } else {
        "PEM begins with `-----BEGIN CERTIFICATE-----`"
    };
    Fault { code: &codes::BAD_PEM, in_key, message: message.into(), help }
}

fn text(bytes: &[u8], in_key: bool) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| bad_pem(in_key, "this is no PEM but binary data"))
}

fn certificates(text: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let mut ders = Vec::new();
    for block in Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|_| bad_pem(false, "the PEM of the certificate is damaged"))?;
        match &*block.label {
            "CERTIFICATE" => ders.push(block.contents),
            label => {
                let message = format!("a chain holds certificates alone, this one holds a {label}");
                return Err(bad_pem(false, message));
            }
        }
    }
    if ders.is_empty() {
        return Err(bad_pem(false, "the text holds no certificate"));
    }
    Ok(ders)
}

/// Certificates of authorities in DER, or why the text holds none. Said by whoever needs them: a ConfigMap may hold
/// `ca.crt` for others.
pub type Authorities = Arc<Result<Vec<Vec<u8>>, Text>>;

pub(crate) fn authorities(pem: &[u8]) -> Authorities {
    let read = || {
        let ders = certificates(text(pem, false)?)?;
        ders.iter().try_for_each(|der| certificate(der).map(|_| ()))?;
        Ok(ders)
    };
    Arc::new(read().map_err(|fault: Fault| fault.message.into()))
}

/// Whether the certificate may stand behind others (RFC 5280 section 4.2.1.9). Of version 1, which cannot say, all may.
pub fn is_authority(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, found)| {
        found.is_ca() || found.version() == x509_parser::x509::X509Version::V1
    })
}

/// Of a certificate that is no authority and that another one issued, who that is: what it stands behind is nothing that
/// an authority would have it stand behind. One that is signed by itself stands for itself.
pub fn issuer_of_no_authority(der: &[u8]) -> Option<String> {
    let (_, found) = X509Certificate::from_der(der).ok().filter(|_| !is_authority(der))?;
    (found.issuer() != found.subject()).then(|| found.issuer().to_string())
}

/// As text, such as `CN=Clients`.
pub fn subject(der: &[u8]) -> Option<String> {
    X509Certificate::from_der(der).ok().map(|(_, found)| found.subject().to_string())
}

/// What a certificate in DER says of itself, as a client is shown it.
pub fn leaf_of_der(der: &[u8]) -> Result<Leaf, &'static str> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(facts(der, &certificate)),
        Err(_) => Err("it is no X.509 certificate"),
    }
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, Fault> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => Err(bad_pem(false, "a certificate of the chain cannot be read")),
    }
}

/// The public key of a private one, in the form that a certificate holds it.
fn public_key(pem: &str) -> Result<Vec<u8>, Fault> {
    let block = private_key(pem)?;
    let der = &block.contents;
    let found = match &*block.label {
        "PRIVATE KEY" => from_pkcs8(der),
        "EC PRIVATE KEY" => CURVES.iter().find_map(|curve| {
            let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
            Some(pair.public_key().as_ref().to_vec())
        }),
        "RSA PRIVATE KEY" => {
            RsaKeyPair::from_der(der).ok().map(|pair| pair.public_key().as_ref().to_vec())
        }
        "ENCRYPTED PRIVATE KEY" => {
            return Err(bad_pem(true, "the key is encrypted; a Secret holds it in the clear"));
        }
        label => return Err(bad_pem(true, format!("a private key is wanted, not a {label}"))),
    };
    found.ok_or_else(|| bad_pem(true, "the key cannot be read, or is of a kind that is not served"))
}

/// The block that holds the key: OpenSSL writes EC PARAMETERS before it.
fn private_key(pem: &str) -> Result<Pem, Fault> {
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|_| bad_pem(true, "the PEM of the key is damaged"))?;
        if block.label != "EC PARAMETERS" {
            return Ok(block);
        }
    }
    Err(bad_pem(true, "the text holds no private key"))
}

const CURVES: [&EcdsaSigningAlgorithm; 2] =
    [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING];

fn from_pkcs8(der: &[u8]) -> Option<Vec<u8>> {
    let curve = |curve: &&'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::from_pkcs8(curve, der).ok()?;
        Some(pair.public_key().as_ref().to_vec())
    };
    let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(|pair| pair.public_key().as_ref().to_vec());
    let ed25519 = || {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        Some(pair.public_key().as_ref().to_vec())
    };
    CURVES.iter().find_map(curve).or_else(ed25519).or_else(rsa)
}

fn mismatch(chain: &[X509Certificate<'_>], public: &[u8]) -> Fault {
    let belongs = |c: &X509Certificate<'_>| *c.public_key().subject_public_key.data == *public;
    if chain.iter().any(belongs) {
        return Fault {
            code: &codes::KEY_MISMATCH,
            in_key: false,
            message: "the key belongs to a later certificate of the chain, not to the first".into(),
            help: "put the leaf first, then each issuer",
        };
    }
    Fault {
        code: &codes::KEY_MISMATCH,
        in_key: true,
        message: "the key does not belong to the certificate".into(),
        help: "put the pair together that was issued together",
    }
}

/// The first certificate that is not followed by its issuer.
fn misordered(chain: &[X509Certificate<'_>]) -> Option<Fault> {
    let at = chain.windows(2).position(|pair| pair[0].issuer() != pair[1].subject())?;
    Some(Fault {
        code: &codes::CHAIN_ORDER,
        in_key: false,
        message: format!(
            "certificate {} of the chain (\"{}\") is not followed by its issuer",
            at + 1,
            chain[at].subject()
        ),
        help: "put the leaf first, then each issuer",
    })
}

/// Names are those of the subject's alternative names alone: no client reads the common name any more (RFC 9525
/// section 6.2 and appendix A).
fn facts(chain: &[u8], leaf: &X509Certificate<'_>) -> Leaf {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => HostPattern::parse_one_label(name).ok(),
        _ => None,
    });
    let mut dns: Vec<HostPattern> = dns.filter(|pattern| *pattern != HostPattern::Any).collect();
    dns.sort();
    dns.dedup();
    Leaf {
        chain: Digest::of_bytes(chain),
        names: dns,
        issuer: Text::from(leaf.issuer().to_string()),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, DnType, Issuer, KeyPair as TestKey, PKCS_ECDSA_P256_SHA256,
        PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
    };

    /// The pair of Example CA and a leaf that it issued.
    fn chain(algorithm: &'static SignatureAlgorithm) -> (String, String, String) {
        let ca_key = TestKey::generate().expect("a key can be made");
        let mut ca = CertificateParams::new(vec![]).expect("no names");
        ca.distinguished_name.push(DnType::CommonName, "Example CA");
        let ca_pem = ca.self_signed(&ca_key).expect("it signs itself").pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = TestKey::generate_for(algorithm).expect("a key can be made");
        let names = ["b.example.test", "*.a.example.test", "192.0.2.1"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names).expect("good names");
        leaf.distinguished_name.push(DnType::CommonName, "not-a-name.example.test");
        let leaf_pem = leaf.signed_by(&key, &issuer).expect("the CA signs it").pem();
        (leaf_pem, ca_pem, key.serialize_pem())
    }

    fn fault(chain: &str, key: &str) -> Option<(&'static str, bool)> {
        match KeyPair::parse(chain.as_bytes(), key.as_bytes()) {
            Ok((_, warning)) => warning.map(|fault| (fault.code.slug, fault.in_key)),
            Err(fault) => Some((fault.code.slug, fault.in_key)),
        }
    }

    #[test]
    fn reads_what_the_leaf_says() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (leaf, ca, key) = chain(algorithm);
            let chain = format!("{leaf}{ca}");
            let (pair, warning) = KeyPair::parse(chain.as_bytes(), key.as_bytes()).expect("good");
            assert!(warning.is_none(), "{warning:?}");
            let names: Vec<String> = pair.leaf.names.iter().map(ToString::to_string).collect();
            assert_eq!(names, ["b.example.test", "*.a.example.test"]);
            assert_eq!(pair.leaf.issuer.as_ref(), "CN=Example CA");
            assert!(pair.leaf.not_before < pair.leaf.not_after);
            assert!(!format!("{pair:?}").contains("PRIVATE"));
            assert_eq!(pair.key_pem(), key);
        }
    }

    #[test]
    fn says_which_half_is_wrong() {
        let (leaf, ca, key) = chain(&PKCS_ECDSA_P256_SHA256);
        let (_, other_ca, other_key) = chain(&PKCS_ECDSA_P256_SHA256);
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (chain, key, expected) in [
            (leaf.clone(), key.as_str(), None),
            (leaf.clone(), other_key.as_str(), Some(("key-mismatch", true))),
            (format!("{ca}{leaf}"), key.as_str(), Some(("key-mismatch", false))),
            (format!("{leaf}{leaf}{ca}"), key.as_str(), Some(("chain-order", false))),
            (format!("{leaf}{key}"), key.as_str(), Some(("bad-pem", false))),
            (String::new(), key.as_str(), Some(("bad-pem", false))),
            (leaf[..leaf.len() / 2].to_owned(), key.as_str(), Some(("bad-pem", false))),
            (leaf.clone(), "", Some(("bad-pem", true))),
            (leaf.clone(), encrypted, Some(("bad-pem", true))),
            (leaf.clone(), leaf.as_str(), Some(("bad-pem", true))),
            (other_ca, key.as_str(), Some(("key-mismatch", true))),
        ] {
            assert_eq!(fault(&chain, key), expected, "{chain}");
        }
    }

    /// The forms that OpenSSL writes beside PKCS#8: SEC1 for EC, PKCS#1 for RSA.
    #[test]
    fn reads_the_older_forms_of_keys() {
        let (ec, rsa) =
            (include_str!("../tests/keys/ec.pem"), include_str!("../tests/keys/rsa.pem"));
        for (name, text, header) in [
            ("ec", ec, "-----BEGIN EC PRIVATE KEY-----"),
            ("rsa", rsa, "-----BEGIN RSA PRIVATE KEY-----"),
        ] {
            let at = text.find("-----BEGIN CERTIFICATE-----").expect("the certificate follows");
            let (key, certificate) = text.split_at(at);
            assert!(key.contains(header), "{name}");
            assert_eq!(fault(certificate, key), None, "{name}");
        }
    }
}
