//! Balancing of one worker. It knows its own active requests exactly and those of the other workers as of their last
//! sweep; nothing shared is written when a request is placed.

use crate::endpoint::{Endpoint, Outcome};
use crate::load::Loads;
use crate::maglev::Maglev;
use crate::overflow::{LEVELS, Level, shares};
use crate::random::{Random, mix};
use crate::tier::Standing;
use model::traffic::{Algorithm, Balance};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The endpoints of a backend; the same slice as long as it is the same set.
pub type Members = Arc<[Arc<Endpoint>]>;

#[derive(Debug)]
pub struct Balancer {
    random: Random,
    loads: Loads,
    /// By number of the backend.
    groups: Vec<Group>,
}

/// Endpoints in use, made anew when an endpoint comes, goes, or changes its state.
#[derive(Debug, Default)]
struct Group {
    members: Option<Members>,
    changes: u64,
    /// Positions among the members, those of the nearest level first.
    in_use: Vec<u32>,
    standing: Standing,
    turn: u32,
    /// At least one, where there are members.
    segments: Vec<Segment>,
    /// Requests since [`Balancer::take_requests`].
    requests: u32,
}

/// A run of `in_use` that takes a share of the requests.
#[derive(Debug)]
struct Segment {
    /// Of a number from 0 to 1, the end of its part; the last one takes what is left.
    share_end: f64,
    start: usize,
    end: usize,
    table: Option<Maglev>,
}

/// A request that is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'r> {
    /// Of the backend.
    pub group: u32,
    pub now_ms: u64,
    /// Counts changes of state of any endpoint.
    pub changes: u64,
    /// Of the members, see [`crate::level`]; empty where all are alike.
    pub levels: &'r [u8],
    /// Hash of what consistent hashing goes by.
    pub key: Option<u64>,
    /// Members that this request has been to.
    pub tried: &'r [u32],
}

/// Of the turns of an endpoint that fails in a row, one at most shows whether it is well.
const TURNS_FOR_A_TRIAL: usize = 16;
/// Then others are looked through in order.
const DRAWS: u64 = 4;

impl Choice<'_> {
    fn is_new(&self, at: usize) -> bool {
        !self.tried.iter().any(|tried| *tried as usize == at)
    }
}

impl Balancer {
    pub fn new(seed: u64) -> Balancer {
        Balancer { random: Random::new(seed), loads: Loads::default(), groups: Vec::new() }
    }

    /// The position of the member that takes the request; None when all were tried.
    pub fn pick(&mut self, members: &Members, policy: &Balance, choice: &Choice) -> Option<usize> {
        let at = self.current(members, policy, choice);
        self.groups[at].requests += u32::from(choice.tried.is_empty());
        let run = self.segment(at, choice.key);
        let mut picked = self.draw(run, members, policy, choice);
        if let Some(failing) = picked.filter(|at| members[*at].is_passed_over()) {
            picked = Some(self.instead_of(failing, run, members, policy, choice));
        }
        let untried = picked.filter(|at| choice.is_new(*at));
        untried.or_else(|| self.next_untried(run, members, picked, choice))
    }

    fn draw(
        &mut self,
        run: Run,
        members: &Members,
        policy: &Balance,
        choice: &Choice,
    ) -> Option<usize> {
        match &policy.algorithm {
            Algorithm::ConsistentHash(_) => self.by_key(run, choice.key),
            Algorithm::RoundRobin => self.in_turn(run, members, policy, choice.now_ms),
            Algorithm::Random => self.at_random(run),
            Algorithm::LeastRequest | Algorithm::PeakEwma => {
                self.better_of_two(run, members, policy, choice.now_ms)
            }
        }
    }

