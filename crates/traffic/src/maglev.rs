//! A lookup table for consistent hashing (Maglev, NSDI 2016, section 3.4): even shares, and few keys move when an
//! endpoint comes or goes.

use crate::random::mix;

#[derive(Clone, Debug)]
pub(crate) struct Maglev {
    slots: Box<[u32]>,
}

/// Primes; a table has about a hundred slots an endpoint.
const SIZES: [usize; 6] = [251, 1_009, 4_093, 16_381, 65_521, 262_139];

impl Maglev {
    /// `identities` are hashes of the members, in any order; slots hold their positions.
    pub fn new(identities: &[u64]) -> Maglev {
        let wanted = identities.len().saturating_mul(100);
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let mut slots = vec![u32::MAX; size];
        if identities.is_empty() {
            return Maglev { slots: [].into() };
        }
        // Members take turns by identity, so that the order in which they are listed decides nothing.
        let mut turns: Vec<(u64, u32)> =
            identities.iter().zip(0u32..).map(|(identity, at)| (*identity, at)).collect();
        turns.sort_unstable();
        let mut preferences: Vec<Preference> =
            turns.iter().map(|(identity, at)| Preference::new(*identity, *at, size)).collect();
        let mut left = size;
        'fill: loop {
            for preference in &mut preferences {
                let slot = preference.next_free(&slots);
                slots[slot] = preference.member;
                left -= 1;
                if left == 0 {
                    break 'fill;
                }
            }
        }
        Maglev { slots: slots.into() }
    }

    pub fn member(&self, key: u64) -> Option<usize> {
        let slot = (u128::from(key) * self.slots.len() as u128) >> 64;
        self.slots.get(slot as usize).map(|member| *member as usize)
    }
}

/// The order in which a member asks for slots.
struct Preference {
    member: u32,
    slot: usize,
    skip: usize,
}

impl Preference {
    fn new(identity: u64, member: u32, size: usize) -> Preference {
        let skip = 1 + (mix(identity ^ 0x5555_5555_5555_5555) % (size as u64 - 1)) as usize;
        Preference { member, slot: (mix(identity) % size as u64) as usize, skip }
    }

    /// There is one: the caller counts.
    fn next_free(&mut self, slots: &[u32]) -> usize {
        loop {
            let slot = self.slot;
            self.slot = (self.slot + self.skip) % slots.len();
            if slots[slot] == u32::MAX {
                return slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(count: u64) -> Vec<u64> {
        (1..=count).map(mix).collect()
    }

    #[test]
    fn shares_are_even() {
        for count in [1, 2, 3, 7, 50] {
            let table = Maglev::new(&identities(count));
            let mut shares = vec![0usize; count as usize];
            table.slots.iter().for_each(|member| shares[*member as usize] += 1);
            let (min, max) = (shares.iter().min(), shares.iter().max());
            assert!(max.copied().unwrap_or(0) - min.copied().unwrap_or(0) <= 1, "{shares:?}");
        }
        assert_eq!(Maglev::new(&[]).member(7), None);
    }

    #[test]
    fn few_keys_move_when_a_member_goes() {
        let all = identities(10);
        let (before, after) = (Maglev::new(&all), Maglev::new(&all[..9]));
        let keys = 10_000u64;
        let moved = (0..keys)
            .filter(|key| {
                let was = before.member(mix(*key));
                was != Some(9) && was != after.member(mix(*key))
            })
            .count();
        assert!(moved < 600, "{moved} of {keys} keys moved that did not have to");
    }

    #[test]
    fn the_order_of_members_decides_nothing() {
        let all = identities(6);
        let reversed: Vec<u64> = all.iter().rev().copied().collect();
        let (one, other) = (Maglev::new(&all), Maglev::new(&reversed));
        for key in (0..500).map(mix) {
            assert_eq!(one.member(key).map(|at| all[at]), other.member(key).map(|at| reversed[at]));
        }
    }
}
