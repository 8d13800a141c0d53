//! Connections that are led on as bytes: which listener below HTTP takes one, and what each link says of it. A port of
//! TCP or UDP is asked for by its number (`db.example.test:5432`); a name in a handshake like any other.

use crate::pods;
use crate::subject::Subject;
use crate::{Evidence, Finding, Probed, Question, State, World};
use manifest::Inputs;
use manifest::kinds::gateway::ParentReference;
use model::edge::Protocol;
use model::id::RuleId;
use model::layer4::{Attachment, Listener, Transport};
use model::{HostPattern, Kind, Link, Node, ObjectId};

/// A listener below HTTP, and the route of it that takes the connection.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    pub listener: &'a Node<Listener>,
    pub attachment: Option<&'a Attachment>,
}

impl<'a> Stream<'a> {
    pub fn rule(&self) -> Option<&'a RuleId> {
        self.attachment.map(|attachment| &attachment.route.rule)
    }

    pub fn transport(&self) -> Transport {
        self.listener.transport
    }
}

/// None where HTTP takes it, or nobody.
pub fn take<'a>(
    world: &World<'a>,
    question: &Question,
    protocol: Protocol,
    port: u16,
) -> Option<Stream<'a>> {
    let host = question.host.as_str();
    let all = &world.compiled.snapshot.edge.layer4;
    let of_port = || all.iter().filter(|listener| listener.port == port);
    let plain = |transport| of_port().find(|listener| listener.transport == transport);
    let router = world.router;
    let is_http =
        || [Protocol::Http, Protocol::Https].iter().any(|p| router.port(port, *p).is_some());
    let udp = || plain(Transport::Udp).filter(|_| question.port.is_some() && !is_http());
    let found = match plain(Transport::Tcp) {
        Some(listener) => listener,
        None => match secured(world, host, protocol, port) {
            Some(listener) => listener,
            None => udp()?,
        },
    };
    let attachment = found.attachments.iter().find(|a| a.host.matches(host));
    Some(Stream { listener: found, attachment })
}

/// By name, where no listener of HTTPS is more specific.
fn secured<'a>(
    world: &World<'a>,
    host: &str,
    protocol: Protocol,
    port: u16,
) -> Option<&'a Node<Listener>> {
    if protocol != Protocol::Https {
        return None;
    }
    let all = world.compiled.snapshot.edge.layer4.iter();
    let named = all.filter(|l| l.port == port && l.transport.is_tls() && l.host.matches(host));
    let found = named.min_by_key(|listener| &listener.host)?;
    let https = world.router.port(port, protocol).and_then(|port| port.listener(host));
    https.is_none_or(|https| found.host <= *https.host()).then_some(found)
}

/// True when a listener of TLS leads the host on.
pub fn serves(world: &World<'_>, host: &str) -> bool {
    leading(world, host).next().is_some()
}

/// Listeners of TLS with a route for the host.
pub fn leading<'a>(world: &World<'a>, host: &str) -> impl Iterator<Item = &'a Node<Listener>> {
    let all = world.compiled.snapshot.edge.layer4.iter();
    all.filter(move |listener| {
        listener.transport.is_tls() && listener.attachments.iter().any(|a| a.host.matches(host))
    })
}

/// TLSRoutes that name the host, attached or not.
pub fn routes<'a>(inputs: &'a Inputs, host: &'a str) -> impl Iterator<Item = ObjectId> + 'a {
    let names = move |hosts: &[HostPattern]| hosts.iter().any(|pattern| pattern.matches(host));
    let routes = inputs.tls_routes().filter(move |(_, route)| names(&route.hostnames));
    routes.map(|(object, _)| object.id.clone())
}

/// The parents that a route of any kind names.
pub fn parents<'a>(inputs: &'a Inputs, route: &ObjectId) -> &'a [ParentReference] {
    let (namespace, name) = (&route.namespace, &route.name);
    match route.kind {
        Kind::HTTP_ROUTE | Kind::GRPC_ROUTE => inputs.route(route).map(|s| &*s.parent_refs),
        Kind::TLS_ROUTE => inputs.tls_route(namespace, name).map(|(_, s)| &*s.parent_refs),
        Kind::TCP_ROUTE => inputs.tcp_route(namespace, name).map(|(_, s)| &*s.parent_refs),
        Kind::UDP_ROUTE => inputs.udp_route(namespace, name).map(|(_, s)| &*s.parent_refs),
        _ => None,
    }
    .unwrap_or_default()
}

