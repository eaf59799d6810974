// The page in two tabs of one browser, every panel running in both, seen through the tap.
//
// A browser opens at most six HTTP/1.1 connections to one host, over all tabs. Long poll, stream and SSE hold one each,
// so two tabs of one host would leave none for short polling and for sending. The page says so, and the tests follow
// its advice: one tab is at localhost, the other at 127.0.0.1. Most steps run in the same two tabs, in this order. The
// later steps have tabs of their own.
//
// WebRTC between tabs is in webrtc.test.mjs and webrtc-lane.test.mjs; here its lane has no peer.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, check, finish, until } from '../interop/server.mjs';
import { isFirefox, launch } from './browsers.mjs';

const LANES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket'];
const HELD = { 'long-poll': 'long_poll', stream: 'stream', sse: 'sse', websocket: 'websocket' };
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const LOG_ENTRIES = 200;
const RETAINED = 1000; // messages that a room retains

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-page-'));
let server = await Server.tapped();
const browser = await launch();
const context = await newContext();
const complaints = []; // the errors and warnings of the consoles
let front; // the tab that is shown
let expectFailures = false; // while the server is down, the browser complains

const a = await open('localhost');
const b = await open('127.0.0.1');
const tabs = [a, b];

async function newContext() {
  const made = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  await made.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
    window.closeCodes = [];
    window.WebSocket = class extends WebSocket {
      constructor(url, ...args) {
        super(url, ...args);
        if (new URL(url).pathname === '/api/ws') {
          this.addEventListener('close', ({ code }) => window.closeCodes.push(code));
        }
      }
    };
    window.animated = []; // every animation that began: name, lane, id of the message, whether it moves
    const { animate } = Element.prototype;
    Element.prototype.animate = function (steps, options) {
      const moves = steps.some((step) => 'scale' in step);
      window.animated.push([options.id, this.closest('[data-lane]').dataset.lane, this.dataset.id, moves]);
      return animate.call(this, steps, options);
    };
  });
  return made;
}

async function open(host, query = '', within = context) {
  const page = await within.newPage();
  front = page;
  const complain = (text) => expectFailures || complaints.push(`${host}${query}: ${text}`);
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complain(message.text()));
  page.on('pageerror', ({ stack }) => isLostConnection(stack) || complaints.push(`${host}: ${stack}`));
  await page.goto(`http://${host}:${server.tapPort}/${query}`);
  await page.fill('#sender', host);
  return page;
}

/** Firefox reports a WebSocket or an EventSource that could not be opened, or was lost, as an error of the page. */
const isLostConnection = (text) => isFirefox && /connection to the server at|was interrupted/.test(text);

/** Not in Firefox: Playwright adds a style for it there, which the content security policy forbids. */
async function picture(page, path, fullPage = false) {
  isFirefox || await page.screenshot({ path, fullPage });
}

const panel = (page, lane) => page.locator(`[data-lane="${lane}"]`);
const state = (page, lane) => panel(page, lane).getAttribute('data-state');
const part = (page, lane, name) => panel(page, lane).locator(`[data-part="${name}"]`);
const number = async (page, lane, name) => Number(await part(page, lane, name).textContent());
const id = (page, lane) => part(page, lane, 'id').getAttribute('data-connection');
const entries = (page, lane) => panel(page, lane).locator('li[data-kind]');

async function click(page, lane, action) {
  await toFront(page);
  await panel(page, lane).locator(`[data-action="${action}"]`).click();
}

/** A tab in the background is drawn rarely, and a click waits until it is drawn. */
async function toFront(page) {
  if (front !== page) {
    await page.bringToFront();
    front = page;
  }
}

/** The end of a log, for the message of an error. */
async function tail(page, lane) {
  return (await log(page, lane)).slice(-5).map((text) => text.slice(0, 60));
}

/** The texts of one kind of log line in a panel. */
function log(page, lane, kind = 'message') {
  return panel(page, lane).locator(`[data-kind="${kind}"] span`).allTextContents();
}

/** Waits for a problem in the log: the last one, or any. The log is drawn once per frame, later than the state. */
async function told(page, lane, pattern, which = (problems) => problems.at(-1)) {
  await until(async () => pattern.test(which(await log(page, lane, 'problem'))),
    async () => `${lane} to tell ${pattern}; it tells ${await log(page, lane, 'problem')}`);
}

/** Waits for a state; a lane that holds its request is open too. */
async function inState(page, lane, wanted) {
  const is = async () => (await state(page, lane)).replace('holding', 'open');
  await until(async () => await is() === wanted,
    async () => `${lane} to be ${wanted}; it is ${await state(page, lane)}: ${await log(page, lane, 'problem')}`);
}

async function everywhere(action) {
  for (const page of tabs) {
    for (const lane of LANES) {
      await action(page, lane);
    }
  }
}

/** Types a text into a panel and sends it. */
async function say(page, lane, text) {
  await toFront(page);
  await panel(page, lane).locator('[data-part="text"]').fill(text);
  await click(page, lane, 'send');
}

/** Sends without the browser. */
async function post(text, sender = 'node') {
  await server.post('/api/send', { sender, text });
}

/** Waits until every panel of `pages` ends with `texts`, and asserts that each came once. */
async function showOnce(texts, pages = tabs) {
  for (const page of pages) {
    for (const lane of LANES) {
      const last = texts.at(-1);
      await until(async () => (await log(page, lane)).includes(last),
        async () => `${lane} to show ${last}; it shows ${await tail(page, lane)}`);
      const shown = await log(page, lane);
      assert.deepEqual(shown.filter((text) => texts.includes(text)), texts, lane);
    }
  }
}

