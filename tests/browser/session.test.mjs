// The session of a page, on a server with --keys: the form, the name, and the end of the session in every lane.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, check, finish, until } from '../interop/server.mjs';
import { Keys } from './keys.mjs';
import { launch } from './lane-page.mjs';

const LANES = ['auto', 'short-poll', 'long-poll', 'stream', 'sse', 'websocket', 'webrtc'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-session-'));
const keys = new Keys();
const key = keys.add('ada', '--rooms', 'tea,team-*', '--rights', 'read,send');
const options = ['--keys', keys.path];
let server = await Server.tapped({ options });
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
await context.addInitScript(() => { Math.random = () => 0.05; }); // short waits before the next attempt
const errors = [];

const page = await open('?start'); // all lanes: three of the six connections
let other; // another tab

async function open(query) {
  const opened = await context.newPage();
  opened.on('pageerror', ({ stack }) => errors.push(stack));
  await opened.goto(`http://localhost:${server.tapPort}/${query}`);
  return opened;
}

/** The state of each lane that is not in one of the states `wanted`. */
const except = (wanted, of = page) => of.locator('[data-lane]').evaluateAll((all, wanted) => (
  all.filter(({ dataset }) => !wanted.includes(dataset.state)).map((one) => (
    `${one.dataset.lane}: ${one.querySelector('[data-part=state]').textContent}`))), wanted);

const areOpen = (of) => until(async () => (await except(['open', 'holding'], of)).length === 0,
  async () => `all lanes to be open; ${await except(['open', 'holding'], of)}`);

const isOver = (of = page) => of.locator('[data-lane] [data-part=state]').evaluateAll((all) => (
  all.every(({ textContent }) => textContent === 'session over')));

const says = (of = page) => of.locator('#log-in-says').textContent();
const texts = (lane, kind = 'message') => (
  page.locator(`[data-lane="${lane}"] [data-kind="${kind}"] span`).allTextContents());

async function logIn(of, key) {
  await of.fill('#key', key);
  await of.press('#key', 'Enter');
}

/** Sends beside the browser. */
async function post(text) {
  const headers = { Authorization: `Bearer ${key}` };
  const body = JSON.stringify({ room: 'tea', text });
  const { status } = await fetch(`${server.url}/api/send`, { method: 'POST', headers, body });
  assert.equal(status, 200);
}

async function show(text) {
  for (const lane of LANES.filter((lane) => lane !== 'webrtc')) {
    await until(async () => (await texts(lane)).includes(text),
      async () => `${lane} to show ${text}; it shows ${await texts(lane)}, ${await texts(lane, 'problem')}`);
  }
}

await check('nobody is logged in: a form says where a key comes from, and nothing else can be pressed', async () => {
  await page.locator('#log-in').waitFor();
  assert.match(await page.textContent('#log-in p'), /`?overwire key add NAME/);
  assert.ok(await page.locator('#composer').isHidden() && await page.locator('#who-button').isHidden());
  assert.deepEqual(await except(['stopped']), []);
  assert.equal(await page.locator('#panels [data-part=toggle]:enabled').count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'key');
  await logIn(page, 'ow_wrong');
  await until(async () => /^Not logged in: 401 key: it is unknown/.test(await says()), says);
});

await check('the form fits and axe-core finds nothing, narrow and wide, light and dark', async () => {
  await page.evaluate(AXE);
  for (const [width, colorScheme] of [[360, 'light'], [1280, 'dark']]) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate(() => window.axe.run('#log-in'));
    assert.deepEqual(violations.map(({ id, nodes: [{ html }] }) => [id, html]), []);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels`);
    await page.screenshot({ path: join(screenshots, `log-in-${width}-${colorScheme}.png`) });
  }
});

await check('a key logs in: the lanes that were wanted start, and the page shows who it is', async () => {
  await logIn(page, key);
  await areOpen(page);
  assert.equal(await page.inputValue('#room'), 'tea', 'the first room of the key, because `general` is not permitted');
  await page.click('#who-button');
  const who = await page.locator('#who').innerText();
  assert.ok(await page.locator('#log-out').isVisible() && await page.locator('#who-proxy').isHidden());
  assert.match(who, /^You are ada\s+Rights\s+read, send\s+Rooms\s+tea, team-\*\s+Until\s/);
  await page.screenshot({ path: join(screenshots, 'who.png') });
  await page.keyboard.press('Escape');
  assert.ok(await page.locator('#log-in').isHidden() && await page.locator('label:has(#sender)').isHidden());
  assert.ok(await page.locator('#dock').isVisible(), 'it knows that it is seen through the tap');
  await page.fill('#message', 'as ada');
  await page.press('#message', 'Enter');
  await show('as ada');
  assert.equal(await page.locator('[data-lane="sse"] [data-kind="message"] b').first().textContent(), 'ada');
});

await check('a user whom a proxy names is offered no log-out', async () => {
  const behind = ['--no-tap', '--trust-proxy', '127.0.0.1', '--identity-header', 'Remote-User'];
  const guarded = await Server.start(0, process.env.OVERWIRE, behind);
  const proxied = await browser.newContext({ extraHTTPHeaders: { 'Remote-User': 'grace' } });
  const named = await proxied.newPage();
  await named.goto(`${guarded.url}/?lanes=sse`);
  await named.click('#who-button');
  assert.match(await named.locator('#who').innerText(), /^You are grace.*A proxy has named you/s);
  assert.ok(await named.locator('#log-out').isHidden());
  await proxied.close();
  await guarded.stop();
});

await check('a log-out in another tab stops every lane within a second, and nothing is asked for any more', async () => {
  other = await open('?lanes=websocket&start');
  await areOpen(other);
  await other.click('#who-button');
  await other.click('#log-out');
  await until(() => isOver(), async () => `the end of every lane: ${await except([])}`);
  assert.ok(await isOver(other));
  assert.equal(await says(other), 'You are logged out.');
  await until(async () => await says() === 'The session is over.', says);
  const asked = [];
  const note = (request) => asked.push(request.url());
  page.on('request', note).on('websocket', note);
  await new Promise((resolve) => { setTimeout(resolve, 600); }); // longer than the first waits
  page.off('request', note).off('websocket', note);
  assert.deepEqual(asked, []);
  await page.screenshot({ path: join(screenshots, 'session-over.png') });
});

await check('a log-in in one tab starts the lanes that ran in all, and they miss nothing', async () => {
  await post('meanwhile');
  await logIn(other, key);
  await areOpen(page);
  await areOpen(other);
  await show('meanwhile');
  for (const lane of LANES.filter((lane) => lane !== 'webrtc')) {
    assert.deepEqual([await texts(lane), await texts(lane, 'notice')], [['as ada', 'meanwhile'], []], lane);
  }
});

await check('a server that has forgotten the session ends it, also where a browser hides the status', async () => {
  const { port, tapPort } = server;
  await server.stop();
  server = await Server.tapped({ port, tapPort, options });
  for (const of of [page, other]) {
    await until(() => isOver(of), async () => `the end: ${await except([], of)}`);
  }
  await logIn(page, key);
  await areOpen(page);
});

await check('a revoked key ends the session', async () => {
  keys.revoke('ada');
  await until(() => isOver(), async () => `the end: ${await except([])}`);
  await until(async () => await says() === 'The session is over.', says);
});

await check('no page has thrown an error', () => assert.deepEqual(errors, []));

await browser.close();
await server.stop();
keys.remove();
console.log(`screenshots are in ${screenshots}`);
finish();
