//! The folder of the log, and the operations on files that a disk can refuse.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The operations of the writer that a disk can refuse. [`System`] passes them on. A test puts others in its place,
/// which are slow or fail.
///
/// ```
/// use std::fs::File;
/// use std::io;
///
/// use overwire::journal::disk::Files;
///
/// #[derive(Debug)]
/// struct Full;
///
/// impl Files for Full {
///     fn write(&self, _: &File, _: &[u8]) -> io::Result<()> {
///         Err(io::ErrorKind::StorageFull.into())
///     }
/// }
/// ```
pub trait Files: Debug + Send + Sync {
    /// Creates a file that only its owner may read. Writes append to it.
    ///
    /// # Errors
    /// The error of the system, and `AlreadyExists` if there is such a file.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
    }

    /// Appends bytes to a file.
    ///
    /// # Errors
    /// The error of the system. A part of the bytes may be written.
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Waits until everything written is on the disk (`fdatasync`).
    ///
    /// # Errors
    /// The error of the system. What was not on the disk before may be lost, whatever a later call says.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The operations of the system.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Files for System {}

/// The folder, locked for this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The lock lies on the folder itself, and ends with this handle. So it never outlives the process.
    handle: File,
}

/// The reason why a folder cannot be opened.
#[derive(Debug)]
pub(super) enum FolderError {
    /// Another process has it.
    InUse,
    /// The error of the system.
    Io(io::Error),
}

impl Folder {
    /// Opens a folder. Creates it, for its owner alone, if there is none.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            File::open(path)
        };
        let handle = open().map_err(FolderError::Io)?;
        match handle.try_lock() {
            Ok(()) => Ok(Folder { path: path.into(), handle }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse),
            Err(TryLockError::Error(error)) => Err(FolderError::Io(error)),
        }
    }

    /// Opens the folder again, after it was deleted.
    pub fn reopen(&self) -> io::Result<Self> {
        Folder::open(&self.path).map_err(|error| match error {
            FolderError::InUse => io::Error::other("another process uses this folder"),
            FolderError::Io(error) => error,
        })
    }

    /// Whether the folder has been deleted, or another one is at its path.
    pub fn is_gone(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = self.handle.metadata().map(identity).ok();
        own.is_none() || fs::metadata(&self.path).map(identity).ok() != own
    }

    /// The path of a segment.
    pub fn segment(&self, number: u32) -> PathBuf {
        segment_path(&self.path, number)
    }

    /// Waits until the names of new files are on the disk. Without it, a crash can lose a file whose content is there.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Removes a segment. Does nothing if there is none.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        match fs::remove_file(self.segment(number)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The path of a segment: its number and `.log`.
pub(super) fn segment_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

/// Returns the numbers of all segments in a folder, in their order. Ignores files with other names.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        numbers.extend(number.filter(|number| segment_path(folder, *number).file_name() == Some(&*name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether a file has no name any more: it was deleted, and what is written to it is lost.
pub(super) fn is_deleted(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}
