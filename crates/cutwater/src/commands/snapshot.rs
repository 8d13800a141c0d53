//! `cutwater snapshot`: the plan as JSON.

use super::{block_on, study};
use crate::cli::Snapshot;
use crate::{exit, terminal};
use anyhow::Result;
use serde_json::Value;

pub fn run(arguments: &Snapshot) -> Result<u8> {
    let complain = |code: u8, message: String| {
        eprintln!("{} {message}", terminal::paint_stderr(terminal::ERROR, "error:"));
        Ok(code)
    };
    match &arguments.source.dir {
        Some(dir) => match study(dir) {
            Ok(study) => {
                let plan =
                    report::plan::to_json(&study.compiled.snapshot, &study.compiled.statuses);
                terminal::print(&format!("{plan:#}\n"))?;
                if study.reading.holds_back() {
                    let message = format!(
                        "the folder has mistakes, so `up` would hold it back; the plan is of what could be read (cutwater check {})",
                        dir.display()
                    );
                    return complain(exit::FAILED, message);
                }
            }
            Err(error) => return complain(exit::NO_INPUT, error.to_string()),
        },
        None => match block_on(console::client::get(arguments.source.admin, "/snapshot"))? {
            Ok(body) => terminal::print(&format!("{:#}\n", serde_json::from_str::<Value>(&body)?))?,
            Err(error) => return complain(exit::UNAVAILABLE, error.to_string()),
        },
    }
    Ok(0)
}
