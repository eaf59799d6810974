//! A deploy with many followers: an old and a new server on one listening socket, and a shared log. The followers of the
//! old one come back to the new one. The program plots when, and fails if they come in a rush, or if one of them misses a
//! message. It needs `redis-server`, and a limit on open files above the number of followers.

mod fleet;
mod follower;
mod picture;
mod process;
mod publisher;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::fleet::Fleet;
use self::picture::Plot;
use self::process::{Redis, Socket};
use self::publisher::Publisher;

const USAGE: &str = "\
usage: followers [OPTIONS]

  --followers N          their number, over all transports (default 10000)
  --drain-time SECONDS   that of the old server (default 5)
  --bound TIMES          the most in 100 ms, as a multiple of its share (default 3)
  --server FILE          the server (default: overwire in the folder of this program's folder)
  --svg FILE             write the plot there";

/// The options of the command line.
struct Options {
    followers: usize,
    drain_time: u64,
    bound: f64,
    server: PathBuf,
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| deploy(&options));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("followers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> io::Result<Options> {
    let this = std::env::current_exe()?;
    let folder = this.parent().and_then(|examples| examples.parent()).unwrap_or(&this);
    let server = folder.join("overwire");
    let mut options = Options { followers: 10_000, drain_time: 5, bound: 3.0, server, svg: None };
    let mut arguments = std::env::args().skip(1);
    let wrong = || io::Error::other(USAGE);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(wrong)?;
        match &*name {
            "--followers" => options.followers = value.parse().map_err(|_| wrong())?,
            "--drain-time" => options.drain_time = value.parse().map_err(|_| wrong())?,
            "--bound" => options.bound = value.parse().map_err(|_| wrong())?,
            "--server" => options.server = value.into(),
            "--svg" => options.svg = Some(value.into()),
            _ => return Err(wrong()),
        }
    }
    Ok(options)
}

/// Replaces a server under its followers.
fn deploy(options: &Options) -> io::Result<()> {
    let (redis, socket) = (Redis::start()?, Socket::open()?);
    let time = options.drain_time.to_string();
    let arguments = ["--redis", &redis.url(), "--drain-time", &time];
    let mut old = socket.serve(&options.server, &arguments)?;
    let mut fleet = Fleet::open(socket.address(), options.followers)?;
    let publisher = Publisher::start(socket.address());
    fleet.run_until("a message for each follower", |fleet| fleet.all(|follower| follower.last > 0))?;
    println!("{} followers of the old server, a quarter on each transport", options.followers);

    let _new = socket.serve(&options.server, &arguments)?;
    let start = Instant::now();
    old.terminate()?;
    fleet.run_until("the return of each follower", Fleet::is_back)?;
    let last = publisher.stop()?;
    fleet.run_until("the last message for each follower", |fleet| fleet.all(|follower| follower.last >= last))?;
    old.expect_success()?;
    report(&fleet, last, start, options)
}

/// Prints the plot, and checks it.
fn report(fleet: &Fleet, last: u64, start: Instant, options: &Options) -> io::Result<()> {
    let drain_time = Duration::from_secs(options.drain_time);
    let plot = Plot::new(start, &fleet.returns, drain_time);
    print!("reconnections in each 100 ms after SIGTERM\n{}", plot.text());
    let share = options.followers as f64 / 10.0 / drain_time.as_secs_f64().max(1.0);
    let times = plot.most() as f64 / share;
    println!("the most in 100 ms: {}, {times:.1} times its share of the drain time", plot.most());
    println!(
        "{} of {last} messages are missing, {} came twice",
        fleet.sum(|one| one.missing),
        fleet.sum(|one| one.twice)
    );
    println!("longest wait for the head of an answer: {:.0} ms", fleet.longest_wait.as_secs_f64() * 1000.0);
    if let Some(file) = &options.svg {
        std::fs::write(file, picture::svg(&plot, share, options.bound))?;
    }
    let faults = [
        (fleet.returns.len() != options.followers, "a follower has come back more than once"),
        (times > options.bound, "there was a rush"),
        (fleet.sum(|one| one.missing + one.twice + one.not_recovered) > 0, "messages are missing or came twice"),
    ];
    match faults.iter().find(|(is_so, _)| *is_so) {
        Some((_, fault)) => Err(io::Error::other(*fault)),
        None => Ok(()),
    }
}
