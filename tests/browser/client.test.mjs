// overwire.js in Node, Chromium and Firefox: through proxies that block one transport after the other, or buffer; over
// lost connections, restarts, and several servers. Every message comes once and in order, or there is a `gap`.
// $PLACES names some of the places: `node,firefox`.

import assert from 'node:assert/strict';
import { Server, check, finish, until } from '../interop/server.mjs';
import { chromium, close, connect, firefox, get, node, open, received, send } from './client-hosts.mjs';
import { Gate } from './gate.mjs';

const TRANSPORTS = ['websocket', 'sse', 'stream', 'long-poll', 'short-poll'];
const PATHS = {
  'websocket': '/api/ws', 'sse': '/api/events', 'stream': '/api/stream', 'long-poll': '/api/poll',
  'short-poll': '/api/messages',
};

process.setMaxListeners(30); // each server and each browser ends with this process
const server = await Server.start();
const wanted = process.env.PLACES?.split(',') ?? ['node', 'chromium', 'firefox'];
const places = await Promise.all(wanted.map((name) => ({ node, chromium, firefox }[name]())));
const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);
const browsers = places.filter(({ name }) => name !== 'Node');
const checks = [];
let rooms = 0;

/** A check in every place, each with its own proxy and room. No place waits for another. */
function everywhere(sentence, body) {
  checks.push(check(sentence, () => Promise.all(places.map((place) => {
    place.turn = Promise.resolve(place.turn).then(() => within(place, body));
    return place.turn;
  }))));
}

async function within(place, body) {
  const gate = await Gate.open(server.port);
  const sheet = await place.sheet(gate.url);
  await sheet.evaluate(() => { Math.random = () => 0.05; }); // the random part of each wait is short
  rooms += 1;
  const room = `${place.name} ${rooms}`;
  const post = async (texts, to = server) => {
    for (const text of texts) {
      await to.post('/api/send', { room, sender: 'node', text });
    }
    return texts;
  };
  const history = async () => {
    const { messages } = await server.get(`/api/history?limit=100&room=${room}`);
    return messages.map(({ text }) => text);
  };
  try {
    await body({ place, gate, sheet, room, post, history });
  } catch (error) {
    error.message = `${place.name}: ${error.message}`;
    throw error;
  } finally {
    await sheet.evaluate(() => Object.values(globalThis.clients ?? {}).forEach((client) => client.close()));
    await sheet.close();
    gate.close();
  }
}

everywhere('WebSocket comes first; every message comes once and in order, and `send` returns its id', async (at) => {
  const { sheet, gate, room, post } = at;
  await post(['old']);
  await connect(sheet, gate.url, { first: { room: `${room} new`, sender: 'ada' } });
  await send(sheet, 'at once', 'first');
  await received(sheet, ['at once'], { name: 'first' });
  await connect(sheet, gate.url, { one: { room, sender: 'ada' }, two: { room, history: 10 } });
  const { states } = await open(sheet, 'websocket');
  await open(sheet, 'websocket', 'two');
  assert.equal(states.at(-1).why, 'WebSocket: open');
  const texts = numbered('text', 5);
  const sendAll = (texts) => Promise.all(texts.map((text) => globalThis.clients.one.send(text)));
  const sent = await sheet.evaluate(sendAll, texts);
  await received(sheet, texts);
  await received(sheet, ['old', ...texts], { name: 'two' });
  assert.equal((await get(sheet)).cursor, sent.at(-1).id);
  assert.match((await send(sheet, '')).error, /^400 text: expected a string/);
  await close(sheet);
  assert.deepEqual(await send(sheet, 'late'), { error: 'the connection was closed; the message is not sent' });
});

everywhere('each transport alone: cut connections lose nothing and repeat nothing', async (at) => {
  const { sheet, gate, room, post } = at;
  const clients = Object.fromEntries(TRANSPORTS.map((name) => [name, { room, transports: [name] }]));
  await connect(sheet, gate.url, clients);
  await Promise.all(TRANSPORTS.map((name) => open(sheet, name, name)));
  const all = [];
  for (let round = 0; round < 3; round += 1) {
    all.push(...await post(numbered(`before ${round}`, 5)));
    gate.cut();
    all.push(...await post(numbered(`after ${round}`, 5)));
  }
  for (const name of TRANSPORTS) {
    await received(sheet, all, { name });
  }
});

