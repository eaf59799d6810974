// overwire.js under every fault of the tap, between several servers, with an identity, and on raw bytes: in Node.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as dial, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import WebSocket from 'ws';
import { Silence, lines } from '../../static/overwire.js';
import { Server, check, finish, until, within } from '../interop/server.mjs';
import { close, connect, get, node, open, received, send } from './client-hosts.mjs';
import { Gate } from './gate.mjs';
import { Keys } from './keys.mjs';

const TAP = 'f'.repeat(32); // the id of a viewer

const sheet = await (await node()).sheet();
const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

async function postAll(server, room, texts) {
  for (const text of texts) {
    await server.post('/api/send', { room, sender: 'node', text });
  }
  return texts;
}

// The faults of the tap.

const tapped = await Server.tapped();
const viewer = new WebSocket(`ws://127.0.0.1:${tapped.tapPort}/-/tap/view?tap=${TAP}`);
await new Promise((resolve) => { viewer.once('message', resolve); });

/** A client behind the tap, and a fault with messages before, during and after it. Its name is its label there. */
async function under(name, fault, value, off) {
  const room = `under ${fault}`;
  const options = { room, parameters: () => ({ tap: `${TAP}.${name}` }) };
  await connect(sheet, tapped.tapUrl, { [name]: options }, { SILENCE: 1_500, HEARTBEAT: 800 });
  await open(sheet, undefined, name);
  const texts = await postAll(tapped, room, numbered('before', 3));
  const command = (value) => viewer.send(JSON.stringify({ label: name, fault, value }));
  command(value);
  texts.push(...await postAll(tapped, room, numbered('during', 5)));
  await new Promise((resolve) => { setTimeout(resolve, off === undefined ? 0 : 2_000); }); // while the fault lasts
  off === undefined || command(off);
  texts.push(...await postAll(tapped, room, numbered('after', 3)));
  await received(sheet, texts, { name });
  await open(sheet, undefined, name);
  await close(sheet, name);
}

const survives = ([fault, ...values], at = 0) => (
  check(`${fault}: every message comes once and in order`, () => under(`under${at}`, fault, ...values)));
const apart = [['drop'], ['cut'], ['half-open'], ['delay', 300, 0], ['buffer', 4096, 0], ['slow', 1024, 0], ['502', 1, 0]];
await Promise.all(apart.map(survives));
await survives(['down', 2]); // for everyone

viewer.close();
await tapped.stop();

// What is sent in vain, tickets that do not come, and transports that fail while they are tried.

const server = await Server.start();

/** A check with a client `one` behind a gate, in its own room. */
function behindGate(room, options, times, body) {
  return async () => {
    const gate = await Gate.open(server.port);
    await connect(sheet, gate.url, { one: { room, sender: 'ada', ...options } }, times);
    await body(gate, room);
    await close(sheet);
    gate.close();
  };
}

async function history(room) {
  const { messages } = await server.get(`/api/history?limit=100&room=${room}`);
  return messages.map(({ text }) => text);
}

const asked = (gate, path = '/api/send') => gate.seen.filter((seen) => seen === path).length;

await check('what a stopped server was not asked for in time is never sent', behindGate('stopped', {}, {}, async () => {
  assert.ok((await send(sheet, 'before')).id);
  server.child.kill('SIGSTOP');
  const began = performance.now();
  const sent = numbered('late', 3).map((text) => send(sheet, text, 'one', { timeout: 500 }));
  const fates = await within(Promise.all(sent), 'the rejections');
  const took = performance.now() - began;
  server.child.kill('SIGCONT');
  const [may, not] = ['the message may still come', 'the message is not sent'];
  assert.deepEqual(fates.map(({ error }) => error), [may, not, not].map((fate) => `no answer within 0.5 s; ${fate}`));
  assert.ok(took < 2_000, `it took ${took} ms`);
  assert.ok((await send(sheet, 'after')).id);
  assert.deepEqual((await history('stopped')).filter((text) => text !== 'late 0'), ['before', 'after']);
}));

await check('what gives up its turn lets nothing overtake', behindGate('turns', {}, {}, async (gate, room) => {
  await open(sheet);
  gate.set('hang', '/api/send');
  const [first, second, third] = [{ timeout: 2_000 }, { timeout: 200 }, {}].map((options, at) => (
    send(sheet, `text ${at}`, 'one', options)));
  assert.equal((await second).error, 'no answer within 0.2 s; the message is not sent');
  await until(() => asked(gate) > 0, 'the first request');
  assert.equal(asked(gate), 1);
  gate.rules.clear();
  assert.equal((await first).error, 'no answer within 2 s; the message may still come');
  assert.ok((await third).id);
  assert.deepEqual(await history(room), ['text 2']);
  gate.set({ status: 429, content: '{"error": "too many"}' }, '/api/send');
  assert.equal((await send(sheet, 'away', 'one', { timeout: 200 })).error, '429 too many; the message is not sent');
}));

