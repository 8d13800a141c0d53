//! Most endpoints of a backend fail, and few may be out: GETs go on as long as one is left, and what mends is used again.
//! A clock that a loop turns, retries and their budget as the edge makes them: the same at every run.

use model::traffic::{Algorithm, BackendPolicy, Balance, Ejection, HashKey, Retry};
use std::sync::Arc;
use traffic::{
    Attempt, Balancer, Budget, Choice, Endpoint, Failure, Members, Outcome, Random, Repeat, repeat,
};

struct Simulation {
    members: Members,
    policy: BackendPolicy,
    retry: Option<Retry>,
    workers: [Balancer; 2],
    random: Random,
    budget: Budget,
    changes: u64,
    /// How an attempt at what is bad ends.
    fault: (Outcome, Failure),
    is_bad: Vec<bool>,
    /// Attempts, by member.
    placed: Vec<usize>,
    failed: usize,
}

const STEP_MS: u64 = 10;
const STEPS_A_SECOND: u64 = 100;

impl Simulation {
    fn new(policy: BackendPolicy, is_bad: &[bool]) -> Simulation {
        let endpoint = |n: usize| {
            let address = ([127, 0, 0, 1], 1000 + n as u16).into();
            Arc::new(Endpoint::new(address, n as u32, 0))
        };
        Simulation {
            members: (0..is_bad.len()).map(endpoint).collect(),
            policy,
            retry: None,
            workers: [Balancer::new(3), Balancer::new(4)],
            random: Random::new(5),
            budget: Budget::default(),
            changes: 0,
            fault: (Outcome::Failure, Failure::Malformed),
            is_bad: is_bad.to_vec(),
            placed: vec![0; is_bad.len()],
            failed: 0,
        }
    }

    /// Ten GETs a step.
    fn run(&mut self, steps: std::ops::Range<u64>) {
        for step in steps {
            let now_ms = step * STEP_MS;
            for n in 0..10 {
                let is_answered = self.get(n % 2, now_ms);
                self.failed += usize::from(!is_answered);
            }
            if step.is_multiple_of(10) {
                self.sweep(now_ms);
            }
        }
    }

    fn sweep(&mut self, now_ms: u64) {
        for worker in &mut self.workers {
            self.members.iter().for_each(|member| worker.exchange(member));
            let requests = worker.take_requests(0);
            self.budget.add_requests(requests, &self.policy.budget, now_ms);
        }
        let back = self.members.iter().filter(|member| member.tick(now_ms)).count();
        self.changes += back as u64;
    }

    fn get(&mut self, worker: usize, now_ms: u64) -> bool {
        let key = Some(self.random.number());
        let mut tried: Vec<u32> = Vec::new();
        loop {
            let (group, levels, changes) = (0, &[][..], self.changes);
            let choice = Choice { group, now_ms, changes, levels, key, tried: &tried };
            let picked = self.workers[worker].pick(&self.members, &self.policy.balance, &choice);
            let Some(at) = picked else { return false };
            tried.push(at as u32);
            if self.attempt(worker, at, now_ms) {
                return true;
            }
            let attempt = Attempt {
                failure: self.fault.1,
                is_idempotent: true,
                took_body: false,
                was_reused: false,
                attempts: tried.len() as u32,
                untried: self.members.len() - tried.len(),
            };
            let is_repeated = match repeat(&attempt, self.retry.as_ref()) {
                Repeat::No => false,
                Repeat::Free => true,
                Repeat::Budgeted => self.budget.take(&self.policy.budget, now_ms),
            };
            if !is_repeated {
                return false;
            }
        }
    }

    fn attempt(&mut self, worker: usize, at: usize, now_ms: u64) -> bool {
        self.placed[at] += 1;
        let endpoint = &self.members[at];
        let outcome = if self.is_bad[at] { self.fault.0 } else { Outcome::Success };
        self.workers[worker].begin(endpoint);
        self.workers[worker].end(endpoint, Some(outcome), Some(1_000), now_ms);
        let peers = self.members.iter().map(|member| &**member);
        let is_ejected = endpoint.observe(outcome, &self.policy.ejection, now_ms, peers);
        self.changes += u64::from(is_ejected);
        outcome == Outcome::Success
    }

