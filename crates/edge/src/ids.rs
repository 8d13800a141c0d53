//! Request ids: 32 hexadecimal digits, unique over workers and restarts, made without a system call.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 32]);

impl RequestId {
    pub fn of(high: u64, low: u64) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        RequestId(text)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        // Hexadecimal digits only, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// One worker's source: a random half, and a counter spread over the other half.
pub(crate) struct RequestIds {
    prefix: u64,
    spread: u64,
    count: Cell<u64>,
}

impl RequestIds {
    /// Randomness is that of the standard library's hash keys.
    pub fn new() -> RequestIds {
        let random = |salt: u64| RandomState::new().hash_one(salt);
        // An odd factor maps counters to ids one to one.
        RequestIds { prefix: random(1), spread: random(2) | 1, count: Cell::new(random(3)) }
    }

    pub fn next(&self) -> RequestId {
        self.count.set(self.count.get().wrapping_add(1));
        RequestId::of(self.prefix, self.count.get().wrapping_mul(self.spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_hexadecimal() {
        assert_eq!(RequestId::of(0xab, 1).as_str(), "00000000000000ab0000000000000001");
        let ids = RequestIds::new();
        let mut seen = std::collections::HashSet::new();
        assert!((0..10_000).all(|_| seen.insert(ids.next().0)));
    }
}
