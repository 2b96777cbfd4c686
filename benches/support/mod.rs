//! What the benches of whole clusters share: the bytes in use, counted.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "mimalloc")]
use mimalloc::MiMalloc as Underlying;
#[cfg(not(feature = "mimalloc"))]
use std::alloc::System as Underlying;

/// Counts the bytes that are in use: what the process has from the kernel also holds what was given back.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes in use now.
#[allow(dead_code, reason = "not every bench asks for it")]
pub fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

fn count(more: usize, less: usize) {
    // One thread runs a cluster, so that a plain load and store do.
    let sum = IN_USE.load(Ordering::Relaxed).wrapping_add(more).wrapping_sub(less);
    IN_USE.store(sum, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator that counts must be one; it hands everything to another one")]
// SAFETY: every call is passed on unchanged to the allocator that the program has.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promised.
        unsafe { Underlying.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as the caller promised.
        unsafe { Underlying.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as the caller promised.
        unsafe { Underlying.realloc(pointer, layout, size) }
    }
}

/// A line of /proc/self/status, in MB.
pub fn memory_status(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|it| it.strip_prefix(line)?.split_whitespace().next()?.parse::<f64>().ok());
    found.unwrap_or(f64::NAN) * 1024.0 / 1e6
}
