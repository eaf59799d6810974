//! The check: every message that was answered "sent" is in the history of every reader once and in the order of the
//! log, unless the reader was told `recovered: false` in between.
//!
//! A log that keeps its messages is a chain. A log that loses its newest messages and goes on is a tree: the lost ones
//! are a branch that ends. Each message has one predecessor, for all readers. A reader follows one branch, without a
//! gap. It changes to another branch, or skips messages, only when it is told. So a history is a list of *stretches*,
//! and a notice is between two of them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use overwire::feed::Cursor;

use super::history::{History, Log, Sent, What, label};

/// The number of events that a failure shows before its place, and after it.
const SHOWN: (usize, usize) = (8, 3);

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub rule: Rule,
    /// One sentence.
    pub what: String,
    /// The events of the reader around the place.
    pub around: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An answer that no client may get.
    Answer,
    /// A reader gets the message that follows its position, in the same log.
    Gap,
    /// A stated position is that of the reader.
    Position,
    /// A text is one that was sent.
    Unsent,
    /// A message comes once, in a stretch and in the log.
    Twice,
    /// An id has one text.
    Text,
    /// All readers agree about the order.
    Order,
    /// A message that was answered before another one was sent comes before it.
    Time,
    /// An answered message is in the log.
    Lost,
    /// An answered message is with every reader that was not told.
    Missing,
    /// A notice is true.
    Told,
    /// The log has as many branches as losses.
    Branches,
    /// Every reader reaches the end.
    End,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)?;
        self.around.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// The messages that one reader received without being told, and the place where they begin.
struct Stretch<'a> {
    /// The position before the first message, if it is known.
    start: Option<Cursor>,
    messages: Vec<Seen<'a>>,
    /// The place among the events of the reader where it begins.
    at: usize,
    /// Whether a notice is there. If not, a gap is.
    is_told: bool,
}

#[derive(Clone, Copy)]
struct Seen<'a> {
    id: Cursor,
    text: &'a str,
    /// The place among the events of the reader.
    at: usize,
}

/// An epoch and a sequence: a position whose check is not known.
type Place = (u64, u64);

fn place(cursor: Cursor) -> Place {
    (cursor.epoch(), cursor.sequence())
}

impl Stretch<'_> {
    /// The place before the first message. `None` if nothing is known about it.
    fn begins(&self) -> Option<Place> {
        let before = |first: &Seen<'_>| (first.id.epoch(), first.id.sequence() - 1);
        self.start.map(place).or_else(|| self.messages.first().map(before))
    }

    /// Whether the log had this position when the reader began.
    fn has(&self, position: Cursor) -> bool {
        self.start == Some(position) || self.messages.iter().any(|seen| seen.id == position)
    }

    /// The position after the last message.
    fn ends(&self) -> Option<Cursor> {
        self.messages.last().map(|seen| seen.id).or(self.start)
    }
}

/// A reader's history in stretches.
struct Reading<'a> {
    history: &'a History,
    stretches: Vec<Stretch<'a>>,
}

/// Checks a log, and returns what is broken.
pub fn check(log: &Log) -> Vec<Failure> {
    let mut checker = Checker { log, failures: Vec::new() };
    let readings: Vec<Reading<'_>> = log.histories.iter().map(|history| checker.read(history)).collect();
    let tree = checker.grow(&readings);
    let chain = Chain::new(&tree, log.end);
    for reading in &readings {
        checker.check_once(reading);
        checker.check_times(reading);
        checker.check_notices(reading);
        checker.check_end(reading);
    }
    checker.check_texts(&tree, &chain);
    checker.check_branches(&tree);
    checker.check_answers(&readings, &chain);
    checker.failures
}

struct Checker<'a> {
    log: &'a Log,
    failures: Vec<Failure>,
}

impl<'a> Checker<'a> {
    fn fail(&mut self, rule: Rule, what: String) {
        self.failures.push(Failure { rule, what, around: Vec::new() });
    }

