//! One attempt at an origin that speaks HTTP/1.1 (`http2_pump` has the other): the request goes up while the response comes down, both with bounded buffers, in one
//! task. After 101 the same two directions are a tunnel.
//!
//! ```text
//! up:    Fill -> Send -> [Read -> Send ...] -> Ended          (Broken: the origin takes no more)
//! down:  Head -> [Interim -> Head ...] -> Body -> Finish -> Done
//! ```

use crate::access::Trace;
use crate::additions::ResponseEdits;
use crate::buffers::Buffer;
use crate::care::{Care, Slow};
use crate::client::{Body, Client, ClientFault, Fields, Follow, Response};
use crate::course::{Course, Waits};
use crate::deadline::{Deadline, Passed};
use crate::grpc::Call;
use crate::ids::RequestId;
use crate::transport::{UpstreamIo, poll_fill, poll_write_all};
use crate::worker::{LIMITS, Worker};
use h1::{BodyDecoder, Event, Framing, HeaderList, Method, PassedOn, ResponseHead, encode};
use model::limits::{HEAD_BYTES, INTERIM_RESPONSES};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes that are gathered for one send; larger pieces are sent from where they lie.
const GATHER_BYTES: usize = 16 << 10;

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The origin closed before a byte of the response.
    NoResponse,
    /// Instead of the first byte of a response TLS failed: so a certificate of ours is refused (RFC 8446 section 4.4.2.4).
    Tls,
    /// The origin has said that it did not look at the request (RFC 9113 section 8.7), or nothing was sent.
    NotProcessed,
    /// The response's head is cut off or not acceptable.
    Malformed,
    /// A response that is not passed on, because another attempt is to be made.
    Status(u16),
    /// A response that is not passed on, because a page is to be sent instead.
    Replaced(u16),
    /// The body of the response ended early or is malformed.
    Truncated,
    /// A response that would be taken for a tunnel that was asked for.
    NoTunnel,
    /// The origin took too long.
    Timeout(Passed),
    /// The time for the request is over, and it was the client's: the client gave less than the rule, or was waited for.
    Overdue,
    /// The body of the request did not come in time.
    ClientTimeout,
    /// The client is below the rate that it is to keep.
    Slow(Slow),
    Client(ClientFault),
}

impl Fault {
    /// What it is by the error of a connection. Sockets give no InvalidData, and TLS gives nothing else.
    pub fn over(self, error: &io::Error) -> Fault {
        match self {
            Fault::NoResponse if error.kind() == io::ErrorKind::InvalidData => Fault::Tls,
            fault => fault,
        }
    }
}

/// What an attempt needs to know about the request.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub method: Method,
    pub framing: Framing,
    pub call: Call,
    pub asks_upgrade: bool,
    /// Asked for by extended CONNECT: a response of success that is no 101 would be taken for a tunnel.
    pub needs_upgrade: bool,
    /// Says of the status of a response whether another attempt is to be made instead of passing it on.
    pub again_on: Option<&'a dyn Fn(u16) -> bool>,
    pub response_edits: Option<ResponseEdits<'a>>,
    /// What a policy asks beside that.
    pub care: Option<&'a Care<'a>>,
    /// What ends the attempt is the time that the client gives it.
    pub is_clients_time: bool,
    pub id: &'a RequestId,
}

impl Terms<'_> {
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// An error for a response that gives way: to another attempt, unless its request cannot be sent again; or to a
    /// page, which keeps some of its lines.
    pub fn pass(
        &self,
        status: u16,
        (bytes, list): (&[u8], &HeaderList),
        took_body: bool,
    ) -> Result<(), Fault> {
        if self.needs_upgrade && matches!(status, 200..=299) {
            return Err(Fault::NoTunnel);
        }
        match self.again_on.filter(|_| !took_body) {
            Some(again_on) if again_on(status) => Err(Fault::Status(status)),
            _ => match self.care.filter(|care| care.gives_way(status)) {
                Some(care) => {
                    care.keep(bytes, list);
                    Err(Fault::Replaced(status))
                }
                None => Ok(()),
            },
        }
    }
}

pub(crate) struct Pump<'a, C> {
    client: &'a mut C,
    io: &'a mut UpstreamIo,
    course: Course<'a>,
    up: Up<'a>,
    down: Down<'a>,
}

