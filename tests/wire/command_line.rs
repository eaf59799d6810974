//! The command line of `wire`, its help, its colours, and the ends without a connection.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use super::support::{MASK, ScriptedServer, Wire, run, run_ws, server_that_answers};

#[test]
fn the_command_line_is_checked() {
    let url = "http://127.0.0.1/";
    let cases: [(&[&str], &str); 30] = [
        (&[], "expected poll, stream, sse, ws or tap, and a URL"),
        (&["get", url], "expected poll, stream, sse, ws or tap, not \"get\""),
        (&["ws"], "expected a URL, such as http://127.0.0.1:8000/"),
        (&["ws", url, url], "unknown argument \"http://127.0.0.1/\""),
        (&["ws", "wss://a/"], "\"wss://a/\" needs TLS, which wire does not have: --via runs a program that adds it"),
        (
            &["sse", "https://a/"],
            "\"https://a/\" needs TLS, which wire does not have: --via runs a program that adds it",
        ),
        (&["tap", "https://a/"], "\"https://a/\" needs TLS, which wire tap does not have"),
        (&["sse", url, "--via", "date +%s"], "--via: expected %h, %p or %% after each %, not \"date +%s\""),
        (&["sse", url, "--via", " "], "--via: expected a command, not an empty one"),
        (&["sse", url, "--frames"], "--frames is for ws only"),
        (&["ws", "localhost"], "expected http://host:port/path, not \"localhost\""),
        (&["ws", "http://a:b/"], "expected host:port, not \"a:b\""),
        (&["ws", url, "--wrong"], "unknown argument \"--wrong\""),
        (&["ws", url, "--count"], "--count needs a value"),
        (&["ws", url, "--count", "0"], "--count: expected a number above 0, not \"0\""),
        (&["ws", url, "--count=+1"], "--count: expected a number above 0, not \"+1\""),
        (&["ws", url, "--interval", "-1"], "--interval: expected 0 to 86400 seconds, not \"-1\""),
        (&["ws", url, "--mask", "37fa21"], "--mask: expected 8 hex digits, such as 37fa213d, not \"37fa21\""),
        (
            &["ws", url, "--key", "abc"],
            "--key: expected 16 bytes in base64, such as dGhlIHNhbXBsZSBub25jZQ==, not \"abc\"",
        ),
        (&["ws", url, "--header", "a b: c"], "--header: expected 'Name: value', not \"a b: c\""),
        (
            &["ws", url, "--header", "a: b\r\nc: d"],
            "--header: expected text without control characters, not \"a: b\\r\\nc: d\"",
        ),
        (
            &["sse", url, "--last-event-id", "a\n"],
            "--last-event-id: expected text without control characters, not \"a\\n\"",
        ),
        (&["sse", url, "--mask", MASK], "--mask is for ws only"),
        (&["sse", url, "--timeout", "1"], "--timeout is for ws only"),
        (&["ws", url, "--timeout", "x"], "--timeout: expected 0 to 86400 seconds, not \"x\""),
        (
            &["sse", url, "--header", "last-event-ID: 3"],
            "--header: Last-Event-ID changes with the events: it begins with --last-event-id",
        ),
        (&["poll", url, "--last-event-id", "1"], "--last-event-id is for sse only"),
        (&["poll", url, "--port", "1"], "--port is for tap only"),
        (&["tap", url, "--port", "65536"], "--port: expected 0 to 65535, not \"65536\""),
        (&["tap", url, "--port", "1", "--all"], "--all is not for tap"),
    ];
    for (arguments, complaint) in cases {
        let expected = format!("wire: {complaint}\nTry `wire --help`.\n");
        assert_eq!(run(arguments, ""), (Some(2), String::new(), expected), "{arguments:?}");
    }
}

#[test]
fn arguments_that_are_not_utf_8_are_named() {
    let arguments: [&[u8]; 4] = [b"ws", b"http://127.0.0.1/", b"--header", b"A: \xff"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_wire"));
    let output = command.args(arguments.map(OsStr::from_bytes)).output().unwrap();
    let complaint = "wire: \"A: \\xFF\" is not UTF-8\nTry `wire --help`.\n";
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(2), complaint.to_owned()));
}

