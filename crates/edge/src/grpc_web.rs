//! grpc-web for clients that cannot read trailers (browsers), towards origins that speak gRPC: the content type changes,
//! trailers become the last frame of the body, and of the text form both bodies are base64. (PROTOCOL-WEB of gRPC)
//!
//! ```text
//! client  <- grpc-web -> GrpcWeb (a Client like any other) <- gRPC -> pump
//! ```

use crate::client::{
    Body, Client, ClientFault, Fields, Follow, Response, forwarded_trailers, left_to_client,
};
use crate::grpc::{CONTENT_TYPE, after, is_call};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h1::{Framing, HeaderList, Known, Trailers, encode};
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE as CONTENT_TYPE_FIELD, HeaderMap, HeaderValue, TE,
};
use std::task::{Context, Poll, ready};

/// Bytes of a response that are encoded at once.
const PIECE_BYTES: usize = 12 << 10;
/// The first bit of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Text,
}

impl Form {
    /// None for what is no grpc-web.
    pub fn of(content_type: &[u8]) -> Option<Form> {
        form(content_type).map(|(form, _)| form)
    }

    pub fn content_type(self) -> &'static [u8] {
        match self {
            Form::Binary => b"application/grpc-web",
            Form::Text => b"application/grpc-web-text",
        }
    }
}

/// With what follows: nothing, or the form of the messages as in `+proto`.
fn form(content_type: &[u8]) -> Option<(Form, &[u8])> {
    let is_end = |rest: &&[u8]| matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'));
    [Form::Text, Form::Binary].into_iter().find_map(|form| {
        after(content_type, form.content_type()).filter(is_end).map(|rest| (form, rest))
    })
}

/// Makes the field lines of a request those of gRPC.
pub(crate) fn translate_fields(fields: &mut HeaderMap) {
    let messages = fields.get(CONTENT_TYPE_FIELD).and_then(|value| form(value.as_bytes()));
    let translated = messages.map(|(_, messages)| [CONTENT_TYPE, messages].concat());
    if let Some(Ok(value)) = translated.map(|value| HeaderValue::from_bytes(&value)) {
        fields.insert(CONTENT_TYPE_FIELD, value);
    }
    // The text form changes it; HTTP/2 frames the body.
    fields.remove(CONTENT_LENGTH);
    fields.insert(TE, HeaderValue::from_static("trailers"));
}

/// The client during one attempt at an origin of gRPC. Nothing of it outlasts the attempt: the next one may be at an
/// origin that speaks something else, and has an answer of its own.
pub(crate) struct GrpcWeb<'c, C> {
    client: &'c mut C,
    form: Form,
    request: Decoded,
    /// The response is one of gRPC.
    translates: bool,
    ends_with_trailers: bool,
    /// What is encoded and not sent.
    output: Vec<u8>,
    sent: usize,
}

