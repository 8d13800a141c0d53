//! The lines of a scenario file: a word, its rest, and the block that may follow.

use crate::check::Check;
use crate::failure::Failure;
use crate::text::Text;

/// One line of the file, with the block that follows it.
#[derive(Debug)]
pub struct Line {
    pub number: usize,
    pub word: String,
    pub rest: String,
    pub block: Option<String>,
    pub text: String,
}

impl Line {
    fn new(number: usize, text: &str, block: Option<String>) -> Self {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (word, rest) = (word.to_owned(), rest.trim().to_owned());
        Self { number, word, rest, block, text: text.to_owned() }
    }

    pub fn block(&self) -> Result<&str, String> {
        self.block.as_deref().ok_or_else(|| "a block <<< … >>> is needed".to_owned())
    }

    /// The bytes of a block, as lines ended by CRLF, or of the rest of the line.
    pub fn bytes(&self) -> Result<Text, String> {
        match &self.block {
            Some(block) => Ok(Text::of_block(block, "\r\n")),
            None => Text::parse(&self.rest),
        }
    }

    pub fn check(&self, whose: &str) -> Result<Check, String> {
        Check::parse(&self.word, &self.rest, self.block.as_deref())
            .unwrap_or_else(|| Err(format!("{:?} is no step of {whose}", self.word)))
    }
}

/// All lines but blank ones and comments.
pub fn lines(text: &str) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut numbered = text.lines().enumerate();
    while let Some((index, line)) = numbered.next() {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (text, block) = match text.strip_suffix("<<<") {
            None => (text, None),
            Some(text) => {
                let block = block(numbered.by_ref().map(|(_, line)| line));
                (text.trim_end(), Some(block.ok_or_else(|| unclosed(index + 1, text))?))
            }
        };
        lines.push(Line::new(index + 1, text, block));
    }
    Ok(lines)
}

/// The lines up to `>>>`, or `None` where that is missing.
fn block<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut inner = Vec::new();
    for line in lines {
        if line.trim() == ">>>" {
            return Some(dedented(&inner));
        }
        inner.push(line);
    }
    None
}

fn unclosed(line: usize, step: &str) -> Failure {
    let (expected, got) =
        ("a line >>> after the block".to_owned(), "the end of the file".to_owned());
    Failure { line, step: step.to_owned(), expected, got }
}

/// Lines without the indentation that all of them share.
fn dedented(lines: &[&str]) -> String {
    let indentation = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    lines.iter().map(|line| format!("{}\n", line.get(indentation..).unwrap_or(""))).collect()
}
