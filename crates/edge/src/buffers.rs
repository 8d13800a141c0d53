//! Buffers of one worker, lent to a connection while it has bytes to hold and taken back when it is idle.
//! Nothing here knows what the bytes mean.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

/// Room for a head and a small body.
pub(crate) const SMALL_BYTES: usize = 16 << 10;
/// Room for the longest head that the limits allow.
pub(crate) const LARGE_BYTES: usize = 64 << 10;
/// Room for a piece of a large body: each piece costs a system call on both sides (`docs/tune.md`).
const BODY_BYTES: usize = 128 << 10;
/// An output that grew beyond this is not kept.
const OUTPUT_KEPT_BYTES: usize = 128 << 10;
/// Spares of each kind that a worker keeps.
const SPARE: usize = 256;
/// Bodies get so many buffers of their own of a worker at once; the others are read in small pieces. Such a buffer is
/// held for as long as a client does not read, and there may be thousands of those.
const BODIES: usize = 8;

#[derive(Default)]
pub(crate) struct Buffers {
    small: RefCell<Spares<Vec<u8>>>,
    large: RefCell<Spares<Vec<u8>>>,
    bodies: RefCell<Spares<Vec<u8>>>,
    outputs: RefCell<Spares<Vec<u8>>>,
    /// Buffers that bodies hold now.
    held_by_bodies: Rc<Cell<usize>>,
}

/// What a worker keeps to use again.
pub(crate) struct Spares<T> {
    spares: Vec<T>,
    /// Those that nobody has needed since the last trim.
    unused: usize,
}

impl<T> Default for Spares<T> {
    fn default() -> Spares<T> {
        Spares { spares: Vec::new(), unused: 0 }
    }
}

impl Buffers {
    pub fn small(&self) -> Buffer {
        self.of(SMALL_BYTES)
    }

    pub fn large(&self) -> Buffer {
        self.of(LARGE_BYTES)
    }

    fn of(&self, bytes: usize) -> Buffer {
        let spare = self.spares(bytes).borrow_mut().pop();
        Buffer::over(spare.unwrap_or_else(|| vec![0; bytes]))
    }

    fn spares(&self, bytes: usize) -> &RefCell<Spares<Vec<u8>>> {
        match bytes {
            SMALL_BYTES => &self.small,
            LARGE_BYTES => &self.large,
            _ => &self.bodies,
        }
    }

    /// A buffer for a large body with what is in `buffer`, as long as not too many of them are lent.
    pub fn grow_for_body(&self, buffer: Option<Buffer>) -> Option<Buffer> {
        let has_one = buffer.as_ref().is_some_and(|buffer| buffer.bytes.len() == BODY_BYTES);
        if has_one || self.held_by_bodies.get() >= BODIES {
            return buffer;
        }
        let mut body = self.of(BODY_BYTES);
        if let Some(buffer) = buffer {
            self.pour(buffer, &mut body);
        }
        body.counted = Some(Counted::new(&self.held_by_bodies));
        Some(body)
    }

    pub fn give_back(&self, buffer: Buffer) {
        self.spares(buffer.bytes.len()).borrow_mut().keep(buffer.bytes);
    }

    /// An empty vector to write a head into.
    pub fn output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give_back_output(&self, mut output: Vec<u8>) {
        if output.capacity() > 0 && output.capacity() <= OUTPUT_KEPT_BYTES {
            output.clear();
            self.outputs.borrow_mut().keep(output);
        }
    }

    /// A rush leaves nothing behind for long.
    pub fn trim(&self) {
        for spares in [&self.small, &self.large, &self.bodies, &self.outputs] {
            spares.borrow_mut().trim();
        }
    }

    /// The same bytes in a large buffer.
    pub fn grow(&self, buffer: Buffer) -> Buffer {
        let mut large = self.large();
        self.pour(buffer, &mut large);
        large
    }

    /// `into` has more room.
    fn pour(&self, buffer: Buffer, into: &mut Buffer) {
        into.bytes[..buffer.end].copy_from_slice(&buffer.bytes[..buffer.end]);
        (into.start, into.end) = (buffer.start, buffer.end);
        self.give_back(buffer);
    }
}

impl<T> Spares<T> {
    pub fn pop(&mut self) -> Option<T> {
        let spare = self.spares.pop();
        self.unused = self.unused.min(self.spares.len());
        spare
    }

