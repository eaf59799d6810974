//! A program under measurement: its start on a separate core, the figures of the operating system about it, and its
//! end.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The time that a program may take to start or to end. Under callgrind it is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Floor,
    /// `bench-server`, over the library.
    Overwire,
    /// The endpoints of the full server.
    Application(Journal),
    Node,
    FastApi,
    Nchan,
    /// nginx with nchan, and its messages in the Redis at this port.
    NchanWithRedis(u16),
    /// Socket.IO with its adapter for Redis Streams, and the Redis at this port.
    SocketIo(u16),
}

/// The place where the full server keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    Memory,
    /// A file, with `--sync always`.
    Always,
    /// A file, with `--sync 100ms`.
    Every,
    /// A file, with `--sync never`.
    Never,
    /// As `Never`, with the messages that the server before this one has stored.
    Found,
    /// The Redis at this port.
    Redis(u16),
}

impl Journal {
    pub fn name(self) -> &'static str {
        match self {
            Journal::Memory => "memory",
            Journal::Always => "file, always",
            Journal::Every => "file, 100ms",
            Journal::Never | Journal::Found => "file, never",
            Journal::Redis(_) => "Redis",
        }
    }

    fn arguments(self) -> io::Result<Vec<String>> {
        let sync = match self {
            Journal::Memory => return Ok(Vec::new()),
            Journal::Redis(port) => return Ok(vec!["--redis".into(), format!("redis://127.0.0.1:{port}")]),
            Journal::Always => "always",
            Journal::Every => "100ms",
            Journal::Never | Journal::Found => "never",
        };
        let folder = data_folder();
        if self != Journal::Found {
            remove_data()?;
        }
        Ok(vec!["--data".into(), folder.to_string_lossy().into_owned(), "--sync".into(), sync.into()])
    }
}

/// Returns the folder of a journal in a file.
pub fn data_folder() -> PathBuf {
    std::env::temp_dir().join(format!("overwire-bench-{}-data", std::process::id()))
}

/// Removes the folder, if there is one.
pub fn remove_data() -> io::Result<()> {
    match fs::remove_dir_all(data_folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Subject::Floor => "floor",
            Subject::Overwire => "overwire",
            Subject::Application(_) => "overwire's /api",
            Subject::Node => "Node ws",
            Subject::FastApi => "FastAPI",
            Subject::Nchan => "nchan",
            Subject::NchanWithRedis(_) => "nchan, Redis",
            Subject::SocketIo(_) => "Socket.IO, Redis",
        }
    }

    fn command(self, port: u16, size: usize) -> io::Result<Vec<String>> {
        let examples = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
        let own = |path: &str| examples.join(path).to_string_lossy().into_owned();
        let peer = |name: &str| vec![format!("tests/bench/peers/{name}"), "start".into(), port.to_string()];
        let with_port = |program| vec![program, "--port".into(), port.to_string()];
        Ok(match self {
            Subject::Floor => [with_port(own("bench-floor")), vec!["--size".into(), size.to_string()]].concat(),
            Subject::Overwire => with_port(own("bench-server")),
            Subject::Application(journal) => {
                [with_port(own("../overwire")), vec!["--no-tap".into()], journal.arguments()?].concat()
            }
            Subject::Node => peer("node"),
            Subject::FastApi => peer("fastapi"),
            Subject::Nchan => peer("nchan"),
            Subject::NchanWithRedis(redis) => [peer("nchan"), vec![redis.to_string()]].concat(),
            Subject::SocketIo(redis) => [peer("socketio"), vec![redis.to_string()]].concat(),
        })
    }
}

/// The tool that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Nothing,
    /// Counts system calls.
    Strace,
    /// Counts instructions.
    Callgrind,
}

/// A running program. It ends when this value is dropped.
pub struct Running {
    child: Child,
    tool: Tool,
    report: PathBuf,
    pub address: SocketAddr,
}

impl Running {
    /// Starts a program for messages of `size` bytes on the first core, and waits until it accepts connections.
    pub fn start(subject: Subject, tool: Tool, size: usize) -> io::Result<Self> {
        Self::start_on("0", subject, tool, size)
    }

