//! Lesson 09, keeping it: what outlives a kill, what is cut, what is refused, and the losses of its broken twin.

#[allow(dead_code)]
#[path = "../../lessons/09-keeping-it/main.rs"]
mod main;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use overwire::feed::Cursor;
use overwire::journal::disk;
use serde_json::{Value, json};

use crate::common::{Client, Running, TestServer};
use crate::lesson::{FOREIGN, add, expect_content_errors, expect_error, expect_not_allowed, expect_page, program};

/// A folder that is empty at first, and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("09-{name}"));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("00000001.log")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.log()).unwrap()
    }

    fn run(&self, name: &str) -> Running {
        Running::start(Command::new(program(name)).args(["--port", "0", "--data"]).arg(&self.0).stderr(Stdio::null()))
    }

    /// Starts the lesson's program, which must refuse the log, and returns its error.
    fn refusal(&self) -> String {
        let mut command = Command::new(program("09-keeping-it"));
        let output = command.args(["--port", "0", "--data"]).arg(&self.0).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Serves the lesson in a thread.
    fn serve(&self) -> TestServer {
        let folder = self.0.clone();
        TestServer::of_loop(Default::default(), move |server| {
            let vote = main::Vote::open(&folder, &server)?;
            main::serve(server, vote)
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn send(running: &Running, text: &str) -> Value {
    let answer = Client::connect(running.address).post("/add-message", &json!({ "message": text }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["id"].clone()
}

fn get(running: &Running, target: &str) -> Value {
    Client::connect(running.address).get(target).json()
}

/// The texts after a cursor, and whether nothing is missing.
fn after(running: &Running, cursor: &Value) -> (Vec<String>, bool) {
    let cursor = cursor.as_str().unwrap();
    let answer = Client::connect(running.address).get(&format!("/messages?last_message_id={cursor}"));
    (answer.texts(), answer.json()["recovered"].as_bool().unwrap())
}

#[test]
fn answered_messages_outlive_a_kill() {
    let folder = Folder::new("kill");
    let running = folder.run("09-keeping-it");
    let address = running.address;
    // Several senders at once, so that some groups have several messages.
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                (0..20)
                    .map(|number| {
                        let text = format!("{sender} {number}");
                        let answer = client.post("/add-message", &json!({ "message": text }).to_string());
                        (text, answer.json()["id"].clone())
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut answered: Vec<_> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    let waits = get(&running, "/waits")["waits"].as_u64().unwrap();
    assert!((1..=160).contains(&waits), "{waits}");
    drop(running); // SIGKILL
    let running = folder.run("09-keeping-it");
    let state = get(&running, "/state");
    assert_eq!(state["counts"].as_object().unwrap().len(), 160);
    let number = |id: &Value| id.as_str().unwrap().parse::<Cursor>().unwrap().sequence();
    answered.sort_by_key(|(_, id)| number(id));
    let texts: Vec<_> = answered.iter().map(|(text, _)| text.clone()).collect();
    assert_eq!(after(&running, &answered[99].1), (texts[100..].to_vec(), true), "the cursors are those of before");
    assert_eq!(state["last_message_id"], answered[159].1);
    assert_eq!(number(&send(&running, "next")), 161);
}

#[test]
fn log_is_one_that_overwire_prints() {
    let folder = Folder::new("print");
    let running = folder.run("09-keeping-it");
    let id = send(&running, "tea");
    let mut printed = Vec::new();
    disk::print(&folder.0, Some("vote"), &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.contains(&format!("message room \"vote\" {} ", id.as_str().unwrap())), "{printed}");
    assert!(printed.contains(r#" - {"text":"tea"}\n"#), "{printed}");
    let pid = fs::read_to_string(folder.0.join("pid")).unwrap();
    assert_eq!(pid.trim(), running.process.id().to_string());
}

#[test]
fn unfinished_write_is_cut_wherever_it_ends() {
    let folder = Folder::new("torn");
    let running = folder.run("09-keeping-it");
    let (first, _) = (send(&running, "one"), send(&running, "two"));
    drop(running);
    let whole = folder.bytes();
    // The last group is a mark and a message.
    let mark = whole.windows(25).rposition(|bytes| bytes == b"00000006 c1d6b085 synced\n").unwrap();
    for length in [mark + 1, mark + 24, mark + 25, mark + 26, mark + 50, whole.len() - 1] {
        fs::write(folder.log(), &whole[..length]).unwrap();
        let running = folder.run("09-keeping-it");
        assert_eq!(after(&running, &first), (vec![], true), "{length}");
        send(&running, "three");
        drop(running);
        let running = folder.run("09-keeping-it");
        assert_eq!(after(&running, &first), (vec!["three".into()], true), "{length}");
    }
}

#[test]
fn a_log_whose_beginning_is_cut_begins_again() {
    let folder = Folder::new("beginning");
    drop(folder.run("09-keeping-it"));
    let whole = folder.bytes();
    for length in [0, 1, 37, 60, whole.len() - 1] {
        fs::write(folder.log(), &whole[..length]).unwrap();
        let running = folder.run("09-keeping-it");
        let id = send(&running, "one");
        drop(running);
        assert_eq!(after(&folder.run("09-keeping-it"), &id), (vec![], true), "{length}");
    }
}

#[test]
fn damage_in_the_middle_is_refused_and_nothing_is_changed() {
    let folder = Folder::new("damage");
    let running = folder.run("09-keeping-it");
    send(&running, "one");
    send(&running, "two");
    drop(running);
    let mut bytes = folder.bytes();
    let at = bytes.windows(3).position(|part| part == b"one").unwrap();
    bytes[at] = b'O';
    fs::write(folder.log(), &bytes).unwrap();
    let error = folder.refusal();
    assert!(error.contains("damaged at byte 135: expected the checksum"), "{error}");
    assert_eq!(folder.bytes(), bytes);
}

#[test]
fn a_reader_of_a_lost_message_is_told_and_the_state_brings_it_back() {
    let folder = Folder::new("lost");
    let running = folder.run("09-keeping-it");
    let [_, b, c] = ["A", "B", "C"].map(|text| send(&running, text));
    drop(running);
    let bytes = folder.bytes();
    fs::write(folder.log(), &bytes[..bytes.len() - 105]).unwrap();
    let running = folder.run("09-keeping-it");
    assert_eq!(after(&running, &c), (vec!["A".into(), "B".into()], false), "before the number is given again");
    let d = send(&running, "D");
    let [lost, new] = [&c, &d].map(|id| id.as_str().unwrap().parse::<Cursor>().unwrap());
    assert_eq!((lost.epoch(), lost.sequence()), (new.epoch(), new.sequence()));
    assert_eq!(after(&running, &c), (vec!["A".into(), "B".into(), "D".into()], false));
    assert_eq!(after(&running, &b), (vec!["D".into()], true), "others miss nothing");
    let state = get(&running, "/state");
    assert_eq!(state["counts"], json!({ "A": 1, "B": 1, "D": 1 }));
    assert_eq!(after(&running, &state["last_message_id"]), (vec![], true));
}

#[test]
fn errors_name_the_wrong_input() {
    let folder = Folder::new("errors");
    let server = folder.serve();
    expect_content_errors(&server);
    expect_error(&server.get("/messages?last_message_id=7"), "last_message_id: expected the id of a message");
    expect_not_allowed(&server.post("/state", ""), "GET, HEAD");
    expect_not_allowed(&server.get("/add-message"), "POST");
    expect_page(&server, "09 Keeping it");
    assert_eq!(server.get(&format!("/messages?last_message_id={FOREIGN}")).json()["recovered"], false);
    server.stop();
}

/// The state has more than the feed retains.
#[test]
fn state_counts_all_messages() {
    let folder = Folder::new("state");
    let server = folder.serve();
    for number in 0..120 {
        add(&server, if number % 3 == 0 { "tea" } else { "coffee" });
    }
    assert_eq!(server.get("/state").json()["counts"], json!({ "tea": 40, "coffee": 80 }));
    assert_eq!(server.get("/messages").texts().len(), 100);
    server.stop();
    assert_eq!(folder.serve().get("/state").json()["counts"], json!({ "tea": 40, "coffee": 80 }));
}

#[test]
fn pipelined_messages_are_answered_in_order_and_at_the_end() {
    let folder = Folder::new("pipelined");
    let server = folder.serve();
    let mut client = server.connect();
    for text in ["one", "two", "three"] {
        client.send_post("/add-message", &json!({ "message": text }).to_string());
    }
    let ids: Vec<_> = (0..3).map(|_| client.answer().json()["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(server.get(&format!("/messages?last_message_id={}", ids[0])).texts(), ["two", "three"]);
    server.stop();
}

// The bugs of the broken server. Each message was confirmed with a 200.

fn numbers_after(running: &Running, number: u64) -> (Value, bool) {
    let answer = get(running, &format!("/messages?last_message_id={number}"));
    (answer["messages"].clone(), answer["recovered"].as_bool().unwrap())
}

#[test]
fn broken_loses_answered_messages_and_its_readers_do_not_notice() {
    let folder = Folder::new("broken");
    let running = folder.run("09-broken");
    assert_eq!(["A", "B", "C"].map(|text| send(&running, text)), [1, 2, 3].map(Value::from));
    drop(running);
    let running = folder.run("09-broken");
    assert_eq!(numbers_after(&running, 0), (json!([]), true));
    assert!(!numbers_after(&running, 3).1, "as long as nothing has the number");
    ["D", "E", "F"].iter().for_each(|text| _ = send(&running, text));
    assert_eq!(numbers_after(&running, 3), (json!([]), true), "D, E and F are never seen");
}

#[test]
fn broken_appends_to_half_a_line() {
    let folder = Folder::new("broken-half");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join("messages.log"), "\"A\"\n\"half a li").unwrap();
    let running = folder.run("09-broken");
    assert_eq!(send(&running, "B"), 2);
    Command::new("kill").args(["-INT", &running.process.id().to_string()]).status().unwrap();
    let mut running = running;
    running.process.wait().unwrap();
    assert_eq!(numbers_after(&folder.run("09-broken"), 0), (json!(["A"]), true));
}
