//! `wire ws` after the handshake: frames, violations and the exit code.

use std::io::Write;

use overwire::websocket::{self, Opcode};
use overwire::{Event, Limits};

use super::support::{
    KEY, MASK, ScriptedServer, Wire, accept_websocket, run, run_ws, server_that_answers, transcript,
    websocket_that_sends,
};
use crate::common::TestServer;

#[test]
fn a_websocket_is_printed_from_handshake_to_close() {
    let server = TestServer::of_loop(Limits::default(), |mut event_loop| {
        loop {
            match event_loop.next_event()? {
                Event::Request(conn, request) => event_loop.upgrade(conn, websocket::accept(&request, &[]).unwrap()),
                Event::Message(conn, message) => event_loop.send_message(conn, message),
                Event::Shutdown => return event_loop.drain(),
                _ => {}
            }
        }
    });
    let url = format!("ws://{}/chat", server.address);
    let typed = "hello\n/wait\n/ping are you there\n/wait\n//slash and more of it\n/wait\n/binary 00 ff41\n/wait\n\
                 /hex 01 82 00000000 4142\n/hex 80 81 00 00 00 00 43\n/wait\n";
    let (code, output, complaint) = run(&["ws", &url, "--key", KEY, "--mask", MASK], typed);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let expected = r"
        * connected to ADDRESS
        > request line   GET /chat HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                Upgrade: websocket\r\n
        >                Connection: Upgrade\r\n
        >                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n
        >                Sec-WebSocket-Version: 13\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 101 Switching Protocols\r\n
        < field line     Upgrade: websocket\r\n
        <                Connection: Upgrade\r\n
        <                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n
        < end of head    \r\n                                             frames follow
        > frame header   81 85 37 fa 21 3d                                FIN text, length 5, mask 37 fa 21 3d
        > payload        5f 9f 4d 51 58                                   hello
        < frame header   81 05                                            FIN text, length 5
        < payload        68 65 6c 6c 6f                                   hello
        > frame header   89 8d 37 fa 21 3d                                FIN Ping, length 13, mask 37 fa 21 3d
        > payload        56 88 44 1d 4e 95 54 1d 43 92 44 4f 52           are you there
        < frame header   8a 0d                                            FIN Pong, length 13
        < payload        61 72 65 20 79 6f 75 20 74 68 65 72 65           are you there
        > frame header   81 95 37 fa 21 3d                                FIN text, length 21, mask 37 fa 21 3d
        > payload        18 89 4d 5c 44 92 01 5c 59 9e 01 50 58 88 44 1d  /slash and more
        >                58 9c 01 54 43                                   of it
        > text message   /slash and more of it
        < frame header   81 15                                            FIN text, length 21
        < payload        2f 73 6c 61 73 68 20 61 6e 64 20 6d 6f 72 65 20  /slash and more
        <                6f 66 20 69 74                                   of it
        < text message   /slash and more of it
        > frame header   82 83 37 fa 21 3d                                FIN binary, length 3, mask 37 fa 21 3d
        > payload        37 05 60                                         ..A
        < frame header   82 03                                            FIN binary, length 3
        < payload        00 ff 41                                         ..A
        > frame header   01 82 00 00 00 00                                text, length 2, mask 00 00 00 00, more follows
        > payload        41 42                                            AB
        > frame header   80 81 00 00 00 00                                FIN continuation, length 1, mask 00 00 00 00
        > payload        43                                               C
        > text message   ABC
        < frame header   81 03                                            FIN text, length 3
        < payload        41 42 43                                         ABC
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 12                                            1000
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 e8                                            1000
        * the server closed the connection
    ";
    assert_eq!(output.replace(&server.address.to_string(), "ADDRESS"), transcript(expected));
}

