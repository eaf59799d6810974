//! A relay between nodes and Redis. It cuts connections in the middle of a reply, holds back what Redis sends, and leads
//! to another process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const NO_BOUND: i64 = i64::MAX / 2;

pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    target: AtomicU16,
    /// The number of bytes from Redis that all connections together may still pass. At 0 they are closed. Then there is
    /// no bound for new ones.
    left: AtomicI64,
    holds_back: AtomicBool,
    /// Both sides of all connections.
    connections: Mutex<Vec<TcpStream>>,
    /// The threads that pass what Redis sends. They wait as long as it is held back.
    waiting: Mutex<Vec<thread::Thread>>,
}

impl Relay {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            target: target.into(),
            left: NO_BOUND.into(),
            holds_back: false.into(),
            connections: Mutex::default(),
            waiting: Mutex::default(),
        });
        let shared = state.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let target = shared.target.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let copy = |stream: &TcpStream| stream.try_clone().unwrap();
                shared.connections.lock().unwrap().extend([copy(&client), copy(&server)]);
                let up = (copy(&client), copy(&server));
                thread::spawn(move || pass_up(up.0, up.1));
                let state = shared.clone();
                thread::spawn(move || state.pass_down(server, client));
            }
        });
        Relay { port, state }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Closes the connection that gets the byte after this number of them.
    pub fn cut_after(&self, bytes: i64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// Whether a connection was cut since.
    pub fn has_cut(&self) -> bool {
        self.state.left.load(Ordering::SeqCst) > NO_BOUND / 2
    }

    /// Leads to another process from now on. All connections are closed.
    pub fn lead_to(&self, target: u16) {
        self.state.target.store(target, Ordering::SeqCst);
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Reads nothing that Redis sends, as a node that is too slow, or goes on.
    pub fn hold_back(&self, holds_back: bool) {
        self.state.holds_back.store(holds_back, Ordering::SeqCst);
        self.state.waiting.lock().unwrap().drain(..).for_each(|thread| thread.unpark());
    }
}

impl State {
    fn pass_down(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.wait_while_held_back();
            let allowed = self.left.fetch_sub(count as i64, Ordering::SeqCst);
            let passed = &buffer[..(count as i64).min(allowed.max(0)) as usize];
            if to.write_all(passed).is_err() {
                break;
            }
            if passed.len() < count {
                self.left.store(NO_BOUND, Ordering::SeqCst);
                break;
            }
        }
        close(&from, &to);
    }

    fn wait_while_held_back(&self) {
        while self.holds_back.load(Ordering::SeqCst) {
            self.waiting.lock().unwrap().push(thread::current());
            if self.holds_back.load(Ordering::SeqCst) {
                thread::park();
            }
        }
    }
}

fn pass_up(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    close(&from, &to);
}

fn close(from: &TcpStream, to: &TcpStream) {
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
