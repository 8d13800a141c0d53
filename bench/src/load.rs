//! Load generator and origin in one thread over one epoll instance. Both together must be cheaper
//! than any server under test, so that the server's CPU fills first: per request two reads, two
//! writes, a share of one epoll wait, and no allocation.
//!
//! Under load the thread never sleeps: a server whose bytes had to wake it would pay for the wakeup,
//! the more often the slower it is, as it does not for clients behind a network.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Client, Target};
use crate::http;
use crate::origin::{OriginConnection, Pages};
use crate::sys::{self, Epoll};

/// How requests follow each other.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// The next request as soon as an answer is complete.
    Saturate,
    /// So many requests a second, evenly spaced, whether or not answers come.
    PerSecond(u32),
    /// As `Saturate`, each request on a connection of its own.
    Reconnect,
}

/// What one round sends.
pub struct Workload {
    pub target: Target,
    pub path: &'static str,
    pub connections: usize,
    pub pace: Pace,
}

const BUFFER: usize = 256 * 1024;
/// Longest wait of a poller in one go, in milliseconds.
const TICK: u16 = 20;
/// Pauses of the CPU between two looks without an event: some microseconds in all, so that the
/// looks do not slow down the server's CPU, which writes what they read.
const PAUSES: usize = 50;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const LISTENER: u64 = u64::MAX;
/// Set in the token of a client connection; without it the token is an origin connection's.
const CLIENT: u64 = 1 << 62;

/// The origin, always there, and the clients of the load that runs now.
pub struct Generator {
    epoll: Epoll,
    tokens: Vec<u64>,
    buffer: Box<[u8]>,
    listener: TcpListener,
    origins: Vec<Option<OriginConnection>>,
    pages: Pages,
}

/// A load that has begun: its connections are open.
pub struct Load {
    target: Target,
    pace: Pace,
    request: Vec<u8>,
    clients: Vec<Client>,
    /// Requests whose answer came whole, since the load began.
    pub answered: u64,
    /// Time in which nothing was to do.
    pub idle: Duration,
    /// Where the search for a free connection begins (paced load).
    next: usize,
    due: Instant,
}

