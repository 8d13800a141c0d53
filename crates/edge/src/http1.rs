//! The server side of HTTP/1.1: one connection, its requests one after the other.
//!
//! ```text
//! idle (no buffer) -> head -> exchange -> [rest of the request's body] -> idle
//!                        \ refusal -> linger -> closed
//! ```
//!
//! The head stays at the front of the input buffer while its request is served; the body passes through the room
//! behind it.

use crate::buffers::Buffer;
use crate::client::{
    Body, Client, ClientFault, Fields, Follow, Lines, Response, forwarded_trailers,
};
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::exchange::{self, Scratch, Site};
use crate::refusal::{Cause, Refusal};
use crate::transport::{Io, poll_fill, poll_write_all};
use crate::worker::{LIMITS, Worker};
use h1::{
    BodyDecoder, Event, Framing, HeaderList, Preface, RequestHead, Trailers, Version, encode,
};
use model::limits;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Pieces of a body up to this size are copied behind a head that waits to be sent; larger ones are sent from where
/// they lie.
const COPY_BYTES: usize = 4 << 10;
/// What waits to be sent is sent when there is this much.
const GATHER_BYTES: usize = 16 << 10;
/// Less room than this for a body behind a long head is not worth a read.
const ROOM_BYTES: usize = 4 << 10;
/// What a client still sends after a refusal is read for this long, so that it sees the refusal and not a reset.
const LINGER_MS: u64 = 1_000;
const LINGER_BYTES: usize = 1 << 20;

pub(crate) struct Http1<'w, S> {
    worker: &'w Rc<Worker>,
    connection: &'w Connection,
    deadline: &'w Deadline,
    io: S,
    input: Option<Buffer>,
    /// Bytes of the head that is being served.
    head_len: usize,
    decoder: BodyDecoder,
    /// Decoded bytes of the body, by their place in `input`, which is far below 4 GiB.
    window: Range<u32>,
    /// What may still come of the body.
    body_left: u64,
    /// What the head of the response has said of its body's length, and was not sent.
    owed: u64,
    output: Vec<u8>,
    sent: usize,
    outgoing: Outgoing,
    version: Version,
    keep_alive: bool,
    awaits_continue: bool,
    tunnel: bool,
    /// The response was cut off.
    aborted: bool,
    /// The client has ended its side.
    input_ended: bool,
    /// HTTP/2 with prior knowledge is possible until the first bytes have been seen.
    may_be_http2: bool,
}

/// How the body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    /// By Content-Length, or until the connection closes.
    Plain,
    Chunked,
    /// The last chunk is in the output, or was sent.
    Ended,
}

/// What became of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Closed,
    /// The client speaks HTTP/2: what was read so far belongs to it.
    Http2,
}

enum Arrival {
    Head(RequestHead),
    Refused(Refusal),
    Closed,
    Http2,
}

impl<'w, S: Io> Http1<'w, S> {
    pub fn new(
        worker: &'w Rc<Worker>,
        connection: &'w Connection,
        io: S,
        deadline: &'w Deadline,
        may_be_http2: bool,
    ) -> Self {
        Http1 {
            worker,
            connection,
            deadline,
            io,
            input: None,
            head_len: 0,
            decoder: BodyDecoder::new(Framing::None),
            window: 0..0,
            body_left: 0,
            owed: 0,
            output: Vec::new(),
            sent: 0,
            outgoing: Outgoing::Plain,
            version: Version::Http11,
            keep_alive: true,
            awaits_continue: false,
            tunnel: false,
            aborted: false,
            input_ended: false,
            may_be_http2,
        }
    }

    pub fn into_parts(self) -> (S, Option<Buffer>) {
        (self.io, self.input)
    }

