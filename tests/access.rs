//! The checks of Host against DNS rebinding, and of Origin against foreign pages (Fetch, "CORS protocol").

use crate::common::{Client, TestServer, field};
use crate::tapped::TestTap;
use overwire::websocket::opening_request;

const FRIEND: &str = "https://friend.example";

/// A server with an additional name and an allowed foreign origin.
fn server_with_friends() -> TestServer {
    TestServer::with(|config| {
        config.allow_hosts = vec!["overwire.example".into(), "10.0.0.9".into(), "[2001:db8::9]".into()];
        config.allow_origins = vec!["http://other.example:81".into(), FRIEND.into()];
    })
}

/// Sends a request from a page of `origin`. A POST has content that could be published.
fn send(client: &mut Client, method_and_target: &str, origin: &str) {
    let content = if method_and_target.starts_with("POST") { r#"{"sender":"page","text":"hello"}"# } else { "" };
    let length = content.len();
    client.send(format!(
        "{method_and_target} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nContent-Length: {length}\r\n\r\n{content}"
    ));
}

fn open_websocket(client: &mut Client, target: &str, origin: &str) -> String {
    let request = String::from_utf8(opening_request("localhost", target, "dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
    client.send(request.replace("Host:", &format!("Origin: {origin}\r\nHost:"))).head()
}

/// Returns the fields that allow a page of another origin to read an answer.
fn cors(head: &str) -> (Option<&str>, Option<&str>) {
    assert!(!head.contains('*'), "never all origins: {head}");
    assert_eq!(field(head, "Access-Control-Allow-Credentials"), None);
    let exposed = field(head, "Access-Control-Allow-Origin").map(|_| "Retry-After");
    assert_eq!(field(head, "Access-Control-Expose-Headers"), exposed, "{head}");
    (field(head, "Access-Control-Allow-Origin"), field(head, "Vary"))
}

/// The fields for the allowed foreign origin.
const MAY_READ: (Option<&str>, Option<&str>) = (Some(FRIEND), Some("Origin"));

#[test]
fn only_names_of_this_server_are_accepted() {
    let server = server_with_friends();
    let own = [
        "127.0.0.1",
        "localhost",
        "LocalHost",
        "[::1]",
        "127.0.0.2",
        "overwire.example",
        "OverWire.Example",
        "10.0.0.9",
        "[2001:DB8::9]",
    ];
    let foreign = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "sub.overwire.example",
        "10.0.0.1",
        "0.0.0.0",
        "[2001:db8::1]",
    ];
    let mut client = server.connect();
    let (own, foreign) = (own.map(|name| (name, 200)), foreign.map(|name| (name, 421)));
    for (name, status) in own.into_iter().chain(foreign) {
        for port in ["", ":1", ":8000", &format!(":{}", server.address.port())] {
            let answer = client.send(format!("GET /health HTTP/1.1\r\nHost: {name}{port}\r\n\r\n")).answer();
            assert_eq!(answer.status, status, "{name}{port}: {answer:?}");
        }
    }
    // RFC 9112, section 3.2: an empty Host is well-formed, but it is not a name of this server.
    assert_eq!(client.send("GET /health HTTP/1.1\r\nHost:\r\n\r\n").answer().status, 421);
}

#[test]
fn a_rebound_name_is_refused_on_every_path() {
    let server = TestServer::start();
    // The page has the same origin as the request, so its browser would let it read the answer.
    let mut client = server.connect();
    for line in
        ["GET /", "GET /nothing", "GET /api/poll?client_id=a", "POST /api/send", "DELETE /api/client/a", "GET /ws"]
    {
        client.send(format!("{line} HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 421, "{line}");
        assert!(answer.json()["error"].as_str().unwrap().contains("evil.example"), "{line}");
    }
}

#[test]
fn a_foreign_page_can_change_nothing_and_open_no_websocket() {
    for server in [TestServer::start(), server_with_friends()] {
        let port = server.address.port();
        let neighbour = format!("http://localhost:{}", port ^ 1);
        let origins = [
            "http://evil.example",
            "null", // a sandboxed frame or a file
            &neighbour,
            "http://localhost.evil.example",
            "https://friend.example.evil.example",
            "http://friend.example", // the scheme is part of the origin
            "https://friend.example:444",
            "localhost",
            "",
        ];
        let mut client = server.connect();
        for origin in origins {
            for line in [
                "POST /api/send",
                "POST /send",
                "POST /poll",
                "POST /sse/message",
                "POST /api/forget",
                "DELETE /api/client/a",
            ] {
                send(&mut client, line, origin);
                let answer = client.answer();
                assert_eq!((answer.status, cors(&answer.head).0), (403, None), "{line} from {origin:?}");
                assert!(answer.json()["error"].as_str().unwrap().starts_with("Origin: "));
            }
            for target in ["/ws", "/api/ws", "/api/signal"] {
                let mut client = server.connect();
                let head = open_websocket(&mut client, target, origin);
                assert!(
                    head.starts_with("HTTP/1.1 403 ") && cors(&head).0.is_none(),
                    "{target} from {origin:?}: {head}"
                );
            }
        }
        let stats = client.get("/api/stats").json();
        assert_eq!((&stats["total_messages"], &stats["mailboxes"]["connected"]), (&0.into(), &0.into()), "{stats}");
    }
}

#[test]
fn a_foreign_page_may_not_read_an_answer() {
    let server = server_with_friends();
    for target in ["/health", "/api/history", "/api/stream", "/api/events", "/sse", "/nothing", "/ws"] {
        let mut client = server.connect();
        send(&mut client, &format!("GET {target}"), "http://evil.example");
        let head = client.head();
        assert_eq!(cors(&head), (None, Some("Origin")), "{target}: {head}");
    }
    // Without allowed origins, no answer depends on the Origin.
    assert_eq!(cors(&TestServer::start().get("/health").head), (None, None));
}

#[test]
fn own_pages_and_programs_are_allowed() {
    let server = TestServer::start();
    assert_eq!(server.post("/api/send", r#"{"sender":"curl","text":"hello"}"#).status, 200);
    // The scheme is not compared: TLS may end at a proxy.
    for origin in ["http://localhost", "https://localhost", "http://LOCALHOST"] {
        let mut client = server.connect();
        send(&mut client, "POST /api/send", origin);
        let answer = client.answer();
        assert_eq!((answer.status, cors(&answer.head)), (200, (None, None)), "{origin}");
        assert!(open_websocket(&mut client, "/api/ws", origin).starts_with("HTTP/1.1 101 "), "{origin}");
    }
    let address = server.address;
    let mut client = server.connect();
    client.send(format!(
        "POST /send HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nContent-Length: 15\r\n\r\n"
    ));
    assert_eq!(client.send(r#"{"message":"1"}"#).answer().status, 200);
}

#[test]
fn every_answer_names_the_allowed_origin() {
    let server = server_with_friends();
    let mut client = server.connect();
    for (line, status) in [
        ("GET /health", 200),
        ("GET /index.html", 200),
        ("POST /api/send", 200),
        ("HEAD /api/events", 200),
        ("GET /api/history?limit=0", 400),
        ("GET /nothing", 404),
        ("DELETE /api/client/a", 404),
        ("DELETE /health", 405),
        ("GET /ws", 400),
    ] {
        send(&mut client, line, FRIEND);
        let head = if line.starts_with("HEAD") { client.head() } else { client.answer().head };
        assert_eq!((&head[9..12], cors(&head)), (&*status.to_string(), MAY_READ), "{line}: {head}");
    }
    for target in ["/api/stream", "/api/events", "/sse", "/events"] {
        let mut client = server.connect();
        send(&mut client, &format!("GET {target}"), FRIEND);
        assert_eq!(cors(&client.head()), MAY_READ, "{target}");
    }
    for target in ["/ws", "/api/ws", "/api/signal"] {
        let head = open_websocket(&mut server.connect(), target, FRIEND);
        assert!(head.starts_with("HTTP/1.1 101 ") && cors(&head) == MAY_READ, "{target}: {head}");
    }
    // RFC 6454, section 4: scheme and host are compared in lower case.
    send(&mut client, "GET /health", "HTTPS://Friend.Example");
    assert_eq!(cors(&client.answer().head), MAY_READ);
}

/// A page reads an answer only if the answer names its origin, and the parser answers too.
#[test]
fn an_allowed_origin_can_read_the_answer_to_a_malformed_request() {
    let server = server_with_friends();
    let (long, many) = ("a".repeat(20_000), "A: b\r\n".repeat(101));
    let origin = format!("Origin: {FRIEND}\r\n");
    let requests = [
        (400, format!("GET /%zz HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n")),
        (400, format!("GET / HTTP/1.1\r\n{origin}Host: a b\r\n\r\n")),
        (400, format!("GET / HTTP/1.1\r\n{origin}A : b\r\n\r\n")),
        (413, format!("POST / HTTP/1.1\r\nHost: localhost\r\n{origin}Content-Length: 9999999\r\n\r\n")),
        (413, format!("POST / HTTP/1.1\r\nHost: localhost\r\n{origin}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n")),
        (400, format!("POST / HTTP/1.1\r\nHost: localhost\r\n{origin}Transfer-Encoding: chunked\r\n\r\nx\r\n")),
        (414, format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n", &long[..9000])),
        (414, format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n")),
        (417, format!("GET / HTTP/1.1\r\nHost: localhost\r\n{origin}Expect: tea\r\n\r\n")),
        (421, format!("GET / HTTP/1.1\r\nHost: evil.example\r\n{origin}\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: localhost\r\n{origin}{many}\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}{origin}\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: localhost\r\n{origin}A: {long}\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: localhost\r\nA: {long}\r\n{origin}\r\n")),
        (501, format!("QUERY / HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n")),
    ];
    for (status, request) in &requests {
        let shown = request.chars().take(60).collect::<String>();
        for size in [usize::MAX, 1000] {
            let mut client = server.connect();
            for piece in request.as_bytes().chunks(size.min(request.len())) {
                client.send(piece);
            }
            let answer = client.answer();
            assert_eq!((answer.status, cors(&answer.head)), (*status, MAY_READ), "{shown}: {}", answer.head);
            let foreign = server.connect().send(request.replace(FRIEND, "https://evil.example")).answer();
            assert_eq!((foreign.status, cors(&foreign.head)), (*status, (None, Some("Origin"))), "{shown}");
        }
    }
    // The head or the content does not arrive in time, or never.
    let begun = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{origin}Content-Length: 5\r\n");
    let mut clients = ["", "\r\n12"].map(|rest| {
        let mut client = server.connect();
        client.send(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n{begun}{rest}")).answer();
        client
    });
    server.advance(31);
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!((answer.status, cors(&answer.head)), (408, MAY_READ), "{}", answer.head);
    }
    let mut cut = server.connect();
    cut.send(&begun).finish();
    assert_eq!(cors(&cut.answer().head), MAY_READ);
}

#[test]
fn default_ports_are_not_compared() {
    let server = TestServer::with(|config| {
        config.allow_origins = vec!["https://x:443".into(), "http://Y.example:80".into(), "http://z:81".into()];
    });
    let mut client = server.connect();
    for (origin, allowed) in [
        ("https://x", Some("https://x")),
        ("https://x:443", Some("https://x")),
        ("https://x:80", None),
        ("http://x", None),
        ("http://y.example", Some("http://y.example")),
        ("http://z:81", Some("http://z:81")),
        ("http://z", None),
    ] {
        send(&mut client, "GET /health", origin);
        assert_eq!(cors(&client.answer().head), (allowed, Some("Origin")), "{origin}");
    }
    for (host, origin, status) in [
        ("localhost:443", "https://localhost", 200),
        ("localhost:80", "http://localhost", 200),
        ("localhost", "https://localhost:443", 200),
        ("localhost", "http://localhost:80", 200),
        ("localhost:", "http://localhost", 200),
        ("[::1]:443", "https://[::1]", 200),
        ("localhost:443", "http://localhost", 403),
        ("localhost:80", "https://localhost", 403),
        ("localhost:8000", "http://localhost", 403),
        ("localhost", "http://localhost:8000", 403),
    ] {
        client.send(format!("POST /poll HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{host} {origin}");
    }
}

#[test]
fn a_held_poll_is_answered_with_the_origin_of_its_request() {
    let server = server_with_friends();
    let mut polls = [FRIEND, "http://other.example:81", "http://evil.example"].map(|origin| {
        let mut client = server.connect();
        send(&mut client, "GET /api/poll?client_id=a&timeout=5", origin);
        client
    });
    let mailbox = server.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    let mut mailbox_poll = server.connect();
    let content = format!(r#"{{"connection_id":"{mailbox}"}}"#);
    let head =
        format!("POST /poll HTTP/1.1\r\nHost: localhost\r\nOrigin: {FRIEND}\r\nContent-Length: {}", content.len());
    mailbox_poll.send(format!("{head}\r\n\r\n{content}"));
    server.wait_for_open("long_poll", 4);
    server.advance(30);
    let heads = polls.each_mut().map(|client| client.answer().head);
    let origins = heads.each_ref().map(|head| cors(head).0);
    assert_eq!(origins, [Some(FRIEND), Some("http://other.example:81"), None]);
    assert_eq!(cors(&mailbox_poll.answer().head), MAY_READ);
}

#[test]
fn a_preflight_lists_the_methods_and_fields_for_an_allowed_origin() {
    let server = server_with_friends();
    let mut client = server.connect();
    let mut preflight = |target, method, origin| {
        let asked = format!("Access-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: content-type");
        let head = format!("OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{asked}\r\n\r\n");
        client.send(head).answer()
    };
    for (target, method) in
        [("/api/send", "POST"), ("/poll", "POST"), ("/api/client/a", "DELETE"), ("/api/events", "GET")]
    {
        let answer = preflight(target, method, FRIEND);
        assert_eq!((answer.status, cors(&answer.head)), (204, MAY_READ), "{target}");
        assert!(answer.field("Access-Control-Allow-Methods").unwrap().contains(method), "{answer:?}");
        let fields: Vec<_> = answer.field("Access-Control-Allow-Headers").unwrap().split(", ").collect();
        // What a polyfill of EventSource sets, and other clients over `fetch`.
        for name in ["Cache-Control", "Content-Type", "Last-Event-ID", "Pragma", "X-Requested-With", "Authorization"] {
            assert!(fields.contains(&name), "{name}: {fields:?}");
        }
        for origin in ["http://evil.example", "null"] {
            let answer = preflight(target, method, origin);
            assert_eq!((answer.status, cors(&answer.head).0), (403, None), "{target} from {origin}");
            assert_eq!(answer.field("Access-Control-Allow-Methods"), None);
        }
    }
}

#[test]
fn a_foreign_page_cannot_poll_through_an_image() {
    let server = TestServer::start();
    let fetch = |site: &str, mode: &str| {
        let fields = format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n");
        let request = format!("GET /api/messages HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        server.connect().send(request).answer().status
    };
    assert_eq!((fetch("cross-site", "no-cors"), fetch("same-site", "no-cors")), (403, 403));
    assert_eq!((fetch("same-origin", "cors"), fetch("none", "navigate")), (200, 200));
}

const FILES: [&str; 5] = ["/", "/docs", "/redoc", "/openapi.json", "/app.js"];

/// A frame of a foreign page is a navigation. Without a cursor, its poll would take the messages of a client.
#[test]
fn foreign_links_and_frames_reach_files_alone() {
    let tap = TestTap::start();
    let paths = api_paths();
    for server in [&tap.server, &*tap] {
        let navigate = |method: &str, target: &str, site: &str| {
            let fields = format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n");
            let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
            let mut client = server.connect();
            let head = client.send(request).head();
            head[9..12].parse::<u16>().unwrap()
        };
        for site in ["cross-site", "same-site"] {
            for target in &paths {
                for method in ["GET", "HEAD", "POST", "DELETE"] {
                    assert_eq!(navigate(method, target, site), 403, "{method} {target}");
                }
            }
            for target in FILES {
                assert_eq!(navigate("GET", target, site), 200, "{target}");
            }
        }
        assert_eq!(navigate("GET", "/api/messages", "none"), 200, "an address that was typed");
        assert_eq!(navigate("GET", "/api/messages", "same-origin"), 200);
    }
}

/// The paths of the API, apart from its pages.
fn api_paths() -> Vec<String> {
    let api: serde_json::Value = serde_json::from_str(include_str!("../static/openapi.json")).unwrap();
    let paths = api["paths"].as_object().unwrap().keys().filter(|path| !FILES.contains(&path.as_str()));
    paths.map(|path| path.replace("{id}", "a")).collect()
}

#[test]
fn readers_of_many_rooms_remove_no_messages() {
    let server = TestServer::start();
    server.publish("general", "precious");
    let mut client = server.connect();
    for number in 0..300 {
        assert_eq!(client.get(&format!("/api/messages?room=r{number}")).status, 200);
    }
    assert_eq!(client.get("/api/history").texts(), ["precious"]);
}
