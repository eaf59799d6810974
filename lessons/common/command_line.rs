//! The command line of every lesson's programs, and their greeting.

use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use overwire::bytes::digits;
use overwire::{EventLoop, Limits};

/// A lesson's program: its name, its defaults and its greeting. In the texts, `{url}`, `{websocket}` and `{address}`
/// stand for the address that the program listens on.
pub struct Lesson {
    /// The name of the program.
    pub name: &'static str,
    /// The default of `--port`: the port to listen on, or to connect to.
    pub port: u16,
    /// Its purpose, in one sentence.
    pub about: &'static str,
    /// The first command to try.
    pub first: &'static str,
    /// The part of that command's output to look for.
    pub look_for: &'static str,
    /// The transports that `--measure` measures. May be empty.
    pub costs: &'static [Costs],
}

/// One transport of a lesson, as `--measure` uses it.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// The way in which a client receives a message.
    pub receive: Receive,
    /// The way in which another client sends it.
    pub send: Send,
}

/// The ways to receive messages. The texts are request targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// The answer to a message is the message.
    Echo,
    /// GET, repeated after this number of seconds.
    ShortPoll(&'static str, u64),
    /// GET, held by the server until there is a message.
    LongPoll(&'static str),
    /// GET, an endless chunked response, one message a line.
    Stream(&'static str),
    /// GET, an event stream.
    Sse(&'static str),
    /// A WebSocket, one message a text frame.
    WebSocket(&'static str),
}

/// The ways to send a message.
#[derive(Debug, Clone, Copy)]
pub enum Send {
    /// POST to this target with the message as content.
    Content(&'static str),
    /// POST to this target with `{"message": "..."}` as content.
    Json(&'static str),
    /// A text frame on a separate WebSocket, opened at this target.
    Frame(&'static str),
}

/// An option with a value that only some programs have.
#[derive(Debug, Clone, Copy)]
pub struct Extra {
    /// Its name and its value, such as `--data FOLDER`.
    pub usage: &'static str,
    /// Its meaning.
    pub about: &'static str,
    /// The value without it.
    pub default: &'static str,
}

/// The command that the command line gives.
pub enum Wish {
    /// Run, on this port.
    Run(u16),
    /// Measure the cost of all transports of the lesson, or of the one with this number.
    Measure(Option<usize>),
    /// Exit with this code.
    Exit(ExitCode),
}

impl Lesson {
    /// Runs a program that has no option but its port.
    pub fn run(&self, program: impl FnOnce(u16) -> io::Result<()>) -> ExitCode {
        self.carry_out(self.wish(), program)
    }

    /// Runs a program with more options. It gets their values in the order of `extras`.
    pub fn run_with(&self, extras: &[Extra], program: impl FnOnce(u16, Vec<String>) -> io::Result<()>) -> ExitCode {
        let (wish, values) = self.read(extras, env::args_os().skip(1).map(|one| one.to_string_lossy().into_owned()));
        self.carry_out(wish, |port| program(port, values))
    }

    /// Runs a server with more options until Ctrl+C. `open` makes what it needs before it greets.
    pub fn serve_with<T>(
        &self,
        extras: &[Extra],
        open: impl FnOnce(&EventLoop, &[String]) -> io::Result<T>,
        serve: impl FnOnce(EventLoop, T) -> io::Result<()>,
    ) -> ExitCode {
        self.run_with(extras, |port, values| {
            let mut server = EventLoop::bind(("127.0.0.1", port), Limits::default())?;
            let opened = open(&server, &values)?;
            server.watch_signals()?;
            self.greet(server.local_address());
            serve(server, opened)
        })
    }

    /// Carries out a wish, except for [`Wish::Measure`].
    pub fn carry_out(&self, wish: Wish, program: impl FnOnce(u16) -> io::Result<()>) -> ExitCode {
        match wish {
            Wish::Run(port) => match program(port) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => self.complain(port, &error),
            },
            Wish::Measure(_) => ExitCode::SUCCESS, // refused where `costs` is empty
            Wish::Exit(code) => code,
        }
    }

    /// Reads the command line. Prints the help or the complaint itself.
    pub fn wish(&self) -> Wish {
        self.wish_of(env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
    }

    /// Reads the given arguments.
    pub fn wish_of(&self, arguments: impl Iterator<Item = String>) -> Wish {
        self.read(&[], arguments).0
    }

    /// Reads arguments, and the values of more options.
    fn read(&self, extras: &[Extra], arguments: impl Iterator<Item = String>) -> (Wish, Vec<String>) {
        let mut values = extras.iter().map(|extra| extra.default.to_owned()).collect::<Vec<_>>();
        (self.read_into(extras, &mut values, arguments), values)
    }

    fn read_into(&self, extras: &[Extra], values: &mut [String], mut arguments: impl Iterator<Item = String>) -> Wish {
        let mut port = self.port;
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            match name {
                "--help" | "-h" => {
                    let _ = writeln!(io::stdout(), "{}", self.help(extras));
                    return Wish::Exit(ExitCode::SUCCESS);
                }
                "--measure" if !self.costs.is_empty() => {
                    return Wish::Measure(value.and_then(|number| number.parse().ok()));
                }
                "--port" => match value.or_else(|| arguments.next()).as_deref().map(parse_port) {
                    Some(Some(number)) => port = number,
                    _ => return self.refuse("--port: expected a number from 0 to 65535"),
                },
                _ => {
                    let extra = extras.iter().position(|extra| extra.usage.split(' ').next() == Some(name));
                    let Some(at) = extra else { return self.refuse(&format!("unknown argument {argument:?}")) };
                    match value.or_else(|| arguments.next()) {
                        Some(value) => values[at] = value,
                        None => return self.refuse(&format!("{name}: expected a value")),
                    }
                }
            }
        }
        Wish::Run(port)
    }

    fn help(&self, extras: &[Extra]) -> String {
        let (name, port, about) = (self.name, self.port, self.about);
        let port = format!("the port; 0 lets the system choose (default {port})");
        let mut lines = vec![("--port PORT", port)];
        if !self.costs.is_empty() {
            lines.push(("--measure", "print what the transport costs, measured here and now, and exit".to_owned()));
        }
        lines.extend(extras.iter().map(|extra| (extra.usage, format!("{} (default {})", extra.about, extra.default))));
        lines.push(("--help", "print this and exit".to_owned()));
        let width = lines.iter().map(|(usage, _)| usage.len()).max().unwrap_or(0);
        let lines = lines.iter().map(|(usage, about)| format!("  {usage:<width$}  {about}"));
        format!("{name}: {about}\n\nusage: {name} [OPTIONS]\n\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    fn refuse(&self, complaint: &str) -> Wish {
        let name = self.name;
        self.print_error(&format!("{complaint}\nTry `{name} --help`."));
        Wish::Exit(ExitCode::from(2))
    }

    /// Prints the address and the first command to try. A closed stdout is not an error.
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

    /// Prints why the program cannot continue.
    pub fn complain(&self, port: u16, error: &io::Error) -> ExitCode {
        match error.kind() {
            ErrorKind::AddrInUse => {
                self.print_error(&format!(
                    "port {port} is in use: end the other server, or choose another port with --port"
                ));
            }
            ErrorKind::ConnectionRefused => {
                self.print_error(&format!("no server listens on port {port}: start the lesson's server first"));
            }
            _ => self.print_error(&error.to_string()),
        }
        ExitCode::FAILURE
    }

    /// Prints a line on standard error, which may be closed or full.
    fn print_error(&self, complaint: &str) {
        let _ = writeln!(io::stderr(), "{}: {complaint}", self.name);
    }
}

fn parse_port(text: &str) -> Option<u16> {
    u16::try_from(digits(text.as_bytes())?).ok()
}
