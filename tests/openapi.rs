//! The server does what `/openapi.json` describes: the same paths and methods, and for every example an answer with a
//! described status, with the described fields and members. An answer must not have a member that is not described.

use std::collections::BTreeSet;

use crate::common::{Answer, Client, TestServer, field};
use overwire::identity::{AccessKey, Rights, RoomPattern, add_key};
use overwire::random::Random;
use overwire::websocket::{Opcode, opening_request};
use serde_json::{Map, Value, json};

/// The description that the server serves.
struct Api(Value);

/// One method of one path.
struct Operation<'a> {
    api: &'a Api,
    path: &'a str,
    method: String,
    value: &'a Value,
}

impl Api {
    fn of(server: &TestServer) -> Self {
        Api(server.get("/openapi.json").json())
    }

    /// Follows references.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(target) => {
                let value = self.0.pointer(target.strip_prefix('#').unwrap());
                self.resolve(value.unwrap_or_else(|| panic!("{target} leads nowhere")))
            }
            None => value,
        }
    }

    fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, value) in item.as_object().unwrap() {
                operations.push(Operation { api: self, path, method: method.to_uppercase(), value });
            }
        }
        operations
    }

    fn operation(&self, id: &str) -> Operation<'_> {
        let is_it = |one: &Operation<'_>| one.value["operationId"] == id;
        self.operations().into_iter().find(is_it).unwrap_or_else(|| panic!("{id} is described"))
    }

    /// Returns the first difference between a value and its schema. It knows the words of JSON Schema that the
    /// description uses.
    fn fault(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = self.resolve(schema);
        if let Some(alternatives) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            let faults: Vec<_> = alternatives.iter().map(|one| self.fault(one, value)).collect();
            let fits = faults.iter().filter(|fault| fault.is_none()).count();
            return (fits != 1).then(|| format!("{value} fits {fits} of the alternatives: {faults:?}"));
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        if !types.is_empty() && !types.iter().any(|one| is_of_type(value, one.as_str().unwrap())) {
            return Some(format!("{value} is not of type {types:?}"));
        }
        if schema.get("const").is_some_and(|only| only != value) {
            return Some(format!("{value} is not {}", schema["const"]));
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            return Some(format!("{value} is not one of {}", schema["enum"]));
        }
        match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap();
                let too_low = schema["minimum"].as_f64().is_some_and(|least| number < least);
                let too_high = schema["maximum"].as_f64().is_some_and(|most| number > most);
                (too_low || too_high).then(|| format!("{number} is out of range"))
            }
            Value::String(text) => {
                let length = text.chars().count() as u64;
                let too_short = schema["minLength"].as_u64().is_some_and(|least| length < least);
                let too_long = schema["maxLength"].as_u64().is_some_and(|most| length > most);
                let no_uuid = schema["format"] == "uuid" && !is_uuid(text);
                (too_short || too_long || no_uuid).then(|| format!("{text:?} does not fit {schema}"))
            }
            Value::Array(items) => items.iter().find_map(|item| self.fault(&schema["items"], item)),
            Value::Object(members) if schema["properties"].is_object() => self.fault_of_members(schema, members),
            _ => None,
        }
    }

    fn fault_of_members(&self, schema: &Value, members: &Map<String, Value>) -> Option<String> {
        let required = schema["required"].as_array().into_iter().flatten();
        if let Some(missing) = required.map(|name| name.as_str().unwrap()).find(|name| !members.contains_key(*name)) {
            return Some(format!("{missing} is missing in {members:?}"));
        }
        members.iter().find_map(|(name, value)| match schema["properties"].get(name) {
            Some(schema) => self.fault(schema, value).map(|fault| format!("{name}: {fault}")),
            None => Some(format!("{name} is not described")),
        })
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.value["operationId"].as_str().unwrap()
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.value["parameters"].as_array().into_iter().flatten().map(|one| self.api.resolve(one))
    }

    fn is_websocket(&self) -> bool {
        self.value["responses"].get("101").is_some()
    }

    /// Returns the path and the query with the examples of their parameters.
    fn target(&self) -> String {
        self.target_with("", "")
    }

    /// Returns the same with another value for one parameter.
    fn target_with(&self, changed: &str, to: &str) -> String {
        let (mut path, mut query) = (self.path.to_owned(), Vec::new());
        for parameter in self.parameters() {
            let name = parameter["name"].as_str().unwrap();
            let example = match &parameter["example"] {
                _ if name == changed => to.to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &example),
                "query" => query.push(format!("{name}={example}")),
                _ => {}
            }
        }
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }

    /// Returns the fields of the handshake with their examples.
    fn handshake(&self) -> String {
        let fields = self.parameters().filter(|parameter| parameter["in"] == "header" && parameter["required"] == true);
        let text = |field: &Value, member: &str| field[member].as_str().unwrap().to_owned();
        fields.map(|field| format!("{}: {}\r\n", text(field, "name"), text(field, "example"))).collect()
    }

    /// Returns the contents of its examples, with `mailbox` as the mailbox.
    fn contents(&self, mailbox: &str) -> Vec<String> {
        let media = &self.value["requestBody"]["content"]["application/json"];
        let many = media["examples"].as_object().into_iter().flat_map(Map::values).map(|example| &example["value"]);
        let examples = many.chain(media.get("example"));
        let with_mailbox = |example: &Value| {
            let mut example = example.clone();
            if let Some(id) = example.get_mut("connection_id") {
                *id = mailbox.into();
            }
            example.to_string()
        };
        examples.map(with_mailbox).collect()
    }

    /// Checks that a head is described: its status, and the fields of that status.
    #[track_caller]
    fn check_head(&self, head: &str) -> &Value {
        let response = self.value["responses"].get(&head[9..12]);
        let response = response.unwrap_or_else(|| panic!("{} has a status that is not described: {head}", self.id()));
        let response = self.api.resolve(response);
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = self.api.resolve(header);
            match field(head, name) {
                Some(value) => {
                    let value = if header["schema"]["type"] == "integer" {
                        json!(value.parse::<i64>().unwrap())
                    } else {
                        json!(value)
                    };
                    assert_eq!(self.api.fault(&header["schema"], &value), None, "{} of {}: {head}", name, self.id());
                }
                None => assert_ne!(header["required"], true, "{} lacks {name}: {head}", self.id()),
            }
        }
        response
    }

    /// Checks that an answer is described, head and content.
    #[track_caller]
    fn check(&self, answer: &Answer) {
        let response = self.check_head(&answer.head);
        let content_type = answer.field("Content-Type").unwrap().split(';').next().unwrap();
        let media = &response["content"][content_type];
        assert!(media.is_object(), "{} does not describe {content_type}", self.id());
        let value = if content_type == "application/json" { answer.json() } else { answer.text().into() };
        assert_eq!(self.api.fault(&media["schema"], &value), None, "{}: {value}", self.id());
    }

    /// Checks that a message of a stream or a WebSocket is described.
    #[track_caller]
    fn check_message(&self, message: &Value) {
        let schemas = self.value["x-messages"]["fromServer"].as_array().unwrap();
        let faults: Vec<_> = schemas.iter().map(|schema| self.api.fault(schema, message)).collect();
        assert!(faults.contains(&None), "{}: {message}: {faults:?}", self.id());
    }
}

