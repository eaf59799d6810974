// `wire tap` in front of a server of others, and its page in Chromium: the page shows the bytes that passed, finds
// rows, and causes faults. It has no lanes.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';
import { startChat } from './chat.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-tap-'));
const chat = await startChat();
const recorder = await record(chat.port);
const tap = await Server.tapOf(`http://127.0.0.1:${recorder.port}`);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
const complaints = []; // the errors and warnings of the viewer's console
const viewer = await context.newPage();
viewer.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
viewer.on('pageerror', (error) => complaints.push(error.stack));
await viewer.addInitScript(() => {
  window.violations = [];
  document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
});
const visitor = await context.newPage(); // of the chat

/** Passes bytes on to a port, and keeps those of each connection: { client, server }, each an array of buffers. */
async function record(port) {
  const connections = [];
  const listener = createServer((client) => {
    const server = connect(port, '127.0.0.1');
    const connection = { client: [], server: [] };
    connections.push(connection);
    client.on('data', (bytes) => connection.client.push(bytes));
    server.on('data', (bytes) => connection.server.push(bytes));
    for (const [one, other] of [[client, server], [server, client]]) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
    }
    client.pipe(server).pipe(client);
  });
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  return { connections, port: listener.address().port, close: () => listener.close() };
}

const rows = () => viewer.locator('.wire-row:not([hidden])');
const row = (text) => viewer.locator('.wire-row:not([hidden])', { hasText: text });
const said = () => viewer.locator('.chaos-log li').allTextContents();

async function logs(pattern) {
  await until(async () => (await said()).some((line) => pattern.test(line)),
    async () => `${pattern} in ${(await said()).join('\n')}`);
}

/** The bytes of one direction of an exchange, by the hex of its rows. */
async function bytesOf(exchange, from) {
  for (const more = viewer.locator('[data-action=more]'); await more.count() > 0;) {
    await more.first().click();
  }
  const hex = await viewer.locator(`.wire-row[data-from="${from}"]`, { hasText: ` #${exchange}` })
    .locator('.wire-eight').allTextContents();
  return Buffer.from(hex.join('').replaceAll(' ', ''), 'hex').toString('latin1');
}

async function talk(...texts) {
  await visitor.evaluate(async (all) => {
    const socket = new WebSocket(`ws://${location.host}/chat`);
    window.socket = socket;
    window.heard = [];
    window.ended = new Promise((resolve) => { socket.onclose = ({ code }) => resolve(code); });
    socket.onmessage = ({ data }) => window.heard.push(data);
    await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
    all.forEach((text) => socket.send(text));
  }, texts);
  await until(() => visitor.evaluate((last) => window.heard.includes(last), texts.at(-1)), 'the last text');
}

await check('the page says which server it is in front of, and what to do', async () => {
  await viewer.goto(`${tap.url}/-/tap/`);
  await until(async () => /^open/.test(await viewer.textContent('#state')), 'the tap to be open');
  assert.equal(await viewer.textContent('#target'), `http://127.0.0.1:${recorder.port}`);
  assert.equal(await viewer.textContent('.wire-empty'),
    `Nothing yet. Send a request to ${tap.url}/, and its bytes appear here.`);
  assert.equal(await viewer.locator('.wire-lanes, #dock, [data-action="restart"]').count(), 0);
});

await check('every request is shown, a navigation and a WebSocket too, byte for byte', async () => {
  await visitor.goto(`${tap.url}/`);
  assert.equal(await visitor.textContent('h1'), 'Chat');
  await talk('Hello', 'w\u00f6rld \u{1f40e}', 'x'.repeat(300));
  await viewer.bringToFront();
  await row('FIN Ping').first().waitFor();
  await visitor.evaluate(() => window.socket.close(1000, 'bye'));
  await row('so is its connection').waitFor();
  const opening = await row('GET /chat HTTP/1.1').locator('.wire-where').textContent();
  const [, exchange] = /#(\d+)/.exec(opening);
  const { client, server } = recorder.connections.find((one) => /^GET \/chat /.test(Buffer.concat(one.client)));
  assert.equal(await bytesOf(exchange, 'client'), Buffer.concat(client).toString('latin1'));
  assert.equal(await bytesOf(exchange, 'server'), Buffer.concat(server).toString('latin1'));
  assert.match(await row('GET / HTTP/1.1').first().textContent(), /Sec-Fetch-Mode: navigate/);
  assert.match(await row('X-Powered-By: Node').first().textContent(), /chunks follow/);
  await viewer.screenshot({ path: join(screenshots, 'tap.png') });
});

