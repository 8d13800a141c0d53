//! `cutwater upgrade`: asks an instance to hand over to a new process, and waits for what became of it.

use super::block_on;
use crate::cli::Upgrade;
use crate::{exit, terminal};
use anyhow::Result;
use console::client::{self, Error};
use serde_json::Value;
use std::time::Duration;

/// Beyond the time that the instance gives the new process.
const PATIENCE: Duration = Duration::from_millis(model::limits::HANDOVER_TIMEOUT_MS + 10_000);

pub fn run(arguments: &Upgrade) -> Result<u8> {
    match block_on(client::post(arguments.admin, "/upgrade", PATIENCE))? {
        Ok(body) => {
            terminal::print(&line(&serde_json::from_str(&body)?))?;
            Ok(0)
        }
        Err(error) => {
            eprintln!("{} {error}", terminal::paint_stderr(terminal::ERROR, "error:"));
            Ok(match error {
                Error::NoInstance(..) => exit::UNAVAILABLE,
                Error::Refused(_) => exit::FAILED,
            })
        }
    }
}

fn line(upgraded: &Value) -> String {
    let text = |key: &str| upgraded[key].as_str().unwrap_or("?");
    format!(
        "upgraded: process {} to {}, version {} to {}, {} ms\n",
        upgraded["oldPid"],
        upgraded["newPid"],
        text("oldVersion"),
        text("newVersion"),
        upgraded["milliseconds"]
    )
}
