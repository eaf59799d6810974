//! The transcripts of the pages: every command is run, and what it prints is what is shown.
//! Needs bash, curl, xxd and OpenBSD's nc. `BLESS=1 cargo test --test lessons` rewrites transcripts.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use super::masks::{Ids, masked};
use super::pages::{Block, LESSONS, ROOT, blessing, blocks, lines_of, readme, rewrite};
use super::terminals::{Device, Places, Terminal};
use crate::process;

/// When blessing, the number of lines is not known: this silence is their end.
const SILENCE: Duration = Duration::from_secs(3);

/// The line of a page that stands for the greeting of a program, which the reader knows.
const GREETING: &str = "...";

/// The file with curl's options is written once: another test may be reading it.
static CURL_OPTIONS: Once = Once::new();

/// The terminal that a block belongs to. A reader does not see the text after the fence, so the line above names it.
/// `console 2 pty` runs the commands of the block on a pseudo-terminal.
fn terminal_of<'a>(block: &'a Block, lines: &[String]) -> Option<(&'a str, Device)> {
    let terminal = block.info.strip_prefix("console ")?;
    let (terminal, device) = match terminal.strip_suffix(" pty") {
        Some(terminal) => (terminal, Device::PseudoTerminal),
        None => (terminal, Device::Pipe),
    };
    let said = block.first.checked_sub(2).map(|at| lines[at].as_str());
    assert!(said == Some(&format!("Terminal {terminal}:")), "line {}: expected `Terminal {terminal}:`", block.first);
    Some((terminal, device))
}

/// A part of a transcript block: a command with the lines that it prints.
struct Part {
    /// `None` when the block continues the output of a running command.
    command: Option<String>,
    first: usize,
    end: usize,
    /// The line `^C`, if Ctrl+C ends the command.
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

/// Runs every console block of a page that names a terminal, with `server`, if given, running in terminal 1 from the
/// start. Returns what differs.
fn run_transcripts(page: &Path, port: u16, server: Option<&str>) -> String {
    let lines = lines_of(page);
    let places = Places::new(port);
    fs::create_dir_all(Path::new(ROOT).join("target")).unwrap(); // for the files of the commands
    CURL_OPTIONS.call_once(|| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(".curlrc");
        fs::write(file, "silent\nshow-error\nno-buffer\n").unwrap();
    });
    let mut terminals: HashMap<String, Terminal> = HashMap::new();
    if let Some(command) = server {
        let mut running = Terminal::start(command, &places, Device::Pipe);
        running.wait(&places, |lines, _| !lines.is_empty());
        terminals.insert("1".to_owned(), running);
    }
    let (mut comparisons, mut wrong) = (Comparisons::default(), String::new());
    for block in blocks(&lines) {
        let Some((terminal, device)) = terminal_of(&block, &lines) else { continue };
        for part in parts(&lines, &block) {
            let place = format!("{}:{}", page.display(), part.first);
            if let Some(command) = &part.command {
                if let Some(mut earlier) = terminals.remove(terminal) {
                    wrong += &end_of(&mut earlier, &places, &place);
                }
                terminals.insert(terminal.to_owned(), Terminal::start(command, &places, device));
            }
            let Some(running) = terminals.get_mut(terminal) else {
                writeln!(wrong, "{place}: nothing runs in terminal {terminal}").unwrap();
                continue;
            };
            let before = part.interrupted.unwrap_or(part.end);
            let printed = lines_for(running, &places, length(&lines[part.first..before]));
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
                return wrong; // later differences would only follow from it
            }
        }
    }
    let mut left: Vec<_> = terminals.into_iter().collect();
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    // The reader ends the servers. The first one may still have clients.
    for (terminal, mut running) in left.into_iter().rev() {
        if running.listens(&places) {
            running.interrupt();
        }
        if terminal != "1" {
            wrong += &end_of(&mut running, &places, &page.display().to_string());
        }
    }
    if comparisons.differ && wrong.is_empty() {
        rewrite(page, lines, comparisons.changes);
    }
    wrong
}

/// Checks that a command has ended before the next one in its terminal, and has printed nothing more.
fn end_of(running: &mut Terminal, places: &Places, place: &str) -> String {
    let (more, ended) = running.wait(places, |_, _| false);
    match (ended, &more[..]) {
        (true, []) => String::new(),
        (true, more) => format!("{place}: before this, {} also printed\n{}\n", running.command, more.join("\n")),
        (false, _) => format!("{place}: before this, {} has not ended: is a ^C missing?\n", running.command),
    }
}

