//! `wire`: `curl -v` for polling, streaming, server-sent events and WebSocket. It prints the bytes of both directions
//! and their meaning.

mod connection;
mod frames;
mod http;
mod input;
mod opening;
mod options;
mod outgoing;
mod printer;
mod session;
mod socket;
mod stream;
mod tap;
mod url;
mod via;
mod view;

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::options::{Action, Command, Options};
use crate::view::View;

/// The end of a run.
#[derive(Debug)]
enum End {
    /// The command is complete.
    Done,
    /// The connection or the protocol failed: a sentence without its full stop.
    Failed(String),
    /// Standard output is closed.
    OutputClosed,
}

/// `?` is used for standard output only. Errors of a connection are handled where they occur.
impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => End::OutputClosed,
            _ => End::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

fn main() -> ExitCode {
    let options = match arguments().and_then(|arguments| options::parse(arguments.into_iter())) {
        Ok(Action::Run(options)) => *options,
        Ok(Action::Print(text)) => {
            return if writeln!(io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(complaint) => {
            complain(&format!("{complaint}\nTry `wire --help`."));
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        End::Done | End::OutputClosed => ExitCode::SUCCESS,
        End::Failed(sentence) => {
            complain(&printer::escape(view::masked(&sentence, options.shows_secrets).as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// The arguments. Others than UTF-8 would be sent as other bytes.
fn arguments() -> Result<Vec<String>, String> {
    let text = |argument: OsString| argument.into_string().map_err(|argument| format!("{argument:?} is not UTF-8"));
    env::args_os().skip(1).map(text).collect()
}

/// Prints a complaint. Standard error may be closed or full.
fn complain(complaint: &str) {
    let _ = writeln!(io::stderr(), "wire: {complaint}");
}

fn run(options: &Options) -> End {
    let mut view = View::new(options);
    let result = match options.command {
        Command::Poll => http::poll(options, &mut view),
        Command::Stream => http::stream(options, &mut view),
        Command::Sse => http::sse(options, &mut view),
        Command::Ws => socket::run(options, &mut view),
        Command::Tap => tap::run(&options.url, options.port, options.shows_secrets),
    };
    match result {
        Ok(()) => End::Done,
        Err(end) => end,
    }
}