await check('nothing is repeated when the server may have forgotten its key', behindGate('keys', {}, {}, async (gate) => {
  await open(sheet);
  gate.set('lose', '/api/send');
  const sent = send(sheet, 'lost', 'one', { timeout: Infinity });
  await until(() => asked(gate) > 0, 'the first request');
  const { now } = Date;
  Date.now = () => now() + 271_000;
  const { error } = await within(sent, 'the rejection').finally(() => { Date.now = now; });
  assert.match(error, /^the server cannot be reached; the message may still come$/);
}));

let isStuck = true;
const ticket = () => (isStuck ? new Promise(() => {}) : 'any');
await check('a ticket that does not come is a failure', behindGate('stuck', { ticket }, { ANSWER: 200 }, async () => {
  const failed = ({ state, why }) => state === 'waiting' && /the ticket did not come in time/.test(why);
  await until(async () => (await get(sheet)).states.some(failed), 'the failure');
  isStuck = false;
  await open(sheet, 'websocket');
}));

const impatient = { OPENING: 300, CLIMB: 50, CLIMB_CAP: 50 };
await check('a better transport that fails while it is tried costs no message',
  behindGate('climbs', { transports: ['websocket', 'sse'] }, impatient, async (gate, room) => {
    const tries = () => asked(gate, '/api/ws');
    const texts = [];
    gate.set('buffer', '/api/ws');
    await open(sheet, 'sse');
    for (let round = 0; round < 2; round += 1) {
      const before = tries();
      await until(() => tries() > before, 'another try');
      texts.push(...await postAll(server, room, numbered(`round ${round}`, 3)));
      round < 1 || gate.cut(); // both
    }
    texts.push(...await postAll(server, room, numbered('cut', 3)));
    gate.rules.clear();
    await open(sheet, 'websocket');
    texts.push(...await postAll(server, room, ['last']));
    await received(sheet, texts);
  }));

await server.stop();

// Several servers.

const hasRedis = !spawnSync('redis-server', ['--version']).error;
hasRedis && await check('a client that goes from server to server misses nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'overwire-client-redis-'));
  const port = await freePort();
  const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''],
    { stdio: 'ignore' });
  await until(() => answers(port), 'Redis to answer');
  const start = () => Server.start(0, process.env.OVERWIRE, ['--no-tap', '--redis', `redis://127.0.0.1:${port}`]);
  const servers = [await start(), await start()];
  const gate = await Gate.open(...servers.map((server) => server.port));
  await connect(sheet, gate.url, { one: { room: 'hops' }, two: { room: 'hops', transports: ['sse'] } });
  await Promise.all(['one', 'two'].map((name) => open(sheet, undefined, name)));
  const texts = [];
  for (let round = 0; round < 4; round += 1) {
    texts.push(...await postAll(servers[round % 2], 'hops', numbered(`round ${round}`, 5)));
    gate.cut();
    texts.push(...await postAll(servers[(round + 1) % 2], 'hops', numbered(`cut ${round}`, 5)));
  }
  for (const name of ['one', 'two']) {
    await received(sheet, texts, { name });
    await close(sheet, name);
  }
  gate.close();
  await Promise.all(servers.map((server) => server.stop()));
  redis.kill();
  await new Promise((resolve) => { redis.once('exit', resolve); });
  rmSync(folder, { recursive: true, force: true });
});

async function freePort() {
  const listener = createServer();
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  const { port } = listener.address();
  await new Promise((resolve) => { listener.close(resolve); });
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = dial(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    }).on('error', () => resolve(false));
  });
}

// Identities.

await check('a key opens every transport, a ticket opens a reader, and an end of the permission ends it', async () => {
  const keys = new Keys();
  const key = keys.add('ada', '--rooms', 'tea', '--rights', 'read,send');
  const server = await Server.start(0, process.env.OVERWIRE, ['--no-tap', '--keys', keys.path]);
  const ticket = async (endpoint) => {
    const headers = { Authorization: `Bearer ${key}` };
    const body = JSON.stringify({ endpoint });
    const answer = await fetch(`${server.url}/api/ticket`, { method: 'POST', headers, body });
    return (await answer.json()).ticket;
  };
  const clients = {
    wrong: { room: 'tea', key: 'wrong' }, elsewhere: { room: 'coffee', key }, ticket: { room: 'tea', ticket },
  };
  for (const name of ['websocket', 'sse', 'stream', 'long-poll', 'short-poll']) {
    clients[name] = { room: 'tea', key, transports: [name] };
  }
  await connect(sheet, server.url, clients);
  for (const [name, why] of [['wrong', /^401 /], ['elsewhere', /^403 room: expected/]]) {
    await until(async () => (await get(sheet, name)).state === 'closed', `${name} to be closed`);
    assert.match((await get(sheet, name)).error, why);
  }
  const good = Object.keys(clients).slice(2);
  await Promise.all(good.map((name) => open(sheet, name === 'ticket' ? 'websocket' : name, name)));
  assert.ok((await send(sheet, 'hello', 'sse')).id);
  for (const name of good) {
    await received(sheet, ['hello'], { name });
  }
  keys.revoke('ada');
  for (const name of good) {
    await until(async () => (await get(sheet, name)).state === 'closed',
      async () => `${name} to be closed; it has ${JSON.stringify(await get(sheet, name))}`);
  }
  await server.stop();
  keys.remove();
});

