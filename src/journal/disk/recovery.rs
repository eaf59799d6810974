//! Start-up: the log is read twice. The first time, its records build the index, which says what is live. The second
//! time, the live messages are read at their places, log by log. So the memory for it is bounded by what is retained,
//! and not by what was ever written.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{self, Folder, FolderError};
use super::index::{Index, KnownKey, Place};
use super::record::{Damage, Record};
use super::segment::{self, Records};
use crate::bytes::Parse;
use crate::feed::Cursor;
use crate::journal::{Change, Key, LogName, Retention};

/// A segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number, and so the name of its file.
    pub number: u32,
    /// Its length in bytes. What its file has after it does not belong to the log.
    pub length: u64,
}

/// The reason why a log cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the folder.
    InUse(PathBuf),
    /// The system refuses an operation on a file or the folder.
    Io(PathBuf, io::Error),
    /// A part of the log that was on the disk is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The offset of the damaged record.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// A file of the log is not there.
    Missing(PathBuf),
    /// A file of the log is shorter than it was.
    Short {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// The length that it had.
        expected: u64,
    },
    /// A file of the log has another first record.
    NotASegment(PathBuf),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse(path) => return write!(f, "{}: another process uses this folder", path.display()),
            OpenError::Io(path, error) => return write!(f, "{}: {error}", path.display()),
            OpenError::Damaged { path, offset, damage } => {
                write!(f, "{}: damaged at byte {offset}: {damage}", path.display())?;
            }
            OpenError::Missing(path) => write!(f, "{}: this file of the log is missing", path.display())?,
            OpenError::Short { path, length, expected } => {
                write!(f, "{}: expected {expected} bytes, but the file has {length}", path.display())?;
            }
            OpenError::NotASegment(path) => {
                write!(f, "{}: expected the first record of this segment of the log", path.display())?;
            }
        }
        write!(
            f,
            "\nThe log was on the disk there, so this is not the end of a write that a crash cut off, and nothing was \
             changed. Restore the folder from a copy, or move it away to begin with an empty log. \
             `overwire log DIR` prints what can be read."
        )
    }
}

impl std::error::Error for OpenError {}

/// The end of a write that a crash cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// The length that is left, in bytes.
    pub length: u64,
    /// The number of bytes after it, which are gone.
    pub bytes: u64,
    /// The damage of the first of them.
    pub damage: Damage,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { path, length, bytes, damage } = self;
        write!(f, "{}: cut {bytes} bytes of an unfinished write at byte {length}: {damage}", path.display())
    }
}

/// A log that was read once. [`changes`](Recovery::changes) reads its live messages, and
/// [`Disk::start`](super::Disk::start) continues it.
#[derive(Debug)]
pub struct Recovery {
    pub(super) folder: Folder,
    pub(super) index: Index,
    /// The segments, oldest first.
    pub(super) segments: VecDeque<Segment>,
    /// Files of the log that nothing refers to any more.
    pub(super) superseded: Vec<u32>,
    cut: Option<Cut>,
    path: PathBuf,
}

impl Recovery {
    /// Reads the log in a folder. Creates the folder if there is none. An unfinished write at the end of the log is cut
    /// when the log is continued.
    ///
    /// # Errors
    /// The [`OpenError`]. Nothing is changed then.
    pub fn read(path: &Path, retention: Retention) -> Result<Self, OpenError> {
        let folder = Folder::open(path).map_err(|error| match error {
            FolderError::InUse => OpenError::InUse(path.into()),
            FolderError::Io(error) => OpenError::Io(path.into(), error),
        })?;
        let List { mut segments, mut superseded } = list(path)?;
        let (mut index, mut cut, mut buffer) = (Index::new(retention), None, Vec::new());
        for segment in &mut segments {
            cut = read_segment(path, segment, &mut buffer, |place, record| index.apply(&record, place))?;
        }
        index.close_holes();
        // The last segment may have lost even its first record.
        if segments.back().is_some_and(|last| last.length == 0) {
            superseded.extend(segments.pop_back().map(|segment| segment.number));
        }
        Ok(Recovery { folder, index, segments, superseded, cut, path: path.into() })
    }

    /// Returns what was cut.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Returns the names of all logs.
    pub fn logs(&self) -> Vec<LogName> {
        self.index.logs().map(|(log, _)| LogName::from(&log)).collect()
    }

