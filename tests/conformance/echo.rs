//! An echo server for conformance suites, for the contents of HTTP requests and for WebSocket messages.
//! `cargo run --release --example echo -- --port 9001 --max-message 67108864`
//!
//! - any method at `/`: 200 with the content of the request
//! - any method at `/echo`: 200 with the field lines of the request, as text/plain
//! - WebSocket at `/ws`: text as text, binary as binary

use std::process::ExitCode;
use std::{env, io};

use overwire::http::{Request, Response};
use overwire::{Event, EventLoop, ExchangeId, Limits, websocket};

const USAGE: &str = "usage: echo [--port 9001] [--max-message BYTES] [--any-host]
  --port         the port on 127.0.0.1; 0 lets the system choose
  --max-message  the longest WebSocket message in bytes, also the limit of an outbox (default 1048576)
  --any-host     accept any Host field, not only names of the loopback address";

struct Options {
    port: u16,
    max_message: usize,
    any_host: bool,
}

fn main() -> ExitCode {
    let options = match parse(env::args_os().skip(1).map(|word| word.to_string_lossy().into())) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: port {}: {error}", options.port);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { port: 9001, max_message: Limits::default().message, any_host: false };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
            value.parse::<usize>().map_err(|_| format!("{argument}: expected a number, not {value:?}"))
        };
        match argument.as_str() {
            "--port" => options.port = number()?.try_into().map_err(|_| "--port: expected 0 to 65535")?,
            "--max-message" => options.max_message = number()?,
            "--any-host" => options.any_host = true,
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> io::Result<()> {
    let limits = Limits { message: options.max_message, outbox: options.max_message.max(1 << 20), ..Limits::default() };
    let mut server = EventLoop::bind(("127.0.0.1", options.port), limits)?;
    server.watch_signals()?;
    println!("http://{} and ws://{}/ws", server.local_address(), server.local_address());
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => answer(&mut server, conn, &request, options.any_host),
            Event::Message(conn, message) => server.send_message(conn, message),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

fn answer(server: &mut EventLoop, conn: ExchangeId, request: &Request, any_host: bool) {
    let is_loopback = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    if !any_host && !request.host_name().is_none_or(is_loopback) {
        return server.respond(conn, Response::error(421, "expected a Host of localhost, 127.0.0.1 or [::1]"));
    }
    match &*request.path() {
        "/" | "*" => {
            let content = request.content().to_vec();
            server.respond(conn, Response::new(200).with_content("application/octet-stream", content));
        }
        "/echo" => server.respond(conn, Response::text(200, field_lines(request))),
        "/ws" => match websocket::accept(request, &[]) {
            Ok(accepted) => server.upgrade(conn, accepted),
            Err(error) => server.respond(conn, error.response()),
        },
        _ => server.respond(conn, Response::error(404, "expected /, /echo or /ws")),
    }
}

fn field_lines(request: &Request) -> Vec<u8> {
    let line = |(name, value): (&str, &[u8])| [name.as_bytes(), b": ", value, b"\r\n"].concat();
    request.fields().flat_map(line).collect()
}
