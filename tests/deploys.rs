//! One process takes the place of another: readiness, the spread of the ends, and a listening socket that outlives both.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overwire::server::Drain;
use overwire::websocket::Opcode;
use serde_json::json;

use crate::common::{Answer, Client, PATIENCE, Running, TestServer};

/// A server with these times, in seconds.
fn server(delay: u64, time: u64) -> TestServer {
    let drain = Drain { delay: Duration::from_secs(delay), time: Duration::from_secs(time) };
    TestServer::with(move |config| config.drain = drain)
}

/// Connections that have made a request. A server that does not listen any more answers one more request on each.
fn kept(server: &TestServer, count: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = server.connect();
        client.get("/health");
        client
    };
    (0..count).map(connect).collect()
}

/// Waits until a server does not listen any more.
fn wait_until_refused(address: SocketAddr) {
    let start = Instant::now();
    while !TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        assert!(start.elapsed() < PATIENCE, "it still listens");
        thread::yield_now();
    }
}

#[test]
fn a_shutdown_fails_readiness_at_once_and_listening_ends_after_the_delay() {
    let server = server(60, 0);
    assert_eq!(server.get("/health/ready").status, 200);
    server.shut_down();
    let start = Instant::now();
    let refusal = loop {
        let answer = server.get("/health/ready");
        if answer.status != 200 {
            break answer;
        }
        assert!(start.elapsed() < PATIENCE);
    };
    assert_eq!((refusal.status, refusal.field("Retry-After")), (503, Some("5")));
    assert!(refusal.json()["error"].as_str().unwrap().contains("going away"), "{refusal:?}");
    server.advance_and_settle(58);
    let mut stream = server.connect();
    stream.send_get("/api/stream").head();
    server.publish("general", "as before");
    assert!(stream.line().contains("as before"));
    let alive = server.get("/health");
    assert_eq!((alive.status, alive.field("Connection")), (200, None));
    server.advance(2);
    assert_eq!(stream.chunk(), None, "the last-chunk");
    wait_until_refused(server.address);
    server.stop();
}

#[test]
fn a_connection_that_was_just_opened_gets_its_first_answer() {
    let server = server(0, 5);
    let mut fresh = server.connect();
    server.shut_down();
    wait_until_refused(server.address);
    let answer = fresh.get("/health");
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    fresh.expect_end();
    server.stop();
}

/// The number of followers of each transport.
const FOLLOWERS: usize = 250;

/// Advances the clock by this at a time. The server does not make up at once for a longer delay.
const STEP: Duration = Duration::from_millis(20);

#[test]
fn ends_are_spread_so_that_no_100_ms_have_more_than_3_times_their_share() {
    let server = server(0, 5);
    let open = |target: &str| -> Vec<Client> {
        let number = std::cell::Cell::new(0);
        let connect = |_| {
            let mut client = server.connect();
            number.set(number.get() + 1);
            client.send_get(&target.replace('N', &number.get().to_string()));
            client
        };
        (0..FOLLOWERS).map(connect).collect()
    };
    let (streams, events, polls) = (open("/api/stream"), open("/api/events"), open("/api/poll?client_id=N&timeout=60"));
    let sockets: Vec<Client> = (0..FOLLOWERS).map(|_| server.websocket("/api/ws")).collect();
    for transport in ["stream", "sse", "long_poll", "websocket"] {
        server.wait_for_open(transport, FOLLOWERS as u64);
    }
    let mut watchers = kept(&server, 250);
    let (mut now, mut before, mut left) = (Duration::ZERO, Duration::ZERO, 4 * FOLLOWERS);
    server.shut_down();
    wait_until_refused(server.address);
    while left > FOLLOWERS && before < Duration::from_millis(3800) {
        let mut stats = json!(null);
        for _ in 0..5 {
            server.remote().advance_clock(STEP);
            now += STEP;
            stats = watchers.pop().expect("the ends take 5 s").get("/api/stats").json();
        }
        let held = ["stream", "sse", "long_poll", "websocket"].map(|name| stats["transports"][name]["open"].as_u64());
        let ended = left - held.map(|open| open.unwrap() as usize).iter().sum::<usize>();
        let share = (4 * FOLLOWERS) as f64 * (now - before).as_secs_f64() / 5.0;
        assert!(ended as f64 <= 3.0 * share, "{ended} have ended in {:?}, not {share}", now - before);
        (before, left) = (now, left - ended);
    }
    assert!(before > Duration::from_secs(3), "three quarters of the ends have taken {before:?}");
    server.advance(3);
    expect_ends(streams, events, polls, sockets);
    server.stop();
}

/// Checks the last bytes of each transport. The times after which event streams come back are spread too.
fn expect_ends(streams: Vec<Client>, events: Vec<Client>, polls: Vec<Client>, sockets: Vec<Client>) {
    for mut stream in streams {
        stream.head();
        assert_eq!(stream.chunk(), None);
    }
    for mut poll in polls {
        let answer = poll.answer();
        assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    }
    for mut socket in sockets {
        let close = socket.message();
        assert_eq!(close.close(), (1001, "the server is going away".into()));
        socket.send_frame(Opcode::Close, &close.payload);
        socket.expect_end();
    }
    let mut waits = [0; 30];
    for mut stream in events {
        stream.head();
        stream.chunk();
        let retry = stream.chunk_text();
        let milliseconds = retry.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
        waits[milliseconds.unwrap_or_else(|| panic!("{retry:?}")).parse::<usize>().unwrap() / 100] += 1;
        assert_eq!(stream.chunk(), None);
    }
    assert_eq!(waits[..10], [0; 10]);
    assert!(waits[10..].iter().all(|count| *count <= 3 * FOLLOWERS / 20), "{waits:?}");
}