    pub async fn serve(&mut self) -> Next {
        // The first head has to come as soon as the connection is there.
        self.deadline.stall_after(self.connection.limits().head_timeout_ms);
        loop {
            let mut scratch = None;
            let arrival = poll_fn(|cx| self.poll_head(&mut scratch, cx)).await;
            let mut scratch = scratch.unwrap_or_else(|| self.worker.scratch());
            match arrival {
                Arrival::Head(head) => self.exchange(&head, &mut scratch).await,
                Arrival::Refused(refusal) => self.refuse(refusal).await,
                Arrival::Closed => {
                    // Of a TLS session; nobody waits for it.
                    poll_fn(|cx| Poll::Ready(Pin::new(&mut self.io).poll_shutdown(cx).is_ready()))
                        .await;
                    return Next::Closed;
                }
                Arrival::Http2 => return Next::Http2,
            }
            self.worker.give_back_scratch(scratch);
            if !self.settle() {
                match (self.aborted, self.tunnel) {
                    (true, _) => self.io.reset_on_close(),
                    (false, true) => {}
                    (false, false) => self.linger().await,
                }
                self.give_back();
                return Next::Closed;
            }
            // What is left is the beginning of the next head.
            let limit = match self.input {
                Some(_) => self.connection.limits().head_timeout_ms,
                None => self.connection.limits().idle_timeout_ms,
            };
            self.deadline.stall_after(limit);
        }
    }

    async fn exchange(&mut self, head: &RequestHead, scratch: &mut Scratch) {
        self.begin(head);
        let protocol = match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        let Http1 { worker, connection, deadline, .. } = *self;
        let site = Site { worker, connection, deadline, protocol };
        // Boxed for the time of the request: an idle connection does not hold what only a request needs.
        Box::pin(exchange::serve(site, head, self, scratch)).await;
    }

    fn begin(&mut self, head: &RequestHead) {
        if let Some(input) = &mut self.input {
            input.consume(head.len);
        }
        self.head_len = head.len;
        self.decoder = BodyDecoder::new(head.framing);
        self.window = 0..0;
        self.body_left = limits::REQUEST_BODY_BYTES;
        self.version = head.version;
        self.keep_alive = head.keep_alive;
        self.awaits_continue = head.expect_continue;
        self.output = self.worker.buffers.output();
    }

    /// Answers what is no request.
    async fn refuse(&mut self, refusal: Refusal) {
        let Http1 { worker, connection, deadline, .. } = *self;
        self.version = Version::Http11;
        self.output = worker.buffers.output();
        self.close_after();
        let site = Site { worker, connection, deadline, protocol: "HTTP/1.1" };
        Box::pin(exchange::refuse_message(site, self, refusal)).await;
    }

    /// Waits for a request. The buffer and the scratch memory are taken when the first byte comes.
    fn poll_head(
        &mut self,
        scratch: &mut Option<Box<Scratch>>,
        cx: &mut Context<'_>,
    ) -> Poll<Arrival> {
        loop {
            if let Some(input) = &self.input {
                let limits = &self.connection.limits().head;
                let scratch = scratch.get_or_insert_with(|| self.worker.scratch());
                if let Some(arrival) = first_look(self.may_be_http2, input.data(), scratch, limits)
                {
                    self.may_be_http2 &= matches!(arrival, Arrival::Http2);
                    return Poll::Ready(arrival);
                }
            }
            let is_new = self.input.is_none();
            match poll_fill(&mut self.io, &mut self.input, &self.worker.buffers, cx) {
                Poll::Ready(Ok(1..)) if is_new => {
                    self.deadline.stall_after(self.connection.limits().head_timeout_ms)
                }
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if !is_new => {
                    return Poll::Ready(Arrival::Refused(Refusal::Message(
                        h1::Reason::BodyTruncated,
                    )));
                }
                Poll::Ready(_) => return Poll::Ready(Arrival::Closed),
                Poll::Pending => return self.poll_wait(is_new, cx),
            }
        }
    }

    fn poll_wait(&self, is_idle: bool, cx: &mut Context<'_>) -> Poll<Arrival> {
        if is_idle && self.worker.deadlines.is_closing_idle() {
            return Poll::Ready(Arrival::Closed);
        }
        self.deadline.poll(cx).map(|_| match is_idle {
            true => Arrival::Closed,
            false => Arrival::Refused(Refusal::Edge(Cause::RequestTimeout)),
        })
    }

    /// Makes ready for the next request; false when there is none to come.
    fn settle(&mut self) -> bool {
        self.worker.buffers.give_back_output(std::mem::take(&mut self.output));
        self.sent = 0;
        if !self.keep_alive {
            return false;
        }
        if let Some(mut input) = self.input.take() {
            input.compact();
            if input.is_empty() {
                self.worker.buffers.give_back(input);
            } else {
                self.input = Some(input);
            }
        }
        true
    }

