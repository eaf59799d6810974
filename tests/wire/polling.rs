//! `wire poll` and `wire stream`: requests, answers, and the next cursor.

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use overwire::http::format_date;

use super::support::{ScriptedServer, expect_request, server_that_answers, transcript};
use crate::common::{Client, in_enough_time};

#[test]
fn polls_resume_after_the_last_answer_through_failures() {
    let answer = |content: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len());
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "");
        client.send(answer(r#"{"messages": [{"id": "5"}], "last_message_id": "6"}"#));
        expect_request(&mut client, "GET /x?last_message_id=6", "");
        client.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n");
        drop(client);
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x?last_message_id=6", "");
        client.send_bytewise(answer("{\"messages\": []}\n"));
        expect_request(&mut client, "GET /x?last_message_id=6", "");
        client.send(answer(r#"{"messages": [{"id": "7"}]}"#));
        expect_request(&mut client, "GET /x?last_message_id=7", "");
        client.send("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone");
    });
    let (code, output, complaint) = server.run_wire("poll", &["--interval", "0.01"], "");
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
    // A slow server leaves no time to wait.
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
fn polls_without_news_wait() {
    let answer = |content: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len());
    let no_id = answer(r#"{"messages": [{"text": "x"}]}"#);
    let same_id = answer(r#"{"messages": [{"id": "1"}]}"#);
    for (answer, requests) in [(no_id, 1), (same_id, 2)] {
        let server = ScriptedServer::start(move |listener| {
            let mut client = listener.accept();
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
fn streams_resume_after_the_last_line() {
    let answer = |content: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{content}\r\n", content.len())
    };
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "A: b\r\n");
        client.send(answer("{\"id\": \"a 1\"}\n\n{\"no\": \"id\"}\n{\"cut\""));
        drop(client);
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x?last_message_id=a%201", "A: b\r\n");
        client.send(answer("{\"id\": \"2\"}\n") + "0\r\n\r\n");
        expect_request(&mut client, "GET /x?last_message_id=2", "A: b\r\n");
        client.send(answer("{\"id\": \"3\"}\n{\"id\": \"4\"}\n"));
        client.expect_end();
    });
    let options = ["--interval", "0", "--header", "A:b", "--count", "4"];
    let (code, output, complaint) = server.run_wire("stream", &options, "");
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
fn long_lines_of_unknown_content_have_ids() {
    let line = format!("{{\"id\": \"a\", \"pad\": \"{}\"}}\n", "x".repeat(200_000));
    let (front, back) = line.split_at(100_000);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}{:x}\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\n\r\n", front.len(), back.len());
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        client.head();
        client.send(answer);
        expect_request(&mut client, "GET /x?last_message_id=a", "");
        client.send(format!("{head}5\r\n\n{{}}\n\n\r\n"));
        client.read_to_end();
    });
    let (code, output, complaint) = server.run_wire("stream", &["--interval", "0", "--count", "2"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1024 * 1024 + 1));
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        client.head();
        let _ = client.stream.write_all(long.as_bytes());
    });
    let (code, _, complaint) = server.run_wire("stream", &[], "");
    assert_eq!((code, complaint.as_str()), (Some(1), "wire: a line, or an event, is longer than 1 MiB\n"));
}

#[test]
fn closed_idle_connections_are_replaced() {
    let server = ScriptedServer::start(|listener| {
        for target in ["/x", "/x?last_message_id=5"] {
            let mut client = listener.accept();
            expect_request(&mut client, &format!("GET {target}"), "");
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}");
        }
    });
    let (code, output, complaint) = server.run_wire("poll", &["--count", "2", "--interval", "0", "--no-reconnect"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    // The end is a reset if the next request was sent before the end was read.
    assert!(output.contains(" while it was idle\n* connected to "), "{output}");
}

/// A server whose first connection ends with an unrequested 408, which `end` sends.
fn server_that_says_408(end: impl FnOnce(&mut Client, &str) + Send + 'static) -> ScriptedServer {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}";
    let timeout = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "");
        client.send(answer);
        end(&mut client, timeout);
        drop(client);
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x?last_message_id=5", "");
        client.send(answer);
        client.read_to_end();
    })
}

