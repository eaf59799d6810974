//! `wire ws` with a server, or a user, that does not read or does not stop: it waits for neither.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use overwire::websocket;

use super::support::{KEY, MASK, ScriptedServer, accept_websocket, transcript};
use crate::common::{Client, in_enough_time};

/// A server that opens a WebSocket, acts, and keeps the connection open until the sender is dropped.
fn websocket_that_stays(act: impl FnOnce(&mut Client) + Send + 'static) -> (ScriptedServer, mpsc::Sender<()>) {
    let (over, is_over) = mpsc::channel();
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        act(&mut client);
        assert!(is_over.recv().is_err());
    });
    (server, over)
}

/// Reads the next frame, which is short, and returns its payload.
fn payload_of_a_client(client: &mut Client) -> Vec<u8> {
    let header = client.read_exactly(6);
    let mut payload = client.read_exactly(usize::from(header[1] & 0x7f));
    websocket::mask(&mut payload, *header.last_chunk().unwrap(), 0);
    payload
}

const SHORT: Duration = Duration::from_millis(300);

/// The options with a short time.
fn options(time: Duration) -> [String; 6] {
    ["--key", KEY, "--mask", MASK, "--timeout", &time.as_secs_f64().to_string()].map(str::to_owned)
}

const NOT_CLOSED: &str =
    "wire: the server did not close the connection in time, without a Close frame (RFC 6455, section 7.1.5)\n";

#[test]
fn input_is_read_while_output_is_stuck() {
    const FRAMES: usize = 256;
    let line = "x".repeat(8_000_000);
    let length = line.len();
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        // More than all buffers in between can hold.
        for _ in 0..FRAMES {
            client.send([&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], &[0; 65536][..]].concat());
        }
        assert_eq!(client.read_exactly(14)[..2], [0x81, 0xff]);
        client.read_exactly(length);
        assert_eq!(client.read_exactly(7)[..2], [0x81, 0x81]);
        client.send(b"\x88\x02\x03\xe8");
        client.finish();
        client.read_to_end();
    });
    let mut wire = server.start_wire("ws", &["--key", KEY, "--mask", MASK]);
    let mut stdin = wire.stdin.take().unwrap();
    thread::spawn(move || stdin.write_all(format!("{line}\ny\n").as_bytes()));
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert_eq!(output.matches("< frame header   82 7f").count(), FRAMES);
}

#[test]
fn a_server_that_never_reads_is_given_up() {
    in_enough_time(SHORT, |time| {
        let (server, over) = websocket_that_stays(|_| {});
        let mut wire = server.start_wire("ws", &options(time).each_ref().map(String::as_str));
        let mut stdin = wire.stdin.take().unwrap();
        thread::spawn(move || stdin.write_all(("x".repeat(16_000_000) + "\nsecond\n").as_bytes()));
        let (code, output, complaint) = wire.end();
        assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server did not take what was sent\n"));
        assert_eq!(output.matches("> frame header").count(), 1);
        drop(over);
        server.thread.join().unwrap();
    });
}

#[test]
fn nothing_is_sent_after_a_failed_write() {
    let (gone, is_gone) = mpsc::channel();
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        client.read_exactly(1); // unread input makes the system send a reset
        drop(client);
        gone.send(()).unwrap();
    });
    let mut wire = server.start_wire("ws", &["--key", KEY, "--mask", MASK]);
    wire.type_in("one\n");
    is_gone.recv().unwrap();
    let _ = wire.stdin.as_mut().unwrap().write_all(b"two\nthree\nfour\n"); // the program may have ended
    let (code, output, complaint) = wire.end();
    assert_eq!(code, Some(1), "{output}{complaint}");
    assert!(!output.contains("four"), "{output}");
}

#[test]
fn a_server_that_ignores_our_close_is_left_after_the_timeout() {
    in_enough_time(SHORT, |time| {
        let server = ScriptedServer::start(|listener| {
            let mut client = listener.accept();
            accept_websocket(&mut client);
            while client.stream.write_all(&b"\x81\x01x".repeat(1000)).is_ok() {}
        });
        let (code, output, complaint) =
            server.run_wire("ws", &[&options(time).each_ref().map(String::as_str)[..], &["--count", "1"]].concat(), "");
        assert_eq!((code, complaint.as_str()), (Some(1), NOT_CLOSED));
        let (_, output) = output.split_once("frames follow\n").unwrap();
        let expected = r"
            < frame header   81 01                                            FIN text, length 1
            < payload        78                                               x
            > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
            > payload        34 12                                            1000
            * the server did not close the connection in time
        ";
        assert_eq!(output, transcript(expected));
    });
}

#[test]
fn endless_input_does_not_delay_the_end() {
    in_enough_time(SHORT, |time| {
        let (server, over) = websocket_that_stays(|_| {});
        let mut wire = server.start_wire("ws", &options(time).each_ref().map(String::as_str));
        wire.type_endlessly("/close\n", "y\n");
        let (code, output, complaint) = wire.end();
        assert_eq!((code, complaint.as_str()), (Some(1), NOT_CLOSED));
        assert_eq!(output.matches("not sent: nothing may follow a Close").count(), 1, "{output}");
        drop(over);
        server.thread.join().unwrap();
    });
}

#[test]
fn input_is_not_read_while_lines_wait() {
    let (server, over) = websocket_that_stays(|_| {});
    let mut wire = server.start_wire("ws", &["--key", KEY]);
    let mut taken = 0;
    let lines = wire.type_endlessly("/wait\n", "0123456789abcdefghijklmnopqrstuvwxyz\n");
    while let Ok(count) = lines.recv_timeout(Duration::from_millis(500)) {
        taken += count;
        assert!(taken < 1_000_000, "what must wait is kept");
    }
    assert!(taken > 0);
    drop((wire, over));
    server.thread.join().unwrap();
}

#[test]
fn queued_pongs_are_bounded() {
    const PINGS: usize = 20_000;
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        let ping = [&[0x89, 125], &[b'p'; 125][..]].concat();
        client.send([&ping.repeat(PINGS), &b"\x81\x01x\x89\x01!"[..]].concat());
        // Only the last Ping has to be answered.
        while payload_of_a_client(&mut client) != b"!" {}
        client.send(b"\x88\x02\x03\xe8");
        client.finish();
        client.read_to_end();
    });
    let wire = server.start_wire("ws", &["--key", KEY, "--mask", MASK, "--count", "2"]);
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(output.contains("text, length 1"));
}