// Raw bytes, and clocks.

await check('lines end with LF, CR or CRLF, wherever the pieces are divided', async () => {
  const text = 'one\ntwo\r\nthree\rfour\n\nunfinished';
  for (let size = 1; size <= text.length; size += 1) {
    const pieces = text.match(new RegExp(`[^]{1,${size}}`, 'g'));
    const found = [];
    for await (const line of lines(pieces)) {
      found.push(line);
    }
    assert.deepEqual(found, ['one', 'two', 'three', 'four', '', 'unfinished'].slice(0, -1), `pieces of ${size}`);
  }
});

await check('an event stream is read byte by byte, and its `retry` is obeyed', async () => {
  const id = (number) => `00000000-0000-8000-8000-${String(number).padStart(12, '0')}`;
  const message = (number) => JSON.stringify({ id: id(number), sender: 'a', text: `\u{1F40E} ${number}`, timestamp: 1 });
  const stream = `: comment\r\nretry: 700\r\nid: ${id(1)}\r\nevent: connected\ndata: {}\n\n`
    + `event: message\rid: ${id(2)}\rretry: soon\rdata: ${message(2).replace(',', '\rdata:,')}\n\n`;
  const asked = [];
  const raw = createServer((socket) => socket.on('error', () => {}).on('data', async (data) => {
    const [, target] = String(data).split(' ');
    asked.push({ target, at: Date.now() });
    const isHistory = target.startsWith('/api/history');
    const content = isHistory ? `{"messages":[${message(1)}]}` : asked.length < 3 ? stream : '';
    const type = isHistory ? 'application/json' : 'text/event-stream';
    socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nConnection: close\r\n\r\n`);
    for (const byte of Buffer.from(content)) {
      socket.write(Buffer.of(byte));
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    socket.end();
  }));
  await new Promise((resolve) => { raw.listen(0, '127.0.0.1', resolve); });
  await connect(sheet, `http://127.0.0.1:${raw.address().port}`, { one: { room: 'raw', transports: ['sse'] } });
  await until(() => asked.length >= 3, 'the next connection');
  assert.deepEqual((await get(sheet)).texts, ['\u{1F40E} 2']);
  assert.match(asked[1].target, new RegExp(`last_event_id=${id(1)}`));
  assert.match(asked[2].target, new RegExp(`last_event_id=${id(2)}`));
  assert.ok(asked[2].at - asked[1].at >= 700, 'the wait');
  await close(sheet);
  raw.close();
});

await check('a `retry` that no timer takes does not end the wait at once', async () => {
  let asked = 0;
  const raw = createServer((socket) => socket.on('error', () => {}).on('data', (data) => {
    const isHistory = String(data).startsWith('GET /api/history');
    asked += !isHistory;
    socket.end(isHistory ? 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"messages":[{"id":"1"}]}'
      : 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 99999999999\n\n');
  }));
  await new Promise((resolve) => { raw.listen(0, '127.0.0.1', resolve); });
  await connect(sheet, `http://127.0.0.1:${raw.address().port}`, { one: { room: 'raw', transports: ['sse'] } });
  await until(async () => (await get(sheet)).state === 'waiting', 'the wait');
  await new Promise((resolve) => { setTimeout(resolve, 300); });
  assert.equal(asked, 1);
  await close(sheet);
  raw.close();
});

await check('silence is judged after what came in time is read, even if the clock has jumped', async () => {
  const { now } = Date;
  let ended;
  const silence = new Silence(50, (error) => { ended = error.message; });
  Date.now = () => now() + 60_000; // the machine was suspended
  await new Promise((resolve) => { setTimeout(resolve, 150); });
  assert.equal(ended, undefined);
  silence.heard();
  Date.now = now;
  await until(() => ended, 'the silence');
  assert.equal(ended, 'nothing came for 0.05 s');
});

await check('it has less than 12 KB, minified and gzipped', async () => {
  const entryPoints = [fileURLToPath(new URL('../../static/overwire.js', import.meta.url))];
  const { outputFiles: [{ contents }] } = await build({ entryPoints, minify: true, format: 'esm', write: false });
  const { length } = gzipSync(contents);
  assert.ok(length < 12_000, `${length} bytes`);
});

finish();
