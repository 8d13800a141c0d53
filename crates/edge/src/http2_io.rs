//! The transport under `h2`: gives back the bytes that were read to tell the version of HTTP, and gathers what `h2`
//! writes, which flushes after each frame, until the driver sends it after each poll of the connection. What is read is
//! counted on the way.

use crate::buffers::{Buffer, Buffers};
use crate::http2_budget::Budget;
use crate::transport::{Io, poll_write_all};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than this is not gathered: the connection then waits for the socket.
const GATHER_BYTES: usize = 64 << 10;
/// Room that is kept while a connection is idle.
const KEPT_BYTES: usize = 4 << 10;

/// The half that `h2` owns.
pub(crate) struct Gathered<S>(Rc<RefCell<Shared<S>>>);

/// The half that the driver keeps.
pub(crate) struct Drain<S>(Rc<RefCell<Shared<S>>>);

struct Shared<S> {
    io: S,
    first: Option<Buffer>,
    /// Of what a client sends; an origin has none.
    budget: Option<Rc<Budget>>,
    output: Vec<u8>,
    sent: usize,
}

pub(crate) fn gather<S: Io>(
    io: S,
    first: Option<Buffer>,
    budget: Option<Rc<Budget>>,
) -> (Gathered<S>, Drain<S>) {
    let shared = Shared { io, first, budget, output: Vec::new(), sent: 0 };
    let shared = Rc::new(RefCell::new(shared));
    (Gathered(Rc::clone(&shared)), Drain(shared))
}

impl<S: Io> Drain<S> {
    /// Sends what was gathered.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }

    /// The buffer of the first bytes goes back to its worker once they are read.
    pub fn give_back(&self, buffers: &Buffers) {
        let mut shared = self.0.borrow_mut();
        if let Some(first) = shared.first.take_if(|first| first.is_empty()) {
            buffers.give_back(first);
        }
    }
}

impl<S: Io> Shared<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(poll_write_all(&mut self.io, &self.output, &mut self.sent, cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        if let Some(first) = shared.first.as_mut().filter(|first| !first.is_empty()) {
            let count = first.data().len().min(room.remaining());
            if let Some(budget) = &shared.budget {
                budget.received(&first.data()[..count]);
            }
            room.put_slice(&first.data()[..count]);
            first.consume(count);
            return Poll::Ready(Ok(()));
        }
        let before = room.filled().len();
        ready!(Pin::new(&mut shared.io).poll_read(cx, room))?;
        if let Some(budget) = &shared.budget {
            budget.received(&room.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.0.borrow_mut();
        if shared.output.len() >= GATHER_BYTES {
            ready!(shared.poll_drain(cx))?;
        }
        shared.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.0.borrow_mut();
        if shared.output.len() >= GATHER_BYTES {
            ready!(shared.poll_drain(cx))?;
        }
        slices.iter().for_each(|slice| shared.output.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The driver sends after each poll of the connection.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.0.borrow_mut();
        ready!(shared.poll_drain(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}