/** Waits until the server holds this number of connections of each kind. */
async function held(counts) {
  let open;
  await until(async () => {
    const { transports } = await server.get('/api/stats');
    open = Object.fromEntries(Object.entries(HELD).map(([lane, name]) => [lane, transports[name].open]));
    return Object.entries(HELD).every(([lane]) => open[lane] === counts(lane));
  }, () => `the server to hold other connections than ${JSON.stringify(open)}`);
}

/** Asserts that the lanes of a page make no request during the next seconds. */
async function quiet(page, seconds) {
  const asked = [];
  const note = (request) => asked.push(request.url()); // also those of the page itself: for the stats, and to the tap
  page.on('request', note);
  page.on('websocket', note);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  page.off('request', note);
  page.off('websocket', note);
  assert.deepEqual(asked.filter((url) => !/\/api\/stats$|\/-\/tap\/view\?/.test(url)), []);
}

const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

await check('every panel of both tabs opens', async () => {
  await everywhere((page, lane) => click(page, lane, 'start'));
  await everywhere((page, lane) => inState(page, lane, 'open'));
  await held(() => 2);
  const ids = [];
  await everywhere(async (page, lane) => ids.push(await id(page, lane)));
  assert.equal(new Set(ids).size, 10, 'each panel has an id of its own');
});

await check('every panel of both tabs shows each message once', async () => {
  const texts = [];
  for (const page of tabs) {
    for (const lane of LANES) {
      texts.push(`${page === a ? 'a' : 'b'} by ${lane}`);
      await say(page, lane, texts.at(-1));
      await until(async () => (await log(page, 'websocket')).includes(texts.at(-1)), `${lane} to send`);
    }
  }
  await showOnce(texts);
  assert.equal(await panel(b, 'sse').locator('[data-kind="message"] b').first().textContent(), 'localhost');
});

await check('markup in texts and names is shown as text', async () => {
  const text = '<img src=x onerror="window.hacked = true"> & <b>bold</b> \u{1F40E}';
  await toFront(a);
  await a.fill('#sender', '<i>name</i>');
  await say(a, 'websocket', text);
  await showOnce([text]);
  for (const page of tabs) {
    assert.equal(await page.locator('.log img, .log i, .log span b, .log b i').count(), 0);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
  }
});

await check('a text of 180 kB arrives whole, wherever the reads divide its characters', async () => {
  const text = '\u{99ac}'.repeat(60_000);
  await post(text);
  await showOnce([text]);
  await everywhere(async (page, lane) => assert.deepEqual(await log(page, lane, 'problem'), [], lane));
});

await check('a panel that is stopped and started at once has one connection', async () => {
  expectFailures = true; // Chromium complains when a socket is closed before it is open
  await everywhere(async (page, lane) => {
    await panel(page, lane).evaluate((section) => {
      for (const action of ['stop', 'start', 'stop', 'start']) {
        section.querySelector(`[data-action=${action}]`).click();
      }
    });
  });
  await everywhere((page, lane) => inState(page, lane, 'open'));
  await held(() => 2);
  await post('after the restart of the panels');
  await showOnce(['after the restart of the panels']);
});

