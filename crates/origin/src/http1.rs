//! HTTP/1.0 and HTTP/1.1 by hand: heads by `httparse`, bodies by length or in chunks, answers with a
//! length or in chunks (RFC 9112). Lenient about what it reads: judging requests is the proxy's part.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf, BytesMut};
use http::{Response, StatusCode};
use hyper::body::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::answer::{BodyMeter, Field, Received, answer, refusal, too_large};
use crate::body::Content;
use crate::plan::Plan;
use crate::{Stop, limits, websocket};

pub(crate) async fn serve(
    io: TcpStream,
    first: BytesMut,
    name: Arc<str>,
    stop: &mut Stop,
) -> io::Result<()> {
    let mut wire = Wire { io, buffer: first };
    loop {
        let head = tokio::select! {
            () = stop.wait(), if wire.buffer.is_empty() => return Ok(()),
            head = wire.head() => head,
        };
        let ended = match head {
            Ok(None) => return Ok(()),
            Ok(Some(head)) => exchange(&mut wire, head, &name, stop).await,
            Err(fault) => Err(fault),
        };
        match ended {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return Ok(()),
            Ok(Next::WebSocket) => return websocket::echo(wire.io, wire.buffer, stop).await,
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Refused(response)) => {
                wire.answer(*response, &Manner::last()).await?;
                return wire.linger().await;
            }
        }
    }
}

enum Next {
    Request,
    Close,
    WebSocket,
}

/// Why an exchange ended early.
enum Fault {
    Io(io::Error),
    /// To be answered, and the connection closed.
    Refused(Box<Response<Content>>),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<tokio::time::error::Elapsed> for Fault {
    fn from(error: tokio::time::error::Elapsed) -> Self {
        Self::Io(error.into())
    }
}

impl Fault {
    fn bad(reason: &str) -> Self {
        Self::Refused(Box::new(refusal(StatusCode::BAD_REQUEST, reason)))
    }

    fn too_large() -> Self {
        Self::Refused(Box::new(too_large()))
    }
}

struct Head {
    method: String,
    target: String,
    minor: u8,
    headers: Vec<Field>,
}

enum Framing {
    Length(u64),
    Chunked,
}

/// How an answer is sent.
struct Manner {
    minor: u8,
    keep_alive: bool,
    without_body: bool,
}

impl Manner {
    fn last() -> Self {
        Self { minor: 1, keep_alive: false, without_body: false }
    }
}

impl Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |field: &&Field| field.0.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|field| field.1.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    fn keep_alive(&self) -> bool {
        match self.minor {
            0 => self.has_token("connection", "keep-alive"),
            _ => !self.has_token("connection", "close"),
        }
    }

    /// RFC 9112 section 6.3, the part about requests.
    fn framing(&self) -> Result<Framing, Fault> {
        if let Some(coding) = self.values("transfer-encoding").last() {
            return match coding.trim().eq_ignore_ascii_case("chunked") {
                true => Ok(Framing::Chunked),
                false => Err(Fault::bad("chunked is the only transfer coding that is read")),
            };
        }
        match self.values("content-length").next().map(|value| value.trim().parse()) {
            None => Ok(Framing::Length(0)),
            Some(Ok(length)) => Ok(Framing::Length(length)),
            Some(Err(_)) => Err(Fault::bad("content-length is not a number")),
        }
    }

    /// The answer to a WebSocket handshake, RFC 6455 section 4.2.
    fn websocket_key(&self) -> Option<&str> {
        let asked =
            self.has_token("upgrade", "websocket") && self.has_token("connection", "upgrade");
        self.values("sec-websocket-key").next().filter(|_| asked && self.minor == 1)
    }
}

