//! The client `wire`: what it prints, what it sends, and how it ends, against this server and against
//! servers that do what a good one never does.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{Client, PATIENCE, TestServer};
use overwire::websocket;
use overwire::{Event, Limits};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: &str = "37fa213d";

/// The program while it runs. It is ended with its test.
struct Wire {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

/// How it ended: exit code, standard output without the column of times, standard error.
type Ended = (Option<i32>, String, String);

impl Wire {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wire"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.take().map(BufReader::new);
        Wire { stdin: process.stdin.take(), stdout, process }
    }

    fn type_in(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Lines up to and including the first that contains `end`.
    fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().unwrap_or_default().contains(end) {
            assert!(
                self.stdout.as_mut().unwrap().read_line(&mut text).unwrap() > 0,
                "the end came before {end:?}: {text}"
            );
        }
        without_times(&text)
    }

    /// Types without end, or until nobody reads any more; it is told how much of it was read.
    fn type_for_ever(&mut self, first: &str, text: &'static str) -> mpsc::Receiver<usize> {
        self.type_in(first);
        let mut stdin = self.stdin.take().unwrap();
        let (sender, taken) = mpsc::channel();
        thread::spawn(move || while stdin.write_all(text.as_bytes()).is_ok() && sender.send(text.len()).is_ok() {});
        taken
    }

    /// Waits for the end, which must come by itself.
    fn end(mut self) -> Ended {
        self.stdin = None;
        let output = read_aside(self.stdout.take().unwrap());
        let complaint = read_aside(self.process.stderr.take().unwrap());
        let output = output.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            self.process.kill().unwrap();
            output.recv().unwrap()
        });
        (self.process.wait().unwrap().code(), without_times(&output), complaint.recv().unwrap())
    }
}

/// All that comes, once it has ended.
fn read_aside(mut source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        let _ = sender.send(text);
    });
    receiver
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &[&str], typed: &str) -> Ended {
    let mut wire = Wire::start(arguments);
    wire.type_in(typed);
    wire.end()
}

/// The first column is the time in seconds: seven characters with three decimals.
fn without_times(output: &str) -> String {
    let lines = output.lines().map(|line| {
        let (time, rest) = line.split_at_checked(8).unwrap_or_else(|| panic!("no time: {line:?}"));
        assert!(time.trim().parse::<f64>().is_ok() && time.as_bytes()[3] == b'.' && time.ends_with(' '), "{line:?}");
        format!("{rest}\n")
    });
    lines.collect()
}

/// A transcript: the lines without the indentation that they have in a test.
fn transcript(text: &str) -> String {
    text.trim().lines().map(|line| format!("{}\n", line.trim_start())).collect()
}

/// A server of a test's own, in a thread.
struct Raw {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

/// Where `wire` connects to.
struct Door(TcpListener);

impl Door {
    fn open(&self) -> Client {
        let (listener, (sender, accepted)) = (self.0.try_clone().unwrap(), mpsc::channel());
        thread::spawn(move || sender.send(listener.accept().unwrap().0));
        Client::of(accepted.recv_timeout(PATIENCE).expect("somebody connects"))
    }
}

impl Raw {
    fn start(serve: impl FnOnce(Door) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Raw { address, thread: thread::spawn(move || serve(Door(listener))) }
    }

    fn url(&self) -> String {
        format!("http://{}/x", self.address)
    }

    fn start_wire(&self, transport: &str, options: &[&str]) -> Wire {
        Wire::start(&[&[transport, &self.url()], options].concat())
    }

    /// Runs `wire` against it, and waits for both to end. The address is replaced by `ADDRESS`.
    fn watched_by(self, transport: &str, options: &[&str], typed: &str) -> Ended {
        let mut wire = self.start_wire(transport, options);
        wire.type_in(typed);
        wire.stdin = None;
        let (code, output, complaint) = wire.end();
        if let Err(panic) = self.thread.join() {
            eprintln!("{code:?}: {output:.10000}{complaint}");
            std::panic::resume_unwind(panic);
        }
        let hide = |text: String| text.replace(&self.address.to_string(), "ADDRESS");
        (code, hide(output), hide(complaint))
    }
}

/// Checks a request, but for its Host.
#[track_caller]
fn expect_request(client: &mut Client, line: &str, fields: &str) {
    let head = client.head();
    let host = client.stream.local_addr().unwrap();
    assert_eq!(head, format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
}

/// Opens a WebSocket as a server.
fn accept(client: &mut Client) {
    let fields = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    expect_request(client, "GET /x", &fields);
    client.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    ));
}

