//! Field names that a proxy treats by meaning, told apart once, in the parser.

use crate::bytes::is_token;

macro_rules! known {
    ($($variant:ident $name:literal,)*) => {
        /// What a field name means to a proxy. `Other` is every name that is not in the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known { $(#[doc = $name] $variant,)* Other }

        impl Known {
            pub const ALL: &[Known] = &[$(Known::$variant,)*];

            /// The name in lower case; empty for `Other`.
            pub fn name(self) -> &'static str {
                match self { $(Known::$variant => $name,)* Known::Other => "" }
            }
        }
    };
}

known! {
    Accept "accept",
    AcceptEncoding "accept-encoding",
    Age "age",
    Authorization "authorization",
    CacheControl "cache-control",
    Connection "connection",
    ContentEncoding "content-encoding",
    ContentLength "content-length",
    ContentType "content-type",
    Cookie "cookie",
    Date "date",
    Expect "expect",
    Forwarded "forwarded",
    Host "host",
    Http2Settings "http2-settings",
    KeepAlive "keep-alive",
    Location "location",
    Origin "origin",
    ProxyConnection "proxy-connection",
    Range "range",
    Referer "referer",
    Server "server",
    SetCookie "set-cookie",
    Te "te",
    Trailer "trailer",
    TransferEncoding "transfer-encoding",
    Upgrade "upgrade",
    UserAgent "user-agent",
    Via "via",
    XForwardedFor "x-forwarded-for",
    XForwardedHost "x-forwarded-host",
    XForwardedPort "x-forwarded-port",
    XForwardedProto "x-forwarded-proto",
    XRequestId "x-request-id",
}

impl Known {
    /// Case does not matter.
    pub fn of(name: &[u8]) -> Known {
        match is_token(name) {
            true => Known::of_token(name),
            false => Known::Other,
        }
    }

    /// The same, for a name that is known to be a token. Length and first letter leave at most two
    /// candidates.
    #[inline]
    pub(crate) fn of_token(name: &[u8]) -> Known {
        let Some(first) = name.first().map(|b| b | 0x20) else { return Known::Other };
        candidates(name.len())
            .iter()
            .find(|(letter, known)| *letter == first && is_named(name, known.name().as_bytes()))
            .map_or(Known::Other, |(_, known)| *known)
    }

    /// About this connection only: a proxy never forwards it (RFC 9110 section 7.6.1).
    /// HTTP2-Settings is one too (RFC 7540 section 3.2.1).
    pub fn is_hop_by_hop(self) -> bool {
        use Known::*;
        matches!(
            self,
            Connection
                | Http2Settings
                | KeepAlive
                | ProxyConnection
                | Te
                | TransferEncoding
                | Upgrade
        )
    }

    /// Whether a trailer section may carry it on: fields for framing, routing, authentication and
    /// content handling may not stand there (RFC 9110 section 6.5.1).
    pub fn may_trail(self) -> bool {
        use Known::*;
        !self.is_hop_by_hop()
            && !matches!(
                self,
                Authorization
                    | CacheControl
                    | ContentEncoding
                    | ContentLength
                    | ContentType
                    | Cookie
                    | Expect
                    | Forwarded
                    | Host
                    | Range
                    | SetCookie
                    | Trailer
                    | XForwardedFor
                    | XForwardedHost
                    | XForwardedPort
                    | XForwardedProto
                    | XRequestId
            )
    }
}

/// Whether the token `name` is `known`, which has its length and is in lower case.
///
/// Setting bit 5 makes letters small and leaves `-` and digits alone. The bytes that it would turn
/// into these (CR, and control bytes) are not in a token, so the comparison is exact. Eight bytes at
/// a time, the last eight overlapping, as this runs for most field lines.
#[inline]
fn is_named(name: &[u8], known: &[u8]) -> bool {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let same = |(a, b): (&[u8; 8], &[u8; 8])| word(a) | word(&[0x20; 8]) == word(b);
    match (name.last_chunk(), known.last_chunk()) {
        (Some(a), Some(b)) => {
            let (names, _) = name.as_chunks::<8>();
            let (knowns, _) = known.as_chunks::<8>();
            same((a, b)) && names.iter().zip(knowns).all(same)
        }
        _ => name.iter().zip(known).all(|(a, b)| a | 0x20 == *b),
    }
}

/// The names of that length, each beside its first letter.
#[inline]
fn candidates(len: usize) -> &'static [(u8, Known)] {
    use Known::*;
    match len {
        2 => &[(b't', Te)],
        3 => &[(b'a', Age), (b'v', Via)],
        4 => &[(b'd', Date), (b'h', Host)],
        5 => &[(b'r', Range)],
        6 => &[(b'a', Accept), (b'c', Cookie), (b'e', Expect), (b'o', Origin), (b's', Server)],
        7 => &[(b'r', Referer), (b't', Trailer), (b'u', Upgrade)],
        8 => &[(b'l', Location)],
        9 => &[(b'f', Forwarded)],
        10 => &[(b'c', Connection), (b'k', KeepAlive), (b's', SetCookie), (b'u', UserAgent)],
        12 => &[(b'c', ContentType), (b'x', XRequestId)],
        13 => &[(b'a', Authorization), (b'c', CacheControl)],
        14 => &[(b'c', ContentLength), (b'h', Http2Settings)],
        15 => &[(b'a', AcceptEncoding), (b'x', XForwardedFor)],
        16 => &[
            (b'c', ContentEncoding),
            (b'p', ProxyConnection),
            (b'x', XForwardedHost),
            (b'x', XForwardedPort),
        ],
        17 => &[(b't', TransferEncoding), (b'x', XForwardedProto)],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for &known in Known::ALL {
            assert_eq!(Known::of(known.name().as_bytes()), known);
            assert_eq!(Known::of(known.name().to_ascii_uppercase().as_bytes()), known);
        }
    }

    #[test]
    fn near_names_are_other() {
        for name in ["", "hos", "hosts", "content_length", "transfer-encodin", "te2", "x"] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn one_other_byte_makes_another_name() {
        for &known in Known::ALL {
            for at in 0..known.name().len() {
                for b in 0..=255u8 {
                    let mut name = known.name().as_bytes().to_vec();
                    let same = name[at] == b.to_ascii_lowercase();
                    name[at] = b;
                    assert_eq!(Known::of(&name) == known, same, "{known:?} with {b:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn what_frames_a_message_never_trails() {
        for known in [
            Known::ContentLength,
            Known::TransferEncoding,
            Known::Host,
            Known::Connection,
            Known::Trailer,
        ] {
            assert!(!known.may_trail(), "{known:?}");
        }
        assert!(Known::Other.may_trail() && Known::Server.may_trail());
    }
}
