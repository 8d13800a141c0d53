//! What the edge answers itself instead of an origin: pages for its refusals, maintenance; and what it takes of a
//! request before it refuses. Pure data of the plan; `edge` carries it out.

use crate::edge::Backend;
use crate::{ObjectId, Text};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Of one rule, or of requests that no rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answers {
    /// The first that names a status and has the media type counts.
    pub pages: Vec<ErrorPage>,
    pub maintenance: Option<Maintenance>,
    pub limits: RequestLimits,
}

/// An answer to requests that are refused with one of the statuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorPage {
    /// Within 400 to 599.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Responses of origins with these statuses are replaced too.
    pub intercept: bool,
    pub content: PageContent,
}

impl Answers {
    /// Those that give pages.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.pages.iter().filter_map(|page| match &page.content {
            PageContent::Service(service) => Some(&service.backend),
            PageContent::Body(_) => None,
        })
    }
}

impl ErrorPage {
    pub fn is_for(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(&status))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PageContent {
    Body(PageBody),
    /// Asked for the page by a request that says what happened.
    Service(Box<PageService>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageBody {
    /// A field value.
    pub content_type: Text,
    /// Holds `{request-id}` and `{status}` where these are to stand.
    pub text: Text,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageService {
    pub backend: Backend,
    /// In origin form.
    pub path: Text,
    /// The policy that names it.
    pub policy: ObjectId,
}

/// Requests are answered 503.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Maintenance {
    pub retry_after: Option<Duration>,
    /// Clients that are served all the same.
    pub allow: Vec<Network>,
    /// Instead of an error page for 503.
    pub body: Option<PageBody>,
    /// The policy that switches it on.
    pub policy: ObjectId,
}

impl Maintenance {
    pub fn is_for(&self, client: IpAddr) -> bool {
        !self.allow.iter().any(|network| network.contains(client))
    }
}

/// Addresses with a common beginning. The bits behind it are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address. None for anything else, such as bits behind the prefix.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        let network = Network { address, length };
        (length <= bits && network.beginning(address) == value(address)).then_some(network)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && self.beginning(address) == value(self.address)
    }

    /// The address with zeros behind the prefix.
    fn beginning(&self, address: IpAddr) -> u128 {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let behind = u32::from(bits - self.length.min(bits));
        value(address).checked_shr(behind).and_then(|kept| kept.checked_shl(behind)).unwrap_or(0)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// What is taken of one request. None is the edge's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestLimits {
    /// See [`crate::limits::REQUEST_BODY_BYTES`].
    pub body_bytes: Option<u64>,
    /// See [`crate::limits::BODY_STALL_TIMEOUT_MS`].
    pub body_timeout: Option<Duration>,
    pub rates: Option<Rates>,
}

/// The least bytes a second, counted while the edge waits for the client and for nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rates {
    /// At which a client sends the body of its request.
    pub request: Option<NonZeroU32>,
    /// At which a client takes the body of its response.
    pub response: Option<NonZeroU32>,
    /// Waiting that is not counted.
    pub grace: Duration,
}

/// Of a connection, before a name is known. None is the edge's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectionLimits {
    /// See [`crate::limits::HEAD_HEADERS`].
    pub headers: Option<u16>,
    /// See [`crate::limits::HEAD_BYTES`].
    pub head_bytes: Option<u32>,
    /// See [`crate::limits::TARGET_BYTES`].
    pub target_bytes: Option<u32>,
    /// See [`crate::limits::HEAD_TIMEOUT_MS`].
    pub head_timeout: Option<Duration>,
    /// See [`crate::limits::IDLE_TIMEOUT_MS`].
    pub idle_timeout: Option<Duration>,
    /// See [`crate::limits::HTTP2_STREAMS`].
    pub streams: Option<u32>,
}

impl ConnectionLimits {
    /// What is said here, and of `other` what is not.
    pub fn or(self, other: ConnectionLimits) -> ConnectionLimits {
        ConnectionLimits {
            headers: self.headers.or(other.headers),
            head_bytes: self.head_bytes.or(other.head_bytes),
            target_bytes: self.target_bytes.or(other.target_bytes),
            head_timeout: self.head_timeout.or(other.head_timeout),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            streams: self.streams.or(other.streams),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_begins_alike() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("::1", "::1", true),
        ] {
            let network = Network::parse(network).expect("a network");
            assert_eq!(
                network.contains(address.parse().expect("an address")),
                expected,
                "{network} {address}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "fd00::1/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "host/8",
            "::/129",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
