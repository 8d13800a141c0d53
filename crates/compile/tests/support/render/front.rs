//! What entries ask of their clients. Nothing for what is as by default.

use model::edge::Listener;
use model::front::{ForwardedCertificate, ListenerPolicy, RulePolicy, TlsTerms};

pub fn of_listener(listener: &Listener) -> Vec<String> {
    let mut lines = of_policy(listener.policy.as_deref());
    let unmatched = of_rule(listener.unmatched.as_deref());
    lines.extend(unmatched.into_iter().map(|line| format!("unmatched: {line}")));
    lines
}

pub fn of_policy(policy: Option<&ListenerPolicy>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(policy) = policy {
        if policy.tls != TlsTerms::default() {
            lines.push(format!("{:?}", policy.tls));
        }
        if let Some(trust) = &policy.client_trust {
            let word = if trust.is_required { "required" } else { "optional" };
            let count = trust.authorities.len();
            lines.push(format!("client certificates {word}, authorities {count}"));
        }
    }
    lines
}

pub fn of_rule(policy: Option<&RulePolicy>) -> Vec<String> {
    let Some(policy) = policy else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(value) = &policy.strict_transport_security {
        lines.push(format!("strict-transport-security: {value}"));
    }
    if policy.client_certificate != ForwardedCertificate::Nothing {
        lines.push(format!("client certificate forwarded: {:?}", policy.client_certificate));
    }
    lines
}