struct Up<'a> {
    state: UpState,
    /// The head, then what is gathered of the body.
    bytes: &'a mut Vec<u8>,
    sent: usize,
    /// All of the request is in `bytes`.
    ended: bool,
    chunked: bool,
    /// Bytes of the body were taken from the client: they cannot be sent a second time.
    took_body: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UpState {
    Fill,
    Send,
    Read,
    Ended,
    Broken,
}

struct Down<'a> {
    state: DownState,
    input: Option<Buffer>,
    list: &'a mut HeaderList,
    decoder: BodyDecoder,
    /// Bytes that the client has not taken, by their place in `input`, which is far below 4 GiB.
    window: Range<u32>,
    /// They are chunks as they came, and so many of them are framing.
    framing: u32,
    is_chunks: bool,
    keep_alive: bool,
    /// The head of the final response was handed to the client.
    head_sent: bool,
    interims: Interims,
}

/// There is no end to what an origin may say before its response, but to what is listened to.
#[derive(Default)]
pub(crate) struct Interims {
    pub count: usize,
    bytes: usize,
}

impl Interims {
    pub fn take(&mut self, head: &ResponseHead) -> Result<(), Fault> {
        self.count += 1;
        self.bytes += head.len;
        match self.count > INTERIM_RESPONSES || self.bytes > HEAD_BYTES {
            true => Err(Fault::Malformed),
            false => Ok(()),
        }
    }
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

/// What is left after an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Aftermath {
    /// The origin's connection may be used again.
    pub reusable: bool,
    pub head_sent: bool,
    pub took_body: bool,
    /// Of a response that ends early, the client was told in its own words.
    pub is_told: bool,
}

impl<'a, C: Client> Pump<'a, C> {
    /// `request` holds the request's head for the origin.
    pub fn new(
        client: &'a mut C,
        io: &'a mut UpstreamIo,
        place: (&'a Worker, &'a Deadline),
        terms: Terms<'a>,
        trace: &'a mut Trace,
        (request, list): (&'a mut Vec<u8>, &'a mut HeaderList),
    ) -> Self {
        list.clear();
        let has_body = terms.has_body();
        let up = Up {
            state: if has_body { UpState::Fill } else { UpState::Send },
            bytes: request,
            sent: 0,
            ended: !has_body,
            chunked: terms.framing == Framing::Chunked,
            took_body: false,
        };
        let down = Down {
            state: DownState::Head,
            input: None,
            list,
            decoder: BodyDecoder::UntilClose,
            window: 0..0,
            framing: 0,
            is_chunks: false,
            keep_alive: false,
            head_sent: false,
            interims: Interims::default(),
        };
        Pump { client, io, course: Course::new(place, terms, trace), up, down }
    }

