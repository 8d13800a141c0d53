//! BackendTLSPolicies: whom the edge trusts at the other end of a connection to a backend.

use crate::codes;
use crate::merge::{self, Attached, Claim, Target};
use crate::report::{Problem, Report};
use crate::status::condition;
use manifest::Inputs;
use manifest::kinds::gateway::HttpRoute;
use manifest::kinds::policy::{
    BackendTlsPolicy, BackendTlsValidation, CaReference, SubjectAltNameType,
};
use manifest::pem::{self, Authorities};
use model::hash::{HashMap, HashSet};
use model::status::{Condition, ObjectStatus, ParentStatus};
use model::traffic::{BackendTls, Trust};
use model::{Kind, ObjectId, Text};
use std::collections::{BTreeMap, BTreeSet};

const KINDS: &[Kind] = &[Kind::SERVICE];

/// What the policies come to, by Service and port.
pub(crate) struct TlsPolicies<'a> {
    attached: Attached<'a, BackendTlsPolicy>,
    outcomes: HashMap<&'a ObjectId, Outcome>,
    /// Namespace and name of Services that a policy is for.
    services: HashSet<(&'a str, &'a str)>,
}

/// What a policy comes to by itself.
struct Outcome {
    /// Or why every connection fails.
    tls: Result<BackendTls, Problem>,
    unresolved: Option<Problem>,
    problems: Vec<Problem>,
}

impl<'a> TlsPolicies<'a> {
    pub fn of(inputs: &'a Inputs) -> Self {
        let policies = inputs.backend_tls_policies();
        let attached = Attached::of(policies, |policy| &policy.targets, KINDS);
        let outcomes = inputs
            .backend_tls_policies()
            .map(|(object, policy)| (&object.id, Outcome::of(&object.id, policy, inputs)))
            .collect();
        let services =
            attached.targets().map(|(target, _)| (target.namespace, target.name)).collect();
        TlsPolicies { attached, outcomes, services }
    }

    /// A policy for the port comes before one for the whole Service. None where there is no policy.
    pub fn of_port(
        &self,
        namespace: &str,
        service: &str,
        port: Option<&str>,
    ) -> Option<Result<&BackendTls, &Problem>> {
        if self.attached.is_empty() {
            return None;
        }
        let target = |section| Target { kind: Kind::SERVICE, namespace, name: service, section };
        let of_port = port.and_then(|port| self.attached.find(target(Some(port))));
        let claim =
            &self.attached.claims()[of_port.or_else(|| self.attached.find(target(None)))?];
        self.outcomes.get(&claim.object.id).map(|outcome| outcome.tls.as_ref())
    }

    pub fn judge(&mut self, inputs: &Inputs, report: &mut Report) {
        self.attached.judge(|target| fault_of_target(target, inputs), report);
        for (id, policy) in inputs.backend_tls_policies().map(|(object, spec)| (&object.id, spec)) {
            report_kinds(id, policy, report);
            report_authorities(id, policy, inputs, report);
            let problems = self.outcomes.get(id).map_or(&[][..], |outcome| &outcome.problems);
            for problem in problems {
                report.problem(id, problem);
            }
        }
    }

    /// Gateways that lead to a Service with a policy, for the policy's status.
    pub fn note_use(
        &self,
        route: &ObjectId,
        spec: &HttpRoute,
        parents: &[ParentStatus],
        uses: &mut Uses,
    ) {
        let backends = spec.rules.iter().flat_map(|rule| &rule.backend_refs);
        let services = backends.map(|backend| (backend.namespace.as_ref(), &backend.name));
        self.note_uses(route, services, parents, uses);
    }

