//! A process of Redis that is killed and started again on the same port.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::node::free_port;

/// The time in which a process starts and loads its file, many times over.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Redis {
    pub port: u16,
    folder: PathBuf,
    keeps_all: bool,
    running: Option<Child>,
}

impl Redis {
    /// Starts a process on a free port. If it `keeps_all`, a command is in the append-only file before its reply.
    /// Otherwise there are only snapshots.
    pub fn start(keeps_all: bool) -> io::Result<Self> {
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("overwire-survival-{}-{port}", process::id()));
        fs::create_dir_all(&folder)?;
        let mut redis = Redis { port, folder, keeps_all, running: None };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts the process again, and waits until it answers.
    pub fn restart(&mut self) -> io::Result<()> {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&self.folder);
        if self.keeps_all {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        self.running = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        let start = Instant::now();
        while self.command("PING").is_none_or(|answer| !answer.starts_with("+PONG")) {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("Redis does not answer on port {port}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut process) = self.running.take() else { return Ok(()) };
        process.kill()?;
        process.wait().map(drop)
    }

    /// Writes a snapshot, which the next process starts with.
    pub fn save(&self) {
        self.command("SAVE");
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let Some(process) = &self.running else { return Ok(()) };
        Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status().map(drop)
    }

    fn command(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 64];
        let count = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..count]).into_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.signal("CONT");
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
