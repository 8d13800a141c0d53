//! One endpoint as all workers and routes see it: in, ejected for what it did to requests, or unhealthy by its checks.
//! A request that goes well writes nothing here, unless one before it went wrong.

use crate::trickle::Trickle;
use model::id::ServicePort;
use model::traffic::Ejection;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    alternate: Option<SocketAddr>,
    /// Its place in a balancer's table of loads; another endpoint's once nobody holds this one.
    number: u32,
    /// No other endpoint's, ever.
    identity: NonZeroU64,
    appeared_ms: u64,
    failures: AtomicU32,
    /// Milliseconds, and in the lowest byte what it was; 0 before any.
    last_failure: AtomicU64,
    errors: AtomicU32,
    /// Since its return nothing went well yet: the next failure ejects it again, and so does an answer 5xx where it was
    /// out for these.
    is_watched: AtomicBool,
    /// While it fails so often in a row that it is to be out, be it out or not.
    trickle: Trickle,
    /// 0 while it is not ejected.
    out_until_ms: AtomicU64,
    out_since_ms: AtomicU64,
    reason: AtomicU8,
    returned_ms: AtomicU64,
    ejections_in_row: AtomicU32,
    ejections: AtomicU64,
    is_unhealthy: AtomicBool,
    health_since_ms: AtomicU64,
    /// Active requests of all workers, as of their last sweeps.
    active: AtomicU32,
    requests: AtomicU32,
    successes: AtomicU32,
    /// Locked when it is taken out, and by whoever explains.
    /// Boxed: most endpoints never are.
    taken_out_for: Mutex<Option<Box<TakenOutFor>>>,
}

/// An endpoint is one for all Services that have it: which of them it was taken out for, by its checks and by its requests.
#[derive(Clone, Debug, Default)]
pub struct TakenOutFor {
    pub checks: Option<ServicePort>,
    pub requests: Option<ServicePort>,
}

/// Requests and those of them that went well, from its beginning on; both go round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub requests: u32,
    pub successes: u32,
}

/// How an attempt went, as far as the endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A response 5xx: whole, and maybe the application's own.
    ServerError,
    /// No connection, no response, or one that is none.
    Failure,
}

/// What an endpoint does of late: nothing but fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Failures since it last answered.
    pub in_row: u32,
    /// The last of them, by the number that [`Endpoint::failed`] was given.
    pub what: u8,
    pub last_ms: u64,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Failures,
    ServerErrors,
    SuccessRate,
}

impl Reason {
    const ALL: [Reason; 3] = [Reason::Failures, Reason::ServerErrors, Reason::SuccessRate];

    pub fn sentence(self) -> &'static str {
        match self {
            Reason::Failures => "failed to connect or to answer several times in a row",
            Reason::ServerErrors => "answered 5xx several times in a row",
            Reason::SuccessRate => "succeeds less often than its peers",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    In,
    Ejected { reason: Reason, since_ms: u64, until_ms: u64 },
    Unhealthy { since_ms: u64 },
}

impl Endpoint {
    pub fn new(address: SocketAddr, number: u32, now_ms: u64) -> Endpoint {
        Endpoint {
            address,
            alternate: None,
            number,
            identity: new_identity(),
            appeared_ms: now_ms,
            failures: AtomicU32::new(0),
            last_failure: AtomicU64::new(0),
            errors: AtomicU32::new(0),
            is_watched: AtomicBool::new(false),
            trickle: Trickle::default(),
            out_until_ms: AtomicU64::new(0),
            out_since_ms: AtomicU64::new(0),
            reason: AtomicU8::new(0),
            returned_ms: AtomicU64::new(0),
            ejections_in_row: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            is_unhealthy: AtomicBool::new(false),
            health_since_ms: AtomicU64::new(now_ms),
            active: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            successes: AtomicU32::new(0),
            taken_out_for: Mutex::default(),
        }
    }

