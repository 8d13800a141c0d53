//! IP networks (RFC 4632 section 3.1, RFC 4291 section 2.3), and sets of them that answer in logarithmic time without
//! an allocation. An IPv4 address that is written as IPv6 has it (RFC 4291 section 2.5.5.2) is the IPv4 address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with the number of leading bits that count; the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadNetwork {
    Address,
    /// The length of the prefix is no number within the address's bits.
    Prefix {
        bits: u8,
    },
    /// Bits behind the prefix are set: this is perhaps what was meant.
    HostBits(Network),
}

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadNetwork::Address => f.write_str("it has no IP address"),
            BadNetwork::Prefix { bits } => {
                write!(f, "the length of its prefix is no number from 0 to {bits}")
            }
            BadNetwork::HostBits(near) => {
                write!(f, "bits behind its prefix are set; the network is {near}")
            }
        }
    }
}

impl Network {
    /// `192.0.2.0/24`, `2001:db8::/32`, or one address.
    pub fn parse(text: &str) -> Result<Network, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Address)?;
        let bits = bits(address);
        let is_number = |text: &&str| text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
        let prefix = match prefix {
            None => bits,
            Some(text) => Some(text)
                .filter(is_number)
                .and_then(|text| text.parse().ok())
                .filter(|prefix| *prefix <= bits)
                .ok_or(BadNetwork::Prefix { bits })?,
        };
        let network = Network { first: masked(address, prefix), prefix };
        if network.first != address {
            return Err(BadNetwork::HostBits(network));
        }
        Ok(network.canonical())
    }

    pub fn of(address: IpAddr) -> Network {
        let first = address.to_canonical();
        Network { first, prefix: bits(first) }
    }

    /// Every address of its family.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// All of `other` lies within it.
    pub fn covers(&self, other: &Network) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.prefix <= other.prefix
            && masked(other.first, self.prefix) == self.first
    }

    /// A part of IPv6 that stands for IPv4 is that.
    fn canonical(self) -> Network {
        const MAPPED_BITS: u8 = 96;
        match self.first.to_canonical() {
            IpAddr::V4(first) if self.first.is_ipv6() && self.prefix >= MAPPED_BITS => {
                Network { first: first.into(), prefix: self.prefix - MAPPED_BITS }
            }
            _ => self,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == bits(self.first) {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & !host_mask4(prefix)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !host_mask6(prefix)).into(),
    }
}

fn host_mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

fn host_mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

/// A set of addresses, as ranges that are sorted and do not touch each other.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 =
            self.v4.iter().map(|(a, b)| (Ipv4Addr::from(*a).into(), Ipv4Addr::from(*b).into()));
        let v6 =
            self.v6.iter().map(|(a, b)| (Ipv6Addr::from(*a).into(), Ipv6Addr::from(*b).into()));
        let shown = v4.chain(v6).map(|(first, last): (IpAddr, IpAddr)| match first == last {
            true => first.to_string(),
            false => format!("{first} to {last}"),
        });
        write!(f, "({})", shown.collect::<Vec<_>>().join(", "))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network { first, prefix } in networks {
            match first {
                IpAddr::V4(first) => {
                    let first = u32::from(first);
                    v4.push((first, first | host_mask4(prefix)));
                }
                IpAddr::V6(first) => {
                    let first = u128::from(first);
                    v6.push((first, first | host_mask6(prefix)));
                }
            }
        }
        Networks {
            v4: joined(v4, |last| last.checked_add(1)),
            v6: joined(v6, |last| last.checked_add(1)),
        }
    }
}

/// `next` is the number behind one, if there is any.
fn joined<N: Copy + Ord>(mut ranges: Vec<(N, N)>, next: fn(N) -> Option<N>) -> Box<[(N, N)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if next(before.1).is_none_or(|next| first <= next) => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

impl Networks {
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, u32::from(address)),
            IpAddr::V6(address) => holds(&self.v6, u128::from(address)),
        }
    }

    /// All of `network` is in the set.
    pub fn covers(&self, network: &Network) -> bool {
        match network.first {
            IpAddr::V4(first) => {
                let first = u32::from(first);
                spans(&self.v4, first, first | host_mask4(network.prefix))
            }
            IpAddr::V6(first) => {
                let first = u128::from(first);
                spans(&self.v6, first, first | host_mask6(network.prefix))
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ranges, as few as there can be.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

fn holds<N: Copy + Ord>(ranges: &[(N, N)], number: N) -> bool {
    spans(ranges, number, number)
}

fn spans<N: Copy + Ord>(ranges: &[(N, N)], first: N, last: N) -> bool {
    let behind = ranges.partition_point(|range| range.0 <= first);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| last <= range.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn texts_of_networks() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8::1", "2001:db8::1"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/95", "no"),
        ] {
            let found = Network::parse(text).map(|network| network.to_string());
            assert_eq!(found.unwrap_or("no".to_owned()), shown, "{text}");
        }
        for (text, fault) in [
            ("", BadNetwork::Address),
            ("example.test", BadNetwork::Address),
            ("192.0.2.0/", BadNetwork::Prefix { bits: 32 }),
            ("192.0.2.0/33", BadNetwork::Prefix { bits: 32 }),
            ("192.0.2.0/+8", BadNetwork::Prefix { bits: 32 }),
            ("192.0.2.0/24/1", BadNetwork::Prefix { bits: 32 }),
            ("2001:db8::/129", BadNetwork::Prefix { bits: 128 }),
            ("fe80::1%eth0", BadNetwork::Address),
            ("010.0.0.1", BadNetwork::Address),
            ("192.0.2.7/24", BadNetwork::HostBits(network("192.0.2.0/24"))),
        ] {
            assert_eq!(Network::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_set_holds_what_one_of_its_networks_holds() {
        let networks = [
            "10.0.0.0/9",
            "10.128.0.0/9",
            "192.0.2.0/25",
            "192.0.2.64/26",
            "198.51.100.7",
            "2001:db8::/32",
            "255.255.255.255",
            "255.255.255.254",
        ];
        let set: Networks = networks.iter().map(|text| network(text)).collect();
        assert_eq!(set.v4.len(), 4, "ranges that touch are one: {set:?}");
        for address in [
            "10.0.0.0",
            "10.255.255.255",
            "11.0.0.0",
            "9.255.255.255",
            "192.0.2.127",
            "192.0.2.128",
            "198.51.100.6",
            "198.51.100.7",
            "198.51.100.8",
            "255.255.255.255",
            "0.0.0.0",
            "2001:db8::1",
            "2001:db9::",
            "::ffff:10.1.2.3",
            "::",
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let one = Network::of(address);
            let expected = networks.iter().any(|text| network(text).covers(&one));
            assert_eq!(set.contains(address), expected, "{address}");
            assert_eq!(set.covers(&one), expected, "{address}");
        }
        assert!(set.covers(&network("10.0.0.0/8")) && !set.covers(&network("192.0.2.0/24")));
        assert!(!Networks::default().contains(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn one_family_says_nothing_of_the_other() {
        let all: Networks = [network("::/0")].into_iter().collect();
        assert!(
            !all.contains(Ipv4Addr::LOCALHOST.into()) && all.contains(Ipv6Addr::LOCALHOST.into())
        );
        assert!(!network("::/0").covers(&network("0.0.0.0/0")));
    }
}
