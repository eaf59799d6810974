//! A model of seven streams on a network that loses packets: when does each message reach its reader, if all streams
//! share one order, as over TCP, and if each stream has its own, as over QUIC? It computes, and sends nothing.

use std::io::{self, Write};
use std::process::ExitCode;

use lessons::Lesson;

const LESSON: Lesson = Lesson {
    name: "12-loss",
    port: 0,
    about: "computes how long messages wait for lost packets that are not theirs",
    first: "",
    look_for: "",
    costs: &[],
};

/// Each stream has a message every 100 ms, and each message is a packet.
const STREAMS: u64 = 7;
const INTERVAL: u64 = 100;
const MESSAGES: u64 = 7000;

/// The time from the server to the reader, in milliseconds.
const DELAY: u64 = 50;

/// The time until a lost packet is sent again: a round trip, in which the server learns that it is lost.
const NOTICE: u64 = 100;

fn main() -> ExitCode {
    LESSON.run(|_| {
        let mut table = String::from("lost packets                 late messages     mean delay    worst delay\n");
        for every in [100, 20] {
            let name = format!("every {every}th");
            table += &row(&format!("{name:<12} one order"), &deliver(every, |_| 0));
            table += &row(&format!("{name:<12} an order each"), &deliver(every, |stream| stream));
        }
        io::stdout().write_all(table.as_bytes())
    })
}

/// The delays of all messages, in milliseconds. `order` says which messages have to wait for each other.
fn deliver(lost: u64, order: impl Fn(u64) -> u64) -> Vec<u64> {
    let mut last = [0; STREAMS as usize]; // the latest delivery in each order
    let messages = 1..=MESSAGES;
    let delay = |number: u64| {
        let sent = number * INTERVAL / STREAMS;
        let arrives = sent + DELAY + if number.is_multiple_of(lost) { NOTICE } else { 0 };
        let last = &mut last[order(number % STREAMS) as usize];
        *last = arrives.max(*last); // nothing is delivered before what was sent before it
        *last - sent
    };
    messages.map(delay).collect()
}

fn row(name: &str, delays: &[u64]) -> String {
    let late = delays.iter().filter(|delay| **delay > DELAY).count();
    let (mean, worst) = (delays.iter().sum::<u64>() / MESSAGES, delays.iter().max().unwrap_or(&0));
    format!("{name:<26} {:>13} % {mean:>11} ms {worst:>11} ms\n", late as u64 * 100 / MESSAGES)
}
