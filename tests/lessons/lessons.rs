//! The lessons say nothing that is not so: excerpts are the code, transcripts are what is printed,
//! links lead somewhere, an exercise's test fails until it is done, and its answer does it.
//!
//! `BLESS=1 cargo test --test lessons` rewrites excerpts and transcripts. Needs bash, curl, nc
//! (OpenBSD's) and git.

#[path = "../common/lesson.rs"]
mod common;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The project's folder: the lessons are a package of their own in it.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const LESSONS: [&str; 9] = [
    "00-readiness",
    "01-http",
    "02-short-polling",
    "03-long-polling",
    "04-http-streaming",
    "05-server-sent-events",
    "06-websocket",
    "07-webrtc-signalling",
    "08-choosing",
];

/// How long a command may take to print what it is to print. Generous: it is never waited for in vain.
const PATIENCE: Duration = Duration::from_secs(60);

/// When blessing, nobody knows how many lines will come: silence for so long is their end.
const SILENCE: Duration = Duration::from_secs(2);

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn readme(lesson: &str) -> PathBuf {
    Path::new(ROOT).join("lessons").join(lesson).join("README.md")
}

/// Every page of the course, and the project's own. That none is missing is told by another test.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![Path::new(ROOT).join("README.md"), Path::new(ROOT).join("lessons/README.md")];
    pages.extend(LESSONS.iter().map(|lesson| readme(lesson)));
    pages.retain(|page| page.exists());
    pages
}

// Fenced blocks.

/// A fenced block of a page: the lines between its fences, by number, counted from 0.
struct Block {
    info: String,
    first: usize,
    end: usize,
}

fn blocks(lines: &[String]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (at, line) in lines.iter().enumerate() {
        let Some(info) = line.strip_prefix("```") else { continue };
        match open.take() {
            Some((info, first)) => blocks.push(Block { info, first, end: at }),
            None => open = Some((info.trim().to_owned(), at + 1)),
        }
    }
    assert!(open.is_none(), "a fence is not closed: {open:?}");
    blocks
}

/// Which terminal a block is of. What stands behind the fence is not shown to a reader: the line above says it.
fn terminal_of<'a>(block: &'a Block, lines: &[String]) -> Option<&'a str> {
    let terminal = block.info.strip_prefix("console ")?;
    let said = block.first.checked_sub(2).map(|at| lines[at].as_str());
    assert!(said == Some(&format!("Terminal {terminal}:")), "line {}: expected `Terminal {terminal}:`", block.first);
    Some(terminal)
}

fn lines_of(path: &Path) -> Vec<String> {
    read(path).lines().map(str::to_owned).collect()
}

