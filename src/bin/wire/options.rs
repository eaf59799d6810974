//! The command line.

use std::time::Duration;

use overwire::bytes::digits;
use overwire::{http, websocket};

use crate::url::Url;
use crate::via::Via;

const USAGE: &str = "\
wire: prints what goes over the wire, in both directions, and what it is

usage: wire poll|stream|sse|ws URL [OPTIONS]
       wire tap URL [--port PORT]

  poll     asks again and again; `last_message_id` of an answer goes into the next question
  stream   reads one answer that does not end, a line of JSON a message
  sse      reads an event stream, and reconnects as a browser does
  ws       opens a WebSocket and sends each line of standard input as a text message; also:
             /ping [TEXT]  /pong [TEXT]  /binary HEX  /close [CODE [REASON]]
             /hex HEX   sends these bytes as they are, right or wrong
             /wait      waits for a message, a Pong or a Close before it reads the next line
             //TEXT     sends /TEXT
  tap      relays between any client and the server at URL, and shows the bytes of both in a page

URL is http://host:port/path, or the same with ws://. https:// and wss:// need --via. Redirects are
followed as in a browser: at most 20, and none for a WebSocket. Ctrl+C closes a WebSocket with 1001.

  --count N             end after N messages (poll: answers)
  --interval S          poll: seconds between two questions when there is no news; poll and
                        stream: the first bound of the wait before reconnecting (default 1);
                        Retry-After of an error makes the wait longer, by up to 300 s
  --last-event-id ID    sse: the Last-Event-ID to begin with
  --key BASE64          ws: the Sec-WebSocket-Key, else random
  --mask HEX            ws: the masking-key of every frame, such as 37fa213d, else random
  --timeout S           ws: seconds that the server may take for the opening handshake, to take
                        what is sent, and for the closing handshake (default 10, 30 and 5, or
                        1 after Ctrl+C)
  --frames              ws: leave out the opening handshake
  --via COMMAND         speak through the standard input and output of a command, as with ssh's
                        ProxyCommand; %h and %p are host and port, %% is %. For TLS:
                          --via 'openssl s_client -quiet -servername %h -connect %h:%p'
                        which takes any certificate: -verify_return_error is stricter
  --header 'NAME: VALUE'  a field line of every request, in place of its own (repeatable)
  --show-secrets        print, or show in the tap, what is masked otherwise: the values of Cookie,
                        Set-Cookie, Authorization and Proxy-..., and of ticket and access_token in
                        a URL. A * stands for each byte, so all lengths are true
  --port PORT           tap: the port to listen on; 0 lets the system choose (default 8100)
  --no-reconnect        end when the connection does
  --all                 print all of a long payload
  --help                print this and exit
  --version             print the version and exit

> is sent, < is received, * is a remark; the time is in seconds since the start.
\\r and \\n stand for the bytes 0d and 0a, and other control characters are escaped as well; a
backslash that would look like the beginning of such an escape is doubled.
Exit code: 0 done, 1 the connection or the protocol failed, 2 the command line is wrong.";

/// The first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Poll,
    Stream,
    Sse,
    Ws,
    Tap,
}

#[derive(Debug)]
pub struct Options {
    pub command: Command,
    pub url: Url,
    pub count: Option<u64>,
    pub interval: Duration,
    pub last_event_id: String,
    pub key: Option<String>,
    pub mask: Option<[u8; 4]>,
    pub timeout: Option<Duration>,
    /// The names and values of `--header`.
    pub fields: Vec<(String, String)>,
    pub reconnect: bool,
    pub all: bool,
    /// Whether the opening handshake of a WebSocket is left out.
    pub frames: bool,
    /// The program to speak through.
    pub via: Option<Via>,
    /// Whether secrets are printed.
    pub shows_secrets: bool,
    /// The port of the tap.
    pub port: u16,
}

