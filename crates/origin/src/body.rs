//! The content of an answer: whole, repeated, or paced. What is in it is decided in `answer`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

static ZEROS: [u8; 16 * 1024] = [b'0'; 16 * 1024];

/// A body whose pieces are made as they are asked for.
pub(crate) enum Content {
    Whole(Bytes),
    Repeat { left: u64 },
    Paced(Paced),
}

/// Pieces with a pause between them.
pub(crate) struct Paced {
    sent: u64,
    total: u64,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    piece: fn(u64) -> Bytes,
    /// Known when each piece is one byte.
    length: Option<u64>,
}

impl Content {
    pub(crate) fn drip(bytes: u64, every: Duration) -> Self {
        Self::paced(bytes, every, |_| Bytes::from_static(b"0"), Some(bytes))
    }

    pub(crate) fn lines(total: u64, every: Duration) -> Self {
        Self::paced(total, every, |number| format!("line {number}\n").into(), None)
    }

    fn paced(total: u64, every: Duration, piece: fn(u64) -> Bytes, length: Option<u64>) -> Self {
        let timer = Box::pin(sleep(Duration::ZERO));
        Self::Paced(Paced { sent: 0, total, every, timer, piece, length })
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Repeat { left } => Some(*left),
            Self::Paced(paced) => paced.length.map(|length| length.saturating_sub(paced.sent)),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Self::Repeat { left } => repeated(left),
            Self::Paced(paced) => ready!(paced.poll(context)),
        };
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.length() == Some(0)
    }
}

impl Paced {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.sent == self.total {
            return Poll::Ready(None);
        }
        ready!(self.timer.as_mut().poll(context));
        self.timer.as_mut().reset(Instant::now() + self.every);
        self.sent += 1;
        Poll::Ready(Some((self.piece)(self.sent)))
    }
}

fn repeated(left: &mut u64) -> Option<Bytes> {
    let length = ZEROS.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= length as u64;
    (length > 0).then(|| Bytes::from_static(&ZEROS[..length]))
}
