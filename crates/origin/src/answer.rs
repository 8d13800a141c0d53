//! What is answered: the description of a request as JSON, or what its path asks for. The same for
//! HTTP/1 and HTTP/2.

use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use tokio::time::sleep;

use crate::body::Content;
use crate::limits;
use crate::plan::Plan;

/// A name or value as it was received.
pub(crate) type Field = (String, String);

/// The description of a request; this is the JSON that clients of the origin read.
#[derive(Serialize)]
pub(crate) struct Received {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) protocol: &'static str,
    pub(crate) headers: Vec<Field>,
    pub(crate) body: BodyDigest,
    /// Left out when there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) trailers: Vec<Field>,
}

#[derive(Serialize)]
pub(crate) struct BodyDigest {
    pub(crate) length: u64,
    pub(crate) sha256: String,
}

/// Counts and digests a body as it streams by, up to the limit.
pub(crate) struct BodyMeter {
    length: u64,
    digest: digest::Context,
}

/// The body is longer than the origin reads.
#[derive(Debug)]
pub(crate) struct TooLarge;

impl BodyMeter {
    pub(crate) fn new() -> Self {
        Self { length: 0, digest: digest::Context::new(&digest::SHA256) }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        self.length += bytes.len() as u64;
        if self.length > limits::BODY_BYTES {
            return Err(TooLarge);
        }
        self.digest.update(bytes);
        Ok(())
    }

    pub(crate) fn finish(self) -> BodyDigest {
        BodyDigest { length: self.length, sha256: hex(self.digest.finish().as_ref()) }
    }
}

/// Carries out a plan. `None` asks for the connection (HTTP/1) or the stream (HTTP/2) to end without
/// an answer.
pub(crate) async fn answer(plan: Plan, received: &Received) -> Option<Response<Content>> {
    match plan {
        Plan::Describe { status, delay } => {
            sleep(delay).await;
            Some(description(status, received))
        }
        Plan::Bytes(left) => Some(binary(Content::Repeat { left })),
        Plan::Drip { bytes, every } => Some(binary(Content::drip(bytes, every))),
        Plan::Stream => {
            Some(typed("text/plain", Content::lines(limits::STREAM_LINES, limits::STREAM_PAUSE)))
        }
        Plan::Close => None,
        Plan::WebSocket => Some(upgrade_required()),
        Plan::Refuse(reason) => Some(refusal(StatusCode::BAD_REQUEST, reason)),
    }
}

/// A short JSON error.
pub(crate) fn refusal(status: StatusCode, reason: &str) -> Response<Content> {
    let body = serde_json::json!({ "error": reason }).to_string() + "\n";
    let mut response = typed("application/json", Content::Whole(body.into()));
    *response.status_mut() = status;
    response
}

pub(crate) fn too_large() -> Response<Content> {
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 MiB")
}

fn description(status: u16, received: &Received) -> Response<Content> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let body = match status {
        // No content with these, RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => {
            Bytes::new()
        }
        _ => json(received),
    };
    let mut response = typed("application/json", Content::Whole(body));
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn json(received: &Received) -> Bytes {
    let mut text = serde_json::to_vec_pretty(received)
        .expect("strings, numbers and lists of pairs always have a JSON form");
    text.push(b'\n');
    text.into()
}

fn binary(content: Content) -> Response<Content> {
    typed("application/octet-stream", content)
}

fn upgrade_required() -> Response<Content> {
    let mut response =
        refusal(StatusCode::UPGRADE_REQUIRED, "/ws takes a WebSocket handshake over HTTP/1.1");
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

fn typed(kind: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
