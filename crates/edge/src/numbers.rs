//! Small numbers for what views know by long names, so that a worker's state lies in tables. A number is used again when
//! nobody holds what it stood for, so tables stay as large as the busiest moment.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Numbers of names that come and go.
#[derive(Debug)]
pub(crate) struct Numbers<K> {
    by_key: HashMap<K, u32>,
    free: Vec<u32>,
    next: u32,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Numbers { by_key: HashMap::new(), free: Vec::new(), next: 0 }
    }
}

/// So few are not worth a look.
const FEW: usize = 64;

impl<K: Eq + Hash> Numbers<K> {
    pub fn of(&mut self, key: K) -> u32 {
        let Numbers { by_key, free, next } = self;
        *by_key.entry(key).or_insert_with(|| take(free, next))
    }

    /// Forgets what is not in use, once that is more than what is.
    pub fn keep(&mut self, in_use: usize, is_used: impl Fn(&K) -> bool) {
        if self.by_key.len() <= 2 * in_use + FEW {
            return;
        }
        let free = &mut self.free;
        self.by_key.retain(|key, number| {
            let is_used = is_used(key);
            if !is_used {
                free.push(*number);
            }
            is_used
        });
    }
}

/// Numbers of values that live as long as somebody holds them.
#[derive(Debug)]
pub(crate) struct Held<K, V> {
    by_key: HashMap<K, (u32, Weak<V>)>,
    free: Vec<u32>,
    next: u32,
    /// How many there were when those that nobody holds were last forgotten.
    swept: usize,
}

impl<K, V> Default for Held<K, V> {
    fn default() -> Self {
        Held { by_key: HashMap::new(), free: Vec::new(), next: 0, swept: 0 }
    }
}

impl<K: Eq + Hash, V> Held<K, V> {
    /// The value of a key; made with its number where nobody holds one.
    pub fn of(&mut self, key: K, make: impl FnOnce(u32) -> V) -> Arc<V> {
        if let Some(value) = self.by_key.get(&key).and_then(|(_, value)| value.upgrade()) {
            return value;
        }
        if self.by_key.len() >= (2 * self.swept).max(FEW) {
            self.sweep();
        }
        // One that is dead and not yet forgotten keeps its number.
        let number = self.by_key.get(&key).map(|(number, _)| *number);
        let number = number.unwrap_or_else(|| take(&mut self.free, &mut self.next));
        let value = Arc::new(make(number));
        self.by_key.insert(key, (number, Arc::downgrade(&value)));
        value
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, Arc<V>)> {
        self.by_key.iter().filter_map(|(key, (_, value))| Some((key, value.upgrade()?)))
    }

    /// Forgets what nobody holds; without that it is done once there are twice as many as last time.
    pub fn sweep(&mut self) {
        let free = &mut self.free;
        self.by_key.retain(|_, (number, value)| {
            let is_held = value.strong_count() > 0;
            if !is_held {
                free.push(*number);
            }
            is_held
        });
        self.swept = self.by_key.len();
    }
}

fn take(free: &mut Vec<u32>, next: &mut u32) -> u32 {
    free.pop().unwrap_or_else(|| {
        *next += 1;
        *next - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_that_are_gone_give_their_numbers_back() {
        let mut numbers = Numbers::default();
        assert_eq!([numbers.of("a"), numbers.of("b"), numbers.of("a")], [0, 1, 0]);
        let mut numbers = Numbers::default();
        let steady = numbers.of(0);
        for round in 1..10_000 {
            let number = numbers.of(round);
            assert!(number < 200, "{number}");
            numbers.keep(2, |key| [0, round].contains(key));
        }
        assert_eq!(numbers.of(0), steady);
    }

    #[test]
    fn values_give_their_numbers_back_when_nobody_holds_them() {
        let mut held = Held::default();
        let first = held.of("a", |number| number);
        assert!(Arc::ptr_eq(&first, &held.of("a", |number| number)));
        for round in 0..1_000 {
            let (old, new) = (held.of("b", |n| n), held.of("c", |n| n));
            assert_eq!([*first, *old, *new].into_iter().collect::<HashSet<_>>().len(), 3);
            assert!(*new < 3, "round {round}: {new}");
            drop((old, new));
            held.sweep();
        }
        assert_eq!(held.by_key.len(), 1);
    }
}