    pub fn keep(&mut self, spare: T) {
        if self.spares.len() < SPARE {
            self.spares.push(spare);
        }
    }

    /// Lets go of what nobody has needed since the last time.
    pub fn trim(&mut self) {
        let kept = self.spares.len() - self.unused;
        self.spares.truncate(kept);
        self.unused = kept;
    }
}

/// Bytes `start..end` are there; what lies behind `end` is room.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    counted: Option<Counted>,
}

/// One buffer among those that bodies hold, until it is dropped.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(all: &Rc<Cell<usize>>) -> Counted {
        all.set(all.get() + 1);
        Counted(Rc::clone(all))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Buffer {
    fn over(bytes: Vec<u8>) -> Buffer {
        Buffer { bytes, start: 0, end: 0, counted: None }
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Bytes by their place from the start of the buffer.
    pub fn at(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Where the data begin.
    pub fn start(&self) -> usize {
        self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn is_large(&self) -> bool {
        self.bytes.len() >= LARGE_BYTES
    }

    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    pub fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Forgets the data, and gives the room behind `keep` back.
    pub fn reset_to(&mut self, keep: usize) {
        debug_assert!(self.is_empty() && keep <= self.end);
        (self.start, self.end) = (keep, keep);
    }

    /// Moves the data to the front.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut Buffer, bytes: &[u8]) {
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn a_buffer_comes_back_empty_and_keeps_its_kind() {
        let buffers = Buffers::default();
        let mut buffer = buffers.small();
        fill(&mut buffer, b"head body");
        buffer.consume(5);
        assert_eq!(buffer.data(), b"body");
        let mut large = buffers.grow(buffer);
        assert!(large.is_large());
        assert_eq!((large.data(), large.at(0..4)), (b"body".as_slice(), b"head".as_slice()));
        large.compact();
        assert_eq!((large.data(), large.start()), (b"body".as_slice(), 0));
        buffers.give_back(large);
        assert!(buffers.large().is_empty() && !buffers.small().is_large());
    }

    #[test]
    fn bodies_hold_a_bounded_number_of_buffers() {
        let buffers = Buffers::default();
        let mut held: Vec<Buffer> =
            (0..BODIES).filter_map(|_| buffers.grow_for_body(None)).collect();
        assert_eq!(held.len(), BODIES);
        assert!(buffers.grow_for_body(None).is_none());
        let mut small = buffers.small();
        fill(&mut small, b"body");
        let small = buffers.grow_for_body(Some(small)).unwrap();
        assert_eq!((small.is_large(), small.data()), (false, b"body".as_slice()));
        // However a buffer ends, another body may have one.
        drop(held.pop());
        buffers.give_back(held.pop().unwrap());
        let grown = buffers.grow_for_body(Some(small)).unwrap();
        assert_eq!((grown.is_large(), grown.data()), (true, b"body".as_slice()));
        let again = buffers.grow_for_body(Some(grown)).unwrap();
        assert_eq!(buffers.held_by_bodies.get(), BODIES - 1, "counted once");
        drop((held, again));
        assert_eq!(buffers.held_by_bodies.get(), 0);
    }

    #[test]
    fn what_a_rush_left_is_let_go_and_what_is_used_stays() {
        let buffers = Buffers::default();
        let spare = |buffers: &Buffers| buffers.small.borrow().spares.len();
        let rush: Vec<Buffer> = (0..100).map(|_| buffers.small()).collect();
        rush.into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.trim();
        assert_eq!(spare(&buffers), 100, "all were just in use");
        for _ in 0..10 {
            let used: Vec<Buffer> = (0..40).map(|_| buffers.small()).collect();
            used.into_iter().for_each(|buffer| buffers.give_back(buffer));
            buffers.trim();
        }
        assert_eq!(spare(&buffers), 40);
        buffers.trim();
        assert_eq!(spare(&buffers), 0);
    }

    #[test]
    fn room_behind_a_kept_head_is_used_again() {
        let buffers = Buffers::default();
        let mut buffer = buffers.small();
        fill(&mut buffer, b"headbody");
        buffer.consume(8);
        buffer.reset_to(4);
        fill(&mut buffer, b"more");
        assert_eq!((buffer.data(), buffer.at(0..4)), (b"more".as_slice(), b"head".as_slice()));
    }
}