/// Each reader has everything up to some message. So it loses nothing when it resumes after that.
#[test]
fn what_is_sent_during_the_spread_reaches_all_that_are_still_open() {
    let server = server(0, 5);
    let mut readers: Vec<Client> = (0..400).map(|_| server.connect()).collect();
    readers.iter_mut().for_each(|reader| drop(reader.send_get("/api/stream").head()));
    let senders = kept(&server, 40);
    server.shut_down();
    for (number, mut sender) in senders.into_iter().enumerate() {
        server.remote().advance_clock(2 * STEP); // all ends take 2 s
        let answer = sender.post("/api/send", &format!(r#"{{"sender":"a","text":"{number}"}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    server.remote().start_clock();
    let mut counts = Vec::new();
    for mut reader in readers {
        let mut lines = Vec::new();
        while let Some(chunk) = reader.chunk() {
            lines.extend(String::from_utf8(chunk).unwrap().lines().map(str::to_owned));
        }
        counts.push(lines.len());
        let expected = (0..lines.len()).map(|number| format!(r#""text":"{number}""#));
        assert!(lines.iter().zip(expected).all(|(line, text)| line.contains(&text)), "{lines:?}");
    }
    assert!(counts.iter().any(|count| *count > 0), "{counts:?}");
    server.stop();
}

/// A message answers all held polls at once. If their clients had to open new connections for the next poll, they would
/// all come to the next server in one moment.
#[test]
fn polls_that_a_message_answers_during_the_spread_keep_their_connections() {
    const POLLS: usize = 400;
    let server = server(0, 60);
    let poll =
        |number: usize, cursor: &str| format!("/api/poll?client_id={number}&timeout=60&last_message_id={cursor}");
    let mut polls: Vec<Client> = (0..POLLS).map(|_| server.connect()).collect();
    polls.iter_mut().enumerate().for_each(|(number, client)| _ = client.send_get(&poll(number, "")));
    server.wait_for_open("long_poll", POLLS as u64);
    let mut sender = kept(&server, 1).remove(0);
    server.shut_down();
    wait_until_refused(server.address);
    assert_eq!(sender.post("/api/send", r#"{"sender":"a","text":"news"}"#).status, 200);
    let mut kept = 0;
    let is_end = |answer: &Answer| answer.json()["timeout"] == true && answer.field("Connection") == Some("close");
    polls.retain_mut(|client| {
        let answer = client.answer();
        if is_end(&answer) {
            return false;
        }
        assert_eq!((answer.texts(), answer.field("Connection")), (vec!["news".into()], None), "{answer:?}");
        client.send_get(&poll(kept, answer.json()["last_message_id"].as_str().unwrap()));
        kept += 1;
        true
    });
    server.remote().start_clock(); // their ends take 2 s
    for client in &mut polls {
        let answer = client.answer();
        assert!(is_end(&answer), "{answer:?}");
        client.expect_end();
    }
    assert!(kept > 0, "all ends came before the message");
    server.stop();
}

/// Starts the server as a supervisor does: with the listening socket as file descriptor 3.
fn activated(socket: &TcpListener) -> Command {
    let script = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_overwire"), "--no-tap"]);
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    command
}

fn terminate(server: &Running) {
    let killed = Command::new("kill").args(["-TERM", &server.process.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

/// Makes requests on new connections until `is_over`, and returns their number. Each one must be answered with 200.
fn ask_again_and_again(address: SocketAddr, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer: Answer = Client::connect(address).get("/health");
        assert_eq!(answer.status, 200);
        count += 1;
    }
    count
}

#[test]
fn a_hundred_restarts_under_load_refuse_no_connection() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_again_and_again(address, &is_over))).collect();
        for _ in 0..100 {
            let mut server = Running::start(&mut activated(&socket));
            assert_eq!(server.address, address);
            terminate(&server);
            assert_eq!(server.process.wait().unwrap().code(), Some(0));
        }
        let _last = Running::start(&mut activated(&socket));
        is_over.store(true, Ordering::Relaxed);
        let answers: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(answers > 100, "{answers}");
    });
}

#[test]
fn a_socket_that_is_not_for_this_process_or_not_of_tcp_is_not_used() {
    let start = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_overwire")]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let refused = start(r#"exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" --no-tap --port 0"#);
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(
        complaint.starts_with("overwire: LISTEN_FDS: expected a socket of TCP as file descriptor 3"),
        "{complaint}"
    );
    let two = start(r#"LISTEN_FDS=2 LISTEN_PID=$$ exec "$0" --no-tap --port 0"#);
    assert_eq!(String::from_utf8(two.stderr).unwrap(), "overwire: LISTEN_FDS: expected one socket, not 2\n");
    let mut other = Command::new(env!("CARGO_BIN_EXE_overwire"));
    let running =
        Running::start(other.args(["--no-tap", "--port", "0"]).envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]));
    assert_eq!(Client::connect(running.address).get("/health").status, 200);
}
