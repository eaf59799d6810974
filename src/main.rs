//! The command line of the server.

use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use overwire::server::{Config, Server};

const USAGE: &str = "\
overwire: real-time web transports, byte by byte

usage: overwire [OPTIONS]

  --host HOST            the address to listen on (default 127.0.0.1)
  --port PORT            the port to listen on; 0 lets the system choose (default 8000)
  --static DIR           serve the browser client from this folder, not from the binary
  --log                  print a line for each request: time, peer, method, target, status,
                         bytes of the answer, duration
  --allow-origin ORIGIN  let pages of this origin use the server (repeatable),
                         for example https://example.com
  --allow-host NAME      answer to this Host too, besides the address and localhost (repeatable)
  --chaos                let pages have things go wrong on their connections: delays, cuts, a
                         server that forgets everything; to try out how a client recovers
  --help                 print this and exit
  --version              print the version and exit

Ctrl+C ends it in an orderly way; a second Ctrl+C ends it at once.";

enum Command {
    Serve(Box<Config>),
    Print(String),
}

fn main() -> ExitCode {
    // An argument that is not UTF-8 is shown as well as it can be.
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let arguments = arguments.flat_map(|argument| match argument.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ => vec![argument],
    });
    let config = match parse(arguments) {
        Ok(Command::Serve(config)) => *config,
        Ok(Command::Print(text)) => {
            return if writeln!(io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(complaint) => {
            eprintln!("overwire: {complaint}\nTry `overwire --help`.");
            return ExitCode::from(2);
        }
    };
    let (host, port) = (config.host.clone(), config.port);
    let server = match Server::bind(config) {
        Ok(server) => server,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            eprintln!("overwire: port {port} is in use: choose another one with --port");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("overwire: cannot listen on {host}, port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    greet(&server);
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overwire: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says where the server is. Standard output may be closed or full: that is no reason not to serve.
fn greet(server: &Server) {
    let mut address = server.local_address();
    if address.ip().is_unspecified() {
        // It listens on every address; this one is to be reached from here.
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let url = format!("http://{address}");
    let _ = writeln!(
        io::stdout(),
        "listening on {url}\n\
         Three things to try:\n  \
         open {url}/ in two browser tabs\n  \
         curl -N {url}/api/events\n  \
         curl {url}/api/send -d '{{\"sender\": \"me\", \"text\": \"hello\"}}'"
    );
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut config = Config { signals: true, ..Config::default() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--host" => config.host = value()?,
            "--port" => {
                let text = value()?;
                // `parse` alone would take `+5`.
                let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
                config.port = number.ok_or(format!("--port: expected 0 to 65535, not {text:?}"))?;
            }
            "--static" => {
                let folder = value()?;
                if !std::path::Path::new(&folder).is_dir() {
                    return Err(format!("--static: {folder:?} is not a folder"));
                }
                config.static_folder = Some(folder.into());
            }
            "--log" => config.log = true,
            "--chaos" => config.chaos = true,
            "--allow-origin" => config.allow_origins.push(origin(value()?)?),
            "--allow-host" => config.allow_hosts.push(host(value()?)?),
            "--help" | "-h" => return Ok(Command::Print(USAGE.into())),
            "--version" | "-V" => return Ok(Command::Print(format!("overwire {}", env!("CARGO_PKG_VERSION")))),
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    Ok(Command::Serve(Box::new(config)))
}

/// A name, as it stands in front of the port in a Host field.
fn host(text: String) -> Result<String, String> {
    if text.is_empty() || text.contains([':', '/', ' ']) {
        return Err(format!("--allow-host: expected a name without a port, such as chat.example, not {text:?}"));
    }
    Ok(text)
}

/// An origin is a scheme, a host and perhaps a port: no path, no `*`.
fn origin(text: String) -> Result<String, String> {
    match text.split_once("://") {
        // In lower case, as browsers write it.
        Some(("http" | "https", host)) if !host.is_empty() && !host.contains(['/', '*', ' ']) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(format!("--allow-origin: expected an origin such as https://example.com, not {text:?}")),
    }
}
