//! A cost as a test: once the scratch is warm, matching allocates nothing.
// Counting allocations needs an allocator, and an allocator is unsafe by its trait.
#![allow(unsafe_code)]

#[path = "routing/plan.rs"]
#[allow(dead_code)]
mod plan;

use plan::*;
use routing::{Router, Scratch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn matching_allocates_nothing_once_warm() {
    let cart = route(
        "cart",
        vec![
            vec![when("~ /c[a-z]+/[0-9]+", vec![header("x-a", "~ ^1,2$"), query("q", "~ ^a b$")])],
            vec![ranked("/plain", 1)],
        ],
    );
    let attachments = vec![attach("*.test", "*.test", &cart)];
    let router = Router::build(&plan(vec![listener("l", "", attachments.clone())]), None);
    let headers = fields(&[("x-a", "1"), ("x-a", "2")]);
    let mut scratch = Scratch::default();
    let mut select_in = |router: &Router, line: &str| {
        let table = router.listeners().next().expect("one listener");
        let request = request(line, &headers);
        let before = COUNT.get();
        assert!(table.select("a.b.test", &request, &mut scratch).is_some(), "{line}");
        COUNT.get() - before
    };
    let mut select = |line: &str| select_in(&router, line);
    assert_eq!(select("GET /plain/x"), 0, "no search state is needed");
    assert!(select("GET /cart/12?q=a+b") > 0, "the first search makes its state");
    assert_eq!(select("GET /cart/12?q=a+b"), 0);
    assert_eq!(select("GET /cart/12?q=%61%20b"), 0);

    // A rebuilt table keeps its patterns, so the worker's search state fits still.
    let more = attach("new.test", "new.test", &route("new", vec![vec![on("/new")]]));
    let attachments = attachments.into_iter().chain([more]).collect();
    let next = Router::build(&plan(vec![listener("l", "", attachments)]), Some(&router));
    assert_eq!(select_in(&next, "GET /cart/12?q=a+b"), 0);
}

#[test]
fn ten_thousand_routes_stay_small() {
    let attachments = (0..10_000)
        .map(|n| {
            let host = format!("svc-{n}.example.test");
            attach(&host, &host, &route(&format!("r{n}"), vec![vec![on("/api"), on("= /")]]))
        })
        .collect();
    let router = Router::build(&plan(vec![listener("l", "", attachments)]), None);
    let bytes: usize = router.listeners().map(|table| table.memory_bytes()).sum();
    assert!(bytes < 4 << 20, "{bytes} bytes beside the plan itself");
}
