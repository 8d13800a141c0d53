//! What comes of trying an endpoint without a request. `edge` tries, `explain` says what it means.

/// Why requests cannot reach an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    pub cause: Unreachable,
    /// One clause, such as `connection refused`.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    NotConnected,
    /// It takes the connection and closes it.
    Closes,
    /// What it says is not the protocol of its backend.
    Protocol,
    /// The policy names nobody who could be verified.
    TlsPolicy,
    /// The certificate is for other names.
    TlsName,
    /// The certificate is past its time, or not yet valid.
    TlsTime,
    /// No authority that is trusted stands behind the certificate.
    TlsAuthority,
    /// It does not take the certificate that it is shown, or wants one and is shown none.
    TlsClient,
    /// It refuses the handshake and does not say why: over TLS 1.2 often because it is shown no certificate.
    TlsRefused,
    /// It speaks TLS, of no version that is served.
    TlsVersion,
    /// It takes the connection, and the handshake does not end.
    TlsSilent,
    /// Every other fault of a handshake.
    Tls,
}

impl Unreachable {
    pub fn because(self, why: impl ToString) -> Unreached {
        Unreached { cause: self, why: why.to_string() }
    }

    pub fn is_tls(self) -> bool {
        use Unreachable::{Closes, NotConnected, Protocol};
        !matches!(self, NotConnected | Closes | Protocol)
    }
}
