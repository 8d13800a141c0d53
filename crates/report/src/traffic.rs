//! What the plan says of traffic to backends, as JSON. What is as by default is left out.

use crate::plan::{duration, sparse};
use model::Text;
use model::fallback::{Fallback, Tier};
use model::traffic::{
    Algorithm, BackendLimits, BackendPolicy, BackendProtocol, BackendTls, Balance, Carrier,
    ConnectionPool, Cors, Ejection, HashKey, HealthCheck, Names, Nearest, OriginPattern,
    Persistence, Probe, ProxyProtocol, Retry, RetryBudget, Trust,
};
use serde_json::{Value, json};

pub(crate) fn retry(retry: &Retry) -> Value {
    sparse([
        ("attempts", json!(retry.attempts)),
        ("codes", json!(retry.codes)),
        ("backoffMs", duration(retry.backoff)),
        ("perTryTimeoutMs", duration(retry.per_try_timeout)),
        ("hedgeAfterMs", duration(retry.hedge_after)),
    ])
}

pub(crate) fn cors(cors: &Cors) -> Value {
    let origin = |origin: &OriginPattern| match origin {
        OriginPattern::Any => "*".to_owned(),
        OriginPattern::Exact(origin) => origin.to_string(),
        OriginPattern::Wildcard { prefix, suffix } => format!("{prefix}*{suffix}"),
    };
    sparse([
        ("allowOrigins", cors.origins.iter().map(origin).collect()),
        ("allowCredentials", json!(cors.allow_credentials)),
        ("allowMethods", names(&cors.methods)),
        ("allowHeaders", names(&cors.headers)),
        ("exposeHeaders", names(&cors.expose)),
        ("maxAge", json!(cors.max_age.as_secs())),
    ])
}

fn names(names: &Names) -> Value {
    match names {
        Names::Any => json!(["*"]),
        Names::Listed(names) => texts(names),
    }
}

fn texts(texts: &[Text]) -> Value {
    texts.iter().map(|text| json!(&**text)).collect()
}

pub(crate) fn persistence(persistence: &Persistence) -> Value {
    let carrier = match persistence.carrier {
        Carrier::SessionCookie => "session cookie",
        Carrier::PermanentCookie => "permanent cookie",
        Carrier::Header => "header",
    };
    sparse([
        ("carrier", json!(carrier)),
        ("name", json!(&*persistence.name)),
        ("absoluteTimeoutMs", duration(persistence.absolute_timeout)),
        ("idleTimeoutMs", duration(persistence.idle_timeout)),
    ])
}

pub(crate) fn policy(policy: &BackendPolicy) -> Value {
    let default = BackendPolicy::default();
    let protocol = match policy.protocol {
        BackendProtocol::Http1 => Value::Null,
        BackendProtocol::Http2 => json!("HTTP/2"),
        BackendProtocol::Opaque => json!("opaque"),
    };
    let unless = |is_default: bool, value: fn(&BackendPolicy) -> Value| match is_default {
        true => Value::Null,
        false => value(policy),
    };
    sparse([
        ("protocol", protocol),
        ("tls", policy.tls.as_ref().map_or(Value::Null, tls)),
        ("loadBalancing", unless(policy.balance == default.balance, |p| balance(&p.balance))),
        ("healthCheck", policy.health.as_ref().map_or(Value::Null, health)),
        ("outlierEjection", unless(policy.ejection == default.ejection, |p| ejection(&p.ejection))),
        ("circuitBreaker", limits(&policy.limits)),
        ("retryBudget", unless(policy.budget == default.budget, |p| budget(&p.budget))),
        ("connectionPool", pool(&policy.pool)),
        ("externalName", policy.external.as_deref().into()),
        ("proxyProtocol", policy.proxy_protocol.map_or(Value::Null, proxy_protocol)),
    ])
}

/// Authorities by their number: a certificate is long.
fn tls(tls: &BackendTls) -> Value {
    let trust = match &tls.trust {
        Trust::System => json!("System"),
        Trust::Authorities(authorities) => json!(authorities.len()),
    };
    let client = tls.client_certificate.as_ref().map(ToString::to_string);
    sparse([
        ("hostname", json!(&*tls.hostname)),
        ("names", texts(&tls.names)),
        ("uris", texts(&tls.uris)),
        ("authorities", trust),
        ("clientCertificate", client.into()),
    ])
}

