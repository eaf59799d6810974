//! The sender of messages: a thread that numbers them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::follower::ROOM;

/// The time between two messages.
const INTERVAL: Duration = Duration::from_millis(500);

/// The number of times that a message is sent before it is given up.
const ATTEMPTS: usize = 100;

/// A thread that publishes 1, 2, 3 and so on. Each message is confirmed before the next is sent.
pub struct Publisher {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Publisher {
    pub fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let thread = thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                publish(address, number).inspect_err(|error| eprintln!("followers: {error}"))?;
                thread::sleep(INTERVAL);
            }
            Ok(number)
        });
        Publisher { is_over, thread }
    }

    /// Ends the thread, and returns the number of the last message.
    pub fn stop(self) -> io::Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the publisher has panicked"))?
    }
}

/// Sends a message until it is confirmed. It has a key, so it is stored once.
fn publish(address: SocketAddr, number: u64) -> io::Result<()> {
    let content = format!(r#"{{"sender":"deploy","room":"{ROOM}","text":"{number}","key":"{number}"}}"#);
    let request = format!(
        "POST /api/send HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    );
    let mut outcome = String::new();
    for _ in 0..ATTEMPTS {
        outcome = match ask(address, &request) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => return Ok(()),
            Ok(answer) => answer,
            Err(error) => error.to_string(),
        };
        thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other(format!("message {number} is not accepted: {outcome}")))
}

fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