everywhere('what a proxy refuses is left after two failures, for the next transport', async (at) => {
  const { place, sheet, gate, room, post } = at;
  for (let blocked = 1; blocked < TRANSPORTS.length; blocked += 1) {
    gate.set('refuse', ...TRANSPORTS.slice(0, blocked).map((name) => PATHS[name]));
    gate.seen = [];
    const name = TRANSPORTS[blocked];
    await connect(sheet, gate.url, { [name]: { room } });
    const { states } = await open(sheet, name, name);
    const left = states.filter(({ why }) => why.endsWith(' is next')).map(({ why }) => why);
    assert.equal(left.length, blocked);
    assert.match(left[0], /^WebSocket does not work here \(.*(1006|403|101|nothing came).*\), Server-sent events is/);
    if (place.name !== 'Firefox') { // it delays a WebSocket by itself, after one to the same host has failed
      assert.equal(gate.seen.filter((path) => path === PATHS.websocket).length, 2);
    }
    if (name !== 'short-poll') { // its next question is 2 s away
      await post([`over ${name}`]);
      await received(sheet, [`over ${name}`], { name });
    }
    await close(sheet, name);
  }
});

everywhere('after the last transport the first is next, without haste', async (at) => {
  const { sheet, gate, room, post } = at;
  gate.set('refuse', PATHS.websocket, PATHS.sse);
  await connect(sheet, gate.url, { one: { room, transports: ['websocket', 'sse'] } });
  const next = async () => {
    const { states } = await get(sheet);
    return states.slice(states.findIndex(({ why }) => /^Server-sent .*, WebSocket is next$/.test(why)) + 1 || Infinity);
  };
  await until(async () => (await next()).length > 0, async () => JSON.stringify(await get(sheet)));
  assert.equal((await next())[0].state, 'waiting');
  gate.rules.clear();
  await open(sheet, 'websocket');
  await post(['over the first']);
  await received(sheet, ['over the first']);
});

everywhere('what a proxy buffers or never answers counts as not opened', async (at) => {
  const { sheet, gate, room, post } = at;
  for (const rule of ['buffer', 'hang']) {
    gate.set(rule, PATHS.websocket, PATHS.sse, PATHS.stream);
    await connect(sheet, gate.url, { [rule]: { room } }, { OPENING: 250 });
    const { states } = await open(sheet, 'long-poll', rule);
    assert.ok(states.some(({ why }) => /^HTTP streaming does not work here \(nothing came within 0.25 s\)/.test(why)));
    await post([rule]);
    await received(sheet, [rule], { name: rule });
    await close(sheet, rule);
  }
});

everywhere('when the proxy is gone, the client climbs to the best transport during a flood', async (at) => {
  const { sheet, gate, room, post } = at;
  gate.set('refuse', PATHS.websocket, PATHS.sse);
  await connect(sheet, gate.url, { one: { room } }, { CLIMB: 300, CLIMB_CAP: 300 });
  await open(sheet, 'stream');
  const first = await post(numbered('while blocked', 20));
  gate.rules.delete(PATHS.sse);
  const [second] = await Promise.all([post(numbered('flood', 150)), open(sheet, 'sse')]);
  gate.rules.clear();
  const [third] = await Promise.all([post(numbered('again', 150)), open(sheet, 'websocket')]);
  const rest = await post(['after']);
  await received(sheet, [...first, ...second, ...third, ...rest]);
});

everywhere('a server that is away is waited for, and its transport is not blamed', async (at) => {
  const { sheet, gate, room, post } = at;
  let own = await Server.start();
  gate.ports = [own.port];
  await connect(sheet, gate.url, { one: { room } });
  await open(sheet, 'websocket');
  await post(['before'], own);
  await received(sheet, ['before']);
  await own.stop();
  const waits = async () => (await get(sheet)).states.filter(({ state }) => state === 'waiting').length;
  await until(async () => await waits() >= 4, 'four waits');
  own = await Server.start(own.port);
  await post(['after'], own);
  await open(sheet, 'websocket');
  await received(sheet, ['before', 'after'], { gaps: 1 }); // its messages were in memory
  assert.ok((await get(sheet)).states.every(({ transport }) => transport === 'websocket'));
  await own.stop();
});

