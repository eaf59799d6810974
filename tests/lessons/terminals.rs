//! Terminals: commands that run at the same time, with their output line by line.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::pages::ROOT;
use crate::common::{PATIENCE, free_port};
use crate::lesson::program;

/// The output of a command so far.
#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    ended: bool,
    changed: Option<Instant>,
}

/// The standard output of a command. Some programs behave differently at a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// One pipe for both streams.
    Pipe,
    /// A pseudo-terminal.
    PseudoTerminal,
}

/// A command that runs in a terminal.
pub struct Terminal {
    process: Child,
    watchdog: Child,
    printed: Arc<(Mutex<Printed>, Condvar)>,
    pub command: String,
    device: Device,
    /// The number of its lines that earlier blocks show.
    pub shown: usize,
    /// Whether the keys of its WebSocket handshakes are random.
    pub mask_keys: bool,
}

impl Terminal {
    pub fn start(command: &str, places: &Places, device: Device) -> Self {
        let run = places.command(command);
        // Ctrl+C works even if the parent of this test ignores it.
        let mut process = Command::new("env")
            .arg("--default-signal=INT")
            .args(match device {
                Device::Pipe => vec!["bash".to_owned(), "-c".to_owned(), format!("exec 2>&1\n{run}")],
                // A wide terminal without echo: `script` runs the command, and copies what the terminal shows.
                Device::PseudoTerminal => {
                    ["script", "-qec", &format!("stty -echo cols 500; {run}"), "/dev/null"].map(str::to_owned).to_vec()
                }
            })
            .current_dir(ROOT)
            .env("CURL_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("NO_COLOR", "1")
            .env("SHELL", "/bin/bash")
            .env_remove("BLESS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        // If this process is killed, its end of the pipe closes, and the watchdog ends the group.
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
        Terminal { process, watchdog, printed, command: command.to_owned(), device, shown: 0, mask_keys }
    }

    /// Waits until `enough` accepts the lines after the shown ones and the silence since the last of them, or until
    /// the output ends. Returns the lines, and whether the output has ended.
    pub fn wait(&mut self, places: &Places, enough: impl Fn(&[String], Duration) -> bool) -> (Vec<String>, bool) {
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

    /// Whether the command is a server: it has printed where it listens.
    pub fn listens(&self, places: &Places) -> bool {
        let printed = self.printed.0.lock().unwrap();
        places
            .lines(&printed.bytes, true)
            .iter()
            .any(|line| line.contains("listens on") || line.contains("listening on"))
    }

    /// Sends Ctrl+C: a byte to a pseudo-terminal, or the signal that a terminal would send.
    pub fn interrupt(&mut self) {
        if self.device == Device::PseudoTerminal {
            return self.process.stdin.as_mut().unwrap().write_all(b"\x03").expect("the terminal reads");
        }
        let group = format!("-{}", self.process.id());
        Command::new("kill").args(["-INT", "--", &group]).status().expect("kill runs");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.process.wait();
    }
}

/// The programs and the ports of a page, and their places in this run.
pub struct Places {
    programs: PathBuf,
    /// The port of the lesson's program.
    port: u16,
    /// The port of `wire tap`.
    tap: u16,
    /// Each port that the page names, and its place in this run.
    ports: Vec<(u16, u16)>,
}

/// The port of `wire tap` on every page.
const TAP: u16 = 8100;

/// The ports that a lesson has in addition to its own. Lesson 10: two nodes, one more, and Redis. Lesson 12: the server
/// that the proxies ask, and two of haproxy.
fn more_ports(own: u16) -> &'static [u16] {
    match own {
        8010 => &[8011, 8012, 8013, 6310],
        8012 => &[9012, 8442, 8443],
        _ => &[],
    }
}

impl Places {
    pub fn new(written: u16) -> Self {
        let (port, tap) = (free_port(), free_port());
        let mut ports = vec![(written, port), (TAP, tap)];
        ports.extend(more_ports(written).iter().map(|more| (*more, free_port())));
        Places { programs: program("wire").parent().unwrap().to_owned(), port, tap, ports }
    }

    /// Translates a command: to the program that is built already, and to free ports.
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
            let mut more = rest.clone();
            let listens = !matches!((more.next(), more.next()), (Some("--"), Some("log" | "key")));
            if name != "wire" && listens && !command.contains("--port") {
                words.push(format!("--port {}", self.port));
            }
            match rest.next() {
                None | Some("--") => {}
                Some(word) => words.push(word.to_owned()),
            }
        }
        if words.iter().any(|word| word == "tap") {
            words.push(format!("--port {}", self.tap));
        }
        self.ports.iter().fold(words.join(" "), |command, (written, port)| {
            ["127.0.0.1:", "127.0.0.1 ", "127.0.0.1/", "--port ", "--redis ", "--to ", ","]
                .iter()
                .fold(command, |command, before| {
                    command.replace(&format!("{before}{written}"), &format!("{before}{port}"))
                })
        })
    }

    /// Splits output into lines and translates it back to the ports of the page.
    fn lines(&self, bytes: &[u8], ended: bool) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let text = self.ports.iter().fold(text, |text, (written, port)| {
            ["127.0.0.1:", "127.0.0.1 "]
                .iter()
                .fold(text, |text, before| text.replace(&format!("{before}{port}"), &format!("{before}{written}")))
        });
        let whole = if ended { &text[..] } else { &text[..text.rfind('\n').map_or(0, |at| at + 1)] };
        whole.lines().map(|line| line.trim_end().to_owned()).filter(|line| !is_remark(line)).collect()
    }
}

/// Whether a line is a remark of curl's, which differs from version to version.
fn is_remark(line: &str) -> bool {
    line.starts_with("* ") || line.starts_with("{ [") || line.starts_with("} [")
}
