//! The header of the PROXY protocol, versions 1 and 2, as it is sent ahead of a connection to a backend
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, sections 2.1 and 2.2).

use model::traffic::ProxyProtocol;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `client` connected to `local`.
pub(crate) fn header(version: ProxyProtocol, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (client, local) = same_family(client, local);
    match version {
        ProxyProtocol::V1 => version1(client, local),
        ProxyProtocol::V2 => version2(client, local),
    }
}

/// A header names one family: a lone IPv4 address is written as IPv6 has it (RFC 4291 section 2.5.5.2).
fn same_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let (client, local) = (canonical(client), canonical(local));
    match client.is_ipv4() == local.is_ipv4() {
        true => (client, local),
        false => (mapped(client), mapped(local)),
    }
}

fn mapped(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(sixteen(at.ip())), at.port())
}

fn sixteen(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn version1(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), local.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), local.port()).into_bytes()
}

fn version2(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    /// Version 2, command PROXY.
    const PROXY: u8 = 0x21;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let mut header = [SIGNATURE, &[PROXY]].concat();
    match (client.ip(), local.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP4, 0, 12]);
            header.extend(from.octets().into_iter().chain(to.octets()));
        }
        (from, to) => {
            header.extend([TCP6, 0, 36]);
            header.extend(sixteen(from).octets().into_iter().chain(sixteen(to).octets()));
        }
    }
    header.extend(client.port().to_be_bytes().into_iter().chain(local.port().to_be_bytes()));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(client: &str, local: &str, text: &str, binary: &[u8]) {
        let (client, local) = (client.parse().expect("an address"), local.parse().expect("one"));
        let first = header(ProxyProtocol::V1, client, local);
        assert_eq!(String::from_utf8(first).expect("ASCII"), text);
        let second = header(ProxyProtocol::V2, client, local);
        assert_eq!(&second[..12], b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A");
        assert_eq!(&second[12..], binary);
    }

    #[test]
    fn headers_by_family() {
        check(
            "192.0.2.7:40000",
            "198.51.100.1:443",
            "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n",
            &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb],
        );
        let mut six = vec![0x21, 0x21, 0, 36];
        six.extend("2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets());
        six.extend("2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets());
        six.extend([0x9c, 0x40, 0, 80]);
        check(
            "[2001:db8::7]:40000",
            "[2001:db8::1]:80",
            "PROXY TCP6 2001:db8::7 2001:db8::1 40000 80\r\n",
            &six,
        );
        let mut mixed = vec![0x21, 0x21, 0, 36];
        mixed.extend("::ffff:192.0.2.7".parse::<Ipv6Addr>().expect("an address").octets());
        mixed.extend(Ipv6Addr::UNSPECIFIED.octets());
        mixed.extend([0, 1, 0, 2]);
        check("192.0.2.7:1", "[::]:2", "PROXY TCP6 ::ffff:192.0.2.7 :: 1 2\r\n", &mixed);
        check(
            "[::ffff:192.0.2.7]:1",
            "198.51.100.1:2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
            &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 2],
        );
    }
}
