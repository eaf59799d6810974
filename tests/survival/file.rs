//! The folder of a journal in a file, and what a loss of power does to it.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process;

use super::dice::Dice;

/// A folder that is removed at the end.
pub struct File {
    folder: PathBuf,
    sync: String,
    cut: u64,
}

impl File {
    pub fn new(sync: &str, cut: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("overwire-survival-{}-file", process::id()));
        let _ = fs::remove_dir_all(&folder); // of the seed before
        File { folder, sync: sync.into(), cut }
    }

    /// Returns the arguments of the server.
    pub fn arguments(&self) -> Vec<String> {
        vec!["--data".into(), self.folder.display().to_string(), "--sync".into(), self.sync.clone()]
    }

    /// Whether an answered message can be lost.
    pub fn can_lose(&self) -> bool {
        self.cut > 0
    }

    /// Cuts records from the end of the newest segment, while no server has it. The first record stays.
    pub fn cut(&self, dice: &mut Dice) -> io::Result<()> {
        let names = fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let segments = names.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let Some(newest) = segments.max() else { return Ok(()) };
        let bytes = fs::read(&newest)?;
        let ends: Vec<u64> = (1..).zip(&bytes).filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end).collect();
        let kept = ends.len().saturating_sub(dice.roll(self.cut + 1) as usize).max(1);
        match ends.get(kept - 1) {
            Some(end) => OpenOptions::new().write(true).open(&newest)?.set_len(*end),
            None => Ok(()),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
