//! What is served below HTTP: as JSON in the plan, and as lines for a person.

use crate::plan::{backend, sparse};
use crate::serving::Where;
use crate::{entry, front};
use model::layer4::{Attachment, Listener, Transport};
use model::{Facts, Snapshot};
use serde_json::{Value, json};
use std::fmt::Write;

/// Of the plan.
pub(crate) fn to_json(listener: &Listener) -> Value {
    let mode = match listener.transport {
        Transport::TlsPassthrough => json!("Passthrough"),
        Transport::TlsTerminate => json!("Terminate"),
        Transport::Tcp | Transport::Udp => Value::Null,
    };
    let host = listener.transport.is_tls().then(|| listener.host.to_string());
    sparse([
        ("object", json!(listener.id.object.to_string())),
        ("section", json!(&*listener.id.section)),
        ("port", json!(listener.port)),
        ("protocol", json!(listener.transport.protocol())),
        ("mode", mode),
        ("host", json!(host)),
        ("certificates", listener.certificates.iter().map(|id| json!(id.to_string())).collect()),
        ("policy", listener.policy.as_deref().map_or(Value::Null, front::listener)),
        ("clients", entry::of_listener(listener.policy.as_deref())),
        ("routes", listener.attachments.iter().map(|route| attachment(listener, route)).collect()),
    ])
}

fn attachment(listener: &Listener, Attachment { host, route }: &Attachment) -> Value {
    let host = listener.transport.is_tls().then(|| host.to_string());
    sparse([
        ("host", json!(host)),
        ("route", json!(route.id().to_string())),
        ("backends", route.backends.iter().map(backend).collect()),
    ])
}

/// The route that takes each port or name; empty where nothing is served below HTTP.
pub(crate) fn to_text(snapshot: &Snapshot, facts: &Facts, place: &Where<'_>) -> String {
    let mut out = String::new();
    for listener in &snapshot.edge.layer4 {
        let mut said = None;
        for attachment in &listener.attachments {
            // Of two routes for one host the first takes everything.
            if said.replace(&attachment.host) != Some(&attachment.host) {
                line(&mut out, listener, attachment, facts, place);
            }
        }
    }
    out
}

fn line(
    out: &mut String,
    listener: &Listener,
    Attachment { host, route }: &Attachment,
    facts: &Facts,
    place: &Where<'_>,
) {
    let bound = listener.port.saturating_add(place.port_offset);
    let (name, how) = match listener.transport {
        Transport::TlsPassthrough => (format!("{host} "), "TLS, passed through"),
        Transport::TlsTerminate => (format!("{host} "), "TLS, ended here"),
        Transport::Tcp => (String::new(), "TCP"),
        Transport::Udp => (String::new(), "UDP"),
    };
    let all = match listener.transport {
        Transport::Udp => &facts.datagram_endpoints,
        _ => &facts.endpoints,
    };
    let backends: Vec<String> = route
        .ports()
        .map(|port| {
            let endpoints = all.get(port).map_or(&[][..], |set| &set.endpoints);
            let ready = endpoints.iter().filter(|endpoint| endpoint.ready).count();
            format!("{port} ({ready} of {} ready)", endpoints.len())
        })
        .collect();
    let backends = if backends.is_empty() { "none".to_owned() } else { backends.join(", ") };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "  {name}port {bound} ({how})\n    route        {}\n    backends     {backends}",
        route.id()
    );
}
