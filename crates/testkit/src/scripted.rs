//! Scripted origins: TCP servers that play the steps of a case, or echo what they receive.
//!
//! An origin looks at its listener and at all its connections in turn, so that it does not matter on
//! which connection a proxy sends the next request.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::actions::OriginAction;
use crate::failure::{Failure, Mismatch, shown};
use crate::message::{self, Kind, Message};
use crate::scenario::Step;
use crate::text::Variables;
use crate::wire::PATIENCE;

const PAUSE: Duration = Duration::from_millis(1);

/// How a case tells its origins to end, and what it may ask them.
#[derive(Debug, Default)]
pub struct Control {
    ending: AtomicU8,
    requests: AtomicUsize,
}

const FINISH: u8 = 1;
const ABORT: u8 = 2;

impl Control {
    /// The clients are done: what is left of a script must still come to pass.
    pub fn finish(&self) {
        self.ending.store(FINISH, Ordering::SeqCst);
    }

    /// The case has failed elsewhere.
    pub fn abort(&self) {
        self.ending.store(ABORT, Ordering::SeqCst);
    }

    /// Requests read so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst) != 0
    }

    fn is_aborted(&self) -> bool {
        self.ending.load(Ordering::SeqCst) == ABORT
    }
}

/// Plays a script on this listener, which must not block, until the case ends.
pub fn play(
    listener: &TcpListener,
    steps: &[Step<OriginAction>],
    variables: &Variables,
    control: &Control,
) -> Result<(), Failure> {
    let mut origin = Origin::new(listener, control);
    for step in steps {
        match origin.act(&step.action, variables) {
            Ok(()) => {}
            Err(_) if control.is_aborted() => return Ok(()),
            Err(mismatch) => return Err(mismatch.at(step.line, &step.text)),
        }
    }
    while !control.is_ending() {
        origin.poll();
        sleep(PAUSE);
    }
    let last = steps.last().map_or((0, "origin"), |step| (step.line, step.text.as_str()));
    match origin.unread() {
        Some(bytes) if !control.is_aborted() => {
            let mismatch = Mismatch::new("nothing more after the last step", shown(&bytes));
            Err(mismatch.at(last.0, last.1))
        }
        _ => Ok(()),
    }
}

/// Answers every request with 200, a field `x-origin` with the number, and the request as received
/// (its body without framing) as the body.
pub fn echo(listener: &TcpListener, number: usize, control: &Control) {
    let mut origin = Origin::new(listener, control);
    while !control.is_ending() {
        origin.poll();
        origin.continue_bodies();
        match origin.take(Kind::Request) {
            Ok(Some(request)) => {
                origin.message = request;
                let _ = origin.send(&echoed(&origin.message, number));
            }
            Ok(None) => sleep(PAUSE),
            Err(error) => {
                let answer = format!(
                    "HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{error}",
                    error.len()
                );
                let _ = origin.send(answer.as_bytes());
                origin.close();
            }
        }
    }
}

fn echoed(request: &Message, number: usize) -> Vec<u8> {
    let text = request.head_text();
    // The letters of a head stand for bytes.
    let head: Vec<u8> = text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect();
    let length = head.len() + request.body.len();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nx-origin: {number}\r\ncontent-type: text/plain\r\n\
         content-length: {length}\r\n\r\n"
    )
    .into_bytes();
    if !request.start_line.starts_with("HEAD ") {
        answer.extend(head);
        answer.extend_from_slice(&request.body);
    }
    answer
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
    continued: bool,
}

struct Origin<'a> {
    listener: &'a TcpListener,
    control: &'a Control,
    connections: Vec<Connection>,
    /// The connection that the last request came on.
    current: Option<usize>,
    message: Message,
}

impl<'a> Origin<'a> {
    fn new(listener: &'a TcpListener, control: &'a Control) -> Self {
        let message = Message::default();
        Self { listener, control, connections: Vec::new(), current: None, message }
    }

    fn act(&mut self, action: &OriginAction, variables: &Variables) -> Result<(), Mismatch> {
        match action {
            OriginAction::ExpectRequest { start } => {
                self.message = self.await_message(Kind::Request)?;
                start.hold(&self.message.start_line, variables)
            }
            OriginAction::ExpectHead { start } => {
                self.message = self.await_message(Kind::HeadOnly)?;
                start.hold(&self.message.start_line, variables)
            }
            OriginAction::ExpectBody => self.await_body(),
            OriginAction::ExpectBytes(text) => self.await_bytes(&text.expand(variables)?),
            OriginAction::Check(check) => check.hold(&self.message, variables),
            OriginAction::Send(text) => self.send(&text.expand(variables)?),
            OriginAction::Wait(duration) => {
                sleep(*duration);
                Ok(())
            }
            OriginAction::Close => {
                self.close();
                Ok(())
            }
            OriginAction::Reset => self.reset(),
            OriginAction::ExpectClose => self.await_close(),
            OriginAction::Nothing => Ok(()),
        }
    }

