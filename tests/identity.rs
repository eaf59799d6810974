//! Access keys, and who may do what with them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use overwire::identity::Digest;
use overwire::random::Random;

/// A keys file in a folder that is removed at the end.
struct KeysFile(PathBuf);

impl KeysFile {
    fn create() -> Self {
        let folder = std::env::temp_dir().join(format!("overwire-{}", Random::open().unwrap().uuid()));
        fs::create_dir(&folder).unwrap();
        KeysFile(folder.join("keys"))
    }

    /// Runs `overwire key` with this file. Returns the exit code, the standard output and the standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
        let Output { status, stdout, stderr } =
            command.arg("key").args(arguments).arg("--keys").arg(&self.0).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Adds a key, and returns it.
    fn add(&self, arguments: &[&str]) -> String {
        let (code, key, complaint) = self.run(&[&["add"], arguments].concat());
        assert_eq!(code, Some(0), "{complaint}");
        key.trim_end().to_owned()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for KeysFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

#[test]
fn keys_are_added_listed_and_revoked() {
    let keys = KeysFile::create();
    let alice = keys.add(&["alice", "--rooms", "general,team-*", "--rights", "read", "--expires", "30d"]);
    let bob = keys.add(&["bob"]);
    let id = |key: &str| Digest::of(key).id();
    assert!(!keys.text().contains(&alice) && keys.text().contains(&Digest::of(&alice).to_string()));
    let (code, list, _) = keys.run(&["list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{list}");
    assert_eq!(lines[1][..4], [&id(&alice), "alice", "read", "general,team-*"]);
    assert_eq!((lines[1].last(), lines[2].last()), (Some(&"GMT"), Some(&"never")));
    assert_eq!(lines[2][..4], [&id(&bob), "bob", "read,send", "*"]);
    assert_eq!(keys.run(&["revoke", "alice"]), (Some(0), format!("revoked: {} of alice\n", id(&alice)), String::new()));
    assert_eq!(keys.run(&["revoke", &id(&bob)]).0, Some(0));
    let (code, _, complaint) = keys.run(&["revoke", "alice"]);
    assert_eq!(code, Some(1));
    assert!(complaint.ends_with("has the name or the id \"alice\"\n"), "{complaint}");
    assert_eq!(keys.text(), "");
}

#[test]
fn wrong_arguments_about_keys_are_named() {
    let keys = KeysFile::create();
    for (arguments, complaint) in [
        (&["add"][..], "key: expected `add NAME`, `list` or `revoke NAME`"),
        (&["remove", "alice"], "key: expected `add NAME`, `list` or `revoke NAME`"),
        (&["add", ""], "name: expected 1 to 64 characters that can be seen, not \"\""),
        (&["add", "alice", "--rights", "write"], "--rights: expected read, send or admin, not \"write\""),
        (
            &["add", "alice", "--rooms", "a,,b"],
            "--rooms: expected the name of a room, or its beginning and a `*`, not \"\"",
        ),
        (&["add", "alice", "--expires", "1w"], "--expires: expected a time such as 90s, 15m, 12h or 30d, not \"1w\""),
        (&["add", "alice", "--expires", "0d"], "--expires: expected a time such as 90s, 15m, 12h or 30d, not \"0d\""),
        (&["list", "--rights", "read"], "--rights: expected it with `key add` alone"),
        (&["list", "--wrong"], "unknown argument \"--wrong\""),
    ] {
        let expected = format!("overwire: {complaint}\nTry `overwire --help`.\n");
        assert_eq!(keys.run(arguments), (Some(2), String::new(), expected), "{arguments:?}");
    }
    assert!(!keys.0.exists());
    fs::write(&keys.0, "alice\n").unwrap();
    for arguments in [&["list"][..], &["add", "bob"], &["revoke", "alice"]] {
        let (code, output, complaint) = keys.run(arguments);
        assert!(
            (code, &*output) == (Some(1), "") && complaint.contains("line 1: expected a JSON object"),
            "{complaint}"
        );
    }
}

#[test]
fn the_help_of_the_keys_lists_all_options() {
    let (code, help, _) = KeysFile::create().run(&["--help"]);
    assert_eq!(code, Some(0));
    for option in ["add", "list", "revoke", "--keys", "--rooms", "--rights", "--expires"] {
        assert!(help.contains(option), "{option} is missing: {help}");
    }
}
