//! One attempt at an origin that speaks HTTP/2, over a stream of its own: the request goes up while the response comes
//! down, in one task, as fast as the slower end takes it. Heads are translated by way of HTTP/1.1, so that its strict
//! codec judges them and the client's side sees one form. HTTP/2 has no Upgrade (RFC 9113 section 8.6): a request for a
//! WebSocket becomes an extended CONNECT where the origin takes it (RFC 8441), and any other goes without.
//!
//! ```text
//! up:    [Wait ->] Read -> Ended          (Broken: the origin takes no more)
//! down:  Head -> [Interim -> Head ...] -> Body -> Finish -> Done
//! ```
//!
//! A WebSocket waits for the head of the response; after it the same two directions are a tunnel.

use crate::access::Trace;
use crate::client::{Body, Client, Fields, Follow, Response};
use crate::course::{Course, Waits};
use crate::deadline::{Deadline, Passed};
use crate::grpc::{self, Call};
use crate::http2_request::{Answer, Came, Stream, is_refused, push};
use crate::http2_stream::write_field;
use crate::http2_upstream::Lease;
use crate::pump::{Aftermath, Fault, Interims, Terms};
use crate::websocket;
use crate::worker::{LIMITS, Worker};
use bytes::{Buf, Bytes};
use h1::{BodyDecoder, Event, Framing, HeaderList, Method, ResponseHead, encode};
use h2::{RecvStream, SendStream};
use http::header::HeaderMap;
use model::limits::BODY_STALL_TIMEOUT_MS;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

/// Bytes of a request that one frame carries at most.
const FRAME_BYTES: usize = 16 << 10;

/// `request` holds the request's head for the origin, as HTTP/1.1 has it.
pub(crate) async fn attempt<C: Client>(
    client: &mut C,
    lease: &Lease,
    (worker, deadline): (&Worker, &Deadline),
    terms: Terms<'_>,
    trace: &mut Trace,
    (request, list): (&[u8], &mut HeaderList),
) -> (Result<(), Fault>, Aftermath) {
    if terms.asks_upgrade
        && let Err(fault) = settle(lease, deadline).await
    {
        return (Err(fault), Aftermath::default());
    }
    match Stream::open(lease, worker, &terms, (request, list)) {
        Ok(stream) => go_on(client, (lease, stream), (worker, deadline), terms, trace, list).await,
        Err(fault) => (Err(fault), Aftermath::default()),
    }
}

/// With a stream that was opened.
pub(crate) async fn go_on<C: Client>(
    client: &mut C,
    (lease, stream): (&Lease, Stream),
    place: (&Worker, &Deadline),
    terms: Terms<'_>,
    trace: &mut Trace,
    list: &mut HeaderList,
) -> (Result<(), Fault>, Aftermath) {
    let Stream { send, answer, began_ms, socket } = stream;
    let state = match &socket {
        Some(_) => UpState::Wait,
        None if terms.has_body() => UpState::Read,
        None => UpState::Ended,
    };
    let mut pump = Http2Pump {
        client,
        lease,
        course: Course::new(place, terms, trace),
        began_ms,
        socket,
        up: Up { state, send, waits_for_client: false },
        down: Down {
            state: DownState::Head,
            answer,
            list,
            interims: Interims::default(),
            body: None,
            piece: Bytes::new(),
            framing: Framing::None,
            received: 0,
            trailers: BodyDecoder::UntilClose,
            head_sent: false,
            is_call: false,
        },
    };
    if state == UpState::Read {
        pump.client.want_body();
    }
    let result = poll_fn(|cx| pump.poll(cx)).await.map_err(|fault| pump.course.blame(fault));
    let is_over = matches!(result, Err(Fault::Timeout(Passed::Cap) | Fault::Overdue));
    let is_told = is_over && pump.end_call();
    let (head_sent, took_body) = (pump.down.head_sent, pump.took_body());
    (result, Aftermath { reusable: false, head_sent, took_body, is_told })
}