    /// One that is not failing in a row, where there is one: no capacity is lost, as what fails answers nothing. A key
    /// goes on to the same one for all who have it. Now and then a first attempt shows whether all is well again.
    fn instead_of(
        &mut self,
        failing: usize,
        run: Run,
        members: &Members,
        policy: &Balance,
        choice: &Choice,
    ) -> usize {
        let is_trial = choice.tried.is_empty() && self.random.below(TURNS_FOR_A_TRIAL) == 0;
        if is_trial && members[failing].is_tried_again(choice.now_ms) {
            return failing;
        }
        let is_fit = |at: &usize| choice.is_new(*at) && !members[*at].is_passed_over();
        let run = Run { passes_over: true, ..run };
        for further in 1..=DRAWS {
            let key = choice.key.map(|key| mix(key.wrapping_add(further)));
            let drawn = self.draw(run, members, policy, &Choice { key, ..*choice });
            if let Some(other) = drawn.filter(is_fit) {
                return other;
            }
        }
        let start = self.random.below(run.end - run.start);
        let (before, behind) = self.run(run).split_at(start);
        let in_use = behind.iter().chain(before).chain(&self.groups[run.group].in_use);
        in_use.map(|at| *at as usize).find(is_fit).unwrap_or(failing)
    }

    /// How many of the members are in.
    pub fn standing(&mut self, members: &Members, policy: &Balance, choice: &Choice) -> Standing {
        let at = self.current(members, policy, choice);
        self.groups[at].standing
    }

    /// The group of the backend, as of the last change.
    fn current(&mut self, members: &Members, policy: &Balance, choice: &Choice) -> usize {
        let at = choice.group as usize;
        if self.groups.len() <= at {
            self.groups.resize_with(at + 1, Group::default);
        }
        if !self.groups[at].is_current(members, choice.changes) {
            // Workers and backends begin at different places, so that few requests are spread too.
            let turn = self.random.number() as u32;
            self.groups[at].renew(members, policy, choice, turn);
        }
        at
    }

    /// Requests that were placed for the first time since this was last asked.
    pub fn take_requests(&mut self, group: u32) -> u32 {
        self.groups.get_mut(group as usize).map_or(0, |group| std::mem::take(&mut group.requests))
    }

    pub fn begin(&mut self, endpoint: &Endpoint) {
        self.loads.of_mut(endpoint).begin();
    }

    /// The attempt is over: how it went, where that says something about the endpoint (a client that left does not), and
    /// its latency where a response came, or how long none came where the time for it ran out.
    pub fn end(
        &mut self,
        endpoint: &Endpoint,
        outcome: Option<Outcome>,
        latency_us: Option<u64>,
        now_ms: u64,
    ) {
        self.loads.of_mut(endpoint).end(outcome, latency_us, now_ms);
    }

    /// Shows the other workers what this one has, and takes in what they showed.
    pub fn exchange(&mut self, endpoint: &Endpoint) {
        self.loads.of_mut(endpoint).exchange(endpoint);
    }

    /// Where several levels take requests, one of them by its share; a key stays with its level.
    fn segment(&mut self, group: usize, key: Option<u64>) -> Run {
        let Balancer { random, groups, .. } = self;
        let segments = &groups[group].segments;
        let at = match segments.as_slice() {
            [_, _, ..] => {
                let point = key.map_or_else(|| random.share(), share_of);
                let found = segments.iter().position(|segment| point < segment.share_end);
                found.unwrap_or(segments.len() - 1)
            }
            _ => 0,
        };
        let (start, end) = segments.get(at).map_or((0, 0), |segment| (segment.start, segment.end));
        Run { group, segment: at, start, end, passes_over: false }
    }

    fn run(&self, run: Run) -> &[u32] {
        &self.groups[run.group].in_use[run.start..run.end]
    }

