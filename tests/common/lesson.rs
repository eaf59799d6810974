//! Shared by the tests of the lessons.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, io};

use overwire::{EventLoop, Limits};
use serde_json::json;

use crate::common::{Answer, Client, Running, TestServer};

/// A cursor into a log that no server has.
pub const FOREIGN: &str = "00000000-0000-8000-8000-000000000007";

/// The path of a program of the project: a lesson's, `overwire` or `wire`. Cargo builds the lessons' programs with
/// their tests. The two programs of the other package are built here, which takes no time when nothing has changed.
pub fn program(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_00-readiness")).parent().unwrap();
    static BUILT: LazyLock<bool> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_00-readiness")).parent().unwrap();
        let profile = folder.file_name().unwrap().to_str().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--package", "overwire", "--bins"]);
        build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        build.arg("--target-dir").arg(folder.parent().unwrap());
        build.status().expect("cargo runs").success()
    });
    if matches!(name, "overwire" | "wire") {
        assert!(*BUILT, "cargo builds overwire and wire");
    }
    folder.join(name)
}

/// Starts a lesson's program on a port that the system chooses.
pub fn start(name: &str) -> Running {
    Running::start(Command::new(program(name)).args(["--port", "0"]))
}

/// Serves a lesson in a thread, with a clock that can be set forward.
pub fn serve(lesson: fn(EventLoop) -> io::Result<()>) -> TestServer {
    TestServer::of_loop(Limits::default(), lesson)
}

/// Posts a message.
#[track_caller]
pub fn post(server: &TestServer, text: &str) -> Answer {
    let answer = server.post("/add-message", &json!({ "message": text }).to_string());
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("Message added")), "{answer:?}");
    answer
}

/// Posts a message and returns its id.
#[track_caller]
pub fn add(server: &TestServer, text: &str) -> String {
    let answer = post(server, text);
    assert_eq!(answer.field("Cache-Control"), Some("no-store"), "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// The cursor that a poll's answer ends at.
#[track_caller]
pub fn cursor_of(answer: &Answer) -> String {
    answer.json()["last_message_id"].as_str().expect("a last_message_id").to_owned()
}

/// Checks that a request was answered with 400 and an error that contains `part`.
#[track_caller]
pub fn expect_error(answer: &Answer, part: &str) {
    let sentence = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == 400 && sentence.contains(part), "{part:?} is not in {answer:?}");
}

/// Checks that a wrong method gets 405 and the methods that a path allows.
#[track_caller]
pub fn expect_not_allowed(answer: &Answer, allowed: &str) {
    assert_eq!((answer.status, answer.field("Allow")), (405, Some(allowed)), "{answer:?}");
}

/// Checks what `/add-message` answers to content that is not a message.
#[track_caller]
pub fn expect_content_errors(server: &TestServer) {
    let long = json!({ "message": "é".repeat(1001) }).to_string();
    for (content, complaint) in [
        ("", "not JSON"),
        (r#"{"message""#, "not JSON"),
        (r#"{"message": "#, "not JSON"),
        ("{}", "message: it is missing"),
        ("[]", "message: it is missing"),
        ("7", "message: it is missing"),
        (r#"{"message": 7}"#, "message: expected a string"),
        (r#"{"message": null}"#, "message: expected a string"),
        (r#"{"message": ["one"]}"#, "message: expected a string"),
        (r#"{"message": ""}"#, "message: expected 1 to 1000 characters"),
        (&long, "message: expected 1 to 1000 characters"),
    ] {
        expect_error(&server.post("/add-message", content), complaint);
    }
    add(server, &"é".repeat(1000));
}

/// Checks that a lesson serves its page, the style sheet, and nothing else.
#[track_caller]
pub fn expect_page(server: &TestServer, title: &str) {
    let page = server.get("/");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains(&format!("<title>{title}</title>")), "{page:?}");
    assert_eq!((server.get("/page.css").status, server.get("/nothing").status), (200, 404));
}

/// Starts 10,000 polls of `target` and hangs up on each. Checks that the program frees their memory.
#[track_caller]
pub fn expect_aborted_polls_forgotten(program: &str, target: &str) {
    let running = start(program);
    let mut other = Client::connect(running.address);
    let growth = running.growth(|| {
        for _ in 0..500 {
            let mut client = Client::connect(running.address);
            client.send_get("/nothing").send_get(target);
            // The server has seen the poll when it answers this. The poll's connection ends with unread input, so with
            // a reset, which keeps no port waiting.
            assert_eq!(other.get("/nothing").status, 404);
        }
    });
    assert!(growth < 200_000, "10,000 polls have left {growth} bytes");
}

/// Starts 20,000 streams of `target` that end at once. Checks that the program frees their memory.
#[track_caller]
pub fn expect_ended_streams_forgotten(program: &str, target: &str) {
    let running = start(program);
    let mut client = Client::connect(running.address);
    let growth = running.growth(|| {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(1000));
        (0..1000).for_each(|_| _ = client.head_alone());
    });
    assert!(growth < 400_000, "20,000 streams have left {growth} bytes");
}
