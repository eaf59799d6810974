// Makes the pictures that README shows: `OVERWIRE=../../target/release/overwire WIRE=../../target/release/wire ./apart
// node screenshots.mjs FOLDER`, without a folder into screenshots/. Two people in two tabs talk on all lanes; then
// `wire tap` shows a server of others. It is not a test: run it when the looks have changed. (`apart`, because WebRTC
// finds no peer at a loopback.)

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { Server, until } from '../interop/server.mjs';
import { startChat } from './chat.mjs';

const LANES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket', 'webrtc'];
const TALK = [
  ['Grace', 'Hello! Which lane is the first?'],
  ['Ada', 'WebRTC: it goes past the server'],
  ['Grace', 'And short polling asks too late'],
  ['Ada', 'Up to two seconds, by design'],
  ['Grace', 'Long polling keeps up well'],
  ['Ada', 'It pays with a request for each'],
];
const PAUSE = 900; // milliseconds between two messages
const ALIKE = 75; // the square of the distance between two colours that look the same
const LARGEST = 300_000; // bytes of a picture

const folder = process.argv[2] ?? 'screenshots';
mkdirSync(folder, { recursive: true });
const server = await Server.tapped({ options: ['--chaos'] });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-features=WebRtcHideLocalIpsWithMdns'] });
const context = await browser.newContext({ viewport: { width: 1600, height: 1000 }, colorScheme: 'light' });

const painter = await browser.newPage();

async function open(name, query) {
  const page = await context.newPage();
  await page.goto(`${server.tapUrl}/${query}`);
  await page.fill('#sender', name);
  return page;
}

const state = (page, lane) => page.locator(`.panel[data-lane="${lane}"]`).getAttribute('data-state');
const last = (page, lane) => (
  page.locator(`.panel[data-lane="${lane}"] [data-kind="message"] span`).last().textContent());
const heartbeats = async (lane) => (
  Number(await grace.locator(`.panel[data-lane="${lane}"] [data-part="heartbeats"]`).textContent()));
const hush = () => until(10_000, () => grace.evaluate(() => document.getAnimations().length === 0), 'no flash');

async function picture(name, page = grace) {
  await page.mouse.move(0, 0);
  const path = join(folder, name);
  const png = await smaller(await page.screenshot());
  console.log(`${path}: ${Math.ceil(png.length / 1000)} kB`);
  if (png.length > LARGEST) {
    throw new Error(`${path} would be larger than ${LARGEST} bytes`);
  }
  writeFileSync(path, png);
}

/** The same picture in at most 256 distinct colours. Any other colour becomes the nearest of them. */
async function smaller(png) {
  const { width, height, rgba } = await painter.evaluate(async (url) => {
    const image = await createImageBitmap(await (await fetch(url)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d');
    canvas.drawImage(image, 0, 0);
    const { data } = canvas.getImageData(0, 0, image.width, image.height);
    const texts = [];
    for (let at = 0; at < data.length; at += 32_768) {
      texts.push(String.fromCharCode(...data.subarray(at, at + 32_768)));
    }
    return { width: image.width, height: image.height, rgba: btoa(texts.join('')) };
  }, `data:image/png;base64,${png.toString('base64')}`);
  const pixels = Buffer.from(rgba, 'base64');
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const parts = (colour) => [colour >> 16, colour >> 8 & 255, colour & 255];
  const distance = (one, other) => parts(one).reduce((sum, part, at) => sum + (part - parts(other)[at]) ** 2, 0);
  const palette = [];
  for (const [colour] of [...counts.entries()].sort(([, a], [, b]) => b - a)) {
    if (palette.length < 256 && palette.every((one) => distance(one, colour) > ALIKE)) {
      palette.push(colour);
    }
  }
  const nearest = (colour) => palette.reduce((best, one, at) => (
    distance(one, colour) < distance(palette[best], colour) ? at : best), 0);
  const index = new Map(palette.map((colour, at) => [colour, at]));
  [...counts.keys()].filter((colour) => !index.has(colour)).forEach((colour) => index.set(colour, nearest(colour)));
  const lines = Buffer.alloc((width + 1) * height); // each begins with its filter: none
  for (let at = 0; at < width * height; at += 1) {
    lines[at + 1 + Math.floor(at / width)] = index.get(pixels.readUIntBE(4 * at, 3));
  }
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 3, 0, 0, 0]); // 8 bits a pixel, by palette
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  return Buffer.concat([png.subarray(0, 8), chunk('IHDR', header), chunk('PLTE', Buffer.from(palette.flatMap(parts))),
    chunk('IDAT', deflateSync(lines, { level: 9 })), chunk('IEND', Buffer.alloc(0))]);
}