/// A server that sends `bytes` on an open WebSocket, and then reads until the end.
fn websocket_that_sends(bytes: impl AsRef<[u8]> + Send + 'static) -> Raw {
    Raw::start(move |door| {
        let mut client = door.open();
        accept(&mut client);
        client.send(bytes);
        client.finish();
        client.read_to_end();
    })
}

/// What `wire ws` prints of such a server, behind the handshake.
fn watched(bytes: impl AsRef<[u8]> + Send + 'static, options: &[&str]) -> Ended {
    let options = [&["--key", KEY, "--mask", MASK, "--count", "9"], options].concat();
    let (code, output, complaint) = websocket_that_sends(bytes).watched_by("ws", &options, "");
    let (_, behind) = output.split_once("frames follow\n").unwrap_or_else(|| panic!("{output}{complaint}"));
    (code, behind.to_owned(), complaint)
}

/// An HTTP server that sends `answer` to whatever is asked first, and then closes.
fn server_that_answers(answer: impl AsRef<[u8]> + Send + 'static) -> Raw {
    Raw::start(move |door| {
        let mut client = door.open();
        client.head();
        client.send(answer);
    })
}

#[test]
fn a_websocket_from_the_handshake_to_the_close() {
    let server = TestServer::of_loop(Limits::default(), |mut event_loop| {
        loop {
            match event_loop.next_event()? {
                Event::Request(conn, request) => event_loop.begin(conn, websocket::accept(&request, &[]).unwrap()),
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

/// Chunks without regard to lines, every kind of line, and a line end in two chunks.
const EVENTS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    9\r\nretry: 5\n\r\n5;x=y\r\nid: 7\r\n1\r\n\n\r\n7\r\ndata: a\r\n10\r\n b\ndata: c\n\n: c\n\r\n12\r\nevent: e\nfoo: bar\n\r\n\
    0\r\nA: b\r\n\r\n";

fn event_server(bytewise: bool) -> Raw {
    Raw::start(move |door| {
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "Accept: text/event-stream\r\nLast-Event-ID: 3\r\n");
        if bytewise {
            client.send_bytewise(EVENTS)
        } else {
            client.send(EVENTS)
        };
        drop(client);
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "Accept: text/event-stream\r\nLast-Event-ID: 7\r\n");
        client.send("HTTP/1.1 204 No Content\r\n\r\n");
    })
}

#[test]
fn an_event_stream_that_ends_is_asked_for_again_until_204() {
    let (code, output, complaint) = event_server(false).watched_by("sse", &["--last-event-id", "3"], "");
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
    let (code, output, _) = event_server(true).watched_by("sse", &["--last-event-id", "3"], "");
    assert_eq!((code, output), (Some(0), expected), "byte by byte");
}

#[test]
fn a_stream_is_asked_for_again_behind_its_last_line() {
    let answer = |content: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{content}\r\n", content.len())
    };
    let server = Raw::start(move |door| {
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "A: b\r\n");
        client.send(answer("{\"id\": \"a 1\"}\n\n{\"no\": \"id\"}\n{\"cut\""));
        drop(client);
        let mut client = door.open();
        expect_request(&mut client, "GET /x?last_message_id=a%201", "A: b\r\n");
        client.send(answer("{\"id\": \"2\"}\n") + "0\r\n\r\n");
        expect_request(&mut client, "GET /x?last_message_id=2", "A: b\r\n");
        client.send(answer("{\"id\": \"3\"}\n{\"id\": \"4\"}\n"));
        client.expect_end();
    });
    let options = ["--interval", "0", "--header", "A:b", "--count", "4"];
    let (code, output, complaint) = server.watched_by("stream", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let expected = r#"
        * connected to ADDRESS
        > request line   GET /x HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                A: b\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Content-Type: application/x-ndjson\r\n
        <                Transfer-Encoding: chunked\r\n
        < end of head    \r\n                                             chunks follow
        < chunk-size     22\r\n                                           34 bytes
        < JSON line      {"id": "a 1"}\n
        < empty line     \n
        < JSON line      {"no": "id"}\n
        < part of line   {"cut"                                           goes on in the next chunk
        < end of chunk   \r\n
        * the server closed the connection: waiting 0.0 s before reconnecting with last_message_id a 1
        * connected to ADDRESS
        > request line   GET /x?last_message_id=a%201 HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                A: b\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Content-Type: application/x-ndjson\r\n
        <                Transfer-Encoding: chunked\r\n
        < end of head    \r\n                                             chunks follow
        < chunk-size     c\r\n                                            12 bytes
        < JSON line      {"id": "2"}\n
        < end of chunk   \r\n
        < last-chunk     0\r\n                                            no more chunks
        < end of chunks  \r\n
        * the answer has ended: waiting 0.0 s before asking again with last_message_id 2
        > request line   GET /x?last_message_id=2 HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                A: b\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Content-Type: application/x-ndjson\r\n
        <                Transfer-Encoding: chunked\r\n
        < end of head    \r\n                                             chunks follow
        < chunk-size     18\r\n                                           24 bytes
        < JSON line      {"id": "3"}\n
        * closing after 4 messages
    "#;
    assert_eq!(output, transcript(expected));
}

#[test]
fn a_poll_goes_on_behind_the_last_answer_through_failures() {
    let answer = |content: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len());
    let server = Raw::start(move |door| {
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "");
        client.send(answer(r#"{"messages": [{"id": "5"}], "last_message_id": "6"}"#));
        expect_request(&mut client, "GET /x?last_message_id=6", "");
        client.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n");
        drop(client);
        let mut client = door.open();
        expect_request(&mut client, "GET /x?last_message_id=6", "");
        client.send_bytewise(answer("{\"messages\": []}\n"));
        expect_request(&mut client, "GET /x?last_message_id=6", "");
        client.send(answer(r#"{"messages": [{"id": "7"}]}"#));
        expect_request(&mut client, "GET /x?last_message_id=7", "");
        client.send("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone");
    });
    let (code, output, complaint) = server.watched_by("poll", &["--interval", "0.01"], "");
    assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server answered 410\n"));
    let expected = r#"
        * connected to ADDRESS
        > request line   GET /x HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Content-Length: 51\r\n
        < end of head    \r\n                                             51 bytes of content follow
        < content        {"messages": [{"id": "5"}], "last_message_id": "6"}
        > request line   GET /x?last_message_id=6 HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 503 Service Unavailable\r\n
        < field line     Content-Length: 5\r\n
        <                Connection: close\r\n
        < end of head    \r\n                                             5 bytes of content follow
        < content        busy\n
        * the server answered 503: waiting 0.0 s before reconnecting with last_message_id 6
        * connected to ADDRESS
        > request line   GET /x?last_message_id=6 HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Content-Length: 17\r\n
        < end of head    \r\n                                             17 bytes of content follow
        < content        {"messages": []}\n
    "#;
    let (front, back) = output.split_once("{\"messages\": []}\\n\n").unwrap();
    assert_eq!(format!("{front}{{\"messages\": []}}\\n\n"), transcript(expected));
    // Whether there is time left to wait depends on how long the server took.
    let back = back.strip_prefix("* no news: waiting 0.0 s before asking again\n").unwrap_or(back);
    let expected = r#"
        > request line   GET /x?last_message_id=6 HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 200 OK\r\n
        < field line     Content-Length: 27\r\n
        < end of head    \r\n                                             27 bytes of content follow
        < content        {"messages": [{"id": "7"}]}
        > request line   GET /x?last_message_id=7 HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        > end of head    \r\n
        < status line    HTTP/1.1 410 Gone\r\n
        < field line     Content-Length: 4\r\n
        < end of head    \r\n                                             4 bytes of content follow
        < content        gone
    "#;
    assert_eq!(back, transcript(expected));
}

#[test]
fn an_idle_connection_that_was_closed_is_replaced() {
    let server = Raw::start(|door| {
        for target in ["/x", "/x?last_message_id=5"] {
            let mut client = door.open();
            expect_request(&mut client, &format!("GET {target}"), "");
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}");
        }
    });
    let (code, output, complaint) =
        server.watched_by("poll", &["--count", "2", "--interval", "0", "--no-reconnect"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    // Or it is a reset, if the next request was on its way already.
    assert!(output.contains(" while it was idle\n* connected to "), "{output}");
}

#[test]
fn what_a_server_must_not_answer_is_named_with_the_section() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "the chunk-size is not 1 to 16 hex digits, then at most an extension, then CRLF (RFC 9112, section 7.1)",
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n",
            "the status line is malformed: expected `HTTP/1.1`, a status code of three digits, CRLF (RFC 9112, section 4)",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "both Content-Length and Transfer-Encoding are there: expected one of them (RFC 9112, section 6.3)",
        ),
        ("HTTP/1.1 302 Found\r\nLocation: /y\r\n\r\n", "the server answered 302"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "the server closed the connection"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "the server answered 101, and was not asked to switch protocols (RFC 9110, section 7.8)",
        ),
        ("", "the server closed the connection"),
    ];
    for (answer, sentence) in cases {
        for transport in ["poll", "stream"] {
            let ended = server_that_answers(answer).watched_by(transport, &["--no-reconnect"], "");
            assert_eq!((ended.0, ended.2), (Some(1), format!("wire: {sentence}\n")), "{answer:?}: {}", ended.1);
        }
    }
    let malformed = server_that_answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n");
    let (_, output, _) = malformed.watched_by("stream", &[], "");
    assert!(
        output.ends_with(
            "< chunk-size     1\\r\\n                                            1 byte\n\
         < chunk-data     a\n\
         < unlabelled     62 0d 0a                                         b..\n"
        ),
        "{output}"
    );
}

/// Frames, and what is wrong with them; behind it, the Close that `wire` sends.
#[test]
fn a_server_that_violates_the_websocket_protocol_is_failed() {
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
        let (exit, output, complaint) = watched(bytes, &[]);
        assert_eq!((exit, complaint), (Some(1), format!("wire: {sentence}\n")), "{output}");
        let (_, sent) = output.split_once("> frame header   88 ").unwrap_or_else(|| panic!("{output}"));
        assert!(sent.contains(&format!("  {code} ")), "{sent}");
    }
    let (_, output, _) = watched(b"\x81\x80aaaa\x81\x01x", &[]);
    assert!(
        output.starts_with("< unlabelled     81 80 61 61 61 61 81 01 78                       ..aaaa..x\n"),
        "{output}"
    );
}

#[test]
fn the_exit_code_tells_how_the_server_closed() {
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
        let ended = watched(bytes, &[]);
        assert_eq!((ended.0, ended.2.as_str()), (Some(code), complaint), "{}", ended.1);
    }
    let (_, output, _) = watched(frame(0x88, b"\x03\xe9bye"), &[]);
    let expected = r"
        < frame header   88 05                                            FIN Close, length 5
        < payload        03 e9 62 79 65                                   1001 bye
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 13                                            1001
        * the server closed the connection
    ";
    assert_eq!(output, transcript(expected));
    let (_, output, _) = watched(frame(0x81, b"hi")[..3].to_vec(), &[]);
    assert!(
        output.starts_with(
            "< frame header   81 02                                            FIN text, length 2\n\
         < payload        68                                               h\n"
        ),
        "{output}"
    );
}

#[test]
fn pings_are_answered_and_messages_counted() {
    let (code, output, complaint) =
        watched(b"\x89\x01?\x01\x01a\x89\x00\x80\x01b\x82\x00\x88\x02\x03\xe8", &["--count", "2"]);
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
fn a_long_payload_is_cut_unless_all_of_it_is_asked_for() {
    let message = [&b"\x81\x50"[..], "0123456789abcde\u{e9}".repeat(5).as_bytes(), b"\x88\x02\x03\xe8"].concat();
    let message = [&message[..1], &[85], &message[2..]].concat();
    let rows = |output: &str| output.lines().take_while(|line| !line.contains("text message")).count() - 1;
    let (_, short, _) = watched(message.clone(), &[]);
    assert!(short.contains("<                ... and 21 bytes more\n"), "{short}");
    assert_eq!(rows(&short), 5);
    let (_, all, _) = watched(message, &["--all"]);
    assert_eq!(rows(&all), 6, "{all}");
    assert!(all.contains("  0123456789abcde\u{e9}\n"), "{all}");
}

#[test]
fn what_is_sent_is_held_to_the_protocol_as_well() {
    let server = Raw::start(|door| {
        let mut client = door.open();
        accept(&mut client);
        assert_eq!(client.read_exactly(7), b"\x81\x05Hello");
        client.send(b"\x88\x02\x03\xea");
        client.finish();
        assert_eq!(client.read_to_end(), [0x88, 0x82, 0x37, 0xfa, 0x21, 0x3d, 0x34, 0x10]);
    });
    let typed = "/nonsense\n/hex 8\n/binary xy\n/close abc\n/hex 81 05 48656c6c6f\n/wait\n";
    let (code, output, complaint) = server.watched_by("ws", &["--key", KEY, "--mask", MASK], typed);
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
fn a_handshake_that_a_client_must_not_believe() {
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
        let (code, output, complaint) = server_that_answers(answer.clone()).watched_by("ws", &["--key", KEY], "");
        assert_eq!((code, complaint), (Some(1), format!("wire: {sentence} (RFC 6455, section 4.1)\n")), "{output}");
        assert_eq!(output.contains("< content        no\n"), answer.contains("403"), "{output}");
    }
    let (code, _, complaint) = server_that_answers("").watched_by("ws", &[], "");
    assert_eq!(code, Some(1));
    assert_eq!(complaint, "wire: the server closed the connection before it answered the opening handshake\n");
}

#[test]
fn an_event_source_gives_up_where_a_browser_does() {
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
        let (code, output, complaint) = server_that_answers(answer).watched_by("sse", &[], "");
        assert_eq!(
            (code, complaint),
            (Some(1), format!("wire: {sentence} (WHATWG HTML, section 9.2.3)\n")),
            "{output}"
        );
    }
    let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n";
    let (code, output, _) = server_that_answers(stream).watched_by("sse", &["--no-reconnect"], "");
    assert_eq!(code, Some(0));
    assert!(output.ends_with("* the answer has ended\n"), "{output}");
}

#[test]
fn a_server_cannot_drive_the_terminal() {
    let evil = "\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2028}\u{8}";
    let stream = format!(
        "HTTP/1.1 200 O\u{9b}K\r\nContent-Type: text/event-stream\r\nX: a\tb\u{9b}\r\n\r\nid: {evil}\nevent: {evil}\ndata: {evil}\n\n"
    );
    let (_, output, _) = server_that_answers(stream).watched_by("sse", &["--no-reconnect"], "");
    let json = "HTTP/1.1 404 Not Found\r\n\r\n".to_owned() + evil;
    let (_, other, complaint) = server_that_answers(json).watched_by("poll", &[], "");
    let text = [&[0x81, evil.len() as u8], evil.as_bytes(), b"\x88\x02\x03\xe8"].concat();
    let (_, message, _) = watched(text, &[]);
    for printed in [output.clone(), other, complaint, message] {
        let bad = printed.chars().find(|&c| c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{202e}')));
        assert_eq!(bad, None, "{printed}");
    }
    assert!(output.contains(r"data: \x1b]0;x\x07\u{9b}31m\u{202e}\u{2028}\x08\n"), "{output}");
}

#[test]
fn a_server_that_is_not_there_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for transport in ["poll", "stream", "sse", "ws"] {
        let expected = format!("wire: cannot connect to {address}: Connection refused\n");
        assert_eq!(run(&[transport, &format!("http://{address}/")], ""), (Some(1), String::new(), expected));
    }
}

#[test]
fn nobody_reads_any_more() {
    let server = Raw::start(|door| {
        let mut client = door.open();
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{}\n");
        // It goes on until its client is gone.
        while client.stream.write_all(b"{}\n").is_ok() {}
    });
    let mut wire = Wire::start(&["stream", &server.url()]);
    assert!(wire.read_until("JSON line").starts_with("* connected to "));
    wire.stdout = None; // as `head -1` does
    server.thread.join().unwrap();
    assert_eq!(wire.process.wait().unwrap().code(), Some(0));
    let mut complaint = String::new();
    wire.process.stderr.as_mut().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "");
}

