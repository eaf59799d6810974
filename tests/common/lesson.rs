//! What the tests of the lessons share.
#![allow(dead_code)] // each test file uses a part

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The path of a program of the project: a lesson's, `overwire` or `wire`. Cargo builds the lessons' programs with
/// their tests; the two of the other package are built here, which takes no time when nothing has changed.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: LazyLock<&Path> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_00-readiness")).parent().unwrap();
        let profile = folder.file_name().unwrap().to_str().unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--offline", "--package", "overwire", "--bins"])
            .args(["--profile", if profile == "debug" { "dev" } else { profile }, "--target-dir"])
            .arg(folder.parent().unwrap())
            .status();
        assert!(built.expect("cargo runs").success(), "cargo builds overwire and wire");
        folder
    });
    FOLDER.join(name)
}
