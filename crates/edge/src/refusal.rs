//! Why the edge answers a request itself, and the short body that it answers with. Bodies say what a client may know:
//! status, a plain reason, the request id; never names of routes, backends or addresses.

use crate::decide::Head;
use crate::grpc::Call;
use crate::ids::RequestId;
use h1::Known;

macro_rules! causes {
    ($($name:ident $status:literal $slug:literal $sentence:literal,)*) => {
        /// The edge's own reasons. The slug is stable: logs and metrics carry it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cause { $(#[doc = $sentence] $name,)* }

        impl Cause {
            pub const ALL: &[Cause] = &[$(Cause::$name,)*];

            pub fn status(self) -> u16 {
                match self { $(Cause::$name => $status,)* }
            }

            pub fn slug(self) -> &'static str {
                match self { $(Cause::$name => $slug,)* }
            }

            pub fn sentence(self) -> &'static str {
                match self { $(Cause::$name => $sentence,)* }
            }
        }
    };
}

causes! {
    NoListener 404 "no-listener" "Nothing is served under this host name.",
    NoRoute 404 "no-route" "No route matches this request.",
    Misdirected 421 "misdirected" "This connection is for another host name.",
    PeerRefused 403 "peer-refused" "This address may not connect here.",
    SourceRefused 403 "source-refused" "This address is not served here.",
    RuleFails 500 "rule-fails" "The route cannot be served as it is configured.",
    InvalidBackend 500 "invalid-backend" "The backend of this route is not valid.",
    NoWeight 500 "no-weight" "Every backend of this route has weight zero.",
    NoEndpoint 503 "no-endpoint" "No endpoint of the backend is ready.",
    FallbackResponse 503 "fallback-response" "No endpoint of the backend, or of what stands in for it, is ready.",
    CircuitOpen 503 "circuit-open" "The backend has as many requests as it may have.",
    ConnectFailed 502 "connect-failed" "The backend could not be reached.",
    Loop 502 "loop" "The route of this request leads back to this server.",
    Shortage 503 "shortage" "This server has no room for another connection now.",
    UpstreamTls 502 "upstream-tls" "The connection to the backend could not be secured.",
    UpstreamTlsExpired 502 "upstream-tls-expired" "The certificate of the backend is not valid at this time.",
    UpstreamTlsName 502 "upstream-tls-name" "The certificate of the backend is for another name.",
    UpstreamTlsAuthority 502 "upstream-tls-authority" "The certificate of the backend comes from nobody who is trusted.",
    BadResponse 502 "bad-response" "The backend sent no usable response.",
    RouteTimeout 504 "route-timeout" "The request took longer than its route allows.",
    BackendTimeout 504 "backend-timeout" "The backend did not answer in time.",
    Maintenance 503 "maintenance" "This site is closed for maintenance.",
    Replaced 502 "replaced" "The backend answered with an error.",
    RequestTimeout 408 "request-timeout" "The request did not arrive in time.",
    RequestRate 408 "request-rate" "The body of the request came more slowly than is allowed (requestRate).",
    ResponseRate 408 "response-rate" "The response was taken more slowly than is allowed (responseRate).",
    BodyTooLarge 413 "body-too-large" "The body of the request is larger than the limit (bodyBytes).",
    BodyEncoding 400 "body-encoding" "The body of the request is not base64, which its content type says.",
    ConnectMethod 501 "connect-method" "This server is no forward proxy: CONNECT is not served.",
}

/// A request that gets no response of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Edge(Cause),
    /// The message itself is not accepted.
    Message(h1::Reason),
    /// A rule that fails with a status of its own.
    Rule {
        status: u16,
    },
    /// A response of an origin with this status gives way to a page.
    Replaced {
        status: u16,
    },
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Refusal::Edge(cause) => cause.status(),
            Refusal::Message(reason) => reason.status(),
            Refusal::Rule { status } | Refusal::Replaced { status } => status,
        }
    }

    pub fn slug(self) -> &'static str {
        match self {
            Refusal::Edge(cause) => cause.slug(),
            Refusal::Message(reason) => reason.slug(),
            Refusal::Rule { .. } => Cause::RuleFails.slug(),
            Refusal::Replaced { .. } => Cause::Replaced.slug(),
        }
    }

    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::Edge(cause) => cause.sentence(),
            Refusal::Message(reason) => reason.sentence(),
            Refusal::Rule { .. } => Cause::RuleFails.sentence(),
            Refusal::Replaced { .. } => Cause::Replaced.sentence(),
        }
    }

    /// Where the next message would begin is not known, or the client is too slow.
    pub fn closes(self) -> bool {
        match self {
            Refusal::Message(_) => true,
            Refusal::Edge(cause) => {
                matches!(
                    cause,
                    Cause::RequestTimeout
                        | Cause::RequestRate
                        | Cause::BodyTooLarge
                        | Cause::ConnectMethod
                        | Cause::PeerRefused
                )
            }
            Refusal::Rule { .. } | Refusal::Replaced { .. } => false,
        }
    }
}

