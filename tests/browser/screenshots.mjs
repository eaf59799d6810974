// Makes the pictures that README shows: `OVERWIRE=../../target/release/overwire WIRE=../../target/release/wire ./apart
// node screenshots.mjs FOLDER`, without a folder into screenshots/. Two people in two tabs talk on all lanes; then
// `wire tap` shows a server of others. It is not a test: run it when the looks have changed. (`apart`, because WebRTC
// finds no peer at a loopback.)

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, until } from '../interop/server.mjs';
import { startChat } from './chat.mjs';
import { smaller } from './smaller.mjs';

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
const hush = () => until(() => grace.evaluate(() => document.getAnimations().length === 0), 'no flash');

async function picture(name, page = grace) {
  await page.mouse.move(0, 0);
  const path = join(folder, name);
  const png = await smaller(painter, await page.screenshot());
  console.log(`${path}: ${Math.ceil(png.length / 1000)} kB`);
  if (png.length > LARGEST) {
    throw new Error(`${path} would be larger than ${LARGEST} bytes`);
  }
  writeFileSync(path, png);
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
  await until(async () => await state(page, 'webrtc') === 'open', 'the tabs to find each other');
}
for (const lane of LANES) {
  await until(async () => ['open', 'holding'].includes(await state(grace, lane)), `${lane} to be open`);
}
await grace.click('#tab-compare');
for (const [name, text] of TALK) {
  const page = name === 'Ada' ? ada : grace;
  await page.locator('#message').fill(text);
  await page.locator('#composer').evaluate((form) => form.requestSubmit());
  await new Promise((resolve) => setTimeout(resolve, PAUSE)); // as people talk
}
for (const lane of LANES) {
  await until(async () => await last(grace, lane) === TALK.at(-1)[1], `${lane} to have the last message`);
}
for (const lane of ['stream', 'sse', 'websocket']) {
  await until(async () => await heartbeats(lane) > 0, `a heartbeat on ${lane}`);
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
await until(async () => /^open/.test(await viewer.textContent('#state')), 'the tap to be open');
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
