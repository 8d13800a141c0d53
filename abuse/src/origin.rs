//! An origin whose answers a program writes. A thread a connection, blocking, bounded in time.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use testkit::message::{self, Kind, Message};

/// Longer than any program.
const PATIENCE: Duration = Duration::from_secs(300);
/// Threads here need little, and there may be thousands.
const STACK_BYTES: usize = 128 << 10;

pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    /// By number; a connection is busy from a request's arrival to its answer.
    connections: Mutex<HashMap<u64, (TcpStream, Arc<AtomicBool>)>>,
    accepted: AtomicU64,
}

/// A proxy's connection to an origin.
pub struct Peer {
    pub stream: TcpStream,
    held: Vec<u8>,
    number: u64,
    busy: Arc<AtomicBool>,
    shared: Arc<Shared>,
    note: Option<Note>,
}

/// Told of each request as it is received.
type Note = Box<dyn Fn(&Message) + Send>;

impl Origin {
    /// Runs `serve` for each connection.
    pub fn start(serve: impl Fn(&mut Peer) + Send + Sync + 'static) -> Result<Origin> {
        let listener = listen()?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serve = Arc::new(serve);
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if for_thread.ending.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(peer), serve) = (Peer::new(stream, &for_thread), Arc::clone(&serve)) else {
                    continue;
                };
                let mut peer = peer;
                // A connection that gets no thread is closed: the program sees it in its figures.
                let _ = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                    serve(&mut peer);
                });
            }
        });
        Ok(Origin { address, shared })
    }

    /// Answers every request with the last segment of its path.
    pub fn echo() -> Result<Origin> {
        Origin::start(|peer| {
            while let Ok(Some(request)) = peer.request() {
                if peer.answer(&echoed(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// Closes connections without a request in progress, as an origin may: what a proxy keeps for reuse is gone
    /// then, and its descriptors can be compared.
    pub fn close_idle(&self) {
        let mut connections = lock(&self.shared.connections);
        connections.retain(|_, (stream, busy)| {
            let is_busy = busy.load(Ordering::SeqCst);
            if !is_busy {
                let _ = stream.shutdown(Shutdown::Both);
            }
            is_busy
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        for (_, (stream, _)) in lock(&self.shared.connections).drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Peer {
    fn new(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<Peer> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let busy = Arc::new(AtomicBool::new(false));
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        lock(&shared.connections).insert(number, (stream.try_clone()?, Arc::clone(&busy)));
        Ok(Peer { stream, held: Vec::new(), number, busy, shared: Arc::clone(shared), note: None })
    }

    pub fn on_request(&mut self, note: impl Fn(&Message) + Send + 'static) {
        self.note = Some(Box::new(note));
    }

    /// The next request, whole; none at the end of the connection.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        self.message(Kind::Request)
    }

    /// The next head; what follows stays.
    pub fn head(&mut self) -> io::Result<Option<Message>> {
        self.message(Kind::HeadOnly)
    }

    fn message(&mut self, kind: Kind) -> io::Result<Option<Message>> {
        loop {
            let parsed = message::parse(&self.held, kind).map_err(io::Error::other)?;
            if let Some((message, length)) = parsed {
                self.held.drain(..length);
                self.busy.store(true, Ordering::SeqCst);
                if let Some(note) = &self.note {
                    note(&message);
                }
                return Ok(Some(message));
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece)? {
                0 => return Ok(None),
                count => self.held.extend_from_slice(&piece[..count]),
            }
        }
    }

    pub fn answer(&mut self, body: &[u8]) -> io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = [head.as_bytes(), body].concat();
        // Before the answer: the proxy may send the next request at once.
        self.busy.store(false, Ordering::SeqCst);
        self.stream.write_all(&answer)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The connection ends with a reset when its `serve` returns.
    pub fn reset(&mut self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether the proxy closes within this time; bytes that come are dropped.
    pub fn closes_within(&mut self, time: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(time));
        let mut piece = [0; 4 << 10];
        let closes = loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => {
                    break !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        };
        let _ = self.stream.set_read_timeout(Some(PATIENCE));
        closes
    }
}

impl Drop for Peer {
    /// The clone that `close_idle` uses must not keep the socket open.
    fn drop(&mut self) {
        lock(&self.shared.connections).remove(&self.number);
    }
}

/// The last segment of the path.
pub fn echoed(request: &Message) -> Vec<u8> {
    let target = request.request().map(|(_, target)| target).unwrap_or_default();
    target.rsplit('/').next().unwrap_or_default().as_bytes().to_vec()
}

/// A listener with a long queue, on a port of the system's choice.
fn listen() -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A thread that panicked leaves data that are still good for counting.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
