//! Active checks: what a row of answers makes of an endpoint, and when it is asked again.

use crate::random::Random;
use model::traffic::HealthCheck;
use std::time::Duration;

/// One an endpoint, whatever the number of routes and workers.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// None before the first answer, which decides at once.
    is_healthy: Option<bool>,
    /// Answers in a row that speak against it.
    against: u32,
    /// Good answers in a row while requests do not reach it.
    amends: u32,
}

impl Checker {
    /// Notes an answer; what the endpoint is then.
    pub fn observe(&mut self, passed: bool, check: &HealthCheck) -> bool {
        let Some(is_healthy) = self.is_healthy else {
            self.is_healthy = Some(passed);
            return passed;
        };
        if passed == is_healthy {
            self.against = 0;
            return is_healthy;
        }
        self.against += 1;
        let threshold = if passed { check.healthy_threshold } else { check.unhealthy_threshold };
        if self.against < threshold.max(1) {
            return is_healthy;
        }
        self.against = 0;
        self.is_healthy = Some(passed);
        passed
    }

    /// Notes an answer of an endpoint that is ejected or is not. True when it has made up for what it did: as many good
    /// answers in a row, since it was ejected, as would take it in.
    pub fn makes_amends(&mut self, passed: bool, is_ejected: bool, check: &HealthCheck) -> bool {
        self.amends = if passed && is_ejected { self.amends + 1 } else { 0 };
        let is_enough = self.amends >= check.healthy_threshold.max(1);
        if is_enough {
            self.amends = 0;
        }
        is_enough
    }

    /// Until the next question: the interval, a tenth more or less, so that checkers do not march in step.
    pub fn pause(check: &HealthCheck, random: &mut Random) -> Duration {
        check.interval.mul_f64(0.9 + 0.2 * random.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::traffic::Probe;

    fn check() -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }

    #[test]
    fn thresholds_hold_both_ways_and_the_first_answer_decides() {
        for (answers, expected) in [
            ("-", "-"),
            ("+", "+"),
            ("+--+---", "++++++-"),
            ("-+-++", "----+"),
            ("+---++--", "+++--+++"),
        ] {
            let mut checker = Checker::default();
            let states: String = answers
                .chars()
                .map(|answer| if checker.observe(answer == '+', &check()) { '+' } else { '-' })
                .collect();
            assert_eq!(states, expected, "{answers}");
        }
    }

    #[test]
    fn good_answers_end_a_time_out() {
        let mut checker = Checker::default();
        let answers = [(true, false), (true, true), (false, true), (true, true), (true, true)];
        let back = answers.map(|(passed, ejected)| checker.makes_amends(passed, ejected, &check()));
        assert_eq!(back, [false, false, false, false, true]);
    }

    #[test]
    fn pauses_are_near_the_interval_and_differ() {
        let mut random = Random::new(7);
        let pauses: Vec<f64> =
            (0..50).map(|_| Checker::pause(&check(), &mut random).as_secs_f64()).collect();
        assert!(pauses.iter().all(|pause| (9.0..11.0).contains(pause)), "{pauses:?}");
        let (min, max) = (
            pauses.iter().copied().fold(f64::MAX, f64::min),
            pauses.iter().copied().fold(0.0, f64::max),
        );
        assert!(max - min > 1.0);
    }
}
