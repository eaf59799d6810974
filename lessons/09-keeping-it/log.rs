//! The log of lesson 09: records in a file. Start-up reads them, and a thread writes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use overwire::Parse;
use overwire::event_loop::Remote;
use overwire::feed::Cursor;
use overwire::journal::disk::{Damage, Record};

/// The name of the file, so that `overwire log` can read it.
const FILE: &str = "00000001.log";

/// The records that wait for the thread, and its state.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// The number of records that were ever appended, and of those that are on the disk.
    appended: u64,
    committed: u64,
    /// The number of waits for the disk.
    waits: u64,
    ended: bool,
}

/// A log that takes records. When it is dropped, everything appended is on the disk.
pub struct Log {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Continues the log in a file. The thread notifies the event loop of each commit.
    pub fn start(file: File, remote: Remote) -> Self {
        let shared = Arc::<(Mutex<Queue>, Condvar)>::default();
        let writer = Writer { file, shared: shared.clone(), remote };
        let thread = Some(thread::spawn(move || writer.run()));
        Log { shared, thread }
    }

    /// Appends a record to the queue, and returns its number. It never waits for the disk.
    pub fn append(&self, record: &Record<'_>) -> u64 {
        let (queue, changed) = &*self.shared;
        let mut queue = lock(queue);
        record.encode(&mut queue.bytes);
        queue.appended += 1;
        changed.notify_one();
        queue.appended
    }

    /// Returns the number of the last record that is on the disk.
    pub fn committed(&self) -> u64 {
        lock(&self.shared.0).committed
    }

    /// Returns the number of waits for the disk.
    pub fn waits(&self) -> u64 {
        lock(&self.shared.0).waits
    }

    /// Waits until everything appended is on the disk. Nothing can be appended after it.
    pub fn finish(&mut self) {
        let (queue, changed) = &*self.shared;
        lock(queue).ended = true;
        changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().expect("no thread panics while it holds the queue")
}

/// The thread that writes.
struct Writer {
    file: File,
    shared: Arc<(Mutex<Queue>, Condvar)>,
    remote: Remote,
}

impl Writer {
    fn run(mut self) {
        if let Err(error) = self.write() {
            // Nobody knows now what is on the disk. Only start-up can find out.
            let _ = writeln!(io::stderr(), "09-keeping-it: the log cannot be written: {error}");
            std::process::exit(1);
        }
    }

    /// Writes group after group, until the log ends.
    fn write(&mut self) -> io::Result<()> {
        // ANCHOR: commit
        while let Some((bytes, last)) = self.next_group() {
            self.file.write_all(&bytes)?; // the system has it
            self.file.sync_data()?; // fdatasync: the disk has it
            let mut queue = lock(&self.shared.0);
            queue.committed = last;
            queue.waits += 1;
            self.remote.notify();
        }
        // ANCHOR_END: commit
        Ok(())
    }

    /// Waits until the queue has records, and takes all of them. `None`: the log has ended.
    fn next_group(&self) -> Option<(Vec<u8>, u64)> {
        let (queue, changed) = &*self.shared;
        // ANCHOR: group
        let mut queue = changed.wait_while(lock(queue), |queue| queue.bytes.is_empty() && !queue.ended).ok()?;
        if queue.bytes.is_empty() {
            return None;
        }
        let mut group = Vec::new();
        Record::Synced.encode(&mut group); // everything before this group is on the disk
        group.append(&mut queue.bytes);
        Some((group, queue.appended))
        // ANCHOR_END: group
    }
}

/// Opens the log in a folder, and passes its records to `take`, oldest first. Cuts an unfinished write at its end.
/// A new log begins at `start`.
///
/// # Errors
/// The error of the system, or the place of damage that no unfinished write explains.
pub fn open(folder: &Path, start: Cursor, mut take: impl FnMut(Record<'_>)) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
    let bytes = fs::read(&path)?;
    // ANCHOR: cut
    let (whole, damage) = read(&bytes, &mut take);
    if let Some(damage) = damage {
        let (path, rest) = (path.display(), &bytes[whole..]);
        if is_synced_after(rest) {
            let sentence = format!("{path}: damaged at byte {whole}: {damage}");
            return Err(io::Error::new(ErrorKind::InvalidData, sentence));
        }
        let _ = writeln!(io::stderr(), "{path}: cut {} bytes of an unfinished write: {damage}", rest.len());
        file.set_len(whole as u64)?;
    }
    // ANCHOR_END: cut
    let mut beginning = Vec::new();
    Record::Segment { number: 1, previous: 0 }.encode(&mut beginning);
    Record::Start { log: super::log(), cursor: start }.encode(&mut beginning);
    if whole < beginning.len() {
        file.set_len(0)?; // a crash has cut off even this
        file.write_all(&beginning)?;
        File::open(folder)?.sync_all()?; // the name of the file
    }
    file.sync_data()?;
    Ok(file)
}

/// Reads records up to the first damage. Returns the length of what is whole, and the damage after it.
fn read(bytes: &[u8], take: &mut impl FnMut(Record<'_>)) -> (usize, Option<Damage>) {
    let mut at = 0;
    while at < bytes.len() {
        match Record::decode(&bytes[at..]) {
            Ok(Parse::Complete { value, used }) => {
                take(value);
                at += used;
            }
            Ok(Parse::Partial) => return (at, Some(Damage::CutOff)),
            Err(damage) => return (at, Some(damage)),
        }
    }
    (at, None)
}

/// Whether a record says that everything before it was on the disk once.
fn is_synced_after(rest: &[u8]) -> bool {
    let mut mark = Vec::new();
    Record::Synced.encode(&mut mark);
    rest.windows(mark.len()).any(|window| window == mark)
}
