//! One connection of the load generator to a server under test, plain or TLS, which follows a script.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustls::{ClientConfig, ClientConnection};

use crate::http::{self, Answer, Captured};
use crate::http2::{self, Frames};
use crate::script::{Protocol, Script};
use crate::{sys, tls};

/// Where and how a client connects.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
}

pub struct Client {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    script: Arc<Script>,
    /// Which request of the script is next.
    next: usize,
    dialogue: Dialogue,
    /// A request that the socket has not taken whole, and where its rest begins.
    rest: Option<(Arc<[u8]>, usize)>,
    /// Frames to be sent.
    frames: Vec<u8>,
    in_flight: usize,
    /// When the request in flight was to be sent.
    pub due: Instant,
}

/// Where a connection is in its protocol.
enum Dialogue {
    Http1(Answer),
    Http2 {
        frames: Frames,
        next_stream: u32,
    },
    /// The answer to the upgrade is awaited: what has come of it.
    Upgrading(Vec<u8>),
    /// The way is free for messages, and none was sent.
    Upgraded,
    /// So many bytes of the message in flight are still to come back.
    Messages(usize),
}

impl Client {
    /// A new connection; its TLS handshake goes on while events come.
    pub fn connect(target: &Target, script: &Arc<Script>) -> Result<Client> {
        // Blocking: on loopback the kernel connects at once, whether or not the server accepts.
        let stream = TcpStream::connect(target.address)
            .with_context(|| format!("connecting to {}", target.address))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        sys::plain_congestion_control(&stream);
        let session = |config: &Arc<ClientConfig>| {
            ClientConnection::new(config.clone(), tls::server_name()).map(Box::new)
        };
        let dialogue = match script.protocol {
            Protocol::Http1 => Dialogue::Http1(Answer::default()),
            Protocol::Http2 => Dialogue::Http2 { frames: Frames::default(), next_stream: 1 },
            Protocol::WebSocket => Dialogue::Upgrading(Vec::new()),
        };
        Ok(Client {
            stream,
            tls: target.tls.as_ref().map(session).transpose()?,
            script: Arc::clone(script),
            next: 0,
            dialogue,
            rest: None,
            frames: script.opening.clone(),
            in_flight: 0,
            due: Instant::now(),
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// Begins somewhere else in the script than the others.
    pub fn begin_at(&mut self, request: usize) {
        self.next = request;
    }

    /// Keeps the next answer whole, for [`Client::take_captured`].
    pub fn capture(&mut self) {
        match &mut self.dialogue {
            Dialogue::Http1(answer) => answer.capture(),
            Dialogue::Http2 { frames, .. } => frames.capture(),
            _ => {}
        }
    }

    pub fn take_captured(&mut self) -> Captured {
        match &mut self.dialogue {
            Dialogue::Http1(answer) => answer.take_captured(),
            Dialogue::Http2 { frames, .. } => frames.take_captured(),
            _ => Captured::default(),
        }
    }

    /// Sends what a connection has in flight in the beginning.
    pub fn begin(&mut self) -> Result<()> {
        self.send(self.script.at_once)
    }

    /// Sends the next requests of the script.
    pub fn send(&mut self, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.in_flight += count;
        match &mut self.dialogue {
            Dialogue::Http1(_) => {
                let request = next(&self.script, &mut self.next);
                self.rest = Some((request, 0));
            }
            Dialogue::Upgraded | Dialogue::Messages(_) => {
                let message = next(&self.script, &mut self.next);
                self.dialogue = Dialogue::Messages(message.len());
                self.rest = Some((message, 0));
            }
            // The message follows the answer.
            Dialogue::Upgrading(_) => {}
            Dialogue::Http2 { next_stream, .. } => {
                for _ in 0..count {
                    let block = next(&self.script, &mut self.next);
                    http2::request(&mut self.frames, *next_stream, &block);
                    *next_stream += 2;
                }
            }
        }
        self.flush()
    }

    /// Reads what has come; how many answers are complete.
    pub fn on_event(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.is_unsent() {
            self.flush()?;
        }
        let mut complete = 0;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection that was to be kept"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("reading from the server"),
            };
            complete += self.on_bytes(buffer.get(..count).unwrap_or(&[]))?;
            // A read that leaves room has emptied the socket (epoll(7), edge-triggered streams).
            if count < buffer.len() {
                break;
            }
        }
        self.in_flight -= complete.min(self.in_flight);
        Ok(complete)
    }

    fn on_bytes(&mut self, mut bytes: &[u8]) -> Result<usize> {
        let mut complete = 0;
        match &mut self.tls {
            None => complete += self.dialogue.feed(bytes, &mut self.frames)?,
            Some(session) => {
                while !bytes.is_empty() {
                    session.read_tls(&mut bytes)?;
                    session.process_new_packets()?;
                    complete += drain(session, &mut self.dialogue, &mut self.frames)?;
                }
            }
        }
        self.after_upgrade();
        if self.is_unsent() {
            self.flush()?;
        }
        Ok(complete)
    }

    fn is_unsent(&self) -> bool {
        let of_session = self.tls.as_ref().is_some_and(|session| session.wants_write());
        self.rest.is_some() || !self.frames.is_empty() || of_session
    }

    /// The message that waited for the answer to the upgrade.
    fn after_upgrade(&mut self) {
        if matches!(self.dialogue, Dialogue::Upgraded) && self.in_flight > 0 {
            let message = next(&self.script, &mut self.next);
            self.dialogue = Dialogue::Messages(message.len());
            self.rest = Some((message, 0));
        }
    }

    /// Writes what the socket takes; the rest follows when it is ready.
    fn flush(&mut self) -> Result<()> {
        match &mut self.tls {
            None => self.flush_plain(),
            Some(session) => {
                if let Some((bytes, from)) = self.rest.take() {
                    session.writer().write_all(bytes.get(from..).unwrap_or(&[]))?;
                }
                if !self.frames.is_empty() {
                    session.writer().write_all(&self.frames)?;
                    self.frames.clear();
                }
                flush_tls(session, &mut self.stream)
            }
        }
    }

    fn flush_plain(&mut self) -> Result<()> {
        if !self.frames.is_empty() {
            let sent = sys::write_some(&mut self.stream, &self.frames)?;
            self.frames.drain(..sent);
        }
        if let Some((bytes, from)) = &mut self.rest {
            *from += sys::write_some(&mut self.stream, bytes.get(*from..).unwrap_or(&[]))?;
            if *from == bytes.len() {
                self.rest = None;
            }
        }
        Ok(())
    }
}

fn next(script: &Script, at: &mut usize) -> Arc<[u8]> {
    let index = *at % script.requests.len().max(1);
    *at += 1;
    script.requests.get(index).cloned().unwrap_or_default()
}

impl Dialogue {
    /// How many answers end with these bytes.
    fn feed(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<usize> {
        match self {
            Dialogue::Http1(answer) => Ok(usize::from(answer.feed(bytes)?)),
            Dialogue::Http2 { frames, .. } => frames.feed(bytes, reply),
            Dialogue::Upgrading(held) => {
                held.extend_from_slice(bytes);
                if let Some(length) = http::head_length(held) {
                    if !held.starts_with(b"HTTP/1.1 101") || length != held.len() {
                        bail!("the answer to an upgrade is {:?}", String::from_utf8_lossy(held));
                    }
                    *self = Dialogue::Upgraded;
                }
                Ok(0)
            }
            Dialogue::Upgraded => bail!("bytes came that nobody asked for"),
            Dialogue::Messages(left) => match left.checked_sub(bytes.len()) {
                Some(rest) => {
                    *left = rest;
                    Ok(usize::from(rest == 0))
                }
                None => bail!("more came back than was sent"),
            },
        }
    }
}

/// Hands decrypted bytes to the dialogue.
fn drain(
    session: &mut ClientConnection,
    dialogue: &mut Dialogue,
    reply: &mut Vec<u8>,
) -> Result<usize> {
    let mut complete = 0;
    loop {
        let mut reader = session.reader();
        let count = match reader.fill_buf() {
            Ok([]) => return Ok(complete),
            Ok(bytes) => {
                complete += dialogue.feed(bytes, reply)?;
                bytes.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(complete),
            Err(error) => return Err(error.into()),
        };
        reader.consume(count);
    }
}

fn flush_tls(session: &mut ClientConnection, stream: &mut TcpStream) -> Result<()> {
    while session.wants_write() {
        let written: io::Result<usize> = session.write_tls(stream);
        match written {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
