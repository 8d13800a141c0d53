//! The rows of a bench, as a table for people and as JSON for programs.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a goal is compared with.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    Ratio,
    Ours,
}

/// One row; lower is better in all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub case: String,
    pub unit: &'static str,
    /// `None` when it could not be measured.
    pub ours: Option<f64>,
    pub peer: Option<f64>,
    pub peer_name: Option<&'static str>,
    pub ratio: Option<f64>,
    pub goal: f64,
    pub of: Of,
    pub met: bool,
    /// Why a figure is absent, or not to be trusted.
    #[serde(skip)]
    pub remarks: Vec<String>,
}

#[derive(Serialize)]
pub struct Report {
    pub name: &'static str,
    pub machine: String,
    pub rows: Vec<Row>,
}

impl Row {
    /// A row that compares our figure with a peer's.
    pub fn against_peer(
        case: String,
        ours: Option<f64>,
        (peer_name, peer): (&'static str, Option<f64>),
        goal: f64,
    ) -> Row {
        let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
        Row {
            case,
            unit: "us/request",
            ours: ours.map(rounded),
            peer: peer.map(rounded),
            peer_name: Some(peer_name),
            ratio: ratio.map(rounded),
            goal,
            of: Of::Ratio,
            met: ratio.is_some_and(|ratio| ratio <= goal),
            remarks: Vec::new(),
        }
    }

    /// A row of our own figure.
    pub fn of_ours(case: &str, unit: &'static str, ours: Option<f64>, goal: f64) -> Row {
        Row {
            case: case.to_owned(),
            unit,
            ours: ours.map(rounded),
            peer: None,
            peer_name: None,
            ratio: None,
            goal,
            of: Of::Ours,
            met: ours.is_some_and(|ours| ours <= goal),
            remarks: Vec::new(),
        }
    }
}

impl Report {
    /// True when every row has our figure.
    pub fn is_complete(&self) -> bool {
        self.rows.iter().all(|row| row.ours.is_some())
    }

    pub fn write_json(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    pub fn table(&self) -> String {
        let mut text = format!("{} on {}\n\n", self.name, self.machine);
        let width = self.rows.iter().map(|row| row.case.len()).max().unwrap_or(0).max(4);
        add_line(&mut text, width, "case", ["unit", "ours", "peer", "ratio", "goal"], "");
        for row in &self.rows {
            let goal = match row.of {
                Of::Ratio => format!("{:.2}", row.goal),
                Of::Ours => format!("{}", row.goal),
            };
            let cells = [row.unit, &cell(row.ours), &cell(row.peer), &cell(row.ratio), &goal];
            add_line(&mut text, width, &row.case, cells, row.verdict());
        }
        let doubtful = self.rows.iter().filter(|row| !row.remarks.is_empty());
        let lines: Vec<String> =
            doubtful.map(|row| format!("  {}: {}\n", row.case, row.remarks.join("; "))).collect();
        if !lines.is_empty() {
            text += "\nAbsent, or not to be trusted:\n";
            text += &lines.concat();
        }
        text
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        let measured = match self.of {
            Of::Ratio => self.ratio,
            Of::Ours => self.ours,
        };
        match (measured, self.met) {
            (None, _) => "not measured",
            (Some(_), true) => "met",
            (Some(_), false) => "MISSED",
        }
    }
}

fn add_line(text: &mut String, width: usize, case: &str, cells: [&str; 5], verdict: &str) {
    let [unit, ours, peer, ratio, goal] = cells;
    let line =
        format!("{case:width$}  {unit:10}  {ours:>9}  {peer:>9}  {ratio:>7}  {goal:>7}  {verdict}");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn cell(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

/// Four digits after the point: more would only be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut absent =
            Row::against_peer("b vs haproxy".to_owned(), Some(9.0), ("haproxy", None), 1.0);
        absent.remarks.push("HAProxy is not installed".to_owned());
        Report {
            name: "edge",
            machine: "a machine".to_owned(),
            rows: vec![
                Row::against_peer("b".to_owned(), Some(9.0), ("nginx", Some(12.0)), 1.0),
                absent,
                Row::of_ours("memory", "MiB", Some(120.5), 100.0),
                Row::of_ours("compile", "ms", None, 250.0),
            ],
        }
    }

    #[test]
    fn json_has_exactly_the_agreed_fields() {
        let json = serde_json::to_value(report()).unwrap();
        let expected = serde_json::json!({
            "name": "edge", "machine": "a machine", "rows": [
                {"case": "b", "unit": "us/request", "ours": 9.0, "peer": 12.0,
                 "peer_name": "nginx", "ratio": 0.75, "goal": 1.0, "of": "ratio", "met": true},
                {"case": "b vs haproxy", "unit": "us/request", "ours": 9.0, "peer": null,
                 "peer_name": "haproxy", "ratio": null, "goal": 1.0, "of": "ratio", "met": false},
                {"case": "memory", "unit": "MiB", "ours": 120.5, "peer": null,
                 "peer_name": null, "ratio": null, "goal": 100.0, "of": "ours", "met": false},
                {"case": "compile", "unit": "ms", "ours": null, "peer": null,
                 "peer_name": null, "ratio": null, "goal": 250.0, "of": "ours", "met": false},
            ]
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_table_hides_no_miss_and_no_absence() {
        let table = report().table();
        let line = |start: &str| {
            table.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
        };
        assert!(line("b ").ends_with("0.75     1.00  met"), "{table}");
        assert!(line("b vs haproxy").ends_with("not measured"), "{table}");
        assert!(line("memory").ends_with("MISSED"), "{table}");
        assert!(line("compile").ends_with("not measured"), "{table}");
        assert!(table.contains("  b vs haproxy: HAProxy is not installed\n"), "{table}");
        assert!(!report().is_complete());
    }
}
