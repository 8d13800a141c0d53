//! Floor 4: the swap cell, the only place with clever concurrency.
//!
//! A [`Cell`] holds the current value behind an `Arc`. Each worker owns a [`Reader`] with its own `Arc`, so reading
//! costs one atomic load while nothing changed. After a change the reader takes the new `Arc` once, under a lock that
//! is held for a clone. A worker says by [`Reader::acknowledge`] that it serves what it read; the publisher waits for
//! all of them with [`Cell::acknowledged`].
//!
//! The cell keeps replaced values until no reader holds them, and drops them in [`Cell::collect`], called by the
//! publisher: a large old value is never freed on a worker.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The publisher's side. Cheap to clone; all clones are one cell.
pub struct Cell<T>(Arc<Shared<T>>);

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        Cell(Arc::clone(&self.0))
    }
}

struct Shared<T> {
    generation: AtomicU64,
    slots: Mutex<Slots<T>>,
    /// Wakes readers that wait for a change.
    changes: watch::Sender<u64>,
    /// Wakes a publisher that waits for acknowledgements.
    acknowledgements: Notify,
}

struct Slots<T> {
    current: Arc<T>,
    /// Replaced values that somebody may still hold.
    retired: Vec<Arc<T>>,
    /// What each living reader has acknowledged.
    readers: Vec<Arc<AtomicU64>>,
}

/// How many readers serve a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub of: usize,
}

impl Progress {
    pub fn is_complete(self) -> bool {
        self.done == self.of
    }
}

impl<T> Cell<T> {
    pub fn new(value: Arc<T>) -> Self {
        Cell(Arc::new(Shared {
            generation: AtomicU64::new(1),
            slots: Mutex::new(Slots { current: value, retired: Vec::new(), readers: Vec::new() }),
            changes: watch::Sender::new(1),
            acknowledgements: Notify::new(),
        }))
    }

    /// Publishes a value and returns its generation.
    pub fn set(&self, value: Arc<T>) -> u64 {
        let generation = {
            let mut slots = self.0.lock();
            let old = std::mem::replace(&mut slots.current, value);
            slots.retired.push(old);
            self.0.generation.fetch_add(1, Ordering::Release) + 1
        };
        self.0.changes.send_replace(generation);
        generation
    }

    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().current)
    }

    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub fn reader(&self) -> Reader<T> {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut slots = self.0.lock();
        slots.readers.push(Arc::clone(&acknowledged));
        Reader {
            seen: self.generation(),
            value: Arc::clone(&slots.current),
            changes: self.0.changes.subscribe(),
            cell: self.clone(),
            acknowledged,
        }
    }

    pub fn progress(&self, generation: u64) -> Progress {
        let slots = self.0.lock();
        let done = slots
            .readers
            .iter()
            .filter(|reader| reader.load(Ordering::Acquire) >= generation)
            .count();
        Progress { done, of: slots.readers.len() }
    }

    /// Waits until every reader serves `generation` or a later one, at most for `limit`.
    pub async fn acknowledged(&self, generation: u64, limit: Duration) -> Progress {
        let complete = async {
            loop {
                let woken = self.0.acknowledgements.notified();
                tokio::pin!(woken);
                // Registered before the look, so that an acknowledgement in between is not missed.
                woken.as_mut().enable();
                if self.progress(generation).is_complete() {
                    return;
                }
                woken.await;
            }
        };
        let _ = tokio::time::timeout(limit, complete).await;
        self.progress(generation)
    }

    /// Drops replaced values that no reader and no request holds any more; returns how many are still held.
    pub fn collect(&self) -> usize {
        let (free, held): (Vec<_>, usize) = {
            let mut slots = self.0.lock();
            let (free, held) = std::mem::take(&mut slots.retired)
                .into_iter()
                .partition(|value| Arc::strong_count(value) == 1);
            slots.retired = held;
            (free, slots.retired.len())
        };
        drop(free);
        held
    }
}

