//! The table of all routes: which handler answers which method and path.

use super::Server;
use super::demo::Demo;
use super::exchanges::{Call, Reply};
use super::mailboxes::Mailboxes;
use super::params::ApiError;
use super::parked::Halt;
use super::rooms::Rooms;
use crate::http::{Method, Response};
use crate::identity::Rights;

/// Answers a call, or holds its exchange.
type Handler = fn(&mut Server, &Call<'_>) -> Result<Reply, Halt>;

/// Checks a HEAD request as the handler of GET does, and returns the head that GET would get.
type Head = fn(&Server, &Call<'_>) -> Result<Response, ApiError>;

/// The behaviour of a resource on a HEAD request.
#[derive(Clone, Copy)]
enum Kind {
    /// The answer comes at once and changes nothing. HEAD gets the same without the content.
    Plain,
    /// The answer may be held, never end, move a position, or be different each time. HEAD gets the head alone.
    Live(Head),
    /// HEAD is not allowed: the request changes something, or opens a WebSocket.
    NoHead,
}

/// The rights that a request needs. `None` if it needs no identity.
type Needs = Option<Rights>;

const NOBODY: Needs = None;
const ANYBODY: Needs = Some(Rights::NONE);
const READER: Needs = Some(Rights::READ);
const SENDER: Needs = Some(Rights::SEND);
const PEER: Needs = Some(Rights::READ_AND_SEND);
const ADMIN: Needs = Some(Rights::ADMIN);

struct Route {
    method: Method,
    path: &'static str,
    kind: Kind,
    needs: Needs,
    handler: Handler,
}

const fn route(method: Method, path: &'static str, kind: Kind, needs: Needs, handler: Handler) -> Route {
    Route { method, path, kind, needs, handler }
}

/// A path that ends with `/` matches everything below it.
const ROUTES: &[Route] = &[
    // Mailboxes.
    route(Method::Post, "/poll", Kind::NoHead, READER, |s, call| s.mailboxes.poll(&mut s.exchanges, call)),
    route(Method::Get, "/sse", Kind::Live(|_, call| Mailboxes::events_head(call.request)), READER, |s, call| {
        s.mailboxes.events(&mut s.exchanges, call)
    }),
    route(Method::Post, "/sse/message", Kind::NoHead, SENDER, |s, call| s.mailboxes.text(&mut s.exchanges, call)),
    route(Method::Get, "/ws", Kind::NoHead, READER, |s, call| s.mailboxes.websocket(&mut s.exchanges, call)),
    route(Method::Get, "/poll/", Kind::Plain, READER, |s, call| s.mailboxes.status(&mut s.exchanges, call)),
    // Rooms.
    route(Method::Get, "/api/poll", Kind::Live(|_, call| Rooms::poll_head(call.request)), READER, |s, call| {
        s.rooms.poll(&mut s.exchanges, call)
    }),
    route(Method::Post, "/api/send", Kind::NoHead, SENDER, |s, call| s.rooms.send(&mut s.exchanges, call)),
    route(Method::Get, "/api/messages", Kind::Plain, READER, |s, call| s.rooms.messages(&mut s.exchanges, call)),
    route(Method::Get, "/api/stream", Kind::Live(|_, call| Rooms::stream_head(call.request)), READER, |s, call| {
        s.rooms.stream(&mut s.exchanges, call)
    }),
    route(Method::Get, "/api/events", Kind::Live(|_, call| Rooms::events_head(call.request)), READER, |s, call| {
        s.rooms.events(&mut s.exchanges, call)
    }),
    route(Method::Get, "/api/ws", Kind::NoHead, READER, |s, call| s.rooms.websocket(&mut s.exchanges, call)),
    route(Method::Get, "/api/history", Kind::Plain, READER, |s, call| s.rooms.history(&mut s.exchanges, call)),
    // Signalling.
    route(Method::Get, "/api/signal", Kind::NoHead, PEER, |s, call| s.peers.websocket(&mut s.exchanges, call)),
    // The two-channel demo.
    route(Method::Get, "/poll", Kind::Live(|_, call| Demo::poll_head(call.request)), READER, |s, call| {
        s.demo.poll(&mut s.exchanges, &mut s.rooms, call)
    }),
    route(Method::Post, "/send", Kind::NoHead, SENDER, |s, call| s.demo.send(&mut s.exchanges, &mut s.rooms, call)),
    route(Method::Get, "/events", Kind::Live(|_, call| Demo::events_head(call.request)), READER, |s, call| {
        s.demo.events(&mut s.exchanges, &mut s.rooms, call)
    }),
    // Identity.
    route(Method::Post, "/api/session", Kind::NoHead, NOBODY, Server::log_in),
    route(Method::Get, "/api/session", Kind::Plain, ANYBODY, Server::who_am_i),
    route(Method::Delete, "/api/session", Kind::NoHead, ANYBODY, Server::log_out),
    route(Method::Post, "/api/ticket", Kind::NoHead, ANYBODY, Server::ticket),
    // The server itself.
    route(Method::Get, "/api/stats", Kind::Live(|_, _| Ok(Server::statistics_head())), ADMIN, |s, _| s.statistics()),
    route(Method::Get, "/metrics", Kind::Live(Server::metrics_head), ADMIN, Server::metrics),
    route(Method::Get, "/api/connections", Kind::Live(Server::connections_head), ADMIN, Server::connections),
    route(Method::Delete, "/api/connections/", Kind::NoHead, ADMIN, Server::end_connection),
    route(Method::Post, "/api/forget", Kind::NoHead, ADMIN, |s, _| s.forget()),
    route(Method::Delete, "/api/client/", Kind::NoHead, ANYBODY, Server::disconnect),
    route(Method::Get, "/health", Kind::Plain, NOBODY, |s, _| s.health()),
    route(Method::Get, "/health/ready", Kind::Plain, NOBODY, |s, _| s.readiness()),
];

/// The result of a search in the table.
pub enum Found {
    /// The handler.
    Handler(Handler, Needs),
    /// HEAD of a [`Kind::Live`] resource.
    Head(Head, Needs),
    /// OPTIONS of a path with these methods.
    Options(String),
    /// Another method than these.
    NotAllowed(String),
    /// No route has this path. A file may have it.
    Nothing,
}

/// Finds the route for `method` and `path`.
pub fn find(method: Method, path: &str) -> Found {
    let here = || ROUTES.iter().filter(|route| matches(route.path, path));
    let wanted = if method == Method::Head { Method::Get } else { method };
    match here().find(|route| route.method == wanted).map(|route| (method, route.kind, route)) {
        Some((Method::Head, Kind::Live(head), route)) => return Found::Head(head, route.needs),
        Some((Method::Head, Kind::NoHead, _)) | None => {}
        Some((_, _, route)) => return Found::Handler(route.handler, route.needs),
    }
    let mut allowed = Vec::new();
    for route in here() {
        allowed.push(route.method.as_str());
        if route.method == Method::Get && !matches!(route.kind, Kind::NoHead) {
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

/// Returns the answer to a method that a path does not have.
pub fn not_allowed(methods: &str, method: Method) -> Response {
    Response::error(405, &format!("{method} is not allowed here: expected {methods}")).with_field("Allow", methods)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn openapi_json_lists_exactly_the_routes() {
        let api: Value = serde_json::from_str(include_str!("../../static/openapi.json")).unwrap();
        let methods_of = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect::<Vec<_>>();
            // The parameter of a path is its last part.
            let path = path.split('{').next().unwrap_or_default();
            methods.into_iter().map(|method| (method, path.to_owned())).collect::<Vec<_>>()
        };
        let described: BTreeSet<_> = api["paths"].as_object().unwrap().iter().flat_map(methods_of).collect();
        let pages = ["/", "/docs", "/redoc", "/openapi.json"].map(|path| ("GET".to_owned(), path.to_owned()));
        let routes = ROUTES.iter().map(|route| (route.method.as_str().to_owned(), route.path.to_owned()));
        assert_eq!(described, routes.chain(pages).collect());
    }
}
