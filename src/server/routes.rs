//! Which handler answers which path and method.

use super::{Call, Reply, Server};
use crate::http::{Method, Response};
use crate::server::params::ApiError;

/// Answers a call, or keeps its connection.
type Handler = fn(&mut Server, &Call<'_>) -> Result<Reply, ApiError>;

/// How a resource behaves when it is asked for its head only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The answer is made at once, without any effect: HEAD makes it too, and leaves the content
    /// out.
    Plain,
    /// The answer may be held, or never end, or move a cursor: HEAD gets an empty one.
    Live,
    /// There is no HEAD: it changes something, or opens a WebSocket.
    NoHead,
}

struct Route {
    method: Method,
    path: &'static str,
    kind: Kind,
    handler: Handler,
}

const fn route(method: Method, path: &'static str, kind: Kind, handler: Handler) -> Route {
    Route { method, path, kind, handler }
}

/// A path that ends with `/` matches everything below it.
const ROUTES: &[Route] = &[
    // Isolated connections.
    route(Method::Post, "/poll", Kind::NoHead, Server::mailbox_poll),
    route(Method::Get, "/sse", Kind::Live, Server::mailbox_events),
    route(Method::Post, "/sse/message", Kind::NoHead, Server::mailbox_text),
    route(Method::Get, "/ws", Kind::NoHead, Server::mailbox_websocket),
    // Rooms.
    route(Method::Get, "/api/poll", Kind::Live, Server::room_poll),
    route(Method::Post, "/api/send", Kind::NoHead, Server::room_send),
    route(Method::Get, "/api/messages", Kind::Plain, Server::room_messages),
    route(Method::Get, "/api/stream", Kind::Live, Server::room_stream),
    route(Method::Get, "/api/events", Kind::Live, Server::room_events),
    route(Method::Get, "/api/ws", Kind::NoHead, Server::room_websocket),
    route(Method::Get, "/api/signal", Kind::NoHead, Server::signal),
    route(Method::Get, "/api/history", Kind::Plain, Server::room_history),
    // The two-channel demo.
    route(Method::Get, "/poll", Kind::Live, Server::demo_poll),
    route(Method::Post, "/send", Kind::NoHead, Server::demo_send),
    route(Method::Get, "/events", Kind::Live, Server::demo_events),
    // The server itself.
    route(Method::Get, "/api/stats", Kind::Plain, Server::statistics),
    route(Method::Post, "/api/forget", Kind::NoHead, Server::forget),
    route(Method::Delete, "/api/client/", Kind::NoHead, Server::disconnect_client),
    route(Method::Get, "/health", Kind::Plain, Server::health),
];

/// What to do with a request.
pub enum Found {
    /// Call this.
    Handler(Handler),
    /// Answer HEAD without calling anything.
    HeadOfLive,
    /// Answer OPTIONS with these methods.
    Options(String),
    /// Answer 405 with these methods.
    NotAllowed(String),
    /// There may be a file of this name.
    Nothing,
}

/// Finds what answers `method` at `path`.
pub fn find(method: Method, path: &str) -> Found {
    let here = || ROUTES.iter().filter(|route| matches(route.path, path));
    let wanted = if method == Method::Head { Method::Get } else { method };
    match here().find(|route| route.method == wanted) {
        Some(route) if method == Method::Head && route.kind == Kind::Live => return Found::HeadOfLive,
        Some(route) if method != Method::Head || route.kind == Kind::Plain => return Found::Handler(route.handler),
        _ => {}
    }
    let mut allowed = Vec::new();
    for route in here() {
        allowed.push(route.method.as_str());
        if route.method == Method::Get && route.kind != Kind::NoHead {
            allowed.push("HEAD");
        }
    }
    match (allowed.is_empty(), method) {
        (true, _) => Found::Nothing,
        (false, Method::Options) => Found::Options(format!("{}, OPTIONS", allowed.join(", "))),
        (false, _) => Found::NotAllowed(format!("{}, OPTIONS", allowed.join(", "))),
    }
}

fn matches(route: &str, path: &str) -> bool {
    match route.strip_suffix('/') {
        Some(_) => path.strip_prefix(route).is_some_and(|rest| !rest.is_empty()),
        None => route == path,
    }
}

/// The answer to a method that a path does not have.
pub fn not_allowed(methods: &str, method: Method) -> Response {
    Response::error(405, &format!("{method} is not allowed here: expected {methods}")).with_field("Allow", methods)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_lists_every_route_and_no_other() {
        let api: Value = serde_json::from_str(include_str!("../../static/openapi.json")).unwrap();
        let methods_of = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect::<Vec<_>>();
            methods.into_iter().map(|method| (method, path.replace("{id}", ""))).collect::<Vec<_>>()
        };
        let described: BTreeSet<_> = api["paths"].as_object().unwrap().iter().flat_map(methods_of).collect();
        let pages = ["/", "/docs", "/redoc", "/openapi.json"].map(|path| ("GET".to_owned(), path.to_owned()));
        let routes = ROUTES.iter().map(|route| (route.method.as_str().to_owned(), route.path.to_owned()));
        assert_eq!(described, routes.chain(pages).collect());
    }
}
