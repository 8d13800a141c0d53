//! The client's address behind proxies, from what they wrote into X-Forwarded-For or Forwarded (RFC 7239). Both are
//! read from the right, where the nearest proxy wrote last: what stands left of the first word of a stranger is the
//! stranger's own invention, and is never looked at. Nothing is allocated, and every byte is looked at once at most.
//!
//! Whom to believe is not known here: callers say it for an address and its distance in hops.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Walks X-Forwarded-For. `lines` are the values of its field lines, the last first; `peer` is at the connection's
/// other end. The walk ends at the first address that is not believed, and at what is no address: then the last good
/// one counts.
pub fn x_forwarded_for<'a>(
    peer: IpAddr,
    lines: impl Iterator<Item = &'a [u8]>,
    believes: impl Fn(IpAddr, u32) -> bool,
) -> IpAddr {
    let entries = lines.flat_map(|line| line.rsplit(|b| *b == b','));
    // Empty elements of a list count for nothing (RFC 9110 section 5.6.1.2).
    let mut entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
    let (mut client, mut hops) = (peer, 0);
    while believes(client, hops) {
        let Some(address) = entries.next().and_then(address) else { break };
        client = address;
        hops += 1;
    }
    client
}

/// What Forwarded says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    pub client: IpAddr,
    /// As the farthest proxy that is believed has written it, without quotes.
    pub proto: Option<&'a [u8]>,
    pub host: Option<&'a [u8]>,
}

/// Walks Forwarded, as [`x_forwarded_for`] does.
pub fn forwarded<'a>(
    peer: IpAddr,
    lines: impl Iterator<Item = &'a [u8]>,
    believes: impl Fn(IpAddr, u32) -> bool,
) -> Forwarded<'a> {
    let elements = lines.flat_map(|line| Elements { rest: Some(line) });
    let mut elements =
        elements.filter(|element| element.is_none_or(|e| !e.trim_ascii().is_empty()));
    let mut found = Forwarded { client: peer, proto: None, host: None };
    let mut hops = 0;
    while believes(found.client, hops) {
        let Some(element) = elements.next().flatten().and_then(Element::parse) else { break };
        found.proto = element.proto.or(found.proto);
        found.host = element.host.or(found.host);
        let Some(address) = element.node.and_then(node) else { break };
        found.client = address;
        hops += 1;
    }
    found
}

/// Whether what follows `line` in a list can be told from it: its quotes end.
pub fn has_whole_quotes(line: &[u8]) -> bool {
    let mut rest = Some(line);
    while let Some(left) = rest {
        match split_pair(left) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// The last element of a comma-separated list: the word of the nearest proxy.
pub fn last_element(value: &[u8]) -> &[u8] {
    value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii()
}

/// An entry of X-Forwarded-For: an address, perhaps with a port; one of IPv6 with or without brackets.
pub fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    with_port(text, is_port)
}

/// RFC 7239 section 6. `unknown` and obfuscated names are no addresses.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.into());
    }
    with_port(text, |port| is_port(port) || is_obfuscated(port))
}

/// `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn with_port(text: &str, accepts: impl Fn(&str) -> bool) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let is_whole = rest.is_empty() || rest.strip_prefix(':').is_some_and(&accepts);
        let address: Ipv6Addr = address.parse().ok().filter(|_| is_whole)?;
        return Some(IpAddr::from(address).to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    accepts(port).then_some(address.into())
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// RFC 7239 section 6.2.
fn is_obfuscated(text: &str) -> bool {
    let name = text.strip_prefix('_').unwrap_or_default();
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Elements of one line, the last first; none for one whose quotes do not end.
struct Elements<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.rest?;
        let mut is_quoted = false;
        for (at, byte) in line.iter().enumerate().rev() {
            match byte {
                b'"' if !is_escaped(line, at) => is_quoted = !is_quoted,
                b',' if !is_quoted => {
                    self.rest = line.get(..at);
                    return Some(line.get(at + 1..));
                }
                _ => {}
            }
        }
        self.rest = None;
        Some((!is_quoted).then_some(line))
    }
}

