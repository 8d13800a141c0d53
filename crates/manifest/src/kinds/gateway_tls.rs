//! `spec.tls` of a Gateway: whom it asks for certificates, and the one that it shows to backends (GEP-91, GEP-3155).

use super::gateway::ObjectReference;
use super::rules::count;
use crate::codes;
use crate::decode::{Decoder, choice, object};
use crate::node::Node;
use model::Text;
use std::collections::HashSet;
use std::ops::RangeInclusive;

const AUTHORITIES: RangeInclusive<usize> = 1..=16;
const PORTS: RangeInclusive<usize> = 0..=64;

object! {
    pub struct GatewayTls {
        "backend" => backend: Option<GatewayBackendTls>,
        "frontend" => frontend: Option<FrontendTls>,
    }
}

object! {
    pub struct GatewayBackendTls {
        "clientCertificateRef" => client_certificate: Option<ObjectReference>,
    }
}

object! {
    pub struct FrontendTls {
        "default" => default: PortTls,
        "perPort" => per_port: Vec<TlsOfPort>,
    }
    checked by frontend
}

object! {
    pub struct TlsOfPort {
        "port" => port: u16,
        "tls" => tls: PortTls,
    }
}

object! {
    pub struct PortTls {
        "validation" => validation: Option<FrontendValidation>,
    }
}

object! {
    pub struct FrontendValidation {
        "caCertificateRefs" => authorities: Vec<AuthorityReference>,
        "mode" => mode: ValidationMode = ValidationMode::AllowValidOnly,
    }
    checked by validation
}

choice! {
    pub enum ValidationMode {
        AllowValidOnly = "AllowValidOnly",
        AllowInsecureFallback = "AllowInsecureFallback",
    }
}

object! {
    /// A reference to a ConfigMap or Secret, or to another kind that is then reported.
    pub struct AuthorityReference {
        "group" => group: Text,
        "kind" => kind: Text,
        "name" => name: Text,
        "namespace" => namespace: Option<Text>,
    }
}

/// Where what is said for a port stands, below the Gateway's `spec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    ByDefault,
    PerPort(usize),
}

impl FrontendTls {
    /// What is said for a port alone stands instead of the default, also where it says nothing.
    pub fn of_port(&self, port: u16) -> Option<(Written, &FrontendValidation)> {
        let own = self.per_port.iter().enumerate().find(|(_, entry)| entry.port == port);
        let (written, tls) = match own {
            Some((index, entry)) => (Written::PerPort(index), &entry.tls),
            None => (Written::ByDefault, &self.default),
        };
        Some((written, tls.validation.as_ref()?))
    }
}

fn frontend(frontend: &FrontendTls, node: &Node, decoder: &mut Decoder) {
    count(node, "perPort", PORTS, decoder);
    let mut seen = HashSet::new();
    if let Some(twice) = frontend.per_port.iter().find(|entry| !seen.insert(entry.port)) {
        let message = format!("port {} stands in `perPort` twice", twice.port);
        decoder.report_field(node, "perPort", &codes::CONTRADICTION, message, "keep one of them");
    }
}

fn validation(_: &FrontendValidation, node: &Node, decoder: &mut Decoder) {
    count(node, "caCertificateRefs", AUTHORITIES, decoder);
}
