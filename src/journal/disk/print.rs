//! The log as text: each record, its bytes and its meaning. It reads the files and changes nothing.

use std::io::{self, Write};
use std::path::Path;

use super::files;
use super::record::{Log, LogKind, Record};
use super::recovery::{self, Cut, OpenError};
use crate::feed::Cursor;
use crate::http::format_date;
use crate::output::visible;

/// The reason why a log is not printed to its end.
#[derive(Debug)]
pub enum PrintError {
    /// It cannot be read.
    Log(OpenError),
    /// The output takes no more.
    Output(io::Error),
}

impl From<OpenError> for PrintError {
    fn from(error: OpenError) -> Self {
        PrintError::Log(error)
    }
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        PrintError::Output(error)
    }
}

/// Prints all records of the log in a folder, or those of one room: the offset in the segment and the bytes, and below
/// them the meaning.
///
/// ```no_run
/// # use std::path::Path;
/// overwire::journal::disk::print(Path::new("data"), Some("tea"), &mut std::io::stdout()).unwrap();
/// ```
///
/// # Errors
/// The [`PrintError`]. What comes before the damage is printed.
pub fn print(folder: &Path, room: Option<&str>, out: &mut impl Write) -> Result<(), PrintError> {
    let summary = for_each(folder, |path, offset, record| {
        if offset == 0 {
            writeln!(out, "{}", path.display())?;
        }
        if room.is_none_or(|room| is_of_room(record, room)) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            writeln!(out, "{offset:>9}  {}", escape(&bytes))?;
            writeln!(out, "{:>9}  {}", "", meaning(record))?;
        }
        Ok(())
    })?;
    print_cut(summary.cut.as_ref(), out)
}

/// Reads the whole log in a folder, and prints its length and the number of its records.
///
/// # Errors
/// The [`PrintError`].
pub fn check(folder: &Path, out: &mut impl Write) -> Result<(), PrintError> {
    let summary = for_each(folder, |_, _, _| Ok(()))?;
    let Summary { segments, bytes, records, messages, cut } = summary;
    writeln!(out, "segments: {segments}, bytes: {bytes}, records: {records}, of them messages: {messages}")?;
    print_cut(cut.as_ref(), out)
}

fn print_cut(cut: Option<&Cut>, out: &mut impl Write) -> Result<(), PrintError> {
    if let Some(Cut { path, length, bytes, damage }) = cut {
        let path = path.display();
        writeln!(
            out,
            "{path}: an unfinished write of {bytes} bytes at byte {length}, which a server will cut: {damage}"
        )?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Summary {
    segments: usize,
    bytes: u64,
    records: u64,
    messages: u64,
    cut: Option<Cut>,
}

/// Passes each record to `visit`, with its file and its offset there.
fn for_each(
    folder: &Path,
    mut visit: impl FnMut(&Path, u32, &Record<'_>) -> io::Result<()>,
) -> Result<Summary, PrintError> {
    let (mut summary, mut buffer) = (Summary::default(), Vec::new());
    for mut segment in recovery::list(folder)?.segments {
        let path = files::segment_path(folder, segment.number);
        let mut result = Ok(());
        let read = recovery::read_segment(folder, &mut segment, &mut buffer, |place, record| {
            summary.records += 1;
            summary.messages += u64::from(matches!(record, Record::Message { .. }));
            if result.is_ok() {
                result = visit(&path, place.offset, &record);
            }
        });
        result?;
        summary.cut = read?;
        summary.segments += 1;
        summary.bytes += segment.length;
    }
    Ok(summary)
}

fn is_of_room(record: &Record<'_>, room: &str) -> bool {
    match record {
        Record::Segment { .. } | Record::Synced | Record::Key { .. } => false,
        Record::Start { log, .. }
        | Record::Message { log, .. }
        | Record::Remove { log }
        | Record::Position { log, .. } => log.kind == LogKind::Room && log.name == room,
    }
}

/// The bytes of a record, with no character that a terminal would obey.
fn escape(bytes: &[u8]) -> String {
    visible(&String::from_utf8_lossy(bytes)).replace('\n', "\\n")
}

fn meaning(record: &Record<'_>) -> String {
    match record {
        Record::Segment { number, previous: 0 } => format!("segment {number}: a log begins here"),
        Record::Segment { number, previous } => format!("segment {number}: the one before it has {previous} bytes"),
        Record::Synced => "everything before this is on the disk".into(),
        Record::Start { log, cursor } => match cursor.sequence() {
            0 => format!("{}: begins, {}", name(log), epoch(*cursor)),
            sequence => format!("{}: the messages up to {sequence} are dropped, {}", name(log), epoch(*cursor)),
        },
        Record::Message { log, cursor, time, key, .. } => {
            let key = if key.is_some() { ", with a key" } else { "" };
            format!("{}: message {}, {}, {}{key}", name(log), cursor.sequence(), check_of(*cursor), date(*time))
        }
        Record::Key { cursor, time, .. } => format!("the key of message {}, {}", cursor.sequence(), date(*time)),
        Record::Remove { log } => format!("{}: removed", name(log)),
        Record::Position { client, log, cursor, .. } => {
            let client = if client.is_empty() { "its reader".into() } else { format!("client {client:?}") };
            format!("{}: {client} has everything up to message {}", name(log), cursor.sequence())
        }
    }
}

fn name(log: &Log<'_>) -> String {
    match log.kind {
        LogKind::Room => format!("room {:?}", log.name),
        LogKind::Mailbox => format!("mailbox {:?}", log.name),
    }
}

fn epoch(cursor: Cursor) -> String {
    format!("epoch {:015x}, {}", cursor.epoch(), check_of(cursor))
}

fn check_of(cursor: Cursor) -> String {
    format!("check {:06x}", cursor.check())
}

fn date(time: u64) -> String {
    format_date(time / 1000)
}