await check('panels that stop and start during a flood lose nothing and repeat nothing', async () => {
  const texts = numbered('flood', 150);
  const flood = async () => {
    for (const text of texts) {
      await post(text);
    }
  };
  const toggle = (page) => page.evaluate(async () => {
    for (let round = 0; round < 20; round += 1) {
      document.querySelectorAll('[data-action=stop]').forEach((button) => {
        button.click(); // now it is the button Start
        button.click();
      });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
  await Promise.all([flood(), toggle(a), toggle(b)]);
  await showOnce(texts);
  expectFailures = false;
});

await check('a dropped connection resumes without loss and without repetition', async () => {
  const texts = [];
  for (const lane of Object.keys(HELD)) {
    for (const page of tabs) {
      await server.delete(`/api/client/${await id(page, lane)}`);
    }
    for (const text of numbered(`gap of ${lane}`, 5)) {
      texts.push(text);
      await post(text);
    }
  }
  await showOnce(texts);
  await everywhere((page, lane) => inState(page, lane, 'open'));
  await everywhere(async (page, lane) => assert.deepEqual(await log(page, lane, 'notice'), [], lane));
});

await check('an EventSource that is dropped before its first message misses nothing', async () => {
  const client = crypto.randomUUID();
  await a.evaluate((client) => new Promise((resolve) => {
    const source = new EventSource(`/api/events?room=other&client_id=${client}`);
    source.onopen = resolve;
    source.onmessage = ({ data }) => { window.other = JSON.parse(data).text; source.close(); };
  }), client);
  await server.delete(`/api/client/${client}`);
  await server.post('/api/send', { sender: 'node', text: 'in the gap', room: 'other' });
  await until(() => a.evaluate(() => window.other === 'in the gap'), 'the message of the gap');
});

await check('Stop ends each connection, and nothing is asked for afterwards', async () => {
  await a.evaluate(() => { window.closeCodes = []; });
  for (const lane of LANES) {
    await click(a, lane, 'stop');
    assert.equal(await state(a, lane), 'stopped');
  }
  await held(() => 1);
  await until(() => a.evaluate(() => window.closeCodes.length === 1), 'the end of the closing handshake');
  assert.deepEqual(await a.evaluate(() => window.closeCodes), [1000]);
  await quiet(a, 2.2); // longer than between two short polls
});

await check('messages sent meanwhile are there after Start', async () => {
  const texts = numbered('while stopped', 5);
  for (const text of texts) {
    await post(text);
  }
  for (const lane of LANES) {
    await click(a, lane, 'start');
  }
  await showOnce(texts);
});

await check('a panel says that messages are missing if it was away for too long', async () => {
  for (const lane of LANES) {
    await click(a, lane, 'stop');
  }
  const texts = numbered('many', RETAINED + 10);
  for (const text of texts) {
    await post(text);
  }
  for (const lane of LANES) {
    await click(a, lane, 'start');
  }
  await showOnce(texts.slice(-LOG_ENTRIES + 1));
  for (const lane of LANES) {
    await until(async () => await entries(a, lane).count() <= LOG_ENTRIES, `${lane} to bound its log`);
    assert.ok(await part(a, lane, 'notice').isVisible(), `${lane} tells that messages are missing`);
    if (lane !== 'short-poll') { // more than is retained can come between two of its requests
      assert.ok(await part(b, lane, 'notice').isHidden(), `${lane} misses nothing in the other tab`);
    }
  }
});

await check('an answer of 503 is shown, and the request is repeated', async () => {
  expectFailures = true;
  const refuse = (route) => route.fulfill({ status: 503, json: { error: 'too many' } });
  const overHttp = LANES.filter((lane) => lane !== 'websocket');
  for (const lane of overHttp) {
    await click(a, lane, 'stop');
  }
  await a.route('**/api/**', refuse);
  for (const lane of overHttp) {
    await click(a, lane, 'start');
    await inState(a, lane, 'waiting');
    await told(a, lane, lane === 'sse' ? /gave up/ : /^503 too many$/m, (problems) => problems.join('\n'));
  }
  await a.unroute('**/api/**', refuse);
  for (const lane of overHttp) {
    await inState(a, lane, 'open');
  }
  expectFailures = false;
});

await check('when a server is restarted, every panel resumes and says that messages are missing', async () => {
  expectFailures = true;
  const { port, tapPort } = server;
  await server.stop();
  await everywhere(async (page, lane) => {
    await until(async () => ['waiting', 'connecting'].includes(await state(page, lane)), `${lane} to notice`);
  });
  for (const page of tabs) {
    await told(page, 'websocket', /1001/, (problems) => problems.join());
  }
  server = await Server.tapped({ port, tapPort });
  await everywhere((page, lane) => inState(page, lane, 'open'));
  expectFailures = false;
  for (const lane of Object.keys(HELD)) {
    await server.delete(`/api/client/${await id(b, lane)}`); // a second loss, before the first message
  }
  await post('from the new server');
  await showOnce(['from the new server']);
  await everywhere(async (page, lane) => {
    assert.equal((await log(page, lane, 'notice')).length, 1, `${lane} tells once that messages are missing`);
    assert.ok(await panel(page, lane).locator('[data-part="notice"]').isVisible());
  });
  await held(() => 2);
});

await check('the page fits, light and dark, wide and narrow', async () => {
  await toFront(a);
  for (const [colorScheme, width] of [['light', 1280], ['dark', 1280], ['light', 360], ['dark', 360]]) {
    await a.emulateMedia({ colorScheme });
    await a.setViewportSize({ width, height: 900 });
    await picture(a, join(screenshots, `${colorScheme}-${width}.png`), true);
    assert.ok(await a.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels are enough`);
  }
});

await check('Stop also ends the wait for a server that is gone', async () => {
  expectFailures = true;
  const { port, tapPort } = server;
  await server.stop();
  await everywhere(async (page, lane) => {
    await until(async () => !['open', 'holding'].includes(await state(page, lane)), `${lane} to notice`);
    await click(page, lane, 'stop');
  });
  server = await Server.tapped({ port, tapPort });
  await quiet(a, 2.2); // longer than between two short polls
  expectFailures = false;
  await held(() => 0);
});

// The next steps have tabs of their own.

const gauge = (page) => page.locator('#gauge-text').textContent();
const says = (page) => page.locator('#composer-says').textContent();
const entry = (page, lane, text) => panel(page, lane).locator('li[data-id]', { hasText: text });

async function compose(page, text) {
  await toFront(page);
  await page.fill('#message', text);
  await page.click('[data-action="publish"]');
}

async function shows(page, lane, text) {
  await until(async () => (await log(page, lane)).includes(text),
    async () => `${lane} to show ${text}; it shows ${await tail(page, lane)}; ${await log(page, lane, 'problem')}`);
}

async function measures(page, wanted) {
  await until(async () => (await gauge(page)) === wanted,
    async () => `the gauge to show ${wanted}; it shows ${await gauge(page)}`);
}

await check('`?lanes=` chooses the lanes, `?start` starts them, `?room=` chooses the room', async () => {
  const page = await open('localhost', '?lanes=sse,websocket&room=tea&start');
  assert.deepEqual(await page.locator('[data-lane]').evaluateAll((all) => all.map(({ dataset }) => dataset.lane)),
    ['sse', 'websocket']);
  await inState(page, 'sse', 'open');
  await inState(page, 'websocket', 'open');
  assert.equal(await page.inputValue('#room'), 'tea');
  await server.post('/api/send', { sender: 'node', text: 'in tea', room: 'tea' });
  await shows(page, 'sse', 'in tea');
  await page.close();
});

await check('a sent message flashes in every lane, has a delay, and is marked everywhere', async () => {
  const page = await open('localhost', '?start');
  for (const lane of LANES) {
    await inState(page, lane, 'open');
  }
  await inState(page, 'auto', 'open');
  await inState(page, 'webrtc', 'open');
  await compose(page, 'to all');
  const everyLane = ['auto', ...LANES, 'webrtc'];
  for (const lane of everyLane) {
    await shows(page, lane, 'to all');
  }
  const message = await entry(page, 'sse', 'to all').getAttribute('data-id');
  const flashed = () => page.evaluate((message) => (
    window.animated.filter(([name, , id]) => name === 'flash' && id === message).map(([, lane]) => lane)), message);
  await until(async () => new Set(await flashed()).size === everyLane.length, 'a flash in every lane');
  await until(() => page.evaluate(() => document.getAnimations().length === 0), 'the end of the flashes');

  for (const lane of everyLane) {
    assert.equal(await entry(page, lane, 'to all').count(), 1, lane);
    assert.equal(await entry(page, lane, 'to all').getAttribute('data-id'), message, lane);
    const delay = await entry(page, lane, 'to all').locator('data').textContent();
    // A message over WebRTC goes to others, and does not come back.
    assert.match(delay, lane === 'webrtc' ? /^own$/ : /^\d+(\.\d)? m?s$/, lane);
  }
  const marked = () => page.locator('li.marked').evaluateAll((all) => (
    all.map((one) => [one.closest('[data-lane]').dataset.lane, one.dataset.id])));
  await entry(page, 'stream', 'to all').hover();
  assert.deepEqual(await marked(), everyLane.map((lane) => [lane, message]));
  await page.locator('#sender').hover();
  assert.deepEqual(await marked(), []);
  await panel(page, 'sse').locator('.log').focus();
  await page.keyboard.press('ArrowUp');
  assert.deepEqual(await marked(), everyLane.map((lane) => [lane, message]), 'the keyboard does what the pointer does');
  await page.keyboard.press('Escape');
  assert.deepEqual(await marked(), []);
  await page.close();
});

let counted; // a tab that stays open until its heartbeats have come; they are 15 seconds apart

await check('a panel counts what it sent and received, and copies its id', async () => {
  const origin = `http://localhost:${server.tapPort}`;
  isFirefox || await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin });
  const page = await open('localhost', '?room=counts&lanes=stream,websocket&start');
  await inState(page, 'stream', 'open');
  await inState(page, 'websocket', 'open');
  await say(page, 'stream', 'one');
  await shows(page, 'websocket', 'one');
  await say(page, 'websocket', 'two');
  await shows(page, 'stream', 'two');
  for (const lane of ['stream', 'websocket']) {
    assert.deepEqual([await number(page, lane, 'sent'), await number(page, lane, 'received')], [1, 2], lane);
  }
  await panel(page, 'stream').locator('[data-part="id"]').click();
  await until(async () => (await log(page, 'stream', 'note')).length > 0, 'a line about the copy');
  assert.deepEqual(await log(page, 'stream', 'note'), [`The id ${await id(page, 'stream')} was copied.`]);
  if (!isFirefox) { // there a page may not read it without asking the reader
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await id(page, 'stream'));
  }
  counted = page;
});

await check('the heart does not move for a reader who prefers less motion', async () => {
  const page = await context.newPage();
  front = page;
  // Firefox has it from its preferences alone: see page-firefox.test.mjs.
  for (const [reducedMotion, moves] of isFirefox ? [['no-preference', true]] : [['reduce', false], ['no-preference', true]]) {
    await page.emulateMedia({ reducedMotion });
    await page.goto(`${server.tapUrl}/?mode=isolated&lanes=websocket&start`); // its first heartbeat comes at once
    await until(() => page.evaluate(() => window.animated.length > 0), 'a heartbeat');
    assert.deepEqual((await page.evaluate(() => window.animated))[0], ['heartbeat', 'websocket', undefined, moves]);
  }
  await page.close();
});

await check('the room picker changes the room of the running lanes, and starts no other', async () => {
  const page = await open('localhost', '?lanes=sse,websocket,stream');
  await click(page, 'sse', 'start');
  await inState(page, 'sse', 'open');
  await until(() => page.locator('#rooms option[value="tea"]').count(), 'the room `tea` among the rooms');
  await page.fill('#room', '');
  await page.locator('#room').pressSequentially('tea'); // typed: Firefox reports no change that a program makes
  await page.press('#room', 'Enter');
  await inState(page, 'sse', 'open');
  await shows(page, 'sse', 'in tea'); // the history
  assert.equal(await entry(page, 'sse', 'in tea').locator('data').textContent(), 'history');
  assert.equal(await state(page, 'websocket'), 'stopped');
  assert.equal(new URL(page.url()).searchParams.get('room'), 'tea');
  assert.ok(!(await log(page, 'sse')).includes('to all'), 'what was sent to the other room is gone');
  await post('to general');
  await compose(page, 'to tea');
  await shows(page, 'sse', 'to tea');
  assert.ok(!(await log(page, 'sse')).includes('to general'));
  await click(page, 'websocket', 'start');
  await inState(page, 'websocket', 'open');
  const { present } = await server.get('/api/stats');
  assert.equal(present.tea, 1, 'a page is one person, however many lanes it has');
  await until(async () => await page.locator('#present').textContent() === '1', 'one to be present');
  await page.close();
});

await check('in isolated mode each lane of each tab has a mailbox of its own', async () => {
  const boxes = ['long-poll', 'sse', 'websocket'];
  const pages = [];
  for (const host of ['localhost', '127.0.0.1']) {
    pages.push(await open(host));
    await pages.at(-1).locator('[name=mode][value=isolated]').check();
    await pages.at(-1).click('[data-action="start-all"]');
  }
  const ids = new Set();
  for (const page of pages) {
    assert.equal(await page.locator('[data-lane]').count(), boxes.length);
    for (const lane of boxes) {
      await until(() => id(page, lane), `${lane} to have an id`);
      ids.add(await id(page, lane));
    }
  }
  assert.equal(ids.size, 6);
  await compose(pages[0], 'to three mailboxes');
  for (const lane of boxes) {
    await shows(pages[0], lane, 'to three mailboxes');
    await until(async () => (
      /^\d+(\.\d)? ms$/.test(await panel(pages[0], lane).locator('li data').textContent())), `a delay in ${lane}`);
  }
  await say(pages[1], 'sse', 'to one');
  await shows(pages[1], 'sse', 'to one');
  for (const lane of boxes) {
    assert.deepEqual(await log(pages[0], lane), ['to three mailboxes'], lane);
    assert.deepEqual(await log(pages[1], lane), lane === 'sse' ? ['to one'] : [], lane);
  }
  await pages[0].locator('[name=mode][value=room]').check();
  assert.equal(await pages[0].locator('[data-lane]').count(), 7);
  await compose(pages[1], 'again');
  assert.deepEqual(await says(pages[1]), '');
  for (const page of pages) {
    await page.close();
  }
});

await check('the composer gives a refused message back with the reason', async () => {
  const page = await open('localhost');
  await page.route('**/api/send*', (route) => route.fulfill({ status: 503, json: { error: 'too many' } }));
  expectFailures = true;
  await compose(page, 'not lost');
  await until(async () => /^Sending failed: 503 too many/.test(await says(page)), 'the reason');
  assert.equal(await page.inputValue('#message'), 'not lost');
  expectFailures = false;
  await page.close();
});

await check('the gauge counts the connections of all tabs, and asks before the seventh', async () => {
  const other = await newContext();
  const first = await open('localhost', '?lanes=long-poll,stream,sse', other);
  const second = await open('localhost', '?lanes=long-poll,stream,sse', other);
  const third = await open('localhost', '', other);
  await measures(third, '0 of 6');
  await click(third, 'websocket', 'start');
  await inState(third, 'websocket', 'open');
  await measures(third, '0 of 6'); // a WebSocket does not count
  for (const page of [first, second]) {
    await toFront(page);
    await page.click('[data-action="start-all"]');
    for (const lane of ['long-poll', 'stream', 'sse']) {
      await inState(page, lane, 'open');
    }
  }
  for (const page of [first, second, third]) {
    await measures(page, '6 of 6');
  }
  const warning = third.locator('#warning');
  await click(third, 'sse', 'start');
  await warning.waitFor({ state: 'visible' });
  assert.match(await warning.textContent(), /Server-sent events.*six.*127\.0\.0\.1.*HTTP\/2 and WebSocket/s);
  await third.evaluate(AXE);
  assert.deepEqual((await third.evaluate(() => window.axe.run())).violations.map(({ id }) => id), []);
  await picture(third, join(screenshots, 'warning.png'));
  await warning.locator('[value=leave]').click();
  assert.equal(await state(third, 'sse'), 'stopped');

  await compose(third, 'by the socket'); // it is open
  await shows(third, 'websocket', 'by the socket');
  await shows(first, 'sse', 'by the socket');
  await say(third, 'stream', 'would wait');
  await until(async () => /six connections are held/.test(await log(third, 'stream', 'problem')), 'a refusal');
  assert.equal(await panel(third, 'stream').locator('[data-part="text"]').inputValue(), 'would wait', 'it is not lost');
  await click(third, 'websocket', 'stop');
  await compose(third, 'nowhere');
  await until(async () => /six connections are held/.test(await says(third)), 'the composer to say so');
  assert.equal(await third.inputValue('#message'), 'nowhere');

  await click(third, 'sse', 'start');
  await warning.locator('[value=start]').click();
  await measures(third, '6 of 6, 1 wait');
  assert.equal(await state(third, 'sse'), 'connecting');
  await second.close(); // its locks end with it, and the seventh connection opens
  await inState(third, 'sse', 'open');
  await toFront(third);
  await measures(third, '4 of 6');
  await measures(first, '4 of 6');
  await compose(third, 'again by POST');
  await shows(first, 'sse', 'again by POST');
  await other.close();
});

await check('a lane that waits for a server that is away holds no connection', async () => {
  const other = await newContext();
  const page = await open('localhost', '?lanes=long-poll,stream,sse,websocket', other);
  await page.evaluate(() => { Math.random = () => 0.99; }); // the longest waits before the next attempt
  await page.click('[data-action="start-all"]');
  await measures(page, '3 of 6');
  expectFailures = true;
  const { port, tapPort } = server;
  await server.stop();
  await measures(page, '0 of 6');
  server = await Server.tapped({ port, tapPort });
  await measures(page, '3 of 6');
  expectFailures = false;
  await other.close();
});

await check('while the tab is not seen, its title counts messages and says which lanes are open', async () => {
  const page = await open('localhost', '?room=title&lanes=stream,sse,websocket&start');
  for (const lane of ['stream', 'sse', 'websocket']) {
    await inState(page, lane, 'open');
  }
  const see = (isSeen) => page.evaluate((isHidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => isHidden });
    document.dispatchEvent(new Event('visibilitychange'));
  }, !isSeen);
  const titled = (wanted) => until(async () => await page.title() === wanted,
    async () => `the title ${wanted}; it is ${await page.title()}`);
  await server.post('/api/send', { sender: 'node', text: 'seen', room: 'title' });
  await shows(page, 'sse', 'seen');
  await titled('overwire');
  await see(false);
  for (const text of ['one', 'two']) {
    await server.post('/api/send', { sender: 'node', text, room: 'title' });
  }
  await titled('(2) overwire');
  await click(page, 'sse', 'stop');
  expectFailures = true;
  await page.route('**/api/**', (route) => route.abort());
  await server.delete(`/api/client/${await id(page, 'stream')}`);
  await titled('(2) 1 of 2 open: overwire');
  await page.unroute('**/api/**');
  expectFailures = false;
  await titled('(2) overwire');
  await see(true);
  await titled('overwire');
  await page.close();
});

