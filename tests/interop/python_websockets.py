"""Python's `websockets`, an independent WebSocket client."""

import asyncio
import json
import uuid

from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import connect as connect_sync

from server import PATIENCE, Server, check, finish, until

server = Server()


def url(path):
    return f"ws://{server.authority}{path}"


def connect(path, **options):
    return connect_sync(url(path), **{"open_timeout": PATIENCE, "close_timeout": PATIENCE, **options})


def room():
    return f"/api/ws?room={uuid.uuid4()}"


def say(socket, text):
    socket.send(json.dumps({"sender": "python", "text": text}))


def hear(socket):
    return json.loads(socket.recv(timeout=PATIENCE))


def closed(socket):
    """The close code of the server."""
    try:
        while True:
            socket.recv(timeout=PATIENCE)
    except ConnectionClosed as end:
        return end.rcvd and end.rcvd.code


@check("websockets: connect, send, receive; extensions and subprotocols are declined")
def _():
    path = room()
    with connect(path, subprotocols=["chat"]) as one, connect(path, compression="deflate") as two:
        assert one.subprotocol is None and two.protocol.extensions == []
        say(one, "Hello, žluťoučký 馬 🐎")
        for socket in (one, two):
            assert hear(socket)["text"] == "Hello, žluťoučký 馬 🐎"


@check("websockets: pings are answered, one at a time and many at once")
def _():
    with connect(room()) as socket:
        assert socket.ping(b"").wait(10)
        pings = [socket.ping(f"{number}".encode()) for number in range(100)]
        assert all(ping.wait(10) for ping in pings)
        assert socket.latency < 1


@check("websockets: a large message is echoed, whole and in fragments")
def _():
    text = "馬" * 65_536
    with connect(room(), max_size=None) as socket:
        say(socket, text)
        assert hear(socket)["text"] == text
        whole = json.dumps({"sender": "python", "text": text}, ensure_ascii=False)
        socket.send(whole[at : at + 1000] for at in range(0, len(whole), 1000))
        assert hear(socket)["text"] == text


@check("websockets: a message over the limit is closed with 1009")
def _():
    with connect(room()) as socket:
        try:
            socket.send("x" * 1_048_577)
        except ConnectionClosed:
            pass  # the Close arrived before all of it was sent
        assert closed(socket) == CloseCode.MESSAGE_TOO_BIG


@check("websockets: any allowed close code is echoed")
def _():
    for code in (1000, 1001, 1003, 1011, 3000, 4999):
        with connect(room()) as socket:
            socket.close(code, "a reason")
        sent, received = socket.protocol.close_sent, socket.protocol.close_rcvd
        assert (sent.code, received.code) == (code, code) and socket.protocol.close_rcvd_then_sent is False, received


@check("websockets: malformed messages get an error, and the socket stays open")
def _():
    with connect(room()) as socket:
        socket.send("not JSON")
        socket.send(b"{}")
        assert [hear(socket)["type"] for _ in range(2)] == ["error", "error"]
        say(socket, "still here")
        assert hear(socket)["text"] == "still here"


@check("websockets: a refused handshake has a status code and a reason")
def _():
    for path, origin, status in (("/api/ws", "http://elsewhere.example", 403), ("/api/nothing", None, 404)):
        try:
            connect(path, origin=origin)
            raise AssertionError(f"{path} was accepted")
        except InvalidStatus as refusal:
            assert refusal.response.status_code == status, refusal
            assert json.loads(refusal.response.body)["error"], refusal.response.body


@check("websockets: 100 sockets in one event loop, 20 messages each, in order")
def _():
    async def crowd():
        path = room()
        sockets = await asyncio.gather(*(connect_async(url(path), open_timeout=PATIENCE) for _ in range(100)))
        for number in range(20):
            await sockets[number].send(json.dumps({"sender": "python", "text": f"from {number}"}))
            # Waits for the echo of this message before the next is sent, so that the order is known.
            assert json.loads(await sockets[0].recv())["text"] == f"from {number}"
        for socket in sockets[1:]:
            async with asyncio.timeout(PATIENCE):
                heard = [json.loads(await socket.recv())["text"] for _ in range(20)]
            assert heard == [f"from {number}" for number in range(20)], heard
        await asyncio.gather(*(socket.close() for socket in sockets))

    asyncio.run(crowd())
    until(lambda: server.stats()["transports"]["websocket"]["open"] == 0, "the end of the sockets")


@check("websockets: a client with a cursor gets what it missed")
def _():
    path = room()
    with connect(path) as away, connect(path) as here:
        say(here, "before")
        cursor = hear(away)["id"]
        away.close()
        say(here, "meanwhile")
        assert [hear(here)["text"] for _ in range(2)] == ["before", "meanwhile"]
        with connect(f"{path}&last_message_id={cursor}") as back:
            assert hear(back)["text"] == "meanwhile"


@check("websockets: SIGTERM closes with 1001, on both kinds of socket, and the server exits with 0")
def _():
    with connect(room()) as in_room, connect("/ws") as mailbox:
        assert hear(mailbox)["type"] == "heartbeat"
        server.terminate()
        assert closed(in_room) == CloseCode.GOING_AWAY
        assert closed(mailbox) == CloseCode.GOING_AWAY
    server.ended()


finish()
