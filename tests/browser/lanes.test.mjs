// The lanes without the page: each module is imported into a page without scripts and driven from here. Every lane does
// the same on its own transport, so most checks run over all of them.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { Server, check, finish, until } from '../interop/server.mjs';
import { Cable } from './cable.mjs';
import { Gate } from './gate.mjs';
import * as pages from './lane-page.mjs';
import { call, complaints, get, launch, limits, make, numbered, received, reported, running, said, send, started, texts,
  wire } from './lane-page.mjs';

const MAILBOX_LANES = ['mailbox-poll', 'mailbox-sse', 'mailbox-websocket'];
const NAMES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket'];
const HELD = NAMES.filter((name) => name !== 'short-poll');

let server = await Server.start();
const cable = await Cable.plug(server.port);
const browser = await launch();
let rooms = 0;

/** The random part of each wait is short there. */
async function blank(base = cable.url) {
  const page = await pages.blank(browser, base);
  await page.evaluate(() => { Math.random = () => 0.05; });
  return page;
}

const nextRoom = () => `room ${rooms += 1}`;
const post = (room, text, sender = 'node') => server.post('/api/send', { room, sender, text });

async function postAll(room, all) {
  for (const text of all) {
    await post(room, text);
  }
  return all;
}

await check('a newcomer gets the last messages, then the new ones', async () => {
  const page = await blank();
  const room = nextRoom();
  const old = await postAll(room, numbered('old', 60));
  await started(page, NAMES, { room });
  await post(room, 'new');
  await received(page, NAMES, [...old.slice(-50), 'new']);
  for (const name of NAMES) {
    assert.deepEqual(await said(page, name, 'notice'), [], name);
    assert.deepEqual((await said(page, name, 'message')).at(-1).room, room);
    assert.equal((await wire(page, name, 'request'))[0].text, 'GET /api/history');
  }
  assert.equal((await said(page, 'long-poll', 'state')).at(-1).text, 'holding');
  await page.context().close();
});

await check('in an empty room, a message between the first requests is not lost', async () => {
  const page = await blank();
  const room = nextRoom();
  await page.route('**/api/messages?*', async (route) => {
    await post(room, 'between');
    await route.continue();
  }, { times: 1 });
  await started(page, ['stream'], { room });
  await post(room, 'after');
  await received(page, ['stream'], ['between', 'after']);
  await page.context().close();
});

await check('every lane receives what a lane sends, and `send` returns its id', async () => {
  const page = await blank();
  const room = nextRoom();
  await started(page, NAMES, { room });
  const ids = [];
  for (const name of NAMES) {
    const { id, error } = await send(page, name, 'ada', `by ${name}`);
    assert.equal(error, undefined, name);
    ids.push(id);
  }
  await received(page, NAMES, NAMES.map((name) => `by ${name}`));
  for (const name of NAMES) {
    const messages = await said(page, name, 'message');
    assert.deepEqual(messages.map(({ id }) => id), ids, name);
    assert.ok(messages.every(({ sender, timestamp }) => sender === 'ada' && Number.isFinite(timestamp)));
    assert.equal(await get(page, name, 'cursor'), ids.at(-1));
  }
  await page.context().close();
});

await check('a message that cannot be sent is an error with the reason', async () => {
  const page = await blank();
  await make(page, NAMES);
  assert.equal((await send(page, 'websocket', 'ada', 'x')).error, 'the socket is not open');
  await started(page, ['websocket'], { room: nextRoom() });
  for (const name of ['stream', 'websocket']) {
    assert.match((await send(page, name, 'ada', '')).error, /text: expected a string of 1 to 65536 characters/);
  }
  await page.context().close();
});

