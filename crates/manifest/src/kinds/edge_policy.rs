//! EdgePolicy: how the backends of a Gateway, a route or a Service are talked to, as far as no standard object says it.

use crate::codes;
use crate::decode::{Decode, Decoder, choice, integer, object};
use crate::kinds::edge_policy_answers::{DefaultBackendRef, ErrorPages, MaintenanceSection};
use crate::kinds::edge_policy_entry::{
    AcceptProxySection, AddressesSection, ClientAddressSection, Whole,
};
use crate::kinds::edge_policy_limits::LimitsSection;
use crate::kinds::edge_policy_tls::{
    ClientCertificateSection, StrictTransportSecurity, TlsSection,
};
use crate::kinds::fallback::FallbackSection;
use crate::kinds::policy::PolicyTarget;
use crate::node::{Node, Value};
use crate::section::{Field, FieldDoc, bounded, choice_field, section, shown_duration};
use model::traffic::{Balance, Ejection, HashKey, RetryBudget};
use model::{HostPattern, Text};
use std::ops::RangeInclusive;
use std::time::Duration;

section! {
    pub struct EdgePolicy {
        /// What the policy is for: Gateways (with `sectionName`, one listener), HTTPRoutes, GRPCRoutes, TLSRoutes,
        /// TCPRoutes, UDPRoutes, Ingresses and Services of its own namespace; 1 to 16 of them.
        "targetRefs" => targets: Targets,
        /// How requests are spread over the endpoints of a backend.
        "loadBalancing" => load_balancing: LoadBalancing,
        /// Endpoints are asked whether they are well. Without the section they are not.
        "healthCheck" => health_check: HealthCheckSection,
        /// Endpoints that fail requests are left out for a while. So they are without a policy, too, by the defaults.
        "outlierEjection" => outlier_ejection: OutlierEjection,
        /// Limits of one backend over all workers. What is beyond is answered 503 at once; a limit that is not written
        /// does not hold.
        "circuitBreaker" => circuit_breaker: CircuitBreaker,
        /// Requests that are tried again. `retry` of the rule itself comes before it, field by field. `attempts`,
        /// `codes`, `backoff`, `perTryTimeout` or `hedgeAfter` switches it on.
        "retry" => retry: RetrySection,
        /// Connections to endpoints.
        "connectionPool" => connection_pool: PoolSection,
        /// What stands in for a backend that has too few endpoints: other Services, then an answer.
        "fallback" => fallback: FallbackSection,
        /// Services of type ExternalName as backends, for a policy of a Gateway. Without it they are refused.
        "externalName" => external_name: ExternalNameSection,
        /// The PROXY protocol towards endpoints. Without the section it is not spoken.
        "proxyProtocol" => proxy_protocol: ProxySection,
        /// Proxies before this one that are believed about a client's address, scheme and host. For Gateways and listeners.
        "clientAddress" => client_address: Whole<ClientAddressSection>,
        /// The PROXY protocol from load balancers before this one. For Gateways; the listeners of a port share it.
        "acceptProxyProtocol" => accept_proxy_protocol: Whole<AcceptProxySection>,
        /// Who may connect, by the address at the connection's other end. For Gateways and listeners; all levels hold.
        "peers" => peers: Whole<AddressesSection>,
        /// Whose requests are served, by the client's address (see `clientAddress`). Others get 403. For Gateways,
        /// listeners, HTTPRoutes, GRPCRoutes and Ingresses; all levels hold.
        "sources" => sources: Whole<AddressesSection>,
        /// TLS with clients; for Gateways and their listeners.
        "tls" => tls: TlsSection,
        /// Certificates of clients, where the Gateway's `tls.frontend` asks for them.
        "clientCertificate" => client_certificate: ClientCertificateSection,
        /// Strict-Transport-Security (RFC 6797) in every response over TLS. Without the section the edge says nothing.
        "strictTransportSecurity" => strict_transport_security: StrictTransportSecurity,
        /// Answers of one's own to requests that are refused. For Gateways, HTTPRoutes, GRPCRoutes and Ingresses; the nearest
        /// list counts as a whole, and in it the first page for a status.
        "errorPages" => error_pages: ErrorPages,
        /// The Service for requests that no rule takes. For Gateways. Without it, they are answered 404.
        "defaultBackend" => default_backend: DefaultBackendRef,
        /// Requests are answered 503 for a while. For Gateways, HTTPRoutes, GRPCRoutes and Ingresses.
        "maintenance" => maintenance: MaintenanceSection,
        /// What is taken of clients. For Gateways; what a body may be for HTTPRoutes, GRPCRoutes and Ingresses too. What has to
        /// be known before the name is, is of a port: of its listeners the first that says it counts.
        "limits" => limits: LimitsSection,
    }
    checked by edge_policy
}

