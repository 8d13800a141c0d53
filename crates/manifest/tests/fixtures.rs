//! Pairs of files: `fixtures/NAME.yaml` (or `.json`) in, the diagnostics of `fixtures/NAME.expected` out.
//! `UPDATE_EXPECT=1 cargo test -p manifest` rewrites what is expected.

use manifest::{assemble, read_file};
use model::{Diagnostic, Text};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every manifest of a folder, sorted.
fn manifests(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the entry can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "json"))
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> (manifest::Reading, Text) {
    let name: Text = path.file_name().expect("a file").to_string_lossy().into();
    let text = std::fs::read_to_string(path).expect("the file can be read");
    // The one placeholder of the conformance suite.
    let text: Text = text.replace("{GATEWAY_CONTROLLER_NAME}", "cutwater.dev/gateway").into();
    let read = Arc::new(read_file(&name, &text));
    (assemble(&[(name, text.clone(), read)]), text)
}

#[test]
fn diagnostics_are_as_written_beside_each_fixture() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for path in manifests(&folder()) {
        let (reading, text) = read(&path);
        let found = show(&reading, &text);
        let beside = path.with_extension("expected");
        if update {
            std::fs::write(&beside, &found).expect("the expectation can be written");
        } else if std::fs::read_to_string(&beside).ok().as_deref() != Some(&found) {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Place, severity and code; the offending text; message, help and related places.
fn show(reading: &manifest::Reading, text: &str) -> String {
    let mut out = String::new();
    for diagnostic in &reading.diagnostics {
        show_one(&mut out, diagnostic, text).expect("a string takes it");
    }
    let ids: Vec<String> = reading.inputs.iter().map(|object| object.id.to_string()).collect();
    writeln!(out, "objects: {}", ids.join(", ")).expect("a string takes it");
    for ((api_version, kind), count) in &reading.foreign {
        writeln!(out, "foreign: {count} {api_version} {kind}").expect("a string takes it");
    }
    out
}

fn show_one(out: &mut String, diagnostic: &Diagnostic, text: &str) -> std::fmt::Result {
    let place = diagnostic.place.as_ref().expect("everything in a file has a place");
    let severity = diagnostic.severity.name();
    writeln!(out, "{}:{} {severity} {}", place.line, place.column, diagnostic.code)?;
    writeln!(out, "  > {:?}", &text[place.start as usize..place.end as usize])?;
    writeln!(out, "  {}", diagnostic.message)?;
    if !diagnostic.help.is_empty() {
        writeln!(out, "  help: {}", diagnostic.help)?;
    }
    if let Some(object) = &diagnostic.object {
        writeln!(out, "  at: {object} {}", diagnostic.field)?;
    }
    for (message, place) in &diagnostic.related {
        writeln!(out, "  {}:{} {message}", place.line, place.column)?;
    }
    Ok(())
}

/// Every field of an object that was read has a place, and a field that is not written has that of its parent.
#[test]
fn fields_have_places() {
    let path = folder().join("places.yaml");
    let (reading, _) = read(&path);
    let id = model::ObjectId::new(model::Kind::HTTP_ROUTE, "shop", "cart");
    for (field, expected) in [
        ("", (3, 1)),
        ("metadata.name", (6, 9)),
        ("spec", (8, 1)),
        ("spec.hostnames[1]", (9, 31)),
        ("spec.rules", (10, 3)),
        ("spec.rules[0]", (11, 5)),
        ("spec.rules[0].matches[0].headers[1].value", (12, 57)),
        ("spec.rules[0].backendRefs[0]", (14, 7)),
        ("spec.rules[0].backendRefs[0].weight", (14, 7)),
        ("spec.rules[0].backendRefs[1].port", (16, 25)),
        ("spec.rules[0].filters[0].type", (11, 5)),
    ] {
        let place = reading.inputs.origins.place(&id, field).expect("the object is there");
        assert_eq!((place.line, place.column), expected, "{field}");
    }
}

/// All of the example's files are read without a word.
#[test]
fn the_example_shop_is_clean() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    let folders = std::fs::read_dir(shop).expect("the example is there");
    for folder in folders.map(|entry| entry.expect("the entry can be read").path()) {
        for path in if folder.is_dir() { manifests(&folder) } else { Vec::new() } {
            let (reading, _) = read(&path);
            assert_eq!(reading.diagnostics, [], "{}", path.display());
            assert!(!reading.inputs.is_empty(), "{}", path.display());
        }
    }
}

/// The conformance suite's own manifests hold no mistake that this crate may refuse, but for one broken certificate.
#[test]
fn the_conformance_suite_is_read() {
    let tests =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/gateway-api/tests");
    if !tests.exists() {
        println!("skipped: {} is not on this machine", tests.display());
        return;
    }
    let mut objects = 0;
    for path in manifests(&tests) {
        let (reading, _) = read(&path);
        objects += reading.inputs.len();
        for diagnostic in reading.diagnostics.iter().filter(|d| d.is_error()) {
            assert_eq!(diagnostic.code, "bad-pem", "{}: {diagnostic:?}", path.display());
        }
    }
    assert!(objects > 200, "only {objects} objects");
}

/// `examples/broken` holds one mistake a file: those of this crate are in the files below 40, the others are legal here
/// and judged by `compile`.
#[test]
fn each_broken_example_says_its_mistake() {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/broken");
    let mut files = Vec::new();
    for path in manifests(&broken) {
        let name: Text = path.file_name().expect("a file").to_string_lossy().into();
        let text: Text = std::fs::read_to_string(&path).expect("the file can be read").into();
        let read = Arc::new(read_file(&name, &text));
        files.push((name, text, read));
    }
    let reading = assemble(&files);
    assert!(reading.holds_back());
    let mut found = String::new();
    for diagnostic in &reading.diagnostics {
        let place = diagnostic.place.as_ref().expect("everything in a file has a place");
        let line = (&place.file, place.line, place.column, diagnostic.code);
        writeln!(found, "{}:{}:{} {}", line.0, line.1, line.2, line.3).expect("a string takes it");
    }
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken.expected");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&expected, &found).expect("the expectation can be written");
    }
    assert_eq!(found, std::fs::read_to_string(&expected).expect("the expectation is there"));
    for (name, _, _) in &files {
        let is_ours = ("01"..="39").contains(&&name[..2]);
        let says = found.lines().any(|line| line.starts_with(&**name));
        assert_eq!(is_ours, says, "{name}");
    }
}

