//! A supervisor: it opens the listening socket and keeps it. It starts the server on this socket. At SIGHUP it starts
//! another one, and then ends the first.

use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, Stdio};
use std::time::Instant;
use std::{env, fs};

use lessons::{Extra, Lesson};
use overwire::{Event, EventLoop, Limits};

const LESSON: Lesson = Lesson {
    name: "13-supervisor",
    port: 8013,
    about: "holds the listening socket, and replaces the server on it",
    first: "kill -HUP $(cat target/13/supervisor)",
    look_for: "a new process, and after some seconds the end of the old one",
    costs: &[],
};

const DATA: Extra = Extra { usage: "--data FOLDER", about: "the folder of the log", default: "target/13" };
const SERVER: Extra = Extra { usage: "--server FILE", about: "the server", default: "13-replacing, beside this" };

fn main() -> ExitCode {
    LESSON.run_with(&[DATA, SERVER], |port, values| {
        let server = match Path::new(&values[1]) {
            _ if values[1] == SERVER.default => env::current_exe()?.with_file_name("13-replacing"),
            given => given.to_owned(),
        };
        let socket = TcpListener::bind(("127.0.0.1", port))?;
        run(&Supervisor { socket, server, folder: values[0].clone() })
    })
}

struct Supervisor {
    socket: TcpListener,
    server: PathBuf,
    folder: String,
}

fn run(supervisor: &Supervisor) -> io::Result<()> {
    let mut events = EventLoop::new(Limits::default())?;
    events.watch_signals()?;
    events.reload_on_hangup();
    let mut current = supervisor.start()?;
    fs::write(Path::new(&supervisor.folder).join("supervisor"), format!("{}\n", process::id()))?;
    LESSON.greet(supervisor.socket.local_addr()?);
    loop {
        match events.next_event()? {
            // ANCHOR: replace
            Event::Reload => {
                let old = std::mem::replace(&mut current, supervisor.start()?);
                println!("a new process serves");
                let start = Instant::now();
                terminate(old)?;
                println!("the old process has ended, {:.1} s after SIGTERM", start.elapsed().as_secs_f64());
            }
            // ANCHOR_END: replace
            Event::Shutdown => return terminate(current),
            _ => {} // it serves nobody itself
        }
    }
}

// ANCHOR: start
/// Makes file descriptor 3 of standard input, and then becomes the server: `exec` keeps the process and its number.
const ACTIVATE: &str = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;
// ANCHOR_END: start

impl Supervisor {
    /// Starts a server on the socket, and waits until it serves.
    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new("sh");
        command.args(["-c", ACTIVATE]).arg(&self.server).args(["--data", &self.folder]);
        command.stdin(OwnedFd::from(self.socket.try_clone()?)).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let greeting = process.stdout.take().expect("it is piped");
        BufReader::new(greeting).read_line(&mut String::new())?;
        Ok(process)
    }
}

/// Sends SIGTERM, and waits for the end. A process that has ended already is not an error.
fn terminate(mut process: Child) -> io::Result<()> {
    let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).stderr(Stdio::null()).status();
    process.wait().map(drop)
}