await check('without Web Locks, the gauge counts this tab and says so', async () => {
  const page = await context.newPage();
  await page.addInitScript(() => Object.defineProperty(Navigator.prototype, 'locks', { value: undefined }));
  await page.goto(`${server.tapUrl}/?lanes=sse&start`);
  await inState(page, 'sse', 'open');
  assert.equal(await gauge(page), '1 of 6, this tab only');
  await page.click('[popovertarget=about-limit]');
  await page.locator('#about-limit').waitFor({ state: 'visible' });
  assert.match(await page.locator('#about-limit').textContent(), /this tab only.*secure context/s);
  await page.close();
});

await check('a delay counts from the sending or from the timestamp, and is never below 0', async () => {
  const page = await open('localhost');
  const told = await page.evaluate(async () => {
    const { Deliveries, asText } = await import('/page/deliveries.js');
    const deliveries = new Deliveries();
    const told = [];
    deliveries.addEventListener('delivery', ({ detail: { label, id, delay } }) => {
      told.push([label, id, Math.round(delay)]);
    });
    const clock = performance.now;
    let now = 1000;
    performance.now = () => now;
    const message = (id, text, ahead = 0) => ({ id, sender: 'me', text, timestamp: (Date.now() + ahead) / 1000 });
    const told0 = () => told.splice(0);
    const from = { at: 0, clock: 0 };

    const sent = deliveries.sending('me', 'hello');
    now = 1005;
    deliveries.arrived('sse', message('1', 'hello'), from); // before its id is known here
    const early = told0();
    now = 1007;
    sent('1');
    const known = told0();
    now = 1020;
    deliveries.arrived('stream', message('1', 'hello'), from);
    const later = told0();
    deliveries.arrived('sse', message('2', 'of a clock ahead', 60_000), from);
    const ahead = told0();
    const isNews = deliveries.arrived('sse', message('3', 'old', -60_000), { at: now, clock: Date.now() });
    const history = told0();
    const other = deliveries.sending('me', 'twice');
    now = 1030;
    deliveries.arrived('sse', message('4', 'twice', 60_000), from); // somebody else with the same name sent the same text
    other('5');
    const another = told0();
    const box = deliveries.sending('me', 'mine', 'websocket');
    deliveries.arrived('sse', { text: 'mine', timestamp: (Date.now() + 60_000) / 1000 }, from);
    now = 1032;
    deliveries.arrived('websocket', { text: 'mine', timestamp: Date.now() / 1000 }, from);
    box(undefined);
    const boxes = told0();
    performance.now = clock;
    const texts = [0.04, 12.4, 9_999, 12_345, 1e6].map(asText);
    return { early, known, later, ahead, isNews, history, another, boxes, texts };
  });
  assert.deepEqual(told, {
    early: [], known: [['sse', '1', 5]], later: [['stream', '1', 20]], ahead: [['sse', '2', 0]], isNews: false,
    history: [], another: [['sse', '4', 0]], boxes: [['sse', undefined, 0], ['websocket', undefined, 2]],
    texts: ['0.0 ms', '12 ms', '9999 ms', '12.3 s', '17 min'],
  });
  await page.close();
});

