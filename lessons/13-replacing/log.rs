//! The log: a file of lines that several processes share. The cursor of a message is the number of bytes up to its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

/// A file with one line of JSON for each message.
pub struct Log(File);

impl Log {
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        OpenOptions::new().read(true).append(true).create(true).open(folder.join("log")).map(Log)
    }

    /// Appends a message and returns its cursor. In this mode (`O_APPEND`), the system puts each write at the end of the
    /// file, and whole, whichever process it comes from.
    pub fn append(&mut self, text: &str) -> io::Result<u64> {
        self.0.write_all(format!("{}\n", json!(text)).as_bytes())?;
        self.0.stream_position()
    }

    /// Returns the messages after a cursor, each with its cursor.
    pub fn after(&self, cursor: u64) -> io::Result<Vec<(u64, String)>> {
        let mut bytes = vec![0; self.tip()?.saturating_sub(cursor) as usize];
        self.0.read_exact_at(&mut bytes, cursor)?;
        let mut end = cursor;
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
            end += line.len() as u64;
            (end, text_of(line))
        });
        Ok(lines.collect())
    }

    /// Returns the cursor of the last message.
    pub fn tip(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    /// Whether a message ends at this cursor, or none is before it.
    pub fn has(&self, cursor: u64) -> io::Result<bool> {
        let mut last = [0];
        Ok(cursor == 0 || (self.0.read_at(&mut last, cursor - 1)? == 1 && last == *b"\n"))
    }
}

fn text_of(line: &[u8]) -> String {
    match serde_json::from_slice(line) {
        Ok(Value::String(text)) => text,
        _ => String::new(), // not written by this program
    }
}
