// The tools Compare and Chaos, in a page of their own with lanes that the test plays. First the test plays the tap too;
// at the end it is the real one.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until, within } from '../interop/server.mjs';
import { Meter, difference } from '../../static/compare/meter.js';
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
const piece = (name, bytes = '') => ({ name, kind: 'payload', section: '', bytes: base64(bytes) });
const counts = (counted = {}) => ({ payload: 0, framing: 0, header: 0, 'keep-alive': 0, ...counted });
const HEAD = { header: 25 }; // the counts of an event with a head

/** An event of the tap: `counted` are its bytes by kind. */
const bytesOf = (label, from, counted, pieces = []) => ({
  type: 'bytes', label, connection: '127.0.0.1:1', exchange: 1, from, time: 0, pieces, counted: counts(counted),
});
const REQUEST_LINE = [piece('request line', 'GET / HTTP/1.1\r\n')];

/** A masked text frame. */
function frame(text, key) {
  const masked = Buffer.from(text, 'latin1').map((byte, at) => byte ^ key[at % 4]);
  return Buffer.from([0x81, 0x80 | text.length, ...key, ...masked]).toString('latin1');
}

await check('the meter sums what the tap has counted, by lane, direction and kind', () => {
  const meter = new Meter();
  assert.equal(meter.take(bytesOf('a', 'client', { header: 16 }, REQUEST_LINE)), 16);
  assert.equal(meter.take(bytesOf('a', 'client', { header: 10 }, REQUEST_LINE)), 10);
  meter.take(bytesOf('b', 'client', { header: 16 }, REQUEST_LINE));
  assert.equal(meter.take(bytesOf('a', 'server', { header: 25, framing: 7, payload: 5 })), 37);
  assert.equal(meter.take(bytesOf('a', 'server', { 'keep-alive': 6, payload: 2 })), 8);
  assert.deepEqual(meter.of('a'), { requests: 2, up: { total: 26, ...counts({ header: 26 }) },
    down: { total: 45, payload: 7, framing: 7, header: 25, 'keep-alive': 6 } });
  assert.deepEqual([meter.of('b').requests, meter.of('b').up.total, meter.of('c').down.total], [1, 16, 0]);
  const before = meter.of('a');
  meter.take(bytesOf('a', 'server', { payload: 3 }));
  assert.deepEqual(difference(before, meter.of('a')), { requests: 0, up: { total: 0, ...counts() },
    down: { total: 3, ...counts({ payload: 3 }) } });
});

await check('the meter counts what was left out, and starts from 0 after a reset', () => {
  const meter = new Meter();
  meter.take(bytesOf('a', 'client', { header: 16 }, REQUEST_LINE));
  assert.deepEqual(meter.leftOut, { bytes: 0, events: 0 });
  assert.equal(meter.take({ type: 'left_out', bytes: 100, events: 2 }), 0);
  meter.take({ type: 'left_out', bytes: 10, events: 1 });
  assert.equal(meter.take({ type: 'end', label: 'a', closed: true }), 0);
  assert.deepEqual(meter.leftOut, { bytes: 110, events: 3 });
  meter.reset();
  assert.equal(meter.of('a').up.total + meter.of('a').requests + meter.leftOut.bytes, 0);
  meter.take(bytesOf('a', 'server', { 'keep-alive': 6 }));
  assert.equal(meter.of('a').down['keep-alive'], 6);
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

// The page, with a tap that the test plays.

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-compare-'));
const server = await Server.tapped({ options: ['--chaos'] });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const complaints = [];

/** A page with both tools, lanes without a transport, and `page.commands`: what the page commanded. */
async function open({ clock = false, played = true } = {}) {
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
    await page.routeWebSocket(/\/-\/tap\/view/, (socket) => {
      page.sockets.push(socket);
      socket.onMessage((message) => page.commands.push(JSON.parse(message)));
      socket.send(JSON.stringify({ type: 'open', mode: 'marked', target: server.url }));
    });
  }
  await page.route('**/favicon.ico', (route) => route.fulfill({ status: 204 }));
  if (clock) {
    await page.clock.install();
  }
  await page.goto(`${server.tapUrl}/health`); // a page without this origin could not open the tap's WebSocket
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
  const forgotten = [];
  Object.assign(window, { tap, deliveries, notes, published, forgotten, lanes: {} });
  window.forget = async () => { forgotten.push('everything'); };
  window.publish = async (text) => { published.push(text); };
  const compare = mountCompare(document.querySelector('#compare'), {
    tap, lanes, deliveries, publish: (text) => window.publish(text),
  });
  const chaos = mountChaos(document.querySelector('#chaos'), {
    tap, lanes, note: (...note) => notes.push(note), forget: () => window.forget(),
  });
  window.allowForget = chaos.allowForget;
  window.begin = compare.begin;
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
    await until(async () => await figure(page, label, key).textContent() === text,
      async () => `${label} ${key} ${text}; it is ${await figure(page, label, key).textContent()}`);
  }
}

