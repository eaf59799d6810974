//! Large blocks of memory go back to the system when they are freed.
//!
//! glibc's malloc takes a block of 128 KiB or more from mmap(2), and gives it back when it is freed. But the first one
//! that is freed raises this threshold to its size, up to 32 MiB (mallopt(3), `M_MMAP_THRESHOLD`). From then on such
//! blocks come from the heap, which can only shrink at its end: a small block that is still in use keeps all that lies
//! before it. A server whose peers have once sent many long contents would keep that memory.
//!
//! There is no way to set the threshold without `unsafe`. Other libraries have no such threshold.
#![allow(unsafe_code)]

/// Fixes the threshold, and the size of the free end of the heap that is given back, for the whole process. To be
/// called before there are large blocks.
///
/// ```
/// overwire::heap::return_large_blocks(); // the first thing that a program does
/// ```
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn return_large_blocks() {
    use std::ffi::c_int;

    const TRIM_THRESHOLD: c_int = -1;
    const MMAP_THRESHOLD: c_int = -3;
    const LARGE: c_int = 128 * 1024;

    unsafe extern "C" {
        /// mallopt(3).
        fn mallopt(option: c_int, value: c_int) -> c_int;
    }

    // SAFETY: both options take any size. They change where malloc takes blocks from, and nothing about blocks in use.
    unsafe {
        mallopt(MMAP_THRESHOLD, LARGE);
        mallopt(TRIM_THRESHOLD, 8 * LARGE); // a system call for each burst of messages would be dear
    }
}

/// Does nothing: this system's library has no such threshold.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn return_large_blocks() {}
