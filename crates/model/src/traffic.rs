//! How a backend is talked to: spreading over endpoints, health, ejection, breakers, retries, the protocol and TLS of
//! the connection. Pure data of the plan; `traffic` decides by it, `edge` carries it out.

use crate::{ObjectId, Text};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Everything about one backend that is not its address. One node of it serves every rule that asks for the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendPolicy {
    pub protocol: BackendProtocol,
    pub tls: Option<BackendTls>,
    pub balance: Balance,
    pub health: Option<HealthCheck>,
    pub ejection: Ejection,
    pub limits: BackendLimits,
    pub budget: RetryBudget,
    pub pool: ConnectionPool,
    /// Sent ahead of each connection to an endpoint.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// A Service of type ExternalName: the name whose addresses are its endpoints.
    pub external: Option<Text>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendProtocol {
    /// Over TLS this is HTTP/1.1 too.
    #[default]
    Http1,
    /// Prior knowledge in the clear; chosen by ALPN over TLS, where HTTP/1.1 stays possible.
    Http2,
    /// Bytes of a TLSRoute or TCPRoute: over TLS nothing is offered by ALPN.
    Opaque,
}

/// BackendTLSPolicy, `validation` and `options`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendTls {
    /// Sent as SNI; the certificate has to have it unless `names` or `uris` say otherwise.
    pub hostname: Text,
    /// Of these and of `uris` the certificate has to have one, instead of `hostname`.
    pub names: Vec<Text>,
    /// Such as `spiffe://shop.test/web`, compared as they are written.
    pub uris: Vec<Text>,
    pub trust: Trust,
    /// The Secret with the client's certificate, where the Gateway names one.
    pub client_certificate: Option<ObjectId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    System,
    /// Certificates of authorities, DER.
    Authorities(Vec<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Balance {
    pub algorithm: Algorithm,
    /// An endpoint that appeared gets its full share after this time.
    pub slow_start: Option<Duration>,
    /// With a smaller share of endpoints in use than this percentage, or with none, all are used.
    pub panic_percent: u8,
    /// Which endpoints come first (Service, trafficDistribution).
    pub nearest: Nearest,
}

impl Default for Balance {
    fn default() -> Self {
        Balance {
            algorithm: Algorithm::LeastRequest,
            slow_start: None,
            panic_percent: 50,
            nearest: Nearest::Any,
        }
    }
}

/// Endpoints that are near the edge take what they can, and the others the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nearest {
    /// All are alike.
    #[default]
    Any,
    Zone,
    /// Of the edge's own node, then of its zone.
    Node,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The better of two at random.
    LeastRequest,
    RoundRobin,
    Random,
    /// Least request weighted by a moving average of latency that rises at once and falls slowly.
    PeakEwma,
    ConsistentHash(HashKey),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashKey {
    SourceAddress,
    /// Name in lower case.
    Header(Text),
    Cookie(Text),
    QueryParameter(Text),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Instead of the endpoint's own.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    Http {
        tls: bool,
        host: Option<Text>,
        path: Text,
        statuses: Vec<RangeInclusive<u16>>,
    },
    Tcp,
    /// grpc.health.v1.Health/Check.
    Grpc {
        service: Text,
    },
}

/// When an endpoint is taken out for what it did to requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// Failures in a row to connect, or to give a response that is one; 0 switches it off.
    pub consecutive_failures: u32,
    /// Responses 5xx in a row; 0 switches it off, and is the default: a 500 may be the application's own.
    pub consecutive_5xx: u32,
    /// Percentage points below the mean of its peers at which an endpoint is taken out; 0 switches it off.
    pub success_rate_below_mean: u8,
    /// The first time out; each further one is longer by it, up to the maximum.
    pub base_time: Duration,
    pub max_time: Duration,
    /// Of the endpoints of a backend, at most this percentage is out (but one always may be, where there is another).
    pub max_percent: u8,
    /// The last one stays in, however it fares; not so where something stands in for the backend.
    pub spares_last: bool,
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            consecutive_failures: 5,
            consecutive_5xx: 0,
            success_rate_below_mean: 0,
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
            max_percent: 50,
            spares_last: true,
        }
    }
}

/// Over all workers; None is no limit and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendLimits {
    pub connections: Option<u32>,
    pub requests: Option<u32>,
    pub pending: Option<u32>,
    pub retries: Option<u32>,
}

/// GEP-3388.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// Retries among all requests of the interval.
    pub percent: u8,
    pub interval: Duration,
    /// Retries a second that are allowed however few requests there are.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { percent: 20, interval: Duration::from_secs(10), min_per_second: 10 }
    }
}

/// None is the edge's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectionPool {
    pub connect_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    /// Idle connections to one endpoint that a worker keeps.
    pub max_idle: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// HTTPRoute, `retry` (GEP-1731). Without it the edge repeats only what is surely sound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Further attempts after the first.
    pub attempts: u32,
    /// Statuses of responses that are tried again.
    pub codes: Vec<u16>,
    /// The least time before a further attempt.
    pub backoff: Option<Duration>,
    /// For one attempt; the route's `backendRequest` where it has one.
    pub per_try_timeout: Option<Duration>,
    /// An attempt without an answer after this time gets a rival at another endpoint.
    pub hedge_after: Option<Duration>,
}

/// HTTPRoute filter CORS (GEP-1767).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cors {
    pub origins: Vec<OriginPattern>,
    pub allow_credentials: bool,
    pub methods: Names,
    pub headers: Names,
    pub expose: Names,
    pub max_age: Duration,
}

/// An origin (RFC 6454) in lower case, or one with a wildcard in its host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OriginPattern {
    Any,
    Exact(Text),
    /// `https://*.example.com` is prefix `https://` and suffix `.example.com` with its port.
    Wildcard {
        prefix: Text,
        suffix: Text,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Names {
    /// `*`: what the request asks for.
    Any,
    Listed(Vec<Text>),
}

/// HTTPRoute filter RequestMirror: a share `numerator` of `denominator` goes to the backend too; its answer is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mirror {
    pub backend: crate::edge::Backend,
    pub numerator: u32,
    pub denominator: u32,
}

/// GEP-1619.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    pub carrier: Carrier,
    /// Name of the cookie or header.
    pub name: Text,
    pub absolute_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    SessionCookie,
    /// Lives for the absolute timeout.
    PermanentCookie,
    Header,
}
