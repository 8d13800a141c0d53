//! What is wrong, where, why and how to mend it: one form for every source and every reader.

use crate::{ObjectId, Owner, Place};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something does not work as written.
    Error,
    /// Legal and surely unwanted, or about to fail.
    Warning,
    /// Worth knowing, nothing to mend.
    Note,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A kind of diagnostic. The slug is stable: scripts and the handbook's index rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub slug: &'static str,
    pub severity: Severity,
    /// One or two sentences for the diagnostics index: what it means and how to mend it.
    pub meaning: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
    pub object: Option<ObjectId>,
    /// Path of the field (`spec.rules[0].backendRefs[1].name`), empty for the whole object.
    pub field: String,
    pub place: Option<Place>,
    /// Further places with what they show ("first defined here").
    pub related: Vec<(String, Place)>,
    pub owner: Option<Owner>,
    /// How to mend it; empty where the message says it all.
    pub help: String,
}

impl Diagnostic {
    pub fn new(code: &Code, message: impl Into<String>) -> Self {
        Diagnostic {
            code: code.slug,
            severity: code.severity,
            message: message.into(),
            object: None,
            field: String::new(),
            place: None,
            related: Vec::new(),
            owner: None,
            help: String::new(),
        }
    }

    pub fn at(mut self, object: &ObjectId, field: impl Into<String>) -> Self {
        self.object = Some(object.clone());
        self.field = field.into();
        self
    }

    pub fn place(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Order of print: by file, line and column, then severity and code. Diagnostics without a place come last.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| {
        let key = |d: &Diagnostic| d.place.as_ref().map(|p| (p.file.clone(), p.line, p.column));
        match (key(a), key(b)) {
            (Some(x), Some(y)) => x.cmp(&y),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => a.object.cmp(&b.object).then_with(|| a.field.cmp(&b.field)),
        }
        .then_with(|| (a.severity, a.code, &a.message).cmp(&(b.severity, b.code, &b.message)))
    });
}
