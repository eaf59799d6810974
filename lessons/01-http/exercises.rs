//! The exercises of lesson 01. Each test fails until you have done what it asks for:
//! `cargo test --test 01-exercises NAME`.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::process::Command;

use common::{Answer, Client, Running};

/// Sends the lesson's server one request without content.
fn ask(method: &str, target: &str, fields: &str) -> Answer {
    let server = Running::start(Command::new(env!("CARGO_BIN_EXE_01-http")).args(["--port", "0"]));
    let mut client = Client::connect(server.address);
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).answer()
}

/// OPTIONS asks for the methods of a resource (RFC 9110, section 9.3.7).
#[test]
fn options_lists_the_allowed_methods() {
    let answer = ask("OPTIONS", "/", "");
    assert_eq!(answer.status, 204, "204: the fields are the answer");
    assert_eq!(answer.field("Allow"), Some("GET, HEAD, POST, OPTIONS"));
    let refused = ask("DELETE", "/", "");
    assert_eq!(refused.status, 405);
    assert_eq!(refused.field("Allow"), Some("GET, HEAD, POST, OPTIONS"), "the refusal says the same");
}

/// A client that asks for JSON gets JSON (RFC 9110, section 12.5.1). It is enough to find
/// `application/json` among the elements of Accept.
#[test]
fn list_is_json_when_accepted() {
    let answer = ask("GET", "/echo?a=b", "Accept: text/html, application/json\r\nX-Quote: \"\r\n");
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    assert_eq!(answer.field("Vary"), Some("Accept"), "the answer depends on that field");
    let expected = serde_json::json!({
        "method": "GET",
        "target": "/echo?a=b",
        "version": "HTTP/1.1",
        "fields": [["Host", "localhost"], ["Accept", "text/html, application/json"], ["X-Quote", "\""]],
        "content": 0,
    });
    assert_eq!(answer.json(), expected);

    let text = ask("GET", "/echo", "Accept: */*\r\n");
    assert!(text.text().starts_with("method   GET\n"), "other clients still get text");
    assert_eq!(text.field("Vary"), Some("Accept"));
}

/// An entity tag names a version of the page. A client that has this version gets 304, without the page (RFC 9110,
/// sections 8.8.3 and 13.1.2).
#[test]
fn unchanged_page_gets_304() {
    let page = ask("GET", "/", "");
    let tag = page.field("ETag").expect("the page has an ETag").to_owned();
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "a tag stands in quotes: {tag}");

    for known in [tag.clone(), format!("W/{tag}"), format!("\"another\", {tag}"), "*".to_owned()] {
        let answer = ask("GET", "/", &format!("If-None-Match: {known}\r\n"));
        assert_eq!(answer.status, 304, "If-None-Match: {known}");
        assert_eq!(answer.field("ETag"), Some(&*tag), "the answer names the version");
    }
    let other = ask("GET", "/", "If-None-Match: \"another\"\r\n");
    assert_eq!((other.status, other.content), (200, page.content));
}