/// What the client would like to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Text,
    Json,
    Html,
    /// A status in the words of gRPC under this content type, and no body.
    Grpc(&'static [u8]),
}

impl Media {
    /// A call of gRPC names no other: its client reads nothing else.
    pub fn wanted(request: Head<'_>) -> Media {
        match Call::of(request).content_type() {
            Some(content_type) => Media::Grpc(content_type),
            None => Media::of(request.find(Known::Accept).unwrap_or_default()),
        }
    }

    /// The first of the three that Accept names with a weight other than zero (RFC 9110 section 12.5.1); how the others
    /// are weighed is not looked at.
    fn of(accept: &[u8]) -> Media {
        let named = accept.split(|&b| b == b',').filter_map(Media::of_range).next();
        named.unwrap_or(Media::Text)
    }

    fn of_range(range: &[u8]) -> Option<Media> {
        const RANGES: [(&[u8], Media); 5] = [
            (b"text/html", Media::Html),
            (b"application/json", Media::Json),
            (b"application/*", Media::Json),
            (b"text/plain", Media::Text),
            (b"text/*", Media::Text),
        ];
        let mut parts = range.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let (_, media) = RANGES.iter().find(|(range, _)| name.eq_ignore_ascii_case(range))?;
        (!parts.any(is_weight_zero)).then_some(*media)
    }

    pub fn content_type(self) -> &'static [u8] {
        match self {
            Media::Text => b"text/plain; charset=utf-8",
            Media::Json => b"application/json",
            Media::Html => b"text/html; charset=utf-8",
            Media::Grpc(content_type) => content_type,
        }
    }
}

/// `q=0`, `q=0.000`
pub(crate) fn is_weight_zero(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0', rest @ ..] => rest.iter().all(|b| matches!(b, b'.' | b'0')),
        _ => false,
    }
}

/// The body of an answer of ours. Every part is ASCII text of ours: nothing needs escaping.
pub(crate) fn body(media: Media, status: u16, sentence: &str, id: &RequestId) -> Vec<u8> {
    let (phrase, id) = (h1::encode::reason_phrase(status), id.as_str());
    let text = match media {
        Media::Text => format!("{status} {phrase}\n{sentence}\nrequest id: {id}\n"),
        Media::Json => format!(
            "{{\"status\":{status},\"reason\":\"{phrase}\",\"message\":\"{sentence}\",\"request_id\":\"{id}\"}}\n"
        ),
        Media::Html => format!(
            "<!doctype html><html lang=\"en\"><title>{status} {phrase}</title>\
             <h1>{status} {phrase}</h1><p>{sentence}</p><p>Request id: <code>{id}</code></p></html>\n"
        ),
        Media::Grpc(_) => String::new(),
    };
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_as_asked() {
        for (accept, expected) in [
            ("", Media::Text),
            ("*/*", Media::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Media::Html),
            ("application/json", Media::Json),
            ("application/xml;q=1, Application/JSON;q=0.5", Media::Json),
            ("text/plain, text/html", Media::Text),
            ("text/html;q=0, application/json", Media::Json),
            ("text/html; Q=0.000, */*", Media::Text),
            ("application/json;q=0", Media::Text),
            ("application/json;q=0.01", Media::Json),
            ("application/*", Media::Json),
            ("image/*, text/*;q=0.1, application/*", Media::Text),
        ] {
            assert_eq!(Media::of(accept.as_bytes()), expected, "{accept}");
        }
    }

    #[test]
    fn bodies_hold_status_reason_and_id_and_need_no_escaping() {
        let id = RequestId::of(1, 2);
        for &cause in Cause::ALL {
            assert!(!cause.sentence().contains(['"', '<', '&', '\\']), "{cause:?}");
            for media in [Media::Text, Media::Json, Media::Html] {
                let body = body(media, cause.status(), cause.sentence(), &id);
                let text = String::from_utf8(body).expect("ASCII");
                for part in [&cause.status().to_string(), cause.sentence(), id.as_str()] {
                    assert!(text.contains(part), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_handbook_tells_what_to_look_at_for_each() {
        let page = include_str!("../../../docs/access-log.md");
        for cause in Cause::ALL {
            assert!(page.contains(&format!("`{}`", cause.slug())), "{cause:?}");
        }
    }

    #[test]
    fn slugs_are_unique() {
        let mut slugs: Vec<_> = Cause::ALL.iter().map(|cause| cause.slug()).collect();
        slugs.extend(h1::Reason::ALL.iter().map(|reason| reason.slug()));
        let count = slugs.len();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), count);
    }
}
