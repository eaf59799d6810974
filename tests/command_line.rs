//! The program `overwire`: its arguments, its output, and its end by a signal.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use crate::common::{Answer, Client, PATIENCE};
use overwire::websocket::Opcode;

/// Runs the program, which must end by itself. Returns the exit code, the standard output and the standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
    let mut process = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            process.kill().unwrap();
        }
        thread::yield_now();
    }
    let Output { status, stdout, stderr } = process.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The running program, on a port that the system chose.
struct Program {
    process: Child,
    /// The lines of its standard output after the greeting. They end with the process.
    lines: Receiver<String>,
    address: SocketAddr,
    /// The address of its tap.
    tap: Option<SocketAddr>,
    /// The commands of its greeting.
    things: [String; 3],
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_overwire")).args(["--port", "0"]).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut program =
            Program { process, lines, address: ([0, 0, 0, 0], 0).into(), tap: None, things: Default::default() };
        let greeting = program.line();
        let url = greeting.strip_prefix("listening on http://").unwrap_or_else(|| panic!("no address: {greeting}"));
        program.address = url.parse().unwrap();
        let mut line = program.line();
        if let Some(url) = line.strip_prefix("the same server, seen through a tap that shows the bytes: http://") {
            program.tap = Some(url.parse().unwrap());
            line = program.line();
        }
        assert_eq!(line, "Three things to try:");
        program.things = std::array::from_fn(|_| program.line().trim_start().to_owned());
        program
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program prints a line")
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn get(&self, target: &str) -> Answer {
        self.connect().get(target)
    }

