//! The side of an exchange that faces the client, as HTTP/1.1 and HTTP/2 both provide it. The rest of the edge is
//! written against this trait once.

use crate::additions::ResponseEdits;
use crate::field_names::is_certificate_field;
use crate::ids::RequestId;
use bytes::Bytes;
use h1::{Framing, HeaderList, Known, Trailers};
use std::task::{Context, Poll};

/// Why the client's side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientFault {
    /// The connection or the stream is gone.
    Gone,
    /// The body is malformed or truncated.
    Message(h1::Reason),
    TooLarge,
    /// The body is not encoded as the content type says.
    Encoding,
}

/// What [`Client::poll_body`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// [`Client::body`] is not empty.
    Data,
    End,
}

/// What comes after the bytes of a [`Client::poll_send`], as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Not known: send now.
    Unknown,
    /// More bytes, or the end, in the same poll: sending may wait for them.
    More,
    /// Nothing: these are the last bytes.
    End,
}

pub(crate) trait Client {
    /// The request's head as bytes of HTTP/1.1, in which the spans of its parsed form lie.
    fn request(&self) -> &[u8];

    /// Makes bytes of the request's body available, reading when there are none.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, ClientFault>>;

    fn body(&self) -> &[u8];

    /// No more bytes of the request's body are taken, instead of what the edge's own limit says.
    fn limit_body(&mut self, bytes: u64);

    fn consume(&mut self, count: usize);

    /// Consumes so many bytes of [`Client::body`], and gives them to whoever is to hold them.
    fn take(&mut self, count: usize) -> Bytes {
        let piece = Bytes::copy_from_slice(&self.body()[..count]);
        self.consume(count);
        piece
    }

    /// All that was consumed of the request's body is at hand: another attempt can have it from its beginning. No client
    /// does so by itself.
    fn keeps_body(&self) -> bool {
        false
    }

    /// The request's body begins again where it is kept, and says so.
    fn rewind(&mut self) -> bool {
        false
    }

    /// Appends the request's trailer fields that may be forwarded, as field lines. Says whether there were any.
    fn write_trailers(&self, out: &mut Vec<u8>) -> bool;

    /// Sends 100 (Continue) when the client waits for it.
    fn want_body(&mut self);

    /// Sends an interim response other than 100 and 101.
    fn interim(&mut self, response: &Response<'_>);

    /// Takes the head of the final response; it is sent with what follows, or by a flush.
    fn head(&mut self, response: &Response<'_>);

    /// The response was 101: the bytes behind both heads are a tunnel from here on. False when it does not answer what
    /// was asked in the client's name; then nothing was sent.
    fn switch_protocols(&mut self, response: &Response<'_>, protocol: &[u8]) -> bool;

    /// Takes bytes of the response's body; fewer than given when the client is slow.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        follow: Follow,
    ) -> Poll<Result<usize, ClientFault>>;

    /// The response's body is wanted in chunks ([`Client::poll_send_chunks`]) as far as the origin's may be passed on as
    /// they stand.
    fn takes_chunks(&self) -> bool {
        false
    }

    /// As [`Client::poll_send`], of chunks with their framing, wherever they are cut; the end of the body is among them.
    fn poll_send_chunks(
        &mut self,
        _: &mut Context<'_>,
        _: &[u8],
        _: Follow,
    ) -> Poll<Result<usize, ClientFault>> {
        debug_assert!(false, "a client that takes no chunks");
        Poll::Ready(Err(ClientFault::Gone))
    }

    /// Sends what is held back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>>;

    /// Ends the response. An error, and never a clean end, where less was sent than its head says.
    fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        trailers: Option<&Trailers>,
    ) -> Poll<Result<(), ClientFault>>;

    /// The response has begun, and trailers can be sent at its end, wherever that is.
    fn may_trail(&self) -> bool;

    /// No further request is taken: said in the response's head where its version can.
    fn close_after(&mut self);

    /// Looks whether the client is gone while nothing is to be sent to it, and has itself woken when it goes. A client
    /// that only ended its side still waits for the response (RFC 9112 section 9.6).
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), ClientFault>;

    /// Takes back what was handed over of a response while none of it was sent; false when some was.
    fn retract(&mut self) -> bool {
        false
    }

    /// The response cannot be finished: the client must be able to tell (RFC 9112 section 8).
    fn abort(&mut self);
}

