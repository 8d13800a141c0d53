//! Sections of EdgePolicy about TLS with clients: what a handshake may come to, what backends are told of the client's
//! certificate, and what clients are told about coming back over TLS alone.

use crate::codes;
use crate::decode::{Decode, Decoder, choice};
use crate::node::Node;
use crate::section::{Field, Flag, choice_field, section, shown_duration};
use std::time::Duration;

section! {
    pub struct TlsSection {
        /// Intermediate takes TLS 1.2 with forward secrecy and AEAD ciphers, and TLS 1.3; Modern takes TLS 1.3 alone.
        "preset" => preset: PresetName = PresetName::Intermediate,
        /// Versions of HTTP that are offered, the preferred one first.
        "alpn" => alpn: Vec<AlpnName> = vec![AlpnName::Http2, AlpnName::Http1],
    }
    checked by tls
}

choice! {
    pub enum PresetName { Intermediate = "Intermediate", Modern = "Modern" }
}

choice! {
    pub enum AlpnName { Http2 = "h2", Http1 = "http/1.1" }
}

section! {
    pub struct ClientCertificateSection {
        /// What backends are told of a certificate that was found valid: Certificate sends `Client-Cert`, Chain also
        /// `Client-Cert-Chain` (RFC 9440). Lines of these names from a client never pass.
        "forward" => forward: ForwardName = ForwardName::None,
    }
}

choice! {
    pub enum ForwardName { None = "None", Certificate = "Certificate", Chain = "Chain" }
}

section! {
    pub struct StrictTransportSecurity {
        /// How long a browser comes back over TLS alone. 0s takes an earlier word back.
        "maxAge" => max_age: MaxAge = MaxAge(YEAR),
        /// The names below this one, too.
        "includeSubDomains" => include_subdomains: Flag = Flag(false),
        /// Agrees to be in the lists that browsers come with. It is hard to take back.
        "preload" => preload: Flag = Flag(false),
    }
    checked by strict_transport_security
}

choice_field!(PresetName, AlpnName, ForwardName);

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Whole seconds up to ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge(pub Duration);

impl Decode for MaxAge {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let duration = Duration::decode(node, decoder)?;
        if duration > LONGEST || duration.subsec_nanos() > 0 {
            let message = format!("{} is not whole seconds up to 87600h", shown_duration(duration));
            decoder.report(&codes::OUT_OF_RANGE, node.span, message, "8760h is a year");
            return None;
        }
        Some(MaxAge(duration))
    }
}

impl Field for MaxAge {
    fn words() -> String {
        "duration, whole seconds up to 87600h".to_owned()
    }

    fn shown(&self) -> String {
        shown_duration(self.0)
    }
}

fn tls(section: &TlsSection, node: &Node, decoder: &mut Decoder) {
    let Some(alpn) = &section.alpn else { return };
    let is_repeated = alpn.iter().enumerate().any(|(at, name)| alpn[..at].contains(name));
    if alpn.is_empty() || is_repeated {
        let message = "`alpn` names each version that is offered once, and at least one";
        let help = "write `[h2, http/1.1]`, `[h2]` or `[http/1.1]`";
        decoder.report_field(node, "alpn", &codes::OUT_OF_RANGE, message, help);
    }
}

/// As the lists of browsers want it (hstspreload.org). Where a level leaves a field to another, nothing is said.
fn strict_transport_security(
    section: &StrictTransportSecurity,
    node: &Node,
    decoder: &mut Decoder,
) {
    if section.preload != Some(Flag(true)) {
        return;
    }
    let is_short = section.max_age.is_some_and(|age| age.0 < YEAR);
    if is_short || section.include_subdomains == Some(Flag(false)) {
        let message = "`preload` needs `includeSubDomains: true` and a `maxAge` of a year at least";
        let help = "write both, or remove `preload`";
        decoder.report_field(node, "preload", &codes::CONTRADICTION, message, help);
    }
}
