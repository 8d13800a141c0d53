//! What programs found: rows with a figure and its limit, cases that were not run, and their table.

use std::fmt::Display;

use serde::Serialize;

#[derive(Serialize)]
pub struct Report {
    name: String,
    passed: usize,
    failed: usize,
    skipped: Vec<Skipped>,
    rows: Vec<Row>,
    #[serde(skip)]
    program: &'static str,
    #[serde(skip)]
    printed: (usize, usize),
}

#[derive(Serialize)]
struct Row {
    program: &'static str,
    server: &'static str,
    case: String,
    figure: String,
    limit: String,
    held: bool,
}

#[derive(Serialize)]
struct Skipped {
    case: String,
    reason: String,
}

/// The server whose rows decide; others are there for comparison.
const OURS: &str = "cutwater";

impl Report {
    pub fn new(name: &str) -> Report {
        Report {
            name: name.to_owned(),
            passed: 0,
            failed: 0,
            skipped: Vec::new(),
            rows: Vec::new(),
            program: "",
            printed: (0, 0),
        }
    }

    /// What follows is of this program.
    pub fn begin(&mut self, program: &'static str) {
        self.program = program;
    }

    pub fn row(
        &mut self,
        server: &'static str,
        case: impl Into<String>,
        figure: impl Display,
        limit: impl Display,
        held: bool,
    ) {
        if server == OURS {
            *(if held { &mut self.passed } else { &mut self.failed }) += 1;
        }
        let (figure, limit) = (figure.to_string(), limit.to_string());
        self.rows.push(Row {
            program: self.program,
            server,
            case: case.into(),
            figure,
            limit,
            held,
        });
    }

    pub fn skip(&mut self, case: impl Display, reason: impl Display) {
        let case = format!("{}: {case}", self.program);
        self.skipped.push(Skipped { case, reason: reason.to_string() });
    }

    pub fn holds(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The table of what was added since the last one.
    pub fn print_program(&mut self) {
        let rows = self.rows.get(self.printed.0..).unwrap_or_default();
        let width = |of: fn(&Row) -> &str| {
            rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default()
        };
        let (case, limit) = (width(|row| &row.case), width(|row| &row.limit));
        for row in rows {
            let held = if row.held { "yes" } else { "NO" };
            let Row { server, case: name, limit: to, figure, .. } = row;
            println!("  {server:<8} | {name:<case$} | {to:<limit$} | {held:<3} | {figure}");
        }
        for skipped in self.skipped.get(self.printed.1..).unwrap_or_default() {
            println!("  skipped: {}: {}", skipped.case, skipped.reason);
        }
        self.printed = (self.rows.len(), self.skipped.len());
    }

    pub fn verdict(&self) -> String {
        let skipped = self.skipped.len();
        format!("{}: {} held, {} did not, {skipped} skipped", self.name, self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_peers_decide_nothing() {
        let mut report = Report::new("all");
        report.begin("one");
        report.row("nginx", "a", 1, "0", false);
        assert!(!report.holds(), "nothing of ours was measured");
        report.row("cutwater", "a", 0, "0", true);
        assert!(report.holds());
        report.row("cutwater", "b", 1, "0", false);
        assert!(!report.holds());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["passed"].as_u64(), json["failed"].as_u64()), (Some(1), Some(1)));
        assert_eq!(json["rows"][0]["server"], "nginx");
    }
}
