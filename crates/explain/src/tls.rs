//! Link 4: the handshake, its names, its time.

use crate::stream;
use crate::subject::Subject;
use crate::{Evidence, Finding, Handshake, Probed, State};
use model::certificates::Source;
use model::edge::{Listener, Protocol};
use model::{HostPattern, Link, Node, ObjectId};

const DAY: i64 = 86_400;

pub fn judge(subject: &Subject<'_>, evidence: &Evidence, now: i64) -> Finding {
    let found = |state, detail: &str| Finding::new(Link::Tls, state, detail);
    if let Some(stream) = subject.stream() {
        if let Some(finding) = stream::judge_tls(subject, stream, evidence) {
            return finding;
        }
        if let Probed::Seen(Ok(handshake)) = &evidence.tls {
            let finding = handshake_finding(subject, handshake, now);
            return stream::about_certificate(subject, stream, finding);
        }
    }
    if subject.protocol == Protocol::Http {
        return found(State::Skipped, "the request is plain HTTP");
    }
    let Some(listener) = listener(subject) else { return no_listener(subject) };
    let object = certificate_object(subject, listener);
    match &evidence.tls {
        Probed::Seen(Ok(handshake)) => {
            let mut finding = handshake_finding(subject, handshake, now);
            finding.detail += wanted_of_clients(listener);
            finding.about(subject, &object, "")
        }
        Probed::Seen(Err(why)) => found(State::Broken, &format!("the handshake failed: {why}"))
            .help("see the certificate that the listener names")
            .about(subject, &object, "spec.listeners"),
        Probed::Unknown(why) => found(State::Unknown, &format!("could not be probed: {why}"))
            .about(subject, &object, ""),
        Probed::Skipped => planned(subject, listener, now),
    }
}

/// The listener whose certificate a client of the host is shown: most specific first, as the plan sorts them.
fn listener<'a>(subject: &Subject<'a>) -> Option<&'a Node<Listener>> {
    let of_port = subject
        .listeners()
        .filter(|listener| listener.port == subject.port && listener.host.matches(subject.host));
    of_port.max_by_key(|listener| listener.host.specificity())
}

fn wanted_of_clients(listener: &Listener) -> &'static str {
    let policy = listener.policy.as_ref();
    match policy.and_then(|policy| policy.client_trust.as_ref()) {
        Some(trust) if trust.is_required => "; clients need a certificate",
        Some(_) => "; clients are asked for a certificate",
        None => "",
    }
}

/// The Secret, where a file holds it; else the Gateway or Ingress whose listener names it.
fn certificate_object(subject: &Subject<'_>, listener: &Listener) -> ObjectId {
    let secret = listener
        .certificates
        .first()
        .filter(|secret| subject.world.inputs.object(secret).is_some());
    secret.unwrap_or(&listener.id.object).clone()
}

fn no_listener(subject: &Subject<'_>) -> Finding {
    let mut finding = Finding::new(
        Link::Tls,
        State::Broken,
        "no HTTPS listener takes the host, so no certificate is offered",
    )
    .help("add a HTTPS listener for the host");
    for gateway in subject.gateways() {
        let is_of_tls = |field: &str| {
            field.starts_with("spec.listeners") || field.starts_with("spec.tls.frontend")
        };
        if let Some(diagnostic) =
            subject.diagnostic(&gateway, |d| is_of_tls(&d.field) && d.is_error())
        {
            finding.detail = diagnostic.message.clone();
            finding.help = diagnostic.help.clone();
            return finding.about(subject, &gateway, &diagnostic.field);
        }
    }
    finding.follow(Link::Gateway);
    finding
}

fn handshake_finding(subject: &Subject<'_>, handshake: &Handshake, now: i64) -> Finding {
    let broken =
        |detail: String, help: &str| Finding::new(Link::Tls, State::Broken, detail).help(help);
    if !handshake.names.iter().any(|name| name.matches(subject.host)) {
        let names = names(&handshake.names);
        return broken(
            format!("the certificate is for {names}, not for {}", subject.host),
            "issue one that names the host",
        );
    }
    if now >= handshake.not_after {
        let days = (now - handshake.not_after) / DAY;
        return broken(
            format!("the certificate expired {days} days ago"),
            "replace it in its Secret",
        );
    }
    if now < handshake.not_before {
        return broken(
            "the certificate is not valid yet".to_owned(),
            "check the clock, or replace the certificate",
        );
    }
    let days = (handshake.not_after - now) / DAY;
    let trust = match &handshake.chain {
        Ok(()) => String::new(),
        Err(why) => format!("; {why}"),
    };
    let detail =
        format!("{}, issued by {}, {days} days left{trust}", handshake.version, handshake.issuer);
    Finding::new(Link::Tls, State::Ok, detail)
}

/// Without a handshake: what the plan knows of the certificate.
fn planned(subject: &Subject<'_>, listener: &Listener, now: i64) -> Finding {
    let object = certificate_object(subject, listener);
    let found =
        |state, detail: String| Finding::new(Link::Tls, state, detail).about(subject, &object, "");
    if listener.certificates.is_empty() {
        return found(State::Broken, format!("{} has no usable certificate", listener.id))
            .help("name a Secret of type kubernetes.io/tls");
    }
    let certificates = &subject.world.compiled.snapshot.certificates.certificates;
    let Some(certificate) =
        certificates.iter().find(|c| listener.certificates.first() == Some(&c.secret))
    else {
        return found(State::Skipped, "no handshake was made".to_owned());
    };
    match &certificate.source {
        Source::Missing { .. } => found(
            State::Skipped,
            "no handshake was made; the local CA issues the certificate".to_owned(),
        ),
        Source::Secret(leaf) if !leaf.names.iter().any(|name| name.matches(subject.host)) => found(
            State::Broken,
            format!("the certificate is for {}, not for {}", names(&leaf.names), subject.host),
        )
        .help("issue one that names the host"),
        Source::Secret(leaf) if now >= leaf.not_after => found(
            State::Broken,
            format!("the certificate expired {} days ago", (now - leaf.not_after) / DAY),
        )
        .help("replace it in its Secret"),
        Source::Secret(_) => found(State::Skipped, "no handshake was made".to_owned()),
    }
}

fn names(names: &[HostPattern]) -> String {
    match names {
        [] => "no name".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
