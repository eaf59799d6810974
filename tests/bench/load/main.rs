//! The benchmark: starts the programs in turn under the same load, and prints the cost of a message in each.
//! `tests/bench/run` builds and starts it. README.md in the folder of `run` explains the tables.

mod bytes;
mod fleet;
mod journals;
#[path = "../../common/program.rs"]
mod program;
mod scenario;
mod subject;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use fleet::Kind;
use scenario::{BURST, Idle, Sample, Scenario};
use subject::{Journal, Running, Subject, Tool};

const USAGE: &str =
    "usage: tests/bench/run [--peers] [--rounds N] [--only WORD] [--no-tools] | --journals [--peers] [--rounds N] | --start N | --check
  --peers     measure Node ws, FastAPI with uvicorn, and nginx with nchan too; installs them
  --rounds N  the number of rounds (default 5); 0 only counts
  --only WORD only the rows whose name contains this word, or the tables latency and idle (repeatable)
  --no-tools  do not count system calls (strace) and instructions (callgrind)
  --journals  measure what a message costs in memory, in a file and in Redis; needs redis-server. Its peers are nchan
              and Socket.IO, both with Redis
  --start N   measure the start of a server that finds a log to which N million messages were written
  --check     only count system calls, and fail if a row has more than its limit";

struct Options {
    peers: bool,
    rounds: usize,
    only: Vec<String>,
    tools: bool,
    check: bool,
    journals: bool,
    start: Option<u64>,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, |options| {
        match (options.check, options.journals, options.start) {
            (true, ..) => check(&options),
            (_, _, Some(millions)) => journals::measure_start(millions),
            (_, true, None) => journals::measure(&options),
            (false, false, None) => measure(&options),
        }
        .map(|()| true)
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { peers: false, rounds: 5, only: Vec::new(), tools: true, check: false, journals: false, start: None };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--peers" => options.peers = true,
            "--no-tools" => options.tools = false,
            "--check" => options.check = true,
            "--journals" => options.journals = true,
            "--start" => {
                options.start = Some(value()?.parse().map_err(|_| "--start: expected a number of millions")?);
            }
            "--rounds" => match value()?.parse() {
                Ok(rounds) => options.rounds = rounds,
                Err(_) => return Err("--rounds: expected a number".into()),
            },
            "--only" => options.only.push(value()?),
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    Ok(options)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word))
    }

    fn peers(&self) -> &'static [Subject] {
        if self.peers { &[Subject::Node, Subject::FastApi, Subject::Nchan] } else { &[] }
    }
}

/// A row of the table.
struct Row {
    name: &'static str,
    scenario: Scenario,
    /// The size of a message in bytes.
    size: usize,
    /// The units of work that are measured in a round.
    units: u64,
    /// The units of work for counting instructions and system calls, or 0 if another row has the same work with fewer
    /// connections.
    counted: u64,
    /// The limits of system calls for each message.
    limits: Count,
}

/// The counts for one message.
struct Count {
    /// Instructions, or system calls that are not waits. They do not depend on the speed or load of the machine.
    steps: f64,
    /// Calls that wait for events. There are more of them when messages arrive one by one.
    waits: f64,
}

