//! Latency at half of saturation: from the moment at which a request was due to the end of its answer, at one rate for
//! all servers, half of what the slower of nginx and HAProxy can. A server that does not keep up with it is left out.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::cases::{Against, CONNECTIONS, plain};
use crate::edge::{Bench, Contender, OrReason, subject};
use crate::http::HOST;
use crate::load::Pace;
use crate::measure::{self, Figure, PACE_REACHED, Subject, WARM_UP, median};
use crate::origin::SMALL;
use crate::report::{Peer, Row};
use crate::script::{Script, Work};

/// In the order of [`SHARES`].
pub const CASES: [&str; 3] = ["latency-p50", "latency-p99", "latency-p99.9"];
const SHARES: [f64; 3] = [0.5, 0.99, 0.999];
/// No worse than the better one of nginx and HAProxy.
const GOAL: f64 = 1.0;
const WORK: Work = Work::Get(SMALL);

/// Percentiles in microseconds.
type Percentiles = [f64; 3];

pub fn rows(
    bench: &mut Bench,
    contenders: &[Contender],
    wanted: &dyn Fn(&str) -> bool,
) -> Vec<Row> {
    let script = Script::new(WORK, &[HOST.to_owned()]);
    let subjects: Vec<OrReason<Subject<'_>>> =
        contenders.iter().map(|contender| subject(contender, &script)).collect();
    let rate = rate(bench, &subjects);
    let measured = match &rate {
        Ok(rate) => measure_all(bench, &subjects, *rate),
        Err(reason) => subjects.iter().map(|_| Err(reason.clone())).collect(),
    };
    let mut rows = Vec::new();
    for (index, case) in CASES.iter().enumerate().filter(|(_, case)| wanted(case)) {
        let of = |measured: &OrReason<Percentiles>| {
            measured.as_ref().ok().and_then(|all| all.get(index).copied())
        };
        let peers: Vec<Peer> = contenders
            .iter()
            .zip(&measured)
            .skip(1)
            .map(|(contender, measured)| Peer { name: contender.name, figure: of(measured) })
            .collect();
        let ours = measured.first().and_then(of);
        for mut row in Row::against_peers(case, ours, &peers, Against::Better, GOAL) {
            row.unit = "us";
            row.remarks.extend(remarks(contenders, &measured, &row));
            row.remarks.extend(rate.as_ref().ok().map(|rate| format!("at {rate} requests/s")));
            rows.push(row);
        }
    }
    rows
}

fn remarks(contenders: &[Contender], measured: &[OrReason<Percentiles>], row: &Row) -> Vec<String> {
    let named = contenders.iter().zip(measured).enumerate();
    named
        .filter(|(index, (contender, _))| *index == 0 || Some(contender.name) == row.peer_name)
        .filter_map(|(_, (contender, measured))| {
            Some(format!("{}: {}", contender.name, measured.as_ref().err()?))
        })
        .collect()
}

/// Half of what the slower of nginx and HAProxy can.
fn rate(bench: &mut Bench, subjects: &[OrReason<Subject<'_>>]) -> OrReason<u32> {
    bench.effort.goes_on().map_err(|error| error.to_string())?;
    let peers: Vec<Subject<'_>> = subjects.iter().skip(1).take(2).flatten().cloned().collect();
    let shape = plain(WORK, CONNECTIONS, Pace::Saturate);
    let effort = measure::Effort { rounds: bench.effort.rounds.min(3), ..bench.effort };
    let figures = measure::measure(&mut bench.generator, &peers, shape, effort);
    let rates = figures.iter().flatten().map(Figure::per_second);
    let slowest = rates.fold(f64::INFINITY, f64::min);
    if slowest.is_finite() && slowest >= 2.0 {
        return Ok((slowest / 2.0) as u32);
    }
    Err("neither nginx nor HAProxy could be saturated, so the rate is not known".to_owned())
}

/// One round of one server.
struct Round {
    percentiles: Percentiles,
    per_second: f64,
}

fn measure_all(
    bench: &mut Bench,
    subjects: &[OrReason<Subject<'_>>],
    rate: u32,
) -> Vec<OrReason<Percentiles>> {
    let mut rounds: Vec<OrReason<Vec<Round>>> = subjects
        .iter()
        .map(|subject| subject.as_ref().map(|_| Vec::new()).map_err(String::clone))
        .collect();
    for _ in 0..bench.effort.rounds {
        if bench.effort.goes_on().is_err() {
            break;
        }
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            let (Ok(subject), Ok(so_far)) = (subject, &mut *rounds) else { continue };
            match one_round(bench, subject, rate) {
                Ok(round) => so_far.push(round),
                Err(error) => *rounds = Err(format!("{error:#}")),
            }
        }
    }
    rounds.into_iter().map(|rounds| of_rounds(&rounds?, rate)).collect()
}

/// The median of the rounds, percentile by percentile; none of a server that does not keep up: its answers wait for
/// each other ever longer, and the figure would be of how long the round was.
fn of_rounds(rounds: &[Round], rate: u32) -> OrReason<Percentiles> {
    if rounds.is_empty() {
        return Err("the time for the whole table was up".to_owned());
    }
    let median_of = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let per_second = median_of(&|round| round.per_second);
    if per_second < f64::from(rate) * PACE_REACHED {
        return Err(format!("left out: it answered {per_second:.0} requests/s of {rate}"));
    }
    Ok([0, 1, 2].map(|index| median_of(&|round| round.percentiles[index])))
}

fn one_round(bench: &mut Bench, subject: &Subject<'_>, rate: u32) -> Result<Round> {
    let shape = plain(WORK, CONNECTIONS, Pace::PerSecond(rate));
    let mut load = bench.generator.begin(&measure::workload(subject, shape)?)?;
    bench.generator.run(&mut load, WARM_UP)?;
    load.keep_latencies();
    let (began, before) = (Instant::now(), load.answered);
    bench.generator.run(&mut load, bench.effort.time)?;
    let per_second = (load.answered - before) as f64 / began.elapsed().as_secs_f64();
    let mut latencies = load.take_latencies();
    if latencies.is_empty() {
        bail!("no answer in a round");
    }
    latencies.sort_unstable();
    let percentiles = SHARES.map(|share| percentile(&latencies, share) as f64 / 1e3);
    Ok(Round { percentiles, per_second })
}

/// The smallest value that is not below `share` of the sorted values.
fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u64> = (1..=1_000).collect();
        assert_eq!(SHARES.map(|share| percentile(&values, share)), [500, 990, 999]);
        assert_eq!(percentile(&[7], 0.999), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }

    #[test]
    fn a_server_that_does_not_keep_up_has_no_latency() {
        let round = |per_second, p50| Round { percentiles: [p50, 2.0, 3.0], per_second };
        let slow = [round(70.0, 283_036.0), round(99.0, 1.0), round(60.0, 300_000.0)];
        assert_eq!(of_rounds(&slow, 100), Err("left out: it answered 70 requests/s of 100".into()));
        let well = [round(100.0, 1.0), round(70.0, 9.0), round(99.0, 3.0)];
        assert_eq!(of_rounds(&well, 100), Ok([3.0, 2.0, 3.0]));
    }
}
