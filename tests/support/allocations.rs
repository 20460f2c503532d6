//! Counts what a thread allocates, and how much of it it holds at once, for tests that hold how much that is.

#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one hands everything to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, and a count for each thread.
pub(crate) struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Octets that this thread has allocated more than freed, and the most that there were since [`peak`] began.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// How often this thread allocates, or grows what it has, while `work` runs.
pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = COUNT.get();
    let result = work();
    (COUNT.get() - before, result)
}

/// The most octets that this thread holds at once while `work` runs, beside what it holds before.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    (usize::try_from(MOST.get() - before).unwrap_or(0), result)
}

/// The octets that are left of what `work` allocates, the result among them.
pub(crate) fn kept<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    let result = work();
    (usize::try_from(HELD.get() - before).unwrap_or(0), result)
}

/// Counts one more allocation.
fn count() {
    // Nothing is counted for a thread that is being taken down.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

/// Counts octets that are held from now on, or no longer when there are fewer than none.
fn hold(octets: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + octets);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this very call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // Both may be there for a moment.
        hold(size as isize);
        // SAFETY: as above.
        let grown = unsafe { System.realloc(pointer, layout, size) };
        hold(-(layout.size() as isize));
        grown
    }
}