    /// Reads the live messages. The changes are those of [`Journal`](crate::journal::Journal): all messages of each
    /// log, and then the positions of clients.
    pub fn changes(&self) -> impl Iterator<Item = Result<Change, OpenError>> + '_ {
        let mut reader = Reader { path: &self.path, file: None, buffer: Vec::new() };
        let logs = self.index.logs().map(|(log, messages)| (LogName::from(&log), messages));
        let of_logs = logs.map(|(log, messages)| {
            let opened = Change::Opened { log: log.clone(), start: messages.dropped() };
            (opened, log, messages.places())
        });
        let of_logs = of_logs.flat_map(move |(opened, log, places)| {
            let appended: Vec<_> = places.map(|place| reader.message(&log, place)).collect();
            std::iter::once(Ok(opened)).chain(appended)
        });
        let positions = self.index.positions().map(|(client, log, cursor)| {
            Ok(Change::Position { client: client.into(), log: LogName::from(&log), cursor })
        });
        of_logs.chain(positions)
    }

    /// Returns the known keys with the positions and times of their messages, in the order of the times. A time is in
    /// milliseconds since the epoch.
    pub fn keys(&self) -> impl Iterator<Item = (Key, Cursor, u64)> {
        self.index.keys().into_iter().map(|KnownKey { key, cursor, time, .. }| (key, cursor, time))
    }
}

/// Reads messages at their places.
struct Reader<'a> {
    path: &'a Path,
    file: Option<(u32, File)>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn message(&mut self, log: &LogName, place: Place) -> Result<Change, OpenError> {
        let folder = self.path;
        let path = || files::segment_path(folder, place.segment);
        let damaged = |damage| OpenError::Damaged { path: path(), offset: place.offset.into(), damage };
        self.read(place).map_err(|error| OpenError::Io(path(), error))?;
        match Record::decode(&self.buffer) {
            Ok(Parse::Complete { value: Record::Message { cursor, body, .. }, .. }) => {
                Ok(Change::Appended { log: log.clone(), cursor, body: body.into(), ticket: None })
            }
            Ok(_) => Err(damaged(Damage::Unknown)),
            Err(damage) => Err(damaged(damage)),
        }
    }

    fn read(&mut self, place: Place) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|(segment, _)| *segment != place.segment) {
            self.file = Some((place.segment, File::open(files::segment_path(self.path, place.segment))?));
        }
        self.buffer.resize(place.length as usize, 0);
        let Some((_, file)) = &self.file else { return Ok(()) };
        file.read_exact_at(&mut self.buffer, place.offset.into())
    }
}

/// The segments of a log.
pub(super) struct List {
    /// The segments, oldest first. The length of the last one is unknown.
    pub segments: VecDeque<Segment>,
    /// Segments before one that does not continue them.
    pub superseded: Vec<u32>,
}

/// Returns the segments in a folder. Each names the length of the one before it.
pub(super) fn list(path: &Path) -> Result<List, OpenError> {
    let numbers = files::segments(path).map_err(|error| OpenError::Io(path.into(), error))?;
    let mut list = List { segments: VecDeque::new(), superseded: Vec::new() };
    for (at, &number) in numbers.iter().enumerate() {
        let file = files::segment_path(path, number);
        let first = segment::read_first(&file, number).map_err(|error| OpenError::Io(file.clone(), error))?;
        match first {
            Some(0) => list.superseded.extend(list.segments.drain(..).map(|segment| segment.number)),
            Some(previous) => {
                if let Some(before) = list.segments.back_mut() {
                    if before.number + 1 != number {
                        return Err(OpenError::Missing(files::segment_path(path, before.number + 1)));
                    }
                    before.length = previous;
                }
            }
            None if at + 1 < numbers.len() => return Err(OpenError::NotASegment(file)),
            None => {} // it is judged with its content
        }
        list.segments.push_back(Segment { number, length: u64::MAX });
    }
    Ok(list)
}

/// Reads a segment. Sets its length. Returns what is cut from the last segment.
pub(super) fn read_segment(
    folder: &Path,
    segment: &mut Segment,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(Place, Record<'_>),
) -> Result<Option<Cut>, OpenError> {
    let path = files::segment_path(folder, segment.number);
    let expected = Some(segment.length).filter(|length| *length < u64::MAX);
    segment::read(&path, expected, buffer).map_err(|error| OpenError::Io(path.clone(), error))?;
    let length = buffer.len() as u64;
    if let Some(expected) = expected.filter(|expected| *expected > length) {
        return Err(OpenError::Short { path, length, expected });
    }
    segment.length = length;
    let mut records = Records::new(buffer, segment.number, 0);
    let mut offset = 0;
    while let Some(next) = records.next() {
        match next {
            Ok((place, record)) => {
                let is_first = matches!(record, Record::Segment { number, .. } if number == segment.number);
                if is_first != (offset == 0) {
                    return Err(OpenError::NotASegment(path));
                }
                each(place, record);
                offset = records.used();
            }
            Err(damage) if expected.is_some() || segment::is_synced_after(buffer, offset) => {
                return Err(OpenError::Damaged { path, offset: offset as u64, damage });
            }
            Err(_) if segment::is_of_another_version(buffer) => return Err(OpenError::NotASegment(path)),
            // Its checksum is right, so it was written as it is: by a later version.
            Err(damage @ Damage::Unknown) => {
                return Err(OpenError::Damaged { path, offset: offset as u64, damage });
            }
            Err(damage) => {
                segment.length = offset as u64;
                return Ok(Some(Cut { path, length: offset as u64, bytes: length - offset as u64, damage }));
            }
        }
    }
    Ok(None)
}