    /// So much of a request without a body was sent, and this much of the answer has come.
    pub fn go_on(&mut self, sent: usize, input: Option<Buffer>) {
        self.up.sent = sent;
        if sent == self.up.bytes.len() {
            self.up.state = UpState::Ended;
        }
        self.down.input = input;
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let was_tunnel = self.course.is_tunnel();
        self.course.notice_drain();
        self.poll_up(cx)?;
        if self.poll_down(cx)?.is_ready() && self.is_over() {
            return Poll::Ready(Ok(()));
        }
        if self.course.is_tunnel() && !was_tunnel {
            // The client's bytes behind the head are to be read now.
            return self.poll(cx);
        }
        let waits = self.waits();
        self.course.keep_pace(waits);
        match (self.course.deadline.poll(cx), self.course.is_tunnel()) {
            (Poll::Pending, _) => Poll::Pending,
            (Poll::Ready(passed), false) => Poll::Ready(Err(self.course.timeout(passed, waits))),
            (Poll::Ready(_), true) => {
                self.end_tunnel(cx);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ends the attempt and gives its buffer back.
    pub fn aftermath(self) -> Aftermath {
        let leftover = self.down.input.as_ref().is_some_and(|input| !input.is_empty());
        if let Some(input) = self.down.input {
            self.course.worker.buffers.give_back(input);
        }
        Aftermath {
            reusable: self.down.keep_alive
                && self.down.state == DownState::Done
                && self.up.state == UpState::Ended
                && !self.course.is_tunnel()
                && !leftover,
            head_sent: self.down.head_sent,
            took_body: self.up.took_body,
            is_told: false,
        }
    }

    /// A response that is over ends the exchange, even when the request's body is not; a tunnel has two ends.
    fn is_over(&self) -> bool {
        !self.course.is_tunnel() || matches!(self.up.state, UpState::Ended | UpState::Broken)
    }

    fn waits(&self) -> Waits {
        let is_offered = !self.down.window.is_empty();
        Waits {
            sender: self.up.state == UpState::Read && self.client.body().is_empty(),
            reader: is_offered || matches!(self.down.state, DownState::Interim | DownState::Finish),
        }
    }

    fn progress(&self) {
        let is_body = self.up.state == UpState::Read || self.down.state == DownState::Body;
        self.course.progress(is_body);
    }

    /// A tunnel whose time is over is nobody's fault: both ends get a FIN, as far as what waits for them lets it.
    fn end_tunnel(&mut self, cx: &mut Context<'_>) {
        let _ = self.client.poll_finish(cx, None);
        let _ = Pin::new(&mut *self.io).poll_shutdown(cx);
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        loop {
            match self.up.state {
                UpState::Fill => {
                    self.client.want_body();
                    // A client that went away is found when the response is sent.
                    let _ = self.client.poll_flush(cx);
                    while self.up.bytes.len() < GATHER_BYTES && self.gather(cx)?.is_ready() {}
                    self.up.state = UpState::Send;
                }
                UpState::Send => match self.poll_send_up(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Err(_)) => self.up.state = UpState::Broken,
                    Poll::Ready(Ok(())) => self.sent(),
                },
                UpState::Read => {
                    let polled = if self.up.chunked { self.gather(cx)? } else { self.pass_on(cx)? };
                    if polled.is_pending() {
                        // What TLS still holds of the last piece. A fault is found by what follows.
                        let _ = Pin::new(&mut *self.io).poll_flush(cx);
                        return Ok(());
                    }
                }
                UpState::Ended | UpState::Broken => return Ok(()),
            }
        }
    }

    fn poll_send_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(poll_write_all(self.io, self.up.bytes, &mut self.up.sent, cx))?;
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn sent(&mut self) {
        self.up.state = if self.up.ended { UpState::Ended } else { UpState::Read };
        self.progress();
    }

    /// Room for the next piece. What was sent stays until then: a request whose body was not touched may be tried again.
    fn clear_sent(&mut self) {
        if self.up.sent > 0 && self.up.sent == self.up.bytes.len() {
            self.up.bytes.clear();
            self.up.sent = 0;
        }
    }

    /// Appends a piece of the request's body, or its end. Pending also at the end, so that a caller's loop stops.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        if self.up.ended {
            return Ok(Poll::Pending);
        }
        let Poll::Ready(body) = self.client.poll_body(cx).map_err(Fault::Client)? else {
            return Ok(Poll::Pending);
        };
        self.clear_sent();
        match body {
            Body::End => self.end_request(),
            Body::Data => {
                let data = self.client.body();
                let data = &data[..data.len().min(GATHER_BYTES)];
                if self.up.chunked {
                    encode::chunk(self.up.bytes, data);
                } else {
                    self.up.bytes.extend_from_slice(data);
                }
                let count = data.len();
                self.took(count);
            }
        }
        self.up.state = UpState::Send;
        Ok(Poll::Ready(()))
    }

    fn end_request(&mut self) {
        self.up.ended = true;
        if !self.up.chunked {
            return;
        }
        self.up.took_body = true;
        let start = self.up.bytes.len();
        self.up.bytes.extend_from_slice(encode::LAST_CHUNK_BEFORE_TRAILERS);
        if !self.client.write_trailers(self.up.bytes) {
            self.up.bytes.truncate(start + encode::LAST_CHUNK_BEFORE_TRAILERS.len());
        }
        encode::end(self.up.bytes);
    }

    fn took(&mut self, count: usize) {
        self.client.consume(count);
        self.up.took_body |= count > 0;
        self.course.trace.bytes_in += count as u64;
        self.progress();
    }

