//! What was read and not understood. Such a mistake holds the whole folder back, so no link that it stands at is whole:
//! where its object has to do with the request the link is broken, elsewhere nobody knows.

use crate::subject::Subject;
use crate::{Finding, State};
use model::{Diagnostic, Kind, Link, ObjectId};

/// Puts the mistakes into the findings; gives what is to be noted of those that have nothing to do with the request.
pub fn apply(subject: &Subject<'_>, findings: &mut [Finding]) -> Vec<String> {
    let mistakes: Vec<&Diagnostic> =
        subject.world.mistakes.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    let (near, far): (Vec<&Diagnostic>, Vec<&Diagnostic>) = mistakes
        .into_iter()
        .partition(|d| d.object.as_ref().is_some_and(|object| concerns(subject, object)));
    for diagnostic in near.iter().rev() {
        let link = link(diagnostic);
        *finding_of(findings, link) = finding(subject, diagnostic, State::Broken);
        for taken in takes_with_it(link) {
            finding_of(findings, *taken).follow(link);
        }
    }
    if let Some(first) = far.first() {
        let link = link(first);
        let finding = finding_of(findings, link);
        if matches!(finding.state, State::Ok | State::Skipped) {
            *finding = self::finding(subject, first, State::Unknown);
        }
    }
    far.iter().map(|diagnostic| format!("holds the folder back: {}", told(diagnostic))).collect()
}

fn finding_of(findings: &mut [Finding], link: Link) -> &mut Finding {
    &mut findings[usize::from(link.number()) - 1]
}

fn finding(subject: &Subject<'_>, diagnostic: &Diagnostic, state: State) -> Finding {
    let detail = match state {
        State::Broken => format!("the folder is held back: {}", diagnostic.message),
        _ => format!("the folder is held back by a mistake elsewhere: {}", told(diagnostic)),
    };
    let mut finding = Finding::new(link(diagnostic), state, detail).help(diagnostic.help.clone());
    finding.owner = diagnostic.object.as_ref().and_then(|object| subject.owner_of(object));
    finding.object = diagnostic.object.clone();
    finding.place = diagnostic.place.clone();
    finding
}

fn told(diagnostic: &Diagnostic) -> String {
    let object = diagnostic.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
    match &diagnostic.place {
        Some(place) => format!("{object}{} ({}:{})", diagnostic.message, place.file, place.line),
        None => format!("{object}{}", diagnostic.message),
    }
}

/// The link that an object of a kind stands at. A document that is no object may have been any: what takes the request
/// is in doubt.
fn link(diagnostic: &Diagnostic) -> Link {
    match diagnostic.object.as_ref().map(|object| object.kind) {
        Some(Kind::ENDPOINT_CONTRACT) => Link::Name,
        Some(Kind::ZONE) => Link::Resolution,
        Some(Kind::SECRET) => Link::Tls,
        Some(Kind::SERVICE | Kind::REFERENCE_GRANT) => Link::Service,
        Some(Kind::ENDPOINT_SLICE) => Link::Pod,
        _ => Link::Gateway,
    }
}

/// Of a half-read object the rest follows.
fn takes_with_it(link: Link) -> &'static [Link] {
    match link {
        // A name may be declared by a record that was not read.
        Link::Resolution => &[Link::Name, Link::Routing],
        Link::Service => &[Link::Pod],
        Link::Gateway => &[
            Link::Name,
            Link::Resolution,
            Link::Routing,
            Link::Tls,
            Link::LoadBalancer,
            Link::Service,
            Link::Pod,
        ],
        _ => &[],
    }
}

/// True when the object, as far as it was read, is one that the request leans on.
fn concerns(subject: &Subject<'_>, object: &ObjectId) -> bool {
    let inputs = subject.world.inputs;
    match object.kind {
        Kind::HTTP_ROUTE
        | Kind::GRPC_ROUTE
        | Kind::TLS_ROUTE
        | Kind::TCP_ROUTE
        | Kind::UDP_ROUTE
        | Kind::INGRESS => {
            match inputs.object(object) {
                Some(_) => subject.answering().contains(object),
                // Nothing of it was read, and nothing else serves the host.
                None => !subject.is_served() && !subject.is_plain_record(),
            }
        }
        Kind::GATEWAY => {
            subject.listener().is_some_and(|id| id.object == *object) || subject.is_parent(object)
        }
        Kind::ENDPOINT_CONTRACT => {
            match inputs.endpoint_contract(&object.namespace, &object.name) {
                Some((_, contract)) => contract.hostname.as_str() == subject.host,
                None => false,
            }
        }
        Kind::ZONE => subject.zone.is_some_and(|zone| zone.id == *object),
        Kind::SECRET => subject
            .listeners()
            .filter(|listener| listener.host.matches(subject.host))
            .any(|listener| listener.certificates.contains(object)),
        Kind::SERVICE => services(subject)
            .any(|(namespace, name)| *namespace == *object.namespace && *name == *object.name),
        Kind::ENDPOINT_SLICE => {
            let service = inputs
                .object(object)
                .and_then(|slice| slice.labels.get("kubernetes.io/service-name").cloned());
            service.is_some_and(|service| {
                services(subject)
                    .any(|(namespace, name)| *namespace == *object.namespace && *name == *service)
            })
        }
        _ => false,
    }
}

/// Of the rule that takes the request, by namespace and name.
fn services<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    crate::pods::services(subject).into_iter().map(|port| (&*port.namespace, &*port.name))
}
