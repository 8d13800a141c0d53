//! Which of several backends takes requests: the first that has enough endpoints in, in the order in which they were
//! declared. The threshold is that of the panic: a backend that would use what is out stands back for the next one.

/// Endpoints of a backend: those that are in, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub used: usize,
    pub all: usize,
    /// With a smaller share than this percentage in, all are used; so they are with none in.
    pub panic_percent: u8,
}

impl Standing {
    /// All are used, those that are out too: too few others are left.
    pub fn is_in_panic(self) -> bool {
        let is_none_in = self.used == 0 && self.all > 0;
        is_none_in || self.used * 100 < usize::from(self.panic_percent) * self.all
    }

    fn is_enough(self) -> bool {
        self.used > 0 && !self.is_in_panic()
    }
}

/// Who takes a request, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Enough(usize),
    /// None has enough; this is the first that has any in.
    Panic(usize),
    /// Not one endpoint of any is in.
    Nobody,
}

/// The first with enough endpoints in; else the first with any.
pub fn takes(tiers: impl Iterator<Item = Standing> + Clone) -> Takes {
    if let Some(at) = tiers.clone().position(Standing::is_enough) {
        return Takes::Enough(at);
    }
    let mut tiers = tiers;
    tiers.position(|tier| tier.used > 0).map_or(Takes::Nobody, Takes::Panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_has_enough() {
        use Takes::{Enough, Nobody, Panic};
        for (percent, tiers, expected) in [
            (50, &[(4, 4), (2, 2)][..], Enough(0)),
            (50, &[(2, 4), (2, 2)], Enough(0)),
            (50, &[(1, 4), (2, 2)], Enough(1)),
            (50, &[(0, 0), (2, 2)], Enough(1)),
            (50, &[(1, 4), (0, 2)], Panic(0)),
            (50, &[(0, 4), (1, 3)], Panic(1)),
            (50, &[(0, 4), (1, 3), (1, 1)], Enough(2)),
            (50, &[(0, 4), (0, 3)], Nobody),
            (50, &[], Nobody),
            (0, &[(1, 100), (2, 2)], Enough(0)),
            (0, &[(0, 100), (2, 2)], Enough(1)),
            (100, &[(3, 4), (2, 2)], Enough(1)),
        ] {
            let standings = tiers.iter().map(|(used, all)| Standing {
                used: *used,
                all: *all,
                panic_percent: percent,
            });
            assert_eq!(takes(standings), expected, "{percent} % of {tiers:?}");
        }
    }
}
