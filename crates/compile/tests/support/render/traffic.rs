//! What a rule and its backends say of traffic: what is as by default is left out.

use super::{header_edits, path_rewrite, target};
use model::edge::{Action, Backend, Rule};
use model::fallback::Fallback;
use model::traffic::{BackendPolicy, BackendTls, Trust};

pub fn of_rule(rule: &Rule) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(rule.retry.as_ref().map(|retry| format!("{retry:?}")));
    lines.extend(rule.cors.as_ref().map(|cors| format!("{cors:?}")));
    lines.extend(rule.persistence.as_ref().map(|persistence| format!("{persistence:?}")));
    for mirror in &rule.mirrors {
        let share = format!("{} of {}", mirror.numerator, mirror.denominator);
        lines.push(format!("mirror {share} to {}", target(&mirror.backend)));
        lines.extend(of_backend(&mirror.backend));
    }
    if let Action::Forward(backends) = &rule.action {
        lines.extend(backends.iter().flat_map(of_backend));
    }
    lines
}

/// Of a route below HTTP, in one line.
pub fn of_stream(backend: &Backend) -> String {
    let policy = backend.policy.iter().flat_map(|policy| of_policy(policy));
    let behind = backend.fallback.iter().flat_map(|fallback| tiers(fallback));
    let parts: Vec<_> = policy.chain(behind).collect();
    format!("{} weight {} {}", target(backend), backend.weight, parts.join(" "))
        .trim_end()
        .to_owned()
}

fn of_backend(backend: &Backend) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(edits) = &backend.edits {
        for (what, edits) in
            [("request", &edits.request_headers), ("response", &edits.response_headers)]
        {
            if !edits.is_empty() {
                parts.push(format!("{what} headers:{}", header_edits(edits)));
            }
        }
        parts.extend(edits.rewrite.hostname.as_ref().map(|host| format!("rewrite host {host}")));
        parts.extend(
            edits.rewrite.path.as_ref().map(|path| format!("rewrite {}", path_rewrite(path))),
        );
    }
    if let Some(fallback) = &backend.fallback {
        parts.extend(tiers(fallback));
        parts.extend(fallback.response.iter().map(|response| format!("then {response:?}")));
    }
    parts.extend(backend.policy.iter().flat_map(|policy| of_policy(policy)));
    parts.into_iter().map(|part| format!("to {}: {part}", target(backend))).collect()
}

fn tiers(fallback: &Fallback) -> impl Iterator<Item = String> {
    fallback.tiers.iter().map(|tier| {
        let policy: Vec<String> = tier.policy.iter().flat_map(|p| of_policy(p)).collect();
        format!("then to {}: {}", tier.port, policy.join(", "))
    })
}

fn of_policy(policy: &BackendPolicy) -> Vec<String> {
    let default = BackendPolicy::default();
    let mut parts = Vec::new();
    let mut say = |differs: bool, part: String| parts.extend(differs.then_some(part));
    say(policy.protocol != default.protocol, format!("{:?}", policy.protocol));
    say(policy.balance != default.balance, format!("{:?}", policy.balance));
    say(policy.external.is_some(), format!("external {:?}", policy.external));
    say(policy.health != default.health, format!("{:?}", policy.health));
    say(policy.ejection != default.ejection, format!("{:?}", policy.ejection));
    say(policy.limits != default.limits, format!("{:?}", policy.limits));
    say(policy.budget != default.budget, format!("{:?}", policy.budget));
    say(policy.pool != default.pool, format!("{:?}", policy.pool));
    say(policy.proxy_protocol.is_some(), format!("PROXY {:?}", policy.proxy_protocol));
    parts.extend(policy.tls.as_ref().map(of_tls));
    parts
}

fn of_tls(tls: &BackendTls) -> String {
    let trust = match &tls.trust {
        Trust::System => "the system's authorities".to_owned(),
        Trust::Authorities(authorities) => format!("{} authorities", authorities.len()),
    };
    let shown = tls.client_certificate.as_ref().map(|secret| format!(" showing {secret}"));
    let names: Vec<&str> = tls.names.iter().chain(&tls.uris).map(|name| &**name).collect();
    let names = names.join(" ");
    format!("TLS as {} names [{names}] trusting {trust}{}", tls.hostname, shown.unwrap_or_default())
}
