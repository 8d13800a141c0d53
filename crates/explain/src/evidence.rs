//! What probes saw. A shell gathers it; absence says why.

use model::HostPattern;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One probe's result.
#[derive(Clone, Debug, Default)]
pub enum Probed<T> {
    /// Nobody was there to ask (a folder without an instance).
    #[default]
    Skipped,
    /// The probe could not be made, so nothing is known.
    Unknown(String),
    Seen(T),
}

#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The answer of our nameserver over the wire; an error when it does not answer.
    pub dns: Probed<Result<DnsAnswer, String>>,
    /// Ports as manifests write them, by whether they are of UDP, with what became of binding them.
    pub ports: Probed<BTreeMap<(bool, u16), PortState>>,
    /// A handshake with the entry; an error when it failed.
    pub tls: Probed<Result<Handshake, String>>,
    /// A connection to each endpoint.
    pub endpoints: Probed<BTreeMap<SocketAddr, Result<(), String>>>,
    /// Endpoints that are ready and yet get no requests, because of what they did or how checks went; and why.
    pub out: BTreeMap<SocketAddr, String>,
}

#[derive(Clone, Debug)]
pub struct DnsAnswer {
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`, …
    pub rcode: String,
    pub addresses: Vec<IpAddr>,
    pub ttl: u32,
}

#[derive(Clone, Debug)]
pub enum PortState {
    Bound(SocketAddr),
    Failed(String),
}

#[derive(Clone, Debug)]
pub struct Handshake {
    pub version: String,
    pub names: Vec<HostPattern>,
    pub issuer: String,
    pub not_before: i64,
    pub not_after: i64,
    /// Whether the chain leads to the local CA; an error says where it ends. Other roots are not ours to judge.
    pub chain: Result<(), String>,
}

/// What [`crate::explain`] would like to know of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name to ask our nameserver for; none when no zone of ours holds it.
    pub dns: Option<String>,
    /// Port as written, and the server name to send.
    pub tls: Option<(u16, String)>,
    pub endpoints: Vec<SocketAddr>,
}
