//! Options of TCP sockets, by two system calls, setsockopt and listen.
//!
//! There is no way to set them without `unsafe`: the standard library and mio can set every socket option that this
//! project needs but these.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// `SOL_SOCKET` and `SO_LINGER`, which Linux numbers in its own way.
const SOCKET_LEVEL: c_int = if cfg!(target_os = "linux") { 1 } else { 0xffff };
const LINGER: c_int = if cfg!(target_os = "linux") { 13 } else { 0x80 };

/// `IPPROTO_TCP`, and an option of Linux, `TCP_USER_TIMEOUT` of tcp(7).
const TCP_LEVEL: c_int = 6;
const USER_TIMEOUT: c_int = 18;

/// `struct linger` of socket(7).
#[repr(C)]
struct Linger {
    on: c_int,
    seconds: c_int,
}

unsafe extern "C" {
    /// setsockopt(2).
    fn setsockopt(socket: c_int, level: c_int, option: c_int, value: *const c_void, length: u32) -> c_int;
    /// listen(2).
    fn listen(socket: c_int, backlog: c_int) -> c_int;
}

/// Sets an option to `value`, whose type must be the one that the option takes.
fn set<T>(socket: &impl AsFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let (file, length) = (socket.as_fd().as_raw_fd(), mem::size_of::<T>() as u32);
    // SAFETY: the file descriptor is borrowed and stays open. The call reads `length` bytes of `value` before it
    // returns, and keeps nothing.
    match unsafe { setsockopt(file, level, option, (&raw const *value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the system send a reset when `socket` is closed, and drop what it has not sent yet: close(2) lingers for 0
/// seconds.
///
/// # Errors
/// Those of setsockopt(2).
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    set(socket, SOCKET_LEVEL, LINGER, &Linger { on: 1, seconds: 0 })
}

/// Makes the system end a connection whose peer has acknowledged nothing of what waits for it, or has kept its window
/// closed, for `time`: the "user timeout" of RFC 9293, section 3.9.1. A read or a write then fails with `TimedOut`.
/// Connections that a listening socket accepts inherit it. Does nothing on systems other than Linux.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_user_timeout(socket: &impl AsFd, time: Duration) -> io::Result<()> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    // 0 would be the default of the system, which is about 15 minutes for a peer that has vanished.
    let milliseconds = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX).max(1);
    set(socket, TCP_LEVEL, USER_TIMEOUT, &milliseconds)
}

/// Sets the number of connections that may wait in the system to be accepted by a listening socket. mio's is 128. When
/// more arrive at once, the system drops their SYN segments, and each of those clients waits a second for its next one.
/// The system caps the number (`net.core.somaxconn` on Linux, 4,096 by default).
///
/// # Errors
/// Those of listen(2).
pub fn set_backlog(socket: &impl AsFd, connections: u16) -> io::Result<()> {
    // SAFETY: the file descriptor is borrowed and stays open. Another call of listen changes the number alone.
    match unsafe { listen(socket.as_fd().as_raw_fd(), connections.into()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
