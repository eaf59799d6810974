//! The server with a log on a disk: what outlives it, and a disk that is slow, full or damaged.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use overwire::journal::Retention;
use overwire::journal::disk::{Data, Files, OpenError, SyncMode, System};
use overwire::server::{Config, Server};
use overwire::websocket::Opcode;
use serde_json::{Value, json};

use crate::common::{Answer, Client, PATIENCE, Running, TestServer};

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("overwire-disk-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn data(&self, sync: SyncMode) -> Data {
        Data { folder: self.0.clone(), sync, files: Arc::new(System) }
    }

    /// Starts a server with its log in this folder.
    fn serve(&self) -> TestServer {
        let data = self.data(SyncMode::Always);
        TestServer::with(|config| config.data = Some(data))
    }

    fn segment(&self) -> PathBuf {
        self.0.join("00000001.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A disk whose writes fail, or one of whose syncs lasts until the test ends it.
#[derive(Debug, Default)]
struct Faults {
    is_full: AtomicBool,
    /// The next sync says that it has begun, and waits for an answer.
    held: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    syncs: AtomicUsize,
}

impl Files for Faults {
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            System.write(file, &bytes[..bytes.len() / 2])?;
            return Err(ErrorKind::StorageFull.into());
        }
        System.write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if let Some((begun, end)) = self.held.lock().unwrap().take() {
            begun.send(()).unwrap();
            let _ = end.recv();
        }
        System.sync(file)
    }
}

fn serve_with(folder: &Folder, faults: &Arc<Faults>) -> TestServer {
    let data = Data { files: faults.clone(), ..folder.data(SyncMode::Always) };
    TestServer::with(|config| config.data = Some(data))
}

fn send(server: &TestServer, text: &str, key: &str) -> Answer {
    let content = json!({ "sender": "ada", "text": text, "room": "tea", "key": key });
    server.post("/api/send", &content.to_string())
}

/// Returns the texts of the room after a message, and whether none is missing.
fn read(server: &TestServer, after: &str) -> (Vec<String>, bool) {
    texts(&server.get(&format!("/api/messages?room=tea&last_message_id={after}")).json())
}

fn texts(answer: &Value) -> (Vec<String>, bool) {
    let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
    (answer["messages"].as_array().unwrap().iter().map(text).collect(), answer["recovered"] == true)
}

#[test]
fn rooms_mailboxes_keys_and_positions_outlive_the_server() {
    let folder = Folder::new();
    let server = folder.serve();
    let first = send(&server, "one", "1");
    let id = first.json()["message_id"].as_str().unwrap().to_owned();
    // The client has the first message, and then there is another one.
    let poll = "/api/poll?client_id=bob&room=tea&timeout=5";
    let mut held = server.connect();
    held.send_get(&format!("{poll}&last_message_id={id}"));
    server.wait_for_open("long_poll", 1);
    server.advance(5);
    held.answer();
    send(&server, "two", "2");
    let mailbox = server.post("/poll", "{}").json()["connection_id"].as_str().unwrap().to_owned();
    let put = |server: &TestServer, text: &str| {
        server.post("/sse/message", &json!({ "connection_id": mailbox, "text": text }).to_string())
    };
    let take = |server: &TestServer| {
        server.post("/poll", &json!({ "connection_id": mailbox }).to_string()).json()["message"].clone()
    };
    ["a", "b"].iter().for_each(|text| assert_eq!(put(&server, text).status, 202));
    assert_eq!(take(&server), "a");
    server.stop();

    let server = folder.serve();
    assert_eq!(read(&server, &id), (vec!["two".into()], true));
    assert_eq!(texts(&server.get(poll).json()), (vec!["two".into()], true));
    assert_eq!(take(&server), "b");
    let again = send(&server, "one", "1");
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert_eq!(send(&server, "other", "1").status, 409);
    assert_eq!(send(&server, "three", "3").status, 200);
    server.stop();
    assert_eq!(read(&folder.serve(), &id).0, ["two", "three"]);
}

