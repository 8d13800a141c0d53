//! Which backend of a rule takes a request, by weight. Which of its endpoints does is decided by `traffic`.

use crate::caller::Caller;
use crate::decide::Head;
use crate::view::{Backend, Backends, Share};
use model::traffic::{Algorithm, HashKey};
use routing::Headers as _;
use std::cell::RefCell;
use std::net::IpAddr;

/// Positions of one worker. They are numbered as the view numbers rules; a new view may shift them, which moves where a
/// rotation goes on and harms nothing.
#[derive(Default)]
pub(crate) struct Rotation {
    rules: RefCell<Vec<u32>>,
    /// Where each of them begins.
    start: u32,
}

impl Rotation {
    /// Workers that begin at different places spread few requests too.
    pub fn starting_at(start: u32) -> Rotation {
        Rotation { start, ..Rotation::default() }
    }
}

/// Where a request goes by weight.
#[derive(Clone, Copy)]
pub(crate) enum Picked<'v> {
    Backend {
        backend: Backend<'v>,
        /// Its place among those of the rule.
        share: usize,
    },
    NoEndpoint {
        share: usize,
    },
    InvalidBackend,
    /// All weights are zero.
    NoWeight,
}

/// Weighted over backends by a low-discrepancy sequence (multiples of the golden ratio), so that any run of requests
/// has shares close to the weights.
pub(crate) fn pick<'v>(
    rotation: &Rotation,
    rule: u32,
    backends: &Backends,
    backend: impl Fn(u32) -> Option<Backend<'v>>,
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
    let Some(number) = share.backend else { return Picked::InvalidBackend };
    match backend(number).filter(|backend| !backend.members.is_empty()) {
        Some(backend) => Picked::Backend { backend, share: at },
        None => Picked::NoEndpoint { share: at },
    }
}

/// What consistent hashing goes by; none where the algorithm is another, or the request does not carry it.
pub(crate) fn key(algorithm: &Algorithm, request: Head<'_>, caller: Caller<'_>) -> Option<u64> {
    let Algorithm::ConsistentHash(key) = algorithm else { return None };
    match key {
        HashKey::SourceAddress => Some(key_of_address(caller.ip())),
        HashKey::Header(name) => request.values(name).next().map(traffic::hash),
        HashKey::Cookie(name) => request
            .values("cookie")
            .find_map(|cookies| pair(cookies, b';', name))
            .map(traffic::hash),
        HashKey::QueryParameter(name) => pair(request.query()?, b'&', name).map(traffic::hash),
    }
}

pub(crate) fn key_of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => traffic::hash(&address.octets()),
        IpAddr::V6(address) => traffic::hash(&address.octets()),
    }
}

/// The value of a name in `name=value` pairs, as it is written.
fn pair<'a>(pairs: &'a [u8], separator: u8, name: &str) -> Option<&'a [u8]> {
    pairs
        .split(|byte| *byte == separator)
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
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

    fn share(weight: u32, backend: Option<u32>) -> Share {
        Share { weight, backend }
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
        for (shares, expected) in [
            (vec![share(0, Some(0)), share(0, Some(1))], "no weight"),
            (vec![share(0, Some(0))], "no weight"),
            (vec![], "no weight"),
            (vec![share(1, None)], "invalid"),
            (vec![share(1, Some(0))], "no endpoint"),
        ] {
            let backends = Backends::new(shares);
            let picked = match pick(&rotation, 0, &backends, |_| None) {
                Picked::Backend { .. } => "backend",
                Picked::NoEndpoint { .. } => "no endpoint",
                Picked::InvalidBackend => "invalid",
                Picked::NoWeight => "no weight",
            };
            assert_eq!(picked, expected);
        }
    }

    #[test]
    fn finds_a_pair_by_its_whole_name() {
        for (pairs, separator, expected) in [
            ("a=1; user=7; b=2", b';', Some("7")),
            ("superuser=1;user=2", b';', Some("2")),
            ("user", b';', None),
            ("x=user=3", b'&', None),
            ("q=1&user=", b'&', Some("")),
        ] {
            let found = pair(pairs.as_bytes(), separator, "user");
            assert_eq!(found, expected.map(str::as_bytes), "{pairs}");
        }
    }
}
