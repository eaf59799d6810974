//! Kills the server again and again while clients send and read on every transport, and checks that no message is lost
//! in silence. `tests/survival/run` builds and starts it. README.md in the folder of `run` describes it.

mod balancer;
mod cast;
mod check;
#[cfg(test)]
mod check_tests;
mod client;
#[path = "../common/dice.rs"]
mod dice;
mod file;
mod history;
mod mailboxes;
mod node;
#[path = "../common/program.rs"]
mod program;
mod redis;
mod rooms;
mod run;
mod world;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use self::cast::Journal;

const USAGE: &str = "usage: tests/survival/run [OPTIONS]
  --kills N        the number of kills in a run (default 20)
  --seeds N        the number of runs (default 1)
  --seed N         the seed of the first run (default: by the clock); it repeats the choices, not the schedule of
                   the threads
  --journal NAME   memory, file, redis or old-redis: the last restarts from an old snapshot (default memory)
  --sync WHEN      with a file, its --sync: always, 100ms or never (default always)
  --cut N          with a file, each kill loses up to N records from its end, as a loss of power does
  --nodes N        the number of servers, with Redis (default 1)
  --balancer       haproxy before them, which sends each request to another one
  --server PATH    this program (default: the release build)";

/// The options of a run.
pub struct Settings {
    pub program: PathBuf,
    pub kills: usize,
    pub seeds: u64,
    pub seed: u64,
    pub journal: Journal,
    pub sync: String,
    pub cut: u64,
    pub nodes: usize,
    pub balancer: bool,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, |settings| {
        let mut is_passed = true;
        for seed in settings.seed..settings.seed + settings.seeds {
            is_passed &= run::run(&settings, seed).map_err(|error| format!("seed {seed}: {error}"))?;
        }
        Ok::<_, String>(is_passed)
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let program = env::current_exe().ok().and_then(|own| Some(own.parent()?.join("../overwire")));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let program = program.unwrap_or_else(|| PathBuf::from("overwire"));
    let journal = Journal::Memory;
    let sync = "always".to_owned();
    let mut settings =
        Settings { program, kills: 20, seeds: 1, seed: now, journal, sync, cut: 0, nodes: 1, balancer: false };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{argument}: expected a number, not {text:?}"));
        match argument.as_str() {
            "--kills" => settings.kills = number(value()?)? as usize,
            "--seeds" => settings.seeds = number(value()?)?,
            "--seed" => settings.seed = number(value()?)?,
            "--journal" => settings.journal = Journal::of(&value()?)?,
            "--sync" => settings.sync = value()?,
            "--cut" => settings.cut = number(value()?)?,
            "--nodes" => settings.nodes = number(value()?)?.max(1) as usize,
            "--balancer" => settings.balancer = true,
            "--server" => settings.program = value()?.into(),
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    if settings.nodes > 1 && !matches!(settings.journal, Journal::Redis | Journal::OldRedis) {
        return Err("--nodes: expected --journal redis with it, because others share nothing".into());
    }
    Ok(settings)
}
