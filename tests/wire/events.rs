//! `wire sse`: event streams, reopened as in a browser.

use super::support::{ScriptedServer, expect_request, server_that_answers, transcript};

/// Chunks that cut lines, each kind of line, and a line end in two chunks.
const EVENTS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    9\r\nretry: 5\n\r\n5;x=y\r\nid: 7\r\n1\r\n\n\r\n7\r\ndata: a\r\n10\r\n b\ndata: c\n\n: c\n\r\n12\r\nevent: e\nfoo: bar\n\r\n\
    0\r\nA: b\r\n\r\n";

fn event_server(bytewise: bool) -> ScriptedServer {
    ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "Accept: text/event-stream\r\nLast-Event-ID: 3\r\n");
        if bytewise {
            client.send_bytewise(EVENTS)
        } else {
            client.send(EVENTS)
        };
        drop(client);
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "Accept: text/event-stream\r\nLast-Event-ID: 7\r\n");
        client.send("HTTP/1.1 204 No Content\r\n\r\n");
    })
}

#[test]
fn event_streams_are_reopened_until_204() {
    let (code, output, complaint) = event_server(false).run_wire("sse", &["--last-event-id", "3"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let expected = r"
        * connected to ADDRESS
        > request line   GET /x HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                Accept: text/event-stream\r\n
        >                Last-Event-ID: 3\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Connection: close\r\n
        <                Content-Type: text/event-stream\r\n
        <                Transfer-Encoding: chunked\r\n
        < end of head    \r\n                                             chunks follow
        < chunk-size     9\r\n                                            9 bytes
        < retry field    retry: 5\n                                       reconnect after 0.005 s
        < end of chunk   \r\n
        < chunk-size     5;x=y\r\n                                        5 bytes
        < part of line   id: 7                                            goes on in the next chunk
        < end of chunk   \r\n
        < chunk-size     1\r\n                                            1 byte
        < id field       \n
        < end of chunk   \r\n
        < chunk-size     7\r\n                                            7 bytes
        < part of line   data: a                                          goes on in the next chunk
        < end of chunk   \r\n
        < chunk-size     10\r\n                                           16 bytes
        < data field      b\n
        <                data: c\n
        < end of event   \n                                               dispatches an event of type message
        < comment        : c\n
        < end of chunk   \r\n
        < chunk-size     12\r\n                                           18 bytes
        < event field    event: e\n
        < unknown field  foo: bar\n                                       ignored
        < end of chunk   \r\n
        < last-chunk     0\r\n                                            no more chunks
        < trailer field  A: b\r\n
        < end of chunks  \r\n
        * the answer has ended: waiting 0.1 s before reconnecting with Last-Event-ID 7
        * connected to ADDRESS
        > request line   GET /x HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                Accept: text/event-stream\r\n
        >                Last-Event-ID: 7\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 204 No Content\r\n
        < end of head    \r\n                                             no content
        * 204 ends it: a browser does not reconnect either
    ";
    let expected = transcript(expected);
    assert_eq!(output, expected);
    let (code, output, _) = event_server(true).run_wire("sse", &["--last-event-id", "3"], "");
    assert_eq!((code, output), (Some(0), expected), "byte by byte");
}

#[test]
fn a_redirected_event_stream_is_reopened_at_its_first_address() {
    let server = ScriptedServer::start(|listener| {
        for id in ["", "Last-Event-ID: 1\r\n"] {
            let mut client = listener.accept();
            expect_request(&mut client, "GET /x", &format!("Accept: text/event-stream\r\n{id}"));
            client.send("HTTP/1.1 307 Temporary Redirect\r\nLocation: y\r\nContent-Length: 0\r\n\r\n");
            expect_request(&mut client, "GET /y", &format!("Accept: text/event-stream\r\n{id}"));
            if id.is_empty() {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                client.send(format!("{head}retry: 0\nid: 1\ndata: x\n\n"));
            } else {
                client.send("HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
    });
    let (code, output, complaint) = server.run_wire("sse", &[], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    assert_eq!(output.matches("* redirected to http://ADDRESS/y\n").count(), 2, "{output}");
}

#[test]
fn event_streams_are_given_up_as_in_a_browser() {
    for (answer, sentence) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
            "the server answered 503, and not 200 or 204",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
            "expected Content-Type text/event-stream, not \"text/html\"",
        ),
    ] {
        let (code, output, complaint) = server_that_answers(answer).run_wire("sse", &[], "");
        assert_eq!(
            (code, complaint),
            (Some(1), format!("wire: {sentence} (WHATWG HTML, section 9.2.3)\n")),
            "{output}"
        );
    }
    let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n";
    let (code, output, _) = server_that_answers(stream).run_wire("sse", &["--no-reconnect"], "");
    assert_eq!(code, Some(0));
    assert!(output.ends_with("* the answer has ended\n"), "{output}");
}

#[test]
fn empty_event_streams_are_reopened_with_backoff() {
    let server = ScriptedServer::start(|listener| {
        for _ in 0..2 {
            let mut client = listener.accept();
            client.head();
            client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 0\n\n");
        }
    });
    let mut wire = server.start_wire("sse", &[]);
    let first = wire.read_until("before reconnecting");
    assert!(first.ends_with("* the answer has ended: waiting 0.1 s before reconnecting\n"), "{first}");
    let second = wire.read_until("before reconnecting");
    assert!(second.ends_with("* the answer has ended: waiting 3.0 s before reconnecting\n"), "{second}");
    server.thread.join().unwrap();
}

#[test]
fn the_retry_time_is_bounded() {
    let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 18446744073709551615\ndata: x\n\n";
    let server = server_that_answers(stream);
    let mut wire = server.start_wire("sse", &[]);
    let output = wire.read_until("before reconnecting");
    let expected = "* the stream asked to wait 18446744073709552.0 s: 300.0 s is the most\n\
                    * the answer has ended: waiting 300.0 s before reconnecting\n";
    assert!(output.ends_with(expected), "{output}");
    server.thread.join().unwrap();
}

#[test]
fn ids_with_control_characters_are_not_sent() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        client.head();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        client.send(format!("{head}retry: 0\nid: a\u{1b}[2J\ndata: x\n\n"));
        drop(client);
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "Accept: text/event-stream\r\n");
        client.send("HTTP/1.1 204 No Content\r\n\r\n");
    });
    let (code, output, complaint) = server.run_wire("sse", &[], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let expected = "* the last event ID is not sent: no field value holds control characters (RFC 9110, section 5.5)\n\
                    * the answer has ended: waiting 0.1 s before reconnecting\n";
    assert!(output.contains(expected), "{output}");
}
