//! The echo origin behind `cutwater origin` and `cutwater up --echo`: a small HTTP server that answers
//! with a description of what it received, and whose paths provoke the situations that a proxy must
//! bear (late, slow, large, missing and endless answers, WebSocket).
//!
//! Here: accepting, the choice between HTTP/1 and HTTP/2, and stopping. The meaning of a path is in
//! `plan`, what is answered in `answer`, the two protocols in `http1` and `http2`. Not here: TLS, and
//! anything that knows Cutwater's configuration.
//!
//! HTTP/1 is read by hand, because the description shows names, their case and their order as they
//! were on the wire, which a header map loses.
#![forbid(unsafe_code)]

mod answer;
mod body;
mod http1;
mod http2;
mod limits;
mod plan;
mod websocket;

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What an origin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Shown as `name` in every description, so that one can tell which endpoint answered.
    pub name: String,
}

/// Serves connections of `listener` until `stop` completes; then finishes what is under way, for five
/// seconds at most, and returns.
///
/// Runs on any tokio runtime with network and time; its connections are tasks of that runtime.
pub async fn serve(listener: TcpListener, options: Options, stop: impl Future<Output = ()>) {
    let mut origin = Origin::new(options);
    origin.accept(&listener, stop).await;
    drop(listener);
    origin.finish().await;
}

/// An origin whose listening ends apart from its connections, so that another process can go on accepting.
pub struct Origin {
    name: Arc<str>,
    places: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
    connections: JoinSet<()>,
}

impl Origin {
    pub fn new(options: Options) -> Self {
        Origin {
            name: options.name.into(),
            places: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            stopping: watch::Sender::new(false),
            connections: JoinSet::new(),
        }
    }

    /// Takes connections until `end` completes, and serves them; they go on after that.
    pub async fn accept(&mut self, listener: &TcpListener, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                Some(_) = self.connections.join_next(), if !self.connections.is_empty() => {}
                accepted = accept(listener, &self.places) => {
                    if let Some((io, place)) = accepted {
                        let stop = Stop(self.stopping.subscribe());
                        self.connections.spawn(connection(io, self.name.clone(), stop, place));
                    }
                }
            }
        }
    }

    /// Ends connections with what they are answering, for five seconds at most.
    pub async fn finish(mut self) {
        self.stopping.send_replace(true);
        let finished = async { while self.connections.join_next().await.is_some() {} };
        // What is cut off here is cut off by dropping the set, which ends its tasks.
        let _ = timeout(limits::DRAIN, finished).await;
    }
}

/// Tells a connection that the origin is about to stop.
#[derive(Clone)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes once the origin stops.
    async fn wait(&mut self) {
        // An error means that the sender is gone, which is the end as well.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((io, _)) => Some((io, place)),
        Err(_) => {
            // Out of descriptors, or a connection that was reset before we took it: wait, go on.
            sleep(limits::ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(io: TcpStream, name: Arc<str>, mut stop: Stop, place: OwnedSemaphorePermit) {
    let _ = io.set_nodelay(true);
    // A connection that fails has nobody left to be told.
    let _ = chosen_protocol(io, name, &mut stop).await;
    drop(place);
}

/// HTTP/2 with prior knowledge begins with a fixed text (RFC 9113 section 3.4) that no HTTP/1 request
/// line can begin with.
async fn chosen_protocol(mut io: TcpStream, name: Arc<str>, stop: &mut Stop) -> io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = BytesMut::with_capacity(4096);
    loop {
        let seen = first.len().min(PREFACE.len());
        if first[..seen] != PREFACE[..seen] {
            return http1::serve(io, first, name, stop).await;
        }
        if seen == PREFACE.len() {
            return http2::serve(io, first, name, stop).await;
        }
        let read = tokio::select! {
            () = stop.wait() => return Ok(()),
            read = timeout(limits::IDLE, io.read_buf(&mut first)) => read??,
        };
        if read == 0 {
            return Ok(());
        }
    }
}
