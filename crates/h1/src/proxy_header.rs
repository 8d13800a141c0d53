//! The header of the PROXY protocol, versions 1 and 2, as a load balancer sends it ahead of a connection
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, sections 2.1 and 2.2). Bytes in, addresses out;
//! what follows the addresses in version 2 (TLVs) is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A line of version 1 with its end, section 2.1.
pub const VERSION1_BYTES: usize = 107;
/// A header of version 2 that is accepted, TLVs included.
pub const VERSION2_BYTES: usize = 4 << 10;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// They may become a header; all that is here belongs to it.
    More,
    Whole {
        /// All of the header; of version 2 its end may not have come yet.
        len: usize,
        /// Who connected to whom; none where the proxy speaks for itself (LOCAL), or does not say it (UNKNOWN, UNSPEC,
        /// families other than TCP over IP).
        ends: Option<ProxyEnds>,
    },
    /// Something else than a header.
    Absent,
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyEnds {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

/// Reads a header at the front of `bytes`.
pub fn parse(bytes: &[u8]) -> ProxyHeader {
    const TEXT: &[u8] = b"PROXY ";
    if begins(bytes, SIGNATURE) {
        return version2(bytes);
    }
    if begins(bytes, TEXT) {
        return version1(bytes);
    }
    ProxyHeader::Absent
}

/// One is the beginning of the other.
fn begins(bytes: &[u8], sign: &[u8]) -> bool {
    let common = bytes.len().min(sign.len());
    bytes[..common] == sign[..common]
}

fn version1(bytes: &[u8]) -> ProxyHeader {
    let seen = &bytes[..bytes.len().min(VERSION1_BYTES)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return match bytes.len() < VERSION1_BYTES {
            true => ProxyHeader::More,
            false => ProxyHeader::Malformed,
        };
    };
    let line = seen[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(line_ends) {
        Some(ends) => ProxyHeader::Whole { len: end + 1, ends },
        None => ProxyHeader::Malformed,
    }
}

/// None for a line that is malformed.
fn line_ends(line: &str) -> Option<Option<ProxyEnds>> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        (address.is_ipv4() == (family == "TCP4")).then_some(address)
    };
    let (client, server) = (address()?, address()?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let is_whole = matches!(family, "TCP4" | "TCP6") && words.next().is_none();
    is_whole.then_some(Some(ProxyEnds {
        client: SocketAddr::new(client.to_canonical(), from),
        server: SocketAddr::new(server.to_canonical(), to),
    }))
}

/// Decimal, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn version2(bytes: &[u8]) -> ProxyHeader {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let Some(fixed) = bytes.get(..FIXED_BYTES) else {
        return match bytes.get(SIGNATURE.len()) {
            None | Some(&LOCAL | &PROXY) => ProxyHeader::More,
            Some(_) => ProxyHeader::Malformed,
        };
    };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = FIXED_BYTES + length;
    let addresses = match (command, family) {
        (LOCAL | PROXY, _) if len > VERSION2_BYTES => return ProxyHeader::Malformed,
        (PROXY, 0x11) => 12,
        (PROXY, 0x21) => 36,
        // UNSPEC, datagrams and local sockets are well formed and say nothing that is of use here.
        (LOCAL, _) | (PROXY, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => {
            return ProxyHeader::Whole { len, ends: None };
        }
        _ => return ProxyHeader::Malformed,
    };
    if length < addresses {
        return ProxyHeader::Malformed;
    }
    match bytes.get(FIXED_BYTES..FIXED_BYTES + addresses) {
        Some(block) => ProxyHeader::Whole { len, ends: block_ends(block) },
        None => ProxyHeader::More,
    }
}

