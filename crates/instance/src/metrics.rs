//! `/metrics`: the shells' counters, and the instance's own.

use crate::publisher::Shared;
use crate::serving::Serving;
use crate::staples;
use model::certificates::Source;
use nameserver::Counters;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use telemetry::access::Counts;

/// Prometheus text format. Counters begin at 0.
pub fn render(shared: &Shared) -> String {
    let mut page = Page(edge::render_metrics(&shared.registry));
    page.dns(&shared.nameserver_counters);
    page.ocsp(&shared.staples);
    page.instance(shared);
    if let Some(counts) = &shared.access_log {
        page.access_log(counts);
    }
    if let Some(serving) = shared.serving() {
        page.snapshot(&serving);
    }
    page.0
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

struct Page(String);

impl Page {
    /// Writing to a string cannot fail.
    fn metric(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: &mut self.0, name: name.to_owned() }
    }

    fn dns(&mut self, counters: &Counters) {
        let mut answers = self.metric(
            "cutwater_dns_answers_total",
            COUNTER,
            "Answers, by transport and response code.",
        );
        for (transport, rcodes) in [("udp", &counters.udp), ("tcp", &counters.tcp)] {
            for (rcode, count) in rcodes.values() {
                answers
                    .sample(format_args!("{{transport=\"{transport}\",rcode=\"{rcode}\"}}"), count);
            }
        }
        let mut zones =
            self.metric("cutwater_dns_zone_queries_total", COUNTER, "Queries, by zone.");
        for (zone, count) in counters.zones() {
            zones.sample(format_args!("{{zone=\"{zone}\"}}"), count);
        }
        let mut dropped =
            self.metric("cutwater_dns_dropped_total", COUNTER, "Messages that were no query.");
        dropped.sample("{reason=\"short\"}", read(&counters.dropped_short));
        dropped.sample("{reason=\"response\"}", read(&counters.dropped_responses));
        self.metric("cutwater_dns_truncated_total", COUNTER, "Answers over UDP that did not fit.")
            .sample("", read(&counters.truncated));
        self.metric("cutwater_dns_tcp_connections", GAUGE, "DNS connections that are open.")
            .sample("", read(&counters.tcp_connections));
    }

    fn ocsp(&mut self, counts: &staples::Counts) {
        let help = "Questions to OCSP responders, by result.";
        let mut asked = self.metric("cutwater_ocsp_queries_total", COUNTER, help);
        for (result, count) in counts.asked() {
            asked.sample(format_args!("{{result=\"{result}\"}}"), count);
        }
        let help =
            "Certificates that name an OCSP responder, by whether clients are shown its response.";
        let mut staples = self.metric("cutwater_ocsp_staples", GAUGE, help);
        staples.sample("{state=\"held\"}", read(&counts.held));
        staples.sample("{state=\"missing\"}", read(&counts.missing));
    }

    fn instance(&mut self, shared: &Shared) {
        let mut reloads =
            self.metric("cutwater_reloads_total", COUNTER, "Readings of the folder, by result.");
        reloads.sample("{result=\"accepted\"}", read(&shared.reloads));
        reloads.sample("{result=\"refused\"}", read(&shared.refused_reloads));
        self.metric("cutwater_ready", GAUGE, "1 when every worker serves a snapshot.")
            .sample("", i32::from(shared.is_ready()));
    }

    fn access_log(&mut self, counts: &Counts) {
        self.metric(
            "cutwater_access_log_written_total",
            COUNTER,
            "Records of the access log that were written.",
        )
        .sample("", read(&counts.written));
        self.metric(
            "cutwater_access_log_dropped_total",
            COUNTER,
            "Records dropped because the writer was behind, or could not write.",
        )
        .sample("", read(&counts.dropped));
    }

    fn snapshot(&mut self, serving: &Serving) {
        let snapshot = serving.snapshot();
        self.metric("cutwater_snapshot_info", GAUGE, "The snapshot that is served.")
            .sample(format_args!("{{digest=\"{}\"}}", snapshot.digest.short()), 1);
        self.metric("cutwater_compile_last_seconds", GAUGE, "Time of the last compile.")
            .sample("", format_args!("{:.6}", serving.draft.compile_time.as_secs_f64()));
        let help = "End of a certificate's life, seconds since 1970.";
        let mut expiry = self.metric("cutwater_certificate_not_after_seconds", GAUGE, help);
        for certificate in &snapshot.certificates.certificates {
            if let Source::Secret(leaf) = &certificate.source {
                let (namespace, name) = (&certificate.secret.namespace, &certificate.secret.name);
                expiry.sample(format_args!("{{secret=\"{namespace}/{name}\"}}"), leaf.not_after);
            }
        }
    }
}

/// The samples of one metric.
struct Family<'p> {
    page: &'p mut String,
    name: String,
}

impl Family<'_> {
    fn sample(&mut self, labels: impl Display, value: impl Display) {
        let _ = writeln!(self.page, "{}{labels} {value}", self.name);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