await check('a tapped lane marks every request, also those that send', async () => {
  const page = await blank();
  const urls = [];
  page.on('request', (request) => urls.push(request.url()));
  page.on('websocket', (socket) => urls.push(socket.url()));
  await started(page, NAMES, { room: nextRoom(), tap: 'f00.x' });
  for (const name of NAMES) {
    await send(page, name, 'ada', `by ${name}`);
  }
  await started(page, MAILBOX_LANES, { tap: 'f00.x' });
  await until(() => get(page, 'mailbox-sse', 'id'), 'the mailbox');
  for (const name of MAILBOX_LANES) {
    await send(page, name, 'ada', `by ${name}`);
  }
  const asked = urls.filter((url) => !url.endsWith('.js'));
  for (const path of ['/api/messages', '/api/poll', '/api/stream', '/api/events', '/api/ws', '/api/send',
    '/api/history', '/poll', '/sse', '/ws', '/sse/message']) {
    assert.ok(asked.some((url) => new URL(url).pathname === path), path);
  }
  assert.deepEqual(asked.filter((url) => new URL(url).searchParams.get('tap') !== 'f00.x'), []);
  await page.context().close();
});

await check('a stopped lane makes no request, and resumes after its cursor', async () => {
  const page = await blank();
  const room = nextRoom();
  await started(page, NAMES, { room });
  await post(room, 'first');
  await received(page, NAMES, ['first']);
  for (const name of NAMES) {
    await call(page, name, 'stop');
    assert.equal(await get(page, name, 'state'), 'stopped');
  }
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  await postAll(room, ['second', 'third']);
  await new Promise((resolve) => setTimeout(resolve, 2_100)); // longer than between two short polls
  assert.deepEqual(asked, []);
  for (const name of NAMES) {
    await call(page, name, 'start');
  }
  await received(page, NAMES, ['first', 'second', 'third']);
  await page.context().close();
});

await check('lanes that stop and start during a flood lose nothing and repeat nothing', async () => {
  const page = await blank();
  const room = nextRoom();
  await started(page, NAMES, { room });
  await page.evaluate((names) => {
    for (const name of names) {
      const lane = window.lanes[name];
      lane.addEventListener('message', () => {
        if (lane.said.message.length % 7 === 0) {
          lane.stop();
          lane.start();
        }
      });
    }
  }, NAMES);
  await received(page, NAMES, await postAll(room, numbered('flood', 200)));
  for (const name of NAMES) {
    assert.deepEqual(await said(page, name, 'notice'), [], name);
  }
  await page.context().close();
});

await check('a dropped connection is replaced without loss or repetition', async () => {
  const page = await blank();
  const room = nextRoom();
  await started(page, NAMES, { room });
  const all = [];
  for (const name of HELD) {
    await server.delete(`/api/client/${await get(page, name, 'id')}`);
    all.push(...await postAll(room, numbered(`gap of ${name}`, 3)));
  }
  await received(page, NAMES, all);
  for (let round = 0; round < 3; round += 1) {
    cable.cut();
    all.push(...await postAll(room, numbered(`cut ${round}`, 5)));
    await received(page, NAMES, all);
  }
  for (const name of NAMES) {
    assert.deepEqual(await said(page, name, 'notice'), [], name);
  }
  for (const name of ['stream', 'sse', 'websocket']) {
    assert.ok((await wire(page, name, 'reconnection')).length >= 4, name);
  }
  await page.context().close();
});

await check('a lane is notified when messages after its cursor are gone', async () => {
  const page = await blank();
  const room = nextRoom();
  await started(page, NAMES, { room });
  await post(room, 'of the old server');
  await received(page, NAMES, ['of the old server']);
  const { port } = server;
  await server.stop();
  for (const name of NAMES) {
    await until(async () => (await said(page, name, 'problem')).length > 0, `${name} to notice`);
  }
  assert.match((await said(page, 'websocket', 'problem'))[0], /^closed with 1001/);
  server = await Server.start(port);
  await post(room, 'of the new server');
  await received(page, NAMES, ['of the old server', 'of the new server']);
  for (const name of NAMES) {
    assert.equal((await said(page, name, 'notice')).length, 1, name);
    await running(page, name);
  }
  await page.context().close();
});

