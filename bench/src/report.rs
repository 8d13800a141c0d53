//! The rows of a bench, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cases::Against;

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
    /// How far our rounds lay apart, as a share of their median.
    pub spread: Option<f64>,
    /// Why a figure is absent, or not to be trusted.
    #[serde(skip)]
    pub remarks: Vec<String>,
}

#[derive(Serialize)]
pub struct Report {
    pub name: &'static str,
    pub machine: String,
    pub date: String,
    /// Which binary was measured.
    pub cutwater: String,
    pub rows: Vec<Row>,
}

/// A peer's figure in a case.
pub struct Peer {
    pub name: &'static str,
    pub figure: Option<f64>,
}

impl Row {
    /// Rows that compare our figure with each peer's: first the one that the goal is about.
    pub fn against_peers(
        case: &str,
        ours: Option<f64>,
        peers: &[Peer],
        against: Against,
        goal: f64,
    ) -> Vec<Row> {
        let Some(first) = decisive(peers, against) else { return Vec::new() };
        let others = peers.iter().filter(|peer| peer.name != first.name);
        let row =
            |title, peer: &Peer| Row::against_peer(title, ours, (peer.name, peer.figure), goal);
        let others = others.map(|peer| row(format!("{case} vs {}", peer.name), peer));
        std::iter::once(row(case.to_owned(), first)).chain(others).collect()
    }

    /// Shows a peer's figure beside ours, which alone is held to the goal.
    pub fn beside(&mut self, peers: &[Peer], against: Against) {
        let Some(peer) = decisive(peers, against) else { return };
        self.peer = peer.figure.map(rounded);
        self.peer_name = Some(peer.name);
        self.ratio = self.ours.zip(self.peer).map(|(ours, peer)| rounded(ours / peer));
    }

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
            spread: None,
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
            spread: None,
            remarks: Vec::new(),
        }
    }
}

/// The peer that a goal is about: the one named, or the one with the lower figure of those that decide.
fn decisive(peers: &[Peer], against: Against) -> Option<&Peer> {
    const DECIDE: [&str; 2] = ["nginx", "haproxy"];
    match against {
        Against::Haproxy => peers.iter().find(|peer| peer.name == "haproxy"),
        Against::Better => {
            let figure = |peer: &Peer| peer.figure.unwrap_or(f64::INFINITY);
            let deciding = peers.iter().filter(|peer| DECIDE.contains(&peer.name));
            deciding.min_by(|a, b| figure(a).total_cmp(&figure(b)))
        }
    }
}

/// The result that was committed last: for each case its ratio, or our figure where there is none.
pub struct Last {
    date: String,
    figures: BTreeMap<String, f64>,
}