/// Two addresses, then two ports.
fn block_ends(block: &[u8]) -> Option<ProxyEnds> {
    let (addresses, ports) = block.split_at_checked(block.len().checked_sub(4)?)?;
    let (client, server) = addresses.split_at_checked(addresses.len() / 2)?;
    let &[from_high, from_low, to_high, to_low] = ports else { return None };
    Some(ProxyEnds {
        client: SocketAddr::new(ip(client)?, u16::from_be_bytes([from_high, from_low])),
        server: SocketAddr::new(ip(server)?, u16::from_be_bytes([to_high, to_low])),
    })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(octets).ok()?;
    Some(IpAddr::from(Ipv6Addr::from(sixteen)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, server: &str) -> Option<ProxyEnds> {
        let of = |text: &str| text.parse().expect("an address");
        Some(ProxyEnds { client: of(client), server: of(server) })
    }

    fn whole(len: usize, ends: Option<ProxyEnds>) -> ProxyHeader {
        ProxyHeader::Whole { len, ends }
    }

    #[test]
    fn lines_of_version_1() {
        let four = ends("192.0.2.7:40000", "198.51.100.1:443");
        let six = ends("[2001:db8::7]:1", "[2001:db8::1]:0");
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
        let longer = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
        for (text, expected) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\nGET", whole(45, four)),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 0\r\n", whole(40, six)),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 40000 443\r\n", whole(59, four)),
            ("PROXY UNKNOWN\r\n", whole(15, None)),
            ("PROXY UNKNOWN any thing\r\nx", whole(25, None)),
            (&long, whole(107, None)),
            (&longer, ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\n", ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n", ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n", ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n", ProxyHeader::Malformed),
            ("PROXY TCP4 192.0.2.7  198.51.100.1 1 2\r\n", ProxyHeader::Malformed),
            ("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", ProxyHeader::Malformed),
            ("PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeader::Malformed),
            ("PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeader::Malformed),
            ("PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n", ProxyHeader::Malformed),
            ("PROXY \r\n", ProxyHeader::Malformed),
            ("PROXY", ProxyHeader::More),
            ("", ProxyHeader::More),
            ("PROXY TCP4 192.0.2.7", ProxyHeader::More),
            ("PROX / HTTP/1.1", ProxyHeader::Absent),
            ("GET / HTTP/1.1", ProxyHeader::Absent),
            ("\r\nGET", ProxyHeader::Absent),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    fn version2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    #[test]
    fn headers_of_version_2() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb];
        let known = ends("192.0.2.7:40000", "198.51.100.1:443");
        let with_tlvs = [&four[..], &[4, 0, 3, 0, 0, 0]].concat();
        let mut six = "2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets().to_vec();
        six.extend("2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets());
        six.extend([0, 1, 0, 2]);
        let six_ends = ends("[2001:db8::7]:1", "[2001:db8::1]:2");
        let large = vec![0; VERSION2_BYTES - FIXED_BYTES];
        let larger = vec![0; VERSION2_BYTES - FIXED_BYTES + 1];
        for (bytes, expected) in [
            (version2(0x21, 0x11, &four), whole(28, known)),
            (version2(0x21, 0x11, &with_tlvs), whole(34, known)),
            (version2(0x21, 0x21, &six), whole(52, six_ends)),
            (version2(0x20, 0x00, &[]), whole(16, None)),
            (version2(0x20, 0x11, &four), whole(28, None)),
            (version2(0x21, 0x00, &[1, 2, 3]), whole(19, None)),
            (version2(0x21, 0x31, &[0; 216]), whole(232, None)),
            (version2(0x21, 0x00, &large), whole(VERSION2_BYTES, None)),
            (version2(0x21, 0x00, &larger), ProxyHeader::Malformed),
            (version2(0x21, 0x11, &four[..11]), ProxyHeader::Malformed),
            (version2(0x21, 0x13, &four), ProxyHeader::Malformed),
            (version2(0x11, 0x11, &four), ProxyHeader::Malformed),
            (version2(0x22, 0x11, &four), ProxyHeader::Malformed),
            ([SIGNATURE, &[0x31]].concat(), ProxyHeader::Malformed),
            ([SIGNATURE, &[0x21, 0x11, 0xff]].concat(), ProxyHeader::More),
        ] {
            assert_eq!(parse(&bytes), expected, "{bytes:x?}");
        }
    }

    /// However the bytes come, the outcome is that of all of them, and no byte behind the header is asked for.
    #[test]
    fn bytes_that_come_one_by_one() {
        let texts: [Vec<u8>; 3] = [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n".to_vec(),
            version2(0x21, 0x11, &[0; 20]),
            version2(0x20, 0x00, &[]),
        ];
        for text in texts {
            let whole = parse(&text);
            let ProxyHeader::Whole { len, .. } = whole else { panic!("{whole:?}") };
            assert_eq!(len, text.len());
            for end in 0..text.len() {
                let found = parse(&text[..end]);
                assert!(found == ProxyHeader::More || found == whole, "{end}: {found:?}");
            }
        }
    }
}
