//! One stream of HTTP/2 as a client of the edge. Its request is written as a head of HTTP/1.1 and read by the strict
//! codec: what could not stand in HTTP/1.1 is refused there, and everything behind sees one form.
//!
//! Three things are settled by `h2` before a stream is seen here. A `:path` with a fragment comes without it, where
//! HTTP/1.1 refuses the request. Trailers come without the pseudo-headers that make their message malformed (RFC 9113
//! section 8.1). A malformed field or pseudo-header (such as a `:path` with `<`), and a header list
//! longer than [`model::limits::HTTP2_HEADER_LIST_BYTES`], end as a reset or a bare 431 of `h2` (RFC 9113 section
//! 8.1.1), without a request id, a line in the log or a count.

use crate::client::{Body, Client, ClientFault, Follow, Lines, Response, forwarded_trailers};
use crate::connection::Connection;
use crate::exchange::{self, HTTP2, Site};
use crate::field_names::is_certificate_field;
use crate::http2_budget::Budget;
use crate::refusal::{Cause, Refusal};
use crate::websocket;
use crate::worker::Worker;
use bytes::Bytes;
use h1::{Framing, Known, Trailers, encode, host};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use model::limits::REQUEST_BODY_BYTES;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes of a response that one frame carries at most.
const FRAME_BYTES: usize = 16 << 10;

pub(crate) async fn serve(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    budget: Rc<Budget>,
) {
    let (parts, body) = request.into_parts();
    let mut bytes = worker.buffers.output();
    let socket = is_websocket(&parts).then(websocket::key);
    let faults = write_head(&parts, body.is_end_stream(), socket.as_deref(), &mut bytes);
    let mut scratch = worker.scratch();
    let parsed = faults.and_then(|()| {
        h1::parse_request(&bytes, &mut scratch.request, &connection.limits().head)
            .map_err(|refusal| Refusal::Message(refusal.reason))
    });
    let deadline = worker.deadlines.register();
    let mut client = Http2Stream::new(bytes, body, respond, budget);
    client.socket = socket.map(|key| websocket::accept(key.as_bytes()).into());
    let site = Site { worker, connection, deadline: &deadline, protocol: HTTP2 };
    match parsed {
        Ok(Some(head)) => {
            client.awaits_continue = head.expect_continue;
            exchange::serve(site, &head, &mut client, &mut scratch).await;
            match client.is_ended {
                true => client.budget.answered(),
                false if client.is_given_up => client.budget.given_up(),
                false => {}
            }
        }
        // A head without its end cannot be: `write_head` writes it.
        Ok(None) => client.abort(),
        Err(refusal) => {
            exchange::refuse_message(site, &mut client, refusal).await;
        }
    }
    worker.buffers.give_back_output(client.bytes);
    worker.give_back_scratch(scratch);
}

/// Extended CONNECT (RFC 8441 section 4). One for another protocol is refused as every CONNECT is.
fn is_websocket(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.method == Method::CONNECT
        && protocol.is_some_and(|protocol| websocket::is_asked(protocol.as_ref()))
}

/// Writes the request as HTTP/1.1 would have it (RFC 9113 section 8.3.1): the authority as Host, crumbs of Cookie
/// joined (section 8.2.3), chunked where the length is not known. `socket` is the key of a WebSocket.
pub(crate) fn write_head(
    parts: &Parts,
    is_end: bool,
    socket: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT && socket.is_none() {
        return Err(Refusal::Edge(Cause::ConnectMethod));
    }
    let host = host_of(parts).map_err(Refusal::Message)?;
    let target = match (parts.uri.path_and_query(), parts.uri.authority()) {
        (Some(path), _) => path.as_str(),
        (None, Some(authority)) => authority.as_str(),
        (None, None) => return Err(Refusal::Message(h1::Reason::TargetForm)),
    };
    if !target.bytes().all(|b| b > b' ' && b != 0x7f) {
        return Err(Refusal::Message(h1::Reason::TargetBytes));
    }
    let method = if socket.is_some() { "GET" } else { parts.method.as_str() };
    encode::request_line(out, method.as_bytes(), target.as_bytes());
    encode::header(out, b"host", host);
    let mut has_length = false;
    for (name, value) in &parts.headers {
        match *name {
            // Of the message that a tunnel has not, and of HTTP/1.1 (RFC 8441 section 5).
            http::header::CONTENT_LENGTH | http::header::SEC_WEBSOCKET_KEY if socket.is_some() => {
                continue;
            }
            http::header::HOST | http::header::COOKIE => continue,
            // `h2` refuses the request (RFC 9113 section 8.2.2). What frames the body here is not left to that.
            http::header::TRANSFER_ENCODING => continue,
            http::header::CONTENT_LENGTH => has_length = true,
            _ => {}
        }
        write_field(name, value, out).ok_or(Refusal::Message(h1::Reason::HeaderName))?;
    }
    write_cookie(&parts.headers, out);
    if let Some(key) = socket {
        encode::header(out, b"connection", b"upgrade");
        encode::header(out, b"upgrade", websocket::NAME.as_bytes());
        encode::header(out, websocket::KEY.as_bytes(), key.as_bytes());
        encode::end(out);
        return Ok(());
    }
    match (has_length, is_end) {
        (true, _) => {}
        (false, false) => encode::transfer_encoding_chunked(out),
        // Origins may ask for a length where a body is usual (RFC 9110 section 8.6).
        (false, true) if matches!(parts.method.as_str(), "POST" | "PUT" | "PATCH") => {
            encode::content_length(out, 0);
        }
        (false, true) => {}
    }
    encode::end(out);
    Ok(())
}

