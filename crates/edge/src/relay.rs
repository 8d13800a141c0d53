//! Bytes between a client and an endpoint, both ways, as they come. A side that ends its half is passed on as such, and
//! the other half goes on; a side that is slow holds the other back; buffers are lent while there are bytes to hold.

use crate::buffers::{Buffer, Buffers, LARGE_BYTES, SMALL_BYTES};
use crate::deadline::Deadline;
use crate::transport::{Io, poll_fill};
use crate::worker::Worker;
use model::limits::{STREAM_IDLE_TIMEOUT_MS, TUNNEL_DRAIN_IDLE_MS};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have ended.
    Closed,
    /// A side went away in the middle; the other one is told with a reset.
    Reset,
    /// Nothing came for too long, or the process ends.
    Idle,
}

pub(crate) struct Relay<'a, C, U> {
    worker: &'a Worker,
    deadline: &'a Deadline,
    client: C,
    upstream: U,
    up: Way,
    down: Way,
    is_draining: bool,
}

/// One direction.
#[derive(Default)]
struct Way {
    buffer: Option<Buffer>,
    bytes: u64,
    /// The last read filled its buffer: the next one gets a larger one.
    is_bulk: bool,
    /// Something was written that may still lie in a TLS session.
    is_unflushed: bool,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The reader's side has ended; what is left is written, then the end is passed on.
    Ending,
    Closed,
}

impl<'a, C: Io, U: Io> Relay<'a, C, U> {
    pub fn new(worker: &'a Worker, deadline: &'a Deadline, client: C, upstream: U) -> Self {
        deadline.stall_after(STREAM_IDLE_TIMEOUT_MS);
        let (up, down) = (Way::default(), Way::default());
        Relay { worker, deadline, client, upstream, up, down, is_draining: false }
    }

    /// Bytes from the client, and to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = self.bytes();
        if !self.is_draining && self.worker.deadlines.is_draining() {
            self.is_draining = true;
            self.progress();
        }
        let buffers = &self.worker.buffers;
        let up = self.up.poll(&mut self.client, &mut self.upstream, buffers, cx);
        let down = self.down.poll(&mut self.upstream, &mut self.client, buffers, cx);
        if matches!(up, Poll::Ready(Err(_))) || matches!(down, Poll::Ready(Err(_))) {
            // Whichever it was: the one that is gone is not harmed by it.
            self.client.reset_on_close();
            self.upstream.reset_on_close();
            return Poll::Ready(End::Reset);
        }
        if self.up.state == State::Closed && self.down.state == State::Closed {
            return Poll::Ready(End::Closed);
        }
        if self.bytes() != before {
            self.progress();
        }
        ready!(self.deadline.poll(cx));
        // Both get a FIN, as far as what waits for them lets it.
        let _ = Pin::new(&mut self.client).poll_shutdown(cx);
        let _ = Pin::new(&mut self.upstream).poll_shutdown(cx);
        Poll::Ready(End::Idle)
    }

    fn progress(&self) {
        self.deadline.stall_after(match self.is_draining {
            true => TUNNEL_DRAIN_IDLE_MS,
            false => STREAM_IDLE_TIMEOUT_MS,
        });
    }
}

impl<C, U> Drop for Relay<'_, C, U> {
    fn drop(&mut self) {
        for buffer in [self.up.buffer.take(), self.down.buffer.take()].into_iter().flatten() {
            self.worker.buffers.give_back(buffer);
        }
    }
}

impl Way {
    /// Ready when the end was passed on.
    fn poll<R: Io, W: Io>(
        &mut self,
        from: &mut R,
        to: &mut W,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(to, buffers, cx))?;
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Ending => {
                    // An end that cannot be passed on is none that anybody misses.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Closed;
                }
                State::Open => match self.poll_read(from, buffers, cx) {
                    Poll::Ready(read) => read?,
                    Poll::Pending => {
                        if self.is_unflushed && Pin::new(&mut *to).poll_flush(cx)?.is_ready() {
                            self.is_unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn poll_write<W: Io>(
        &mut self,
        to: &mut W,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &mut self.buffer else { return Poll::Ready(Ok(())) };
        while !buffer.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, buffer.data()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    buffer.consume(count);
                    self.bytes += count as u64;
                    self.is_unflushed = true;
                }
            }
        }
        if let Some(buffer) = self.buffer.take() {
            buffers.give_back(buffer);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read<R: Io>(
        &mut self,
        from: &mut R,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_bulk {
            self.buffer = Some(buffers.large());
        }
        let room = if self.is_bulk { LARGE_BYTES } else { SMALL_BYTES };
        let polled = poll_fill(from, &mut self.buffer, buffers, cx);
        let count = ready!(polled)?;
        // A large buffer goes on while at least the room of a small one is used.
        self.is_bulk = count >= room.min(SMALL_BYTES);
        if count == 0 {
            self.state = State::Ending;
        }
        Poll::Ready(Ok(()))
    }
}
