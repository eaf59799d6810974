//! The exercises: the test of each fails until its answer is applied. Needs git.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::pages::{LESSONS, ROOT, exercises};
use crate::process;

/// A copy of the project to apply answers to.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exercises");
        for part in [
            "Cargo.toml",
            "Cargo.lock",
            "src",
            "static",
            "lessons",
            "tests/common",
            "tests/lessons",
            "tests/redis",
            "tests/bench",
            "tests/conformance",
        ] {
            synchronise(&Path::new(ROOT).join(part), &folder.join(part));
        }
        Copy { folder }
    }

    fn apply(&self, patch: &Path) {
        let status = Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(patch)
            .current_dir(&self.folder)
            // git must not take the copy for a part of the repository around it.
            .env("GIT_CEILING_DIRECTORIES", self.folder.parent().unwrap())
            .status()
            .expect("git runs");
        assert!(status.success(), "{} does not apply", patch.display());
    }

    /// Runs these exercises. Returns `ok` or `FAILED` for each.
    fn run(&self, tests: &[&str]) -> HashMap<String, String> {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--offline", "--locked", "--no-fail-fast"]).current_dir(&self.folder);
        command.env("CARGO_TARGET_DIR", self.folder.with_file_name("exercises-target"));
        // Nobody debugs these programs. Without debug information they take 48 s of CPU time instead of 59.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_TEST_DEBUG", "0");
        for lesson in runnable() {
            command.args(["--test", &format!("{}-exercises", &lesson[..2])]);
        }
        command.args(["--", "--exact"]).args(tests); // one that fails may wait for seconds
        let output = command.stdin(Stdio::null()).output().expect("cargo runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let outcomes = text.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
        let outcomes: HashMap<_, _> = outcomes.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect();
        assert!(!outcomes.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        outcomes
    }
}

/// The lessons whose exercises can be run here: those of lesson 10 need Redis.
fn runnable() -> impl Iterator<Item = &'static str> {
    LESSONS.into_iter().filter(|lesson| *lesson != "10-many-servers" || process::is_installed())
}

/// Makes `copy` like `original`. Equal files keep their times, so that cargo builds little again.
fn synchronise(original: &Path, copy: &Path) {
    if original.is_dir() {
        fs::create_dir_all(copy).unwrap();
        let names = |folder: &Path| -> Vec<_> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let (here, there) = (names(original), names(copy));
        for name in there.iter().filter(|name| !here.contains(name)) {
            let gone = copy.join(name);
            if gone.is_dir() { fs::remove_dir_all(gone) } else { fs::remove_file(gone) }.unwrap();
        }
        here.iter()
            .filter(|name| *name != "node_modules")
            .for_each(|name| synchronise(&original.join(name), &copy.join(name)));
    } else {
        let content = fs::read(original).unwrap();
        if fs::read(copy).ok().as_ref() != Some(&content) {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, content).unwrap();
        }
    }
}

/// Runs a program, which must succeed, and returns its output.
fn output_of(command: &mut Command) -> String {
    let output = command.current_dir(ROOT).stdin(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `lessons/answer` takes the version of a file that the patch names, whatever a reader has made of it.
#[test]
fn answers_name_the_version_that_they_change() {
    for lesson in LESSONS {
        for (_, answer) in exercises(lesson) {
            let patch = fs::read_to_string(Path::new(ROOT).join("lessons").join(lesson).join("answers").join(&answer));
            let patch = patch.unwrap();
            let file = patch.lines().find_map(|line| line.strip_prefix("--- a/")).expect("a file");
            let named = patch.lines().find_map(|line| line.strip_prefix("index ")).expect("a version");
            let named = named.split_once("..").unwrap().0;
            let hash = output_of(Command::new("git").args(["hash-object", file]));
            assert!(hash.starts_with(named), "{lesson}/answers/{answer} changes another version of {file}");
        }
    }
}

#[test]
fn answers_are_applied_to_a_copy() {
    // In place of cargo, which would build the copy: what it is called with.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-cargo");
    fs::create_dir_all(&folder).unwrap();
    output_of(
        Command::new("bash").args(["-c", "printf '#!/bin/sh\\necho $*' >$0/cargo; chmod +x $0/cargo"]).arg(&folder),
    );
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    for (number, test) in [("1", "eleventh_client_is_refused"), ("2", "idle_connections_are_closed")] {
        let said = output_of(Command::new("lessons/answer").args(["00", number]).env("PATH", &path));
        assert!(said.contains(&format!("test --quiet --test 00-exercises {test}")), "{said}");
        let copy = fs::read_to_string(Path::new(ROOT).join("target/answer/lessons/00-readiness/main.rs")).unwrap();
        assert_eq!(copy.contains("too many connections"), number == "1");
        assert_eq!(copy.contains("const SILENCE"), number == "2");
    }
    let refused = Command::new("lessons/answer").args(["00", "9"]).current_dir(ROOT).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn exercises_fail_until_answered() {
    let exercises: HashMap<_, _> = runnable().map(|lesson| (lesson, exercises(lesson))).collect();
    let all: Vec<_> = exercises.values().flatten().map(|(test, _)| test.as_str()).collect();
    let outcomes = Copy::new().run(&all);
    for test in all {
        assert_eq!(outcomes.get(test).map(String::as_str), Some("FAILED"), "{test} before its answer");
    }
    // One answer of each lesson at a time: an answer changes only its own lesson.
    for round in 0..exercises.values().map(Vec::len).max().unwrap() {
        let copy = Copy::new();
        let answered: Vec<_> = runnable().filter_map(|lesson| Some((lesson, exercises[lesson].get(round)?))).collect();
        for (lesson, (_, answer)) in &answered {
            copy.apply(&Path::new(ROOT).join("lessons").join(lesson).join("answers").join(answer));
        }
        let tests: Vec<_> = answered.iter().map(|(_, (test, _))| test.as_str()).collect();
        let outcomes = copy.run(&tests);
        for (lesson, (test, _)) in answered {
            assert_eq!(outcomes.get(test).map(String::as_str), Some("ok"), "{test} of {lesson}, with its answer");
        }
    }
}
