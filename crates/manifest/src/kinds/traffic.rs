//! What an HTTPRoute says of traffic beyond matching and rewriting: retries, session persistence, CORS, mirrors.

use super::rules::{TOKEN_HELP, check_service_port, count, is_token};
use crate::codes;
use crate::decode::{Decode, Decoder, choice, integer, object};
use crate::node::{Node, Value};
use model::Text;
use std::ops::RangeInclusive;
use std::time::Duration;

const ORIGINS: RangeInclusive<usize> = 0..=64;
const METHODS: RangeInclusive<usize> = 0..=9;
const SESSION_NAME_BYTES: usize = 128;

object! {
    /// GEP-1731.
    pub struct HttpRouteRetry {
        "codes" => codes: Vec<RetryStatus>,
        "attempts" => attempts: Option<Attempts>,
        "backoff" => backoff: Option<Duration>,
    }
}

/// A status of a response that is tried again: 400 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryStatus(pub u16);

impl Decode for RetryStatus {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, 400, 599).map(|status| RetryStatus(status as u16))
    }
}

/// Further attempts at a request: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts(pub u32);

impl Decode for Attempts {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, 1, 100).map(|attempts| Attempts(attempts as u32))
    }
}

object! {
    /// GEP-1619.
    pub struct SessionPersistence {
        "sessionName" => name: Option<Text>,
        "absoluteTimeout" => absolute_timeout: Option<Duration>,
        "idleTimeout" => idle_timeout: Option<Duration>,
        "type" => kind: SessionPersistenceType = SessionPersistenceType::Cookie,
        "cookieConfig" => cookie: Option<CookieConfig>,
    }
    checked by session_persistence
}

choice! {
    pub enum SessionPersistenceType { Cookie = "Cookie", Header = "Header" }
}

object! {
    pub struct CookieConfig {
        "lifetimeType" => lifetime: CookieLifetime = CookieLifetime::Session,
    }
}

choice! {
    pub enum CookieLifetime { Session = "Session", Permanent = "Permanent" }
}

fn session_persistence(spec: &SessionPersistence, node: &Node, decoder: &mut Decoder) {
    if spec.kind == SessionPersistenceType::Header && spec.cookie.is_some() {
        let message = "`cookieConfig` belongs to type Cookie";
        decoder.report_field(node, "cookieConfig", &codes::CONTRADICTION, message, "remove it");
    }
    let is_permanent =
        spec.cookie.as_ref().is_some_and(|c| c.lifetime == CookieLifetime::Permanent);
    if is_permanent && spec.absolute_timeout.is_none() {
        let message = "a permanent cookie needs `absoluteTimeout`: it is how long the cookie lives";
        let help = "add `absoluteTimeout`, or use lifetimeType Session";
        decoder.report_field(node, "cookieConfig", &codes::MISSING_FIELD, message, help);
    }
    let Some(name) = &spec.name else { return };
    if !is_token(name) || name.len() > SESSION_NAME_BYTES {
        let message = format!("`{name}` is no name of a cookie or header");
        decoder.report_field(node, "sessionName", &codes::BAD_VALUE, message, TOKEN_HELP);
    }
}

object! {
    /// GEP-1767.
    pub struct CorsFilter {
        "allowOrigins" => allow_origins: Vec<Text>,
        "allowCredentials" => allow_credentials: bool = false,
        "allowMethods" => allow_methods: Vec<CorsMethod>,
        "allowHeaders" => allow_headers: Vec<Text>,
        "exposeHeaders" => expose_headers: Vec<Text>,
        /// Seconds that a browser keeps the answer to a preflight.
        "maxAge" => max_age: MaxAge = MaxAge(5),
    }
    checked by cors_filter
}

choice! {
    pub enum CorsMethod {
        Get = "GET", Head = "HEAD", Post = "POST", Put = "PUT", Delete = "DELETE", Connect = "CONNECT",
        Options = "OPTIONS", Trace = "TRACE", Patch = "PATCH", Any = "*",
    }
}

/// Seconds, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge(pub u32);

impl Decode for MaxAge {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, 1, i64::from(i32::MAX)).map(|seconds| MaxAge(seconds as u32))
    }
}

