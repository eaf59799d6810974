//! `/metrics`: its format, its counts, and who may ask.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc;

use overwire::server::{Config, Server};

use crate::common::{Client, TestServer};

/// The samples of a scrape, by name and labels. Checks the format (Prometheus, "Text-based format" 0.0.4).
struct Scrape(HashMap<String, f64>);

impl Scrape {
    #[track_caller]
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut samples, mut family, mut seen) = (HashMap::new(), (String::new(), String::new()), Vec::new());
        for line in text.lines() {
            let words: Vec<_> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, _] => {
                    assert!(!seen.contains(&name.to_owned()), "{name} comes in one piece");
                    seen.push(name.to_owned());
                    family.0 = name.to_owned();
                }
                ["#", "TYPE", name, kind] => {
                    assert_eq!(family.0, name);
                    assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                    family.1 = kind.to_owned();
                }
                _ => {
                    let (key, value) = line.rsplit_once(' ').unwrap();
                    let name = key.split('{').next().unwrap();
                    let suffix = name.strip_prefix(family.0.as_str()).unwrap();
                    assert!(suffix.is_empty() || family.1 == "histogram", "{line}");
                    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
                    assert!(samples.insert(key.to_owned(), value.parse().unwrap()).is_none(), "{line} comes twice");
                }
            }
        }
        Scrape(samples)
    }

    fn of(client: &mut Client) -> Self {
        let answer = client.get("/metrics");
        assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"), "{answer:?}");
        Scrape::parse(answer.text())
    }

    #[track_caller]
    fn get(&self, key: &str) -> f64 {
        *self.0.get(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.0.keys()))
    }
}

/// The buckets of a histogram, in the order of their bounds.
fn buckets(scrape: &Scrape, name: &str) -> Vec<(f64, f64)> {
    let bound = |key: &str| key.strip_prefix(&format!("{name}_bucket{{le=\""))?.strip_suffix("\"}")?.parse().ok();
    let mut buckets: Vec<(f64, f64)> = scrape.0.iter().filter_map(|(key, count)| Some((bound(key)?, *count))).collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    buckets
}