    /// Of a route of any kind, by namespace and name of the Services.
    pub fn note_uses<'s>(
        &self,
        route: &ObjectId,
        services: impl Iterator<Item = (Option<&'s Text>, &'s Text)>,
        parents: &[ParentStatus],
        uses: &mut Uses,
    ) {
        if self.services.is_empty() {
            return;
        }
        for (namespace, name) in services {
            let namespace = namespace.unwrap_or(&route.namespace);
            if !self.services.contains(&(&**namespace, &**name)) {
                continue;
            }
            let service = (namespace.clone(), name.clone());
            let gateways = parents.iter().map(|parent| parent.parent.clone());
            uses.0.entry(service).or_default().extend(gateways);
        }
    }

    /// Of the policies whose Services are used.
    pub fn statuses(&self, uses: &Uses) -> Vec<ObjectStatus> {
        let mut by_policy: BTreeMap<&ObjectId, Vec<&Claim<'a, BackendTlsPolicy>>> = BTreeMap::new();
        for claim in self.attached.claims() {
            by_policy.entry(&claim.object.id).or_default().push(claim);
        }
        let each = by_policy.into_iter().filter_map(|(policy, claims)| {
            let mut ancestors: BTreeSet<&ObjectId> = BTreeSet::new();
            for claim in &claims {
                let service = (claim.target.namespace.into(), claim.target.name.into());
                ancestors.extend(uses.0.get(&service).into_iter().flatten());
            }
            let conditions = conditions(&claims, self.outcomes.get(policy)?);
            let each =
                ancestors.into_iter().map(|gateway| (gateway.clone(), None, conditions.clone()));
            Some(merge::status(policy, each))
        });
        each.filter(|status| !status.parents.is_empty()).collect()
    }
}

/// Gateways by the Service that their routes lead to.
#[derive(Default)]
pub(crate) struct Uses(HashMap<(Text, Text), BTreeSet<ObjectId>>);

fn conditions(claims: &[&Claim<BackendTlsPolicy>], outcome: &Outcome) -> Vec<Condition> {
    let refused = match claims.iter().all(|claim| claim.refused.is_some()) {
        true => claims.first().and_then(|claim| claim.refused.as_ref()),
        false => None,
    };
    let accepted = match (refused, &outcome.tls) {
        (Some(problem), _) | (None, Err(problem)) => {
            condition("Accepted", false, problem.reason, &problem.message)
        }
        (None, Ok(_)) => condition("Accepted", true, "Accepted", ""),
    };
    let resolved = match &outcome.unresolved {
        Some(problem) => condition("ResolvedRefs", false, problem.reason, &problem.message),
        None => condition("ResolvedRefs", true, "ResolvedRefs", ""),
    };
    vec![accepted, resolved]
}

fn fault_of_target(target: &Target, inputs: &Inputs) -> Option<Problem> {
    let Some((_, service)) = inputs.service(&target.namespace.into(), &target.name.into()) else {
        let services = inputs.services().map(|(object, _)| &object.id);
        let near = services.filter(|id| &*id.namespace == target.namespace);
        return Some(merge::absent(target, near.map(|id| &*id.name)));
    };
    let section = target.section?;
    let names = || service.ports.iter().filter_map(|port| port.name.as_deref());
    let is_there = names().any(|name| name == section);
    (!is_there).then(|| merge::absent_section(target, section, "port", names()))
}

fn report_kinds(id: &ObjectId, policy: &BackendTlsPolicy, report: &mut Report) {
    for (index, target) in policy.targets.iter().enumerate() {
        if &*target.kind != Kind::SERVICE.0 {
            let message = format!("a BackendTLSPolicy for a {} is not served", target.kind);
            let field = format!("spec.targetRefs[{index}].kind");
            report.add(&codes::POLICY_TARGET_KIND, id, field, message).help("name a Service");
        }
    }
}

/// Where none of the certificates is an authority's, handshakes fail, but for what these signed nevertheless.
fn report_authorities(
    id: &ObjectId,
    policy: &BackendTlsPolicy,
    inputs: &Inputs,
    report: &mut Report,
) {
    let mut found = Vec::new();
    for (index, reference) in policy.validation.authorities.iter().enumerate() {
        let named = Named::of(id, reference);
        for der in authorities_of(named, inputs).unwrap_or_default() {
            let Some(issuer) = pem::issuer_of_no_authority(&der) else { return };
            found.push((index, named, pem::subject(&der).unwrap_or_default(), issuer));
        }
    }
    for (index, named, subject, issuer) in found {
        let field = format!("spec.validation.caCertificateRefs[{index}].name");
        let message = format!(
            "\"{subject}\" in `ca.crt` of {} {}/{} is no authority: its certificate may not sign others",
            named.kind, named.namespace, named.name
        );
        let help = format!("put the certificate of \"{issuer}\" there, which issued it");
        report.add(&codes::NO_AUTHORITY, id, field, message).help(help);
    }
}

