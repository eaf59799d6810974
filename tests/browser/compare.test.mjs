// The comparison of the lanes and the chaos panel: what is counted, byte by byte, and what they do. In a page of its
// own, with lanes that are played; the tap is played too, and at the end the server's.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until, within } from '../interop/server.mjs';
import { Meter } from '../../static/compare/meter.js';
import { count, markdown, milliseconds, percentile } from '../../static/compare/numbers.js';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const LANES = [['short-poll', 'Short polling'], ['long-poll', 'Long polling'], ['stream', 'HTTP streaming'],
  ['sse', 'Server-sent events'], ['websocket', 'WebSocket'], ['webrtc', 'WebRTC']]
  .map(([label, title]) => ({ label, title }));
const HTML = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Compare and chaos</title>
  <meta http-equiv="Content-Security-Policy" content="default-src 'self'">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="icon" href="/favicon.svg"><link rel="stylesheet" href="/style.css">
  <link rel="stylesheet" href="/compare/compare.css"><link rel="stylesheet" href="/chaos/chaos.css"></head>
  <body><main><h1>Compare and chaos</h1><h2>Compare</h2><section id="compare"></section>
  <h2>Chaos</h2><section id="chaos"></section></main></body></html>`;

// The meter.

const base64 = (text) => Buffer.from(text, 'latin1').toString('base64');
const piece = (name, bytes = '', more = {}) => ({ name, bytes: base64(bytes), ...more });
const lines = (name, ...parts) => piece(name, parts.map(([, bytes]) => bytes).join(''), {
  lines: parts.map(([line, bytes]) => piece(line, bytes)),
});
const bytesOf = (label, from, pieces, exchange = 1) => ({
  type: 'bytes', label, connection: '127.0.0.1:1', exchange, from, time: 0, pieces,
});
const HEAD = [
  piece('status line', 'HTTP/1.1 200 OK\r\n'), piece('field line', 'A: b\r\n'), piece('end of head', '\r\n')];
const HEAD_LENGTH = 25;

/** What a meter has counted in one direction after these pieces. */
function counted(from, events, { end = false } = {}) {
  const meter = new Meter();
  events.forEach((pieces) => meter.take(bytesOf('lane', from, pieces)));
  if (end) {
    meter.take({ type: 'end', label: 'lane', connection: '127.0.0.1:1', exchange: 1, time: 0, closed: true });
  }
  return meter.of('lane')[from === 'client' ? 'up' : 'down'];
}

/** All pieces at once, and each by itself. */
function counts(from, pieces, expected, options) {
  const { payload = 0, framing = 0, headers = 0, keepalive = 0 } = expected;
  const wanted = { total: payload + framing + headers + keepalive, payload, framing, headers, keepalive };
  assert.deepEqual(counted(from, [pieces], options), wanted);
  assert.deepEqual(counted(from, pieces.map((one) => [one]), options), wanted);
}

function chunk(...parts) {
  const length = parts.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  const size = piece('chunk-size', `${length.toString(16)}\r\n`);
  return [size, lines('chunk-data', ...parts), piece('end of chunk', '\r\n')];
}

function frame(opcode, text, { key, fin = true } = {}) {
  const length = text.length < 126 ? [text.length] : [126, text.length >> 8, text.length & 255];
  const [first, second] = [(fin ? 0x80 : 0) | opcode, (key ? 0x80 : 0) | length[0]];
  const header = Buffer.from([first, second, ...length.slice(1), ...key ?? []]);
  const masked = Buffer.from(text, 'latin1').map((byte, at) => key ? byte ^ key[at % 4] : byte);
  const piece = (name, bytes, more) => ({ name, opcode, bytes: Buffer.from(bytes).toString('base64'), ...more });
  const masking = key && { masking_key: Buffer.from(key).toString('hex') };
  return { header: piece('frame header', header), length: header.length, payload: (from = 0, to = text.length) => (
    piece('payload', masked.subarray(from, to), { ...masking, offset: from })) };
}

await check('a request and its answer are headers and payload, and the parameter tap is not counted', () => {
  const line = (query) => piece('request line', `GET /api/poll${query} HTTP/1.1\r\n`);
  const bare = 'GET /api/poll HTTP/1.1\r\n'.length;
  counts('client', [line('?tap=abc.sse')], { headers: bare });
  counts('client', [line('?tap=abc.sse&a=1')], { headers: bare + 4 });
  counts('client', [line('?a=1&tap=abc.sse')], { headers: bare + 4 });
  counts('client', [line('?a=1&tap=abc.sse&b=2')], { headers: bare + 8 });
  counts('client', [line('?atap=abc')], { headers: bare + 9 });
  counts('client', [piece('empty line', '\r\n'), line(''), piece('field line', 'Host: x\r\n'),
    piece('end of head', '\r\n'), piece('content', '{"text":"a"}'), piece('end of message')],
    { headers: bare + 13, payload: 12 });
  counts('server', [...HEAD, piece('content', '{"messages":[{}]}'), piece('end of message')],
    { headers: HEAD_LENGTH, payload: 17 });
  counts('server', [...HEAD, piece('content', 'x'.repeat(400)), piece('content', 'x'.repeat(400))],
    { headers: HEAD_LENGTH, payload: 800 });
});

await check('the content of an empty answer is keep-alive', () => {
  for (const content of ['{"messages":[],"status":"timeout"}', '{"connection_id":"a","type":"timeout"}']) {
    counts('server', [...HEAD, piece('content', content.slice(0, 5)), piece('content', content.slice(5)),
      piece('end of message')], { headers: HEAD_LENGTH, keepalive: content.length });
    counts('client', [piece('content', content), piece('end of message')], { payload: content.length });
  }
  counts('server', [piece('content', '[]'), piece('end of message')], { payload: 2 });
  counts('server', [piece('content', 'null'), piece('end of message')], { payload: 4 });
  counts('server', [piece('content', '<html>')], { payload: 6 }, { end: true });
});

await check('chunks of JSON lines: the LF is framing, an empty line is keep-alive with its chunk', () => {
  counts('server', [...HEAD, ...chunk(['JSON line', '{"id":1}\n'])],
    { headers: HEAD_LENGTH, payload: 8, framing: 1 + 3 + 2 });
  counts('server', chunk(['empty line', '\n']), { keepalive: 1 + 3 + 2 });
  counts('server', chunk(['empty line', '\n'], ['JSON line', '{}\n']),
    { keepalive: 1, payload: 2, framing: 1 + 3 + 2 });
  counts('server', [...chunk(['part of line', '{"a"']), ...chunk(['JSON line', ':1}\n'])],
    { payload: 7, framing: 1 + 3 + 2 + 3 + 2 });
  counts('server', [...chunk(['JSON line', '{}\n']), piece('last-chunk', '0\r\n'), piece('trailer field', 'A: b\r\n'),
    piece('end of chunks', '\r\n'), piece('end of message')], { payload: 2, framing: 1 + 5 + 3 + 2, headers: 6 });
});

await check('events: the value of data is payload, all else framing, over the borders of chunks', () => {
  const event = [['id field', 'id: 7\n'], ['event field', 'event: message\n'], ['data field', 'data: {"a":1}\n'],
    ['end of event', '\n']];
  counts('server', chunk(...event), { payload: 7, framing: 6 + 15 + 7 + 1 + 4 + 2 });
  const cut = [['id field', 'id: 7\n'], ['part of line', 'event: mess']];
  const rest = [['event field', 'age\n'], ['part of line', 'da']];
  const last = [['data field', 'ta: {"a":1}\r\n'], ['end of event', '\r\n']];
  counts('server', [cut, rest, last].flatMap((part) => chunk(...part)),
    { payload: 7, framing: 6 + 15 + 8 + 2 + (4 + 2) + (3 + 2) + (3 + 2) });
  counts('server', chunk(['data field', 'data:x\n'], ['data field', 'data\n'], ['end of event', '\n']),
    { payload: 1, framing: 6 + 5 + 1 + 3 + 2 });
  counts('server', chunk(['id field', 'id: 7\n'], ['retry field', 'retry: 1000\n'], ['end of event', '\n']),
    { framing: 6 + 12 + 1 + 4 + 2 });
});

await check('heartbeats and comments of an event stream are keep-alive, with their chunks', () => {
  const beat = [['event field', 'event: heartbeat\n'], ['data field', 'data: {"timestamp":1}\n'],
    ['end of event', '\n']];
  counts('server', chunk(...beat), { keepalive: 17 + 22 + 1 + 4 + 2 });
  const isolated = [['event field', 'event: message\n'],
    ['data field', 'data: {"message":"Message 1","type":"heartbeat"}\n'], ['end of event', '\n']];
  counts('server', chunk(...isolated), { keepalive: 15 + 49 + 1 + 4 + 2 });
  counts('server', chunk(['comment', ': hello\n']), { keepalive: 8 + 3 + 2 });
  counts('server', chunk(['comment', ': hello\n'], ['end of event', '\n']), { keepalive: 8 + 1 + 3 + 2 });
  counts('server', chunk(['comment', ':\n'], ['data field', 'data: x\n'], ['end of event', '\n']),
    { keepalive: 2, payload: 1, framing: 7 + 1 + 3 + 2 });
});

await check('frames: the header is framing, pings and heartbeats are keep-alive both ways', () => {
  const key = [0x37, 0xfa, 0x21, 0x3d];
  const whole = (made) => [made.header, made.payload()];
  counts('server', whole(frame(1, '{"id":"x"}')), { framing: 2, payload: 10 });
  counts('client', whole(frame(1, '{"id":"x"}', { key })), { framing: 6, payload: 10 });
  counts('server', whole(frame(2, 'x'.repeat(200))), { framing: 4, payload: 200 });
  counts('server', whole(frame(1, 'x'.repeat(700))), { framing: 4, payload: 700 });
  counts('server', whole(frame(9, 'beat')), { keepalive: 6 });
  counts('client', whole(frame(10, 'beat', { key })), { keepalive: 10 });
  counts('server', [frame(9, '').header], { keepalive: 2 });
  counts('server', whole(frame(8, '\u0003\u00e8bye')), { framing: 2 + 5 });
  const beat = frame(1, '{"type": "heartbeat"}', { key });
  counts('client', whole(beat), { keepalive: 6 + 21 });
  counts('client', [beat.header, beat.payload(0, 5), beat.payload(5)], { keepalive: 6 + 21 });
  counts('client', [beat.header, beat.payload(0, 5)], { framing: 6, payload: 5 }, { end: true });
  counts('server', [...whole(frame(1, '{"type": "hea', { fin: false })), ...whole(frame(0, 'rtbeat"}'))],
    { framing: 4, payload: 21 });
  counts('server', [frame(1, '').header], { framing: 2 });
});

await check('the kinds of a chunk are counted when it is complete, or when the exchange ends', () => {
  const [size, data] = chunk(['JSON line', '{}\n']);
  assert.deepEqual(counted('server', [[size, data]]), { total: 6, payload: 0, framing: 0, headers: 0, keepalive: 0 });
  counts('server', [size, data], { payload: 2, framing: 4 }, { end: true });
  counts('server', [size, lines('chunk-data', ['id field', 'id: 1\n'], ['part of line', 'data: {"a'])],
    { payload: 3, framing: 3 + 6 + 6 }, { end: true });
  counts('server', [piece('broken'), piece('unlabelled', 'abc')], { framing: 3 });
});

await check('lanes, requests and exchanges are counted apart, and what was left out is said', () => {
  const meter = new Meter();
  const ask = piece('request line', 'GET / HTTP/1.1\r\n');
  assert.equal(meter.take(bytesOf('a', 'client', [ask], 1)), 16);
  meter.take(bytesOf('b', 'client', [ask], 2));
  meter.take(bytesOf('a', 'client', [ask], 3));
  meter.take(bytesOf('a', 'server', HEAD, 3));
  assert.deepEqual([meter.of('a').requests, meter.of('a').exchanges, meter.of('b').requests], [2, 2, 1]);
  assert.deepEqual(meter.leftOut, { bytes: 0, events: 0 });
  meter.take({ type: 'left_out', bytes: 100, events: 2 });
  meter.take({ type: 'left_out', bytes: 10, events: 1 });
  assert.deepEqual(meter.leftOut, { bytes: 110, events: 3 });
  meter.take(bytesOf('a', 'server', [piece('end of chunk', '\r\n')], 3)); // the front of which was left out
  assert.equal(meter.of('a').down.framing, 2);
  meter.reset();
  assert.equal(meter.of('a').up.total + meter.of('a').requests + meter.leftOut.bytes, 0);
  meter.take(bytesOf('a', 'server', chunk(['empty line', '\n']), 3));
  assert.equal(meter.of('a').down.keepalive, 6, 'an exchange goes on after a reset');
  for (let exchange = 10; exchange < 2000; exchange += 1) {
    meter.take(bytesOf('c', 'server', [piece('chunk-size', '3\r\n')], exchange));
  }
  assert.ok(meter.of('c').down.framing > 1500 * 3, 'what is half here is bounded');
});

await check('numbers are formatted for reading', () => {
  assert.deepEqual([0, 999, 12_345, 1_234_567, 2.5e9].map(count), ['0', '999', '12,345', '1.235 MB', '2.500 GB']);
  assert.deepEqual([undefined, 0.123, 4.26, 42.4, 1234, 12_345].map(milliseconds),
    ['–', '0.12 ms', '4.3 ms', '42 ms', '1,234 ms', '12.3 s']);
  const hundred = Array.from({ length: 100 }, (_, at) => 100 - at);
  assert.deepEqual([percentile(hundred, 0.5), percentile(hundred, 0.95), percentile([7], 0.95), percentile([], 0.5)],
    [50, 95, 7, undefined]);
  assert.equal(markdown('T', [{ title: 'a' }, { title: 'b', isNumber: true }], [['x|y', 1]]),
    '**T**\n\n| a | b |\n| - | -: |\n| x\\|y | 1 |');
});

// The page, with a tap that is played.

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-compare-'));
const server = await Server.start(0, undefined, ['--chaos']);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const complaints = [];

/** A page with both panels, lanes without a transport, and `window.commands`: what the panel asked the tap for. */
async function open({ clock = false, played = true, chaos = true } = {}) {
  const context = await browser.newContext({ viewport: { width: 1600, height: 1000 } });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) {
      complaints.push(message.text());
    }
  });
  page.on('pageerror', (error) => complaints.push(error.stack));
  page.sockets = []; // of the tap, the newest last
  page.commands = [];
  if (played) {
    await page.routeWebSocket(/\/api\/tap/, (socket) => {
      page.sockets.push(socket);
      socket.onMessage((message) => page.commands.push(JSON.parse(message)));
      socket.send(JSON.stringify({ type: 'open', chaos }));
    });
  }
  await page.route('**/favicon.ico', (route) => route.fulfill({ status: 204 }));
  if (clock) {
    await page.clock.install();
  }
  await page.goto(`${server.url}/health`); // a page that a test made up would be kept from the server's WebSocket
  await page.setContent(HTML);
  await page.evaluate(mount, LANES);
  await page.waitForFunction(() => window.tap.open);
  return page;
}

async function mount(lanes) {
  const [{ Tap }, { mountCompare }, { mountChaos }] = await Promise.all(
    ['/tap.js', '/compare/compare.js', '/chaos/chaos.js'].map((path) => import(path)));
  class PlayedLane extends EventTarget {
    state = 'stopped';
    say(name, detail) {
      this.state = name === 'state' ? detail.state : this.state;
      this.dispatchEvent(new CustomEvent(name, { detail }));
    }
  }
  const deliveries = new EventTarget();
  const tap = new Tap();
  const notes = [];
  const published = [];
  Object.assign(window, { tap, deliveries, notes, published, lanes: {} });
  window.publish = async (text) => { published.push(text); };
  const compare = mountCompare(document.querySelector('#compare'), {
    tap, lanes, deliveries, publish: (text) => window.publish(text),
  });
  const chaos = mountChaos(document.querySelector('#chaos'), { tap, lanes, note: (...note) => notes.push(note) });
  window.watch = (label) => {
    window.lanes[label] = new PlayedLane();
    compare.watch(label, window.lanes[label]);
    chaos.watch(label, window.lanes[label]);
  };
  lanes.forEach(({ label }) => window.watch(label));
  window.deliver = (label, id, text, delay) => {
    window.lanes[label].say('message', { id, sender: 'a', text, timestamp: 0, room: 'general' });
    deliveries.dispatchEvent(new CustomEvent('delivery', { detail: { label, id, delay } }));
  };
  document.querySelector('main').style.display = 'block'; // not the columns of the client
  tap.start();
}

const show = (page, event) => page.sockets.at(-1).send(JSON.stringify(event));
const say = (page, label, name, detail) => (
  page.evaluate(([label, name, detail]) => window.lanes[label].say(name, detail), [label, name, detail]));
const stateOf = (page, label, state, text = state) => say(page, label, 'state', { state, text });
const figure = (page, label, key) => page.locator(`.compare-live [data-row="${label}"] [data-figure="${key}"]`);
const action = (page, name) => page.locator(`[data-action="${name}"]`);
const chaosLog = (page) => page.locator('.chaos-log li').evaluateAll((items) => items.map((item) => (
  `${item.querySelector('b').textContent}: ${item.querySelector('span').textContent}`)));

async function shows(page, label, figures) {
  for (const [key, text] of Object.entries(figures)) {
    await until(15_000, async () => await figure(page, label, key).textContent() === text,
      async () => `${label} ${key} ${text}; it is ${await figure(page, label, key).textContent()}`);
  }
}

async function status(page, panel, pattern) {
  const at = page.locator(`#${panel} [role="status"]`);
  await until(15_000, async () => pattern.test(await at.textContent()),
    async () => `${pattern}, not ${await at.textContent()}`);
}

