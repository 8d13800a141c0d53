//! What policies of every kind have: targets (GEP-713). And BackendTLSPolicy of the Gateway API.

use super::rules::count;
use crate::codes;
use crate::decode::{Decoder, choice, object};
use crate::node::Node;
use model::{HostPattern, Hostname, Text};
use std::ops::RangeInclusive;

const TARGETS: RangeInclusive<usize> = 1..=16;
const AUTHORITIES: RangeInclusive<usize> = 0..=8;
const NAMES: RangeInclusive<usize> = 0..=5;

object! {
    /// An object of the policy's own namespace.
    pub struct PolicyTarget {
        "group" => group: Option<Text>,
        "kind" => kind: Text,
        "name" => name: Text,
        "sectionName" => section: Option<Text>,
    }
}

object! {
    pub struct BackendTlsPolicy {
        "targetRefs" => targets: Vec<PolicyTarget>,
        "validation" => validation: BackendTlsValidation,
    }
    unserved ["options"]
    checked by backend_tls_policy
}

object! {
    pub struct BackendTlsValidation {
        "caCertificateRefs" => authorities: Vec<CaReference>,
        "wellKnownCACertificates" => well_known: Option<WellKnownAuthorities>,
        "hostname" => hostname: Hostname,
        "subjectAltNames" => names: Vec<SubjectAltName>,
    }
    checked by validation
}

object! {
    pub struct CaReference {
        "group" => group: Text = "".into(),
        "kind" => kind: Text,
        "name" => name: Text,
    }
}

choice! {
    pub enum WellKnownAuthorities { System = "System" }
}

object! {
    pub struct SubjectAltName {
        "type" => kind: SubjectAltNameType,
        "hostname" => hostname: Option<HostPattern>,
        "uri" => uri: Option<Text>,
    }
    checked by subject_alt_name
}

choice! {
    pub enum SubjectAltNameType { Hostname = "Hostname", Uri = "URI" }
}

/// A target that stands there twice counts once.
pub(super) fn check_targets(targets: &[PolicyTarget], node: &Node, decoder: &mut Decoder) {
    decoder.field(node, "targetRefs", |list, decoder| {
        let mut index = 0;
        decoder.items(list, |item, decoder| {
            let target = targets.get(index)?;
            let key = |target: &PolicyTarget| {
                (target.kind.clone(), target.name.clone(), target.section.clone())
            };
            if targets[..index].iter().any(|earlier| key(earlier) == key(target)) {
                let message =
                    format!("{} {} stands twice in `targetRefs`", target.kind, target.name);
                decoder.report(&codes::TARGET_TWICE, item.span, message, "remove one of the two");
            }
            index += 1;
            Some(())
        })
    });
    if targets.is_empty() {
        let message = "a policy needs `targetRefs`";
        let help = "name what it is for: `targetRefs: [{kind: Service, name: web}]`";
        decoder.report_field(node, "targetRefs", &codes::MISSING_FIELD, message, help);
    } else {
        count(node, "targetRefs", TARGETS, decoder);
    }
}

fn backend_tls_policy(policy: &BackendTlsPolicy, node: &Node, decoder: &mut Decoder) {
    check_targets(&policy.targets, node, decoder);
}

fn validation(spec: &BackendTlsValidation, node: &Node, decoder: &mut Decoder) {
    count(node, "caCertificateRefs", AUTHORITIES, decoder);
    count(node, "subjectAltNames", NAMES, decoder);
    let (message, help) = match (spec.authorities.is_empty(), spec.well_known.is_some()) {
        (false, true) => (
            "`caCertificateRefs` and `wellKnownCACertificates` exclude each other",
            "keep one of them",
        ),
        (true, false) => (
            "nobody is trusted: `caCertificateRefs` and `wellKnownCACertificates` are both missing",
            "name a ConfigMap with `ca.crt` in `caCertificateRefs`, or write `wellKnownCACertificates: System`",
        ),
        _ => return,
    };
    decoder.report_field(node, "wellKnownCACertificates", &codes::CONTRADICTION, message, help);
}

fn subject_alt_name(name: &SubjectAltName, node: &Node, decoder: &mut Decoder) {
    let written = [
        (SubjectAltNameType::Hostname, "hostname", name.hostname.is_some()),
        (SubjectAltNameType::Uri, "uri", name.uri.is_some()),
    ];
    for (owner, field, is_written) in written {
        if is_written != (owner == name.kind) {
            let verb = if is_written { "takes no" } else { "needs" };
            let message = format!("type {} {verb} `{field}`", name.kind.name());
            decoder.report_field(
                node,
                field,
                &codes::CONTRADICTION,
                message,
                "write the field that `type` names",
            );
        }
    }
}
