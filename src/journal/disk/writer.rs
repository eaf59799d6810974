//! The writer: a thread that writes groups of records, and waits for the disk so that the event loop does not.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SyncMode;
use super::carry::Carry;
use super::files::{self, Files, Folder};
use super::index::Index;
use super::queue::{Group, Queue};
use super::record::Record;
use super::recovery::{Recovery, Segment};
use super::segment::Records;
use crate::event_loop::Remote;
use crate::output::complain;

/// The length from which on a segment is full, in bytes.
const SEGMENT_BYTES: u64 = if cfg!(test) { 64 * 1024 } else { 8 * 1024 * 1024 };

/// The folder is never cleaned below this length, in bytes.
const FOLDER_BYTES: u64 = 4 * SEGMENT_BYTES;

/// The most segments beyond those that a folder of its length needs. Each failure of the disk ends a segment early.
pub(super) const MOST_SPARE_SEGMENTS: usize = 16;

/// The bytes of the oldest segment that are looked at with each group: these, and a multiple of the group. So the
/// oldest segment is gone before a new one is half full.
const CARRIED_BYTES: usize = SEGMENT_BYTES as usize / 32;
const CARRIED_RATIO: usize = 8;

/// The pause between two attempts to continue after a failure.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });

/// The writer of the log.
pub(super) struct Writer {
    queue: Arc<Queue>,
    remote: Remote,
    files: Arc<dyn Files>,
    mode: SyncMode,
    folder: Folder,
    index: Index,
    /// The segments, oldest first. The last one grows.
    segments: VecDeque<Segment>,
    /// The file of the last segment.
    file: File,
    /// The length of the last segment that is on the disk.
    synced: u64,
    synced_at: Instant,
    /// Whether the next group begins with the record that says that everything before it is on the disk.
    needs_mark: bool,
    carry: Option<Carry>,
    /// Whether the oldest segment cannot be read. It stays.
    is_carry_stuck: bool,
    buffer: Vec<u8>,
}

impl Writer {
    /// Continues a log: cuts what was not written to the end, and makes sure that the rest is on the disk.
    pub fn new(
        recovery: Recovery,
        queue: Arc<Queue>,
        remote: Remote,
        files: Arc<dyn Files>,
        mode: SyncMode,
    ) -> io::Result<Self> {
        let Recovery { folder, index, mut segments, superseded, .. } = recovery;
        for number in superseded {
            folder.remove(number)?;
        }
        let file = match segments.back() {
            Some(last) => {
                let file = OpenOptions::new().read(true).append(true).open(folder.segment(last.number))?;
                file.set_len(last.length)?;
                files.sync(&file)?;
                file
            }
            None => {
                let (segment, file) = create(&*files, &folder, 1, 0, &[])?;
                segments.push_back(segment);
                file
            }
        };
        folder.sync()?;
        let synced = segments.back().map_or(0, |last| last.length);
        Ok(Writer {
            queue,
            remote,
            files,
            mode,
            folder,
            index,
            segments,
            file,
            synced,
            synced_at: Instant::now(),
            needs_mark: true,
            carry: None,
            is_carry_stuck: false,
            buffer: Vec::new(),
        })
    }

    /// Writes until the queue is closed.
    pub fn run(mut self) {
        let mut group = Group::default();
        while !group.is_last {
            group = self.queue.take(self.timeout(), std::mem::take(&mut group.records));
            let result = self.write(&group).and_then(|()| self.sync_in_time(group.is_last));
            if let Err(error) = result {
                let is_over = group.last <= self.queue.committed();
                self.fail(&error, if is_over { &[] } else { &group.records });
                group.is_last = !self.recover();
            }
        }
        let queue = Arc::clone(&self.queue);
        drop(self); // and with it the lock on the folder
        queue.note_finished();
    }

    /// Returns the segment that grows.
    fn last(&self) -> Segment {
        *self.segments.back().expect("there is always a segment that grows")
    }

    fn set_length(&mut self, length: u64) {
        self.segments.back_mut().expect("there is always a segment that grows").length = length;
    }

    /// Returns the longest time until there is something to do without records. `None` if there is nothing.
    fn timeout(&self) -> Option<Duration> {
        if self.carry.is_some() {
            return Some(Duration::ZERO);
        }
        let SyncMode::Every(period) = self.mode else { return None };
        let is_synced = self.synced == self.last().length;
        (!is_synced).then(|| period.saturating_sub(self.synced_at.elapsed()))
    }

