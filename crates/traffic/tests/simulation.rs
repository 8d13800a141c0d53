//! Many workers, endpoints that misbehave, a clock that a loop turns: the same at every run.

use model::traffic::{Balance, Ejection};
use proptest::prelude::*;
use std::sync::{Arc, Weak};
use traffic::{Balancer, Choice, Endpoint, Members, Outcome, Random, State};

/// What an endpoint does to requests in a simulation.
#[derive(Clone, Copy, Debug)]
struct Nature {
    /// Steps that a request takes.
    steps: u64,
    /// Of a thousand requests, those that fail.
    failures: u64,
    /// Fails all from this step on, to the other.
    down: (u64, u64),
}

const GOOD: Nature = Nature { steps: 5, failures: 0, down: (0, 0) };

struct Simulation {
    members: Members,
    natures: Vec<Nature>,
    workers: Vec<Balancer>,
    random: Random,
    changes: u64,
    running: Vec<Running>,
    /// Endpoints that left, and the numbers that nobody has.
    gone: Vec<(Weak<Endpoint>, u32)>,
    numbers: u32,
    placed: Vec<usize>,
    failed: Vec<u64>,
    peak: Vec<usize>,
}

struct Running {
    ends: u64,
    worker: usize,
    at: usize,
    endpoint: Arc<Endpoint>,
    is_good: bool,
}

const STEP_MS: u64 = 10;

impl Simulation {
    fn new(natures: &[Nature], workers: usize, seed: u64) -> Simulation {
        let endpoint = |n: usize| {
            let address = ([127, 0, 0, 1], 1000 + n as u16).into();
            Arc::new(Endpoint::new(address, n as u32, 0))
        };
        Simulation {
            members: (0..natures.len()).map(endpoint).collect(),
            natures: natures.to_vec(),
            workers: (0..workers as u64).map(|at| Balancer::new(seed ^ (at << 32))).collect(),
            random: Random::new(seed),
            changes: 0,
            running: Vec::new(),
            gone: Vec::new(),
            numbers: natures.len() as u32,
            placed: vec![0; natures.len()],
            failed: Vec::new(),
            peak: vec![0; natures.len()],
        }
    }

    /// `shares`: requests of each worker in a step.
    fn step(&mut self, step: u64, shares: &[usize], ejection: &Ejection) {
        let now_ms = step * STEP_MS;
        for (worker, count) in shares.iter().enumerate() {
            (0..*count).for_each(|_| self.place(worker, step));
        }
        let (over, running): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|running| running.ends <= step);
        self.running = running;
        for Running { worker, endpoint, is_good, .. } in over {
            let outcome = if is_good { Outcome::Success } else { Outcome::Failure };
            let latency = is_good.then_some(1_000);
            self.workers[worker].end(&endpoint, Some(outcome), latency, now_ms);
            let peers = self.members.iter().map(|member| &**member);
            self.changes += u64::from(endpoint.observe(outcome, ejection, now_ms, peers));
            if !is_good {
                self.failed.push(step);
            }
        }
        if step.is_multiple_of(10) {
            for worker in &mut self.workers {
                self.members.iter().for_each(|member| worker.exchange(member));
            }
            self.changes += self.members.iter().filter(|member| member.tick(now_ms)).count() as u64;
        }
    }

    /// Another endpoint comes in its place, with a number that nobody has: as one that left and is no more had it.
    fn replace(&mut self, at: usize, step: u64) {
        let free = self.gone.iter().position(|(endpoint, _)| endpoint.strong_count() == 0);
        let number = free.map_or(self.numbers, |found| self.gone.swap_remove(found).1);
        self.numbers = self.numbers.max(number + 1);
        let address = ([127, 0, 1, 1], step as u16).into();
        let next = Arc::new(Endpoint::new(address, number, step * STEP_MS));
        let mut members = self.members.to_vec();
        let left = std::mem::replace(&mut members[at], next);
        self.gone.push((Arc::downgrade(&left), left.number()));
        self.members = members.into();
    }

    fn place(&mut self, worker: usize, step: u64) {
        let choice = Choice {
            group: 0,
            now_ms: step * STEP_MS,
            levels: &[],
            changes: self.changes,
            key: None,
            tried: &[],
        };
        let picked = self.workers[worker].pick(&self.members, &Balance::default(), &choice);
        let at = picked.expect("there are members");
        self.workers[worker].begin(&self.members[at]);
        let nature = self.natures[at];
        let is_down = (nature.down.0..nature.down.1).contains(&step);
        let fails = is_down || self.random.number() % 1_000 < nature.failures;
        let endpoint = Arc::clone(&self.members[at]);
        let ends = step + nature.steps;
        self.running.push(Running { ends, worker, at, endpoint, is_good: !fails });
        self.placed[at] += 1;
        let active = self.running.iter().filter(|running| running.at == at).count();
        self.peak[at] = self.peak[at].max(active);
    }
}

