//! What a message costs in each journal of the full server: `tests/bench/run --journals`.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::Kind;
use super::scenario::{Sample, Scenario};
use super::subject::{Journal, Running, Subject, Tool, data_folder, remove_data};
use super::{Options, median, milliseconds, percentile};

/// The time in which Redis starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// The text of a message, in bytes.
const SIZE: usize = 100;

/// A row: a name, the work, and its units.
type Row = (&'static str, Scenario, u64);

const TO_ONE: Scenario = Scenario::Broadcast { kind: Kind::Frames, subscribers: 1, burst: 1 };
const TO_MANY: Scenario = Scenario::Broadcast { kind: Kind::Frames, subscribers: 1000, burst: 1 };

const ROWS: [Row; 5] = [
    ("100 senders, each after its answer", Scenario::Publish { depth: 1 }, 100),
    ("100 senders, 16 at once", Scenario::Publish { depth: 16 }, 20),
    ("100 WebSockets in 100 rooms, 16 at once", Scenario::Converse { depth: 16 }, 20),
    ("one sender, 1 reader", TO_ONE, 500),
    ("one sender, 1,000 readers", TO_MANY, 100),
];

/// The rows with a sender on another server.
const ROWS_OF_TWO: [Row; 2] =
    [("one sender elsewhere, 1 reader", TO_ONE, 500), ("one sender elsewhere, 1,000 readers", TO_MANY, 100)];

/// Measures all journals in turn. The peers have their messages in the same Redis.
pub fn measure(options: &Options) -> io::Result<()> {
    let redis = Redis::start()?;
    let journals = [Journal::Memory, Journal::Always, Journal::Every, Journal::Never, Journal::Redis(redis.port)];
    let peers = [Subject::NchanWithRedis(redis.port), Subject::SocketIo(redis.port)];
    println!("The server has one core. Its load, Redis, and a second server share the other.\n");
    println!(
        "| | journal | messages a second | microseconds of the server's core for each | last delivery p50, p99 (ms) |"
    );
    println!("|-|-|-:|-:|-:|");
    for row in ROWS {
        let has_peers = options.peers && !matches!(row.1, Scenario::Converse { .. });
        let peers = peers.iter().filter(|_| has_peers).copied();
        for subject in journals.map(Subject::Application).into_iter().chain(peers) {
            measure_row(options, row, subject, false)?;
        }
    }
    for row in ROWS_OF_TWO {
        let peers = peers.iter().filter(|_| options.peers).copied();
        for subject in [Subject::Application(Journal::Redis(redis.port))].into_iter().chain(peers) {
            measure_row(options, row, subject, true)?;
        }
    }
    remove_data()
}

/// Measures a row and prints it, if it is wanted.
fn measure_row(options: &Options, row: Row, subject: Subject, has_second: bool) -> io::Result<()> {
    let name = format!("{} | {}", row.0, name_of(subject));
    if !options.wants(&name) {
        return Ok(());
    }
    let samples = (0..options.rounds).map(|_| sample(row, subject, has_second)).collect::<io::Result<Vec<_>>>()?;
    print(&name, &samples);
    Ok(())
}

fn name_of(subject: Subject) -> &'static str {
    match subject {
        Subject::Application(journal) => journal.name(),
        peer => peer.name(),
    }
}

/// Measures the start of a server that finds a log to which this many million messages were written.
pub fn measure_start(millions: u64) -> io::Result<()> {
    let scenario = Scenario::Converse { depth: 16 };
    let units = millions * 1_000_000 / scenario.unit();
    let first = start("0", Subject::Application(Journal::Never))?;
    scenario.run(Subject::Application(Journal::Never), &first, SIZE, 1, units)?;
    let memory = first.resident()?;
    first.finish()?;
    let files = fs::read_dir(data_folder())?.map(|file| file?.metadata()).collect::<io::Result<Vec<_>>>()?;
    let before = Instant::now();
    let second = start("0", Subject::Application(Journal::Found))?;
    let time = before.elapsed();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{millions} million messages in 100 rooms; the folder has {:.0} MiB.\nThe server before: {:.0} MiB. The next \
         one is ready after {:.0} ms, with {:.0} MiB.",
        mebibytes(files.iter().map(fs::Metadata::len).sum()),
        mebibytes(memory),
        milliseconds(time),
        mebibytes(second.resident()?)
    );
    drop(second);
    remove_data()
}

fn sample((_, scenario, units): Row, subject: Subject, has_second: bool) -> io::Result<Sample> {
    let server = start("0", subject)?;
    let second = if has_second { Some(start("1", subject)?) } else { None };
    scenario.run_with((&server, second.as_ref().unwrap_or(&server)), subject, SIZE, units / 10, units)
}

fn start(core: &str, subject: Subject) -> io::Result<Running> {
    let server = Running::start_on(core, subject, Tool::Nothing, SIZE)?;
    match subject {
        Subject::Application(_) => wait_until_ready(&server, "GET /health/ready", "")?,
        Subject::NchanWithRedis(_) => wait_until_ready(&server, "POST /pub", "Content-Length: 2\r\n\r\nhi")?,
        _ => {}
    }
    Ok(server)
}

/// Waits until the server can store messages, and answers this request with a success: it listens before it has reached
/// Redis. `rest` is the last field of the request and its content.
fn wait_until_ready(server: &Running, request: &str, rest: &str) -> io::Result<()> {
    let end = if rest.is_empty() { "\r\n" } else { rest };
    let start = Instant::now();
    loop {
        let mut stream = TcpStream::connect(server.address)?;
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{end}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 2") {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(answer));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn print(name: &str, samples: &[Sample]) {
    let rate = median(samples.iter().map(|sample| sample.messages as f64 / sample.wall.as_secs_f64()));
    let cost = median(samples.iter().map(Sample::cost));
    let mut delays: Vec<Duration> = samples.iter().flat_map(|sample| sample.last_delivery.iter().copied()).collect();
    delays.sort_unstable();
    let delays = match (percentile(&delays, 0.5), percentile(&delays, 0.99)) {
        (Some(middle), Some(late)) => format!("{:.2}, {:.2}", milliseconds(middle), milliseconds(late)),
        _ => String::new(),
    };
    println!("| {name} | {rate:.0} | {cost:.2} | {delays} |");
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
