// Lesson 07 in two tabs: they find each other through the server, and then no longer need it. Run by `apart`, in a
// separate network, because a data channel needs an address that is not a loopback address.
//
// LESSON names the lesson's binary, OVERWIRE that of the full server.

import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';
import { smaller } from './smaller.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const SHOW_ADDRESSES = '--disable-features=WebRtcHideLocalIpsWithMdns';

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-webrtc-'));
const lesson = (port) => Server.start(port, process.env.LESSON);
const launch = (...flags) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...FLAGS, ...flags],
});
const browser = await launch(SHOW_ADDRESSES);
const complaints = []; // the errors that the pages threw

async function open(url, { through = browser, script } = {}) {
  const context = await through.newContext({ viewport: { width: 900, height: 1000 } });
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.stack));
  if (script) {
    await page.addInitScript(script[0], script[1]);
  }
  await page.goto(url);
  return page;
}

const text = (page, id) => page.locator(`#${id}`).textContent();
const lines = (page, id) => page.locator(`#${id} li`).allTextContents();

async function shows(page, id, wanted) {
  await until(async () => wanted.test(await text(page, id)),
    async () => `#${id} to show ${wanted}; it shows ${await text(page, id)}; ${(await lines(page, 'signals')).join('\n')}`);
}

const welcomed = (page) => shows(page, 'signalling', /^open, as /);

async function paired(...pages) {
  for (const page of pages) {
    await shows(page, 'channel', /^open$/);
    await shows(page, 'ice', /^(connected|completed)$/);
  }
}

async function say(page, words) {
  await page.fill('#text', words);
  await page.click('#send');
}

let said = 0;

/** Each sends a message, and the other shows it. */
async function talk(a, b) {
  for (const [from, to] of [[a, b], [b, a]]) {
    said += 1;
    await say(from, `words ${said} <b>&amp; \u{1F40E}`);
    await until(async () => (await lines(to, 'chat')).at(-1) === `< words ${said} <b>&amp; \u{1F40E}`,
      async () => `words ${said}; the chat is ${(await lines(to, 'chat')).join('\n')}`);
  }
}

const offers = async (page) => (await lines(page, 'signals')).filter((line) => line.includes('"type":"offer"')).length;

let server = await lesson(0);
const { url } = server;
const a = await open(url);
await welcomed(a);
const b = await open(url);

await check('two tabs open a data channel, and the newcomer offers', async () => {
  await paired(a, b);
  const [first, second] = [await lines(a, 'signals'), await lines(b, 'signals')];
  assert.ok(first.some((line) => line.startsWith('< ') && /"type":"offer".*\nv=0\r?\n/.test(line)), first.join('\n'));
  assert.ok(second.some((line) => line.startsWith('> ') && line.includes('"type":"offer"')), second.join('\n'));
  assert.ok(second.some((line) => /candidate.* 10\.77\.0\.1 \d+ typ host/.test(line)), second.join('\n'));
  assert.equal(await offers(a), 1);
});

await check('the messages of the peers do not pass the server', async () => {
  const before = await text(a, 'signalled');
  await talk(a, b);
  await talk(b, a);
  assert.equal(await text(a, 'signalled'), before);
  assert.match(await text(a, 'said'), /^4 messages/);
  const picture = await smaller(await browser.newPage(), await a.screenshot({ fullPage: true }));
  writeFileSync(join(screenshots, '07-webrtc-signalling.png'), picture); // that of the lesson, with SCREENSHOTS=screenshots/lessons
});

await check('a third tab learns that the room is full', async () => {
  const c = await open(url);
  await until(async () => (await lines(c, 'signals')).some((line) => line.startsWith('1013: the room is full')),
    async () => `the room to be full; ${(await lines(c, 'signals')).join('\n')}`);
  assert.equal(await text(c, 'channel'), 'none');
  await c.context().close();
  await talk(a, b);
});

await check('when the server is killed, the channel stays', async () => {
  await server.kill();
  for (const page of [a, b]) {
    await until(async () => (await lines(page, 'signals')).includes('1006: the server is gone; the channel stays'),
      async () => `the page to notice; ${(await lines(page, 'signals')).join('\n')}`);
  }
  await talk(a, b);
  await talk(b, a);
  await a.screenshot({ path: join(screenshots, 'webrtc-killed.png'), fullPage: true });
});

