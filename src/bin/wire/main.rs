//! `wire`: what `curl -v` is to HTTP, for polling, streaming, server-sent events and WebSocket.
//! It prints the bytes of both directions, and what they are.

mod connection;
mod http;
mod options;
mod outgoing;
mod printer;
mod session;
mod socket;
mod url;
mod view;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::options::{Options, Transport, Wish};
use crate::view::View;

/// How a run ends.
#[derive(Debug)]
enum End {
    /// All that was wanted was done.
    Done,
    /// The connection or the protocol failed: a sentence without its full stop.
    Failed(String),
    /// There is nobody to print for any more.
    Unheard,
}

/// Only standard output is written to with `?`; what a connection says is taken apart where it happens.
impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => End::Unheard,
            _ => End::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

fn main() -> ExitCode {
    // An argument that is not UTF-8 is shown as well as it can be.
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let options = match options::parse(arguments) {
        Ok(Wish::Run(options)) => *options,
        Ok(Wish::Print(text)) => {
            return if writeln!(io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(complaint) => {
            eprintln!("wire: {complaint}\nTry `wire --help`.");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        End::Done | End::Unheard => ExitCode::SUCCESS,
        End::Failed(sentence) => {
            eprintln!("wire: {}", printer::escape(sentence.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> End {
    let mut view = View::new(options);
    let result = match options.transport {
        Transport::Poll => http::poll(options, &mut view),
        Transport::Stream => http::stream(options, &mut view),
        Transport::Sse => http::sse(options, &mut view),
        Transport::Ws => socket::run(options, &mut view),
    };
    match result {
        Ok(()) => End::Done,
        Err(end) => end,
    }
}
