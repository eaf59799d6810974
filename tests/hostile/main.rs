//! Attacks on the server by clients that mean harm, and by clients that are broken. Each starts the real server,
//! attacks it while a victim measures, and compares the figures with bounds. `tests/hostile/run` builds and starts it.
//! README.md in the folder of `run` describes the attacks.

mod client;
mod cost;
mod crowd;
#[path = "../common/from.rs"]
mod from;
mod greedy;
mod memory;
mod other;
mod places;
#[path = "../common/program.rs"]
mod program;
mod scene;
mod target;
mod time;
mod victim;

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use scene::{Row, Settings};

const USAGE: &str = "usage: tests/hostile/run [--busy] [--minutes N] [--server PATH] [ATTACK...]
       tests/hostile/run [--server PATH] cost [WORD...]
  --busy         the machine does other work: the victim may wait ten times as long
  --minutes N    let each attack that can go on go on for this time, and wait for real deadlines
  --server PATH  attack this program (default: the release build)
  ATTACK         unread, dear, keys, places, unfinished, log, stopped, urgent, static, greedy (default: all)
  cost           measure the dearest request of each endpoint instead (rows whose name contains a WORD)";

type Attack = fn(&Settings) -> io::Result<Vec<Row>>;

const ATTACKS: [(&str, Attack); 10] = [
    ("unread", memory::unread),
    ("dear", time::dear),
    ("keys", memory::keys),
    ("places", places::places),
    ("unfinished", memory::unfinished),
    ("log", time::log),
    ("stopped", time::stopped),
    ("urgent", time::urgent),
    ("static", memory::large_files),
    ("greedy", greedy::greedy),
];

fn main() -> ExitCode {
    program::main(USAGE, parse, |(settings, words)| match words.split_first() {
        Some((first, rest)) if first == "cost" => cost::measure(&settings, rest),
        _ => attack(&settings, &words),
    })
}

/// Runs the attacks with these names, or all of them. Returns whether all bounds were kept.
fn attack(settings: &Settings, names: &[String]) -> io::Result<bool> {
    let mut is_passed = true;
    scene::print_head();
    for (name, attack) in ATTACKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        // An attack that cannot be made fails, and does not keep the others from being made.
        match attack(settings) {
            Ok(rows) => {
                rows.iter().for_each(Row::print);
                is_passed &= rows.iter().all(|row| row.faults.is_empty());
            }
            Err(error) => {
                println!("| {name} | | | | | | FAILED: {error} |");
                is_passed = false;
            }
        }
    }
    Ok(is_passed)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Settings, Vec<String>), String> {
    let program = env::current_exe().ok().and_then(|own| Some(own.parent()?.join("../overwire")));
    let mut settings =
        Settings { program: program.unwrap_or_else(|| PathBuf::from("overwire")), minutes: 0, is_busy: false };
    let mut words = Vec::new();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--busy" => settings.is_busy = true,
            "--minutes" => settings.minutes = value()?.parse().map_err(|_| "--minutes: expected a number")?,
            "--server" => settings.program = value()?.into(),
            _ => words.push(argument),
        }
    }
    let is_cost = words.first().is_some_and(|word| word == "cost");
    match words.iter().find(|word| !is_cost && !ATTACKS.iter().any(|(name, _)| name == *word)) {
        Some(unknown) => Err(format!("unknown attack {unknown:?}")),
        None => Ok((settings, words)),
    }
}