#[test]
fn pings_are_answered_and_messages_counted() {
    let (code, output, complaint) =
        run_ws(b"\x89\x01?\x01\x01a\x89\x00\x80\x01b\x82\x00\x88\x02\x03\xe8", &["--count", "2"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let expected = r"
        < frame header   89 01                                            FIN Ping, length 1
        < payload        3f                                               ?
        > frame header   8a 81 37 fa 21 3d                                FIN Pong, length 1, mask 37 fa 21 3d
        > payload        08                                               ?
        < frame header   01 01                                            text, length 1, more follows
        < payload        61                                               a
        < frame header   89 00                                            FIN Ping, length 0
        > frame header   8a 80 37 fa 21 3d                                FIN Pong, length 0, mask 37 fa 21 3d
        < frame header   80 01                                            FIN continuation, length 1
        < payload        62                                               b
        < text message   ab
        < frame header   82 00                                            FIN binary, length 0
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 12                                            1000
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 e8                                            1000
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
}

#[test]
fn long_payloads_are_cut_without_all() {
    let message = [&b"\x81\x50"[..], "0123456789abcde\u{e9}".repeat(5).as_bytes(), b"\x88\x02\x03\xe8"].concat();
    let message = [&message[..1], &[85], &message[2..]].concat();
    let rows = |output: &str| output.lines().take_while(|line| !line.contains("text message")).count() - 1;
    let (_, short, _) = run_ws(message.clone(), &[]);
    assert!(short.contains("<                ... and 21 bytes more\n"), "{short}");
    assert_eq!(rows(&short), 5);
    let (_, all, _) = run_ws(message, &["--all"]);
    assert_eq!(rows(&all), 6, "{all}");
    assert!(all.contains("  0123456789abcde\u{e9}\n"), "{all}");
}

#[test]
fn websocket_violations_fail_the_connection() {
    let cases: [(&[u8], &str, &str); 8] = [
        (b"\x81\x80aaaa", "1002", "a frame from a server must not be masked (RFC 6455, section 5.1)"),
        (b"\xc1\x00", "1002", "a reserved bit is set and no extension was agreed on (RFC 6455, section 5.2)"),
        (b"\x83\x00", "1002", "opcode 3 is reserved (RFC 6455, section 5.2)"),
        (b"\x80\x01x", "1002", "a continuation frame came without a message to continue (RFC 6455, section 5.4)"),
        (b"\x81\x02\xc3\x28", "1007", "text must be UTF-8 (RFC 6455, section 8.1)"),
        (b"\x09\x00", "1002", "a control frame must not be fragmented (RFC 6455, section 5.5)"),
        (b"\x88\x02\x03\xed", "1002", "status code 1005 must not be sent in a Close frame (RFC 6455, section 7.4)"),
        (
            b"\x82\x7e\x00\x05hello",
            "1002",
            "the payload length must be encoded in as few bytes as it fits (RFC 6455, section 5.2)",
        ),
    ];
    for (bytes, code, sentence) in cases {
        let (exit, output, complaint) = run_ws(bytes, &[]);
        assert_eq!((exit, complaint), (Some(1), format!("wire: {sentence}\n")), "{output}");
        let (_, sent) = output.split_once("> frame header   88 ").unwrap_or_else(|| panic!("{output}"));
        assert!(sent.contains(&format!("  {code} ")), "{sent}");
    }
    let (_, output, _) = run_ws(b"\x81\x80aaaa\x81\x01x", &[]);
    assert!(
        output.starts_with("< unlabelled     81 80 61 61 61 61 81 01 78                       ..aaaa..x\n"),
        "{output}"
    );
}

#[test]
fn violations_in_sent_bytes_are_named() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        assert_eq!(client.read_exactly(7), b"\x81\x05Hello");
        client.send(b"\x88\x02\x03\xea");
        client.finish();
        assert_eq!(client.read_to_end(), [0x88, 0x82, 0x37, 0xfa, 0x21, 0x3d, 0x34, 0x10]);
    });
    let typed = "/nonsense\n/hex 8\n/binary xy\n/close abc\n/hex 81 05 48656c6c6f\n/wait\n";
    let (code, output, complaint) = server.run_wire("ws", &["--key", KEY, "--mask", MASK], typed);
    assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server closed with status code 1002\n"));
    let (_, output) = output.split_once("frames follow\n").unwrap();
    let expected = r"
        * /nonsense is unknown: a text that begins with / is written //nonsense
        * /hex: expected hex digits, such as 81 85 37 fa 21 3d 7f 9f 4d 51 58
        * /binary: expected hex digits, such as 01 ff
        * /close: expected a status code, such as 1000, and a reason
        > unlabelled     81 05 48 65 6c 6c 6f                             ..Hello
        * this violates RFC 6455, section 5.1: a frame from a client must be masked
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 ea                                            1002
        > unlabelled     88 82 37 fa 21 3d 34 10                          ..7.!=4.
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
}

