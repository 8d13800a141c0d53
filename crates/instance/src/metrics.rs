//! `/metrics`: the shells' counters, and the instance's own.

use crate::publisher::Shared;
use model::certificates::Source;
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Prometheus text format. Counters begin at 0.
pub fn render(shared: &Shared) -> String {
    let mut out = edge::render_metrics(&shared.registry.metrics);
    let counters = &shared.nameserver_counters;
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let plain = |value: String| vec![(String::new(), value)];
    let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed).to_string();
    let answers: Vec<_> = [("udp", &counters.udp), ("tcp", &counters.tcp)]
        .into_iter()
        .flat_map(|(transport, rcodes)| {
            rcodes.values().map(move |(rcode, n)| (transport, rcode, n))
        })
        .map(|(transport, rcode, n)| {
            (format!("{{transport=\"{transport}\",rcode=\"{rcode}\"}}"), n.to_string())
        })
        .collect();
    metric(
        "cutwater_dns_answers_total",
        "counter",
        "Answers, by transport and response code.",
        &answers,
    );
    let zones: Vec<_> = counters
        .zones()
        .into_iter()
        .map(|(zone, n)| (format!("{{zone=\"{zone}\"}}"), n.to_string()))
        .collect();
    metric("cutwater_dns_zone_queries_total", "counter", "Queries, by zone.", &zones);
    let dropped: Vec<_> =
        [("short", &counters.dropped_short), ("response", &counters.dropped_responses)]
            .into_iter()
            .map(|(reason, n)| (format!("{{reason=\"{reason}\"}}"), count(n)))
            .collect();
    metric("cutwater_dns_dropped_total", "counter", "Messages that were no query.", &dropped);
    metric(
        "cutwater_dns_truncated_total",
        "counter",
        "Answers over UDP that did not fit.",
        &plain(count(&counters.truncated)),
    );
    metric(
        "cutwater_dns_tcp_connections",
        "gauge",
        "DNS connections that are open.",
        &plain(count(&counters.tcp_connections)),
    );
    let reloads = [("accepted", &shared.reloads), ("refused", &shared.refused_reloads)];
    let reloads: Vec<_> = reloads
        .iter()
        .map(|(result, n)| {
            (format!("{{result=\"{result}\"}}"), n.load(Ordering::Relaxed).to_string())
        })
        .collect();
    metric("cutwater_reloads_total", "counter", "Readings of the folder, by result.", &reloads);
    let ready = i32::from(shared.is_ready());
    metric(
        "cutwater_ready",
        "gauge",
        "1 when every worker serves a snapshot.",
        &plain(ready.to_string()),
    );
    if let Some(counts) = &shared.access_log {
        let written = counts.written.load(Ordering::Relaxed).to_string();
        let dropped = counts.dropped.load(Ordering::Relaxed).to_string();
        metric(
            "cutwater_access_log_written_total",
            "counter",
            "Records of the access log that were written.",
            &plain(written),
        );
        metric(
            "cutwater_access_log_dropped_total",
            "counter",
            "Records dropped because the writer was behind.",
            &plain(dropped),
        );
    }
    let Some(serving) = shared.serving() else { return out };
    let snapshot = serving.snapshot();
    let info = vec![(format!("{{digest=\"{}\"}}", snapshot.digest.short()), "1".to_owned())];
    metric("cutwater_snapshot_info", "gauge", "The snapshot that is served.", &info);
    let seconds = format!("{:.6}", serving.draft.compile_time.as_secs_f64());
    metric("cutwater_compile_last_seconds", "gauge", "Time of the last compile.", &plain(seconds));
    let expiry: Vec<_> = snapshot
        .certificates
        .certificates
        .iter()
        .filter_map(|certificate| match &certificate.source {
            Source::Secret(leaf) => Some((
                format!(
                    "{{secret=\"{}/{}\"}}",
                    certificate.secret.namespace, certificate.secret.name
                ),
                leaf.not_after.to_string(),
            )),
            Source::Missing { .. } => None,
        })
        .collect();
    metric(
        "cutwater_certificate_not_after_seconds",
        "gauge",
        "End of a certificate's life, seconds since 1970.",
        &expiry,
    );
    out
}