async function logs(page, ...wanted) {
  await until(15_000, async () => {
    const log = await chaosLog(page);
    return wanted.every((pattern) => log.some((line) => pattern.test(line)));
  }, async () => `${wanted} in ${(await chaosLog(page)).join('\n')}`);
}

const page = await open();

await check('the live table shows what the tap and the lanes report', async () => {
  await stateOf(page, 'stream', 'open');
  show(page, bytesOf('stream', 'client', [piece('request line', 'GET /api/stream?tap=a.stream HTTP/1.1\r\n'),
    piece('end of head', '\r\n')]));
  show(page, bytesOf('stream', 'server', [...HEAD, ...chunk(['JSON line', `{"text":"${'x'.repeat(2000)}"}\n`]),
    ...chunk(['empty line', '\n'])]));
  await page.evaluate(() => {
    for (let number = 1; number <= 20; number += 1) {
      window.deliver('stream', `id-${number}`, 'hello', number);
    }
    window.lanes.stream.say('wire', { what: 'reconnection', text: '' });
    window.lanes['short-poll'].say('wire', { what: 'empty', text: '' });
  });
  await shows(page, 'stream', {
    requests: '1', 'up-total': '28', 'up-headers': '28', 'down-total': '2,050', 'down-payload': '2,011',
    'down-framing': '8', 'down-headers': '25', 'down-keepalive': '6', messages: '20', p50: '10 ms', p95: '19 ms',
    reconnections: '1', empty: '0',
  });
  await shows(page, 'short-poll', { empty: '1', requests: '0', p50: '–' });
  const bar = await page.locator('[data-row="stream"] .compare-bar').nth(1).locator('i')
    .evaluateAll((parts) => parts.map((part) => Number(part.style.flexGrow)));
  assert.deepEqual(bar, [2011, 8, 25, 6]);
  assert.notEqual(await page.locator('[data-row="stream"] .sparkline-bars').getAttribute('d'), '');
  assert.equal(await page.locator('[data-row="sse"] .sparkline-bars').getAttribute('d'), '');
});

