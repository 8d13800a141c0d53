//! What an endpoint gets that fails in a row and is used nevertheless, because too many are out or too few are left: a
//! request now and then, which shows whether it is well again. What a row is, `endpoint` decides; who is asked instead,
//! `balance`.

use crate::endpoint::Reason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The time in milliseconds from which a request is let through, and in the lowest bit whether the row is one of answers
/// 5xx; 0 without a row.
#[derive(Debug, Default)]
pub(crate) struct Trickle(AtomicU64);

/// From one request that is let through to the next, of all workers.
const EVERY_MS: u64 = 1_000;
const OF_ERRORS: u64 = 1;

impl Trickle {
    /// The endpoint failed so often in a row that it is to be out. With rows of both kinds, that of answers 5xx counts: it
    /// is the one that only a success ends.
    pub fn begin(&self, row: Reason, now_ms: u64) {
        let of_errors = if row == Reason::ServerErrors { OF_ERRORS } else { 0 };
        let first = next(now_ms) | of_errors;
        if let Err(known) = self.0.compare_exchange(0, first, Relaxed, Relaxed)
            && known & OF_ERRORS < of_errors
        {
            self.0.fetch_or(OF_ERRORS, Relaxed);
        }
    }

    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// True once each second.
    pub fn lets_through(&self, now_ms: u64) -> bool {
        let known = self.0.load(Relaxed);
        let following = next(now_ms) | (known & OF_ERRORS);
        now_ms >= known >> 1 && self.0.compare_exchange(known, following, Relaxed, Relaxed).is_ok()
    }

    /// It answered, if only 5xx.
    pub fn end_failures(&self) {
        let known = self.0.load(Relaxed);
        if known != 0 && known & OF_ERRORS == 0 {
            self.0.store(0, Relaxed);
        }
    }

    pub fn end(&self) {
        if self.is_on() {
            self.0.store(0, Relaxed);
        }
    }
}

fn next(now_ms: u64) -> u64 {
    now_ms.saturating_add(EVERY_MS) << 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_until_the_row_ends() {
        let trickle = Trickle::default();
        assert!(!trickle.is_on());
        trickle.begin(Reason::Failures, 0);
        let through = |range: std::ops::Range<u64>| {
            range.filter(|now_ms| trickle.lets_through(*now_ms)).collect::<Vec<u64>>()
        };
        assert_eq!(through(0..3_500), [1_000, 2_000, 3_000]);
        trickle.begin(Reason::Failures, 3_500);
        assert_eq!(through(3_500..4_500), [4_000], "what fails again is not put off");
        trickle.end();
        assert!(!trickle.is_on());
    }

    #[test]
    fn an_answer_5xx_ends_a_row_of_failures_and_none_of_5xx() {
        for (rows, is_on) in [
            (&[Reason::Failures][..], false),
            (&[Reason::ServerErrors], true),
            (&[Reason::Failures, Reason::ServerErrors], true),
            (&[Reason::ServerErrors, Reason::Failures], true),
        ] {
            let trickle = Trickle::default();
            rows.iter().for_each(|row| trickle.begin(*row, 9));
            trickle.end_failures();
            assert_eq!(trickle.is_on(), is_on, "{rows:?}");
            trickle.end();
            assert!(!trickle.is_on());
        }
    }
}
