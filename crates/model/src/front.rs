//! What an entry asks of its clients, and gives them beside what routes say: by listener, before a request is known,
//! and by rule. Pure data of the plan; `edge` carries it out.

use crate::Text;

/// Of one listener. Listeners of a port that have to agree before a name is known follow the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerPolicy {
    pub tls: TlsTerms,
    /// None: no client is asked for a certificate.
    pub client_trust: Option<Box<ClientTrust>>,
}

/// What a handshake with a client may come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsTerms {
    pub preset: TlsPreset,
    /// In order of preference; empty is the default, HTTP/2 before HTTP/1.1.
    pub alpn: Vec<Alpn>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsPreset {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    Http2,
    Http1,
}

impl Alpn {
    /// As it stands in a handshake (RFC 7301).
    pub fn id(self) -> &'static str {
        match self {
            Alpn::Http2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }
}

/// Whose certificates a client may show (GEP-91).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTrust {
    /// Without a certificate that holds, no connection. Else there is one, as of a client that is not known.
    pub is_required: bool,
    /// Certificates in DER; at least one.
    pub authorities: Vec<Vec<u8>>,
}

/// Of one rule, or of the requests to a listener that no rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RulePolicy {
    /// Value of Strict-Transport-Security (RFC 6797) in responses over TLS.
    pub strict_transport_security: Option<Text>,
    pub client_certificate: ForwardedCertificate,
}

/// What the backend is told of the client's certificate (RFC 9440).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardedCertificate {
    #[default]
    Nothing,
    /// `Client-Cert`.
    Leaf,
    /// `Client-Cert` and `Client-Cert-Chain`.
    Chain,
}
