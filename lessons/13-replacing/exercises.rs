//! The exercises of lesson 13. Each test fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, Running};

const SERVER: &str = env!("CARGO_BIN_EXE_13-replacing");

/// A folder that is empty at first, and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("13-exercise-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new(program);
        Running::start(command.args(["--port", "0", "--data"]).arg(&self.0).args(arguments))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A server outlives its supervisor, if a test fails.
        let process = fs::read_to_string(self.0.join("pid")).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{}/exe", process.trim()));
        if program.is_ok_and(|program| program.ends_with("13-replacing")) {
            let _ = Command::new("kill").args(["-KILL", process.trim()]).status();
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn connect(running: &Running) -> Client {
    let client = Client::connect(running.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// Opens a stream, and returns it with its first event.
fn follow(running: &Running) -> (Client, String) {
    let mut client = connect(running);
    client.send_get("/events").head();
    let opening = client.chunk_text();
    (client, opening)
}

fn signal(running: &Running, name: &str) {
    let killed = Command::new("kill").args([name, &running.process.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

/// Exercise 1: the first `retry:` of each stream is a random number from 1000 to 3000. In each tenth of this range are
/// some of 400 followers, and not more than three times its share.
#[test]
fn followers_of_a_killed_server_are_spread() {
    let folder = Folder::new("spread");
    let running = folder.start(SERVER, &[]);
    let mut tenths = [0; 10];
    for _ in 0..400 {
        let (_, opening) = follow(&running);
        let retry = opening.lines().find_map(|line| line.strip_prefix("retry: ")).expect("a retry");
        let retry: usize = retry.parse().unwrap();
        assert!((1000..=3000).contains(&retry), "{retry}");
        tenths[((retry - 1000) / 200).min(9)] += 1;
    }
    assert!(tenths.iter().all(|count| (1..=120).contains(count)), "{tenths:?}");
}

/// The lines that a supervisor prints.
fn lines_of(supervisor: &mut Running) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let stdout = BufReader::new(supervisor.process.stdout.take().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

#[track_caller]
fn expect_line(lines: &Receiver<String>, part: &str) {
    let (start, patience) = (Instant::now(), Duration::from_secs(5));
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {part:?} in 5 s"));
        if line.contains(part) {
            return;
        }
    }
}

/// Exercise 2: `--server FILE` is the program that the supervisor starts at SIGHUP. If that ends without a greeting, or
/// greets nobody for two seconds, the supervisor kills it, prints `the new process does not serve: the old one stays`, and
/// the old process gets no signal. The next SIGHUP is a new attempt. A greeting is a line with ` listens on `.
#[test]
fn failed_deploys_keep_the_old_process() {
    let folder = Folder::new("failed");
    let server = folder.0.join("server");
    let install = |script: Option<&str>| {
        let _ = fs::remove_file(&server);
        match script {
            None => symlink(SERVER, &server).unwrap(),
            Some(script) => {
                fs::write(&server, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    };
    install(None);
    let supervisor = env!("CARGO_BIN_EXE_13-supervisor");
    let mut running = folder.start(supervisor, &["--server", server.to_str().unwrap()]);
    let lines = lines_of(&mut running);
    let (mut follower, _) = follow(&running);
    let hung = folder.0.join("hung");
    let hang = format!("echo $$ >{}; exec sleep 60", hung.display());
    for script in ["exit 1", "echo 'cannot read the configuration'; exit 1", &hang] {
        install(Some(script));
        signal(&running, "-HUP");
        expect_line(&lines, "the new process does not serve: the old one stays");
        assert_eq!(connect(&running).post("/add-message", r#"{"message":"as before"}"#).status, 200, "{script}");
        assert_eq!(follower.event().data, "as before", "{script}");
        assert_eq!(connect(&running).get("/health/ready").status, 200, "{script}");
    }
    let process = fs::read_to_string(&hung).unwrap();
    assert!(!Path::new("/proc").join(process.trim()).exists(), "the process that hung is killed");
    install(None);
    signal(&running, "-HUP");
    expect_line(&lines, "a new process serves");
    while follower.chunk().is_some() {}
    signal(&running, "-TERM");
    running.process.wait().unwrap();
}

/// The time at which a connection says its last word.
fn end_of(mut client: Client, is_socket: bool) -> thread::JoinHandle<Instant> {
    thread::spawn(move || {
        if is_socket {
            let close = client.message();
            assert_eq!(close.close(), (1001, "going away".into()));
            let end = Instant::now();
            client.send_frame(close.opcode, &close.payload).expect_end();
            return end;
        }
        while client.chunk().is_some() {}
        Instant::now()
    })
}

/// Exercise 3: `/ws` is a WebSocket that gets each new message as a text message. At the end each is closed with 1001 and
/// the reason `going away`. Sockets and streams are ended one after the other, in the same `--spread`. A socket that is
/// closed by its client is forgotten. `/metrics` counts sockets and streams as followers. A request for `/ws` that is no
/// handshake gets 400.
#[test]
fn websockets_are_closed_one_after_the_other() {
    let folder = Folder::new("websockets");
    let mut running = folder.start(SERVER, &["--spread", "3"]);
    assert_eq!(connect(&running).get("/ws").status, 400);
    let socket = |_| {
        let mut client = connect(&running);
        client.upgrade("/ws");
        client
    };
    let mut sockets: Vec<Client> = (0..20).map(socket).collect();
    let streams: Vec<Client> = (0..20).map(|_| follow(&running).0).collect();
    let mut left = socket(0);
    left.send_frame(overwire::websocket::Opcode::Close, []).read_to_end();
    assert_eq!(connect(&running).post("/add-message", r#"{"message":"hello"}"#).status, 200);
    sockets.iter_mut().for_each(|socket| assert_eq!(socket.message().text(), "hello"));
    assert!(connect(&running).get("/metrics").text().contains("followers 40\n"));

    let sockets: Vec<_> = sockets.into_iter().map(|client| end_of(client, true)).collect();
    let streams: Vec<_> = streams.into_iter().map(|client| end_of(client, false)).collect();
    signal(&running, "-TERM");
    for (kind, ends) in [("sockets", sockets), ("streams", streams)] {
        let mut ends: Vec<Instant> = ends.into_iter().map(|end| end.join().unwrap()).collect();
        ends.sort();
        let taken = *ends.last().unwrap() - ends[0];
        assert!(taken > Duration::from_millis(1500), "the ends of the {kind} have taken {taken:?}");
    }
    assert_eq!(running.process.wait().unwrap().code(), Some(0));
}
