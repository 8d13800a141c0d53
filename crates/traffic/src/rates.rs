//! Rates of success of a backend's endpoints, compared with each other. Counts stand with the endpoints, which several
//! backends may share; each backend remembers up to where it has looked.

use crate::endpoint::{Endpoint, Reason, Tally};
use model::traffic::Ejection;
use std::collections::HashMap;
use std::num::NonZeroU64;

/// Fewer requests say nothing about a rate.
const REQUESTS_FOR_A_RATE: u32 = 20;
/// Fewer rates are not compared: each needs two others at least.
const RATES_FOR_A_MEAN: usize = 3;

/// What endpoints had when they were last compared, by identity.
#[derive(Debug, Default)]
pub(crate) struct Rates(HashMap<NonZeroU64, Tally>);

impl Rates {
    /// Ejects the endpoints whose rate since the last time is too far below the mean of the others. True when there was
    /// one. An endpoint that is seen for the first time is compared the next time.
    pub fn compare(&mut self, endpoints: &[&Endpoint], rules: &Ejection, now_ms: u64) -> bool {
        let known = std::mem::take(&mut self.0);
        let mut rates: Vec<(&Endpoint, f64)> = Vec::new();
        for endpoint in endpoints {
            let tally = endpoint.tally();
            self.0.insert(endpoint.identity(), tally);
            let before = known.get(&endpoint.identity());
            rates.extend(
                before.and_then(|before| rate(*before, tally)).map(|rate| (*endpoint, rate)),
            );
        }
        if rates.len() < RATES_FOR_A_MEAN {
            return false;
        }
        let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
        let others = (rates.len() - 1) as f64;
        let margin = f64::from(rules.success_rate_below_mean) / 100.0;
        let mut changed = false;
        for (endpoint, _) in rates.iter().filter(|(_, rate)| *rate < (sum - rate) / others - margin)
        {
            changed |=
                endpoint.eject(Reason::SuccessRate, rules, now_ms, endpoints.iter().copied());
        }
        changed
    }
}

/// Counts go round.
fn rate(before: Tally, now: Tally) -> Option<f64> {
    let requests = now.requests.wrapping_sub(before.requests);
    let successes = now.successes.wrapping_sub(before.successes).min(requests);
    (requests >= REQUESTS_FOR_A_RATE).then(|| f64::from(successes) / f64::from(requests))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(below_mean: u8) -> Ejection {
        Ejection { success_rate_below_mean: below_mean, max_percent: 100, ..Ejection::default() }
    }

    fn endpoints(count: u16) -> Vec<Endpoint> {
        (0..count)
            .map(|n| Endpoint::new(([127, 0, 0, 1], 1000 + n).into(), u32::from(n), 0))
            .collect()
    }

    /// Those that are out after each had a hundred requests, of which so many went well.
    fn out(successes: &[u32], below_mean: u8) -> Vec<usize> {
        let all = endpoints(successes.len() as u16);
        let peers: Vec<&Endpoint> = all.iter().collect();
        let mut rates = Rates::default();
        assert!(!rates.compare(&peers, &rules(below_mean), 1));
        for (endpoint, successes) in all.iter().zip(successes) {
            endpoint.add_requests(100, *successes);
        }
        rates.compare(&peers, &rules(below_mean), 5);
        (0..all.len()).filter(|at| !all[*at].is_in()).collect()
    }

    #[test]
    fn an_endpoint_is_compared_with_the_others() {
        for (successes, below_mean, expected) in [
            (&[100, 99, 98, 40][..], 20, &[3][..]),
            (&[100, 100, 0], 67, &[2]),
            (&[100, 100, 0], 99, &[2]),
            (&[100, 100, 0], 100, &[]),
            (&[100, 100, 60], 39, &[2]),
            (&[100, 100, 60], 41, &[]),
            (&[100, 0, 0], 40, &[1, 2]),
            (&[100, 0], 10, &[]),
            (&[70, 70, 70], 1, &[]),
        ] {
            assert_eq!(out(successes, below_mean), expected, "{successes:?} by {below_mean}");
        }
    }

    #[test]
    fn what_one_backend_has_looked_at_is_not_lost_to_another() {
        let all = endpoints(3);
        let peers: Vec<&Endpoint> = all.iter().collect();
        let (mut one, mut other) = (Rates::default(), Rates::default());
        let (lenient, strict) = (rules(90), rules(20));
        assert!(!one.compare(&peers, &lenient, 1) && !other.compare(&peers, &strict, 1));
        for (endpoint, successes) in all.iter().zip([100, 100, 50]) {
            endpoint.add_requests(100, successes);
        }
        assert!(!one.compare(&peers, &lenient, 2));
        assert!(other.compare(&peers, &strict, 2), "the first did not take its counts");
        all[2].readmit(3);
        assert!(!other.compare(&peers, &strict, 4), "nothing since");
    }

    #[test]
    fn few_requests_and_old_ones_say_nothing() {
        let all = endpoints(3);
        let peers: Vec<&Endpoint> = all.iter().collect();
        let mut rates = Rates::default();
        all[0].add_requests(1_000, 0);
        assert!(!rates.compare(&peers, &rules(10), 1), "before it looked the first time");
        all.iter().for_each(|endpoint| endpoint.add_requests(19, 0));
        all[1].add_requests(81, 100);
        all[2].add_requests(81, 100);
        assert!(!rates.compare(&peers, &rules(10), 2));
        // Counts go round.
        all.iter().for_each(|endpoint| endpoint.add_requests(u32::MAX, u32::MAX));
        assert!(!rates.compare(&peers, &rules(10), 3));
        all[1].add_requests(100, 100);
        all[2].add_requests(100, 100);
        all[0].add_requests(100, 20);
        assert!(rates.compare(&peers, &rules(10), 4));
    }
}