await check('delays are those of the last 1,000 deliveries', async () => {
  await page.evaluate(() => {
    for (let number = 1; number <= 1500; number += 1) {
      window.deliver('sse', `many-${number}`, 'hello', number <= 500 ? 9000 : 20);
    }
  });
  await shows(page, 'sse', { messages: '1,500', p50: '20 ms', p95: '20 ms' });
});

await check('what the tap left out makes the counts "at least"', async () => {
  show(page, { type: 'left_out', bytes: 12_345, events: 17 });
  await shows(page, 'stream', { 'up-total': '≥ 28', 'down-payload': '≥ 2,011' });
  await shows(page, 'sse', { 'up-total': '0' });
  assert.match(await page.locator('.compare-left-out').textContent(), /^At least: 12,345 bytes in 17 events/);
});

await check('Copy table gives Markdown, Reset begins from 0', async () => {
  await action(page, 'copy').click();
  await status(page, 'compare', /Copied/);
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /^\*\*Lanes compared\*\*\n\n\| Lane \| Requests \| Bytes up \| up: payload \|/);
  assert.ok(copied.includes('\n| HTTP streaming | 1 | 28 | 0 | 0 | 28 | 0 | 2050 | 2011 | 8 | 25 | 6 | 20 | 10 ms '));
  await action(page, 'reset').click();
  await shows(page, 'stream', { requests: '0', 'up-total': '0', 'down-total': '0', messages: '0', p50: '–' });
  assert.ok(await page.locator('.compare-left-out').isHidden());
  assert.equal(await page.locator('[data-row="stream"] .sparkline-bars').getAttribute('d'), '');
});

