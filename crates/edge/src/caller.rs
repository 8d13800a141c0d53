//! The context of a request: who asks, as far as it is to be believed. Filled once, when the request's listener is
//! known. Where nobody is trusted it is the connection's own word, and costs nothing.
//!
//! Of a proxy that is believed these count, besides the client's address: with X-Forwarded-For, the last elements of
//! X-Forwarded-Proto, X-Forwarded-Host and X-Forwarded-Port; with Forwarded, its `proto` and `host`; with a field of its
//! own nothing, for who writes that field need not write the others, and passes on what a client wrote there. Where the
//! policy names the field of the scheme, that one counts.
//! Routing goes by Host alone, and so do redirects.

use crate::connection::Connection;
use crate::decide::Head;
use crate::refusal::{Cause, Refusal};
use h1::Known;
use h1::forwarded::{self, Forwarded};
use model::edge::Protocol;
use model::front::{self, AddressHeader, ClientAddress, ListenerPolicy, RulePolicy};
use routing::Headers;
use std::net::IpAddr;

/// What a proxy says of the client.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// The connection's other end is a proxy that is believed.
    is_believed: bool,
    client: Option<IpAddr>,
    scheme: Option<Protocol>,
    port: Option<u16>,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub connection: &'a Connection,
    pub told: Told,
}

impl Told {
    pub fn of(trust: &ClientAddress, connection: &Connection, request: Head<'_>) -> Told {
        let peer = connection.peer.ip();
        if !trust.trusted.believes(peer, 0) {
            return Told::default();
        }
        let last = |known| lines(request, known).next().map(forwarded::last_element);
        let (client, scheme, port) = match &trust.header {
            AddressHeader::Forwarded => {
                let said = walk_forwarded(trust, peer, request);
                (said.client, said.proto, None)
            }
            AddressHeader::XForwardedFor => {
                let believes = |proxy, hops| trust.trusted.believes(proxy, hops);
                let chain = lines(request, Known::XForwardedFor);
                let client = forwarded::x_forwarded_for(peer, chain, believes);
                (client, last(Known::XForwardedProto), last(Known::XForwardedPort))
            }
            AddressHeader::Named(name) => (lone_address(request, name).unwrap_or(peer), None, None),
        };
        let scheme = match &trust.scheme {
            Some(name) => request.values(name).last().map(forwarded::last_element),
            None => scheme,
        };
        Told {
            is_believed: true,
            client: Some(client).filter(|client| *client != peer),
            scheme: scheme.and_then(protocol),
            port: port.and_then(number),
        }
    }

    /// The client's address, where it is not at the connection's other end.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    pub fn is_believed(&self) -> bool {
        self.is_believed
    }
}

impl<'a> Caller<'a> {
    pub fn ip(&self) -> IpAddr {
        self.told.client.unwrap_or(self.connection.peer.ip())
    }

    /// As the client sees it.
    pub fn scheme(&self) -> Protocol {
        self.told.scheme.unwrap_or(self.connection.scheme())
    }

    pub fn scheme_name(&self) -> &'static str {
        match self.scheme() {
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }

    /// As the client sees it, where a proxy says so.
    pub fn port(&self) -> Option<u16> {
        self.told.port
    }

    /// The host that the client asked for, as a proxy that is believed wrote it.
    pub fn host<'r>(&self, trust: &ClientAddress, request: Head<'r>) -> Option<&'r [u8]> {
        let written = match &trust.header {
            _ if !self.told.is_believed => None,
            AddressHeader::Forwarded => {
                walk_forwarded(trust, self.connection.peer.ip(), request).host
            }
            AddressHeader::XForwardedFor => {
                lines(request, Known::XForwardedHost).next().map(forwarded::last_element)
            }
            AddressHeader::Named(_) => None,
        };
        written.filter(|host| h1::host::parse(host).is_some())
    }
}

/// Judges the connection's other end and the client by what the listener says; tells who asks.
pub(crate) fn admit(
    policy: &ListenerPolicy,
    connection: &Connection,
    request: Head<'_>,
) -> Result<Told, Refusal> {
    if front::refusal(&policy.peers, connection.peer.ip()).is_some() {
        return Err(Refusal::Edge(Cause::PeerRefused));
    }
    let trust = policy.client_address.as_ref();
    let told = trust.map(|trust| Told::of(trust, connection, request)).unwrap_or_default();
    let address = Caller { connection, told }.ip();
    match front::refusal(&policy.sources, address) {
        Some(_) => Err(Refusal::Edge(Cause::SourceRefused)),
        None => Ok(told),
    }
}

/// What the rule says besides.
pub(crate) fn is_refused(policy: &RulePolicy, caller: Caller<'_>) -> bool {
    front::refusal(&policy.sources, caller.ip()).is_some()
}

/// Values of the lines of a name, the last first.
pub(crate) fn lines(request: Head<'_>, known: Known) -> impl DoubleEndedIterator<Item = &[u8]> {
    let lines = request.list.iter().rev().filter(move |header| header.known == known);
    lines.map(move |header| header.value(request.bytes))
}

fn walk_forwarded<'r>(trust: &ClientAddress, peer: IpAddr, request: Head<'r>) -> Forwarded<'r> {
    let believes = |proxy, hops| trust.trusted.believes(proxy, hops);
    forwarded::forwarded(peer, lines(request, Known::Forwarded), believes)
}

/// Of a field that may stand once.
fn lone_address(request: Head<'_>, name: &str) -> Option<IpAddr> {
    let mut values = request.values(name);
    let address = forwarded::address(values.next()?)?;
    values.next().is_none().then_some(address)
}

fn protocol(text: &[u8]) -> Option<Protocol> {
    match () {
        () if text.eq_ignore_ascii_case(b"http") => Some(Protocol::Http),
        () if text.eq_ignore_ascii_case(b"https") => Some(Protocol::Https),
        () => None,
    }
}