await check('a silent connection is given up, and the next one resumes', async () => {
  const page = await blank();
  const room = nextRoom();
  await limits(page, { SILENCE: 1_500, ANSWER: 1_500 });
  await limits(page, { file: 'long-poll', name: 'LongPoll', SILENCE: 1_500 });
  await limits(page, { file: 'websocket', name: 'WebSocketLane', HEARTBEAT: 1_000 });
  await started(page, NAMES, { room });
  await post(room, 'before');
  await received(page, NAMES, ['before']);
  cable.silence();
  await post(room, 'meanwhile');
  await received(page, NAMES, ['before', 'meanwhile']);
  for (const name of HELD) {
    await reported(page, name, 'problem', /^nothing came for 1\.5 s$/);
    await until(async () => (await wire(page, name, 'reconnection')).length > 0, `${name} to reconnect`);
  }
  await page.context().close();
});

await check('a request without an answer is given up', async () => {
  const page = await blank();
  await limits(page, { ANSWER: 300 });
  await make(page, ['stream'], { room: nextRoom() });
  let waiting;
  await page.route('**/api/send*', (route) => { waiting = route; });
  assert.deepEqual(await send(page, 'stream', 'ada', 'x'), { error: 'nothing came for 0.3 s' });
  await waiting.abort().catch(() => {});
  await page.context().close();
});

await check('a POST without an answer is repeated with its key, also by hand', async () => {
  const page = await blank();
  const room = nextRoom();
  await make(page, ['stream'], { room });
  let answers = 0;
  const keys = [];
  await page.route('**/api/send*', async (route) => {
    keys.push(route.request().postDataJSON().key);
    const response = await route.fetch(); // the server has it
    answers -= 1;
    return answers < 0 ? route.abort() : route.fulfill({ response });
  });
  const sent = async () => (await server.get(`/api/history?room=${room}`)).messages.map(({ text }) => text);
  assert.ok((await send(page, 'stream', 'ada', 'x')).error);
  assert.deepEqual([keys.length, new Set(keys).size], [2, 1], 'the same key');
  answers = 100;
  const { id } = await send(page, 'stream', 'ada', 'x');
  assert.deepEqual(await sent(), ['x']);
  assert.equal(id, (await server.get(`/api/history?room=${room}`)).messages[0].id);
  await send(page, 'stream', 'ada', 'x'); // now it is another message
  assert.deepEqual([await sent(), new Set(keys).size], [['x', 'x'], 2]);
  await page.unroute('**/api/send*');
  await page.route('**/api/send*', async (route) => {
    const response = await route.fetch();
    answers += 1;
    return answers === 101 ? route.fulfill({ response, body: '{"mess' }) : route.fulfill({ response });
  });
  assert.ok((await send(page, 'stream', 'ada', 'half an answer')).id);
  assert.deepEqual(await sent(), ['x', 'x', 'half an answer']);
  await page.context().close();
});

await check('a refused request is not repeated', async () => {
  const page = await blank();
  await make(page, ['stream'], { room: nextRoom() });
  let asked = 0;
  await page.route('**/api/send*', (route) => {
    asked += 1;
    return route.fulfill({ status: 503, body: '{"error": "busy"}' });
  });
  assert.deepEqual(await send(page, 'stream', 'ada', 'x'), { error: '503 busy' });
  assert.equal(asked, 1);
  await page.context().close();
});

await check('an attempt waits until the tap is ready, and a lane that was stopped meanwhile makes no request', async () => {
  const page = await blank();
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await page.evaluate(async () => {
    const { Stream } = await import('/lanes/stream.js');
    window.lane = new Stream({ ready: () => new Promise((resolve) => { window.ready = resolve; }) });
    window.lane.start();
  });
  assert.equal(await page.evaluate(() => window.lane.state), 'connecting');
  await page.evaluate(async () => {
    const { ready } = window;
    window.lane.stop();
    ready();
    await new Promise((resolve) => { setTimeout(resolve); });
    window.lane.start();
  });
  assert.deepEqual(asked.filter((path) => path.startsWith('/api/')), []);
  await page.evaluate(() => window.ready());
  await until(() => page.evaluate(() => window.lane.state === 'open'), 'the lane to be open');
  assert.deepEqual(asked.filter((path) => path === '/api/stream'), ['/api/stream']);
  await page.context().close();
});