impl Options {
    /// The values of a field of `--header`.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The result of the command line.
pub enum Action {
    Run(Box<Options>),
    Print(String),
}

pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Action, String> {
    let arguments = arguments.flat_map(|argument| match argument.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ => vec![argument],
    });
    let mut arguments = arguments.peekable();
    let (mut command, mut url, mut typed_url) = (None, None, String::new());
    let mut options = Options {
        command: Command::Poll,
        url: Url { is_secure: false, host: String::new(), port: 0, authority: String::new(), target: String::new() },
        count: None,
        interval: Duration::from_secs(1),
        last_event_id: String::new(),
        key: None,
        mask: None,
        timeout: None,
        fields: Vec::new(),
        reconnect: true,
        all: false,
        frames: false,
        via: None,
        shows_secrets: false,
        port: 8100,
    };
    let (mut only_for, mut not_for_tap) = (Vec::new(), None);
    while let Some(argument) = arguments.next() {
        if argument.starts_with("--") && !["--port", "--show-secrets"].contains(&&*argument) {
            not_for_tap.get_or_insert(argument.clone());
        }
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--count" => options.count = Some(count(&value()?)?),
            "--interval" => options.interval = seconds("--interval", &value()?)?,
            "--last-event-id" => {
                options.last_event_id = one_line("--last-event-id", value()?)?;
                only_for.push((argument, Command::Sse, "sse"));
            }
            "--key" => {
                options.key = Some(key(value()?)?);
                only_for.push((argument, Command::Ws, "ws"));
            }
            "--mask" => {
                options.mask = Some(mask(&value()?)?);
                only_for.push((argument, Command::Ws, "ws"));
            }
            "--timeout" => {
                options.timeout = Some(seconds("--timeout", &value()?)?);
                only_for.push((argument, Command::Ws, "ws"));
            }
            "--port" => {
                options.port = port(&value()?)?;
                only_for.push((argument, Command::Tap, "tap"));
            }
            "--header" => options.fields.push(field(value()?)?),
            "--no-reconnect" => options.reconnect = false,
            "--all" => options.all = true,
            "--show-secrets" => options.shows_secrets = true,
            "--via" => options.via = Some(Via::parse(value()?)?),
            "--frames" => {
                options.frames = true;
                only_for.push((argument, Command::Ws, "ws"));
            }
            "--help" | "-h" => return Ok(Action::Print(USAGE.into())),
            "--version" | "-V" => return Ok(Action::Print(format!("wire {}", env!("CARGO_PKG_VERSION")))),
            option if option.starts_with('-') => return Err(format!("unknown argument {option:?}")),
            name if command.is_none() => command = Some(command_of(name)?),
            text if url.is_none() => {
                url = Some(Url::parse(text)?);
                typed_url = text.to_owned();
            }
            other => return Err(format!("unknown argument {other:?}")),
        }
    }
    options.command = command.ok_or("expected poll, stream, sse, ws or tap, and a URL")?;
    options.url = url.ok_or("expected a URL, such as http://127.0.0.1:8000/")?;
    let is_last_event_id = |(name, _): &(String, String)| name.eq_ignore_ascii_case("last-event-id");
    if options.command == Command::Sse && options.fields.iter().any(is_last_event_id) {
        return Err("--header: Last-Event-ID changes with the events: it begins with --last-event-id".to_owned());
    }
    if let (Command::Tap, Some(option)) = (options.command, not_for_tap) {
        return Err(format!("{option} is not for tap"));
    }
    check_scheme(&options, &options.url, &typed_url)?;
    match only_for.iter().find(|(_, only, _)| *only != options.command) {
        Some((option, _, name)) => Err(format!("{option} is for {name} only")),
        None => Ok(Action::Run(Box::new(options))),
    }
}

/// Refuses a URL that needs TLS without a program that adds it.
pub fn check_scheme(options: &Options, url: &Url, shown: &str) -> Result<(), String> {
    match options.command {
        _ if !url.is_secure || options.via.is_some() => Ok(()),
        Command::Tap => Err(format!("{shown:?} needs TLS, which wire tap does not have")),
        _ => Err(format!("{shown:?} needs TLS, which wire does not have: --via runs a program that adds it")),
    }
}

fn command_of(name: &str) -> Result<Command, String> {
    match name {
        "poll" => Ok(Command::Poll),
        "stream" => Ok(Command::Stream),
        "sse" => Ok(Command::Sse),
        "ws" => Ok(Command::Ws),
        "tap" => Ok(Command::Tap),
        _ => Err(format!("expected poll, stream, sse, ws or tap, not {name:?}")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let number = digits(text.as_bytes()).and_then(|number| u16::try_from(number).ok());
    number.ok_or(format!("--port: expected 0 to 65535, not {text:?}"))
}

/// A number above 0.
fn count(text: &str) -> Result<u64, String> {
    digits(text.as_bytes())
        .filter(|number| *number > 0)
        .ok_or(format!("--count: expected a number above 0, not {text:?}"))
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = text.parse().ok().filter(|number| is_decimal && *number <= 86_400.0);
    number.map(Duration::from_secs_f64).ok_or(format!("{option}: expected 0 to 86400 seconds, not {text:?}"))
}

fn key(text: String) -> Result<String, String> {
    match websocket::is_key(text.as_bytes()) {
        true => Ok(text),
        false => Err(format!("--key: expected 16 bytes in base64, such as dGhlIHNhbXBsZSBub25jZQ==, not {text:?}")),
    }
}

fn mask(text: &str) -> Result<[u8; 4], String> {
    let bytes = hex(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(format!("--mask: expected 8 hex digits, such as 37fa213d, not {text:?}"))
}

/// Parses hex digits, two a byte. Spaces between bytes are skipped.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in text.split_ascii_whitespace() {
        for pair in word.as_bytes().chunks(2) {
            let digits = str::from_utf8(pair).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)?);
        }
    }
    Some(bytes)
}

fn one_line(option: &str, text: String) -> Result<String, String> {
    match text.contains(|character: char| character.is_ascii_control() && character != '\t') {
        true => Err(format!("{option}: expected text without control characters, not {text:?}")),
        false => Ok(text),
    }
}

fn field(text: String) -> Result<(String, String), String> {
    let text = one_line("--header", text)?;
    match text.split_once(':') {
        Some((name, value)) if http::is_token(name.as_bytes()) => Ok((name.to_owned(), value.trim().to_owned())),
        _ => Err(format!("--header: expected 'Name: value', not {text:?}")),
    }
}