/// The fields of the kind, for the handbook.
pub fn fields() -> Vec<FieldDoc> {
    EdgePolicy::fields()
}

impl EdgePolicy {
    pub fn target_refs(&self) -> &[PolicyTarget] {
        self.targets.as_ref().map_or(&[], |targets| &targets.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Vec<PolicyTarget>);

impl Decode for Targets {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        Vec::decode(node, decoder).map(Targets)
    }
}

impl Field for Targets {
    fn words() -> String {
        "list of `group`, `kind`, `name`, `sectionName`".to_owned()
    }
}

section! {
    pub struct LoadBalancing {
        /// LeastRequest takes the less busy of two at random; PeakEwma weighs that by latency; ConsistentHash keeps what
        /// `hash` names at one endpoint.
        "algorithm" => algorithm: AlgorithmName = AlgorithmName::LeastRequest,
        /// What ConsistentHash hashes: one of `sourceAddress: {}`, `header: <name>`, `cookie: <name>` and
        /// `queryParameter: <name>`.
        "hash" => hash: HashOn = HashOn(HashKey::SourceAddress),
        /// An endpoint that appears gets its full share after this time. Without it, at once. Not for Random and
        /// ConsistentHash.
        "slowStart" => slow_start: Period,
        /// Where a smaller share of the endpoints is in use, all are used: few that are left would break down too. With 0,
        /// only where none is left.
        "panicPercent" => panic_percent: Percent = Percent(Balance::default().panic_percent),
    }
    checked by load_balancing
}

choice! {
    pub enum AlgorithmName {
        LeastRequest = "LeastRequest", RoundRobin = "RoundRobin", Random = "Random", PeakEwma = "PeakEwma",
        ConsistentHash = "ConsistentHash",
    }
}

section! {
    pub struct HealthCheckSection {
        /// HTTP and HTTPS send a GET; TCP connects; GRPC asks grpc.health.v1.Health.
        "protocol" => protocol: ProbeProtocol = ProbeProtocol::Http,
        /// Of the GET.
        "path" => path: Text = "/".into(),
        /// Host header of the GET. Without it, the endpoint's address.
        "host" => host: Text,
        /// Instead of the endpoint's own port.
        "port" => port: u16,
        /// From one check to the next.
        "interval" => interval: Period = Period(Duration::from_secs(10)),
        /// For one check.
        "timeout" => timeout: Period = Period(Duration::from_secs(2)),
        /// Good checks in a row that take an endpoint in.
        "healthyThreshold" => healthy_threshold: Threshold = Threshold(2),
        /// Bad checks in a row that take an endpoint out.
        "unhealthyThreshold" => unhealthy_threshold: Threshold = Threshold(3),
        /// Statuses of a good answer to the GET, each a number or a range like `200-299`.
        "statuses" => statuses: Vec<StatusRange> = vec![StatusRange { low: 200, high: 399 }],
        /// The service that GRPC asks for. Without it, the server as a whole.
        "service" => service: Text,
    }
    checked by health_check
}

choice! {
    pub enum ProbeProtocol { Http = "HTTP", Https = "HTTPS", Tcp = "TCP", Grpc = "GRPC" }
}

section! {
    pub struct OutlierEjection {
        /// Failures in a row, to connect or to give a response that is one. 0 switches it off.
        "consecutiveFailures" => consecutive_failures: Strikes = Strikes(Ejection::default().consecutive_failures),
        /// Responses 5xx in a row. 0 switches it off.
        "consecutive5xx" => consecutive_5xx: Strikes = Strikes(Ejection::default().consecutive_5xx),
        /// Percentage points below the mean success rate of the other endpoints. 0 switches it off.
        "successRateBelowMean" => success_rate_below_mean: Percent = Percent(Ejection::default().success_rate_below_mean),
        /// How long an endpoint is out the first time; each further time is longer by it.
        "baseTime" => base_time: Period = Period(Ejection::default().base_time),
        /// The longest time out.
        "maxTime" => max_time: Period = Period(Ejection::default().max_time),
        /// At most this share of the endpoints is out. One always may be, where there is another. With a `fallback` the
        /// default is 100, and the last may go, too.
        "maxPercent" => max_percent: Percent = Percent(Ejection::default().max_percent),
    }
    checked by outlier_ejection
}

section! {
    pub struct CircuitBreaker {
        /// Connections to all endpoints of the backend, idle ones too.
        "connections" => connections: Limit,
        /// Requests under way.
        "requests" => requests: Limit,
        /// Requests that wait for a connection.
        "pending" => pending: Limit,
        /// Retries under way.
        "retries" => retries: Limit,
    }
}

section! {
    pub struct RetrySection {
        /// Further attempts after the first. 0 switches retries off.
        "attempts" => attempts: AttemptCount = AttemptCount(1),
        /// Statuses of responses that are tried again. Without them, failed connections alone are.
        "codes" => codes: Vec<RetryCode>,
        /// The least time before a further attempt.
        "backoff" => backoff: Period,
        /// For one attempt, where the route has no `timeouts.backendRequest`.
        "perTryTimeout" => per_try_timeout: Period,
        /// When no answer has begun after this time, the request is sent to another endpoint too, and the first answer
        /// counts: idempotent requests without a body, as far as the budget lasts. Without it, never.
        "hedgeAfter" => hedge_after: Period,
        /// Retries among all requests of a backend, so that they do not multiply its load when it is ill (GEP-3388).
        "budget" => budget: BudgetSection,
    }
}

section! {
    pub struct BudgetSection {
        /// Of the requests of the interval.
        "percent" => percent: Percent = Percent(RetryBudget::default().percent),
        /// What the share is taken of.
        "interval" => interval: Period = Period(RetryBudget::default().interval),
        /// Retries a second that are allowed however few requests there are.
        "minPerSecond" => min_per_second: Strikes = Strikes(RetryBudget::default().min_per_second),
    }
}

section! {
    pub struct PoolSection {
        /// For a connection to an endpoint. Without it, the edge's own limit.
        "connectTimeout" => connect_timeout: Period,
        /// After which an idle connection is closed. Without it, the edge's own limit.
        "idleTimeout" => idle_timeout: Period,
        /// Idle connections to one endpoint that a worker keeps. Without it, the edge's own limit.
        "maxIdle" => max_idle: Strikes,
    }
}

section! {
    pub struct ExternalNameSection {
        /// Names that Services may lead to, like `api.example.com` and `*.example.com`.
        "allow" => allow: AllowedNames,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedNames(pub Vec<HostPattern>);

impl Decode for AllowedNames {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        Vec::decode(node, decoder).map(AllowedNames)
    }
}

impl Field for AllowedNames {
    fn words() -> String {
        "list of names".to_owned()
    }
}

section! {
    pub struct ProxySection {
        /// Sent ahead of each connection. V1 is text, V2 binary.
        "send" => send: ProxyVersion = ProxyVersion::V2,
    }
}

choice! {
    pub enum ProxyVersion { V1 = "V1", V2 = "V2" }
}

choice_field!(AlgorithmName, ProbeProtocol, ProxyVersion);

bounded! {
    Percent(u8) = 0..=100;
    Threshold(u32) = 1..=100;
    Strikes(u32) = 0..=1_000_000;
    Limit(u32) = 1..=1_000_000;
    AttemptCount(u32) = 0..=100;
    Count(u32) = 1..=16;
    RetryCode(u16) = 400..=599;
    AnswerStatus(u16) = 200..=599;
}

/// A time that is neither zero nor longer than a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Decode for Period {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let duration = Duration::decode(node, decoder)?;
        if duration.is_zero() || duration > LONGEST {
            let message = format!("{} is no time from 1ms to 24h", shown_duration(duration));
            let help = "write a time like 500ms, 10s or 5m";
            decoder.report(&codes::OUT_OF_RANGE, node.span, message, help);
            return None;
        }
        Some(Period(duration))
    }
}