#[test]
fn a_408_on_an_idle_connection_closes_it() {
    in_enough_time(Duration::from_millis(500), |time| {
        let interval = time.as_secs_f64().to_string();
        let (idle, is_idle) = mpsc::channel::<()>();
        let server = server_that_says_408(move |client, timeout| {
            is_idle.recv().unwrap();
            client.send(timeout);
            client.finish();
            client.read_to_end();
        });
        let mut wire = server.start_wire("poll", &["--count", "2", "--interval", &interval, "--no-reconnect"]);
        wire.read_until("no news: waiting");
        idle.send(()).unwrap();
        let (code, output, complaint) = wire.end();
        server.thread.join().unwrap();
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
        assert!(output.contains("* the server sent \"HTTP/1.1 408 Request Timeout\" before it was asked"), "{output}");
    });
}

#[test]
fn a_408_that_crosses_a_request_is_retried() {
    let server = server_that_says_408(|client, timeout| {
        expect_request(client, "GET /x?last_message_id=5", "");
        client.send(timeout);
    });
    let options = ["--count", "2", "--interval", "0", "--no-reconnect"];
    let (code, output, complaint) = server.run_wire("poll", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn a_408_on_a_fresh_connection_is_retried() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        client.head();
        client.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        drop(client);
        let mut client = listener.accept();
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    let (code, output, complaint) = server.run_wire("poll", &["--count", "1", "--interval", "0"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn unrequested_answers_are_ignored() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}";
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "");
        client.send(answer.to_owned() + "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x?last_message_id=5", "");
        client.send(answer);
    });
    let options = ["--count", "2", "--interval", "0", "--no-reconnect"];
    let (code, output, complaint) = server.run_wire("poll", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn redirects_are_followed_as_in_a_browser() {
    let other = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        // Cookie, Authorization and Host are for the first server.
        expect_request(&mut client, "GET /there?a=b", "X: y\r\n");
        client.send("HTTP/1.1 308 Permanent Redirect\r\nLocation: again\r\nContent-Length: 0\r\n\r\n");
        expect_request(&mut client, "GET /again", "X: y\r\n");
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"last_message_id\":\"5\"}");
        client.read_to_end();
    });
    let elsewhere = other.url().replace("/x", "/there?a=b#c");
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        let fields = "Authorization: s\r\ncookie: t\r\nX: y\r\n";
        for (line, status, location) in [
            ("GET /x", "301 Moved Permanently", "/b/c/d"),
            ("GET /b/c/d", "302 Found", "../e?f"),
            ("GET /b/e?f", "303 See Other", "?g"),
            ("GET /b/e?g", "307 Temporary Redirect", &*elsewhere),
        ] {
            expect_request(&mut client, line, fields);
            client.send(format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
        }
        // The next question begins at the first address.
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x?last_message_id=5", fields);
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    let fields = ["Authorization: s", "cookie: t", "X: y"].map(|field| ["--header", field]).concat();
    let options = [&["--count", "2", "--interval", "0"], &fields[..]].concat();
    let (code, output, complaint) = server.run_wire("poll", &options, "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    other.thread.join().unwrap();
    let redirects: Vec<_> = output.lines().filter(|line| line.starts_with("* redirected to http://")).collect();
    assert_eq!(
        redirects[..3],
        ["/b/c/d", "/b/e?f", "/b/e?g"].map(|path| format!("* redirected to http://ADDRESS{path}"))
    );
    assert!(redirects.len() == 5 && redirects[4].ends_with("/again"), "{output}");
}

#[test]
fn credentials_do_not_come_back_with_a_redirect() {
    let (elsewhere, address) = mpsc::channel::<String>();
    let other = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "");
        let location = address.recv().unwrap();
        client.send(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
        client.read_to_end();
    });
    let url = other.url();
    let server = ScriptedServer::start(move |listener| {
        let mut client = listener.accept();
        expect_request(&mut client, "GET /x", "Authorization: s\r\n");
        let back = format!("http://{}/back", client.stream.local_addr().unwrap());
        client.send(format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"));
        elsewhere.send(back).unwrap();
        let mut client = listener.accept();
        expect_request(&mut client, "GET /back", "");
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    let options = ["--count", "1", "--header", "Authorization: s"];
    let (code, output, complaint) = server.run_wire("poll", &options, "");
    other.thread.join().unwrap();
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
}

#[test]
fn redirects_are_bounded_and_their_content_is_not_waited_for() {
    let server = ScriptedServer::start(|listener| {
        for _ in 0..=20 {
            let mut client = listener.accept();
            client.head();
            client.send("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100\r\n\r\nmoved");
            client.read_to_end();
        }
    });
    let (code, output, complaint) = server.run_wire("stream", &[], "");
    let sentence = "wire: the server redirected more than 20 times (WHATWG Fetch, section 4.4)\n";
    assert_eq!((code, complaint.as_str()), (Some(1), sentence), "{output}");
    assert_eq!(output.matches("> request line   GET /x HTTP/1.1").count(), 21);
}

#[test]
fn retry_after_is_waited_for() {
    let refusal =
        |status: &str, value: &str| format!("HTTP/1.1 {status}\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (answer, waits) in [
        (refusal("503 Service Unavailable", "7"), 7.0..=7.0),
        (refusal("429 Too Many Requests", "8"), 8.0..=8.0),
        (refusal("500 Internal Server Error", "86400"), 300.0..=300.0),
        (refusal("503 Service Unavailable", &format_date(now + 90)), 60.0..=90.0),
        (refusal("503 Service Unavailable", "Sun, 06 Nov 1994 08:49:37 GMT"), 0.0..=0.1),
        (refusal("503 Service Unavailable", "soon"), 0.0..=0.1),
    ] {
        for transport in ["poll", "stream"] {
            let server = server_that_answers(answer.clone());
            let mut wire = server.start_wire(transport, &["--interval", "0"]);
            let output = wire.read_until(": waiting ");
            server.thread.join().unwrap();
            let waited = output.rsplit_once(": waiting ").and_then(|(_, rest)| rest.split_once(" s before")).unwrap().0;
            assert!(waits.contains(&waited.parse::<f64>().unwrap()), "{output}");
            let is_bounded = output.contains("* the server asked to wait 86400.0 s: 300.0 s is the most\n");
            assert_eq!(is_bounded, *waits.end() == 300.0, "{output}");
        }
    }
}

#[test]
fn folded_field_lines_and_many_fields_are_taken() {
    let many = "A: b\r\n".repeat(500);
    let answer = format!(
        "HTTP/1.1 200 OK\r\n{many}Content-Type: application/x-ndjson;\r\n charset=utf-8\r\n\
         Content-Length:\r\n\t3\r\n\r\n{{}}\n"
    );
    let (code, output, complaint) = server_that_answers(answer).run_wire("poll", &["--count", "1"], "");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let end = r"
        <                Content-Type: application/x-ndjson;\r\n charset=utf-8\r\n
        <                Content-Length:\r\n\t3\r\n
        < end of head    \r\n                                             3 bytes of content follow
        < JSON line      {}\n
        * closing after 1 answer
    ";
    assert!(output.ends_with(&transcript(end)), "{output}");
}

#[test]
fn violations_in_answers_are_named_with_their_section() {
    let too_long = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(3000));
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
        (&too_long, "the head is longer than 16384 bytes (RFC 9110, section 5.4)"),
        ("HTTP/1.1 302 Found\r\n\r\n", "the server answered 302"),
        ("HTTP/1.1 304 Not Modified\r\nLocation: /y\r\n\r\n", "the server answered 304"),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://a/\r\n\r\n",
            "the redirect fails: \"https://a/\" needs TLS, which wire does not have: --via runs a program that adds it \
             (WHATWG Fetch, section 4.4)",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "the server closed the connection"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "the server answered 101, and was not asked to switch protocols (RFC 9110, section 7.8)",
        ),
        ("", "the server closed the connection"),
    ];
    for (answer, sentence) in cases {
        for transport in ["poll", "stream"] {
            let ended = server_that_answers(answer.to_owned()).run_wire(transport, &["--no-reconnect"], "");
            assert_eq!((ended.0, ended.2), (Some(1), format!("wire: {sentence}\n")), "{answer:?}: {}", ended.1);
        }
    }
    let malformed = server_that_answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n");
    let (_, output, _) = malformed.run_wire("stream", &[], "");
    assert!(
        output.ends_with(
            "< chunk-size     1\\r\\n                                            1 byte\n\
         < chunk-data     a\n\
         < unlabelled     62 0d 0a                                         b..\n"
        ),
        "{output}"
    );
}
