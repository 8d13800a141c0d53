//! How a scenario fails: the step, what it expected and what it got. And how bytes are shown.

use std::fmt;

/// A step that did not hold, or a line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the scenario file, from 1.
    pub line: usize,
    pub step: String,
    pub expected: String,
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, step, expected, got } = self;
        write!(out, "line {line}: {step}\n    expected: {expected}\n    got:      {got}")
    }
}

/// What a step expected and what it got; its place is added by whoever knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub expected: String,
    pub got: String,
}

impl Mismatch {
    pub fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { expected: expected.into(), got: got.into() }
    }

    pub fn at(self, line: usize, step: &str) -> Failure {
        Failure { line, step: step.to_owned(), expected: self.expected, got: self.got }
    }
}

/// Bytes as text: printable ASCII as it is, the rest escaped as scenario files escape it.
pub fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 2000;
    let cut = &bytes[..bytes.len().min(LONGEST)];
    let mut text = cut.escape_ascii().to_string();
    if cut.len() < bytes.len() {
        text += &format!("… ({} bytes in all)", bytes.len());
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}
