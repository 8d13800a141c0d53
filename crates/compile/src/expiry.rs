//! The reader that judges certificates by the clock. Its findings are warnings and hold nothing back.

use crate::codes;
use crate::contracts::Owners;
use crate::report::Report;
use model::certificates::{Leaf, Source};
use model::{Code, Diagnostic, Origins, Snapshot};

const DAY: i64 = 86_400;
/// A certificate that lives at least [`LONG_LIFE`] should be renewed this long before its end.
const NOTICE: i64 = 30 * DAY;
const LONG_LIFE: i64 = 90 * DAY;

/// Certificates that are expired, expire soon, or are not valid yet at `now` (seconds since 1970).
pub fn certificate_findings(snapshot: &Snapshot, origins: &Origins, now: i64) -> Vec<Diagnostic> {
    let mut report = Report::default();
    for certificate in &snapshot.certificates.certificates {
        let Source::Secret(leaf) = &certificate.source else { continue };
        if let Some((code, state)) = judge(leaf, now) {
            let message = format!("the certificate in {} {state}", certificate.secret);
            let finding = report.add(code, &certificate.secret, "", message);
            finding.help("replace tls.crt and tls.key");
            if let Some(host) = leaf.names.first() {
                finding.host(host);
            }
        }
    }
    let governance = &snapshot.governance;
    report.finish(origins, &Owners::of(&governance.contracts, &governance.teams))
}

fn judge(leaf: &Leaf, now: i64) -> Option<(&'static Code, String)> {
    let life = leaf.not_after.saturating_sub(leaf.not_before);
    let left = leaf.not_after.saturating_sub(now);
    let notice = if life < LONG_LIFE { life / 3 } else { NOTICE };
    if left < 0 {
        Some((&codes::CERTIFICATE_EXPIRED, format!("expired {} ago", span(left.saturating_neg()))))
    } else if now < leaf.not_before {
        let wait = leaf.not_before.saturating_sub(now);
        Some((&codes::CERTIFICATE_NOT_YET, format!("becomes valid in {}", span(wait))))
    } else if left < notice {
        Some((&codes::CERTIFICATE_EXPIRES, format!("expires in {}", span(left))))
    } else {
        None
    }
}

fn span(seconds: i64) -> String {
    match (seconds / DAY, seconds / 3_600) {
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Digest;

    #[test]
    fn notice_scales_with_life() {
        for (life_days, left_days, expected) in [
            (365, 31, None),
            (365, 29, Some("certificate-expires-soon")),
            (60, 21, None),
            (60, 19, Some("certificate-expires-soon")),
            (90, -1, Some("certificate-expired")),
            (90, 91, Some("certificate-not-yet-valid")),
            (90, 90, None),
        ] {
            let leaf = Leaf {
                chain: Digest::of_bytes(b""),
                names: Vec::new(),
                issuer: "test".into(),
                not_before: 0,
                not_after: life_days * DAY,
            };
            let now = (life_days - left_days) * DAY;
            let found = judge(&leaf, now).map(|(code, _)| code.slug);
            assert_eq!(found, expected, "life {life_days}, left {left_days}");
        }
    }
}
