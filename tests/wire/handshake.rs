//! The opening handshake of `wire ws`, and interim responses in all transports.

use std::io::Write;

use super::support::{ACCEPT, KEY, ScriptedServer, server_that_answers};

#[test]
fn invalid_handshake_answers_are_refused() {
    let answer = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
    let good = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for (answer, sentence) in [
        (
            answer(&format!("{good}Sec-WebSocket-Accept: {KEY}\r\n")),
            "Sec-WebSocket-Accept is not the hash of the key that was sent",
        ),
        (
            answer(&format!("{good}Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Extensions: x\r\n")),
            "the server chose an extension or a subprotocol that was not offered",
        ),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".into(), "the server answered 403 and not 101"),
        ("HTTP/1.1 403 Forbidden\r\n\r\nno".into(), "the server answered 403 and not 101"),
        ("220 mail.example ESMTP\r\n".into(), "the answer to the handshake is not an HTTP response"),
    ] {
        let (code, output, complaint) = server_that_answers(answer.clone()).run_wire("ws", &["--key", KEY], "");
        assert_eq!((code, complaint), (Some(1), format!("wire: {sentence} (RFC 6455, section 4.1)\n")), "{output}");
        assert_eq!(output.contains("< content        no\n"), answer.contains("403"), "{output}");
    }
    let long = answer(&"A: b\r\n".repeat(3000));
    let (code, output, complaint) = server_that_answers(long).run_wire("ws", &[], "");
    let sentence = "wire: the answer to the handshake is longer than 16384 bytes (RFC 9110, section 5.4)\n";
    assert_eq!((code, complaint.as_str()), (Some(1), sentence), "{output}");
    let (code, _, complaint) = server_that_answers("").run_wire("ws", &[], "");
    assert_eq!(code, Some(1));
    assert_eq!(complaint, "wire: the server closed the connection before it answered the opening handshake\n");
}

/// No browser follows one (WHATWG Fetch, section 4.1, redirect mode "error").
#[test]
fn a_redirected_handshake_is_a_refusal() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n";
    let (code, output, complaint) = server_that_answers(answer).run_wire("ws", &[], "");
    let sentence = "wire: the server answered 302 and not 101 (RFC 6455, section 4.1)\n";
    assert_eq!((code, complaint.as_str()), (Some(1), sentence), "{output}");
    assert!(output.contains("Location: /y"), "{output}");
}

#[test]
fn an_interrupted_handshake_ends_at_once() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        client.head();
        client.send("HTTP/1.1 100 Continue\r\n\r\n");
        client.read_to_end();
    });
    let mut wire = server.start_wire("ws", &["--timeout", "86400"]);
    wire.read_until("end of head");
    wire.read_until("the answer is still to come");
    wire.interrupt();
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    let sentence = "wire: interrupted before the server answered the opening handshake\n";
    assert_eq!((code, complaint.as_str()), (Some(1), sentence), "{output}");
}

#[test]
fn opening_handshakes_have_a_deadline() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        client.head();
        client.read_to_end();
    });
    let (code, output, complaint) = server.run_wire("ws", &["--timeout", "0.2"], "");
    assert_eq!(
        (code, complaint.as_str()),
        (Some(1), "wire: the server did not answer the opening handshake within 0.2 s\n"),
        "{output}"
    );
}

#[test]
fn endless_refusals_are_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        client.head();
        client.send(head);
        while client.stream.write_all(b"3\r\n:\n\n\r\n").is_ok() {}
    });
    let silent = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        client.head();
        client.send(head);
        client.read_to_end();
    });
    for server in [endless, silent] {
        let (code, output, complaint) = server.run_wire("ws", &[], "");
        assert_eq!(
            (code, complaint.as_str()),
            (Some(1), "wire: the server answered 200 and not 101 (RFC 6455, section 4.1)\n")
        );
        assert!(output.len() < 1_000_000, "{}", output.len());
    }
}

const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

#[test]
fn interim_responses_are_skipped() {
    let handshake = format!(
        "{EARLY_HINTS}HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n\u{1}"
    );
    let handshake = [&handshake.as_bytes()[..handshake.len() - 1], b"\x81\x02hi\x88\x02\x03\xe8"].concat();
    let poll = format!("{EARLY_HINTS}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n").into_bytes();
    let stream =
        format!("{EARLY_HINTS}HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n\"hi\"\n").into_bytes();
    let sse =
        format!("{EARLY_HINTS}HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: hi\n\n").into_bytes();
    for (transport, answer) in [("ws", handshake), ("poll", poll), ("stream", stream), ("sse", sse)] {
        for bytewise in [false, true] {
            let answer = answer.clone();
            let server = ScriptedServer::start(move |listener| {
                let mut client = listener.accept();
                client.head();
                if bytewise {
                    client.send_bytewise(answer)
                } else {
                    client.send(answer)
                };
                client.finish();
                client.read_to_end();
            });
            let key: &[&str] = if transport == "ws" { &["--key", KEY] } else { &["--count", "1"] };
            let (code, output, complaint) = server.run_wire(transport, key, "");
            assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
            assert!(output.contains("  the answer is still to come\n< status line"), "{output}");
            assert!(output.contains("hi"), "{output}");
        }
    }
}

#[test]
fn interim_responses_are_bounded() {
    for transport in ["ws", "poll", "stream", "sse"] {
        let server = ScriptedServer::start(|listener| {
            let mut client = listener.accept();
            client.head();
            while client.stream.write_all(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(101)).is_ok() {}
        });
        let (code, output, complaint) = server.run_wire(transport, &[], "");
        let expected = "wire: the server sent more than 100 interim responses (RFC 9110, section 15.2)\n";
        assert_eq!((code, complaint.as_str()), (Some(1), expected));
        assert!(output.matches("102 Processing").count() < 1000);
    }
}

#[test]
fn an_interim_response_is_not_an_answer() {
    for transport in ["poll", "stream", "sse"] {
        let server = server_that_answers(EARLY_HINTS);
        let (code, output, complaint) = server.run_wire(transport, &["--no-reconnect"], "");
        assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server closed the connection\n"), "{output}");
    }
}

#[test]
fn header_options_replace_own_fields() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        let expected = format!(
            "GET /x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             host: example.org\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: soap, chat\r\n\r\n"
        );
        assert_eq!(client.head(), expected);
        client.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        ));
        client.send(b"\x88\x02\x03\xe8");
        client.finish();
        client.read_to_end();
    });
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let options = ["--header", "host: example.org", "--header", &key, "--header", "Sec-WebSocket-Protocol: soap, chat"];
    let (code, output, complaint) = server.run_wire("ws", &options, "/wait\n");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}