    fn better_of_two(
        &mut self,
        run: Run,
        members: &Members,
        policy: &Balance,
        now_ms: u64,
    ) -> Option<usize> {
        let Balancer { random, groups, .. } = self;
        let in_use = &groups[run.group].in_use[run.start..run.end];
        let (first, second) = match in_use {
            [] => return None,
            [only] => return Some(*only as usize),
            many => {
                let first = random.below(many.len());
                let second = (first + 1 + random.below(many.len() - 1)) % many.len();
                (many[first] as usize, many[second] as usize)
            }
        };
        let mut takes_turn =
            |at: usize| run.has(&members[at]) && takes_turn(&members[at], policy, now_ms, random);
        match (takes_turn(first), takes_turn(second)) {
            (true, false) => return Some(first),
            (false, true) => return Some(second),
            (true, true) | (false, false) => {}
        }
        let (one, other) = (self.loads.of(&members[first]), self.loads.of(&members[second]));
        let is_second = match policy.algorithm {
            Algorithm::PeakEwma => other.is_sooner(&one, now_ms),
            _ => other.queue() < one.queue(),
        };
        Some(if is_second { second } else { first })
    }

    fn in_turn(
        &mut self,
        run: Run,
        members: &Members,
        policy: &Balance,
        now_ms: u64,
    ) -> Option<usize> {
        let Balancer { random, groups, .. } = self;
        let Group { in_use, turn, .. } = &mut groups[run.group];
        let in_use = &in_use[run.start..run.end];
        for _ in 0..in_use.len() {
            *turn = turn.wrapping_add(1);
            let at = in_use[*turn as usize % in_use.len()] as usize;
            if run.has(&members[at]) && takes_turn(&members[at], policy, now_ms, random) {
                return Some(at);
            }
        }
        self.at_random(run)
    }

    fn at_random(&mut self, run: Run) -> Option<usize> {
        let in_use = &self.groups[run.group].in_use[run.start..run.end];
        (!in_use.is_empty()).then(|| in_use[self.random.below(in_use.len())] as usize)
    }

    /// A request without a key goes anywhere.
    fn by_key(&mut self, run: Run, key: Option<u64>) -> Option<usize> {
        let segment = self.groups[run.group].segments.get(run.segment);
        match (segment.and_then(|segment| segment.table.as_ref()), key) {
            (Some(table), Some(key)) => table.member(key).map(|at| self.run(run)[at] as usize),
            _ => self.at_random(run),
        }
    }

    /// Behind the one that was picked, first among those of its level, then among those in use, then among all; what fails
    /// in a row after what does not.
    fn next_untried(
        &self,
        run: Run,
        members: &Members,
        picked: Option<usize>,
        choice: &Choice,
    ) -> Option<usize> {
        let level = self.run(run);
        let start = level.iter().position(|at| Some(*at as usize) == picked).unwrap_or(0);
        let (before, behind) = level.split_at(start.min(level.len()));
        let level = behind.iter().chain(before);
        let in_use = level.chain(&self.groups[run.group].in_use).map(|at| *at as usize);
        let is_new = |at: &usize| choice.is_new(*at);
        let is_fit = |at: &usize| choice.is_new(*at) && !members[*at].is_passed_over();
        in_use.clone().find(is_fit).or_else(|| in_use.chain(0..members.len()).find(is_new))
    }
}

/// A cold endpoint lets some of its turns pass.
fn takes_turn(endpoint: &Endpoint, policy: &Balance, now_ms: u64, random: &mut Random) -> bool {
    let warmth = endpoint.warmth(policy.slow_start, now_ms);
    warmth >= 1.0 || random.share() < warmth
}

/// The part of a group that takes one request.
#[derive(Clone, Copy, Debug)]
struct Run {
    group: usize,
    segment: usize,
    start: usize,
    end: usize,
    /// Those of it that fail in a row let their turns pass.
    passes_over: bool,
}

impl Run {
    fn has(self, endpoint: &Endpoint) -> bool {
        !self.passes_over || !endpoint.is_passed_over()
    }
}