impl Generator {
    pub fn new() -> Result<Generator> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        sys::plain_congestion_control(&listener);
        let epoll = Epoll::new()?;
        epoll.add(&listener, LISTENER)?;
        Ok(Generator {
            epoll,
            tokens: Vec::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            listener,
            origins: Vec::new(),
            pages: Pages::new(),
        })
    }

    /// Where the servers under test reach the origin.
    pub fn origin(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Opens the connections of a load and sends its first requests.
    pub fn begin(&mut self, workload: &Workload) -> Result<Load> {
        let request = http::request(http::HOST, workload.path);
        let mut load = Load::new(workload.target.clone(), workload.pace, request);
        for index in 0..workload.connections {
            let client = self.connect(&workload.target, index)?;
            load.clients.push(client);
        }
        if !matches!(workload.pace, Pace::PerSecond(_)) {
            for client in &mut load.clients {
                client.send(&load.request)?;
            }
        }
        Ok(load)
    }

    /// Drives load and origin for a while.
    pub fn run(&mut self, load: &mut Load, time: Duration) -> Result<()> {
        let mut now = Instant::now();
        let end = now + time;
        while now < end {
            if let Pace::PerSecond(rate) = load.pace {
                load.send_due(now, rate)?;
            }
            let had_events = self.turn(load, 0)?;
            if !had_events {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
            }
            let before = std::mem::replace(&mut now, Instant::now());
            if !had_events {
                load.idle += now - before;
            }
        }
        Ok(())
    }

    /// One request on a connection of its own; the whole answer, head and body.
    pub fn fetch(&mut self, target: &Target, host: &str, path: &str) -> Result<Vec<u8>> {
        let mut poller = self.poller(target, host, path)?;
        self.poll(&mut poller)
    }

    /// A load of one connection for [`Generator::poll`].
    pub fn poller(&mut self, target: &Target, host: &str, path: &str) -> Result<Load> {
        // A pace of nothing: only `poll` sends.
        let request = http::request(host, path);
        let mut poller = Load::new(target.clone(), Pace::PerSecond(0), request);
        poller.clients.push(self.connect(target, 0)?);
        Ok(poller)
    }

    /// The next answer on a poller's connection, whole.
    pub fn poll(&mut self, poller: &mut Load) -> Result<Vec<u8>> {
        let Some(client) = poller.clients.first_mut() else { bail!("a poller has one client") };
        client.capture();
        client.send(&poller.request)?;
        let (before, deadline) = (poller.answered, Instant::now() + ANSWER_TIMEOUT);
        while poller.answered == before {
            if Instant::now() > deadline {
                bail!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
            }
            self.turn(poller, TICK)?;
        }
        Ok(poller.clients.first_mut().map(Client::take_captured).unwrap_or_default())
    }

    fn connect(&mut self, target: &Target, index: usize) -> Result<Client> {
        let client = Client::connect(target)?;
        self.epoll.add(client.stream(), CLIENT | index as u64)?;
        Ok(client)
    }

    /// Waits once and handles what has come: all of it, even after an error, since an event that is
    /// passed over does not come again. True when there was something.
    fn turn(&mut self, load: &mut Load, milliseconds: u16) -> Result<bool> {
        let mut tokens = std::mem::take(&mut self.tokens);
        self.epoll.wait(milliseconds, &mut tokens)?;
        let mut result = Ok(!tokens.is_empty());
        for &token in &tokens {
            let handled = if token == LISTENER {
                self.accept()
            } else if token & CLIENT == 0 {
                self.on_origin(token as usize);
                Ok(())
            } else {
                self.on_client(load, (token & !CLIENT) as usize)
            };
            result = result.and_then(|had_events| handled.map(|()| had_events));
        }
        self.tokens = tokens;
        result
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error.into()),
            };
            let free = self.origins.iter().position(Option::is_none);
            let index = free.unwrap_or(self.origins.len());
            let connection = OriginConnection::new(stream)?;
            self.epoll.add(connection.stream(), index as u64)?;
            match self.origins.get_mut(index) {
                Some(slot) => *slot = Some(connection),
                None => self.origins.push(Some(connection)),
            }
        }
    }

    /// A connection that ends is the server's affair: the client sees whether an answer is missing.
    fn on_origin(&mut self, index: usize) {
        let Some(slot) = self.origins.get_mut(index) else { return };
        let Some(connection) = slot else { return };
        let result: io::Result<()> = connection.on_event(&self.pages, &mut self.buffer);
        if result.is_err() {
            *slot = None;
        }
    }

    fn on_client(&mut self, load: &mut Load, index: usize) -> Result<()> {
        let Some(client) = load.clients.get_mut(index) else { return Ok(()) };
        if !client.on_event(&mut self.buffer)? {
            return Ok(());
        }
        load.answered += 1;
        match load.pace {
            Pace::Saturate => client.send(&load.request),
            Pace::PerSecond(_) => Ok(()),
            Pace::Reconnect => {
                *client = Client::connect(&load.target)?;
                self.epoll.add(client.stream(), CLIENT | index as u64)?;
                client.send(&load.request)
            }
        }
    }
}

impl Load {
    fn new(target: Target, pace: Pace, request: Vec<u8>) -> Load {
        let (clients, due) = (Vec::new(), Instant::now());
        Load { target, pace, request, clients, answered: 0, idle: Duration::ZERO, next: 0, due }
    }

    /// Sends every request that is due and has a free connection.
    fn send_due(&mut self, now: Instant, rate: u32) -> Result<()> {
        let Some(interval) = Duration::from_secs(1).checked_div(rate) else { return Ok(()) };
        while self.due <= now {
            let Some(index) = self.free_client() else { return Ok(()) };
            if let Some(client) = self.clients.get_mut(index) {
                client.send(&self.request)?;
            }
            self.due += interval;
        }
        Ok(())
    }

    /// The next connection, in turn, that waits for no answer.
    fn free_client(&mut self) -> Option<usize> {
        let count = self.clients.len();
        let free = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|&index| self.clients.get(index).is_some_and(|client| !client.is_busy()))?;
        self.next = free + 1;
        Some(free)
    }
}
