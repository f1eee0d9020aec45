//! Bytes of heap per connection at 1M connections: entry, both indexes and timers, as the allocator counts them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use uvs_bench::{METHODS, director, establish};

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[allow(unsafe_code, reason = "an allocator that counts can be written in no other way")]
// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    // `cargo test --benches` runs this too; a smaller table will do there.
    let connections = if std::env::args().any(|arg| arg == "--bench") { 1_000_000 } else { 10_000 };
    for (name, forwarding) in METHODS {
        let director = director(forwarding, connections);
        let before = LIVE.load(Relaxed);
        establish(&director, connections);
        let bytes = LIVE.load(Relaxed) - before;
        println!("memory/{name}/{connections}: {:.0} B per connection", bytes as f64 / connections as f64);
    }
}
