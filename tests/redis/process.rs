//! A `redis-server` process on a port of the loopback interface, in a folder of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, free_port};
use overwire::resp::{self, Decoder, Value};

/// The program: `redis-server`, or the one that the variable `REDIS_SERVER` names.
fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into())
}

/// Whether `redis-server` is installed. Where it is not, the tests that need it pass without a check, unless the variable
/// `TESTS_NEED_REDIS` is set.
pub fn is_installed() -> bool {
    let found = Command::new(program()).arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("TESTS_NEED_REDIS").is_none(), "redis-server is not installed");
    found
}

/// A process, and what starts it again.
pub struct Process {
    child: Option<Child>,
    folder: PathBuf,
    /// The port, which stays the same after a restart.
    pub port: u16,
    arguments: Vec<String>,
}

impl Process {
    /// Chooses a free port and a folder. Nothing listens yet.
    pub fn new(arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("overwire-redis-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Process { child: None, folder, port, arguments }
    }

    /// Creates and starts a process.
    pub fn started(arguments: &[&str]) -> Self {
        let mut process = Process::new(arguments);
        process.start();
        process
    }

    /// Starts the process, and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.child.is_none());
        let port = self.port.to_string();
        let mut command = Command::new(program());
        command.args(["--port", &port, "--bind", "127.0.0.1", "--dir"]).arg(&self.folder);
        command.args(["--save", ""]).args(&self.arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.try_command(&["PING"])
                && answer.error_code() != Some("LOADING")
            {
                return;
            }
            assert!(Instant::now() < deadline, "redis-server does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(5)); // a process that starts has no event to wait for
        }
    }

    /// Ends the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal: `STOP` or `CONT`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    /// Runs a command on a new connection, and returns its reply.
    pub fn command(&self, arguments: &[&str]) -> Value {
        self.try_command(arguments).unwrap()
    }

    fn try_command(&self, arguments: &[&str]) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let mut bytes = Vec::new();
        resp::command(&mut bytes, &arguments.iter().map(|argument| argument.as_bytes()).collect::<Vec<_>>());
        stream.write_all(&bytes).ok()?;
        let (mut decoder, mut buffer) = (Decoder::new(1 << 20), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            if let Some(value) = decoder.decode(&mut &buffer[..count]).unwrap() {
                return Some(value);
            }
        }
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal("CONT");
        }
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
