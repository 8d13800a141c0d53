//! What the tests of this crate share: reading a folder of fixtures, and a text form of what comes out.

#![allow(dead_code)]

pub mod render;

use manifest::{FileRead, Reading, assemble, read_file};
use model::Text;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub type Files = Vec<(String, String)>;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Names of all fixtures, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixtures())
        .expect("the fixtures are there")
        .filter_map(|entry| {
            let entry = entry.expect("the entry can be read");
            entry.path().is_dir().then(|| entry.file_name().to_string_lossy().into_owned())
        })
        .collect();
    names.sort();
    names
}

pub fn files(name: &str) -> Files {
    let mut files: Files = std::fs::read_dir(fixtures().join(name))
        .expect("the fixture is there")
        .map(|entry| {
            let path = entry.expect("the entry can be read").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("the file is text"))
        })
        .collect();
    files.sort();
    files
}

pub fn read(files: &Files) -> Reading {
    let read: Vec<(Text, Text, Arc<FileRead>)> = files
        .iter()
        .map(|(name, text)| {
            let name: Text = name.as_str().into();
            let read = Arc::new(read_file(&name, text));
            (name, text.as_str().into(), read)
        })
        .collect();
    assemble(&read)
}
