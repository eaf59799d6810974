//! One attack: the server, the victim, the figures, and the bounds.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, draft};
use super::crowd::Crowd;
use super::target::{Target, resident};
use super::victim::{Report, Victim};

/// The largest resident memory during an attack, in MiB.
pub const MEMORY: f64 = 400.0;

/// The largest growth of the resident memory when an attack is over, in MiB.
pub const LEFT: f64 = 20.0;

/// The time of the victim's answers that 99 of 100 must keep.
const P99: Duration = Duration::from_millis(100);

/// The same where hundreds of mebibytes come at once: they are read.
const P99_OF_A_CROWD: Duration = Duration::from_millis(500);

/// The factor of these times on a machine that does other work.
const BUSY: u32 = 10;

/// The time that the server may take to end, with a second for the end of the process.
pub const END: Duration = Duration::from_secs(6);

/// A time that no attack needs if the server works.
pub const LONG: Duration = Duration::from_secs(20);

/// The options of a run.
pub struct Settings {
    /// The server's program.
    pub program: PathBuf,
    /// The minutes for each attack. 0 for the short form of all of them.
    pub minutes: u64,
    /// Whether the machine does other work.
    pub is_busy: bool,
}

impl Settings {
    /// Whether the attacks take their time.
    pub fn is_long(&self) -> bool {
        self.minutes > 0
    }

    /// Returns the short value, or the long one with `--minutes`.
    pub fn choose<T>(&self, short: T, long: T) -> T {
        if self.is_long() { long } else { short }
    }

    /// Returns a bound of the victim's time, which is longer on a busy machine.
    pub fn bound(&self, time: Duration) -> Duration {
        if self.is_busy { time * BUSY } else { time }
    }

    /// The time for which an attack that can go on goes on.
    pub fn duration(&self) -> Duration {
        if self.is_long() { Duration::from_secs(60 * self.minutes) } else { Duration::from_secs(3) }
    }
}

/// A row of the table.
pub struct Row {
    name: String,
    cells: Vec<String>,
    /// The bounds that were exceeded.
    pub faults: Vec<String>,
}

impl Row {
    pub fn print(&self) {
        let verdict = if self.faults.is_empty() { "ok".into() } else { format!("FAILED: {}", self.faults.join("; ")) };
        println!("| {} | {} | {verdict} |", self.name, self.cells.join(" | "));
    }
}

/// The head of the table.
pub fn print_head() {
    println!(
        "| attack | sent, MiB | resident, MiB: before, most, after | victim p50, p99, worst, ms | messages | also | |"
    );
    println!("|-|-:|-:|-:|-:|-|-|");
}

/// An attack that runs.
pub struct Scene {
    pub server: Target,
    name: String,
    before: f64,
    sampler: Sampler,
    victim: Option<Victim>,
    report: Report,
    p99: Duration,
    sent: u64,
    also: Vec<String>,
    faults: Vec<String>,
}

/// A thread that notes the largest resident memory.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Sampler {
    fn start(process: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = thread::spawn(move || {
            let mut most: f64 = 0.0;
            while !stops.load(Ordering::Relaxed) {
                most = most.max(resident(process));
                thread::sleep(Duration::from_millis(10));
            }
            most
        });
        Sampler { stop, thread }
    }
}