fn cors_filter(_: &CorsFilter, node: &Node, decoder: &mut Decoder) {
    for (field, allowed) in [
        ("allowOrigins", ORIGINS),
        ("allowMethods", METHODS),
        ("allowHeaders", ORIGINS),
        ("exposeHeaders", ORIGINS),
    ] {
        count(node, field, allowed, decoder);
        decoder.field(node, field, |list, decoder| alone_if_wildcard(list, field, decoder));
    }
    for field in ["allowHeaders", "exposeHeaders"] {
        each(node, field, decoder, |name| match is_token(name) {
            true => None,
            false => Some((format!("`{name}` is no name of a header"), TOKEN_HELP)),
        });
    }
    each(node, "allowOrigins", decoder, |origin| match is_origin(origin) {
        true => None,
        false => {
            let help =
                "write `*`, or a scheme, a host and perhaps a port: `https://*.example.com:8443`";
            Some((format!("`{origin}` is no origin"), help))
        }
    });
}

/// Reports the texts of a list in which `fault` finds one.
fn each(
    node: &Node,
    field: &str,
    decoder: &mut Decoder,
    fault: impl Fn(&str) -> Option<(String, &'static str)>,
) {
    decoder.field(node, field, |list, decoder| {
        decoder.items(list, |item, decoder| {
            let (message, help) = fault(item.text()?)?;
            decoder.report(&codes::BAD_VALUE, item.span, message, help);
            None::<()>
        })
    });
}

fn alone_if_wildcard(list: &Node, field: &str, decoder: &mut Decoder) {
    let Value::List(items) = &list.value else { return };
    if items.len() > 1 && items.iter().any(|item| item.text().is_some_and(|text| **text == *"*")) {
        let message = format!("`{field}` holds `*` beside others, which it takes in already");
        decoder.report(&codes::CONTRADICTION, list.span, message, "keep `*`, or the others");
    }
}

/// `*`, or what the Gateway API's pattern takes: the host may be a wildcard or begin with one.
fn is_origin(origin: &str) -> bool {
    let rest = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
    let Some(rest) = rest else { return origin == "*" };
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_host = host == "*" || name.split('.').all(is_label);
    let is_port =
        |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    is_host && port.is_none_or(is_port)
}

object! {
    pub struct RequestMirror {
        "backendRef" => backend: MirrorBackendRef,
        "percent" => percent: Option<SharePercent>,
        "fraction" => fraction: Option<Fraction>,
    }
    checked by request_mirror
}

object! {
    pub struct MirrorBackendRef {
        "group" => group: Text = "".into(),
        "kind" => kind: Text = "Service".into(),
        "name" => name: Text,
        "namespace" => namespace: Option<Text>,
        "port" => port: Option<u16>,
    }
    checked by mirror_backend_ref
}

object! {
    pub struct Fraction {
        "numerator" => numerator: u32,
        "denominator" => denominator: u32 = 100,
    }
    checked by fraction
}

/// 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharePercent(pub u32);

impl Decode for SharePercent {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        integer(node, decoder, 0, 100).map(|percent| SharePercent(percent as u32))
    }
}

fn request_mirror(mirror: &RequestMirror, node: &Node, decoder: &mut Decoder) {
    if mirror.percent.is_some() && mirror.fraction.is_some() {
        let message = "`percent` and `fraction` exclude each other";
        decoder.report_field(node, "fraction", &codes::CONTRADICTION, message, "keep one of them");
    }
}

fn mirror_backend_ref(backend: &MirrorBackendRef, node: &Node, decoder: &mut Decoder) {
    check_service_port((&backend.group, &backend.kind), backend.port, node, decoder);
}

fn fraction(fraction: &Fraction, node: &Node, decoder: &mut Decoder) {
    if fraction.denominator == 0 {
        let message = "`denominator` is 0";
        let help = "write a number from 1 on";
        decoder.report_field(node, "denominator", &codes::OUT_OF_RANGE, message, help);
    } else if fraction.numerator > fraction.denominator {
        let message =
            "`numerator` is greater than `denominator`: at most all requests are mirrored";
        let help = "write a fraction from 0 to 1";
        decoder.report_field(node, "numerator", &codes::OUT_OF_RANGE, message, help);
    }
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn origins() {
        for (origin, expected) in [
            ("*", true),
            ("https://www.foo.com", true),
            ("http://*.bar.com:8080", true),
            ("https://*", true),
            ("https://*:8443", true),
            ("www.foo.com", false),
            ("ftp://www.foo.com", false),
            ("https://", false),
            ("https://foo.*.com", false),
            ("https://foo.com/path", false),
            ("https://foo.com:0", false),
            ("https://foo.com:65536", false),
        ] {
            assert_eq!(is_origin(origin), expected, "{origin}");
        }
    }
}
