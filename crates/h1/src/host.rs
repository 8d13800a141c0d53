//! Checks an authority: a host with an optional port, as in Host, an absolute target and CONNECT.
//! Which hosts are served is not known here.
//!
//! Policy: the grammar of RFC 3986 section 3.2 without user information (RFC 9110 section 4.2.4), and
//! with a host that is not empty (section 4.2.1). A port is 1 to 65535; an empty one (`host:`) counts
//! as none. IPv6 literals stand in brackets and have no zone; IPvFuture is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::bytes::{escape, is_sub_delim, is_unreserved};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    Name,
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
}

/// A sound authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As received: in any case, an IPv6 literal with its brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
    pub kind: HostKind,
}

/// Nothing when `authority` is not sound.
pub fn parse(authority: &[u8]) -> Option<Authority<'_>> {
    let (host, port) = split(authority)?;
    Some(Authority { host, port: parse_port(port)?, kind: kind(host)? })
}

/// The host of an authority that is known to be sound.
pub fn of_sound(authority: &[u8]) -> &[u8] {
    split(authority).map_or(authority, |(host, _)| host)
}

/// Host names do not differ by case (RFC 9110 section 4.2.3).
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Appends the host in lower case.
pub fn lower(host: &[u8], out: &mut Vec<u8>) {
    out.extend(host.iter().map(u8::to_ascii_lowercase));
}

/// Host, and what follows it: nothing or a colon with digits.
fn split(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match authority.first()? {
        b'[' => memchr::memchr(b']', authority)? + 1,
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    authority.split_at_checked(end)
}

fn parse_port(bytes: &[u8]) -> Option<Option<u16>> {
    match bytes {
        [] | [b':'] => Some(None),
        [b':', digits @ ..] if digits.len() <= 5 => {
            let port = digits.iter().try_fold(0u32, |n, b| match b {
                b'0'..=b'9' => Some(n * 10 + u32::from(b - b'0')),
                _ => None,
            })?;
            u16::try_from(port).ok().filter(|&p| p != 0).map(Some)
        }
        _ => None,
    }
}

fn kind(host: &[u8]) -> Option<HostKind> {
    match host {
        [] => None,
        [b'[', inner @ .., b']'] => parse_text(inner).map(HostKind::Ipv6),
        _ if host.first().is_some_and(u8::is_ascii_digit) => {
            parse_text(host).map(HostKind::Ipv4).or_else(|| name(host))
        }
        _ => name(host),
    }
}

fn parse_text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// `reg-name` of RFC 3986 section 3.2.2.
fn name(host: &[u8]) -> Option<HostKind> {
    let mut rest = host;
    while let Some(&b) = rest.first() {
        let taken = match b {
            b'%' => escape(rest).map(|_| 3)?,
            _ if is_unreserved(b) || is_sub_delim(b) => 1,
            _ => return None,
        };
        rest = &rest[taken..];
    }
    Some(HostKind::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_authorities() {
        let check = |text: &'static str, host: &str, port, kind| {
            let expected = Authority { host: host.as_bytes(), port, kind };
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        };
        check("shop.example", "shop.example", None, HostKind::Name);
        check("SHOP.example.:8080", "SHOP.example.", Some(8080), HostKind::Name);
        check("shop.example:", "shop.example", None, HostKind::Name);
        check("a_b~c-d!$&'()*+,;=", "a_b~c-d!$&'()*+,;=", None, HostKind::Name);
        check("a%2Fb:1", "a%2Fb", Some(1), HostKind::Name);
        check("1.2.3.4:65535", "1.2.3.4", Some(65535), HostKind::Ipv4(Ipv4Addr::new(1, 2, 3, 4)));
        check("1.2.3.400", "1.2.3.400", None, HostKind::Name);
        check("[::1]", "[::1]", None, HostKind::Ipv6(Ipv6Addr::LOCALHOST));
        check("[::1]:00443", "[::1]", Some(443), HostKind::Ipv6(Ipv6Addr::LOCALHOST));
        let mapped = HostKind::Ipv6("::ffff:1.9.1.1".parse().unwrap());
        check("[::ffff:1.9.1.1]", "[::ffff:1.9.1.1]", None, mapped);
    }

    #[test]
    fn unsound_authorities() {
        for text in [
            "",
            ":80",
            "a:b@host",
            "user@host",
            "host:0",
            "host:65536",
            "host:123456",
            "host:8a",
            "host:+1",
            "host:-1",
            "host: 80",
            "a b",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "a\"b",
            "a<b>",
            "a%2",
            "a%zz",
            "a%",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]80",
            "[1.2.3.4]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "[::1]]",
            "h\u{e9}te",
            "a,b, c",
            "a^b",
            "a|b",
            "a`b",
            "a{b}",
            "\0",
            "a:80:80",
            "a::80",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn hosts_compare_without_case() {
        assert!(same(b"Shop.Example", b"shop.eXample") && !same(b"shop.example", b"shop.example."));
        let mut out = Vec::new();
        lower(b"Shop.EXAMPLE", &mut out);
        assert_eq!(out, b"shop.example");
    }
}
