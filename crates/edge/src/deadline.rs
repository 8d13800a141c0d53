//! Deadlines of one worker: a table of times that one coarse sweep looks at, instead of a timer for each request.
//!
//! A task that waits registers its waker with its [`Deadline`]; the sweep wakes every task whose time has passed, and
//! the task finds by [`Deadline::poll`] that it has. A deadline is never early, and late by one sweep at most.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) const SWEEP: Duration = Duration::from_millis(100);
const SWEEP_MS: u64 = 100;
const NEVER: u64 = u64::MAX;

pub(crate) struct Deadlines {
    epoch: Instant,
    /// As of the last sweep.
    now_ms: Cell<u64>,
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<usize>>,
    draining: Cell<bool>,
    closing_idle: Cell<bool>,
    aborting: Cell<bool>,
}

struct Entry {
    at_ms: u64,
    waker: Option<Waker>,
}

impl Deadlines {
    pub fn new(now: Instant) -> Rc<Deadlines> {
        Rc::new(Deadlines {
            epoch: now,
            now_ms: Cell::new(0),
            entries: RefCell::default(),
            free: RefCell::default(),
            draining: Cell::new(false),
            closing_idle: Cell::new(false),
            aborting: Cell::new(false),
        })
    }

    /// Milliseconds since the worker began, up to one sweep behind.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Connections without a request are to end at once.
    pub fn is_closing_idle(&self) -> bool {
        self.closing_idle.get()
    }

    /// Wakes whoever is late.
    pub fn sweep(&self, now: Instant) {
        self.now_ms.set(self.millis(now));
        let now_ms = self.now_ms();
        self.wake(|entry| entry.at_ms <= now_ms);
    }

    /// Connections are to end with their response. An idle one may bring a last request.
    pub fn leave(&self) {
        self.draining.set(true);
        self.wake(|_| true);
    }

    /// Idle connections are to end, and the others to end with their response.
    pub fn drain(&self) {
        self.draining.set(true);
        self.closing_idle.set(true);
        self.wake(|_| true);
    }

    /// Every deadline has passed.
    pub fn abort(&self) {
        self.aborting.set(true);
        self.wake(|_| true);
    }

    pub fn register(self: &Rc<Self>) -> Deadline {
        let entry = Entry { at_ms: NEVER, waker: None };
        let mut entries = self.entries.borrow_mut();
        let key = match self.free.borrow_mut().pop() {
            Some(key) => {
                entries[key] = entry;
                key
            }
            None => {
                entries.push(entry);
                entries.len() - 1
            }
        };
        Deadline { table: Rc::clone(self), key, at_ms: Cell::new(NEVER), cap_ms: Cell::new(NEVER) }
    }

    /// Gives back the free places at the end of the table; those that stay free are taken from the front.
    pub fn trim(&self) {
        let (mut entries, mut free) = (self.entries.borrow_mut(), self.free.borrow_mut());
        if free.len() <= entries.len() / 2 {
            return;
        }
        free.sort_unstable();
        while free.pop_if(|last| *last + 1 == entries.len()).is_some() {
            entries.pop();
        }
        free.reverse();
        entries.shrink_to_fit();
        free.shrink_to_fit();
    }

    fn millis(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.epoch))
    }

    fn wake(&self, is_due: impl Fn(&Entry) -> bool) {
        for entry in self.entries.borrow().iter().filter(|entry| is_due(entry)) {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }
}

/// One task's deadline: the earlier of a time that moves with progress and a cap that does not.
pub(crate) struct Deadline {
    table: Rc<Deadlines>,
    key: usize,
    at_ms: Cell<u64>,
    cap_ms: Cell<u64>,
}

/// Which of the two times has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// No progress for as long as a limit of the edge allows.
    Stall,
    /// The time that the route allows, or the end of draining.
    Cap,
}

