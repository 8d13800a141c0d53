//! What probes saw. A shell gathers it; absence says why.

use model::id::ServicePort;
use model::reach::Unreached;
use model::traffic::BackendPolicy;
use model::{HostPattern, Node, ObjectId, Text};
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
    /// What came of trying each endpoint as a request of its backend would reach it.
    pub endpoints: Probed<BTreeMap<(ServicePort, SocketAddr), Result<(), Unreached>>>,
    /// Names of Services of type ExternalName that lead to no address that may be gone to.
    pub names: Probed<BTreeMap<Text, Nowhere>>,
    /// Endpoints that are ready and yet get no requests, because of what they did or how checks went; and why.
    pub out: BTreeMap<SocketAddr, TakenOut>,
    /// Endpoints whose last requests all failed.
    pub failing: BTreeMap<SocketAddr, Failing>,
}

#[derive(Clone, Debug)]
pub struct Failing {
    pub in_row: u32,
    /// Since the last of them.
    pub ago_s: u64,
    /// A clause: `it sent what is no response`.
    pub what: String,
}

#[derive(Clone, Debug)]
pub struct TakenOut {
    /// A clause or two: `ejected 3 s ago, 27 s left: it failed`.
    pub why: String,
    /// An endpoint is one for all Services that have it: the one whose requests or checks took it out.
    pub service: Option<ObjectId>,
}

/// Why a name leads to no address that may be gone to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nowhere {
    NotAsked,
    /// No nameserver has answered.
    Unanswered,
    NoAddress,
    /// The address, and what it is: `a loopback address`.
    Forbidden(IpAddr, String),
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
    pub endpoints: Vec<Try>,
    /// Of Services of type ExternalName without an endpoint.
    pub names: Vec<Text>,
}

/// An endpoint to be tried, without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    pub port: ServicePort,
    pub address: SocketAddr,
    /// Its address of the other family.
    pub alternate: Option<SocketAddr>,
    /// By which its connections are made.
    pub policy: Option<Node<BackendPolicy>>,
    /// It takes bytes and no requests.
    pub is_stream: bool,
}