await check('the log adds the messages of a frame at once, and keeps the newest 200', async () => {
  const page = await open('localhost');
  const [put, count, first] = await page.evaluate(async () => {
    const [{ Log }, { Marks }, { make }] = await Promise.all(
      ['/page/log.js', '/page/marks.js', '/dom.js'].map((name) => import(name)));
    const list = make('ol', {}, make('li'));
    const scroller = make('div', {}, list);
    const log = new Log({ list, scroller, older: list.firstChild }, new Marks(list));
    let put = 0;
    new MutationObserver((all) => { put += all.filter(({ addedNodes }) => addedNodes.length > 0).length; })
      .observe(list, { childList: true });
    for (let at = 0; at < 10_000; at += 1) {
      log.message({ id: String(at), sender: 'me', text: `text ${at}`, timestamp: 0 });
    }
    const shown = list.getElementsByTagName('time');
    while (shown.length === 0) {
      await new Promise(requestAnimationFrame);
    }
    return [put, shown.length, shown[0].nextSibling.textContent];
  });
  assert.deepEqual([put, count, first], [1, LOG_ENTRIES, 'me text 9800']);
  await page.close();
});

await check('the heart of a panel beats at heartbeats', async () => {
  for (const lane of ['stream', 'websocket']) {
    await until(async () => await number(counted, lane, 'heartbeats') > 0, `a heartbeat of ${lane}`);
    const beats = await counted.evaluate(() => window.animated.filter(([name]) => name === 'heartbeat'));
    assert.ok(beats.some(([, on]) => on === lane), `the heart of ${lane} beats`);
  }
  await counted.close();
});

