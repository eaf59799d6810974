//! The command line that every lesson's programs have, and what they say when they begin. Uses the
//! standard library alone.
#![allow(dead_code)] // each program uses a part

use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

/// What a lesson's program is called, and what its reader is told first. `{url}`, `{websocket}` and
/// `{address}` in these texts stand for where the program listens.
pub struct Lesson {
    /// The name of the program.
    pub name: &'static str,
    /// The port that it listens on, or connects to, unless `--port` says otherwise.
    pub port: u16,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// The first command to try.
    pub first: &'static str,
    /// What to look for in what that command prints.
    pub look_for: &'static str,
    /// How `--measure` uses it; none when there is nothing to measure.
    pub costs: &'static [Costs],
}

/// One transport of a lesson, as `--measure` uses it.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// How a message is received.
    pub receive: Receive,
    /// How another client sends it.
    pub send: Send,
}

/// How a client receives messages; the texts are request targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// It is what comes back when it is sent.
    Echo,
    /// GET, again and again, so many seconds apart.
    ShortPoll(&'static str, u64),
    /// GET, held by the server.
    LongPoll(&'static str),
    /// GET, a chunked answer without end, one message a line.
    Stream(&'static str),
    /// GET, an event stream.
    Sse(&'static str),
    /// A WebSocket, one message a text frame.
    WebSocket(&'static str),
}

/// How a client sends a message.
#[derive(Debug, Clone, Copy)]
pub enum Send {
    /// POST to this target, the message itself being the content.
    Content(&'static str),
    /// POST to this target, `{"message": "..."}` being the content.
    Json(&'static str),
    /// A text frame on a WebSocket of its own, opened at this target.
    Frame(&'static str),
}

/// What the command line asks for.
pub enum Wish {
    /// To run, on this port.
    Run(u16),
    /// To measure what the lesson's transports cost, or only the one of this number.
    Measure(Option<usize>),
    /// Nothing more: this is the exit code.
    Exit(ExitCode),
}

impl Lesson {
    /// Runs a program that needs its port and nothing else from the command line.
    pub fn run(&self, program: impl FnOnce(u16) -> io::Result<()>) -> ExitCode {
        self.carry_out(self.wish(), program)
    }

    /// Does what was wished for, unless that is to measure.
    pub fn carry_out(&self, wish: Wish, program: impl FnOnce(u16) -> io::Result<()>) -> ExitCode {
        match wish {
            Wish::Run(port) => match program(port) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => self.complain(port, &error),
            },
            Wish::Measure(_) => ExitCode::SUCCESS, // never asked for where no costs are declared
            Wish::Exit(code) => code,
        }
    }

    /// Reads the command line. `--help` and mistakes are answered here.
    pub fn wish(&self) -> Wish {
        self.wish_of(env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
    }

    /// Reads these arguments.
    pub fn wish_of(&self, mut arguments: impl Iterator<Item = String>) -> Wish {
        let mut port = self.port;
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            match name {
                "--help" | "-h" => {
                    let _ = writeln!(io::stdout(), "{}", self.help());
                    return Wish::Exit(ExitCode::SUCCESS);
                }
                "--measure" if !self.costs.is_empty() => {
                    return Wish::Measure(value.and_then(|number| number.parse().ok()));
                }
                "--port" => match value.or_else(|| arguments.next()).as_deref().map(parse_port) {
                    Some(Some(number)) => port = number,
                    _ => return self.refuse("--port: expected a number from 0 to 65535"),
                },
                _ => return self.refuse(&format!("unknown argument {argument:?}")),
            }
        }
        Wish::Run(port)
    }

    fn help(&self) -> String {
        let (name, port, about) = (self.name, self.port, self.about);
        let mut help = format!("{name}: {about}\n\nusage: {name} [OPTIONS]\n\n");
        help += &format!("  --port PORT  the port; 0 lets the system choose (default {port})\n");
        if !self.costs.is_empty() {
            help += "  --measure    print what the transport costs, measured here and now, and exit\n";
        }
        help + "  --help       print this and exit"
    }

    fn refuse(&self, complaint: &str) -> Wish {
        let name = self.name;
        eprintln!("{name}: {complaint}\nTry `{name} --help`.");
        Wish::Exit(ExitCode::from(2))
    }

    /// Says where the program listens, and what to try. Nobody need be listening to that.
    pub fn greet(&self, address: SocketAddr) {
        let fill = |text: &str| {
            text.replace("{url}", &format!("http://{address}"))
                .replace("{websocket}", &format!("ws://{address}"))
                .replace("{address}", &format!("{} {}", address.ip(), address.port()))
        };
        let (name, first, look_for) = (self.name, fill(self.first), fill(self.look_for));
        let _ = writeln!(
            io::stdout(),
            "{name} listens on http://{address}\nTry:      {first}\nLook for: {look_for}\nCtrl+C ends it."
        );
    }

    /// Says why the program cannot go on.
    pub fn complain(&self, port: u16, error: &io::Error) -> ExitCode {
        match error.kind() {
            ErrorKind::AddrInUse => {
                eprintln!("{}: port {port} is in use: choose another one with --port", self.name);
            }
            ErrorKind::ConnectionRefused => {
                eprintln!("{}: nobody listens on port {port}: start the lesson's server first", self.name);
            }
            _ => eprintln!("{}: {error}", self.name),
        }
        ExitCode::FAILURE
    }
}

/// Digits only: `parse` alone would take `+5`.
fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
