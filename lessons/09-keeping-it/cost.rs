//! Senders that add messages to lesson 09's server, each the next one when the last is answered. Prints the number of
//! waits for the disk, and the time of a message.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use lessons::measure::{MESSAGE, Receiver};
use lessons::{Lesson, Receive};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "09-cost",
    port: 8009,
    about: "adds messages on lesson 09's server, and says how long each took, and how often the disk was waited for",
    first: "",
    look_for: "",
    costs: &[],
};

/// The number of messages of each row.
const MESSAGES: usize = 200;

fn main() -> ExitCode {
    LESSON.run(|port| print(([127, 0, 0, 1], port).into()))
}

fn print(address: SocketAddr) -> io::Result<()> {
    println!("{:<11} {:>9} {:>17} {:>15} {:>15}", "", "messages", "for each message", "time of each", "all of them");
    for senders in [1, 10, 100] {
        let (before, start) = (waits(address)?, Instant::now());
        let threads: Vec<_> = (0..senders).map(|_| thread::spawn(move || send(address, MESSAGES / senders))).collect();
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a sender panicked"))??;
        }
        let all = start.elapsed().as_secs_f64() * 1000.0;
        let each = all * senders as f64 / MESSAGES as f64;
        let waits = (waits(address)? - before) as f64 / MESSAGES as f64;
        let name = format!("{senders} sender{}", if senders == 1 { "" } else { "s" });
        println!("{name:<11} {MESSAGES:>9} {waits:>11.2} waits {each:>12.2} ms {all:>12.2} ms");
    }
    Ok(())
}

fn send(address: SocketAddr, messages: usize) -> io::Result<()> {
    let mut sender = Receiver::connect(address, Receive::Echo)?;
    for _ in 0..messages {
        sender.post("/add-message", &json!({ "message": MESSAGE }).to_string())?;
        sender.answer()?;
    }
    Ok(())
}

/// The waits of the server so far.
fn waits(address: SocketAddr) -> io::Result<u64> {
    let mut client = Receiver::connect(address, Receive::ShortPoll("/waits", 0))?;
    client.get()?;
    let answer: Value = serde_json::from_slice(&client.answer()?)?;
    answer["waits"].as_u64().ok_or_else(|| io::Error::other("this is not lesson 09's server"))
}
