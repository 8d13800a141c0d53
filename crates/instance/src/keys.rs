//! Certificates with their keys: from Secrets of the folder, and from the local CA for Secrets that nobody wrote.

use certs::LocalCa;
use edge::KeyTable;
use manifest::Inputs;
use model::certificates::Source;
use model::{HostPattern, ObjectId, Snapshot};
use std::time::SystemTime;

/// What could not be had is said in one sentence each; the rest serves.
pub fn table(
    inputs: &Inputs,
    snapshot: &Snapshot,
    ca: &LocalCa,
    previous: &KeyTable,
) -> (KeyTable, Vec<String>) {
    let mut faults = Vec::new();
    let mut issued: Vec<(ObjectId, certs::Leaf)> = Vec::new();
    for certificate in &snapshot.certificates.certificates {
        if let Source::Missing { hosts } = &certificate.source {
            match ca.issue(&names(hosts), SystemTime::now()) {
                Ok(leaf) => issued.push((certificate.secret.clone(), leaf)),
                Err(error) => faults
                    .push(format!("{}: the local CA cannot issue it: {error}", certificate.secret)),
            }
        }
    }
    let secrets = inputs.secrets().filter_map(|(object, secret)| {
        let pair = secret.tls.as_ref()?;
        Some((object.id.clone(), pair.chain_pem.as_str(), pair.key_pem()))
    });
    let issued = issued
        .iter()
        .map(|(id, leaf)| (id.clone(), leaf.chain_pem.as_str(), leaf.key_pem.as_str()));
    let (table, unusable) = KeyTable::build(secrets.chain(issued), Some(previous));
    faults.extend(unusable.into_iter().map(|(secret, error)| format!("{secret}: {error}")));
    (table, faults)
}

/// A listener for any host gets a certificate for `localhost`, so that a handshake is possible at all.
fn names(hosts: &[HostPattern]) -> Vec<String> {
    let names: Vec<String> =
        hosts.iter().filter(|host| **host != HostPattern::Any).map(ToString::to_string).collect();
    if names.is_empty() { vec!["localhost".to_owned()] } else { names }
}
