//! Hash tables for the pure crates: `std`'s, with a hasher that is several times as fast as SipHash on short keys.
//!
//! The hasher has no secret seed, so whoever chooses the keys can make them collide. It is for names out of manifests,
//! whose number is bounded ([`crate::limits::FOLDER_OBJECTS`]), never for what a client sends. Nothing may depend on
//! the order in which a table is walked.

use std::hash::{BuildHasherDefault, Hasher};

pub type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FoldHasher>>;
pub type HashSet<K> = std::collections::HashSet<K, BuildHasherDefault<FoldHasher>>;

/// Folds eight bytes at a time into the state by a multiplication of 64 by 64 bits, both halves kept.
#[derive(Clone, Copy, Default)]
pub struct FoldHasher(u64);

/// Ones and zeros in no pattern: the fractional digits of pi and of e, the last of the latter made odd.
const PI: u64 = 0x243f_6a88_85a3_08d3;
const E: u64 = 0xb7e1_5162_8aed_2a6b;

impl FoldHasher {
    #[inline]
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ PI ^ word) * u128::from(E);
        self.0 = (product as u64) ^ ((product >> 64) as u64).rotate_left(23);
    }
}

impl Hasher for FoldHasher {
    /// The length of the last word is folded in with it, so that zeros at the end are not lost.
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((word, after)) = rest.split_first_chunk::<8>() {
            self.fold(u64::from_le_bytes(*word));
            rest = after;
        }
        let last = match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
            (Some(first), Some(last), _) => {
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 24
            }
            (_, _, [a, b, c]) => u64::from(u32::from_le_bytes([*a, *b, *c, 0])),
            (_, _, [a, b]) => u64::from(u16::from_le_bytes([*a, *b])),
            (_, _, [a]) => u64::from(*a),
            _ => 0,
        };
        self.fold(last ^ (rest.len() as u64) << 56);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.fold(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.fold(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.fold(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }

    /// Tables take the upper bits as tags and the lower ones as places: the last multiplication mixes both.
    #[inline]
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.fold(E);
        last.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, Hash};

    fn hash<T: Hash>(value: T) -> u64 {
        BuildHasherDefault::<FoldHasher>::default().hash_one(value)
    }

    #[test]
    fn names_that_differ_a_little_are_spread_over_a_table() {
        const BUCKETS: usize = 1 << 14;
        for bits in [0, 50] {
            let mut used = HashSet::default();
            for n in 0..BUCKETS {
                let name = format!("host-{n}.example.test");
                used.insert((hash(name.as_str()) >> bits) as usize % BUCKETS);
            }
            // Of evenly spread keys 1 - 1/e of the buckets are used: 10,357 of 16,384.
            assert!((10_000..10_700).contains(&used.len()), "{} of {BUCKETS}", used.len());
        }
    }

    #[test]
    fn lengths_and_borders_count() {
        let distinct: HashSet<u64> = [
            hash(("", "")),
            hash(("a", "")),
            hash(("", "a")),
            hash(("ab", "c")),
            hash(("a", "bc")),
            hash(("a\0", "bc")),
            hash(("12345678", "")),
            hash(("12345678\0", "")),
        ]
        .into_iter()
        .collect();
        assert_eq!(distinct.len(), 8);
    }
}
