//! What an attempt minds beside the edge's own limits, where a policy says so: responses that give way to a page, how
//! long a body may rest, and how slow a client may be. A request that no such policy is for has none of this.

use crate::additions::Additions;
use crate::answers::Answers;
use crate::deadline::millis;
use crate::refusal::Cause;
use h1::HeaderList;
use model::answers::Rates;
use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) struct Care<'v> {
    gives_way: GivesWay<'v>,
    kept: RefCell<Vec<(&'static [u8], Vec<u8>)>>,
    pub body_timeout_ms: Option<u64>,
    upload: Option<Pace>,
    download: Option<Pace>,
}

#[derive(Clone, Copy)]
enum GivesWay<'v> {
    Nothing,
    /// Responses of an origin that are replaced by pages.
    ToPages(&'v Answers),
    /// What is no page for this status.
    PageFor(u16),
}

/// Lines of a response that still hold when its body is replaced (RFC 9110 sections 10.2.1, 10.2.3 and 11.6.1).
const KEPT: [&[u8]; 3] = [b"allow", b"retry-after", b"www-authenticate"];

/// A client that sends or takes its bytes too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    Sender,
    Reader,
}

impl Slow {
    pub fn cause(self) -> Cause {
        match self {
            Slow::Sender => Cause::RequestRate,
            Slow::Reader => Cause::ResponseRate,
        }
    }
}

impl<'v> Care<'v> {
    /// None where there is nothing to mind.
    pub fn of(answers: &'v Answers, takes_pages: bool) -> Option<Box<Care<'v>>> {
        let intercepts = takes_pages && answers.has_interceptions();
        let limits = &answers.limits;
        if !intercepts && limits.rates.is_none() && limits.body_timeout.is_none() {
            return None;
        }
        let pace = |rate: fn(&Rates) -> Option<NonZeroU32>| {
            let rates = limits.rates.as_ref()?;
            rate(rates).map(|rate| Pace::new(rate, rates.grace))
        };
        Some(Box::new(Care {
            gives_way: if intercepts { GivesWay::ToPages(answers) } else { GivesWay::Nothing },
            kept: RefCell::default(),
            body_timeout_ms: limits.body_timeout.map(millis),
            upload: pace(|rates| rates.request),
            download: pace(|rates| rates.response),
        }))
    }

    /// Of the request for a page.
    pub fn for_page(status: u16) -> Care<'static> {
        Care {
            gives_way: GivesWay::PageFor(status),
            kept: RefCell::default(),
            body_timeout_ms: None,
            upload: None,
            download: None,
        }
    }

    pub fn gives_way(&self, status: u16) -> bool {
        match self.gives_way {
            GivesWay::Nothing => false,
            GivesWay::ToPages(answers) => answers.intercepts(status),
            GivesWay::PageFor(code) => {
                matches!(status, 101 | 204 | 300..400) || (status >= 500 && status != code)
            }
        }
    }

    /// Notes what still holds of a response that gives way to a page; nothing does of those before it.
    pub fn keep(&self, bytes: &[u8], list: &HeaderList) {
        let lines = list.iter().filter_map(|header| {
            let name = header.name(bytes);
            let name = KEPT.into_iter().find(|kept| kept.eq_ignore_ascii_case(name))?;
            Some((name, header.value(bytes).to_vec()))
        });
        self.kept.replace(lines.collect());
    }

    /// Has the page carry that: all lines of a name, and nobody else's.
    pub fn add_kept(&self, page: &mut Additions) {
        let lines = self.kept.take();
        for (at, (name, value)) in lines.iter().enumerate() {
            match lines[..at].iter().any(|(before, _)| before == name) {
                true => page.add(name, &[value]),
                false => page.set(name, &[value]),
            }
        }
    }

    /// Notes how far both bodies are, and whether the client is waited for. Tells when it has been too slow.
    pub fn pace(&self, now_ms: u64, upload: (u64, bool), download: (u64, bool)) -> Option<u64> {
        let due = |pace: &Option<Pace>, (bytes, waits): (u64, bool)| {
            pace.as_ref().and_then(|pace| pace.note(now_ms, bytes, waits))
        };
        let (up, down) = (due(&self.upload, upload), due(&self.download, download));
        up.into_iter().chain(down).min()
    }

    pub fn slow(&self, now_ms: u64) -> Option<Slow> {
        let is_late = |pace: &Option<Pace>| pace.as_ref().is_some_and(|pace| pace.is_late(now_ms));
        if is_late(&self.upload) {
            return Some(Slow::Sender);
        }
        is_late(&self.download).then_some(Slow::Reader)
    }
}