    /// Accepts and reads whatever is there.
    fn poll(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_ok() {
                let buffer = Vec::new();
                self.connections.push(Connection {
                    socket,
                    buffer,
                    ended: false,
                    continued: false,
                });
            }
        }
        self.connections.iter_mut().for_each(Connection::poll);
    }

    /// A message from any connection, the current one first.
    fn take(&mut self, kind: Kind) -> Result<Option<Message>, String> {
        let others = 0..self.connections.len();
        for index in self.current.into_iter().chain(others) {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            let parsed = message::parse(&connection.buffer, kind);
            if !matches!(parsed, Ok(None)) {
                self.current = Some(index);
            }
            if let Some((message, length)) = parsed? {
                connection.buffer.drain(..length);
                connection.continued = false;
                self.control.requests.fetch_add(1, Ordering::SeqCst);
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn wait<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut(&mut Self) -> Result<Option<T>, Mismatch>,
    ) -> Result<T, Mismatch> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.control.is_aborted() {
            self.poll();
            if let Some(found) = ready(self)? {
                return Ok(found);
            }
            sleep(PAUSE);
        }
        let unread = self.unread().unwrap_or_default();
        Err(Mismatch::new(format!("{what} within 5 s"), shown(&unread)))
    }

    fn await_message(&mut self, kind: Kind) -> Result<Message, Mismatch> {
        self.wait("a request", |origin| {
            origin.take(kind).map_err(|error| Mismatch::new("a well-formed request", error))
        })
    }

    /// Reads on after a head: parses head and body together, as they would have come.
    fn await_body(&mut self) -> Result<(), Mismatch> {
        let head = self.message.head_text().into_bytes();
        self.message = self.wait("the body", |origin| {
            let Some(connection) = origin.current() else { return Ok(None) };
            let whole = [head.as_slice(), &connection.buffer].concat();
            let parsed = message::parse(&whole, Kind::Request)
                .map_err(|error| Mismatch::new("a well-formed body", error))?;
            Ok(parsed.map(|(message, length)| {
                connection.buffer.drain(..length - head.len());
                message
            }))
        })?;
        Ok(())
    }

    fn await_bytes(&mut self, expected: &[u8]) -> Result<(), Mismatch> {
        self.wait(&shown(expected), |origin| {
            let with_bytes = origin.connections.iter().position(|c| !c.buffer.is_empty());
            origin.current = origin.current.or(with_bytes);
            let Some(connection) = origin.current() else { return Ok(None) };
            if !connection.buffer.starts_with(expected) {
                return Ok(None);
            }
            connection.buffer.drain(..expected.len());
            Ok(Some(()))
        })
    }

    fn await_close(&mut self) -> Result<(), Mismatch> {
        self.wait("the end of the connection", |origin| match origin.current() {
            Some(connection) if !connection.buffer.is_empty() => {
                Err(Mismatch::new("the end of the connection", shown(&connection.buffer)))
            }
            Some(connection) => Ok(connection.ended.then_some(())),
            None => Err(Mismatch::new("a connection with a request", "none")),
        })
    }

    fn current(&mut self) -> Option<&mut Connection> {
        self.connections.get_mut(self.current?)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let connection =
            self.current().ok_or_else(|| Mismatch::new("a connection with a request", "none"))?;
        let sent = connection
            .socket
            .set_nonblocking(false)
            .and_then(|()| connection.socket.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| connection.socket.write_all(bytes))
            .and_then(|()| connection.socket.set_nonblocking(true));
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(Mismatch::new("that the proxy reads", "a full socket for 5 s"))
            }
            // A proxy may have gone for good reasons; later steps tell.
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        if let Some(index) = self.current.take().filter(|index| *index < self.connections.len()) {
            self.connections.remove(index);
        }
    }

    fn reset(&mut self) -> Result<(), Mismatch> {
        let connection =
            self.current().ok_or_else(|| Mismatch::new("a connection with a request", "none"))?;
        // Closing without lingering sends a reset.
        socket2::SockRef::from(&connection.socket)
            .set_linger(Some(Duration::ZERO))
            .map_err(|error| Mismatch::new("to reset", error.to_string()))?;
        self.close();
        Ok(())
    }

    /// Tells clients that wait for it to send their bodies, RFC 9110 section 10.1.1.
    fn continue_bodies(&mut self) {
        for connection in self.connections.iter_mut().filter(|connection| !connection.continued) {
            let head = message::parse(&connection.buffer, Kind::HeadOnly);
            let whole = message::parse(&connection.buffer, Kind::Request);
            if let (Ok(Some((head, _))), Ok(None)) = (head, whole)
                && head.values("expect").any(|value| value.eq_ignore_ascii_case("100-continue"))
            {
                connection.continued = true;
                let _ = connection.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
    }

    /// Bytes that no step has read.
    fn unread(&self) -> Option<Vec<u8>> {
        let unread: Vec<u8> = self.connections.iter().flat_map(|c| c.buffer.clone()).collect();
        (!unread.is_empty()).then_some(unread)
    }
}

impl Connection {
    fn poll(&mut self) {
        let mut piece = [0; 64 * 1024];
        while !self.ended {
            match self.socket.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.ended = true,
            }
        }
    }
}
