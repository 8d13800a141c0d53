//! The server side of HTTP/2: one connection, a task for each stream. A stream's request becomes a head of HTTP/1.1 and
//! goes the same way as every other (`http2_stream`).

use crate::buffers::Buffer;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::http2_budget::Budget;
use crate::http2_io::{Drain, gather};
use crate::http2_stream;
use crate::port_limits::PortLimits;
use crate::transport::Io;
use crate::worker::Worker;
use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http::Request;
use model::limits;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Streams that we remember after a reset of ours, and resets that a client may provoke: by faults, and by streams beyond
/// its limit before it has read that there is one.
const RESETS: usize = 50;
const FAULT_RESETS: usize = 100;
/// What a client gets to say goodbye.
const FAREWELL_MS: u64 = 1_000;

type Http2<S> = h2::server::Connection<crate::http2_io::Gathered<S>, Bytes>;
type Stream = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// Streams of one connection that are being served, and the deadline that holds while there are none.
pub(crate) struct Load {
    streams: Cell<usize>,
    deadline: Deadline,
    budget: Rc<Budget>,
    idle_timeout_ms: u64,
}

impl Load {
    fn begin(&self) {
        self.streams.set(self.streams.get() + 1);
        self.deadline.lift();
    }

    pub fn end(&self) {
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 {
            self.deadline.stall_after(self.idle_timeout_ms);
        }
    }
}

/// `first` is what was read before it was known that the client speaks HTTP/2.
pub(crate) async fn serve<S: Io>(
    worker: &Rc<Worker>,
    connection: Rc<Connection>,
    io: S,
    first: Option<Buffer>,
    deadline: Deadline,
) {
    // The first request has to be whole in this time, as in HTTP/1.1. A header block without its end is not seen from
    // outside of `h2`: one that comes later ends with the connection's idle time.
    let PortLimits { head_timeout_ms, idle_timeout_ms, streams, .. } = *connection.limits();
    deadline.stall_after(head_timeout_ms);
    let _place = worker.census.http2(worker.index);
    let budget = Rc::new(Budget::new(Instant::now(), streams));
    let (io, drain) = gather(io, first, Some(Rc::clone(&budget)));
    let load = Rc::new(Load { streams: Cell::new(0), deadline, budget, idle_timeout_ms });
    let handshake = {
        let mut handshake = pin!(settings(streams).handshake(io));
        poll_fn(|cx| {
            let polled = handshake.as_mut().poll(cx);
            let drained = drain.poll(cx);
            match (polled, drained) {
                (_, Poll::Ready(Err(_))) => Poll::Ready(None),
                (Poll::Ready(result), _) => Poll::Ready(result.ok()),
                (Poll::Pending, _) => load.deadline.poll(cx).map(|_| None),
            }
        })
        .await
    };
    drain.give_back(&worker.buffers);
    if let Some(http2) = handshake {
        Driver { worker, http2, drain, load, farewell: Farewell::No }.run(&connection).await;
    }
}

fn settings(streams: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .max_header_list_size(limits::HTTP2_HEADER_LIST_BYTES as u32)
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS)
        .max_concurrent_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(FAULT_RESETS))
        .initial_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER_BYTES)
        .enable_connect_protocol();
    builder
}

struct Driver<'w, S: Io> {
    worker: &'w Rc<Worker>,
    http2: Http2<S>,
    drain: Drain<S>,
    load: Rc<Load>,
    farewell: Farewell,
}

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    No,
    /// GOAWAY was sent; streams that run may end.
    Graceful,
    /// Nothing runs, and the client has a moment to read what was sent.
    Last,
}

impl<S: Io> Driver<'_, S> {
    async fn run(&mut self, connection: &Rc<Connection>) {
        while let Some((request, respond)) = poll_fn(|cx| self.poll_stream(cx)).await {
            self.load.begin();
            let (worker, load) = (Rc::clone(self.worker), Rc::clone(&self.load));
            let connection = Rc::clone(connection);
            tokio::task::spawn_local(async move {
                let budget = Rc::clone(&load.budget);
                http2_stream::serve(&worker, &connection, request, respond, budget).await;
                load.end();
            });
        }
        // What is left to send is a GOAWAY at most.
        poll_fn(|cx| match self.drain.poll(cx) {
            Poll::Pending => self.load.deadline.poll(cx).map(|_| ()),
            Poll::Ready(_) => Poll::Ready(()),
        })
        .await;
    }

    /// The next stream; none when the connection is over.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        let polled = self.http2.poll_accept(cx);
        if let Poll::Ready(Err(_)) = self.drain.poll(cx) {
            return Poll::Ready(None);
        }
        if self.load.budget.is_used_up(Instant::now) {
            self.cut_off(cx);
            return Poll::Ready(None);
        }
        match polled {
            Poll::Ready(Some(Ok(stream))) => Poll::Ready(Some(stream)),
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => self.poll_end(cx),
        }
    }

    /// Ends a connection that costs more than it gets done; its streams end with it.
    fn cut_off(&mut self, cx: &mut Context<'_>) {
        self.http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        // Writes the GOAWAY; whether the connection is closed with that is the same here.
        let _ = self.http2.poll_closed(cx);
        self.load.deadline.stall_after(FAREWELL_MS);
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        if self.worker.deadlines.is_draining() && self.farewell == Farewell::No {
            self.farewell = Farewell::Graceful;
            self.http2.graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        match self.load.deadline.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) if self.farewell == Farewell::Last || self.load.is_aborted() => {
                Poll::Ready(None)
            }
            Poll::Ready(_) => {
                self.farewell = Farewell::Last;
                self.http2.abrupt_shutdown(Reason::NO_ERROR);
                self.load.deadline.stall_after(FAREWELL_MS);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Load {
    fn is_aborted(&self) -> bool {
        self.deadline.passed() == Some(crate::deadline::Passed::Cap)
    }
}
