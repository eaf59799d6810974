// The page of the API, /docs and /redoc: it shows every operation of /openapi.json, and its forms work. axe-core checks
// that everybody can use it.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SHOWN = 20_000; // characters of an output that are kept

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-docs-'));
const server = await Server.start();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const complaints = []; // the errors and warnings of the console
let expectFailures = false; // the browser complains of an answer of 404, and of a page that does not load

const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
await context.grantPermissions(['clipboard-read', 'clipboard-write']);
const page = await context.newPage();
await page.addInitScript(() => {
  window.violations = [];
  document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
});
page.on('console', (message) => {
  if (['error', 'warning'].includes(message.type()) && !expectFailures) {
    complaints.push(message.text());
  }
});
page.on('pageerror', (error) => complaints.push(error.stack));

async function open(path) {
  if (page.url().startsWith(server.url)) {
    assert.deepEqual(await page.evaluate(() => window.violations), [], 'the content security policy holds');
  }
  await page.goto(server.url + path);
  await page.locator('article').first().waitFor();
}

const api = await server.get('/openapi.json');
const described = Object.entries(api.paths).flatMap(([path, item]) => (
  Object.entries(item).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation }))));

const article = (operation) => page.locator(`[data-operation="${operation}"]`);
const button = (operation, action) => article(operation).locator(`[data-action="${action}"]`);
const field = (operation, name) => article(operation).locator(`.try [name="${name}"]`);
const output = (operation) => article(operation).locator('.output').textContent();
const result = (operation) => article(operation).locator('.result').textContent();

async function shows(operation, pattern) {
  await until(async () => pattern.test(await output(operation)),
    async () => `${operation} to show ${pattern}; it shows ${await result(operation)}: ${await output(operation)}`);
}

async function results(operation, pattern) {
  await until(async () => pattern.test(await result(operation)),
    async () => `the result ${pattern} of ${operation}; it is ${await result(operation)}`);
}

async function held(transport, count) {
  await until(async () => (await server.get('/api/stats')).transports[transport].open === count,
    `${count} open ${transport}`);
}

/** Every operation with its method and its path, once, in the list and in the contents. */
async function allIsShown() {
  const shown = await page.locator('[data-operation]').evaluateAll((articles) => articles.map((one) => [
    one.dataset.operation, one.querySelector('h3 .method').textContent, one.querySelector('h3 .path').textContent]));
  const wanted = described.map(({ operationId, method, path }) => [operationId, method, path]);
  assert.deepEqual(shown.sort(), wanted.sort());
  for (const { operationId, summary, parameters = [], responses } of described) {
    const text = await article(operationId).textContent();
    for (const part of [summary.replaceAll('`', ''), 'curl ', ...Object.keys(responses)]) {
      assert.ok(text.includes(part), `${operationId} shows ${part}`);
    }
    assert.ok(await article(operationId).locator('dt').count() >= parameters.length);
    assert.equal(await page.locator(`nav a[href="#${operationId}"]`).count(), 1);
  }
  const dangling = await page.evaluate(() => [...document.querySelectorAll('a[href^="#"]')]
    .map((link) => link.getAttribute('href')).filter((href) => document.getElementById(href.slice(1)) === null));
  assert.deepEqual(dangling, [], 'every link into the page leads somewhere');
}

await open('/docs');

await check('/docs shows every operation, and a form for each', async () => {
  await allIsShown();
  assert.equal(await page.locator('main form').count(), described.length);
});

await check('the page links to /docs', async () => {
  await page.goto(server.url);
  await page.locator('a[href="docs"]').click();
  await page.locator('article').first().waitFor();
  assert.equal(new URL(page.url()).pathname, '/docs');
});

await check('a link with an anchor shows that endpoint', async () => {
  await open('/docs#roomHistory');
  await until(() => article('roomHistory').evaluate((one) => {
    const { top } = one.getBoundingClientRect();
    return top >= 0 && top < innerHeight / 2;
  }), 'the endpoint to be in view');
});

await check('a POST and a GET are tried, and the answers are shown as text', async () => {
  await field('roomSend', 'content').fill('{"sender": "<b>x</b>", "text": "<img src=x onerror=alert(1)>"}');
  await button('roomSend', 'start').click();
  await shows('roomSend', /"status": "sent"/);
  await results('roomSend', /^200 OK, application\/json, \d+ bytes in \d+ ms$/);
  await field('roomHistory', 'limit').fill('1');
  await button('roomHistory', 'start').click();
  await shows('roomHistory', /"text": "<img src=x onerror=alert\(1\)>"/);
  assert.equal(await page.locator('.output *').count(), 0, 'nothing in an output is markup');
});

