//! Hostnames, parsed once: lower case, A-labels, no trailing dot. A value of these types is always well formed.

use crate::Text;
use std::cmp::Ordering;
use std::fmt;

/// Longest name in presentation form, RFC 1035 section 2.3.4.
pub const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A hostname without wildcard: labels of letters, digits and hyphens, RFC 1123 section 2.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Text);

/// Why a name is no hostname. The message is one sentence for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName(pub String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadName {}

impl Hostname {
    /// Accepts Unicode (converted by IDNA, UTS 46), any case and one trailing dot.
    pub fn parse(text: &str) -> Result<Hostname, BadName> {
        let ascii = to_ascii(text)?;
        check_labels(&ascii, is_ldh_label)?;
        if ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(BadName(format!(
                "\"{text}\" is an IP address or ends in a number, not a hostname"
            )));
        }
        Ok(Hostname(ascii.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn text(&self) -> Text {
        self.0.clone()
    }

    /// The name without its first label.
    pub fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, rest)| rest)
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name as the DNS knows it: labels may hold underscores, and the first label may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Text);

impl DnsName {
    pub fn parse(text: &str) -> Result<DnsName, BadName> {
        let ascii = match text.strip_prefix("*.") {
            Some(rest) => format!("*.{}", to_ascii(rest)?),
            None => to_ascii(text)?,
        };
        check_labels(ascii.strip_prefix("*.").unwrap_or(&ascii), is_dns_label)?;
        Ok(DnsName(ascii.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the name itself and everything below it.
    pub fn is_within(&self, zone: &str) -> bool {
        is_within(&self.0, zone)
    }
}

impl From<&Hostname> for DnsName {
    fn from(name: &Hostname) -> DnsName {
        DnsName(name.0.clone())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True when `name` is `zone` or below it; both in normal form.
pub fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Which hosts something is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Hostname),
    /// `*.example.com` of an Ingress or a certificate: exactly one label before the suffix.
    OneLabel(Hostname),
    /// `*.example.com` of the Gateway API: one or more labels before the suffix.
    Wildcard(Hostname),
    Any,
}

impl HostPattern {
    /// Gateway API form: a wildcard stands for one or more labels; empty is [`HostPattern::Any`].
    pub fn parse(text: &str) -> Result<HostPattern, BadName> {
        match text.strip_prefix("*.") {
            _ if text.is_empty() => Ok(HostPattern::Any),
            Some(suffix) => Hostname::parse(suffix).map(HostPattern::Wildcard),
            None => Hostname::parse(text).map(HostPattern::Exact),
        }
    }

    /// Ingress and certificate form: a wildcard stands for one label.
    pub fn parse_one_label(text: &str) -> Result<HostPattern, BadName> {
        Ok(match HostPattern::parse(text)? {
            HostPattern::Wildcard(suffix) => HostPattern::OneLabel(suffix),
            other => other,
        })
    }

    /// `host` in normal form (lower case, no port, no trailing dot).
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => name.as_str() == host,
            HostPattern::OneLabel(suffix) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == suffix.as_str()),
            HostPattern::Wildcard(suffix) => {
                host.len() > suffix.as_str().len() + 1
                    && host.ends_with(suffix.as_str())
                    && host.as_bytes()[host.len() - suffix.as_str().len() - 1] == b'.'
            }
        }
    }

    /// The hosts that both stand for, or none.
    pub fn intersect(&self, other: &HostPattern) -> Option<HostPattern> {
        let (narrow, wide) =
            if self.specificity() >= other.specificity() { (self, other) } else { (other, self) };
        wide.covers(narrow).then(|| narrow.clone())
    }

    /// True when every host of `other` is a host of `self`.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (_, HostPattern::Any) => false,
            (_, HostPattern::Exact(name)) => self.matches(name.as_str()),
            (HostPattern::Exact(_), _) => false,
            (HostPattern::OneLabel(a), HostPattern::OneLabel(b)) => a == b,
            (HostPattern::OneLabel(_), HostPattern::Wildcard(_)) => false,
            (HostPattern::Wildcard(a), HostPattern::OneLabel(b) | HostPattern::Wildcard(b)) => {
                is_within(b.as_str(), a.as_str())
            }
        }
    }

    /// Larger is more specific: exact before wildcard before any, longer before shorter.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            HostPattern::Exact(name) => (3, name.as_str().len()),
            HostPattern::OneLabel(suffix) => (2, suffix.as_str().len() * 2 + 1),
            HostPattern::Wildcard(suffix) => (2, suffix.as_str().len() * 2),
            HostPattern::Any => (0, 0),
        }
    }

    /// The name without `*.`; none for [`HostPattern::Any`].
    pub fn base(&self) -> Option<&Hostname> {
        match self {
            HostPattern::Exact(name)
            | HostPattern::OneLabel(name)
            | HostPattern::Wildcard(name) => Some(name),
            HostPattern::Any => None,
        }
    }

    pub fn is_wildcard(&self) -> bool {
        matches!(self, HostPattern::OneLabel(_) | HostPattern::Wildcard(_))
    }
}

