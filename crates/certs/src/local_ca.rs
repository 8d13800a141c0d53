//! The local certificate authority: made once, kept in `<state>/ca`, and issuing for names that no
//! Secret covers. Leaves and when they are renewed are in `leaf`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;

use crate::leaf::{self, Leaf};
use crate::state::{damaged, io_error, read, replace};
use crate::{Error, StateFolder};

/// Ten years.
const LIFE: Duration = Duration::from_secs(3653 * 24 * 3600);
/// Certificates begin a little before they are made, for clients whose clock is behind.
pub(crate) const HEAD_START: Duration = Duration::from_secs(3600);

/// A certificate authority of this machine, for development and tests.
///
/// Whoever trusts its certificate trusts every name it issues for, so its key never leaves the state
/// folder.
pub struct LocalCa {
    state: StateFolder,
    certificate: PathBuf,
    pem: String,
    name: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl LocalCa {
    /// Opens the authority of the folder, or makes one.
    pub fn open(state: &StateFolder, now: SystemTime) -> Result<Self, Error> {
        let folder = state.subfolder("ca")?;
        let files = Files { certificate: folder.join("ca.pem"), key: folder.join("ca.key") };
        let _lock = state.lock()?;
        let (pem, key) = match files.read()? {
            Some(found) => found,
            None => files.make(now)?,
        };
        files.opened(state, pem, &key, now)
    }

    /// The file to hand to `curl --cacert`.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The common name; it holds the host and the day it was made on, to be recognised by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// A certificate for these names (hostnames, wildcards, IP addresses), from the state folder or
    /// new: the one kept there serves until a third of its life is left.
    pub fn issue(&self, names: &[String], now: SystemTime) -> Result<Leaf, Error> {
        let names: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let path = self.state.subfolder("leaf")?.join(leaf::file_name(&names));
        let _lock = self.state.lock()?;
        if let Some(kept) = leaf::read_kept(&path)?
            && kept.serves(now, &self.pem)
        {
            return Ok(kept.leaf);
        }
        let made = leaf::make(&names, &self.issuer, now, self.not_after)?;
        replace(&path, made.file().as_bytes(), 0o600)?;
        Ok(made)
    }
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn read(&self) -> Result<Option<(String, String)>, Error> {
        let pem = read(&self.certificate).map_err(|error| self.both(error))?;
        let key = read(&self.key).map_err(|error| self.both(error))?;
        match (pem, key) {
            (Some(pem), Some(key)) => Ok(Some((pem, key))),
            (Some(_), None) => Err(self.damaged("its key, ca.key, is missing")),
            // The key is written first: alone it was never in use.
            (None, _) => Ok(None),
        }
    }

    fn make(&self, now: SystemTime) -> Result<(String, String), Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto("make a key"))?;
        let certificate =
            parameters(now).self_signed(&key).map_err(crypto("sign the CA certificate"))?;
        let (pem, key) = (certificate.pem(), key.serialize_pem());
        replace(&self.key, key.as_bytes(), 0o600)?;
        replace(&self.certificate, pem.as_bytes(), 0o644)?;
        Ok((pem, key))
    }

    fn opened(
        self,
        state: &StateFolder,
        pem: String,
        key: &str,
        now: SystemTime,
    ) -> Result<LocalCa, Error> {
        let key = KeyPair::from_pem(key)
            .map_err(|error| damaged(&self.key, format!("no private key can be read: {error}")))
            .map_err(|error| self.both(error))?;
        let issuer_pem = pem.clone();
        let (name, not_after) = with_certificate(&pem, |certificate| {
            if certificate.public_key().subject_public_key.data != key.public_key_raw() {
                return Err("it belongs to another key than ca.key".to_owned());
            }
            let names = certificate.subject().iter_common_name();
            let name = names.filter_map(|name| name.as_str().ok()).collect();
            Ok((name, instant(certificate.validity().not_after.timestamp())))
        })
        .map_err(|reason| self.damaged(&reason))?;
        if not_after <= now {
            return Err(self.damaged("it has expired"));
        }
        let issuer = Issuer::from_ca_cert_pem(&issuer_pem, key)
            .map_err(|error| self.damaged(&error.to_string()))?;
        let certificate =
            fs::canonicalize(&self.certificate).map_err(io_error("find", &self.certificate))?;
        Ok(LocalCa { state: state.clone(), certificate, pem, name, not_after, issuer })
    }

    /// The certificate is at fault, and without its key it is worth nothing.
    fn damaged(&self, reason: &str) -> Error {
        self.both(damaged(&self.certificate, reason))
    }

    fn both(&self, error: Error) -> Error {
        match error {
            Error::Damaged { path, reason, .. } => {
                let delete = vec![self.certificate.clone(), self.key.clone()];
                Error::Damaged { path, reason, delete }
            }
            other => other,
        }
    }
}

fn parameters(now: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, "Cutwater");
    parameters.distinguished_name.push(DnType::CommonName, name(now));
    parameters.not_before = (now - HEAD_START).into();
    parameters.not_after = (now + LIFE).into();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn name(now: SystemTime) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // A common name holds 64 characters, RFC 5280 appendix A.1.
    let host: String = host.chars().filter(char::is_ascii_graphic).take(32).collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    let today = OffsetDateTime::from(now).date();
    format!(
        "Cutwater local CA {host} {}-{:02}-{:02}",
        today.year(),
        u8::from(today.month()),
        today.day()
    )
}

/// Reads the first certificate of a PEM text.
pub(crate) fn with_certificate<T>(
    pem: &str,
    read: impl FnOnce(&X509Certificate<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let block = Pem::iter_from_buffer(pem.as_bytes())
        .filter_map(Result::ok)
        .find(|block| block.label == "CERTIFICATE")
        .ok_or("no certificate can be read")?;
    let certificate =
        block.parse_x509().map_err(|error| format!("no certificate can be read: {error}"))?;
    read(&certificate)
}

/// Seconds since 1970 as a time; what lies before 1970 has long expired.
pub(crate) fn instant(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

pub(crate) fn crypto(doing: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |cause| Error::Crypto { doing, cause: cause.to_string() }
}
