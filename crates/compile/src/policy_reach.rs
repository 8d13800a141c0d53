//! Sections and fields of an EdgePolicy that can do nothing for any of its targets: what is settled with a client before a
//! route is known is for listeners, what is settled before a backend is known is not for Services, and what is about
//! requests is for what speaks HTTP. Judged by what the listeners speak that the policy is for.

use crate::answers;
use crate::codes;
use crate::layer4::Spoken;
use crate::listeners;
use crate::report::Report;
use manifest::Inputs;
use manifest::kinds::edge_policy::{
    CircuitBreaker, EdgePolicy, LoadBalancing, OutlierEjection, PoolSection,
};
use manifest::kinds::edge_policy_limits::LimitsSection;
use manifest::kinds::policy::PolicyTarget;
use model::answers::ConnectionLimits;
use model::edge::Protocol;
use model::layer4::Transport;
use model::traffic::HashKey;
use model::{Kind, Text};

/// What a policy is for, as a set.
type Places = u16;

const HTTP: Places = 1;
const HTTPS: Places = 1 << 1;
const TLS_PASSED: Places = 1 << 2;
const TLS_ENDED: Places = 1 << 3;
const TCP: Places = 1 << 4;
const UDP: Places = 1 << 5;
/// HTTPRoutes, GRPCRoutes and Ingresses.
const RULES: Places = 1 << 6;
const TLS_ROUTE: Places = 1 << 7;
const TCP_ROUTE: Places = 1 << 8;
const UDP_ROUTE: Places = 1 << 9;
const SERVICE: Places = 1 << 10;

const WEB: Places = HTTP | HTTPS;
const CONNECTIONS: Places = WEB | TLS_PASSED | TLS_ENDED | TCP;
const LISTENERS: Places = CONNECTIONS | UDP;
const FRONT: Places = WEB | RULES;
/// What is led on as bytes has no requests.
const REQUESTS: Places = FRONT | SERVICE;
/// Datagrams have no connections.
const CONNECTED: Places = CONNECTIONS | RULES | TLS_ROUTE | TCP_ROUTE | SERVICE;

/// Of the first the second, what that is called.
const LISTENER_NAMES: &[(Places, Places, &str)] = &[
    (HTTP, HTTP, "HTTP"),
    (HTTPS, HTTPS, "HTTPS"),
    (TLS_PASSED | TLS_ENDED, TLS_PASSED | TLS_ENDED, "TLS"),
    (TLS_PASSED | TLS_ENDED, TLS_ENDED, "TLS with mode Terminate"),
    (TCP, TCP, "TCP"),
    (UDP, UDP, "UDP"),
];

const OTHER_NAMES: &[(Places, &str)] = &[
    (RULES, "an HTTPRoute"),
    (RULES, "a GRPCRoute"),
    (RULES, "an Ingress"),
    (TLS_ROUTE, "a TLSRoute"),
    (TCP_ROUTE, "a TCPRoute"),
    (UDP_ROUTE, "a UDPRoute"),
    (SERVICE, "a Service"),
];

/// A path below `spec`, what is meant of it where that is not all, whether the policy says it, and where it has an effect.
struct Part {
    path: &'static str,
    of: Option<&'static str>,
    is_said: fn(&EdgePolicy) -> bool,
    places: Places,
}

const fn part(path: &'static str, is_said: fn(&EdgePolicy) -> bool, places: Places) -> Part {
    Part { path, of: None, is_said, places }
}