impl Group {
    fn is_current(&self, members: &Members, changes: u64) -> bool {
        self.changes == changes
            && self.members.as_ref().is_some_and(|known| Arc::ptr_eq(known, members))
    }

    fn renew(&mut self, members: &Members, policy: &Balance, choice: &Choice, turn: u32) {
        if self.members.is_none() {
            self.turn = turn;
        }
        self.members = Some(Arc::clone(members));
        self.changes = choice.changes;
        self.standing = Standing {
            used: members.iter().filter(|member| member.is_in()).count(),
            all: members.len(),
            panic_percent: policy.panic_percent,
        };
        let in_panic = self.standing.is_in_panic();
        self.in_use.clear();
        self.segments.clear();
        if in_panic || choice.levels.len() != members.len() {
            let is_used = |at: &u32| in_panic || members[*at as usize].is_in();
            self.in_use.extend((0u32..).take(members.len()).filter(is_used));
            self.segments.push(Segment::of(1.0, 0, self.in_use.len()));
        } else {
            self.spread(members, choice.levels);
        }
        if matches!(policy.algorithm, Algorithm::ConsistentHash(_)) {
            for segment in &mut self.segments {
                let run = &self.in_use[segment.start..segment.end];
                let identities = run.iter().map(|at| identity(&members[*at as usize]));
                segment.table = Some(Maglev::new(&identities.collect::<Vec<u64>>()));
            }
        }
    }

    /// The near first, and the others as far as the near are too few.
    fn spread(&mut self, members: &Members, levels: &[u8]) {
        let mut counts = [Level::default(); LEVELS];
        let mut share_end = 0.0;
        for (member, level) in members.iter().zip(levels) {
            let count = &mut counts[usize::from(*level)];
            count.all += 1;
            count.used += usize::from(member.is_in());
        }
        for (level, share) in (0u8..).zip(shares(&counts)) {
            let start = self.in_use.len();
            let positions = (0u32..).zip(members.iter().zip(levels));
            let own = positions.filter(|(_, (member, of))| **of == level && member.is_in());
            self.in_use.extend(own.map(|(at, _)| at));
            if share > 0.0 {
                share_end += share;
                self.segments.push(Segment::of(share_end, start, self.in_use.len()));
            }
        }
    }
}

impl Segment {
    fn of(share_end: f64, start: usize, end: usize) -> Segment {
        Segment { share_end, start, end, table: None }
    }
}

/// A number from 0 to 1 that says nothing about where the key lies in a table.
fn share_of(key: u64) -> f64 {
    (mix(key ^ 0x5EED) >> 11) as f64 / (1u64 << 53) as f64
}