fn number(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use h1::HeaderList;
    use model::front::Trusted;
    use model::network::Network;

    fn connection(peer: &str) -> Connection {
        Connection::new(format!("{peer}:7").parse().expect("an address"), 80)
    }

    fn trust(header: AddressHeader) -> ClientAddress {
        let proxies = ["10.0.0.0/8"].map(|text| Network::parse(text).expect("a network"));
        let trusted = Trusted::Networks(proxies.into_iter().collect());
        ClientAddress { trusted, header, scheme: None }
    }

    /// Client, scheme, port and host.
    fn check(trust: &ClientAddress, peer: &str, fields: &str, expected: &str) {
        let bytes = format!("GET / HTTP/1.1\r\nhost: own.test\r\n{fields}\r\n");
        let mut list = HeaderList::new();
        let head = h1::parse_request(bytes.as_bytes(), &mut list, &crate::worker::LIMITS);
        let head = head.expect("a head").expect("a whole one");
        let request = Head { bytes: bytes.as_bytes(), head: &head, list: &list };
        let connection = connection(peer);
        let told = Told::of(trust, &connection, request);
        let caller = Caller { connection: &connection, told };
        let host = caller.host(trust, request).unwrap_or(b"-");
        let host = String::from_utf8_lossy(host);
        let port = caller.port().unwrap_or_default();
        let found = format!("{} {} {port} {host}", caller.ip(), caller.scheme_name());
        assert_eq!(found, expected, "{peer} {fields}");
    }

    #[test]
    fn a_proxy_is_believed_and_a_stranger_is_not() {
        const FIELDS: &str = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http, HTTPS\r\n\
            x-forwarded-port: 8443\r\nx-forwarded-host: a.test\r\nforwarded: for=192.0.2.2;proto=https;host=b.test\r\n\
            cf-connecting-ip: 192.0.2.3\r\n";
        let plain = trust(AddressHeader::XForwardedFor);
        check(&plain, "203.0.113.1", FIELDS, "203.0.113.1 http 0 -");
        check(&plain, "10.0.0.1", FIELDS, "192.0.2.1 https 8443 a.test");
        check(&plain, "10.0.0.1", "", "10.0.0.1 http 0 -");
        let standard = trust(AddressHeader::Forwarded);
        check(&standard, "203.0.113.1", FIELDS, "203.0.113.1 http 0 -");
        check(&standard, "10.0.0.1", FIELDS, "192.0.2.2 https 0 b.test");
        let named = trust(AddressHeader::Named("cf-connecting-ip".into()));
        check(&named, "203.0.113.1", FIELDS, "203.0.113.1 http 0 -");
        check(&named, "10.0.0.1", FIELDS, "192.0.2.3 http 0 -");
        let twice = "cf-connecting-ip: 192.0.2.3\r\ncf-connecting-ip: 192.0.2.4\r\n";
        check(&named, "10.0.0.1", twice, "10.0.0.1 http 0 -");
    }

    #[test]
    fn where_the_field_of_the_scheme_is_named_it_counts_and_no_other() {
        let with =
            |header, scheme: &str| ClientAddress { scheme: Some(scheme.into()), ..trust(header) };
        let named = with(AddressHeader::Named("cf-connecting-ip".into()), "x-forwarded-proto");
        for (peer, fields, expected) in [
            ("10.0.0.1", "x-forwarded-proto: https\r\n", "10.0.0.1 https 0 -"),
            ("10.0.0.1", "x-forwarded-proto: https, http\r\n", "10.0.0.1 http 0 -"),
            (
                "10.0.0.1",
                "x-forwarded-proto: http\r\nx-forwarded-proto: https\r\nx-forwarded-port: 8443\r\n",
                "10.0.0.1 https 0 -",
            ),
            ("10.0.0.1", "x-forwarded-proto: gopher\r\n", "10.0.0.1 http 0 -"),
            ("10.0.0.1", "", "10.0.0.1 http 0 -"),
            ("203.0.113.1", "x-forwarded-proto: https\r\n", "203.0.113.1 http 0 -"),
        ] {
            check(&named, peer, fields, expected);
        }
        let other = with(AddressHeader::XForwardedFor, "cloudfront-forwarded-proto");
        check(&other, "10.0.0.1", "x-forwarded-proto: https\r\n", "10.0.0.1 http 0 -");
        check(&other, "10.0.0.1", "CloudFront-Forwarded-Proto: https\r\n", "10.0.0.1 https 0 -");
        let standard = with(AddressHeader::Forwarded, "x-forwarded-proto");
        let both = "forwarded: for=192.0.2.2;proto=http\r\nx-forwarded-proto: https\r\n";
        check(&standard, "10.0.0.1", both, "192.0.2.2 https 0 -");
    }

    #[test]
    fn rubbish_of_a_proxy_says_nothing() {
        let plain = trust(AddressHeader::XForwardedFor);
        for (fields, expected) in [
            ("x-forwarded-proto: gopher\r\n", "10.0.0.1 http 0 -"),
            ("x-forwarded-proto: https,\r\n", "10.0.0.1 http 0 -"),
            ("x-forwarded-port: 0\r\n", "10.0.0.1 http 0 -"),
            ("x-forwarded-port: 65536\r\n", "10.0.0.1 http 0 -"),
            ("x-forwarded-host: a b\r\n", "10.0.0.1 http 0 -"),
            ("x-forwarded-host: a.test/x\r\n", "10.0.0.1 http 0 -"),
            ("x-forwarded-for: unknown\r\n", "10.0.0.1 http 0 -"),
        ] {
            check(&plain, "10.0.0.1", fields, expected);
        }
    }
}