impl Last {
    /// `None` when none was committed.
    pub fn committed(name: &str) -> Result<Option<Last>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let file = folder.join(format!("{name}.json"));
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Some(Last::read(&text).with_context(|| file.display().to_string())?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    fn read(text: &str) -> Result<Last> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let rows = value["rows"].as_array().context("no rows")?;
        let figure = |row: &serde_json::Value| {
            let of_ours = row["of"] == "ours";
            let figure = if of_ours { row["ours"].as_f64() } else { row["ratio"].as_f64() };
            Some((row["case"].as_str()?.to_owned(), figure?))
        };
        let date = value["date"].as_str().unwrap_or("an unknown day").to_owned();
        Ok(Last { date, figures: rows.iter().filter_map(figure).collect() })
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

    /// With the figures of `last` in a column of their own.
    pub fn table(&self, last: Option<&Last>) -> String {
        let mut text = format!("{} on {}, {}\n", self.name, self.machine, self.date);
        if let Some(last) = last {
            text += &format!("last: the ratio, or our figure, as committed on {}\n", last.date);
        }
        text.push('\n');
        let width = self.rows.iter().map(|row| row.case.len()).max().unwrap_or(0).max(4);
        let titles = ["unit", "ours", "peer", "", "ratio", "goal", "last", "spread"];
        add_line(&mut text, width, "case", titles, "");
        for row in &self.rows {
            let goal = match row.of {
                Of::Ratio => format!("{:.2}", row.goal),
                Of::Ours => format!("{}", row.goal),
            };
            let before = last.and_then(|last| last.figures.get(&row.case)).copied();
            let spread = row.spread.map_or("-".to_owned(), |it| format!("{:.0} %", it * 100.0));
            let (ours, peer, ratio) = (cell(row.ours), cell(row.peer), cell(row.ratio));
            let name = row.peer_name.unwrap_or("");
            let cells = [row.unit, &ours, &peer, name, &ratio, &goal, &cell(before), &spread];
            add_line(&mut text, width, &row.case, cells, row.verdict());
        }
        text + &self.remarks()
    }

    fn remarks(&self) -> String {
        let doubtful = self.rows.iter().filter(|row| !row.remarks.is_empty());
        let lines: Vec<String> =
            doubtful.map(|row| format!("  {}: {}\n", row.case, row.remarks.join("; "))).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("\nAbsent, not to be trusted, or to be known:\n{}", lines.concat()),
        }
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

fn add_line(text: &mut String, width: usize, case: &str, cells: [&str; 8], verdict: &str) {
    let [unit, ours, peer, name, ratio, goal, last, spread] = cells;
    let line = format!(
        "{case:width$}  {unit:10}  {ours:>9}  {peer:>9} {name:9}  {ratio:>7}  {goal:>7}  {last:>8}  {spread:>6}  {verdict}"
    );
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
            date: "2026-11-21".to_owned(),
            cutwater: "target/release/cutwater".to_owned(),
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
            "name": "edge", "machine": "a machine", "date": "2026-11-21",
            "cutwater": "target/release/cutwater", "rows": [
                {"case": "b", "unit": "us/request", "ours": 9.0, "peer": 12.0,
                 "peer_name": "nginx", "ratio": 0.75, "goal": 1.0, "of": "ratio", "met": true, "spread": null},
                {"case": "b vs haproxy", "unit": "us/request", "ours": 9.0, "peer": null,
                 "peer_name": "haproxy", "ratio": null, "goal": 1.0, "of": "ratio", "met": false, "spread": null},
                {"case": "memory", "unit": "MiB", "ours": 120.5, "peer": null,
                 "peer_name": null, "ratio": null, "goal": 100.0, "of": "ours", "met": false, "spread": null},
                {"case": "compile", "unit": "ms", "ours": null, "peer": null,
                 "peer_name": null, "ratio": null, "goal": 250.0, "of": "ours", "met": false, "spread": null},
            ]
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_goal_is_about_the_better_of_nginx_and_haproxy() {
        let peer = |name, figure| Peer { name, figure };
        let peers =
            [peer("nginx", Some(12.0)), peer("haproxy", Some(10.0)), peer("envoy", Some(8.0))];
        let rows = Row::against_peers("a", Some(9.0), &peers, Against::Better, 0.8);
        let titles: Vec<&str> = rows.iter().map(|row| row.case.as_str()).collect();
        assert_eq!(titles, ["a", "a vs nginx", "a vs envoy"]);
        assert_eq!(rows[0].ratio, Some(0.9));
        assert!(!rows[0].met && rows[1].met);
        let rows =
            Row::against_peers("a", Some(9.0), &[peer("haproxy", None)], Against::Haproxy, 0.8);
        assert!(rows.len() == 1 && rows[0].ratio.is_none());
    }

    #[test]
    fn the_table_hides_no_miss_and_no_absence() {
        let last = r#"{"date": "2026-11-20", "rows": [
            {"case": "b", "of": "ratio", "ours": 9.0, "ratio": 0.71},
            {"case": "memory", "of": "ours", "ours": 118.0, "ratio": null}]}"#;
        let table = report().table(Some(&Last::read(last).unwrap()));
        let line = |start: &str| {
            table.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
        };
        assert!(
            line("b ").ends_with("nginx         0.75     1.00      0.71       -  met"),
            "{table}"
        );
        assert!(line("b vs haproxy").ends_with("not measured"), "{table}");
        assert!(line("memory").contains("118.00") && line("memory").ends_with("MISSED"), "{table}");
        assert!(line("compile").ends_with("not measured"), "{table}");
        assert!(table.contains("  b vs haproxy: HAProxy is not installed\n"), "{table}");
        assert!(!report().is_complete());
    }
}
