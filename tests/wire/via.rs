//! `wire --via`: another program carries the bytes. The other programs are `nc` and the shell.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::support::{ACCEPT, KEY, MASK, ScriptedServer, Wire, accept_websocket, run, server_that_answers, transcript};
use crate::common::in_enough_time;

const SHORT: Duration = Duration::from_millis(300);

/// A command that opens a WebSocket by itself, and then neither reads nor writes.
fn silent_websocket() -> String {
    let head = format!(
        r"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    format!("sh -c 'printf \"{head}\"; exec sleep 86400'")
}

/// `nc -N` closes the connection when its input ends: `wire` ends the input after the closing handshake.
#[test]
fn a_program_carries_the_bytes() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        assert_eq!(client.read_exactly(8), [0x81, 0x82, 0x37, 0xfa, 0x21, 0x3d, 0x5f, 0x93]);
        client.send(b"\x81\x02ho");
        assert_eq!(client.read_exactly(8)[0], 0x88);
        client.send(b"\x88\x02\x03\xe8");
        client.read_to_end();
    });
    let options = ["--key", KEY, "--mask", MASK, "--via", "nc -N %h %p"];
    let (code, output, complaint) = server.run_wire("ws", &options, "hi\n/wait\n");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    assert!(output.starts_with("* started nc -N 127.0.0.1 "), "{output}");
    let (_, frames) = output.split_once("frames follow\n").unwrap();
    let expected = r"
        > frame header   81 82 37 fa 21 3d                                FIN text, length 2, mask 37 fa 21 3d
        > payload        5f 93                                            hi
        < frame header   81 02                                            FIN text, length 2
        < payload        68 6f                                            ho
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 12                                            1000
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 e8                                            1000
        * the program of --via closed the connection
    ";
    assert_eq!(frames, transcript(expected));
}

#[test]
fn a_silent_program_is_given_up_and_ended() {
    in_enough_time(SHORT, |time| {
        let seconds = time.as_secs_f64().to_string();
        let file = std::env::temp_dir().join(format!("wire-via-{}", std::process::id()));
        let command = format!("sh -c 'echo $$ >{}; exec sleep 86400'", file.display());
        let (code, output, complaint) = run(&["ws", "wss://a/", "--timeout", &seconds, "--via", &command], "");
        let sentence = format!("wire: the server did not answer the opening handshake within {seconds} s\n");
        assert_eq!((code, complaint), (Some(1), sentence), "{output}");
        let process = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let mut kill = Command::new("sh");
        let status = kill.args(["-c", &format!("kill -s 0 {process}")]).stderr(Stdio::null()).status().unwrap();
        assert!(!status.success(), "the program goes on");
    });
}

#[test]
fn a_program_that_never_reads_is_given_up() {
    in_enough_time(SHORT, |time| {
        let seconds = time.as_secs_f64().to_string();
        let arguments = ["ws", "ws://a/", "--key", KEY, "--timeout", &seconds, "--via", &silent_websocket()];
        let mut wire = Wire::start(&arguments);
        let mut stdin = wire.stdin.take().unwrap();
        thread::spawn(move || stdin.write_all(("x".repeat(16_000_000) + "\n").as_bytes()));
        let (code, _, complaint) = wire.end();
        assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server did not take what was sent\n"));
    });
}

/// A terminal sends SIGINT to all processes of the foreground, the program of `--via` among them.
#[test]
fn ctrl_c_sends_a_close_through_the_program() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        assert_eq!(client.read_exactly(8), [0x88, 0x82, 0x37, 0xfa, 0x21, 0x3d, 0x34, 0x13]);
        client.send(b"\x88\x02\x03\xe9");
        client.read_to_end();
    });
    let url = server.url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wire"));
    command.args(["ws", &url, "--key", KEY, "--mask", MASK, "--via", "nc -N %h %p"]).process_group(0);
    let mut wire = Wire::spawn(command);
    wire.type_in("/wait\n"); // the end of the input would send a Close too
    wire.read_until("frames follow");
    let mut kill = Command::new("sh");
    assert!(kill.args(["-c", &format!("kill -s INT -- -{}", wire.process.id())]).status().unwrap().success());
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn a_program_that_fails_is_named() {
    for (command, sentence) in [
        ("wire-no-such-program 2>/dev/null", "ended with exit code 127"),
        ("false", "ended with exit code 1"),
        ("sh -c 'kill -9 $$'", "was ended by signal 9"),
        ("true", "closed the connection"),
    ] {
        let expected = format!("wire: the program of --via {sentence}\n");
        for transport in ["poll", "stream", "sse"] {
            let (code, output, complaint) = run(&[transport, "https://a/", "--via", command], "");
            assert_eq!((code, &complaint), (Some(1), &expected), "{output}");
        }
        let expected = expected.replace('\n', " before it answered the opening handshake\n");
        let (code, output, complaint) = run(&["ws", "wss://a/", "--via", command], "");
        assert_eq!((code, complaint), (Some(1), expected), "{output}");
    }
}

#[test]
fn a_program_that_has_ended_is_started_again() {
    let answer = r#"sh -c 'head -n 1 >/dev/null; printf "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"'"#;
    let arguments = ["poll", "https://a/", "--count", "2", "--interval", "0", "--no-reconnect", "--via", answer];
    let (code, output, complaint) = run(&arguments, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    assert_eq!(output.matches("* started sh -c").count(), 2, "{output}");
    assert!(output.contains("* the program of --via closed the connection while it was idle\n"), "{output}");
}

#[test]
fn redirects_lead_to_the_servers_that_the_command_names() {
    let answer = |location: &str| format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n\r\n");
    let other = server_that_answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let url = other.url();
    let options = ["--count", "1", "--header", "Authorization: s", "--via", "nc -N %h %p"];
    let (code, output, complaint) = server_that_answers(answer(&url)).run_wire("poll", &options, "");
    other.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    assert_eq!((output.matches("* started nc").count(), output.matches("Authorization: *").count()), (2, 1));

    let server = server_that_answers(answer("http://127.0.0.1:1/y"));
    let command = server.url().replace("http://", "nc -N ").replace(':', " ").replace("/x", "");
    let (code, output, complaint) = server.run_wire("poll", &["--via", &command], "");
    let sentence = "wire: the redirect fails: the command of --via does not reach \"http://127.0.0.1:1/y\" \
                    (WHATWG Fetch, section 4.4)\n";
    assert_eq!((code, complaint.as_str()), (Some(1), sentence), "{output}");
}