await check('a tap that is closed is said', async () => {
  await page.evaluate(() => window.tap.stop());
  await page.locator('.compare-left-out', { hasText: 'The tap is closed' }).waitFor();
  await page.evaluate(() => window.tap.start());
  await page.locator('.compare-left-out').waitFor({ state: 'hidden' });
});

const result = (page, what) => page.locator(`[data-result="${what}"]`);
const cells = (page, what, label) => result(page, what).locator(`tr[data-row="${label}"] > *`).allTextContents();

await check('a minute of silence shows what each lane cost in it', async () => {
  const page = await open({ clock: true });
  await stateOf(page, 'stream', 'open');
  await stateOf(page, 'short-poll', 'open');
  show(page, bytesOf('stream', 'server', HEAD)); // before it: does not count
  await page.clock.runFor(1000);
  await shows(page, 'stream', { 'down-headers': '25' });
  await action(page, 'silence').click();
  await status(page, 'compare', /^60 s of silence left/);
  assert.ok(await action(page, 'burst').isDisabled() && await action(page, 'reset').isDisabled());
  await page.clock.runFor(13_000);
  await status(page, 'compare', /^47 s of silence left/);
  show(page, bytesOf('stream', 'server', chunk(['empty line', '\n'])));
  await page.clock.runFor(1000);
  await shows(page, 'stream', { 'down-keepalive': '6' });
  await page.clock.runFor(47_000);
  await result(page, 'silence').waitFor();
  assert.match(await result(page, 'silence').textContent(),
    /^A minute of silence \(6\d\.\d s\)Nobody published meanwhile\./);
  assert.deepEqual(await cells(page, 'silence', 'stream'),
    ['HTTP streaming', '0', '0', '6', '0', '0', '0', '6', '0', '0']);
  assert.equal(await result(page, 'silence').locator('tbody tr').count(), 2, 'only lanes that run');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.action), 'silence');

  await action(page, 'silence').click();
  await page.evaluate(() => {
    window.deliver('stream', 'a', 'hello', 1);
    window.deliver('short-poll', 'a', 'hello', 1);
  });
  await page.clock.runFor(61_000);
  await result(page, 'silence').getByText('Not silent: 1 message came meanwhile.').waitFor();
  assert.equal(await result(page, 'silence').count(), 1, 'in place of the one before');

  await action(page, 'silence').click();
  await action(page, 'stop').click();
  await status(page, 'compare', /^Stopped/);
  await page.context().close();
});

