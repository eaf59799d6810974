//! The command line of the server. It also starts a tap to the server, whose page shows the bytes.

#[path = "main/bounds.rs"]
mod bounds;
#[path = "main/environment.rs"]
mod environment;
#[path = "main/health.rs"]
mod health;
#[path = "main/key.rs"]
mod key;
#[path = "main/log.rs"]
mod log;

use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use overwire::bytes::digits;
use overwire::heap;
use overwire::http::{Origins, is_token};
use overwire::identity::read_keys;
use overwire::journal::disk::{Data, OpenError, SyncMode, System};
use overwire::output::{self, Output, complain};
use overwire::proxies::Proxies;
use overwire::quotas::Bound;
use overwire::server::{Config, Server};
use overwire::tap::{Mode, Tap, TapConfig};
use overwire::{Limits, LogFormat, Remote, activation};

use self::environment::Environment;
use self::key::KeyCommand;
use self::log::LogCommand;

/// The port of the tap, unless the system chooses the server's.
const TAP_PORT: u16 = 8100;

/// The most connections of the tap: two for each client. It shares the limit on open files with the server.
const TAP_CONNECTIONS: usize = 1024;

/// The time that the clients of the tap have to end after the server has shut down.
const TAP_DRAIN_TIME: Duration = Duration::from_secs(1);

const USAGE: &str = "\
overwire: real-time web transports, byte by byte

usage: overwire [OPTIONS]
       overwire key add|list|revoke ... --keys FILE   (see `overwire key --help`)
       overwire log DIR [ROOM]   print the log in a folder: each record, its bytes and its meaning
       overwire log DIR --check  read it to the end, and say what it has

  --host HOST            the address to listen on (default 127.0.0.1)
  --port PORT            the port to listen on; 0 lets the system choose (default 8000)
  --static DIR           serve the browser client from this folder, not from the binary:
                         files of up to 4 MiB each
  --log[=json]           print a line for each request: time, client, method, target, status,
                         bytes of the answer, duration; lines that are not read in time
                         are dropped and counted. With json, each line is an object, which
                         also has the identity and the reason of an end, and nothing else is
                         printed on standard output
  --allow-origin ORIGIN  let pages of this origin use the server (repeatable),
                         for example https://example.com
  --allow-host NAME      a name of the server in addition to its address and localhost (repeatable)
  --trust-proxy ADDRESS  believe what a proxy at this address, or in this network such as
                         10.0.0.0/8, says of its clients in Forwarded and X-Forwarded-For,
                         -Proto and -Host (repeatable): for --log and the check of Origin
  --proxy-protocol       each connection begins with a header of the PROXY protocol, version 1
                         or 2, as haproxy sends it; needs --trust-proxy; there is no tap then
  --retain-messages N    retain the newest N messages of a room (default 1000)
  --retain-bytes N       retain at most N bytes of messages of a room (default 1048576)
  --retain-time SECONDS  drop the messages of a room that are older, within ten seconds
                         (default: no bound)
  --max-rooms N          keep at most N rooms; another one takes the place of one that nobody
                         reads (default 256)
  --rate N               let a client publish N messages in a second (default 100)
  --per-client NAME=N    let a client have N connections (default 256), polls (100), streams (100),
                         websockets (100), signalling peers (64), rooms (64), mailboxes (1000),
                         or send N bytes in a second (4194304) (repeatable), for example
                         polls=10. A client is an identity, or else an address. Clients of
                         this machine are exempt, unless --rate or --per-client is given
  --data DIR             keep the messages in this folder, so that they outlive the process
  --sync WHEN            with --data: a message is sent and its sender answered when it is on
                         the disk (always, the default), or when the system has it, which
                         writes it every 100 ms (100ms) or when it likes (never)
  --redis URL            keep the messages in Redis, and share them with all servers that name the
                         same one: redis://[:PASSWORD@]HOST:PORT[/DB]; with --keys, also the
                         sessions and tickets
  --metrics ADDRESS      serve /metrics for Prometheus at this address, such as
                         127.0.0.1:9100, to everyone who reaches it by an address, as localhost,
                         or by a name given with --allow-host
  --keys FILE            let nobody use the API without an access key of this file, which
                         `overwire key add` writes. The file is read again when it changes,
                         and at SIGHUP if there is no terminal
  --identity-header NAME  believe a proxy of --trust-proxy that a request comes from the user whom it
                         names in this field, such as Remote-User, and let nobody else use the
                         API without a key. Such a user may read and send in all rooms, or has the
                         rights and rooms of the newest key of that name. There is no tap then
  --chaos                let pages make the server forget everything
  --tap-port PORT        the port of the tap, through which the same server is seen with its
                         bytes (default 8100, or any with --port 0)
  --tap-host HOST        the address of the tap (default: the loopback interface alone)
  --show-secrets         let the tap show cookies, keys and tickets, which it masks otherwise: a *
                         for each byte, so that all lengths are true
  --no-tap               start no tap
  --drain-delay SECONDS  after SIGTERM, be not ready, but go on for this time, so that a load
                         balancer sends nobody any more (default 0)
  --drain-time SECONDS   then end what is open, evenly, and be gone after this time (default 5)
  --check-config         check the options and the environment, print them, and exit
  --check-health         ask the running server at --host and --port whether it is alive, and exit
  --limits               print the most memory that all bounds together allow, and exit
  --help                 print this and exit
  --version              print the version and exit