    /// Sends a piece of the body from where it lies.
    fn pass_on(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        let Poll::Ready(body) = self.client.poll_body(cx).map_err(Fault::Client)? else {
            return Ok(Poll::Pending);
        };
        let polled = match body {
            Body::End if self.course.is_tunnel() => {
                Pin::new(&mut *self.io).poll_shutdown(cx).map_ok(|()| 0)
            }
            Body::End => Pin::new(&mut *self.io).poll_flush(cx).map_ok(|()| 0),
            Body::Data => Pin::new(&mut *self.io).poll_write(cx, self.client.body()),
        };
        match (polled, body) {
            (Poll::Pending, _) => return Ok(Poll::Pending),
            (Poll::Ready(Err(_)), _) => self.up.state = UpState::Broken,
            (Poll::Ready(Ok(_)), Body::End) => {
                self.up.ended = true;
                self.up.state = UpState::Ended;
                self.progress();
            }
            (Poll::Ready(Ok(count)), Body::Data) => self.took(count),
        }
        Ok(Poll::Ready(()))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            match self.down.state {
                DownState::Head => {
                    if !self.read_head()? {
                        ready!(self.poll_read(cx)?);
                    } else if self.down.state == DownState::Body {
                        self.read_ahead(cx);
                    }
                }
                DownState::Interim => {
                    ready!(self.client.poll_flush(cx)).map_err(Fault::Client)?;
                    self.down.state = DownState::Head;
                }
                DownState::Body => {
                    if !self.decode()? {
                        ready!(self.poll_read(cx)?);
                    }
                    ready!(self.poll_deliver(cx)?);
                }
                DownState::Finish => {
                    let trailers = self.down.decoder.trailers();
                    ready!(self.client.poll_finish(cx, trailers)).map_err(Fault::Client)?;
                    self.down.state = DownState::Done;
                }
                DownState::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Parses what is there; false when more bytes are needed.
    fn read_head(&mut self) -> Result<bool, Fault> {
        let Some(input) = self.down.input.as_mut().filter(|input| !input.is_empty()) else {
            return Ok(false);
        };
        let parsed =
            h1::parse_response(input.data(), self.down.list, self.course.terms.method, &LIMITS);
        let Some(head) = parsed.map_err(|_| Fault::Malformed)? else { return Ok(false) };
        let lines = (input.data(), &*self.down.list);
        if let Err(fault) = self.course.terms.pass(head.status, lines, self.up.took_body) {
            self.give_way(&head);
            return Err(fault);
        }
        if head.is_interim() {
            self.down.interims.take(&head)?;
            self.down.state = DownState::Interim;
        }
        let response = Response {
            status: head.status,
            reason: head.reason.of(input.data()),
            framing: head.framing,
            fields: Fields::Origin { bytes: input.data(), list: self.down.list },
            edits: self.course.terms.response_edits.filter(|_| !head.is_interim()),
            id: self.course.terms.id,
            date: &self.course.worker.date.get(),
        };
        match head.status {
            100 => {}
            101 => {
                let protocol = head.upgrade.filter(|_| self.course.terms.asks_upgrade);
                let protocol = protocol.ok_or(Fault::Malformed)?.of(input.data());
                if !self.client.switch_protocols(&response, protocol) {
                    return Err(Fault::Malformed);
                }
            }
            _ if head.is_interim() => self.client.interim(&response),
            _ => self.client.head(&response),
        }
        input.consume(head.len);
        if !head.is_interim() {
            self.begin_body(&head);
        }
        Ok(true)
    }

    /// A response that is not passed on. One whose body has come with its head leaves the connection as it should be.
    fn give_way(&mut self, head: &ResponseHead) {
        let Some(input) = &mut self.down.input else { return };
        let rest = input.data().len() - head.len;
        let is_whole = match head.framing {
            Framing::None => rest == 0,
            Framing::Length(length) => length == rest as u64,
            Framing::Chunked | Framing::UntilClose => false,
        };
        if is_whole {
            input.consume(head.len + rest);
            self.down.keep_alive = head.keep_alive;
            self.down.state = DownState::Done;
        }
    }

    fn begin_body(&mut self, head: &ResponseHead) {
        self.course.trace.first_byte = Some(self.course.trace.started.elapsed());
        self.course.trace.status = head.status;
        self.down.head_sent = true;
        self.down.keep_alive = head.keep_alive;
        self.down.state = DownState::Body;
        if head.status == 101 {
            self.course.open_tunnel();
            self.down.decoder = BodyDecoder::UntilClose;
            self.up.chunked = false;
            self.up.ended = false;
            self.up.state = UpState::Read;
        } else {
            self.down.decoder = BodyDecoder::new(head.framing);
        }
        self.progress();
    }

    /// Finds bytes of the body in what was read; false when more must be read.
    fn decode(&mut self) -> Result<bool, Fault> {
        let down = &mut self.down;
        if !down.window.is_empty() {
            return Ok(true);
        }
        let (start, data) = match &down.input {
            Some(input) => (input.start(), input.data()),
            None => (0, [].as_slice()),
        };
        let passed = match &mut down.decoder {
            BodyDecoder::Chunked(decoder) if self.client.takes_chunks() => {
                decoder.pass(data, &LIMITS).map_err(|_| Fault::Truncated)?
            }
            _ => PassedOn::default(),
        };
        down.is_chunks = passed.bytes > 0;
        down.framing = (passed.bytes - passed.data) as u32;
        let (consumed, event) = match down.is_chunks {
            true => (passed.bytes, Event::Data(0..passed.bytes)),
            false => {
                let step = down.decoder.decode(data, &LIMITS).map_err(|_| Fault::Truncated)?;
                (step.consumed, step.event)
            }
        };
        let found = match event {
            Event::Data(range) => {
                down.window = (start + range.start) as u32..(start + range.end) as u32;
                true
            }
            Event::End => {
                down.state = DownState::Finish;
                true
            }
            Event::More => false,
        };
        if let Some(input) = &mut down.input {
            input.consume(consumed);
        }
        Ok(found)
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while let (false, Some(input)) = (self.down.window.is_empty(), &self.down.input) {
            let window = self.down.window.start as usize..self.down.window.end as usize;
            let data = input.at(window);
            let follow = match &self.down.decoder {
                decoder if decoder.is_done() => Follow::End,
                _ if input.is_empty() => Follow::Unknown,
                _ => Follow::More,
            };
            let polled = match self.down.is_chunks {
                true => self.client.poll_send_chunks(cx, data, follow),
                false => self.client.poll_send(cx, data, follow),
            };
            let count = ready!(polled).map_err(Fault::Client)? as u32;
            let framing = self.down.framing.min(count);
            self.down.window.start += count;
            self.down.framing -= framing;
            self.course.trace.bytes_out += u64::from(count - framing);
            self.progress();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the origin once. What the client has not been sent yet goes out before this waits.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let was_full = self.down.input.as_ref().is_some_and(Buffer::is_full);
        if let Some(input) = &mut self.down.input {
            if input.is_empty() {
                input.reset_to(0);
            } else {
                input.compact();
            }
        }
        self.take_larger_buffer(was_full);
        match poll_fill(self.io, &mut self.down.input, &self.course.worker.buffers, cx) {
            Poll::Pending => {
                let _ = self.client.poll_flush(cx).map_err(Fault::Client)?;
                self.client.watch(cx).map_err(Fault::Client)?;
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => Poll::Ready(self.end_of_input()),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.broken().over(&error))),
            Poll::Ready(Ok(_)) => {
                // Interim responses and pieces of a head are no progress: the response has to begin in time.
                if self.down.state == DownState::Body {
                    self.progress();
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Behind a head that came with as much as there was room for, more is likely to be there: it goes to the client in
    /// one piece. What this read would say of the connection is said by the next one too.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        if self.down.input.as_ref().is_some_and(Buffer::is_full) {
            self.take_larger_buffer(true);
            if self.down.input.as_ref().is_some_and(|input| !input.is_full()) {
                let _ = poll_fill(self.io, &mut self.down.input, &self.course.worker.buffers, cx);
            }
        }
    }

    /// A body that is known to be large is read in larger pieces; one of chunks where the last read `was_full`.
    fn take_larger_buffer(&mut self, was_full: bool) {
        let is_large = match &self.down.decoder {
            BodyDecoder::Length(length) => length.left() > GATHER_BYTES as u64,
            BodyDecoder::Chunked(_) => was_full,
            BodyDecoder::UntilClose => false,
        };
        if is_large && self.down.state == DownState::Body {
            let input = self.down.input.take();
            self.down.input = self.course.worker.buffers.grow_for_body(input);
        }
    }

    fn end_of_input(&mut self) -> Result<(), Fault> {
        if self.down.state == DownState::Head || self.down.decoder.end_of_input().is_err() {
            return Err(self.broken());
        }
        self.down.state = DownState::Finish;
        Ok(())
    }

    fn broken(&self) -> Fault {
        match (self.down.state, &self.down.input) {
            (DownState::Head, None) if self.down.interims.count == 0 => Fault::NoResponse,
            (DownState::Head, _) => Fault::Malformed,
            _ => Fault::Truncated,
        }
    }
}