await check('a burst of 100 shows the delays, the last arrival and the bytes per message', async () => {
  await stateOf(page, 'stream', 'open');
  await stateOf(page, 'sse', 'open');
  await page.evaluate((event) => {
    let number = 0;
    window.publish = async (text) => {
      number += 1;
      if (number === 50) {
        throw new Error('503 too many');
      }
      window.deliver('stream', `burst-${number}`, text, number);
      window.deliver('sse', `burst-${number}`, text, 2 * number);
      window.tap.dispatchEvent(new CustomEvent('bytes', { detail: event }));
    };
    window.deliver('stream', 'other', 'of somebody else', 99_999);
  }, bytesOf('stream', 'server', chunk(['JSON line', `{"text":"${'x'.repeat(100)}"}\n`])));
  await action(page, 'burst').click();
  await result(page, 'burst').waitFor();
  assert.match(await result(page, 'burst').textContent(),
    /^A burst of 10099 of 100 messages were accepted; 503 too many\./);
  const stream = await cells(page, 'burst', 'stream');
  assert.deepEqual(stream.slice(0, 4), ['HTTP streaming', '99', '51 ms', '96 ms']);
  assert.deepEqual(stream.slice(5), ['0', '0', '11,682', '118']);
  assert.match(stream[4], /^[\d.,]+ (ms|s)$/);
  assert.deepEqual((await cells(page, 'burst', 'sse')).slice(0, 4), ['Server-sent events', '99', '102 ms', '192 ms']);
  assert.equal(await result(page, 'burst').locator('tbody tr').count(), 2);
  await action(page, 'copy').click();
  await status(page, 'compare', /Copied/);
  assert.match(await page.evaluate(() => navigator.clipboard.readText()),
    /\n\n\*\*A burst of 100: 99 of 100 .*\*\*\n\n\| Lane \| Arrived/);
});

await check('a burst waits for a lane that gets nothing, but not for ever, and can be stopped', async () => {
  const page = await open({ clock: true });
  await stateOf(page, 'stream', 'open');
  await stateOf(page, 'webrtc', 'holding');
  await page.evaluate(() => {
    let number = 0;
    window.publish = async (text) => window.deliver('stream', `id-${number += 1}`, text, 1);
  });
  await action(page, 'burst').click();
  await status(page, 'compare', /^waiting for webrtc: 0 of 100/);
  await page.clock.runFor(11_000);
  await result(page, 'burst').waitFor();
  assert.deepEqual((await cells(page, 'burst', 'webrtc')).slice(0, 5), ['WebRTC', '0', '–', '–', '–']);
  await action(page, 'burst').click();
  await status(page, 'compare', /^waiting/);
  await action(page, 'stop').click();
  await status(page, 'compare', /^Stopped/);
  await page.context().close();
});

await check('a burst that is stopped does not wait for a message that is under way', async () => {
  const page = await open();
  await stateOf(page, 'stream', 'open');
  await page.evaluate(() => {
    window.publish = (text) => {
      window.published.push(text);
      return new Promise(() => {});
    };
  });
  await action(page, 'burst').click();
  await until(15_000, () => page.evaluate(() => window.published.length === 1), 'the first one');
  await action(page, 'stop').click();
  await status(page, 'compare', /^Stopped/);
  assert.equal(await page.evaluate(() => window.published.length), 1);
  await page.context().close();
});

// The chaos panel.

const control = (page, label, fault) => page.locator(`.chaos-table [data-row="${label}"] [data-fault="${fault}"]`)
  .locator('input, select, button');
const commanded = (page, ...wanted) => until(15_000, () => {
  const commands = page.commands.map((command) => JSON.stringify(command));
  return wanted.every((one) => commands.includes(JSON.stringify(one)));
}, () => `${JSON.stringify(wanted)} in ${JSON.stringify(page.commands)}`);

await check('each control sends its command, and the lane\'s log is told', async () => {
  await control(page, 'sse', 'delay').focus();
  for (let step = 0; step < 4; step += 1) {
    await page.keyboard.press('ArrowRight');
  }
  await control(page, 'stream', 'buffer').selectOption('4096');
  await control(page, 'websocket', 'slow').selectOption({ label: '256 B/s' });
  await control(page, 'long-poll', '502').click();
  await control(page, 'sse', 'drop').click();
  await control(page, 'sse', 'cut').click();
  await control(page, 'sse', 'half-open').click();
  await commanded(page, { label: 'sse', fault: 'delay', value: 300 }, { label: 'stream', fault: 'buffer', value: 4096 },
    { label: 'websocket', fault: 'slow', value: 256 }, { label: 'long-poll', fault: '502', value: 1 },
    { label: 'sse', fault: 'drop' }, { label: 'sse', fault: 'cut' }, { label: 'sse', fault: 'half-open' });
  assert.equal(await page.locator('[data-row="sse"] output').textContent(), '300 ms');
  assert.equal(await control(page, 'sse', 'delay').getAttribute('aria-valuetext'), '300 ms');
  assert.deepEqual(await page.evaluate(() => window.notes.slice(-3)), [['stream', 'Chaos: buffer 4,096 bytes'],
    ['websocket', 'Chaos: slow reader 256 B/s'], ['long-poll', 'Chaos: 502 on']]);
});

await check('the row of all lanes sets and shows them all', async () => {
  assert.equal(await page.locator('.chaos-table [data-row="all lanes"] output').textContent(), 'mixed');
  assert.equal(await control(page, 'all lanes', 'buffer').inputValue(), '');
  assert.ok(await control(page, 'all lanes', '502').evaluate((input) => input.indeterminate));
  page.commands.length = 0;
  await control(page, 'all lanes', 'buffer').selectOption('1024');
  await control(page, 'all lanes', 'drop').click();
  await commanded(page, ...LANES.flatMap(({ label }) => (
    [{ label, fault: 'buffer', value: 1024 }, { label, fault: 'drop' }])));
  assert.equal(page.commands.length, 2 * LANES.length);
  assert.equal(await control(page, 'webrtc', 'buffer').inputValue(), '1024');
});

