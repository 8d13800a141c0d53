//! One connection of the load generator to a server under test, plain or TLS, with at most one
//! request in flight.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::{ClientConfig, ClientConnection};

use crate::http::Answer;
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
    answer: Answer,
    /// A request was sent and its answer is not complete.
    busy: bool,
}

impl Client {
    /// A new connection; its TLS handshake goes on while events come.
    pub fn connect(target: &Target) -> Result<Client> {
        // Blocking: on loopback the kernel connects at once, whether or not the server accepts.
        let stream = TcpStream::connect(target.address)
            .with_context(|| format!("connecting to {}", target.address))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        sys::plain_congestion_control(&stream);
        let session = |config: &Arc<ClientConfig>| {
            ClientConnection::new(config.clone(), tls::server_name()).map(Box::new)
        };
        let tls = target.tls.as_ref().map(session).transpose()?;
        Ok(Client { stream, tls, answer: Answer::default(), busy: false })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Keeps the next answer whole, for [`Client::take_captured`].
    pub fn capture(&mut self) {
        self.answer = Answer::captured();
    }

    pub fn take_captured(&mut self) -> Vec<u8> {
        self.answer.take_captured()
    }

    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        self.busy = true;
        match &mut self.tls {
            None => {
                // One small request in flight: the socket's buffer always has room for it.
                if self.stream.write(request)? != request.len() {
                    bail!("the socket did not take a whole request");
                }
            }
            Some(session) => {
                session.writer().write_all(request)?;
                flush(session, &mut self.stream)?;
            }
        }
        Ok(())
    }

    /// Reads what has come; true when the answer in flight is complete.
    pub fn on_event(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let mut complete = false;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection that was to be kept"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("reading from the server"),
            };
            complete |= self.on_bytes(buffer.get(..count).unwrap_or(&[]))?;
            // A read that leaves room has emptied the socket (epoll(7), edge-triggered streams).
            if count < buffer.len() {
                break;
            }
        }
        if complete {
            self.busy = false;
        }
        Ok(complete)
    }

    fn on_bytes(&mut self, mut bytes: &[u8]) -> Result<bool> {
        let Some(session) = &mut self.tls else { return self.answer.feed(bytes) };
        let mut complete = false;
        while !bytes.is_empty() {
            session.read_tls(&mut bytes)?;
            session.process_new_packets()?;
            complete |= drain(session, &mut self.answer)?;
        }
        flush(session, &mut self.stream)?;
        Ok(complete)
    }
}

/// Hands decrypted bytes to the answer.
fn drain(session: &mut ClientConnection, answer: &mut Answer) -> Result<bool> {
    let mut complete = false;
    loop {
        let mut reader = session.reader();
        let count = match reader.fill_buf() {
            Ok([]) => return Ok(complete),
            Ok(bytes) => {
                complete |= answer.feed(bytes)?;
                bytes.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(complete),
            Err(error) => return Err(error.into()),
        };
        reader.consume(count);
    }
}

fn flush(session: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(stream)?;
    }
    Ok(())
}