fn rows() -> Vec<Row> {
    use Scenario::*;
    // There is less than a wait for four other calls, also on a busy machine. One for each read would be half as many.
    // A connection that finds the server asleep needs two, or three if its request comes late.
    let row = |name, scenario, size, units, counted, steps| {
        let waits = if scenario == Connect { 2.9 } else { steps / 4.0 };
        Row { name, scenario, size, units, counted, limits: Count { steps, waits } }
    };
    let to = |kind, subscribers, burst| Broadcast { kind, subscribers, burst };
    vec![
        row("echo 16 B, depth 1", Echo { depth: 1 }, 16, 1000, 20, 2.01),
        row("echo 16 B, depth 16", Echo { depth: 16 }, 16, 500, 10, 0.13),
        row("echo 1 KiB, depth 1", Echo { depth: 1 }, 1024, 1000, 20, 2.01),
        row("echo 1 KiB, depth 16", Echo { depth: 16 }, 1024, 200, 10, 0.13),
        row("echo 64 KiB, depth 1", Echo { depth: 1 }, 65536, 100, 10, 3.0),
        row("echo 64 KiB, depth 16", Echo { depth: 16 }, 65536, 8, 2, 1.0),
        row("GET, depth 1", Get { depth: 1 }, 16, 1000, 20, 2.01),
        row("GET, depth 16", Get { depth: 16 }, 16, 200, 10, 0.13),
        row("WebSocket to 1,000", to(Kind::Frames, 1000, 1), 16, 100, 5, 1.01),
        row("WebSocket to 10,000", to(Kind::Frames, 10_000, 1), 16, 30, 0, 1.01),
        row("SSE to 1,000", to(Kind::Events, 1000, 1), 16, 100, 5, 1.01),
        row("SSE to 10,000", to(Kind::Events, 10_000, 1), 16, 30, 0, 1.01),
        row("stream to 1,000", to(Kind::Chunks, 1000, 1), 16, 100, 5, 1.01),
        row("stream to 10,000", to(Kind::Chunks, 10_000, 1), 16, 30, 0, 1.01),
        row("WebSocket to 1,000, 16 together", to(Kind::Frames, 1000, BURST), 16, 50, 5, 0.07),
        row("SSE to 1,000, 16 together", to(Kind::Events, 1000, BURST), 16, 50, 5, 0.07),
        row("stream to 1,000, 16 together", to(Kind::Chunks, 1000, BURST), 16, 50, 5, 0.07),
        row("long poll, 1,000 held", Polls { held: 1000 }, 16, 50, 5, 2.01),
        row("long poll, 10,000 held", Polls { held: 10_000 }, 16, 10, 0, 2.02),
        row("connect, GET, close", Connect, 16, 20, 5, 8.1),
    ]
}

/// Counts the system calls of the server for each message.
fn check(options: &Options) -> io::Result<()> {
    let mut too_many = Vec::new();
    // Eight more seconds must not add a call. Its start and its end may take two or three more in one of the
    // runs, when its steps do not arrive together. That is less than half a call a second.
    let limits = Count { steps: 0.5, waits: 0.5 };
    let silence =
        Row { name: "a second of silence", scenario: Scenario::Silence, size: 16, units: 0, counted: 4, limits };
    let counted = rows().into_iter().filter(|row| row.counted > 0).chain([silence]);
    let counted: Vec<Row> = counted.filter(|row| options.wants(row.name)).collect();
    if counted.is_empty() {
        return Err(io::Error::other(format!("no counted row has one of {:?} in its name", options.only)));
    }
    println!("| | other system calls a message | at most | waits for events | at most |\n|-|-:|-:|-:|-:|");
    for row in &counted {
        let Row { name, limits, .. } = row;
        let calls = count(row, Subject::Overwire, Tool::Strace)?;
        println!("| {name} | {:.3} | {} | {:.3} | {:.3} |", calls.steps, limits.steps, calls.waits, limits.waits);
        if calls.steps > limits.steps || calls.waits > limits.waits {
            too_many.push(*name);
        }
    }
    if too_many.is_empty() { Ok(()) } else { Err(io::Error::other(format!("too many system calls: {too_many:?}"))) }
}

fn measure(options: &Options) -> io::Result<()> {
    let subjects =
        [&[Subject::Floor, Subject::Overwire, Subject::Application(Journal::Memory)], options.peers()].concat();
    let rows: Vec<Row> = rows().into_iter().filter(|row| options.wants(row.name)).collect();
    if rows.is_empty() && !options.wants("latency") && !options.wants("idle") {
        return Err(io::Error::other(format!("no row has one of {:?} in its name", options.only)));
    }
    let timed = options.rounds > 0 && !rows.is_empty();
    if timed {
        println!("Microseconds of the server's core for each message, and the ratio to the floor:\n");
        println!("| |{}", subjects.iter().map(|subject| format!(" {} |", subject.name())).collect::<String>());
        println!("|-|{}", "-:|".repeat(subjects.len()));
    }
    let mut results = Vec::new();
    for row in rows.iter().filter(|_| timed) {
        let samples = sample(row, &subjects, options.rounds)?;
        println!("| {} |{}", row.name, subjects.iter().map(|s| cost_cell(&samples, *s)).collect::<String>());
        results.push(samples);
    }
    if timed {
        println!("\nOther figures of the same rounds:\n");
        println!(
            "| | messages a second | floor's | last delivery p50, p99 | ratio of p99 | memory grown | load's share of its core |"
        );
        println!("|-|-:|-:|-:|-:|-:|-:|");
    }
    for (row, samples) in rows.iter().zip(&results) {
        print_rounds(row, samples);
    }
    if options.tools && !rows.is_empty() {
        println!("\nCounted for each message:\n");
        println!("| | system calls | floor's | instructions of the program | floor's | /api's |\n|-|-:|-:|-:|-:|-:|");
        for row in rows.iter().filter(|row| row.counted > 0) {
            print_counts(row)?;
        }
    }
    if options.rounds > 0 {
        print_latencies(options, &subjects)?;
        print_idle(options, &subjects)?;
    }
    Ok(())
}