Each option is also a variable of the environment: OVERWIRE_PORT=9000, OVERWIRE_LOG=1,
OVERWIRE_ALLOW_HOST=\"a.example b.example\". An option wins over its variable.
A supervisor may pass on the listening socket (LISTEN_FDS), in place of --host and --port.

Ctrl+C ends it in an orderly way. A second Ctrl+C ends it at once.";

enum Command {
    Serve(Box<Config>, TapOptions),
    Key(KeyCommand),
    Log(LogCommand),
    Print(String),
    /// Asks the server at this host and port.
    CheckHealth(String, u16),
}

/// The arguments about the tap.
#[derive(Default)]
struct TapOptions {
    host: Option<String>,
    port: Option<u16>,
    is_refused: bool,
    shows_secrets: bool,
}

/// A tap that runs in a separate thread.
struct RunningTap {
    address: SocketAddr,
    remote: Remote,
    thread: JoinHandle<()>,
}

fn main() -> ExitCode {
    heap::return_large_blocks();
    let code = run();
    output::standard_output().finish();
    output::standard_error().finish();
    code
}

fn run() -> ExitCode {
    let (config, tap_options) = match arguments().and_then(command) {
        Ok(Command::Serve(config, tap_options)) => (*config, tap_options),
        Ok(Command::Print(text)) => return print(&format!("{text}\n")),
        Ok(Command::Key(command)) => return manage_keys(command),
        Ok(Command::Log(command)) => return log::run(&command),
        Ok(Command::CheckHealth(host, port)) => return end(health::check(&host, port)),
        Err(complaint) => {
            complain(format_args!("{complaint}\nTry `overwire --help`."));
            return ExitCode::from(2);
        }
    };
    let (port, allow_hosts, log) = (config.port, config.allow_hosts.clone(), config.log);
    let mut server = match bind(config) {
        Ok(server) => server,
        Err(complaint) => return end(Err(complaint)),
    };
    let tap = start_tap(&server, tap_options, port, allow_hosts);
    server.set_tap_port(tap.as_ref().map(|tap| tap.address.port()));
    // A program that reads a log of JSON expects nothing else there.
    let out = if log == Some(LogFormat::Json) { output::standard_error() } else { output::standard_output() };
    greet(&out, &server, tap.as_ref());
    let result = server.run();
    if let Some(tap) = tap {
        tap.remote.shut_down();
        let _ = tap.thread.join(); // a panic has been printed
    }
    end(result)
}