    /// Reports a failure at an event of a reader.
    fn fail_at(&mut self, rule: Rule, history: &History, at: usize, what: &str) {
        let (first, end) = (at.saturating_sub(SHOWN.0), (at + 1 + SHOWN.1).min(history.events.len()));
        let lines = history.events[first..end].iter().enumerate();
        let mark = |n: usize| if first + n == at { '>' } else { ' ' };
        let around = lines.map(|(n, event)| format!("{} {}", mark(n), event.line())).collect();
        self.failures.push(Failure { rule, what: format!("{}: {what}", history.reader), around });
    }

    /// Splits a history into stretches. A message that does not follow the one before it begins a stretch too, so that
    /// it is reported once.
    fn read(&mut self, history: &'a History) -> Reading<'a> {
        let mut stretches = vec![Stretch { start: history.start, messages: Vec::new(), at: 0, is_told: false }];
        for (at, event) in history.events.iter().enumerate() {
            let stretch = stretches.last_mut().expect("there is always one");
            let position = stretch.ends();
            match &event.what {
                What::Message { id, text } => {
                    let seen = Seen { id: *id, text, at };
                    match position.and_then(|position| gap(position, *id)) {
                        None => stretch.messages.push(seen),
                        Some(what) => {
                            stretches.push(Stretch { start: None, messages: vec![seen], at, is_told: false });
                            self.fail_at(Rule::Gap, history, at, &what);
                        }
                    }
                }
                What::At(stated) if position.is_none() => stretch.start = Some(*stated),
                What::At(stated) if position != Some(*stated) => {
                    self.fail_at(Rule::Position, history, at, "the server states another position than the reader's");
                }
                // The same notice twice, such as in the first event of a stream and after it.
                What::Told(to)
                    if stretch.is_told
                        && stretch.messages.is_empty()
                        && (stretch.start.is_none() || stretch.start == *to) =>
                {
                    stretch.start = *to;
                }
                What::Told(to) => stretches.push(Stretch { start: *to, messages: Vec::new(), at, is_told: true }),
                What::Wrong(what) => self.fail_at(Rule::Answer, history, at, what),
                What::At(_) | What::Note(_) => {}
            }
        }
        Reading { history, stretches }
    }

    /// Joins all stretches to the tree of the log.
    fn grow(&mut self, readings: &[Reading<'a>]) -> Tree<'a> {
        let mut tree = Tree::new();
        for reading in readings {
            for stretch in &reading.stretches {
                let mut before = stretch.start;
                for seen in &stretch.messages {
                    if let Err((rule, what)) = tree.add(seen, before, &reading.history.reader) {
                        self.fail_at(rule, reading.history, seen.at, &what);
                    }
                    before = Some(seen.id);
                }
            }
        }
        tree
    }

    /// No text comes twice in a stretch.
    fn check_once(&mut self, reading: &Reading<'_>) {
        for stretch in &reading.stretches {
            let mut texts = HashSet::new();
            if let Some(again) = stretch.messages.iter().find(|seen| !texts.insert(seen.text)) {
                let what = format!("{} comes twice, without a notice in between", label(again.text));
                self.fail_at(Rule::Twice, reading.history, again.at, &what);
            }
        }
    }

    /// What was answered before another message was sent comes before it: seen from the end, no message was sent later
    /// than the earliest answer to those after it.
    fn check_times(&mut self, reading: &Reading<'_>) {
        let sent: HashMap<&str, &Sent> = self.log.sent.iter().map(|sent| (&*sent.text, sent)).collect();
        for stretch in &reading.stretches {
            let mut earliest: Option<(Duration, &str)> = None;
            for seen in stretch.messages.iter().rev() {
                let Some(sent) = sent.get(seen.text) else { continue };
                if let Some((time, later)) = earliest.filter(|(time, _)| *time < sent.begun) {
                    let (text, later) = (label(seen.text), label(later));
                    let what =
                        format!("{text} was sent when {later} had been answered ({time:?}), and comes before it");
                    self.fail_at(Rule::Time, reading.history, seen.at, &what);
                    return;
                }
                let answers = sent.answers.iter().filter(|(_, id)| *id == seen.id);
                let answer = answers.map(|(time, _)| (*time, seen.text)).min();
                earliest = [earliest, answer].into_iter().flatten().min();
            }
        }
    }

    /// A reader is told only if its log does not have its position any more. With several servers it may have it once
    /// more: one that has not noticed the loss yet still sends the lost messages, and its readers are told later. A journal that keeps its messages tells it
    /// only of what was dropped because there is too much.
    fn check_notices(&mut self, reading: &Reading<'_>) {
        for pair in reading.stretches.windows(2).filter(|pair| pair[1].is_told) {
            let is_known = self.log.losses == 0 || self.log.servers == 1;
            if let Some(position) = pair[0].ends().filter(|position| is_known && pair[1].has(*position)) {
                let what = format!("it was told that its position {position} is lost, and the log still has it");
                self.fail_at(Rule::Told, reading.history, pair[1].at, &what);
                return;
            }
            if self.log.losses > 0 {
                continue;
            }
            let (from, to) = (pair[0].ends(), pair[1].begins());
            let is_true = to.is_some_and(|(epoch, sequence)| {
                let is_skipped = from.is_none_or(|from| from.epoch() == epoch && from.sequence() < sequence);
                is_skipped && sequence + self.log.retained <= self.log.end.sequence()
            });
            if !is_true {
                self.fail_at(
                    Rule::Told,
                    reading.history,
                    pair[1].at,
                    "it was told that messages are missing, and none are",
                );
                return;
            }
        }
    }

    fn check_end(&mut self, reading: &Reading<'_>) {
        let Reading { history, stretches } = reading;
        if stretches.last().and_then(Stretch::ends) != Some(self.log.end) {
            let what = format!("it has not reached the end, message {}", self.log.end.sequence());
            self.fail_at(Rule::End, history, history.events.len().saturating_sub(1), &what);
        }
    }

    /// Each text was sent, and is in the log once.
    fn check_texts(&mut self, tree: &Tree<'_>, chain: &Chain) {
        let sent: HashSet<&str> = self.log.sent.iter().map(|sent| &*sent.text).collect();
        if let Some((id, node)) = tree.0.iter().find(|(_, node)| !sent.contains(node.text)) {
            self.fail(Rule::Unsent, format!("nobody has sent {:?}, {id}, which {} has", node.text, node.reader));
        }
        let mut places = HashMap::new();
        for id in &chain.ids {
            let text = tree.0[id].text;
            if let Some(first) = places.insert(text, id) {
                let (text, one, other) = (label(text), first.sequence(), id.sequence());
                self.fail(Rule::Twice, format!("{text} is in the log twice, as messages {one} and {other}"));
                return;
            }
        }
    }

    fn check_branches(&mut self, tree: &Tree<'_>) {
        let branches = tree.branches();
        if branches > self.log.losses + 1 {
            let losses = self.log.losses;
            self.fail(
                Rule::Branches,
                format!("there are {branches} branches of the log, and it was cut {losses} times"),
            );
        }
    }

    /// Each answered message is in the log, and with each reader that was not told.
    fn check_answers(&mut self, readings: &[Reading<'_>], chain: &Chain) {
        let ids: Vec<HashSet<Cursor>> = readings.iter().map(Reading::ids).collect();
        let mut missing: Vec<Vec<(&Sent, Cursor)>> = vec![Vec::new(); readings.len()];
        let mut lost = Vec::new();
        for sent in &self.log.sent {
            for (_, id) in &sent.answers {
                if chain.lacks(*id) {
                    lost.push(format!("{}, {id}", label(&sent.text)));
                    continue;
                }
                for (reader, reading) in readings.iter().enumerate() {
                    if !ids[reader].contains(id) && !reading.was_told_of(*id, chain) {
                        missing[reader].push((sent, *id));
                    }
                }
            }
        }
        if self.log.losses == 0 && !lost.is_empty() {
            let what = format!("{} messages that were answered are not in the log: {}", lost.len(), lost[0]);
            self.fail(Rule::Lost, what);
        }
        for (reading, missing) in readings.iter().zip(&missing) {
            let Some((sent, id)) = missing.first() else { continue };
            let (text, count) = (label(&sent.text), missing.len());
            let what = format!("{count} answered messages are missing, without a notice: {text}, {id}");
            self.fail_at(Rule::Missing, reading.history, reading.place_of(*id), &what);
        }
    }
}

/// Describes what is wrong with the message `id` for a reader at `position`. `None` if it is the next one.
fn gap(position: Cursor, id: Cursor) -> Option<String> {
    let (expected, got) = (position.sequence() + 1, id.sequence());
    if id.epoch() != position.epoch() {
        return Some("a message of another log, without a notice".into());
    }
    match got {
        _ if got == expected => None,
        _ if got > expected => Some(format!("{} messages are missing, without a notice", got - expected)),
        _ => Some(format!("message {got} comes after message {}", position.sequence())),
    }
}

impl Reading<'_> {
    fn ids(&self) -> HashSet<Cursor> {
        self.stretches.iter().flat_map(|stretch| &stretch.messages).map(|seen| seen.id).collect()
    }

    /// Whether the reader began after this message of the chain, or was told when it skipped it.
    fn was_told_of(&self, id: Cursor, chain: &Chain) -> bool {
        let skips = |to: Option<Place>| to.is_some_and(|(epoch, to)| epoch == id.epoch() && to >= id.sequence());
        let had =
            |from: Option<Cursor>| from.is_some_and(|from| !chain.lacks(from) && from.sequence() >= id.sequence());
        let began_later = self.stretches.first().is_some_and(|first| skips(first.begins()));
        began_later
            || self.stretches.windows(2).any(|pair| pair[1].is_told && skips(pair[1].begins()) && !had(pair[0].ends()))
    }

    /// The place of the event at which a missing message should have come.
    fn place_of(&self, id: Cursor) -> usize {
        let messages = self.stretches.iter().flat_map(|stretch| &stretch.messages);
        let mut later = messages.filter(|seen| seen.id.epoch() == id.epoch() && seen.id.sequence() >= id.sequence());
        later.next().map_or(self.history.events.len().saturating_sub(1), |seen| seen.at)
    }
}

/// All messages that a reader has seen.
struct Tree<'a>(HashMap<Cursor, Node<'a>>);

struct Node<'a> {
    text: &'a str,
    before: Option<Cursor>,
    /// The first reader that has it.
    reader: &'a str,
}

impl<'a> Tree<'a> {
    fn new() -> Self {
        Tree(HashMap::new())
    }