/// Scripts tell codes apart by their slugs.
#[test]
fn codes_are_named_once() {
    let mut slugs: Vec<&str> = manifest::codes::ALL.iter().map(|code| code.slug).collect();
    slugs.sort_unstable();
    let count = slugs.len();
    slugs.dedup();
    assert_eq!(slugs.len(), count);
}

/// Whoever makes one of these mistakes is told how to mend it.
#[test]
fn each_broken_example_is_told_how_to_mend_it() {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/broken");
    for path in manifests(&broken) {
        for diagnostic in read(&path).0.diagnostics {
            assert!(!diagnostic.help.is_empty(), "{}: {diagnostic:?}", path.display());
        }
    }
}

/// What is beyond the bound is said, not dropped in silence.
#[test]
fn findings_of_a_file_are_bounded() {
    let fields: String = (0..1_500).map(|n| format!("  unknown{n}: 1\n")).collect();
    let head = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec:\n";
    let read = read_file(&"a.yaml".into(), &format!("{head}{fields}"));
    let last = read.diagnostics.last().expect("there are findings");
    assert_eq!(read.diagnostics.len(), 1_001);
    assert!(last.message.ends_with("further findings of this file are not shown"), "{last:?}");
}

/// Of merged maps the earlier wins, and the map itself before them; a list of them costs once each.
#[test]
fn many_merged_maps_are_read_in_one_pass() {
    let maps: Vec<String> = (1..20_000).map(|n| format!("{{k{n}: '1', k0: '{n}'}}")).collect();
    let head =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\ndata:\n  own: x\n";
    let text = format!("{head}  <<: [{{own: y, k0: first}}, {}]\n", maps.join(", "));
    let read = read_file(&"a.yaml".into(), &text);
    assert_eq!(read.diagnostics, []);
    let plain = read_file(&"b.yaml".into(), &format!("{head}  k0: first\n  k19999: '1'\n"));
    let data = |read: &manifest::FileRead| match &read.objects[0].object.spec {
        manifest::Spec::ConfigMap(map) => map.entries.clone(),
        other => panic!("a ConfigMap, not {other:?}"),
    };
    let (merged, plain) = (data(&read), data(&plain));
    assert_eq!(merged.len(), 20_001);
    for (key, value) in &plain {
        assert_eq!(merged.get(key), Some(value), "{key}");
    }
}
