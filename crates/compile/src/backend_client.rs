//! The certificates that Gateways show to backends: `spec.tls.backend` (GEP-3155), with the Secrets that it names.

use crate::certificates;
use crate::codes;
use crate::grants::Grants;
use crate::report::Problem;
use manifest::kinds::gateway::ObjectReference;
use manifest::{Inputs, Object};
use model::hash::HashMap;
use model::{Kind, ObjectId};
use std::sync::Arc;

/// Of the Gateways that name one.
#[derive(Default)]
pub(crate) struct BackendClients<'a> {
    gateways: Vec<&'a ObjectId>,
    verdicts: HashMap<ObjectId, Result<ObjectId, Problem>>,
}

impl<'a> BackendClients<'a> {
    pub fn of(inputs: &'a Inputs, grants: &Grants) -> Self {
        let mut clients = BackendClients::default();
        for (gateway, reference) in references(inputs) {
            let verdict = resolve(&gateway.id, reference, inputs, grants);
            clients.gateways.push(&gateway.id);
            clients.verdicts.insert(gateway.id.clone(), verdict);
        }
        clients
    }

    /// The Secret that holds it, or why there is none.
    pub fn verdict(&self, gateway: &ObjectId) -> Option<&Result<ObjectId, Problem>> {
        self.verdicts.get(gateway)
    }

    /// By namespace and name.
    pub fn gateways(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.gateways.iter().map(|id| (&*id.namespace, &*id.name))
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&ObjectId> {
        if self.verdicts.is_empty() {
            return None;
        }
        let gateway = ObjectId::new(Kind::GATEWAY, namespace, name);
        self.verdict(&gateway)?.as_ref().ok()
    }
}

/// The objects that decide which certificate is shown.
pub(crate) fn world(inputs: &Inputs) -> impl Iterator<Item = &Arc<Object>> {
    references(inputs).flat_map(move |(gateway, reference)| {
        let namespace = reference.namespace.as_ref().unwrap_or(&gateway.id.namespace);
        let secret = inputs.secret(namespace, &reference.name).map(|(object, _)| object);
        std::iter::once(gateway).chain(secret)
    })
}

fn references(inputs: &Inputs) -> impl Iterator<Item = (&Arc<Object>, &ObjectReference)> {
    inputs.gateways().filter_map(|(object, spec)| {
        let backend = spec.tls.as_ref()?.backend.as_ref()?;
        Some((object, backend.client_certificate.as_ref()?))
    })
}

fn resolve(
    gateway: &ObjectId,
    reference: &ObjectReference,
    inputs: &Inputs,
    grants: &Grants,
) -> Result<ObjectId, Problem> {
    const FIELD: &str = "spec.tls.backend.clientCertificateRef";
    const REASON: &str = "InvalidClientCertificateRef";
    let bad = |field: &str, message: String| {
        Problem::new(&codes::BAD_CLIENT_CERTIFICATE, REASON, field, message)
            .help("name a Secret of type kubernetes.io/tls with tls.crt and tls.key")
    };
    let problem = match certificates::resolve(gateway, reference, inputs, grants) {
        Ok(found) if found.missing.is_none() => return Ok(found.secret),
        Ok(found) if inputs.unread.contains(&found.secret) => {
            bad("name", format!("{} could not be read", found.secret)).said(true)
        }
        Ok(found) => bad("name", format!("{} does not exist", found.secret)),
        Err(problem) if problem.reason == "RefNotPermitted" => problem,
        Err(problem) => bad(&problem.field, problem.message),
    };
    Err(problem.within(FIELD))
}
