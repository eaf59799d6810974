//! The servers that share rooms and mailboxes: what each says of itself, and the sums of `GET /api/stats`.
//!
//! A server announces its numbers as JSON, as in its own statistics, with two more members. `uptime` is in seconds.
//! `who` has the clients that are present in small rooms: a client with readers on several servers counts once.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::Server;
use super::senders::{Sender, Waiting};
use crate::journal::{Asker, NodeList};

impl Server {
    /// Sends the other servers the numbers of this one.
    pub(super) fn announce(&mut self) {
        let json = self.announcement();
        self.exchanges.journal.announce(self.exchanges.now(), &json);
    }

    fn announcement(&mut self) -> String {
        let mut json = self.numbers();
        json.pop(); // the closing brace
        json.push_str(&format!(r#","uptime":{},"who":{{"#, self.uptime()));
        self.rooms.append_who(&mut json);
        json.push_str("}}");
        json
    }

    /// Returns the sums over all servers, as JSON. `None` if there is only this one.
    pub(super) fn sums(&mut self) -> Option<String> {
        self.exchanges.journal.nodes(self.exchanges.now())?;
        let json = self.announcement();
        let NodeList { own, others } = self.exchanges.journal.nodes(self.exchanges.now())?;
        let nodes: Vec<_> =
            [(own, json.as_str())].into_iter().chain(others).map(|(id, json)| (id, parse(json))).collect();
        Some(sum(nodes).to_string())
    }

    /// Ends clients because another server wants it.
    pub(super) fn end_for(&mut self, asker: &Asker, clients: &[String]) {
        let known = clients.iter().filter(|client| self.rooms.disconnect(&mut self.exchanges, client)).count();
        self.exchanges.journal.clients_ended(asker, known > 0);
    }

    /// Answers the request to end a client: all other servers have done that.
    pub(super) fn answer_end(&mut self, waiting: Option<Waiting>, is_known: bool) {
        if let Some(Waiting { sender: Sender::Operator(id, since, result), .. }) = waiting {
            let result = if is_known { Ok(()) } else { result };
            self.exchanges.reply(id, since, super::admin::disconnected(result));
        }
    }
}

fn parse(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_default()
}

/// Returns the sums of the numbers of all servers, and the list of them. The first is the one that answers.
fn sum(nodes: Vec<(&str, Map<String, Value>)>) -> Value {
    let (mut sums, mut list) = (Value::Null, Vec::new());
    let (mut seen, mut repeated) = (HashMap::<_, HashSet<_>>::new(), Vec::new());
    for (id, mut numbers) in nodes {
        let transports = numbers.get("transports").and_then(Value::as_object);
        let open = transports.map_or(0, |transports| transports.values().map(|counts| number(&counts["open"])).sum());
        let memory = numbers.get("memory").and_then(Value::as_object);
        let bytes = memory.map_or(0, |memory| memory.values().map(number).sum::<u64>());
        list.push(json!({
            "id": id,
            "uptime": numbers.remove("uptime"),
            "active_clients": numbers.get("active_clients"),
            "connections": numbers.get("connections"),
            "open": open,
            "memory": bytes,
        }));
        let who = numbers.remove("who").and_then(|who| if let Value::Object(who) = who { Some(who) } else { None });
        for (room, clients) in who.unwrap_or_default() {
            let seen = seen.entry(room.clone()).or_default();
            let clients = clients.as_array().into_iter().flatten().filter_map(Value::as_u64);
            repeated.extend(clients.filter(|client| !seen.insert(*client)).map(|_| room.clone()));
        }
        add(&mut sums, Value::Object(numbers));
    }
    for room in repeated {
        if let Some(present) = sums.get_mut("present").and_then(|present| present.get_mut(room)) {
            *present = number(present).saturating_sub(1).into();
        }
    }
    sums["nodes"] = list.into();
    sums
}

/// Adds two numbers, the members of two objects, or the names of two lists, each once and in alphabetical order.
fn add(sum: &mut Value, other: Value) {
    match (sum, other) {
        (sum @ Value::Null, other) => *sum = other,
        (Value::Object(sum), Value::Object(other)) => {
            for (name, value) in other {
                add(sum.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(sum), Value::Array(other)) => {
            sum.extend(other);
            sum.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            sum.dedup();
        }
        (sum @ Value::Number(_), other) => *sum = number(sum).saturating_add(number(&other)).into(),
        _ => {}
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_and_a_client_on_two_servers_counts_once() {
        let one = json!({
            "active_clients": 2, "rooms": ["a", "c"], "present": {"a": 3, "c": 1}, "who": {"a": [1, 2], "c": [7]},
            "transports": {"sse": {"open": 1}, "websocket": {"open": 2}}, "memory": {"rooms": 10, "keys": 1},
            "uptime": 1.5, "connections": 4,
        });
        let two = json!({
            "active_clients": 1, "rooms": ["b", "c"], "present": {"a": 2, "b": 1}, "who": {"a": [2, 3]},
            "transports": {"sse": {"open": 5}}, "memory": {"rooms": 20}, "uptime": 9, "connections": 1,
        });
        let sums = sum(vec![("x", parse(&one.to_string())), ("y", parse(&two.to_string())), ("z", parse("nonsense"))]);
        let node = |id, uptime, active_clients, connections, open, memory| {
            json!({
                "id": id, "uptime": uptime, "active_clients": active_clients, "connections": connections, "open": open,
                "memory": memory,
            })
        };
        let (nothing, one, two) = (Value::Null, json!(1), json!(2));
        assert_eq!(
            sums,
            json!({
                "active_clients": 3, "rooms": ["a", "b", "c"], "present": {"a": 4, "b": 1, "c": 1}, "connections": 5,
                "transports": {"sse": {"open": 6}, "websocket": {"open": 2}}, "memory": {"rooms": 30, "keys": 1},
                "nodes": [
                    node("x", json!(1.5), two, json!(4), 3, 11),
                    node("y", json!(9), one.clone(), one, 5, 20),
                    node("z", nothing.clone(), nothing.clone(), nothing, 0, 0),
                ],
            })
        );
    }
}