struct Http2Pump<'a, C> {
    client: &'a mut C,
    lease: &'a Lease,
    course: Course<'a>,
    began_ms: u64,
    /// What the client's key is answered by, where it asks for a WebSocket.
    socket: Option<Box<str>>,
    up: Up,
    down: Down<'a>,
}

struct Up {
    state: UpState,
    send: SendStream<Bytes>,
    waits_for_client: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UpState {
    /// What a client of a WebSocket sends is for the tunnel.
    Wait,
    Read,
    Ended,
    Broken,
}

struct Down<'a> {
    state: DownState,
    answer: Answer,
    list: &'a mut HeaderList,
    interims: Interims,
    body: Option<RecvStream>,
    /// What the client has not taken.
    piece: Bytes,
    framing: Framing,
    received: u64,
    /// Holds the trailer section once it has come.
    trailers: BodyDecoder,
    /// The head of the final response was handed to the client.
    head_sent: bool,
    /// It is one of gRPC, and of no length.
    is_call: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DownState {
    Head,
    /// An interim response is to be sent before more is read: a client that reads nothing holds the origin back.
    Interim,
    Body,
    Finish,
    Done,
}

impl<C: Client> Http2Pump<'_, C> {
    /// A response that is over ends the exchange, even when the request's body is not: the stream is then reset.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.course.notice_drain();
        let was_tunnel = self.course.is_tunnel();
        self.poll_up(cx)?;
        if self.poll_down(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.course.is_tunnel() && !was_tunnel {
            // The client's bytes are to be read now.
            return self.poll(cx);
        }
        let waits = self.waits();
        self.course.keep_pace(waits);
        match self.course.deadline.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) if was_tunnel => {
                self.end_tunnel(cx);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(passed) => {
                let fault = self.course.timeout(passed, waits);
                if matches!(fault, Fault::Timeout(_)) {
                    self.lease.out_of_time(self.began_ms);
                }
                Poll::Ready(Err(fault))
            }
        }
    }

    /// A tunnel whose time is over is nobody's fault: both ends are told that nothing follows.
    fn end_tunnel(&mut self, cx: &mut Context<'_>) {
        let _ = self.client.poll_finish(cx, None);
        let _ = self.up.send.send_data(Bytes::new(), true);
    }

    fn waits(&self) -> Waits {
        let is_offered = !self.down.piece.is_empty();
        Waits {
            sender: self.up.state == UpState::Read && self.up.waits_for_client,
            reader: is_offered || matches!(self.down.state, DownState::Interim | DownState::Finish),
        }
    }

    /// Of a call whose time is over: the end of a response that has begun, where that needs no waiting.
    fn end_call(&mut self) -> bool {
        if self.course.terms.call == Call::No || !self.down.is_call || !self.client.may_trail() {
            return false;
        }
        let section = grpc::deadline_trailers();
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.client.poll_finish(&mut cx, section.trailers()), Poll::Ready(Ok(())))
    }

    /// Bytes of the body may be gone: they cannot be sent a second time.
    fn took_body(&self) -> bool {
        self.course.terms.has_body() && !self.client.keeps_body()
    }

    fn progress(&self) {
        let is_body = self.up.state == UpState::Read || self.down.state == DownState::Body;
        self.course.progress(is_body);
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while self.up.state == UpState::Read {
            let polled = self.client.poll_body(cx).map_err(Fault::Client)?;
            self.up.waits_for_client = polled.is_pending();
            match polled {
                Poll::Pending => {
                    // 100 (Continue) may have to go out. A client that went away is found when the response is sent.
                    let _ = self.client.poll_flush(cx);
                    return Ok(());
                }
                Poll::Ready(Body::End) => self.end_request(),
                Poll::Ready(Body::Data) => {
                    if self.poll_piece(cx).is_pending() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends as much of the client's piece as the origin's window takes.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (send, length) = (&mut self.up.send, self.client.body().len().min(FRAME_BYTES));
        send.reserve_capacity(length);
        while send.capacity() == 0 {
            if !matches!(ready!(send.poll_capacity(cx)), Some(Ok(_))) {
                self.up.state = UpState::Broken;
                return Poll::Ready(());
            }
        }
        let count = send.capacity().min(length);
        if send.send_data(self.client.take(count), false).is_err() {
            self.up.state = UpState::Broken;
            return Poll::Ready(());
        }
        self.course.trace.bytes_in += count as u64;
        self.progress();
        Poll::Ready(())
    }

    fn end_request(&mut self) {
        let mut lines = self.course.worker.buffers.output();
        let sent = match self.client.write_trailers(&mut lines) {
            true => self.up.send.send_trailers(fields(&lines)),
            false => self.up.send.send_data(Bytes::new(), true),
        };
        self.course.worker.buffers.give_back_output(lines);
        self.up.state = if sent.is_ok() { UpState::Ended } else { UpState::Broken };
        self.progress();
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            match self.down.state {
                DownState::Head => ready!(self.poll_head(cx)?),
                DownState::Interim => {
                    ready!(self.client.poll_flush(cx)).map_err(Fault::Client)?;
                    self.down.state = DownState::Head;
                }
                DownState::Body => {
                    ready!(self.poll_deliver(cx)?);
                    ready!(self.poll_read(cx)?);
                }
                DownState::Finish => {
                    let trailers = self.down.trailers.trailers();
                    ready!(self.client.poll_finish(cx, trailers)).map_err(Fault::Client)?;
                    self.down.state = DownState::Done;
                }
                DownState::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.down.answer.poll(cx) {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Came::Interim(interim)) => {
                self.take_head(&interim.into_parts().0, false)?;
                self.down.state = DownState::Interim;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Came::End(Err(error))) => Poll::Ready(Err(self.fault(&error))),
            Poll::Ready(Came::End(Ok(response))) => {
                let (parts, body) = response.into_parts();
                self.take_head(&parts, body.is_end_stream())?;
                self.down.body = Some(body);
                self.down.state = DownState::Body;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// What the client has not been sent yet goes out before this waits.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Fault>> {
        let _ = self.client.poll_flush(cx).map_err(Fault::Client)?;
        self.client.watch(cx).map_err(Fault::Client)?;
        Poll::Pending
    }

    /// Hands the head of a response to the client, by way of the codec of HTTP/1.1.
    fn take_head(&mut self, parts: &http::response::Parts, is_end: bool) -> Result<(), Fault> {
        self.lease.heard();
        let mut bytes = self.course.worker.buffers.output();
        let taken = self.pass_head(parts, is_end, &mut bytes);
        self.course.worker.buffers.give_back_output(bytes);
        taken
    }

    fn pass_head(
        &mut self,
        parts: &http::response::Parts,
        is_end: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let opens = if parts.status.is_success() { self.socket.take() } else { None };
        match &opens {
            Some(accept) => write_switch(parts, accept, bytes),
            None => write_head(parts, is_end, self.course.terms.method, bytes),
        }
        .ok_or(Fault::Malformed)?;
        self.down.list.clear();
        let parsed = h1::parse_response(bytes, self.down.list, self.course.terms.method, &LIMITS);
        let head = parsed.ok().flatten().ok_or(Fault::Malformed)?;
        let lines = (&bytes[..], &*self.down.list);
        self.course.terms.pass(head.status, lines, self.took_body())?;
        let response = Response {
            status: head.status,
            reason: encode::reason_phrase(head.status).as_bytes(),
            framing: head.framing,
            fields: Fields::Origin { bytes, list: self.down.list },
            edits: self.course.terms.response_edits.filter(|_| !head.is_interim()),
            id: self.course.terms.id,
            date: &self.course.worker.date.get(),
        };
        match head.status {
            101 if opens.is_some() => {
                if !self.client.switch_protocols(&response, websocket::NAME.as_bytes()) {
                    return Err(Fault::Malformed);
                }
                self.begin_body(&head);
                self.begin_tunnel();
                return Ok(());
            }
            // RFC 9113 section 8.6: there is no 101.
            101 => return Err(Fault::Malformed),
            100 => {}
            _ if head.is_interim() => self.client.interim(&response),
            _ => self.client.head(&response),
        }
        match head.is_interim() {
            true => self.down.interims.take(&head)?,
            false => {
                let content_type = parts.headers.get(http::header::CONTENT_TYPE);
                let is_call = content_type.is_some_and(|value| grpc::is_call(value.as_bytes()));
                self.down.is_call = is_call && head.framing == Framing::Chunked;
                self.begin_body(&head);
            }
        }
        Ok(())
    }

    fn begin_body(&mut self, head: &ResponseHead) {
        self.course.trace.first_byte = Some(self.course.trace.started.elapsed());
        self.course.trace.status = head.status;
        self.down.head_sent = true;
        self.down.framing = head.framing;
        self.progress();
    }

    fn begin_tunnel(&mut self) {
        self.course.open_tunnel();
        self.up.state = UpState::Read;
        self.down.framing = Framing::UntilClose;
        self.progress();
    }

    /// The origin's window opens as the client takes what came.
    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while let (false, Some(body)) = (self.down.piece.is_empty(), &mut self.down.body) {
            let follow = if body.is_end_stream() { Follow::End } else { Follow::Unknown };
            let sent = self.client.poll_send(cx, &self.down.piece, follow);
            let count = ready!(sent).map_err(Fault::Client)?;
            self.down.piece.advance(count);
            // Fails only when more is released than was received.
            let _ = body.flow_control().release_capacity(count);
            self.course.trace.bytes_out += count as u64;
            self.progress();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(body) = &mut self.down.body else { return Poll::Ready(Err(Fault::Malformed)) };
        match body.poll_data(cx) {
            Poll::Pending => return self.wait(cx),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.fault(&error))),
            Poll::Ready(Some(Ok(piece))) => {
                self.lease.heard();
                self.down.received += piece.len() as u64;
                self.down.piece = piece;
                let fits = match self.down.framing {
                    Framing::None => self.down.received == 0,
                    Framing::Length(length) => self.down.received <= length,
                    Framing::Chunked | Framing::UntilClose => true,
                };
                return Poll::Ready(if fits { Ok(()) } else { Err(Fault::Truncated) });
            }
            Poll::Ready(None) => {}
        }
        let Poll::Ready(trailers) = body.poll_trailers(cx) else { return self.wait(cx) };
        match trailers {
            Err(error) => return Poll::Ready(Err(self.fault(&error))),
            Ok(Some(trailers)) => self.down.trailers = section(&trailers),
            Ok(None) => {}
        }
        if matches!(self.down.framing, Framing::Length(length) if length != self.down.received) {
            return Poll::Ready(Err(Fault::Truncated));
        }
        self.down.state = DownState::Finish;
        Poll::Ready(Ok(()))
    }

    fn fault(&self, error: &h2::Error) -> Fault {
        if !error.is_reset() {
            self.lease.retire();
        }
        match (self.down.head_sent, self.down.interims.count) {
            (true, _) => Fault::Truncated,
            (false, 0) if is_refused(error) => Fault::NotProcessed,
            // Where the connection ended, that says nothing about this request.
            (false, 0) => match error.get_io() {
                Some(error) => Fault::NoResponse.over(error),
                None => Fault::Malformed,
            },
            // An origin that has begun to answer has looked at the request, whatever it says.
            (false, _) => Fault::Malformed,
        }
    }
}

/// Waits until the origin has said whether it takes WebSockets.
async fn settle(lease: &Lease, deadline: &Deadline) -> Result<(), Fault> {
    deadline.stall_after(BODY_STALL_TIMEOUT_MS);
    let mut settled = std::pin::pin!(lease.settled());
    poll_fn(|cx| match settled.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending => deadline.poll(cx).map(|passed| Err(Fault::Timeout(passed))),
    })
    .await
}

/// Field lines as they are written by [`Client::write_trailers`].
fn fields(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split(|&b| b == b'\n').filter_map(|line| line.strip_suffix(b"\r")) {
        if let Some(colon) = line.iter().position(|&b| b == b':') {
            push(&mut fields, &line[..colon], line[colon + 1..].trim_ascii());
        }
    }
    fields
}

/// Writes the head of a response as HTTP/1.1 would have it: chunked where the length is not known. None where a field
/// could not stand there.
fn write_head(
    parts: &http::response::Parts,
    is_end: bool,
    method: Method,
    out: &mut Vec<u8>,
) -> Option<()> {
    let status = parts.status.as_u16();
    encode::status_line(out, status, b"");
    write_fields(&parts.headers, out)?;
    let has_body = method != Method::Head && !matches!(status, 100..=199 | 204 | 304);
    if has_body && !parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        match is_end {
            true => encode::content_length(out, 0),
            false => encode::transfer_encoding_chunked(out),
        }
    }
    encode::end(out);
    Some(())
}