/// By the address, so that every worker and replica has the same table.
fn identity(endpoint: &Endpoint) -> u64 {
    struct Identity(u64);
    impl Hasher for Identity {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = mix(self.0 ^ u64::from(*byte));
            }
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut hasher = Identity(0);
    endpoint.address().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::Rates;
    use model::traffic::{Ejection, HashKey};
    use std::time::Duration;

    fn members(count: u16) -> Members {
        (0..count)
            .map(|n| {
                let address = ([127, 0, 0, 1], 1000 + n).into();
                Arc::new(Endpoint::new(address, u32::from(n), 0))
            })
            .collect()
    }

    fn with(algorithm: Algorithm) -> Balance {
        Balance { algorithm, ..Balance::default() }
    }

    const FIRST: Choice =
        Choice { group: 3, now_ms: 0, changes: 0, levels: &[], key: None, tried: &[] };

    fn counts(
        balancer: &mut Balancer,
        members: &Members,
        policy: &Balance,
        n: usize,
    ) -> Vec<usize> {
        let mut counts = vec![0; members.len()];
        for _ in 0..n {
            counts[balancer.pick(members, policy, &FIRST).expect("there are members")] += 1;
        }
        counts
    }

    #[test]
    fn every_algorithm_spreads_over_all() {
        let members = members(4);
        for (algorithm, slack) in
            [(Algorithm::RoundRobin, 0), (Algorithm::Random, 120), (Algorithm::LeastRequest, 120)]
        {
            let counts = counts(&mut Balancer::new(1), &members, &with(algorithm), 4_000);
            let is_even = counts.iter().all(|count| count.abs_diff(1_000) <= slack);
            assert!(is_even, "{counts:?}");
        }
        assert_eq!(Balancer::new(1).pick(&[].into(), &Balance::default(), &FIRST), None);
    }

    #[test]
    fn the_one_with_fewer_requests_is_taken_also_those_of_other_workers() {
        let members = members(2);
        let (mut one, mut other) = (Balancer::new(1), Balancer::new(2));
        (0..5).for_each(|_| one.begin(&members[0]));
        assert_eq!(counts(&mut one, &members, &Balance::default(), 100), [0, 100]);
        members.iter().for_each(|member| one.exchange(member));
        members.iter().for_each(|member| other.exchange(member));
        assert_eq!(counts(&mut other, &members, &Balance::default(), 100), [0, 100]);
        (0..5).for_each(|_| one.end(&members[0], Some(Outcome::Success), Some(10), 0));
        members.iter().for_each(|member| one.exchange(member));
        members.iter().for_each(|member| other.exchange(member));
        let counts = counts(&mut other, &members, &Balance::default(), 100);
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    }

    #[test]
    fn nothing_is_left_of_an_endpoint_to_the_next_one_of_its_number() {
        let members = members(2);
        let (mut one, mut other) = (Balancer::new(1), Balancer::new(2));
        (0..5).for_each(|_| one.begin(&members[1]));
        one.exchange(&members[1]);
        (0..5).for_each(|_| one.end(&members[1], Some(Outcome::Success), Some(50_000), 0));
        // It left before the sweep; what follows is another endpoint.
        let next = Arc::new(Endpoint::new(([127, 0, 0, 2], 1).into(), 1, 0));
        let members: Members = [Arc::clone(&members[0]), next].into();
        for algorithm in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
            for worker in [&mut one, &mut other] {
                members.iter().for_each(|member| worker.exchange(member));
                let counts = counts(worker, &members, &with(algorithm.clone()), 1_000);
                assert!(counts.iter().all(|count| *count > 400), "{algorithm:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn what_is_out_gets_nothing_until_too_few_are_left() {
        let members = members(4);
        let mut balancer = Balancer::new(1);
        members[1].set_healthy(false, 1);
        let at = |changes| Choice { changes, ..FIRST };
        let picked: Vec<usize> =
            (0..100).filter_map(|_| balancer.pick(&members, &Balance::default(), &at(1))).collect();
        assert!(picked.len() == 100 && !picked.contains(&1));
        assert!(!balancer.groups[3].standing.is_in_panic());
        members[0].set_healthy(false, 2);
        members[2].set_healthy(false, 2);
        let picked: Vec<usize> =
            (0..100).filter_map(|_| balancer.pick(&members, &Balance::default(), &at(2))).collect();
        assert!(balancer.groups[3].standing.is_in_panic());
        assert!((0..4).all(|member| picked.contains(&member)), "all are used: {picked:?}");
    }

    #[test]
    fn with_none_left_all_are_used_whatever_the_percentage() {
        for algorithm in [
            Algorithm::LeastRequest,
            Algorithm::RoundRobin,
            Algorithm::Random,
            Algorithm::PeakEwma,
            Algorithm::ConsistentHash(HashKey::SourceAddress),
        ] {
            let members = members(4);
            members.iter().for_each(|member| assert!(member.set_healthy(false, 1)));
            let policy = Balance { panic_percent: 0, ..with(algorithm.clone()) };
            let mut balancer = Balancer::new(1);
            let mut counts = [0; 4];
            for key in 0..400 {
                let choice = Choice { changes: 1, levels: &[1, 1, 2, 2], ..FIRST };
                let choice = Choice { key: Some(mix(key)), ..choice };
                counts[balancer.pick(&members, &policy, &choice).expect("there are members")] += 1;
            }
            assert!(balancer.groups[3].standing.is_in_panic());
            assert!(counts.iter().all(|count| *count > 50), "{algorithm:?}: {counts:?}");
        }
    }

    #[test]
    fn each_member_is_tried_once() {
        let members = members(5);
        members[2].set_healthy(false, 1);
        for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
            let mut balancer = Balancer::new(9);
            let mut tried = Vec::new();
            while let Some(at) = balancer.pick(
                &members,
                &with(algorithm.clone()),
                &Choice { tried: &tried, changes: 1, ..FIRST },
            ) {
                tried.push(at as u32);
            }
            assert_eq!(tried.len(), 5);
            assert_eq!(tried[4], 2, "what is out comes last");
            tried.sort_unstable();
            assert_eq!(tried, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_key_stays_with_its_member() {
        let members = members(8);
        let policy = with(Algorithm::ConsistentHash(HashKey::SourceAddress));
        let (mut one, mut other) = (Balancer::new(1), Balancer::new(2));
        let with_key = |key: u64, changes| Choice { key: Some(mix(key)), changes, ..FIRST };
        let before: Vec<_> =
            (0..400).map(|key| one.pick(&members, &policy, &with_key(key, 0))).collect();
        let elsewhere: Vec<_> =
            (0..400).map(|key| other.pick(&members, &policy, &with_key(key, 0))).collect();
        assert_eq!(before, elsewhere, "the same on every worker");
        members[5].set_healthy(false, 1);
        let moved = (0..400)
            .filter(|key| {
                let was = before[*key as usize];
                was != Some(5) && one.pick(&members, &policy, &with_key(*key, 1)) != was
            })
            .count();
        assert!(moved < 40, "{moved} of 400 moved without need");
    }

    #[test]
    fn rates_count_outcomes_and_no_client_that_left() {
        let members = members(3);
        let rules = Ejection { success_rate_below_mean: 30, ..Ejection::default() };
        let mut balancer = Balancer::new(1);
        let mut rates = Rates::default();
        let peers: Vec<&Endpoint> = members.iter().map(|member| &**member).collect();
        rates.compare(&peers, &rules, 1);
        let outcomes = [None, Some(Outcome::ServerError), Some(Outcome::Success)]
            .map(|outcome| (outcome, Some(9)));
        for (member, (outcome, latency)) in members.iter().zip(outcomes) {
            for _ in 0..50 {
                balancer.begin(member);
                balancer.end(member, Some(Outcome::Success), Some(9), 0);
                balancer.begin(member);
                balancer.end(member, outcome, latency, 0);
            }
            balancer.exchange(member);
        }
        assert!(rates.compare(&peers, &rules, 5));
        let is_in: Vec<bool> = members.iter().map(|member| member.is_in()).collect();
        assert_eq!(is_in, [true, false, true], "half of the second's answers were 5xx");
    }

    /// Picks of a second member while nothing waits anywhere, of 4,000; answers take a millisecond.
    fn picks_of_a_cold_one(algorithm: &Algorithm, now_ms: u64) -> usize {
        let cold = Arc::new(Endpoint::new(([127, 0, 0, 1], 9).into(), 1, 10_000_000));
        let members: Members = [Arc::clone(&members(1)[0]), cold].into();
        let slow_start = Some(Duration::from_secs(100));
        let policy = Balance { slow_start, ..with(algorithm.clone()) };
        let mut balancer = Balancer::new(1);
        let mut picked = 0;
        for _ in 0..4_000 {
            let choice = Choice { now_ms, ..FIRST };
            let at = balancer.pick(&members, &policy, &choice).expect("there are members");
            balancer.begin(&members[at]);
            balancer.end(&members[at], Some(Outcome::Success), Some(1_000), now_ms);
            picked += at;
        }
        picked
    }

    #[test]
    fn a_cold_endpoint_gets_more_and_more() {
        for algorithm in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
            let at = |seconds: u64| picks_of_a_cold_one(&algorithm, 10_000_000 + seconds * 1_000);
            // Half of its turns come to the same, so of 4,000 it gets a half of its warmth.
            for (seconds, expected) in [(0, 200), (25, 500), (50, 1_000), (75, 1_500), (100, 2_000)]
            {
                let picked = at(seconds);
                let is_near = picked.abs_diff(expected) < 120;
                assert!(is_near, "{algorithm:?} after {seconds} s: {picked}");
            }
        }
    }

    /// Requests of two seconds, one each 20 ms: how many go to the third of three, which answers nothing, while the others
    /// take 5 ms. What it took before, if anything is known of it, in microseconds.
    fn picks_of_a_frozen_one(known_us: Option<u64>, start_ms: u64) -> usize {
        let members = members(3);
        let mut balancer = Balancer::new(1);
        for (at, latency_us) in [(0, Some(5_000)), (1, Some(5_000)), (2, known_us)] {
            balancer.begin(&members[at]);
            balancer.end(&members[at], None, latency_us, 0);
        }
        let mut picked = 0;
        for now_ms in (start_ms..start_ms + 2_000).step_by(20) {
            let choice = Choice { now_ms, ..FIRST };
            let at = balancer.pick(&members, &with(Algorithm::PeakEwma), &choice);
            let at = at.expect("there are members");
            balancer.begin(&members[at]);
            match at {
                2 => picked += 1,
                _ => balancer.end(&members[at], Some(Outcome::Success), Some(5_000), now_ms + 5),
            }
        }
        picked
    }

    #[test]
    fn one_that_answers_nothing_is_not_flooded() {
        for (known_us, start_ms, most) in [
            (None, 0, 1),
            (Some(5_000), 0, 2),
            (Some(5_000), 20_000, 2),
            (Some(5_000), 29_000, 2),
            (Some(5_000), 60_000, 1),
            (Some(50_000), 0, 1),
        ] {
            let picked = picks_of_a_frozen_one(known_us, start_ms);
            assert!(picked <= most, "{known_us:?} from {start_ms} ms on: {picked} of 100");
        }
    }

    #[test]
    fn a_peak_is_forgotten_in_time() {
        let members = members(2);
        let mut balancer = Balancer::new(1);
        for (at, latency_us) in [(0, 1_000), (1, 5_000_000)] {
            balancer.begin(&members[at]);
            balancer.end(&members[at], Some(Outcome::Success), Some(latency_us), 0);
        }
        // A long connection stays open there.
        balancer.begin(&members[1]);
        let mut first = None;
        for now_ms in (0..60_000).step_by(100) {
            let choice = Choice { now_ms, ..FIRST };
            let at = balancer.pick(&members, &with(Algorithm::PeakEwma), &choice);
            match at.expect("there are members") {
                0 => {
                    balancer.begin(&members[0]);
                    balancer.begin(&members[0]);
                    balancer.end(&members[0], Some(Outcome::Success), Some(1_000), now_ms);
                }
                _ => {
                    first = first.or(Some(now_ms));
                }
            }
        }
        assert_eq!(first, Some(30_000));
    }

    #[test]
    fn slow_and_cold_endpoints_get_less() {
        let members = members(2);
        let mut balancer = Balancer::new(1);
        let policy = with(Algorithm::PeakEwma);
        for (at, latency) in [(0, 50_000), (1, 1_000)] {
            balancer.begin(&members[at]);
            balancer.end(&members[at], Some(Outcome::Success), Some(latency), 100);
        }
        let picked = |balancer: &mut Balancer, now_ms| {
            let choice = Choice { now_ms, ..FIRST };
            balancer.pick(&members, &policy, &choice)
        };
        assert_eq!((0..50).filter(|_| picked(&mut balancer, 200) == Some(0)).count(), 0);

        let fresh: Members =
            [&members[0], &Arc::new(Endpoint::new(([127, 0, 0, 1], 9).into(), 7, 90_000))]
                .map(Arc::clone)
                .into();
        let slow = Balance {
            algorithm: Algorithm::RoundRobin,
            slow_start: Some(Duration::from_secs(100)),
            ..Balance::default()
        };
        let cold = (0..2_000)
            .filter(|_| {
                balancer.pick(&fresh, &slow, &Choice { now_ms: 100_000, group: 4, ..FIRST })
                    == Some(1)
            })
            .count();
        assert!((50..350).contains(&cold), "{cold} of 2,000 went to the cold one");
    }

    /// Which level takes a request, from a seed, while endpoints of the near level leave one after the other.
    #[test]
    fn requests_stay_near_and_flow_over_in_proportion() {
        for algorithm in [
            Algorithm::LeastRequest,
            Algorithm::RoundRobin,
            Algorithm::Random,
            Algorithm::ConsistentHash(HashKey::SourceAddress),
        ] {
            let members = members(12);
            let levels: Vec<u8> = [[1u8; 4].as_slice(), &[2; 8]].concat();
            let policy = Balance { panic_percent: 0, ..with(algorithm.clone()) };
            let mut balancer = Balancer::new(7);
            // Of four near ones, this many are out: the least and the most of 4,000 that stay near.
            for (out, least, most) in [
                (0, 4_000, 4_000),
                (1, 4_000, 4_000),
                (2, 2_650, 2_950),
                (3, 1_250, 1_550),
                (4, 0, 0),
            ] {
                members.iter().take(out).for_each(|member| {
                    member.set_healthy(false, 1);
                });
                let mut counts = vec![0usize; members.len()];
                for key in 0..4_000 {
                    let key = Some(mix(key));
                    let choice = Choice { changes: out as u64, levels: &levels, key, ..FIRST };
                    let at = balancer.pick(&members, &policy, &choice).expect("some are in");
                    assert!(members[at].is_in());
                    counts[at] += 1;
                }
                let near: usize = counts[..4].iter().sum();
                assert!((least..=most).contains(&near), "{algorithm:?}, {out} out: {counts:?}");
                let far = &counts[4..];
                let even = far.iter().sum::<usize>() / far.len();
                let is_even = far.iter().all(|count| count.abs_diff(even) <= even / 4 + 8);
                assert!(is_even, "{algorithm:?}, {out} out: {counts:?}");
            }
        }
    }

    #[test]
    fn the_second_try_stays_near_while_one_is_left() {
        let members = members(6);
        let levels = [2, 1, 2, 1, 2, 1];
        let mut balancer = Balancer::new(3);
        let mut tried = Vec::new();
        let choice = Choice { levels: &levels, ..FIRST };
        while let Some(at) =
            balancer.pick(&members, &Balance::default(), &Choice { tried: &tried, ..choice })
        {
            tried.push(at as u32);
        }
        assert!(tried[..3].iter().all(|at| at % 2 == 1), "{tried:?}");
        assert_eq!(tried.len(), 6);
    }

    #[test]
    fn in_a_panic_nobody_is_near() {
        let members = members(4);
        members[0].set_healthy(false, 1);
        members[1].set_healthy(false, 1);
        members[2].set_healthy(false, 1);
        let mut balancer = Balancer::new(5);
        let choice = Choice { levels: &[1, 1, 2, 2], changes: 1, ..FIRST };
        let picked: Vec<usize> = (0..200)
            .filter_map(|_| balancer.pick(&members, &Balance::default(), &choice))
            .collect();
        assert!((0..4).all(|at| picked.contains(&at)), "{picked:?}");
    }
}