function chunk(type, content) {
  const [length, check, named] = [Buffer.alloc(4), Buffer.alloc(4), Buffer.concat([Buffer.from(type), content])];
  length.writeUInt32BE(content.length);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, check]);
}

/** Sets the height of the dock. */
const tools = (height) => grace.evaluate((one) => document.documentElement.style.setProperty('--tools', one), height);

const ada = await open('Ada', '?lanes=websocket,webrtc');
const grace = await open('Grace', '');
await grace.bringToFront();
for (const page of [ada, grace]) {
  await page.locator('[data-action="start-all"]').dispatchEvent('click'); // also in the background tab
}
for (const page of [ada, grace]) {
  await until(15_000, async () => await state(page, 'webrtc') === 'open', 'the tabs to find each other');
}
for (const lane of LANES) {
  await until(15_000, async () => ['open', 'holding'].includes(await state(grace, lane)), `${lane} to be open`);
}
await grace.click('#tab-compare');
for (const [name, text] of TALK) {
  const page = name === 'Ada' ? ada : grace;
  await page.locator('#message').fill(text);
  await page.locator('#composer').evaluate((form) => form.requestSubmit());
  await new Promise((resolve) => setTimeout(resolve, PAUSE)); // as people talk
}
for (const lane of LANES) {
  await until(10_000, async () => await last(grace, lane) === TALK.at(-1)[1], `${lane} to have the last message`);
}
for (const lane of ['stream', 'sse', 'websocket']) {
  await until(40_000, async () => await heartbeats(lane) > 0, `a heartbeat on ${lane}`);
}
await hush();
await picture('client-light.png');
await grace.emulateMedia({ colorScheme: 'dark' });
await picture('client-dark.png');
await grace.emulateMedia({ colorScheme: 'light' });
await grace.setViewportSize({ width: 360, height: 800 });
await picture('client-narrow.png');

await grace.setViewportSize({ width: 1600, height: 1000 });
await tools('490px');
await grace.click('.panel[data-lane="websocket"] [data-part="bytes"]');
await grace.fill('.panel[data-lane="websocket"] [data-part="text"]', 'Hello');
await grace.press('.panel[data-lane="websocket"] [data-part="text"]', 'Enter');
const frame = grace.locator('.wire-row[data-from="client"]', { hasText: '"text":"Hello"' });
await frame.locator('.wire-bits').first().click();
await frame.locator('.frame-panel').waitFor();
await frame.evaluate((row) => row.scrollIntoView({ block: 'start' }));
await grace.locator('#panels').evaluate((panels) => panels.scrollTo(0, 0));
await hush();
await picture('wire-view.png');

// `wire tap` for a server with Node's `ws`.
const chat = await startChat();
const tap = await Server.tapOf(chat.url);
const viewer = await context.newPage();
await viewer.setViewportSize({ width: 1400, height: 900 });
await viewer.goto(`${tap.url}/-/tap/`);
await until(10_000, async () => /^open/.test(await viewer.textContent('#state')), 'the tap to be open');
const visitor = await context.newPage();
await visitor.goto(`${tap.url}/`);
await visitor.evaluate(async () => {
  const socket = new WebSocket(`ws://${location.host}/chat`);
  await new Promise((resolve) => { socket.onmessage = resolve; });
  socket.send('{"text": "Hello"}');
});
await viewer.bringToFront();
const said = viewer.locator('.wire-row[data-from="client"]', { hasText: '"text": "Hello"' });
await viewer.locator('.wire-row', { hasText: 'FIN Pong' }).first().waitFor();
await viewer.click('[data-action="pause"]');
await said.locator('.wire-bits').click();
await viewer.locator('.wire-row', { hasText: 'welcome' }).evaluate((row) => row.scrollIntoView({ block: 'start' }));
await picture('tap-any-server.png', viewer);

await browser.close();
await tap.stop();
chat.close();
await server.stop();
process.exit(0);