/// The exit code of the program, after a complaint if something has failed.
fn end(result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Creates the server, on the socket that a supervisor has passed on, or on the address of the configuration.
fn bind(config: Config) -> Result<Server, String> {
    let (host, port) = (config.host.clone(), config.port);
    let server = match activation::take_socket()? {
        Some(socket) => Server::with_socket(socket, config),
        None => Server::bind(config),
    };
    server.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => format!("port {port} is in use: choose another one with --port"),
        _ if error.get_ref().is_some_and(|error| error.is::<OpenError>()) => error.to_string(),
        ErrorKind::Other => error.to_string(),
        _ => format!("cannot listen on {host}, port {port}: {error}"),
    })
}

/// Starts a tap to the server, if it is wanted. If the tap cannot start, the server runs without it.
fn start_tap(server: &Server, options: TapOptions, port: u16, allow_hosts: Vec<String>) -> Option<RunningTap> {
    let target = reachable(server.local_address());
    let is_asked_for = options.host.is_some() || options.port.is_some();
    // The tap shows bytes to all who reach it. Beyond this machine, it runs only on request.
    if options.is_refused || !(server.local_address().ip().is_loopback() || is_asked_for) {
        return None;
    }
    let loopback = if target.ip().is_loopback() { target.ip() } else { Ipv4Addr::LOCALHOST.into() };
    let limits = Limits::default();
    let config = TapConfig {
        host: options.host.unwrap_or_else(|| loopback.to_string()),
        port: options.port.unwrap_or(if port == 0 { 0 } else { TAP_PORT }),
        target,
        target_url: format!("http://{target}"),
        mode: Mode::Marked,
        allow_hosts,
        shows_secrets: options.shows_secrets,
        limits: Limits { connections: TAP_CONNECTIONS.min(limits.connections), drain_time: TAP_DRAIN_TIME, ..limits },
        signals: false,
    };
    let (host, port) = (config.host.clone(), config.port);
    match run_tap(config) {
        Ok(tap) => return Some(tap),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            complain(format_args!("port {port} is in use: no tap; choose another port with --tap-port"));
        }
        Err(error) => complain(format_args!("cannot listen on {host}, port {port}: {error}: no tap")),
    }
    None
}

/// Runs a tap in a separate thread. If it fails later, the server continues.
fn run_tap(config: TapConfig) -> io::Result<RunningTap> {
    let (sender, receiver) = mpsc::channel();
    let run = move || match Tap::bind(config) {
        Ok(tap) => {
            let _ = sender.send(Ok((tap.local_address(), tap.remote())));
            if let Err(error) = tap.run() {
                complain(format_args!("the tap has ended: {error}"));
            }
        }
        Err(error) => drop(sender.send(Err(error))),
    };
    let thread = thread::Builder::new().name("tap".into()).spawn(run)?;
    let (address, remote) = receiver.recv().map_err(io::Error::other)??;
    Ok(RunningTap { address, remote, thread })
}

/// Prints the addresses. The server runs even if the output is closed, full, or not read.
fn greet(out: &Output, server: &Server, tap: Option<&RunningTap>) {
    let url = format!("http://{}", reachable(server.local_address()));
    let mut text = format!("listening on {url}\n");
    let mut page = url.clone();
    if let Some(tap) = tap {
        page = format!("http://{}", reachable(tap.address));
        text += &format!("the same server, seen through a tap that shows the bytes: {page}\n");
    }
    if let Some(address) = server.metrics_address() {
        text += &format!("metrics for Prometheus: http://{}/metrics\n", reachable(address));
    }
    text += &format!(
        "Three things to try:\n  \
         open {page}/ in two browser tabs\n  \
         curl -N {url}/api/events\n  \
         curl {url}/api/send -d '{{\"sender\": \"me\", \"text\": \"hello\"}}'\n"
    );
    out.write(&text);
}

/// An address at which a listener can be reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// The arguments. `--name=value` is two of them.
fn arguments() -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    for argument in env::args_os().skip(1) {
        let argument = argument.into_string().map_err(|argument| format!("{argument:?} is not UTF-8"))?;
        match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => arguments.extend([name.to_owned(), value.to_owned()]),
            _ => arguments.push(argument),
        }
    }
    Ok(arguments)
}

