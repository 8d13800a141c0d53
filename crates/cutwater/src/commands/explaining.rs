//! `cutwater explain`: asks an instance, or judges a folder without probes.

use super::{block_on, now, study};
use crate::cli::{Explain, ExplainFormat};
use crate::{exit, terminal};
use anyhow::Result;
use console::client;
use explain::{Entry, Evidence, Question, World};
use serde_json::Value;
use std::path::Path;

pub fn run(arguments: &Explain) -> Result<u8> {
    let question = match Question::parse(&arguments.host, &arguments.method) {
        Ok(question) => question.from(arguments.from),
        Err(error) => return Ok(complain(exit::USAGE, &error.to_string())),
    };
    let explanation = match &arguments.source.dir {
        Some(dir) => match from_folder(dir, &question) {
            Ok(explanation) => explanation,
            Err(error) => return Ok(complain(exit::NO_INPUT, &error.to_string())),
        },
        None => {
            let from =
                arguments.from.map(|from| format!("&from={}", client::encode(&from.to_string())));
            let path = format!(
                "/explain?host={}&method={}{}",
                client::encode(&arguments.host),
                client::encode(&arguments.method),
                from.unwrap_or_default()
            );
            match block_on(client::get(arguments.source.admin, &path))? {
                Ok(body) => serde_json::from_str(&body)?,
                Err(error) => return Ok(complain(exit::UNAVAILABLE, &error.to_string())),
            }
        }
    };
    match arguments.format {
        ExplainFormat::Text => {
            terminal::print(&explain::to_text(&explanation, &terminal::paint_state))?
        }
        ExplainFormat::Json => terminal::print(&format!("{explanation:#}\n"))?,
    }
    Ok(exit_code(&explanation))
}

fn complain(code: u8, message: &str) -> u8 {
    eprintln!("{} {message}", terminal::paint_stderr(terminal::ERROR, "error:"));
    code
}

fn from_folder(dir: &Path, question: &Question) -> Result<Value, folder::Unreadable> {
    let study = study(dir)?;
    if study.reading.holds_back() {
        eprintln!(
            "warning: the folder has mistakes, so `up` would hold it back (cutwater check {})",
            dir.display()
        );
    }
    let router = routing::Router::build(&study.compiled.snapshot.edge, None);
    let world = World {
        compiled: &study.compiled,
        inputs: &study.reading.inputs,
        mistakes: &study.reading.diagnostics,
        facts: &study.facts,
        router: &router,
        entry: &Entry::default(),
    };
    Ok(explain::to_json(&explain::explain(&world, question, &Evidence::default(), now())))
}

/// The same code whoever judged: from the JSON.
fn exit_code(explanation: &Value) -> u8 {
    if let Some(broken) = explanation["broken"].as_u64() {
        return broken as u8;
    }
    let links = explanation["links"].as_array().into_iter().flatten();
    let has_unknown = links.into_iter().any(|link| link["state"] == "unknown");
    if has_unknown { 10 } else { 0 }
}