#[test]
fn what_happens_is_counted() {
    let server = TestServer::start();
    let mut client = server.connect();
    let mut socket = server.websocket("/api/ws?room=tea");
    socket.send_text(r#"{"sender":"me","text":"one"}"#).message();
    let id = server.publish("tea", "two");
    socket.message();
    let mut events = server.connect();
    events.send_get(&format!("/api/events?room=tea&last_event_id={id}")).head();
    let mut lost = server.connect();
    lost.send_get("/api/events?room=tea&last_event_id=nonsense").head();
    server.wait_for_open("sse", 2);
    drop(lost);
    server.wait_for_open("sse", 1);
    let mut poll = server.connect();
    poll.send_get("/api/poll?room=tea&client_id=tab");
    server.wait_for_open("long_poll", 1);
    server.get("/nothing");
    server.connect().send("nonsense\r\n\r\n").answer();
    let scrape = Scrape::of(&mut client);
    for (key, value) in [
        (r#"overwire_connections{transport="websocket",state="websocket"}"#, 1.0),
        (r#"overwire_connections{transport="sse",state="streaming"}"#, 1.0),
        (r#"overwire_connections{transport="long_poll",state="held"}"#, 1.0),
        (r#"overwire_received_messages_total{transport="websocket"}"#, 1.0),
        (r#"overwire_received_messages_total{transport="request"}"#, 1.0),
        (r#"overwire_sent_messages_total{transport="websocket"}"#, 2.0),
        ("overwire_held_polls", 1.0),
        ("overwire_publish_to_commit_seconds_count", 2.0),
        ("overwire_publish_to_delivery_seconds_count", 2.0),
        (r#"overwire_reconnects_total{transport="sse",recovered="true"}"#, 1.0),
        (r#"overwire_reconnects_total{transport="sse",recovered="false"}"#, 1.0),
        (r#"overwire_lost_exchanges_total{reason="hung_up"}"#, 1.0),
        (r#"overwire_lost_exchanges_total{reason="slow_consumer"}"#, 0.0),
        (r#"overwire_responses_total{code="404"}"#, 1.0),
        (r#"overwire_responses_total{code="400"}"#, 1.0),
        (r#"overwire_responses_total{code="101"}"#, 1.0),
        (r#"overwire_journal_info{kind="memory"}"#, 1.0),
        ("overwire_journal_up", 1.0),
        ("overwire_journal_waiting", 0.0),
        ("overwire_ready", 1.0),
        ("overwire_outbox_bytes", 0.0),
    ] {
        assert_eq!(scrape.get(key), value, "{key}");
    }
    let bytes = scrape.get(r#"overwire_sent_bytes_total{transport="websocket"}"#);
    assert!((250.0..2000.0).contains(&bytes), "{bytes}");
    if cfg!(target_os = "linux") {
        assert!(scrape.get("process_resident_memory_bytes") > 1e6);
        assert!(
            scrape.get("process_open_fds") >= 5.0 && scrape.get("process_max_fds") >= scrape.get("process_open_fds")
        );
        let age = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - scrape.get("process_start_time_seconds");
        assert!((-2.0..3600.0 * 24.0).contains(&age), "{age}");
    }
}

#[test]
fn histograms_grow_and_agree_with_their_counts() {
    let server = TestServer::start().in_real_time();
    let mut client = server.connect();
    (0..10).for_each(|_| _ = server.publish("tea", "x"));
    let scrape = Scrape::of(&mut client);
    for name in [
        "overwire_publish_to_commit_seconds",
        "overwire_publish_to_delivery_seconds",
        "overwire_event_loop_round_seconds",
    ] {
        let buckets = buckets(&scrape, name);
        assert_eq!(buckets.len(), 22, "{name}");
        assert!(buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, scrape.get(&format!("{name}_count")))));
        let (sum, count) = (scrape.get(&format!("{name}_sum")), scrape.get(&format!("{name}_count")));
        assert!(count >= 10.0 && (0.0..count * 20.0).contains(&sum), "{name}: {count}, {sum}");
    }
    let longest = scrape.get("overwire_event_loop_round_max_seconds");
    assert!(longest > 0.0 && longest <= scrape.get("overwire_event_loop_round_seconds_sum"));
}

/// The event loop answers a malformed request by itself, so the server has no event until the scrape. The
/// clock is advanced by less than the time between its own timers.
#[test]
fn a_delivery_takes_until_the_first_flush_and_not_until_the_next_event() {
    let server = TestServer::start();
    let mut client = server.connect();
    let mut sender = server.connect();
    sender.post("/api/send", r#"{"room":"tea","sender":"me","text":"x"}"#);
    let make_rounds = || (0..3).for_each(|_| drop(server.connect().send("nonsense\r\n\r\n").answer()));
    make_rounds();
    server.advance(4);
    make_rounds();
    let scrape = Scrape::of(&mut client);
    assert_eq!(scrape.get("overwire_publish_to_delivery_seconds_count"), 1.0);
    let seconds = scrape.get("overwire_publish_to_delivery_seconds_sum");
    assert!(seconds < 4.0, "{seconds}");
}

/// Sends a request as through a proxy, to a name that was given with `--allow-host`.
fn ask<'a>(client: &'a mut Client, request: &str) -> &'a mut Client {
    client.send(format!("{request} HTTP/1.1\r\nHost: container:9100\r\nVia: 1.1 proxy\r\n\r\n"))
}

/// Starts a server with a second address, that of `--metrics`.
fn with_metrics(configure: impl FnOnce(&mut Config) + Send + 'static) -> (TestServer, SocketAddr) {
    let (sender, receiver) = mpsc::channel();
    let server = TestServer::spawn(move |ready| {
        let mut config = Config { port: 0, metrics: Some("127.0.0.1:0".into()), ..Config::default() };
        configure(&mut config);
        let server = Server::bind(config)?;
        sender.send(server.metrics_address().unwrap()).unwrap();
        ready(server.local_address(), server.remote());
        server.run()
    });
    (server, receiver.recv().unwrap())
}

#[test]
fn the_address_of_metrics_has_places_when_all_others_are_taken() {
    let (server, metrics) = with_metrics(|config| config.limits.connections = 2);
    let _held = [server.websocket("/api/ws"), server.websocket("/api/ws")];
    // 16 are kept for refusals, and 4 for the reserved address. An incomplete request is not idle.
    let mut scrapers: Vec<Client> = (0..20).map(|_| Client::connect(metrics)).collect();
    scrapers.iter_mut().for_each(|client| _ = client.send("GET /metrics HTTP/1.1\r\n"));
    Client::connect(metrics).expect_end();
    server.connect().expect_end();
    for client in &mut scrapers {
        assert_eq!(client.send("Host: localhost\r\n\r\n").answer().status, 200);
    }
}

#[test]
fn a_scrape_does_not_count_for_its_client() {
    let (server, metrics) = with_metrics(|config| {
        config.limits.per_client.loopback = true;
        config.limits.per_client.connections = 1;
    });
    let _socket = server.websocket("/api/ws?room=tea");
    assert_eq!(server.connect().get("/health").status, 429);
    let mut scrapers = [Client::connect(metrics), Client::connect(metrics)];
    assert!(scrapers.iter_mut().all(|client| client.get("/metrics").status == 200));
}

#[test]
fn the_address_of_metrics_serves_them_to_everyone_and_nothing_else() {
    let (server, metrics) = with_metrics(|config| config.allow_hosts = vec!["container".into()]);
    let mut client = Client::connect(metrics);
    assert_eq!(ask(&mut client, "GET /metrics").answer().status, 200);
    assert!(ask(&mut client, "HEAD /metrics").head_alone().starts_with("HTTP/1.1 200 "));
    for (request, status) in
        [("POST /metrics", 405), ("GET /", 404), ("GET /api/stats", 404), ("DELETE /api/client/a", 404)]
    {
        assert_eq!(ask(&mut client, request).answer().status, status, "{request}");
    }
    assert_eq!(server.get("/metrics").status, 200, "a local client is an operator");
    assert_eq!(ask(&mut server.connect(), "GET /metrics").answer().status, 403);
}

#[test]
fn a_rebound_name_is_refused_at_the_address_of_metrics() {
    let (_server, metrics) = with_metrics(|_| {});
    let mut client = Client::connect(metrics);
    for (host, status) in [
        ("evil.example", 421),
        ("container:9100", 421),
        ("localhost:9100", 200),
        ("192.0.2.1", 200),
        ("[2001:db8::1]:9100", 200),
    ] {
        let answer = client.send(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")).answer();
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(status == 421, answer.text().contains("--allow-host"), "{host}: {answer:?}");
    }
    assert_eq!(client.send("GET /metrics HTTP/1.0\r\n\r\n").answer().status, 200);
}