await check('10,000 messages neither slow the page nor shift its layout', async () => {
  const page = await open('localhost', '?room=flood&lanes=stream,sse,websocket,long-poll&start');
  const flooded = ['stream', 'sse', 'websocket'];
  for (const lane of flooded) {
    await inState(page, lane, 'open');
  }
  await page.evaluate(() => {
    window.shifts = [];
    new PerformanceObserver((list) => list.getEntries().forEach(({ value, sources }) => window.shifts.push(
      [value, ...sources.map(({ node }) => node?.outerHTML ?? node?.textContent)]))).observe({ type: 'layout-shift' });
  });
  await b.evaluate(() => new Promise((resolve, reject) => {
    window.flood = new WebSocket(`ws://${location.host}/api/ws?room=flood`);
    Object.assign(window.flood, { onopen: resolve, onerror: reject });
  }));
  const everyPart = 500; // the server retains 1000: a lane must not fall behind by more
  for (let at = 0; at < 10_000; at += everyPart) {
    const texts = numbered(`at ${at}, a text long enough to need a second line sometimes,`, everyPart);
    await b.evaluate((texts) => {
      texts.forEach((text, at) => window.flood.send(JSON.stringify({ sender: 'b', text: text.repeat(at % 3 + 1) })));
    }, texts);
    for (const lane of flooded) {
      const all = async () => await number(page, lane, 'received') === at + everyPart;
      await until(all, `${lane} to have it all`);
    }
  }
  await b.evaluate(() => window.flood.close());
  for (const lane of flooded) {
    const last = 'at 9500, a text long enough to need a second line sometimes, 499';
    await until(async () => (await log(page, lane)).at(-1)?.startsWith(last), `${lane} to show the last one`);
    await until(async () => await entries(page, lane).count() === LOG_ENTRIES, 'a bounded log');
    assert.match(await panel(page, lane).locator('.log').textContent(), /^\s*Older messages are not shown\./);
    assert.deepEqual(await log(page, lane, 'notice'), []);
  }
  for (const text of numbered('slowly', 20)) { // one by one as well
    await server.post('/api/send', { sender: 'node', text, room: 'flood' });
    await shows(page, 'sse', text);
  }
  assert.deepEqual(await page.evaluate(() => window.shifts), []);
  await page.close();
});

