//! Secrets in the output of `wire`.

use super::support::{Ended, ScriptedServer, transcript};

const ANSWER: &str = "HTTP/1.1 302 Found\r\nLocation: /y?ticket=in-location\r\nSet-Cookie: session=in-answer\r\n\
                      Content-Length: 0\r\n\r\n";

/// Asks with secrets in all places. The answer comes byte by byte.
fn run(more: &[&str]) -> Ended {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        let head = client.head();
        assert!(head.contains("Authorization: Bearer in-request\r\nCookie: a=in-request\r\n"), "{head}");
        client.send_bytewise(ANSWER);
        let head = client.head();
        assert!(head.starts_with("GET /y?ticket=in-location ") && head.contains("a=in-request"), "{head}");
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    let fields = ["--header", "Authorization: Bearer in-request", "--header", "Cookie: a=in-request"];
    server.run_wire("poll", &[&["--count", "1"], &fields[..], more].concat(), "")
}

#[test]
fn secrets_are_masked_byte_for_byte_and_still_sent() {
    let (code, output, complaint) = run(&[]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{output}");
    let expected = r#"
        * connected to ADDRESS
        > request line   GET /x HTTP/1.1\r\n
        > field line     Host: ADDRESS\r\n
        >                Authorization: *****************\r\n             masked
        >                Cookie: ************\r\n                         masked
        > end of head    \r\n
        < status line    HTTP/1.1 302 Found\r\n
        < field line     Location: /y?ticket=***********\r\n              masked
        <                Set-Cookie: *****************\r\n                masked
        <                Content-Length: 0\r\n
        < end of head    \r\n                                             0 bytes of content follow
        * redirected to http://ADDRESS/y?ticket=***********
        > request line   GET /y?ticket=*********** HTTP/1.1\r\n           masked
    "#;
    assert!(output.starts_with(&transcript(expected)), "{output}");
    assert!(!output.contains("in-"), "{output}");
}

#[test]
fn secrets_are_printed_on_request() {
    let (_, output, _) = run(&["--show-secrets"]);
    for line in [
        r"Authorization: Bearer in-request\r\n",
        r"Cookie: a=in-request\r\n",
        r"Set-Cookie: session=in-answer\r\n",
        "* redirected to http://ADDRESS/y?ticket=in-location",
        r"GET /y?ticket=in-location HTTP/1.1\r\n",
    ] {
        assert!(output.contains(line) && !output.contains("masked"), "{output}");
    }
}

#[test]
fn secrets_of_a_malformed_head_are_masked() {
    let server = ScriptedServer::start(|listener| {
        let mut client = listener.accept();
        client.head();
        client.send("HTTP/1.1 200 OK\r\nmalformed\r\nSet-Cookie: in-answer\r\n\r\n");
    });
    let (_, output, _) = server.run_wire("poll", &["--count", "1", "--no-reconnect", "--all"], "");
    assert!(output.contains("malformed") && output.contains("2a 2a 2a") && !output.contains("61 6e 73"), "{output}");
}
