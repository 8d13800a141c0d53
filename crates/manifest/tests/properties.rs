//! What holds for any text and any folder: no panic, places inside the file, and objects that do not depend on how they
//! were written down.

use manifest::{Object, Reading, assemble, read_file};
use model::Text;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

type File = (Text, Text);

fn reading(files: &[File]) -> Reading {
    let read: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.clone(), text.clone(), Arc::new(read_file(name, text))))
        .collect();
    assemble(&read)
}

/// Reads a folder and checks what every reading promises.
fn check(files: &[File]) -> Result<Reading, TestCaseError> {
    let reading = reading(files);
    for diagnostic in &reading.diagnostics {
        let related = diagnostic.related.iter().map(|(_, place)| place);
        for place in diagnostic.place.iter().chain(related) {
            let (_, text) = files.iter().find(|(name, _)| *name == place.file).expect("a file");
            let span = text.get(place.start as usize..place.end as usize);
            prop_assert!(span.is_some(), "{diagnostic:?}");
            prop_assert!(place.line >= 1 && place.column >= 1);
        }
        prop_assert!(diagnostic.place.is_some() && !diagnostic.message.is_empty());
    }
    for object in reading.inputs.iter() {
        prop_assert!(reading.inputs.origins.place(&object.id, "").is_some());
    }
    Ok(reading)
}

/// Fixtures and examples of this repository.
fn folder() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/fixtures", "../../examples"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "json") {
            let text = std::fs::read_to_string(&path).expect("the file can be read");
            files.push((path.to_string_lossy().into(), text.into()));
        }
    }
}

/// One edit of a text, as a slip of the hand or of a disk would make it.
fn edit(text: &str, at: usize, what: usize) -> String {
    const PIECES: &[&str] = &[
        " ",
        "\t",
        "\n",
        "\r\n",
        "---\n",
        ":",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        "|\n",
        ">-\n",
        "#",
        "!!str ",
        "? ",
        "\u{feff}",
        "\u{0}",
        "ü",
        "\u{2028}",
        "...\n",
        "%YAML 1.2\n",
        "~",
        "0x",
        "\\",
    ];
    let at = (0..=at % (text.len() + 1)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let (head, tail) = text.split_at(at);
    let line = tail.split_inclusive('\n').next().unwrap_or_default();
    match what % (PIECES.len() + 4) {
        0 => head.to_owned(),
        1 => format!("{head}{}", &tail[line.len()..]),
        2 => format!("{head}{line}{tail}"),
        3 => format!("{head}{}", tail.chars().skip(1).collect::<String>()),
        piece => format!("{head}{}{tail}", PIECES[piece - 4]),
    }
}

/// Text made of what YAML gives a meaning to.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ \\t\\n\\r]{1,4}",
        "[-:?,\\[\\]{}#&*!|>'\"%@`~<]{1,3}",
        "[a-zäß0-9]{1,3}",
        Just("---\n".to_owned()),
        Just("- ".to_owned()),
        Just(": ".to_owned()),
        Just("\n  ".to_owned()),
        Just("&a ".to_owned()),
        Just("*a ".to_owned()),
        Just("<<: *a\n".to_owned()),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        check(&[("a.yaml".into(), text.as_str().into()), ("b.json".into(), text.as_str().into())])?;
    }

    #[test]
    fn yaml_like_text_is_read_without_panic(text in yaml_like()) {
        check(&[("a.yaml".into(), text.as_str().into()), ("b.json".into(), text.as_str().into())])?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mutated_folders_are_read_without_panic(
        edits in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 1..40),
    ) {
        let mut files = folder();
        for (file, at, what) in edits {
            let index = file % files.len();
            files[index].1 = edit(&files[index].1, at, what).into();
        }
        check(&files)?;
    }

    #[test]
    fn objects_do_not_depend_on_how_they_are_written_down(
        order in Just((0..shop().len()).collect::<Vec<usize>>()).prop_shuffle(),
        files in 1usize..6,
        spaces in 1usize..4,
    ) {
        let documents = shop();
        prop_assert!(documents.len() > 20);
        let as_written = objects(&[("a.yaml".into(), documents.join("---\n").into())]);
        let mut texts = vec![String::new(); files];
        for (at, index) in order.into_iter().enumerate() {
            let text = &mut texts[at % files];
            text.push_str("--- # a comment\n");
            text.push_str(&indented(&documents[index], spaces));
        }
        let other: Vec<File> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| (format!("{}.yaml", files - index).into(), text.as_str().into()))
            .collect();
        prop_assert_eq!(as_written, objects(&other));
    }
}

/// Documents of examples/shop.
fn shop() -> Vec<String> {
    let files = folder().into_iter().filter(|(name, _)| name.contains("examples/shop/"));
    let documents =
        files.flat_map(|(_, text)| text.split("---\n").map(str::to_owned).collect::<Vec<_>>());
    documents.collect()
}

fn objects(files: &[File]) -> Vec<Arc<Object>> {
    let reading = reading(files);
    assert_eq!(reading.diagnostics, []);
    reading.inputs.iter().cloned().collect()
}

/// The same document with other indentation, comments and empty lines.
fn indented(document: &str, spaces: usize) -> String {
    let lines = document.lines().map(|line| {
        let depth = line.len() - line.trim_start().len();
        // What follows a dash is indented too.
        let text = match line.trim_start().strip_prefix("- ") {
            Some(item) => format!("-{}{item}", " ".repeat(2 * spaces - 1)),
            None => line.trim_start().to_owned(),
        };
        format!("{}{text}   # {depth}\n\n", " ".repeat(depth * spaces))
    });
    lines.collect()
}