    /// Whether the next message has a sure beginning: said in the head of the response, so that the client does not
    /// send another request for nothing (RFC 9112 section 9.6).
    fn may_keep_alive(&mut self, response: &Response<'_>) -> bool {
        // A client that still waits for 100 may send its body or not.
        !self.awaits_continue
            && !self.worker.deadlines.is_draining()
            && (self.decoder.is_done()
                // Nobody wants the body any more.
                || matches!(response.fields, Fields::Own(_)) && self.skip_body())
    }

    /// Passes over what is left of the body as far as it has come; false when more would have to be read.
    fn skip_body(&mut self) -> bool {
        while !self.decoder.is_done() {
            match self.decode() {
                Ok(Some(Body::Data)) => {}
                Ok(Some(Body::End)) => return true,
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// Closes the writing side and reads on for a moment: a close with unread bytes would be a reset, which can take
    /// the answer from the client (RFC 9112 section 9.6).
    async fn linger(&mut self) {
        self.deadline.stall_after(LINGER_MS);
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            if Pin::new(&mut self.io).poll_shutdown(cx)?.is_pending() {
                return self.deadline.poll(cx).map(|_| Ok::<_, std::io::Error>(()));
            }
            Poll::Ready(Ok(()))
        })
        .await
        .unwrap_or_default();
        self.give_back();
        poll_fn(|cx| {
            loop {
                match poll_fill(&mut self.io, &mut self.input, &self.worker.buffers, cx) {
                    Poll::Ready(Ok(count @ 1..)) if count <= left => left -= count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.deadline.poll(cx).map(|_| ()),
                }
                self.give_back();
            }
        })
        .await;
    }

    /// All of the request is here, and there is room for what may follow it.
    fn watches(&mut self) -> bool {
        !self.input_ended
            && self.decoder.is_done()
            && self.input.as_mut().is_some_and(|input| !input.room().is_empty())
    }

    fn give_back(&mut self) {
        if let Some(input) = self.input.take() {
            self.worker.buffers.give_back(input);
        }
    }

    /// A step of the body through what was read; none when more must be read.
    fn decode(&mut self) -> Result<Option<Body>, ClientFault> {
        let (start, data) = match &self.input {
            Some(input) => (input.start(), input.data()),
            None => (0, [].as_slice()),
        };
        let step = self.decoder.decode(data, &LIMITS).map_err(ClientFault::Message)?;
        let found = match step.event {
            Event::Data(range) => {
                match self.body_left.checked_sub(range.len() as u64) {
                    Some(left) => self.body_left = left,
                    None if self.tunnel => {}
                    None => return Err(ClientFault::TooLarge),
                }
                self.window = (start + range.start) as u32..(start + range.end) as u32;
                Some(Body::Data)
            }
            Event::End => Some(Body::End),
            Event::More => None,
        };
        if let Some(input) = &mut self.input {
            input.consume(step.consumed);
        }
        Ok(found)
    }

    fn poll_read_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, ClientFault>> {
        if let Some(mut input) = self.input.take() {
            if input.is_empty() {
                input.reset_to(self.head_len);
            }
            let grows = input.room().len() < ROOM_BYTES && !input.is_large();
            self.input = Some(if grows { self.worker.buffers.grow(input) } else { input });
        }
        poll_fill(&mut self.io, &mut self.input, &self.worker.buffers, cx)
            .map_err(|_| ClientFault::Gone)
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        if !self.output.is_empty() {
            ready!(poll_write_all(&mut self.io, &self.output, &mut self.sent, cx))
                .map_err(|_| ClientFault::Gone)?;
            self.output.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the output and then `data`, in one system call where the socket takes it.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ClientFault>> {
        loop {
            let waiting = self.output.get(self.sent..).unwrap_or_default();
            let io = Pin::new(&mut self.io);
            let polled = match waiting {
                [] => io.poll_write(cx, data),
                _ => io.poll_write_vectored(cx, &[IoSlice::new(waiting), IoSlice::new(data)]),
            };
            let waited = waiting.len();
            match ready!(polled) {
                Err(_) | Ok(0) => return Poll::Ready(Err(ClientFault::Gone)),
                Ok(count) if count <= waited && waited > 0 => self.sent += count,
                Ok(count) => {
                    self.output.clear();
                    self.sent = 0;
                    return Poll::Ready(Ok(count - waited));
                }
            }
        }
    }

    /// Keeps `data` behind what waits; sends it at once when nothing is known to follow.
    fn hold(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        follow: Follow,
    ) -> Result<usize, ClientFault> {
        let data = &data[..data.len().min(GATHER_BYTES)];
        if self.outgoing == Outgoing::Chunked {
            encode::chunk(&mut self.output, data);
        } else {
            self.output.extend_from_slice(data);
        }
        if follow == Follow::Unknown {
            let _ = self.poll_output(cx)?;
        }
        Ok(data.len())
    }

    fn write_head(&mut self, response: &Response<'_>) {
        encode::status_line(&mut self.output, response.status, response.reason);
        response.write(&mut Written(&mut self.output));
    }
}

/// Lines as HTTP/1.1 writes them.
struct Written<'a>(&'a mut Vec<u8>);

impl Lines for Written<'_> {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        encode::header(self.0, name, value);
    }

