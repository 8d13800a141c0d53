//! What every program has: its entry in the list, the servers that it runs against, and the frame around an
//! abuse, in which good traffic has to hold and the server has to come back to what it was.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::good::{Good, Tally};
use crate::origin::Origin;
use crate::report::Report;
use crate::subject::{Kind, Site, Subject, Vitals};
use crate::{bombs, churn, downgrade, handshakes, origin_faults, reload, resets, slow, smuggling};

pub struct Program {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&Context, &mut Report) -> Result<()>,
}

/// In the order of what they cost.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "origin-faults",
        what: "origins that refuse, reset, stall, drip, answer rubbish or half",
        run: origin_faults::run,
    },
    Program {
        name: "slow-clients",
        what: "heads and bodies that come slowly, answers that are not read",
        run: slow::run,
    },
    Program {
        name: "smuggling",
        what: "requests whose end is in doubt, to origins of four makes",
        run: smuggling::run,
    },
    Program {
        name: "rapid-reset",
        what: "HTTP/2 streams that a client opens and resets",
        run: resets::by_client,
    },
    Program {
        name: "server-resets",
        what: "HTTP/2 streams that a client has the server reset",
        run: resets::by_server,
    },
    Program {
        name: "bombs",
        what: "HTTP/2 headers without end and floods of frames",
        run: bombs::run,
    },
    Program {
        name: "downgrade",
        what: "what HTTP/2 can write and HTTP/1.1 must not read",
        run: downgrade::run,
    },
    Program {
        name: "handshakes",
        what: "TLS handshakes aborted, mutated, and under changes of the certificate",
        run: handshakes::run,
    },
    Program {
        name: "reload",
        what: "changes of routes and certificates, and upgrades of the binary, under load",
        run: reload::run,
    },
    Program {
        name: "churn",
        what: "ten thousand changes beside connections that stay open",
        run: churn::run,
    },
];

/// How a run was asked for.
#[derive(Clone, Copy)]
pub struct Context {
    pub short: bool,
    pub alone: bool,
}

/// Right answers of all.
const RIGHT_SHARE: f64 = 0.999;
const P99_RATIO: f64 = 3.0;
/// What may be left of descriptors and memory afterwards.
const BACK_RATIO: f64 = 1.10;
/// What servers keep for the next rush they let go of within that.
const BACK_PATIENCE: Duration = Duration::from_secs(10);

pub fn is_back(now: u64, then: u64) -> bool {
    now as f64 <= then as f64 * BACK_RATIO
}

impl Context {
    /// The first where it is short, else the second.
    pub fn pick<T>(&self, short: T, long: T) -> T {
        if self.short { short } else { long }
    }

    /// Runs a program against each server on a site of its own; a peer that cannot start is skipped.
    pub fn each_subject(
        &self,
        report: &mut Report,
        kinds: &[Kind],
        site: impl Fn() -> Result<Site>,
        mut run: impl FnMut(&Context, &Subject, &mut Report) -> Result<()>,
    ) -> Result<()> {
        for &kind in kinds.iter().filter(|kind| **kind == Kind::Cutwater || !self.alone) {
            match Subject::start(kind, &site()?) {
                Ok(subject) => run(self, &subject, report)?,
                Err(error) if kind == Kind::Cutwater => return Err(error),
                Err(error) => report.skip(kind.name(), format!("{error:#}")),
            }
        }
        if self.alone && kinds.len() > 1 {
            report.skip("nginx, haproxy", "left out, as asked");
        }
        Ok(())
    }

    /// An abuse of one origin beside good traffic to another, against each server.
    pub fn beside_good_traffic(
        &self,
        report: &mut Report,
        kinds: &[Kind],
        abused: &Origin,
        mut abuse: impl FnMut(&Subject, &mut Report) -> Result<()>,
    ) -> Result<()> {
        let good = Origin::echo()?;
        let close_idle = || [&good, abused].into_iter().for_each(Origin::close_idle);
        let site = || Site::of_two(good.address, abused.address);
        self.each_subject(report, kinds, site, |context, subject, report| {
            context.with_good_traffic(subject, &close_idle, report, |report| abuse(subject, report))
        })
    }

    /// An abuse with good traffic beside it, which was measured alone before. `close_idle` has the origins close what
    /// the server keeps for reuse.
    pub fn with_good_traffic(
        &self,
        subject: &Subject,
        close_idle: &dyn Fn(),
        report: &mut Report,
        abuse: impl FnOnce(&mut Report) -> Result<()>,
    ) -> Result<()> {
        let idle =
            Good::run_for(subject, self.pick(Duration::from_secs(1), Duration::from_secs(4)));
        close_idle();
        sleep(Duration::from_millis(300));
        let before = subject.vitals()?;
        let good = Good::start(subject);
        let began = Instant::now();
        let abused = abuse(report);
        // Shorter than this there would be too few requests for a 99th percentile.
        sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        let during = good.finish();
        self.judge_good(subject, report, &idle, &during);
        abused?;
        self.judge_vitals(subject, close_idle, report, before)
    }

    fn judge_vitals(
        &self,
        subject: &Subject,
        close_idle: &dyn Fn(),
        report: &mut Report,
        before: Vitals,
    ) -> Result<()> {
        let end = Instant::now() + BACK_PATIENCE;
        let after = loop {
            close_idle();
            let now = subject.vitals()?;
            let all = is_back(now.descriptors, before.descriptors)
                && is_back(now.resident_kib, before.resident_kib);
            if all || Instant::now() > end {
                break now;
            }
            sleep(Duration::from_millis(200));
        };
        let name = subject.kind.name();
        for (case, then, now, unit) in [
            ("descriptors afterwards", before.descriptors, after.descriptors, ""),
            ("memory afterwards", before.resident_kib, after.resident_kib, " KiB"),
        ] {
            let figure = format!("{now}{unit}, before {then}{unit}");
            report.row(name, case, figure, "at most 10 % more", is_back(now, then));
        }
        let health = subject.health();
        let figure = health.as_ref().err().cloned().unwrap_or_else(|| "yes".to_owned());
        report.row(name, "alive, no panic in the log", figure, "yes", health.is_ok());
        Ok(())
    }

    fn judge_good(&self, subject: &Subject, report: &mut Report, idle: &Tally, during: &Tally) {
        let name = subject.kind.name();
        let share = during.right as f64 / during.sent.max(1) as f64;
        let mut figure = format!("{} of {}", during.right, during.sent);
        if let Some(fault) = &during.first_fault {
            figure += &format!(" (first fault: {fault})");
        }
        let held = share >= RIGHT_SHARE && during.sent > 0;
        report.row(name, "good traffic: right answers", figure, "at least 99.9 %", held);
        let (alone, beside) = (idle.p99_ms(), during.p99_ms());
        let figure = format!("{beside:.1} ms, alone {alone:.1} ms");
        let case = "good traffic: p99";
        if self.short {
            report.skip(case, format!("{figure}: beside other work a time decides nothing"));
        } else {
            report.row(name, case, figure, "at most 3 times", beside <= alone * P99_RATIO);
        }
    }
}