type Samples = Vec<(Subject, Vec<Sample>)>;

/// Measures the rounds of a row. In each round, each program is started again, in turn.
fn sample(row: &Row, subjects: &[Subject], rounds: usize) -> io::Result<Samples> {
    let mut samples: Samples = subjects.iter().map(|subject| (*subject, Vec::new())).collect();
    for _ in 0..rounds {
        for (subject, samples) in samples.iter_mut().filter(|(subject, _)| row.scenario.fits(*subject)) {
            let server = Running::start(*subject, Tool::Nothing, row.size)?;
            // Less work is enough for the slow programs.
            let units = match subject {
                Subject::Node | Subject::FastApi | Subject::Nchan => (row.units / 4).max(2),
                _ => row.units,
            };
            let named = |error| io::Error::other(format!("{}, {}: {error}", row.name, subject.name()));
            samples.push(row.scenario.run(*subject, &server, row.size, units / 10, units).map_err(named)?);
        }
    }
    Ok(samples)
}

fn of(samples: &Samples, subject: Subject) -> &[Sample] {
    samples.iter().find(|(other, _)| *other == subject).map_or(&[], |(_, samples)| samples)
}

fn cost_cell(samples: &Samples, subject: Subject) -> String {
    let own = of(samples, subject);
    if own.is_empty() {
        return " |".into();
    }
    let cost = median(own.iter().map(Sample::cost));
    if subject == Subject::Floor {
        return format!(" {cost:.2} |");
    }
    // A ratio is of one round, whose values were measured within seconds.
    let ratios = own.iter().zip(of(samples, Subject::Floor)).map(|(own, floor)| own.cost() / floor.cost());
    format!(" {cost:.2}, {:.2} |", median(ratios))
}

fn print_rounds(row: &Row, samples: &Samples) {
    let (own, floor) = (of(samples, Subject::Overwire), of(samples, Subject::Floor));
    let rate = |samples: &[Sample]| median(samples.iter().map(|s| s.messages as f64 / s.wall.as_secs_f64()));
    let share = median(own.iter().map(|s| s.load_cpu.as_secs_f64() / s.wall.as_secs_f64()));
    let grown = median(own.iter().map(|s| s.grown as f64)) / 1024.0;
    let delays = |samples: &[Sample]| {
        let mut delays: Vec<Duration> = samples.iter().flat_map(|s| s.last_delivery.iter().copied()).collect();
        delays.sort_unstable();
        delays
    };
    let (own_delays, floor_delays) = (delays(own), delays(floor));
    let last = match (row.scenario, percentile(&own_delays, 0.5), percentile(&own_delays, 0.99)) {
        (Scenario::Connect, _, _) | (_, None, _) | (_, _, None) => " | ".to_owned(),
        (_, Some(middle), Some(late)) => {
            let ratio = late.as_secs_f64() / percentile(&floor_delays, 0.99).unwrap_or_default().as_secs_f64();
            format!("{:.1} ms, {:.1} ms | {ratio:.2}", milliseconds(middle), milliseconds(late))
        }
    };
    println!(
        "| {} | {:.0} | {:.0} | {last} | {grown:.0} KiB | {:.0} % |",
        row.name,
        rate(own),
        rate(floor),
        share * 100.0
    );
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn percentile(sorted: &[Duration], part: f64) -> Option<Duration> {
    sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1))).copied()
}

/// Counts for one more message: the difference of two runs, one with three times the work of the other. So the start
/// and the connections do not count.
fn count(row: &Row, subject: Subject, tool: Tool) -> io::Result<Count> {
    let run = |times| {
        let server = Running::start(subject, tool, row.size)?;
        row.scenario.run(subject, &server, row.size, 2, times * row.counted)?;
        server.finish()
    };
    let (less, more) = (run(1)?, run(3)?);
    let each = |less: u64, more: u64| (more as f64 - less as f64) / (2 * row.counted * row.scenario.unit()) as f64;
    Ok(Count { steps: each(less.steps, more.steps), waits: each(less.waits, more.waits) })
}