#[test]
fn what_was_answered_outlives_a_killed_process() {
    for sync in ["always", "100ms", "never"] {
        let folder = Folder::new();
        let start = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
            command.args(["--port", "0", "--no-tap", "--sync", sync, "--data"]).arg(&folder.0);
            Running::start(&mut command)
        };
        let mut running = start();
        let mut client = Client::connect(running.address);
        let mut ids = Vec::new();
        for number in 0..20 {
            let content = json!({ "sender": "ada", "text": number.to_string(), "room": "tea" }).to_string();
            ids.push(client.post("/api/send", &content).json()["message_id"].as_str().unwrap().to_owned());
        }
        running.process.kill().unwrap();
        running.process.wait().unwrap();
        let running = start();
        let mut client = Client::connect(running.address);
        let answer = client.get(&format!("/api/messages?room=tea&last_message_id={}", ids[4])).json();
        let found: Vec<_> = answer["messages"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!((found, &answer["recovered"]), (ids[5..].iter().map(|id| json!(id)).collect(), &json!(true)));
    }
}

#[test]
fn the_loop_does_not_wait_for_a_slow_disk() {
    let (folder, faults) = (Folder::new(), Arc::new(Faults::default()));
    let server = serve_with(&folder, &faults);
    let mut reader = server.websocket("/api/ws?room=tea");
    let (mut sender, mut other) = (server.connect(), server.connect());
    let ((begun, has_begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
    *faults.held.lock().unwrap() = Some((begun, ended));
    sender.send_post("/api/send", r#"{"sender":"ada","text":"slow","room":"tea"}"#);
    has_begun.recv_timeout(PATIENCE).expect("the disk is asked to sync");
    for _ in 0..100 {
        assert_eq!(other.get("/api/history?room=tea").json()["messages"], json!([]), "it is not committed");
    }
    assert!(sender.is_silent(), "it is not answered");
    end.send(()).unwrap();
    assert_eq!(sender.answer().status, 200);
    assert_eq!(reader.message().json()["text"], "slow");
}

#[test]
fn a_message_waits_for_two_syncs_at_most() {
    const MESSAGES: usize = 200;
    let (folder, faults) = (Folder::new(), Arc::new(Faults::default()));
    let server = serve_with(&folder, &faults);
    let (mut first, mut others) = (server.connect(), server.websocket("/api/ws?room=tea"));
    let ((begun, has_begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
    *faults.held.lock().unwrap() = Some((begun, ended));
    first.send_post("/api/send", r#"{"sender":"ada","text":"first","room":"tea"}"#);
    has_begun.recv_timeout(PATIENCE).expect("the disk is asked to sync");
    let before = faults.syncs.load(Ordering::Relaxed);
    (0..MESSAGES).for_each(|number| _ = others.send_text(&format!(r#"{{"sender":"bob","text":"{number}"}}"#)));
    assert_eq!(others.send_frame(Opcode::Ping, "taken").frame().opcode, Opcode::Pong, "the server has them all");
    end.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    assert_eq!(others.message().json()["text"], "first");
    (0..MESSAGES).for_each(|number| assert_eq!(others.message().json()["text"], number.to_string()));
    assert_eq!(faults.syncs.load(Ordering::Relaxed) - before, 1, "one sync for all that came during the first");
}

#[test]
fn a_full_disk_refuses_messages_until_it_has_space() {
    let (folder, faults) = (Folder::new(), Arc::new(Faults::default()));
    let server = serve_with(&folder, &faults);
    let id = server.publish("tea", "one");
    let mut reader = server.websocket("/api/ws?room=tea");
    faults.is_full.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let refused = send(&server, "lost", "1");
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(refused.status == 503 && refused.field("Retry-After").is_some(), "{refused:?}");
        assert!(error.contains("cannot be stored") && error.contains("no storage space"), "{error}");
    }
    assert_eq!(server.get("/health/ready").status, 503);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(read(&server, &id), (vec![], true));
    faults.is_full.store(false, Ordering::Relaxed);
    let start = Instant::now();
    while send(&server, "two", "1").status != 200 {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert_eq!(reader.message().json()["text"], "two");
    assert_eq!(server.get("/health/ready").status, 200);
    server.stop();
    assert_eq!(read(&folder.serve(), &id), (vec!["two".into()], true));
}

#[test]
fn an_unfinished_write_is_cut_and_unknown_clients_are_told() {
    let folder = Folder::new();
    let server = folder.serve();
    let ids = ["one", "two"].map(|text| server.publish("tea", text));
    server.stop();
    let bytes = fs::read(folder.segment()).unwrap();
    fs::write(folder.segment(), &bytes[..bytes.len() - 1]).unwrap();
    let server = folder.serve();
    assert_eq!(read(&server, &ids[0]), (vec![], true));
    assert_eq!(read(&server, &ids[1]), (vec!["one".into()], false), "it has a message that the log has lost");
    server.publish("tea", "other");
    assert_eq!(read(&server, &ids[1]), (vec!["one".into(), "other".into()], false));
    // Its position may have been in the part that was cut.
    let poll = server.get("/api/poll?client_id=bob&room=tea&timeout=5").json();
    assert_eq!(texts(&poll), (vec!["one".into(), "other".into()], false));
}

#[test]
fn messages_that_are_cut_off_are_told() {
    let folder = Folder::new();
    let data = folder.data(SyncMode::Never);
    let server = TestServer::with(|config| config.data = Some(data));
    let ids: Vec<_> = (0..10).map(|number| server.publish("tea", &number.to_string())).collect();
    server.stop();
    let bytes = fs::read(folder.segment()).unwrap();
    let records: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b" message room")).collect();
    for lost in [1, 3, 10] {
        fs::write(folder.segment(), &bytes[..records[10 - lost] - 17]).unwrap();
        let server = folder.serve();
        server.publish("tea", "new");
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(read(&server, id).1, number < 10 - lost, "{lost} are lost, and the reader has {number}");
        }
        server.stop();
    }
}

#[test]
fn fewer_rooms_are_kept_if_fewer_are_wanted() {
    let folder = Folder::new();
    let server = folder.serve();
    ["a", "b", "c"].iter().for_each(|room| drop(server.publish(room, "text")));
    server.stop();
    for rooms in [2, 256] {
        let data = folder.data(SyncMode::Always);
        let server = TestServer::with(move |config| {
            (config.data, config.retention) = (Some(data), Retention { rooms, ..Retention::default() });
        });
        assert_eq!(server.get("/api/stats").json()["rooms"].as_array().unwrap().len(), 2);
        server.stop();
    }
}

#[test]
fn a_folder_in_use_or_damaged_is_refused() {
    let folder = Folder::new();
    let server = folder.serve();
    ["one", "two", "three"].iter().for_each(|text| drop(server.publish("tea", text)));
    let bind = || {
        let data = Some(folder.data(SyncMode::Always));
        Server::bind(Config { port: 0, data, ..Config::default() }).map(drop).unwrap_err()
    };
    let error = bind();
    assert!(error.get_ref().unwrap().is::<OpenError>() && error.to_string().contains("another process"), "{error}");
    server.stop();
    let mut bytes = fs::read(folder.segment()).unwrap();
    bytes[200] ^= 1;
    fs::write(folder.segment(), &bytes).unwrap();
    let error = bind().to_string();
    assert!(error.contains("00000001.log: damaged at byte ") && error.contains("Restore the folder"), "{error}");
    assert_eq!(fs::read(folder.segment()).unwrap(), bytes);
    assert_eq!(overwire(&["--port", "0", "--no-tap", "--data"], &folder.0).status.code(), Some(1));
}

/// Runs the program until it ends.
fn overwire(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_overwire")).args(arguments).arg(folder).output().unwrap()
}

#[test]
fn the_log_is_printed_record_by_record() {
    let folder = Folder::new();
    let server = folder.serve();
    let tea = server.publish("tea", "one");
    server.publish("coffee", "two \u{1b}[2J\u{9b}2J");
    server.stop();
    let log = |rest: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
        let output = command.arg("log").arg(&folder.0).args(rest).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, all, _) = log(&[]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!((code, lines[0]), (Some(0), folder.segment().to_str().unwrap()));
    assert_eq!(lines[1], r"        0  00000012 422422f2 overwire-log 1 1 0\n");
    assert_eq!(lines[2], "           segment 1: a log begins here");
    assert_eq!(lines[3], r"       37  00000006 c1d6b085 synced\n");
    assert!(all.contains(&format!(" message room \"tea\" {tea} ")) && all.contains(r#""text":"one""#));
    assert!(all.contains("two \\u001b[2J\\u{9b}2J") && !all.contains('\u{9b}'));
    let (_, room, _) = log(&["tea"]);
    assert!(room.contains("room \"tea\": message 1, check ") && !room.contains("coffee"), "{room}");
    let (code, summary, _) = log(&["--check"]);
    assert_eq!(code, Some(0));
    assert!(summary.starts_with("segments: 1, bytes: ") && summary.ends_with("of them messages: 2\n"), "{summary}");
    let mut bytes = fs::read(folder.segment()).unwrap();
    bytes[100] ^= 1;
    fs::write(folder.segment(), &bytes).unwrap();
    let (code, printed, error) = log(&[]);
    assert!(code == Some(1) && printed.contains("synced") && !printed.contains("message"), "{printed}");
    assert!(error.contains("damaged at byte 62: expected the checksum "), "{error}");
}
