//! The files of a folder. Their contents are shared by all answers, and kept until the file changes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::bytes::Shared;
use crate::http::Response;

/// The longest file, in bytes. One is read at a time, while nothing else happens.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// The most bytes that are kept. If another file does not fit, all are dropped and read again when they are needed.
pub const MOST_KEPT: usize = 16 * 1024 * 1024;

/// The cost of a kept file in addition to its name and its content, in bytes.
const COST: usize = 256;

/// The time after which a file is kept. A younger one may change again without another time or length (clocks of file
/// systems are coarse: that of FAT has steps of two seconds).
const SETTLED: Duration = Duration::from_secs(2);

/// "Too many open files", of this process and of all (errno(3)).
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// A folder, and the contents of the files in it that were read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: HashMap<String, (Version, Shared)>,
    /// The bytes of the contents.
    shared: usize,
    /// The bytes of all that is kept.
    bytes: usize,
}

/// The identity of the bytes of a file. Each change of them changes the time `ctime` (stat(3type)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    length: u64,
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Version {
            device: file.dev(),
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
            length: file.len(),
        }
    }

    /// An entity tag (RFC 9110, section 8.8.3).
    fn tag(&self) -> String {
        let (seconds, nanoseconds) = self.changed;
        format!("\"{:x}-{:x}-{seconds:x}.{nanoseconds:x}-{:x}\"", self.device, self.inode, self.length)
    }
}

/// The reason why a file is not served.
#[derive(Debug)]
pub enum FileError {
    /// There is no file of this name in the folder.
    Nothing,
    /// The file has this many bytes.
    TooLong(u64),
    /// The system does not open or read it.
    System(io::Error),
}

impl FileError {
    /// Returns the answer. `None` if there is nothing.
    pub fn response(&self, name: &str) -> Option<Response> {
        let (status, sentence) = match self {
            FileError::Nothing => return None,
            FileError::TooLong(length) => (
                501,
                format!(
                    "the file {name:?} has {length} bytes: expected at most {LONGEST_FILE}, because it is sent in one piece"
                ),
            ),
            FileError::System(error) if error.kind() == ErrorKind::PermissionDenied => {
                (403, format!("the server may not read the file {name:?}"))
            }
            FileError::System(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
                (503, "the server has too many files open at the moment: try again later".to_owned())
            }
            FileError::System(error) => (500, format!("the file {name:?} cannot be read: {error}")),
        };
        let response = Response::error(status, &sentence);
        Some(if status == 503 { response.with_field("Retry-After", "1") } else { response })
    }
}

impl Folder {
    /// Creates a folder. Nothing is read.
    pub fn new(path: PathBuf) -> Self {
        Folder { path, kept: HashMap::new(), shared: 0, bytes: 0 }
    }

    /// Returns the content of a file. If it is kept and the file has not changed, that costs one call of stat(2).
    pub fn read(&mut self, name: &str) -> Result<Shared, FileError> {
        let version = self.version(name)?;
        match self.kept.get(name) {
            Some((kept, content)) if *kept == version => return Ok(content.clone()),
            Some(_) => self.forget(name),
            None => {}
        }
        let (file, metadata) = self.open(name)?;
        let mut content = Vec::with_capacity(metadata.len() as usize);
        (&file).take(LONGEST_FILE + 1).read_to_end(&mut content).map_err(FileError::System)?;
        check_length(content.len() as u64)?;
        let (version, content) = (Version::of(&metadata), Shared::from(content));
        let is_settled = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SETTLED));
        if is_settled {
            self.keep(name, version, content.clone());
        }
        Ok(content)
    }

    /// Returns the length of a file that [`read`](Self::read) would return. Nothing is read.
    pub fn length(&self, name: &str) -> Result<u64, FileError> {
        let version = self.version(name)?;
        if self.kept.get(name).is_none_or(|(kept, _)| *kept != version) {
            self.open(name)?;
        }
        Ok(version.length)
    }

    /// Returns the entity tag of a file that is kept. The bytes of a younger one may change under the same tag.
    pub fn tag(&self, name: &str) -> Option<String> {
        self.kept.get(name).map(|(version, _)| version.tag())
    }

    /// Returns the number of bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of bytes of the contents that are kept. Answers share them.
    pub fn shared(&self) -> usize {
        self.shared
    }

    fn keep(&mut self, name: &str, version: Version, content: Shared) {
        let cost = cost(name, &content);
        if self.bytes() + cost > MOST_KEPT {
            self.kept.clear();
            (self.shared, self.bytes) = (0, 0);
        }
        self.shared += content.len();
        self.bytes += cost;
        self.kept.insert(name.to_owned(), (version, content));
    }

    fn forget(&mut self, name: &str) {
        if let Some((_, content)) = self.kept.remove(name) {
            self.shared -= content.len();
            self.bytes -= cost(name, &content);
        }
    }

    /// Returns the version of a regular file. The name is checked before the system resolves it.
    fn version(&self, name: &str) -> Result<Version, FileError> {
        if !is_inside(name) {
            return Err(FileError::Nothing);
        }
        let metadata = fs::metadata(self.path.join(name)).map_err(unresolved)?;
        if metadata.is_file() { Ok(Version::of(&metadata)) } else { Err(FileError::Nothing) }
    }

    /// Opens a regular file whose name is checked, unless a symbolic link leads out of the folder.
    fn open(&self, name: &str) -> Result<(File, Metadata), FileError> {
        let folder = self.path.canonicalize().map_err(unresolved)?;
        let path = folder.join(name).canonicalize().map_err(unresolved)?;
        if !path.starts_with(&folder) {
            return Err(FileError::Nothing);
        }
        let file = File::open(path).map_err(FileError::System)?;
        let metadata = file.metadata().map_err(FileError::System)?;
        check_length(metadata.len())?;
        Ok((file, metadata))
    }
}

