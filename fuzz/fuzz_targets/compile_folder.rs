#![no_main]
//! Any folder compiles: no panic, the same result twice, and the previous snapshot decides nothing. Files are parted by
//! a NUL byte.

use libfuzzer_sys::fuzz_target;
use model::Text;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let files: Vec<_> = text
        .split('\0')
        .enumerate()
        .map(|(index, text)| {
            let name: Text = format!("{index}.yaml").into();
            let read = Arc::new(manifest::read_file(&name, text));
            (name, Text::from(text), read)
        })
        .collect();
    let reading = manifest::assemble(&files);
    let compiled = compile::compile(&reading.inputs, None);
    let again = compile::compile(&reading.inputs, Some(&compiled.snapshot));
    assert_eq!(compiled, again);
    assert!(compile::difference(&compiled.snapshot, &again.snapshot).is_empty());
    let facts = compile::facts(&reading.inputs);
    compile::advise(&compiled.snapshot, &facts, &reading.inputs.origins);
    compile::certificate_findings(&compiled.snapshot, &reading.inputs.origins, 1_700_000_000);
});
