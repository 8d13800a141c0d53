//! Why a message was refused: one enum for the crate, each with a status, a stable slug and a
//! sentence that cites the specification.

use std::fmt;

/// A message that is not accepted. The connection must be closed after the answer, as nobody knows
/// where the next message would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer the client with; for a response from an origin always 502.
    pub status: u16,
    pub reason: Reason,
}

impl Reason {
    /// The refusal of a request with this fault, in its head or its body.
    pub fn in_request(self) -> Refusal {
        Refusal { status: self.status(), reason: self }
    }

    /// The refusal of a response: the origin is at fault, so the client gets 502 (RFC 9110
    /// section 15.6.3).
    pub fn in_response(self) -> Refusal {
        Refusal { status: 502, reason: self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.reason.slug(), self.reason.sentence())
    }
}

impl std::error::Error for Refusal {}

macro_rules! reasons {
    ($($name:ident $status:literal $slug:literal $sentence:literal,)*) => {
        /// What was wrong. The slug is stable: logs and metrics may carry it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $sentence] $name,)* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The status that answers a request with this fault.
            pub fn status(self) -> u16 {
                match self { $(Reason::$name => $status,)* }
            }

            pub fn slug(self) -> &'static str {
                match self { $(Reason::$name => $slug,)* }
            }

            pub fn sentence(self) -> &'static str {
                match self { $(Reason::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    BareLineFeed 400 "bare-line-feed" "A line ends in LF without CR before it (RFC 9112 section 2.2).",
    BareCarriageReturn 400 "bare-carriage-return" "A CR stands without LF after it (RFC 9112 section 2.2).",
    RequestLine 400 "request-line" "The request line is not method, target and version with one space between each (RFC 9112 section 3).",
    EmptyLines 400 "empty-lines" "Too many empty lines stand before the request line (RFC 9112 section 2.2).",
    Method 400 "method" "The method is not a token (RFC 9110 section 9.1).",
    TargetBytes 400 "target-bytes" "The request target holds a space, a control byte or a fragment (RFC 9112 section 3.2).",
    TargetForm 400 "target-form" "The request target has none of the forms that its method allows (RFC 9112 section 3.2).",
    TargetScheme 400 "target-scheme" "The absolute request target has a scheme other than http or https (RFC 9112 section 3.2.2).",
    TargetTooLong 414 "target-too-long" "The request target is longer than the limit (RFC 9110 section 15.5.15).",
    Version 400 "version" "The HTTP version is not written as HTTP/digit.digit (RFC 9112 section 2.3).",
    VersionUnsupported 505 "version-unsupported" "The major version is not 1 (RFC 9110 section 15.6.6).",
    StatusLine 400 "status-line" "The status line is not version, three-digit status and reason (RFC 9112 section 4).",
    HeadTooLarge 431 "head-too-large" "The head is larger than the limit (RFC 6585 section 5).",
    TooManyHeaders 431 "too-many-headers" "There are more field lines than the limit (RFC 6585 section 5).",
    SpaceBeforeHeaders 400 "space-before-headers" "Whitespace stands between the start line and the first field (RFC 9112 section 2.2).",
    FoldedHeader 400 "folded-header" "A field value is continued on the next line (RFC 9112 section 5.2).",
    SpaceBeforeColon 400 "space-before-colon" "Whitespace stands between a field name and its colon (RFC 9112 section 5.1).",
    HeaderName 400 "header-name" "A field name is not a token followed by a colon (RFC 9112 section 5).",
    HeaderValue 400 "header-value" "A field value holds NUL or another control byte (RFC 9110 section 5.5).",
    HostMissing 400 "host-missing" "The request has no Host field, or in HTTP/2 no :authority (RFC 9112 section 3.2, RFC 9113 section 8.3.1).",
    HostRepeated 400 "host-repeated" "The request has more than one Host field (RFC 9112 section 3.2).",
    HostInvalid 400 "host-invalid" "The host is empty, has user information, or is not a name or address with an optional port (RFC 9110 section 7.2).",
    HostDiffers 400 "host-differs" "The Host field names another host than :authority (RFC 9113 section 8.3.1).",
    ContentLengthInvalid 400 "content-length-invalid" "Content-Length is not one decimal number that fits 64 bits (RFC 9110 section 8.6).",
    ContentLengthRepeated 400 "content-length-repeated" "There is more than one Content-Length (RFC 9112 section 6.3).",
    ContentLengthBesideTransferEncoding 400 "content-length-beside-transfer-encoding" "Content-Length stands beside Transfer-Encoding (RFC 9112 section 6.1).",
    TransferEncodingInvalid 400 "transfer-encoding-invalid" "Transfer-Encoding is not a list of codings without parameters (RFC 9112 section 6.1).",
    TransferEncodingInHttp10 400 "transfer-encoding-in-http10" "Transfer-Encoding stands in an HTTP/1.0 message (RFC 9112 section 6.1).",
    TransferCodingUnknown 501 "transfer-coding-unknown" "A transfer coding other than chunked is asked for (RFC 9112 section 6.1).",
    ChunkedNotLast 400 "chunked-not-last" "The chunked coding is not the last one (RFC 9112 section 6.3).",
    ChunkedRepeated 400 "chunked-repeated" "The chunked coding is applied more than once (RFC 9112 section 6.1).",
    ConnectWithContent 400 "connect-with-content" "A CONNECT request announces content (RFC 9110 section 9.3.6).",
    ChunkSize 400 "chunk-size" "A chunk size is not one to sixteen hexadecimal digits (RFC 9112 section 7.1).",
    ChunkExtension 400 "chunk-extension" "A chunk extension is malformed (RFC 9112 section 7.1.1).",
    ChunkExtensionsTooLong 400 "chunk-extensions-too-long" "The chunk extensions are longer than the limit (RFC 9112 section 7.1.1).",
    ChunkEnd 400 "chunk-end" "The data of a chunk are not followed by CRLF (RFC 9112 section 7.1).",
    TrailersTooLarge 431 "trailers-too-large" "The trailer section is larger than the limit (RFC 6585 section 5).",
    BodyTruncated 400 "body-truncated" "The connection ended before the body did (RFC 9112 section 8).",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_sentences_cite_a_section() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.slug()), "{} twice", reason.slug());
            assert!(
                reason
                    .slug()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit())
            );
            assert!(reason.sentence().contains("(RFC ") && reason.sentence().ends_with(")."));
            assert!((400..600).contains(&reason.status()));
        }
    }
}
