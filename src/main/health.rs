//! The health check of a container that has no other program: it asks the server whether it is alive.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The longest wait for the connection, and for the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the server at this address for `GET /health`. An address that means all interfaces is asked at the loopback one.
///
/// # Errors
/// A sentence, when there is no answer or another one than 200.
pub fn check(host: &str, port: u16) -> Result<(), String> {
    let answer = ask(host, port).map_err(|error| format!("no answer from {host}, port {port}: {error}"))?;
    match answer.split("\r\n").next() {
        Some("HTTP/1.1 200 OK") => Ok(()),
        line => Err(format!("{host}, port {port}: expected 200, not {:?}", line.unwrap_or_default())),
    }
}

fn ask(host: &str, port: u16) -> std::io::Result<String> {
    let mut address = (host, port).to_socket_addrs()?.next().unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)));
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}