await check('the dock: a panel opens it on its bytes, the arrow keys go from tab to tab, it folds', async () => {
  const page = await context.newPage();
  front = page;
  await page.goto(`${server.tapUrl}/`);
  const selected = () => page.locator('[role=tab][aria-selected=true]').textContent();
  await page.locator('#dock').waitFor();
  assert.equal(await selected(), 'Bytes');
  await page.locator('#tab-bytes').focus();
  await page.keyboard.press('ArrowRight');
  assert.equal(await selected(), 'Compare');
  assert.ok(await page.locator('#compare').isVisible() && await page.locator('#bytes').isHidden());
  await page.keyboard.press('End');
  assert.equal(await selected(), 'Chaos');
  assert.ok(await page.locator('#chaos [data-action="drop"], #chaos [data-action="calm"]').first().isVisible());
  assert.ok(await page.locator('#chaos [data-action="restart"]').isHidden(), 'this server does not allow it');
  await page.keyboard.press('ArrowRight');
  assert.equal(await selected(), 'Bytes');
  await page.click('#tab-compare');
  await page.click('#fold');
  assert.ok(await page.locator('#compare').isHidden());
  await panel(page, 'sse').locator('[data-part="bytes"]').click();
  assert.ok(await page.locator('#bytes').isVisible());
  const height = () => page.locator('#tools').evaluate((tools) => tools.clientHeight);
  const before = await height();
  await page.locator('#splitter').focus();
  await page.keyboard.press('ArrowDown');
  assert.ok(await height() < before, 'the splitter makes the tools smaller');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowUp');
  assert.ok(await height() > before, 'and larger');
  await page.locator('[data-lane="sse"] [data-part="toggle"]').focus();
  await page.keyboard.press('Enter');
  await inState(page, 'sse', 'open');
  await page.keyboard.press('Enter');
  await inState(page, 'sse', 'stopped'); // the button that was pressed still has the focus
  await page.close();
});

const parametersOf = async (link) => Object.fromEntries(new URL(await link.getAttribute('href')).searchParams);

