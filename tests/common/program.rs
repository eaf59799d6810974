//! What the programs of the tests have in common: their arguments, and their exit code.

use std::fmt::Display;
use std::process::ExitCode;

/// Reads the arguments, runs the program, and returns its exit code: 0 if it has passed or printed `usage`, 1 if it has
/// not passed, 2 if an argument is wrong. `run` returns whether it has passed.
pub fn main<S, E: Display>(
    usage: &str,
    parse: impl FnOnce(std::vec::IntoIter<String>) -> Result<S, String>,
    run: impl FnOnce(S) -> Result<bool, E>,
) -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into()).collect();
    if words.iter().any(|word| word == "--help") {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    match parse(words.into_iter()).map(run) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(complaint) => {
            eprintln!("{complaint}\n{usage}");
            ExitCode::from(2)
        }
    }
}