    /// With an address of the other family.
    pub fn or(self, alternate: Option<SocketAddr>) -> Endpoint {
        Endpoint { alternate, ..self }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address of the other family.
    pub fn alternate(&self) -> Option<SocketAddr> {
        self.alternate
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn identity(&self) -> NonZeroU64 {
        self.identity
    }

    pub fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    pub fn is_in(&self) -> bool {
        self.out_until_ms.load(Relaxed) == 0 && !self.is_unhealthy.load(Relaxed)
    }

    pub fn state(&self) -> State {
        let until_ms = self.out_until_ms.load(Relaxed);
        if until_ms != 0 {
            let reason = usize::from(self.reason.load(Relaxed));
            let reason = Reason::ALL.get(reason).copied().unwrap_or(Reason::Failures);
            let since_ms = self.out_since_ms.load(Relaxed);
            return State::Ejected { reason, since_ms, until_ms };
        }
        match self.is_unhealthy.load(Relaxed) {
            true => State::Unhealthy { since_ms: self.health_since_ms.load(Relaxed) },
            false => State::In,
        }
    }

    /// It was ejected by requests for this Service.
    pub fn ejected_for(&self, service: &ServicePort) {
        self.note_cause(|causes| causes.requests = Some(service.clone()));
    }

    /// A check of this Service has failed too often.
    pub fn unhealthy_for(&self, service: &ServicePort) {
        self.note_cause(|causes| causes.checks = Some(service.clone()));
    }

    fn note_cause(&self, note: impl FnOnce(&mut TakenOutFor)) {
        let mut causes = self.taken_out_for.lock().unwrap_or_else(PoisonError::into_inner);
        note(causes.get_or_insert_default());
    }

    /// The Service for which it is in the state that it is in; none while it is in use.
    pub fn is_out_for(&self) -> Option<ServicePort> {
        let TakenOutFor { checks, requests } = self.taken_out_for();
        match self.state() {
            State::In => None,
            State::Ejected { .. } => requests,
            State::Unhealthy { .. } => checks,
        }
    }

    /// Each time the last.
    pub fn taken_out_for(&self) -> TakenOutFor {
        let causes = self.taken_out_for.lock().unwrap_or_else(PoisonError::into_inner);
        causes.as_deref().cloned().unwrap_or_default()
    }

    /// It fails so often in a row that it is to be out: where it is used all the same, others are asked first.
    pub(crate) fn is_passed_over(&self) -> bool {
        self.trickle.is_on()
    }

    /// One request may show whether it is well again.
    pub(crate) fn is_tried_again(&self, now_ms: u64) -> bool {
        self.trickle.lets_through(now_ms)
    }

    /// Notes how an attempt went. True when that ejected the endpoint: whoever keeps lists makes them anew.
    pub fn observe<'e>(
        &'e self,
        outcome: Outcome,
        rules: &Ejection,
        now_ms: u64,
        peers: impl Iterator<Item = &'e Endpoint>,
    ) -> bool {
        let (count, limit, reason) = match outcome {
            Outcome::Success => {
                self.went_well();
                return false;
            }
            Outcome::Failure => (&self.failures, rules.consecutive_failures, Reason::Failures),
            Outcome::ServerError => {
                self.answered();
                (&self.errors, rules.consecutive_5xx, Reason::ServerErrors)
            }
        };
        // Failures are told of, too; an answer 5xx that does not count costs nothing.
        if limit == 0 && outcome == Outcome::ServerError {
            return false;
        }
        let in_row = count.fetch_add(1, Relaxed).saturating_add(1);
        if limit == 0 || (in_row < limit && !self.is_watched.load(Relaxed)) {
            return false;
        }
        self.trickle.begin(reason, now_ms);
        self.eject(reason, rules, now_ms, peers)
    }

    /// What the failure is that is observed now, by a number of the caller's own.
    pub fn failed(&self, what: u8, now_ms: u64) {
        self.last_failure.store(now_ms << 8 | u64::from(what), Relaxed);
    }

    /// None where it has answered since its last failure.
    pub fn failing(&self) -> Option<Failing> {
        let in_row = self.failures.load(Relaxed);
        let last = self.last_failure.load(Relaxed);
        let failing = Failing { in_row, what: last as u8, last_ms: last >> 8 };
        (in_row > 0).then_some(failing)
    }

    /// For success rates; flushed by workers now and then, not with each request.
    pub fn add_requests(&self, requests: u32, successes: u32) {
        self.requests.fetch_add(requests, Relaxed);
        self.successes.fetch_add(successes, Relaxed);
    }

    /// True when its time out is over, and it is back.
    pub fn tick(&self, now_ms: u64) -> bool {
        let until_ms = self.out_until_ms.load(Relaxed);
        until_ms != 0 && now_ms >= until_ms && self.come_back(until_ms, now_ms)
    }

    /// Checks say that it is well: it is back before its time. True when it was ejected.
    pub fn readmit(&self, now_ms: u64) -> bool {
        let until_ms = self.out_until_ms.load(Relaxed);
        until_ms != 0 && self.come_back(until_ms, now_ms)
    }

    fn come_back(&self, until_ms: u64, now_ms: u64) -> bool {
        self.failures.store(0, Relaxed);
        self.errors.store(0, Relaxed);
        self.trickle.end();
        self.is_watched.store(true, Relaxed);
        self.returned_ms.store(now_ms, Relaxed);
        self.out_until_ms.compare_exchange(until_ms, 0, Relaxed, Relaxed).is_ok()
    }

    /// What checks found. True when that changes the state.
    pub fn set_healthy(&self, is_healthy: bool, now_ms: u64) -> bool {
        let changed = self.is_unhealthy.swap(!is_healthy, Relaxed) == is_healthy;
        if changed {
            self.health_since_ms.store(now_ms, Relaxed);
        }
        changed
    }

    /// Its share of the traffic that it is to get while it warms up: from a tenth to 1.
    pub fn warmth(&self, slow_start: Option<Duration>, now_ms: u64) -> f64 {
        let Some(whole) = slow_start else { return 1.0 };
        let age = now_ms.saturating_sub(self.appeared_ms) as f64;
        (age / whole.as_millis().max(1) as f64).clamp(0.1, 1.0)
    }

    /// One worker's active requests were `before` at its last sweep and are `now`. Gives those of all workers.
    pub(crate) fn exchange_active(&self, before: u32, now: u32) -> u32 {
        if before != now {
            self.active.fetch_add(now.wrapping_sub(before), Relaxed);
        }
        self.active.load(Relaxed)
    }

    /// Reads first: a line that all workers read is written only where something is to be undone.
    fn went_well(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.errors.load(Relaxed) != 0 {
            self.errors.store(0, Relaxed);
        }
        if self.is_watched.load(Relaxed) {
            self.is_watched.store(false, Relaxed);
        }
        self.trickle.end();
    }

    /// 5xx: failures are in a row no more. One that was out for such answers is watched until something goes well.
    fn answered(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        let was_out_for_these = || self.reason.load(Relaxed) == Reason::ServerErrors as u8;
        if self.is_watched.load(Relaxed) && !was_out_for_these() {
            self.is_watched.store(false, Relaxed);
        }
        self.trickle.end_failures();
    }

    pub(crate) fn eject<'e>(
        &'e self,
        reason: Reason,
        rules: &Ejection,
        now_ms: u64,
        peers: impl Iterator<Item = &'e Endpoint>,
    ) -> bool {
        if self.out_until_ms.load(Relaxed) != 0 || !has_room(rules, peers) {
            return false;
        }
        let max_ms = millis(rules.max_time);
        let was_good = now_ms.saturating_sub(self.returned_ms.load(Relaxed)) > max_ms;
        let in_row = if was_good { 0 } else { self.ejections_in_row.load(Relaxed) };
        let in_row = in_row.saturating_add(1);
        let time = millis(rules.base_time).saturating_mul(u64::from(in_row)).min(max_ms).max(1);
        let until_ms = now_ms.saturating_add(time);
        if self.out_until_ms.compare_exchange(0, until_ms, Relaxed, Relaxed).is_err() {
            return false;
        }
        self.out_since_ms.store(now_ms, Relaxed);
        self.reason.store(reason as u8, Relaxed);
        self.ejections_in_row.store(in_row, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        true
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { requests: self.requests.load(Relaxed), successes: self.successes.load(Relaxed) }
    }
}

/// One more of the endpoints may be out: one stays in where that is wanted, and the share is within the maximum or it is
/// the first.
fn has_room<'e>(rules: &Ejection, endpoints: impl Iterator<Item = &'e Endpoint>) -> bool {
    let (mut all, mut out) = (0, 0);
    for endpoint in endpoints {
        all += 1;
        out += usize::from(!endpoint.is_in());
    }
    let is_last = out + 1 >= all;
    (!is_last || !rules.spares_last) && is_within_share(rules, out, all)
}

/// With so many of all endpoints out, the share that may be out has room for one more.
pub fn is_within_share(rules: &Ejection, out: usize, all: usize) -> bool {
    out == 0 || (out + 1) * 100 <= usize::from(rules.max_percent) * all
}

/// Told apart, not ordered: what a simulation decides does not depend on it.
fn new_identity() -> NonZeroU64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    NonZeroU64::MIN.saturating_add(LAST.fetch_add(1, Relaxed))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        (0..count)
            .map(|n| Endpoint::new(([127, 0, 0, 1], 1000 + n).into(), u32::from(n), 0))
            .collect()
    }

    fn fail(all: &[Endpoint], at: usize, rules: &Ejection, now_ms: u64) -> bool {
        all[at].observe(Outcome::Failure, rules, now_ms, all.iter())
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let rules = Ejection { consecutive_failures: 3, ..Ejection::default() };
        let all = endpoints(2);
        assert_eq!([1, 2].map(|now| fail(&all, 0, &rules, now)), [false, false]);
        all[0].observe(Outcome::Success, &rules, 3, all.iter());
        assert_eq!([4, 5, 6].map(|now| fail(&all, 0, &rules, now)), [false, false, true]);
        let state = State::Ejected { reason: Reason::Failures, since_ms: 6, until_ms: 30_006 };
        assert_eq!(all[0].state(), state);
        assert!(!fail(&all, 0, &rules, 7), "it is out already");
        assert_eq!(all[0].ejections(), 1);
    }

    #[test]
    fn an_answer_5xx_ends_a_row_of_failures() {
        for consecutive_5xx in [0, 100] {
            let rules =
                Ejection { consecutive_failures: 3, consecutive_5xx, ..Ejection::default() };
            let all = endpoints(2);
            for now in 0..20 {
                assert!(!fail(&all, 0, &rules, now), "{now}");
                all[0].observe(Outcome::ServerError, &rules, now, all.iter());
            }
            assert_eq!([1, 2, 3].map(|now| fail(&all, 0, &rules, now)), [false, false, true]);
            assert!(all[0].readmit(4));
            all[0].observe(Outcome::ServerError, &rules, 5, all.iter());
            assert!(!fail(&all, 0, &rules, 6), "it has answered since its return");
        }
    }

    #[test]
    fn answers_5xx_count_only_where_the_policy_says_so() {
        let all = endpoints(2);
        let observe = |rules: &Ejection| {
            (0..9).any(|now| all[1].observe(Outcome::ServerError, rules, now, all.iter()))
        };
        assert!(!observe(&Ejection::default()));
        assert!(observe(&Ejection { consecutive_5xx: 5, ..Ejection::default() }));
    }

    #[test]
    fn the_way_back_is_watched_and_times_out_grow() {
        let rules = Ejection { consecutive_failures: 2, ..Ejection::default() };
        let all = endpoints(3);
        let mut now = 0;
        for (time, failures) in [(30_000, 2), (60_000, 1), (90_000, 1)] {
            let ejected = (0..failures).filter(|_| fail(&all, 0, &rules, now)).count();
            assert_eq!(ejected, 1, "after {failures} failures");
            assert!(!all[0].tick(now + time - 1));
            assert!(all[0].tick(now + time));
            now += time;
        }
        all[0].observe(Outcome::Success, &rules, now, all.iter());
        assert!(!fail(&all, 0, &rules, now), "after a success it counts anew");
        // Good for longer than the maximum: the times begin anew.
        now += 300_001;
        assert!(fail(&all, 0, &rules, now));
        let State::Ejected { until_ms, .. } = all[0].state() else { panic!("it is ejected") };
        assert_eq!(until_ms, now + 30_000);
    }

    #[test]
    fn out_for_answers_5xx_it_is_watched_for_these_until_one_goes_well() {
        let rules = Ejection { consecutive_5xx: 3, max_percent: 100, ..Ejection::default() };
        let all = endpoints(2);
        let errors = |count: usize, now_ms| {
            let observe =
                |_: &usize| all[0].observe(Outcome::ServerError, &rules, now_ms, all.iter());
            (0..count).filter(observe).count()
        };
        assert_eq!([errors(2, 0), errors(1, 0)], [0, 1]);
        assert!(all[0].tick(30_000));
        assert_eq!(errors(1, 30_000), 1, "the first answer since its return");
        assert!(all[0].readmit(31_000));
        all[0].observe(Outcome::Success, &rules, 31_000, all.iter());
        assert_eq!([errors(2, 31_000), errors(1, 31_000)], [0, 1], "it counts anew");
        assert!(all[0].readmit(32_000));
        let lenient = Ejection::default();
        assert!(!all[0].observe(Outcome::ServerError, &lenient, 32_000, all.iter()));
        assert!(fail(&all, 0, &rules, 32_000), "a failure is no better");
    }

    #[test]
    fn one_that_is_to_be_out_is_passed_over_until_it_is_well() {
        let rules = Ejection { consecutive_5xx: 4, ..Ejection::default() };
        let (unruly, errors) =
            (Ejection { consecutive_failures: 0, ..rules.clone() }, Outcome::ServerError);
        let all = endpoints(3);
        (0..9).for_each(|now| assert!(!fail(&all, 2, &unruly, now)));
        assert!(!all[2].is_passed_over(), "by no rule it is to be out");
        for (at, is_ejected) in [(0, true), (1, false)] {
            (0..4).for_each(|now| assert!(!fail(&all, at, &rules, now)));
            assert!(!all[at].is_passed_over());
            assert_eq!(fail(&all, at, &rules, 4), is_ejected, "half of them may be out");
            assert!(all[at].is_passed_over());
        }
        assert!(!all[1].is_tried_again(1_003) && all[1].is_tried_again(1_004));
        assert!(!all[1].is_tried_again(1_005), "one a second");
        (0..4).for_each(|now| {
            all[1].observe(errors, &rules, 2_000 + now, all.iter());
            assert_eq!(all[1].is_passed_over(), now == 3, "it answers; then these are too many");
        });
        all[1].observe(Outcome::Success, &rules, 3_000, all.iter());
        assert!(!all[1].is_passed_over());
        assert!(all[0].tick(30_004) && !all[0].is_passed_over());
    }

    #[test]
    fn never_all_and_never_the_only_one() {
        let rules = Ejection { consecutive_failures: 1, ..Ejection::default() };
        for (count, percent, expected) in
            [(1, 100, 0), (2, 50, 1), (3, 10, 1), (4, 50, 2), (10, 30, 3)]
        {
            let rules = Ejection { max_percent: percent, ..rules.clone() };
            let all = endpoints(count);
            let out = (0..all.len()).filter(|at| fail(&all, *at, &rules, 1)).count();
            assert_eq!(out, expected, "{count} endpoints, {percent} %");
        }
    }

    #[test]
    fn all_of_them_where_something_stands_in() {
        let rules = Ejection {
            consecutive_failures: 1,
            max_percent: 100,
            spares_last: false,
            ..Ejection::default()
        };
        let all = endpoints(3);
        assert_eq!((0..3).filter(|at| fail(&all, *at, &rules, 1)).count(), 3);
    }

    #[test]
    fn checks_and_ejection_are_apart() {
        let all = endpoints(2);
        assert!(!all[0].set_healthy(true, 1), "it was taken for healthy");
        assert!(all[0].set_healthy(false, 2));
        assert_eq!(all[0].state(), State::Unhealthy { since_ms: 2 });
        assert!(all[0].set_healthy(true, 3));
        assert!(all[0].is_in());
    }

    #[test]
    fn the_last_failure_is_told_until_an_answer_comes() {
        let all = endpoints(1);
        for consecutive_failures in [0, 3] {
            let rules = Ejection { consecutive_failures, ..Ejection::default() };
            assert_eq!(all[0].failing(), None);
            for (what, now_ms) in [(7, 1_000), (3, 70_000)] {
                all[0].failed(what, now_ms);
                assert!(!fail(&all, 0, &rules, now_ms));
            }
            assert_eq!(all[0].failing(), Some(Failing { in_row: 2, what: 3, last_ms: 70_000 }));
            all[0].observe(Outcome::ServerError, &rules, 70_001, all.iter());
        }
        assert_eq!(all[0].failing(), None);
    }

    #[test]
    fn the_service_is_told_for_which_an_endpoint_is_out() {
        let service =
            |name: &str| ServicePort { namespace: "n".into(), name: name.into(), port: 80 };
        let rules = Ejection { consecutive_failures: 1, max_percent: 100, ..Ejection::default() };
        let all = endpoints(3);
        assert_eq!(all[0].is_out_for(), None);
        assert!(all[0].set_healthy(false, 1));
        all[0].unhealthy_for(&service("checked"));
        assert_eq!(all[0].is_out_for(), Some(service("checked")));
        assert!(fail(&all, 0, &rules, 2));
        all[0].ejected_for(&service("asked"));
        assert_eq!(all[0].is_out_for(), Some(service("asked")));
        assert!(all[0].readmit(3));
        assert_eq!(all[0].is_out_for(), Some(service("checked")));
        assert!(all[0].set_healthy(true, 4));
        assert_eq!(all[0].is_out_for(), None);
    }

    #[test]
    fn warmth_rises_from_a_tenth() {
        let endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0, 1_000);
        let at = |now| endpoint.warmth(Some(Duration::from_secs(10)), now);
        assert_eq!([1_000, 6_000, 11_000, 99_000].map(at), [0.1, 0.5, 1.0, 1.0]);
        assert_eq!(endpoint.warmth(None, 1_000), 1.0);
    }
}
