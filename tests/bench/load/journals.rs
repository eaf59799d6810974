//! What a message costs in each journal of the full server: `tests/bench/run --journals`.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::Kind;
use super::scenario::{Sample, Scenario};
use super::subject::{Journal, Running, Subject, Tool};
use super::{median, milliseconds, percentile};

/// The time in which Redis starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// The text of a message, in bytes.
const SIZE: usize = 100;

/// The rows: a name, the work, and its units.
fn rows() -> [(&'static str, Scenario, u64); 4] {
    let to = |subscribers| Scenario::Broadcast { kind: Kind::Frames, subscribers, burst: 1 };
    [
        ("100 senders, each after its answer", Scenario::Publish { depth: 1 }, 100),
        ("100 senders, 16 at once", Scenario::Publish { depth: 16 }, 20),
        ("one sender, 1 reader", to(1), 500),
        ("one sender, 1,000 readers", to(1000), 100),
    ]
}

/// Measures all journals in turn, `rounds` times.
pub fn measure(rounds: usize) -> io::Result<()> {
    let redis = Redis::start()?;
    let journals = [Journal::Memory, Journal::Always, Journal::Every, Journal::Never, Journal::Redis(redis.port)];
    println!("The server has one core. Its load, and Redis, share the other.\n");
    println!(
        "| | journal | messages a second | microseconds of the server's core for each | last delivery p50, p99 (ms) |"
    );
    println!("|-|-|-:|-:|-:|");
    for (name, scenario, units) in rows() {
        for journal in journals {
            let samples = (0..rounds).map(|_| sample(scenario, journal, units)).collect::<io::Result<Vec<_>>>()?;
            print(name, journal, &samples);
        }
    }
    Ok(())
}

fn sample(scenario: Scenario, journal: Journal, units: u64) -> io::Result<Sample> {
    let subject = Subject::Application(journal);
    let server = Running::start(subject, Tool::Nothing, SIZE)?;
    wait_until_ready(&server)?;
    scenario.run(subject, &server, SIZE, units / 10, units)
}

/// Waits until the server can store messages: it listens before it has reached Redis.
fn wait_until_ready(server: &Running) -> io::Result<()> {
    let start = Instant::now();
    loop {
        let mut stream = TcpStream::connect(server.address)?;
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200 ") {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(answer));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn print(name: &str, journal: Journal, samples: &[Sample]) {
    let rate = median(samples.iter().map(|sample| sample.messages as f64 / sample.wall.as_secs_f64()));
    let cost = median(samples.iter().map(Sample::cost));
    let mut delays: Vec<Duration> = samples.iter().flat_map(|sample| sample.last_delivery.iter().copied()).collect();
    delays.sort_unstable();
    let delays = match (percentile(&delays, 0.5), percentile(&delays, 0.99)) {
        (Some(middle), Some(late)) => format!("{:.2}, {:.2}", milliseconds(middle), milliseconds(late)),
        _ => String::new(),
    };
    println!("| {name} | {} | {rate:.0} | {cost:.2} | {delays} |", journal.name());
}

/// A Redis without a file, on a free port.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    fn start() -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder: PathBuf = std::env::temp_dir();
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "redis-server", "--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let redis = Redis { process, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("redis-server does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
