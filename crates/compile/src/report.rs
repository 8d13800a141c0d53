//! Where findings are gathered. Places and owners are joined at the end, once for all.

use crate::contracts::Owners;
use model::{Code, Diagnostic, HostPattern, ObjectId, Origins, diagnostic};

#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

#[derive(Clone, Debug)]
pub(crate) struct Finding {
    diagnostic: Diagnostic,
    /// Whose contract tells the owner.
    host: Option<HostPattern>,
    related: Option<(String, ObjectId, String)>,
    is_said: bool,
}

/// What is wrong with a part of an object, before anybody knows which object it is in.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub code: &'static Code,
    /// Of the specification, for the status condition.
    pub reason: &'static str,
    pub field: String,
    pub message: String,
    pub help: String,
    /// Whoever read the objects has reported its cause: it counts, and is not reported.
    pub is_said: bool,
}

impl Problem {
    pub fn new(
        code: &'static Code,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (field, message) = (field.into(), message.into());
        Problem { code, reason, field, message, help: String::new(), is_said: false }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub fn said(mut self, is_said: bool) -> Self {
        self.is_said = is_said;
        self
    }

    /// Puts the field below `path`.
    pub fn within(mut self, path: &str) -> Self {
        self.field =
            if self.field.is_empty() { path.to_owned() } else { format!("{path}.{}", self.field) };
        self
    }
}

impl Report {
    pub fn add(
        &mut self,
        code: &Code,
        object: &ObjectId,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Finding {
        let diagnostic = Diagnostic::new(code, message).at(object, field);
        self.findings.push(Finding { diagnostic, host: None, related: None, is_said: false });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    pub fn problem(&mut self, object: &ObjectId, problem: &Problem) -> &mut Finding {
        let (field, message) = (problem.field.clone(), problem.message.clone());
        let finding = self.add(problem.code, object, field, message).help(problem.help.clone());
        finding.is_said = problem.is_said;
        finding
    }

    /// Repeats what another report says.
    pub fn join(&mut self, other: &Report) {
        self.findings.extend_from_slice(&other.findings);
    }

    pub fn finish(self, origins: &Origins, owners: &Owners) -> Vec<Diagnostic> {
        let unsaid = self.findings.into_iter().filter(|finding| !finding.is_said);
        let mut diagnostics: Vec<Diagnostic> =
            unsaid.map(|finding| finding.finish(origins, owners)).collect();
        diagnostic::sort(&mut diagnostics);
        diagnostics.dedup();
        diagnostics
    }
}

impl Finding {
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.diagnostic.help = help.into();
        self
    }

    pub fn host(&mut self, host: &HostPattern) -> &mut Self {
        self.host = Some(host.clone());
        self
    }

    /// A further place that helps to understand.
    pub fn related(
        &mut self,
        what: impl Into<String>,
        object: &ObjectId,
        field: impl Into<String>,
    ) -> &mut Self {
        self.related = Some((what.into(), object.clone(), field.into()));
        self
    }

    fn finish(mut self, origins: &Origins, owners: &Owners) -> Diagnostic {
        if let Some(object) = &self.diagnostic.object {
            self.diagnostic.place = origins.place(object, &self.diagnostic.field);
            self.diagnostic.owner = owners.owner(self.host.as_ref(), &object.namespace);
        }
        if let Some((what, object, field)) = self.related
            && let Some(place) = origins.place(&object, &field)
        {
            self.diagnostic.related.push((what, place));
        }
        self.diagnostic
    }
}
