//! A request to an origin that speaks HTTP/2, as far as its head: translated from HTTP/1.1, sent on a stream of its own,
//! and the heads that come back, as they come. Bodies, and what becomes of a response, are `http2_pump`'s.

use crate::client::ClientFault;
use crate::grpc::Call;
use crate::grpc_web;
use crate::http2_upstream::Lease;
use crate::pump::{Fault, Terms};
use crate::websocket;
use crate::worker::{LIMITS, Worker};
use bytes::Bytes;
use h1::{HeaderList, Known};
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri};
use model::limits::{HEAD_BYTES, HEAD_HEADERS, TARGET_BYTES};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A head of our own making: a client's within its limits, and the lines that the edge adds.
const REQUEST_LIMITS: h1::Limits = h1::Limits {
    head_bytes: 2 * HEAD_BYTES,
    headers: 2 * HEAD_HEADERS,
    target_bytes: 2 * TARGET_BYTES,
    ..LIMITS
};

/// A request that is sent but for its body.
pub(crate) struct Stream {
    pub send: SendStream<Bytes>,
    pub answer: Answer,
    pub began_ms: u64,
    /// What the client's key is answered by, where it asks for a WebSocket.
    pub socket: Option<Box<str>>,
}

impl Stream {
    pub fn open(
        lease: &Lease,
        worker: &Worker,
        terms: &Terms<'_>,
        (request, list): (&[u8], &mut HeaderList),
    ) -> Result<Stream, Fault> {
        let takes_sockets = terms.asks_upgrade && lease.takes_sockets();
        let Message { mut message, socket } = message(request, list, lease.scheme(), takes_sockets)
            .ok_or(Fault::Client(ClientFault::Message(h1::Reason::TargetBytes)))?;
        if let Call::Web(_) = terms.call {
            grpc_web::translate_fields(message.headers_mut());
        }
        let is_whole = !terms.has_body() && socket.is_none();
        let Ok((response, send)) = lease.send().send_request(message, is_whole) else {
            // Closed, going away, or out of streams.
            lease.retire();
            return Err(Fault::NotProcessed);
        };
        list.clear();
        let answer = Answer { response, came: None };
        Ok(Stream { send, answer, began_ms: worker.deadlines.now_ms(), socket })
    }

    /// Ready when the origin has begun to answer, or the stream has ended. The answer stays here.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let came = ready!(self.answer.poll(cx));
        let has_answered = !matches!(came, Came::End(Err(_)));
        self.answer.came = Some(came);
        Poll::Ready(has_answered)
    }

    pub fn was_refused(&self) -> bool {
        matches!(&self.answer.came, Some(Came::End(Err(error))) if is_refused(error))
    }

    /// Nobody waits for it any more.
    pub fn out_of_time(&self, lease: &Lease) {
        lease.out_of_time(self.began_ms);
    }
}

/// The heads of responses to a request, as they come.
pub(crate) struct Answer {
    response: ResponseFuture,
    /// Came, and was not taken.
    came: Option<Came>,
}

pub(crate) enum Came {
    Interim(http::Response<()>),
    End(Result<http::Response<RecvStream>, h2::Error>),
}

impl Answer {
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        if let Some(came) = self.came.take() {
            return Poll::Ready(came);
        }
        if let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            return Poll::Ready(Came::Interim(interim));
        }
        Pin::new(&mut self.response).poll(cx).map(Came::End)
    }
}

/// The origin did not look at the request (RFC 9113 sections 6.8 and 8.7). The streams up to the last one of a GOAWAY end
/// in another way.
pub(crate) fn is_refused(error: &h2::Error) -> bool {
    let says_so = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && says_so
}

struct Message {
    message: Request<()>,
    /// What its key is answered by, where it opens a WebSocket.
    socket: Option<Box<str>>,
}

/// The request as HTTP/2 has it (RFC 9113 section 8.3.1): what is hop-by-hop is left out but `te: trailers` (section
/// 8.2.2). None where the target cannot stand in HTTP/2.
fn message(
    bytes: &[u8],
    list: &mut HeaderList,
    scheme: &str,
    takes_sockets: bool,
) -> Option<Message> {
    list.clear();
    let head = h1::parse_request(bytes, list, &REQUEST_LIMITS).ok().flatten()?;
    let mut uri = Uri::builder().scheme(scheme).path_and_query(head.path_and_query(bytes));
    uri = uri.authority(head.host.map(|host| host.of(bytes)).unwrap_or_default());
    let mut message = Request::new(());
    *message.uri_mut() = uri.build().ok()?;
    let key = head.upgrade.filter(|asked| takes_sockets && websocket::is_asked(asked.of(bytes)));
    let key = key.and_then(|_| {
        list.iter().find(|header| is_of_key(header.name(bytes))).map(|h| h.value(bytes))
    });
    *message.method_mut() = match key {
        Some(_) => http::Method::CONNECT,
        None => http::Method::from_bytes(head.method_span.of(bytes)).ok()?,
    };
    *message.version_mut() = http::Version::HTTP_2;
    let headers = message.headers_mut();
    for header in list.iter() {
        match header.known {
            Known::Host => {}
            Known::Te => {
                drop(headers.insert(http::header::TE, HeaderValue::from_static("trailers")))
            }
            _ if list.is_hop_by_hop(bytes, *header) => {}
            // RFC 8441 section 5.
            Known::Other if key.is_some() && is_of_key(header.name(bytes)) => {}
            _ => push(headers, header.name(bytes), header.value(bytes)),
        }
    }
    if key.is_some() {
        message.extensions_mut().insert(Protocol::from_static(websocket::NAME));
    }
    Some(Message { message, socket: key.map(|key| websocket::accept(key).into()) })
}

fn is_of_key(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(websocket::KEY.as_bytes())
}

/// Leaves out what HTTP/2 cannot carry.
pub(crate) fn push(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        // An error means more fields than the map can hold, which the codec's limit does not let through.
        let _ = headers.try_append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_what_is_hop_by_hop() {
        let head = b"OPTIONS /a?b=%20 HTTP/1.1\r\nhost: a.test:8080\r\nte: trailers\r\nconnection: te, x-own\r\n\
            x-own: 1\r\nkeep-alive: 5\r\ntransfer-encoding: chunked\r\naccept: a\r\naccept: b\r\n\r\n";
        let message =
            message(head, &mut HeaderList::new(), "https", true).expect("a request").message;
        assert_eq!(message.uri(), "https://a.test:8080/a?b=%20");
        assert_eq!(message.method(), "OPTIONS");
        let lines: Vec<_> =
            message.headers().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let expected: [(&str, &[u8]); 3] =
            [("te", b"trailers"), ("accept", b"a"), ("accept", b"b")];
        assert_eq!(lines, expected);
    }
}
