//! Whether a failed attempt is made once more: only where that is sound, and wanted.

use model::traffic::Retry;

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection to the endpoint came about.
    NotConnected,
    /// The endpoint says that it did not look at the request: REFUSED_STREAM, above the last stream of GOAWAY (RFC 9113
    /// section 8.7). Another connection to it may do.
    Declined,
    /// The connection ended before a response began.
    NoResponse,
    /// The time for one attempt is over, and no response has begun.
    TimedOut,
    /// A response with this status, not passed on.
    Status(u16),
    /// A response that is none.
    Malformed,
}

/// What is known when an attempt has failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub failure: Failure,
    /// RFC 9110 section 9.2.2.
    pub is_idempotent: bool,
    /// Bytes of the body were taken from the client and are not at hand any more.
    pub took_body: bool,
    /// It went over a connection that had served before: the endpoint may just have closed it.
    pub was_reused: bool,
    /// Attempts so far, this one too.
    pub attempts: u32,
    /// Endpoints that have not been tried.
    pub untried: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    No,
    /// Costs no budget: no endpoint has done anything for the request yet.
    Free,
    /// If the budget allows it.
    Budgeted,
}

/// Attempts in all that the edge makes of its own accord.
const OWN_ATTEMPTS: u32 = 4;
/// However many endpoints refuse.
const MAX_ATTEMPTS: u32 = 16;

pub fn repeat(attempt: &Attempt, wanted: Option<&Retry>) -> Repeat {
    let further = wanted.map_or(OWN_ATTEMPTS, |retry| retry.attempts.saturating_add(1));
    if attempt.took_body || attempt.attempts >= MAX_ATTEMPTS {
        return Repeat::No;
    }
    match attempt.failure {
        Failure::NotConnected if attempt.untried > 0 => Repeat::Free,
        Failure::Declined if attempt.attempts < OWN_ATTEMPTS => Repeat::Free,
        Failure::NotConnected | Failure::Declined => match wanted {
            Some(_) if attempt.attempts < further => Repeat::Budgeted,
            _ => Repeat::No,
        },
        _ if !attempt.is_idempotent || attempt.attempts >= further => Repeat::No,
        Failure::NoResponse if attempt.was_reused => Repeat::Free,
        Failure::Status(status) => {
            let is_wanted = wanted.is_some_and(|retry| retry.codes.contains(&status));
            if is_wanted { Repeat::Budgeted } else { Repeat::No }
        }
        Failure::NoResponse | Failure::TimedOut | Failure::Malformed
            if attempt.untried > 0 || wanted.is_some() =>
        {
            Repeat::Budgeted
        }
        Failure::NoResponse | Failure::TimedOut | Failure::Malformed => Repeat::No,
    }
}

/// Whether an attempt that is under way may get a rival: `attempt` as if it were out of time now.
pub fn hedges(attempt: &Attempt) -> bool {
    attempt.is_idempotent
        && !attempt.took_body
        && attempt.untried > 0
        && attempt.attempts < MAX_ATTEMPTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Declined, Malformed, NoResponse, NotConnected, Status, TimedOut};
    use Repeat::{Budgeted, Free, No};

    fn get(failure: Failure) -> Attempt {
        Attempt {
            failure,
            is_idempotent: true,
            took_body: false,
            was_reused: false,
            attempts: 1,
            untried: 1,
        }
    }

    fn post(failure: Failure) -> Attempt {
        Attempt { is_idempotent: false, ..get(failure) }
    }

    #[test]
    fn without_a_policy_only_what_is_sound_and_has_another_endpoint() {
        let reused = |attempt: Attempt| Attempt { was_reused: true, ..attempt };
        let alone = |attempt: Attempt| Attempt { untried: 0, ..attempt };
        let touched = |attempt: Attempt| Attempt { took_body: true, ..attempt };
        let fourth = |attempt: Attempt| Attempt { attempts: 4, ..attempt };
        for (attempt, expected) in [
            (get(NotConnected), Free),
            (post(NotConnected), Free),
            (touched(post(NotConnected)), No),
            (alone(get(NotConnected)), No),
            (fourth(get(NotConnected)), Free),
            (alone(post(Declined)), Free),
            (fourth(post(Declined)), No),
            (get(NoResponse), Budgeted),
            (post(NoResponse), No),
            (reused(post(NoResponse)), No),
            (reused(get(NoResponse)), Free),
            (alone(reused(get(NoResponse))), Free),
            (alone(get(NoResponse)), No),
            (get(TimedOut), Budgeted),
            (post(TimedOut), No),
            (get(Malformed), Budgeted),
            (fourth(get(NoResponse)), No),
            (get(Status(503)), No),
        ] {
            assert_eq!(repeat(&attempt, None), expected, "{attempt:?}");
        }
    }

    #[test]
    fn a_rival_is_for_what_may_be_sent_twice_and_has_another_endpoint() {
        for (attempt, expected) in [
            (get(TimedOut), true),
            (post(TimedOut), false),
            (Attempt { took_body: true, ..get(TimedOut) }, false),
            (Attempt { untried: 0, ..get(TimedOut) }, false),
            (Attempt { attempts: MAX_ATTEMPTS, ..get(TimedOut) }, false),
        ] {
            assert_eq!(hedges(&attempt), expected, "{attempt:?}");
        }
    }

    #[test]
    fn a_policy_says_how_often_and_for_which_statuses() {
        let retry = Retry {
            attempts: 2,
            codes: vec![503],
            backoff: None,
            per_try_timeout: None,
            hedge_after: None,
        };
        let nth = |attempts, attempt: Attempt| Attempt { attempts, ..attempt };
        for (attempt, expected) in [
            (get(Status(503)), Budgeted),
            (get(Status(500)), No),
            (post(Status(503)), No),
            (nth(2, get(Status(503))), Budgeted),
            (nth(3, get(Status(503))), No),
            (Attempt { untried: 0, ..get(NoResponse) }, Budgeted),
            (Attempt { untried: 0, ..post(NotConnected) }, Budgeted),
            (nth(3, Attempt { untried: 0, ..get(NotConnected) }), No),
        ] {
            assert_eq!(repeat(&attempt, Some(&retry)), expected, "{attempt:?}");
        }
        let never = Retry { attempts: 0, ..retry };
        assert_eq!(repeat(&get(NoResponse), Some(&never)), No);
        assert_eq!(repeat(&get(NotConnected), Some(&never)), Free, "that was no attempt");
    }
}
