//! Whom the listeners of a Gateway ask for certificates: `spec.tls.frontend` (GEP-91), with the authorities that it
//! names. Not here: what a handshake makes of it (`edge`).

use crate::backend_tls::{self, Named};
use crate::codes;
use crate::grants::{self, Grants};
use crate::report::{Problem, Report};
use manifest::Inputs;
use manifest::kinds::gateway::{Gateway, Listener, TlsMode};
use manifest::kinds::gateway_tls::{
    AuthorityReference, FrontendValidation, ValidationMode, Written,
};
use model::front::ClientTrust;
use model::{Kind, ObjectId};

/// What is asked of the clients of one port.
pub(crate) struct Asked {
    /// None where nobody could be believed: then the listener is not served, for it would let everybody in.
    pub trust: Result<Box<ClientTrust>, Problem>,
    pub unresolved: Option<Problem>,
}

/// None where clients are asked for nothing.
pub(crate) fn asked(
    gateway: &ObjectId,
    spec: &Gateway,
    port: u16,
    (inputs, grants): (&Inputs, &Grants),
    report: &mut Report,
) -> Option<Asked> {
    let (written, validation) = spec.tls.as_ref()?.frontend.as_ref()?.of_port(port)?;
    let field = match written {
        Written::ByDefault => "spec.tls.frontend.default.validation".to_owned(),
        Written::PerPort(index) => format!("spec.tls.frontend.perPort[{index}].tls.validation"),
    };
    let (mut authorities, mut unresolved) = (Vec::new(), None);
    for (index, reference) in validation.authorities.iter().enumerate() {
        match resolve(gateway, reference, inputs, grants) {
            Ok(found) => authorities.extend(found),
            Err(problem) => {
                let problem = problem.within(&format!("{field}.caCertificateRefs[{index}]"));
                report.problem(gateway, &problem);
                unresolved.get_or_insert(problem);
            }
        }
    }
    report_fallback(gateway, validation, &field, report);
    let trust = match authorities.is_empty() {
        false => Ok(Box::new(ClientTrust {
            is_required: validation.mode == ValidationMode::AllowValidOnly,
            authorities,
        })),
        true => {
            let message = "no authority of client certificates can be read, so the listener is not served: it would let everybody in";
            Err(Problem::new(&codes::BAD_AUTHORITY, "NoValidCACertificate", field, message))
        }
    };
    Some(Asked { trust, unresolved })
}

/// Ports that are spoken of and where nothing is served over TLS.
pub(crate) fn report_idle_ports(gateway: &ObjectId, spec: &Gateway, report: &mut Report) {
    let frontend = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
    for (index, entry) in frontend.into_iter().flat_map(|tls| tls.per_port.iter().enumerate()) {
        let is_served = spec.listeners.iter().any(|l| l.port == entry.port && ends_tls(l));
        if !is_served {
            let field = format!("spec.tls.frontend.perPort[{index}].port");
            let message =
                format!("no listener of the Gateway at which TLS ends has port {}", entry.port);
            report
                .add(&codes::FRONTEND_TLS_IDLE, gateway, field, message)
                .help("correct the port, or remove the entry");
        }
    }
}

fn ends_tls(listener: &Listener) -> bool {
    let is_passed_through =
        listener.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Passthrough);
    matches!(&*listener.protocol, "HTTPS" | "TLS") && !is_passed_through
}

fn report_fallback(
    gateway: &ObjectId,
    validation: &FrontendValidation,
    field: &str,
    report: &mut Report,
) {
    if validation.mode == ValidationMode::AllowInsecureFallback {
        let message = "clients without a certificate, or with a bad one, are let in";
        report
            .add(&codes::INSECURE_FALLBACK, gateway, format!("{field}.mode"), message)
            .help("let backends refuse requests without `Client-Cert`, or use AllowValidOnly");
    }
}

fn resolve(
    gateway: &ObjectId,
    reference: &AuthorityReference,
    inputs: &Inputs,
    grants: &Grants,
) -> Result<Vec<Vec<u8>>, Problem> {
    let namespace = reference.namespace.as_ref().unwrap_or(&gateway.namespace);
    let kind = match (&*reference.group, &*reference.kind) {
        ("" | "core", "ConfigMap") => Kind::CONFIG_MAP,
        ("" | "core", "Secret") => Kind::SECRET,
        (_, kind) => {
            let message = format!("authorities come from a ConfigMap, not from a {kind}");
            let reason = "InvalidCACertificateKind";
            let problem = Problem::new(&codes::BAD_AUTHORITY, reason, "kind", message);
            return Err(problem.help("name a ConfigMap with `ca.crt`"));
        }
    };
    let target = ObjectId::new(kind, namespace.clone(), reference.name.clone());
    if !grants.allow(gateway, &target) {
        let message = format!("no ReferenceGrant lets {gateway} use {target}");
        let reason = "RefNotPermitted";
        let problem = Problem::new(&codes::REFERENCE_NOT_PERMITTED, reason, "name", message);
        return Err(problem.help(grants::mend(gateway, &target)));
    }
    let named = Named { group: "", kind: &reference.kind, namespace, name: &reference.name };
    let authorities = backend_tls::authorities_of(named, inputs)?;
    match authorities.iter().find(|der| !manifest::pem::is_authority(der)) {
        None => Ok(authorities),
        Some(der) => {
            let subject = manifest::pem::subject(der).unwrap_or_default();
            let message = format!(
                "\"{subject}\" in `ca.crt` of {target} is no authority: its certificate may not sign others"
            );
            let reason = "InvalidCACertificateRef";
            let problem = Problem::new(&codes::BAD_AUTHORITY, reason, "name", message);
            Err(problem.help("put the certificate of the authority there that issues to clients, with basicConstraints CA:TRUE"))
        }
    }
}
