//! A balancer: each connection goes to the next node. A node that does not listen is left out.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use lessons::{Extra, Lesson};

const LESSON: Lesson = Lesson {
    name: "10-balancer",
    port: 8010,
    about: "passes each connection on to the next node",
    first: "curl {url}/messages",
    look_for: "another node in each answer",
    costs: &[],
};

const TO: Extra = Extra { usage: "--to PORTS", about: "the ports of the nodes", default: "8011,8012" };

fn main() -> ExitCode {
    LESSON.run_with(&[TO], |port, values| {
        let port_of = |text: &str| text.parse().map_err(|_| io::Error::other("--to: expected ports, such as 1,2"));
        let nodes = values[0].split(',').map(port_of).collect::<io::Result<Vec<u16>>>()?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        LESSON.greet(listener.local_addr()?);
        balance(&listener, &nodes)
    })
}

fn balance(listener: &TcpListener, nodes: &[u16]) -> io::Result<()> {
    // ANCHOR: balance
    for turn in 0.. {
        let (client, _) = listener.accept()?;
        let mut ports = nodes.iter().cycle().skip(turn % nodes.len()).take(nodes.len());
        let node = ports.find_map(|port| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], *port))).ok());
        match node {
            Some(node) => join(client, node)?,
            None => _ = (&client).write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        }
    }
    // ANCHOR_END: balance
    Ok(())
}

/// Copies both directions, until each has ended.
fn join(client: TcpStream, node: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(client.try_clone()?, node.try_clone()?), (node, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