everywhere('a connection that falls silent is replaced', async (at) => {
  const { sheet, gate, room, post } = at;
  const held = TRANSPORTS.slice(0, 3);
  const clients = Object.fromEntries(held.map((name) => [name, { room, transports: [name] }]));
  await connect(sheet, gate.url, clients, { SILENCE: 900, HEARTBEAT: 600, OPENING: 600 });
  await Promise.all(held.map((name) => open(sheet, name, name)));
  gate.silence();
  await post(['meanwhile']);
  for (const name of held) {
    await received(sheet, ['meanwhile'], { name });
  }
});

everywhere('Retry-After is obeyed, and nothing is blamed', async (at) => {
  const { sheet, gate, room, post } = at;
  const busy = { status: 503, fields: { 'Retry-After': '1' }, content: '{"error": "busy"}' };
  gate.set(busy, '/api/history', PATHS.sse, '/api/send');
  await connect(sheet, gate.url, { one: { room, sender: 'ada', transports: ['sse', 'short-poll'] } });
  const sent = send(sheet, 'patient');
  await until(async () => (await get(sheet)).states.some(({ state }) => state === 'waiting'), 'the wait');
  const { wait, why } = (await get(sheet)).states.at(-1);
  assert.ok(wait >= 1_000, String(wait));
  assert.match(why, /503 busy/);
  gate.rules.clear();
  await open(sheet, 'sse');
  assert.ok((await sent).id);
  await post(['after']);
  await until(async () => (await get(sheet)).texts.includes('after'), 'the message');
});

everywhere('a client that is refused stays away, and says why', async (at) => {
  const { sheet, gate, room } = at;
  const refusal = { status: 401, content: '{"error": "the session is over"}' };
  await connect(sheet, gate.url, { one: { room, transports: ['stream'] } });
  await open(sheet, 'stream');
  gate.set(refusal, PATHS.stream);
  gate.cut();
  await until(async () => (await get(sheet)).state === 'closed', 'the end');
  assert.equal((await get(sheet)).error, '401 the session is over');
  assert.deepEqual(await send(sheet, 'x'), { error: '401 the session is over; the message is not sent' });
  const asked = gate.seen.length;
  await new Promise((resolve) => { setTimeout(resolve, 700); }); // longer than the first wait
  assert.equal(gate.seen.length, asked);
});

everywhere('a message whose answer is lost is sent again with its key, and published once', async (at) => {
  const { sheet, gate, room, history } = at;
  gate.set('lose', '/api/send');
  await connect(sheet, gate.url, { one: { room, sender: 'ada' } });
  const [first, second] = [send(sheet, 'first'), send(sheet, 'second')];
  await until(() => gate.seen.filter((path) => path === '/api/send').length >= 3, 'repeated requests');
  gate.rules.clear();
  assert.ok((await first).id && (await second).id);
  assert.deepEqual(await history(), ['first', 'second']);
  await received(sheet, ['first', 'second']);
  gate.set('lose', '/api/send');
  assert.match((await send(sheet, 'in vain', 'one', { timeout: 2_000 })).error, /; the message may still come$/);
});

everywhere('it iterates over messages and gaps, and ends when it is closed', async (at) => {
  const { sheet, gate, room, post } = at;
  await connect(sheet, gate.url, { one: { room } });
  const seen = sheet.evaluate(async () => {
    const seen = [];
    for await (const { type, detail } of globalThis.clients.one) {
      seen.push(`${type} ${detail.text}`);
      if (detail.text === 'last') {
        globalThis.clients.one.close();
      }
    }
    return seen;
  });
  await open(sheet);
  await post(['first', 'last']);
  assert.deepEqual(await seen, ['message first', 'message last']);
});

everywhere('it runs in a worker', async ({ place, sheet, gate, room, post }) => {
  if (!browsers.includes(place)) {
    return;
  }
  const content = `import { connect } from './overwire.js';
    const room = connect('/', { room: ${JSON.stringify(room)} });
    room.addEventListener('state', ({ detail }) => postMessage(detail.state));
    room.addEventListener('message', ({ detail }) => postMessage(detail.text));`;
  gate.set({ status: 200, fields: { 'Content-Type': 'text/javascript' }, content }, '/worker.js');
  await sheet.evaluate(() => {
    globalThis.told = [];
    globalThis.worker = new Worker('/worker.js', { type: 'module' });
    globalThis.worker.addEventListener('message', ({ data }) => globalThis.told.push(data));
  });
  const told = () => sheet.evaluate(() => globalThis.told);
  await until(async () => (await told()).includes('open'), 'the worker to be connected');
  await post(['to the worker']);
  await until(async () => (await told()).includes('to the worker'), 'the message');
});