impl Deadline {
    /// Moves the stall time; the cap stays. The clock may be a sweep behind: a sweep is added, so that the time is
    /// never short.
    pub fn stall_after(&self, limit_ms: u64) {
        self.at_ms.set(self.table.now_ms().saturating_add(limit_ms).saturating_add(SWEEP_MS));
        self.store();
    }

    /// An earlier stall time, in milliseconds since the worker began; a later one changes nothing.
    pub fn hasten(&self, at_ms: u64) {
        self.at_ms.set(self.at_ms.get().min(at_ms));
        self.store();
    }

    /// No stall time.
    pub fn lift(&self) {
        self.at_ms.set(NEVER);
        self.store();
    }

    pub fn cap_at(&self, start: Instant, limit: Option<Duration>) {
        let at = limit.and_then(|limit| start.checked_add(limit));
        self.cap_ms.set(at.map_or(NEVER, |at| self.table.millis(at).saturating_add(1)));
        self.store();
    }

    pub fn passed(&self) -> Option<Passed> {
        let now = self.table.now_ms();
        if self.cap_ms.get() <= now || self.table.aborting.get() {
            return Some(Passed::Cap);
        }
        (self.at_ms.get() <= now).then_some(Passed::Stall)
    }

    /// By the clock, and not by the last sweep: for when something else has come to its end at the same moment.
    pub fn is_beyond_cap(&self) -> bool {
        self.cap_ms.get() <= self.table.millis(Instant::now()).saturating_add(1)
    }

    /// Ready when a time has passed; else the task is woken when it does, or when draining begins.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Passed> {
        if let Some(passed) = self.passed() {
            return Poll::Ready(passed);
        }
        let mut entries = self.table.entries.borrow_mut();
        match &mut entries[self.key].waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn store(&self) {
        self.table.entries.borrow_mut()[self.key].at_ms = self.at_ms.get().min(self.cap_ms.get());
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.table.entries.borrow_mut()[self.key] = Entry { at_ms: NEVER, waker: None };
        self.table.free.borrow_mut().push(self.key);
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_never_early_and_late_by_one_sweep_at_most() {
        let start = Instant::now();
        let table = Deadlines::new(start);
        let deadline = table.register();
        deadline.stall_after(500);
        let at = |ms| start + Duration::from_millis(ms);
        table.sweep(at(599));
        assert_eq!(deadline.passed(), None);
        table.sweep(at(600));
        assert_eq!(deadline.passed(), Some(Passed::Stall));
        deadline.stall_after(500);
        assert_eq!(deadline.passed(), None);
        deadline.cap_at(at(600), Some(Duration::from_millis(50)));
        table.sweep(at(650));
        assert_eq!(deadline.passed(), None);
        table.sweep(at(651));
        assert_eq!(deadline.passed(), Some(Passed::Cap));
    }

    #[test]
    fn places_are_used_again() {
        let table = Deadlines::new(Instant::now());
        let first = table.register();
        drop(first);
        let second = table.register();
        assert_eq!((second.key, table.entries.borrow().len()), (0, 1));
    }
    #[test]
    fn a_rush_leaves_a_small_table() {
        let table = Deadlines::new(Instant::now());
        let mut many: Vec<Deadline> = (0..100).map(|_| table.register()).collect();
        let stays =
            [many.swap_remove(10), many.swap_remove(3)].map(|deadline| (deadline.key, deadline));
        table.trim();
        assert_eq!(table.entries.borrow().len(), 100);
        drop(many);
        table.trim();
        assert_eq!((stays[0].0, stays[1].0, table.entries.borrow().len()), (10, 3, 11));
        // None of the places that are left is held by two.
        let more: Vec<Deadline> = (0..12).map(|_| table.register()).collect();
        let mut keys: Vec<usize> = more.iter().map(|deadline| deadline.key).collect();
        keys.extend([10, 3]);
        keys.sort_unstable();
        assert_eq!(keys, (0..14).collect::<Vec<_>>());
    }
}
