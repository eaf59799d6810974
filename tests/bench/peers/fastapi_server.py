"""One room in FastAPI: the application that `fastapi start` runs with uvicorn."""

import asyncio
import json
import re
from collections import deque

from fastapi import FastAPI, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, StreamingResponse

KEPT = 1000
LINE_END = re.compile(r"\r\n|\r|\n")

app = FastAPI(openapi_url=None)


class Room:
    def __init__(self):
        self.last_id = 0
        self.answers = deque(maxlen=KEPT)  # the answers to polls for the last messages
        self.published = asyncio.Event()  # polls wait for it; there is one for each message
        self.sockets = set()
        self.streams = {"sse": set(), "chunk": set()}  # a queue for each stream
        self.turn = asyncio.Lock()

    async def publish(self, text):
        async with self.turn:  # a message must not overtake another that waits for a socket
            self.last_id += 1
            answer = json.dumps({"id": self.last_id, "message": text}, ensure_ascii=False, separators=(",", ":"))
            self.answers.append(answer.encode())
            self.published.set()
            self.published = asyncio.Event()

            # Encoded once for all streams, not once for each.
            event = f"data: {LINE_END.sub(chr(10) + 'data: ', text)}\n\n".encode()
            for queue in self.streams["sse"]:
                queue.put_nowait(event)
            chunk = text.encode()
            for queue in self.streams["chunk"]:
                queue.put_nowait(chunk)

            # This takes half the time of a queue and a task for each socket.
            for socket in list(self.sockets):
                try:
                    await socket.send_text(text)
                except (WebSocketDisconnect, RuntimeError):  # it is closed, or about to be
                    self.sockets.discard(socket)

    async def after(self, since):
        """Waits for a message after `since`, and returns the answer with it."""
        while self.last_id <= since:
            await self.published.wait()
        first = self.last_id - len(self.answers) + 1
        return self.answers[max(0, since + 1 - first)]


room = Room()


@app.get("/hello")
async def hello():
    return PlainTextResponse("hello")


@app.post("/pub")
async def pub(request: Request):
    await room.publish((await request.body()).decode())
    return Response(status_code=204)


@app.get("/poll")
async def poll(since: int = Query(default=0, ge=0)):
    # Encoded once: FastAPI would encode it for each poll, at a much higher cost.
    return Response(await room.after(since), media_type="application/json", headers={"Cache-Control": "no-store"})


def stream(name, media_type):
    async def items():
        queue = asyncio.Queue()
        queues = room.streams[name]
        queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    return StreamingResponse(items(), media_type=media_type, headers={"Cache-Control": "no-store"})


@app.get("/sse")
async def sse():
    return stream("sse", "text/event-stream")


@app.get("/chunk")
async def chunk():
    return stream("chunk", "text/plain")


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") is not None:
            await socket.send_text(message["text"])
        else:
            await socket.send_bytes(message["bytes"])


@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    room.sockets.add(socket)
    try:
        while True:
            await room.publish(await socket.receive_text())
    except WebSocketDisconnect:
        pass
    finally:
        room.sockets.discard(socket)