#[test]
fn the_command_line_is_checked() {
    let url = "http://127.0.0.1/";
    let cases: [(&[&str], &str); 23] = [
        (&[], "expected poll, stream, sse or ws, and a URL"),
        (&["get", url], "expected poll, stream, sse or ws, not \"get\""),
        (&["ws"], "expected a URL, such as http://127.0.0.1:8000/"),
        (&["ws", url, url], "unknown argument \"http://127.0.0.1/\""),
        (&["ws", "wss://a/"], "there is no TLS here: \"wss://a/\" needs it, http:// and ws:// do not"),
        (&["sse", "https://a/"], "there is no TLS here: \"https://a/\" needs it, http:// and ws:// do not"),
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
    ];
    for (arguments, complaint) in cases {
        let expected = format!("wire: {complaint}\nTry `wire --help`.\n");
        assert_eq!(run(arguments, ""), (Some(2), String::new(), expected), "{arguments:?}");
    }
}

/// What the program prints that does not connect anywhere.
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
        "--no-reconnect",
        "--all",
        "--help",
        "--version",
        "Exit code",
    ] {
        assert!(help.contains(option), "{option} is missing: {help}");
    }
    assert!(help.lines().all(|line| line.len() <= 100));
    assert_eq!(printed("--version"), format!("wire {}\n", env!("CARGO_PKG_VERSION")));
}

