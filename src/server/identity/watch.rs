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

/// The versions of the file that were seen.
struct Seen {
    /// The version that was read.
    read: Stamp,
    /// That of the last look.
    last: Stamp,
}

impl Seen {
    fn new(stamp: Stamp) -> Self {
        Seen { read: stamp, last: stamp }
    }

    /// Notes a look at the file. Returns whether it is to be read: it has changed, and is the same as at the last look. An
    /// editor empties a file before it writes it, and without its keys all sessions would be over.
    fn look(&mut self, stamp: Stamp) -> bool {
        let is_settled = std::mem::replace(&mut self.last, stamp) == stamp;
        is_settled && std::mem::replace(&mut self.read, stamp) != stamp
    }
}

impl Watch {
    /// Reads the file, and starts the thread. It calls [`Remote::notify`] when the file has changed.
    ///
    /// # Errors
    /// The file cannot be read, or the system has no thread left.
    pub fn start(path: PathBuf, remote: Remote) -> io::Result<(Self, Vec<AccessKey>)> {
        let seen = Seen::new(stamp(&path));
        let keys = read_keys(&path)?;
        let (sender, contents) = mpsc::channel();
        let (read_again, asked) = mpsc::channel();
        let look = move || {
            look(&path, seen, &asked, &|contents| {
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
fn look(path: &Path, mut seen: Seen, asked: &Receiver<()>, report: &dyn Fn(Contents) -> bool) {
    loop {
        let is_asked = match asked.recv_timeout(INTERVAL) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if !seen.look(stamp(path)) && !is_asked {
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_nobody_writes_to_it_any_more() {
        let stamp = |size| Some((1, size, 0, 0, 0, 0));
        let mut seen = Seen::new(stamp(9));
        let looks = [9, 9, 0, 4, 8, 8, 8].map(|size| seen.look(stamp(size)));
        assert_eq!(looks, [false, false, false, false, false, true, false]);
        assert_eq!([None, None, None].map(|stamp| seen.look(stamp)), [false, true, false], "the file is gone");
    }
}