async function status(page, panel, pattern) {
  const at = page.locator(`#${panel} [role="status"]`);
  await until(async () => pattern.test(await at.textContent()),
    async () => `${pattern}, not ${await at.textContent()}`);
}

async function logs(page, ...wanted) {
  await until(async () => {
    const log = await chaosLog(page);
    return wanted.every((pattern) => log.some((line) => pattern.test(line)));
  }, async () => `${wanted} in ${(await chaosLog(page)).join('\n')}`);
}

const page = await open();

await check('the live table shows the figures of the tap and of the lanes', async () => {
  await stateOf(page, 'stream', 'open');
  show(page, bytesOf('stream', 'client', { header: 28 }, REQUEST_LINE));
  show(page, bytesOf('stream', 'server', { header: 25, payload: 2011, framing: 8, 'keep-alive': 6 }));
  await page.evaluate(() => {
    for (let number = 1; number <= 20; number += 1) {
      window.deliver('stream', `id-${number}`, 'hello', number);
    }
    window.lanes.stream.say('wire', { what: 'reconnection', text: '' });
    window.lanes['short-poll'].say('wire', { what: 'empty', text: '' });
  });
  await shows(page, 'stream', {
    requests: '1', 'up-total': '28', 'up-header': '28', 'down-total': '2,050', 'down-payload': '2,011',
    'down-framing': '8', 'down-header': '25', 'down-keep-alive': '6', messages: '20', p50: '10 ms', p95: '19 ms',
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

await check('counts are "at least" when the tap left something out', async () => {
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

await check('the comparison says when the tap is closed', async () => {
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
  show(page, bytesOf('stream', 'server', HEAD)); // before the experiment: does not count
  await page.clock.runFor(1000);
  await shows(page, 'stream', { 'down-header': '25' });
  await action(page, 'silence').click();
  await status(page, 'compare', /^60 s of silence left/);
  assert.ok(await action(page, 'burst').isDisabled() && await action(page, 'reset').isDisabled());
  await page.clock.runFor(13_000);
  await status(page, 'compare', /^47 s of silence left/);
  show(page, bytesOf('stream', 'server', { 'keep-alive': 6 }));
  await page.clock.runFor(1000);
  await shows(page, 'stream', { 'down-keep-alive': '6' });
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
  }, bytesOf('stream', 'server', { payload: 111, framing: 7 }));
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

await check('a burst waits for a lane that gets nothing, but not forever, and can be stopped', async () => {
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

await check('what a lane sent itself does not count as arrived, and the result is in sight', async () => {
  const page = await open();
  await page.setViewportSize({ width: 1280, height: 300 });
  await stateOf(page, 'stream', 'open');
  await stateOf(page, 'webrtc', 'holding');
  await page.evaluate(() => {
    let number = 0;
    window.publish = async (text) => {
      number += 1;
      window.deliver('stream', `id-${number}`, text, 1);
      window.lanes.webrtc.say('message', { id: `id-${number}`, sender: 'a', text, own: true });
    };
  });
  await action(page, 'burst').click();
  await result(page, 'burst').waitFor();
  assert.equal((await cells(page, 'burst', 'stream'))[1], '100');
  assert.equal((await cells(page, 'burst', 'webrtc'))[1], '–');
  assert.match(await result(page, 'burst').textContent(), /WebRTC sent the messages to its peers/);
  assert.ok(await result(page, 'burst').evaluate((one) => one.getBoundingClientRect().top < innerHeight));
  await page.evaluate(() => window.begin('Counted since the mode is Isolated.')); // its lanes have the same labels
  assert.equal(await result(page, 'burst').count(), 0);
  await shows(page, 'stream', { messages: '0' });
  await status(page, 'compare', /^Counted since the mode is Isolated\.$/);
  await page.context().close();
});

await check('a stopped burst does not wait for a message that is being sent', async () => {
  const page = await open();
  await stateOf(page, 'stream', 'open');
  await page.evaluate(() => {
    window.publish = (text) => {
      window.published.push(text);
      return new Promise(() => {});
    };
  });
  await action(page, 'burst').click();
  await until(() => page.evaluate(() => window.published.length === 1), 'the first one');
  await action(page, 'stop').click();
  await status(page, 'compare', /^Stopped/);
  assert.equal(await page.evaluate(() => window.published.length), 1);
  await page.context().close();
});

// The tool Chaos.

const control = (page, label, fault) => page.locator(`.chaos-table [data-row="${label}"] [data-fault="${fault}"]`)
  .locator('input, select, button');
const commanded = (page, ...wanted) => until(() => {
  const commands = page.commands.map((command) => JSON.stringify(command));
  return wanted.every((one) => commands.includes(JSON.stringify(one)));
}, () => `${JSON.stringify(wanted)} in ${JSON.stringify(page.commands)}`);

await check('each control sends its command, and adds a line to the lane\'s log', async () => {
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

await check('switches are sent again when the tap reopens, strikes are not', async () => {
  page.commands.length = 0;
  const before = page.sockets.length;
  await page.sockets.at(-1).close({ code: 1001 });
  await until(() => page.sockets.length > before, 'the tap to come back');
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

await check('taking the server down concerns every lane', async () => {
  page.commands.length = 0;
  await page.locator('.chaos-down select').selectOption('10');
  await action(page, 'down').click();
  await commanded(page, { fault: 'down', value: 10 });
  await status(page, 'chaos', /^Server down for 10 s\.$/);
  await stateOf(page, 'sse', 'open');
  show(page, { type: 'struck', fault: 'down', time: 0 });
  await logs(page, /^Server: down: open connections are reset, new ones are refused$/);
  await stateOf(page, 'sse', 'waiting', 'waiting to retry in 0.2 s');
  show(page, { type: 'struck', fault: 'up', time: 0 });
  await logs(page, /^Server: up again$/);
  await stateOf(page, 'sse', 'open');
  await logs(page, /^Server-sent events: nothing lost, nothing repeated$/);
  const notes = await page.evaluate(() => window.notes.filter(([label]) => label === 'websocket').slice(-2));
  assert.deepEqual(notes.map(([, text]) => text),
    ['Chaos: down: open connections are reset, new ones are refused', 'Chaos: up again']);
});

await check('the server\'s state is restarted only after a confirmation, and only if the server allows it', async () => {
  assert.ok(await action(page, 'restart').isHidden());
  await page.evaluate(() => window.allowForget(true));
  await action(page, 'restart').click();
  await action(page, 'keep').click();
  assert.deepEqual(await page.evaluate(() => window.forgotten), []);
  await action(page, 'restart').click();
  await action(page, 'confirm').click();
  await logs(page, /^Server: restarted: rooms, mailboxes and clients are forgotten$/);
  assert.deepEqual(await page.evaluate(() => window.forgotten), ['everything']);
  await page.evaluate(() => { window.forget = async () => { throw new Error('403 faults are off'); }; });
  await action(page, 'restart').click();
  await action(page, 'confirm').click();
  await status(page, 'chaos', /^Not restarted: 403 faults are off\.$/);
  await page.evaluate(() => window.allowForget(false));
  assert.ok(await action(page, 'restart').isHidden());
});

await check('the log follows a lane from the strike to the verdict', async () => {
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

await check('the log is right when a lane notices a strike early or not at all', async () => {
  await stateOf(page, 'stream', 'waiting', 'waiting to retry in 0.3 s');
  show(page, { type: 'struck', label: 'stream', fault: 'drop', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^HTTP streaming: connection closed$/);
  await stateOf(page, 'stream', 'open');
  await logs(page, /^HTTP streaming: nothing lost, nothing repeated$/);
  await stateOf(page, 'long-poll', 'holding');
  show(page, { type: 'struck', label: 'long-poll', fault: 'drop', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^Long polling: the lane has not noticed .*; so far nothing lost, nothing repeated$/);
});

await check('the log reports losses and repetitions, with a strike and without', async () => {
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
  await logs(page, /^Tap: value: expected 0 to 60000$/);
});

await check('a silent hole is found, and a second strike does not hide a loss', async () => {
  const hex = (number, digits) => number.toString(16).padStart(digits, '0');
  const id = (number, log = 'c18cc5c3-d35c-84af') => ( // each with a check of its own
    `${log}-8${hex(number * 99, 3)}-${hex(255 - number, 2)}${hex(number, 10)}`);
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
  await until(async () => (await chaosLog(page)).length > struck, 'the strike');
  await stateOf(page, 'sse', 'waiting', 'waiting to retry in 0.1 s');
  await stateOf(page, 'sse', 'open');
  await comes('sse', id(0xa));
  await logs(page, /^Server-sent events: messages lost, without a notice, nothing repeated; 1 message since then$/);
  assert.equal((await verdicts())[0], 'Server-sent events: 7 messages missing, without a notice');
  const before = (await chaosLog(page)).length;
  await comes('sse', id(0xb));
  await say(page, 'sse', 'notice', 'Messages are missing.'); // which the log says already
  await comes('sse', id(0x20), id(3, '00000000-0000-8000'));
  await comes('webrtc', id(1), id(5)); // some messages went through the server, and not to peers
  assert.deepEqual((await chaosLog(page)).slice(before), ['Server-sent events: Messages are missing.']);

  await stateOf(page, 'stream', 'open');
  await stateOf(page, 'stream', 'waiting', 'waiting to retry in 0.1 s');
  await say(page, 'stream', 'notice', 'Messages are missing.');
  await stateOf(page, 'stream', 'open');
  strike('stream');
  await logs(page, /^HTTP streaming: .*messages lost, with a notice, nothing repeated$/);
});

await check('the log is bounded, and everything in it is text', async () => {
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

await check('the log follows its end when it becomes lower, and a command comes before what it does', async () => {
  await page.locator('.chaos-log').evaluate((log) => { log.style.height = `${log.offsetHeight - 9}px`; });
  await page.locator('.chaos-table [data-row="sse"] [data-fault="drop"] button').click();
  show(page, { type: 'struck', label: 'sse', fault: 'drop', connection: '127.0.0.1:1', time: 0 });
  await logs(page, /^Server-sent events: connection closed$/);
  assert.deepEqual((await chaosLog(page)).slice(-2), ['Server-sent events: drop', 'Server-sent events: connection closed']);
  await control(page, 'sse', 'delay').fill('2');
  await control(page, 'sse', 'delay').fill('4'); // one line, with the last value
  assert.deepEqual((await chaosLog(page)).slice(-2), ['Server-sent events: connection closed',
    'Server-sent events: delay 300 ms']);
  await action(page, 'calm').click();
  assert.equal((await chaosLog(page)).at(-1), 'Server-sent events: delay off');
  assert.ok(await page.locator('.chaos-log').evaluate((log) => (
    log.scrollTop + log.clientHeight >= log.scrollHeight - 2)), 'the newest line is in sight');
});

// The looks.

/** Fills the page with everything, for axe-core and the screenshots. */
async function fill(page) {
  const costs = [['short-poll', 30, 230, 12], ['long-poll', 4, 230, 60], ['stream', 1, 70, 6], ['sse', 1, 110, 60],
    ['websocket', 2, 62, 10], ['webrtc', 1, 900, 6]];
  for (const [label, requests, header, beats] of costs) {
    await stateOf(page, label, 'open');
    for (let number = 0; number < requests; number += 1) {
      show(page, bytesOf(label, 'client', { header }, REQUEST_LINE));
      show(page, bytesOf(label, 'server', { header: header + 40, payload: 900, framing: 8, 'keep-alive': beats + 5 }));
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
    show(full, bytesOf('stream', 'server', { payload: 1000, framing: 8 }));
  }
  await until(async () => /^5\d,/.test(await figure(full, 'stream', 'down-total').textContent()), 'more bytes');
  assert.deepEqual(await box(), before);
});

await full.context().close();

// The page with the real tap: it must show the bytes that another kind of client counts.

/** Speaks to the tap without a browser. Ends when `isComplete` is true of the bytes that came, and returns them. */
function raw(request, isComplete, next) {
  let received = '';
  return within(new Promise((resolve, reject) => {
    const socket = connect(server.tapPort, '127.0.0.1');
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
  `GET ${path}&tap=${id}.${label} HTTP/1.1\r\nHost: 127.0.0.1:${server.tapPort}\r\n${fields}\r\n`);
const headOf = (received) => received.indexOf('\r\n\r\n') + 4;
const lengths = (direction, counted) => Object.fromEntries(
  Object.entries(counts(counted))
    .map(([kind, bytes]) => [`${direction}-${kind}`, count(bytes)]));

await check('with the real tap: a lane has the bytes that a raw client counts, without the parameter tap', async () => {
  const page = await open({ played: false });
  const id = await page.evaluate(() => window.tap.id);
  const tapLength = (label) => `&tap=${id}.${label}`.length;
  const text = 'counted, byte by byte';
  const json = (received) => /\{"id".*?\}/.exec(received)[0].length;
  // All events with data count, also the one that opens the stream.
  const data = (received) => [...received.matchAll(/^data: (.*)$/gm)].reduce((sum, [, { length }]) => sum + length, 0);
  const post = () => server.post('/api/send', { sender: 'node', text, room: 'counted' });

  const question = get('/api/messages?room=nobody', 'short-poll', id, 'Connection: close\r\n');
  const answer = await raw(question, (received) => received.endsWith('}\n'));
  const asked = question.length - tapLength('short-poll');
  await shows(page, 'short-poll', { requests: '1', ...lengths('up', { total: asked, header: asked }),
    ...lengths('down',
      { total: answer.length, header: headOf(answer), 'keep-alive': answer.length - headOf(answer) }) });

  for (const [label, path, end] of [['stream', '/api/stream', '}\n\r\n'], ['sse', '/api/events', '}\n\n\r\n']]) {
    const request = get(`${path}?room=counted`, label, id);
    const received = await raw(request, (all) => all.includes(text) && all.endsWith(end), post);
    const [total, header] = [received.length, headOf(received)];
    const payload = label === 'sse' ? data(received) : json(received);
    const sent = request.length - tapLength(label);
    // A stream of lines begins with an empty one, as its heartbeats are.
    const beats = label === 'stream' ? { 'keep-alive': '1\r\n\n\r\n'.length } : {};
    const framing = total - header - payload - (beats['keep-alive'] ?? 0);
    await shows(page, label, { requests: '1', ...lengths('up', { total: sent, header: sent }),
      ...lengths('down', { total, header, payload, framing, ...beats }) });
  }

  const upgrade = get('/api/ws?room=counted', 'websocket', id, 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
    + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n');
  const beat = frame('{"type": "heartbeat"}', [1, 2, 3, 4]);
  const received = await raw(upgrade, (all) => all.includes(text) && all.includes('heartbeat'), (socket) => {
    socket.write(beat, 'latin1');
    post();
  });
  const [total, header, payload] = [received.length, headOf(received), json(received)];
  const sent = upgrade.length - tapLength('websocket');
  const keepAlive = 2 + /\{"t[^}]*heartbeat[^}]*\}/.exec(received)[0].length;
  await shows(page, 'websocket', {
    ...lengths('up', { total: sent + beat.length, header: sent, 'keep-alive': beat.length }),
    ...lengths('down',
      { total, header, payload, 'keep-alive': keepAlive, framing: total - header - payload - keepAlive }),
  });
  await page.context().close();
});

await check('with the real tap: a cut takes effect, and the page says so', async () => {
  const page = await open({ played: false });
  const id = await page.evaluate(() => window.tap.id);
  await control(page, 'stream', 'cut').click();
  await status(page, 'chaos', /^Cut, HTTP streaming: strikes what is open now, else the next request/);
  const socket = connect(server.tapPort, '127.0.0.1');
  socket.on('error', () => {}); // a reset is an end, too
  const closed = new Promise((resolve) => { socket.on('close', resolve); });
  socket.on('data', () => server.post('/api/send', { sender: 'node', text: 'cut me', room: 'cut' }));
  socket.write(get('/api/stream?room=cut', 'stream', id));
  await closed;
  await logs(page, /^HTTP streaming: cut in the middle of a message$/);
  await page.context().close();
});

await check('in the page, a burst reaches the real lanes, and a cut loses nothing', async () => {
  const context = await browser.newContext({ viewport: { width: 1600, height: 1000 } });
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.stack));
  await page.goto(`${server.tapUrl}/?room=burst&lanes=stream,sse,websocket&start`);
  await page.locator('#tab-compare').click();
  await until(() => page.evaluate(() => (
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