await check('an error is shown with its sentence', async () => {
  expectFailures = true;
  await field('roomHistory', 'limit').fill('0');
  await button('roomHistory', 'start').click();
  await shows('roomHistory', /limit: expected a whole number from 1 to 100/);
  await results('roomHistory', /^400 Bad Request/);
  await field('disconnectClient', 'id').fill('a/b c');
  await button('disconnectClient', 'start').click();
  await shows('disconnectClient', /client \\"a\/b c\\" is unknown/);
  expectFailures = false;
});

await check('the curl line follows the form, and can be copied', async () => {
  const line = article('roomHistory').locator('.curl code');
  await field('roomHistory', 'room').fill("it's");
  await field('roomHistory', 'limit').fill('2');
  const wanted = `curl '${server.url}/api/history?room=it'\\''s&limit=2'`;
  assert.equal(await line.textContent(), wanted);
  await article('roomHistory').locator('.curl button').click();
  await until(async () => (await page.evaluate(() => navigator.clipboard.readText())) === wanted, 'the copy');
  const send = await article('demoSend').locator('.curl code').textContent();
  assert.equal(send, `curl -d '{"message":"Hello"}' ${server.url}/send`);
});

await check('a stream is started, shows what arrives, and is stopped', async () => {
  for (const operation of ['roomStream', 'roomEvents']) {
    const transport = operation === 'roomStream' ? 'stream' : 'sse';
    await button(operation, 'start').click();
    await held(transport, 1);
    for (const text of ['one', 'two']) {
      await server.post('/api/send', { sender: 'node', text: `${operation} ${text}` });
      await shows(operation, new RegExp(`"text":"${operation} ${text}"`));
    }
    assert.ok(await button(operation, 'start').isDisabled());
    await button(operation, 'stop').click();
    await held(transport, 0);
    await results(operation, /^Stopped: 200 OK/);
    assert.ok(await button(operation, 'start').isEnabled());
  }
});

await check('a held poll is answered, and another is stopped', async () => {
  await button('roomPoll', 'start').click();
  await held('long_poll', 1);
  await server.post('/api/send', { sender: 'node', text: 'for the poll' });
  await shows('roomPoll', /"text": "for the poll"/);
  await button('roomPoll', 'start').click();
  await held('long_poll', 1);
  await button('roomPoll', 'stop').click();
  await held('long_poll', 0);
  await results('roomPoll', /^Stopped/);
});

await check('the output is bounded, and says how much it leaves out', async () => {
  await button('roomStream', 'start').click();
  await held('stream', 1);
  for (let count = 0; count < 3; count += 1) {
    await server.post('/api/send', { sender: 'node', text: 'x'.repeat(15_000) });
  }
  await server.post('/api/send', { sender: 'node', text: 'the newest' });
  await shows('roomStream', /the newest/);
  const shown = await output('roomStream');
  assert.match(shown, /^\(\d{5} characters before this are left out\)\n/);
  assert.ok(shown.length <= SHOWN + 60, `${shown.length} characters`);
  await button('roomStream', 'stop').click();
  await held('stream', 0);
});

await check('a WebSocket is opened, written to, read and closed', async () => {
  for (const [operation, answer] of [['roomWebSocket', /^< .*"text":"Hi all"/m], ['mailboxWebSocket', /^< .*"message":"Hello".*"user_message"/m]]) {
    assert.ok(await button(operation, 'say').isDisabled());
    await button(operation, 'start').click();
    await results(operation, /^Open$/);
    await button(operation, 'say').click();
    await shows(operation, /^> \{/m);
    await shows(operation, answer);
    await button(operation, 'stop').click();
    await results(operation, /^Closed: 1000$/);
    await held('websocket', 0);
  }
});

await check('the mailbox that was opened last is put into the forms that need one', async () => {
  await button('mailboxEvents', 'start').click();
  await shows('mailboxEvents', /"type":"connected"/);
  await button('mailboxText', 'start').click();
  await shows('mailboxText', /"status": "queued"/);
  await shows('mailboxEvents', /"message":"Hello"/);
  await button('mailboxEvents', 'stop').click();
  await field('mailboxPoll', 'example').selectOption({ label: 'text' });
  await button('mailboxPoll', 'start').click();
  await shows('mailboxPoll', /"message": "Hello"/);
});

await check('a form and its output can be used with keys alone', async () => {
  const focused = () => page.evaluate(() => document.activeElement.dataset.action ?? document.activeElement.className);
  await button('roomStream', 'start').focus();
  await page.keyboard.press('Enter');
  await held('stream', 1);
  assert.equal(await focused(), 'stop');
  await page.keyboard.press('Enter');
  await results('roomStream', /^Stopped/);
  assert.equal(await focused(), 'start');
  await page.keyboard.press('Tab'); // Stop is disabled again, so the next stop is Copy
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'output');
  await page.goto(`${server.url}/docs`);
  await page.locator('article').first().waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'skip');
});

