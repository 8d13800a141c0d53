//! Which backend of a rule, and which endpoint of it, takes a request. One function, so that better balancing
//! replaces it in one place.

use crate::view::{Backends, Share};
use std::cell::RefCell;
use std::net::SocketAddr;

/// Positions of one worker. They are numbered as the view numbers rules and services; a new view may shift them,
/// which moves where a rotation goes on and harms nothing.
#[derive(Default)]
pub(crate) struct Rotation {
    rules: RefCell<Vec<u32>>,
    services: RefCell<Vec<u32>>,
    /// Where each of them begins.
    start: u32,
}

impl Rotation {
    /// Workers that begin at different places spread few requests too.
    pub fn starting_at(start: u32) -> Rotation {
        Rotation { start, ..Rotation::default() }
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked<'v> {
    /// These endpoints, beginning with the one at `first` and going round.
    Endpoints {
        endpoints: &'v [SocketAddr],
        first: usize,
        /// The backend's place among those of the rule.
        share: usize,
    },
    NoEndpoint,
    InvalidBackend,
    /// All weights are zero.
    NoWeight,
}

/// Weighted over backends by a low-discrepancy sequence (multiples of the golden ratio), so that any run of requests
/// has shares close to the weights; round robin over the endpoints of the one chosen.
pub(crate) fn pick<'v>(
    rotation: &Rotation,
    rule: u32,
    backends: &Backends,
    endpoints: impl Fn(u32) -> &'v [SocketAddr],
) -> Picked<'v> {
    let (at, share) = match backends.shares() {
        [only] if only.weight > 0 => (0, only),
        shares => {
            let turn = next(&rotation.rules, rule, rotation.start);
            match choose(shares, backends.total(), turn) {
                Some(share) => share,
                None => return Picked::NoWeight,
            }
        }
    };
    let Some(service) = share.service else { return Picked::InvalidBackend };
    match endpoints(service) {
        [] => Picked::NoEndpoint,
        [one] => Picked::Endpoints { endpoints: std::slice::from_ref(one), first: 0, share: at },
        many => {
            let first = next(&rotation.services, service, rotation.start) as usize % many.len();
            Picked::Endpoints { endpoints: many, first, share: at }
        }
    }
}

/// 2^32 divided by the golden ratio.
const GOLDEN: u32 = 0x9E37_79B9;

fn choose(shares: &[Share], total: u64, turn: u32) -> Option<(usize, &Share)> {
    let point = u64::from(turn.wrapping_mul(GOLDEN));
    let mut target = ((u128::from(point) * u128::from(total)) >> 32) as u64;
    shares.iter().enumerate().find(|(_, share)| {
        let weight = u64::from(share.weight);
        let taken = target < weight;
        target = target.saturating_sub(weight);
        taken
    })
}

fn next(counters: &RefCell<Vec<u32>>, at: u32, start: u32) -> u32 {
    let mut counters = counters.borrow_mut();
    let at = at as usize;
    if counters.len() <= at {
        counters.resize(at + 1, start);
    }
    counters[at] = counters[at].wrapping_add(1);
    counters[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(weight: u32, service: Option<u32>) -> Share {
        Share { weight, service }
    }

    #[test]
    fn shares_are_close_to_the_weights_in_any_run() {
        for weights in [vec![1, 1], vec![9, 1], vec![1, 2, 3], vec![0, 5], vec![100, 1, 50, 49]] {
            let total: u32 = weights.iter().sum();
            let shares: Vec<Share> = weights.iter().map(|w| share(*w, None)).collect();
            for start in [0u32, 17, u32::MAX - 50] {
                let mut counts = vec![0f64; weights.len()];
                for turn in 0..1_000u32 {
                    let chosen = choose(&shares, u64::from(total), start.wrapping_add(turn));
                    let (at, _) = chosen.expect("a weight is not zero");
                    counts[at] += 1.0;
                }
                for (count, weight) in counts.iter().zip(&weights) {
                    let expected = 1_000.0 * f64::from(*weight) / f64::from(total);
                    assert!((count - expected).abs() <= 6.0, "{weights:?}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn says_why_there_is_no_endpoint() {
        let rotation = Rotation::default();
        let none = |_| -> &'static [SocketAddr] { &[] };
        for (shares, expected) in [
            (vec![share(0, Some(0)), share(0, Some(1))], Picked::NoWeight),
            (vec![share(0, Some(0))], Picked::NoWeight),
            (vec![], Picked::NoWeight),
            (vec![share(1, None)], Picked::InvalidBackend),
            (vec![share(1, Some(0))], Picked::NoEndpoint),
        ] {
            let backends = Backends::new(shares);
            assert_eq!(pick(&rotation, 0, &backends, none), expected);
        }
    }

    #[test]
    fn goes_round_over_endpoints() {
        let addresses: Vec<SocketAddr> =
            (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let rotation = Rotation::default();
        let backends = Backends::new(vec![share(1, Some(4))]);
        let mut counts = [0; 3];
        for _ in 0..30 {
            match pick(&rotation, 0, &backends, |_| &addresses) {
                Picked::Endpoints { first, .. } => counts[first] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(counts, [10, 10, 10]);
    }

    #[test]
    fn first_requests_of_workers_go_to_different_endpoints() {
        let addresses: Vec<SocketAddr> =
            (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let backends = Backends::new(vec![share(1, Some(0))]);
        let mut firsts: Vec<usize> = (0..3)
            .map(|worker| {
                match pick(&Rotation::starting_at(worker), 0, &backends, |_| &addresses) {
                    Picked::Endpoints { first, .. } => first,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        firsts.sort_unstable();
        assert_eq!(firsts, [0, 1, 2]);
    }
}
