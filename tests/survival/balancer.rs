//! haproxy before the nodes. It sends each request to the next one, also those of one client.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::node::free_port;

pub struct Balancer {
    process: Child,
    file: PathBuf,
    pub address: SocketAddr,
}

impl Balancer {
    /// Starts a balancer on a free port, and waits until it listens.
    pub fn start(nodes: &[SocketAddr]) -> io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut text = format!(
            "defaults\n mode http\n option redispatch\n retries 2\n timeout connect 1s\n timeout client 60s\n \
             timeout server 60s\n timeout tunnel 60s\nfrontend all\n bind {address}\n default_backend nodes\n\
             backend nodes\n balance roundrobin\n option httpchk GET /health\n"
        );
        for (number, node) in nodes.iter().enumerate() {
            writeln!(text, " server node{number} {node} check inter 100ms fall 1 rise 1").map_err(io::Error::other)?;
        }
        let file = std::env::temp_dir().join(format!("overwire-survival-{}-{}.cfg", process::id(), address.port()));
        fs::write(&file, text)?;
        let process = Command::new("haproxy").arg("-q").arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).spawn()?;
        let mut balancer = Balancer { process, file, address };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = balancer.process.try_wait()? {
                return Err(io::Error::other(format!("haproxy has ended: {status}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(balancer)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.file);
    }
}
