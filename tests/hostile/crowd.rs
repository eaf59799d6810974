//! Many connections of an attacker.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The pause of a loop over all connections in which nothing happened.
const PAUSE: Duration = Duration::from_millis(1);

/// Connections that do what all of them are told, and read only when they are told to.
pub struct Crowd {
    members: Vec<TcpStream>,
    /// The number of bytes that all of them have sent.
    pub sent: u64,
}

impl Crowd {
    /// Opens `count` connections.
    pub fn connect(address: SocketAddr, count: usize) -> io::Result<Self> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, super::client::PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let members = (0..count).map(|_| open()).collect::<io::Result<_>>()?;
        Ok(Crowd { members, sent: 0 })
    }

    /// Sends each member's bytes, and returns when all are sent or after `limit`. A server may refuse to read, and may
    /// close a connection.
    pub fn send_each(&mut self, bytes_of: impl Fn(usize) -> Arc<[u8]>, limit: Duration) {
        let mut waiting: Vec<(usize, Arc<[u8]>, usize)> =
            (0..self.members.len()).map(|number| (number, bytes_of(number), 0)).collect();
        let start = Instant::now();
        while !waiting.is_empty() && start.elapsed() < limit {
            let mut is_blocked = true;
            waiting.retain_mut(|(number, bytes, done)| match (&self.members[*number]).write(&bytes[*done..]) {
                Ok(count) => {
                    is_blocked = false;
                    self.sent += count as u64;
                    *done += count;
                    *done < bytes.len()
                }
                Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            });
            if is_blocked {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Sends the same bytes on each connection.
    pub fn send(&mut self, bytes: impl Into<Arc<[u8]>>, limit: Duration) {
        let bytes = bytes.into();
        self.send_each(|_| bytes.clone(), limit);
    }

    /// Reads what has arrived on all connections, and returns the number of bytes and the number of ended connections.
    pub fn read(&self) -> (u64, usize) {
        let mut buffer = vec![0; 256 * 1024];
        let (mut bytes, mut ended) = (0, 0);
        for mut member in &self.members {
            match read_once(&mut member, &mut buffer) {
                Some(count) => bytes += count,
                None => ended += 1,
            }
        }
        (bytes, ended)
    }

    /// Waits until the server has ended all connections, and returns how long that took. `None` after `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> Option<Duration> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.read().1 == self.members.len() {
                return Some(start.elapsed());
            }
            thread::sleep(Duration::from_millis(100));
        }
        None
    }

    /// Reads everything on all connections in a separate thread.
    pub fn drain(&self) -> io::Result<Drain> {
        let members = self.members.iter().map(TcpStream::try_clone).collect::<io::Result<Vec<_>>>()?;
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stops, counts) = (stop.clone(), bytes.clone());
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while !stops.load(Ordering::Relaxed) {
                let fresh = members.iter().filter_map(|mut member| read_once(&mut member, &mut buffer)).sum();
                counts.fetch_add(fresh, Ordering::Relaxed);
                if fresh == 0 {
                    thread::sleep(PAUSE);
                }
            }
        });
        Ok(Drain { stop, bytes, thread: Some(thread) })
    }
}

/// Reads once. `None` at the end of a connection.
fn read_once(stream: &mut &TcpStream, buffer: &mut [u8]) -> Option<u64> {
    match stream.read(buffer) {
        Ok(0) => None,
        Ok(count) => Some(count as u64),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Some(0),
        Err(_) => None,
    }
}

/// A thread that reads everything until it is dropped.
pub struct Drain {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    /// Waits until nothing has arrived for `silence`, or until `limit` is over.
    pub fn wait_for_silence(&self, silence: Duration, limit: Duration) {
        let start = Instant::now();
        let (mut last, mut since) = (self.bytes.load(Ordering::Relaxed), Instant::now());
        while since.elapsed() < silence && start.elapsed() < limit {
            thread::sleep(PAUSE);
            let now = self.bytes.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
