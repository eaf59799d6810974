//! Lesson 01: requests and their answers. The answer to a POST has its content. `/echo` lists the parts of a request.

use std::io;
use std::process::ExitCode;

use lessons::{Costs, Lesson, Receive, Send};
use overwire::http::{Method, Request, Response, Version};
use overwire::{Event, EventLoop};

const LESSON: Lesson = Lesson {
    name: "01-http",
    port: 8001,
    about: "an HTTP server that answers with what it was sent",
    first: "curl -v {url}/ -d $'hello\\n'",
    look_for: "the request in lines that begin with `>`, its answer in lines that begin with `<`",
    costs: &[Costs { receive: Receive::Echo, send: Send::Content("/") }],
};

const PAGE: &str = include_str!("page.html");

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

// ANCHOR: serve
pub fn serve(mut server: EventLoop) -> io::Result<()> {
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => server.respond(conn, answer(&request)),
            Event::Shutdown => return server.drain(),
            // This program sets no timer, opens no WebSocket and holds no request.
            _ => {}
        }
    }
}
// ANCHOR_END: serve

// ANCHOR: answer
fn answer(request: &Request) -> Response {
    match (request.method(), &*request.path()) {
        (Method::Post, "/") => echo(request),
        (Method::Get | Method::Head, "/") => lessons::page(request, PAGE),
        (method, "/") => {
            let sentence = format!("{method} is not allowed here: expected GET, HEAD or POST");
            Response::error(405, &sentence).with_field("Allow", "GET, HEAD, POST")
        }
        (Method::Head, "/echo") => {
            // Its Content-Length would have to be that of the answer to a GET, which lists another method.
            let allowed = "GET, POST, PUT, DELETE, OPTIONS, TRACE, PATCH";
            Response::error(405, "HEAD is not allowed here: expected any other method").with_field("Allow", allowed)
        }
        (_, "/echo") => {
            let list = Response::new(200).with_content("text/plain; charset=utf-8", list(request));
            list.with_field("Cache-Control", "no-store")
        }
        _ => lessons::page(request, PAGE),
    }
}
// ANCHOR_END: answer

/// The content of a request, with its type.
fn echo(request: &Request) -> Response {
    let content_type = request.field("content-type").and_then(|value| str::from_utf8(value).ok());
    Response::new(200)
        .with_content(content_type.unwrap_or("application/octet-stream").to_owned(), request.content().to_vec())
        .with_field("Cache-Control", "no-store")
        // Keeps a browser from taking text for a script.
        .with_field("X-Content-Type-Options", "nosniff")
}

/// Lists the parts of a request in order, one a line.
fn list(request: &Request) -> String {
    let version = match request.version() {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let mut list = format!("method   {}\ntarget   {}\nversion  {version}\n", request.method(), request.target());
    for (name, value) in request.fields() {
        list += &format!("field    {name}: {}\n", String::from_utf8_lossy(value));
    }
    list + &format!("content  {} bytes\n", request.content().len())
}
