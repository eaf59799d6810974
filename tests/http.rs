//! HTTP/1.0 and HTTP/1.1 as raw bytes against the full server (RFC 9110, RFC 9112). A malformed request gets an error
//! and closes the connection. Valid requests are answered in order, wherever their bytes are split.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::{Client, TestServer, field};
use overwire::http::{format_date, parse_request_head};

/// A status code, the rule, and the vectors that violate it.
type Faults<'a> = &'a [(u16, &'a str, &'a [&'a str])];

fn without_dates(text: &str) -> String {
    text.lines().map(|line| if line.starts_with("Date: ") { "Date\n".into() } else { format!("{line}\n") }).collect()
}

/// Checks that a request with each of `faults` is refused: JSON with a sentence, `Connection: close`, and the end of
/// the connection. `request` makes a request of a vector. It is sent whole, with bytes left over, and byte by byte.
#[track_caller]
fn expect_refusals(faults: Faults, request: impl Fn(&str) -> String) {
    let server = TestServer::start();
    for (status, why, vectors) in faults {
        for vector in *vectors {
            let (bytes, shown) = (request(vector), vector.chars().take(100).collect::<String>());
            let mut whole = server.connect();
            let answer = whole.send(&bytes).answer();
            let facts = (answer.status, answer.field("Connection"), answer.field("Content-Type"));
            assert_eq!(facts, (*status, Some("close"), Some("application/json")), "{why}: {shown:?}: {answer:?}");
            let json = answer.json();
            let sentence = json["error"].as_str().unwrap();
            assert!(json["type"] == "error" && sentence.contains(' '), "{why}: {shown:?}: {json}");
            whole.expect_end();
            // Each prefix has the same error or is incomplete.
            for end in 0..bytes.len().min(1000) {
                if let Err(error) = parse_request_head(&bytes.as_bytes()[..end], 16 * 1024, 8 * 1024) {
                    assert_eq!(error.to_string(), sentence, "{why}: {shown:?}, {end} bytes of it");
                }
            }
            let mut with_more = server.connect();
            with_more.send(format!("{bytes}GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let mut bytewise = server.connect();
            bytewise.send_bytewise(&bytes);
            for (way, mut client) in [("with bytes left over", with_more), ("byte by byte", bytewise)] {
                let same = client.answer();
                assert_eq!(without_dates(&same.head), without_dates(&answer.head), "{way}: {shown:?}");
                assert_eq!(same.text(), answer.text(), "{way}: {shown:?}");
                client.expect_end();
            }
        }
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    let long = format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024));
    let faults: Faults = &[
        (505, "RFC 9110, section 15.6.6", &["GET / HTTP/2.0", "PRI * HTTP/2.0", "GET / HTTP/0.9"]),
        (400, "RFC 9112, section 2.3: HTTP-version", &["GET / http/1.1", "GET / HTTP/11", "GET / HTTP/1.10", "GET /"]),
        (400, "RFC 9112, section 3: single spaces", &["GET  / HTTP/1.1", "GET / HTTP/1.1 ", "\tGET / HTTP/1.1"]),
        (501, "RFC 9110, section 9.1", &["BREW / HTTP/1.1", "get / HTTP/1.1", "CONNECT localhost:80 HTTP/1.1"]),
        (400, "RFC 9110, section 5.6.2: a method is a token", &["G@T / HTTP/1.1", "G\0T / HTTP/1.1"]),
        (400, "RFC 9112, section 3.2: the forms of a target", &["GET * HTTP/1.1", "GET localhost/ HTTP/1.1"]),
        (400, "RFC 9110, section 4.2: a host, no userinfo", &["GET http:///a HTTP/1.1", "GET http://a@b/ HTTP/1.1"]),
        (400, "RFC 3986, section 3.3", &["GET /#here HTTP/1.1", "GET /a\0b HTTP/1.1", "GET /a\rb HTTP/1.1"]),
        (400, "RFC 3986, section 2.1: escapes", &["GET /% HTTP/1.1", "GET /%4g HTTP/1.1", "GET /?a=%0 HTTP/1.1"]),
        (400, "text without NUL", &["GET /health%00 HTTP/1.1", "GET /%ff HTTP/1.1"]),
        (414, "RFC 9110, section 15.5.15", &[&long]),
    ];
    expect_refusals(faults, |line| format!("{line}\r\nHost: localhost\r\n\r\n"));
}

#[test]
fn malformed_fields_are_refused() {
    let (many, long) = ("A: b\r\n".repeat(99) + "A: b", format!("A: {}", "b".repeat(16 * 1024)));
    let faults: Faults = &[
        (400, "RFC 9112, section 3.2: one Host", &["Host: localhost", "Host: other.example"]),
        (400, "RFC 9112, section 5.1: no space before the colon", &["A : b", "A\t: b"]),
        (400, "RFC 9112, section 5.1: a name is a token", &[": b", "A", "A(: b", "A\0: b"]),
        (400, "RFC 9112, section 5.2: obs-fold", &["A: b\r\n c", "A: b\r\n\tc", " A: b"]),
        (400, "RFC 9112, section 2.2: a bare CR", &["A: b\rc", "A: b\r\r", "A: b\r\n\rC: d"]),
        (400, "RFC 9110, section 5.5: NUL and other controls", &["A: b\0c", "A: b\x07"]),
        (400, "RFC 9110, section 8.6: 1*DIGIT", &["Content-Length: +5", "Content-Length: -5", "Content-Length: 0x5"]),
        (400, "RFC 9110, section 8.6: empty", &["Content-Length:", "Content-Length: 5,", "Content-Length: 5 5"]),
        (400, "RFC 9110, section 8.6: unequal", &["Content-Length: 5, 6", "Content-Length: 5\r\nContent-Length: 6"]),
        (400, "RFC 9110, section 8.6: overflow", &["Content-Length: 18446744073709551616"]),
        (413, "RFC 9110, section 15.5.14", &["Content-Length: 18446744073709551615", "Content-Length: 1048577"]),
        (400, "RFC 9112, section 6.3: framed twice", &["Content-Length: 5\r\nTransfer-Encoding: chunked"]),
        (400, "RFC 9112, section 6.1: chunked once", &["Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"]),
        (501, "RFC 9112, section 6.1: an unknown coding", &["Transfer-Encoding: gzip, chunked"]),
        (501, "in two field lines", &["Transfer-Encoding: x;y=z\r\nTransfer-Encoding: chunked"]),
        (
            400,
            "RFC 9112, section 6.3: chunked is last",
            &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked, gzip"],
        ),
        (400, "no other coding", &["Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked"]),
        (
            400,
            "exactly `chunked`",
            &["Transfer-Encoding: xchunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding:"],
        ),
        (417, "RFC 9110, section 10.1.1", &["Expect: a-miracle", "Expect: 100-continue, a-miracle"]),
        (431, "RFC 6585, section 5", &[&many, &long]),
    ];
    expect_refusals(faults, |field| format!("POST /api/send HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"));
    let hosts = ["A: b", "Host: a b", "Host: a/b", "Host: a:b", "Host: a, b", "Host: ::1"];
    expect_refusals(&[(400, "RFC 9112, section 3.2", &hosts)], |host| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n"));
    let old = ["POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"];
    expect_refusals(&[(400, "RFC 9112, section 6.1", &old)], str::to_owned);
}

#[test]
fn malformed_chunks_are_refused() {
    let (line, trailers) = (format!("1;{}\r\n", "e".repeat(2000)), format!("0\r\n{}\r\n", "A: b\r\n".repeat(2000)));
    let faults: Faults = &[
        (400, "RFC 9112, section 7.1: hex digits", &["+5\r\nhello\r\n", "-5\r\nhello\r\n", " 5\r\nhello\r\n"]),
        (400, "no other characters", &["0x5\r\nhello\r\n", "0_5\r\nhello\r\n", "5 5\r\nhello\r\n", "5h\r\nhello\r\n"]),
        (400, "at least one, at most 15", &["\r\nhello\r\n", ";a=b\r\nhello\r\n", "11111111111111111\r\n"]),
        (400, "a bare CR or LF", &["5\nhello\r\n", "5\rhello\r\n", "5;a\rb\r\nhello\r\n", "5\r\nhello\n0\r\n"]),
        (400, "an LF that another parser takes for the end of the line", &["5;a\nb\r\nhello\r\n"]),
        (400, "data longer or shorter than its size", &["3\r\nhello\r\n", "5\r\nhello0\r\n", "6\r\nhello\r\n0\r\n"]),
        (400, "trailer fields", &["0\r\nA : b\r\n\r\n", "0\r\n folded\r\n\r\n", "0\r\nA: b\nC: d\r\n\r\n"]),
        (400, "a line or a trailer section that is too long", &[&line, &trailers]),
        (413, "an error at the chunk-size", &["100001\r\n", "fffffffffffffff\r\n"]),
    ];
    let head = "POST /api/send HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    expect_refusals(faults, |chunks| format!("{head}{chunks}0\r\n\r\n"));
}

#[test]
fn pipelined_requests_are_answered_in_order_wherever_their_bytes_are_split() {
    // Requests with LF for CR LF, the start of each answer, and a part of it. The error about a number in `message`
    // shows that the content arrived.
    let requests = [
        ("GET /api/history?room=a HTTP/1.1\nHost: localhost\n\n", "200 OK", r#""room":"a""#),
        // RFC 9112, section 2.2: empty lines before a request are ignored.
        ("\n\nGET /api/history?room=b HTTP/1.1\nhOST:localhost \t\n\n", "200 OK", r#""room":"b""#),
        // Section 3.2.2: the authority of the absolute-form wins over Host.
        ("GET http://localhost:1/api/history?room=c HTTP/1.1\nHost: foreign.example\n\n", "200 OK", r#""room":"c""#),
        ("GET HTTP://foreign.example/ HTTP/1.1\nHost: localhost\n\n", "421 Misdirected Request", "foreign.example"),
        ("POST /send HTTP/1.1\nHost: localhost\nContent-Length: 13\n\n{\"message\":1}", "400 Bad Request", "not 1"),
        // RFC 9110, section 8.6: equal values in a list are one value.
        ("POST /send HTTP/1.1\nHost: localhost\nContent-Length: 13, 13\n\n{\"message\":2}", "400 Bad Request", "not 2"),
        // RFC 9112, section 7.1: chunks, extensions, trailers. Section 7: names of codings in any case.
        (
            "POST /send HTTP/1.1\nHost: localhost\nTransfer-Encoding: CHUNKED\n\n\
             4;a=b;c=\"d e\"\n{\"me\n0009\nssage\":3}\n000;last\nChecksum: 1\nB:\n\n",
            "400 Bad Request",
            "not 3",
        ),
        // RFC 9110, section 9.3.1: the content of a GET means nothing, but it must be skipped.
        ("GET /nothing HTTP/1.1\nHost: localhost\nContent-Length: 5\n\nGET /", "404 Not Found", "/nothing"),
        ("OPTIONS * HTTP/1.1\nHost: localhost\n\n", "204 No Content", "Allow: GET, HEAD, OPTIONS"),
        ("DELETE /health HTTP/1.1\nHost: localhost\n\n", "405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS"),
        ("GET /api/history HTTP/1.0\nConnection: Keep-Alive\n\n", "200 OK", "Connection: keep-alive"),
        // RFC 9112, section 9.6: nothing is read after a request with `Connection: close`.
        ("GET /api/history HTTP/1.1\nHost: localhost\nConnection: a, CLOSE\n\n", "200 OK", "Connection: close"),
        ("GET /api/history HTTP/1.1\nHost: localhost\n\n", "", ""),
    ];
    let server = TestServer::start();
    let bytes = requests.map(|(request, ..)| request).concat().replace('\n', "\r\n");
    let in_pieces_of = |size| {
        let mut client = server.connect();
        for piece in bytes.as_bytes().chunks(size) {
            client.send(piece);
        }
        client.finish(); // a half-closed client still gets its answers
        without_dates(&String::from_utf8(client.read_to_end()).unwrap())
    };
    let whole = in_pieces_of(bytes.len());
    let answers: Vec<_> = whole.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(answers.len(), requests.len() - 1, "{whole}");
    for ((request, status, part), answer) in requests.iter().zip(answers) {
        assert!(answer.starts_with(status) && answer.contains(part), "{request}: {answer}");
    }
    for size in [1, 2, 7, 100] {
        assert_eq!(in_pieces_of(size), whole, "in pieces of {size}");
    }
}

#[test]
fn a_held_poll_delays_the_answers_after_it() {
    let server = TestServer::start();
    let mut client = server.connect();
    let request = |target| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(["/health", "/api/poll?client_id=a", "/api/history"].map(request).concat());
    assert_eq!(client.answer().json()["status"], "ok");
    server.wait_for_open("long_poll", 1);
    server.publish("general", "hello");
    assert_eq!(client.answer().json()["status"], "success");
    assert_eq!(client.answer().texts(), ["hello"]); // the answer was made after the message was published
}

#[test]
fn http_1_0_connections_persist_only_on_request() {
    let server = TestServer::start();
    let mut client = server.connect();
    let kept = client.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer();
    assert_eq!((kept.status, kept.field("Connection")), (200, Some("keep-alive")));
    let last = client.send("GET /health HTTP/1.0\r\n\r\n").answer();
    assert_eq!((last.status, last.field("Connection")), (200, Some("close")));
    client.expect_end();
}

#[test]
fn http_1_0_streams_are_not_chunked_and_end_with_the_connection() {
    let server = TestServer::start();
    let mut client = server.connect();
    let head = client.send("GET /api/stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").head();
    assert_eq!((field(&head, "Connection"), field(&head, "Transfer-Encoding")), (Some("close"), None), "{head}");
    server.wait_for_open("stream", 1);
    server.publish("general", "hello");
    assert!(client.read_until("\n").starts_with(r#"{"id":""#)); // no chunk-size before it
    server.advance(15);
    assert_eq!(client.read_until("\n"), "\n");
    server.shut_down();
    client.expect_end();
}

#[test]
fn head_is_answered_with_fields_and_no_content() {
    let server = TestServer::start();
    let mut client = server.connect();
    let request = |target| format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for text in ["one", "two"] {
        server.publish("general", text);
    }
    for target in [
        "/",
        "/api/history",
        "/api/history?limit=1&room=general",
        "/api/history?room=nobody",
        "/api/messages",
        "/api/messages?last_message_id=00000000-0000-8000-8000-000000000007",
        "/nothing",
    ] {
        let head = client.send(request(target)).head();
        let answer = client.get(target); // follows directly
        assert_eq!(without_dates(&head), without_dates(&answer.head), "{target}");
        assert!(!answer.content.is_empty());
    }
    assert_eq!(client.get("/api/stats").json()["transports"]["short_poll"]["messages"], 4, "HEAD gives no message");
}

/// RFC 9110, section 9.3.2: an answer to HEAD has no content. The parser answers too.
#[test]
fn head_that_is_refused_gets_no_content() {
    let server = TestServer::start();
    let (long, many) = ("a".repeat(20_000), "A: b\r\n".repeat(101));
    for (status, request) in [
        (400, "HEAD /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (400, "\r\nHEAD / HTTP/1.1\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
        (413, "HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n"),
        (414, &format!("HEAD /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        (417, "HEAD / HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n"),
        (431, &format!("HEAD / HTTP/1.1\r\nHost: localhost\r\nA: {long}\r\n\r\n")),
        (431, &format!("HEAD / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")),
        (501, "HEAD / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        (505, "HEAD / HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut client = server.connect();
        let head = client.send(request).head();
        let get = server.connect().send(request.replace("HEAD /", "GET /")).answer();
        assert_eq!((get.status, without_dates(&head)), (status, without_dates(&get.head)), "{request:.60}");
        client.expect_end();
    }
    let begun = "HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n";
    let mut late = ["", "\r\n12"].map(|rest| {
        let mut client = server.connect();
        client.send(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n{begun}{rest}")).answer();
        client
    });
    server.advance(31);
    let mut cut = server.connect();
    cut.send(begun).finish();
    for (client, status) in late.iter_mut().map(|client| (client, "408")).chain([(&mut cut, "400")]) {
        assert_eq!(&client.head()[9..12], status);
        client.expect_end();
    }
}

#[test]
fn head_of_a_live_resource_has_the_head_of_get() {
    let server = TestServer::start();
    server.publish("general", "hello");
    let message = server.publish("general", "again");
    let mut client = server.connect();
    let head_of = |client: &mut Client, method: &str, target: &str| {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).head_alone()
    };
    for target in [
        "/api/stream",
        &format!("/api/stream?last_message_id={message}"),
        "/api/events?room=general",
        "/api/events?last_event_id=41",
        "/sse",
        "/events",
        "/api/poll?client_id=a&last_message_id=00000000-0000-8000-8000-000000000007",
    ] {
        let head = head_of(&mut client, "HEAD", target);
        // RFC 9110, section 9.3.2: a field that depends on the content may be left out.
        let get = head_of(&mut server.connect(), "GET", target);
        let lines = |head: &str| -> Vec<String> {
            let is_kept = |line: &&str| !line.starts_with("Date: ") && !line.starts_with("Content-Length: ");
            head.lines().filter(is_kept).map(str::to_owned).collect()
        };
        assert_eq!(lines(&head), lines(&get), "{target}");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nContent-Type: "), "{target}: {head}");
    }
    for target in [
        "/api/poll",
        "/api/poll?client_id=a&timeout=1",
        "/api/poll?client_id=a&last_message_id=41",
        "/api/stream?room=",
        "/api/stream?last_message_id=41",
        "/api/events?client_id=",
        "/api/messages?last_message_id=41",
        "/poll?last_message_id=41",
        "/events?client_id=",
    ] {
        let head = head_of(&mut client, "HEAD", target);
        let get = client.get(target);
        assert_eq!((get.status, without_dates(&head)), (400, without_dates(&get.head)), "{target}");
    }
    // Nothing is held, streamed or remembered.
    for target in ["/api/poll?client_id=b", "/api/stream", "/api/events", "/sse", "/poll", "/events"] {
        let head = head_of(&mut client, "HEAD", target);
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("no-store"), "{target}: {head}");
    }
    server.wait_for("the end of the streams of GET", |stats| {
        ["long_poll", "stream", "sse"].iter().all(|transport| stats["transports"][transport]["open"] == 0)
    });
    let stats = client.get("/api/stats").json();
    assert_eq!((&stats["active_clients"], &stats["mailboxes"]["connected"]), (&1.into(), &0.into()), "{stats}");
}

#[test]
fn compressed_content_is_refused_with_the_codings_that_are_not() {
    let server = TestServer::start();
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";
    let mut client = server.connect();
    let mut post = |target: &str, coding: &str, content: &[u8]| {
        let (length, fields) = (content.len(), "HTTP/1.1\r\nHost: localhost\r\nContent-Encoding");
        let head = format!("POST {target} {fields}: {coding}\r\nContent-Length: {length}\r\n\r\n");
        client.send([head.as_bytes(), content].concat()).answer()
    };
    for target in ["/api/send", "/send", "/poll", "/sse/message"] {
        for coding in ["gzip", "identity, GZIP", "br"] {
            let answer = post(target, coding, gzip);
            // RFC 9110, section 15.5.16.
            assert_eq!((answer.status, answer.field("Accept-Encoding")), (415, Some("identity")), "{answer:?}");
            assert!(answer.json()["error"].as_str().unwrap().starts_with("Content-Encoding: expected"), "{answer:?}");
        }
    }
    for coding in ["identity", "", "Identity, identity"] {
        let answer = post("/send", coding, br#"{"message": "1"}"#);
        assert_eq!((answer.status, answer.field("Accept-Encoding")), (200, None), "{answer:?}");
    }
    assert_eq!(post("/poll", "gzip", b"").status, 200, "there is no content");
}

#[test]
fn errors_say_why_content_is_not_json() {
    let server = TestServer::start();
    let mut client = server.connect();
    let post = |client: &mut Client, content: &[u8]| {
        let length = content.len();
        let head = format!("POST /send HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        client.send([head.as_bytes(), content].concat()).answer()
    };
    for (content, sentence) in [
        (
            &br#"{"message": "\ud83d"}"#[..],
            "the content is JSON with \\ud83d at line 1 column 14, which is half of a character: expected a surrogate pair",
        ),
        (b"{\"message\": \"\xff\"}", "the content is not UTF-8 at line 1 column 14: expected JSON in UTF-8"),
        (b"{\"message\": x}", "the content is not JSON: expected value at line 1 column 13"),
    ] {
        let answer = post(&mut client, content);
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some(sentence)));
    }
    assert_eq!(post(&mut client, "\u{feff}{\"message\": \"\\ud83d\\ude00\"}".as_bytes()).status, 200);
    let mut socket = server.websocket("/api/ws");
    let error = socket.send_text(r#"{"sender": "a", "text": "\ude00"}"#).message().json();
    assert!(error["error"].as_str().unwrap().starts_with("the message is JSON with \\ude00 at line 1"), "{error}");
    let mut peer = server.websocket("/api/signal");
    peer.message();
    let error = peer.send_text(r#"{"type": "\ud83d"}"#).message().json();
    assert!(error["error"].as_str().unwrap().contains("JSON with \\ud83d at line 1 column 11"), "{error}");
}

#[test]
fn a_204_has_no_framing() {
    let server = TestServer::start();
    let mut client = server.connect();
    let head = client.send("OPTIONS /api/send HTTP/1.1\r\nHost: localhost\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 204 ") && field(&head, "Allow") == Some("POST, OPTIONS"), "{head}");
    // RFC 9110, section 8.6; RFC 9112, section 6.1.
    assert_eq!((field(&head, "Content-Length"), field(&head, "Transfer-Encoding")), (None, None));
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn continue_is_sent_only_to_clients_that_wait() {
    let server = TestServer::start();
    let connect_and_send = |version, framing, content| {
        let mut client = server.connect();
        let head = format!("POST /send HTTP/{version}\r\nHost: localhost\r\nExpect: 100-Continue\r\n{framing}\r\n\r\n");
        client.send(head + content);
        client
    };
    let chunk = "f\r\n{\"message\":\"1\"}\r\n0\r\n\r\n";
    for (framing, content) in [("Content-Length: 15", &chunk[3..18]), ("Transfer-Encoding: chunked", chunk)] {
        let mut client = connect_and_send("1.1", framing, "");
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.send(content).answer().status, 200);
        // RFC 9110, section 10.1.1: no 100 if some of the content has already arrived.
        assert_eq!(connect_and_send("1.1", framing, content).answer().status, 200);
    }
    // No 100 if the content is known to be too long, or for a 1.0 client, which does not know the status code.
    assert_eq!(connect_and_send("1.1", "Content-Length: 9999999", "").answer().status, 413);
    assert_eq!(connect_and_send("1.0", "Content-Length: 15", "").send(&chunk[3..18]).answer().status, 200);
}

#[test]
fn answers_have_the_date() {
    let server = TestServer::start();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let refused = server.connect().send("GET / HTTP/1.1\r\n\r\n").answer();
    let answers = [server.get("/health"), server.get("/nothing"), refused];
    let dates: Vec<_> = (before..=now()).map(format_date).collect();
    for answer in answers {
        assert!(dates.iter().any(|date| answer.field("Date") == Some(date)), "{answer:?}: expected {dates:?}");
    }
}

#[test]
fn paths_are_decoded_once_and_stay_inside_the_folder() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/static");
    for server in [TestServer::start(), TestServer::with(|config| config.static_folder = Some(folder.into()))] {
        for target in ["/index.html", "/%69ndex%2Ehtml"] {
            assert_eq!(server.get(target).status, 200, "{target}");
        }
        let outside = ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/..%2fCargo.toml", "/index.html/../../Cargo.toml"];
        for target in outside.into_iter().chain(["/%2569ndex.html", "//etc/passwd", "/%2fetc/passwd"]) {
            assert_eq!(server.get(target).status, 404, "{target}");
        }
    }
}

#[test]
fn clients_that_send_too_much_can_read_the_answer() {
    let server = TestServer::start();
    for framing in ["Content-Length: 2097152", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        client.send(format!("POST /api/send HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n200000\r\n"));
        // RFC 9112, section 9.6: with unread input, closing would reset the connection and destroy the answer.
        client.send(vec![b'x'; 2 << 20]);
        assert_eq!(client.answer().status, 413);
        client.expect_end();
    }
}

#[test]
fn half_closing_a_poll_is_a_hang_up() {
    let server = TestServer::start();
    let half_close = |mut client: Client| {
        client.finish();
        client
    };
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=a");
    server.wait_for_open("long_poll", 1);
    half_close(poll).expect_end();
    server.wait_for_open("long_poll", 0);
    let mut at_once = server.connect();
    at_once.send_get("/api/poll?client_id=a");
    half_close(at_once).expect_end();
    let mut early = server.connect();
    early.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(half_close(early).answer().status, 400);
}