/// None where the field could not stand in HTTP/1.1: `http` takes names that are no tokens (`"` in them).
pub(crate) fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) -> Option<()> {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    (h1::is_token(name) && h1::is_field_value(value)).then(|| encode::header(out, name, value))
}

/// The authority, which Host may only repeat.
fn host_of(parts: &Parts) -> Result<&[u8], h1::Reason> {
    let mut fields = parts.headers.get_all(http::header::HOST).iter().map(HeaderValue::as_bytes);
    let (field, second) = (fields.next(), fields.next());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, field) {
        _ if second.is_some() => Err(h1::Reason::HostRepeated),
        (Some(authority), Some(field)) if !is_same(parts, authority, field) => {
            Err(h1::Reason::HostDiffers)
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(h1::Reason::HostMissing),
    }
}

/// Whatever the case, and with or without the port that goes by the scheme (RFC 9113 section 8.3.1; RFC 3986 section
/// 6.2.3).
fn is_same(parts: &Parts, authority: &[u8], field: &[u8]) -> bool {
    let usual = match parts.uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    match (host::parse(authority), host::parse(field)) {
        (Some(a), Some(b)) => host::same(a.host, b.host) && a.port.or(usual) == b.port.or(usual),
        // What is wrong with them is said where they are read.
        _ => host::same(authority, field),
    }
}

fn write_cookie(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (at, crumb) in headers.get_all(http::header::COOKIE).iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"cookie: " } else { b"; " });
        out.extend_from_slice(crumb.as_bytes());
    }
    if headers.contains_key(http::header::COOKIE) {
        out.extend_from_slice(b"\r\n");
    }
}

struct Http2Stream {
    /// The head as HTTP/1.1.
    bytes: Vec<u8>,
    body: RecvStream,
    piece: Bytes,
    /// What may still come of the body.
    body_left: u64,
    trailers: Option<HeaderMap>,
    respond: SendResponse<Bytes>,
    /// The head of a response until something of its body is there, or is waited for.
    waiting: Option<http::Response<()>>,
    send: Option<SendStream<Bytes>>,
    awaits_continue: bool,
    /// The last frame of the response was handed over.
    is_ended: bool,
    /// Its stream was reset, and not by us for a fault of the origin.
    is_given_up: bool,
    budget: Rc<Budget>,
    /// Of a WebSocket that was asked for by extended CONNECT: what an origin answers to the key that we sent.
    socket: Option<Box<str>>,
}

impl Http2Stream {
    fn new(
        bytes: Vec<u8>,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        budget: Rc<Budget>,
    ) -> Http2Stream {
        Http2Stream {
            bytes,
            body,
            piece: Bytes::new(),
            body_left: REQUEST_BODY_BYTES,
            trailers: None,
            respond,
            waiting: None,
            send: None,
            awaits_continue: false,
            is_ended: false,
            is_given_up: false,
            budget,
            socket: None,
        }
    }

    fn send_head(&mut self, message: http::Response<()>, is_end: bool) {
        // Without a stream to send on, what follows finds that the client is gone.
        self.send = self.respond.send_response(message, is_end).ok();
        self.is_ended = is_end && self.send.is_some();
        self.is_given_up |= self.send.is_none();
    }

    /// What waits is sent: it cannot be taken back from here on.
    fn send_waiting(&mut self) {
        if let Some(message) = self.waiting.take() {
            self.send_head(message, false);
        }
    }
}

/// A status is three digits from the codec; field names and values were accepted by it.
fn message(response: &Response<'_>) -> http::Response<()> {
    let mut message = http::Response::new(());
    *message.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = message.headers_mut();
    response.write(&mut Mapped(headers));
    message
}

/// Lines as HTTP/2 has them; what it cannot carry is left out.
struct Mapped<'a>(&'a mut HeaderMap);

impl Lines for Mapped<'_> {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            // An error means more fields than the map can hold, which the codec's limit does not let through.
            let _ = self.0.try_append(name, value);
        }
    }
}

fn gone<E>(_: E) -> ClientFault {
    ClientFault::Gone
}

