//! The processes: Redis, and servers on a listening socket that outlives them.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for a process to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program with the listening socket, its standard input at first, as file descriptor 3.
const ACTIVATE: &str = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;

/// A Redis that keeps nothing on the disk.
pub struct Redis {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Redis {
    pub fn start() -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("overwire-followers-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&folder);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = process.map_err(|error| io::Error::other(format!("redis-server: {error}")))?;
        let (redis, start) = (Redis { process, folder, port }, Instant::now());
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("redis-server does not listen"));
            }
            thread::sleep(Duration::from_millis(5)); // a process that starts has no event to wait for
        }
        Ok(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A listening socket for servers to share.
pub struct Socket(TcpListener);

impl Socket {
    pub fn open() -> io::Result<Self> {
        TcpListener::bind("127.0.0.1:0").map(Socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a socket that listens has an address")
    }

    /// Starts a server on this socket, and waits until it serves.
    pub fn serve(&self, program: &Path, arguments: &[&str]) -> io::Result<Server> {
        let mut command = Command::new("sh");
        command.args(["-c", ACTIVATE]).arg(program).arg("--no-tap").args(arguments);
        let mut process = command.stdin(OwnedFd::from(self.0.try_clone()?)).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let server = Server { process, _output: output };
        match line.starts_with("listening on ") {
            true => Ok(server),
            false => Err(io::Error::other(format!("{}: it has not started", program.display()))),
        }
    }
}

/// A running server.
pub struct Server {
    process: Child,
    /// Its standard output after the first line. Nobody reads it.
    _output: BufReader<ChildStdout>,
}

impl Server {
    /// Asks for an orderly end.
    pub fn terminate(&self) -> io::Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill: {status}"))) }
    }

    /// Waits for the end, which must be orderly.
    pub fn expect_success(&mut self) -> io::Result<()> {
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the old server: {status}"))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