impl Scene {
    /// Starts a server for an attack, and lets `prepare` fill it before the figures begin.
    pub fn prepared(
        settings: &Settings,
        name: &str,
        limit: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&Target) -> io::Result<()>,
    ) -> io::Result<Self> {
        let server = Target::start(&settings.program, limit, arguments)?;
        prepare(&server)?;
        let sampler = Sampler::start(server.id());
        let victim = Some(Victim::start(server.address)?);
        let (name, before) = (name.to_owned(), server.resident());
        let (report, also, faults) = (Report::default(), Vec::new(), Vec::new());
        let p99 = settings.bound(P99);
        Ok(Scene { server, name, before, sampler, victim, report, p99, sent: 0, also, faults })
    }

    /// Starts a server for an attack.
    pub fn start(settings: &Settings, name: &str) -> io::Result<Self> {
        Scene::prepared(settings, name, "-n $(ulimit -Hn)", &[], |_| Ok(()))
    }

    /// Gives the victim more time, because a crowd is served with it.
    pub fn be_patient(&mut self, settings: &Settings) {
        self.p99 = settings.bound(P99_OF_A_CROWD);
    }

    /// Counts what a crowd has sent.
    pub fn count(&mut self, crowd: &Crowd) {
        self.sent += crowd.sent;
    }

    /// Counts bytes that were sent otherwise.
    pub fn add_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Adds a figure to the row.
    pub fn also(&mut self, figure: impl Into<String>) {
        self.also.push(figure.into());
    }

    /// Fails the attack unless `is_so`.
    pub fn expect(&mut self, is_so: bool, what: impl Into<String>) {
        if !is_so {
            self.faults.push(what.into());
        }
    }

    /// Ends the victim, and checks its delays and its messages.
    pub fn end_victim(&mut self) {
        let Some(victim) = self.victim.take() else { return };
        self.report = victim.finish();
        let (p99, report) = (self.report.percentile(0.99), self.report.clone());
        self.expect(p99 < self.p99, format!("p99 {} ms", p99.as_millis()));
        if let Some(first) = report.failures.first() {
            self.faults.push(format!("{} failures of the victim: {first}", report.failures.len()));
        }
        let lost = report.published.saturating_sub(report.received);
        self.expect(lost == 0, format!("{lost} messages lost"));
    }

    /// Ends the victim without judging it: the attack made it wait by itself.
    pub fn excuse_victim(&mut self) {
        if let Some(victim) = self.victim.take() {
            self.report = victim.finish();
        }
    }

    /// Sends SIGTERM, and checks that the server ends in time.
    pub fn terminate(&mut self) -> io::Result<()> {
        self.end_victim();
        match self.server.terminate(LONG)? {
            Some(time) => {
                self.also(format!("SIGTERM {:.1} s", time.as_secs_f64()));
                self.expect(time <= END, "SIGTERM took too long");
            }
            None => self.expect(false, format!("SIGTERM has not ended it in {} s", LONG.as_secs())),
        }
        Ok(())
    }

    /// Waits for at most `limit` until the memory is at most `left` MiB more than before the attack, and returns it. The
    /// connections of the attack have ended.
    pub fn settle(&mut self, left: f64, limit: Duration) -> f64 {
        let start = Instant::now();
        while self.server.resident() > self.before + left && start.elapsed() < limit {
            thread::sleep(Duration::from_millis(50));
        }
        let after = self.server.resident();
        let kept = after - self.before;
        self.expect(kept <= left, format!("{kept:.0} MiB are kept after {} s", limit.as_secs()));
        after
    }

    /// Ends the attack, and checks the largest resident memory.
    pub fn finish(mut self, memory: f64, after: Option<f64>) -> Row {
        self.end_victim();
        let is_running = self.server.is_running();
        let terminated = self.also.iter().any(|figure| figure.starts_with("SIGTERM"));
        self.expect(
            is_running || terminated || self.faults.iter().any(|fault| fault.starts_with("SIGTERM")),
            "it died",
        );
        self.sampler.stop.store(true, Ordering::Relaxed);
        let most = self.sampler.thread.join().unwrap_or_default();
        if most > memory {
            self.faults.push(format!("{most:.0} MiB, more than {memory:.0}"));
        }
        let milliseconds = |part| self.report.percentile(part).as_secs_f64() * 1000.0;
        let cells = vec![
            format!("{:.1}", self.sent as f64 / 1048576.0),
            format!("{:.0}, {most:.0}, {}", self.before, after.map_or("-".into(), |after| format!("{after:.0}"))),
            format!("{:.1}, {:.1}, {:.0}", milliseconds(0.5), milliseconds(0.99), milliseconds(1.0)),
            format!("{} of {}", self.report.received, self.report.published),
            self.also.join(", "),
        ];
        Row { name: self.name, cells, faults: self.faults }
    }
}

/// The room that [`fill`] fills.
pub const FULL: &str = "full";

/// Fills the room [`FULL`] with 900 messages of a kibibyte, and returns the id of the message before them. A reader with
/// it gets all of them, and even with the fields of events they fit into an outbox.
pub fn fill(server: &Target) -> io::Result<String> {
    let mut client = Client::connect(server.address)?;
    let first = client.post("/api/send", &draft(FULL, "first"))?;
    let text = "x".repeat(900);
    for _ in 0..900 {
        client.post("/api/send", &draft(FULL, &text))?;
    }
    first.string("message_id").ok_or_else(|| io::Error::other("a message without an id"))
}
