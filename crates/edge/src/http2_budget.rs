//! What a connection of HTTP/2 may cost without getting anything done: streams that are reset, by the client
//! (CVE-2023-44487) or for a fault of the client (CVE-2025-8671), and frames that carry no content. Where it is used up
//! the connection ends (RFC 9113 section 10.5). Frames are told from the bytes that `h2` reads, which does not say what
//! it received.

use model::limits::{HTTP2_OVERHEAD_BYTES as OVERHEAD_BYTES, HTTP2_RESETS as RESETS};
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// An answered request gives this back: what its head and its windows took.
const REQUEST_BYTES: i64 = 48 << 10;
/// A piece of an answer gives this back: clients follow it with windows and, some of them, a PING.
const PIECE_BYTES: i64 = 64;
/// What time gives back: a client may ask whether the connection lives.
const BYTES_PER_SECOND: i64 = 512;

const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
/// Flags of DATA (RFC 9113 section 6.1).
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

pub(crate) struct Budget {
    /// Resets that are forgiven.
    most: u32,
    /// Frames that say so: streams that nobody has looked at yet count too.
    resets: Cell<u32>,
    /// Requests that were given up, whoever reset their stream.
    given_up: Cell<u32>,
    overhead: Cell<i64>,
    /// Since when time has given nothing back.
    since: Cell<Instant>,
    meter: RefCell<Meter>,
}

/// Where in the client's frames the next byte is.
struct Meter {
    /// Of DATA with padding, the length of that too.
    head: [u8; FRAME_HEAD_BYTES + 1],
    held: usize,
    skip: usize,
}

impl Budget {
    /// All streams that may be open may be given up together.
    pub fn new(now: Instant, streams: u32) -> Budget {
        let most = RESETS.max(streams);
        Budget {
            most,
            resets: Cell::new(most),
            given_up: Cell::new(most),
            overhead: Cell::new(OVERHEAD_BYTES),
            since: Cell::new(now),
            meter: RefCell::new(Meter::new()),
        }
    }

    /// Bytes that the client sent, in order, from the preface on.
    pub fn received(&self, bytes: &[u8]) {
        self.meter.borrow_mut().frames(bytes, |frame| {
            if frame.kind == RST_STREAM {
                self.resets.set(self.resets.get().saturating_sub(1));
            }
            // Content has limits of its own.
            if !frame.does_something() {
                let cost = (FRAME_HEAD_BYTES + frame.length) as i64;
                self.overhead.set(self.overhead.get().saturating_sub(cost));
            }
        });
    }

    /// A request's stream ended before its answer did.
    pub fn given_up(&self) {
        self.given_up.set(self.given_up.get().saturating_sub(1));
    }

    /// A request was answered to its end.
    pub fn answered(&self) {
        for left in [&self.resets, &self.given_up] {
            left.set((left.get() + 1).min(self.most));
        }
        self.give_back(REQUEST_BYTES);
    }

    /// A piece of an answer was sent.
    pub fn sent(&self) {
        self.give_back(PIECE_BYTES);
    }

    /// The time is asked for only where it decides.
    pub fn is_used_up(&self, now: impl Fn() -> Instant) -> bool {
        if self.overhead.get() <= 0 {
            let now = now();
            let passed = now.saturating_duration_since(self.since.replace(now));
            let milliseconds = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
            self.give_back(milliseconds.saturating_mul(BYTES_PER_SECOND) / 1_000);
        }
        self.resets.get() == 0 || self.given_up.get() == 0 || self.overhead.get() <= 0
    }

    fn give_back(&self, bytes: i64) {
        self.overhead.set(self.overhead.get().saturating_add(bytes).min(OVERHEAD_BYTES));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
    /// Without padding.
    content: usize,
}

impl Frame {
    fn does_something(self) -> bool {
        self.kind == DATA && (self.content > 0 || self.flags & END_STREAM != 0)
    }
}

impl Meter {
    fn new() -> Meter {
        Meter { head: [0; FRAME_HEAD_BYTES + 1], held: 0, skip: PREFACE_BYTES }
    }