/// The answer of an origin that has opened a WebSocket, as one of HTTP/1.1 would have given it.
fn write_switch(parts: &http::response::Parts, accept: &str, out: &mut Vec<u8>) -> Option<()> {
    encode::status_line(out, 101, b"");
    write_fields(&parts.headers, out)?;
    encode::header(out, b"connection", b"upgrade");
    encode::header(out, b"upgrade", websocket::NAME.as_bytes());
    encode::header(out, websocket::ACCEPT.as_bytes(), accept.as_bytes());
    encode::end(out);
    Some(())
}

fn write_fields(headers: &HeaderMap, out: &mut Vec<u8>) -> Option<()> {
    headers.iter().try_for_each(|(name, value)| write_field(name, value, out))
}

/// A trailer section, read by the codec of HTTP/1.1. One that is not accepted there is as if it were absent.
fn section(trailers: &HeaderMap) -> BodyDecoder {
    let mut bytes = encode::LAST_CHUNK_BEFORE_TRAILERS.to_vec();
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    if write_fields(trailers, &mut bytes).is_some() {
        encode::end(&mut bytes);
        let step = decoder.decode(&bytes, &LIMITS);
        debug_assert!(!matches!(step, Ok(step) if step.event != Event::End));
    }
    decoder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_framed_as_http1_has_it() {
        let length = Some("7");
        for (status, method, content_length, is_end, expected) in [
            (200, Method::Get, None, false, Framing::Chunked),
            (200, Method::Get, None, true, Framing::Length(0)),
            (200, Method::Get, length, false, Framing::Length(7)),
            (200, Method::Head, length, true, Framing::None),
            (200, Method::Head, None, true, Framing::None),
            (204, Method::Get, None, true, Framing::None),
            (304, Method::Get, length, true, Framing::None),
            (103, Method::Get, None, false, Framing::None),
        ] {
            let mut response = http::Response::builder().status(status);
            if let Some(length) = content_length {
                response = response.header("content-length", length);
            }
            let (parts, ()) = response.body(()).expect("a response").into_parts();
            let mut bytes = Vec::new();
            write_head(&parts, is_end, method, &mut bytes).expect("fields that may stand there");
            let parsed = h1::parse_response(&bytes, &mut HeaderList::new(), method, &LIMITS);
            let head = parsed.expect("accepted").expect("whole");
            assert_eq!((head.framing, head.len), (expected, bytes.len()), "{status} {method:?}");
        }
    }

    #[test]
    fn trailers_come_through_the_codec_and_back() {
        let fields = fields(b"grpc-status: 0\r\ngrpc-message: a: b\r\n");
        let section = section(&fields);
        let trailers = section.trailers().expect("a section");
        let lines: Vec<_> = crate::client::forwarded_trailers(trailers).collect();
        let expected: [(&[u8], &[u8]); 2] = [(b"grpc-status", b"0"), (b"grpc-message", b"a: b")];
        assert_eq!(lines, expected);
        assert!(super::section(&HeaderMap::new()).trailers().is_none());
    }
}
