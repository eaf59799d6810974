// The page in two tabs of one browser, every panel running in both.
//
// A browser opens at most six HTTP/1.1 connections to one host, over all tabs. Long poll, stream and SSE
// hold one each, so two tabs of one host would leave none for short polling and for sending. The page says
// so, and what it advises is what is tested: one tab at localhost, the other at 127.0.0.1. Every step
// runs in the same two tabs, in this order.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';

const LANES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket'];
const HELD = { 'long-poll': 'long_poll', stream: 'stream', sse: 'sse', websocket: 'websocket' };
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const LOG_ENTRIES = 500;
const RETAINED = 1000; // messages that a room retains

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-page-'));
let server = await Server.start();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const complaints = []; // what the consoles said
let front; // the tab that is shown
let expectFailures = false; // while the server is down, a browser complains, and should

const a = await open('localhost');
const b = await open('127.0.0.1');
const tabs = [a, b];

async function open(host) {
  const page = await context.newPage();
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
    window.closeCodes = [];
    window.WebSocket = class extends WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener('close', ({ code }) => window.closeCodes.push(code));
      }
    };
  });
  const complain = (text) => expectFailures || complaints.push(`${host}: ${text}`);
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complain(message.text()));
  page.on('pageerror', (error) => complaints.push(`${host}: ${error.stack}`));
  await page.goto(`http://${host}:${server.port}/`);
  await page.fill('#sender', host);
  return page;
}

const panel = (page, lane) => page.locator(`[data-lane="${lane}"]`);
const state = (page, lane) => panel(page, lane).getAttribute('data-state');
const id = (page, lane) => panel(page, lane).locator('[data-part="id"]').textContent();

async function click(page, lane, action) {
  await toFront(page);
  await panel(page, lane).locator(`[data-action="${action}"]`).click();
}

/** A tab in the background is drawn seldom, and a click waits for that. */
async function toFront(page) {
  if (front !== page) {
    await page.bringToFront();
    front = page;
  }
}

/** The texts of one kind of log line in a panel. */
function log(page, lane, kind = 'message') {
  return panel(page, lane).locator(`[data-kind="${kind}"] span`).allTextContents();
}