impl Field for Period {
    fn words() -> String {
        "duration, 1ms to 24h".to_owned()
    }

    fn shown(&self) -> String {
        shown_duration(self.0)
    }
}

/// Statuses of responses: a number, or a range as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    low: u16,
    high: u16,
}

impl StatusRange {
    pub fn statuses(self) -> RangeInclusive<u16> {
        self.low..=self.high
    }
}

impl Decode for StatusRange {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::String(text) = &node.value else {
            let status = integer(node, decoder, 100, 599)? as u16;
            return Some(StatusRange { low: status, high: status });
        };
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
        let range = status(low).zip(status(high)).filter(|(low, high)| low <= high);
        if range.is_none() {
            let message = format!("`{text}` is no range of statuses");
            decoder.report(
                &codes::OUT_OF_RANGE,
                node.span,
                message,
                "write it like 200-299, within 100 to 599",
            );
        }
        range.map(|(low, high)| StatusRange { low, high })
    }
}

impl Field for StatusRange {
    fn words() -> String {
        "100 to 599, or a range".to_owned()
    }

    fn shown(&self) -> String {
        if self.low == self.high {
            self.low.to_string()
        } else {
            format!("{}-{}", self.low, self.high)
        }
    }
}

/// What a consistent hash is taken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashOn(pub HashKey);