/// Writing to `/dev/full` fails, as on a full disk.
#[test]
fn the_exit_code_does_not_depend_on_standard_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    for (arguments, code) in [([&url, "poll"], 2), (["poll", "x"], 2), (["poll", &url], 1), (["ws", &url], 1)] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wire"));
        let status = command.args(arguments).stdout(Stdio::null()).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 2>&-", env!("CARGO_BIN_EXE_wire")]).args(arguments);
        let status = shell.stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}, and standard error is closed");
    }
}

/// The output of the program with one argument, without a connection.
fn printed(argument: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wire")).arg(argument).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_names_every_option_and_version_the_version() {
    let help = printed("--help");
    for option in [
        "poll",
        "stream",
        "sse",
        "ws",
        "/ping",
        "/pong",
        "/binary",
        "/close",
        "/hex",
        "/wait",
        "//",
        "--count",
        "--interval",
        "--last-event-id",
        "--key",
        "--mask",
        "--timeout",
        "--header",
        "--frames",
        "--via",
        "--no-reconnect",
        "--all",
        "--show-secrets",
        "--help",
        "--version",
        "Exit code",
    ] {
        assert!(help.contains(option), "{option} is missing: {help}");
    }
    assert!(help.lines().all(|line| line.len() <= 100));
    assert_eq!(printed("--version"), format!("wire {}\n", env!("CARGO_PKG_VERSION")));
}

/// The program `script` of util-linux makes the terminal. Without it, nothing is tested.
#[test]
fn colours_need_a_terminal_without_no_color() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    for (environment, is_coloured) in [
        (["TERM=xterm", "NO_COLOR="], true),
        (["TERM=xterm", "NO_COLOR=1"], false),
        (["TERM=dumb", "NO_COLOR="], false),
    ] {
        let server = server_that_answers("HTTP/1.1 204 No Content\r\n\r\n");
        let line =
            format!("env {} {} {} sse {}", environment[0], environment[1], env!("CARGO_BIN_EXE_wire"), server.url());
        let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        server.thread.join().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(output.contains("204 ends it"), "{output}");
        assert_eq!(output.contains("\u{1b}["), is_coloured, "{environment:?}: {output}");
    }
}

#[test]
fn control_characters_are_escaped() {
    let evil = "\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2028}\u{8}";
    let stream = format!(
        "HTTP/1.1 200 O\u{9b}K\r\nContent-Type: text/event-stream\r\nX: a\tb\u{9b}\r\n\r\nid: {evil}\nevent: {evil}\ndata: {evil}\n\n"
    );
    let (_, output, _) = server_that_answers(stream).run_wire("sse", &["--no-reconnect"], "");
    let json = "HTTP/1.1 404 Not Found\r\n\r\n".to_owned() + evil;
    let (_, other, complaint) = server_that_answers(json).run_wire("poll", &[], "");
    let text = [&[0x81, evil.len() as u8], evil.as_bytes(), b"\x88\x02\x03\xe8"].concat();
    let (_, message, _) = run_ws(text, &[]);
    for printed in [output.clone(), other, complaint, message] {
        let bad = printed.chars().find(|&c| c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{202e}')));
        assert_eq!(bad, None, "{printed}");
    }
    assert!(output.contains(r"data: \x1b]0;x\x07\u{9b}31m\u{202e}\u{2028}\x08\n"), "{output}");
}

#[test]
fn an_unreachable_server_is_reported_in_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for transport in ["poll", "stream", "sse", "ws"] {
        let expected = format!("wire: cannot connect to {address}: Connection refused\n");
        assert_eq!(run(&[transport, &format!("http://{address}/")], ""), (Some(1), String::new(), expected));
    }
}

#[test]
fn a_closed_standard_output_ends_the_program_silently() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{}\n");
        while client.stream.write_all(b"{}\n").is_ok() {}
    });
    let mut wire = Wire::start(&["stream", &server.url()]);
    assert!(wire.read_until("JSON line").starts_with("* connected to "));
    wire.stdout = None; // like `head -1`
    server.thread.join().unwrap();
    assert_eq!(wire.process.wait().unwrap().code(), Some(0));
    let mut complaint = String::new();
    wire.process.stderr.as_mut().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
}
