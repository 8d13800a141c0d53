//! Which worker serves a new connection. The kernel spreads connections by a hash, which is even for many that are short
//! and not for few that are long: a worker that has more than its share gives a new one to the one that has the least.

/// What a worker has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub connections: u32,
    /// Those of them that speak HTTP/2: long, and many requests at a time.
    pub http2: u32,
}

/// The worker that is to serve a connection that `own` has accepted, which is not counted yet; none where it stays.
/// A worker keeps what is within a quarter of the mean, and one more: a connection that moves costs two wake-ups.
pub fn elsewhere(own: usize, workers: impl Iterator<Item = Open> + Clone) -> Option<usize> {
    let mine = workers.clone().nth(own)?;
    let (mut count, mut connections, mut http2) = (0u64, 0u64, 0u64);
    for open in workers.clone() {
        count += 1;
        connections += u64::from(open.connections);
        http2 += u64::from(open.http2);
    }
    // With the new one: 4 * mine > 5 * mean + 4.
    let is_above =
        |mine: u32, sum: u64| 4 * (u64::from(mine) + 1) * count > 5 * (sum + 1) + 4 * count;
    let has_room = |open: &Open| !is_above(open.connections, connections);
    let places = workers.enumerate().filter(|(at, open)| *at != own && has_room(open));
    // Which of them the new one will be is not known yet: it is taken for a long one where these are uneven.
    let found = if is_above(mine.http2, http2) {
        places.min_by_key(|(_, open)| (open.http2, open.connections))
    } else if is_above(mine.connections, connections) {
        places.min_by_key(|(_, open)| (open.connections, open.http2))
    } else {
        None
    };
    found.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn open(connections: u32, http2: u32) -> Open {
        Open { connections, http2 }
    }

    #[test]
    fn stays_within_its_share_and_goes_to_the_least_busy() {
        for (own, workers, expected) in [
            (0, &[open(0, 0)][..], None),
            (0, &[open(500, 500)], None),
            (0, &[open(0, 0), open(0, 0)], None),
            (0, &[open(1, 0), open(0, 0)], None),
            (0, &[open(3, 0), open(0, 0)], Some(1)),
            (1, &[open(3, 0), open(0, 0)], None),
            (0, &[open(100, 0), open(90, 0)], None),
            (0, &[open(140, 0), open(80, 0)], Some(1)),
            (0, &[open(140, 0), open(80, 0), open(70, 0)], Some(2)),
            // HTTP/2 is uneven, though connections are not.
            (0, &[open(100, 20), open(100, 4)], Some(1)),
            (0, &[open(100, 20), open(200, 4)], None),
            (0, &[open(300, 4), open(100, 4), open(100, 0)], Some(2)),
        ] {
            assert_eq!(elsewhere(own, workers.iter().copied()), expected, "{own} of {workers:?}");
        }
    }

    /// The kernel's hash from a seed: 64 long connections, with many short ones of HTTP/1.1 between them or none.
    #[test]
    fn sixty_four_long_connections_are_spread() {
        for seed in 0..200 {
            for (count, short) in [(2, 0), (4, 0), (8, 0), (16, 0), (4, 2_000), (8, 2_000)] {
                let mut random = Random::new(seed);
                let mut workers = vec![Open::default(); count];
                let every = short / 64 + 1;
                let mut moved = 0;
                for n in 0..64 * every {
                    let own = random.below(count);
                    let place = elsewhere(own, workers.iter().copied());
                    moved += usize::from(place.is_some());
                    let place = &mut workers[place.unwrap_or(own)];
                    place.connections += 1;
                    place.http2 += u32::from(n % every == 0);
                }
                let mean = 64.0 / count as f64;
                let most = workers.iter().map(|open| open.http2).max().unwrap_or_default();
                let is_even = f64::from(most) <= 1.5 * mean;
                assert!(is_even, "seed {seed}, {count} workers, {short} short: {workers:?}");
                assert!(moved * 2 <= 64 * every, "{moved} moved: {workers:?}");
            }
        }
    }
}
