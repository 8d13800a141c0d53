//! Certificates and keys for Secrets of a scenario, `${certificate:NAME}` and `${key:NAME}`: self-signed,
//! one a name while the process runs, in base64 as a Secret holds them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::failure::Mismatch;

#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

pub fn value(what: &str, name: &str) -> Result<String, Mismatch> {
    let pair = pair(name).map_err(|error| Mismatch::new("a name for a certificate", error))?;
    match what {
        "certificate" => Ok(STANDARD.encode(pair.certificate)),
        "key" => Ok(STANDARD.encode(pair.key)),
        _ => Err(Mismatch::new("bound:, certificate: or key:", what)),
    }
}

fn pair(name: &str) -> Result<Pair, String> {
    static MADE: Mutex<BTreeMap<String, Pair>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pair) = made.get(name) {
        return Ok(pair.clone());
    }
    // What follows a slash only tells certificates of one name apart.
    let host = name.split('/').next().unwrap_or(name);
    let signed =
        rcgen::generate_simple_self_signed([host.to_owned()]).map_err(|error| error.to_string())?;
    let pair = Pair { certificate: signed.cert.pem(), key: signed.signing_key.serialize_pem() };
    made.insert(name.to_owned(), pair.clone());
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_pair() {
        let first = value("certificate", "a.test").unwrap();
        assert_eq!(value("certificate", "a.test").unwrap(), first);
        assert_ne!(value("certificate", "a.test/2").unwrap(), first);
        let key = STANDARD.decode(value("key", "a.test").unwrap()).unwrap();
        assert!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"));
        assert!(value("secret", "a.test").is_err());
    }
}
