"""The flows of a long-polling chat, of mailboxes, of streams and of an upgrade, with curl."""

import json
import select
import subprocess
import tempfile
import time
import uuid

from server import PATIENCE, Server, check, finish, until

server = Server("--allow-origin", "https://example.com")
CURL = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE)]


class Answer:
    """The output of `curl --include`."""

    def __init__(self, printed):
        head, self.body = printed.split(b"\r\n\r\n", 1)
        while head.split(b" ", 2)[1] == b"100":  # an interim response comes before the response
            head, self.body = self.body.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.fields = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            self.fields[name.lower()] = value.strip()

    @property
    def json(self):
        return json.loads(self.body)

    def expect(self, status):
        assert self.status == status, f"expected {status}, got {self.status}: {self.body!r}"
        return self

    def refuses(self, status, *words):
        """Checks for an error: this status, and JSON with a sentence that has these words."""
        sentence = self.expect(status).json["error"]
        for word in words:
            assert word in sentence, f"expected {word!r} in {sentence!r}"


def curl(path, *arguments):
    run = subprocess.run([*CURL, "--include", *arguments, server.url + path], stdout=subprocess.PIPE, check=True)
    return Answer(run.stdout)


def post(path, content, *arguments):
    text = content if isinstance(content, str) else json.dumps(content)
    return curl(path, "-H", "Content-Type: application/json", "--data-binary", text, *arguments)


def send(text, room="general", sender="alice"):
    return post("/api/send", {"sender": sender, "text": text, "room": room}).expect(200).json


class Held:
    """A curl that waits for a held answer."""

    def __init__(self, path, *arguments):
        self.process = subprocess.Popen([*CURL, "--include", *arguments, server.url + path], stdout=subprocess.PIPE)

    def waits(self):
        return self.process.poll() is None

    def answer(self, seconds=PATIENCE):
        printed, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, f"curl ended with {self.process.returncode}"
        return Answer(printed)

    def hang_up(self):
        self.process.kill()
        self.process.communicate()


