//! What the clients of a case say: the protocol that they speak, what they send first, and their requests.

use std::sync::Arc;

use crate::http2::Scheme;
use crate::{http, http2};

/// What a case sends, again and again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Work {
    Get(&'static str),
    /// A body of so many bytes.
    Post(usize),
    /// GET over HTTP/2, with so many streams at once on each connection.
    Http2 {
        path: &'static str,
        streams: usize,
        scheme: Scheme,
    },
    /// Messages of so many bytes, which the origin sends back.
    WebSocket(usize),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Protocol {
    Http1,
    Http2,
    WebSocket,
}

pub struct Script {
    pub protocol: Protocol,
    /// Sent once, at the beginning of a connection.
    pub opening: Vec<u8>,
    /// In turn; over HTTP/2 the blocks of headers.
    pub requests: Vec<Arc<[u8]>>,
    /// Requests in flight on a connection.
    pub at_once: usize,
}

/// Where bodies of requests go.
pub const UPLOAD: &str = "/upload";
/// Where messages of WebSocket go.
pub const MESSAGES: &str = "/messages";

/// The example of RFC 6455 section 1.3: a key and its answer.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Script {
    /// The requests of `work`, one for each of `hosts` in turn.
    pub fn new(work: Work, hosts: &[String]) -> Arc<Script> {
        let requests = |make: &dyn Fn(&str) -> Vec<u8>| {
            hosts.iter().map(|host| Arc::from(make(host))).collect::<Vec<Arc<[u8]>>>()
        };
        let over_http1 = |requests| Script {
            protocol: Protocol::Http1,
            opening: Vec::new(),
            requests,
            at_once: 1,
        };
        Arc::new(match work {
            Work::Get(path) => over_http1(requests(&|host| http::request(host, path))),
            Work::Post(length) => over_http1(requests(&|host| http::post(host, UPLOAD, length))),
            Work::Http2 { path, streams, scheme } => Script {
                protocol: Protocol::Http2,
                opening: http2::opening(),
                requests: requests(&|host| http2::header_block(host, path, scheme)),
                at_once: streams,
            },
            Work::WebSocket(length) => Script {
                protocol: Protocol::WebSocket,
                opening: upgrade(hosts.first().map_or(http::HOST, String::as_str)),
                requests: vec![Arc::from(message(length))],
                at_once: 1,
            },
        })
    }

    pub fn get(host: &str, path: &str) -> Arc<Script> {
        let requests = vec![Arc::from(http::request(host, path))];
        let (protocol, opening) = (Protocol::Http1, Vec::new());
        Arc::new(Script { protocol, opening, requests, at_once: 1 })
    }
}

/// The path whose page comes back; `None` where the origin sends something else.
impl Work {
    pub fn path(self) -> Option<&'static str> {
        match self {
            Work::Get(path) | Work::Http2 { path, .. } => Some(path),
            Work::Post(_) => Some(UPLOAD),
            Work::WebSocket(_) => None,
        }
    }
}

fn upgrade(host: &str) -> Vec<u8> {
    format!(
        "GET {MESSAGES} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// A binary message with a mask of zeros, so that its bytes are those of its content (RFC 6455 section 5.2).
fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x82];
    match u8::try_from(length) {
        Ok(short) if short < 126 => bytes.push(0x80 | short),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(std::iter::repeat_n(b'm', length));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_length() {
        assert_eq!(message(2), b"\x82\x82\0\0\0\0mm");
        let long = message(1_000);
        assert!(long.starts_with(b"\x82\xfe\x03\xe8\0\0\0\0m"));
        assert_eq!(long.len(), 1_008);
    }

    #[test]
    fn hosts_take_turns() {
        let script = Script::new(Work::Get("/"), &["a.test".to_owned(), "b.test".to_owned()]);
        let text = |index: usize| String::from_utf8_lossy(&script.requests[index]).into_owned();
        assert!(text(0).contains("Host: a.test\r\n") && text(1).contains("Host: b.test\r\n"));
    }
}
