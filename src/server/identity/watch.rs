//! The keys file, read again when it has changed. A thread looks at it: a disk can take its time, and the event loop
//! cannot wait.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::event_loop::Remote;
use crate::identity::{AccessKey, read_keys};

/// The interval of the looks at the file.
const INTERVAL: Duration = Duration::from_millis(250);

/// The contents of the file: its keys, or a sentence.
pub type Contents = Result<Vec<AccessKey>, String>;

/// The program's side of the thread, which ends after it is dropped.
pub struct Watch {
    contents: Receiver<Contents>,
    read_again: Sender<()>,
}

/// What differs between two versions of a file.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

impl Watch {
    /// Reads the file, and starts the thread. It calls [`Remote::notify`] when the file has changed.
    ///
    /// # Errors
    /// The file cannot be read, or the system has no thread left.
    pub fn start(path: PathBuf, remote: Remote) -> io::Result<(Self, Vec<AccessKey>)> {
        let stamp = stamp(&path);
        let keys = read_keys(&path)?;
        let (sender, contents) = mpsc::channel();
        let (read_again, asked) = mpsc::channel();
        let look = move || {
            look(&path, stamp, &asked, &|contents| {
                let is_taken = sender.send(contents).is_ok();
                remote.notify();
                is_taken
            })
        };
        thread::Builder::new().name("keys".into()).spawn(look)?;
        Ok((Watch { contents, read_again }, keys))
    }

    /// Reads the file soon, even if it seems unchanged.
    pub fn read_again(&self) {
        let _ = self.read_again.send(()); // it fails only if the thread has panicked
    }

    /// Returns the newest contents that were not returned yet.
    pub fn newest(&self) -> Option<Contents> {
        self.contents.try_iter().last()
    }
}

/// The thread.
fn look(path: &Path, mut known: Stamp, asked: &Receiver<()>, report: &dyn Fn(Contents) -> bool) {
    loop {
        let is_asked = match asked.recv_timeout(INTERVAL) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let stamp = stamp(path);
        if stamp == known && !is_asked {
            continue;
        }
        known = stamp;
        if !report(read_keys(path).map_err(|error| error.to_string())) {
            return;
        }
    }
}

/// `None` if there is no such file.
fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()))
}
