//! What comes of trying an endpoint without a request. `edge` tries, `explain` says what it means. And which addresses
//! lead back to a listener of the edge's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Whether a socket that is bound to the one address takes what its machine sends to the other. `is_here` says of an
/// address that is no loopback whether the machine has it.
pub fn takes(bound: SocketAddr, address: SocketAddr, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
    if bound.port() != address.port() {
        return false;
    }
    let (bound, address) = (bound.ip().to_canonical(), of_loopback(address.ip().to_canonical()));
    match bound {
        _ if !bound.is_unspecified() => bound == address,
        // A socket of every IPv6 address has those of IPv4 too (RFC 3493 section 3.7).
        IpAddr::V4(_) if address.is_ipv6() => false,
        _ => address.is_loopback() || is_here(address),
    }
}

/// Systems take the unspecified address for themselves.
fn of_loopback(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_what_is_sent_to_its_address() {
        for (bound, address, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("192.0.2.1:80", "192.0.2.1:80", true),
            ("192.0.2.1:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.9.9.9:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "192.0.2.7:80", true),
            ("0.0.0.0:80", "192.0.2.8:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[2001:db8::1]:80", false),
            ("[::1]:80", "[::]:80", true),
        ] {
            let here: IpAddr = [192, 0, 2, 7].into();
            let (bound, to) = (bound.parse().expect("valid"), address.parse().expect("valid"));
            assert_eq!(takes(bound, to, |ip| ip == here), expected, "{bound} {address}");
        }
    }
}