#[test]
fn options_lists_the_described_methods() {
    let server = TestServer::start();
    let api = Api::of(&server);
    let mailbox = server.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    let mut client = server.connect();
    for (path, item) in api.0["paths"].as_object().unwrap() {
        let mut described = BTreeSet::from(["OPTIONS".to_owned()]);
        for (method, operation) in item.as_object().unwrap() {
            described.insert(method.to_uppercase());
            if method == "get" && operation["responses"].get("101").is_none() {
                described.insert("HEAD".into());
            }
        }
        let get = api.operations().into_iter().find(|one| one.path == path && one.method == "GET");
        let path = path.replace("{connection_id}", "tab-1").replace("{id}", "tab-1");
        let answer = client.send(format!("OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer();
        let allowed: BTreeSet<_> = answer.field("Allow").unwrap().split(", ").map(str::to_owned).collect();
        assert_eq!((answer.status, allowed), (204, described.clone()), "{path}");
        for method in ["GET", "POST", "PUT", "DELETE", "TRACE", "PATCH"].map(str::to_owned) {
            if !described.contains(&method) {
                let answer = client.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer();
                assert_eq!((answer.status, answer.field("Allow").is_some()), (405, true), "{method} {path}");
            }
        }
        if described.contains("HEAD") {
            let target = get.unwrap().target_with("connection_id", &mailbox);
            let head = server.connect().send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).head_alone();
            assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
        }
    }
}

#[test]
fn every_example_fits_its_schema() {
    let server = TestServer::start();
    let api = Api::of(&server);
    let mut count = 0;
    let mut check = |schema: &Value, holder: &Value| {
        let many = holder["examples"].as_object().into_iter().flat_map(Map::values).map(|example| &example["value"]);
        for example in many.chain(holder.get("example")) {
            assert_eq!(api.fault(schema, example), None, "{example}");
            count += 1;
        }
    };
    for operation in api.operations() {
        let contents = [&api.resolve(&operation.value["requestBody"])["content"]];
        let answers = operation.value["responses"].as_object().unwrap().values();
        let answers: Vec<_> = answers.map(|response| &api.resolve(response)["content"]).collect();
        for media in contents.into_iter().chain(answers).filter_map(Value::as_object).flat_map(Map::values) {
            check(&media["schema"], media);
        }
        operation.parameters().for_each(|parameter| check(&parameter["schema"], parameter));
    }
    assert!(count > 100, "only {count} examples");
    for (name, schema) in api.0["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            // Relayed messages have any members that their sender gives them.
            let is_signal =
                schema["description"].as_str().unwrap_or_default().contains("relayed") || name == "SignalRelayed";
            let fault = api.fault(schema, example);
            assert!(fault.is_none() || is_signal, "{name}: {fault:?}");
        }
    }
}

