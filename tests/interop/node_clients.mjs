// Node's `ws` and `eventsource`, independent clients of WebSockets and event streams.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { Server, check, finish, until, within } from './server.mjs';

let server = await Server.start();

/** Opens a socket, which collects its messages. */
async function connect(path, options) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, options);
  socket.received = [];
  socket.on('message', (data, binary) => socket.received.push(binary ? data : JSON.parse(data)));
  await within(once(socket, 'open'), 'the opening handshake');
  return socket;
}

/** Waits for `count` messages on a socket, and returns them. */
async function received(socket, count) {
  await until(() => socket.received.length >= count, () => `${count} messages, got ${JSON.stringify(socket.received)}`);
  assert.equal(socket.received.length, count);
  return socket.received;
}

async function closed(socket) {
  const [code, reason] = await within(once(socket, 'close'), 'the closing handshake');
  return [code, reason.toString()];
}

/** The response to a refused opening handshake. */
async function refused(path, options) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, options);
  const [, response] = await within(once(socket, 'unexpected-response'), 'the refusal');
  socket.on('error', () => {});
  socket.terminate();
  return response;
}

/** Opens an event stream, which collects its events. */
function listen(room, query = '') {
  const source = new EventSource(`${server.url}/api/events?room=${room}${query}`);
  source.messages = [];
  source.notices = [];
  source.addEventListener('message', (event) => source.messages.push(event));
  source.addEventListener('notice', (event) => source.notices.push(event));
  return source;
}

const opened = (source) => new Promise((resolve) => source.addEventListener('open', resolve, { once: true }));
const texts = (messages) => messages.map((message) => message.text ?? JSON.parse(message.data).text);
const send = (room, text) => server.post('/api/send', { sender: 'node', text, room });
const range = (from, to) => Array.from({ length: to - from }, (_, at) => `number ${from + at}`);

await check('ws: each socket of the room receives a message once', async () => {
  const room = randomUUID();
  const sockets = await Promise.all(Array.from({ length: 5 }, () => connect(`/api/ws?room=${room}`)));
  const elsewhere = await connect(`/api/ws?room=${randomUUID()}`);
  sockets[0].send(JSON.stringify({ sender: 'alice', text: 'Hello, žluťoučký 馬 \u{1F40E}' }));
  for (const socket of sockets) {
    const [message] = await received(socket, 1);
    assert.equal(message.text, 'Hello, žluťoučký 馬 \u{1F40E}');
    assert.deepEqual([message.sender, message.room], ['alice', room]);
    assert.equal(socket.extensions, '', 'extensions are declined');
  }
  assert.equal(elsewhere.received.length, 0);
  [...sockets, elsewhere].forEach((socket) => socket.terminate());
});

await check('ws: a ping is answered with its payload', async () => {
  const socket = await connect('/api/ws');
  const payload = Buffer.from('x'.repeat(125));
  socket.ping(payload);
  const [answer] = await within(once(socket, 'pong'), 'a pong');
  assert.deepEqual(answer, payload);
  socket.terminate();
});

await check('ws: a message may be in fragments, with a ping between them', async () => {
  const room = randomUUID();
  const socket = await connect(`/api/ws?room=${room}`);
  socket.send('{"sender": "alice", ', { fin: false });
  socket.ping('between');
  socket.send('"text": "in ', { fin: false });
  socket.send('fragments"}', { fin: true });
  const [answer] = await within(once(socket, 'pong'), 'a pong');
  assert.equal(answer.toString(), 'between');
  assert.deepEqual(texts(await received(socket, 1)), ['in fragments']);
  socket.terminate();
});

await check('ws: a large message is echoed whole, one over the limit is closed with 1009', async () => {
  const room = randomUUID();
  const [socket, other] = [await connect(`/api/ws?room=${room}`), await connect(`/api/ws?room=${room}`)];
  const text = '馬'.repeat(65_536); // 192 KiB
  socket.send(JSON.stringify({ sender: 'alice', text }));
  assert.ok(texts(await received(socket, 1))[0] === text && texts(await received(other, 1))[0] === text);
  socket.send('x'.repeat(1_048_577));
  assert.equal((await closed(socket))[0], 1009);
  other.terminate();
});

await check('ws: malformed messages get an error, and the socket stays open', async () => {
  const room = randomUUID();
  const socket = await connect(`/api/ws?room=${room}`);
  for (const wrong of ['not JSON', '[]', '{"sender": "alice"}', '{"sender": 7, "text": "x"}', Buffer.from('{}')]) {
    socket.send(wrong);
  }
  socket.send(JSON.stringify({ sender: 'alice', text: 'still here' }));
  const answers = await received(socket, 6);
  assert.deepEqual(answers.slice(0, 5).map(({ type }) => type), Array(5).fill('error'));
  assert.match(answers[2].error, /^text:/);
  assert.match(answers[3].error, /^sender:.*7/);
  assert.equal(answers[5].text, 'still here');
  socket.terminate();
});

await check('ws: a socket resumes after its cursor, or gets recovered: false', async () => {
  const room = randomUUID();
  const { message_id: cursor } = await send(room, 'one');
  await send(room, 'two');
  const resumed = await connect(`/api/ws?room=${room}&last_message_id=${cursor}`);
  assert.deepEqual(texts(await received(resumed, 1)), ['two']);
  const foreign = await connect(`/api/ws?room=${room}&last_message_id=00000000-0000-8000-8000-000000000001`);
  const [notice, ...rest] = await received(foreign, 3);
  assert.deepEqual([notice.type, notice.recovered], ['notice', false]);
  assert.deepEqual(texts(rest), ['one', 'two']);
  resumed.terminate();
  foreign.terminate();
});

