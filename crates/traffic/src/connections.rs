//! How many connections to a backend are open, over all workers, where that is limited. Idle ones count: a worker that
//! finds no room says so, and the others then keep none idle.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

#[derive(Debug)]
pub struct Connections {
    limit: u32,
    open: AtomicU32,
    is_wanted: AtomicBool,
}

impl Connections {
    pub fn new(limit: u32) -> Connections {
        Connections { limit, open: AtomicU32::new(0), is_wanted: AtomicBool::new(false) }
    }

    /// True when there was room; then [`Connections::leave`] follows.
    pub fn enter(&self) -> bool {
        let has_room = self.open.fetch_add(1, Relaxed) < self.limit;
        if !has_room {
            self.open.fetch_sub(1, Relaxed);
            self.is_wanted.store(true, Relaxed);
        }
        has_room
    }

    /// Room for whoever wanted it.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.is_wanted.store(false, Relaxed);
    }

    /// Somebody found no room: a connection that is not in use is better closed.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.open() >= self.limit
    }

    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_be_and_idle_ones_make_room() {
        let connections = Connections::new(2);
        assert_eq!([(); 2].map(|()| connections.enter()), [true, true]);
        assert!(!connections.is_wanted());
        assert!(!connections.enter());
        assert!(connections.is_wanted());
        assert_eq!(connections.open(), 2);
        connections.leave();
        assert!(!connections.is_wanted(), "there is room");
        assert!(connections.enter());
    }

    /// Workers that take and give back from a seed: never more than the limit, and nobody is left without for ever.
    #[test]
    fn no_worker_starves_while_others_hold_idle_ones() {
        for seed in 0..50 {
            let mut random = crate::Random::new(seed);
            let connections = Connections::new(3);
            // Idle connections of each of four workers, and how often each was served.
            let (mut idle, mut served) = ([0u32; 4], [0u32; 4]);
            for _ in 0..2_000 {
                let worker = random.below(4);
                if idle[worker] > 0 {
                    idle[worker] -= 1;
                } else if !connections.enter() {
                    continue;
                }
                served[worker] += 1;
                match connections.is_wanted() {
                    true => connections.leave(),
                    false => idle[worker] += 1,
                }
                assert_eq!(connections.open(), idle.iter().sum::<u32>());
                assert!(connections.open() <= 3);
            }
            assert!(served.iter().all(|served| *served > 50), "seed {seed}: {served:?}");
        }
    }
}
