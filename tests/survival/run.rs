//! One run: the server, its clients, the faults, and the verdict.

use std::io;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use overwire::feed::Cursor;

use super::Settings;
use super::cast::Cast;
use super::check::check;
use super::client::{Trouble, get};
use super::dice::Dice;
use super::history::{Event, History, Log, Sent, What};
use super::mailboxes;
use super::rooms::{self, Reader, Talker, Transport, send_messages};
use super::world::{END, World, cursor};

const ROOMS: [&str; 2] = ["tea", "coffee"];

/// The messages that a room retains (README.md of the source).
const RETAINED: u64 = 1000;

/// The texts that a mailbox retains.
const RETAINED_IN_MAILBOX: u64 = 100;

/// The time that all clients need to end when nothing disturbs them, many times over.
const PATIENCE: Duration = Duration::from_secs(100);

/// A log that the clients use.
enum Target {
    Room { name: &'static str, start: Cursor },
    Mailbox(String),
}

impl Target {
    fn name(&self) -> String {
        match self {
            Target::Room { name, .. } => format!("room {name}"),
            Target::Mailbox(id) => format!("mailbox {id}"),
        }
    }

    /// The number of messages that the server retains at least.
    fn retained(&self) -> u64 {
        match self {
            Target::Room { .. } => RETAINED,
            Target::Mailbox(_) => RETAINED_IN_MAILBOX,
        }
    }

    /// Sends a message once, and returns its id.
    fn send(&self, world: &World, dice: &mut Dice, message: (&str, &str, &str)) -> Result<Cursor, Trouble> {
        match self {
            Target::Room { name, .. } => rooms::send(world, dice, name, message),
            Target::Mailbox(id) => mailboxes::send(world, dice, id, (message.1, message.2)),
        }
    }
}

/// The clients of one log.
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
    let targets = targets(cast.can_lose(), &world, &mut dice)?;
    let logs: io::Result<Vec<Log>> = thread::scope(|scope| {
        let (world, targets) = (&world, &targets);
        let clients: Vec<_> = targets.iter().map(|target| Clients::start(scope, world, seed, target)).collect();
        let disturbed = cast.disturb(&mut dice, settings.kills);
        // All clients end, whatever happened.
        world.senders_end.store(true, Ordering::Relaxed);
        let ends = disturbed.and_then(|()| end_logs(world, targets, &mut dice));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !clients.iter().all(Clients::are_finished) {
            thread::sleep(Duration::from_millis(20));
        }
        world.readers_end.store(true, Ordering::Relaxed);
        let collected: Vec<_> =
            clients.into_iter().zip(targets).map(|(clients, target)| clients.collect(target)).collect();
        let mut logs = Vec::new();
        for (((mut sent, mut histories), target), (begun, end)) in collected.into_iter().zip(targets).zip(ends?) {
            sent.push(Sent { text: END.into(), begun, answers: vec![(world.now(), end)] });
            if let Target::Room { name, .. } = target {
                histories.push(read_late(world, seed, name));
            }
            let (name, retained) = (target.name(), target.retained());
            let (losses, servers) = (cast.losses, settings.nodes);
            logs.push(Log { name, sent, histories, end, losses, servers, retained });
        }
        Ok(logs)
    });
    Ok(report(seed, &logs?, world.now()))
}

/// The rooms, and a mailbox if it is never lost.
fn targets(can_lose: bool, world: &World, dice: &mut Dice) -> io::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for name in ROOMS {
        targets.push(Target::Room { name, start: tip(world, dice, name)? });
    }
    if !can_lose {
        targets.push(Target::Mailbox(persist(dice, |dice| mailboxes::create(world, dice))?));
    }
    Ok(targets)
}

/// A reader that comes when all is over, and asks for everything.
fn read_late(world: &World, seed: u64, room: &'static str) -> History {
    let calm = World::new(world.addresses.clone());
    Reader::new(&calm, seed, room, &format!("{room}-late"), None).run(&[Transport::ShortPoll])
}

impl<'scope> Clients<'scope> {
    fn start(scope: &'scope Scope<'scope, '_>, world: &'scope World, seed: u64, target: &'scope Target) -> Self {
        let start_sender = |n| {
            let name = format!("{}-sender-{n}", target.name().replace(' ', "-"));
            scope.spawn(move || {
                send_messages(world, seed, &name, |dice, text, key| target.send(world, dice, (&name, text, key)))
            })
        };
        let senders = (0..2).map(start_sender).collect();
        match target {
            Target::Room { name, start } => Clients {
                readers: start_readers(scope, world, seed, name, *start),
                talkers: (0..2)
                    .map(|n| Talker::new(world, seed, name, &format!("{name}-talker-{n}"), Some(*start)))
                    .map(|talker| scope.spawn(move || talker.run()))
                    .collect(),
                senders,
            },
            Target::Mailbox(id) => {
                let reader = mailboxes::Reader::new(world, seed, id, "mailbox-reader");
                Clients { readers: vec![scope.spawn(move || reader.run())], talkers: Vec::new(), senders }
            }
        }
    }
}

fn start_readers<'scope>(
    scope: &'scope Scope<'scope, '_>,
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

/// Sends the last message of each log when the senders have ended. Returns when it was sent, and its id.
fn end_logs(world: &World, targets: &[Target], dice: &mut Dice) -> io::Result<Vec<(Duration, Cursor)>> {
    let start = Instant::now();
    while world.senders.load(Ordering::SeqCst) > 0 && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let end = |target: &Target| {
        let begun = world.now();
        Ok((begun, persist(dice, |dice| target.send(world, dice, ("end", END, END)))?))
    };
    targets.iter().map(end).collect()
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
    fn collect(self, target: &Target) -> (Vec<Sent>, Vec<History>) {
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
            histories.push(History { reader: format!("senders of {}", target.name()), start: None, events: faults });
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
