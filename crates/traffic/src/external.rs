//! Names whose addresses are endpoints: which addresses are never gone to, what of an answer is kept, and when a name is
//! asked for again. Asking is `instance`'s.

use crate::random::Random;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is never gone to for a name: whoever writes the name's records could reach what is not theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    Unspecified,
    Loopback,
    LinkLocal,
    Multicast,
    /// Credentials of the machine are given out there.
    Metadata,
    ApiServer,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forbidden::Unspecified => "an unspecified address",
            Forbidden::Loopback => "a loopback address",
            Forbidden::LinkLocal => "a link-local address",
            Forbidden::Multicast => "a multicast or broadcast address",
            Forbidden::Metadata => "the metadata service of a cloud",
            Forbidden::ApiServer => "the API server",
        })
    }
}

/// AWS and most others, Alibaba, Azure; AWS and GCP over IPv6.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)),
];

/// None for an address that a name may lead to.
pub fn forbidden(address: IpAddr, api_servers: &[IpAddr]) -> Option<Forbidden> {
    let address = plain(address);
    if METADATA.contains(&address) {
        return Some(Forbidden::Metadata);
    }
    if api_servers.iter().any(|server| plain(*server) == address) {
        return Some(Forbidden::ApiServer);
    }
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(Forbidden::Unspecified),
        IpAddr::V4(v4) if v4.is_link_local() => Some(Forbidden::LinkLocal),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(Forbidden::Multicast),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Forbidden::LinkLocal),
        ip if ip.is_unspecified() => Some(Forbidden::Unspecified),
        ip if ip.is_loopback() => Some(Forbidden::Loopback),
        ip if ip.is_multicast() => Some(Forbidden::Multicast),
        _ => None,
    }
}

/// The IPv4 address that is written within one of IPv6: mapped (RFC 4291 section 2.5.5), of NAT64 (RFC 6052) and of
/// 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // ::1 and :: are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// What asking for the addresses of one family came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With the time that it holds, in seconds. Without addresses the name has none.
    Addresses(Vec<IpAddr>, u32),
    /// Nobody answered, or not with an answer.
    Failed,
}

/// One name and family: the last good answer, and when to ask again.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    addresses: BTreeSet<IpAddr>,
    due_ms: u64,
    failures: u32,
    was_answered: bool,
}

const LEAST_TTL_S: u32 = 5;
const MOST_TTL_S: u32 = 300;
const RETRY_MS: u64 = 1_000;
const MOST_RETRY_MS: u64 = 30_000;

impl Lookup {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// It was asked for at least once, with whatever result.
    pub fn was_tried(&self) -> bool {
        self.was_answered || self.failures > 0
    }

    /// Some answer has come, at some time.
    pub fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// An answer holds for its TTL, within bounds; a failure leaves the last good answer, and is soon tried again. True
    /// where the addresses are others.
    pub fn observe(&mut self, answer: Answer, now_ms: u64, random: &mut Random) -> bool {
        match answer {
            Answer::Failed => {
                self.failures = self.failures.saturating_add(1);
                let pause = RETRY_MS << u64::from(self.failures - 1).min(10);
                // Spread, so that many names do not fail in step.
                let pause = pause.min(MOST_RETRY_MS) as f64 * (1.0 + random.share() / 2.0);
                self.due_ms = now_ms.saturating_add(pause as u64);
                false
            }
            Answer::Addresses(addresses, ttl_s) => {
                (self.failures, self.was_answered) = (0, true);
                let ttl_ms = u64::from(ttl_s.clamp(LEAST_TTL_S, MOST_TTL_S)) * 1_000;
                self.due_ms = now_ms.saturating_add(ttl_ms);
                let addresses = addresses.into_iter().collect();
                let has_changed = self.addresses != addresses;
                self.addresses = addresses;
                has_changed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_name_may_lead() {
        use Forbidden::{ApiServer, LinkLocal, Loopback, Metadata, Multicast, Unspecified};
        let servers: Vec<IpAddr> =
            ["10.96.0.1", "2001:db8::6443"].map(|ip| ip.parse().expect("an address")).into();
        for (address, expected) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.0.9", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::127.0.0.1", Some(Loopback)),
            ("64:ff9b::7f00:1", Some(Loopback)),
            ("2002:7f00:1::", Some(Loopback)),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("::", Some(Unspecified)),
            ("169.254.1.1", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("fd00:ec2::254", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("224.0.0.1", Some(Multicast)),
            ("255.255.255.255", Some(Multicast)),
            ("ff02::1", Some(Multicast)),
            ("10.96.0.1", Some(ApiServer)),
            ("::ffff:10.96.0.1", Some(ApiServer)),
            ("2001:db8::6443", Some(ApiServer)),
            ("10.96.0.2", None),
            ("192.0.2.1", None),
            ("172.16.0.1", None),
            ("2001:db8::1", None),
            ("fd00::1", None),
            ("64:ff9b::c000:201", None),
        ] {
            let ip = address.parse().expect("an address");
            assert_eq!(forbidden(ip, &servers), expected, "{address}");
        }
    }

    fn one(last: u8) -> Vec<IpAddr> {
        vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))]
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_and_an_empty_answer_does_not() {
        let (mut lookup, mut random) = (Lookup::default(), Random::new(1));
        let mut observe = |answer, now_ms| {
            let changed = lookup.observe(answer, now_ms, &mut random);
            (changed, lookup.addresses().collect::<Vec<_>>(), lookup.due_ms())
        };
        assert_eq!(observe(Answer::Addresses(one(1), 60), 0), (true, one(1), 60_000));
        assert_eq!(observe(Answer::Addresses(one(1), 1), 60_000), (false, one(1), 65_000));
        let (changed, kept, due_ms) = observe(Answer::Failed, 65_000);
        assert_eq!((changed, kept), (false, one(1)));
        assert!((66_000..=66_500).contains(&due_ms), "{due_ms}");
        for _ in 0..100 {
            let (changed, kept, due_ms) = observe(Answer::Failed, 70_000);
            assert_eq!((changed, kept), (false, one(1)));
            assert!(due_ms <= 70_000 + 45_000, "{due_ms}");
        }
        assert_eq!(observe(Answer::Addresses(one(2), 9_999), 0), (true, one(2), 300_000));
        assert_eq!(observe(Answer::Addresses(vec![], 30), 0), (true, vec![], 30_000));
    }
}