#[test]
fn frames_alone_are_shown() {
    let server = websocket_that_sends(b"\x81\x01x\x88\x02\x03\xe8");
    let options = ["--frames", "--key", KEY, "--mask", MASK, "--count", "9"];
    let (code, output, complaint) = server.run_wire("ws", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let expected = r"
        < frame header   81 01                                            FIN text, length 1
        < payload        78                                               x
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 e8                                            1000
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 12                                            1000
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
    let refusal = server_that_answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let sentence = "wire: the server answered 403 and not 101 (RFC 6455, section 4.1)\n";
    assert_eq!(refusal.run_wire("ws", &["--frames"], ""), (Some(1), String::new(), sentence.to_owned()));
}

#[test]
fn ctrl_c_closes_the_websocket() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        assert_eq!(client.read_exactly(8), [0x88, 0x82, 0x37, 0xfa, 0x21, 0x3d, 0x34, 0x13]);
        client.send(b"\x81\x01x\x88\x02\x03\xe9");
        client.finish();
        client.expect_end();
    });
    let mut wire = server.start_wire("ws", &["--key", KEY, "--mask", MASK]);
    wire.type_in("/wait\nnever sent\n");
    wire.read_until("frames follow");
    wire.interrupt();
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let expected = r"
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 13                                            1001
        < frame header   81 01                                            FIN text, length 1
        < payload        78                                               x
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 e9                                            1001
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
}

#[test]
fn ctrl_c_waits_shortly_for_a_silent_server_and_not_the_second_time() {
    for presses in [1, 2] {
        let server = ScriptedServer::start(|listener| {
            let mut client = listener.accept();
            accept_websocket(&mut client);
            client.read_to_end();
        });
        let options = ["ws", &server.url(), "--key", KEY, "--mask", MASK];
        let mut wire = match presses {
            1 => Wire::start(&options), // it has a second
            _ => Wire::start(&[&options[..], &["--timeout", "3600"]].concat()),
        };
        wire.read_until("frames follow");
        wire.interrupt();
        wire.read_until("1001");
        if presses == 2 {
            wire.interrupt();
        }
        let (code, output, complaint) = wire.end();
        server.thread.join().unwrap();
        match presses {
            1 => assert!(code == Some(1) && complaint.contains("did not close the connection in time"), "{complaint}"),
            _ => assert_eq!((code, output.as_str()), (None, ""), "the signal ends it"),
        }
    }
}

#[test]
fn input_that_is_not_utf_8_is_not_sent() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        accept_websocket(&mut client);
        let mut frames = Vec::new();
        for payload in ["a", "\u{e9}"] {
            websocket::encode(&mut frames, Opcode::Text, payload.as_bytes(), Some([0x37, 0xfa, 0x21, 0x3d]));
        }
        assert_eq!(client.read_exactly(frames.len()), frames);
        assert_eq!(client.read_exactly(1), [0x88]);
        client.send(b"\x88\x02\x03\xe8");
        client.finish();
        client.read_to_end();
    });
    let mut wire = server.start_wire("ws", &["--key", KEY, "--mask", MASK]);
    wire.stdin.as_mut().unwrap().write_all(b"a\n\xe9t\xe9\r\n\xc3\xa9\r\n").unwrap();
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let remark = "* not sent: line 2 is not UTF-8, and a text message has to be (RFC 6455, section 5.6); \
                  /binary sends any bytes\n";
    assert!(output.contains(remark), "{output}");
}