/// In a terminal, as util-linux's `script` makes one; where that is missing, nothing is tested.
#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
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

/// A server that opens a WebSocket, does something, and keeps the connection until the test is over.
fn websocket_that_stays(act: impl FnOnce(&mut Client) + Send + 'static) -> (Raw, mpsc::Sender<()>) {
    let (over, is_over) = mpsc::channel();
    let server = Raw::start(move |door| {
        let mut client = door.open();
        accept(&mut client);
        act(&mut client);
        assert!(is_over.recv().is_err());
    });
    (server, over)
}

/// The payload of the next frame, which is short.
fn payload_of_a_client(client: &mut Client) -> Vec<u8> {
    let header = client.read_exactly(6);
    let mut payload = client.read_exactly(usize::from(header[1] & 0x7f));
    websocket::mask(&mut payload, *header.last_chunk().unwrap(), 0);
    payload
}

const SHORT: &[&str] = &["--key", KEY, "--mask", MASK, "--timeout", "0.3"];
const NOT_CLOSED: &str =
    "wire: the server did not close the connection in time, without a Close frame (RFC 6455, section 7.1.5)\n";

#[test]
fn what_a_server_sends_is_read_while_it_takes_nothing() {
    const FRAMES: usize = 256;
    let line = "x".repeat(8_000_000);
    let length = line.len();
    let server = Raw::start(move |door| {
        let mut client = door.open();
        accept(&mut client);
        // More than all buffers between the two hold: it goes on only if it is read.
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
fn a_server_that_takes_nothing_is_given_up() {
    let (server, over) = websocket_that_stays(|_| {});
    let mut wire = server.start_wire("ws", SHORT);
    let mut stdin = wire.stdin.take().unwrap();
    thread::spawn(move || stdin.write_all(("x".repeat(16_000_000) + "\nsecond\n").as_bytes()));
    let (code, output, complaint) = wire.end();
    assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server did not take what was sent\n"));
    assert_eq!(output.matches("> frame header").count(), 1);
    drop(over);
    server.thread.join().unwrap();
}

#[test]
fn nothing_is_sent_behind_what_was_not_taken() {
    let (gone, is_gone) = mpsc::channel();
    let server = Raw::start(move |door| {
        let mut client = door.open();
        accept(&mut client);
        client.read_exactly(1); // and no more: the rest is answered with a reset
        drop(client);
        gone.send(()).unwrap();
    });
    let mut wire = server.start_wire("ws", &["--key", KEY, "--mask", MASK]);
    wire.type_in("one\n");
    is_gone.recv().unwrap();
    let _ = wire.stdin.as_mut().unwrap().write_all(b"two\nthree\nfour\n"); // it may have ended already
    let (code, output, complaint) = wire.end();
    assert_eq!(code, Some(1), "{output}{complaint}");
    assert!(!output.contains("four"), "{output}");
}

#[test]
fn a_server_that_goes_on_behind_our_close_is_left() {
    let server = Raw::start(|door| {
        let mut client = door.open();
        accept(&mut client);
        while client.stream.write_all(&b"\x81\x01x".repeat(1000)).is_ok() {}
    });
    let (code, output, complaint) = server.watched_by("ws", &[SHORT, &["--count", "1"]].concat(), "");
    assert_eq!((code, complaint.as_str()), (Some(1), NOT_CLOSED));
    let (_, behind) = output.split_once("frames follow\n").unwrap();
    let expected = r"
        < frame header   81 01                                            FIN text, length 1
        < payload        78                                               x
        > frame header   88 82 37 fa 21 3d                                FIN Close, length 2, mask 37 fa 21 3d
        > payload        34 12                                            1000
        * the server did not close the connection in time
    ";
    assert_eq!(behind, transcript(expected));
}

#[test]
fn behind_enough_messages_only_the_close_is_shown() {
    let (code, output, _) = watched(
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

#[test]
fn lines_without_end_do_not_put_the_end_off() {
    let (server, over) = websocket_that_stays(|_| {});
    let mut wire = server.start_wire("ws", SHORT);
    wire.type_for_ever("/close\n", "y\n");
    let (code, output, complaint) = wire.end();
    assert_eq!((code, complaint.as_str()), (Some(1), NOT_CLOSED));
    assert_eq!(output.matches("not sent: nothing may follow a Close").count(), 1, "{output}");
    drop(over);
    server.thread.join().unwrap();
}

#[test]
fn lines_that_must_wait_are_not_read() {
    let (server, over) = websocket_that_stays(|_| {});
    let mut wire = server.start_wire("ws", &["--key", KEY]);
    let mut taken = 0;
    let lines = wire.type_for_ever("/wait\n", "0123456789abcdefghijklmnopqrstuvwxyz\n");
    while let Ok(count) = lines.recv_timeout(Duration::from_millis(500)) {
        taken += count;
        assert!(taken < 1_000_000, "what must wait is kept");
    }
    assert!(taken > 0);
    drop((wire, over));
    server.thread.join().unwrap();
}

#[test]
fn pings_are_not_answered_without_bound() {
    const PINGS: usize = 20_000;
    let server = Raw::start(|door| {
        let mut client = door.open();
        accept(&mut client);
        let ping = [&[0x89, 125], &[b'p'; 125][..]].concat();
        client.send([&ping.repeat(PINGS), &b"\x81\x01x\x89\x01!"[..]].concat());
        // Now it reads: the last Ping is answered, whatever became of the others.
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

#[test]
fn a_refusal_that_crosses_our_close_is_no_success() {
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
        let server = Raw::start(move |door| {
            let mut client = door.open();
            accept(&mut client);
            assert_eq!(client.read_exactly(1), [0x88]);
            client.send(answer);
            client.finish();
            client.read_to_end();
        });
        let ended = server.watched_by("ws", &["--key", KEY, "--mask", MASK], typed);
        assert_eq!((ended.0, ended.2.as_str()), (Some(code), complaint), "{answer:?} {typed:?}: {}", ended.1);
    }
}

#[test]
fn an_opening_handshake_has_a_deadline() {
    let server = Raw::start(|door| {
        let mut client = door.open();
        client.head();
        client.read_to_end();
    });
    let (code, output, complaint) = server.watched_by("ws", &["--timeout", "0.2"], "");
    assert_eq!(
        (code, complaint.as_str()),
        (Some(1), "wire: the server did not answer the opening handshake within 0.2 s\n"),
        "{output}"
    );
}

#[test]
fn an_answer_that_is_no_handshake_and_does_not_end_is_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = Raw::start(move |door| {
        let mut client = door.open();
        client.head();
        client.send(head);
        while client.stream.write_all(b"3\r\n:\n\n\r\n").is_ok() {}
    });
    let silent = Raw::start(move |door| {
        let mut client = door.open();
        client.head();
        client.send(head);
        client.read_to_end();
    });
    for server in [endless, silent] {
        let (code, output, complaint) = server.watched_by("ws", &[], "");
        assert_eq!(
            (code, complaint.as_str()),
            (Some(1), "wire: the server answered 200 and not 101 (RFC 6455, section 4.1)\n")
        );
        assert!(output.len() < 1_000_000, "{}", output.len());
    }
}

const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

#[test]
fn interim_responses_come_before_the_answer() {
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
            let server = Raw::start(move |door| {
                let mut client = door.open();
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
            let (code, output, complaint) = server.watched_by(transport, key, "");
            assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
            assert!(output.contains("  the answer is still to come\n< status line"), "{output}");
            assert!(output.contains("hi"), "{output}");
        }
    }
}

#[test]
fn interim_responses_without_end_are_bounded() {
    for transport in ["ws", "poll", "stream", "sse"] {
        let server = Raw::start(|door| {
            let mut client = door.open();
            client.head();
            while client.stream.write_all(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(101)).is_ok() {}
        });
        let (code, output, complaint) = server.watched_by(transport, &[], "");
        let expected = "wire: the server sent more than 100 interim responses (RFC 9110, section 15.2)\n";
        assert_eq!((code, complaint.as_str()), (Some(1), expected));
        assert!(output.matches("102 Processing").count() < 1000);
    }
}

#[test]
fn a_connection_that_is_lost_behind_an_interim_response_is_replaced() {
    for transport in ["poll", "stream", "sse"] {
        let server = server_that_answers(EARLY_HINTS);
        let (code, output, complaint) = server.watched_by(transport, &["--no-reconnect"], "");
        assert_eq!((code, complaint.as_str()), (Some(1), "wire: the server closed the connection\n"), "{output}");
    }
}

/// A server whose first connection ends with a 408 that nobody asked for, as `end` sends it.
fn server_that_says_408(end: impl FnOnce(&mut Client, &str) + Send + 'static) -> Raw {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}";
    let timeout = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    Raw::start(move |door| {
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "");
        client.send(answer);
        end(&mut client, timeout);
        drop(client);
        let mut client = door.open();
        expect_request(&mut client, "GET /x?last_message_id=5", "");
        client.send(answer);
        client.read_to_end();
    })
}

#[test]
fn a_408_on_an_idle_connection_is_the_end_of_it() {
    let (idle, is_idle) = mpsc::channel::<()>();
    let server = server_that_says_408(move |client, timeout| {
        is_idle.recv().unwrap();
        client.send(timeout);
        client.finish();
        client.read_to_end();
    });
    let mut wire = server.start_wire("poll", &["--count", "2", "--interval", "0.5", "--no-reconnect"]);
    wire.read_until("no news: waiting");
    idle.send(()).unwrap();
    let (code, output, complaint) = wire.end();
    server.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    assert!(output.contains("* the server sent \"HTTP/1.1 408 Request Timeout\" before it was asked"), "{output}");
}

#[test]
fn a_408_that_crosses_a_request_is_the_end_of_the_connection() {
    let server = server_that_says_408(|client, timeout| {
        expect_request(client, "GET /x?last_message_id=5", "");
        client.send(timeout);
    });
    let options = ["--count", "2", "--interval", "0", "--no-reconnect"];
    let (code, output, complaint) = server.watched_by("poll", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn an_answer_that_nobody_asked_for_is_none() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}";
    let server = Raw::start(move |door| {
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "");
        client.send(answer.to_owned() + "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
        let mut client = door.open();
        expect_request(&mut client, "GET /x?last_message_id=5", "");
        client.send(answer);
    });
    let options = ["--count", "2", "--interval", "0", "--no-reconnect"];
    let (code, output, complaint) = server.watched_by("poll", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn a_408_to_a_fresh_connection_is_asked_again() {
    let server = Raw::start(|door| {
        let mut client = door.open();
        client.head();
        client.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        drop(client);
        let mut client = door.open();
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    let (code, output, complaint) = server.watched_by("poll", &["--count", "1", "--interval", "0"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn an_event_stream_that_brings_nothing_is_not_asked_for_at_once() {
    let server = Raw::start(|door| {
        for _ in 0..2 {
            let mut client = door.open();
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
fn an_event_stream_cannot_ask_to_wait_for_ever() {
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
fn an_id_that_no_field_can_hold_is_not_resumed_from() {
    let server = Raw::start(|door| {
        let mut client = door.open();
        client.head();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        client.send(format!("{head}retry: 0\nid: a\u{1b}[2J\ndata: x\n\n"));
        drop(client);
        let mut client = door.open();
        expect_request(&mut client, "GET /x", "Accept: text/event-stream\r\n");
        client.send("HTTP/1.1 204 No Content\r\n\r\n");
    });
    let (code, output, complaint) = server.watched_by("sse", &[], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let expected = "* the last event ID is not sent: no field value holds control characters (RFC 9110, section 5.5)\n\
                    * the answer has ended: waiting 0.1 s before reconnecting\n";
    assert!(output.contains(expected), "{output}");
}

#[test]
fn a_poll_whose_answers_lead_nowhere_waits() {
    let answer = |content: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len());
    let no_id = answer(r#"{"messages": [{"text": "x"}]}"#);
    let same_id = answer(r#"{"messages": [{"id": "1"}]}"#);
    for (answer, requests) in [(no_id, 1), (same_id, 2)] {
        let server = Raw::start(move |door| {
            let mut client = door.open();
            for _ in 0..requests {
                client.head();
                client.send(&answer);
            }
            client.expect_end();
        });
        let mut wire = server.start_wire("poll", &["--interval", "86400"]);
        let output = wire.read_until("waiting");
        assert!(output.contains("no news: waiting"), "{output}");
        assert_eq!(output.matches("> request line").count(), requests, "{output}");
        drop(wire);
        server.thread.join().unwrap();
    }
}

#[test]
fn a_long_line_of_an_unknown_format_has_an_id_as_well() {
    let line = format!("{{\"id\": \"a\", \"pad\": \"{}\"}}\n", "x".repeat(200_000));
    let (front, back) = line.split_at(100_000);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}{:x}\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\n\r\n", front.len(), back.len());
    let server = Raw::start(move |door| {
        let mut client = door.open();
        client.head();
        client.send(answer);
        expect_request(&mut client, "GET /x?last_message_id=a", "");
        client.send(format!("{head}5\r\n\n{{}}\n\n\r\n"));
        client.read_to_end();
    });
    let (code, output, complaint) = server.watched_by("stream", &["--interval", "0", "--count", "2"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1024 * 1024 + 1));
    let server = Raw::start(move |door| {
        let mut client = door.open();
        client.head();
        let _ = client.stream.write_all(long.as_bytes());
    });
    let (code, _, complaint) = server.watched_by("stream", &[], "");
    assert_eq!((code, complaint.as_str()), (Some(1), "wire: a line, or an event, is longer than 1 MiB\n"));
}

#[test]
fn a_field_of_the_command_line_takes_the_place_of_its_own() {
    let server = Raw::start(|door| {
        let mut client = door.open();
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
    let (code, output, complaint) = server.watched_by("ws", &options, "/wait\n");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}
