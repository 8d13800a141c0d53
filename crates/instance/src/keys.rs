//! Certificates with their keys: from Secrets of the folder, and from the local CA for Secrets that nobody wrote.

use certs::{Leaf, LocalCa};
use edge::KeyTable;
use manifest::Inputs;
use model::certificates::Source;
use model::{HostPattern, ObjectId, Snapshot};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// A leaf of the local CA is issued anew when this much of its ninety days is left.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// The table that is served, and the local CA's leaves in it, so that a reload asks the CA only for new names.
#[derive(Default)]
pub struct Keys {
    pub table: KeyTable,
    leaves: HashMap<Vec<String>, Leaf>,
}

impl Keys {
    /// Makes the table for a plan. What could not be had is said in one sentence each; the rest serves.
    pub fn renew(
        &mut self,
        inputs: &Inputs,
        snapshot: &Snapshot,
        ca: &LocalCa,
        now: SystemTime,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let mut leaves = HashMap::new();
        let mut issued: Vec<(ObjectId, Leaf)> = Vec::new();
        for certificate in &snapshot.certificates.certificates {
            let Source::Missing { hosts } = &certificate.source else { continue };
            let names = names(hosts);
            match self.leaf(&names, ca, now) {
                Ok(leaf) => {
                    issued.push((certificate.secret.clone(), leaf.clone()));
                    leaves.insert(names, leaf);
                }
                Err(error) => faults
                    .push(format!("{}: the local CA cannot issue it: {error}", certificate.secret)),
            }
        }
        let secrets = inputs.secrets().filter_map(|(object, secret)| {
            let pair = secret.tls.as_ref()?;
            Some((object.id.clone(), pair.chain_pem.as_str(), pair.key_pem()))
        });
        let issued = issued
            .iter()
            .map(|(id, leaf)| (id.clone(), leaf.chain_pem.as_str(), leaf.key_pem.as_str()));
        let (table, unusable) = KeyTable::build(secrets.chain(issued), Some(&self.table));
        faults.extend(unusable.into_iter().map(|(secret, error)| format!("{secret}: {error}")));
        self.table = table;
        self.leaves = leaves;
        faults
    }

    /// True when a leaf of the local CA should be issued anew.
    pub fn are_due(&self, now: SystemTime) -> bool {
        self.leaves.values().any(|leaf| is_due(leaf, now))
    }

    fn leaf(&self, names: &[String], ca: &LocalCa, now: SystemTime) -> Result<Leaf, certs::Error> {
        match self.leaves.get(names) {
            Some(leaf) if !is_due(leaf, now) => Ok(leaf.clone()),
            _ => ca.issue(names, now),
        }
    }
}

fn is_due(leaf: &Leaf, now: SystemTime) -> bool {
    leaf.not_after <= now + RENEW_BEFORE
}

/// A listener for any host gets a certificate for `localhost`, so that a handshake is possible at all.
fn names(hosts: &[HostPattern]) -> Vec<String> {
    let names: Vec<String> =
        hosts.iter().filter(|host| **host != HostPattern::Any).map(ToString::to_string).collect();
    if names.is_empty() { vec!["localhost".to_owned()] } else { names }
}