await check('a slow answer is not given up', async () => {
  const slow = createServer(async (request, response) => {
    const { pathname, search } = new URL(request.url, server.url);
    if (pathname.endsWith('.js')) {
      const file = await fetch(server.url + pathname + search);
      return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(await file.text());
    }
    response.writeHead(200, { 'Content-Type': 'application/json' });
    const id = '00000000-0000-8000-8000-000000000001';
    const message = { id, sender: 'slow', text: '\u{1F40E}', timestamp: 1, room: 'general' };
    const answer = JSON.stringify({ messages: [message], stopPolling: true, recovered: true, last_message_id: id });
    for (const byte of Buffer.from(answer)) {
      response.write(Buffer.of(byte));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    response.end();
  });
  await new Promise((resolve) => slow.listen(0, '127.0.0.1', resolve));
  const page = await blank(`http://127.0.0.1:${slow.address().port}`);
  await limits(page, { ANSWER: 1_000 }); // the answer takes longer
  await make(page, ['short-poll']);
  await call(page, 'short-poll', 'start');
  await until(async () => (await texts(page, 'short-poll')).length === 2
    && (await get(page, 'short-poll', 'state')) === 'stopped', 'two answers, of which the last one says to stop');
  await received(page, ['short-poll'], ['\u{1F40E}', '\u{1F40E}']); // the history, and the first poll
  assert.deepEqual(await said(page, 'short-poll', 'problem'), []);
  await page.context().close();
  slow.closeAllConnections();
  slow.close();
});

await check('an answer of a proxy is a problem, and being online again ends the wait', async () => {
  const page = await blank();
  await page.evaluate(() => { Math.random = () => 60; }); // of 500 ms: no retry during this test
  const bad = { status: 502, contentType: 'text/html', body: '<h1>Bad</h1>' };
  await page.route('**/api/**', (route) => route.fulfill(bad));
  const overHttp = NAMES.filter((name) => name !== 'websocket');
  const problems = async (count) => {
    for (const name of overHttp) {
      await until(async () => (await get(page, name, 'state')) === 'waiting'
        && (await said(page, name, 'problem')).length === count, `${name} to have tried ${count} times`);
      assert.equal((await said(page, name, 'problem')).at(-1), '502 Bad Gateway');
    }
  };
  await make(page, overHttp, { room: nextRoom() });
  for (const name of overHttp) {
    await call(page, name, 'start');
  }
  await problems(1);
  assert.equal((await said(page, 'sse', 'state')).at(-1).text, 'waiting to retry in 30.0 s');
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await problems(2);
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange'))); // and it is visible
  await problems(3);
  await page.unroute('**/api/**');
  await page.evaluate(() => dispatchEvent(new Event('online')));
  for (const name of overHttp) {
    await running(page, name);
  }
  await page.context().close();
});

await check('a page that is left closes its connections, and reopens them when it is shown again', async () => {
  const page = await blank();
  const room = nextRoom();
  const [off, ...on] = NAMES;
  await started(page, NAMES, { room });
  await call(page, off, 'stop');
  const leave = (type, persisted) => page.evaluate(([type, persisted]) => {
    dispatchEvent(new PageTransitionEvent(type, { persisted }));
  }, [type, persisted]);
  await leave('pagehide', true);
  for (const name of NAMES) {
    assert.equal(await get(page, name, 'state'), 'stopped');
  }
  await post(room, 'meanwhile');
  await leave('pageshow', true);
  await received(page, on, ['meanwhile']);
  assert.equal(await get(page, off, 'state'), 'stopped');
  await page.context().close();
});

await check('an EventSource that finds no server leaves the next attempt to the lane', async () => {
  const page = await blank();
  await started(page, ['sse'], { room: nextRoom() });
  const { port } = server;
  await server.stop();
  await until(async () => (await get(page, 'sse', 'state')) === 'waiting', 'the lane to wait');
  const problems = await said(page, 'sse', 'problem');
  assert.equal(problems[0], 'the connection was lost, the browser reconnects');
  assert.equal(problems[1], 'the connection could not be opened');
  server = await Server.start(port);
  await running(page, 'sse');
  await page.context().close();
});

/** The first answer of a lane: the server refuses it, or ends it. */
function firstAnswer(page, name, { status, code, event }) {
  if (name === 'websocket') {
    let sockets = 0;
    return page.routeWebSocket('**/api/ws?*', (socket) => {
      sockets += 1;
      sockets === 1 ? socket.close({ code, reason: 'no' }) : socket.connectToServer();
    });
  }
  const path = { 'short-poll': 'messages', 'long-poll': 'poll', stream: 'stream', sse: 'events' }[name];
  const data = JSON.stringify(event);
  const held = { stream: { body: `\n${data}\n` }, sse: { contentType: 'text/event-stream',
    body: `event: ${event.type}\ndata: ${data}\n\n` } }[name];
  return page.route(`**/api/${path}?*`, (route) => (
    route.fulfill(held ?? { status, body: '{"error":"no"}' })), { times: 1 });
}

for (const [status, text] of [[401, 'session over'], [403, 'refused']]) {
  await check(`a lane that is refused with ${status} stays away, on whichever transport it learns of it`, async () => {
    const page = await blank();
    const room = nextRoom();
    await post(room, 'before'); // so a newcomer has a position without `/api/messages`
    const event = { type: 'unauthorized', status, error: 'no' };
    for (const name of NAMES) {
      await firstAnswer(page, name, { status, code: 4000 + status, event });
    }
    await make(page, NAMES, { room });
    for (const name of NAMES) {
      await call(page, name, 'start');
      await until(async () => (await said(page, name, 'refused')).length === 1, `${name} to be refused`);
      assert.deepEqual((await said(page, name, 'state')).at(-1), { state: 'stopped', text }, name);
      assert.match((await said(page, name, 'problem')).join(), /\bno$/, name);
    }
    for (const name of NAMES) { // it can be started again
      await call(page, name, 'start');
      await running(page, name);
    }
    await post(room, 'after');
    await received(page, NAMES, ['before', 'after']);
    await page.context().close();
  });
}

await check('a lane whose connection an operator ends comes back, and continues where it was', async () => {
  const page = await blank();
  const room = nextRoom();
  const names = ['stream', 'sse', 'websocket'];
  await post(room, 'before');
  for (const name of names) {
    await firstAnswer(page, name, { code: 1008, event: { type: 'ended', reason: 'no' } });
  }
  await started(page, names, { room });
  await post(room, 'after');
  await received(page, names, ['before', 'after']);
  for (const name of names) {
    assert.match((await said(page, name, 'problem')).join(), /\bno$/, name);
  }
  await page.context().close();
});

for (const [name, path] of [['sse', '/api/events'], ['websocket', '/api/ws']]) {
  await check(`${name} asks with a plain request for what the browser hides`, async () => {
    const gate = await Gate.open(server.port);
    const page = await blank(gate.url);
    const room = nextRoom();
    await post(room, 'before');
    gate.set('refuse', path);
    gate.rules.set('/api/messages', { status: 401, content: '{"error":"no"}' });
    await make(page, [name], { room });
    await call(page, name, 'start');
    await until(async () => (await said(page, name, 'refused')).length === 1, 'the refusal');
    assert.equal(gate.seen.filter((seen) => seen === path).length, 1);
    gate.close();
    await page.context().close();
  });
}

/** A room whose WebSocket connections are scripted. They answer heartbeats if `answers` is true. */
async function script(page, connections, { answers = true } = {}) {
  const seen = [];
  await page.routeWebSocket('**/api/ws?*', (socket) => {
    const said = [];
    const one = { url: socket.url(), said };
    seen.push(one);
    const act = connections[seen.length - 1] ?? {};
    const say = (value) => socket.send(JSON.stringify(value));
    socket.onMessage((data) => {
      const value = JSON.parse(data);
      said.push(value);
      if (value.type === 'heartbeat') {
        answers && say({ type: 'heartbeat', timestamp: 1 });
      } else {
        act.onSend?.(value, say, socket);
      }
    });
    act.onOpen?.(say);
  });
  return seen;
}

const cursor = (number) => `00000000-0000-8000-8000-${String(number).padStart(12, '0')}`;
const asSent = (number, { sender, text, room }) => ({ id: cursor(number), sender, text, timestamp: number, room });

await check('a silent WebSocket asks for heartbeats and stays open', async () => {
  const page = await blank();
  await limits(page, { file: 'websocket', name: 'WebSocketLane', HEARTBEAT: 200 });
  await started(page, ['websocket'], { room: nextRoom() });
  await until(async () => (await wire(page, 'websocket', 'heartbeat')).length >= 5, 'heartbeats');
  assert.equal((await wire(page, 'websocket', 'request')).length, 3, 'history, messages and one handshake');
  assert.deepEqual(await said(page, 'websocket', 'problem'), []);
  await page.context().close();
});

await check('a WebSocket without heartbeats is given up, and the next one resumes', async () => {
  const page = await blank();
  const room = nextRoom();
  await limits(page, { SILENCE: 1_000 });
  await limits(page, { file: 'websocket', name: 'WebSocketLane', HEARTBEAT: 200 });
  const message = asSent(7, { sender: 'ada', text: 'x', room });
  const seen = await script(page, [{ onOpen: (say) => say(message) }], { answers: false });
  await started(page, ['websocket'], { room });
  await reported(page, 'websocket', 'problem', /^nothing came for 1 s$/);
  await until(() => seen.length > 1, 'the next connection');
  assert.equal(new URL(seen[1].url).searchParams.get('last_message_id'), cursor(7));
  assert.deepEqual(seen[0].said, [{ type: 'heartbeat' }]);
  await page.context().close();
});

await check('a message to a lost WebSocket is confirmed by the replay, or an error', async () => {
  const page = await blank();
  const room = nextRoom();
  const arrived = [];
  const seen = await script(page, [
    { onSend: (value, say, socket) => {
      if (value.text === 'arrives') {
        arrived.push(asSent(1, value));
      } else {
        socket.close({ code: 1011 });
      }
    } },
    { onOpen: (say) => arrived.forEach((message) => say(message)), onSend: (value, say) => say(asSent(2, value)) },
  ]);
  await started(page, ['websocket'], { room });
  const [first, second] = [send(page, 'websocket', 'ada', 'arrives'), send(page, 'websocket', 'ada', 'does not')];
  assert.deepEqual(await first, { id: cursor(1) });
  assert.deepEqual(await second, { error: 'the connection was lost before it arrived' });
  assert.deepEqual(await send(page, 'websocket', 'ada', 'does not'), { id: cursor(2) });
  const sent = seen[1].said.map(({ type, text }) => type ?? text);
  assert.deepEqual(sent, ['heartbeat', 'does not'], 'nothing is sent twice');
  assert.deepEqual(await texts(page, 'websocket'), ['arrives', 'does not']);
  const third = send(page, 'websocket', 'ada', 'does not'); // two equal messages: the answers come in order
  const fourth = send(page, 'websocket', 'ada', 'does not');
  assert.deepEqual([await third, await fourth], [{ id: cursor(2) }, { id: cursor(2) }]);
  await page.context().close();
});

await check('a message that has not come back when its WebSocket stops is an error', async () => {
  const page = await blank();
  await script(page, []);
  await started(page, ['websocket'], { room: nextRoom() });
  const sent = send(page, 'websocket', 'ada', 'x');
  await call(page, 'websocket', 'stop');
  assert.deepEqual(await sent, { error: 'stopped before it came back' });
  await page.context().close();
});

for (const name of MAILBOX_LANES) {
  await check(`${name}: the lane has a mailbox of its own`, async () => {
    const page = await blank();
    await make(page, [name]);
    assert.equal(await get(page, name, 'id'), undefined);
    assert.ok((await send(page, name, 'ada', 'too early')).error);
    await call(page, name, 'start');
    const id = await until(() => get(page, name, 'id'), 'the mailbox');
    await running(page, name);
    const all = numbered('text', 30);
    const sent = await Promise.all(all.map((text) => send(page, name, 'ada', text)));
    await until(async () => (await texts(page, name)).length >= 30, 'all texts');
    const messages = await said(page, name, 'message');
    assert.deepEqual(messages.map(({ text }) => text).sort(), [...all].sort());
    assert.deepEqual(messages.map(({ id }) => id).sort(), sent.map(({ id }) => id).sort());
    assert.ok(messages.every(({ sender, timestamp }) => sender === undefined && Number.isFinite(timestamp)));
    assert.deepEqual(await said(page, name, 'id'), [id]);
    assert.deepEqual(await said(page, name, 'notice'), []);

    await server.delete(`/api/client/${id}`);
    await until(async () => (await said(page, name, 'id')).length === 2, 'another mailbox');
    assert.equal((await said(page, name, 'notice')).length, 1);
    await running(page, name);
    assert.ok((await send(page, name, 'ada', 'there')).id);
    await until(async () => (await texts(page, name)).at(-1) === 'there', 'what is in it');
    await page.context().close();
  });
}

for (const name of ['mailbox-poll', 'mailbox-sse']) {
  await check(`${name}: the mailbox survives a lost connection and a stop`, async () => {
    const page = await blank();
    await started(page, [name]);
    const id = await until(() => get(page, name, 'id'), 'the mailbox');
    const put = (text) => server.post('/sse/message', { connection_id: id, text });
    await put('one');
    await received(page, [name], ['one']);
    cable.cut();
    await put('two');
    await received(page, [name], ['one', 'two']);
    await call(page, name, 'stop');
    await put('three');
    await call(page, name, 'start');
    await received(page, [name], ['one', 'two', 'three']);
    assert.deepEqual([await said(page, name, 'id'), await said(page, name, 'notice')], [[id], []]);
    await page.context().close();
  });
}

await check('the wait before a retry is random, its bound doubles up to 30 seconds, and starts again after a success', async () => {
  const page = await blank();
  const waits = await page.evaluate(async () => {
    const { Lane } = await import('/lanes/lane.js');
    const { setTimeout } = window;
    const waits = [];
    const lane = new class extends Lane {
      async join() {}

      async connect() {
        if (waits.length === 9) {
          this.opened();
        }
        if (waits.length === 12) {
          this.stop();
        }
        throw new Error('no');
      }
    }();
    Math.random = () => (waits.length % 2 === 0 ? 1 : 0.5);
    window.setTimeout = (done, wait) => {
      waits.push(wait / Math.random());
      return setTimeout(done, 0);
    };
    await lane.start();
    return waits;
  });
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 500, 1000, 2000]);
  await page.context().close();
});

