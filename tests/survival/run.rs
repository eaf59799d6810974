//! One run: the server, its clients, the faults, and the verdict.

use std::io;
use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use overwire::feed::Cursor;
use serde_json::json;

use super::Settings;
use super::cast::Cast;
use super::check::check;
use super::client::{Trouble, get};
use super::dice::Dice;
use super::history::{Event, History, Log, Sent, What};
use super::rooms::{Reader, Talker, Transport, post_messages, send};
use super::world::{END, World, cursor};

const ROOMS: [&str; 2] = ["tea", "coffee"];

/// The messages that a room retains (README.md of the source).
const RETAINED: u64 = 1000;

/// The time that all clients need to end when nothing disturbs them, many times over.
const PATIENCE: Duration = Duration::from_secs(30);

/// The clients of one room.
struct Clients<'scope> {
    readers: Vec<ScopedJoinHandle<'scope, History>>,
    talkers: Vec<ScopedJoinHandle<'scope, (History, Vec<Sent>)>>,
    senders: Vec<ScopedJoinHandle<'scope, (Vec<Sent>, Vec<String>)>>,
}

/// Runs a seed, and prints its verdict. Returns whether all promises were kept.
pub fn run(settings: &Settings, seed: u64) -> io::Result<bool> {
    let mut cast = Cast::start(settings)?;
    let world = World::new(cast.addresses());
    let mut dice = Dice::of(seed, "faults");
    let starts: Vec<Cursor> = ROOMS.into_iter().map(|room| tip(&world, &mut dice, room)).collect::<io::Result<_>>()?;
    let logs: io::Result<Vec<Log>> = thread::scope(|scope| {
        let world = &world;
        let mut clients = Vec::new();
        for (room, start) in ROOMS.into_iter().zip(starts) {
            clients.push(Clients {
                readers: start_readers(scope, world, seed, room, start),
                talkers: (0..2)
                    .map(|n| Talker::new(world, seed, room, &format!("{room}-talker-{n}"), Some(start)))
                    .map(|talker| scope.spawn(move || talker.run()))
                    .collect(),
                senders: (0..2)
                    .map(|n| scope.spawn(move || post_messages(world, seed, room, &format!("{room}-sender-{n}"))))
                    .collect(),
            });
        }
        let disturbed = cast.disturb(&mut dice, settings.kills);
        // All clients end, whatever happened.
        world.senders_end.store(true, Ordering::Relaxed);
        let ends = disturbed.and_then(|()| end_logs(world, &mut dice));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !clients.iter().all(Clients::are_finished) {
            thread::sleep(Duration::from_millis(20));
        }
        world.readers_end.store(true, Ordering::Relaxed);
        let losses = cast.losses;
        let collected = clients.into_iter().zip(ROOMS).map(|(clients, room)| clients.collect(room));
        let collected: Vec<(Vec<Sent>, Vec<History>)> = collected.collect();
        let logs = collected.into_iter().zip(ROOMS).zip(ends?).map(|(((mut sent, histories), room), (begun, end))| {
            sent.push(Sent { text: END.into(), begun, answers: vec![(world.now(), end)] });
            Log {
                name: format!("room {room}"),
                sent,
                histories,
                end,
                losses,
                servers: settings.nodes,
                retained: RETAINED,
            }
        });
        Ok(logs.collect())
    });
    Ok(report(seed, &logs?, world.now()))
}

fn start_readers<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    world: &'scope World,
    seed: u64,
    room: &'static str,
    start: Cursor,
) -> Vec<ScopedJoinHandle<'scope, History>> {
    let faithful = Transport::ALL.map(|transport| (format!("{room}-{transport:?}"), vec![transport]));
    let hopping = (0..3).map(|n| (format!("{room}-hopping-{n}"), Transport::ALL.to_vec()));
    let start_one = |(name, transports): (String, Vec<Transport>)| {
        let reader = Reader::new(world, seed, room, &name, Some(start));
        scope.spawn(move || reader.run(&transports))
    };
    faithful.into_iter().chain(hopping).map(start_one).collect()
}

/// Sends the last message of each room when the senders have ended. Returns when it was sent, and its id.
fn end_logs(world: &World, dice: &mut Dice) -> io::Result<Vec<(Duration, Cursor)>> {
    let start = Instant::now();
    while world.senders.load(Ordering::SeqCst) > 0 && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let end = |room| {
        let content = json!({ "sender": "end", "room": room, "text": END, "key": END });
        let begun = world.now();
        Ok((begun, persist(dice, |dice| send(world, dice, &content))?))
    };
    ROOMS.into_iter().map(end).collect()
}

/// Returns the position after the newest message.
fn tip(world: &World, dice: &mut Dice, room: &str) -> io::Result<Cursor> {
    persist(dice, |dice| {
        let answer = world.connect(dice)?.ask(&get(&format!("/api/messages?room={room}"), ""))?;
        cursor(&answer.content["last_message_id"]).ok_or_else(|| Trouble::Wrong("a poll without a position".into()))
    })
}

/// Tries until it succeeds. Nothing disturbs the server meanwhile.
fn persist<T>(dice: &mut Dice, mut attempt: impl FnMut(&mut Dice) -> Result<T, Trouble>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match attempt(dice) {
            Ok(value) => return Ok(value),
            Err(trouble) if start.elapsed() > PATIENCE => {
                return Err(io::Error::other(format!("the server does not answer: {trouble}")));
            }
            Err(_) => dice.back_off(),
        }
    }
}

impl Clients<'_> {
    fn are_finished(&self) -> bool {
        self.readers.iter().all(ScopedJoinHandle::is_finished)
            && self.talkers.iter().all(ScopedJoinHandle::is_finished)
            && self.senders.iter().all(ScopedJoinHandle::is_finished)
    }

    /// Waits for the clients. What was wrong for a sender is a history too.
    fn collect(self, room: &str) -> (Vec<Sent>, Vec<History>) {
        let (mut sent, mut histories, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        histories.extend(self.readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")));
        for talker in self.talkers {
            let (history, messages) = talker.join().expect("a talker does not panic");
            histories.push(history);
            sent.extend(messages);
        }
        for sender in self.senders {
            let (messages, wrong) = sender.join().expect("a sender does not panic");
            sent.extend(messages);
            faults.extend(wrong.into_iter().map(|what| Event { time: Duration::ZERO, what: What::Wrong(what) }));
        }
        if !faults.is_empty() {
            histories.push(History { reader: format!("{room}-senders"), start: None, events: faults });
        }
        (sent, histories)
    }
}

/// Prints what was broken, and one line about the run.
fn report(seed: u64, logs: &[Log], time: Duration) -> bool {
    let mut is_passed = true;
    for log in logs {
        for failure in check(log) {
            println!("seed {seed}, {}: {failure}\n", log.name);
            is_passed = false;
        }
    }
    let histories = || logs.iter().flat_map(|log| &log.histories);
    let count = |kind: fn(&What) -> bool| {
        histories().flat_map(|history| &history.events).filter(|event| kind(&event.what)).count()
    };
    let answered = logs.iter().flat_map(|log| &log.sent).filter(|sent| !sent.answers.is_empty()).count();
    println!(
        "seed {seed}: {answered} messages answered, {} received by {} readers, {} notices, {:.1} s: {}",
        count(|what| matches!(what, What::Message { .. })),
        histories().count(),
        count(|what| matches!(what, What::Told(_))),
        time.as_secs_f64(),
        if is_passed { "ok" } else { "FAILED" }
    );
    is_passed
}
