//! Pairs of files: `fixtures/NAME/*.yaml` in, `fixtures/NAME.expected` out. `UPDATE_EXPECT=1` rewrites what is expected;
//! the difference is then read by a person.

mod support;

use support::{files, fixtures, names, read, render};

#[test]
fn fixtures_compile_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for name in names() {
        let reading = read(&files(&name));
        for refused in reading.diagnostics.iter().filter(|d| d.is_error()) {
            let place = refused.place.as_ref().map(|place| (place.line, place.column));
            wrong.push(format!("{name} cannot be read: {place:?} {}", refused.message));
        }
        let compiled = compile::compile(&reading.inputs, None);
        let facts = compile::facts(&reading.inputs);
        let advice = compile::advise(&compiled.snapshot, &facts, &reading.inputs.origins);
        let text = render::all(&compiled, &facts, &advice);
        let path = fixtures().join(format!("{name}.expected"));
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if update {
            std::fs::write(&path, &text).expect("the expectation can be written");
        } else if text != expected {
            wrong.push(format!("{name}: expected\n{expected}\ngot\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_enough_fixtures_and_every_one_has_an_expectation() {
    let names = names();
    assert!(names.len() >= 40, "{} fixtures", names.len());
    for name in names {
        assert!(fixtures().join(format!("{name}.expected")).is_file(), "{name}");
    }
}

/// Whoever makes one of the mistakes of `examples/broken` is told how to mend it.
#[test]
fn each_broken_example_is_told_how_to_mend_it() {
    let broken = files("../../../../examples/broken");
    let compiled = compile::compile(&read(&broken).inputs, None);
    assert!(compiled.diagnostics.len() > 20);
    for diagnostic in &compiled.diagnostics {
        assert!(!diagnostic.help.is_empty(), "{diagnostic:?}");
    }
}
