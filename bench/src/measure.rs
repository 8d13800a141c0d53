//! Rounds of a case over several servers in turn, and what may be said about their figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use peers::usage::ProcessTree;

use crate::accounts::{self, MachineTime};
use crate::client::Target;
use crate::load::{Generator, Load, Pace, Workload};
use crate::script::{Script, Work};
use crate::server::Running;
use crate::tls::{self, Certificate};

/// How long a measurement is.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub time: Duration,
    /// When nothing more begins: no round, and no server.
    pub until: Instant,
}

impl Effort {
    /// Asked before whatever takes time.
    pub fn goes_on(&self) -> Result<()> {
        if Instant::now() > self.until {
            bail!("the time for the whole table was up")
        } else {
            Ok(())
        }
    }
}

/// What a case sends, to any server.
#[derive(Clone, Copy)]
pub struct Shape {
    pub tls: bool,
    pub work: Work,
    pub connections: usize,
    pub pace: Pace,
}

/// A server in a case: where it is reached, and what is said to it.
#[derive(Clone)]
pub struct Subject<'a> {
    pub server: &'a Running,
    pub script: Arc<Script>,
}

/// One round of one server.
#[derive(Clone, Copy)]
pub struct Round {
    pub answered: u64,
    pub wall: Duration,
    pub server: Duration,
    /// Work of the generator with its origin; it idles without sleeping.
    pub generator: Duration,
    /// Work of other processes, on any CPU.
    pub others: Duration,
    pub stolen: Duration,
}

/// The figures of one server in one case.
pub struct Figure {
    pub rounds: Vec<Round>,
    pace: Pace,
}

pub const WARM_UP: Duration = Duration::from_millis(200);
const FEWEST_ANSWERS: u64 = 200;
/// A CPU counts as full from this share on, and as left idle below the other.
const FULL: f64 = 0.95;
const SATURATED: f64 = 0.90;
/// Share of one CPU that others may use.
const OTHERS: f64 = 0.10;
const STOLEN: f64 = 0.02;
const SPREAD: f64 = 0.10;
pub const PACE_REACHED: f64 = 0.98;

/// Checks that a server gives the origin's bytes, with a certificate that verifies.
pub fn check(
    generator: &mut Generator,
    subject: &Subject<'_>,
    certificate: &Certificate,
    shape: Shape,
) -> Result<()> {
    let protocol = subject.script.protocol;
    let config = if shape.tls { Some(certificate.verifying_client(protocol)?) } else { None };
    let target = Target { address: address(subject.server, shape), tls: config };
    let answer = generator.fetch(&target, &subject.script)?;
    match shape.work.path() {
        Some(path) if answer.body != generator.pages().body(path) => {
            bail!("the body of {path} is not the origin's")
        }
        _ => Ok(()),
    }
}

