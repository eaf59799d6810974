//! The program `wire` in a test, and servers of the test that it connects to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::common::{Client, PATIENCE};

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
pub const MASK: &str = "37fa213d";

/// The running program. It ends with the test.
pub struct Wire {
    pub process: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<BufReader<ChildStdout>>,
}

/// The exit code, standard output without the column of times, and standard error.
pub type Ended = (Option<i32>, String, String);

impl Wire {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wire"));
        command.args(arguments);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.take().map(BufReader::new);
        Wire { stdin: process.stdin.take(), stdout, process }
    }

    pub fn type_in(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads lines up to and including the first that contains `end`.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().unwrap_or_default().contains(end) {
            assert!(
                self.stdout.as_mut().unwrap().read_line(&mut text).unwrap() > 0,
                "the end came before {end:?}: {text}"
            );
        }
        without_times(&text)
    }

    /// Presses Ctrl+C.
    pub fn interrupt(&self) {
        let mut kill = Command::new("sh");
        assert!(kill.args(["-c", &format!("kill -s INT {}", self.process.id())]).status().unwrap().success());
    }

    /// Types until the program ends. The receiver gets the number of bytes of each text that was read.
    pub fn type_endlessly(&mut self, first: &str, text: &'static str) -> mpsc::Receiver<usize> {
        self.type_in(first);
        let mut stdin = self.stdin.take().unwrap();
        let (sender, taken) = mpsc::channel();
        thread::spawn(move || while stdin.write_all(text.as_bytes()).is_ok() && sender.send(text.len()).is_ok() {});
        taken
    }

    /// Waits until the program ends by itself.
    pub fn end(mut self) -> Ended {
        self.stdin = None;
        let output = read_aside(self.stdout.take().unwrap());
        let complaint = read_aside(self.process.stderr.take().unwrap());
        let output = output.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            self.process.kill().unwrap();
            output.recv().unwrap()
        });
        (self.process.wait().unwrap().code(), without_times(&output), complaint.recv().unwrap())
    }
}

/// Reads `source` to its end in a thread.
pub fn read_aside(mut source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        let _ = sender.send(text);
    });
    receiver
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn run(arguments: &[&str], typed: &str) -> Ended {
    let mut wire = Wire::start(arguments);
    wire.type_in(typed);
    wire.end()
}

/// Removes the first column, the time in seconds: seven characters with three decimals.
pub fn without_times(output: &str) -> String {
    let lines = output.lines().map(|line| {
        let (time, rest) = line.split_at_checked(8).unwrap_or_else(|| panic!("no time: {line:?}"));
        assert!(time.trim().parse::<f64>().is_ok() && time.as_bytes()[3] == b'.' && time.ends_with(' '), "{line:?}");
        format!("{rest}\n")
    });
    lines.collect()
}

/// Removes the indentation of a transcript in a test.
pub fn transcript(text: &str) -> String {
    text.trim().lines().map(|line| format!("{}\n", line.trim_start())).collect()
}

/// A server that does what a test says, in a thread.
pub struct ScriptedServer {
    address: SocketAddr,
    pub thread: JoinHandle<()>,
}

/// The listener of a scripted server.
pub struct Listener(TcpListener);

impl Listener {
    pub fn accept(&self) -> Client {
        let (listener, (sender, accepted)) = (self.0.try_clone().unwrap(), mpsc::channel());
        thread::spawn(move || sender.send(listener.accept().unwrap().0));
        Client::of(accepted.recv_timeout(PATIENCE).expect("the program connects"))
    }
}

impl ScriptedServer {
    pub fn start(serve: impl FnOnce(Listener) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ScriptedServer { address, thread: thread::spawn(move || serve(Listener(listener))) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/x", self.address)
    }

    /// Starts `wire` with this server. A WebSocket has all the time that it needs, unless an option says otherwise.
    pub fn start_wire(&self, transport: &str, options: &[&str]) -> Wire {
        let has_time = transport != "ws" || options.contains(&"--timeout");
        let time = if has_time { &[][..] } else { &["--timeout", "3600"] };
        Wire::start(&[&[transport, &self.url()], time, options].concat())
    }

    /// Runs `wire` with this server, and waits for the ends of both. `ADDRESS` replaces the address.
    pub fn run_wire(self, transport: &str, options: &[&str], typed: &str) -> Ended {
        let mut wire = self.start_wire(transport, options);
        wire.type_in(typed);
        wire.stdin = None;
        let (code, output, complaint) = wire.end();
        if let Err(panic) = self.thread.join() {
            eprintln!("{code:?}: {output:.10000}{complaint}");
            std::panic::resume_unwind(panic);
        }
        let hide = |text: String| text.replace(&self.address.to_string(), "ADDRESS");
        (code, hide(output), hide(complaint))
    }
}

/// Reads a request and checks its line and its fields after Host.
#[track_caller]
pub fn expect_request(client: &mut Client, line: &str, fields: &str) {
    let head = client.head();
    let host = client.stream.local_addr().unwrap();
    assert_eq!(head, format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
}

/// Reads an opening handshake and accepts it.
pub fn accept_websocket(client: &mut Client) {
    let fields = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    expect_request(client, "GET /x", &fields);
    client.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    ));
}

/// A server that sends `bytes` on an open WebSocket, and then reads to the end.
pub fn websocket_that_sends(bytes: impl AsRef<[u8]> + Send + 'static) -> ScriptedServer {
    ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        client.send(bytes);
        client.finish();
        client.read_to_end();
    })
}

/// Runs `wire ws` with such a server. The output begins after the handshake.
pub fn run_ws(bytes: impl AsRef<[u8]> + Send + 'static, options: &[&str]) -> Ended {
    let options = [&["--key", KEY, "--mask", MASK, "--count", "9"], options].concat();
    let (code, output, complaint) = websocket_that_sends(bytes).run_wire("ws", &options, "");
    let (_, output) = output.split_once("frames follow\n").unwrap_or_else(|| panic!("{output}{complaint}"));
    (code, output.to_owned(), complaint)
}

/// A server that sends `answer` to the first request, and then closes the connection.
pub fn server_that_answers(answer: impl AsRef<[u8]> + Send + 'static) -> ScriptedServer {
    ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        client.head();
        client.send(answer);
    })
}