/// Most specific first; equal specificity by name.
impl Ord for HostPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        other.specificity().cmp(&self.specificity()).then_with(|| self.base().cmp(&other.base()))
    }
}

impl PartialOrd for HostPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `*` for any host.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => name.fmt(f),
            HostPattern::OneLabel(suffix) | HostPattern::Wildcard(suffix) => {
                write!(f, "*.{suffix}")
            }
            HostPattern::Any => f.write_str("*"),
        }
    }
}

fn to_ascii(text: &str) -> Result<String, BadName> {
    let trimmed = text.strip_suffix('.').unwrap_or(text);
    if trimmed.is_ascii() {
        return Ok(trimmed.to_ascii_lowercase());
    }
    idna::domain_to_ascii(trimmed).map_err(|_| {
        BadName(format!(
            "\"{text}\" cannot be written as an internationalised domain name (UTS 46)"
        ))
    })
}

fn check_labels(name: &str, is_label: fn(&str) -> bool) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName("the name is empty".to_owned()));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(BadName(format!(
            "the name has {} bytes; a DNS name has at most {MAX_NAME_BYTES}",
            name.len()
        )));
    }
    match name.split('.').find(|label| !is_label(label)) {
        None => Ok(()),
        Some("") => {
            Err(BadName(format!("\"{name}\" has an empty label (two dots, or a dot at the start)")))
        }
        Some("*") => Err(BadName(format!("\"{name}\": a wildcard is the whole first label, once"))),
        Some(label) if label.len() > MAX_LABEL_BYTES => Err(BadName(format!(
            "label \"{label}\" has {} bytes; a label has at most {MAX_LABEL_BYTES}",
            label.len()
        ))),
        Some(label) => Err(BadName(format!(
            "label \"{label}\" may hold letters, digits and inner hyphens only (RFC 1123 section 2.1)"
        ))),
    }
}

fn is_ldh_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_LABEL_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_dns_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_LABEL_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect("test pattern is well formed")
    }

    #[test]
    fn parses_and_refuses() {
        for (text, expected) in [
            ("Shop.Example.TEST", Some("shop.example.test")),
            ("shop.example.test.", Some("shop.example.test")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("a", Some("a")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.b", None),
            ("a_b.c", None),
            ("10.0.0.1", None),
            ("a b", None),
            ("*.example.test", None),
            ("exa*mple.test", None),
        ] {
            assert_eq!(
                Hostname::parse(text).ok().as_ref().map(Hostname::as_str),
                expected,
                "{text:?}"
            );
        }
        assert!(Hostname::parse(&"a".repeat(64)).is_err());
        assert!(Hostname::parse(&"a.".repeat(127)).is_ok());
        assert!(Hostname::parse(&format!("{}a.b", "a.".repeat(126))).is_err());
        assert_eq!(DnsName::parse("*.A_b.test").expect("dns name").as_str(), "*.a_b.test");
    }

    #[test]
    fn matching_and_intersection() {
        for (pattern_text, host, expected) in [
            ("*.example.test", "a.example.test", true),
            ("*.example.test", "a.b.example.test", true),
            ("*.example.test", "example.test", false),
            ("*.example.test", ".example.test", false),
            ("*.example.test", "aexample.test", false),
            ("example.test", "example.test", true),
            ("", "anything", true),
        ] {
            assert_eq!(pattern(pattern_text).matches(host), expected, "{pattern_text} {host}");
        }
        let one = HostPattern::parse_one_label("*.example.test").expect("pattern");
        assert!(one.matches("a.example.test") && !one.matches("a.b.example.test"));
        for (a, b, expected) in [
            ("*.example.test", "a.example.test", Some("a.example.test")),
            ("*.example.test", "*.b.example.test", Some("*.b.example.test")),
            ("*.example.test", "example.test", None),
            ("", "*.x", Some("*.x")),
            ("a.x", "b.x", None),
        ] {
            let expected = expected.map(pattern);
            assert_eq!(pattern(a).intersect(&pattern(b)), expected, "{a} {b}");
            assert_eq!(pattern(b).intersect(&pattern(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn sorts_most_specific_first() {
        let mut patterns: Vec<_> = ["", "*.b", "*.a.b", "x.b", "long.name.b"].map(pattern).into();
        patterns.sort();
        let shown: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["long.name.b", "x.b", "*.a.b", "*.b", "*"]);
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in "\\PC{0,40}") {
            if let Ok(name) = Hostname::parse(&text) {
                prop_assert_eq!(Hostname::parse(name.as_str()), Ok(name));
            }
        }

        #[test]
        fn an_intersection_is_covered_by_both(a in "(\\*\\.)?[ab](\\.[ab]){0,3}", b in "(\\*\\.)?[ab](\\.[ab]){0,3}") {
            let (a, b) = (pattern(&a), pattern(&b));
            if let Some(both) = a.intersect(&b) {
                prop_assert!(a.covers(&both) && b.covers(&both));
            }
        }
    }
}
