//! The parts that all lessons share and none of them teaches: command line, greeting, page, measurement.

pub mod api;
pub mod command_line;
pub mod measure;

use std::io;
use std::process::ExitCode;

use overwire::http::{Method, Request, Response};
use overwire::{EventLoop, Limits};

pub use command_line::{Costs, Extra, Lesson, Receive, Send, Wish};

/// The style sheet of every lesson's page.
const STYLE: &str = include_str!("page.css");

/// Runs a lesson's program: reads the command line, listens, greets, and serves until Ctrl+C.
pub fn run(lesson: &Lesson, serve: fn(EventLoop) -> io::Result<()>) -> ExitCode {
    match lesson.wish() {
        Wish::Measure(number) => match measure::measure(lesson, number, serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => lesson.complain(0, &error),
        },
        wish => lesson.carry_out(wish, |port| {
            let mut server = EventLoop::bind(("127.0.0.1", port), Limits::default())?;
            server.watch_signals()?;
            lesson.greet(server.local_address());
            serve(server)
        }),
    }
}

/// Answers a request for `/` with the lesson's page, one for its style sheet, and any other with 404.
pub fn page(request: &Request, html: &'static str) -> Response {
    let found = match &*request.path() {
        "/" => Response::new(200).with_content("text/html; charset=utf-8", html),
        "/page.css" => Response::new(200).with_content("text/css; charset=utf-8", STYLE),
        "/favicon.ico" => return Response::new(204),
        path => return Response::error(404, &format!("there is nothing at {path}")),
    };
    read_only(request, found)
}

/// Answers as [`page`] does, and a request for `/broken.js` with a module of the page.
pub fn page_with_module(request: &Request, html: &'static str, module: &'static str) -> Response {
    match &*request.path() {
        "/broken.js" => read_only(request, Response::new(200).with_content("text/javascript; charset=utf-8", module)),
        _ => page(request, html),
    }
}

fn read_only(request: &Request, found: Response) -> Response {
    match request.method() {
        Method::Get | Method::Head => found.with_field("Cache-Control", "no-cache"),
        method => Response::error(405, &format!("{method} is not allowed here: expected GET"))
            .with_field("Allow", "GET, HEAD"),
    }
}
