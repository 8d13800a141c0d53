//! A request's body, kept as it passes to the origin, so that another attempt can have it from its beginning: a backend of
//! HTTP/2 may say that it did not look at a request long after its body was sent (RFC 9113 section 8.7). When a request is
//! tried again `traffic` decides; here is only whether it can be.
//!
//! ```text
//! Keeping (each piece that is taken, up to the bound) -> Over (a response begins, or the body is longer: nothing is kept)
//!    ^  |
//!    +--+ rewind: what is kept first, then what the client goes on with
//! ```

use crate::client::{Body, Client, ClientFault, Response, left_to_client};
use crate::worker::Worker;
use bytes::Bytes;
use model::limits::{REPLAY_BODY_BYTES, WORKER_REPLAY_BYTES};
use std::cell::Cell;
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

/// What a piece counts at least: a small one holds more memory than its bytes.
const PIECE_BYTES: usize = 1 << 10;

/// What the requests of one worker keep of their bodies, in bytes.
#[derive(Default)]
pub(crate) struct Replays(Cell<usize>);

impl Replays {
    fn enter(&self, bytes: usize) -> bool {
        let all = self.0.get() + bytes;
        let has_room = all <= WORKER_REPLAY_BYTES;
        if has_room {
            self.0.set(all);
        }
        has_room
    }

    fn leave(&self, bytes: usize) {
        self.0.set(self.0.get() - bytes);
    }
}

/// A client whose request's body is kept. The client itself is read once.
pub(crate) struct Replay<'c> {
    client: &'c mut dyn Client,
    replays: &'c Replays,
    kept: VecDeque<Bytes>,
    /// Pieces of these that the attempt under way was given.
    given: usize,
    /// What is left of the last one of those.
    piece: Bytes,
    /// What the pieces count.
    bytes: usize,
    is_over: bool,
    /// All of the body has come.
    has_ended: bool,
}

impl<'c> Replay<'c> {
    /// Around another one too, behind the backend that it was for.
    pub fn new(client: &'c mut dyn Client, worker: &'c Worker) -> Replay<'c> {
        client.rewind();
        Replay {
            client,
            replays: &worker.replays,
            kept: VecDeque::new(),
            given: 0,
            piece: Bytes::new(),
            bytes: 0,
            is_over: false,
            has_ended: false,
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        if self.is_over {
            return;
        }
        let bytes = piece.len().max(PIECE_BYTES);
        if self.bytes + bytes > REPLAY_BODY_BYTES || !self.replays.enter(bytes) {
            return self.give_up();
        }
        self.bytes += bytes;
        self.kept.push_back(piece.clone());
        self.given = self.kept.len();
    }

    /// The attempt under way is the last one. What it was not given yet stays until then.
    fn give_up(&mut self) {
        if !self.is_over {
            self.is_over = true;
            self.kept.drain(..self.given);
            self.replays.leave(std::mem::take(&mut self.bytes));
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return self.kept.pop_front();
        }
        let piece = self.kept.get(self.given).cloned();
        self.given += usize::from(piece.is_some());
        piece
    }
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Client for Replay<'_> {
    left_to_client!(
        request,
        limit_body,
        write_trailers,
        want_body,
        interim,
        poll_send,
        poll_flush,
        poll_finish,
        may_trail,
        close_after,
        watch,
        retract,
        abort
    );

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, ClientFault>> {
        if self.piece.is_empty()
            && let Some(piece) = self.next()
        {
            self.piece = piece;
        }
        if !self.piece.is_empty() {
            return Poll::Ready(Ok(Body::Data));
        }
        if self.has_ended {
            return Poll::Ready(Ok(Body::End));
        }
        let body = ready!(self.client.poll_body(cx))?;
        self.has_ended = body == Body::End;
        Poll::Ready(Ok(body))
    }

    fn body(&self) -> &[u8] {
        if self.piece.is_empty() { self.client.body() } else { &self.piece }
    }

    fn consume(&mut self, count: usize) {
        match self.is_over && self.piece.is_empty() {
            true => self.client.consume(count),
            false => drop(self.take(count)),
        }
    }

    fn take(&mut self, count: usize) -> Bytes {
        if !self.piece.is_empty() {
            return self.piece.split_to(count.min(self.piece.len()));
        }
        let piece = self.client.take(count);
        self.keep(&piece);
        piece
    }

    fn keeps_body(&self) -> bool {
        !self.is_over
    }

    fn rewind(&mut self) -> bool {
        if !self.is_over {
            self.given = 0;
            self.piece = Bytes::new();
        }
        !self.is_over
    }

    /// From here on no other attempt is made.
    fn head(&mut self, response: &Response<'_>) {
        self.give_up();
        self.client.head(response);
    }

    fn switch_protocols(&mut self, response: &Response<'_>, protocol: &[u8]) -> bool {
        self.give_up();
        self.client.switch_protocols(response, protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_keeps_has_a_bound() {
        let replays = Replays::default();
        let bodies = (0..).take_while(|_| replays.enter(REPLAY_BODY_BYTES)).count();
        assert_eq!(bodies, WORKER_REPLAY_BYTES / REPLAY_BODY_BYTES);
        assert!(!replays.enter(1));
        replays.leave(REPLAY_BODY_BYTES);
        assert!(replays.enter(PIECE_BYTES) && !replays.enter(REPLAY_BODY_BYTES));
    }
}