/// Whether a name leads to something in the folder, apart from symbolic links: it has no empty part, no `.` and no `..`.
fn is_inside(name: &str) -> bool {
    !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn check_length(length: u64) -> Result<(), FileError> {
    if length > LONGEST_FILE { Err(FileError::TooLong(length)) } else { Ok(()) }
}

/// The error of a name that the system does not resolve. A link may lead out of the folder, and then nobody learns what
/// is there, and what may not be seen.
fn unresolved(error: io::Error) -> FileError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename | ErrorKind::PermissionDenied => {
            FileError::Nothing
        }
        _ => FileError::System(error),
    }
}

fn cost(name: &str, content: &Shared) -> usize {
    COST + name.len() + content.len()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A temporary folder, removed at the end.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("overwire-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Temporary(path)
        }

        /// Writes a file that is an hour old.
        fn write(&self, name: &str, content: &[u8]) {
            let mut file = File::create(self.0.join(name)).unwrap();
            file.write_all(content).unwrap();
            let hour_ago = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(3600);
            file.set_modified(hour_ago).unwrap();
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn contents_are_shared_until_the_file_changes() {
        let temporary = Temporary::new("shared");
        temporary.write("a", b"first");
        let mut folder = Folder::new(temporary.0.clone());
        let (first, again) = (folder.read("a").unwrap(), folder.read("a").unwrap());
        assert_eq!((&first[..], first.as_ptr()), (&b"first"[..], again.as_ptr()));
        assert_eq!(folder.bytes(), COST + 1 + 5);
        // As long and as old as the first.
        temporary.write("a", b"other");
        assert_eq!((&folder.read("a").unwrap()[..], folder.bytes()), (&b"other"[..], COST + 1 + 5));
        // Younger than the steps of a clock: another write may not be seen by the time.
        fs::write(temporary.0.join("a"), b"third").unwrap();
        assert_eq!((&folder.read("a").unwrap()[..], folder.bytes(), folder.shared()), (&b"third"[..], 0, 0));
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let temporary = Temporary::new("bound");
        let content = vec![0; LONGEST_FILE as usize];
        let mut folder = Folder::new(temporary.0.clone());
        for name in ["a", "b", "c", "d", "e"] {
            temporary.write(name, &content);
            assert_eq!(folder.read(name).unwrap().len(), content.len());
            assert!((content.len()..=MOST_KEPT).contains(&folder.bytes()));
            let costs = folder.kept.iter().map(|(name, (_, content))| cost(name, content));
            assert_eq!(folder.bytes(), costs.sum::<usize>());
        }
    }

    #[test]
    fn errors_of_the_system_have_a_status() {
        let system = |number| FileError::System(io::Error::from_raw_os_error(number));
        for (error, status) in [
            (system(EMFILE), Some(503)),
            (system(ENFILE), Some(503)),
            (system(13), Some(403)), // EACCES
            (system(5), Some(500)),  // EIO
            (FileError::TooLong(LONGEST_FILE + 1), Some(501)),
            (FileError::Nothing, None),
        ] {
            assert_eq!(error.response("a").map(|response| response.status()), status, "{error:?}");
        }
    }
}
