//! Load generator and origin in one thread over one epoll instance. Both together must be cheaper
//! than any server under test, so that the server's CPU fills first: per request two reads, two
//! writes, a share of one epoll wait, and no allocation.
//!
//! Under load the thread never sleeps: a server whose bytes had to wake it would pay for the wakeup,
//! the more often the slower it is, as it does not for clients behind a network.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Client, Target};
use crate::http::Captured;
use crate::origin::{OriginConnection, Pages};
use crate::script::Script;
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
    pub script: Arc<Script>,
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
    script: Arc<Script>,
    clients: Vec<Client>,
    /// Requests whose answer came whole, since the load began.
    pub answered: u64,
    /// Time in which nothing was to do.
    pub idle: Duration,
    /// From the moment at which a request was due to the end of its answer, in nanoseconds, where it is asked for.
    latencies: Option<Vec<u64>>,
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
        let mut load = self.open(&workload.target, &workload.script, workload.pace);
        self.add(&mut load, workload.connections)?;
        if !matches!(workload.pace, Pace::PerSecond(_)) {
            load.clients.iter_mut().try_for_each(Client::begin)?;
        }
        Ok(load)
    }

    /// A load without connections yet, for [`Generator::add`].
    pub fn open(&self, target: &Target, script: &Arc<Script>, pace: Pace) -> Load {
        Load::new(target.clone(), pace, Arc::clone(script))
    }

    /// Opens more connections of a load.
    pub fn add(&mut self, load: &mut Load, connections: usize) -> Result<()> {
        for _ in 0..connections {
            let index = load.clients.len();
            let mut client = Client::connect(&load.target, &load.script)?;
            client.begin_at(index);
            self.epoll.add(client.stream(), CLIENT | index as u64)?;
            load.clients.push(client);
        }
        Ok(())
    }

    /// One exchange on each connection from `first` on, a few at a time, so that they are open and idle.
    pub fn exchange_once(&mut self, load: &mut Load, first: usize) -> Result<()> {
        for index in first..load.clients.len() {
            let (before, deadline) = (load.answered, Instant::now() + ANSWER_TIMEOUT);
            if let Some(client) = load.clients.get_mut(index) {
                client.send(1)?;
            }
            while load.answered == before {
                if Instant::now() > deadline {
                    bail!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                }
                self.turn(load, TICK)?;
            }
        }
        Ok(())
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

    /// One exchange of a script on a connection of its own; the whole answer.
    pub fn fetch(&mut self, target: &Target, script: &Arc<Script>) -> Result<Captured> {
        let mut poller = self.poller(target, script)?;
        self.poll(&mut poller)
    }

    /// A load of one connection for [`Generator::poll`].
    pub fn poller(&mut self, target: &Target, script: &Arc<Script>) -> Result<Load> {
        // A pace of nothing: only `poll` sends.
        let mut poller = self.open(target, script, Pace::PerSecond(0));
        self.add(&mut poller, 1)?;
        Ok(poller)
    }

    /// The next answer on a poller's connection, whole.
    pub fn poll(&mut self, poller: &mut Load) -> Result<Captured> {
        let Some(client) = poller.clients.first_mut() else { bail!("a poller has one client") };
        client.capture();
        self.exchange_once(poller, 0)?;
        Ok(poller.clients.first_mut().map(Client::take_captured).unwrap_or_default())
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
        let complete = client.on_event(&mut self.buffer)?;
        if complete == 0 {
            return Ok(());
        }
        load.answered += complete as u64;
        if let Some(latencies) = &mut load.latencies {
            latencies.push(client.due.elapsed().as_nanos() as u64);
        }
        match load.pace {
            Pace::Saturate => client.send(complete),
            Pace::PerSecond(_) => Ok(()),
            Pace::Reconnect => {
                *client = Client::connect(&load.target, &load.script)?;
                self.epoll.add(client.stream(), CLIENT | index as u64)?;
                client.begin()
            }
        }
    }
}

impl Load {
    fn new(target: Target, pace: Pace, script: Arc<Script>) -> Load {
        Load {
            target,
            pace,
            script,
            clients: Vec::new(),
            answered: 0,
            idle: Duration::ZERO,
            latencies: None,
            next: 0,
            due: Instant::now(),
        }
    }

    /// Forgets the latencies so far and keeps those from now on. For paced loads with one request in flight on a
    /// connection.
    pub fn keep_latencies(&mut self) {
        self.latencies = Some(Vec::new());
    }

    pub fn take_latencies(&mut self) -> Vec<u64> {
        self.latencies.take().unwrap_or_default()
    }

    /// Sends every request that is due and has a free connection.
    fn send_due(&mut self, now: Instant, rate: u32) -> Result<()> {
        let Some(interval) = Duration::from_secs(1).checked_div(rate) else { return Ok(()) };
        while self.due <= now {
            let Some(index) = self.free_client() else { return Ok(()) };
            if let Some(client) = self.clients.get_mut(index) {
                client.due = self.due;
                client.send(1)?;
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
