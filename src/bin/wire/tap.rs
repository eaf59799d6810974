//! `wire tap`: relays to any HTTP or WebSocket server, and shows the bytes on a page.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use overwire::Limits;
use overwire::output;
use overwire::tap::{Mode, Tap, TapConfig};

use crate::End;
use crate::url::Url;

/// The time limit for connecting to one of several addresses of the target.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// The time that the streams of the target have to end after Ctrl+C.
const DRAIN_TIME: Duration = Duration::from_millis(300);

/// Runs a tap until a signal ends it.
pub fn run(url: &Url, port: u16, shows_secrets: bool) -> Result<(), End> {
    let target = resolve(&url.host, url.port)?;
    let target_url = format!("http://{}", url.authority);
    let tap = Tap::bind(TapConfig {
        host: "127.0.0.1".to_owned(),
        port,
        target,
        target_url: target_url.clone(),
        mode: Mode::All,
        allow_hosts: Vec::new(),
        shows_secrets,
        limits: Limits { drain_time: DRAIN_TIME, ..Limits::default() },
        signals: true,
    });
    let tap = tap.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => End::Failed(format!("port {port} is in use: choose another one with --port")),
        _ => End::Failed(format!("cannot listen on port {port}: {error}")),
    })?;
    let (address, path) = (tap.local_address(), &url.target);
    // The tap runs even if standard output is closed, full, or not read.
    output::standard_output().write(&format!(
        "listening on http://{address}\n  \
         open http://{address}/-/tap/ to see the bytes\n  \
         use http://{address}{path} in place of {target_url}{path}\n"
    ));
    tap.run().map_err(|error| End::Failed(format!("the tap has ended: {error}")))
}

/// Returns the address of a host. If it has several, returns the first that accepts a connection: `localhost` may be
/// both ::1 and 127.0.0.1, and many servers listen on only one of them.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, End> {
    let addresses = (host, port).to_socket_addrs();
    let addresses: Vec<_> =
        addresses.map_err(|error| End::Failed(format!("cannot resolve {host}: {error}")))?.collect();
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, PROBE_TIME).is_ok();
    let first = if addresses.len() > 1 { addresses.iter().find(accepts) } else { None };
    first.or(addresses.first()).copied().ok_or_else(|| End::Failed(format!("{host} has no address")))
}
