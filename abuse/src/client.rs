//! One request and what became of it, over HTTP/1.1 or HTTP/2; a connection that is kept. Blocking, bounded in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use testkit::message::{self, Kind, Message};

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with the body asked for.
    Right,
    /// Another status.
    Refused(u16),
    /// The connection or the stream ended before the answer did, and it shows.
    Cut,
    /// A whole 200 with another body, or what is no HTTP.
    Wrong(String),
    /// No end within the time.
    Silent,
}

pub struct Request<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    /// Of a POST.
    pub body: &'a str,
    /// Of the answer.
    pub expected: &'a str,
}

/// On a connection of its own.
pub fn http1(address: SocketAddr, request: &Request<'_>, patience: Duration) -> Result<Outcome> {
    let Request { method, host, path, body, .. } = request;
    let length = match *method {
        "POST" => format!("content-length: {}\r\n", body.len()),
        _ => String::new(),
    };
    let mut client = Client::connect(address, patience)?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n{body}");
    client.stream.write_all(head.as_bytes())?;
    Ok(match client.answer() {
        Ok(answer) => judge(answer.status().unwrap_or_default(), &answer.body, request),
        Err(Missing::Cut) => Outcome::Cut,
        Err(Missing::Late) => Outcome::Silent,
        Err(Missing::NoHttp(what)) => Outcome::Wrong(what),
    })
}

/// A connection over HTTP/1.1 that is kept, one request at a time.
pub struct Client {
    stream: TcpStream,
    /// For each answer.
    patience: Duration,
}

/// Why there is no whole answer.
#[derive(Debug)]
enum Missing {
    Cut,
    Late,
    NoHttp(String),
}

/// Of a longer answer only what ends as chunks do is parsed: parsing begins anew with each piece.
const OFTEN_PARSED_BYTES: usize = 64 << 10;

impl Client {
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Client> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, patience })
    }

    pub fn get(&mut self, host: &str, path: &str) -> Result<Message> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.answer().map_err(|missing| anyhow!("no answer: {missing:?}"))
    }

    fn answer(&mut self) -> Result<Message, Missing> {
        let end = Instant::now() + self.patience;
        let (mut held, mut ended) = (Vec::new(), false);
        loop {
            let may_be_whole =
                ended || held.len() < OFTEN_PARSED_BYTES || held.ends_with(b"0\r\n\r\n");
            if may_be_whole
                && let Some((answer, _)) =
                    message::parse(&held, Kind::Response { ended }).map_err(Missing::NoHttp)?
            {
                return Ok(answer);
            }
            match read_until(&mut self.stream, &mut held, end) {
                Read1::Bytes => {}
                Read1::Closed if ended => return Err(Missing::Cut),
                Read1::Closed => ended = true,
                Read1::Reset => return Err(Missing::Cut),
                Read1::Late => return Err(Missing::Late),
            }
        }
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read1 {
    Bytes,
    Closed,
    Reset,
    Late,
}

/// Reads once, until `end` at most.
pub fn read_until(stream: &mut TcpStream, held: &mut Vec<u8>, end: Instant) -> Read1 {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
        return Read1::Late;
    }
    let mut piece = [0; 64 << 10];
    match stream.read(&mut piece) {
        Ok(0) => Read1::Closed,
        Ok(count) => {
            held.extend_from_slice(&piece[..count]);
            Read1::Bytes
        }
        Err(error) if is_late(&error) => Read1::Late,
        Err(_) => Read1::Reset,
    }
}

pub fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn judge(status: u16, body: &[u8], request: &Request<'_>) -> Outcome {
    match status {
        200 if body == request.expected.as_bytes() => Outcome::Right,
        200 => Outcome::Wrong(body[..body.len().min(40)].escape_ascii().to_string()),
        status => Outcome::Refused(status),
    }
}

/// With prior knowledge, on a connection of its own.
pub fn http2(address: SocketAddr, request: &Request<'_>, patience: Duration) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answered = runtime
        .block_on(async { tokio::time::timeout(patience, one_http2(address, request)).await });
    answered.unwrap_or(Ok(Outcome::Silent))
}

async fn one_http2(address: SocketAddr, request: &Request<'_>) -> Result<Outcome> {
    let stream = tokio::net::TcpStream::connect(address).await.context("connecting")?;
    let (sender, connection) = h2::client::handshake(stream).await.context("HTTP/2 handshake")?;
    tokio::spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.context("HTTP/2 handshake")?;
    let uri = format!("http://{}{}", request.host, request.path);
    let head = http::Request::builder().method(request.method).uri(uri).body(())?;
    let is_post = request.method == "POST";
    let (answer, mut stream) = sender.send_request(head, !is_post)?;
    if is_post {
        stream.send_data(bytes::Bytes::copy_from_slice(request.body.as_bytes()), true)?;
    }
    let Ok(answer) = answer.await else { return Ok(Outcome::Cut) };
    let (head, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let Ok(piece) = piece else { return Ok(Outcome::Cut) };
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
        if body.len() > (16 << 20) {
            bail!("an answer without end");
        }
    }
    Ok(judge(head.status.as_u16(), &body, request))
}