/// The text form of a request's body on its way out of base64.
#[derive(Default)]
struct Decoded {
    has_begun: bool,
    /// Fewer than four characters.
    rest: Vec<u8>,
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoded {
    /// Each four characters stand for themselves, so that pieces that were padded one by one may follow each other.
    fn add(&mut self, text: &[u8]) -> Result<(), ClientFault> {
        self.has_begun = true;
        self.bytes.clear();
        self.taken = 0;
        self.rest.extend(text.iter().filter(|b| !b.is_ascii_whitespace()));
        let whole = self.rest.len() / 4 * 4;
        for four in self.rest[..whole].chunks_exact(4) {
            STANDARD.decode_vec(four, &mut self.bytes).map_err(|_| ClientFault::Encoding)?;
        }
        self.rest.drain(..whole);
        Ok(())
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }
}

impl<'c, C: Client> GrpcWeb<'c, C> {
    pub fn new(client: &'c mut C, form: Form) -> GrpcWeb<'c, C> {
        GrpcWeb {
            client,
            form,
            request: Decoded::default(),
            translates: false,
            ends_with_trailers: false,
            output: Vec::new(),
            sent: 0,
        }
    }

    /// Sends what is encoded.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        while let Some(rest @ [_, ..]) = self.output.get(self.sent..) {
            self.sent += ready!(self.client.poll_send(cx, rest, Follow::Unknown))?;
        }
        self.output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn encode(&mut self, data: &[u8]) {
        match self.form {
            Form::Binary => self.output.extend_from_slice(data),
            Form::Text => self.output.extend_from_slice(STANDARD.encode(data).as_bytes()),
        }
    }
}

/// The last frame of a body: field lines, behind their length.
fn trailers_frame(trailers: Option<&Trailers>) -> Vec<u8> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in trailers.into_iter().flat_map(forwarded_trailers) {
        encode::header(&mut frame, &name.to_ascii_lowercase(), value);
    }
    // A section of trailers is as large as a head at most.
    let length = (frame.len() - 5) as u32;
    frame[1..5].copy_from_slice(&length.to_be_bytes());
    frame
}