fn balance(balance: &Balance) -> Value {
    let (algorithm, hash) = match &balance.algorithm {
        Algorithm::LeastRequest => ("LeastRequest", Value::Null),
        Algorithm::RoundRobin => ("RoundRobin", Value::Null),
        Algorithm::Random => ("Random", Value::Null),
        Algorithm::PeakEwma => ("PeakEwma", Value::Null),
        Algorithm::ConsistentHash(key) => ("ConsistentHash", hash_key(key)),
    };
    let nearest = match balance.nearest {
        Nearest::Any => Value::Null,
        Nearest::Zone => json!("Zone"),
        Nearest::Node => json!("Node"),
    };
    sparse([
        ("algorithm", json!(algorithm)),
        ("hash", hash),
        ("slowStartMs", duration(balance.slow_start)),
        ("panicPercent", json!(balance.panic_percent)),
        ("nearest", nearest),
    ])
}

pub(crate) fn fallback(fallback: &Fallback) -> Value {
    let tier = |tier: &Tier| {
        sparse([
            ("service", json!(tier.port.to_string())),
            ("policy", tier.policy.as_deref().map_or(Value::Null, policy)),
        ])
    };
    let response = fallback.response.as_ref().map(|response| {
        json!({
            "status": response.status,
            "contentType": &*response.page.content_type,
            "bodyBytes": response.page.text.len(),
        })
    });
    sparse([
        ("tiers", fallback.tiers.iter().map(tier).collect()),
        ("response", response.unwrap_or_default()),
    ])
}

fn hash_key(key: &HashKey) -> Value {
    match key {
        HashKey::SourceAddress => json!("sourceAddress"),
        HashKey::Header(name) => json!({"header": &**name}),
        HashKey::Cookie(name) => json!({"cookie": &**name}),
        HashKey::QueryParameter(name) => json!({"queryParameter": &**name}),
    }
}

fn health(check: &HealthCheck) -> Value {
    let probe = match &check.probe {
        Probe::Tcp => json!("TCP"),
        Probe::Grpc { service } => json!({"grpc": &**service}),
        Probe::Http { tls, host, path, statuses } => {
            let ranges = statuses.iter().map(|range| format!("{}-{}", range.start(), range.end()));
            sparse([
                ("scheme", json!(if *tls { "https" } else { "http" })),
                ("host", host.as_deref().into()),
                ("path", json!(&**path)),
                ("statuses", ranges.collect()),
            ])
        }
    };
    sparse([
        ("probe", probe),
        ("port", check.port.into()),
        ("intervalMs", duration(Some(check.interval))),
        ("timeoutMs", duration(Some(check.timeout))),
        ("healthyThreshold", json!(check.healthy_threshold)),
        ("unhealthyThreshold", json!(check.unhealthy_threshold)),
    ])
}

fn ejection(ejection: &Ejection) -> Value {
    json!({
        "consecutiveFailures": ejection.consecutive_failures,
        "consecutive5xx": ejection.consecutive_5xx,
        "successRateBelowMean": ejection.success_rate_below_mean,
        "baseTimeMs": duration(Some(ejection.base_time)),
        "maxTimeMs": duration(Some(ejection.max_time)),
        "maxPercent": ejection.max_percent,
        "sparesLast": ejection.spares_last,
    })
}

fn limits(limits: &BackendLimits) -> Value {
    sparse([
        ("connections", limits.connections.into()),
        ("requests", limits.requests.into()),
        ("pending", limits.pending.into()),
        ("retries", limits.retries.into()),
    ])
}

fn budget(budget: &RetryBudget) -> Value {
    json!({
        "percent": budget.percent,
        "intervalMs": duration(Some(budget.interval)),
        "minPerSecond": budget.min_per_second,
    })
}

fn pool(pool: &ConnectionPool) -> Value {
    sparse([
        ("connectTimeoutMs", duration(pool.connect_timeout)),
        ("idleTimeoutMs", duration(pool.idle_timeout)),
        ("maxIdle", pool.max_idle.into()),
    ])
}

fn proxy_protocol(version: ProxyProtocol) -> Value {
    match version {
        ProxyProtocol::V1 => json!("V1"),
        ProxyProtocol::V2 => json!("V2"),
    }
}
