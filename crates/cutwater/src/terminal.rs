//! Colour, only on a terminal and never where `NO_COLOR` is set.

use std::io::{self, IsTerminal, Write};

/// Bold red.
pub const ERROR: &str = "1;31";

pub fn stderr_is_coloured() -> bool {
    is_allowed() && std::io::stderr().is_terminal()
}

pub fn stdout_is_coloured() -> bool {
    is_allowed() && std::io::stdout().is_terminal()
}

/// <https://no-color.org>: set and not empty turns colour off.
fn is_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Data for standard output. A reader that has gone away wants no more, which is no error of ours.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

pub fn paint_stderr(colour: &str, text: &str) -> String {
    if stderr_is_coloured() { paint(colour, text) } else { text.to_owned() }
}

pub fn paint(colour: &str, text: &str) -> String {
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Colours the state of a link.
pub fn paint_state(state: &str, text: &str) -> String {
    if !stdout_is_coloured() {
        return text.to_owned();
    }
    let colour = match state {
        "ok" => "32",
        "broken" => ERROR,
        "consequence" => "33",
        "unknown" => "35",
        _ => "2",
    };
    paint(colour, text)
}