async fn exchange(wire: &mut Wire, head: Head, name: &str, stop: &Stop) -> Result<Next, Fault> {
    let plan = Plan::of(&head.target);
    if let (Plan::WebSocket, Some(key)) = (&plan, head.websocket_key()) {
        wire.write(websocket::handshake(key).as_bytes()).await?;
        return Ok(Next::WebSocket);
    }
    let keep_alive = head.keep_alive();
    let without_body = head.method == "HEAD";
    let minor = head.minor;
    let received = wire.received(head, name).await?;
    let Some(response) = answer(plan, &received).await else { return Ok(Next::Close) };
    let keep_alive = keep_alive && !stop.is_set();
    let stays = wire.answer(response, &Manner { minor, keep_alive, without_body }).await?;
    Ok(if stays { Next::Request } else { Next::Close })
}

/// A connection and what was read from it ahead.
struct Wire {
    io: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    /// The next head, or `None` where the connection ends before one.
    async fn head(&mut self) -> Result<Option<Head>, Fault> {
        loop {
            if let Some((head, length)) = parse(&self.buffer)? {
                self.buffer.advance(length);
                return Ok(Some(head));
            }
            if self.buffer.len() > limits::HEAD_BYTES {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Err(Fault::Refused(Box::new(refusal(status, "the head is over 64 KiB"))));
            }
            if self.fill(limits::IDLE).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn received(&mut self, head: Head, name: &str) -> Result<Received, Fault> {
        let framing = head.framing()?;
        let expects = head.minor == 1 && head.has_token("expect", "100-continue");
        if expects && !matches!(framing, Framing::Length(0)) && self.buffer.is_empty() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut meter = BodyMeter::new();
        let trailers = match framing {
            Framing::Length(length) => self.content(length, &mut meter).await.map(|()| Vec::new()),
            Framing::Chunked => self.chunks(&mut meter).await,
        }?;
        Ok(Received {
            name: name.to_owned(),
            method: head.method,
            target: head.target,
            protocol: if head.minor == 0 { "HTTP/1.0" } else { "HTTP/1.1" },
            headers: head.headers,
            body: meter.finish(),
            trailers,
        })
    }

    async fn content(&mut self, mut left: u64, meter: &mut BodyMeter) -> Result<(), Fault> {
        if left > limits::BODY_BYTES {
            return Err(Fault::too_large());
        }
        while left > 0 {
            if self.buffer.is_empty() {
                self.must_fill().await?;
            }
            let here = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            meter.add(&self.buffer[..here]).map_err(|_| Fault::too_large())?;
            self.buffer.advance(here);
            left -= here as u64;
        }
        Ok(())
    }

    /// RFC 9112 section 7.1; the trailers are returned.
    async fn chunks(&mut self, meter: &mut BodyMeter) -> Result<Vec<Field>, Fault> {
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16)
                .map_err(|_| Fault::bad("a chunk size is not a number"))?;
            if length == 0 {
                return self.trailers().await;
            }
            self.content(length, meter).await?;
            if !self.line().await?.is_empty() {
                return Err(Fault::bad("a chunk is longer than its size"));
            }
        }
    }

