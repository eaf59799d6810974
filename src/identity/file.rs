//! The keys file: one access key a line, as JSON. It can be read and edited. Empty lines and those that begin with `#`
//! are comments.
//!
//! A change writes a new file beside the old one and renames it, so a reader sees the old keys or the new ones. The
//! new file is also a lock: it must not exist before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::key::AccessKey;

/// The permissions of a new file: its owner alone may read it and write to it.
const MODE: u32 = 0o600;

/// Parses the text of a keys file.
///
/// # Errors
/// A sentence that names the first wrong line.
///
/// ```
/// use overwire::identity::parse_keys;
///
/// assert_eq!(parse_keys("# nobody yet\n\n"), Ok(vec![]));
/// assert!(parse_keys("\nalice\n").unwrap_err().starts_with("line 2: expected a JSON object"));
/// ```
pub fn parse_keys(text: &str) -> Result<Vec<AccessKey>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !is_comment(line));
    let keys = lines.map(|(at, line)| AccessKey::parse(line).map_err(|error| format!("line {}: {error}", at + 1)));
    keys.collect()
}

/// Reads a keys file.
///
/// # Errors
/// Those of the system, and `InvalidData` with a sentence that names the first wrong line.
pub fn read_keys(path: &Path) -> io::Result<Vec<AccessKey>> {
    parse_keys(&fs::read_to_string(path)?).map_err(|sentence| io::Error::new(ErrorKind::InvalidData, sentence))
}

/// Adds a key to a keys file, which is created if there is none.
///
/// # Errors
/// Those of the system, `InvalidData` if the file has a wrong line, `AlreadyExists` if another change is under way.
pub fn add_key(path: &Path, key: &AccessKey) -> io::Result<()> {
    change(path, |mut text| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text + &format!("{key}\n")
    })
}

/// Removes the keys of the identity with this name, or the key with this id, from a keys file. Returns them.
///
/// # Errors
/// As [`add_key`].
pub fn revoke_keys(path: &Path, name_or_id: &str) -> io::Result<Vec<AccessKey>> {
    let mut revoked = Vec::new();
    change(path, |text| {
        let keep = |line: &&str| match AccessKey::parse(line) {
            Ok(key) if key.name == name_or_id || key.digest.id() == name_or_id => {
                revoked.push(key);
                false
            }
            _ => true,
        };
        text.split_inclusive('\n').filter(keep).collect()
    })?;
    Ok(revoked)
}

fn is_comment(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

/// Replaces the text of a file by another one, at once. Does nothing if the text stays the same.
fn change(path: &Path, change: impl FnOnce(String) -> String) -> io::Result<()> {
    // A link stays a link: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let lock = Lock::take(&path)?;
    let (text, mode) = match fs::read_to_string(&path) {
        Ok(text) => (text, fs::metadata(&path)?.permissions().mode()),
        Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), MODE),
        Err(error) => return Err(error),
    };
    parse_keys(&text).map_err(|sentence| io::Error::new(ErrorKind::InvalidData, sentence))?;
    let changed = change(text.clone());
    if changed != text {
        lock.replace(&path, &changed, mode)?;
    }
    Ok(())
}

/// The new file. It is removed if it has not taken the place of the old one.
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                let sentence = format!("{path:?} exists: another change is under way, or one was broken off");
                io::Error::new(ErrorKind::AlreadyExists, sentence)
            }
            _ => error,
        })?;
        Ok(Lock { path, file })
    }

    /// The text is on the disk before the name leads to it.
    fn replace(&self, path: &Path, text: &str, mode: u32) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(mode))?;
        (&self.file).write_all(text.as_bytes())?;
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // After a rename there is none, unless another change has begun since, which has a file of its own.
        if let (Ok(own), Ok(now)) = (self.file.metadata(), fs::metadata(&self.path))
            && is_same(&own, &now)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Rights, RoomPattern};
    use crate::random::Random;

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn create() -> Self {
            let path = std::env::temp_dir().join(format!("overwire-{}", Random::open().unwrap().uuid()));
            fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("keys")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key(name: &str) -> AccessKey {
        let rooms = RoomPattern::parse_list("*").unwrap();
        AccessKey::create(&mut Random::open().unwrap(), name, Rights::READ, rooms, None).0
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_added_and_revoked_by_name_and_by_id() {
        let folder = Folder::create();
        let file = folder.file();
        let keys = ["alice", "bob", "alice", "carol"].map(key);
        for key in &keys {
            add_key(&file, key).unwrap();
        }
        assert_eq!((read_keys(&file).unwrap(), mode(&file)), (keys.to_vec(), 0o600));
        assert_eq!(revoke_keys(&file, "alice").unwrap(), [keys[0].clone(), keys[2].clone()]);
        assert_eq!(revoke_keys(&file, &keys[1].digest.id()).unwrap(), [keys[1].clone()]);
        assert_eq!(revoke_keys(&file, "alice").unwrap(), []);
        assert_eq!(read_keys(&file).unwrap(), [keys[3].clone()]);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no other file is left");
    }

    #[test]
    fn a_change_keeps_comments_and_permissions() {
        let folder = Folder::create();
        let file = folder.file();
        let (alice, bob) = (key("alice"), key("bob"));
        fs::write(&file, format!("# the team\n\n{alice}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        add_key(&file, &bob).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("# the team\n\n{alice}\n{bob}\n"));
        revoke_keys(&file, "alice").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("# the team\n\n{bob}\n"));
        assert_eq!(mode(&file), 0o640);
    }

    #[test]
    fn a_change_of_a_link_replaces_the_file_behind_it() {
        let folder = Folder::create();
        let link = folder.0.join("link");
        fs::write(folder.file(), "").unwrap();
        std::os::unix::fs::symlink(folder.file(), &link).unwrap();
        add_key(&link, &key("alice")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read_keys(&folder.file()).unwrap().len(), 1);
    }

    #[test]
    fn two_changes_do_not_cross() {
        let folder = Folder::create();
        let lock = Lock::take(&folder.file()).unwrap();
        assert_eq!(add_key(&folder.file(), &key("alice")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(lock);
        add_key(&folder.file(), &key("alice")).unwrap();
    }

    #[test]
    fn a_file_with_a_fault_is_not_changed() {
        let folder = Folder::create();
        fs::write(folder.file(), "oops\n").unwrap();
        let error = add_key(&folder.file(), &key("alice")).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidData && error.to_string().starts_with("line 1: "), "{error}");
        assert_eq!(fs::read_to_string(folder.file()).unwrap(), "oops\n");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}
