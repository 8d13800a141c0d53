//! Latency at half of saturation: from the moment at which a request was due to the end of its answer, at one rate for
//! all servers, half of what the slower of nginx and HAProxy can.

use anyhow::{Result, bail};

use crate::cases::{Against, CONNECTIONS, plain};
use crate::edge::{Bench, Contender, OrReason, subject};
use crate::http::HOST;
use crate::load::Pace;
use crate::measure::{self, Figure, Subject, WARM_UP, median};
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

/// The median of the rounds, percentile by percentile.
fn measure_all(
    bench: &mut Bench,
    subjects: &[OrReason<Subject<'_>>],
    rate: u32,
) -> Vec<OrReason<Percentiles>> {
    let mut rounds: Vec<OrReason<Vec<Percentiles>>> = subjects
        .iter()
        .map(|subject| subject.as_ref().map(|_| Vec::new()).map_err(String::clone))
        .collect();
    for _ in 0..bench.effort.rounds {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            let (Ok(subject), Ok(so_far)) = (subject, &mut *rounds) else { continue };
            match one_round(bench, subject, rate) {
                Ok(percentiles) => so_far.push(percentiles),
                Err(error) => *rounds = Err(format!("{error:#}")),
            }
        }
    }
    let of_rounds = |rounds: Vec<Percentiles>| {
        [0, 1, 2].map(|index| {
            median(rounds.iter().filter_map(|round| round.get(index).copied()).collect())
        })
    };
    rounds.into_iter().map(|rounds| rounds.map(of_rounds)).collect()
}

fn one_round(bench: &mut Bench, subject: &Subject<'_>, rate: u32) -> Result<Percentiles> {
    let shape = plain(WORK, CONNECTIONS, Pace::PerSecond(rate));
    let mut load = bench.generator.begin(&measure::workload(subject, shape)?)?;
    bench.generator.run(&mut load, WARM_UP)?;
    load.keep_latencies();
    bench.generator.run(&mut load, bench.effort.time)?;
    let mut latencies = load.take_latencies();
    if latencies.is_empty() {
        bail!("no answer in a round");
    }
    latencies.sort_unstable();
    Ok(SHARES.map(|share| percentile(&latencies, share) as f64 / 1e3))
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
}
