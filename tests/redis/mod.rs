//! The journal in Redis, with real `redis-server` processes. `journal` and `faults` drive the journal itself, `servers`,
//! `nodes`, `sessions` and `signalling` drive whole servers. `process` is a process of Redis, `node` a journal on an event loop,
//! `relay` disturbs the connections between them.
//!
//! `REDIS_SERVER=PROGRAM` runs them with another program than `redis-server`, such as `valkey-server`.
//!
//! Where `redis-server` is not installed, these tests pass without a check, unless the variable `TESTS_NEED_REDIS` is
//! set.

mod faults;
mod journal;
mod node;
mod nodes;
mod process;
mod relay;
mod servers;
mod sessions;
mod signalling;

use overwire::journal::LogName;

use self::node::{Node, wait};
use self::process::Process;

fn room(name: &str) -> LogName {
    LogName::Room(name.into())
}

/// A process of Redis, and two nodes that have opened the room `tea`.
fn two_nodes(arguments: &[&str]) -> (Process, Node, Node, LogName) {
    let process = Process::started(arguments);
    let tea = room("tea");
    let mut nodes = [(); 2].map(|()| Node::new(&process.url()));
    nodes.iter_mut().for_each(|node| node.open(&tea));
    let [mut one, mut two] = nodes;
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.feeds.contains_key(&tea)));
    (process, one, two, tea)
}
