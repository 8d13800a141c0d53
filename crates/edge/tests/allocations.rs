//! Counts the allocations of a plain request on a connection that is kept, after warm-up. Client and origin use arrays
//! of their own, so that everything counted is the edge's.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not so")]
// A global allocator cannot be written without `unsafe`; this one only counts and passes on.
#![allow(unsafe_code)]

mod common;

use common::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const REQUEST: &[u8] =
    b"GET /shop/cart?item=1 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n";
const ROUNDS: u64 = 500;

#[test]
fn at_most_two_for_a_plain_request() {
    let (_running, port) = one_origin(|peer| {
        let mut room = [0; 4096];
        let mut answer = [b'x'; HEAD.len() + 1024];
        answer[..HEAD.len()].copy_from_slice(HEAD);
        // One request comes in one piece: the edge sends a head at once.
        while peer.stream.read(&mut room).is_ok_and(|count| count > 0) {
            peer.stream.write_all(&answer).unwrap();
        }
    });
    let mut client = Peer::connect(port);
    let mut round = || {
        let mut room = [0; 8192];
        client.stream.write_all(REQUEST).unwrap();
        let mut length = 0;
        while !room[..length].ends_with(&[b'x'; 1024]) {
            length += client.stream.read(&mut room[length..]).unwrap();
        }
        assert!(room.starts_with(b"HTTP/1.1 200 OK\r\n"));
    };
    (0..100).for_each(|_| round());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..ROUNDS).for_each(|_| round());
    let per_request = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / ROUNDS as f64;
    println!("{per_request} allocations a request");
    assert!(per_request <= 2.0, "{per_request} allocations a request");
}