/// What has none has its status in its head.
fn has_body(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// The head of a response as grpc-web has it. None for what is none of gRPC.
fn translated(response: &Response<'_>, form: Form) -> Option<Vec<u8>> {
    let Fields::Origin { bytes, list } = response.fields else { return None };
    let content_type = list.find(Known::ContentType)?.value(bytes);
    let messages = after(content_type, CONTENT_TYPE).filter(|_| is_call(content_type))?;
    let mut head = Vec::with_capacity(bytes.len());
    encode::status_line(&mut head, response.status, b"");
    for header in list.iter() {
        match header.known {
            Known::ContentType => {
                let value = [form.content_type(), messages].concat();
                encode::header(&mut head, b"content-type", &value);
            }
            // The frame of trailers is to follow.
            Known::ContentLength if !has_body(response.framing) => {
                encode::header(&mut head, b"content-length", header.value(bytes));
            }
            Known::ContentLength | Known::TransferEncoding | Known::Trailer => {}
            _ => encode::header(&mut head, header.name(bytes), header.value(bytes)),
        }
    }
    encode::end(&mut head);
    Some(head)
}

impl<C: Client> Client for GrpcWeb<'_, C> {
    left_to_client!(request, limit_body, keeps_body, want_body, interim, close_after, watch, abort);

    /// As a frame of the body.
    fn may_trail(&self) -> bool {
        self.ends_with_trailers
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        if self.form == Form::Binary {
            return self.client.poll_body(cx);
        }
        while self.request.left().is_empty() {
            match ready!(self.client.poll_body(cx))? {
                Body::End if self.request.rest.is_empty() => return Poll::Ready(Ok(Body::End)),
                // The body came whole: what is missing of it was never sent.
                Body::End => return Poll::Ready(Err(ClientFault::Encoding)),
                Body::Data => {
                    let text = self.client.body();
                    let count = text.len();
                    self.request.add(text)?;
                    self.client.consume(count);
                }
            }
        }
        Poll::Ready(Ok(Body::Data))
    }

    fn body(&self) -> &[u8] {
        match self.form {
            Form::Binary => self.client.body(),
            Form::Text => self.request.left(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self.form {
            Form::Binary => self.client.consume(count),
            Form::Text => self.request.taken += count,
        }
    }

    fn take(&mut self, count: usize) -> Bytes {
        match self.form {
            Form::Binary => self.client.take(count),
            Form::Text => {
                let piece = Bytes::copy_from_slice(&self.request.left()[..count]);
                self.request.taken += count;
                piece
            }
        }
    }

    /// Clients of grpc-web have none.
    fn write_trailers(&self, _: &mut Vec<u8>) -> bool {
        false
    }

    /// A response that is a head alone has its status in it, where clients look for it too.
    fn head(&mut self, response: &Response<'_>) {
        let head = translated(response, self.form);
        let mut list = HeaderList::new();
        let is_read = head.as_ref().is_some_and(|head| {
            let limits = &crate::worker::LIMITS;
            matches!(h1::parse_response(head, &mut list, h1::Method::Post, limits), Ok(Some(_)))
        });
        let Some(bytes) = head.filter(|_| is_read) else { return self.client.head(response) };
        self.translates = true;
        self.ends_with_trailers = has_body(response.framing);
        let framing = if self.ends_with_trailers { Framing::Chunked } else { response.framing };
        let fields = Fields::Origin { bytes: &bytes, list: &list };
        self.client.head(&Response { framing, fields, ..*response });
    }

    fn switch_protocols(&mut self, _: &Response<'_>, _: &[u8]) -> bool {
        false
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        follow: Follow,
    ) -> Poll<Result<usize, ClientFault>> {
        if !self.translates {
            return self.client.poll_send(cx, data, follow);
        }
        ready!(self.poll_output(cx))?;
        if self.form == Form::Binary {
            return self.client.poll_send(cx, data, Follow::Unknown);
        }
        let piece = &data[..data.len().min(PIECE_BYTES)];
        self.encode(piece);
        // What the client does not take now waits here.
        let _ = self.poll_output(cx)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        ready!(self.poll_output(cx))?;
        self.client.poll_flush(cx)
    }

    fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        trailers: Option<&Trailers>,
    ) -> Poll<Result<(), ClientFault>> {
        if !self.translates {
            return self.client.poll_finish(cx, trailers);
        }
        if std::mem::take(&mut self.ends_with_trailers) {
            self.encode(&trailers_frame(trailers));
        }
        ready!(self.poll_output(cx))?;
        self.client.poll_finish(cx, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_by_content_type() {
        for (content_type, expected) in [
            ("application/grpc-web", Some((Form::Binary, ""))),
            ("application/grpc-web+proto", Some((Form::Binary, "+proto"))),
            ("Application/gRPC-Web-Text+proto", Some((Form::Text, "+proto"))),
            ("application/grpc-web-text", Some((Form::Text, ""))),
            ("application/grpc-webx", None),
            ("application/grpc", None),
            ("application/json", None),
        ] {
            let found = form(content_type.as_bytes());
            let expected = expected.map(|(form, rest)| (form, rest.as_bytes()));
            assert_eq!(found, expected, "{content_type}");
        }
    }

    #[test]
    fn the_fields_become_those_of_grpc() {
        for (content_type, expected) in [
            ("application/grpc-web-text+proto", "application/grpc+proto"),
            ("application/grpc-web", "application/grpc"),
            // A rule set another one.
            ("application/x", "application/x"),
        ] {
            let mut fields = HeaderMap::new();
            for (name, value) in
                [("content-type", content_type), ("content-length", "12"), ("x-grpc-web", "1")]
            {
                fields.insert(name, HeaderValue::from_static(value));
            }
            translate_fields(&mut fields);
            let mut lines: Vec<_> =
                fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
            lines.sort_unstable();
            let expected: [(&str, &[u8]); 3] =
                [("content-type", expected.as_bytes()), ("te", b"trailers"), ("x-grpc-web", b"1")];
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn base64_comes_in_any_pieces_and_padded_one_by_one() {
        let text =
            [STANDARD.encode(b"one"), STANDARD.encode(b"more"), STANDARD.encode(b"!")].concat();
        for size in 1..=text.len() {
            let mut decoded = Decoded::default();
            let mut whole = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                decoded.add(piece).expect("base64");
                whole.extend_from_slice(decoded.left());
            }
            assert_eq!((whole.as_slice(), decoded.rest.len()), (&b"onemore!"[..], 0));
        }
        assert!(Decoded::default().add(b"a*b=").is_err());
        assert!(Decoded::default().add(b"====").is_err());
    }
}
