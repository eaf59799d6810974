//! Lesson 13, replacing it: a log for several processes, an end that is spread, a socket that outlives its processes, and
//! the herd of the broken twin.

#[allow(dead_code)]
#[path = "../../lessons/13-replacing/main.rs"]
mod main;
#[path = "../../lessons/13-replacing/plot.rs"]
mod plot;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Client, PATIENCE, Running, TestServer};
use crate::lesson::{add, expect_content_errors, expect_not_allowed, expect_page, program};

/// A folder that is empty at first, and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("13-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Serves the lesson in a thread. The times are in seconds.
    fn serve(&self, delay: u64, spread: u64) -> TestServer {
        let folder = self.0.clone();
        let times = main::Times { delay: Duration::from_secs(delay), spread: Duration::from_secs(spread) };
        TestServer::of_loop(Default::default(), move |server| {
            let log = main::log::Log::open(&folder)?;
            main::serve(server, log, times)
        })
    }

    fn run(&self, name: &str) -> Running {
        Running::start(Command::new(program(name)).args(["--port", "0", "--data"]).arg(&self.0).stderr(Stdio::null()))
    }

    /// The number of the newest process that serves.
    fn process(&self) -> String {
        fs::read_to_string(self.0.join("pid")).unwrap().trim().to_owned()
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

/// Opens a stream after a cursor, and returns it with its first event.
fn follow(mut client: Client, cursor: &str) -> (Client, String) {
    client.send(format!("GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {cursor}\r\n\r\n")).head();
    let opening = client.chunk_text();
    (client, opening)
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

#[test]
fn each_process_knows_the_cursors_of_the_others() {
    let folder = Folder::new("cursors");
    let [old, new] = [(); 2].map(|()| folder.serve(0, 0).in_real_time()); // they look at the log again and again
    let (mut reader, opening) = follow(old.connect(), "");
    assert!(opening.starts_with("id: 0\nretry: 2000\nevent: position\n"), "{opening}");
    let id = add(&new, "one");
    let event = reader.event();
    assert_eq!((&event.id, &*event.data), (&id, "one"), "the old process finds it in the log");
    let last = add(&old, "two\nlines");
    let (mut reader, opening) = follow(new.connect(), &id);
    assert!(opening.starts_with(&format!("id: {id}\n")) && opening.contains(r#""recovered":true"#), "{opening}");
    let event = reader.event();
    assert_eq!((&event.id, &*event.data), (&last, "two\nlines"));
    add(&new, "three");
    assert_eq!(reader.event().data, "three", "each message comes once");
    // Cursors that this log does not have: the middle of a message, after the end, and no number.
    for cursor in ["3", "1000000", "x"] {
        let (_, opening) = follow(new.connect(), cursor);
        assert!(opening.contains(r#""recovered":false"#), "{cursor}: {opening}");
    }
    let metrics = new.get("/metrics");
    let expected = "returned_total{recovered=\"true\"} 1\nreturned_total{recovered=\"false\"} 3\n";
    assert!(metrics.text().ends_with(expected), "{metrics:?}");
}

#[test]
fn errors_name_the_wrong_input() {
    let folder = Folder::new("errors");
    let server = folder.serve(0, 0);
    expect_content_errors(&server);
    expect_not_allowed(&server.post("/events", ""), "GET, HEAD");
    expect_not_allowed(&server.post("/health/ready", ""), "GET, HEAD");
    expect_not_allowed(&server.get("/add-message"), "POST");
    expect_page(&server, "13 Replacing it");
    server.stop();
}

#[test]
fn server_goes_on_until_the_delay_is_over() {
    let folder = Folder::new("delay");
    let server = folder.serve(60, 0);
    let (mut reader, _) = follow(server.connect(), "");
    assert_eq!(server.get("/health/ready").status, 200);
    server.shut_down();
    let start = Instant::now();
    while server.get("/health/ready").status != 503 {
        assert!(start.elapsed() < PATIENCE);
    }
    assert!(server.get("/metrics").text().starts_with("ready 0\nfollowers 1\n"));
    add(&server, "as before");
    assert_eq!(reader.event().data, "as before");
    server.advance(60);
    assert!(reader.chunk_text().starts_with("retry: "));
    assert_eq!(reader.chunk(), None);
    server.stop();
}

#[test]
fn followers_are_ended_one_after_the_other_each_with_a_time_to_come_back() {
    const FOLLOWERS: usize = 40;
    let folder = Folder::new("spread");
    let server = folder.serve(0, 2).in_real_time();
    let readers: Vec<_> = (0..FOLLOWERS).map(|_| follow(server.connect(), "").0).collect();
    let start = Instant::now();
    server.shut_down();
    let end = move |mut reader: Client| {
        let retry = reader.chunk_text();
        let time = start.elapsed();
        assert_eq!(reader.chunk(), None);
        let wait = retry.strip_prefix("retry: ").and_then(|rest| rest.trim_end().parse::<u64>().ok()).expect("a time");
        assert!((1000..2000).contains(&wait), "{wait}");
        (time, wait)
    };
    let readers: Vec<_> = readers.into_iter().map(|reader| thread::spawn(move || end(reader))).collect();
    let ends: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let early = ends.iter().filter(|(time, _)| *time < Duration::from_millis(900)).count();
    assert!(early <= FOLLOWERS * 9 / 20, "{early} are ended before 0.9 of 2 s");
    let mut waits: Vec<_> = ends.iter().map(|(_, wait)| wait / 100).collect();
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 4, "the times are random: {ends:?}");
    server.stop();
}

#[test]
fn supervisor_replaces_the_server_and_no_connection_is_refused() {
    let folder = Folder::new("supervisor");
    let mut running = folder.run("13-supervisor");
    let supervisor = running.process.id().to_string();
    let first = folder.process();
    // Nobody accepts, but the connection is not refused.
    kill("-KILL", &first);
    let mut waiting = Client::connect(running.address);
    waiting.send_get("/health/ready");
    kill("-HUP", &supervisor);
    assert_eq!(waiting.answer().text(), "ready\n");
    let second = folder.process();
    assert_ne!(first, second);

    let (mut reader, opening) = follow(Client::connect(running.address), "");
    assert!(opening.contains(&format!("\"process\":{second},")), "{opening}");
    kill("-HUP", &supervisor);
    assert!(reader.chunk_text().starts_with("retry: "));
    assert_eq!(reader.chunk(), None);
    let (_, opening) = follow(Client::connect(running.address), "0");
    assert!(opening.contains(&format!("\"process\":{},\"recovered\":true", folder.process())), "{opening}");
    kill("-TERM", &supervisor);
    assert_eq!(running.process.wait().unwrap().code(), Some(0));
}

#[test]
fn plot_has_a_column_for_each_100_ms() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let plot = plot::Plot::new(start, &[at(0), at(150), at(199), at(1150)], Duration::ZERO);
    assert_eq!(plot.counts, [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((plot.most(), plot.peak()), (2, 6.0));
    let text = plot.text();
    assert_eq!(text.lines().count(), 11);
    assert!(text.ends_with("     1 |##         #\n       +-------1 s-------2 s\n"), "{text}");
    assert_eq!(plot::Plot::new(start, &[at(50)], Duration::from_secs(1)).counts.len(), 10);
}

// The bugs of the broken server.

#[test]
fn broken_ends_all_at_once_and_refuses_connections() {
    let folder = Folder::new("broken");
    let mut running = folder.run("13-broken");
    let readers: Vec<_> = (0..20).map(|_| follow(Client::connect(running.address), "")).collect();
    assert!(readers.iter().all(|(_, opening)| opening.contains("retry: 2000\n")));
    kill("-TERM", &running.process.id().to_string());
    for (mut reader, _) in readers {
        assert_eq!(reader.chunk(), None, "no last word");
    }
    assert_eq!(running.process.wait().unwrap().code(), Some(0));
    let refused = TcpStream::connect(running.address).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
}