await check('on the server there are no tools, and a button leads to the tap with the same lanes', async () => {
  const page = await context.newPage();
  front = page;
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  page.on('websocket', (socket) => asked.push(socket.url()));
  await page.goto(`http://localhost:${server.port}/?room=tea&lanes=sse,websocket,stream`);
  const button = page.locator('#see-bytes');
  await button.waitFor();
  assert.equal((await button.textContent()).replace(/\s+/g, ' '), 'See the bytes');
  assert.ok(await page.locator('#dock').isHidden());
  assert.equal(await page.locator('[data-part="bytes"]').filter({ visible: true }).count(), 0);
  assert.equal(new URL(await button.getAttribute('href')).host, `localhost:${server.tapPort}`);
  const lanes = 'sse,websocket,stream';
  assert.deepEqual(await parametersOf(button), { room: 'tea', lanes });
  await page.click('[data-action="start-all"]');
  for (const lane of ['sse', 'websocket', 'stream']) {
    await inState(page, lane, 'open');
  }
  assert.deepEqual(await parametersOf(button), { room: 'tea', lanes, start: '' });
  await compose(page, 'without a tap');
  await shows(page, 'sse', 'without a tap');
  await click(page, 'stream', 'stop');
  assert.deepEqual(await parametersOf(button), { room: 'tea', lanes, start: 'sse,websocket' });
  assert.deepEqual(asked.filter((url) => /tap=|\/-\/tap/.test(url)), [], 'no request is marked');

  await button.click();
  await page.waitForURL(`http://localhost:${server.tapPort}/**`);
  await page.locator('#dock').waitFor();
  for (const [lane, wanted] of [['sse', 'open'], ['websocket', 'open'], ['stream', 'stopped']]) {
    await inState(page, lane, wanted);
  }
  assert.equal(await page.inputValue('#room'), 'tea');
  assert.ok(await button.isHidden());
  await shows(page, 'websocket', 'without a tap');
  for (const lane of ['sse', 'websocket']) {
    await page.locator(`.wire-row[data-label="${lane}"]`).first().waitFor();
  }
  await page.close();
});

await check('the button leads to the tap in the mode of the page, and follows its room', async () => {
  const page = await context.newPage();
  front = page;
  await page.goto(`${server.url}/?mode=isolated`);
  const button = page.locator('#see-bytes');
  await button.waitFor();
  assert.deepEqual(await parametersOf(button), { mode: 'isolated' });
  await page.locator('[name=mode][value=room]').check();
  await page.fill('#room', '');
  await page.locator('#room').pressSequentially('a room');
  await page.press('#room', 'Enter');
  assert.deepEqual(await parametersOf(button), { room: 'a room' });
  await page.evaluate(AXE);
  assert.deepEqual((await page.evaluate(() => window.axe.run())).violations.map(({ id }) => id), []);
  await picture(page, join(screenshots, 'server.png'));
  await page.close();
});

await check('without a tap there is no button, and the lanes run', async () => {
  const plain = await Server.start();
  const page = await context.newPage();
  front = page;
  await page.goto(`${plain.url}/?lanes=sse&start`);
  await inState(page, 'sse', 'open');
  assert.ok(await page.locator('#see-bytes').isHidden() && await page.locator('#dock').isHidden());
  await page.close();
  await plain.stop();
});

for (const [query, name] of [['', 'room'], ['?mode=isolated', 'isolated']]) {
  for (const colorScheme of isFirefox ? ['light'] : ['light', 'dark']) { // there it is a setting of the browser
    for (const width of [360, 1280, 1600]) {
      await check(`axe-core finds nothing, ${name}, ${colorScheme}, ${width} pixels, and it fits`, async () => {
        const page = await open('localhost', `${query}${query ? '&' : '?'}start`);
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        await inState(page, 'websocket', 'open');
        await page.click('#bytes [data-action="clear"]'); // thousands of elements; some come again
        await compose(page, 'Hello, is anybody here?');
        await shows(page, 'websocket', 'Hello, is anybody here?');
        await page.locator('#bytes .wire-list').scrollIntoViewIfNeeded(); // it is drawn only while it is in sight
        await page.locator('#bytes .wire-hex').first().waitFor();
        await until(() => page.evaluate(() => document.getAnimations().length === 0), 'the end of the flashes');
        await page.evaluate(AXE);
        const { violations, passes } = await page.evaluate(() => window.axe.run());
        assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'it has looked at the contrast');
        assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html, nodes[0].failureSummary]), []);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off');
        const path = join(screenshots, `${name}-${colorScheme}-${width}.png`);
        await picture(page, path, width === 360);
        await page.close();
      });
    }
  }
}

await check('text has a contrast of 4.5 on each background, and so at each moment of a flash', async () => {
  const page = await open('localhost');
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const ratios = await page.evaluate(() => {
      const probe = document.body.appendChild(document.createElement('p'));
      // WCAG 2.2, "relative luminance" and "contrast ratio".
      const luminance = (name) => {
        probe.style.color = `var(--${name})`;
        const [red, green, blue] = getComputedStyle(probe).color.match(/\d+/g).map((value) => {
          const part = value / 255;
          return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
      };
      const texts = ['text', 'soft', 'accent', 'open', 'wait', 'problem', 'header', 'framing', 'payload', 'keep-alive'];
      return ['ground', 'panel', 'hover', 'mark', 'flash'].flatMap((ground) => texts.map((text) => {
        const [dark, light] = [luminance(text), luminance(ground)].sort((one, other) => one - other);
        return { ground, text, ratio: (light + 0.05) / (dark + 0.05) };
      }));
    });
    assert.deepEqual(ratios.filter(({ ratio }) => !(ratio >= 4.5)), [], colorScheme);
  }
  await page.close();
});

await check('no violation of the content security policy, nothing unexpected on the console', async () => {
  for (const page of tabs) {
    assert.deepEqual(await page.evaluate(() => window.violations), []);
  }
  assert.deepEqual(complaints, []);
});

await browser.close();
await server.stop();
console.log(`screenshots are in ${screenshots}`);
finish();
