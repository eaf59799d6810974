//! The server under attack: a process that ends with the attack, and the figures of the operating system about it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running server.
pub struct Target {
    process: Child,
    pub address: SocketAddr,
    /// Its standard output after the first line. Nobody reads it.
    _output: BufReader<ChildStdout>,
}

/// The time on a core of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// In seconds, exactly.
    total: f64,
    /// In clock ticks, of which there are a hundred in a second.
    user: f64,
    system: f64,
}

impl Cpu {
    /// Returns the seconds on the core, in the program and in the system.
    pub fn shares(self) -> (f64, f64) {
        let ticks = self.user + self.system;
        let user = if ticks > 0.0 { self.total * self.user / ticks } else { self.total };
        (user, self.total - user)
    }

    /// Returns the seconds on the core.
    pub fn total(self) -> f64 {
        self.total
    }

    /// Adds what was spent between two readings.
    pub fn add(&mut self, before: Cpu, after: Cpu) {
        self.total += after.total - before.total;
        self.user += after.user - before.user;
        self.system += after.system - before.system;
    }
}

impl Target {
    /// Starts the server without a tap. `limit` are arguments of `ulimit`.
    pub fn start(program: &Path, limit: &str, arguments: &[&str]) -> io::Result<Self> {
        let mut process = Command::new("sh")
            .args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
            .arg(program)
            .args(["--no-tap", "--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut output = BufReader::new(process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim().rsplit('/').next().and_then(|text| text.parse().ok());
        let mut target = Target { process, address: ([0, 0, 0, 0], 0).into(), _output: output };
        target.address = address.ok_or_else(|| io::Error::other(format!("the server has not started: {line:?}")))?;
        Ok(target)
    }

    /// Returns the resident memory in MiB. 0 if the server has ended.
    pub fn resident(&self) -> f64 {
        resident(self.process.id())
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the time on a core, from all its threads.
    pub fn cpu(&self) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let path = thread?.path();
            // The first figure of schedstat is in nanoseconds. Only stat tells the shares apart.
            let exact = fs::read_to_string(path.join("schedstat"))?;
            let exact = exact.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
            let stat = fs::read_to_string(path.join("stat"))?;
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |at: usize| fields.get(at).and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0);
            cpu.total += exact.unwrap_or(0.0) / 1e9;
            cpu.user += ticks(11);
            cpu.system += ticks(12);
        }
        Ok(cpu)
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name}: {status}"))) }
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Asks for an orderly end, and returns how long it took. `None` after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> io::Result<Option<Duration>> {
        let start = Instant::now();
        self.signal("TERM")?;
        while self.is_running() {
            if start.elapsed() > limit {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(start.elapsed()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the resident memory of a process in MiB (proc_pid_status(5), `VmRSS`).
pub fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}
