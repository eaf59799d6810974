//! The log on a disk: what is committed outlives the process.
//!
//! All rooms and mailboxes share one log: a sequence of [records](Record) in numbered files, the segments. Records are
//! only appended. The event loop appends to a queue and never waits. A thread takes all that is in the queue, writes it
//! and waits for the disk, so that one wait is for many messages.
//!
//! - **A crash** can cut off the last write. At start-up, what is not a whole record at the end is cut. A damaged record
//!   anywhere else is not a crash. It is reported, and nothing is changed.
//! - **The folder** holds at most about three times the live records, or 32 MiB. The few live records of the oldest
//!   segment are carried forward to the end of the log before it is deleted.
//! - **A full or failing disk** refuses messages until it takes them again. Nothing that it refused is in the log.
//!
//! `record` has the format. `index` knows which records are live. `recovery` reads a log at start-up, `writer` continues
//! it, and `queue` lies between the event loop and the writer.

mod carry;
mod checksum;
mod files;
mod index;
mod messages;
mod print;
mod queue;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use self::checksum::checksum;
pub use self::files::{Files, System};
pub use self::print::{PrintError, check, print};
pub use self::queue::LONGEST_QUEUE;
use self::queue::Queue;
pub use self::record::{Damage, Log, LogKind, Record};
pub use self::recovery::{Cut, OpenError, Recovery};
use self::writer::Writer;
use crate::event_loop::Remote;

/// When a record is committed, and when the log waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// A record is committed when it is on the disk. It outlives a crash of the machine.
    #[default]
    Always,
    /// A record is committed when the system has it, and so outlives a crash of the process. The disk has it after this
    /// time.
    Every(Duration),
    /// A record is committed when the system has it. The system decides when the disk has it.
    Never,
}

/// The place of a log on a disk.
#[derive(Debug, Clone)]
pub struct Data {
    /// The folder.
    pub folder: PathBuf,
    /// When a message is committed.
    pub sync: SyncMode,
    /// The operations on files.
    pub files: Arc<dyn Files>,
}

/// A log on a disk that takes records. When it is dropped, it waits until the queue is written, but not for more than 5
/// seconds.
///
/// ```
/// use overwire::journal::Retention;
/// use overwire::journal::disk::{Disk, Log, LogKind, Record, Recovery, SyncMode, System};
/// use overwire::{Event, EventLoop, Limits};
///
/// # let folder = std::env::temp_dir().join(format!("overwire-doc-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let mut event_loop = EventLoop::new(Limits::default())?;
/// let recovery = Recovery::read(folder, Retention::default())?;
/// let disk = Disk::start(recovery, SyncMode::Always, event_loop.remote(), std::sync::Arc::new(System))?;
/// let number = disk.append(&Record::Remove { log: Log { kind: LogKind::Room, name: "tea".into() } })?;
/// while disk.committed() < number {
///     assert!(matches!(event_loop.next_event()?, Event::Woken)); // something is committed, or has failed
/// }
/// # drop(disk);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Disk {
    queue: Arc<Queue>,
}

impl Disk {
    /// Continues a log. Cuts an unfinished write at its end.
    ///
    /// # Errors
    /// The system refuses an operation on the files, or another thread.
    pub fn start(recovery: Recovery, mode: SyncMode, remote: Remote, files: Arc<dyn Files>) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(recovery, Arc::clone(&queue), remote, files, mode)?;
        thread::Builder::new().name("log".into()).spawn(move || writer.run())?;
        Ok(Disk { queue })
    }

    /// Appends a record, and returns its number. Numbers count up. It never waits: [`Event::Woken`] comes when records
    /// are committed or refused.
    ///
    /// # Errors
    /// The reason why the disk takes no messages at present. Other records are always taken.
    ///
    /// [`Event::Woken`]: crate::event_loop::Event::Woken
    pub fn append(&self, record: &Record<'_>) -> Result<u64, String> {
        self.queue.append(record)
    }

    /// Returns the number of the last committed record.
    pub fn committed(&self) -> u64 {
        self.queue.committed()
    }

    /// Whether messages are refused at present.
    pub fn is_refusing(&self) -> bool {
        self.queue.is_refusing()
    }

    /// Returns the reason of a failure, once. No message after the last committed record is in the log.
    pub fn failure(&self) -> Option<String> {
        self.queue.take_failure()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.queue.finish();
    }
}
