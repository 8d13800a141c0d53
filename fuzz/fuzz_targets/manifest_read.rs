//! Any text as a folder of two files, one read as YAML and one as JSON: no panic, every place inside its file, and the
//! same result when read again. The first byte says where the text is cut in two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use manifest::{Reading, assemble, read_file};
use model::Text;
use std::sync::Arc;

fuzz_target!(|input: &str| {
    let cut = input.bytes().next().map_or(0, usize::from) * input.len() / 256;
    let cut = (0..=cut).rev().find(|at| input.is_char_boundary(*at)).unwrap_or(0);
    let (first, second) = input.split_at(cut);
    let files: [(Text, Text); 3] = [
        ("a.yaml".into(), first.into()),
        ("b.yaml".into(), second.into()),
        ("c.json".into(), input.into()),
    ];
    let reading = read(&files);
    for diagnostic in &reading.diagnostics {
        let place = diagnostic.place.as_ref().expect("everything in a file has a place");
        let (_, text) = files.iter().find(|(name, _)| *name == place.file).expect("a file");
        assert!(text.get(place.start as usize..place.end as usize).is_some(), "{diagnostic:?}");
    }
    assert_eq!(reading.diagnostics, read(&files).diagnostics);
});

fn read(files: &[(Text, Text)]) -> Reading {
    let read: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.clone(), text.clone(), Arc::new(read_file(name, text))))
        .collect();
    assemble(&read)
}