await check('ids are made without crypto.randomUUID too', async () => {
  const page = await blank();
  const made = await page.evaluate(async () => {
    crypto.randomUUID = undefined; // hides the method behind it
    return (await import('/overwire.js')).uuid();
  });
  assert.match(made, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  await page.context().close();
});

await check('a lane overrides only the members that lane.js lists', async () => {
  const page = await blank();
  await make(page, [...NAMES, 'webrtc', ...MAILBOX_LANES]);
  const overridden = await page.evaluate(async () => {
    const { Lane } = await import('/lanes/lane.js');
    const members = new Set(Object.getOwnPropertyNames(Lane.prototype));
    const found = new Set();
    for (let { constructor: one } of Object.values(window.lanes)) {
      for (; one !== Lane; one = Object.getPrototypeOf(one)) {
        Object.getOwnPropertyNames(one.prototype).filter((own) => members.has(own)).forEach((own) => found.add(own));
      }
    }
    return [...found].sort();
  });
  assert.deepEqual(overridden, ['connect', 'constructor', 'describe', 'join', 'send', 'stopped']);
  await page.context().close();
});

await check('each lane has a label, a title, a line on how, and says whether it holds a connection', async () => {
  const page = await blank();
  await make(page, [...NAMES, ...MAILBOX_LANES]);
  const about = await page.evaluate(() => Object.entries(window.lanes).map(([name, { constructor }]) => [
    name, constructor.lane, constructor.holds, Boolean(constructor.title && constructor.how)]));
  assert.deepEqual(about, [
    ['short-poll', 'short-poll', false, true], ['long-poll', 'long-poll', true, true], ['stream', 'stream', true, true],
    ['sse', 'sse', true, true], ['websocket', 'websocket', false, true], ['mailbox-poll', 'long-poll', true, true],
    ['mailbox-sse', 'sse', true, true], ['mailbox-websocket', 'websocket', false, true]]);
  await page.context().close();
});

await check('no page has thrown an error', () => assert.deepEqual(complaints, []));

await browser.close();
cable.unplug();
await server.stop();
finish();
