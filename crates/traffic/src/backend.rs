//! What all workers share of one backend: gauges of what is limited, and the retry budget.

use crate::budget::Budget;
use crate::endpoint::Endpoint;
use crate::rates::Rates;
use model::traffic::BackendPolicy;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Live state; keyed by the backend and its policy, it survives new snapshots.
#[derive(Debug, Default)]
pub struct Backend {
    pub requests: Gauge,
    pub pending: Gauge,
    pub retries: Gauge,
    pub budget: Budget,
    compared_ms: AtomicU64,
    /// Locked by one worker each time that rates are compared.
    rates: Mutex<Rates>,
}

/// Success rates are compared this often.
const COMPARE_EVERY_MS: u64 = 10_000;

impl Backend {
    /// What one worker's sweep does for all. True when an endpoint was ejected.
    pub fn tick(&self, policy: &BackendPolicy, endpoints: &[&Endpoint], now_ms: u64) -> bool {
        if policy.ejection.success_rate_below_mean == 0 {
            return false;
        }
        let last = self.compared_ms.load(Relaxed);
        if now_ms.saturating_sub(last) < COMPARE_EVERY_MS {
            return false;
        }
        let is_first = self.compared_ms.compare_exchange(last, now_ms, Relaxed, Relaxed).is_ok();
        let rates = || self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        is_first && rates().compare(endpoints, &policy.ejection, now_ms)
    }
}

/// How much of something is under way. Whoever has no limit does not come here.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// True when there was room; then [`Gauge::leave`] follows.
    pub fn enter(&self, limit: u32) -> bool {
        let is_within = self.0.fetch_add(1, Relaxed) < limit;
        if !is_within {
            self.leave();
        }
        is_within
    }

    pub fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub fn value(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_lets_in_as_many_as_it_may() {
        let gauge = Gauge::default();
        assert_eq!([(); 4].map(|()| gauge.enter(2)), [true, true, false, false]);
        gauge.leave();
        assert!(gauge.enter(2));
        assert!(!gauge.enter(0));
        assert_eq!(gauge.value(), 2);
    }
}