class Following:
    """A `curl --no-buffer` that reads a stream."""

    def __init__(self, path, *arguments):
        command = [*CURL, "--no-buffer", *arguments, server.url + path]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.read = b""

    def until(self, end, seconds=PATIENCE):
        """Reads up to and including `end`, and returns the bytes before it."""
        deadline = time.monotonic() + seconds
        output = self.process.stdout
        while end not in self.read:
            ready, _, _ = select.select([output], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited {seconds} s for {end!r}, got {self.read!r}"
            more = output.read1()
            assert more, f"the stream ended before {end!r}: {self.read!r}"
            self.read += more
        before, self.read = self.read.split(end, 1)
        return before

    def line(self):
        """Returns the next line that is not a heartbeat."""
        return json.loads(self.until(b"\n") or "null") or self.line()

    def event(self, name=None, seconds=PATIENCE):
        """Returns the next event, of this name if there is one, as a dictionary of its fields."""
        deadline = time.monotonic() + seconds
        while True:
            block = self.until(b"\n\n", max(0.1, deadline - time.monotonic())).decode()
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "data" in fields and name in (None, fields.get("event", "message")):
                return fields

    def hang_up(self):
        self.process.kill()
        self.process.communicate()


def open_on(transport):
    return server.stats()["transports"][transport]["open"]


def held(count):
    until(lambda: open_on("long_poll") == count, f"{count} held polls")


def texts(answer):
    return [message["text"] for message in answer["messages"]]


def name():
    """A new name for a room or a client."""
    return str(uuid.uuid4())


@check("GET /health says ok")
def _():
    health = curl("/health").expect(200).json
    assert health["status"] == "ok" and health["uptime"] >= 0, health


@check("HEAD has the fields of GET and no content")
def _():
    head = curl("/health", "--head").expect(200)
    assert int(head.fields["content-length"]) > 0 and head.body == b"", head.body


@check("an unknown path is 404, a wrong method 405 with Allow")
def _():
    curl("/api/nothing").refuses(404)
    wrong = curl("/api/send")
    wrong.refuses(405)
    assert "POST" in wrong.fields["allow"], wrong.fields


@check("a sent message is in history and in short polling")
def _():
    room = name()
    sent = send("Hello", room)
    assert sent["status"] == "sent" and sent["timestamp"] > 1.6e9, sent
    history = curl(f"/api/history?room={room}").expect(200)
    assert history.fields["cache-control"] == "no-store", history.fields
    message = {"id": sent["message_id"], "sender": "alice", "text": "Hello", "timestamp": sent["timestamp"], "room": room}
    assert history.json == {"room": room, "messages": [message]}, history.json
    polled = curl(f"/api/messages?room={room}").expect(200).json
    assert polled["messages"] == [message] and polled["stopPolling"] is False, polled
    after = curl(f"/api/messages?room={room}&last_message_id={sent['message_id']}").expect(200).json
    assert after["messages"] == [] and after["stopPolling"] is False, after


@check("history has the last messages, oldest first, up to the limit")
def _():
    room = name()
    for number in range(25):
        send(f"number {number}", room)
    assert texts(curl(f"/api/history?room={room}").json) == [f"number {number}" for number in range(5, 25)]
    assert texts(curl(f"/api/history?room={room}&limit=3").json) == ["number 22", "number 23", "number 24"]
    for limit in ("0", "101", "+5", "many"):
        curl(f"/api/history?room={room}&limit={limit}").refuses(400, "limit", "1", "100", limit.strip("+"))


@check("an error in a request is a 400 that names the field")
def _():
    post("/api/send", "{").refuses(400, "JSON")
    post("/api/send", [1]).refuses(400, "object")
    post("/api/send", {"sender": "alice"}).refuses(400, "text")
    post("/api/send", {"text": "Hello"}).refuses(400, "sender")
    post("/api/send", {"sender": 7, "text": "Hello"}).refuses(400, "sender", "7")
    curl("/api/poll").refuses(400, "client_id")
    curl(f"/api/poll?client_id={name()}&timeout=4").refuses(400, "timeout", "5", "60", "4")
    curl(f"/api/poll?client_id={name()}&timeout=61").refuses(400, "timeout", "5", "60", "61")
    curl("/api/messages?last_message_id=7").refuses(400, "last_message_id", "7")


@check("a held poll is answered by a send")
def _():
    room = name()
    poll = Held(f"/api/poll?client_id={name()}&room={room}")
    held(1)
    send("Hello", room)
    answer = poll.answer().expect(200)
    assert answer.fields["cache-control"] == "no-store", answer.fields
    got = answer.json
    assert texts(got) == ["Hello"], got
    assert (got["status"], got["timeout"], got["recovered"]) == ("success", False, True), got


@check("one send answers two waiters")
def _():
    room = name()
    polls = [Held(f"/api/poll?client_id={name()}&room={room}") for _ in range(2)]
    held(2)
    send("to both", room)
    assert [texts(poll.answer().json) for poll in polls] == [["to both"]] * 2


@check("two rooms are isolated")
def _():
    here, there = name(), name()
    poll_here = Held(f"/api/poll?client_id={name()}&room={here}")
    poll_there = Held(f"/api/poll?client_id={name()}&room={there}")
    held(2)
    send("here", here)
    assert texts(poll_here.answer().json) == ["here"]
    assert poll_there.waits() and open_on("long_poll") == 1
    send("there", there)
    assert texts(poll_there.answer().json) == ["there"]


@check("one send answers five concurrent polls")
def _():
    room = name()
    polls = [Held(f"/api/poll?client_id={name()}&room={room}") for _ in range(5)]
    held(5)
    send("to all five", room)
    assert [texts(poll.answer().json) for poll in polls] == [["to all five"]] * 5


@check("nothing is lost between two polls, with a cursor and without")
def _():
    room, client = name(), name()
    poll = Held(f"/api/poll?client_id={client}&room={room}")
    held(1)
    send("one", room)
    cursor = poll.answer().json["messages"][-1]["id"]
    send("two", room)
    send("three", room)
    assert texts(curl(f"/api/poll?client_id={client}&room={room}&last_message_id={cursor}").json) == ["two", "three"]
    assert texts(curl(f"/api/poll?client_id={client}&room={room}&last_message_id={cursor}").json) == ["two", "three"]
    send("four", room)
    assert texts(curl(f"/api/poll?client_id={client}&room={room}").json) == ["four"]


@check("a poll whose client hangs up consumes nothing")
def _():
    room, client = name(), name()
    poll = Held(f"/api/poll?client_id={client}&room={room}")
    held(1)
    poll.hang_up()
    held(0)
    send("still here", room)
    assert texts(curl(f"/api/poll?client_id={client}&room={room}").json) == ["still here"]


@check("a cursor of another log gets everything, with recovered: false")
def _():
    room = name()
    send("retained", room)
    foreign = "00000000-0000-8000-8000-000000000001"
    for path in (f"/api/poll?client_id={name()}&", "/api/messages?"):
        answer = curl(f"{path}room={room}&last_message_id={foreign}").expect(200).json
        assert texts(answer) == ["retained"] and answer["recovered"] is False, answer


@check("DELETE ends a client: its held poll is answered")
def _():
    client = name()
    poll = Held(f"/api/poll?client_id={client}&room={name()}")
    held(1)
    assert curl(f"/api/client/{client}", "-X", "DELETE").expect(200).json["status"] == "disconnected"
    assert poll.answer().expect(200).json["messages"] == []
    curl(f"/api/client/{name()}", "-X", "DELETE").refuses(404)


@check("stats count clients, messages and rooms, and each transport")
def _():
    room = name()
    send("counted", room)
    stats = curl("/api/stats").expect(200).json
    assert stats["active_clients"] >= 1 and stats["total_messages"] >= 1, stats
    assert room in json.dumps(stats["rooms"]) and stats["timestamp"] > 1.6e9, stats
    assert set(stats["transports"]) == {"short_poll", "long_poll", "stream", "sse", "websocket"}, stats
    assert {"open", "messages", "bytes_in", "bytes_out"} <= set(stats["transports"]["long_poll"]), stats


@check("curl -N /api/stream: one message a line, from now or from a cursor")
def _():
    room = name()
    first = send("before", room)["message_id"]
    now = Following(f"/api/stream?room={room}")
    resumed = Following(f"/api/stream?room={room}&last_message_id={first}", "--include")
    until(lambda: open_on("stream") == 2, "two streams")
    sent = send("after", room)
    assert resumed.until(b"\r\n\r\n").lower().count(b"application/x-ndjson") == 1
    for stream in (now, resumed):
        message = stream.line()
        assert (message["text"], message["id"], message["room"]) == ("after", sent["message_id"], room), message
        stream.hang_up()
    until(lambda: open_on("stream") == 0, "the end of the streams")
    foreign = Following(f"/api/stream?room={room}&last_message_id=00000000-0000-8000-8000-000000000001")
    notice = foreign.line()
    assert (notice["type"], notice["recovered"]) == ("notice", False)
    assert [foreign.line()["text"] for _ in range(2)] == ["before", "after"]
    foreign.hang_up()


@check("an HTTP/1.0 client gets a stream that is not chunked")
def _():
    room = name()
    stream = Following(f"/api/stream?room={room}", "--http1.0", "--include")
    until(lambda: open_on("stream") == 1, "the stream")
    send("to an old client", room)
    head = stream.until(b"\r\n\r\n").lower()  # curl prints the head with the first content
    assert b"transfer-encoding" not in head and b"connection: close" in head, head
    assert stream.line()["text"] == "to an old client"
    stream.hang_up()


@check("curl -N /api/events: id, event, data; resumes after Last-Event-ID, which wins over the query")
def _():
    room = name()
    stream = Following(f"/api/events?room={room}", "--include")
    head = stream.until(b"\r\n\r\n").lower()
    for field in (b"content-type: text/event-stream", b"cache-control: no-store", b"x-accel-buffering: no"):
        assert field in head, head
    ids = [send(text, room)["message_id"] for text in ("one", "two", "three")]
    for text, wanted in zip(("one", "two", "three"), ids):
        event = stream.event("message")
        assert event["id"] == wanted and json.loads(event["data"])["text"] == text, event
    stream.hang_up()
    resumed = Following(f"/api/events?room={room}&last_event_id={ids[0]}", "-H", f"Last-Event-ID: {ids[1]}")
    assert json.loads(resumed.event("message")["data"])["text"] == "three"
    resumed.hang_up()
    resumed = Following(f"/api/events?room={room}&last_event_id={ids[0]}")
    assert json.loads(resumed.event("message")["data"])["text"] == "two"
    resumed.hang_up()
    foreign = Following(f"/api/events?room={room}", "-H", "Last-Event-ID: 00000000-0000-8000-8000-000000000001")
    notice = json.loads(foreign.event("notice")["data"])
    assert (notice["type"], notice["recovered"]) == ("notice", False)
    assert json.loads(foreign.event("message")["data"])["text"] == "one"
    foreign.hang_up()


@check("POST /poll: connect, queue, take, wait, be superseded")
def _():
    connected = post("/poll", "").expect(200).json
    mailbox = connected["connection_id"]
    assert connected["type"] == "timeout" and uuid.UUID(mailbox).version == 4, connected
    queued = post("/poll", {"connection_id": mailbox, "text": "one"}).expect(200).json
    assert (queued["message"], queued["type"], queued["connection_id"]) == ("one", "message", mailbox), queued
    assert queued["timestamp"] > 1.6e9 and queued["id"], queued
    post("/poll", {"connection_id": mailbox, "text": "two"}).expect(200)
    for text in ("one", "two"):
        taken = post("/poll", {"connection_id": mailbox}).expect(200).json
        assert (taken["message"], taken["type"]) == (text, "queued_message"), taken
    first = Held("/poll", "--data-binary", json.dumps({"connection_id": mailbox}))
    held(1)
    second = Held("/poll", "--data-binary", json.dumps({"connection_id": mailbox}))
    superseded = first.answer().json
    assert superseded["type"] == "timeout" and superseded["superseded"] is True, superseded
    held(1)
    post("/poll", {"connection_id": mailbox, "text": "three"}).expect(200)
    new = second.answer().json
    assert (new["message"], new["type"], new["connection_id"]) == ("three", "new_message", mailbox), new


@check("POST /poll with an unknown id is 404, with wrong fields 400")
def _():
    unknown = post("/poll", {"connection_id": name()})
    unknown.refuses(404)
    assert unknown.json["type"] == "error", unknown.json
    post("/poll", {"connection_id": 7}).refuses(400, "connection_id", "7")
    post("/poll", "not JSON").refuses(400, "JSON")


@check("GET /sse is a mailbox, POST /sse/message delivers only to it")
def _():
    mine, other = Following("/sse"), Following("/sse")
    connected = json.loads(mine.event()["data"])
    assert connected["type"] == "connected" and connected["message"], connected
    json.loads(other.event()["data"])
    queued = post("/sse/message", {"connection_id": connected["connection_id"], "text": "one\r\ntwo"}).expect(202).json
    assert queued["status"] == "queued", queued
    event = mine.event()
    assert event["id"] == queued["id"] and json.loads(event["data"])["message"] == "one\r\ntwo", event
    post("/sse/message", {"connection_id": name(), "text": "to nobody"}).refuses(404)
    post("/sse/message", {"connection_id": connected["connection_id"]}).refuses(400, "text")
    assert b"one" not in other.read
    mine.hang_up()
    other.hang_up()


@check("the two-channel demo: GET /poll and POST /send are one channel, GET /events the other")
def _():
    ticker = Following("/events")
    poll = Held("/poll")
    held(1)
    post("/send", {"message": "to the pollers"}).expect(200)
    answer = poll.answer().expect(200)
    assert b"to the pollers" in answer.body, answer.body
    post("/send", {"text": "wrong field"}).refuses(400, "message")
    tick = ticker.event("message")
    assert "Message " in tick["data"] and "to the pollers" not in tick["data"], tick
    assert uuid.UUID(tick["id"]).version == 8, tick
    ticker.hang_up()


@check("an upgrade by curl: 101, the right accept key, and the first frame")
def _():
    upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"]
    key = ["-H", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw=="]
    socket = Following("/ws", "--include", *upgrade, *key)
    head = socket.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head
    assert b"HSmrc0sMlYUkAGmm5OPpG2HaGWk=" in head, head
    until(lambda: len(socket.read) >= 2 or socket.until(b"\x81"), "a frame")
    frame = socket.until(b"}")
    assert b'"heartbeat"' in frame and b'"Message ' in frame, frame
    socket.hang_up()
    old = curl("/ws", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 12", *key)
    assert old.expect(426).fields["sec-websocket-version"] == "13", old.fields
    curl("/ws", *upgrade).expect(400)
    curl("/api/ws", *upgrade, *key, "-H", "Origin: http://elsewhere.example").expect(403)


@check("a foreign Origin is 403, a foreign Host 421")
def _():
    foreign = ["-H", "Origin: http://elsewhere.example"]
    post("/api/send", {"sender": "mallory", "text": "Hello"}, *foreign).refuses(403, "elsewhere.example")
    curl("/health", "-H", "Host: elsewhere.example").refuses(421, "elsewhere.example")
    own = ["-H", f"Origin: {server.url}"]
    post("/api/send", {"sender": "alice", "text": "Hello"}, *own).expect(200)


@check("an allowed Origin gets an answer to its preflight, and may read the answers")
def _():
    page = ["-H", "Origin: https://example.com"]
    question = ["-H", "Access-Control-Request-Method: POST", "-H", "Access-Control-Request-Headers: content-type"]
    preflight = curl("/api/send", "-X", "OPTIONS", *page, *question)
    assert preflight.status in (200, 204) and "POST" in preflight.fields["access-control-allow-methods"], preflight.fields
    assert "content-type" in preflight.fields["access-control-allow-headers"].lower(), preflight.fields
    sent = post("/api/send", {"sender": "alice", "text": "Hello"}, *page).expect(200)
    for answer in (preflight, sent):
        assert answer.fields["access-control-allow-origin"] == "https://example.com", answer.fields
        assert "origin" in answer.fields["vary"].lower(), answer.fields


@check("content may be chunked or announced by Expect, and not too large")
def _():
    content = {"sender": "alice", "text": "x" * 60_000, "room": name()}
    with tempfile.NamedTemporaryFile("w") as file:
        json.dump(content, file)
        file.flush()
        post("/api/send", f"@{file.name}", "-H", "Transfer-Encoding: chunked").expect(200)
        post("/api/send", f"@{file.name}", "-H", "Expect: 100-continue").expect(200)
        file.write(" " * 1_048_577)
        file.flush()
        post("/api/send", f"@{file.name}").refuses(413)
    assert texts(curl(f"/api/history?room={content['room']}").json) == [content["text"]] * 2


@check("one connection serves many requests")
def _():
    command = [*CURL, "--write-out", "%{num_connects} ", "--output", "/dev/null"]
    urls = [f"{server.url}/health"] * 3
    run = subprocess.run(command + [word for url in urls for word in (url, "--output", "/dev/null")][:-2],
                         stdout=subprocess.PIPE, text=True, check=True)
    assert run.stdout.split() == ["1", "0", "0"], run.stdout


@check("the page and its files are served, and nothing outside them")
def _():
    page = curl("/").expect(200)
    assert b"<title>" in page.body and page.fields["content-type"].startswith("text/html"), page.fields
    assert "default-src 'self'" in page.fields["content-security-policy"], page.fields
    script = curl("/app.js").expect(200)
    assert script.fields["content-type"].startswith("text/javascript"), script.fields
    for path in ("/../Cargo.toml", "/%2e%2e/Cargo.toml", "/lanes", "/nothing.js"):
        assert curl(path, "--path-as-is").status in (400, 404), path


@check("a poll without news is held for the requested 5 seconds")
def _():
    poll = Held(f"/api/poll?client_id={name()}&room={name()}&timeout=5", "--write-out", "\n%{time_total}")
    answer = poll.answer().expect(200)
    answer.body, took = answer.body.rsplit(b"\n", 1)
    got = answer.json
    assert (got["messages"], got["status"], got["timeout"]) == ([], "timeout", True), got
    assert 4.9 <= float(took) <= 7, f"held for {took} s"


@check("SIGTERM: held polls are answered, streams end with their last chunk, exit code 0")
def _():
    poll = Held(f"/api/poll?client_id={name()}&room={name()}")
    stream = Following(f"/api/stream?room={name()}")
    events = Following(f"/api/events?room={name()}")
    held(1)
    until(lambda: open_on("stream") == 1 and open_on("sse") == 1, "a stream of each kind")
    server.terminate()
    assert poll.answer().expect(200).json["messages"] == []
    for following in (stream, events):
        following.process.communicate(timeout=PATIENCE)
        assert following.process.returncode == 0, "the stream was cut off"
    server.ended()


finish()
