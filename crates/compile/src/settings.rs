//! From what an EdgePolicy says to the plan's form. Defaults stand with the fields' declarations.

use crate::traffic;
use manifest::kinds::edge_policy::{
    AlgorithmName, BudgetSection, CircuitBreaker, EdgePolicy, HealthCheckSection, LoadBalancing,
    OutlierEjection, PoolSection, ProbeProtocol, ProxySection, ProxyVersion, RetrySection,
};
use manifest::kinds::traffic::HttpRouteRetry;
use model::traffic::{
    Algorithm, BackendLimits, BackendPolicy, Balance, ConnectionPool, Ejection, HealthCheck,
    Nearest, Probe, ProxyProtocol, Retry, RetryBudget,
};
use std::time::Duration;

/// Of all levels together.
pub(crate) fn backend_policy(policy: &EdgePolicy) -> BackendPolicy {
    let budget = policy.retry.as_ref().and_then(|retry| retry.budget.as_ref());
    BackendPolicy {
        balance: policy.load_balancing.as_ref().map(balance).unwrap_or_default(),
        health: policy.health_check.as_ref().map(health),
        ejection: ejection(policy),
        limits: policy.circuit_breaker.as_ref().map(limits).unwrap_or_default(),
        budget: budget.map(self::budget).unwrap_or_default(),
        pool: policy.connection_pool.as_ref().map(pool).unwrap_or_default(),
        proxy_protocol: policy.proxy_protocol.as_ref().map(proxy_protocol),
        ..BackendPolicy::default()
    }
}

fn balance(section: &LoadBalancing) -> Balance {
    Balance {
        algorithm: match section.algorithm() {
            AlgorithmName::LeastRequest => Algorithm::LeastRequest,
            AlgorithmName::RoundRobin => Algorithm::RoundRobin,
            AlgorithmName::Random => Algorithm::Random,
            AlgorithmName::PeakEwma => Algorithm::PeakEwma,
            AlgorithmName::ConsistentHash => Algorithm::ConsistentHash(section.hash().0),
        },
        slow_start: section.slow_start.map(|period| period.0),
        panic_percent: section.panic_percent().0,
        nearest: Nearest::Any,
    }
}

fn health(section: &HealthCheckSection) -> HealthCheck {
    HealthCheck {
        probe: match section.protocol() {
            ProbeProtocol::Tcp => Probe::Tcp,
            ProbeProtocol::Grpc => {
                let service = section.service.clone().unwrap_or_else(|| "".into());
                Probe::Grpc { service }
            }
            http => Probe::Http {
                tls: http == ProbeProtocol::Https,
                host: section.host.clone(),
                path: section.path(),
                statuses: section.statuses().into_iter().map(|range| range.statuses()).collect(),
            },
        },
        port: section.port,
        interval: section.interval().0,
        timeout: section.timeout().0,
        healthy_threshold: section.healthy_threshold().0,
        unhealthy_threshold: section.unhealthy_threshold().0,
    }
}

/// Where something stands in for the backend all of its endpoints may be out, unless the policy says how many.
/// With levels laid over each other the first time may be longer than the longest; the longest counts.
fn ejection(policy: &EdgePolicy) -> Ejection {
    let stands_in = policy.fallback.as_ref().is_some_and(|fallback| {
        fallback.response.is_some() || fallback.backends.as_ref().is_some_and(|b| !b.0.is_empty())
    });
    let default = OutlierEjection::default();
    let section = policy.outlier_ejection.as_ref().unwrap_or(&default);
    let max_time = section.max_time().0;
    Ejection {
        consecutive_failures: section.consecutive_failures().0,
        consecutive_5xx: section.consecutive_5xx().0,
        success_rate_below_mean: section.success_rate_below_mean().0,
        base_time: section.base_time().0.min(max_time),
        max_time,
        max_percent: match section.max_percent {
            None if stands_in => 100,
            _ => section.max_percent().0,
        },
        spares_last: !stands_in,
    }
}

fn limits(section: &CircuitBreaker) -> BackendLimits {
    BackendLimits {
        connections: section.connections.map(|limit| limit.0),
        requests: section.requests.map(|limit| limit.0),
        pending: section.pending.map(|limit| limit.0),
        retries: section.retries.map(|limit| limit.0),
    }
}

fn budget(section: &BudgetSection) -> RetryBudget {
    RetryBudget {
        percent: section.percent().0,
        interval: section.interval().0,
        min_per_second: section.min_per_second().0,
    }
}

fn pool(section: &PoolSection) -> ConnectionPool {
    ConnectionPool {
        connect_timeout: section.connect_timeout.map(|period| period.0),
        idle_timeout: section.idle_timeout.map(|period| period.0),
        max_idle: section.max_idle.map(|count| count.0),
    }
}

fn proxy_protocol(section: &ProxySection) -> ProxyProtocol {
    match section.send() {
        ProxyVersion::V1 => ProxyProtocol::V1,
        ProxyVersion::V2 => ProxyProtocol::V2,
    }
}

/// What the rule says itself comes before what policies say, field by field. `backend_request` is the rule's limit of
/// one attempt.
pub(crate) fn retry(
    rule: Option<&HttpRouteRetry>,
    policies: Option<&RetrySection>,
    backend_request: Option<Duration>,
) -> Option<Box<Retry>> {
    let policies = policies.filter(|section| {
        let switches_on = [section.backoff, section.per_try_timeout, section.hedge_after];
        section.attempts.is_some()
            || section.codes.is_some()
            || switches_on.iter().any(Option::is_some)
    });
    if rule.is_none() && policies.is_none() {
        return None;
    }
    let default = RetrySection::default();
    let section = policies.unwrap_or(&default);
    let attempts = rule.and_then(|rule| rule.attempts).map(|attempts| attempts.0);
    let own = rule.map(|rule| &rule.codes).filter(|codes| !codes.is_empty());
    let codes = match own {
        Some(own) => traffic::codes(own.iter().map(|status| status.0)),
        None => traffic::codes(section.codes.iter().flatten().map(|code| code.0)),
    };
    Some(Box::new(Retry {
        attempts: attempts.unwrap_or_else(|| section.attempts().0),
        codes,
        backoff: rule.and_then(|rule| rule.backoff).or(section.backoff.map(|period| period.0)),
        per_try_timeout: backend_request.or(section.per_try_timeout.map(|period| period.0)),
        hedge_after: section.hedge_after.map(|period| period.0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the handbook shows as defaults is what counts without a policy.
    #[test]
    fn empty_sections_are_the_defaults() {
        let empty = EdgePolicy {
            load_balancing: Some(LoadBalancing::default()),
            outlier_ejection: Some(OutlierEjection::default()),
            circuit_breaker: Some(CircuitBreaker::default()),
            retry: Some(RetrySection {
                budget: Some(BudgetSection::default()),
                ..Default::default()
            }),
            connection_pool: Some(PoolSection::default()),
            ..EdgePolicy::default()
        };
        assert_eq!(backend_policy(&empty), BackendPolicy::default());
        assert_eq!(retry(None, empty.retry.as_ref(), None), None);
    }
}