await check('when the server is back, both join again and keep the channel', async () => {
  server = await lesson(server.port);
  for (const page of [a, b]) {
    await welcomed(page);
  }
  await talk(a, b);
  assert.deepEqual([await offers(a), await offers(b)], [1, 1]);
});

await check('when the server shuts down, the channel stays', async () => {
  await server.stop();
  for (const page of [a, b]) {
    await shows(page, 'signalling', /^closed with 1001|^connecting|^closed with 1006/);
  }
  await talk(a, b);
  assert.ok((await lines(a, 'signals')).includes('1001: the server is gone; the channel stays'));
  server = await lesson(server.port);
  await welcomed(a);
  await welcomed(b);
});

await check('when a tab is closed, the other one notices, and the next one to come finds it', async () => {
  await b.context().close();
  await until(async () => (await lines(a, 'chat')).at(-1) === 'the data channel is closed', 'the end of the channel');
  const c = await open(url);
  await paired(a, c);
  await talk(a, c);
  // After a reload, it is a newcomer.
  await c.reload();
  await paired(a, c);
  await talk(c, a);
  await c.context().close();
});

await check('candidates wait for the offer and the answer that they overtake', async () => {
  const room = `${url}/?room=overtaking`;
  const script = [() => {
    window.WebSocket = class extends WebSocket {
      send(data) {
        const { type } = JSON.parse(data);
        if (type === 'offer' || type === 'answer') {
          this.late = data; // until a candidate has overtaken it
        } else {
          super.send(data);
        }
        if (type === 'candidate' && this.late) {
          super.send(this.late);
          this.late = undefined;
        }
      }
    };
  }];
  const first = await open(room, { script });
  await welcomed(first);
  const second = await open(room, { script });
  await paired(first, second);
  for (const page of [first, second]) {
    const came = (await lines(page, 'signals')).filter((line) => /^< .*"type":"(offer|answer|candidate)"/.test(line));
    assert.match(came[0], /"type":"candidate"/);
    assert.deepEqual(await page.locator('#signals .bad').allTextContents(), []);
  }
  await talk(first, second);
  await first.context().close();
  await second.context().close();
});

await check('/api/signal of the full server signals too, and carries no bytes of the messages', async () => {
  const full = await Server.start(0, undefined, ['--no-tap', '--allow-origin', url]);
  const script = [(base) => {
    window.WebSocket = class extends WebSocket {
      constructor(url) {
        super(url.replace(/^.*\/signal/, `${base}/api/signal`));
      }
    };
  }, full.url.replace('http', 'ws')];
  const first = await open(`${url}/?room=full`, { script });
  await welcomed(first);
  const second = await open(`${url}/?room=full`, { script });
  await paired(first, second);
  const { websocket } = (await full.get('/api/stats')).transports;
  assert.equal(websocket.open, 2);
  await talk(first, second);
  const after = (await full.get('/api/stats')).transports.websocket;
  assert.equal(after.messages, websocket.messages);
  console.log(`        through the server: ${websocket.bytes_in} bytes in, ${websocket.bytes_out} out, handshakes included; page: ${await text(second, 'signalled')}`);
  await full.stop();
  await talk(first, second);
  await first.context().close();
  await second.context().close();
});

await check('peers find each other when mDNS names hide their addresses', async () => {
  const hiding = await launch();
  const first = await open(`${url}/?room=hidden`, { through: hiding });
  await welcomed(first);
  const second = await open(`${url}/?room=hidden`, { through: hiding });
  await paired(first, second);
  assert.ok((await lines(second, 'signals')).some((line) => /candidate.*\.local \d+ typ host/.test(line)));
  await talk(first, second);
  if (process.env.VERBOSE) {
    console.log((await lines(second, 'signals')).join('\n'), await text(first, 'signalled'), await text(second, 'signalled'));
  }
  await hiding.close();
});

await check('the page fits, light and dark, wide and narrow', async () => {
  for (const [colorScheme, width] of [['light', 900], ['dark', 900], ['light', 360], ['dark', 360]]) {
    await a.emulateMedia({ colorScheme });
    await a.setViewportSize({ width, height: 900 });
    await a.screenshot({ path: join(screenshots, `webrtc-${colorScheme}-${width}.png`), fullPage: true });
    assert.ok(await a.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels are enough`);
  }
  assert.deepEqual(complaints, []);
});

await browser.close();
await server.stop();
console.log(`screenshots are in ${screenshots}`);
finish();
