//! A server process that is killed and started again on the same port.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The ports to choose from. They are below those that Linux gives to outgoing connections, which could take the port
/// of a server while it is dead.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A server.
pub struct Node {
    program: PathBuf,
    arguments: Vec<String>,
    pub address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    process: Child,
    /// Its standard output after the first line. Nobody reads it.
    _output: BufReader<ChildStdout>,
}

impl Node {
    /// Starts a server on a free port, with further arguments.
    pub fn start(program: PathBuf, arguments: Vec<String>) -> io::Result<Self> {
        let address = ([127, 0, 0, 1], free_port()?).into();
        let mut node = Node { program, arguments, address, running: None };
        node.restart()?;
        Ok(node)
    }

    /// Starts the server again, and waits until it listens.
    pub fn restart(&mut self) -> io::Result<()> {
        let mut process = Command::new(&self.program)
            .args(["--no-tap", "--port", &self.address.port().to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        self.running = Some(Running { process, _output: output });
        let is_listening = line.trim_end().ends_with(&self.address.to_string());
        if is_listening { Ok(()) } else { Err(io::Error::other(format!("the server has not started: {line:?}"))) }
    }

    /// Kills the server with SIGKILL. An error if it had ended by itself.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(Running { mut process, .. }) = self.running.take() else { return Ok(()) };
        if let Some(status) = process.try_wait()? {
            return Err(io::Error::other(format!("the server ended by itself: {status}")));
        }
        process.kill()?;
        process.wait().map(drop)
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let Some(Running { process, .. }) = &self.running else { return Ok(()) };
        let status = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name}: {status}"))) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Returns a port that nobody listens on.
pub fn free_port() -> io::Result<u16> {
    let first = PORTS.start + (std::process::id() % 10_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..PORTS.end).find(is_free).ok_or_else(|| io::Error::other("no free port"))
}
