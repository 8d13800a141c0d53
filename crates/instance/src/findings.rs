//! Every diagnostic of a reading, whoever found it: `check` and `up` say the same.

use compile::Compiled;
use folder::Reading;
use model::{Code, Diagnostic, Facts};

/// `now` is seconds since 1970.
pub fn all_diagnostics(
    reading: &Reading,
    compiled: &Compiled,
    facts: &Facts,
    now: i64,
) -> Vec<Diagnostic> {
    let mut all = reading.diagnostics.clone();
    all.extend(compiled.diagnostics.iter().cloned());
    all.extend(compile::advise(&compiled.snapshot, facts, &reading.inputs.origins));
    all.extend(compile::certificate_findings(&compiled.snapshot, &reading.inputs.origins, now));
    model::diagnostic::sort(&mut all);
    all.dedup();
    all
}

/// Every code there is, for the index and for SARIF.
pub fn codes() -> Vec<&'static Code> {
    manifest::codes::ALL.iter().chain(compile::codes::ALL).chain(folder::CODES).collect()
}