await check('the time of an answer does not include the layout of what is printed', async () => {
  await article('roomHistory').locator('.output').evaluate((one) => {
    const { set } = Object.getOwnPropertyDescriptor(Node.prototype, 'textContent');
    Object.defineProperty(one, 'textContent', { set(text) {
      const { now } = performance;
      performance.now = () => now.call(performance) + 60_000; // much text takes long
      set.call(this, text);
    }, configurable: true });
  });
  await button('roomHistory', 'start').click();
  await results('roomHistory', /bytes in \d+ ms$/);
  const [, took] = /in (\d+) ms$/.exec(await result('roomHistory'));
  assert.ok(took < 60_000, `${took} ms`);
});

await check('the endpoints are found by their words, and the contents shows only them', async () => {
  const shown = () => page.locator('[data-operation]:not([hidden])').evaluateAll((all) => all.map(({ id }) => id));
  await page.locator('h1').click();
  await page.keyboard.press('/');
  await page.keyboard.type('TICKET one stream');
  const found = await shown();
  assert.ok(found.includes('ticket') && found.length < described.length / 2, found.join());
  assert.equal(await page.locator('.found').textContent(), `${found.length} of ${described.length} endpoints`);
  assert.equal(await page.locator('#contents li:not([hidden])').count(), found.length);
  assert.ok(await page.locator('#group-demo').isHidden());
  await page.keyboard.press('Enter');
  assert.equal(new URL(page.url()).hash, `#${found[0]}`);
  await page.fill('#search', '');
  assert.equal((await shown()).length, described.length);
  assert.equal(await page.locator('h2').first().textContent(), 'rooms', 'what most come for is first');
});

await check('endpoints fold to their first lines, and a link unfolds', async () => {
  await page.click('#fold-all');
  assert.equal(await page.locator('main form:visible').count(), 0);
  assert.equal(await page.locator('.summary:visible').count(), described.length);
  await page.locator('#contents a[href="#roomSend"]').click();
  await until(() => page.locator('main form:visible').count(), 'the form');
  assert.deepEqual(await page.locator('article:has(form:visible)').evaluateAll((all) => all.map(({ id }) => id)), ['roomSend']);
  await until(async () => (await page.locator('#contents [aria-current]').getAttribute('href')) === '#roomSend',
    'the place in the contents');
  await open('/docs');
  assert.equal(await page.locator('main form:visible').count(), 0, 'the choice is kept');
  await page.click('#fold-all');
  assert.equal(await page.locator('main form:visible').count(), described.length);
});

await check('/redoc shows every operation, and no forms', async () => {
  await open('/redoc');
  await allIsShown();
  assert.equal(await page.locator('form, input, textarea').count(), 0);
});

await check('the page says when the description is missing', async () => {
  expectFailures = true;
  await page.route('**/openapi.json', (route) => route.fulfill({ status: 503, json: {} }));
  await page.goto(`${server.url}/docs`);
  await page.locator('[role=alert]').waitFor();
  assert.match(await page.locator('[role=alert]').textContent(), /the server answered 503/);
  await page.unroute('**/openapi.json');
  expectFailures = false;
});

for (const path of ['/docs', '/redoc']) {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 1280]) {
      await check(`axe-core finds nothing on ${path}, ${colorScheme}, ${width} pixels, and it fits`, async () => {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        await open(path);
        if (path === '/docs') {
          await button('health', 'start').click();
          await shows('health', /ok/);
        }
        await page.evaluate(AXE);
        const { violations, passes } = await page.evaluate(() => window.axe.run());
        assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'it has looked at the contrast');
        assert.deepEqual(
          violations.map(({ id, nodes }) => [id, nodes.length, nodes[0].html, nodes[0].failureSummary]), []);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off');
        await page.screenshot({ path: join(screenshots, `${path.slice(1)}-${colorScheme}-${width}.png`) });
      });
    }
  }
}

await check('no violation of the content security policy, nothing unexpected on the console', async () => {
  assert.deepEqual(await page.evaluate(() => window.violations), []);
  assert.deepEqual(complaints, []);
});

await browser.close();
await server.stop();
console.log(`screenshots are in ${screenshots}`);
finish();
