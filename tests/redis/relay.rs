//! A relay between a node and Redis, which cuts connections in the middle of a reply.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

/// The number of bytes from Redis that all connections together may still pass. At 0 they are closed. Then there is no
/// bound for new ones.
type Left = Arc<AtomicI64>;

const NO_BOUND: i64 = i64::MAX / 2;

pub struct Relay {
    pub port: u16,
    left: Left,
}

impl Relay {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(NO_BOUND));
        let bound = left.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (up, down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
                let bound = bound.clone();
                thread::spawn(move || pass(up.0, up.1, None));
                thread::spawn(move || pass(down.0, down.1, Some(bound)));
            }
        });
        Relay { port, left }
    }

    /// Closes the connection that gets the byte after this number of them.
    pub fn cut_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// Whether a connection was cut since.
    pub fn has_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) > NO_BOUND / 2
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, left: Option<Left>) {
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let allowed = left.as_ref().map_or(NO_BOUND, |left| left.fetch_sub(count as i64, Ordering::SeqCst));
        let passed = &buffer[..(count as i64).min(allowed.max(0)) as usize];
        if to.write_all(passed).is_err() {
            break;
        }
        if passed.len() < count {
            if let Some(left) = left {
                left.store(NO_BOUND, Ordering::SeqCst);
            }
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