/// A section before its fields.
const PARTS: &[Part] = &[
    part("loadBalancing.hash", |policy| balancing(policy, hashes_requests), REQUESTS),
    Part { of: Some("without `port`"), ..part("healthCheck", checks_own_port, CONNECTED) },
    part(
        "outlierEjection.consecutive5xx",
        |p| ejection(p, |e| e.consecutive_5xx.is_some()),
        REQUESTS,
    ),
    part("circuitBreaker", |policy| policy.circuit_breaker.is_some(), CONNECTED),
    part("circuitBreaker.pending", |p| breaker(p, |b| b.pending.is_some()), REQUESTS),
    part("circuitBreaker.retries", |p| breaker(p, |b| b.retries.is_some()), REQUESTS),
    part("retry", |policy| policy.retry.is_some(), REQUESTS),
    part("connectionPool", |policy| policy.connection_pool.is_some(), CONNECTED),
    part("connectionPool.idleTimeout", |p| pool(p, |pool| pool.idle_timeout.is_some()), REQUESTS),
    part("connectionPool.maxIdle", |p| pool(p, |pool| pool.max_idle.is_some()), REQUESTS),
    part("fallback", |policy| policy.fallback.is_some(), CONNECTED),
    part("fallback.response", answers_instead, REQUESTS),
    part("externalName", |policy| policy.external_name.is_some(), WEB),
    part("proxyProtocol", |policy| policy.proxy_protocol.is_some(), CONNECTED),
    part("clientAddress", |policy| policy.client_address.is_some(), WEB),
    part("acceptProxyProtocol", |policy| policy.accept_proxy_protocol.is_some(), CONNECTIONS),
    part("peers", |policy| policy.peers.is_some(), LISTENERS),
    part("sources", |policy| policy.sources.is_some(), FRONT),
    part("tls", |policy| policy.tls.is_some(), HTTPS | TLS_ENDED),
    part("clientCertificate", |policy| policy.client_certificate.is_some(), HTTPS | RULES),
    part("strictTransportSecurity", |p| p.strict_transport_security.is_some(), HTTPS | RULES),
    part("errorPages", |policy| policy.error_pages.is_some(), FRONT),
    part("defaultBackend", |policy| policy.default_backend.is_some(), WEB),
    part("maintenance", |policy| policy.maintenance.is_some(), FRONT),
    part("limits", |policy| policy.limits.is_some(), FRONT),
    // These hold before a route is known.
    Part {
        of: Some("as far as it is about connections"),
        ..part("limits", limits_connections, WEB)
    },
];

pub(crate) fn check(inputs: &Inputs, report: &mut Report) {
    let is_rate_said = inputs.edge_policies().any(|(_, policy)| limits(policy, has_rate));
    for (object, policy) in inputs.edge_policies() {
        // A rate may be said by a policy for another level.
        if !is_rate_said && limits(policy, |limits| limits.rate_grace.is_some()) {
            let message = "`limits.rateGrace` has no effect: no policy says a rate";
            report
                .add(&codes::SECTION_IDLE, &object.id, "spec.limits.rateGrace", message)
                .help("add `requestRate` or `responseRate`, or remove it");
        }
        let namespace = &object.id.namespace;
        let targets = policy.target_refs().iter();
        let reached = targets.fold(0, |all, target| all | places(target, namespace, inputs));
        let mut said: Option<&str> = None;
        for part in PARTS.iter().filter(|part| (part.is_said)(policy) && part.places & reached == 0)
        {
            // Of a section that has no effect as a whole, no more is to be said.
            if said.is_some_and(|said| part.path.starts_with(said)) {
                continue;
            }
            said = Some(part.path);
            let what = match part.of {
                Some(of) => format!("`{}`, {of},", part.path),
                None => format!("`{}`", part.path),
            };
            let message = format!(
                "{what} has no effect: it is for {}, and no target of the policy is one",
                names(part.places)
            );
            report
                .add(&codes::SECTION_IDLE, &object.id, format!("spec.{}", part.path), message)
                .help("move it to a policy for one of these, or remove it");
        }
    }
}