    /// Writes a group, and commits it.
    fn write(&mut self, group: &Group) -> io::Result<()> {
        self.begin_carry();
        if group.records.is_empty() && self.carry.is_none() {
            return Ok(());
        }
        if self.last().length >= SEGMENT_BYTES {
            self.rotate()?;
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        Record::Synced.encode(&mut bytes);
        let mark = bytes.len();
        // Carried records come first: the group may remove what they belong to.
        let is_carried = self.carry_forward(CARRIED_BYTES + CARRIED_RATIO * group.records.len(), &mut bytes);
        bytes.extend_from_slice(&group.records);
        let result = match bytes.len() - mark {
            0 => Ok(()),
            _ => self.append(&bytes[if self.needs_mark { 0 } else { mark }..], group.last),
        };
        self.buffer = bytes;
        result?;
        if is_carried { self.remove_oldest() } else { Ok(()) }
    }

    /// Appends bytes to the last segment, and commits the records up to this number.
    fn append(&mut self, bytes: &[u8], last: u64) -> io::Result<()> {
        self.files.write(&self.file, bytes)?;
        if files::is_deleted(&self.file) {
            return Err(io::Error::other("the file was deleted"));
        }
        self.needs_mark = false;
        let segment = self.last();
        let length = segment.length + bytes.len() as u64;
        if self.mode == SyncMode::Always {
            self.files.sync(&self.file)?;
            (self.needs_mark, self.synced) = (true, length);
        }
        self.set_length(length);
        if last > self.queue.committed() {
            self.queue.commit(last);
            self.remote.notify();
        }
        self.index.apply_all(bytes, segment.number, segment.length);
        Ok(())
    }

    /// Waits until everything written is on the disk.
    fn sync(&mut self) -> io::Result<()> {
        let length = self.last().length;
        if self.synced < length {
            self.files.sync(&self.file)?;
            (self.synced, self.needs_mark) = (length, true);
        }
        self.synced_at = Instant::now();
        Ok(())
    }

    /// Syncs if it is time for it.
    fn sync_in_time(&mut self, is_last: bool) -> io::Result<()> {
        match self.mode {
            SyncMode::Every(period) if self.synced_at.elapsed() >= period => self.sync(),
            _ if is_last => self.sync(),
            _ => Ok(()),
        }
    }

    /// Begins a new segment. In every mode, the one before it is on the disk then: only the last segment can have an
    /// unfinished write.
    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let Segment { number, length } = self.last();
        let (segment, file) = create(&*self.files, &self.folder, number + 1, length, &[])?;
        self.begin(segment, file);
        Ok(())
    }

    fn begin(&mut self, segment: Segment, file: File) {
        (self.file, self.synced, self.needs_mark) = (file, segment.length, false);
        self.segments.push_back(segment);
    }
}

/// Carrying forward: the live records of the oldest segment are written again, and then it is deleted. At every moment,
/// each live record is in some segment that is on the disk, and one that is in two counts once.
impl Writer {
    /// Begins to carry if the folder would become too long, or has too many segments. The bound is three times the live
    /// records. It begins earlier, because messages and copies come while it lasts.
    fn begin_carry(&mut self) {
        let folder: u64 = self.segments.iter().map(|segment| segment.length).sum();
        let longest = FOLDER_BYTES.max(self.index.bytes() / 2 * 5);
        let most = (folder / SEGMENT_BYTES) as usize + MOST_SPARE_SEGMENTS;
        let is_needed = self.segments.len() > most || folder + SEGMENT_BYTES > longest && self.segments.len() > 1;
        if self.carry.is_some() || self.is_carry_stuck || !is_needed {
            return;
        }
        let oldest = self.segments[0];
        self.carry = self.unstuck(Carry::begin(&self.folder.segment(oldest.number), oldest));
    }

    /// Adds live records to a group. Returns whether the oldest segment has no others.
    fn carry_forward(&mut self, budget: usize, out: &mut Vec<u8>) -> bool {
        let Some(carry) = &mut self.carry else { return false };
        let is_over = carry.next(budget, &self.index, out);
        self.unstuck(is_over).unwrap_or_else(|| {
            self.carry = None;
            false
        })
    }