/// An odd number of backslashes stands before (RFC 9110 section 5.6.4).
fn is_escaped(line: &[u8], at: usize) -> bool {
    line[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

#[derive(Clone, Copy, Debug, Default)]
struct Element<'a> {
    node: Option<&'a [u8]>,
    proto: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// None for what is not of the form of RFC 7239 section 4, or says a parameter twice.
    fn parse(text: &'a [u8]) -> Option<Element<'a>> {
        let mut element = Element::default();
        let mut rest = Some(text);
        while let Some(left) = rest {
            let (pair, after) = split_pair(left)?;
            rest = after;
            let pair = pair.trim_ascii();
            if pair.is_empty() {
                continue;
            }
            let equals = memchr::memchr(b'=', pair)?;
            let (name, value) = (&pair[..equals], &pair[equals + 1..]);
            let slot = match name {
                _ if name.eq_ignore_ascii_case(b"for") => &mut element.node,
                _ if name.eq_ignore_ascii_case(b"proto") => &mut element.proto,
                _ if name.eq_ignore_ascii_case(b"host") => &mut element.host,
                _ => continue,
            };
            if slot.replace(unquoted(value)?).is_some() {
                return None;
            }
        }
        Some(element)
    }
}

/// Up to a semicolon outside of quotes, and what follows it.
fn split_pair(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => return Some((&text[..at], text.get(at + 1..))),
            _ => {}
        }
    }
    (!is_quoted).then_some((text, None))
}

