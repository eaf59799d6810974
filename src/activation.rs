//! Socket activation: the listening socket is opened by a supervisor, such as systemd, and outlives this process. So no
//! connection is refused between two processes: it waits in the socket (sd_listen_fds(3)).
//!
//! There is no way to take over a file descriptor without `unsafe`.
#![allow(unsafe_code)]

use std::env;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first file descriptor that a supervisor passes on, after those of the standard streams.
const FIRST: RawFd = 3;

/// Whether the socket is taken: it has one owner.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the listening socket that the supervisor has passed on, if `LISTEN_PID` is this process and `LISTEN_FDS`
/// is not 0. Returns `None` if there is none, or if it has been taken before. To be called before the program opens a
/// file: without a supervisor the number of the descriptor would be free for it.
///
/// ```
/// assert!(overwire::activation::take_socket().unwrap().is_none()); // no supervisor has started the test
/// ```
///
/// # Errors
/// A sentence, when there is more than one socket, or when it is not a socket of TCP.
// ANCHOR: take
pub fn take_socket() -> Result<Option<TcpListener>, String> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(process::id()) {
        return Ok(None); // the variables were for the process that has started this one
    }
    match number("LISTEN_FDS") {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(count) => return Err(format!("LISTEN_FDS: expected one socket, not {count}")),
    }
    // ANCHOR_END: take
    if IS_TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    // SAFETY: the supervisor has opened this descriptor for this process, and nothing else owns it.
    let socket = unsafe { TcpListener::from_raw_fd(FIRST) };
    match socket.local_addr() {
        Ok(_) => Ok(Some(socket)),
        Err(error) => Err(format!("LISTEN_FDS: expected a socket of TCP as file descriptor {FIRST}: {error}")),
    }
}