    /// Reports an error of reading. What cannot be read is not deleted.
    fn unstuck<T>(&mut self, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            let path = self.folder.segment(self.segments[0].number);
            complain(format_args!("{}: {error}: it cannot be cleaned up, and the log grows", path.display()));
            self.is_carry_stuck = true;
        }
        result.ok()
    }

    /// Deletes the oldest segment after its live records are on the disk once more.
    fn remove_oldest(&mut self) -> io::Result<()> {
        self.sync()?;
        self.carry = None;
        let number = self.segments[0].number;
        self.folder.remove(number)?;
        self.segments.pop_front();
        Ok(())
    }
}

/// Failures. What is not committed is discarded, and the log continues in a new segment.
impl Writer {
    /// Reports a failure, and cuts what may be a part of a record. `lost` are the records of the group.
    fn fail(&mut self, error: &io::Error, lost: &[u8]) {
        let path = self.folder.segment(self.last().number);
        let reason = format!("{}: {error}", path.display());
        complain(format_args!("{reason}: messages are refused until the disk takes them"));
        let _ = self.file.set_len(self.last().length); // if it fails, the next segment says where this one ends
        self.carry = None;
        self.queue.fail(reason, lost);
        self.remote.notify();
    }

    /// Tries to continue until it works. Returns false if the queue is closed before.
    fn recover(&mut self) -> bool {
        loop {
            let logs = self.queue.pause(PAUSE);
            if self.queue.is_closed() {
                return false;
            }
            if let Some(logs) = logs
                && self.reopen(&logs).is_ok()
                && self.queue.recover(&logs)
            {
                complain(format_args!(
                    "{}: the log takes messages again",
                    self.folder.segment(self.last().number).display()
                ));
                return true;
            }
        }
    }

    /// Begins a new segment with these records.
    fn reopen(&mut self, logs: &[u8]) -> io::Result<()> {
        let number = self.last().number + 1;
        let is_deleted = files::is_deleted(&self.file) || self.folder.is_gone();
        let (previous, mut records) = if is_deleted { (0, self.begin_anew()?) } else { self.save_unsynced()? };
        records.extend_from_slice(logs);
        let (segment, file) = create(&*self.files, &self.folder, number, previous, &records)?;
        let base = segment.length - records.len() as u64;
        self.set_length(previous);
        if is_deleted {
            let old = std::mem::take(&mut self.segments);
            old.iter().for_each(|segment| drop(self.folder.remove(segment.number)));
        }
        self.index.apply_all(&records, number, base);
        let _ = self.file.set_len(previous);
        self.begin(segment, file);
        self.needs_mark = true;
        Ok(())
    }

    /// Opens the folder again: it, or a file in it, was deleted. Returns records that start all logs where they are.
    fn begin_anew(&mut self) -> io::Result<Vec<u8>> {
        if self.folder.is_gone() {
            self.folder = self.folder.reopen()?;
        }
        Ok(self.index.starts_at_tips())
    }

    /// Returns the length of the last segment that is certainly on the disk, and the records after it. They are
    /// committed, and are written once more.
    ///
    /// After a failed sync, the system may have dropped what it did not write, and a second sync says nothing about it.
    fn save_unsynced(&mut self) -> io::Result<(u64, Vec<u8>)> {
        let last = self.last();
        let path = self.folder.segment(last.number);
        let mut bytes = fs::read(&path)?;
        bytes.truncate(last.length as usize);
        let mut unsynced = bytes.split_off((self.synced as usize).min(bytes.len()));
        let mut records = Records::new(&unsynced, last.number, self.synced);
        let is_whole = records.by_ref().all(|record| record.is_ok());
        let used = records.used();
        if !is_whole || used as u64 != last.length - self.synced {
            complain(format_args!("{}: the disk has lost records after byte {}", path.display(), self.synced));
        }
        unsynced.truncate(used);
        Ok((self.synced, unsynced))
    }
}

/// Creates a segment with its first record and others, and waits until they are on the disk.
fn create(
    files: &dyn Files,
    folder: &Folder,
    number: u32,
    previous: u64,
    records: &[u8],
) -> io::Result<(Segment, File)> {
    let path = folder.segment(number);
    let mut bytes = Vec::new();
    Record::Segment { number, previous }.encode(&mut bytes);
    bytes.extend_from_slice(records);
    let file = files.create(&path)?;
    let written = files.write(&file, &bytes).and_then(|()| files.sync(&file)).and_then(|()| folder.sync());
    if let Err(error) = written {
        let _ = folder.remove(number);
        return Err(error);
    }
    Ok((Segment { number, length: bytes.len() as u64 }, file))
}
