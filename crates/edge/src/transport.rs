//! Reading from a connection into a buffer that is lent only while there are bytes.

use crate::buffers::{Buffer, Buffers};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What the edge needs of a client's connection, plain or TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {
    /// The close that follows is a reset: the client can tell that it was not given everything.
    fn reset_on_close(&self);
}

impl Io for TcpStream {
    fn reset_on_close(&self) {
        // A socket that is gone already needs no reset.
        let _ = self.set_zero_linger();
    }
}

impl<S: Io> Io for Box<TlsStream<S>> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// Reads once. A buffer is taken for the read, and given back when there is nothing to hold. A full one is replaced by
/// a larger one; `Ready(0)` is the end of the stream, or that even the larger one is full.
pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
    io: &mut R,
    slot: &mut Option<Buffer>,
    buffers: &Buffers,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = slot.take().unwrap_or_else(|| buffers.small());
    if buffer.room().is_empty() && !buffer.is_large() {
        buffer = buffers.grow(buffer);
    }
    let mut room = ReadBuf::new(buffer.room());
    let polled = Pin::new(io).poll_read(cx, &mut room);
    let count = room.filled().len();
    buffer.filled(count);
    if buffer.is_empty() && buffer.start() == 0 {
        buffers.give_back(buffer);
    } else {
        *slot = Some(buffer);
    }
    ready!(polled)?;
    Poll::Ready(Ok(count))
}

/// Writes `bytes[*sent..]` to the end.
pub(crate) fn poll_write_all<W: AsyncWrite + Unpin>(
    io: &mut W,
    bytes: &[u8],
    sent: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while let Some(rest @ [_, ..]) = bytes.get(*sent..) {
        match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *sent += count,
        }
    }
    Poll::Ready(Ok(()))
}