/// Replaces ranges of lines, the last one first, so that the numbers of the others stay right.
fn rewrite(path: &Path, mut lines: Vec<String>, mut changes: Vec<(std::ops::Range<usize>, Vec<String>)>) {
    changes.sort_by_key(|(range, _)| range.start);
    for (range, new) in changes.into_iter().rev() {
        lines.splice(range, new);
    }
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

// Excerpts.

/// A marked region of a source, without its common indentation and without marks inside of it.
fn region(path: &Path, name: &str) -> Result<Vec<String>, String> {
    let source = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_mark = |line: &str, mark: &str| {
        let words: Vec<_> =
            line.split_whitespace().filter(|word| !matches!(*word, "//" | "<!--" | "-->" | "#")).collect();
        words == [mark, name]
    };
    let mut lines = source.lines().skip_while(|line| !is_mark(line, "ANCHOR:"));
    lines.next().ok_or_else(|| format!("{} has no `ANCHOR: {name}`", path.display()))?;
    let mut inside = Vec::new();
    for line in lines.by_ref() {
        if is_mark(line, "ANCHOR_END:") {
            let shortest = inside.iter().filter(|line: &&String| !line.is_empty());
            let indentation = shortest.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
            return Ok(inside.iter().map(|line| line.get(indentation..).unwrap_or_default().to_owned()).collect());
        }
        if !line.contains("ANCHOR: ") && !line.contains("ANCHOR_END: ") {
            inside.push(line.to_owned());
        }
    }
    Err(format!("{} has no `ANCHOR_END: {name}`", path.display()))
}

#[test]
fn excerpts_match_the_code() {
    let mut wrong = String::new();
    for page in pages() {
        let lines = lines_of(&page);
        let mut changes = Vec::new();
        for block in blocks(&lines) {
            let mark = block.first.checked_sub(2).map(|at| lines[at].as_str()).unwrap_or_default();
            let place = mark.strip_prefix("<!-- excerpt: ").and_then(|rest| rest.strip_suffix(" -->"));
            let Some(place) = place else {
                if block.info == "rust" && page != Path::new(ROOT).join("README.md") {
                    writeln!(wrong, "{}:{}: rust that is no excerpt", page.display(), block.first).unwrap();
                }
                continue;
            };
            let (file, name) = place.split_once('#').expect("a file and the name of a region");
            let file = match file.strip_prefix('/') {
                Some(file) => Path::new(ROOT).join(file),
                None => page.parent().unwrap().join(file),
            };
            match region(&file, name) {
                Ok(code) if code == lines[block.first..block.end] => {}
                Ok(code) if blessing() => changes.push((block.first..block.end, code)),
                Ok(code) => {
                    writeln!(wrong, "{}:{}: {place} is now\n{}", page.display(), block.first, code.join("\n")).unwrap()
                }
                Err(error) => writeln!(wrong, "{}:{}: {error}", page.display(), block.first).unwrap(),
            }
        }
        if !changes.is_empty() {
            rewrite(&page, lines, changes);
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 rewrites excerpts\n{wrong}");
}

// Transcripts.

/// The ids of a page, or of a run, in the order in which they appear: those of the one stand for those of the
/// other, and an id that comes again must be the same on both sides.
#[derive(Default)]
struct Ids(HashMap<String, usize>);

impl Ids {
    fn name(&mut self, id: &[char]) -> String {
        let next = self.0.len() + 1;
        format!("<id {}>", self.0.entry(id.iter().collect()).or_insert(next))
    }
}

/// What differs from run to run is masked on both sides: dates, ids, ports, times.
fn masked(line: &str, mask_keys: bool, ids: &mut Ids) -> String {
    let line = line.trim_end();
    let mut line = mask_time_column(line);
    for field in ["Date: ", "User-Agent: "] {
        line = mask_value(line, field);
    }
    if mask_keys {
        line = mask_value(mask_value(line, "Sec-WebSocket-Key: "), "Sec-WebSocket-Accept: ");
    }
    let characters: Vec<char> = line.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < characters.len() {
        let rest = &characters[at..];
        let begins = at == 0 || !characters[at - 1].is_alphanumeric();
        if begins && is_uuid(rest) {
            out += &ids.name(&rest[..36]);
            at += 36;
            continue;
        }
        if let Some((length, mask)) = number(rest).filter(|_| begins) {
            // In a table, what is shorter has more spaces in front.
            while out.ends_with("  ") {
                out.pop();
            }
            out += mask;
            at += length;
        } else {
            out.push(characters[at]);
            at += 1;
        }
    }
    mask_ports(&out)
}

/// `  0.012 > ` of the program `wire`.
fn mask_time_column(line: &str) -> String {
    let trimmed = line.trim_start();
    let number = trimmed.split(' ').next().unwrap_or_default();
    let is_time = number.split_once('.').is_some_and(|(whole, part)| {
        part.len() == 3 && !whole.is_empty() && whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit())
    });
    match trimmed.get(number.len()..) {
        Some(rest) if is_time && rest.trim_start().starts_with(['>', '<', '*']) => format!("<time>{rest}"),
        _ => line.to_owned(),
    }
}

fn mask_value(line: String, field: &str) -> String {
    match line.find(field) {
        Some(at) => line[..at + field.len()].to_owned() + "<value>",
        None => line,
    }
}

fn is_uuid(rest: &[char]) -> bool {
    rest.len() >= 36
        && rest[..36].iter().enumerate().all(|(at, character)| match at {
            8 | 13 | 18 | 23 => *character == '-',
            _ => character.is_ascii_hexdigit(),
        })
}

/// A number with a fraction is a time when it has ten digits or a unit behind it, and an amount of
/// memory when that is KB: how many characters it has, and what stands for it, which is its size,
/// roughly.
fn number(rest: &[char]) -> Option<(usize, &'static str)> {
    let digits = |from: usize| rest[from..].iter().take_while(|character| character.is_ascii_digit()).count();
    let whole = digits(0);
    if whole == 0 || rest.get(whole) != Some(&'.') || digits(whole + 1) == 0 {
        return None;
    }
    let end = whole + 1 + digits(whole + 1);
    let number: f64 = rest[..end].iter().collect::<String>().parse().ok()?;
    let unit: String = rest[end..].iter().take(3).collect();
    let milliseconds = match unit.trim_end_matches(|character: char| !character.is_alphanumeric()) {
        _ if whole == 10 => return Some((end, "<timestamp>")),
        " KB" if number < 4.0 => return Some((end, "<less than 4>")),
        " us" => number / 1000.0,
        " ms" => number,
        " s" => number * 1000.0,
        _ => return None,
    };
    Some((end, if milliseconds < 700.0 { "<short>" } else { "<seconds>" }))
}

/// The port of a client is the system's choice.
fn mask_ports(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("127.0.0.1:") {
        let (before, after) = rest.split_at(at + "127.0.0.1:".len());
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        out += before;
        out += if digits == 5 { "<port>" } else { &after[..digits] };
        rest = &after[digits..];
    }
    out + rest
}

/// curl's own remarks, which differ with its version.
fn is_remark(line: &str) -> bool {
    line.starts_with("* ") || line.starts_with("{ [") || line.starts_with("} [")
}

/// What a command has printed so far, and whether that is all.
#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    ended: bool,
    changed: Option<Instant>,
}

/// A command that runs in a terminal.
struct Running {
    process: Child,
    watchdog: Child,
    printed: Arc<(Mutex<Printed>, Condvar)>,
    command: String,
    /// How many of its lines have been shown in blocks before.
    shown: usize,
    mask_keys: bool,
}

impl Running {
    fn start(command: &str, places: &Places) -> Self {
        let run = places.command(command);
        // Both streams go to one pipe, as they go to one terminal; and Ctrl+C works even if whoever
        // started this test ignores it.
        let mut process = Command::new("env")
            .args(["--default-signal=INT", "bash", "-c", &format!("exec 2>&1\n{run}")])
            .current_dir(ROOT)
            .env("CURL_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("NO_COLOR", "1")
            .env_remove("BLESS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        // Should this process be killed, its end of the pipe is closed, and the group is ended all the same.
        let watchdog = Command::new("bash")
            .args(["-c", "cat; kill -KILL -- -$0", &process.id().to_string()])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let printed = Arc::new((Mutex::new(Printed::default()), Condvar::new()));
        let (mut stdout, shared) = (process.stdout.take().unwrap(), printed.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let count = stdout.read(&mut bytes).unwrap_or(0);
                let mut printed = shared.0.lock().unwrap();
                printed.bytes.extend_from_slice(&bytes[..count]);
                printed.ended = count == 0;
                printed.changed = Some(Instant::now());
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        let mask_keys = !command.contains("--key") && !command.contains("Sec-WebSocket-Key");
        Running { process, watchdog, printed, command: command.to_owned(), shown: 0, mask_keys }
    }

    /// The lines that have come since those that were shown, when `enough` says that it is enough of
    /// them, or when no more will come.
    fn wait(&mut self, places: &Places, enough: impl Fn(&[String], Duration) -> bool) -> (Vec<String>, bool) {
        let start = Instant::now();
        let mut printed = self.printed.0.lock().unwrap();
        loop {
            let lines = places.lines(&printed.bytes, printed.ended).split_off(self.shown);
            let silence = printed.changed.unwrap_or(start).max(start).elapsed();
            if printed.ended || enough(&lines, silence) || start.elapsed() > PATIENCE {
                return (lines, printed.ended);
            }
            printed = self.printed.1.wait_timeout(printed, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// Ctrl+C.
    fn interrupt(&self) {
        let group = format!("-{}", self.process.id());
        Command::new("kill").args(["-INT", "--", &group]).status().expect("kill runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.process.wait();
    }
}

/// How the places that a page names are called in this run: the programs, and the port.
struct Places {
    programs: PathBuf,
    written: String,
    port: String,
}

impl Places {
    fn new(written: u16) -> Self {
        Places {
            programs: common::program("wire").parent().unwrap().to_owned(),
            written: written.to_string(),
            port: free_port().to_string(),
        }
    }

    /// The command as it is run here: the program that is built already, on a port that is free.
    fn command(&self, command: &str) -> String {
        let programs = self.programs.display();
        let mut words = Vec::new();
        let mut rest = command.split(' ');
        while let Some(word) = rest.next() {
            if word != "cargo" {
                words.push(word.to_owned());
                continue;
            }
            let run: Vec<_> = rest.by_ref().take_while(|word| *word != "--bin").collect();
            assert_eq!(run, ["run", "-q"], "a program is run by `cargo run -q --bin NAME`: {command}");
            let name = rest.next().expect("the program's name");
            words.push(format!("{programs}/{name}"));
            if name != "wire" {
                words.push(format!("--port {}", self.port));
            }
            match rest.next() {
                None | Some("--") => {}
                Some(word) => words.push(word.to_owned()),
            }
        }
        words
            .join(" ")
            .replace(&format!("127.0.0.1:{}", self.written), &format!("127.0.0.1:{}", self.port))
            .replace(&format!("127.0.0.1 {}", self.written), &format!("127.0.0.1 {}", self.port))
    }

    /// What was printed, line by line, with the places called as the page calls them.
    fn lines(&self, bytes: &[u8], ended: bool) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes)
            .replace(&format!("127.0.0.1:{}", self.port), &format!("127.0.0.1:{}", self.written));
        let text = text.replace(&format!("127.0.0.1 {}", self.port), &format!("127.0.0.1 {}", self.written));
        let whole = if ended { &text[..] } else { &text[..text.rfind('\n').map_or(0, |at| at + 1)] };
        whole.lines().map(|line| line.trim_end().to_owned()).filter(|line| !is_remark(line)).collect()
    }
}

/// A port that nobody listens on, below those that the system gives to clients. Each transcript of
/// this process has its own, and so has each of another process that runs at the same time.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..1000 {
        let port = 20_000 + (std::process::id() % 400) as u16 * 30 + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// A part of a transcript block: a command, or none when the block goes on with one that runs; the
/// lines that it prints; and whether Ctrl+C ends it, behind so many of them.
struct Part {
    command: Option<String>,
    first: usize,
    end: usize,
    interrupted: Option<usize>,
}

fn parts(lines: &[String], block: &Block) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = block.first;
    while at < block.end {
        if let Some(command) = lines[at].strip_prefix("$ ") {
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                at += 1;
                command.pop();
                command += lines[at].trim_start();
            }
            parts.push(Part { command: Some(command), first: at + 1, end: at + 1, interrupted: None });
        } else {
            if parts.is_empty() {
                parts.push(Part { command: None, first: at, end: at, interrupted: None });
            }
            let part = parts.last_mut().unwrap();
            if lines[at] == "^C" {
                part.interrupted = Some(at);
            }
            part.end = at + 1;
        }
        at += 1;
    }
    if parts.is_empty() {
        parts.push(Part { command: None, first: block.first, end: block.end, interrupted: None });
    }
    parts
}

/// Runs every console block of a page that names a terminal; `server`, if there is one, is what runs in the
/// first of them already. Says what differs.
fn run_transcripts(page: &Path, port: u16, server: Option<&str>) -> String {
    let lines = lines_of(page);
    let places = Places::new(port);
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(".curlrc"), "silent\nshow-error\nno-buffer\n").unwrap();
    let mut terminals: HashMap<String, Running> = HashMap::new();
    if let Some(command) = server {
        let mut running = Running::start(command, &places);
        running.wait(&places, |lines, _| !lines.is_empty());
        terminals.insert("1".to_owned(), running);
    }
    let (mut comparisons, mut wrong) = (Comparisons::default(), String::new());
    for block in blocks(&lines) {
        let Some(terminal) = terminal_of(&block, &lines) else { continue };
        for part in parts(&lines, &block) {
            let place = format!("{}:{}", page.display(), part.first);
            if let Some(command) = &part.command {
                if let Some(mut earlier) = terminals.remove(terminal) {
                    wrong += &end_of(&mut earlier, &places, &place);
                }
                terminals.insert(terminal.to_owned(), Running::start(command, &places));
            }
            let Some(running) = terminals.get_mut(terminal) else {
                writeln!(wrong, "{place}: nothing runs in terminal {terminal}").unwrap();
                continue;
            };
            let before = part.interrupted.unwrap_or(part.end);
            let printed = lines_for(running, &places, before - part.first);
            wrong += &comparisons.compare(running, &lines, part.first..before, printed, &place);
            if let Some(at) = part.interrupted {
                running.interrupt();
                let (printed, ended) = running.wait(&places, |_, _| false);
                if !ended {
                    writeln!(wrong, "{place}: Ctrl+C does not end {}", running.command).unwrap();
                }
                wrong += &comparisons.compare(running, &lines, at + 1..part.end, printed, &place);
            }
            if !wrong.is_empty() {
                return wrong; // what follows would only follow from it
            }
        }
    }
    let mut left: Vec<_> = terminals.into_iter().collect();
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    // The lesson's program is in terminal 1, and is left running.
    for (_, mut running) in left.into_iter().filter(|(terminal, _)| terminal != "1") {
        wrong += &end_of(&mut running, &places, &page.display().to_string());
    }
    if comparisons.differ && wrong.is_empty() {
        rewrite(page, lines, comparisons.changes);
    }
    wrong
}

/// A command must have ended before the next one in its terminal, and have printed nothing more.
fn end_of(running: &mut Running, places: &Places, place: &str) -> String {
    let (more, ended) = running.wait(places, |_, _| false);
    match (ended, &more[..]) {
        (true, []) => String::new(),
        (true, more) => format!("{place}: before this, {} also printed\n{}\n", running.command, more.join("\n")),
        (false, _) => format!("{place}: before this, {} has not ended: is a ^C missing?\n", running.command),
    }
}

/// Waits for as many lines as are shown.
fn lines_for(running: &mut Running, places: &Places, count: usize) -> Vec<String> {
    if blessing() {
        return running.wait(places, |_, silence| silence > SILENCE).0;
    }
    let (mut printed, ended) = running.wait(places, |lines, _| lines.len() >= count);
    if !ended {
        printed.truncate(count); // what comes after belongs to the next block
    }
    printed
}

/// What is shown on a page, compared with what is printed.
#[derive(Default)]
struct Comparisons {
    shown: Ids,
    printed: Ids,
    /// What blessing would rewrite: what differs, and what has ids, because ids belong together.
    changes: Vec<(std::ops::Range<usize>, Vec<String>)>,
    differ: bool,
}

impl Comparisons {
    fn compare(
        &mut self,
        running: &mut Running,
        lines: &[String],
        shown: std::ops::Range<usize>,
        printed: Vec<String>,
        place: &str,
    ) -> String {
        running.shown += printed.len();
        let mask = |lines: &[String], ids: &mut Ids| -> Vec<_> {
            lines.iter().map(|line| masked(line, running.mask_keys, ids)).collect()
        };
        let wanted = mask(&lines[shown.clone()], &mut self.shown);
        let found = mask(&printed, &mut self.printed);
        let differ = wanted != found;
        if blessing() {
            self.differ |= differ;
            if differ || found.iter().any(|line| line.contains("<id ")) {
                self.changes.push((shown, printed));
            }
            return String::new();
        }
        if !differ {
            return String::new();
        }
        let (command, expected, printed) = (&running.command, lines[shown].join("\n"), printed.join("\n"));
        format!("{place}: $ {command}\n-- shown:\n{expected}\n-- printed:\n{printed}\n")
    }
}

fn transcripts(number: usize) {
    let wrong = run_transcripts(&readme(LESSONS[number]), 8000 + number as u16, None);
    assert!(wrong.is_empty(), "BLESS=1 rewrites transcripts\n{wrong}");
}

#[test]
fn transcripts_of_the_project() {
    let page = Path::new(ROOT).join("README.md");
    let wrong = run_transcripts(&page, 8000, Some("cargo run -q --bin overwire"));
    assert!(wrong.is_empty(), "BLESS=1 rewrites transcripts\n{wrong}");
}

macro_rules! transcripts {
    ($($name:ident: $number:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            transcripts($number);
        })*
    };
}

transcripts! {
    transcripts_of_readiness: 0,
    transcripts_of_http: 1,
    transcripts_of_short_polling: 2,
    transcripts_of_long_polling: 3,
    transcripts_of_http_streaming: 4,
    transcripts_of_server_sent_events: 5,
    transcripts_of_websocket: 6,
    transcripts_of_webrtc_signalling: 7,
    transcripts_of_choosing: 8,
}

/// Runs the transcripts of a page that is made up for it.
fn complaint(name: &str, page: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, page).unwrap();
    run_transcripts(&path, 8000, None)
}

#[test]
fn planted_mistakes_in_transcripts_are_found() {
    if blessing() {
        return; // it would be blessed
    }
    let (one, other) = ("999140f6-8db8-8980-8000-000000000001", "999140f6-8db8-8980-8000-000000000002");
    for (name, page, expected) in [
        ("right.md", format!("Terminal 2:\n```console 2\n$ echo {one}; echo 0.31 ms\n{other}\n0.12 ms\n```\n"), ""),
        ("output.md", "Terminal 2:\n```console 2\n$ echo one\ntwo\n```\n".to_owned(), "-- printed:\none"),
        ("more.md", "Terminal 2:\n```console 2\n$ printf 'one\\ntwo\\n'\none\n```\n".to_owned(), "two"),
        ("less.md", "Terminal 2:\n```console 2\n$ echo one\none\ntwo\n```\n".to_owned(), "-- printed:\none"),
        (
            "status.md",
            "Terminal 2:\n```console 2\n$ echo 'HTTP/1.1 200 OK'\nHTTP/1.1 404 OK\n```\n".to_owned(),
            "200 OK",
        ),
        ("order.md", "Terminal 2:\n```console 2\n$ echo a; echo b\nb\na\n```\n".to_owned(), "-- printed:\na\nb"),
        // An id that comes twice is not two ids.
        ("ids.md", format!("Terminal 2:\n```console 2\n$ echo {one}; echo {one}\n{one}\n{other}\n```\n"), "-- printed"),
        ("nothing.md", "Terminal 2:\n```console 2\none\n```\n".to_owned(), "nothing runs in terminal 2"),
    ] {
        let found = complaint(name, &page);
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn planted_mistakes_in_links_are_found() {
    let page = Path::new(ROOT).join("lessons/README.md");
    for (target, fault) in [
        ("00-readiness/README.md", None),
        ("00-readiness/README.md#the-goal", None),
        ("https://www.rfc-editor.org/rfc/rfc9112#section-7.1", None),
        ("00-readiness/NOTHING.md", Some("leads nowhere")),
        ("00-readiness/README.md#no-such-heading", Some("names no heading of that page")),
        ("https://www.rfc-editor.org/rfc/rfc9112", Some("names no section")),
        ("http://example.com", Some("is neither https nor a file")),
    ] {
        assert_eq!(broken_link(&page, target), fault, "{target}");
    }
    assert!(region(&page, "nothing").is_err());
}

// Links, and what a lesson consists of.

/// The targets of a page's links, outside of fenced blocks, with the numbers of their lines.
fn links(lines: &[String]) -> Vec<(usize, String)> {
    let fenced = blocks(lines);
    let mut links = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if fenced.iter().any(|block| (block.first..block.end).contains(&at)) {
            continue;
        }
        for (start, _) in line.match_indices("](") {
            let target = line[start + 2..].split(')').next().unwrap_or_default();
            links.push((at + 1, target.to_owned()));
        }
    }
    links
}

/// How a heading is named in a link: lower case, spaces as hyphens, punctuation left out.
fn slug(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars();
    let kept = kept.filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn broken_link(page: &Path, target: &str) -> Option<&'static str> {
    if let Some(rest) = target.strip_prefix("https://") {
        let names_a_section = match rest.split_once('/').unwrap_or((rest, "")) {
            ("www.rfc-editor.org", path) => {
                path.starts_with("rfc/rfc") && (path.contains("#section-") || path.contains("#appendix-"))
            }
            ("html.spec.whatwg.org" | "fetch.spec.whatwg.org" | "websockets.spec.whatwg.org", path) => {
                path.contains('#')
            }
            ("w3c.github.io" | "www.w3.org", path) => path.contains('#'),
            _ => true,
        };
        return (!names_a_section).then_some("names no section");
    }
    if target.contains("://") {
        return Some("is neither https nor a file");
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !file.exists() {
        return Some("leads nowhere");
    }
    let found = heading.is_empty() || lines_of(&file).iter().any(|line| line.starts_with('#') && slug(line) == heading);
    (!found).then_some("names no heading of that page")
}

#[test]
fn links_resolve() {
    let mut wrong = String::new();
    for page in pages() {
        for (line, target) in links(&lines_of(&page)) {
            if let Some(fault) = broken_link(&page, &target) {
                writeln!(wrong, "{}:{line}: {target} {fault}", page.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The headings of a lesson, in this order. Those in the second list are not in each of them.
const HEADINGS: [&str; 12] = [
    "What you should know already",
    "The goal",
    "Run it",
    "Steps",
    "The bytes",
    "The sequence",
    "Run the broken one",
    "In the browser",
    "What it costs, and when to choose it",
    "What this code leaves out",
    "Exercises",
    "Sections to read",
];
const OPTIONAL: [&str; 1] = ["Run the broken one"];

#[test]
fn lessons_have_their_parts_in_order() {
    for lesson in LESSONS {
        let lines = lines_of(&readme(lesson));
        let headings: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("## ")).collect();
        let has_broken = Path::new(ROOT).join("lessons").join(lesson).join("broken.rs").exists();
        let wanted = HEADINGS.iter().filter(|heading| has_broken || !OPTIONAL.contains(heading)).copied();
        assert_eq!(headings, wanted.collect::<Vec<_>>(), "{lesson}");
        assert!(lines.iter().any(|line| line == "```mermaid"), "{lesson} has no diagram");
        let number = &lesson[..2];
        for (exercise, answer) in exercises(lesson) {
            let text = lines.join("\n");
            let command = format!("cargo test --test {number}-exercises {exercise}");
            assert!(text.contains(&command), "{lesson} does not say `{command}`");
            assert!(text.contains(&format!("](answers/{answer})")), "{lesson} has no link to {answer}");
        }
    }
}

/// A lesson's exercises: the names of their tests, and the files of their answers, in order.
fn exercises(lesson: &str) -> Vec<(String, String)> {
    let folder = Path::new(ROOT).join("lessons").join(lesson);
    let source = read(&folder.join("exercises.rs"));
    let mut tests = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line == "#[test]" {
            let name = lines.next().and_then(|line| line.strip_prefix("fn ")).expect("a test is a function");
            tests.push(name.split('(').next().unwrap().to_owned());
        }
    }
    let mut answers: Vec<_> =
        fs::read_dir(folder.join("answers")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    answers.sort();
    let answers: Vec<_> = answers.into_iter().map(|name| name.into_string().unwrap()).collect();
    let wanted = tests.iter().enumerate().map(|(at, test)| format!("{}-{}.patch", at + 1, test.replace('_', "-")));
    assert_eq!(answers, wanted.collect::<Vec<_>>(), "the answers of {lesson}");
    assert!((2..=3).contains(&tests.len()), "{lesson} has {} exercises", tests.len());
    tests.into_iter().zip(answers).collect()
}

// Exercises.

/// A copy of the project in which answers can be tried.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exercises");
        for part in [
            "Cargo.toml",
            "Cargo.lock",
            "src",
            "static",
            "lessons",
            "tests/common",
            "tests/lessons",
            "tests/bench",
            "tests/conformance",
        ] {
            synchronise(&Path::new(ROOT).join(part), &folder.join(part));
        }
        Copy { folder }
    }

    fn apply(&self, patch: &Path) {
        // Not as a part of the repository around it.
        let status = Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(patch)
            .current_dir(&self.folder)
            .env("GIT_CEILING_DIRECTORIES", self.folder.parent().unwrap())
            .status()
            .expect("git runs");
        assert!(status.success(), "{} does not apply", patch.display());
    }

    /// Runs the exercises of all lessons: `ok` or `FAILED` for each.
    fn run(&self) -> HashMap<String, String> {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--offline", "--locked", "--no-fail-fast"]).current_dir(&self.folder);
        command.env("CARGO_TARGET_DIR", self.folder.with_file_name("exercises-target"));
        for lesson in LESSONS {
            command.args(["--test", &format!("{}-exercises", &lesson[..2])]);
        }
        let output = command.stdin(Stdio::null()).output().expect("cargo runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let outcomes = text.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
        let outcomes: HashMap<_, _> = outcomes.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect();
        assert!(!outcomes.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        outcomes
    }
}

/// Makes `copy` like `original`, and leaves alone what is alike, so that little has to be built anew.
fn synchronise(original: &Path, copy: &Path) {
    if original.is_dir() {
        fs::create_dir_all(copy).unwrap();
        let names = |folder: &Path| -> Vec<_> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let (here, there) = (names(original), names(copy));
        for name in there.iter().filter(|name| !here.contains(name)) {
            let gone = copy.join(name);
            if gone.is_dir() { fs::remove_dir_all(gone) } else { fs::remove_file(gone) }.unwrap();
        }
        here.iter()
            .filter(|name| *name != "node_modules")
            .for_each(|name| synchronise(&original.join(name), &copy.join(name)));
    } else {
        let content = fs::read(original).unwrap();
        if fs::read(copy).ok().as_ref() != Some(&content) {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, content).unwrap();
        }
    }
}

#[test]
fn exercises_fail_until_answered() {
    let exercises: HashMap<_, _> = LESSONS.iter().map(|lesson| (*lesson, exercises(lesson))).collect();
    let all: Vec<_> = exercises.values().flatten().map(|(test, _)| test).collect();
    let outcomes = Copy::new().run();
    for test in &all {
        assert_eq!(outcomes.get(*test).map(String::as_str), Some("FAILED"), "{test} before its answer");
    }
    // One answer of each lesson at a time: they touch their own lesson alone.
    for round in 0..3 {
        let copy = Copy::new();
        let answered: Vec<_> =
            LESSONS.iter().filter_map(|lesson| Some((lesson, exercises[lesson].get(round)?))).collect();
        for (lesson, (_, answer)) in &answered {
            copy.apply(&Path::new(ROOT).join("lessons").join(lesson).join("answers").join(answer));
        }
        let outcomes = copy.run();
        for (lesson, (test, _)) in answered {
            assert_eq!(outcomes.get(test).map(String::as_str), Some("ok"), "{test} of {lesson}, with its answer");
        }
    }
}
