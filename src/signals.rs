//! SIGINT, SIGTERM and SIGHUP as bytes in a socket, by the self-pipe trick: a signal handler may do little, but it may
//! write, and a poll that sleeps on the other end wakes up.
//!
//! There is no way to ask for a signal without `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

const SIGHUP: c_int = 1;
const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIG_ERR: usize = usize::MAX;

unsafe extern "C" {
    /// signal(2). The libraries of Linux, macOS and the BSDs give it the BSD meaning: the handler stays installed, and
    /// interrupted system calls are restarted where they can be.
    fn signal(number: c_int, handler: usize) -> usize;
    /// write(2), one of the functions that a signal handler may call.
    fn write(file: c_int, bytes: *const c_void, count: usize) -> isize;
}

/// The end that the handler writes to. -1 before [`watch`].
static WRITING_END: AtomicI32 = AtomicI32::new(-1);

/// Whether a SIGHUP is one of many, and does not ask for an end.
static HANGUP_REPEATS: AtomicBool = AtomicBool::new(false);

/// Whether there was a SIGHUP that [`next`] has not returned yet.
static HANGUP_WAITS: AtomicBool = AtomicBool::new(false);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// An orderly end.
    End,
    /// To read the configuration again.
    Reload,
}

extern "C" fn on_signal(number: c_int) {
    // The first signal asks for an orderly end. The second ends the process, as is the default. But a terminal that is
    // closed may send more than one SIGHUP. So the socket has at most one byte for each signal. The write cannot fail,
    // and so does not change the `errno` of the interrupted code.
    let next = if number == SIGHUP { SIG_IGN } else { SIG_DFL };
    let is_repeated = number == SIGHUP && HANGUP_REPEATS.load(Ordering::Relaxed);
    if is_repeated && HANGUP_WAITS.swap(true, Ordering::AcqRel) {
        return;
    }
    let byte = number as u8;
    // SAFETY: signal and write are async-signal-safe. The byte outlives the call.
    unsafe {
        if !is_repeated {
            signal(number, next);
        }
        write(WRITING_END.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
    }
}

/// Catches SIGINT, SIGTERM and SIGHUP. The first signal makes the returned socket readable. A second SIGINT or SIGTERM
/// ends the process, a second SIGHUP does nothing. A SIGHUP that is ignored, as by nohup(1), stays ignored. Another
/// call moves the signals to a new socket.
///
/// # Errors
/// When there is no file descriptor left, or the system refuses the handler.
pub fn watch() -> io::Result<UnixStream> {
    let (reading_end, writing_end) = UnixStream::pair()?;
    reading_end.set_nonblocking(true)?;
    writing_end.set_nonblocking(true)?;
    // A signal can arrive at any time, so the writing end stays open forever.
    WRITING_END.store(writing_end.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(c_int) = on_signal;
    for number in [SIGINT, SIGTERM, SIGHUP] {
        // SAFETY: the handler is a function of the type that signal calls.
        let before = unsafe { signal(number, handler as *const () as usize) };
        if before == SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        if number == SIGHUP && before == SIG_IGN {
            // SAFETY: no function is called.
            unsafe { signal(number, SIG_IGN) };
        }
    }
    Ok(reading_end)
}

/// Makes a SIGHUP ask for [`Request::Reload`], as often as it comes: the custom of servers without a terminal.
pub fn reload_on_hangup() {
    HANGUP_REPEATS.store(true, Ordering::Relaxed);
}

/// Returns the next request in the socket. `None` if there is none.
pub fn next(mut socket: impl Read) -> Option<Request> {
    let mut byte = [0];
    if !socket.read(&mut byte).is_ok_and(|count| count > 0) {
        return None;
    }
    if c_int::from(byte[0]) == SIGHUP && HANGUP_REPEATS.load(Ordering::Relaxed) {
        HANGUP_WAITS.store(false, Ordering::Release);
        return Some(Request::Reload);
    }
    Some(Request::End)
}