    /// Starts a program on a core.
    pub fn start_on(core: &str, subject: Subject, tool: Tool, size: usize) -> io::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let report = std::env::temp_dir().join(format!("overwire-bench-{}-{}", std::process::id(), address.port()));
        let report_name = report.to_string_lossy().into_owned();
        // The detached tracer (-D) leaves the process id to the program.
        let strace = ["strace", "-D", "-f", "-c", "-o", &report_name].map(String::from);
        let callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"].map(String::from);
        let log_file = [format!("--log-file={report_name}")];
        // With only one core taskset fails, and the program shares the core with the load.
        let pin = ["taskset", "-c", core].map(String::from);
        let mut words = Vec::new();
        if thread::available_parallelism().is_ok() && Path::new("/sys/devices/system/cpu/cpu1").exists() {
            words.extend(pin);
        }
        match tool {
            Tool::Nothing => {}
            Tool::Strace => words.extend(strace),
            Tool::Callgrind => words.extend(callgrind.into_iter().chain(log_file)),
        }
        words.extend(subject.command(address.port(), size)?);
        if (subject, tool) == (Subject::Overwire, Tool::Strace) {
            words.push("--unhurried".into());
        }
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}; was it built?", words[0])))?;
        let mut running = Running { child, tool, report, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(io::Error::other(format!("{words:?} ended at once: {status}")));
            }
            if started.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{words:?} does not listen")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// Whether a tool counts.
    pub fn is_counted(&self) -> bool {
        self.tool != Tool::Nothing
    }

    /// The time of its threads on a core, user and system together.
    pub fn cpu(&self) -> io::Result<Duration> {
        cpu_of(&self.child.id().to_string())
    }

    /// The resident memory that is not backed by a file, in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        kibibytes(&status, "RssAnon:")
    }

    /// Ends the program, and returns the counts of the tool.
    pub fn finish(mut self) -> io::Result<Counts> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        self.child.wait()?;
        let started = Instant::now();
        loop {
            let report = fs::read_to_string(&self.report).unwrap_or_default();
            if let Some(count) = count_in(&report, self.tool) {
                return Ok(count);
            }
            if started.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{:?} has not reported", self.tool)));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.report);
    }
}

/// The counts of a tool.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Instructions, or system calls that are not waits.
    pub steps: u64,
    /// Calls that wait for events.
    pub waits: u64,
}

fn count_in(report: &str, tool: Tool) -> Option<Counts> {
    match tool {
        Tool::Nothing => Some(Counts::default()),
        Tool::Strace => {
            let total = calls_in(report, " total")?;
            let waits = calls_in(report, " epoll_wait").unwrap_or(0);
            Some(Counts { steps: total - waits, waits })
        }
        // "==1234== Collected : 56789"
        Tool::Callgrind => {
            let line = report.lines().find(|line| line.contains("Collected :"))?;
            Some(Counts { steps: line.rsplit(' ').next()?.parse().ok()?, waits: 0 })
        }
    }
}

/// The number of calls in the line with this end: "100.00    0.012345           3      4021         2 total".
fn calls_in(report: &str, end: &str) -> Option<u64> {
    report.lines().find(|line| line.ends_with(end))?.split_whitespace().nth(3)?.parse().ok()
}

/// The time of the load on a core.
pub fn own_cpu() -> io::Result<Duration> {
    cpu_of("self")
}

/// The time on a core, summed over the threads, in nanoseconds: finer than the clock ticks of /proc/PID/stat.
fn cpu_of(process: &str) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let account = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += account.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The memory of the kernel, with sockets and their buffers, in bytes.
pub fn kernel_memory() -> io::Result<u64> {
    let account = fs::read_to_string("/proc/meminfo")?;
    Ok(kibibytes(&account, "Slab:")? + kibibytes(&account, "PageTables:")?)
}

fn kibibytes(account: &str, name: &str) -> io::Result<u64> {
    let line = account.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let number = line.trim().trim_end_matches(" kB").parse::<u64>().map_err(io::Error::other)?;
    Ok(number * 1024)
}