await check('switches are sent again when the tap has been away, strikes are not', async () => {
  page.commands.length = 0;
  const before = page.sockets.length;
  await page.sockets.at(-1).close({ code: 1001 });
  await until(10_000, () => page.sockets.length > before, 'the tap to come back');
  await commanded(page, { label: 'sse', fault: 'delay', value: 300 }, { label: 'websocket', fault: 'slow', value: 256 },
    { label: 'long-poll', fault: '502', value: 1 },
    ...LANES.map(({ label }) => ({ label, fault: 'buffer', value: 1024 })));
  assert.equal(page.commands.length, 3 + LANES.length);
});

await check('Calm puts every switch to off', async () => {
  page.commands.length = 0;
  await action(page, 'calm').click();
  await commanded(page, { label: 'sse', fault: 'delay', value: 0 }, { label: 'websocket', fault: 'slow', value: 0 },
    { label: 'long-poll', fault: '502', value: 0 },
    ...LANES.map(({ label }) => ({ label, fault: 'buffer', value: 0 })));
  assert.equal(page.commands.length, 3 + LANES.length);
  assert.equal(await page.locator('.chaos-table [data-row="all lanes"] output').textContent(), 'off');
  assert.ok(!await control(page, 'long-poll', '502').isChecked());
});

await check('the server\'s state is restarted only after a confirmation', async () => {
  page.commands.length = 0;
  await action(page, 'restart').click();
  await action(page, 'keep').click();
  assert.deepEqual(page.commands, []);
  await action(page, 'restart').click();
  await action(page, 'confirm').click();
  await commanded(page, { fault: 'restart' });
  show(page, { type: 'struck', fault: 'restart', time: 0 });
  await logs(page, /^Server: restarted: rooms, mailboxes and clients are forgotten$/);
});