/// Link 7.
pub fn judge_gateway(subject: &Subject<'_>, stream: &Stream<'_>) -> Finding {
    let id = &stream.listener.id;
    let Some(attachment) = stream.attachment else {
        let detail = format!("{id} takes the connection, but no route is attached there for it");
        let field = subject.field_of_listener(id);
        return Finding::new(Link::Gateway, State::Broken, detail)
            .help("attach a route, or correct its hostnames")
            .about(subject, &id.object, &field);
    };
    let how = match stream.transport() {
        Transport::TlsPassthrough => "TLS is passed through by the name in the handshake",
        Transport::TlsTerminate => "TLS ends here, and what is inside is led on",
        Transport::Tcp => "connections of TCP are led on as they come",
        Transport::Udp => "datagrams are led on as they come",
    };
    let rule = &attachment.route.rule;
    let finding = Finding::new(Link::Gateway, State::Ok, format!("{id}, {rule}: {how}"));
    let field = compile::field_of_rule(subject.world.inputs, rule);
    finding.about(subject, &rule.object, &field)
}

/// Link 4 where no handshake was made.
pub fn judge_tls(
    subject: &Subject<'_>,
    stream: &Stream<'_>,
    evidence: &Evidence,
) -> Option<Finding> {
    let found = |state, detail: &str| Some(Finding::new(Link::Tls, state, detail));
    let object = &stream.listener.id.object;
    match (stream.transport(), &evidence.tls) {
        (Transport::Tcp | Transport::Udp, _) => {
            found(State::Skipped, "nothing is known of TLS: bytes are led on as they come")
        }
        // Judged like any other.
        (_, Probed::Seen(Ok(_))) => None,
        (Transport::TlsPassthrough, Probed::Seen(Err(why))) => {
            let detail = format!("the backend did not shake hands: {why}");
            let finding = Finding::new(Link::Tls, State::Broken, detail)
                .help("TLS is passed through: see the backend's own certificate and log");
            Some(about_backend(subject, stream, finding))
        }
        (Transport::TlsTerminate, Probed::Seen(Err(why))) => {
            let detail = format!("the handshake failed: {why}");
            let finding = Finding::new(Link::Tls, State::Broken, detail)
                .help("see the certificate that the listener names");
            Some(finding.about(subject, object, "spec.listeners"))
        }
        (_, Probed::Unknown(why)) => found(State::Unknown, &format!("could not be probed: {why}")),
        (Transport::TlsPassthrough, Probed::Skipped) => {
            found(State::Skipped, "TLS is passed through: the certificate is the backend's")
        }
        (Transport::TlsTerminate, Probed::Skipped) => {
            found(State::Skipped, "no handshake was made")
        }
    }
}

/// A certificate that was shown: the Gateway's, or the backend's where TLS is passed through.
pub fn about_certificate(subject: &Subject<'_>, stream: &Stream<'_>, finding: Finding) -> Finding {
    if stream.transport() != Transport::TlsPassthrough {
        return finding.about(subject, &stream.listener.id.object, "");
    }
    let is_broken = finding.state == State::Broken;
    let finding = about_backend(subject, stream, finding);
    match stream.rule().filter(|_| is_broken) {
        Some(rule) => finding.help(format!(
            "TLS is passed through, so the certificate is the backend's own: mend it there, or correct the hostnames of {}",
            rule.object
        )),
        None => finding,
    }
}

/// The Service that has the connection; without one the route, without that the listener.
fn about_backend(subject: &Subject<'_>, stream: &Stream<'_>, finding: Finding) -> Finding {
    if let Some(port) = pods::services(subject).first() {
        return finding.about(subject, &port.service(), "");
    }
    let object = stream.rule().map_or(&stream.listener.id.object, |rule| &rule.object);
    finding.about(subject, object, "")
}
