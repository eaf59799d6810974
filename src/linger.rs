//! A TCP reset in the place of an orderly end, by one system call, setsockopt.
//!
//! There is no way to ask for one without `unsafe`: the standard library and mio can set every socket option that this
//! project needs but `SO_LINGER`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// `SOL_SOCKET` and `SO_LINGER`, which Linux numbers in its own way.
const SOCKET_LEVEL: c_int = if cfg!(target_os = "linux") { 1 } else { 0xffff };
const LINGER_OPTION: c_int = if cfg!(target_os = "linux") { 13 } else { 0x80 };

/// `struct linger` of socket(7).
#[repr(C)]
struct Linger {
    on: c_int,
    seconds: c_int,
}

unsafe extern "C" {
    /// setsockopt(2).
    fn setsockopt(socket: c_int, level: c_int, option: c_int, value: *const c_void, length: u32) -> c_int;
}

/// Makes the system send a reset when `socket` is closed, and drop what it has not sent yet: close(2) lingers for 0
/// seconds.
///
/// # Errors
/// Those of setsockopt(2).
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    let value = Linger { on: 1, seconds: 0 };
    let length = mem::size_of::<Linger>() as u32;
    let file = socket.as_fd().as_raw_fd();
    // SAFETY: the file descriptor is borrowed and stays open, and the value is read before the call returns.
    match unsafe { setsockopt(file, SOCKET_LEVEL, LINGER_OPTION, (&raw const value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