await check('the log tells what a strike did to a lane, to the end', async () => {
  await say(page, 'sse', 'message', { id: 'a', text: 'x' });
  show(page, { type: 'struck', label: 'sse', fault: 'cut', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^Server-sent events: cut in the middle of a message$/);
  await say(page, 'sse', 'problem', 'the connection ended');
  await stateOf(page, 'sse', 'waiting', 'waiting to retry in 0.4 s');
  await stateOf(page, 'sse', 'connecting');
  await stateOf(page, 'sse', 'open');
  await say(page, 'sse', 'message', { id: 'b', text: 'y' });
  await logs(page, /^Server-sent events: nothing lost, nothing repeated; 1 message since then$/);
  const log = await chaosLog(page);
  assert.deepEqual(log.slice(-5).map((line) => line.replace(/\d\.\d\d s/, 'n s')), ['cut in the middle of a message',
    'the connection ended', 'waiting to retry in 0.4 s', 'open again after n s',
    'nothing lost, nothing repeated; 1 message since then'].map((text) => `Server-sent events: ${text}`));
  assert.deepEqual(await page.evaluate(() => window.notes.at(-1)), ['sse', 'Chaos: cut in the middle of a message']);
});

await check('a strike that is told only after the lane saw it, and one that the lane did not see', async () => {
  await stateOf(page, 'stream', 'waiting', 'waiting to retry in 0.3 s');
  show(page, { type: 'struck', label: 'stream', fault: 'drop', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^HTTP streaming: connection closed$/);
  await stateOf(page, 'stream', 'open');
  await logs(page, /^HTTP streaming: nothing lost, nothing repeated$/);
  await stateOf(page, 'long-poll', 'holding');
  show(page, { type: 'struck', label: 'long-poll', fault: 'drop', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^Long polling: the lane has not noticed .*; so far nothing lost, nothing repeated$/);
});

await check('losses and repetitions are told, with a strike and without', async () => {
  show(page, { type: 'struck', label: 'sse', fault: 'drop', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^Server-sent events: connection closed$/);
  await stateOf(page, 'sse', 'waiting', 'waiting to retry in 0.1 s');
  await stateOf(page, 'sse', 'open');
  await say(page, 'sse', 'notice', 'Messages are missing.');
  await say(page, 'sse', 'message', { id: 'a', text: 'x' });
  await logs(page, /messages lost, with a notice, 1 message repeated; 1 message since then$/);
  await logs(page, /^Server-sent events: a message came twice$/);
  await page.evaluate(() => window.watch('sse')); // another room: other messages
  const before = (await chaosLog(page)).length;
  await say(page, 'sse', 'message', { id: 'a', text: 'x' });
  assert.equal((await chaosLog(page)).length, before);
  show(page, { type: 'error', error: 'value: expected 0 to 60000' });
  await logs(page, /^Server: value: expected 0 to 60000$/);
});

await check('a hole that nobody told of is found, and a second strike does not hide a loss', async () => {
  const id = (number, log = 'c18cc5c3-d35c-84af') => `${log}-8000-${number.toString(16).padStart(12, '0')}`;
  const comes = (label, ...ids) => ids.reduce((before, one) => (
    before.then(() => say(page, label, 'message', { id: one, text: 'x' }))), Promise.resolve());
  const strike = (label) => (
    show(page, { type: 'struck', label, fault: 'drop', connection: '127.0.0.1:1', time: 0 }));
  const verdicts = async () => (await chaosLog(page)).filter((line) => /lost|missing|late/.test(line)).slice(-2);
  await page.evaluate(() => ['sse', 'stream', 'webrtc'].forEach(window.watch));
  await stateOf(page, 'sse', 'open');
  await comes('sse', id(1), id(2));
  const struck = (await chaosLog(page)).length;
  strike('sse');
  await until(15_000, async () => (await chaosLog(page)).length > struck, 'the strike');
  await stateOf(page, 'sse', 'waiting', 'waiting to retry in 0.1 s');
  await stateOf(page, 'sse', 'open');
  await comes('sse', id(0xa));
  await logs(page, /^Server-sent events: messages lost, without a notice, nothing repeated; 1 message since then$/);
  assert.equal((await verdicts())[0], 'Server-sent events: 7 messages missing, without a notice');
  const before = (await chaosLog(page)).length;
  await comes('sse', id(0xb));
  await say(page, 'sse', 'notice', 'Messages are missing.'); // which is told already
  await comes('sse', id(0x20), id(3, '00000000-0000-8000'));
  await comes('webrtc', id(1), id(5)); // of those that went through the server, some were not sent to peers
  assert.deepEqual((await chaosLog(page)).slice(before), ['Server-sent events: Messages are missing.']);

  await stateOf(page, 'stream', 'open');
  await stateOf(page, 'stream', 'waiting', 'waiting to retry in 0.1 s');
  await say(page, 'stream', 'notice', 'Messages are missing.');
  await stateOf(page, 'stream', 'open');
  strike('stream');
  await logs(page, /^HTTP streaming: .*messages lost, with a notice, nothing repeated$/);
});

await check('the log is bounded, and what strangers typed is text', async () => {
  const height = await page.locator('.chaos-log').evaluate((log) => log.offsetHeight);
  await page.evaluate(() => {
    for (let number = 0; number < 1000; number += 1) {
      window.lanes.stream.say('problem', `<b>${number}</b>`);
    }
  });
  await logs(page, /^HTTP streaming: <b>999<\/b>$/);
  assert.equal((await chaosLog(page)).length, 300);
  assert.equal(await page.locator('.chaos-log').evaluate((log) => log.offsetHeight), height);
  const isAtEnd = await page.locator('.chaos-log').evaluate((log) => (
    log.scrollTop + log.clientHeight >= log.scrollHeight - 2));
  assert.ok(isAtEnd, 'the newest line is in sight');
});

await check('a server that allows no faults: nothing can be pressed, and it is said why', async () => {
  const page = await open({ chaos: false });
  await status(page, 'chaos', /not started with --chaos/);
  assert.ok(await control(page, 'sse', 'cut').isDisabled());
  await page.context().close();
});

// How it looks.

/** Something of everything, so that the screenshots and axe-core see all of it. */
async function fill(page) {
  const costs = [['short-poll', 30, 230, 12], ['long-poll', 4, 230, 60], ['stream', 1, 70, 6], ['sse', 1, 110, 60],
    ['websocket', 2, 62, 10], ['webrtc', 1, 900, 6]];
  for (const [label, requests, headers, beats] of costs) {
    await stateOf(page, label, 'open');
    for (let number = 0; number < requests; number += 1) {
      show(page, bytesOf(label, 'client', [piece('request line', 'x'.repeat(headers))], number));
      show(page, bytesOf(label, 'server', [piece('status line', 'x'.repeat(headers + 40)),
        ...chunk(['JSON line', `${'x'.repeat(900)}\n`]), ...chunk(['empty line', '\n'.repeat(beats)])], number));
    }
  }
  await page.evaluate((lanes) => {
    window.publish = async (text) => lanes.forEach(({ label }, at) => (
      window.deliver(label, text, text, (at + 0.4) ** 3)));
  }, LANES);
  await action(page, 'burst').click();
  await result(page, 'burst').waitFor();
  await control(page, 'stream', 'buffer').selectOption('4096');
  await control(page, 'sse', 'delay').fill('4');
  await control(page, 'websocket', '502').check();
  show(page, { type: 'struck', label: 'sse', fault: 'cut', connection: '127.0.0.1:1', time: 0 });
  await stateOf(page, 'sse', 'waiting', 'waiting to retry in 0.4 s');
  await stateOf(page, 'sse', 'open');
  await logs(page, /^Server-sent events: nothing lost/);
  show(page, { type: 'struck', label: 'stream', fault: 'half-open', connection: '127.0.0.1:1', time: 0 });
  await say(page, 'stream', 'problem', 'nothing came for 20 s');
  await stateOf(page, 'stream', 'waiting', 'waiting to retry in 0.2 s');
  await stateOf(page, 'stream', 'open');
  await say(page, 'stream', 'notice', 'Messages are missing.');
  await logs(page, /^HTTP streaming: messages lost/);
  await control(page, 'sse', 'cut').focus();
}

await page.context().close();
const full = await open();
await fill(full);

for (const colorScheme of ['light', 'dark']) {
  for (const width of [360, 1600]) {
    await check(`axe-core finds nothing, ${colorScheme}, ${width} pixels, and it fits`, async () => {
      await full.emulateMedia({ colorScheme });
      await full.setViewportSize({ width, height: 1000 });
      await full.evaluate(AXE);
      const { violations, passes } = await full.evaluate(() => window.axe.run());
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'it has looked at the contrast');
      const found = violations.map(({ id, nodes }) => [id, nodes.length, nodes[0].html, nodes[0].failureSummary]);
      assert.deepEqual(found, []);
      const wide = await full.evaluate(() => document.documentElement.scrollWidth <= innerWidth ? [] : (
        [...document.querySelectorAll(':not(table *)')].filter((one) => one.getBoundingClientRect().right > innerWidth)
          .map((one) => `${one.tagName} ${one.className}`)));
      assert.deepEqual(wide, [], 'nothing widens the page');
      const scrolls = await full.locator('.compare-live').evaluate(({ offsetWidth, parentElement }) => (
        offsetWidth > parentElement.clientWidth && getComputedStyle(parentElement).overflowX === 'auto'));
      assert.equal(scrolls, width === 360, 'the table scrolls where it does not fit');
      await full.screenshot({ path: join(screenshots, `compare-${colorScheme}-${width}.png`), fullPage: true });
    });
  }
}

await check('no layout shift while numbers change', async () => {
  const box = () => full.evaluate(() => ['.compare-live', '.chaos-table', '.chaos-happened'].map((selector) => {
    const { top, height, width } = document.querySelector(selector).getBoundingClientRect();
    return [top, height, width];
  }));
  const before = await box();
  for (let number = 0; number < 50; number += 1) {
    show(full, bytesOf('stream', 'server', chunk(['JSON line', `${'x'.repeat(1000)}\n`]), 1));
  }
  await until(15_000, async () => /^5\d,/.test(await figure(full, 'stream', 'down-total').textContent()), 'more bytes');
  assert.deepEqual(await box(), before);
});

await full.context().close();

// The page with the server's tap: what is shown is what a client of another kind counts.

/** Speaks to the server without a browser, and counts what passes. Ends when `isComplete` says so of what came. */
function raw(request, isComplete, next) {
  let received = '';
  return within(10_000, new Promise((resolve, reject) => {
    const socket = connect(server.port, '127.0.0.1');
    socket.on('connect', () => socket.write(request, 'latin1'));
    socket.on('error', reject);
    socket.on('data', (data) => {
      const begun = received === '';
      received += data.toString('latin1');
      if (begun) {
        next?.(socket);
      }
      if (isComplete(received)) {
        socket.destroy();
        resolve(received);
      }
    });
  }), `the answer to ${request.split('\r\n', 1)}`);
}

const get = (path, label, id, fields = '') => (
  `GET ${path}&tap=${id}.${label} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n${fields}\r\n`);
const headOf = (received) => received.indexOf('\r\n\r\n') + 4;
const lengths = (direction, { total, payload = 0, framing = 0, headers = 0, keepalive = 0 }) => Object.fromEntries(
  Object.entries({ total, payload, framing, headers, keepalive })
    .map(([kind, bytes]) => [`${direction}-${kind}`, count(bytes)]));

await check('with the server\'s tap: a lane has the bytes that a raw client counts, less the parameter', async () => {
  const page = await open({ played: false });
  const id = await page.evaluate(() => window.tap.id);
  const tapLength = (label) => `&tap=${id}.${label}`.length;
  const text = 'counted, byte by byte';
  const json = (received) => /\{"id".*?\}/.exec(received)[0].length;
  const post = () => server.post('/api/send', { sender: 'node', text, room: 'counted' });

  const question = get('/api/messages?room=nobody', 'short-poll', id, 'Connection: close\r\n');
  const answer = await raw(question, (received) => received.endsWith('}\n'));
  const asked = question.length - tapLength('short-poll');
  await shows(page, 'short-poll', { requests: '1', ...lengths('up', { total: asked, headers: asked }),
    ...lengths('down', { total: answer.length, headers: headOf(answer), keepalive: answer.length - headOf(answer) }) });

  for (const [label, path, end] of [['stream', '/api/stream', '}\n\r\n'], ['sse', '/api/events', '}\n\n\r\n']]) {
    const request = get(`${path}?room=counted`, label, id);
    const received = await raw(request, (all) => all.includes(text) && all.endsWith(end), post);
    const [total, headers, payload] = [received.length, headOf(received), json(received)];
    const sent = request.length - tapLength(label);
    await shows(page, label, { requests: '1', ...lengths('up', { total: sent, headers: sent }),
      ...lengths('down', { total, headers, payload, framing: total - headers - payload }) });
  }

  const upgrade = get('/api/ws?room=counted', 'websocket', id, 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
    + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n');
  const beat = frame(1, '{"type": "heartbeat"}', { key: [1, 2, 3, 4] });
  const beatBytes = Buffer.from(beat.header.bytes, 'base64').toString('latin1')
    + Buffer.from(beat.payload().bytes, 'base64').toString('latin1');
  const received = await raw(upgrade, (all) => all.includes(text) && all.includes('heartbeat'), (socket) => {
    socket.write(beatBytes, 'latin1');
    post();
  });
  const [total, headers, payload] = [received.length, headOf(received), json(received)];
  const sent = upgrade.length - tapLength('websocket');
  const keepalive = 2 + /\{"t[^}]*heartbeat[^}]*\}/.exec(received)[0].length;
  await shows(page, 'websocket', {
    ...lengths('up', { total: sent + beatBytes.length, headers: sent, keepalive: beatBytes.length }),
    ...lengths('down', { total, headers, payload, keepalive, framing: total - headers - payload - keepalive }),
  });
  await page.context().close();
});

await check('with the server\'s tap: a cut takes effect and is told', async () => {
  const page = await open({ played: false });
  const id = await page.evaluate(() => window.tap.id);
  await control(page, 'stream', 'cut').click();
  await status(page, 'chaos', /^Cut, HTTP streaming: strikes what is open now, else the next request/);
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => {}); // a reset is an end, too
  const closed = new Promise((resolve) => { socket.on('close', resolve); });
  socket.on('data', () => server.post('/api/send', { sender: 'node', text: 'cut me', room: 'cut' }));
  socket.write(get('/api/stream?room=cut', 'stream', id));
  await closed;
  await logs(page, /^HTTP streaming: cut in the middle of a message$/);
  await page.context().close();
});

await check('in the client: a burst on the lanes as they are, and a cut that loses nothing', async () => {
  const context = await browser.newContext({ viewport: { width: 1600, height: 1000 } });
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.stack));
  await page.goto(`${server.url}/?room=burst&lanes=stream,sse,websocket&start`);
  await page.locator('#tab-compare').click();
  await until(10_000, () => page.evaluate(() => (
    document.querySelectorAll('.compare-live [data-state="open"]').length === 3)), 'three lanes to be open');
  await action(page, 'burst').click();
  await result(page, 'burst').waitFor({ timeout: 60_000 });
  for (const label of ['stream', 'sse', 'websocket']) {
    const [, arrived, p50, , , requests, up, down, each] = await cells(page, 'burst', label);
    assert.deepEqual([arrived, requests, up], ['100', '0', '0'], label);
    assert.match(p50, / ms$/);
    assert.ok(Number(each) > 100 && Number(down.replace(',', '')) > 10_000, `${label}: ${down}, ${each}`);
  }
  await page.locator('#tab-chaos').click();
  await control(page, 'stream', 'cut').click();
  await status(page, 'chaos', /^Cut, /);
  await server.post('/api/send', { sender: 'node', text: 'cut me', room: 'burst' });
  await logs(page, /: cut in the middle of a message$/, /: nothing lost, nothing repeated; 1 message since then$/);
  await page.screenshot({ path: join(screenshots, 'client-chaos.png') });
  await context.close();
});

await check('no violation of the content security policy, nothing unexpected on the console', () => {
  assert.deepEqual(complaints, []);
});

await browser.close();
await server.stop();
console.log(`screenshots are in ${screenshots}`);
finish();
