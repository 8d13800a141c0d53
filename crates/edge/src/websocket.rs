//! What the edge adds where a WebSocket crosses from one version of HTTP to the other (RFC 8441). In HTTP/1.1 client and
//! server prove by a key and its answer that both mean WebSocket (RFC 6455 section 4); in HTTP/2 `:protocol` says it, and
//! there is no key (RFC 8441 section 5). So the edge asks in the name of a client of HTTP/2, and answers in the name of
//! an origin of HTTP/2.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(crate) const NAME: &str = "websocket";
pub(crate) const KEY: &str = "sec-websocket-key";
pub(crate) const ACCEPT: &str = "sec-websocket-accept";

/// The protocols of an Upgrade field are this one alone.
pub(crate) fn is_asked(protocols: &[u8]) -> bool {
    protocols.trim_ascii().eq_ignore_ascii_case(NAME.as_bytes())
}

/// RFC 6455 section 4.1: 16 random bytes. That they are random keeps caches from answering; nothing is secret.
pub(crate) fn key() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("a system without randomness serves no TLS either");
    STANDARD.encode(bytes)
}

/// RFC 6455 section 4.2.2.
pub(crate) fn accept(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.trim_ascii(), GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn answers_a_key() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key().len(), 24);
        assert_ne!(key(), key());
    }

    #[test]
    fn is_asked_for_by_its_name_alone() {
        for (protocols, expected) in
            [("websocket", true), ("WebSocket", true), ("websocket, other", false), ("", false)]
        {
            assert_eq!(is_asked(protocols.as_bytes()), expected, "{protocols}");
        }
    }
}
