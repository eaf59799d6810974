// `wire tap` before servers of others: Node's `ws` and Python's `http.server`. The viewer is a `ws` client too.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import WebSocket, { WebSocketServer } from 'ws';
import { Server, check, finish, until, within } from './server.mjs';

const ID = '0123456789abcdef';

/** `wire tap` before `url`, and a viewer that collects its events. */
async function tap(url) {
  const tapped = await Server.start(0, process.env.WIRE, ['tap', url]);
  const socket = new WebSocket(`ws://127.0.0.1:${tapped.port}/-/tap/view?tap=${ID}`);
  tapped.events = [];
  socket.on('message', (data) => tapped.events.push(JSON.parse(data)));
  await until(() => tapped.events.length > 0, 'the viewer');
  assert.deepEqual(tapped.events[0], { type: 'open', mode: 'all', target: new URL(url).origin, unseen: 0 });
  return tapped;
}

/** The events of exchange `number`, up to its end. */
async function exchange(tapped, number) {
  const ofExchange = () => tapped.events.filter((event) => event.exchange === number);
  await until(() => ofExchange().at(-1)?.type === 'end', () => `the end, got ${JSON.stringify(ofExchange())}`);
  return ofExchange();
}

const pieces = (events, from) => events.filter((event) => event.from === from).flatMap((event) => event.pieces);
const bytes = (events, from) => Buffer.concat(pieces(events, from).map((piece) => Buffer.from(piece.bytes, 'base64')));
const names = (events, from) => pieces(events, from).map((piece) => piece.name);

await check("a tap shows a WebSocket of Node's ws, and masks its cookies", async () => {
  const server = createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('headers', (headers) => headers.push('Set-Cookie: session=secret'));
  sockets.on('connection', (socket, request) => {
    assert.equal(request.headers.cookie, 'a=secret');
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const tapped = await tap(`http://127.0.0.1:${server.address().port}/`);

  const client = new WebSocket(`ws://127.0.0.1:${tapped.port}/chat`, { headers: { Cookie: 'a=secret' } });
  await within(once(client, 'open'), 'the opening handshake');
  for (const text of ['hello', 'x'.repeat(100_000)]) {
    client.send(text);
    const [echo] = await within(once(client, 'message'), 'the echo');
    assert.equal(echo.toString(), text);
  }
  client.close(1000, 'done');
  await within(once(client, 'close'), 'the closing handshake');

  const events = await exchange(tapped, 1);
  const head = bytes(events, 'client').toString('latin1').split('\r\n\r\n')[0];
  assert.match(head, /^GET \/chat HTTP\/1.1\r\n/);
  assert.match(head, /\r\nCookie: \*{8}(\r\n|$)/);
  assert.match(bytes(events, 'server').toString('latin1'), /\r\nSet-Cookie: \*{14}\r\n/);
  assert.deepEqual(names(events, 'server').slice(-2), ['frame header', 'payload']);
  assert.equal(pieces(events, 'client').find((piece) => piece.name === 'frame header').opcode, 1);
  const payload = pieces(events, 'server').filter((piece) => piece.name === 'payload' && piece.opcode === 1);
  assert.equal(Buffer.concat(payload.map((piece) => Buffer.from(piece.bytes, 'base64'))).length, 100_005);
  await tapped.stop();
  sockets.close();
  server.close();
});

await check("a tap cuts a WebSocket of Node's ws in the middle of a frame", async () => {
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  await once(sockets, 'listening');
  const tapped = await tap(`http://127.0.0.1:${sockets.address().port}/`);
  const client = new WebSocket(`ws://127.0.0.1:${tapped.port}/`);
  await within(once(client, 'open'), 'the opening handshake');
  const viewer = new WebSocket(`ws://127.0.0.1:${tapped.port}/-/tap/view?tap=another-viewer-01`);
  await within(once(viewer, 'open'), 'the viewer');
  const answered = new Promise((resolve) => {
    viewer.on('message', (data) => JSON.parse(data).type === 'error' && resolve());
  });
  viewer.send(JSON.stringify({ label: 'all', fault: 'cut' }));
  viewer.send('{}'); // a wrong command is answered when the one before it is carried out
  await within(answered, 'the fault');
  client.send('hello');
  const [code] = await within(once(client, 'close'), 'the cut');
  assert.equal(code, 1006);
  await until(() => tapped.events.some((event) => event.type === 'struck' && event.fault === 'cut'), 'struck');
  await tapped.stop();
  sockets.close();
});

await check("a tap shows files of Python's http.server", async () => {
  const python = spawn('python3', ['-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', '.'],
    { stdio: ['ignore', 'pipe', 'ignore'] });
  process.once('exit', () => python.kill('SIGKILL'));
  const [line] = await within(once(createInterface({ input: python.stdout }), 'line'), 'http.server');
  const tapped = await tap(`http://127.0.0.1:${/port (\d+)/.exec(line)[1]}/`);

  const response = await fetch(`${tapped.url}/package.json`);
  const content = await response.text();
  assert.equal(JSON.parse(content).name, 'overwire-interop-test');
  const events = await exchange(tapped, 1);
  assert.match(bytes(events, 'server').toString(), /^HTTP\/1.0 200 OK\r\nServer: SimpleHTTP/);
  assert.ok(bytes(events, 'server').toString().endsWith(content));
  assert.equal((await fetch(`${tapped.url}/nothing`)).status, 404);
  python.kill();
  await once(python, 'exit');
  const unreachable = await fetch(`${tapped.url}/package.json`);
  assert.equal(unreachable.status, 502);
  assert.match(await unreachable.text(), /^The tap cannot reach http:\/\/127\.0\.0\.1:\d+: connection refused\.\n$/);
  await tapped.stop();
});

finish();