    fn is_in(&self, at: usize) -> bool {
        self.members[at].is_in()
    }
}

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::LeastRequest,
    Algorithm::PeakEwma,
    Algorithm::RoundRobin,
    Algorithm::Random,
    Algorithm::ConsistentHash(HashKey::SourceAddress),
];

fn policy(algorithm: Algorithm, max_percent: u8) -> BackendPolicy {
    BackendPolicy {
        balance: Balance { algorithm, ..Balance::default() },
        ejection: Ejection { max_percent, consecutive_5xx: 5, ..Ejection::default() },
        ..BackendPolicy::default()
    }
}

/// With 50 % one of the two bad ones may be out; with 100 % both, which is a panic, in which all are used.
#[test]
fn no_get_fails_while_one_of_three_is_well() {
    let answers = (Outcome::ServerError, Failure::Status(503));
    let rubbish = (Outcome::Failure, Failure::Malformed);
    let retry = Retry {
        attempts: 3,
        codes: vec![503],
        backoff: None,
        per_try_timeout: None,
        hedge_after: None,
    };
    for algorithm in ALGORITHMS {
        for (max_percent, fault, retry) in [
            (50, rubbish, None),
            (100, rubbish, None),
            (50, answers, Some(&retry)),
            (100, answers, Some(&retry)),
        ] {
            let told = format!("{algorithm:?}, {max_percent} %, {fault:?}");
            let policy = policy(algorithm.clone(), max_percent);
            let mut simulation = Simulation::new(policy, &[false, true, true]);
            (simulation.fault, simulation.retry) = (fault, retry.cloned());
            simulation.run(0..10 * STEPS_A_SECOND);
            assert_eq!(simulation.failed, 0, "of 10,000: {told}");
            let bad: usize = simulation.placed[1..].iter().sum();
            assert!(bad <= 10 + 2 * 10, "{bad} attempts at what is bad: {told}");
            mend(&mut simulation, &told);
        }
    }
}

/// Those of them that are in, or are used because too few are, get a share of a third at least within two seconds.
fn mend(simulation: &mut Simulation, told: &str) {
    simulation.is_bad.fill(false);
    let is_panic = !simulation.is_in(1) && !simulation.is_in(2);
    simulation.run(1_000..1_000 + 2 * STEPS_A_SECOND);
    simulation.placed.fill(0);
    simulation.run(1_200..1_200 + 5 * STEPS_A_SECOND);
    let used: Vec<usize> = (0..3).filter(|at| is_panic || simulation.is_in(*at)).collect();
    assert_eq!(used.len(), if is_panic { 3 } else { 2 }, "{told}");
    for at in used {
        let share = simulation.placed[at];
        assert!(share > 1_400, "{:?} of 5,000: {told}", simulation.placed);
    }
    assert_eq!(simulation.failed, 0, "{told}");
}

#[test]
fn where_all_fail_all_are_used() {
    for algorithm in ALGORITHMS {
        let mut simulation = Simulation::new(policy(algorithm.clone(), 0), &[true; 4]);
        simulation.run(0..2 * STEPS_A_SECOND);
        simulation.placed.fill(0);
        simulation.run(200..400);
        let used = (0..4).filter(|at| simulation.is_in(*at)).collect::<Vec<usize>>();
        let is_used = used.iter().all(|at| simulation.placed[*at] > 300);
        assert!(is_used, "{algorithm:?}: {used:?} of {:?}", simulation.placed);
    }
}

/// Half of ten: what they would have got is spread over the others.
#[test]
fn what_is_passed_over_is_spread_evenly() {
    let is_bad: Vec<bool> = (0..10).map(|at| at % 2 == 1).collect();
    for algorithm in ALGORITHMS {
        let mut simulation = Simulation::new(policy(algorithm.clone(), 0), &is_bad);
        // Until rows are known, a GET may meet four bad ones one after the other.
        simulation.run(0..2 * STEPS_A_SECOND);
        simulation.placed.fill(0);
        simulation.failed = 0;
        simulation.run(200..1_200);
        assert_eq!(simulation.failed, 0, "{algorithm:?}");
        for at in (0..10).step_by(2) {
            let share = simulation.placed[at];
            assert!(share.abs_diff(2_000) < 400, "{algorithm:?}: {:?}", simulation.placed);
        }
    }
}