/// The command that the arguments and the environment ask for.
fn command(arguments: Vec<String>) -> Result<Command, String> {
    match arguments.split_first() {
        Some((first, rest)) if first == "key" => key::parse(rest).map(Command::Key),
        Some((first, rest)) if first == "log" => log::parse(rest).map(Command::Log),
        _ => with_environment(arguments),
    }
}

fn manage_keys(command: KeyCommand) -> ExitCode {
    key::run(command).map_or_else(|complaint| end(Err(complaint)), |text| print(&text))
}

fn print(text: &str) -> ExitCode {
    if write!(io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse_sync(text: &str) -> Result<SyncMode, String> {
    match text {
        "always" => Ok(SyncMode::Always),
        "100ms" => Ok(SyncMode::Every(Duration::from_millis(100))),
        "never" => Ok(SyncMode::Never),
        _ => Err(format!("--sync: expected always, 100ms or never, not {text:?}")),
    }
}

/// The command that the options and the environment ask for.
fn with_environment(mut arguments: Vec<String>) -> Result<Command, String> {
    let mut takes = |flag| {
        let at = arguments.iter().position(|argument| argument == flag);
        at.map(|at| arguments.remove(at)).is_some()
    };
    let (checks_config, checks_health) = (takes("--check-config"), takes("--check-health"));
    let prints_limits = takes("--limits");
    let environment = Environment::read(USAGE, &arguments)?;
    let all = environment.arguments().into_iter().chain(arguments.iter().cloned());
    match parse(all).map_err(|complaint| environment.explain(complaint))? {
        Command::Serve(..) if checks_config => Ok(Command::Print(environment.report(&arguments))),
        Command::Serve(config, tap) if prints_limits => Ok(Command::Print(bounds::report(&config, !tap.is_refused))),
        Command::Serve(config, _) if checks_health => Ok(Command::CheckHealth(config.host, config.port)),
        command => Ok(command),
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    let mut config = Config { signals: true, ..Config::default() };
    let (mut tap, mut data, mut sync) = (TapOptions::default(), None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--host" => config.host = value()?,
            "--port" => config.port = parse_port("--port", &value()?)?,
            "--tap-port" => tap.port = Some(parse_port("--tap-port", &value()?)?),
            "--tap-host" => tap.host = Some(value()?),
            "--no-tap" => tap.is_refused = true,
            "--show-secrets" => tap.shows_secrets = true,
            "--static" => {
                let folder = value()?;
                if !std::path::Path::new(&folder).is_dir() {
                    return Err(format!("--static: {folder:?} is not a folder"));
                }
                config.static_folder = Some(folder.into());
            }
            "--log" => {
                let is_json = arguments.next_if(|format| format == "json").is_some();
                config.log = Some(if is_json { LogFormat::Json } else { LogFormat::Text });
            }
            "--retain-messages" => config.retention.messages = number(&argument, &value()?, 1..=10_000_000)? as usize,
            "--retain-bytes" => config.retention.bytes = number(&argument, &value()?, 1..=1 << 40)? as usize,
            "--data" => data = Some(value()?),
            "--sync" => sync = Some(parse_sync(&value()?)?),
            "--redis" => config.redis = Some(value()?.parse().map_err(|error| format!("--redis: {error}"))?),
            "--retain-time" => {
                let seconds = number(&argument, &value()?, 1..=1_000_000_000)?;
                config.retention.time = Some(Duration::from_secs(seconds));
            }
            "--max-rooms" => config.retention.rooms = number(&argument, &value()?, 1..=1_000_000)? as usize,
            "--rate" => bounds::set(&mut config.limits, Bound::Rate, "--rate", &value()?)?,
            "--per-client" => bounds::set_named(&mut config.limits, &value()?)?,
            "--keys" => {
                let file = PathBuf::from(value()?);
                read_keys(&file).map_err(|error| format!("--keys: cannot read {file:?}: {error}"))?;
                config.keys = Some(file);
            }
            "--identity-header" => config.identity_header = Some(field_name(value()?)?),
            "--metrics" => config.metrics = Some(address(value()?)?),
            "--drain-delay" => config.drain.delay = Duration::from_secs(number(&argument, &value()?, 0..=3600)?),
            "--drain-time" => config.drain.time = Duration::from_secs(number(&argument, &value()?, 0..=3600)?),
            "--chaos" => config.chaos = true,
            "--allow-origin" => config.allow_origins.push(origin(value()?)?),
            "--trust-proxy" => config.trust_proxies.push(network(value()?)?),
            "--proxy-protocol" => config.proxy_protocol = true,
            "--allow-host" => config.allow_hosts.push(host(value()?)?),
            "--help" | "-h" => return Ok(Command::Print(USAGE.into())),
            "--version" | "-V" => return Ok(Command::Print(format!("overwire {}", env!("CARGO_PKG_VERSION")))),
            _ => return Err(format!("unknown argument {:?}", environment::without_password(&argument))),
        }
    }
    match (data, sync) {
        (Some(_), _) if config.redis.is_some() => return Err("--data: expected no --redis with it".into()),
        (Some(folder), sync) => {
            let (sync, files) = (sync.unwrap_or_default(), Arc::new(System));
            config.data = Some(Data { folder: folder.into(), sync, files });
        }
        (None, Some(_)) => return Err("--sync: expected --data with it".into()),
        (None, None) => {}
    }
    if tap.is_refused && (tap.host.is_some() || tap.port.is_some()) {
        return Err("--no-tap: expected no --tap-port and no --tap-host with it".into());
    }
    if config.proxy_protocol && config.trust_proxies.is_empty() {
        return Err("--proxy-protocol: expected --trust-proxy ADDRESS with it".into());
    }
    if config.proxy_protocol && (tap.host.is_some() || tap.port.is_some()) {
        return Err("--proxy-protocol: expected no --tap-port and no --tap-host with it".into());
    }
    if config.identity_header.is_some() && config.trust_proxies.is_empty() {
        return Err("--identity-header: expected --trust-proxy ADDRESS with it".into());
    }
    if config.identity_header.is_some() && (tap.host.is_some() || tap.port.is_some()) {
        return Err("--identity-header: expected no --tap-port and no --tap-host with it".into());
    }
    // A tap sends no header of the PROXY protocol. And it passes on any name, from an address that may be trusted.
    tap.is_refused |= config.proxy_protocol || config.identity_header.is_some();
    if tap.is_refused && tap.shows_secrets {
        return Err("--show-secrets: expected a tap, which would show them".into());
    }
    Ok(Command::Serve(Box::new(config), tap))
}

/// A whole number in `range`.
fn number(option: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let expected = || format!("{option}: expected {} to {}, not {text:?}", range.start(), range.end());
    digits(text.as_bytes()).filter(|number| range.contains(number)).ok_or_else(expected)
}

/// A port.
fn parse_port(option: &str, text: &str) -> Result<u16, String> {
    number(option, text, 0..=65535).map(|port| port as u16)
}

/// A name as in a Host field before the port, or an address.
fn host(text: String) -> Result<String, String> {
    let is_address = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if !is_address && (text.is_empty() || text.contains([':', '/', ' '])) {
        return Err(format!("--allow-host: expected a name without a port, such as chat.example, not {text:?}"));
    }
    Ok(text)
}

/// A host and a port.
fn address(text: String) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => parse_port("--metrics", port).map(|_| text),
        _ => Err(format!("--metrics: expected a host and a port, such as 127.0.0.1:9100, not {text:?}")),
    }
}

/// The name of a field, unless it has another meaning for this server.
fn field_name(text: String) -> Result<String, String> {
    const TAKEN: [&str; 4] = ["authorization", "cookie", "host", "origin"];
    if !is_token(text.as_bytes()) || TAKEN.contains(&text.to_lowercase().as_str()) {
        return Err(format!("--identity-header: expected the name of a field, such as Remote-User, not {text:?}"));
    }
    Ok(text)
}

fn network(text: String) -> Result<String, String> {
    Proxies::new([&text]).map_err(|error| format!("--trust-proxy: {error}"))?;
    Ok(text)
}

fn origin(text: String) -> Result<String, String> {
    Origins::new([&text]).map_err(|error| format!("--allow-origin: {error}"))?;
    Ok(text)
}
