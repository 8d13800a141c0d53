//! What a rule says of traffic beyond matching and rewriting, brought to the plan's form: session persistence, CORS,
//! shares of mirrors. Retries are in `settings`: policies have a say in them.

use manifest::kinds::traffic::{
    CookieLifetime, CorsFilter, CorsMethod, RequestMirror, SessionPersistence,
    SessionPersistenceType,
};
use model::id::RuleId;
use model::traffic::{Carrier, Cors, Names, OriginPattern, Persistence};
use model::{Digest, Text};
use std::time::Duration;

/// Statuses as a set: sorted, each once.
pub(crate) fn codes(codes: impl Iterator<Item = u16>) -> Vec<u16> {
    let mut codes: Vec<u16> = codes.collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Zero switches a timeout off, as it does elsewhere (GEP-2257).
pub(crate) fn persistence(spec: &SessionPersistence, rule: &RuleId) -> Persistence {
    let lifetime = spec.cookie.as_ref().map_or(CookieLifetime::Session, |cookie| cookie.lifetime);
    let carrier = match (spec.kind, lifetime) {
        (SessionPersistenceType::Header, _) => Carrier::Header,
        (SessionPersistenceType::Cookie, CookieLifetime::Session) => Carrier::SessionCookie,
        (SessionPersistenceType::Cookie, CookieLifetime::Permanent) => Carrier::PermanentCookie,
    };
    let set = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let name = spec.name.as_ref().map(|name| match carrier {
        Carrier::Header => name.to_ascii_lowercase().into(),
        _ => name.clone(),
    });
    Persistence {
        carrier,
        name: name.unwrap_or_else(|| session_name(rule)),
        absolute_timeout: set(spec.absolute_timeout),
        idle_timeout: set(spec.idle_timeout),
    }
}

/// One name a rule: two rules of one host never read each other's sessions. A rule with a name keeps it wherever it
/// stands in its route.
fn session_name(rule: &RuleId) -> Text {
    let number = rule.index.to_string();
    let section = rule.name.as_deref().unwrap_or(&number);
    let whole = format!("{} {section}", rule.object);
    format!("cutwater-session-{}", Digest::of_bytes(whole.as_bytes()).short()).into()
}

pub(crate) fn cors(spec: &CorsFilter) -> Cors {
    Cors {
        origins: spec.allow_origins.iter().map(|origin| origin_pattern(origin)).collect(),
        allow_credentials: spec.allow_credentials,
        methods: methods(&spec.allow_methods),
        headers: names(&spec.allow_headers),
        expose: names(&spec.expose_headers),
        max_age: Duration::from_secs(u64::from(spec.max_age.0)),
    }
}

/// A browser leaves out the port that its scheme implies (RFC 6454 section 6.2), so it is left out here too.
fn origin_pattern(origin: &str) -> OriginPattern {
    let lower = origin.to_ascii_lowercase();
    let implied = match lower.split_once("://") {
        Some(("https", _)) => ":443",
        _ => ":80",
    };
    let plain = lower.strip_suffix(implied).unwrap_or(&lower);
    match plain.split_once('*') {
        None => OriginPattern::Exact(plain.into()),
        Some(("", "")) => OriginPattern::Any,
        Some((prefix, suffix)) => {
            OriginPattern::Wildcard { prefix: prefix.into(), suffix: suffix.into() }
        }
    }
}

fn methods(specs: &[CorsMethod]) -> Names {
    match specs.contains(&CorsMethod::Any) {
        true => Names::Any,
        false => Names::Listed(specs.iter().map(|method| method.name().into()).collect()),
    }
}

fn names(specs: &[Text]) -> Names {
    match specs.iter().any(|name| &**name == "*") {
        true => Names::Any,
        false => Names::Listed(specs.to_vec()),
    }
}

/// Numerator and denominator; all requests where neither field is written.
pub(crate) fn share(spec: &RequestMirror) -> (u32, u32) {
    match (&spec.fraction, spec.percent) {
        (Some(fraction), _) => (fraction.numerator, fraction.denominator),
        (None, Some(percent)) => (percent.0, 100),
        (None, None) => (1, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        let wildcard = |prefix: &str, suffix: &str| OriginPattern::Wildcard {
            prefix: prefix.into(),
            suffix: suffix.into(),
        };
        for (origin, expected) in [
            ("*", OriginPattern::Any),
            ("https://WWW.foo.com:443", OriginPattern::Exact("https://www.foo.com".into())),
            ("http://foo.com:443", OriginPattern::Exact("http://foo.com:443".into())),
            ("https://*.bar.com:8443", wildcard("https://", ".bar.com:8443")),
            ("http://*", wildcard("http://", "")),
            ("http://*:80", wildcard("http://", "")),
        ] {
            assert_eq!(origin_pattern(origin), expected, "{origin}");
        }
    }
}