/// The number of printed lines that these lines of a page stand for.
fn length(shown: &[String]) -> usize {
    shown.iter().map(|line| if line == GREETING { 4 } else { 1 }).sum()
}

/// Shortens the greetings of programs to one line, if the page does.
fn shorten(printed: &[String], shown: &[String]) -> Vec<String> {
    let is_short = shown.iter().any(|line| line == GREETING);
    let (mut lines, mut rest) = (Vec::new(), printed);
    while let [line, others @ ..] = rest {
        let after = match others {
            [next, _, end, after @ ..] if next.starts_with("Try: ") && end == "Ctrl+C ends it." => Some(after),
            _ => None,
        };
        let is_greeting = is_short && after.is_some();
        lines.push(if is_greeting { GREETING.to_owned() } else { line.clone() });
        rest = after.filter(|_| is_greeting).unwrap_or(others);
    }
    lines
}

/// Waits for `count` lines.
fn lines_for(running: &mut Terminal, places: &Places, count: usize) -> Vec<String> {
    if blessing() {
        return running.wait(places, |_, silence| silence > SILENCE).0;
    }
    let (mut printed, ended) = running.wait(places, |lines, _| lines.len() >= count);
    if !ended {
        printed.truncate(count); // later lines belong to the next block
    }
    printed
}

/// The comparisons of what a page shows with what is printed.
#[derive(Default)]
struct Comparisons {
    shown: Ids,
    printed: Ids,
    /// The ranges that blessing rewrites: those that differ, and those with ids, because ids belong together.
    changes: Vec<(Range<usize>, Vec<String>)>,
    differ: bool,
}

impl Comparisons {
    fn compare(
        &mut self,
        running: &mut Terminal,
        lines: &[String],
        shown: Range<usize>,
        printed: Vec<String>,
        place: &str,
    ) -> String {
        running.shown += printed.len();
        let printed = shorten(&printed, &lines[shown.clone()]);
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
    let wrong = run_transcripts(&page, 8000, Some("cargo run -q --bin overwire -- --no-tap"));
    assert!(wrong.is_empty(), "BLESS=1 rewrites transcripts\n{wrong}");
}

/// Lesson 10 needs a real Redis.
#[test]
fn transcripts_of_many_servers() {
    if process::is_installed() {
        transcripts(10);
    }
}

/// Lesson 12 needs a real proxy, and TLS.
#[test]
fn transcripts_of_in_front() {
    if has("haproxy", "-v") && has("openssl", "version") {
        transcripts(12);
    }
}

/// Whether a program is installed. Where it is not, the tests that need it pass without a check, unless the variable
/// `TESTS_NEED_REDIS` is set.
fn has(program: &str, version: &str) -> bool {
    let found = Command::new(program).arg(version).stdout(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("TESTS_NEED_REDIS").is_none(), "{program} is not installed");
    found
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
    transcripts_of_keeping_it: 9,
    transcripts_of_who_are_you: 11,
    transcripts_of_replacing: 13,
}

/// Runs the transcripts of a page written for this test.
fn complaint(name: &str, page: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, page).unwrap();
    run_transcripts(&path, 8000, None)
}

/// A command that prints a greeting between two other lines.
const GREET: &str = r"printf 'first\nx listens on y\nTry:      z\nLook for: it\nCtrl+C ends it.\nlast\n'";

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
        // One id twice is not two ids.
        ("ids.md", format!("Terminal 2:\n```console 2\n$ echo {one}; echo {one}\n{one}\n{other}\n```\n"), "-- printed"),
        ("pty.md", "Terminal 2:\n```console 2 pty\n$ [ -t 1 ] && echo one\none\n```\n".to_owned(), ""),
        ("pipe.md", "Terminal 2:\n```console 2\n$ [ -t 1 ] && echo one\none\n```\n".to_owned(), "-- printed"),
        ("greeting.md", format!("Terminal 2:\n```console 2\n$ {GREET}\nfirst\n...\nlast\n```\n"), ""),
        ("no-greeting.md", "Terminal 2:\n```console 2\n$ echo one\n...\n```\n".to_owned(), "-- printed:\none"),
        ("nothing.md", "Terminal 2:\n```console 2\none\n```\n".to_owned(), "nothing runs in terminal 2"),
    ] {
        let found = complaint(name, &page);
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{name}: {found:?}");
    }
}