object! {
    struct WrittenHash {
        "sourceAddress" => source_address: Option<Nothing>,
        "header" => header: Option<Text>,
        "cookie" => cookie: Option<Text>,
        "queryParameter" => query_parameter: Option<Text>,
    }
}

object! {
    struct Nothing {}
}

impl Decode for HashOn {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let written = WrittenHash::decode(node, decoder)?;
        let lower = |name: Text| Text::from(name.to_ascii_lowercase());
        let keys = [
            written.source_address.map(|Nothing {}| HashKey::SourceAddress),
            written.header.map(|name| HashKey::Header(lower(name))),
            written.cookie.map(HashKey::Cookie),
            written.query_parameter.map(HashKey::QueryParameter),
        ];
        let mut keys = keys.into_iter().flatten();
        match (keys.next(), keys.next()) {
            (Some(key), None) => Some(HashOn(key)),
            _ => {
                let message = "a hash is taken of exactly one thing";
                let help =
                    "write one of `sourceAddress: {}`, `header`, `cookie` and `queryParameter`";
                decoder.report(&codes::CONTRADICTION, node.span, message, help);
                None
            }
        }
    }
}

impl Field for HashOn {
    fn words() -> String {
        "one of its fields".to_owned()
    }

    fn shown(&self) -> String {
        match &self.0 {
            HashKey::SourceAddress => "sourceAddress: {}".to_owned(),
            HashKey::Header(name) => format!("header: {name}"),
            HashKey::Cookie(name) => format!("cookie: {name}"),
            HashKey::QueryParameter(name) => format!("queryParameter: {name}"),
        }
    }
}

fn edge_policy(policy: &EdgePolicy, node: &Node, decoder: &mut Decoder) {
    let is_for_others = policy.target_refs().iter().any(|target| &*target.kind != "Gateway");
    if policy.external_name.is_some() && is_for_others {
        let message = "`externalName` has an effect in a policy for a Gateway alone";
        let help = "whoever owns the Gateway decides where it may lead: write it in a policy of that namespace for the Gateway";
        decoder.report_field(node, "externalName", &codes::CONTRADICTION, message, help);
    }
    super::policy::check_targets(policy.target_refs(), node, decoder);
    decoder.field(node, "targetRefs", |list, decoder| {
        let mut targets = policy.target_refs().iter();
        decoder.items(list, |item, decoder| {
            targets.next().map(|target| check_target(target, item, decoder))
        })
    });
}

/// Kinds that an EdgePolicy may be for, with their groups.
const KINDS: &[(&str, &str)] = &[
    ("Gateway", "gateway.networking.k8s.io"),
    ("HTTPRoute", "gateway.networking.k8s.io"),
    ("Ingress", "networking.k8s.io"),
    ("GRPCRoute", "gateway.networking.k8s.io"),
    ("TLSRoute", "gateway.networking.k8s.io"),
    ("TCPRoute", "gateway.networking.k8s.io"),
    ("UDPRoute", "gateway.networking.k8s.io"),
    ("Service", ""),
];