    fn of_origin(&mut self, bytes: &[u8], list: &HeaderList, keep: impl Fn(h1::Header) -> bool) {
        list.copy_lines(bytes, self.0, keep);
    }
}

/// What the bytes so far are; none when more are needed.
fn first_look(
    may_be_http2: bool,
    data: &[u8],
    scratch: &mut Scratch,
    limits: &h1::Limits,
) -> Option<Arrival> {
    if may_be_http2 {
        match h1::is_http2_preface(data) {
            Preface::Yes => return Some(Arrival::Http2),
            Preface::Maybe => return None,
            Preface::No => {}
        }
    }
    match h1::parse_request(data, &mut scratch.request, limits) {
        Ok(None) => None,
        Ok(Some(head)) => Some(Arrival::Head(head)),
        Err(refusal) => Some(Arrival::Refused(Refusal::Message(refusal.reason))),
    }
}

impl<S: Io> Client for Http1<'_, S> {
    fn request(&self) -> &[u8] {
        self.input.as_ref().map(|input| input.at(0..self.head_len)).unwrap_or_default()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        loop {
            if !self.window.is_empty() {
                return Poll::Ready(Ok(Body::Data));
            }
            if let Some(found) = self.decode()? {
                return Poll::Ready(Ok(found));
            }
            if ready!(self.poll_read_body(cx))? == 0 {
                let ended = self.decoder.end_of_input();
                return Poll::Ready(ended.map(|()| Body::End).map_err(ClientFault::Message));
            }
        }
    }

    fn body(&self) -> &[u8] {
        let window = self.window.start as usize..self.window.end as usize;
        self.input.as_ref().map(|input| input.at(window)).unwrap_or_default()
    }

    fn limit_body(&mut self, bytes: u64) {
        self.body_left = bytes;
    }

    fn consume(&mut self, count: usize) {
        self.window.start += count.min(self.window.len()) as u32;
    }

    fn write_trailers(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let trailers = self.decoder.trailers().into_iter().flat_map(forwarded_trailers);
        trailers.for_each(|(name, value)| encode::header(out, name, value));
        out.len() > start
    }

    fn want_body(&mut self) {
        let has_come = self.input.as_ref().is_some_and(|input| !input.is_empty());
        if std::mem::take(&mut self.awaits_continue) && !has_come {
            self.output.extend_from_slice(encode::CONTINUE);
        }
    }

    fn interim(&mut self, response: &Response<'_>) {
        // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
        if self.version == Version::Http11 {
            self.write_head(response);
            encode::end(&mut self.output);
        }
    }

    fn head(&mut self, response: &Response<'_>) {
        self.keep_alive = self.keep_alive && self.may_keep_alive(response);
        self.owed = match response.framing {
            Framing::Length(length) => length,
            Framing::None | Framing::Chunked | Framing::UntilClose => 0,
        };
        self.outgoing = match (response.framing, self.version) {
            (Framing::None | Framing::Length(_), _) => Outgoing::Plain,
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Outgoing::Chunked,
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => {
                self.keep_alive = false;
                Outgoing::Plain
            }
        };
        self.write_head(response);
        if self.outgoing == Outgoing::Chunked {
            encode::transfer_encoding_chunked(&mut self.output);
        }
        match (self.keep_alive, self.version) {
            (false, _) => encode::header(&mut self.output, b"connection", b"close"),
            (true, Version::Http10) => {
                encode::header(&mut self.output, b"connection", b"keep-alive");
            }
            (true, Version::Http11) => {}
        }
        encode::end(&mut self.output);
    }

    fn switch_protocols(&mut self, response: &Response<'_>, protocol: &[u8]) -> bool {
        self.write_head(response);
        encode::header(&mut self.output, b"connection", b"upgrade");
        encode::header(&mut self.output, b"upgrade", protocol);
        encode::end(&mut self.output);
        self.outgoing = Outgoing::Plain;
        self.decoder = BodyDecoder::UntilClose;
        self.keep_alive = false;
        self.tunnel = true;
        true
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        follow: Follow,
    ) -> Poll<Result<usize, ClientFault>> {
        if self.output.len() >= GATHER_BYTES {
            ready!(self.poll_output(cx))?;
        }
        let is_held = self.outgoing == Outgoing::Chunked
            || (!self.output.is_empty() && data.len() <= COPY_BYTES);
        let count = match is_held {
            true => self.hold(cx, data, follow)?,
            false => ready!(self.poll_write(cx, data))?,
        };
        self.owed = self.owed.saturating_sub(count as u64);
        Poll::Ready(Ok(count))
    }

    fn takes_chunks(&self) -> bool {
        self.outgoing == Outgoing::Chunked
    }

    fn poll_send_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &[u8],
        follow: Follow,
    ) -> Poll<Result<usize, ClientFault>> {
        if follow == Follow::More && !self.output.is_empty() && chunks.len() <= COPY_BYTES {
            self.output.extend_from_slice(chunks);
            return Poll::Ready(Ok(chunks.len()));
        }
        let count = ready!(self.poll_write(cx, chunks))?;
        if follow == Follow::End && count == chunks.len() {
            self.outgoing = Outgoing::Ended;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        ready!(self.poll_output(cx))?;
        Pin::new(&mut self.io).poll_flush(cx).map_err(|_| ClientFault::Gone)
    }

    fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        trailers: Option<&Trailers>,
    ) -> Poll<Result<(), ClientFault>> {
        if self.owed > 0 {
            // What follows would be taken for the rest of the body (RFC 9112 section 6.3).
            self.abort();
            return Poll::Ready(Err(ClientFault::Gone));
        }
        if self.outgoing == Outgoing::Chunked {
            self.output.extend_from_slice(encode::LAST_CHUNK_BEFORE_TRAILERS);
            let lines = trailers.into_iter().flat_map(forwarded_trailers);
            lines.for_each(|(name, value)| encode::header(&mut self.output, name, value));
            encode::end(&mut self.output);
            self.outgoing = Outgoing::Ended;
        }
        ready!(self.poll_flush(cx))?;
        if self.tunnel {
            // A peer that is gone needs no farewell.
            let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn may_trail(&self) -> bool {
        self.outgoing == Outgoing::Chunked
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// Reads ahead, behind the request, as far as there is room: no other way tells a reset from a pipelined request.
    /// Costs no system call while nothing has come.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), ClientFault> {
        while self.watches() {
            match poll_fill(&mut self.io, &mut self.input, &self.worker.buffers, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => self.input_ended = true,
                // Of a TLS client that ends its side without close_notify.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.input_ended = true;
                }
                Poll::Ready(Err(_)) => return Err(ClientFault::Gone),
            }
        }
        Ok(())
    }

    /// What waits begins with a status line only while its head waits whole: once a head has left, what follows it is
    /// a chunk or is sent from where it lies.
    fn retract(&mut self) -> bool {
        let is_whole = self.sent == 0 && !self.tunnel && self.output.starts_with(b"HTTP/1.1 ");
        if is_whole {
            self.output.clear();
        }
        is_whole
    }

    fn abort(&mut self) {
        self.keep_alive = false;
        self.aborted = true;
        self.output.clear();
    }
}