/// A token, or what stands in quotes; nothing with an escape, which no address, scheme or host needs.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', inner @ .., b'"'] => {
            (!inner.iter().any(|b| matches!(b, b'\\' | b'"'))).then_some(inner)
        }
        _ => (!value.contains(&b'"')).then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Proxies are at 10.0.0.0/8 and fd00::/8.
    fn is_proxy(address: IpAddr, _: u32) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.octets()[0] == 0xfd,
        }
    }

    #[test]
    fn x_forwarded_for_from_the_right() {
        // Lines in the order of the message, separated by `|`.
        for (peer, lines, expected) in [
            ("192.0.2.9", "203.0.113.1", "192.0.2.9"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "6.6.6.6, 203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "203.0.113.1, 10.0.0.2", "203.0.113.1"),
            ("10.0.0.1", "6.6.6.6|203.0.113.1, 10.0.0.3|10.0.0.2", "203.0.113.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "203.0.113.1:4711", "203.0.113.1"),
            ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "203.0.113.1, fd00::2, [fd00::3]:1", "203.0.113.1"),
            ("10.0.0.1", "203.0.113.1,,\t, ,10.0.0.2 ,", "203.0.113.1"),
            // What is no address ends the walk.
            ("10.0.0.1", "203.0.113.1, unknown", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "203.0.113.1, _hidden, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "203.0.113.1, \"10.0.0.2\"", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, 10.0.0.2:", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, 10.0.0.2:123456", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, 10.0.0.02", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, 10.0.0", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, [fd00::1", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, [fd00::1]x", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, fe80::1%eth0", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, \u{e4}\u{f6}", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1; drop", "10.0.0.1"),
        ] {
            let lines = lines.split('|').rev().map(str::as_bytes);
            assert_eq!(
                x_forwarded_for(ip(peer), lines, is_proxy),
                ip(expected),
                "{peer} {expected}"
            );
        }
    }

    #[test]
    fn forwarded_from_the_right() {
        for (lines, client, proto, host) in [
            ("", "10.0.0.1", "", ""),
            ("for=203.0.113.1", "203.0.113.1", "", ""),
            ("For=203.0.113.1;Proto=https;HOST=a.test", "203.0.113.1", "https", "a.test"),
            ("for=6.6.6.6;proto=ftp, for=203.0.113.1;proto=https", "203.0.113.1", "https", ""),
            ("for=203.0.113.1;proto=https, for=10.0.0.2;proto=http", "203.0.113.1", "https", ""),
            ("for=203.0.113.1|for=10.0.0.2;proto=http", "203.0.113.1", "http", ""),
            ("for=\"203.0.113.1:80\"; host=\"a.test:8080\"", "203.0.113.1", "", "a.test:8080"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1", "", ""),
            ("for=\"[2001:db8::1]:_port\"", "2001:db8::1", "", ""),
            ("for=\"[2001:db8::1]\" ; by=_me", "2001:db8::1", "", ""),
            ("for=203.0.113.1;note=\"a,b;c\"", "203.0.113.1", "", ""),
            ("for=203.0.113.1;note=\"a\\\",b\", for=10.0.0.2", "203.0.113.1", "", ""),
            ("proto=https", "10.0.0.1", "https", ""),
            // A proxy that is believed keeps its neighbour secret: the walk ends, its other words count.
            ("for=203.0.113.1, for=unknown;proto=https", "10.0.0.1", "https", ""),
            ("for=203.0.113.1, for=_secret, for=10.0.0.2", "10.0.0.2", "", ""),
            // A stranger's open quote does not swallow what a proxy wrote behind it.
            ("for=\"6.6.6.6, for=203.0.113.1;proto=https", "203.0.113.1", "https", ""),
            ("for=6.6.6.6;x=\"\\, for=203.0.113.1", "203.0.113.1", "", ""),
            // Malformed.
            ("for=203.0.113.1, for=10.0.0.2;for=10.0.0.3", "10.0.0.1", "", ""),
            ("for=203.0.113.1, for", "10.0.0.1", "", ""),
            ("for=203.0.113.1, for=[fd00::1", "10.0.0.1", "", ""),
            ("for=203.0.113.1, for=fd00::1", "10.0.0.1", "", ""),
            ("for=203.0.113.1, for=\"10.0.0.2", "10.0.0.1", "", ""),
            ("for=203.0.113.1, for=\"10.0.\\0.2\"", "10.0.0.1", "", ""),
            ("for=203.0.113.1, for=1\"0.0.0.2", "10.0.0.1", "", ""),
        ] {
            let found =
                forwarded(ip("10.0.0.1"), lines.split('|').rev().map(str::as_bytes), is_proxy);
            let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().into());
            let expected = (ip(client), Ok(proto.to_owned()), Ok(host.to_owned()));
            assert_eq!((found.client, text(found.proto), text(found.host)), expected, "{lines}");
        }
    }

    #[test]
    fn hops_are_counted_from_the_connection() {
        let line = b"6.6.6.6, 203.0.113.1, 198.51.100.2".as_slice();
        for (count, expected) in
            [(0, "192.0.2.9"), (1, "198.51.100.2"), (2, "203.0.113.1"), (9, "6.6.6.6")]
        {
            let walk = x_forwarded_for(ip("192.0.2.9"), [line].into_iter(), |_, hops| hops < count);
            assert_eq!(walk, ip(expected), "{count} hops");
        }
    }

    #[test]
    fn ten_thousand_entries_are_walked_once() {
        let mut text = "203.0.113.1".to_owned();
        text.push_str(&", 10.0.0.7".repeat(10_000));
        let walked = x_forwarded_for(ip("10.0.0.1"), [text.as_bytes()].into_iter(), is_proxy);
        assert_eq!(walked, ip("203.0.113.1"));
        let mut text = "for=203.0.113.1".to_owned();
        text.push_str(&", for=\"10.0.0.7:1\"".repeat(10_000));
        let walked = forwarded(ip("10.0.0.1"), [text.as_bytes()].into_iter(), is_proxy);
        assert_eq!(walked.client, ip("203.0.113.1"));
        let quotes = "\"".repeat(10_001);
        assert_eq!(
            forwarded(ip("10.0.0.1"), [quotes.as_bytes()].into_iter(), is_proxy).client,
            ip("10.0.0.1")
        );
    }

    #[test]
    fn quotes_that_end() {
        for (line, expected) in [
            ("for=a;host=\"b;c\", for=d", true),
            ("", true),
            ("for=\"a", false),
            ("for=\"a\\\"", false),
            ("for=\"a\\\\\"", true),
        ] {
            assert_eq!(has_whole_quotes(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn the_nearest_proxys_word_of_a_list() {
        for (value, expected) in
            [("https", "https"), ("https, http ", "http"), ("", ""), ("https,", "")]
        {
            assert_eq!(last_element(value.as_bytes()), expected.as_bytes(), "{value}");
        }
    }
}