fn check_target(target: &PolicyTarget, node: &Node, decoder: &mut Decoder) {
    let Some((kind, group)) = KINDS.iter().find(|(kind, _)| *kind == &*target.kind) else {
        let message = format!("an EdgePolicy cannot be for kind {}", target.kind);
        let help = "allowed: Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, UDPRoute, Ingress, Service";
        return decoder.report_field(node, "kind", &codes::BAD_VALUE, message, help);
    };
    if target.group.as_deref().is_some_and(|written| written != *group) {
        let message = format!("{kind} is no kind of this group");
        let help = match *group {
            "" => "write `group: \"\"`, or leave it away".to_owned(),
            group => format!("write `group: {group}`, or leave it away"),
        };
        decoder.report_field(node, "group", &codes::BAD_VALUE, message, help);
    }
    if target.section.is_some() && *kind != "Gateway" {
        let message = format!("`sectionName` of a {kind} is not served by an EdgePolicy");
        let help = "remove it: the policy is for all of the object";
        decoder.report_field(node, "sectionName", &codes::CONTRADICTION, message, help);
    }
}

fn load_balancing(section: &LoadBalancing, node: &Node, decoder: &mut Decoder) {
    let is_other = section.algorithm.is_some_and(|name| name != AlgorithmName::ConsistentHash);
    if is_other && section.hash.is_some() {
        let message = "`hash` belongs to algorithm ConsistentHash";
        let help = "remove it, or use ConsistentHash";
        decoder.report_field(node, "hash", &codes::CONTRADICTION, message, help);
    }
    let is_blind = |name| matches!(name, AlgorithmName::Random | AlgorithmName::ConsistentHash);
    if let Some(name) =
        section.algorithm.filter(|name| is_blind(*name) && section.slow_start.is_some())
    {
        let message = format!("`slowStart` has no effect with algorithm {}", name.name());
        let help = "remove it, or use LeastRequest, PeakEwma or RoundRobin";
        decoder.report_field(node, "slowStart", &codes::CONTRADICTION, message, help);
    }
}

fn health_check(section: &HealthCheckSection, node: &Node, decoder: &mut Decoder) {
    const FIELDS: &[(&str, &[ProbeProtocol])] = &[
        ("path", &[ProbeProtocol::Http, ProbeProtocol::Https]),
        ("host", &[ProbeProtocol::Http, ProbeProtocol::Https]),
        ("statuses", &[ProbeProtocol::Http, ProbeProtocol::Https]),
        ("service", &[ProbeProtocol::Grpc]),
    ];
    // Where a level does not name the protocol, another may.
    if let Some(protocol) = section.protocol {
        for (field, _) in FIELDS.iter().filter(|(_, owners)| !owners.contains(&protocol)) {
            if node.field(field).is_some() {
                let message = format!("`{field}` does not belong to protocol {}", protocol.name());
                decoder.report_field(node, field, &codes::CONTRADICTION, message, "remove it");
            }
        }
    }
    if section.statuses.as_ref().is_some_and(Vec::is_empty) {
        let message = "no status is good, so no endpoint would be";
        let help = "name the statuses of a good answer, or leave the field away";
        decoder.report_field(node, "statuses", &codes::OUT_OF_RANGE, message, help);
    }
    check_path(section.path.as_deref(), node, decoder);
    if section.host.as_ref().is_some_and(|host| !is_host(host)) {
        let message = "this is no host of a Host header";
        decoder.report_field(
            node,
            "host",
            &codes::BAD_VALUE,
            message,
            "write a name, perhaps with a port",
        );
    }
}

/// RFC 9112 section 3.2.1, origin-form.
pub(super) fn check_path(path: Option<&str>, node: &Node, decoder: &mut Decoder) {
    let is_target = |path: &str| {
        path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
    };
    if path.is_some_and(|path| !is_target(path)) {
        let message = "the path is sent as it is written, and this is none";
        let help = "begin it with `/`, and percent-encode spaces and what is not ASCII";
        decoder.report_field(node, "path", &codes::BAD_VALUE, message, help);
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'[' | b']'))
}

fn outlier_ejection(section: &OutlierEjection, node: &Node, decoder: &mut Decoder) {
    let (Some(base), Some(max)) = (section.base_time, section.max_time) else { return };
    if base.0 > max.0 {
        let message = "`baseTime` is longer than `maxTime`";
        decoder.report_field(
            node,
            "baseTime",
            &codes::CONTRADICTION,
            message,
            "make it the shorter one",
        );
    }
}