await check('ws: a close is echoed with its code, or without one', async () => {
  for (const [code, reason] of [[1000, 'done'], [3000, ''], [4999, 'x'.repeat(123)]]) {
    const socket = await connect('/api/ws');
    socket.close(code, reason);
    assert.deepEqual((await closed(socket))[0], code);
  }
  const socket = await connect('/api/ws');
  socket.close();
  assert.equal((await closed(socket))[0], 1005);
});

await check('ws: text that is not UTF-8 is closed with 1007', async () => {
  const socket = await connect('/api/ws');
  socket.send(Buffer.from([0x7b, 0xc3, 0x28]), { binary: false });
  assert.equal((await closed(socket))[0], 1007);
});

await check('ws: DELETE of its client_id closes a socket with 1000', async () => {
  const client = randomUUID();
  const socket = await connect(`/api/ws?client_id=${client}`);
  const [[code]] = await Promise.all([closed(socket), server.delete(`/api/client/${client}`)]);
  assert.equal(code, 1000);
});

await check('ws: /ws is a mailbox that sends a heartbeat at once and echoes messages', async () => {
  const [socket, other] = [await connect('/ws'), await connect('/ws')];
  const [beat] = await received(socket, 1);
  assert.match(beat.message, /^Message \d+$/);
  assert.equal(beat.type, 'heartbeat');
  socket.send(JSON.stringify({ message: 'Hello' }));
  socket.send('not JSON');
  socket.send(JSON.stringify({ message: 'again' }));
  const [, first, error, second] = await received(socket, 4);
  assert.deepEqual([first.type, first.message, first.connection_id], ['user_message', 'Hello', beat.connection_id]);
  assert.equal(error.type, 'error');
  assert.equal(second.message, 'again');
  assert.equal(other.received.length, 1);
  socket.terminate();
  other.terminate();
});

await check('ws: a foreign Origin is 403, an unknown path 404, a plain GET 400 or 426', async () => {
  assert.equal((await refused('/api/ws', { origin: 'http://elsewhere.example' })).statusCode, 403);
  assert.equal((await refused('/api/nothing')).statusCode, 404);
  assert.ok([400, 426].includes((await fetch(`${server.url}/api/ws`)).status));
  const own = await connect('/api/ws', { origin: server.url });
  own.terminate();
});

await check('ws: 200 sockets receive 50 messages each, in order, and the server notices their end', async () => {
  const room = randomUUID();
  const sockets = await Promise.all(Array.from({ length: 200 }, () => connect(`/api/ws?room=${room}`)));
  for (const text of range(0, 50)) {
    sockets[0].send(JSON.stringify({ sender: 'alice', text }));
  }
  for (const socket of sockets) {
    assert.deepEqual(texts(await received(socket, 50)), range(0, 50));
    socket.terminate();
  }
  await until(async () => (await server.get('/api/stats')).transports.websocket.open === 0, 'the end of the sockets');
});

await check('eventsource: messages arrive with their ids, without heartbeats and other rooms', async () => {
  const room = randomUUID();
  const source = listen(room);
  await within(opened(source), 'the stream');
  const sent = [];
  for (const text of ['one', 'line\r\nends\n', '🐎']) {
    sent.push((await send(room, text)).message_id);
  }
  await send(randomUUID(), 'elsewhere');
  await until(() => source.messages.length === 3, 'three events');
  assert.deepEqual(source.messages.map((event) => event.lastEventId), sent);
  assert.deepEqual(texts(source.messages), ['one', 'line\r\nends\n', '🐎']);
  source.close();
});

await check('eventsource: a dropped stream resumes, also before its first message, without loss or repetition', async () => {
  const [room, client] = [randomUUID(), randomUUID()];
  const source = listen(room, `&client_id=${client}`);
  await within(opened(source), 'the stream');
  // This client keeps the ids of events with data only. The first one has data.
  await server.delete(`/api/client/${client}`);
  for (const text of range(0, 20)) {
    await send(room, text);
  }
  await until(() => source.messages.length >= 20, 'the messages of the first gap');
  await server.delete(`/api/client/${client}`);
  for (const text of range(20, 40)) {
    await send(room, text);
  }
  await until(() => source.messages.length >= 40, 'the messages of the second gap');
  assert.deepEqual(texts(source.messages), range(0, 40));
  assert.equal(source.notices.length, 0);
  source.close();
});

await check('SIGTERM: a socket gets 1001, an event stream goes on at the next server', async () => {
  const room = randomUUID();
  const [socket, source] = [await connect(`/api/ws?room=${room}`), listen(room)];
  await within(opened(source), 'the stream');
  await send(room, 'before');
  await until(() => source.messages.length === 1, 'the event');
  const port = server.port;
  const [[code]] = await Promise.all([closed(socket), server.stop()]);
  assert.equal(code, 1001);
  server = await Server.start(port);
  await send(room, 'after');
  await until(() => source.messages.length === 2, 'the event after the restart');
  assert.deepEqual(texts(source.messages), ['before', 'after']);
  assert.deepEqual(source.notices.map((event) => JSON.parse(event.data).recovered), [false]);
  source.close();
  await server.stop();
});

finish();