async function inState(page, lane, wanted) {
  await until(15_000, async () => (await state(page, lane)) === wanted,
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
  await panel(page, lane).locator('form input').fill(text);
  await click(page, lane, 'send');
}

/** Sends past the browser. */
async function post(text, sender = 'node') {
  await server.post('/api/send', { sender, text });
}

/** Waits until every panel of `pages` ends with `texts`, and asserts that each came once. */
async function showOnce(texts, pages = tabs) {
  for (const page of pages) {
    for (const lane of LANES) {
      const last = texts.at(-1);
      await until(15_000, async () => (await log(page, lane)).includes(last),
        async () => `${lane} to show ${last}; it shows ${(await log(page, lane)).slice(-5)}`);
      const shown = await log(page, lane);
      assert.deepEqual(shown.filter((text) => texts.includes(text)), texts, lane);
    }
  }
}

/** Waits until the server holds so many connections of each kind. */
async function held(counts) {
  let open;
  await until(10_000, async () => {
    const { transports } = await server.get('/api/stats');
    open = Object.fromEntries(Object.entries(HELD).map(([lane, name]) => [lane, transports[name].open]));
    return Object.entries(HELD).every(([lane]) => open[lane] === counts(lane));
  }, () => `the server to hold other connections than ${JSON.stringify(open)}`);
}

/** Asserts that a page asks for nothing during the next seconds. */
async function quiet(page, seconds) {
  const asked = [];
  const note = (request) => asked.push(request.url());
  page.on('request', note);
  page.on('websocket', note);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  page.off('request', note);
  page.off('websocket', note);
  assert.deepEqual(asked, []);
}

const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

await check('every panel of both tabs starts and opens', async () => {
  await everywhere((page, lane) => click(page, lane, 'start'));
  await everywhere((page, lane) => inState(page, lane, 'open'));
  await held(() => 2);
  const ids = [];
  await everywhere(async (page, lane) => ids.push(await id(page, lane)));
  assert.equal(new Set(ids).size, 10, 'each panel has an id of its own');
});

await check('what any panel sends, every panel of both tabs shows once', async () => {
  const texts = [];
  for (const page of tabs) {
    for (const lane of LANES) {
      texts.push(`${page === a ? 'a' : 'b'} by ${lane}`);
      await say(page, lane, texts.at(-1));
      await until(10_000, async () => (await log(page, 'websocket')).includes(texts.at(-1)), `${lane} to send`);
    }
  }
  await showOnce(texts);
  assert.equal(await panel(b, 'sse').locator('[data-kind="message"] b').first().textContent(), 'localhost');
});

await check('markup in a text and in a name is shown as text', async () => {
  const text = '<img src=x onerror="window.hacked = true"> & <b>bold</b> \u{1F40E}';
  await toFront(a);
  await a.fill('#sender', '<i>name</i>');
  await say(a, 'websocket', text);
  await showOnce([text]);
  for (const page of tabs) {
    assert.equal(await page.locator('main img, main i, main span b').count(), 0);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
  }
});

await check('a text of 180 kB arrives whole, wherever the reads divide its characters', async () => {
  const text = '\u{99ac}'.repeat(60_000);
  await post(text);
  await showOnce([text]);
  await everywhere(async (page, lane) => assert.deepEqual(await log(page, lane, 'problem'), [], lane));
});

await check('a panel that was stopped and started at once has one connection', async () => {
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

await check('amid a flood, panels that stop and start lose nothing and repeat nothing', async () => {
  const texts = numbered('flood', 200);
  const flood = async () => {
    for (const text of texts) {
      await post(text);
    }
  };
  const toggle = (page) => page.evaluate(async () => {
    for (let round = 0; round < 20; round += 1) {
      document.querySelectorAll('[data-action=stop]').forEach((button) => button.click());
      document.querySelectorAll('[data-action=start]').forEach((button) => button.click());
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
  await until(10_000, () => a.evaluate(() => window.other === 'in the gap'), 'the message of the gap');
});

await check('Stop ends each connection, and nothing is asked for afterwards', async () => {
  await a.evaluate(() => { window.closeCodes = []; });
  for (const lane of LANES) {
    await click(a, lane, 'stop');
    assert.equal(await state(a, lane), 'stopped');
  }
  await held(() => 1);
  await until(10_000, () => a.evaluate(() => window.closeCodes.length === 1), 'the end of the closing handshake');
  assert.deepEqual(await a.evaluate(() => window.closeCodes), [1000]);
  await quiet(a, 3);
});

await check('what was sent meanwhile is there after Start', async () => {
  const texts = numbered('while stopped', 5);
  for (const text of texts) {
    await post(text);
  }
  for (const lane of LANES) {
    await click(a, lane, 'start');
  }
  await showOnce(texts);
});

await check('a panel that was away for too long says that messages are missing', async () => {
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
    assert.ok(await panel(a, lane).locator('li').count() <= LOG_ENTRIES, 'the log is bounded');
    assert.ok(await panel(a, lane).locator('[data-part="notice"]').isVisible(), `${lane} tells that messages are missing`);
    if (lane !== 'short-poll') { // which may have had more than is retained between two of its questions
      assert.ok(await panel(b, lane).locator('[data-part="notice"]').isHidden(), `${lane} misses nothing in the other tab`);
    }
  }
});

await check('an answer of 503 is shown, and asked for again', async () => {
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
    assert.match((await log(a, lane, 'problem')).at(-1), lane === 'sse' ? /gave up/ : /^503 too many$/);
  }
  await a.unroute('**/api/**', refuse);
  for (const lane of overHttp) {
    await inState(a, lane, 'open');
  }
  expectFailures = false;
});

await check('the wait before a retry doubles up to 30 seconds, below which it is random, and begins anew', async () => {
  const waits = await a.evaluate(async () => {
    const { Lane } = await import('/lanes/lane.js');
    const { random } = Math;
    const { setTimeout } = window;
    const waits = [];
    const lane = new class extends Lane {
      cursor = 'any';
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
    Math.random = () => waits.length % 2 === 0 ? 1 : 0.5;
    window.setTimeout = (done, wait) => { waits.push(wait / Math.random()); return setTimeout(done, 0); };
    await lane.start();
    Object.assign(window, { setTimeout });
    Object.assign(Math, { random });
    return waits;
  });
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 500, 1000, 2000]);
});

await check('without crypto.randomUUID, as on a page of http at another address, ids are made all the same', async () => {
  const made = await a.evaluate(async () => {
    const { Lane } = await import('/lanes/lane.js');
    crypto.randomUUID = undefined; // hides the method behind it
    const id = new Lane().id;
    delete crypto.randomUUID;
    return id;
  });
  assert.match(made, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

await check('a server that goes and comes back: every panel goes on, and tells of the hole', async () => {
  expectFailures = true;
  const { port } = server;
  await server.stop();
  await everywhere(async (page, lane) => {
    await until(10_000, async () => ['waiting', 'connecting'].includes(await state(page, lane)), `${lane} to notice`);
  });
  for (const page of tabs) {
    assert.match((await log(page, 'websocket', 'problem')).join(), /1001/);
  }
  server = await Server.start(port);
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
    await a.screenshot({ path: join(screenshots, `${colorScheme}-${width}.png`), fullPage: true });
    assert.ok(await a.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels are enough`);
  }
});

await check('Stop also ends the wait for a server that is gone', async () => {
  expectFailures = true;
  const { port } = server;
  await server.stop();
  await everywhere(async (page, lane) => {
    await until(10_000, async () => (await state(page, lane)) !== 'open', `${lane} to notice`);
    await click(page, lane, 'stop');
  });
  server = await Server.start(port);
  await quiet(a, 3);
  expectFailures = false;
  await held(() => 0);
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
