//! From what an EdgePolicy says about clients to the plan's form: of a listener, and of a rule. Defaults stand with the
//! fields' declarations.

use crate::answers::{self, Level};
use crate::backends::References;
use crate::entry_settings;
use crate::policies::Scope;
use manifest::kinds::edge_policy::EdgePolicy;
use manifest::kinds::edge_policy_tls::{
    AlpnName, ClientCertificateSection, ForwardName, PresetName, StrictTransportSecurity,
    TlsSection,
};
use model::Text;
use model::front::{Alpn, ForwardedCertificate, ListenerPolicy, RulePolicy, TlsPreset, TlsTerms};

/// Of Gateway and listener together.
pub(crate) fn listener_policy(policy: &EdgePolicy) -> ListenerPolicy {
    ListenerPolicy {
        client_address: entry_settings::client_address(policy),
        proxy_protocol: entry_settings::accept_proxy(policy),
        tls: policy.tls.as_ref().map(tls).unwrap_or_default(),
        limits: policy.limits.as_ref().map(answers::connection_limits).unwrap_or_default(),
        ..ListenerPolicy::default()
    }
}

/// Of Gateway, listener and route together; without the route for requests that no rule takes.
pub(crate) fn rule_policy(
    policy: &EdgePolicy,
    levels: &[Level],
    references: References,
    scope: Scope,
) -> RulePolicy {
    let forwarded = policy.client_certificate.as_ref().map(forwarded).unwrap_or_default();
    RulePolicy {
        strict_transport_security: policy.strict_transport_security.as_ref().map(strict_transport),
        client_certificate: forwarded,
        answers: answers::answers(policy, levels, references, scope),
        ..RulePolicy::default()
    }
}

/// What is as by default says nothing, so that listeners that agree are equal.
fn tls(section: &TlsSection) -> TlsTerms {
    let alpn: Vec<Alpn> = section
        .alpn()
        .into_iter()
        .map(|name| match name {
            AlpnName::Http2 => Alpn::Http2,
            AlpnName::Http1 => Alpn::Http1,
        })
        .collect();
    TlsTerms {
        preset: match section.preset() {
            PresetName::Intermediate => TlsPreset::Intermediate,
            PresetName::Modern => TlsPreset::Modern,
        },
        alpn: if alpn == [Alpn::Http2, Alpn::Http1] { Vec::new() } else { alpn },
    }
}

fn forwarded(section: &ClientCertificateSection) -> ForwardedCertificate {
    match section.forward() {
        ForwardName::None => ForwardedCertificate::Nothing,
        ForwardName::Certificate => ForwardedCertificate::Leaf,
        ForwardName::Chain => ForwardedCertificate::Chain,
    }
}

/// RFC 6797 section 6.1.
fn strict_transport(section: &StrictTransportSecurity) -> Text {
    let mut value = format!("max-age={}", section.max_age().0.as_secs());
    if section.include_subdomains().0 {
        value += "; includeSubDomains";
    }
    if section.preload().0 {
        value += "; preload";
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest::kinds::edge_policy_tls::MaxAge;
    use manifest::section::Flag;
    use std::time::Duration;

    /// What the handbook shows as defaults is what counts without a policy.
    #[test]
    fn empty_sections_are_the_defaults() {
        assert_eq!(tls(&TlsSection::default()), TlsTerms::default());
        let certificate = ClientCertificateSection::default();
        assert_eq!(forwarded(&certificate), ForwardedCertificate::default());
    }

    #[test]
    fn strict_transport_security_as_browsers_read_it() {
        let of = |max_age, include, preload| {
            strict_transport(&StrictTransportSecurity {
                max_age,
                include_subdomains: Some(Flag(include)),
                preload: Some(Flag(preload)),
            })
        };
        assert_eq!(&*of(None, false, false), "max-age=31536000");
        let zero = Some(MaxAge(Duration::ZERO));
        assert_eq!(&*of(zero, true, false), "max-age=0; includeSubDomains");
        assert_eq!(&*of(None, true, true), "max-age=31536000; includeSubDomains; preload");
    }
}
