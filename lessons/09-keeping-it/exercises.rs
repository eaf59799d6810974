//! The exercises of lesson 09. Each test fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Client, Running};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_09-keeping-it");

/// A folder that is empty at first, and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("09-exercise-{name}"));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--port", "0", "--data"]).arg(&self.0);
        command
    }

    fn start(&self) -> Running {
        Running::start(&mut self.command())
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.0.join("00000001.log")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn connect(running: &Running) -> Client {
    let client = Client::connect(running.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// Adds a message, and returns the status and the id.
fn add(running: &Running, content: &Value) -> (u16, Value) {
    let answer = connect(running).post("/add-message", &content.to_string());
    (answer.status, answer.json()["id"].clone())
}

fn get(running: &Running, target: &str) -> Value {
    connect(running).get(target).json()
}

/// Exercise 1: a log has one owner. A second process ends with exit code 1 and the error `another process uses this
/// log`, and changes nothing, not even the file `pid`. The lock ends with its process, even with a killed one.
#[test]
fn log_has_one_owner() {
    let folder = Folder::new("owner");
    let owner = folder.start();
    add(&owner, &json!({ "message": "tea" }));
    let (log, pid) = (folder.bytes(), fs::read(folder.0.join("pid")).unwrap());
    let mut second = folder.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while second.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = second.kill(); // if it still runs
    let output = second.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("another process uses this log"), "{output:?}");
    assert_eq!((folder.bytes(), fs::read(folder.0.join("pid")).unwrap()), (log, pid));
    drop(owner); // SIGKILL
    assert_eq!(get(&folder.start(), "/state")["counts"], json!({ "tea": 1 }));
}

/// Exercise 2: `"key"`, 1 to 64 characters, or 400. A message with a key that is known is not added again: its answer has
/// the id of the first. That holds after a kill, and while the first is not committed yet. The same key with another
/// text gets 409, and is not added. There is no bound on the keys here: the log holds them all anyway.
#[test]
fn keys_survive_a_crash() {
    let folder = Folder::new("keys");
    let running = folder.start();
    let tea = json!({ "message": "tea", "key": "from Ada, 1" });
    let first = add(&running, &tea);
    assert_eq!((first.0, add(&running, &tea)), (200, first.clone()));
    // Twenty at once: one is added, and all get its id.
    let milk = json!({ "message": "milk", "key": "2" }).to_string();
    let mut senders: Vec<_> = (0..20).map(|_| connect(&running)).collect();
    senders.iter_mut().for_each(|sender| _ = sender.send_post("/add-message", &milk));
    let ids: Vec<_> = senders.iter_mut().map(|sender| sender.answer().json()["id"].clone()).collect();
    assert!(ids.iter().all(|id| id.is_string() && *id == ids[0]), "{ids:?}");
    drop(running); // SIGKILL

    let running = folder.start();
    assert_eq!(add(&running, &tea), first);
    assert_eq!(add(&running, &json!({ "message": "coffee", "key": "from Ada, 1" })).0, 409);
    for wrong in [json!(""), json!(7), json!("x".repeat(65))] {
        assert_eq!(add(&running, &json!({ "message": "tea", "key": wrong })).0, 400, "{wrong}");
    }
    add(&running, &json!({ "message": "tea" }));
    assert_eq!(get(&running, "/state")["counts"], json!({ "tea": 2, "milk": 1 }));
}

/// Exercise 3: at start-up, a log of more than 100 messages is written again: the counts, and the newest 100 messages. The
/// file has no more than 20,000 bytes then. The counts, the tip and the cursors of what is retained stay as they were.
/// An older cursor is unknown. If a crash leaves another file in the folder, with any name that ends with `.new`, it is
/// not taken for the log.
#[test]
fn log_is_shortened_at_start_up() {
    let folder = Folder::new("short");
    let running = folder.start();
    let mut client = connect(&running);
    let ids: Vec<_> = (0..250)
        .map(|number| {
            let text = if number % 5 == 0 { "tea" } else { "coffee" };
            client.post("/add-message", &json!({ "message": text }).to_string()).json()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let before = get(&running, "/state");
    drop((running, client)); // SIGKILL
    for _ in 0..2 {
        fs::write(folder.0.join("00000001.log.new"), "half of a log").unwrap();
        drop(folder.start()); // SIGKILL
        let length = folder.bytes().len();
        assert!(length <= 20_000, "{length} bytes");
        let running = folder.start();
        assert_eq!(get(&running, "/state"), before);
        let after = |id: &str| get(&running, &format!("/messages?last_message_id={id}"));
        let answer = after(&ids[199]);
        assert_eq!((answer["messages"].as_array().unwrap().len(), &answer["recovered"]), (50, &json!(true)));
        assert_eq!((&answer["messages"][49]["id"], &answer["last_message_id"]), (&json!(ids[249]), &json!(ids[249])));
        assert_eq!(after(&ids[149])["recovered"], true, "the position before the oldest message that is retained");
        let answer = after(&ids[100]);
        assert_eq!((answer["messages"].as_array().unwrap().len(), &answer["recovered"]), (100, &json!(false)));
    }
    // The log goes on.
    let running = folder.start();
    let id = add(&running, &json!({ "message": "milk" })).1;
    drop(running);
    let state = get(&folder.start(), "/state");
    assert_eq!((&state["counts"], &state["last_message_id"]), (&json!({ "tea": 50, "coffee": 200, "milk": 1 }), &id));
}
