//! `cutwater check`: every diagnostic of a folder.

use super::{now, study};
use crate::cli::{Check, CheckFormat};
use crate::{exit, terminal};
use anyhow::Result;
use model::Diagnostic;

/// The folder cannot be read: distinct from errors in it.
const UNREADABLE: u8 = 2;

pub fn run(arguments: &Check) -> Result<u8> {
    let study = match study(&arguments.dir) {
        Ok(study) => study,
        Err(error) => {
            eprintln!("{} {error}", terminal::paint_stderr(terminal::ERROR, "error:"));
            return Ok(UNREADABLE);
        }
    };
    let diagnostics =
        instance::all_diagnostics(&study.reading, &study.compiled, &study.facts, now());
    match arguments.format {
        CheckFormat::Text => print_text(&diagnostics, &study)?,
        CheckFormat::Json => {
            terminal::print(&format!("{:#}\n", report::diagnostics::to_json(&diagnostics)))?;
        }
        CheckFormat::Sarif => {
            let codes = instance::codes();
            let sarif =
                report::diagnostics::to_sarif(&diagnostics, &codes, env!("CARGO_PKG_VERSION"));
            terminal::print(&format!("{sarif:#}\n"))?;
        }
    }
    Ok(if diagnostics.iter().any(Diagnostic::is_error) { exit::FAILED } else { 0 })
}

fn print_text(diagnostics: &[Diagnostic], study: &super::Study) -> Result<()> {
    let origins = &study.reading.inputs.origins;
    terminal::print(&report::diagnostics::to_text(
        diagnostics,
        origins,
        terminal::stdout_is_coloured(),
    ))?;
    let foreign: usize = study.reading.foreign.values().sum();
    let others = if foreign == 0 {
        String::new()
    } else {
        format!("; {foreign} objects of other kinds passed over")
    };
    eprintln!(
        "{} files, {} objects, {}{others}",
        origins.files.len(),
        study.reading.inputs.len(),
        report::diagnostics::count(diagnostics)
    );
    Ok(())
}
