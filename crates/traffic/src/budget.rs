//! A retry budget (GEP-3388): retries are at most a share of the requests of an interval, or a least number a second.

use model::traffic::RetryBudget;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Of one backend, over all workers. Two halves of the interval: the one that runs, and the one before it. Requests
/// arrive here in sums, when workers sweep; a retry arrives when it is asked for.
#[derive(Debug, Default)]
pub struct Budget {
    /// Number of the half that runs.
    half: AtomicU64,
    requests: [AtomicU32; 2],
    retries: [AtomicU32; 2],
}

impl Budget {
    pub fn add_requests(&self, count: u32, rules: &RetryBudget, now_ms: u64) {
        let running = self.turn(rules, now_ms);
        self.requests[running].fetch_add(count, Relaxed);
    }

    /// True when one more retry is within the budget, which then has one less.
    pub fn take(&self, rules: &RetryBudget, now_ms: u64) -> bool {
        let running = self.turn(rules, now_ms);
        let sum = |counts: &[AtomicU32; 2]| {
            u64::from(counts[0].load(Relaxed)) + u64::from(counts[1].load(Relaxed))
        };
        let share = sum(&self.requests) * u64::from(rules.percent) / 100;
        let least = u64::from(rules.min_per_second) * rules.interval.as_secs().max(1);
        let is_within = sum(&self.retries) < share.max(least);
        if is_within {
            self.retries[running].fetch_add(1, Relaxed);
        }
        is_within
    }

    /// The slot of the half that runs. What is older is forgotten; two workers that do so at one moment may lose a
    /// count, which only makes the budget a little wider.
    fn turn(&self, rules: &RetryBudget, now_ms: u64) -> usize {
        let length = (rules.interval.as_millis() as u64 / 2).max(1);
        let (now, before) = (now_ms / length, self.half.load(Relaxed));
        let is_first =
            now > before && self.half.compare_exchange(before, now, Relaxed, Relaxed).is_ok();
        if is_first {
            let passed = if now - before == 1 { 1 } else { 2 };
            for half in 0..passed {
                let slot = ((now + half) % 2) as usize;
                self.requests[slot].store(0, Relaxed);
                self.retries[slot].store(0, Relaxed);
            }
        }
        (now % 2) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rules(percent: u8, min_per_second: u32) -> RetryBudget {
        RetryBudget { percent, interval: Duration::from_secs(10), min_per_second }
    }

    fn taken(budget: &Budget, rules: &RetryBudget, now_ms: u64) -> usize {
        (0..10_000).take_while(|_| budget.take(rules, now_ms)).count()
    }

    #[test]
    fn a_share_of_the_requests_or_the_least_whichever_is_more() {
        for (percent, least, requests, expected) in [
            (20, 0, 1_000, 200),
            (20, 10, 0, 100),
            (20, 10, 1_000, 200),
            (0, 0, 1_000, 0),
            (100, 1, 7, 10),
        ] {
            let (budget, rules) = (Budget::default(), rules(percent, least));
            budget.add_requests(requests, &rules, 100_000);
            assert_eq!(taken(&budget, &rules, 100_001), expected, "{percent} % of {requests}");
        }
    }

    #[test]
    fn what_is_older_than_the_interval_is_forgotten() {
        let (budget, rules) = (Budget::default(), rules(10, 0));
        budget.add_requests(100, &rules, 50_000);
        assert_eq!(taken(&budget, &rules, 50_000), 10);
        assert_eq!(taken(&budget, &rules, 54_999), 0);
        budget.add_requests(100, &rules, 55_000);
        assert_eq!(
            taken(&budget, &rules, 55_001),
            10,
            "of the half that runs and the one before it"
        );
        assert_eq!(taken(&budget, &rules, 65_000), 0, "no request of the interval is left");
        budget.add_requests(50, &rules, 65_000);
        assert_eq!(taken(&budget, &rules, 65_000), 5);
    }
}
