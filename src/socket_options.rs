//! Options of TCP sockets, by three system calls, setsockopt, getsockopt and listen.
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

/// `SO_KEEPALIVE`, and options of Linux: `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT` and `TCP_INFO` of tcp(7).
const KEEP_ALIVE: c_int = if cfg!(target_os = "linux") { 9 } else { 8 };
const KEEP_IDLE: c_int = 4;
const KEEP_INTERVAL: c_int = 5;
const KEEP_COUNT: c_int = 6;
const INFO: c_int = 11;

/// The number of bytes of `struct tcp_info` that are looked at: up to `tcpi_notsent_bytes`, which came with Linux 4.6.
const INFO_LENGTH: usize = 148;

/// `struct linger` of socket(7).
#[repr(C)]
struct Linger {
    on: c_int,
    seconds: c_int,
}

unsafe extern "C" {
    /// setsockopt(2).
    fn setsockopt(socket: c_int, level: c_int, option: c_int, value: *const c_void, length: u32) -> c_int;
    /// getsockopt(2).
    fn getsockopt(socket: c_int, level: c_int, option: c_int, value: *mut c_void, length: *mut u32) -> c_int;
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

/// Makes the system ask a peer whether it is still there when nothing was heard of it for half of `time`: "keep-alives"
/// of RFC 9293, section 3.8.4. Without an answer by the end of `time`, a read fails with `TimedOut`. Without this, a peer
/// that has vanished is never noticed if nothing is sent to it, such as that of a held poll. Connections that a
/// listening socket accepts inherit it. Does nothing on systems other than Linux.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_keep_alive(socket: &impl AsFd, time: Duration) -> io::Result<()> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let seconds = |part: Duration| c_int::try_from(part.as_secs()).unwrap_or(c_int::MAX).max(1);
    set(socket, TCP_LEVEL, KEEP_IDLE, &seconds(time / 2))?;
    set(socket, TCP_LEVEL, KEEP_INTERVAL, &seconds(time / 6))?;
    set(socket, TCP_LEVEL, KEEP_COUNT, &3)?;
    set(socket, SOCKET_LEVEL, KEEP_ALIVE, &1)
}

/// The bytes that a peer has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unacknowledged {
    /// The age of the oldest of them: at least this long.
    pub age: Duration,
    /// The number of bytes that the peer has ever acknowledged.
    pub acknowledged: u64,
}

/// Returns what the peer of a connection has not acknowledged. `None` if there is nothing, or if the system is not Linux.
///
/// `SIOCOUTQ` would say how many bytes there are, but not how old they are, so that each connection would have to be
/// asked again and again. `TCP_INFO` has the times.
///
/// # Errors
/// Those of getsockopt(2).
pub fn unacknowledged(socket: &impl AsFd) -> io::Result<Option<Unacknowledged>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let (mut info, mut length) = ([0u8; INFO_LENGTH], INFO_LENGTH as u32);
    let file = socket.as_fd().as_raw_fd();
    // SAFETY: the file descriptor is borrowed and stays open. The call writes at most `length` bytes into `info`, and
    // keeps nothing.
    match unsafe { getsockopt(file, TCP_LEVEL, INFO, info.as_mut_ptr().cast(), &mut length) } {
        0 => Ok(read_info(&info)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads `struct tcp_info` (linux/tcp.h).
fn read_info(info: &[u8; INFO_LENGTH]) -> Option<Unacknowledged> {
    let number = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let milliseconds = |at| Duration::from_millis(number(at).into());
    let (backoff, retransmission_timeout) = (u32::from(info[4]), Duration::from_micros(number(8).into()));
    let (segments, since_sent, since_acknowledged) = (number(24), milliseconds(44), milliseconds(56));
    let not_sent = number(144);
    let age = match (segments, not_sent) {
        (0, 0) => return None,
        // The window is closed: nothing of what waits may be sent.
        (0, _) => since_sent,
        // Each retransmission has doubled the timeout, so the first segment was sent before the sum of all of them. A
        // peer that acknowledges something is there.
        _ => {
            let first = retransmission_timeout.checked_div(1 << backoff.min(31)).unwrap_or_default();
            since_acknowledged.min(retransmission_timeout - first + since_sent)
        }
    };
    let acknowledged = u64::from_ne_bytes(info[120..128].try_into().ok()?);
    Some(Unacknowledged { age, acknowledged })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a `struct tcp_info` from the values at these places.
    fn info(backoff: u8, values: &[(usize, u32)]) -> [u8; INFO_LENGTH] {
        let mut info = [0; INFO_LENGTH];
        info[4] = backoff;
        for (at, value) in values {
            info[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        info
    }

    #[test]
    fn the_age_of_what_is_not_acknowledged() {
        let seconds = |info| read_info(&info).map(|found| found.age.as_secs_f64());
        let [rto, segments, sent, acknowledged, not_sent] = [8, 24, 44, 56, 144];
        assert_eq!(seconds(info(0, &[(rto, 200_000), (sent, 90_000), (acknowledged, 90_000)])), None, "it is idle");
        let just_sent = [(rto, 200_000), (segments, 1), (sent, 5), (acknowledged, 90_000)];
        assert_eq!(seconds(info(0, &just_sent)), Some(0.005), "although it was idle for long");
        let vanished = [(rto, 25_600_000), (segments, 3), (sent, 10_000), (acknowledged, 40_000)];
        assert_eq!(seconds(info(7, &vanished)), Some(35.4), "25.6 s less 0.2 s, and 10 s since the last time");
        let busy = [(rto, 25_600_000), (segments, 3), (sent, 10_000), (acknowledged, 100)];
        assert_eq!(seconds(info(7, &busy)), Some(0.1));
        assert_eq!(seconds(info(3, &[(not_sent, 9), (sent, 31_000), (acknowledged, 1)])), Some(31.0), "does not read");
    }
}