/// A server with a message in each room, a polling client and a mailbox. The client's connection holds its poll.
fn prepared_server() -> (TestServer, Client, String) {
    let server = TestServer::with(|config| config.chaos = true);
    server.publish("general", "first");
    server.post("/send", r#"{"message":"first"}"#);
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=tab-1&room=empty");
    server.wait_for_open("long_poll", 1);
    let mailbox = server.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    (server, poll, mailbox)
}

#[test]
fn every_operation_answers_its_examples_as_described() {
    let (server, _poll, mailbox) = prepared_server();
    let api = Api::of(&server);
    // `sessions_and_tickets_are_answered_as_described` sends these to a server with keys.
    // `connections_are_described` ends a connection.
    let is_elsewhere = |one: &Operation<'_>| ["logIn", "logOut", "ticket", "endConnection"].contains(&one.id());
    let is_live = |operation: &Operation<'_>| operation.value.get("x-messages").is_some() || is_elsewhere(operation);
    let (mut count, mut client) = (0, server.connect());
    // `forget` comes last: it removes what the other examples need.
    let (last, first): (Vec<_>, Vec<_>) = api.operations().into_iter().partition(|one| one.id() == "forget");
    for operation in first.iter().filter(|operation| !is_live(operation)).chain(&last) {
        let mut contents = operation.contents(&mailbox);
        if contents.is_empty() {
            contents.push(String::new());
        }
        for content in contents {
            let target = if operation.id() == "mailboxStatus" {
                operation.target_with("connection_id", &mailbox)
            } else {
                operation.target()
            };
            let (method, length) = (&operation.method, content.len());
            let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
            let answer = client.send(head + &content).answer();
            assert!(answer.status < 300, "{method} {target}: {answer:?}");
            operation.check(&answer);
            count += 1;
        }
    }
    assert!(count >= 15, "{count} requests");
}

/// A keys file that is removed at the end.
struct KeysFile(std::path::PathBuf);

impl KeysFile {
    fn create() -> Self {
        let name = format!("overwire-{}", Random::open().unwrap().uuid());
        let file = KeysFile(std::env::temp_dir().join(name));
        std::fs::write(&file.0, "").unwrap();
        file
    }

    fn start_server(&self) -> TestServer {
        let path = self.0.clone();
        TestServer::with(move |config| config.keys = Some(path))
    }
}

impl Drop for KeysFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn sessions_and_tickets_are_answered_as_described() {
    let file = KeysFile::create();
    let rooms = RoomPattern::parse_list("*").unwrap();
    let (key, text) = AccessKey::create(&mut Random::open().unwrap(), "alice", Rights::ADMIN, rooms, None);
    add_key(&file.0, &key).unwrap();
    let (closed, open) = (file.start_server(), TestServer::start());
    let api = Api::of(&open);
    let mut fields = String::new();
    for id in ["logIn", "whoAmI", "ticket", "statistics", "logOut"] {
        let operation = api.operation(id);
        let content = operation.contents("").pop().unwrap_or_default();
        let content = content.replace("ow_7e3b0d1a5c9f48261f0c2a9e8b4d8e17b5c37f2a", &text);
        let (method, path, length) = (&operation.method, operation.path, content.len());
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{content}");
        let answer = closed.connect().send(&request).answer();
        assert_eq!(answer.status, 200, "{id}");
        operation.check(&answer);
        if let Some(cookie) = answer.field("Set-Cookie") {
            fields = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
        }
        let without_keys = open.connect().send(&request).answer();
        assert_eq!(without_keys.status, if operation.method == "GET" { 200 } else { 404 }, "{id}");
        operation.check(&without_keys);
    }
}

#[test]
fn connections_are_described() {
    let (server, mut poll, mailbox) = prepared_server();
    let api = Api::of(&server);
    let (list, end) = (api.operation("connections"), api.operation("endConnection"));
    let mut socket = server.websocket("/ws");
    socket.message();
    let answer = server.get(list.path);
    list.check(&answer);
    let rows = answer.json();
    let row = rows["connections"].as_array().unwrap().iter().find(|row| row["transport"] == "long_poll").unwrap();
    let target = end.target_with("id", row["id"].as_str().unwrap());
    for status in [200, 404] {
        let answer = server.connect().send(format!("DELETE {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer();
        assert_eq!(answer.status, status);
        end.check(&answer);
        if status == 200 {
            api.operation("roomPoll").check(&poll.answer());
            assert_eq!(poll.get("/health").status, 200, "the connection of a poll goes on");
            drop(poll.stream.shutdown(std::net::Shutdown::Both));
            server.wait_for("the end of the connection", |stats| stats["connections"] == 2);
        }
    }
    let status = api.operation("mailboxStatus");
    status.check(&server.get(&status.target_with("id", &mailbox)));
    status.check(&server.get(&status.target_with("id", "unknown")));
}

#[test]
fn every_kind_of_answer_to_a_poll_is_described() {
    let (server, mut held, mailbox) = prepared_server();
    let api = Api::of(&server);
    let (poll, mailbox_poll) = (api.operation("roomPoll"), api.operation("mailboxPoll"));
    let wait = format!(r#"{{"connection_id":"{mailbox}"}}"#);
    let mut first = server.connect();
    first.send_post("/poll", &wait);
    server.wait_for_open("long_poll", 2);
    let mut second = server.connect();
    second.send_post("/poll", &wait);
    let superseded = first.answer();
    assert_eq!(superseded.json()["superseded"], true);
    mailbox_poll.check(&superseded);
    server.wait_for_open("long_poll", 2);
    server.advance(31);
    for (operation, client, kind) in [(&mailbox_poll, &mut second, "type"), (&poll, &mut held, "status")] {
        let answer = client.answer();
        assert_eq!(answer.json()[kind], "timeout");
        operation.check(&answer);
    }
    second.send_post("/poll", &wait);
    held.send_get("/api/poll?client_id=tab-1&room=empty");
    server.wait_for_open("long_poll", 2);
    let put = server.post("/poll", &format!(r#"{{"connection_id":"{mailbox}","text":"x"}}"#));
    let disconnected = server.connect().send("DELETE /api/client/tab-1 HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    api.operation("disconnectClient").check(&disconnected);
    let answers = [put, second.answer(), held.answer()];
    assert_eq!((&answers[0].json()["type"], &answers[1].json()["type"]), (&"message".into(), &"new_message".into()));
    assert_eq!(answers[2].json()["status"], "disconnected");
    mailbox_poll.check(&answers[0]);
    mailbox_poll.check(&answers[1]);
    poll.check(&answers[2]);
}

#[test]
fn streams_send_described_messages() {
    let (server, _poll, _) = prepared_server();
    let api = Api::of(&server);
    for operation in api.operations().iter().filter(|one| one.value.get("x-messages").is_some() && !one.is_websocket())
    {
        let mut client = server.connect();
        let head = client.send_get(&operation.target()).head();
        let described = operation.check_head(&head);
        let is_sse = described["content"].get("text/event-stream").is_some();
        let mut kinds = BTreeSet::new();
        let transport = if is_sse { "sse" } else { "stream" };
        server.wait_for_open(transport, 1);
        server.advance(16); // a heartbeat is due
        let count = match operation.id() {
            "mailboxEvents" => 2, // a greeting and a heartbeat
            "roomStream" => 3,    // a notice, a message and a heartbeat
            _ => 4,               // the same after an opening
        };
        while kinds.len() < count {
            let message: Value = if is_sse {
                serde_json::from_str(&client.any_event().data).unwrap()
            } else {
                match &*client.line() {
                    "" => {
                        kinds.insert("heartbeat".to_owned());
                        continue;
                    }
                    line => serde_json::from_str(line).unwrap(),
                }
            };
            operation.check_message(&message);
            let kind = message["type"].as_str().map(str::to_owned);
            kinds.insert(kind.unwrap_or_else(|| message.as_object().unwrap().keys().cloned().collect()));
        }
        drop(client);
        server.wait_for_open(transport, 0);
    }
}

#[test]
fn websockets_send_described_messages() {
    let (server, _poll, _) = prepared_server();
    let api = Api::of(&server);
    let mut count = 0;
    for operation in api.operations().iter().filter(|operation| operation.is_websocket()) {
        count += 1;
        // The handshake with the examples of the description.
        let fields = operation.handshake();
        let mut client = server.connect();
        let head =
            client.send(format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n", operation.target())).head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{}: {head}", operation.id());
        operation.check_head(&head);
        // A greeting or a notice, and in a room the message.
        for _ in 0..if operation.id() == "roomWebSocket" { 2 } else { 1 } {
            operation.check_message(&client.message().json());
        }
        client.send_text("{}");
        let error = client.message().json();
        assert_eq!(
            (&error["type"], api.fault(&api.0["components"]["schemas"]["Error"], &error)),
            (&"error".into(), None)
        );
        for schema in operation.value["x-messages"]["fromClient"].as_array().unwrap() {
            client.send_text(&api.resolve(schema)["examples"][0].to_string());
            operation.check_message(&client.message().json());
        }
        client.send_frame(Opcode::Close, [0x03, 0xe8]);
    }
    assert_eq!(count, 3);
}

/// Returns the values at both ends of a schema's range, and the values next to them outside the range.
fn ends_of(schema: &Value) -> Option<([Value; 2], [Value; 2])> {
    let ends = |low, high| Some((schema[low].as_u64()?, schema[high].as_u64()?));
    let texts = |lengths: [u64; 2]| lengths.map(|length| "x".repeat(length as usize).into());
    if let Some((low, high)) = ends("minimum", "maximum") {
        return Some(([low, high].map(Value::from), [low - 1, high + 1].map(Value::from)));
    }
    ends("minLength", "maxLength").map(|(low, high)| (texts([low, high]), texts([low - 1, high + 1])))
}

/// Calls `ask` with the values at the ends of a range, and with those outside, which must be refused. Returns the number
/// of values.
fn try_ends(schema: &Value, mut ask: impl FnMut(&Value) -> (u16, String)) -> usize {
    let Some((inside, outside)) = ends_of(schema) else { return 0 };
    for value in &inside {
        let (status, what) = ask(value);
        assert_ne!(status, 400, "{what}");
    }
    for value in &outside {
        let (status, what) = ask(value);
        assert_eq!(status, 400, "{what}");
    }
    inside.len() + outside.len()
}

#[test]
fn ranges_end_at_the_described_values() {
    let (server, ..) = prepared_server();
    let api = Api::of(&server);
    // A poll of either room gets a message at once.
    server.publish("x", "first");
    server.publish(&"x".repeat(64), "first");
    let mut count = 0;
    for operation in api.operations() {
        for parameter in operation.parameters().filter(|parameter| parameter["in"] == "query") {
            count += try_ends(api.resolve(&parameter["schema"]), |value| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let target = operation.target_with(parameter["name"].as_str().unwrap(), &value);
                let fields = operation.handshake();
                let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
                let head = server.connect().send(request).head();
                (head[9..12].parse().unwrap(), format!("{target}: {head}"))
            });
        }
        let content = &operation.value["requestBody"]["content"]["application/json"];
        let members = api.resolve(&content["schema"])["properties"].as_object();
        for (name, schema) in members.into_iter().flatten() {
            count += try_ends(api.resolve(schema), |value| {
                let example = operation.contents("nobody").pop().unwrap();
                let mut content: Value = serde_json::from_str(&example).unwrap();
                content[name] = value.clone();
                let answer = server.post(operation.path, &content.to_string());
                (answer.status, format!("{name} of {}: {}", operation.id(), answer.text()))
            });
        }
    }
    assert!(count >= 80, "{count} requests");
}

#[test]
fn every_described_error_occurs() {
    let server = TestServer::start();
    let api = Api::of(&server);
    let request = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n");
    let long = "a".repeat(9000);
    let fields = "a: b\r\n".repeat(100);
    let too_large = request("POST /api/send", "Content-Length: 1048577\r\n");
    let handshake = String::from_utf8(opening_request("localhost", "/ws", "dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
    let cases = [
        ("roomSend", request("POST /api/send", "Content-Length: 14\r\n") + r#"{"sender":"a"}"#),
        ("roomPoll", request("GET /api/poll?client_id=a&timeout=4", "")),
        ("roomSend", request("POST /api/send", "Content-Length: 1\r\n") + "{"),
        ("demoSend", request("POST /send", "Content-Length: 21\r\n") + r#"{"message": "\ud83d"}"#),
        ("demoSend", request("POST /send", "Content-Encoding: gzip\r\nContent-Length: 1\r\n") + "\u{1f}"),
        ("demoSend", request("POST /send", "Transfer-Encoding: gzip, chunked\r\n")),
        ("roomWebSocket", request("GET /api/ws", "")),
        ("roomSend", request("POST /api/send", "Origin: https://example.com\r\n")),
        ("roomPoll", request("GET /api/poll?client_id=a", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n")),
        (
            "roomPoll",
            request("GET /api/poll?client_id=a", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n"),
        ),
        ("mailboxText", request("POST /sse/message", "Content-Length: 32\r\n") + r#"{"connection_id":"a","text":"b"}"#),
        ("disconnectClient", request("DELETE /api/client/nobody", "")),
        ("forget", request("POST /api/forget", "Content-Length: 0\r\n")),
        ("health", request("PUT /health", "")),
        ("roomSend", too_large),
        ("health", request(&format!("GET /{long}"), "")),
        ("roomSend", request("POST /api/send", "Expect: tea\r\nContent-Length: 2\r\n")),
        ("health", request("GET /health", "").replace("localhost", "example.com")),
        ("mailboxWebSocket", handshake.replace("Version: 13", "Version: 12")),
        ("health", request("GET /health", &fields)),
        ("health", request("QUERY /health", "")),
        ("health", request("GET /health", "").replace("1.1", "1.2")),
    ];
    let mut seen = BTreeSet::new();
    let mut check = |operation: &str, answer: Answer| {
        let operation = api.operation(operation);
        operation.check(&answer);
        let response = api.resolve(&operation.value["responses"][answer.status.to_string()]);
        let media = &response["content"]["application/json"];
        let many = media["examples"].as_object().into_iter().flat_map(Map::values).map(|example| &example["value"]);
        let examples: Vec<_> = many.chain(media.get("example")).collect();
        assert!(examples.contains(&&answer.json()), "{}: {} is no example", answer.status, answer.text());
        seen.insert((answer.status, answer.text().to_owned()));
    };
    for (operation, bytes) in cases {
        check(operation, server.connect().send(bytes).answer());
    }
    // A client that sends faster than it may.
    let limited =
        TestServer::with(|config| (config.limits.per_client.loopback, config.limits.per_client.rate) = (true, 1));
    let content = r#"{"sender":"a","text":"b"}"#;
    let mut fast = limited.connect();
    fast.send_post("/api/send", content).send_post("/api/send", content).answer();
    check("roomSend", fast.answer());
    // A key that another text came with.
    let send = |text: &str| server.post("/api/send", &json!({ "sender": "a", "text": text, "key": "1" }).to_string());
    send("one");
    check("roomSend", send("other"));
    // A server with keys, and nobody who has one.
    let file = KeysFile::create();
    let closed = file.start_server();
    check("roomHistory", closed.get("/api/history"));
    let wrong = || closed.connect().send(request("GET /api/history", "Authorization: Bearer a\r\n")).answer();
    (0..11).for_each(|_| check("roomHistory", wrong()));
    check("roomHistory", wrong());
    // A path that does not exist.
    let nothing = server.get("/nothing").json();
    let not_found = &api.0["components"]["responses"]["NotFound"]["content"]["application/json"]["examples"];
    assert_eq!(not_found["path"]["value"], nothing);
    // A head that arrives too late.
    let mut slow = server.connect();
    slow.send(request("GET /health", "") + "GET /health HTTP/1.1\r\n").answer();
    server.advance(11);
    check("health", slow.answer());
    // One connection too many.
    let full = TestServer::with(|config| config.limits.connections = 8);
    let mut busy: Vec<_> = (0..8).map(|_| full.connect()).collect();
    busy.iter_mut().for_each(|client| assert!(client.send_get("/api/stream").head().starts_with("HTTP/1.1 200 ")));
    check("health", full.connect().answer());
    let occurred: BTreeSet<_> = seen.iter().map(|(status, _)| status.to_string()).collect();
    let every = api.operations();
    let described = every.iter().flat_map(|one| one.value["responses"].as_object().unwrap().keys());
    let described: BTreeSet<_> = described.filter(|status| status.as_str() >= "400").cloned().collect();
    assert_eq!(occurred, described);
}

#[test]
fn docs_and_redoc_are_the_same_page() {
    let server = TestServer::start();
    let (docs, redoc) = (server.get("/docs"), server.get("/redoc"));
    assert_eq!((docs.status, docs.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!((redoc.status, &redoc.content), (200, &docs.content));
    assert!(docs.field("Content-Security-Policy").unwrap().contains("default-src 'self'"));
    for name in ["/docs", "/redoc"] {
        let head = server.connect().send(format!("HEAD {name} HTTP/1.1\r\nHost: localhost\r\n\r\n")).head();
        assert_eq!(field(&head, "Content-Length"), Some(&*docs.content.len().to_string()), "{head}");
    }
}