/** Two tabs of one browser, with a shared connection each. */
async function inTwoTabs({ place, sheet, gate, room }, body, options = {}, times = {}) {
  const other = await place.sheet(gate.url);
  await connect(sheet, gate.url, { one: { room, shared: true, ...options } });
  await open(sheet);
  await connect(other, gate.url, { one: { room, shared: true, ...options } }, times);
  await open(other);
  await body(other);
  await other.close();
}

const sockets = (gate) => gate.seen.filter((path) => path === '/api/ws').length;

everywhere('tabs that share have one connection, and the next one takes over', async (at) => {
  const { sheet, gate, room, post } = at;
  if (!browsers.includes(at.place)) {
    await connect(sheet, gate.url, { one: { room, shared: true } }); // without Web Locks: a connection of its own
    await open(sheet);
    return;
  }
  await inTwoTabs(at, async (other) => {
    assert.equal(sockets(gate), 1);
    const texts = await post(numbered('told', 10));
    await received(sheet, texts);
    await received(other, texts);
    await close(sheet);
    texts.push(...await post(numbered('of the next', 10)));
    await received(other, texts);
    assert.equal(sockets(gate), 2);
    await open(other, 'websocket');
  });
});

everywhere('a tab that hears nothing of the one that reads takes its place, and that one follows', async (at) => {
  const { sheet, gate, post } = at;
  if (!browsers.includes(at.place)) {
    return;
  }
  await inTwoTabs(at, async (other) => {
    await until(() => sockets(gate) === 2, 'a socket of the other tab');
    await open(other, 'websocket');
    const texts = await post(numbered('told', 5));
    await received(sheet, texts);
    await received(other, texts);
    await close(other);
    texts.push(...await post(['told by nobody']));
    await received(sheet, texts); // the first reads again
    assert.equal(sockets(gate), 3);
  }, {}, { SHARED_SILENCE: 200 });
});

everywhere('a tab that missed what another told it asks the server', async (at) => {
  const { sheet, gate, room, post } = at;
  if (!browsers.includes(at.place)) {
    return;
  }
  await inTwoTabs(at, async (other) => {
    await post(['heard']);
    await received(other, ['heard']);
    const channel = `overwire ${gate.url}/ ${room}`;
    await other.evaluate((name) => { // a message whose predecessor this tab does not have
      const voice = new BroadcastChannel(name);
      voice.postMessage({ after: 'another', message: { id: 'unknown' } });
      voice.close();
    }, channel);
    await post(['later']);
    await received(other, ['heard', 'later']);
    await received(sheet, ['heard', 'later']);
  });
});

everywhere('every tab that shares hears of a gap', async (at) => {
  const { sheet, gate, post } = at;
  if (!browsers.includes(at.place)) {
    return;
  }
  let own = await Server.start();
  gate.ports = [own.port];
  await inTwoTabs(at, async (other) => {
    await post(['before'], own);
    await Promise.all([sheet, other].map((one) => received(one, ['before'])));
    await own.stop();
    own = await Server.start(own.port);
    await post(['after'], own);
    await Promise.all([sheet, other].map((one) => received(one, ['before', 'after'], { gaps: 1 })));
  }, { transports: ['stream'] });
  await own.stop();
});

everywhere('a page that is left has no connection, and resumes when it is shown again', async (at) => {
  const { sheet, gate, room, post } = at;
  if (!browsers.includes(at.place)) {
    return;
  }
  await connect(sheet, gate.url, { one: { room } });
  await open(sheet);
  const leave = (type) => sheet.evaluate((type) => {
    dispatchEvent(new PageTransitionEvent(type, { persisted: true }));
  }, type);
  await leave('pagehide');
  const asked = gate.seen.length;
  await post(['meanwhile']);
  assert.equal((await get(sheet)).state, 'waiting');
  assert.equal(gate.seen.length, asked);
  await leave('pageshow');
  await received(sheet, ['meanwhile']);
  await sheet.evaluate(() => { dispatchEvent(new Event('online')); }); // the connection belongs to another network
  await until(() => sockets(gate) === 3, 'another socket');
  await open(sheet, 'websocket');
  await post(['after']);
  await received(sheet, ['meanwhile', 'after']);
});

await Promise.all(checks);
for (const place of places) {
  assert.deepEqual(await place.close(), [], place.name);
}
await server.stop();
finish();
