//! A small open-addressing hash index from keys kept elsewhere to their numbers: eight bytes a slot, no allocation
//! per key, borrowed lookups. Not a general map: keys are never removed.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const VACANT: u32 = u32::MAX;

/// Numbers of keys by the keys' hashes. At most half of the slots are taken, so that searches end soon.
#[derive(Default)]
pub(crate) struct Index {
    /// A power of two, or none at all.
    slots: Vec<Slot>,
    taken: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    id: u32,
}

impl Index {
    /// The number stored under `hash` for which `is_key` holds.
    pub(crate) fn find(&self, hash: u32, is_key: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(hash)
            .take_while(|slot| slot.id != VACANT)
            .find(|slot| slot.hash == hash && is_key(slot.id))
            .map(|slot| slot.id)
    }

    /// Adds a key that [`Index::find`] does not find.
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        debug_assert_ne!(id, VACANT, "the largest number marks a vacant slot");
        if (self.taken + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.place(Slot { hash, id });
        self.taken += 1;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Every slot once, from the one where `hash` belongs.
    fn probe(&self, hash: u32) -> impl Iterator<Item = &Slot> {
        let start = self.home(hash);
        let (before, after) = self.slots.split_at(start);
        after.iter().chain(before)
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & self.slots.len().saturating_sub(1)
    }

    fn place(&mut self, slot: Slot) {
        let start = self.home(slot.hash);
        let (before, after) = self.slots.split_at_mut(start);
        if let Some(free) = after.iter_mut().chain(before).find(|other| other.id == VACANT) {
            *free = slot;
        }
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(4);
        let old = std::mem::replace(&mut self.slots, vec![Slot { hash: 0, id: VACANT }; size]);
        for slot in old.into_iter().filter(|slot| slot.id != VACANT) {
            self.place(slot);
        }
    }
}

/// Mixes eight bytes at a time by multiplying and folding the halves. Keys come from the configuration, so no secret
/// seed is needed: a request can only look up, and a lookup is bounded by how full the index is.
pub(crate) fn hash(seed: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let start = fold(u64::from(seed) ^ ((bytes.len() as u64) << 32));
    let state = words.iter().fold(start, |state, word| fold(state ^ u64::from_le_bytes(*word)));
    let mut tail = [0; 8];
    tail[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(tail)) as u32
}

fn fold(value: u64) -> u64 {
    let product = u128::from(value ^ 0x2545_f491_4f6c_dd1d) * u128::from(MULTIPLIER);
    (product as u64) ^ (product >> 64) as u64
}

/// Positions in tables are 32 bits wide: half the memory, and far more than a machine's memory could hold.
pub(crate) fn position(number: usize) -> u32 {
    u32::try_from(number).expect("four thousand million parts of a plan do not fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_and_nothing_else() {
        let keys: Vec<String> = (0..5_000).map(|n| format!("host-{n}.example.test")).collect();
        let mut index = Index::default();
        assert_eq!(index.find(hash(0, b"x"), |_| true), None);
        for (id, key) in keys.iter().enumerate() {
            index.insert(hash(0, key.as_bytes()), position(id));
        }
        let find = |key: &str| {
            index
                .find(hash(0, key.as_bytes()), |id| keys.get(id as usize).is_some_and(|k| k == key))
        };
        for (id, key) in keys.iter().enumerate() {
            assert_eq!(find(key), Some(position(id)));
        }
        assert_eq!(find("host-5000.example.test"), None);
    }

    #[test]
    fn hashes_spread_over_slots() {
        let mut slots = vec![0u32; 1024];
        for n in 0..1024 {
            slots[hash(7, format!("/svc-{n}").as_bytes()) as usize & 1023] += 1;
        }
        // 1,024 balls in 1,024 bins: the fullest bin holds about 6; a poor hash would pile up dozens.
        assert!(slots.iter().max() < Some(&12), "{:?}", slots.iter().max());
        assert_ne!(hash(1, b"a"), hash(2, b"a"));
        assert_ne!(hash(1, b"a"), hash(1, b"a\0"));
    }
}