fn print_counts(row: &Row) -> io::Result<()> {
    let count = |subject, tool| count(row, subject, tool).map(|count| count.steps + count.waits);
    let calls = count(Subject::Overwire, Tool::Strace)?;
    let floor_calls = count(Subject::Floor, Tool::Strace)?;
    let instructions = count(Subject::Overwire, Tool::Callgrind)?;
    let floor_instructions = count(Subject::Floor, Tool::Callgrind)?;
    let application = if row.scenario.fits(Subject::Application(Journal::Memory)) {
        format!("{:.0}", count(Subject::Application(Journal::Memory), Tool::Callgrind)?)
    } else {
        String::new()
    };
    println!(
        "| {} | {calls:.3} | {floor_calls:.3} | {instructions:.0} | {floor_instructions:.0} | {application} |",
        row.name
    );
    Ok(())
}

/// Messages per second on all connections together.
const RATE: u32 = 5000;

fn print_latencies(options: &Options, subjects: &[Subject]) -> io::Result<()> {
    if !options.wants("latency") {
        return Ok(());
    }
    println!("\nLatency of an echo of 16 B at {RATE} messages a second over 100 connections, in microseconds:\n");
    println!("| | p50 | p99 | p99.9 |\n|-|-:|-:|-:|");
    let fits = |subject: &&Subject| Scenario::Echo { depth: 1 }.fits(**subject);
    let mut rounds: Vec<(Subject, Vec<Vec<Duration>>)> =
        subjects.iter().filter(fits).map(|subject| (*subject, Vec::new())).collect();
    for _ in 0..options.rounds {
        for (subject, delays) in &mut rounds {
            let server = Running::start(*subject, Tool::Nothing, 16)?;
            delays.push(scenario::latencies(&server, RATE, Duration::from_secs(2))?);
        }
    }
    for (subject, rounds) in &rounds {
        let at = |part| {
            median(
                rounds.iter().filter_map(|delays| percentile(delays, part)).map(|delay| milliseconds(delay) * 1000.0),
            )
        };
        println!("| {} | {:.0} | {:.0} | {:.0} |", subject.name(), at(0.5), at(0.99), at(0.999));
    }
    Ok(())
}

fn print_idle(options: &Options, subjects: &[Subject]) -> io::Result<()> {
    if !options.wants("idle") {
        return Ok(());
    }
    println!("\nResident memory of the program for each idle connection, in bytes:\n");
    println!("| | connections |{} kernel, both ends | after a broadcast to all | which took |", {
        let names = subjects.iter().filter(|subject| **subject != Subject::Floor);
        names.map(|subject| format!(" {} |", subject.name())).collect::<String>()
    });
    println!("|-|-:|{}-:|-:|-:|", "-:|".repeat(subjects.len() - 1));
    let most = most_connections()?;
    for (name, kind) in [("held poll", Kind::Answers), ("SSE", Kind::Events), ("WebSocket", Kind::Frames)] {
        for count in [2000, 10_000, most] {
            let mut cells = String::new();
            let mut own = None;
            for subject in subjects.iter().filter(|subject| **subject != Subject::Floor) {
                let server = Running::start(*subject, Tool::Nothing, 16)?;
                match scenario::idle(*subject, &server, kind, count) {
                    Ok(idle) => {
                        cells += &format!(" {:.0} |", idle.server);
                        if *subject == Subject::Overwire {
                            own = Some(idle);
                        }
                    }
                    // A peer may be unable to hold this number of connections.
                    Err(error) if options.peers().contains(subject) => {
                        eprintln!("bench: {name}, {count}, {}: {error}", subject.name());
                        cells += " fails |";
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(Idle { kernel, after_broadcast, broadcast, .. }) = own {
                println!(
                    "| {name} | {count} |{cells} {kernel:.0} | {after_broadcast:.0} | {:.0} ms |",
                    milliseconds(broadcast)
                );
            }
        }
    }
    Ok(())
}

/// The number of connections that the file limit allows, less a reserve for other files.
fn most_connections() -> io::Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let limit = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(1024_usize);
    Ok(limit.min(1 << 20) - 250)
}
