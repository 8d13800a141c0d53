//! What entries ask of their clients, as JSON of the plan.

use crate::plan::sparse;
use model::front::{ForwardedCertificate, ListenerPolicy, RulePolicy, TlsPreset};
use serde_json::{Value, json};

/// Authorities by their number: a certificate is long.
pub(crate) fn listener(policy: &ListenerPolicy) -> Value {
    let preset = match policy.tls.preset {
        TlsPreset::Intermediate => Value::Null,
        TlsPreset::Modern => json!("Modern"),
    };
    let trust = policy.client_trust.as_ref().map_or(
        Value::Null,
        |trust| json!({"required": trust.is_required, "authorities": trust.authorities.len()}),
    );
    sparse([
        ("tlsPreset", preset),
        ("alpn", policy.tls.alpn.iter().map(|name| name.id()).collect()),
        ("clientCertificates", trust),
    ])
}

pub(crate) fn rule(policy: &RulePolicy) -> Value {
    let forwarded = match policy.client_certificate {
        ForwardedCertificate::Nothing => Value::Null,
        ForwardedCertificate::Leaf => json!("Certificate"),
        ForwardedCertificate::Chain => json!("Chain"),
    };
    sparse([
        ("strictTransportSecurity", policy.strict_transport_security.as_deref().into()),
        ("clientCertificate", forwarded),
    ])
}