    async fn trailers(&mut self) -> Result<Vec<Field>, Fault> {
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(trailers);
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| Fault::bad("a trailer has no colon"))?;
            if trailers.len() == limits::HEADERS {
                return Err(Fault::bad("there are more than 256 trailers"));
            }
            trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > limits::CHUNK_LINE_BYTES {
                return Err(Fault::bad("a line of the chunked body is over 4 KiB"));
            }
            self.must_fill().await?;
        }
    }

    async fn must_fill(&mut self) -> io::Result<()> {
        match self.fill(limits::READ).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self, within: std::time::Duration) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        timeout(within, self.io.read_buf(&mut self.buffer)).await?
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(limits::WRITE, self.io.write_all(bytes)).await?
    }

    /// Sends an answer; says whether the connection stays open.
    async fn answer(&mut self, response: Response<Content>, manner: &Manner) -> io::Result<bool> {
        let (head, content) = response.into_parts();
        let length = content.size_hint().exact();
        let chunked = length.is_none() && manner.minor == 1;
        let stays = manner.keep_alive && (length.is_some() || chunked);
        let mut text = status_line(head.status);
        for (name, value) in &head.headers {
            let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        text += &framing_fields(head.status, length, chunked);
        text += match (stays, manner.minor) {
            (false, _) => "connection: close\r\n\r\n",
            (true, 0) => "connection: keep-alive\r\n\r\n",
            (true, _) => "\r\n",
        };
        match manner.without_body {
            true => self.write(text.as_bytes()).await?,
            false => self.write_with_content(text.into_bytes(), content, chunked).await?,
        }
        Ok(stays)
    }

    /// Sends the head together with the first piece, then piece by piece.
    async fn write_with_content(
        &mut self,
        mut piece: Vec<u8>,
        mut content: Content,
        chunked: bool,
    ) -> io::Result<()> {
        while let Some(Ok(frame)) =
            poll_fn(|context| Pin::new(&mut content).poll_frame(context)).await
        {
            let data = frame.into_data().unwrap_or_default();
            if chunked {
                piece.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            }
            piece.extend_from_slice(&data);
            piece.extend_from_slice(if chunked { b"\r\n" } else { b"" });
            self.write(&piece).await?;
            piece.clear();
        }
        piece.extend_from_slice(if chunked { b"0\r\n\r\n" } else { b"" });
        self.write(&piece).await
    }

    /// Lets the client read a refusal before the reset that unread bytes would cause,
    /// RFC 9112 section 9.6.
    async fn linger(mut self) -> io::Result<()> {
        self.io.shutdown().await?;
        let drained = async {
            loop {
                self.buffer.clear();
                if self.io.read_buf(&mut self.buffer).await? == 0 {
                    return Ok(());
                }
            }
        };
        timeout(limits::LINGER, drained).await.unwrap_or(Ok(()))
    }
}

fn status_line(status: StatusCode) -> String {
    format!(
        "HTTP/1.1 {} {}\r\ndate: {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or(""),
        httpdate::fmt_http_date(SystemTime::now()),
    )
}

fn framing_fields(status: StatusCode, length: Option<u64>, chunked: bool) -> String {
    match length {
        // RFC 9110 section 8.6: not with 204; with 304 it would speak of another answer.
        _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => String::new(),
        Some(length) => format!("content-length: {length}\r\n"),
        None if chunked => "transfer-encoding: chunked\r\n".to_owned(),
        None => String::new(),
    }
}

/// A target with bytes beyond ASCII is no text for the parser and yet what a proxy may pass on: the parser is shown
/// letters in their place. What it says of lengths stays true.
fn mask_target(bytes: &[u8]) -> Cow<'_, [u8]> {
    let line = request_line(bytes);
    if line.is_ascii() {
        return Cow::Borrowed(bytes);
    }
    let end = bytes.len() - bytes.trim_ascii_start().len() + line.len();
    let mut masked = bytes.to_vec();
    for byte in masked.iter_mut().take(end).filter(|byte| !byte.is_ascii()) {
        *byte = b'x';
    }
    Cow::Owned(masked)
}

/// As received; bytes that are no UTF-8 are shown as U+FFFD, as in fields.
fn target(bytes: &[u8]) -> String {
    let mut words = request_line(bytes).split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    String::from_utf8_lossy(words.nth(1).unwrap_or_default()).into_owned()
}

fn request_line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.trim_ascii_start();
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    &bytes[..end.unwrap_or(bytes.len())]
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let masked = mask_target(bytes);
    let length = match request.parse(&masked) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Fault::bad(&format!("the request head is malformed: {error}"))),
    };
    let field = |header: &httparse::Header<'_>| {
        (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
    };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: target(bytes),
        minor: request.version.unwrap_or(1),
        headers: request.headers.iter().map(field).collect(),
    };
    Ok(Some((head, length)))
}
