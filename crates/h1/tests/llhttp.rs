//! The llhttp vectors as a test; the runner and the list of cases where we differ on purpose live in
//! the example of the same name.

#[allow(dead_code)]
#[path = "../examples/llhttp.rs"]
mod llhttp;

use std::path::Path;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/suites/llhttp");

#[test]
fn vectors() {
    let dir = Path::new(VECTORS);
    if !dir.is_dir() {
        println!("skipped: the llhttp vectors are not at {VECTORS}");
        return;
    }
    let report = llhttp::run(dir).expect("the vectors can be read");
    assert!(report.passed >= 200, "only {} vectors passed: were all read?", report.passed);
    assert_eq!(report.failed, [], "of {} that passed", report.passed);
}