/// Measures servers in interleaved rounds, each round in another order. One figure a server, or why
/// there is none.
pub fn measure(
    generator: &mut Generator,
    subjects: &[Subject<'_>],
    shape: Shape,
    effort: Effort,
) -> Vec<Result<Figure>> {
    let mut figures: Vec<Result<Figure>> =
        subjects.iter().map(|_| Ok(Figure { rounds: Vec::new(), pace: shape.pace })).collect();
    for round in 0..effort.rounds {
        if effort.goes_on().is_err() {
            break;
        }
        for turn in 0..subjects.len() {
            let index = (round + turn) % subjects.len();
            let (Some(subject), Some(figure)) = (subjects.get(index), figures.get_mut(index))
            else {
                continue;
            };
            let Ok(so_far) = figure else { continue };
            match one_round(generator, subject, shape, effort.time) {
                Ok(round) => so_far.rounds.push(round),
                Err(error) => *figure = Err(error),
            }
        }
    }
    figures.into_iter().map(|figure| figure.and_then(Figure::of_some_rounds)).collect()
}

fn one_round(
    generator: &mut Generator,
    subject: &Subject<'_>,
    shape: Shape,
    time: Duration,
) -> Result<Round> {
    let mut load = generator.begin(&workload(subject, shape)?)?;
    generator.run(&mut load, WARM_UP)?;
    let processes = subject.server.processes();
    let before = Sample::take(&processes, &load)?;
    generator.run(&mut load, time)?;
    Ok(Sample::take(&processes, &load)?.since(&before))
}

/// What a round sends to a server.
pub fn workload(subject: &Subject<'_>, shape: Shape) -> Result<Workload> {
    let protocol = subject.script.protocol;
    let tls = if shape.tls { Some(tls::timed_client(protocol)?) } else { None };
    Ok(Workload {
        target: Target { address: address(subject.server, shape), tls },
        script: Arc::clone(&subject.script),
        connections: shape.connections,
        pace: shape.pace,
    })
}

fn address(server: &Running, shape: Shape) -> std::net::SocketAddr {
    if shape.tls { server.https } else { server.http }
}

/// All clocks and counters at one moment.
struct Sample {
    at: Instant,
    answered: u64,
    server: Duration,
    generator: Duration,
    generator_idle: Duration,
    machine: MachineTime,
}

impl Sample {
    fn take(server: &ProcessTree, load: &Load) -> Result<Sample> {
        Ok(Sample {
            at: Instant::now(),
            answered: load.answered,
            server: server.cpu_time(),
            generator: accounts::own_cpu_time(),
            generator_idle: load.idle,
            machine: MachineTime::now()?,
        })
    }

    fn since(&self, before: &Sample) -> Round {
        let server = self.server.saturating_sub(before.server);
        let generator = self.generator.saturating_sub(before.generator);
        let idle = self.generator_idle.saturating_sub(before.generator_idle);
        let busy = self.machine.busy.saturating_sub(before.machine.busy);
        Round {
            answered: self.answered - before.answered,
            wall: self.at - before.at,
            server,
            generator: generator.saturating_sub(idle),
            others: busy.saturating_sub(server + generator),
            stolen: self.machine.stolen.saturating_sub(before.machine.stolen),
        }
    }
}

impl Round {
    fn micros_per_request(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.answered.max(1) as f64
    }

    fn share(&self, part: Duration) -> f64 {
        part.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

impl Figure {
    fn of_some_rounds(self) -> Result<Figure> {
        if self.rounds.is_empty() { bail!("the time for the whole table was up") } else { Ok(self) }
    }

    /// CPU time of the server a request: the median of the rounds, in microseconds.
    pub fn micros(&self) -> f64 {
        self.median(Round::micros_per_request)
    }

    pub fn per_second(&self) -> f64 {
        self.median(|round| round.answered as f64 / round.wall.as_secs_f64())
    }

    /// Share of its CPU that the generator had work for.
    pub fn generator_share(&self) -> f64 {
        self.median(|round| round.share(round.generator))
    }

    pub fn server_share(&self) -> f64 {
        self.median(|round| round.share(round.server))
    }

    /// Why this figure is not to be trusted; empty when nothing speaks against it.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let fewest = self.rounds.iter().map(|round| round.answered).min().unwrap_or(0);
        if fewest < FEWEST_ANSWERS {
            doubts.push(format!("only {fewest} answers in a round"));
        }
        self.doubt_pace(&mut doubts);
        let others = self.median(|round| round.share(round.others));
        if others > OTHERS {
            doubts.push(format!("other processes used {:.0} % of a CPU", others * 100.0));
        }
        let stolen = self.median(|round| round.share(round.stolen));
        if stolen > STOLEN {
            doubts.push(format!("the hypervisor took {:.0} % of a CPU", stolen * 100.0));
        }
        let spread = self.spread();
        if spread > SPREAD {
            doubts.push(format!("the rounds spread over {:.0} %", spread * 100.0));
        }
        doubts
    }

    fn doubt_pace(&self, doubts: &mut Vec<String>) {
        let (server, generator) = (self.server_share(), self.generator_share());
        match self.pace {
            Pace::PerSecond(rate) if self.per_second() < f64::from(rate) * PACE_REACHED => {
                doubts.push(format!("{:.0} requests/s instead of {rate}", self.per_second()));
            }
            Pace::PerSecond(_) => {}
            Pace::Saturate | Pace::Reconnect if server < SATURATED && generator > FULL => doubts
                .push(format!(
                    "the generator's CPU was full, the server's {:.0} %",
                    server * 100.0
                )),
            Pace::Saturate | Pace::Reconnect if server < SATURATED => {
                doubts.push(format!("the server's CPU was {:.0} % full", server * 100.0));
            }
            Pace::Saturate | Pace::Reconnect => {}
        }
    }

    /// How far the rounds lie apart, as a share of their median.
    pub fn spread(&self) -> f64 {
        let all = self.rounds.iter().map(Round::micros_per_request);
        let (low, high) = all.fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        if self.rounds.is_empty() { 0.0 } else { (high - low) / self.micros().max(1e-9) }
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

/// The middle value; the mean of the two in the middle when their number is even.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    match middle.checked_sub(1).and_then(|below| values.get(below)) {
        Some(lower) if values.len().is_multiple_of(2) => f64::midpoint(*lower, upper),
        _ => upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(pace: Pace, rounds: &[(u64, u64, u64, u64)]) -> Figure {
        let rounds = rounds.iter().map(|&(answered, server, generator, others)| Round {
            answered,
            wall: Duration::from_secs(1),
            server: Duration::from_millis(server),
            generator: Duration::from_millis(generator),
            others: Duration::from_millis(others),
            stolen: Duration::ZERO,
        });
        Figure { rounds: rounds.collect(), pace }
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert!(median(Vec::new()).is_nan());
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![1.0, 9.0, 4.0, 5.0]), 4.5);
    }

    #[test]
    fn cost_is_server_time_by_answers() {
        let figure = figure(Pace::Saturate, &[(50_000, 1_000, 500, 0), (100_000, 1_000, 900, 0)]);
        assert_eq!(figure.micros(), 15.0);
        assert_eq!(figure.per_second(), 75_000.0);
    }

    #[test]
    fn each_doubt_is_raised_by_its_cause_alone() {
        let check = |pace, rounds: &[_], expected: &[&str]| {
            let doubts = figure(pace, rounds).doubts();
            assert_eq!(doubts.len(), expected.len(), "{doubts:?}");
            for (doubt, expected) in doubts.iter().zip(expected) {
                assert!(doubt.contains(expected), "{doubt}");
            }
        };
        let good = (60_000, 990, 700, 20);
        check(Pace::Saturate, &[good, good], &[]);
        check(Pace::Saturate, &[(190, 990, 700, 20)], &["only 190 answers"]);
        check(Pace::Saturate, &[(60_000, 500, 990, 20)], &["generator's CPU was full"]);
        check(Pace::Saturate, &[(60_000, 500, 500, 20)], &["server's CPU was 50 % full"]);
        check(Pace::Saturate, &[(60_000, 990, 700, 300)], &["other processes used 30 %"]);
        check(Pace::Saturate, &[good, (40_000, 990, 700, 20)], &["the rounds spread"]);
        check(Pace::PerSecond(10_000), &[(10_000, 200, 200, 0)], &[]);
        check(Pace::PerSecond(10_000), &[(9_000, 200, 200, 0)], &["9000 requests/s instead"]);
    }
}
