//! `/api/signal` behind a balancer. Each server has the peers of its own, so all peers of a room must reach one server:
//! haproxy chooses it by the name of the room.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::is_installed;
use super::servers::servers;
use crate::common::{Client, PATIENCE, free_port};

/// The part of the documentation with the lines for haproxy.
const README: &str = include_str!("../../src/README.md");

/// haproxy with the lines of the documentation.
struct Balancer {
    child: Child,
    file: PathBuf,
    address: SocketAddr,
}

impl Balancer {
    fn start(servers: [SocketAddr; 2]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let lines = README.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let lines = lines.replace("bind :80", &format!("bind {address}"));
        let lines = lines.replace("10.0.0.1:8000", &servers[0].to_string());
        let lines = lines.replace("10.0.0.2:8000", &servers[1].to_string());
        let file = std::env::temp_dir().join(format!("overwire-haproxy-{}.cfg", process::id()));
        fs::write(&file, lines).unwrap();
        let mut command = Command::new("haproxy");
        let child = command.args(["-q", "-db", "-f"]).arg(&file).stdin(Stdio::null()).spawn().unwrap();
        let balancer = Balancer { child, file, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < PATIENCE, "haproxy does not listen");
            thread::sleep(Duration::from_millis(5)); // a process that starts has no event to wait for
        }
        balancer
    }

    fn join(&self, query: &str) -> (Client, Value) {
        let mut client = Client::connect(self.address);
        client.upgrade(&format!("/api/signal{query}"));
        let welcome = client.message().json();
        (client, welcome)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
fn two_peers_of_a_room_meet_behind_a_balancer() {
    let has_haproxy = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok();
    assert!(has_haproxy || std::env::var_os("TESTS_NEED_REDIS").is_none(), "haproxy is not installed");
    if !is_installed() || !has_haproxy {
        return;
    }
    let (_process, servers) = servers::<2>(&[]);
    let balancer = Balancer::start(servers.each_ref().map(|server| server.address));
    let mut peers = Vec::new();
    for query in ["?room=a", "?room=b", "?room=c", "?room=d", "?room=e", "?room=f", "?room=g", ""] {
        let ((mut first, welcome), (mut second, other)) = (balancer.join(query), balancer.join(query));
        let ids = [&welcome, &other].map(|welcome| welcome["peer_id"].clone());
        assert_eq!(other["peers"], json!([ids[0]]), "they are on one server");
        assert_eq!(first.message().json(), json!({ "type": "joined", "peer_id": ids[1] }));
        second.send_text(&json!({ "type": "offer", "to": ids[0], "sdp": "x" }).to_string());
        assert_eq!(first.message().json(), json!({ "type": "offer", "from": ids[1], "sdp": "x" }));
        peers.extend([first, second]);
    }
    servers[0].wait_for("all peers", |stats| {
        let open: Vec<_> = stats["nodes"].as_array().unwrap().iter().map(|node| node["open"].as_u64()).collect();
        open.iter().flatten().sum::<u64>() == 16 && !open.contains(&Some(0))
    });
}