/// What a target is; anything where that is not known: it is reported elsewhere.
fn places(target: &PolicyTarget, namespace: &Text, inputs: &Inputs) -> Places {
    match &*target.kind {
        kind if kind == Kind::GATEWAY.0 => of_gateway(target, namespace, inputs),
        kind if kind == Kind::TLS_ROUTE.0 => TLS_ROUTE,
        kind if kind == Kind::TCP_ROUTE.0 => TCP_ROUTE,
        kind if kind == Kind::UDP_ROUTE.0 => UDP_ROUTE,
        kind if kind == Kind::SERVICE.0 => SERVICE,
        _ => RULES,
    }
}

fn of_gateway(target: &PolicyTarget, namespace: &Text, inputs: &Inputs) -> Places {
    let gateway = inputs.gateway(namespace, &target.name);
    let listeners = gateway.iter().flat_map(|(_, gateway)| &gateway.listeners);
    let named = |name: &Text| target.section.as_ref().is_none_or(|section| section == name);
    let spoken = listeners
        .filter(|listener| named(&listener.name))
        .filter_map(|listener| listeners::protocol(listener).ok());
    match spoken.fold(0, |all, spoken| all | place(spoken)) {
        0 => LISTENERS,
        places => places,
    }
}

fn place(spoken: Spoken) -> Places {
    match spoken {
        Spoken::Http(Protocol::Http) => HTTP,
        Spoken::Http(Protocol::Https) => HTTPS,
        Spoken::Layer4(Transport::TlsPassthrough) => TLS_PASSED,
        Spoken::Layer4(Transport::TlsTerminate) => TLS_ENDED,
        Spoken::Layer4(Transport::Tcp) => TCP,
        Spoken::Layer4(Transport::Udp) => UDP,
    }
}

fn names(places: Places) -> String {
    let mut names = Vec::new();
    let listeners = LISTENER_NAMES.iter().filter(|(of, those, _)| of & places == *those);
    let listeners: Vec<&str> = listeners.map(|(.., name)| *name).collect();
    if places & LISTENERS == LISTENERS {
        names.push("a Gateway".to_owned());
    } else if !listeners.is_empty() {
        names.push(format!("a Gateway's listener of {}", listed(&listeners)));
    }
    let others = OTHER_NAMES.iter().filter(|(of, _)| of & places != 0);
    names.extend(others.map(|(_, name)| (*name).to_owned()));
    listed(&names)
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn balancing(policy: &EdgePolicy, is_said: fn(&LoadBalancing) -> bool) -> bool {
    policy.load_balancing.as_ref().is_some_and(is_said)
}

fn hashes_requests(section: &LoadBalancing) -> bool {
    section.hash.as_ref().is_some_and(|hash| hash.0 != HashKey::SourceAddress)
}

/// A port of UDP answers no check.
fn checks_own_port(policy: &EdgePolicy) -> bool {
    policy.health_check.as_ref().is_some_and(|section| section.port.is_none())
}

fn ejection(policy: &EdgePolicy, is_said: fn(&OutlierEjection) -> bool) -> bool {
    policy.outlier_ejection.as_ref().is_some_and(is_said)
}

fn breaker(policy: &EdgePolicy, is_said: fn(&CircuitBreaker) -> bool) -> bool {
    policy.circuit_breaker.as_ref().is_some_and(is_said)
}

fn pool(policy: &EdgePolicy, is_said: fn(&PoolSection) -> bool) -> bool {
    policy.connection_pool.as_ref().is_some_and(is_said)
}

fn answers_instead(policy: &EdgePolicy) -> bool {
    policy.fallback.as_ref().is_some_and(|fallback| fallback.response.is_some())
}

fn limits(policy: &EdgePolicy, is_said: fn(&LimitsSection) -> bool) -> bool {
    policy.limits.as_ref().is_some_and(is_said)
}

fn has_rate(section: &LimitsSection) -> bool {
    section.request_rate.is_some() || section.response_rate.is_some()
}

fn limits_connections(policy: &EdgePolicy) -> bool {
    limits(policy, |limits| answers::connection_limits(limits) != ConnectionLimits::default())
}
