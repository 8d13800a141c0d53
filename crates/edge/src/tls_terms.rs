//! What a handshake of a listener may come to, made ready from its policy: versions, ALPN, whom to believe, tickets.
//! Listeners that ask for the same share it.

use crate::client_certificate::Clients;
use crate::tls::provider;
use model::Digest;
use model::edge::Listener;
use model::front::{Alpn, ClientTrust, TlsPreset, TlsTerms};
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig};
use rustls::{SupportedProtocolVersion, version};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

pub(crate) struct Terms {
    pub config: Arc<ServerConfig>,
    pub clients: Option<Clients>,
}

/// What is said of versions and protocols, and of clients.
pub(crate) type Wanted<'l> = (Option<&'l TlsTerms>, Option<&'l ClientTrust>);

/// Terms of one port, by what listeners ask for. None where nobody could be believed: then there is no handshake.
pub(crate) struct TermsTable<'l> {
    resolver: Arc<dyn ResolvesServerCert>,
    made: HashMap<Wanted<'l>, Option<Arc<Terms>>>,
}

impl<'l> TermsTable<'l> {
    pub fn new(resolver: Arc<dyn ResolvesServerCert>) -> TermsTable<'l> {
        TermsTable { resolver, made: HashMap::new() }
    }

    pub fn of(&mut self, listener: &'l Listener) -> Option<Arc<Terms>> {
        let policy = listener.policy.as_deref();
        let tls = policy.map(|policy| &policy.tls).filter(|tls| **tls != TlsTerms::default());
        let trust = policy.and_then(|policy| policy.client_trust.as_deref());
        let resolver = &self.resolver;
        let make = || {
            let protocols = alpn(tls.map(|tls| tls.alpn.as_slice()).unwrap_or_default());
            Terms::new((tls, trust), protocols, Arc::clone(resolver)).map(Arc::new)
        };
        self.made.entry((tls, trust)).or_insert_with(make).clone()
    }
}

impl Terms {
    /// None where nobody could be believed.
    pub fn new(
        (tls, trust): Wanted<'_>,
        protocols: Vec<Vec<u8>>,
        resolver: Arc<dyn ResolvesServerCert>,
    ) -> Option<Terms> {
        let clients = match trust {
            Some(trust) => Some(Clients::new(trust)?),
            None => None,
        };
        let mut config = config(tls, clients.as_ref(), resolver);
        config.alpn_protocols = protocols;
        Some(Terms { config: Arc::new(config), clients })
    }
}

/// All but the protocols that may be agreed on.
fn config(
    tls: Option<&TlsTerms>,
    clients: Option<&Clients>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> ServerConfig {
    let preset = tls.map(|tls| tls.preset).unwrap_or_default();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(preset))
        .expect("the provider has suites for both versions");
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let ticketer = match clients {
        Some(clients) => ticketer_of(clients.trust),
        None => ticketer(),
    };
    if let Some(ticketer) = ticketer {
        config.ticketer = ticketer;
    }
    config
}

/// The suites of both versions are those of the provider: with forward secrecy and authenticated encryption alone.
fn versions(preset: TlsPreset) -> &'static [&'static SupportedProtocolVersion] {
    static INTERMEDIATE: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    static MODERN: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match preset {
        TlsPreset::Intermediate => &INTERMEDIATE,
        TlsPreset::Modern => &MODERN,
    }
}

fn alpn(wanted: &[Alpn]) -> Vec<Vec<u8>> {
    let wanted = if wanted.is_empty() { &[Alpn::Http2, Alpn::Http1] } else { wanted };
    wanted.iter().map(|name| name.id().as_bytes().to_vec()).collect()
}

/// One key for tickets a process, changed by rustls every few hours: sessions survive new snapshots. Without
/// randomness from the system there are no tickets.
fn ticketer() -> Option<Arc<dyn ProducesTickets>> {
    static TICKETER: OnceLock<Option<Arc<dyn ProducesTickets>>> = OnceLock::new();
    TICKETER.get_or_init(|| aws_lc_rs::Ticketer::new().ok()).clone()
}

/// A key of its own for each trust: a session that goes on is not asked for a certificate again, so it must not go on
/// where other certificates count. Kept for as long as a configuration has it.
fn ticketer_of(trust: Digest) -> Option<Arc<dyn ProducesTickets>> {
    type Kept = Mutex<HashMap<Digest, Weak<dyn ProducesTickets>>>;
    static KEPT: OnceLock<Kept> = OnceLock::new();
    let mut kept = KEPT.get_or_init(Kept::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(&trust).and_then(Weak::upgrade) {
        return Some(known);
    }
    kept.retain(|_, ticketer| ticketer.strong_count() > 0);
    let ticketer = aws_lc_rs::Ticketer::new().ok()?;
    kept.insert(trust, Arc::downgrade(&ticketer));
    Some(ticketer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_shared_by_equal_trusts_alone() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        let first = ticketer_of(a).expect("randomness");
        assert!(Arc::ptr_eq(&first, &ticketer_of(a).expect("randomness")));
        assert!(!Arc::ptr_eq(&first, &ticketer_of(b).expect("randomness")));
        let ticket = first.encrypt(b"session").expect("a ticket");
        let other = ticketer_of(b).expect("randomness");
        other.encrypt(b"session of about this length").expect("a ticket");
        assert_eq!(other.decrypt(&ticket), None);
        assert_eq!(first.decrypt(&ticket).as_deref(), Some(b"session".as_slice()));
    }
}