    /// Waits until `count` connections of a transport are open.
    fn wait_for_open(&self, transport: &str, count: u64) {
        let start = Instant::now();
        while self.get("/api/stats").json()["transports"][transport]["open"] != count {
            assert!(start.elapsed() < PATIENCE, "timed out waiting for {count} open {transport}");
        }
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -s {name} {}", self.process.id())]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits for the end of the program. Returns the exit code.
    fn exit_code(mut self) -> Option<i32> {
        let end = self.lines.recv_timeout(PATIENCE);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected), "the program ends and prints no more lines");
        self.process.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn help_lists_all_options_and_version_prints_the_version() {
    let (code, help, complaint) = run(&["--help"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    for option in [
        "--host",
        "--port",
        "--static",
        "--log",
        "--allow-origin",
        "--allow-host",
        "--trust-proxy",
        "--proxy-protocol",
        "--identity-header",
        "--retain-messages",
        "--retain-bytes",
        "--retain-time",
        "--max-rooms",
        "--rate",
        "--per-client",
        "--keys",
        "--metrics",
        "--redis",
        "--drain-delay",
        "--drain-time",
        "--check-config",
        "--limits",
        "--check-health",
        "OVERWIRE_PORT",
        "--tap-port",
        "--no-tap",
        "--show-secrets",
        "8000",
        "8100",
    ] {
        assert!(help.contains(option), "{option} is missing: {help}");
    }
    let version = format!("overwire {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]), (Some(0), version, String::new()));
}

#[test]
fn limits_prints_the_memory_that_all_bounds_allow() {
    let (code, table, complaint) = run(&["--limits", "--max-rooms", "7", "--no-tap", "--data", "unused"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let row =
        |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {table}"));
    assert_eq!(row("rooms").split_whitespace().nth(1), Some("7"));
    assert_eq!(row("bytes on the way to the disk").split_whitespace().last(), Some("64.0"));
    let total = |line: &str| line.split_whitespace().last().unwrap().parse::<f64>().unwrap();
    let sum: f64 = table.lines().skip(1).filter(|line| !line.starts_with("all")).map(total).sum();
    assert!((total(row("all together")) - sum).abs() < 1.0, "{table}");
    assert!(!std::path::Path::new("unused").exists(), "it does not start");
}

#[test]
fn wrong_arguments_are_named_and_exit_with_2() {
    let cases: [(&[&str], &str); 31] = [
        (
            &["--trust-proxy", "10.0.0.0/33"],
            "--trust-proxy: expected an address or a network such as 10.0.0.0/8, not \"10.0.0.0/33\"",
        ),
        (&["--proxy-protocol"], "--proxy-protocol: expected --trust-proxy ADDRESS with it"),
        (
            &["--proxy-protocol", "--trust-proxy", "::1", "--tap-port", "0"],
            "--proxy-protocol: expected no --tap-port and no --tap-host with it",
        ),
        (&["--identity-header", "Remote-User"], "--identity-header: expected --trust-proxy ADDRESS with it"),
        (
            &["--identity-header", "Remote-User", "--trust-proxy", "::1", "--tap-host", "::"],
            "--identity-header: expected no --tap-port and no --tap-host with it",
        ),
        (
            &["--identity-header", "Remote User"],
            "--identity-header: expected the name of a field, such as Remote-User, not \"Remote User\"",
        ),
        (
            &["--identity-header", "Cookie"],
            "--identity-header: expected the name of a field, such as Remote-User, not \"Cookie\"",
        ),
        (&["--show-secrets", "--no-tap"], "--show-secrets: expected a tap, which would show them"),
        (&["--wrong"], r#"unknown argument "--wrong""#),
        (&["8000"], r#"unknown argument "8000""#),
        (&["--rate", "0"], r#"--rate: expected 1 to 1000000000, not "0""#),
        (&["--per-client", "polls=x"], r#"--per-client: polls: expected 1 to 1000000000, not "x""#),
        (&["--per-client", "bytes=1"], r#"--per-client: bytes: expected 65536 to 1000000000, not "1""#),
        (
            &["--per-client", "tea=1"],
            "--per-client: expected NAME=N with one of connections, polls, streams, websockets, signalling, rooms, \
             mailboxes, rate, bytes, not \"tea=1\"",
        ),
        (&["--retain-messages", "0"], r#"--retain-messages: expected 1 to 10000000, not "0""#),
        (&["--retain-time", "1h"], r#"--retain-time: expected 1 to 1000000000, not "1h""#),
        (&["--max-rooms"], "--max-rooms needs a value"),
        (&["--drain-time", "1.5"], r#"--drain-time: expected 0 to 3600, not "1.5""#),
        (&["--redis", "127.0.0.1:6379"], "--redis: expected redis://[:PASSWORD@]HOST:PORT[/DB]"),
        (
            &["--redis", "rediss://localhost"],
            "--redis: expected redis://, not rediss://: there is no TLS here. Run stunnel in front of Redis, \
             and name the address where it listens",
        ),
        (&["--port", "abc"], r#"--port: expected 0 to 65535, not "abc""#),
        (&["--port", "65536"], r#"--port: expected 0 to 65535, not "65536""#),
        (&["--port", "+0"], r#"--port: expected 0 to 65535, not "+0""#),
        (&["--port"], "--port needs a value"),
        (&["--tap-port", "x"], r#"--tap-port: expected 0 to 65535, not "x""#),
        (&["--no-tap", "--tap-port", "1"], "--no-tap: expected no --tap-port and no --tap-host with it"),
        (&["--static", "/dev/null"], r#"--static: "/dev/null" is not a folder"#),
        (&["--allow-origin", "*"], r#"--allow-origin: expected an origin such as https://example.com, not "*""#),
        // No browser sends these, so they would never match.
        (
            &["--allow-origin", "https://a/"],
            r#"--allow-origin: expected an origin such as https://example.com, not "https://a/""#,
        ),
        (
            &["--allow-origin", "https://a:x"],
            r#"--allow-origin: expected an origin such as https://example.com, not "https://a:x""#,
        ),
        (
            &["--allow-host", "a:80"],
            r#"--allow-host: expected a name without a port, such as chat.example, not "a:80""#,
        ),
    ];
    for (arguments, complaint) in cases {
        let expected = format!("overwire: {complaint}\nTry `overwire --help`.\n");
        assert_eq!(run(arguments), (Some(2), String::new(), expected), "{arguments:?}");
    }
}

/// Runs the program with `--check-config` in this environment.
fn check(variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
    command.env_clear().envs(variables.iter().copied()).arg("--check-config").args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn check_config_prints_the_options_of_the_environment_and_of_the_command_line() {
    let valid = "the configuration is valid\n";
    assert_eq!(check(&[], &[]), (Some(0), valid.into(), String::new()));
    let expected = format!("--port 9 (from OVERWIRE_PORT)\n--log\n--max-rooms 5\n{valid}");
    assert_eq!(check(&[("OVERWIRE_PORT", "9")], &["--log", "--max-rooms=5"]), (Some(0), expected, String::new()));
    let cases = [
        ("OVERWIRE_LOG", "1", "--log (from OVERWIRE_LOG)\n"),
        ("OVERWIRE_LOG", "0", ""),
        ("OVERWIRE_LOG", "json", "--log json (from OVERWIRE_LOG)\n"),
        (
            "OVERWIRE_ALLOW_HOST",
            "a b",
            "--allow-host a (from OVERWIRE_ALLOW_HOST)\n--allow-host b (from OVERWIRE_ALLOW_HOST)\n",
        ),
        ("OVERWIRE_REDIS", "redis://:secret@h:1/0", "--redis redis://*@h:1/0 (from OVERWIRE_REDIS)\n"),
        (
            "OVERWIRE_PER_CLIENT",
            "polls=1 rate=2",
            "--per-client polls=1 (from OVERWIRE_PER_CLIENT)\n--per-client rate=2 (from OVERWIRE_PER_CLIENT)\n",
        ),
        ("OVERWIRE_PROT", "9", "OVERWIRE_PROT is no option of overwire, and is ignored\n"),
        ("OVERWIRE_HELP", "1", "OVERWIRE_HELP is no option of overwire, and is ignored\n"),
    ];
    for (variable, value, report) in cases {
        assert_eq!(
            check(&[(variable, value)], &[]),
            (Some(0), format!("{report}{valid}"), String::new()),
            "{variable}"
        );
    }
}

#[test]
fn an_option_wins_over_its_variable() {
    let variables = [("OVERWIRE_PORT", "x"), ("OVERWIRE_ALLOW_HOST", "a")];
    let (code, report, _) = check(&variables, &["--port", "9", "--allow-host", "b"]);
    assert_eq!((code, report.as_str()), (Some(0), "--port 9\n--allow-host b\nthe configuration is valid\n"));
}

#[test]
fn a_wrong_variable_is_named() {
    for (variable, value, complaint) in [
        ("OVERWIRE_PORT", "x", r#"expected 0 to 65535, not "x""#),
        ("OVERWIRE_CHAOS", "maybe", r#"expected 1 or 0, not "maybe""#),
        ("OVERWIRE_STATIC", "/dev/null", r#""/dev/null" is not a folder"#),
    ] {
        let expected = format!("overwire: {variable}: {complaint}\nTry `overwire --help`.\n");
        assert_eq!(check(&[(variable, value)], &[]), (Some(2), String::new(), expected));
    }
}

#[test]
fn check_health_asks_the_running_server() {
    let program = Program::start(&["--no-tap"]);
    let port = program.address.port().to_string();
    assert_eq!(run(&["--check-health", "--port", &port]), (Some(0), String::new(), String::new()));
    assert_eq!(run(&["--check-health", "--host", "0.0.0.0", "--port", &port]).0, Some(0));
    drop(program);
    let (code, output, complaint) = run(&["--check-health", "--port", &port]);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(complaint.starts_with(&format!("overwire: no answer from 127.0.0.1, port {port}: ")), "{complaint}");
}

#[test]
fn the_server_starts_with_the_options_of_the_environment() {
    let program = Program::spawn(Command::new(env!("CARGO_BIN_EXE_overwire")).env_clear().envs([
        ("OVERWIRE_PORT", "0"),
        ("OVERWIRE_NO_TAP", "true"),
        ("OVERWIRE_CHAOS", "1"),
    ]));
    assert!(program.tap.is_none());
    assert_eq!(program.get("/api/stats").json()["chaos"], true);
}

#[test]
fn arguments_that_are_not_utf_8_are_named() {
    let argument = OsStr::from_bytes(b"--static=/a\xff");
    let output = Command::new(env!("CARGO_BIN_EXE_overwire")).arg(argument).output().unwrap();
    let complaint = "overwire: \"--static=/a\\xFF\" is not UTF-8\nTry `overwire --help`.\n";
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(2), complaint.to_owned()));
}

/// Writing to `/dev/full` fails, as on a full disk.
#[test]
fn the_exit_code_does_not_depend_on_standard_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().port().to_string();
    for (arguments, code) in [(["--wrong", ""], 2), (["--port", "x"], 2), (["--port", &busy], 1)] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
        let status = command.args(arguments).stdout(Stdio::null()).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn the_log_percent_encodes_what_a_terminal_would_obey() {
    let program = Program::start(&["--log"]);
    program.connect().send("GET /a\u{202e}b\u{2028}\u{9b}\u{e9}%20 HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    let line = program.line();
    assert!(line.contains(" GET /a%E2%80%AEb%E2%80%A8%C2%9B%C3%A9%20 404 "), "{line}");
}

#[test]
fn a_busy_port_is_an_error_of_one_line_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (code, output, complaint) = run(&["--port", &port]);
    assert_eq!((code, output.as_str(), complaint.lines().count()), (Some(1), "", 1), "{complaint}");
    assert!(complaint.contains(&port) && complaint.contains("--port"), "{complaint}");
}

#[test]
fn the_three_things_to_try_work() {
    let program = Program::start(&[]);
    let (url, things) = (format!("http://{}", program.address), &program.things);
    let tap = program.tap.expect("there is a tap");
    let page = things[0].strip_prefix(&format!("open http://{tap}")).and_then(|rest| rest.split(' ').next()).unwrap();
    let answer = Client::connect(tap).get(page);
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("text/html; charset=utf-8")));

    let target = things[1].strip_prefix(&format!("curl -N {url}")).unwrap();
    let mut events = program.connect();
    assert!(events.send_get(target).head().starts_with("HTTP/1.1 200 "));
    events.chunk();

    let (target, content) = things[2].strip_prefix(&format!("curl {url}")).unwrap().split_once(" -d '").unwrap();
    let content = content.strip_suffix('\'').unwrap();
    let as_curl = format!(
        "POST {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{content}",
        program.address,
        content.len()
    );
    assert_eq!(program.connect().send(as_curl).answer().json()["status"], "sent");
    assert!(events.chunk_text().contains("hello"), "the message arrives on the stream");
}

#[test]
fn the_log_has_a_line_for_each_complete_answer() {
    let program = Program::start(&["--log"]);
    let check = |client: &Client, what: &str, status: &str, bytes: usize| {
        let (line, peer) = (program.line(), client.stream.local_addr().unwrap());
        let (time, rest) = line.split_at("Sun, 06 Nov 1994 08:49:37 GMT ".len());
        assert!(time.ends_with(" GMT ") && time.contains(", "), "{line}");
        let duration =
            rest.strip_prefix(&format!("{peer} {what} {status} {bytes} B ")).and_then(|d| d.strip_suffix(" ms"));
        let duration = duration.unwrap_or_else(|| panic!("{line:?} is not about {peer} {what} {status} {bytes}"));
        assert!(duration.parse::<f64>().is_ok_and(|duration| duration >= 0.0), "{line}");
    };
    let mut client = program.connect();
    let size = |answer: &Answer| answer.head.len() + answer.content.len();
    for (target, status) in [("/health?x=%20y", "200"), ("/nothing", "404")] {
        let answer = client.get(target);
        check(&client, &format!("GET {target}"), status, size(&answer));
    }

    let (mut poll, mut stream) = (program.connect(), program.connect());
    let mut read = stream.send_get("/api/stream").head_alone().len();
    poll.send_get("/api/poll?client_id=alice");
    let answer = loop {
        // The statistics show when the poll is held. Each request for them has its own line.
        let stats = client.get("/api/stats");
        check(&client, "GET /api/stats", "200", size(&stats));
        if stats.json()["transports"]["long_poll"]["open"] == 1 {
            break client.post("/api/send", r#"{"sender": "a", "text": "b"}"#);
        }
    };
    let polled = poll.answer();
    check(&poll, "GET /api/poll?client_id=alice", "200", size(&polled));
    check(&client, "POST /api/send", "200", size(&answer));
    read += stream.read_until("}\n\r\n").len();
    stream.finish();
    stream.expect_end();
    check(&stream, "GET /api/stream", "200", read);

    let mut socket = program.connect();
    let head = socket.upgrade("/api/ws");
    socket.send_frame(Opcode::Close, "");
    assert_eq!(socket.frame().close().0, 1005);
    check(&socket, "GET /api/ws", "101", head.len() + 2);

    let mut hung_up = program.connect();
    hung_up.send_get("/api/poll?client_id=alice").finish();
    hung_up.expect_end();
    check(&hung_up, "GET /api/poll?client_id=alice", "-", 0);

    let mut refused = program.connect();
    let answer = refused.send("GET / HTTP/1.1\r\n\r\n").answer();
    check(&refused, "- -", "400", size(&answer));
}

#[test]
fn origins_and_hosts_can_be_allowed() {
    let arguments =
        ["--allow-origin=https://A.example:443", "--allow-host", "chat.example", "--allow-host", "b.example"];
    let arguments = [&arguments[..], &["--allow-host", "192.0.2.7"]].concat();
    let program = Program::start(&arguments);
    let send = |fields: &str| {
        let content = r#"{"sender": "a", "text": "b"}"#;
        let request =
            format!("POST /api/send HTTP/1.1\r\n{fields}\r\nContent-Length: {}\r\n\r\n{content}", content.len());
        program.connect().send(request).answer()
    };
    for (fields, status, allowed) in [
        ("Host: localhost", 200, None),
        ("Host: chat.example:8000", 200, None),
        ("Host: B.Example", 200, None),
        ("Host: c.example", 421, None),
        ("Host: 192.0.2.7", 200, None),
        ("Host: 192.0.2.8", 421, None),
        ("Host: localhost\r\nOrigin: https://a.example", 200, Some("https://a.example")),
        ("Host: localhost\r\nOrigin: https://c.example", 403, None),
        ("Host: localhost\r\nOrigin: http://localhost", 200, None),
    ] {
        let answer = send(fields);
        assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (status, allowed), "{fields}");
    }
    assert_eq!(send("Host: localhost").field("Vary"), Some("Origin"));
}

#[test]
fn signals_shut_it_down_in_order() {
    for name in ["INT", "TERM", "HUP"] {
        let program = Program::start(&[]);
        let [mut poll, mut stream, mut events, mut idle, mut socket] = [(); 5].map(|()| program.connect());
        poll.send_get("/api/poll?client_id=alice");
        stream.send_get("/api/stream").head();
        events.send_get("/api/events").head();
        events.chunk();
        idle.get("/health");
        socket.upgrade("/api/ws");
        program.wait_for_open("long_poll", 1);
        program.signal(name);
        assert_eq!(poll.answer().json()["timeout"], true);
        assert!(events.chunk_text().starts_with("retry: "));
        assert_eq!((stream.chunk(), events.chunk()), (None, None));
        let close = socket.frame();
        assert_eq!(close.close().0, 1001);
        socket.send_frame(Opcode::Close, &close.payload);
        for mut client in [poll, stream, events, idle, socket] {
            client.expect_end();
        }
        assert_eq!(program.exit_code(), Some(0), "{name}");
    }
}

#[test]
fn an_ignored_sighup_stays_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP && exec \"$0\" --port 0", env!("CARGO_BIN_EXE_overwire")]);
    let program = Program::spawn(&mut command);
    program.signal("HUP");
    for _ in 0..20 {
        assert_eq!(program.get("/health").status, 200);
    }
    program.signal("TERM");
    assert_eq!(program.exit_code(), Some(0));
}

#[test]
fn requests_that_are_not_complete_at_the_end_get_503() {
    const ORIGIN: &str = "https://page.example";
    let program = Program::start(&["--log", "--allow-origin", ORIGIN]);
    let (head, end) = (format!("POST /health HTTP/1.1\r\nHost: localhost\r\nOrigin: {ORIGIN}\r\n"), "\r\n12");
    let begun = [head.clone(), format!("{head}Content-Length: 5\r\n{end}"), format!("{head}\r\nGET / HT")];
    let mut clients = begun.map(|begun| {
        let mut client = program.connect();
        client.send(begun);
        client
    });
    assert_eq!(clients[2].answer().status, 405);
    let mut idle = program.connect();
    assert_eq!(idle.get("/health").status, 200);
    program.signal("TERM");
    let logged = ["- - 503", "- - 503", "POST /health 405", "GET /health 200", "- - 503"];
    for (index, client) in clients.iter_mut().enumerate() {
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("Connection")), (503, Some("close")), "{answer:?}");
        assert_eq!(answer.json()["error"], "the server is going away");
        assert_eq!(answer.field("Access-Control-Allow-Origin"), (index < 2).then_some(ORIGIN));
        client.expect_end();
    }
    idle.expect_end();
    drop((clients, idle));
    let mut lines: Vec<String> = logged.iter().map(|_| program.line()).collect();
    for what in logged {
        let at = lines.iter().position(|line| line.contains(&format!(" {what} ")));
        lines.remove(at.unwrap_or_else(|| panic!("no line of {what}: {lines:?}")));
    }
    assert_eq!(program.exit_code(), Some(0));
}

#[test]
fn the_limit_on_open_files_is_kept_and_reported_in_one_line() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" --port 0", env!("CARGO_BIN_EXE_overwire")]);
    let mut program = Program::spawn(command.stderr(Stdio::piped()));
    let mut stderr = program.process.stderr.take().unwrap();
    let mut clients: Vec<Client> = (0..32).map(|_| program.connect()).collect();
    for client in &mut clients {
        client.upgrade("/ws");
        client.frame();
    }
    for _ in 0..3 {
        let answer = program.connect().answer();
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")), "{answer:?}");
    }
    for client in &mut clients {
        client.send_text(r#"{"message": "hello"}"#);
        assert_eq!(client.message().json()["message"], "hello", "the open connections stay open");
    }
    drop(clients);
    program.signal("TERM");
    assert!(program.process.wait().unwrap().success());
    let mut report = String::new();
    stderr.read_to_string(&mut report).unwrap();
    assert_eq!(report.lines().count(), 1, "{report}");
    assert!(report.starts_with("overwire: 32 connections are open, as many as may be"), "{report}");
}

#[test]
fn a_tap_shows_the_same_server() {
    let program = Program::start(&[]);
    let tap = program.tap.expect("there is a tap");
    assert!(tap.ip().is_loopback());
    assert_eq!(program.get("/api/stats").json()["tap_port"], tap.port());
    let mut viewer = Client::connect(tap);
    viewer.upgrade("/-/tap/view?tap=0123456789abcdef");
    let target = format!("http://{}", program.address);
    assert_eq!(viewer.message().json(), serde_json::json!({ "type": "open", "mode": "marked", "target": target }));
    let mut client = Client::connect(tap);
    assert_eq!(client.get("/health?tap=0123456789abcdef.a").status, 200);
    assert_eq!(viewer.message().json()["label"], "a");
    // The tap relays what the server says at its end, and ends after it.
    let mut stream = Client::connect(tap);
    stream.send_get("/api/stream").head();
    program.signal("TERM");
    assert_eq!(stream.chunk(), None);
    for mut client in [stream, client] {
        client.expect_end();
    }
    let close = loop {
        let frame = viewer.message();
        if frame.opcode == Opcode::Close {
            break frame;
        }
    };
    assert_eq!(close.close().0, 1001);
    viewer.send_frame(Opcode::Close, &close.payload).expect_end();
    assert_eq!(program.exit_code(), Some(0));
}

#[test]
fn a_server_runs_without_a_tap_if_its_port_is_in_use() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
    let mut program = Program::spawn(command.args(["--port", "0", "--tap-port", &port]).stderr(Stdio::piped()));
    assert_eq!((program.get("/health").status, program.tap), (200, None));
    assert_eq!(program.get("/api/stats").json()["tap_port"], serde_json::Value::Null);
    program.signal("TERM");
    let mut complaint = String::new();
    program.process.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    let expected = format!("overwire: port {port} is in use: no tap; choose another port with --tap-port\n");
    assert_eq!((complaint, program.exit_code()), (expected, Some(0)));
}

#[test]
fn a_server_beyond_loopback_has_no_tap_unless_it_is_asked_for() {
    for (arguments, tap) in [
        (&["--host", "0.0.0.0"][..], None),
        (&["--host", "0.0.0.0", "--tap-port", "0"], Some("127.0.0.1")),
        (&["--host", "0.0.0.0", "--tap-host", "0.0.0.0"], Some("127.0.0.1")), // as it is reached from here
        (&["--host", "127.0.0.2"], Some("127.0.0.2")),
        (&["--no-tap"], None),
    ] {
        let program = Program::start(arguments);
        assert_eq!(program.tap.map(|tap| tap.ip().to_string()).as_deref(), tap, "{arguments:?}");
        if let Some(tap) = program.tap {
            assert_eq!(Client::connect(tap).get("/health").status, 200);
        }
    }
}