impl Client for Http2Stream {
    fn request(&self) -> &[u8] {
        &self.bytes
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        while self.piece.is_empty() {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(_)) => {
                    self.is_given_up = true;
                    return Poll::Ready(Err(ClientFault::Gone));
                }
                None => {
                    self.trailers = ready!(self.body.poll_trailers(cx)).map_err(gone)?;
                    return Poll::Ready(Ok(Body::End));
                }
            }
            match self.body_left.checked_sub(self.piece.len() as u64) {
                Some(left) => self.body_left = left,
                None if self.socket.is_some() => {}
                None => return Poll::Ready(Err(ClientFault::TooLarge)),
            }
        }
        Poll::Ready(Ok(Body::Data))
    }

    fn body(&self) -> &[u8] {
        &self.piece
    }

    fn limit_body(&mut self, bytes: u64) {
        self.body_left = bytes;
    }

    fn consume(&mut self, count: usize) {
        drop(self.take(count));
    }

    fn take(&mut self, count: usize) -> Bytes {
        // Fails only when more is released than was received.
        let _ = self.body.flow_control().release_capacity(count);
        self.piece.split_to(count.min(self.piece.len()))
    }

    fn write_trailers(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for (name, value) in self.trailers.iter().flatten() {
            let bytes = name.as_str().as_bytes();
            if Known::of(bytes).may_trail() && !is_certificate_field(bytes) {
                // One that cannot stand there is as if it were absent.
                let _ = write_field(name, value, out);
            }
        }
        out.len() > start
    }

    fn want_body(&mut self) {
        if std::mem::take(&mut self.awaits_continue) && self.piece.is_empty() {
            let mut message = http::Response::new(());
            *message.status_mut() = StatusCode::CONTINUE;
            // A stream that is gone is found when its body is read.
            let _ = self.respond.send_informational(message);
        }
    }

    fn interim(&mut self, response: &Response<'_>) {
        let _ = self.respond.send_informational(message(response));
    }

    fn head(&mut self, response: &Response<'_>) {
        match response.framing {
            Framing::None | Framing::Length(0) => self.send_head(message(response), true),
            _ => self.waiting = Some(message(response)),
        }
    }

    /// 200 is what says of extended CONNECT that there is a tunnel (RFC 8441 section 5).
    fn switch_protocols(&mut self, response: &Response<'_>, protocol: &[u8]) -> bool {
        let mut opened = message(response);
        let accept = opened.headers_mut().remove(websocket::ACCEPT);
        let is_answer = accept.is_some_and(|accept| {
            self.socket.as_deref().is_some_and(|wanted| accept.as_bytes() == wanted.as_bytes())
        });
        let is_open = is_answer && websocket::is_asked(protocol);
        if is_open {
            *opened.status_mut() = StatusCode::OK;
            self.send = self.respond.send_response(opened, false).ok();
            self.is_given_up |= self.send.is_none();
        }
        is_open
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        follow: Follow,
    ) -> Poll<Result<usize, ClientFault>> {
        self.send_waiting();
        let send = self.send.as_mut().ok_or(ClientFault::Gone)?;
        let data = &data[..data.len().min(FRAME_BYTES)];
        send.reserve_capacity(data.len());
        while send.capacity() == 0 {
            ready!(send.poll_capacity(cx)).ok_or(ClientFault::Gone)?.map_err(gone)?;
        }
        let count = send.capacity().min(data.len());
        // Of a longer piece this is not the end.
        let is_end = follow == Follow::End && count == data.len() && count < FRAME_BYTES;
        send.send_data(Bytes::copy_from_slice(&data[..count]), is_end).map_err(gone)?;
        self.is_ended = is_end;
        self.budget.sent();
        Poll::Ready(Ok(count))
    }

    /// The connection sends by itself what it was given.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        self.send_waiting();
        Poll::Ready(Ok(()))
    }

    /// Finds that the client gave the stream up.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), ClientFault> {
        let reset = match &mut self.send {
            _ if self.is_ended => Poll::Pending,
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        match reset {
            Poll::Ready(_) => {
                self.is_given_up = true;
                Err(ClientFault::Gone)
            }
            Poll::Pending => Ok(()),
        }
    }

    fn poll_finish(
        &mut self,
        _: &mut Context<'_>,
        trailers: Option<&Trailers>,
    ) -> Poll<Result<(), ClientFault>> {
        if self.is_ended {
            return Poll::Ready(Ok(()));
        }
        self.send_waiting();
        let send = self.send.as_mut().ok_or(ClientFault::Gone)?;
        let mut fields = HeaderMap::new();
        let lines = trailers.into_iter().flat_map(forwarded_trailers);
        lines.for_each(|(name, value)| Mapped(&mut fields).line(name, value));
        let sent = match fields.is_empty() {
            true => send.send_data(Bytes::new(), true),
            false => send.send_trailers(fields),
        };
        self.is_ended = sent.is_ok();
        self.is_given_up |= !self.is_ended;
        Poll::Ready(sent.map_err(gone))
    }

    fn may_trail(&self) -> bool {
        (self.send.is_some() || self.waiting.is_some()) && !self.is_ended
    }

    fn retract(&mut self) -> bool {
        self.waiting.take().is_some()
    }

    /// A stream is one request.
    fn close_after(&mut self) {}

    fn abort(&mut self) {
        match &mut self.send {
            Some(send) => send.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}