impl<T> Shared<T> {
    /// A panic while the lock is held leaves the slots whole: each change is a single assignment.
    fn lock(&self) -> MutexGuard<'_, Slots<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's side.
pub struct Reader<T> {
    cell: Cell<T>,
    seen: u64,
    value: Arc<T>,
    acknowledged: Arc<AtomicU64>,
    changes: watch::Receiver<u64>,
}

impl<T> Reader<T> {
    /// The value to serve a request from, first byte to last: clone the `Arc` to hold it.
    #[inline]
    pub fn current(&mut self) -> &Arc<T> {
        if self.cell.0.generation.load(Ordering::Acquire) != self.seen {
            self.refresh();
        }
        &self.value
    }

    #[cold]
    fn refresh(&mut self) {
        let slots = self.cell.0.lock();
        self.seen = self.cell.0.generation.load(Ordering::Acquire);
        self.value = Arc::clone(&slots.current);
    }

    /// The generation of the value that [`Reader::current`] gave last.
    pub fn generation(&self) -> u64 {
        self.seen
    }

    /// Returns when a value was published that this reader has not taken yet.
    pub async fn changed(&mut self) {
        let seen = self.seen;
        // The sender lives in the cell that this reader holds, so waiting cannot fail.
        let _ = self.changes.wait_for(|generation| *generation > seen).await;
    }

    /// Says that new requests are served from what [`Reader::current`] gave last.
    pub fn acknowledge(&self) {
        if self.acknowledged.swap(self.seen, Ordering::AcqRel) != self.seen {
            self.cell.0.acknowledgements.notify_waiters();
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.cell.0.lock().readers.retain(|reader| !Arc::ptr_eq(reader, &self.acknowledged));
        self.cell.0.acknowledgements.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_latest_value_and_its_acknowledgement_counts() {
        let cell = Cell::new(Arc::new(1));
        let mut reader = cell.reader();
        assert_eq!(**reader.current(), 1);
        assert_eq!(cell.progress(1), Progress { done: 0, of: 1 });
        reader.acknowledge();
        assert!(cell.progress(1).is_complete());
        let second = cell.set(Arc::new(2));
        assert_eq!(cell.progress(second).done, 0);
        assert_eq!(**reader.current(), 2);
        reader.acknowledge();
        assert!(cell.progress(second).is_complete());
        drop(reader);
        assert_eq!(cell.progress(second), Progress { done: 0, of: 0 });
    }

    #[test]
    fn replaced_values_live_until_nobody_holds_them() {
        let cell = Cell::new(Arc::new("old"));
        let mut reader = cell.reader();
        let held = Arc::clone(reader.current());
        cell.set(Arc::new("new"));
        let _ = reader.current();
        assert_eq!(cell.collect(), 1);
        assert_eq!(*held, "old");
        drop(held);
        assert_eq!(cell.collect(), 0);
    }

    #[tokio::test]
    async fn waits_for_acknowledgement_by_all() {
        let cell = Cell::new(Arc::new(0));
        let mut first = cell.reader();
        let second = cell.reader();
        let generation = cell.set(Arc::new(1));
        let limit = Duration::from_millis(20);
        assert_eq!(cell.acknowledged(generation, limit).await, Progress { done: 0, of: 2 });
        drop(second);
        let waiter = tokio::spawn({
            let cell = cell.clone();
            async move { cell.acknowledged(generation, Duration::from_secs(5)).await }
        });
        first.changed().await;
        let _ = first.current();
        first.acknowledge();
        assert!(waiter.await.expect("the waiter does not panic").is_complete());
    }

    #[test]
    fn readers_on_threads_never_go_back() {
        let cell = Cell::new(Arc::new(0u64));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut reader = cell.reader();
                scope.spawn(move || {
                    let mut last = 0;
                    while last < 1_000 {
                        let now = **reader.current();
                        assert!(now >= last);
                        last = now;
                        reader.acknowledge();
                    }
                });
            }
            for value in 1..=1_000 {
                cell.set(Arc::new(value));
                cell.collect();
            }
        });
    }
}
