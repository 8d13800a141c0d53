//! Connections as streams of bytes, plain or TLS; reading from one into a buffer that is lent only while there are bytes.

use crate::buffers::{Buffer, Buffers};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};
use traffic::Connections;

/// What the edge needs of a connection besides its bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {
    /// The close that follows is a reset: the other side can tell that it was not given everything.
    fn reset_on_close(&self);
}

impl Io for TcpStream {
    fn reset_on_close(&self) {
        // A socket that is gone already needs no reset.
        let _ = self.set_zero_linger();
    }
}

impl<S: Io> Io for Box<server::TlsStream<S>> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// A connection to a backend.
pub(crate) enum UpstreamIo {
    Plain(TcpStream),
    /// Boxed: it is twenty times as large.
    Tls(Box<client::TlsStream<TcpStream>>),
    /// One of those whose number is limited.
    Counted(Box<Counted>),
}

/// A connection's place below the limit of its backend.
pub(crate) struct Counted {
    io: UpstreamIo,
    connections: Arc<Connections>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.leave();
    }
}

impl Counted {
    /// `connections` was entered.
    pub fn new(io: UpstreamIo, connections: Arc<Connections>) -> Box<Counted> {
        Box::new(Counted { io, connections })
    }
}

impl UpstreamIo {
    /// An origin that closed, or that sends what nobody asked for, is not to be used. Costs no system call while the
    /// runtime has seen no event on the socket. What TLS itself sends between requests (tickets) is read here.
    pub fn is_alive(&mut self) -> bool {
        match self {
            UpstreamIo::Plain(io) => {
                let read = io.try_read(&mut [0]);
                matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            UpstreamIo::Tls(io) => {
                let mut room = [0];
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(io).poll_read(&mut cx, &mut ReadBuf::new(&mut room)).is_pending()
            }
            UpstreamIo::Counted(counted) => counted.io.is_alive(),
        }
    }
}

impl UpstreamIo {
    /// Of an idle one: it is alive, and nobody wants for its place.
    pub fn is_worth_keeping(&mut self) -> bool {
        let is_wanted = match self {
            UpstreamIo::Counted(counted) => counted.connections.is_wanted(),
            UpstreamIo::Plain(_) | UpstreamIo::Tls(_) => false,
        };
        !is_wanted && self.is_alive()
    }
}

impl Io for UpstreamIo {
    fn reset_on_close(&self) {
        match self {
            UpstreamIo::Plain(io) => io.reset_on_close(),
            UpstreamIo::Tls(io) => io.get_ref().0.reset_on_close(),
            UpstreamIo::Counted(counted) => counted.io.reset_on_close(),
        }
    }
}

impl AsyncRead for UpstreamIo {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamIo::Plain(io) => Pin::new(io).poll_read(cx, room),
            UpstreamIo::Tls(io) => Pin::new(io).poll_read(cx, room),
            UpstreamIo::Counted(counted) => Pin::new(&mut counted.io).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            UpstreamIo::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            UpstreamIo::Tls(io) => Pin::new(io).poll_write(cx, bytes),
            UpstreamIo::Counted(counted) => Pin::new(&mut counted.io).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamIo::Plain(io) => Pin::new(io).poll_flush(cx),
            UpstreamIo::Tls(io) => Pin::new(io).poll_flush(cx),
            UpstreamIo::Counted(counted) => Pin::new(&mut counted.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamIo::Plain(io) => Pin::new(io).poll_shutdown(cx),
            UpstreamIo::Tls(io) => Pin::new(io).poll_shutdown(cx),
            UpstreamIo::Counted(counted) => Pin::new(&mut counted.io).poll_shutdown(cx),
        }
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