impl Outcome {
    fn of(id: &ObjectId, policy: &BackendTlsPolicy, inputs: &Inputs) -> Outcome {
        let mut problems = Vec::new();
        let spec = &policy.validation;
        let trust = trust(id, spec, inputs, &mut problems);
        let unresolved = problems.first().cloned();
        let (names, uris) = names(spec);
        let hostname = spec.hostname.text();
        let tls = trust.map(|trust| BackendTls {
            hostname,
            names,
            uris,
            trust,
            client_certificate: None,
        });
        Outcome { tls, unresolved, problems }
    }
}

/// Of several authorities those that can be read are trusted; without one, nobody is (BackendTLSPolicyValidation,
/// caCertificateRefs).
fn trust(
    id: &ObjectId,
    spec: &BackendTlsValidation,
    inputs: &Inputs,
    problems: &mut Vec<Problem>,
) -> Result<Trust, Problem> {
    if spec.authorities.is_empty() && spec.well_known.is_some() {
        return Ok(Trust::System);
    }
    let mut authorities: Vec<Vec<u8>> = Vec::new();
    for (index, reference) in spec.authorities.iter().enumerate() {
        match authorities_of(Named::of(id, reference), inputs) {
            Ok(found) => authorities.extend(found),
            Err(problem) => {
                let field = format!("spec.validation.caCertificateRefs[{index}]");
                problems.push(problem.within(&field));
            }
        }
    }
    match authorities.is_empty() {
        false => Ok(Trust::Authorities(authorities)),
        true => {
            let message = format!("{id} names no authority that can be read; requests answer 500");
            Err(Problem::new(&codes::BAD_AUTHORITY, "NoValidCACertificate", "", message))
        }
    }
}

/// What is said to hold authorities, under `ca.crt`.
#[derive(Clone, Copy)]
pub(crate) struct Named<'n> {
    pub group: &'n str,
    pub kind: &'n str,
    pub namespace: &'n Text,
    pub name: &'n Text,
}

impl<'n> Named<'n> {
    /// By a policy, in its namespace.
    fn of(policy: &'n ObjectId, reference: &'n CaReference) -> Named<'n> {
        let CaReference { group, kind, name } = reference;
        Named { group, kind, namespace: &policy.namespace, name }
    }
}

pub(crate) fn authorities_of(reference: Named, inputs: &Inputs) -> Result<Vec<Vec<u8>>, Problem> {
    let Named { namespace, name, .. } = reference;
    let bad = |reason, field, message| Problem::new(&codes::BAD_AUTHORITY, reason, field, message);
    let held: Option<Option<&Authorities>> = match (reference.group, reference.kind) {
        ("", "ConfigMap") => {
            inputs.config_map(namespace, name).map(|(_, map)| map.authorities.as_ref())
        }
        ("", "Secret") => {
            inputs.secret(namespace, name).map(|(_, secret)| secret.authorities.as_ref())
        }
        (_, kind) => {
            let message = format!("authorities come from a ConfigMap, not from a {kind}");
            return Err(bad("InvalidKind", "kind", message).help("name a ConfigMap with `ca.crt`"));
        }
    };
    let named = format!("{} {namespace}/{name}", reference.kind);
    let (field, message, help) = match held {
        None => (
            "name",
            format!("{named} does not exist"),
            "write it, with the PEM of the authority in `ca.crt`",
        ),
        Some(None) => {
            ("name", format!("{named} has no entry `ca.crt`"), "put the PEM of the authority there")
        }
        Some(Some(held)) => match &**held {
            Ok(authorities) => return Ok(authorities.clone()),
            Err(message) => {
                let message = format!("`ca.crt` of {named}: {message}");
                ("name", message, "PEM begins with `-----BEGIN CERTIFICATE-----`")
            }
        },
    };
    Err(bad("InvalidCACertificateRef", field, message).help(help))
}

/// Names and URIs of which the certificate has to have one.
fn names(spec: &BackendTlsValidation) -> (Vec<Text>, Vec<Text>) {
    let of = |kind| spec.names.iter().filter(move |name| name.kind == kind);
    let names = of(SubjectAltNameType::Hostname).filter_map(|name| name.hostname.as_ref());
    let uris = of(SubjectAltNameType::Uri).filter_map(|name| name.uri.clone());
    (names.map(|host| host.to_string().into()).collect(), uris.collect())
}