    /// Tells each frame whose head is whole (RFC 9113 section 4.1).
    fn frames(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (self.wanted() - self.held).min(bytes.len());
            self.head[self.held..self.held + taken].copy_from_slice(&bytes[..taken]);
            self.held += taken;
            bytes = &bytes[taken..];
            if self.held < self.wanted() {
                continue;
            }
            let [first, second, third, kind, flags, .., padding] = self.head;
            let length = u32::from_be_bytes([0, first, second, third]) as usize;
            // The length of the padding is behind the head.
            let more = self.held - FRAME_HEAD_BYTES;
            self.held = 0;
            self.skip = length - more;
            let content = (length - more).saturating_sub(usize::from(padding) * more);
            found(Frame { kind, flags, length, content });
        }
    }

    /// Bytes of the frame that tell what it is.
    fn wanted(&self) -> usize {
        let [first, second, third, kind, flags, ..] = self.head;
        let is_padded = self.held >= FRAME_HEAD_BYTES
            && kind == DATA
            && flags & PADDED != 0
            && [first, second, third] != [0; 3];
        FRAME_HEAD_BYTES + usize::from(is_padded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        flagged(kind, 0, &vec![0xff; length])
    }

    fn flagged(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn padded(padding: u8, content: usize) -> Vec<u8> {
        let payload = vec![0; usize::from(padding) + content];
        flagged(DATA, PADDED, &[&[padding][..], &payload].concat())
    }

    #[test]
    fn frames_are_the_same_however_their_bytes_are_split() {
        let frames = [
            frame(4, 0),
            frame(1, 300),
            frame(DATA, 7),
            padded(3, 2),
            padded(200, 0),
            flagged(DATA, PADDED, b""),
            frame(RST_STREAM, 4),
            // More padding than there are bytes: malformed.
            flagged(DATA, PADDED, &[9]),
            frame(6, 8),
        ];
        let bytes = [PREFACE.to_vec(), frames.concat()].concat();
        let expected = [
            (4, 0, 0),
            (1, 300, 300),
            (DATA, 7, 7),
            (DATA, 6, 2),
            (DATA, 201, 0),
            (DATA, 0, 0),
            (RST_STREAM, 4, 4),
            (DATA, 1, 0),
            (6, 8, 8),
        ];
        for size in 1..40 {
            let mut meter = Meter::new();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                meter.frames(piece, |frame| found.push((frame.kind, frame.length, frame.content)));
            }
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn resets_use_it_up_and_answers_give_back() {
        let now = Instant::now();
        let budget = Budget::new(now, 1);
        budget.received(PREFACE);
        for _ in 0..RESETS - 1 {
            budget.received(&frame(RST_STREAM, 4));
        }
        assert!(!budget.is_used_up(|| now));
        budget.answered();
        budget.received(&frame(RST_STREAM, 4));
        assert!(!budget.is_used_up(|| now));
        budget.received(&frame(RST_STREAM, 4));
        assert!(budget.is_used_up(|| now));
    }

    #[test]
    fn requests_that_were_given_up_use_it_up_whoever_reset_them() {
        let now = Instant::now();
        let budget = Budget::new(now, 1);
        (0..RESETS - 1).for_each(|_| budget.given_up());
        assert!(!budget.is_used_up(|| now));
        budget.given_up();
        assert!(budget.is_used_up(|| now));
        budget.answered();
        assert!(!budget.is_used_up(|| now));
    }

    #[test]
    fn data_without_content_is_none_unless_it_ends_something() {
        let now = Instant::now();
        for empty in [frame(DATA, 0), padded(0, 0), padded(255, 0)] {
            let budget = Budget::new(now, 1);
            budget.received(PREFACE);
            let most = OVERHEAD_BYTES as usize / empty.len() + 1;
            (0..most).for_each(|_| budget.received(&empty));
            assert!(budget.is_used_up(|| now));
        }
    }

    #[test]
    fn content_costs_nothing_and_time_gives_back() {
        let now = Instant::now();
        let budget = Budget::new(now, 1);
        budget.received(PREFACE);
        (0..1_000).for_each(|_| budget.received(&frame(DATA, 16_384)));
        (0..20_000).for_each(|_| budget.received(&padded(1, 1)));
        (0..20_000).for_each(|_| budget.received(&flagged(DATA, END_STREAM, b"")));
        assert!(!budget.is_used_up(|| now));
        let pings = OVERHEAD_BYTES as usize / 17 + 1;
        (0..pings).for_each(|_| budget.received(&frame(6, 8)));
        assert!(budget.is_used_up(|| now));
        assert!(!budget.is_used_up(|| now + Duration::from_secs(1)));
    }
}
