use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::index::{Index, Place};
use super::writer::MOST_SPARE_SEGMENTS;
use super::*;
use crate::event_loop::EventLoop;
use crate::feed::Cursor;
use crate::journal::{Change, Key, LogName, Retention};
use crate::limits::Limits;
use crate::output::is_harmless;

const RETENTION: Retention = Retention { messages: 20, bytes: 1 << 20, time: None, rooms: 256 };

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Folder(std::env::temp_dir().join(format!("overwire-log-{}-{number}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        folder
    }

    fn segments(&self) -> Vec<PathBuf> {
        files::segments(&self.0).unwrap().into_iter().map(|number| files::segment_path(&self.0, number)).collect()
    }

    fn length(&self) -> u64 {
        // The writer may remove one at any time.
        self.segments().iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    /// Writes a single segment.
    fn write(&self, bytes: &[u8]) {
        fs::create_dir_all(&self.0).unwrap();
        fs::write(files::segment_path(&self.0, 1), bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Files that fail when they should.
#[derive(Debug, Default)]
struct Faults {
    /// The operation that fails, and the error.
    fails: Mutex<Option<(Operation, ErrorKind)>>,
    /// The operations that are left before all of them fail, as after a crash.
    left: Mutex<Option<usize>>,
    syncs: AtomicU64,
    /// The next sync says that it has begun, and waits for an answer.
    held: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    /// Whether syncs succeed without a word to the disk.
    skips_syncs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Write,
    Sync,
}

impl Faults {
    fn set(&self, fails: Option<(Operation, ErrorKind)>) {
        *self.fails.lock().unwrap() = fails;
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        if let Some(left) = &mut *self.left.lock().unwrap() {
            *left = left.checked_sub(1).ok_or(ErrorKind::Other)?;
        }
        match *self.fails.lock().unwrap() {
            Some((fails, error)) if fails == operation => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Files for Faults {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.check(Operation::Create)?;
        System.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        match self.check(Operation::Write) {
            Ok(()) => System.write(file, bytes),
            // A part is written, as on a full disk.
            Err(error) => System.write(file, &bytes[..bytes.len() / 2]).and(Err(error)),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.check(Operation::Sync)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if let Some((begun, end)) = self.held.lock().unwrap().take() {
            begun.send(()).unwrap();
            let _ = end.recv();
        }
        if self.skips_syncs { Ok(()) } else { System.sync(file) }
    }
}

/// A log on a disk, and what must be in it.
struct Fixture {
    event_loop: EventLoop,
    disk: Disk,
    faults: Arc<Faults>,
    tips: BTreeMap<String, Cursor>,
    messages: u64,
}

impl Fixture {
    fn open(folder: &Folder, mode: SyncMode) -> Self {
        Self::with(folder, mode, Faults::default())
    }

    fn with(folder: &Folder, mode: SyncMode, faults: Faults) -> Self {
        let event_loop = EventLoop::new(Limits::default()).unwrap();
        let (recovery, faults) = (Recovery::read(&folder.0, RETENTION).unwrap(), Arc::new(faults));
        let tips = read(&recovery).into_iter().map(|(name, log)| (name, log.tip())).collect();
        let disk = Disk::start(recovery, mode, event_loop.remote(), faults.clone()).unwrap();
        Fixture { event_loop, disk, faults, tips, messages: 0 }
    }

    fn append(&mut self, record: &Record<'_>) -> Result<u64, String> {
        self.disk.append(record)
    }

    /// Starts a room.
    fn start(&mut self, room: &str) {
        let start = format!("{:08x}-0000-8000-8000-000000000000", room.len() * 1000 + self.tips.len() + 1);
        let cursor = start.parse().unwrap();
        self.tips.insert(room.into(), cursor);
        self.append(&Record::Start { log: log(room), cursor }).unwrap();
    }

    /// Asks for a message of a room. Its text is its number in all rooms.
    fn ask(&mut self, room: &str, length: usize) -> Result<(u64, Cursor), String> {
        self.messages += 1;
        let tip = self.tips[room];
        let cursor = tip.at(self.messages as u32, tip.sequence() + 1);
        let body = format!(r#"{{"text":"{:0length$}"}}"#, self.messages);
        let key = Some(Key { digest: u128::from(self.messages).to_be_bytes(), fingerprint: [1; 8] });
        let record = Record::Message { log: log(room), cursor, time: 1000 * self.messages, key, body: &body };
        let number = self.append(&record)?;
        self.tips.insert(room.into(), cursor);
        Ok((number, cursor))
    }

    /// Waits until a record is committed, or else a failure comes.
    fn wait(&mut self, number: u64) -> Result<(), String> {
        while self.disk.committed() < number {
            if let Some(reason) = self.disk.failure() {
                return Err(reason);
            }
            self.event_loop.next_event().unwrap();
        }
        Ok(())
    }

    /// Appends a message, and waits for it.
    fn publish(&mut self, room: &str, length: usize) -> Result<Cursor, String> {
        let before = self.tips[room];
        let result = self.ask(room, length).and_then(|(number, cursor)| self.wait(number).map(|()| cursor));
        if result.is_err() {
            self.tips.insert(room.into(), before);
        }
        result
    }

    /// Publishes until the disk takes it again.
    fn publish_again(&mut self, room: &str) -> Cursor {
        loop {
            match self.publish(room, 1) {
                Ok(cursor) => return cursor,
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

fn log(room: &str) -> Log<'_> {
    Log { kind: LogKind::Room, name: room.into() }
}

/// A room as it was read.
#[derive(Debug, PartialEq)]
struct ReadLog {
    start: Cursor,
    messages: Vec<Cursor>,
}

impl ReadLog {
    fn tip(&self) -> Cursor {
        *self.messages.last().unwrap_or(&self.start)
    }
}

fn read(recovery: &Recovery) -> BTreeMap<String, ReadLog> {
    let mut logs: BTreeMap<String, ReadLog> = BTreeMap::new();
    for change in recovery.changes() {
        match change.unwrap() {
            Change::Opened { log: LogName::Room(name), start } => {
                logs.insert(name.to_string(), ReadLog { start, messages: Vec::new() });
            }
            Change::Appended { log, cursor, .. } => {
                let log = logs.get_mut(&**log.name()).unwrap();
                assert_eq!((log.tip().epoch(), log.tip().sequence() + 1), (cursor.epoch(), cursor.sequence()));
                log.messages.push(cursor);
            }
            _ => {}
        }
    }
    logs
}

fn read_folder(folder: &Folder) -> BTreeMap<String, ReadLog> {
    read(&Recovery::read(&folder.0, RETENTION).unwrap())
}

/// The bytes of a log with three messages of one room, and their cursors.
fn three_messages() -> (Vec<u8>, Vec<Cursor>) {
    let folder = Folder::new();
    let mut fixture = Fixture::open(&folder, SyncMode::Always);
    fixture.start("tea");
    let cursors = (0..3).map(|_| fixture.publish("tea", 1).unwrap()).collect();
    drop(fixture);
    (fs::read(&folder.segments()[0]).unwrap(), cursors)
}

#[test]
fn a_log_is_read_as_it_was_written() {
    let folder = Folder::new();
    let mut fixture = Fixture::open(&folder, SyncMode::Always);
    let mut cursors = Vec::new();
    ["tea", "a", "gone"].iter().for_each(|room| fixture.start(room));
    for room in ["tea", "gone", "tea"] {
        cursors.push(fixture.publish(room, 1).unwrap());
    }
    let mailbox = Log { kind: LogKind::Mailbox, name: "box".into() };
    let start = "000000ff-0000-8000-8000-000000000000".parse().unwrap();
    let records = [
        Record::Remove { log: log("gone") },
        Record::Position { client: "ada".into(), log: log("tea"), cursor: cursors[0], time: 5 },
        Record::Position { client: "ada".into(), log: log("tea"), cursor: cursors[2], time: 6 },
        Record::Start { log: mailbox.clone(), cursor: start },
        Record::Position { client: "".into(), log: mailbox.clone(), cursor: start, time: 6 },
    ];
    for record in &records {
        fixture.append(record).unwrap();
    }
    drop(fixture);
    let recovery = Recovery::read(&folder.0, RETENTION).unwrap();
    assert_eq!(recovery.cut(), None);
    let mut changes: Vec<_> = recovery.changes().map(Result::unwrap).collect();
    changes.retain(|change| !matches!(change, Change::Opened { .. }));
    let tea = LogName::Room("tea".into());
    let appended = |cursor, number| Change::Appended {
        log: tea.clone(),
        cursor,
        body: format!(r#"{{"text":"{number}"}}"#),
        ticket: None,
    };
    let position =
        |client: &str, log: &LogName, cursor| Change::Position { client: client.into(), log: log.clone(), cursor };
    let expected = [
        appended(cursors[0], 1),
        appended(cursors[2], 3),
        position("ada", &tea, cursors[2]),
        position("", &LogName::from(&mailbox), start),
    ];
    assert_eq!(changes, expected);
    let logs = read(&recovery);
    assert_eq!(logs.keys().collect::<Vec<_>>(), ["a", "tea"]);
    let keys: Vec<_> =
        recovery.keys().map(|(key, cursor, time)| (u128::from_be_bytes(key.digest), cursor, time)).collect();
    assert_eq!(keys, [(1, cursors[0], 1000), (2, cursors[1], 2000), (3, cursors[2], 3000)]);
}

#[test]
fn a_record_that_is_cut_at_any_byte_is_removed_and_the_log_continues() {
    let (bytes, cursors) = three_messages();
    let last = bytes.windows(9).rposition(|window| window == b" message ").unwrap() - 17;
    for length in last..bytes.len() {
        let folder = Folder::new();
        folder.write(&bytes[..length]);
        let recovery = Recovery::read(&folder.0, RETENTION).unwrap();
        assert_eq!(recovery.cut().map_or(0, |cut| cut.bytes), (length - last) as u64);
        assert_eq!(read(&recovery)["tea"].messages, cursors[..2]);
        drop(recovery);
        let mut fixture = Fixture::open(&folder, SyncMode::Always);
        fixture.messages = 100;
        let next = fixture.publish("tea", 1).unwrap();
        assert!(next.sequence() == cursors[2].sequence() && next != cursors[2]);
        drop(fixture);
        assert_eq!(read_folder(&folder)["tea"].messages, [cursors[0], cursors[1], next]);
    }
}

#[test]
fn a_flipped_bit_in_any_byte_is_cut_at_the_end_and_refused_before_it() {
    let (bytes, cursors) = three_messages();
    let synced = bytes.windows(7).rposition(|window| window == b"synced\n").unwrap() - 18;
    for at in 0..bytes.len() {
        for bit in [0, 4, 7] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let folder = Folder::new();
            folder.write(&damaged);
            match Recovery::read(&folder.0, RETENTION) {
                // The newest proof that something is on the disk is damaged itself, or what comes after it.
                Ok(recovery) => {
                    assert!(at >= synced && recovery.cut().is_some(), "{at}");
                    assert_eq!(read(&recovery)["tea"].messages, cursors[..2]);
                }
                Err(error) => {
                    assert!(at < synced, "{at}: {error}");
                    let OpenError::Damaged { offset, .. } = error else { panic!("{error}") };
                    assert!(offset <= at as u64);
                    assert_eq!(fs::read(&folder.segments()[0]).unwrap(), damaged);
                }
            }
        }
    }
}

#[test]
fn a_second_process_is_refused() {
    let folder = Folder::new();
    let fixture = Fixture::open(&folder, SyncMode::Always);
    let refused = Recovery::read(&folder.0, RETENTION);
    assert!(matches!(&refused, Err(OpenError::InUse(path)) if *path == folder.0));
    drop(fixture);
    assert!(Recovery::read(&folder.0, RETENTION).is_ok());
}

#[test]
fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    drop(Fixture::open(&folder, SyncMode::Always));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.0), mode(&folder.segments()[0])), (0o700, 0o600));
}

/// Publishes in three rooms until the log has gone through many segments. One room gets nothing after the beginning.
fn go_through_segments(fixture: &mut Fixture, folder: &Folder) -> Cursor {
    ["cold", "tea", "coffee"].iter().for_each(|room| fixture.start(room));
    for _ in 0..30 {
        fixture.ask("cold", 10).unwrap();
    }
    for round in 0..1500 {
        let room = ["tea", "coffee"][round % 2];
        let (number, _) = fixture.ask(room, 400).unwrap();
        if round % 20 == 0 {
            fixture.wait(number).unwrap();
            assert!(folder.length() < 6 * 64 * 1024, "{}", folder.length());
        }
    }
    fixture.tips["cold"]
}

#[test]
fn live_records_are_carried_forward() {
    for mode in [SyncMode::Always, SyncMode::Every(Duration::from_millis(20)), SyncMode::Never] {
        let folder = Folder::new();
        let mut fixture = Fixture::open(&folder, mode);
        let cold = go_through_segments(&mut fixture, &folder);
        let tips = fixture.tips.clone();
        drop(fixture);
        assert!(files::segments(&folder.0).unwrap()[0] > 5);
        for _ in 0..2 {
            let logs = read_folder(&folder);
            assert_eq!((logs["cold"].tip(), logs["cold"].messages.len()), (cold, 20));
            for (room, log) in &logs {
                assert_eq!((log.messages.len(), log.tip()), (20, tips[room]), "{room}");
            }
        }
        let recovery = Recovery::read(&folder.0, RETENTION).unwrap();
        assert_eq!(recovery.keys().count(), 300); // those of the last 300 s
    }
}

/// Everything stops in the middle of each operation once: at a write, half of the bytes are there.
#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_committed() {
    for left in 0.. {
        let folder = Folder::new();
        let faults = || Faults { skips_syncs: true, ..Faults::default() }; // the system does not crash
        drop(Fixture::with(&folder, SyncMode::Always, faults()));
        let mut fixture = Fixture::with(&folder, SyncMode::Always, faults());
        *fixture.faults.left.lock().unwrap() = Some(left);
        ["cold", "tea"].iter().for_each(|room| fixture.start(room));
        let (mut committed, mut is_over) = (BTreeMap::new(), false);
        for round in 0..20 {
            let room = if round < 2 { "cold" } else { "tea" };
            match fixture.publish(room, 24_000) {
                Ok(cursor) => drop(committed.insert(room, cursor)),
                Err(_) => {
                    is_over = true;
                    break;
                }
            }
        }
        drop(fixture);
        let logs = read_folder(&folder);
        for (room, tip) in committed {
            assert_eq!(logs[room].tip(), tip, "{left} {room}");
            assert_eq!(logs[room].messages.len() as u64, tip.sequence().min(20), "{left} {room}");
        }
        if !is_over {
            assert!(left > 40, "{left}");
            return;
        }
    }
}

#[test]
fn a_full_disk_refuses_messages_and_recovers() {
    for mode in [SyncMode::Always, SyncMode::Never] {
        let folder = Folder::new();
        let mut fixture = Fixture::open(&folder, mode);
        fixture.start("tea");
        let first = fixture.publish("tea", 1).unwrap();
        fixture.faults.set(Some((Operation::Write, ErrorKind::StorageFull)));
        let reason = fixture.publish("tea", 2).unwrap_err();
        assert!(reason.contains("00000001.log: ") && reason.contains("storage"), "{reason}");
        assert_eq!(fixture.ask("tea", 2).unwrap_err(), reason);
        fixture.start("opened meanwhile");
        fixture.start("removed");
        fixture.append(&Record::Remove { log: log("removed") }).unwrap();
        fixture.faults.set(None);
        let second = fixture.publish_again("tea");
        drop(fixture);
        let logs = read_folder(&folder);
        assert_eq!(logs["tea"].messages, [first, second]);
        assert_eq!(logs.keys().collect::<Vec<_>>(), ["opened meanwhile", "tea"]);
    }
}

#[test]
fn many_failures_leave_few_segments() {
    let folder = Folder::new();
    let mut fixture = Fixture::with(&folder, SyncMode::Always, Faults { skips_syncs: true, ..Faults::default() });
    fixture.start("tea");
    let mut messages = Vec::new();
    for _ in 0..3 * MOST_SPARE_SEGMENTS {
        fixture.faults.set(Some((Operation::Sync, ErrorKind::Other)));
        fixture.publish("tea", 1).unwrap_err();
        fixture.faults.set(None);
        messages.push(fixture.publish_again("tea"));
    }
    let numbers = files::segments(&folder.0).unwrap();
    assert!(numbers.len() <= MOST_SPARE_SEGMENTS + 2, "{numbers:?}");
    drop(fixture);
    assert_eq!(read_folder(&folder)["tea"].messages, messages[messages.len() - 20..]);
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    for mode in [SyncMode::Always, SyncMode::Every(Duration::ZERO)] {
        let folder = Folder::new();
        let mut fixture = Fixture::open(&folder, mode);
        fixture.start("tea");
        let mut messages = vec![fixture.publish("tea", 1).unwrap()];
        fixture.faults.set(Some((Operation::Sync, ErrorKind::Other)));
        while let Ok(cursor) = fixture.publish("tea", 2) {
            assert_ne!(mode, SyncMode::Always);
            messages.push(cursor); // it was committed before the sync
        }
        fixture.faults.set(None);
        messages.push(fixture.publish_again("tea"));
        drop(fixture);
        assert_eq!(files::segments(&folder.0).unwrap(), [1, 2]);
        let retained = &messages[messages.len().saturating_sub(20)..];
        assert_eq!(read_folder(&folder)["tea"].messages, retained);
    }
}

#[test]
fn a_deleted_folder_is_created_again_and_the_rooms_continue() {
    let folder = Folder::new();
    let mut fixture = Fixture::open(&folder, SyncMode::Always);
    ["tea", "coffee"].iter().for_each(|room| fixture.start(room));
    let first = fixture.publish("tea", 1).unwrap();
    fs::remove_dir_all(&folder.0).unwrap();
    assert!(fixture.publish("tea", 2).unwrap_err().contains("deleted"));
    let second = fixture.publish_again("tea");
    assert!(matches!(Recovery::read(&folder.0, RETENTION), Err(OpenError::InUse(_))));
    let coffee = fixture.tips["coffee"];
    drop(fixture);
    let logs = read_folder(&folder);
    assert_eq!(logs["tea"], ReadLog { start: first, messages: vec![second] });
    assert_eq!(logs["coffee"], ReadLog { start: coffee, messages: vec![] });
}

#[test]
fn a_slow_disk_takes_many_messages_at_once() {
    let folder = Folder::new();
    let mut fixture = Fixture::open(&folder, SyncMode::Always);
    fixture.start("tea");
    let ((begun, has_begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
    *fixture.faults.held.lock().unwrap() = Some((begun, ended));
    fixture.ask("tea", 10).unwrap();
    has_begun.recv().unwrap();
    let before = fixture.faults.syncs.load(Ordering::Relaxed);
    let numbers: Vec<_> = (0..1000).map(|_| fixture.ask("tea", 10).unwrap().0).collect();
    end.send(()).unwrap();
    fixture.wait(numbers[999]).unwrap();
    let syncs = fixture.faults.syncs.load(Ordering::Relaxed) - before;
    assert!(syncs < 10, "{syncs} for all that came while the disk was busy");
}

#[test]
fn missing_and_short_segments_are_refused() {
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    let mut previous = 0;
    for number in 1..=3 {
        let mut bytes = Vec::new();
        Record::Segment { number, previous }.encode(&mut bytes);
        Record::Remove { log: log("tea") }.encode(&mut bytes);
        fs::write(files::segment_path(&folder.0, number), &bytes).unwrap();
        previous = bytes.len() as u64;
    }
    let segments = folder.segments();
    let bytes = fs::read(&segments[1]).unwrap();
    let error = || Recovery::read(&folder.0, RETENTION).map(drop).unwrap_err();
    fs::write(&segments[1], &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(error(), OpenError::Short { path, .. } if path == segments[1]));
    fs::write(&segments[1], &bytes[1..]).unwrap();
    assert!(matches!(error(), OpenError::NotASegment(path) if path == segments[1]));
    fs::write(&segments[1], [&bytes[..50], &bytes[..50]].concat()).unwrap();
    assert!(matches!(error(), OpenError::Damaged { path, .. } if path == segments[1]));
    fs::remove_file(&segments[1]).unwrap();
    assert!(matches!(error(), OpenError::Missing(path) if path == segments[1]));
    // What lies after the length that the next segment names was never committed.
    fs::write(&segments[1], [&bytes[..], b"0000"].concat()).unwrap();
    assert!(Recovery::read(&folder.0, RETENTION).unwrap().cut().is_none());
    // A crash can lose even the first record of the last segment.
    fs::write(&segments[2], &bytes[..20]).unwrap();
    drop(Fixture::open(&folder, SyncMode::Always));
    assert_eq!(folder.segments(), segments[..2]);
}

/// A clock that was a day ahead for one message, as at the start of a machine.
#[test]
fn a_clock_that_was_ahead_ends_no_keys() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let log = Log { kind: LogKind::Room, name: "tea".into() };
    let (mut read, mut live) = (Index::new(RETENTION), Index::new(RETENTION));
    live.look_at_clock(now + DAY);
    for (sequence, time) in [(1, now + DAY), (2, now - 1000)] {
        let (cursor, place) = (Cursor::of_parts(7, 1, sequence).unwrap(), Place { segment: 1, offset: 0, length: 9 });
        let key = Some(Key::new(7, &sequence.to_string(), "ada", "x"));
        for index in [&mut read, &mut live] {
            index.apply(&Record::Message { log: log.clone(), cursor, time, key, body: "{}" }, place);
        }
        live.look_at_clock(now);
    }
    for index in [read, live] {
        let known: Vec<_> = index.keys().iter().map(|known| known.cursor.sequence()).collect();
        assert_eq!(known, [2, 1], "in the order of their times, as far as they are known");
    }
}

#[test]
fn a_record_of_a_later_version_is_not_cut() {
    let folder = Folder::new();
    let mut bytes = Vec::new();
    Record::Segment { number: 1, previous: 0 }.encode(&mut bytes);
    let offset = bytes.len() as u64;
    let payload = b"rename room \"tea\" \"coffee\"";
    let length = format!("{:08x}", payload.len());
    let sum = checksum(&[length.as_bytes(), payload]);
    bytes.extend_from_slice(format!("{length} {sum:08x} ").as_bytes());
    bytes.extend_from_slice(&[payload, &b"\n"[..]].concat());
    folder.write(&bytes);
    let error = Recovery::read(&folder.0, RETENTION).unwrap_err();
    let is_refused = matches!(error, OpenError::Damaged { offset: at, damage: Damage::Unknown, .. } if at == offset);
    assert!(is_refused, "{error}");
}

#[test]
fn a_printed_log_has_no_character_that_a_terminal_obeys() {
    let folder = Folder::new();
    let (mut bytes, mut printed) = (Vec::new(), Vec::new());
    Record::Segment { number: 1, previous: 0 }.encode(&mut bytes);
    let (log, cursor) =
        (Log { kind: LogKind::Room, name: "\u{202e}\u{9b}tea".into() }, Cursor::of_parts(7, 1, 1).unwrap());
    let body = "{\"text\":\"\u{202e}\u{9b}1m\u{2028}\u{e9}\"}";
    Record::Message { log, cursor, time: 0, key: None, body }.encode(&mut bytes);
    folder.write(&bytes);
    print(&folder.0, None, &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let obeyed: Vec<_> = printed.chars().filter(|one| *one != '\n' && !is_harmless(*one)).collect();
    assert!(obeyed.is_empty() && printed.contains('\u{e9}'), "{obeyed:?} {printed}");
}
