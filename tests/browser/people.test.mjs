// The table of who reads the room, in Chromium and in Firefox: its rows, the button that ends one, and its looks.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';
import { Firefox } from './firefox.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-people-'));
const server = await Server.tapped();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
const errors = [];
const query = '?room=tea&lanes=stream,sse,websocket&start';

async function open(base) {
  const page = await context.newPage();
  page.on('pageerror', ({ stack }) => errors.push(stack));
  await page.goto(`${base}/${query}`);
  return page;
}

const page = await open(server.url);
const other = await open(server.tapUrl.replace('127.0.0.1', 'localhost')); // the browser's other six connections
const state = (of, lane) => of.locator(`.panel[data-lane="${lane}"]`).getAttribute('data-state');
const rows = () => page.locator('#people-rows tr').evaluateAll((all) => all.map((row) => (
  [...row.children].slice(0, 2).map(({ textContent }) => textContent))));

await check('a row for each lane of each page: who, and on what', async () => {
  await until(async () => (await server.get('/api/connections?room=tea')).connections.length === 6, 'six');
  await page.click('[popovertarget=people]');
  await until(async () => (await rows()).length === 6, async () => `six rows, not ${await rows()}`);
  const own = (await rows()).filter(([who]) => who.endsWith(', this page')).map(([, on]) => on);
  assert.deepEqual(own.sort(), ['SSE', 'WebSocket', 'stream']);
  assert.equal(await page.textContent('#people-room'), 'tea');
  assert.match(await page.locator('#people-rows tr [data-changes]').first().textContent(), /^\d+ (s|min)$/);
});

await check('it looks as it should, narrow and wide, light and dark', async () => {
  await page.evaluate(AXE);
  for (const [width, colorScheme] of [[360, 'light'], [1280, 'dark'], [1280, 'light']]) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate(() => window.axe.run('#people'));
    assert.deepEqual(violations.map(({ id, nodes: [{ html }] }) => [id, html]), []);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} pixels`);
    await page.screenshot({ path: join(screenshots, `people-${width}-${colorScheme}.png`) });
  }
});

await check('the button ends a connection, and its lane comes back without a loss', async () => {
  const ids = async () => (await server.get('/api/connections?room=tea&transport=websocket')).connections.map(({ id }) => id);
  const before = await ids();
  const foreign = page.locator('#people-rows tr:not(.own)', { hasText: 'WebSocket' });
  await foreign.locator('button').click();
  await until(async () => (await ids()).filter((id) => before.includes(id)).length === 1, 'its end');
  await server.post('/api/send', { room: 'tea', sender: 'operator', text: 'while you were away' });
  await until(async () => await state(other, 'websocket') === 'open', 'the lane to be back');
  await until(async () => (await other.locator('[data-lane="websocket"] li[data-kind="message"] span')
    .allTextContents()).includes('while you were away'), 'the message');
});

await check('who is no operator is told so', async () => {
  await page.route('**/api/connections?*', (route) => route.fulfill({
    status: 403, contentType: 'application/json', body: '{"type":"error","error":"expected an operator"}' }));
  await until(async () => await page.textContent('#people-says') === 'Not known: expected an operator', 'it');
  assert.deepEqual(await rows(), []);
  await page.unroute('**/api/connections?*');
  await until(async () => (await rows()).length === 6, 'the rows to be back');
});

await check('no page has thrown an error', () => assert.deepEqual(errors, []));
await browser.close();

await check('Firefox shows the same', async () => {
  const firefox = await Firefox.start();
  const tab = await firefox.open(`${server.url}/${query}`);
  await tab.until(() => document.querySelectorAll('[data-state=open]').length === 3, 'the lanes');
  await tab.evaluate(() => document.querySelector('[popovertarget=people]').click());
  await tab.until(() => document.querySelectorAll('#people-rows tr.own').length === 3, 'its rows');
  writeFileSync(join(screenshots, 'people-firefox.png'), await tab.screenshot());
  await tab.evaluate(() => document.querySelector('#people-rows button').click());
  await tab.until(() => document.querySelectorAll('#people-rows tr.own').length < 3, 'the end of one');
  assert.deepEqual(firefox.complaints, []);
  await firefox.close();
});

await server.stop();
finish();
