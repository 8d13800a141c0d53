//! A certificate with its key as clients are shown it: with the word of its authority that it stands (RFC 6066 section
//! 8), where there is one. Where that word comes from is the caller's matter.

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::sync::{Arc, PoisonError, RwLock};

pub struct ServedKey {
    plain: Arc<CertifiedKey>,
    /// The lock is taken in handshakes, and once in hours to change what is in it.
    stapled: RwLock<Option<Arc<CertifiedKey>>>,
}

impl ServedKey {
    pub(crate) fn new(key: CertifiedKey) -> ServedKey {
        ServedKey { plain: Arc::new(key), stapled: RwLock::default() }
    }

    /// The leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.plain.cert
    }

    /// An OCSP response that new handshakes show, or none.
    pub fn staple(&self, response: Option<Vec<u8>>) {
        let stapled = response.map(|ocsp| {
            Arc::new(CertifiedKey { ocsp: Some(ocsp), ..CertifiedKey::clone(&self.plain) })
        });
        *self.stapled.write().unwrap_or_else(PoisonError::into_inner) = stapled;
    }

    pub(crate) fn plain(&self) -> &Arc<CertifiedKey> {
        &self.plain
    }

    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        let stapled = self.stapled.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(stapled.as_ref().unwrap_or(&self.plain))
    }
}