    /// Adds a message, or compares it with what others have seen.
    fn add(&mut self, seen: &Seen<'a>, before: Option<Cursor>, reader: &'a str) -> Result<(), (Rule, String)> {
        let node = self.0.entry(seen.id).or_insert(Node { text: seen.text, before, reader });
        let (other, text) = (node.reader, label(node.text));
        if node.text != seen.text {
            return Err((Rule::Text, format!("{other} has {text} with the same id")));
        }
        node.before = node.before.or(before);
        if before.is_some() && node.before != before {
            let name = node.before.map_or(String::new(), |id| id.to_string());
            return Err((Rule::Order, format!("{other} has another message before {text}: {name}")));
        }
        Ok(())
    }

    /// The number of branches: one for each epoch, and one more for each other successor of a message.
    fn branches(&self) -> usize {
        let mut successors: HashMap<Cursor, usize> = HashMap::new();
        for before in self.0.values().filter_map(|node| node.before) {
            *successors.entry(before).or_default() += 1;
        }
        let epochs: HashSet<u64> = self.0.keys().map(|id| id.epoch()).collect();
        epochs.len() + successors.values().map(|count| count - 1).sum::<usize>()
    }
}

/// The branch that is left at the end, as far back as somebody has seen it.
struct Chain {
    end: Cursor,
    ids: HashSet<Cursor>,
    /// The smallest sequence of the seen part.
    first: u64,
}

impl Chain {
    fn new(tree: &Tree<'_>, end: Cursor) -> Self {
        let (mut ids, mut first) = (HashSet::new(), end.sequence() + 1);
        let mut next = Some(end);
        while let Some((id, node)) = next.and_then(|id| tree.0.get_key_value(&id)) {
            if !ids.insert(*id) {
                break; // a cycle has been reported as a gap
            }
            (first, next) = (id.sequence(), node.before);
        }
        Chain { end, ids, first }
    }

    /// Whether the log does not have this message any more. What is older than the seen part counts as kept.
    fn lacks(&self, id: Cursor) -> bool {
        let is_possible = id.epoch() == self.end.epoch() && id.sequence() <= self.end.sequence();
        !is_possible || (id.sequence() >= self.first && !self.ids.contains(&id))
    }
}
