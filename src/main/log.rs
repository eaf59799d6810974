//! The command `overwire log`: the log of `--data`, printed or checked.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use overwire::journal::disk::{self, PrintError};
use overwire::output::complain;

/// What is done with the log in a folder.
pub enum LogCommand {
    /// Print its records, or those of one room.
    Print(PathBuf, Option<String>),
    /// Read it to the end, and say what it has.
    Check(PathBuf),
}

/// Reads the arguments.
///
/// # Errors
/// A complaint.
pub fn parse(arguments: &[String]) -> Result<LogCommand, String> {
    match arguments {
        [folder, option] if option == "--check" => Ok(LogCommand::Check(folder.into())),
        [folder] if !folder.starts_with("--") => Ok(LogCommand::Print(folder.into(), None)),
        [folder, room] => Ok(LogCommand::Print(folder.into(), Some(room.clone()))),
        _ => Err("log: expected a folder, and then a room, --check, or nothing".into()),
    }
}

/// Carries out the command.
pub fn run(command: &LogCommand) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = read(command, &mut out);
    let flushed = out.flush();
    match result.and(flushed.map_err(PrintError::Output)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the pipe has seen enough.
        Err(PrintError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(PrintError::Output(error)) => {
            complain(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
        Err(PrintError::Log(error)) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn read(command: &LogCommand, out: &mut BufWriter<StdoutLock<'_>>) -> Result<(), PrintError> {
    match command {
        LogCommand::Print(folder, room) => disk::print(folder, room.as_deref(), out),
        LogCommand::Check(folder) => disk::check(folder, out),
    }
}
