//! What connecting to the endpoints of a backend takes, made ready once for all policies that ask for the same. The
//! connections themselves are made in `upstream`.

use crate::deadline::millis;
use crate::tls::KeyTable;
use crate::tls_client::{ClientKey, TlsDial};
use model::id::ServicePort;
use model::traffic::{BackendPolicy, BackendProtocol, ProxyProtocol};
use model::{Digest, ObjectId, limits};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use traffic::Connections;

/// The part of a backend's policy that a connection is made by.
pub(crate) struct Dial {
    /// Connections are shared by those who want the same: what tells one dial from another in their pool.
    pub number: u32,
    pub protocol: BackendProtocol,
    pub security: Security,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub connect_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    /// Idle connections to one endpoint that a worker keeps.
    pub max_idle: usize,
    /// Where their number is limited.
    pub connections: Option<Arc<Connections>>,
}

pub(crate) enum Security {
    Plain,
    Tls(TlsDial),
    /// TLS is asked for with a name or authorities that cannot be used: nothing is sent in the clear instead.
    Unusable,
}

impl Default for Dial {
    fn default() -> Self {
        Dial {
            number: 0,
            protocol: BackendProtocol::Http1,
            security: Security::Plain,
            proxy_protocol: None,
            connect_timeout_ms: limits::CONNECT_TIMEOUT_MS,
            idle_timeout_ms: limits::UPSTREAM_IDLE_TIMEOUT_MS,
            max_idle: limits::UPSTREAM_IDLE_CONNECTIONS,
            connections: None,
        }
    }
}

impl PartialEq for Dial {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Dial {}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dial {}", self.number)
    }
}

/// The dials of all views that are held, and the client certificates that they present.
#[derive(Default)]
pub(crate) struct Dials {
    plain: Arc<Dial>,
    by_policy: HashMap<Digest, Weak<Dial>>,
    client_keys: HashMap<ObjectId, Weak<ClientKey>>,
    last_number: u32,
}

impl Dials {
    /// The dial of a policy. One that a view still holds is given again, with the connections that were made by it. Where
    /// connections are limited, a backend shares them with no other one.
    pub fn of(&mut self, port: &ServicePort, policy: Option<&BackendPolicy>) -> Arc<Dial> {
        let Some(policy) = policy else { return Arc::clone(&self.plain) };
        let BackendPolicy { protocol, tls, pool, proxy_protocol, .. } = policy;
        let limit = policy.limits.connections.map(|limit| (limit, port));
        let digest = Digest::of(&(protocol, tls, pool, proxy_protocol, limit));
        if let Some(dial) = self.by_policy.get(&digest).and_then(Weak::upgrade) {
            return dial;
        }
        let dial = Arc::new(self.make(policy));
        self.by_policy.insert(digest, Arc::downgrade(&dial));
        dial
    }

    /// Gives new handshakes the certificates of `keys`, and forgets what no view holds.
    pub fn renew(&mut self, keys: &KeyTable) {
        self.by_policy.retain(|_, dial| dial.strong_count() > 0);
        self.client_keys.retain(|_, key| key.strong_count() > 0);
        for (secret, held) in &self.client_keys {
            if let Some(held) = held.upgrade() {
                held.set(keys.key(secret).cloned());
            }
        }
    }

    fn make(&mut self, policy: &BackendPolicy) -> Dial {
        self.last_number = self.last_number.wrapping_add(1).max(1);
        let default = Dial::default();
        let pool = policy.pool;
        Dial {
            number: self.last_number,
            protocol: policy.protocol,
            security: self.security(policy),
            proxy_protocol: policy.proxy_protocol,
            connect_timeout_ms: pool.connect_timeout.map_or(default.connect_timeout_ms, millis),
            idle_timeout_ms: pool.idle_timeout.map_or(default.idle_timeout_ms, millis),
            max_idle: pool.max_idle.map_or(default.max_idle, |count| count as usize),
            connections: policy.limits.connections.map(|limit| Arc::new(Connections::new(limit))),
        }
    }

    fn security(&mut self, policy: &BackendPolicy) -> Security {
        let Some(tls) = &policy.tls else { return Security::Plain };
        let client_key = tls.client_certificate.as_ref().map(|secret| self.client_key(secret));
        match TlsDial::new(tls, policy.protocol, client_key) {
            Some(dial) => Security::Tls(dial),
            None => Security::Unusable,
        }
    }

    fn client_key(&mut self, secret: &ObjectId) -> Arc<ClientKey> {
        if let Some(key) = self.client_keys.get(secret).and_then(Weak::upgrade) {
            return key;
        }
        let key = Arc::new(ClientKey::default());
        self.client_keys.insert(secret.clone(), Arc::downgrade(&key));
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::traffic::{BackendLimits, BackendTls, ConnectionPool, Trust};
    use std::time::Duration;

    fn port() -> ServicePort {
        ServicePort { namespace: "n".into(), name: "s".into(), port: 80 }
    }

    #[test]
    fn limited_connections_are_shared_with_no_other_backend() {
        let mut dials = Dials::default();
        let limits = BackendLimits { connections: Some(3), ..BackendLimits::default() };
        let policy = BackendPolicy { limits, ..BackendPolicy::default() };
        let other = ServicePort { port: 81, ..port() };
        let first = dials.of(&port(), Some(&policy));
        assert_eq!(first, dials.of(&port(), Some(&policy)));
        assert_ne!(first, dials.of(&other, Some(&policy)));
    }

    #[test]
    fn equal_connections_share_a_dial_and_others_do_not() {
        let mut dials = Dials::default();
        let http2 = BackendPolicy { protocol: BackendProtocol::Http2, ..BackendPolicy::default() };
        let limits = BackendLimits { requests: Some(3), ..BackendLimits::default() };
        let limited = BackendPolicy { limits, ..http2.clone() };
        let pool = ConnectionPool {
            idle_timeout: Some(Duration::from_secs(2)),
            ..ConnectionPool::default()
        };
        let pooled = BackendPolicy { pool, ..http2.clone() };
        let first = dials.of(&port(), Some(&http2));
        assert!(
            Arc::ptr_eq(&first, &dials.of(&port(), Some(&limited))),
            "limits are not the connection's"
        );
        let other = dials.of(&port(), Some(&pooled));
        assert_ne!(first, other);
        assert_eq!((other.idle_timeout_ms, other.max_idle), (2_000, first.max_idle));
        assert_eq!(dials.of(&port(), None).number, 0);
        drop((first, other));
        dials.renew(&KeyTable::default());
        assert!(dials.by_policy.is_empty());
    }

    #[test]
    fn what_cannot_be_verified_is_not_dialled() {
        let tls = |hostname: &str, names: &[&str], authorities: &[&[u8]]| BackendTls {
            hostname: hostname.into(),
            names: names.iter().map(|name| (*name).into()).collect(),
            uris: Vec::new(),
            trust: Trust::Authorities(authorities.iter().map(|der| der.to_vec()).collect()),
            client_certificate: None,
        };
        for tls in [
            tls("a.test", &[], &[]),
            tls("a.test", &[], &[b"no certificate"]),
            tls("not a name", &[], &[]),
        ] {
            let policy = BackendPolicy { tls: Some(tls), ..BackendPolicy::default() };
            assert!(matches!(
                Dials::default().of(&port(), Some(&policy)).security,
                Security::Unusable
            ));
        }
    }
}
