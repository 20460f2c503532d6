//! Calls into the C library that no kept crate wraps.
//!
//! Layer 1. Called by what re-exports them; calls nothing of ours.
//! Holds: the only unsafe code of the product, each call with the reason why it is sound.
//! See `guide::architecture` for what they are for.
#![allow(unsafe_code)]

/// Gives memory that was freed back to the system, where the C library keeps it for later (glibc). Takes some
/// milliseconds for some hundred megabytes.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes a number, touches nothing but the allocator's own state, and locks that (malloc_trim(3)).
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
