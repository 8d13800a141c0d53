//! Shares of levels that are asked one after the other: the nearest endpoints take what they can, the next ones the rest.
//! Not here: which endpoint of a level takes a request (`balance`).

use model::facts::{Endpoint, Locality};
use model::traffic::Nearest;

/// Of the edge's node, of its zone, elsewhere.
pub const LEVELS: usize = 3;
const NODE: u8 = 0;
const ZONE: u8 = 1;
const ELSEWHERE: u8 = 2;

/// Endpoints of one level: those that are in, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub used: usize,
    pub all: usize,
}

/// An endpoint takes at most this much more than it would if its whole level were in. So a level keeps all requests
/// while five of seven of its endpoints are in, and gives away what is beyond.
const SPARE: f64 = 1.4;

/// Where an endpoint lies for an edge that is there. Hints of the slice come before the endpoint's own place.
pub fn level(here: &Locality, nearest: Nearest, endpoint: &Endpoint) -> u8 {
    fn is_for<T: PartialEq>(hints: &[T], own: &Option<T>, here: &Option<T>) -> bool {
        match (here, hints) {
            (None, _) => false,
            (Some(_), []) => own == here,
            (Some(here), hints) => hints.contains(here),
        }
    }
    let hints = &endpoint.hints;
    let is_of_node = || is_for(&hints.nodes, &endpoint.node, &here.node);
    let is_of_zone = || is_for(&hints.zones, &endpoint.zone, &here.zone);
    match nearest {
        Nearest::Node if is_of_node() => NODE,
        Nearest::Node | Nearest::Zone if is_of_zone() => ZONE,
        _ => ELSEWHERE,
    }
}

/// The share of requests of each level, which sum to 1 where any endpoint is in. Where all levels together have too
/// little, each takes in proportion to what it has.
pub fn shares(levels: &[Level; LEVELS]) -> [f64; LEVELS] {
    let room = levels.map(|level| match level.all {
        0 => 0.0,
        all => (SPARE * level.used as f64 / all as f64).min(1.0),
    });
    let sum: f64 = room.iter().sum();
    if sum <= 1.0 {
        return if sum > 0.0 { room.map(|room| room / sum) } else { room };
    }
    let mut left = 1.0;
    room.map(|room| {
        let share = room.min(left);
        left -= share;
        share
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::facts::Hints;
    use model::{Kind, ObjectId};

    #[test]
    fn the_near_take_what_they_can() {
        let of = |levels: [(usize, usize); LEVELS]| {
            shares(&levels.map(|(used, all)| Level { used, all })).map(|s| (s * 100.0).round())
        };
        for (levels, expected) in [
            ([(0, 0), (3, 3), (6, 6)], [0.0, 100.0, 0.0]),
            ([(0, 0), (5, 7), (6, 6)], [0.0, 100.0, 0.0]),
            ([(0, 0), (2, 4), (6, 6)], [0.0, 70.0, 30.0]),
            ([(0, 0), (0, 4), (6, 6)], [0.0, 0.0, 100.0]),
            ([(0, 0), (0, 0), (6, 6)], [0.0, 0.0, 100.0]),
            ([(1, 1), (3, 3), (6, 6)], [100.0, 0.0, 0.0]),
            ([(1, 2), (1, 4), (6, 6)], [70.0, 30.0, 0.0]),
            ([(1, 4), (1, 4), (6, 6)], [35.0, 35.0, 30.0]),
            ([(0, 0), (1, 4), (1, 4)], [0.0, 50.0, 50.0]),
            ([(0, 0), (1, 7), (3, 7)], [0.0, 25.0, 75.0]),
            ([(0, 1), (0, 2), (0, 3)], [0.0, 0.0, 0.0]),
        ] {
            assert_eq!(of(levels), expected, "{levels:?}");
        }
    }

    #[test]
    fn hints_come_before_the_place() {
        let here = Locality { zone: Some("a".into()), node: Some("n1".into()) };
        let nowhere = Locality::default();
        let endpoint = |zone: Option<&str>, node: Option<&str>, zones: &[&str], nodes: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
            Endpoint {
                zone: zone.map(Into::into),
                node: node.map(Into::into),
                hints: Hints { zones: names(zones), nodes: names(nodes) },
                ..Endpoint::ready(
                    ([127, 0, 0, 1], 1).into(),
                    ObjectId::new(Kind::ENDPOINT_SLICE, "n", "s"),
                )
            }
        };
        for (endpoint, nearest, expected) in [
            (endpoint(Some("a"), Some("n1"), &[], &[]), Nearest::Any, ELSEWHERE),
            (endpoint(Some("a"), Some("n1"), &[], &[]), Nearest::Zone, ZONE),
            (endpoint(Some("a"), Some("n1"), &[], &[]), Nearest::Node, NODE),
            (endpoint(Some("a"), Some("n2"), &[], &[]), Nearest::Node, ZONE),
            (endpoint(Some("b"), Some("n2"), &[], &[]), Nearest::Node, ELSEWHERE),
            (endpoint(Some("b"), None, &["a", "c"], &[]), Nearest::Zone, ZONE),
            (endpoint(Some("a"), None, &["b"], &[]), Nearest::Zone, ELSEWHERE),
            (endpoint(Some("b"), Some("n2"), &["b"], &["n1"]), Nearest::Node, NODE),
            (endpoint(Some("a"), Some("n1"), &["a"], &["n2"]), Nearest::Node, ZONE),
            (endpoint(None, None, &[], &[]), Nearest::Node, ELSEWHERE),
        ] {
            assert_eq!(level(&here, nearest, &endpoint), expected, "{endpoint:?}");
            assert_eq!(
                level(&nowhere, nearest, &endpoint),
                ELSEWHERE,
                "an edge that does not know"
            );
        }
    }
}