/// Methods of a [`Client`] that stands around another one, its field `client`, and leaves them to it.
macro_rules! left_to_client {
    ($($method:ident),+) => { $($crate::client::left_to_client!(@ $method);)+ };
    (@ request) => {
        fn request(&self) -> &[u8] {
            self.client.request()
        }
    };
    (@ body) => {
        fn body(&self) -> &[u8] {
            self.client.body()
        }
    };
    (@ limit_body) => {
        fn limit_body(&mut self, bytes: u64) {
            self.client.limit_body(bytes);
        }
    };
    (@ keeps_body) => {
        fn keeps_body(&self) -> bool {
            self.client.keeps_body()
        }
    };
    (@ write_trailers) => {
        fn write_trailers(&self, out: &mut Vec<u8>) -> bool {
            self.client.write_trailers(out)
        }
    };
    (@ want_body) => {
        fn want_body(&mut self) {
            self.client.want_body();
        }
    };
    (@ interim) => {
        fn interim(&mut self, response: &$crate::client::Response<'_>) {
            self.client.interim(response);
        }
    };
    (@ head) => {
        fn head(&mut self, response: &$crate::client::Response<'_>) {
            self.client.head(response);
        }
    };
    (@ switch_protocols) => {
        fn switch_protocols(
            &mut self,
            response: &$crate::client::Response<'_>,
            protocol: &[u8],
        ) -> bool {
            self.client.switch_protocols(response, protocol)
        }
    };
    (@ poll_send) => {
        fn poll_send(
            &mut self,
            cx: &mut std::task::Context<'_>,
            data: &[u8],
            follow: $crate::client::Follow,
        ) -> std::task::Poll<Result<usize, $crate::client::ClientFault>> {
            self.client.poll_send(cx, data, follow)
        }
    };
    (@ poll_flush) => {
        fn poll_flush(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), $crate::client::ClientFault>> {
            self.client.poll_flush(cx)
        }
    };
    (@ poll_finish) => {
        fn poll_finish(
            &mut self,
            cx: &mut std::task::Context<'_>,
            trailers: Option<&h1::Trailers>,
        ) -> std::task::Poll<Result<(), $crate::client::ClientFault>> {
            self.client.poll_finish(cx, trailers)
        }
    };
    (@ may_trail) => {
        fn may_trail(&self) -> bool {
            self.client.may_trail()
        }
    };
    (@ close_after) => {
        fn close_after(&mut self) {
            self.client.close_after();
        }
    };
    (@ watch) => {
        fn watch(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> Result<(), $crate::client::ClientFault> {
            self.client.watch(cx)
        }
    };
    (@ retract) => {
        fn retract(&mut self) -> bool {
            self.client.retract()
        }
    };
    (@ abort) => {
        fn abort(&mut self) {
            self.client.abort();
        }
    };
}
pub(crate) use left_to_client;

/// The head of a response for the client, before any version of HTTP: its lines come from [`Response::write`].
pub(crate) struct Response<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    /// How the body comes from the origin.
    pub framing: Framing,
    pub fields: Fields<'a>,
    pub edits: Option<ResponseEdits<'a>>,
    pub id: &'a RequestId,
    /// For a final response without a Date of its own (RFC 9110 section 6.6.1).
    pub date: &'a [u8],
}

#[derive(Clone, Copy)]
pub(crate) enum Fields<'a> {
    Origin { bytes: &'a [u8], list: &'a HeaderList },
    Own(&'a [(&'a [u8], &'a [u8])]),
}

/// Takes the field lines of a response, as its version of HTTP writes them.
pub(crate) trait Lines {
    fn line(&mut self, name: &[u8], value: &[u8]);

    /// Those that came from the origin and are kept.
    fn of_origin(&mut self, bytes: &[u8], list: &HeaderList, keep: impl Fn(h1::Header) -> bool) {
        for header in list.iter().filter(|header| keep(**header)) {
            self.line(header.name(bytes), header.value(bytes));
        }
    }
}

impl Response<'_> {
    /// The field lines to send: without what is hop-by-hop, after the route's edits, with a date and
    /// the request id.
    pub fn write(&self, lines: &mut impl Lines) {
        let stays = |name: &[u8]| self.edits.is_none_or(|edits| !edits.drops(name));
        match self.fields {
            Fields::Own(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| stays(name)) {
                    lines.line(name, value);
                }
            }
            Fields::Origin { bytes, list } => lines.of_origin(bytes, list, |header| {
                self.is_forwarded(bytes, list, header) && stays(header.name(bytes))
            }),
        }
        if self.status >= 200 && !self.has_date() && stays(b"date") {
            lines.line(b"date", self.date);
        }
        for (name, value) in self.edits.into_iter().flat_map(ResponseEdits::added) {
            lines.line(name, value);
        }
        lines.line(b"x-request-id", self.id.as_bytes());
    }

    fn has_date(&self) -> bool {
        match self.fields {
            Fields::Own(_) => false,
            Fields::Origin { list, .. } => list.find(Known::Date).is_some(),
        }
    }

    /// Content-Length must not stand in 1xx and 204 (RFC 9110 section 8.6).
    fn is_forwarded(&self, bytes: &[u8], list: &HeaderList, header: h1::Header) -> bool {
        match header.known {
            Known::XRequestId => false,
            Known::ContentLength => self.status >= 200 && self.status != 204,
            _ => !list.is_hop_by_hop(bytes, header),
        }
    }
}

/// Field lines of a trailer section that may be forwarded.
pub(crate) fn forwarded_trailers(trailers: &Trailers) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (bytes, fields) = (trailers.bytes(), trailers.fields());
    fields
        .iter()
        .filter(|header| header.known.may_trail())
        .filter(|header| !is_certificate_field(header.name(bytes)))
        .map(move |header| (header.name(bytes), header.value(bytes)))
}
