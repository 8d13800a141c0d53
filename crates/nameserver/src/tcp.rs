//! DNS over TCP, RFC 7766: many queries a connection, one after the other, each with its length before it.

use crate::counters::{Counters, ZoneCounters, raise};
use crate::sockets::Service;
use model::limits;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zone::{Outcome, Transport};

/// For the next whole query, and for the client to take our answers.
const PATIENCE: Duration = Duration::from_millis(limits::DNS_TCP_IDLE_MS);
/// For the first query of a connection that was taken just before a stop: its client has had no chance yet.
const FIRST_QUERY_PATIENCE: Duration = Duration::from_secs(1);
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Answers that wait for each other before they are sent.
const PENDING_BYTES: usize = 64 << 10;
const READ_BUFFER_BYTES: usize = 4 << 10;

pub(crate) async fn serve(listener: TcpListener, service: Service) {
    let mut stop = service.stop.clone();
    let mut reader = service.zones.reader();
    let mut connections = JoinSet::new();
    loop {
        // Connections take the current zones for each query, so this speaks for all of them.
        reader.current();
        reader.acknowledge();
        tokio::select! {
            _ = Service::stopped(&mut stop) => break,
            _ = reader.changed() => {}
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &service, &mut connections),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
    drop((listener, reader));
    while connections.join_next().await.is_some() {}
}

fn admit(stream: TcpStream, service: &Service, connections: &mut JoinSet<()>) {
    let Ok(permit) = service.connections().try_acquire_owned() else {
        return raise(&service.counters.tcp_refused);
    };
    let service = service.clone();
    connections.spawn(async move {
        let _permit = permit;
        let _open = Open::new(&service.counters);
        // Whatever ends a connection is the client's doing, and it is counted where it happens.
        let _ = Connection::new(stream, &service).run().await;
    });
}

/// Counts a connection for as long as it lives.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        raise(&counters.tcp_connections);
        Open(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.tcp_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection<'a> {
    stream: BufReader<TcpStream>,
    service: &'a Service,
    generation: u64,
    zones: ZoneCounters,
    query: Vec<u8>,
    answer: Vec<u8>,
    pending: Vec<u8>,
    /// Nothing was asked yet.
    is_new: bool,
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream, service: &'a Service) -> Self {
        // Without it a small answer may wait for the client's acknowledgement of the last one; it works all the same.
        let _ = stream.set_nodelay(true);
        Connection {
            stream: BufReader::with_capacity(READ_BUFFER_BYTES, stream),
            service,
            generation: 0,
            zones: ZoneCounters::default(),
            query: Vec::new(),
            answer: Vec::new(),
            pending: Vec::new(),
            is_new: true,
        }
    }

    /// Until the client closes, breaks the protocol or makes us wait too long, or until a stop between two queries.
    async fn run(&mut self) -> io::Result<()> {
        let mut stop = self.service.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = ending(&mut stop, self.is_new), if !self.has_query() => return Ok(()),
                read = self.read_query() => read?,
            }
            self.is_new = false;
            if !self.answer() {
                return self.flush().await;
            }
            if !self.has_query() || self.pending.len() >= PENDING_BYTES {
                self.flush().await?;
            }
        }
    }

    async fn read_query(&mut self) -> io::Result<()> {
        let whole = async {
            let length = self.stream.read_u16().await?;
            self.query.resize(usize::from(length), 0);
            self.stream.read_exact(&mut self.query).await.map(|_| ())
        };
        in_time(&self.service.counters, whole).await
    }

    /// A whole query has arrived already.
    fn has_query(&self) -> bool {
        let arrived = self.stream.buffer();
        let length = arrived.first_chunk::<2>().map(|length| u16::from_be_bytes(*length));
        length.is_some_and(|length| arrived.len() >= 2 + usize::from(length))
    }

    /// False for what is no query: a client that sends such a thing has lost its place in the stream.
    fn answer(&mut self) -> bool {
        // In this order: a change in between is seen by the next query.
        let (generation, zones) = (self.service.zones.generation(), self.service.zones.current());
        if self.generation != generation {
            self.zones = self.service.counters.of_zones(&zones);
            self.generation = generation;
        }
        let outcome = zones.answer(&self.query, Transport::Tcp, &mut self.answer);
        self.service.counters.count(outcome, Transport::Tcp, &self.zones);
        let length = u16::try_from(self.answer.len());
        let (Outcome::Answered { .. }, Ok(length)) = (outcome, length) else { return false };
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(&self.answer);
        true
    }

    async fn flush(&mut self) -> io::Result<()> {
        in_time(&self.service.counters, self.stream.get_mut().write_all(&self.pending)).await?;
        self.pending.clear();
        Ok(())
    }
}

async fn ending(stop: &mut watch::Receiver<bool>, is_new: bool) {
    Service::stopped(stop).await;
    if is_new {
        tokio::time::sleep(FIRST_QUERY_PATIENCE).await;
    }
}

async fn in_time(
    counters: &Counters,
    work: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    match timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => {
            raise(&counters.tcp_timeouts);
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}