#[test]
fn workers_of_unequal_load_spread_evenly_over_equal_endpoints() {
    let mut simulation = Simulation::new(&[GOOD; 6], 4, 11);
    for step in 0..2_000 {
        simulation.step(step, &[9, 1, 1, 1], &Ejection::default());
    }
    let mean = simulation.placed.iter().sum::<usize>() / 6;
    for placed in &simulation.placed {
        assert!(placed.abs_diff(mean) * 10 < mean, "{:?}", simulation.placed);
    }
}

#[test]
fn endpoints_that_come_and_go_leave_nothing_to_those_with_their_numbers() {
    let mut simulation = Simulation::new(&[GOOD; 4], 3, 17);
    for step in 0..2_000 {
        simulation.step(step, &[6, 2, 2], &Ejection::default());
        if step % 7 == 3 {
            simulation.replace(step as usize % 4, step);
        }
    }
    assert!(simulation.numbers < 20, "numbers were used again: {}", simulation.numbers);
    simulation.placed.fill(0);
    for step in 2_000..4_000 {
        simulation.step(step, &[6, 2, 2], &Ejection::default());
    }
    let mean = simulation.placed.iter().sum::<usize>() / 4;
    for placed in &simulation.placed {
        assert!(placed.abs_diff(mean) * 10 < mean, "{:?}", simulation.placed);
    }
}

#[test]
fn a_slow_endpoint_gets_less_and_queues_no_more_than_its_peers() {
    let slow = Nature { steps: 50, ..GOOD };
    let mut simulation = Simulation::new(&[GOOD, GOOD, GOOD, slow], 2, 5);
    for step in 0..3_000 {
        simulation.step(step, &[2, 2], &Ejection::default());
    }
    let mean = simulation.placed[..3].iter().sum::<usize>() / 3;
    assert!(simulation.placed[3] * 2 < mean, "{:?}", simulation.placed);
    assert!(simulation.peak[3] < 80, "{:?}", simulation.peak);
}

#[test]
fn an_endpoint_that_fails_is_out_soon_and_back_when_it_is_well() {
    let failing = Nature { down: (500, 2_000), ..GOOD };
    let mut simulation = Simulation::new(&[GOOD, GOOD, failing], 2, 3);
    let rules = Ejection::default();
    let mut last = 0;
    for step in 0..16_000 {
        simulation.step(step, &[1, 1], &rules);
        if step == 15_000 {
            last = simulation.placed[2];
        }
    }
    let first_hundred = simulation.failed.iter().filter(|step| **step < 600).count();
    assert!(first_hundred <= 30, "{first_hundred} requests failed before it was out");
    assert!(simulation.failed.len() < 60, "{} failed in all", simulation.failed.len());
    assert_eq!(simulation.members[2].state(), State::In);
    assert!(simulation.placed[2] - last > 300, "it has its share again");
}

proptest! {
    /// Whatever endpoints do: never more of them are ejected than the policy allows, and what is out comes back.
    #[test]
    fn ejection_keeps_its_bounds(
        failures in prop::collection::vec(0u64..1_000, 1..9),
        percent in 0u8..=100,
        seed in any::<u64>(),
    ) {
        let natures: Vec<Nature> =
            failures.iter().map(|failures| Nature { failures: *failures, ..GOOD }).collect();
        let rules = Ejection { max_percent: percent, consecutive_failures: 3, ..Ejection::default() };
        let mut simulation = Simulation::new(&natures, 2, seed);
        let allowed = (natures.len() * usize::from(percent) / 100).max(1);
        for step in 0..400 {
            simulation.step(step, &[3, 2], &rules);
            let out = simulation.members.iter().filter(|member| !member.is_in()).count();
            prop_assert!(out <= allowed && out < natures.len(), "{out} of {}", natures.len());
        }
        for member in simulation.members.iter() {
            member.tick(u64::MAX - 1);
            prop_assert!(member.is_in());
        }
    }
}