/// A least rate, as time that is left: waiting for the client uses it up, and bytes give it back, up to the grace. The
/// time is that of the last sweep: no clock is read for it.
struct Pace {
    rate: NonZeroU32,
    grace_ns: u64,
    left_ns: Cell<u64>,
    bytes: Cell<u64>,
    waits_since_ms: Cell<Option<u64>>,
}

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

impl Pace {
    fn new(rate: NonZeroU32, grace: Duration) -> Pace {
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        Pace {
            rate,
            grace_ns,
            left_ns: Cell::new(grace_ns),
            bytes: Cell::new(0),
            waits_since_ms: Cell::new(None),
        }
    }

    /// `bytes` in all. When the client is waited for, the moment at which it is too late.
    fn note(&self, now_ms: u64, bytes: u64, waits: bool) -> Option<u64> {
        let new = bytes.saturating_sub(self.bytes.replace(bytes));
        let earned = new.saturating_mul(NS_PER_SECOND) / u64::from(self.rate.get());
        let left = self.left_at(now_ms).saturating_add(earned).min(self.grace_ns);
        self.left_ns.set(left);
        self.waits_since_ms.set(waits.then_some(now_ms));
        waits.then(|| now_ms.saturating_add(left.div_ceil(NS_PER_MS)))
    }

    fn left_at(&self, now_ms: u64) -> u64 {
        let waited = self.waits_since_ms.get().map_or(0, |since| now_ms.saturating_sub(since));
        self.left_ns.get().saturating_sub(waited.saturating_mul(NS_PER_MS))
    }

    fn is_late(&self, now_ms: u64) -> bool {
        self.waits_since_ms.get().is_some() && self.left_at(now_ms) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u32, grace_ms: u64) -> Pace {
        Pace::new(NonZeroU32::new(rate).expect("a rate"), Duration::from_millis(grace_ms))
    }

    #[test]
    fn a_client_at_the_rate_never_is_late_and_a_slower_one_is_when_its_grace_is_used_up() {
        for (bytes_a_second, late_after_s) in
            [(1_000, None), (1_001, None), (500, Some(4)), (0, Some(2))]
        {
            let pace = pace(1_000, 2_000);
            let (mut now_ms, mut bytes) = (0, 0);
            let late = (0..1_000).find_map(|_| {
                pace.note(now_ms, bytes, true);
                now_ms += 100;
                let is_late = pace.is_late(now_ms);
                bytes += bytes_a_second / 10;
                is_late.then_some(now_ms / 1_000)
            });
            match late_after_s {
                None => assert_eq!(late, None, "{bytes_a_second}"),
                Some(seconds) => {
                    assert!(
                        late.is_some_and(|late| late.abs_diff(seconds) <= 1),
                        "{bytes_a_second} {late:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn time_that_nobody_waits_for_the_client_is_not_counted() {
        let pace = pace(1_000, 2_000);
        assert_eq!(pace.note(0, 0, true), Some(2_000));
        assert_eq!(pace.note(1_000, 0, false), None);
        assert!(!pace.is_late(90_000));
        assert_eq!(pace.note(90_000, 0, true), Some(91_000));
        assert!(!pace.is_late(90_999));
        assert!(pace.is_late(91_000));
    }

    #[test]
    fn bytes_give_time_back_up_to_the_grace() {
        let pace = pace(1_000, 2_000);
        pace.note(0, 0, true);
        assert_eq!(pace.note(1_500, 500, true), Some(1_500 + 1_000));
        assert_eq!(pace.note(1_500, 1_000_000, true), Some(1_500 + 2_000));
    }

    #[test]
    fn small_pieces_at_high_rates_count_in_full() {
        let pace = pace(1 << 20, 1_000);
        pace.note(0, 0, true);
        let mut due = None;
        for piece in 1..=1_000 {
            due = pace.note(900, piece * 100, true);
        }
        // 100,000 bytes at 1 MiB a second are 95 ms.
        assert_eq!(due, Some(900 + 100 + 96));
    }

    #[test]
    fn what_is_no_page_gives_way() {
        let care = Care::for_page(404);
        for (status, gives_way) in [
            (200, false),
            (404, false),
            (403, false),
            (500, true),
            (204, true),
            (304, true),
            (301, true),
        ] {
            assert_eq!(care.gives_way(status), gives_way, "{status}");
        }
        assert!(!Care::for_page(503).gives_way(503));
    }
}