await check('a frame opens into its bits, and keep-alive can be hidden', async () => {
  const shown = await rows().count();
  const frame = row('Hello').first();
  await frame.locator('.wire-bits').first().click();
  assert.match(await frame.locator('.frame-groups').first().textContent(), /XOR key.*unmasked.*48656c6c6f/s);
  await frame.locator('.wire-bits').first().click();
  assert.ok(await row('FIN Ping').count() > 0);
  await viewer.check('text=hide keep-alive');
  await until(async () => await row('FIN Ping').count() === 0, 'the pings to be hidden');
  assert.ok(await rows().count() < shown);
  await viewer.uncheck('text=hide keep-alive');
  await viewer.fill('input[type=search]', 'hello');
  const ways = () => rows().evaluateAll((all) => [...new Set(all.map(({ dataset }) => dataset.from))].join());
  await until(async () => await ways() === 'client,server', 'the text, there and back');
  assert.equal(await rows().count(), await row('Hello').count());
  await viewer.fill('input[type=search]', '');
});

await check('a strike closes the open connection, and the page says so', async () => {
  await talk('before');
  await viewer.bringToFront();
  await viewer.click('#faults summary');
  await viewer.click('.chaos-table [data-row="all"] [data-fault="drop"] button');
  assert.equal(await visitor.evaluate(() => window.ended), 1006);
  await logs(/Every connection connection closed$/);
  await row('The tap closed the connection, as commanded.').waitFor();
});

await check('a fault stays until it is off', async () => {
  await viewer.locator('.chaos-table [data-fault="502"] input').check();
  await until(() => visitor.evaluate(async () => (await fetch('/')).status === 502), 'an answer of a proxy');
  await viewer.click('[data-action="calm"]');
  await until(() => visitor.evaluate(async () => (await fetch('/')).status === 200), 'an answer of the server');
});

await check('the server is down for some seconds, and the viewer stays', async () => {
  await talk('before it is down');
  await viewer.bringToFront();
  await viewer.selectOption('.chaos-down select', '2');
  await viewer.click('[data-action="down"]');
  assert.equal(await visitor.evaluate(() => window.ended), 1006);
  await logs(/Server down: open connections are reset, new ones are refused$/);
  assert.equal(await visitor.evaluate(() => fetch('/').then(() => 'an answer', () => 'refused')), 'refused');
  await logs(/Server up again$/);
  await talk('after it');
  assert.match(await viewer.textContent('#state'), /^open/);
  assert.equal(await row('The tap is closed').count(), 0);
});

await check('a page that comes late says how many exchanges it cannot show, and that no strike reaches them', async () => {
  const late = await context.newPage();
  late.on('pageerror', (error) => complaints.push(error.stack));
  await late.goto(`${tap.url}/-/tap/`);
  const sentence = late.locator('.wire-row[data-type="unseen"] .wire-remark');
  await sentence.waitFor();
  assert.equal(await sentence.textContent(),
    '1 exchange began before this page: not shown here, and reached by no fault but Server down.');
  await visitor.evaluate(() => window.socket.send('who sees this?'));
  await row('who sees this?').first().waitFor();
  await visitor.evaluate(() => window.socket.close());
  await row('so is its connection').last().waitFor();
  await visitor.evaluate(() => fetch('/late'));
  await late.locator('.wire-row', { hasText: 'GET /late' }).waitFor();
  assert.equal(await late.locator('.wire-row', { hasText: 'who sees this?' }).count(), 0);
  await late.close();
  await viewer.bringToFront();
  await row('GET /late').first().waitFor(); // a page in the background draws later: axe-core waits for all rows
});

for (const [colorScheme, width] of [['light', 360], ['dark', 360], ['light', 1400], ['dark', 1400]]) {
  await check(`axe-core finds nothing, ${colorScheme}, ${width} pixels, and it fits`, async () => {
    await viewer.bringToFront();
    // axe scrolls, and rows move as they enter the layout: it would take a lit field for the ground of others.
    await viewer.mouse.move(0, 0);
    const held = viewer.locator('.wire-field.is-held');
    if (await held.count() > 0) await held.first().press('Escape');
    await viewer.emulateMedia({ colorScheme });
    await viewer.setViewportSize({ width, height: 900 });
    await viewer.locator('.wire-hex').first().waitFor();
    await viewer.evaluate(AXE);
    const { violations, passes } = await viewer.evaluate(() => window.axe.run());
    assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'it has looked at the contrast');
    assert.deepEqual(violations.map(({ id, nodes: [{ html, failureSummary }] }) => [id, html, failureSummary]), []);
    assert.ok(await viewer.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off');
    await viewer.screenshot({ path: join(screenshots, `tap-${colorScheme}-${width}.png`), fullPage: true });
  });
}

await check('no violation of the content security policy, nothing unexpected on the console', async () => {
  assert.deepEqual(await viewer.evaluate(() => window.violations), []);
  assert.deepEqual(complaints, []);
});

await browser.close();
await tap.stop();
recorder.close();
chat.close();
console.log(`screenshots are in ${screenshots}`);
finish();