#[test]
fn the_exit_code_depends_on_the_close_code() {
    let frame = |opcode: u8, payload: &[u8]| [&[opcode, payload.len() as u8], payload].concat();
    let cases = [
        (frame(0x88, b"\x03\xe8"), 0, ""),
        (frame(0x88, b"\x03\xe9bye"), 0, ""),
        (
            frame(0x88, b"\x0f\xa1no\x1b[2J"),
            1,
            "wire: the server closed with status code 4001 and the reason \"no\\x1b[2J\"\n",
        ),
        (frame(0x88, b""), 1, "wire: the server closed with no status code\n"),
        (vec![], 1, "wire: the server closed the connection, without a Close frame (RFC 6455, section 7.1.5)\n"),
        (
            frame(0x81, b"hi")[..3].to_vec(),
            1,
            "wire: the server closed the connection, without a Close frame (RFC 6455, section 7.1.5)\n",
        ),
    ];
    for (bytes, code, complaint) in cases {
        let ended = run_ws(bytes, &[]);
        assert_eq!((ended.0, ended.2.as_str()), (Some(code), complaint), "{}", ended.1);
    }
    let (_, output, _) = run_ws(frame(0x88, b"\x03\xe9bye"), &[]);
    let expected = r"
        < frame header   88 05                                            FIN Close, length 5
        < payload        03 e9 62 79 65                                   1001 bye
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 13                                            1001
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
    let (_, output, _) = run_ws(frame(0x81, b"hi")[..3].to_vec(), &[]);
    assert!(
        output.starts_with(
            "< frame header   81 02                                            FIN text, length 2\n\
         < payload        68                                               h\n"
        ),
        "{output}"
    );
}

#[test]
fn an_error_code_that_crosses_our_close_is_a_failure() {
    let cases: [(&[u8], &str, i32, &str); 7] = [
        (b"\x88\x05\x03\xebbad", "", 1, "wire: the server closed with status code 1003 and the reason \"bad\"\n"),
        (b"\x88\x02\x03\xef", "", 1, "wire: the server closed with status code 1007\n"),
        (b"\x88\x02\x03\xef", "/close 4000\n", 1, "wire: the server closed with status code 1007\n"),
        (b"\x88\x02\x0f\xa0", "/close 4000\n", 0, ""),
        (b"\x88\x00", "/close\n", 0, ""),
        (b"\x88\x00", "/close 4000\n", 0, ""),
        (b"\x88\x02\x03\xe9", "", 0, ""),
    ];
    for (answer, typed, code, complaint) in cases {
        let server = ScriptedServer::start(move |listener| {
            let mut client = listener.accept();
            accept_websocket(&mut client);
            assert_eq!(client.read_exactly(1), [0x88]);
            client.send(answer);
            client.finish();
            client.read_to_end();
        });
        let ended = server.run_wire("ws", &["--key", KEY, "--mask", MASK], typed);
        assert_eq!((ended.0, ended.2.as_str()), (Some(code), complaint), "{answer:?} {typed:?}: {}", ended.1);
    }
}

#[test]
fn only_the_close_is_shown_after_enough_messages() {
    let (code, output, _) = run_ws(
        b"\x81\x01a\x81\x01b\x89\x01p\x81\x20cccccccccccccccccccccccccccccccc\x88\x02\x03\xe8\x81",
        &["--count", "1"],
    );
    assert_eq!(code, Some(0));
    let expected = r"
        < frame header   81 01                                            FIN text, length 1
        < payload        61                                               a
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 12                                            1000
        < frame header   88 02                                            FIN Close, length 2
        < payload        03 e8                                            1000
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
}
