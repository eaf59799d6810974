// The page of each lesson, with the lesson's own server: it shows each message as text, and resumes when its connection
// is lost. Lesson 00 has no page, and that of lesson 07 has its own test. The broken clients of lessons 02 and 05 also
// run in Node.
//
// PROGRAMS names the folder with the binaries of the lessons. With SCREENSHOTS=screenshots/lessons, it makes the
// pictures of the lessons.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { Server, check, finish, freePort, until } from '../interop/server.mjs';
import { Cable } from './cable.mjs';
import { smaller } from './smaller.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const MARKUP = '<img src=x onerror="window.injected = true"> & \u{1F40E}';

process.setMaxListeners(50); // each server has one
const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-lessons-'));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const painter = await browser.newPage();
const lesson = (name) => Server.start(0, join(process.env.PROGRAMS, name));

async function open(url) {
  const context = await browser.newContext({ viewport: { width: 900, height: 900 }, ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(error.stack));
  await page.goto(url);
  return page;
}

const lines = (page, log, kind) => page.locator(`#${log} li${kind ? `.${kind}` : ''}`).allTextContents();

async function shows(page, log, wanted, kind) {
  await until(async () => (await lines(page, log, kind)).some((line) => line.includes(wanted)),
    async () => `#${log} to show ${wanted}; it shows ${(await lines(page, log)).join('\n')}`);
}

async function done(page, name) {
  await page.setViewportSize({ width: 900, height: 600 });
  writeFileSync(join(screenshots, `${name}.png`), await smaller(painter, await page.screenshot({ fullPage: true })));
  assert.equal(await page.evaluate(() => window.injected), undefined, 'what was typed ran as markup');
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

await check('01: the page shows what the server saw, and what the browser added', async () => {
  const server = await lesson('01-http');
  const page = await open(server.url);
  await page.fill('#content', MARKUP);
  await page.click('#form button');
  await shows(page, 'log', 'User-Agent');
  await shows(page, 'log', 'X-Greeting: hello', 'out');
  await done(page, '01-http');
  await server.stop();
});

// The pages of the lessons with one stream of messages have a text field and a log.
const READERS = [
  { name: '02-short-polling', prepare: (page) => page.fill('#interval', '0.5') },
  { name: '03-long-polling' },
  { name: '04-http-streaming' },
  { name: '04-http-streaming', variant: 'in chunks of 7 bytes', prepare: (page) => page.selectOption('#rechunk', '7') },
  { name: '05-server-sent-events', prepare: (page) => page.check('#quiet') },
];

for (const { name, variant, prepare } of READERS) {
  await check(`${name.slice(0, 2)}: the page loses nothing and repeats nothing when its connection is cut${variant ? `, ${variant}` : ''}`, async () => {
    const server = await lesson(name);
    const cable = await Cable.plug(server.port);
    const page = await open(cable.url);
    await prepare?.(page);
    await page.fill('#text', MARKUP);
    await page.click('form:has(#text) button');
    await shows(page, 'log', MARKUP, 'in');
    const wanted = [];
    for (let message = 1; message <= 6; message += 1) {
      await server.post('/add-message', { message: `message ${message}` });
      wanted.push(`message ${message}`);
      if (message % 2 === 0) {
        cable.cut();
      }
    }
    await shows(page, 'log', 'message 6', 'in');
    // One more message: a repeated message would come before it.
    await server.post('/add-message', { message: 'message 7' });
    await shows(page, 'log', 'message 7', 'in');
    assert.deepEqual((await lines(page, 'log', 'in')).slice(1), [...wanted, 'message 7']);
    await done(page, name);
    cable.unplug();
    await server.stop();
  });
}

await check('02: the broken client shows a message more than once', async () => {
  const server = await lesson('02-short-polling');
  const page = await open(server.url);
  await page.click('#broken');
  await server.post('/add-message', { message: 'once' });
  await until(async () => (await lines(page, 'log', 'bad')).filter((line) => line === 'broken: once').length > 1,
    'a message that is shown twice');
  await done(page, '02-broken');
  await server.stop();
});

await check('05: the broken client misses what is sent while its connection is cut', async () => {
  const server = await lesson('05-server-sent-events');
  const cable = await Cable.plug(server.port);
  const page = await open(cable.url);
  await page.check('#quiet');
  await page.click('#broken');
  await until(async () => {
    await server.post('/add-message', { message: 'to both' });
    return (await lines(page, 'log', 'bad')).includes('broken: to both');
  }, 'the broken client to be there');
  await shows(page, 'log', 'to both', 'in');
  cable.cut();
  await server.post('/add-message', { message: 'while it was cut' });
  await shows(page, 'log', 'while it was cut', 'in');
  await until(async () => {
    await server.post('/add-message', { message: 'later' });
    return (await lines(page, 'log', 'bad')).includes('broken: later');
  }, 'the broken client to be back');
  assert.ok(!(await lines(page, 'log', 'bad')).includes('broken: while it was cut'));
  await done(page, '05-broken');
  cable.unplug();
  await server.stop();
});

/** Runs the broken client of a lesson in Node. The lines that it shows, and its process. */
function inNode(name, call) {
  const file = join(import.meta.dirname, '../../lessons', name, 'broken.js');
  const code = `import { runBroken } from ${JSON.stringify(file)};\n${call}`;
  const options = ['--experimental-eventsource', '--no-warnings', '--input-type=module', '-e', code];
  const child = spawn(process.execPath, options, { stdio: ['ignore', 'pipe', 'inherit'] });
  process.once('exit', () => child.kill('SIGKILL'));
  const shown = [];
  createInterface({ input: child.stdout }).on('line', (line) => shown.push(line));
  return { shown, child };
}

await check('02: the broken client shows a message more than once in Node, too', async () => {
  const server = await lesson('02-short-polling');
  const { shown, child } = inNode('02-short-polling',
    `runBroken('', async (path) => (await fetch('${server.url}' + path)).json(), console.log);`);
  await server.post('/add-message', { message: 'once' });
  await until(async () => shown.filter((line) => line === 'broken: once').length > 1,
    'a message that is shown twice');
  child.kill();
  await server.stop();
});

await check('05: the broken client misses what is sent while its connection is cut in Node, too', async () => {
  const server = await lesson('05-server-sent-events');
  const cable = await Cable.plug(server.port);
  const { shown, child } = inNode('05-server-sent-events', `runBroken('${cable.url}/quiet', console.log);`);
  const gets = (message) => until(async () => {
    await server.post('/add-message', { message });
    return shown.includes(`broken: ${message}`);
  }, message);
  await gets('before');
  cable.cut();
  await server.post('/add-message', { message: 'while it was cut' });
  await gets('later');
  assert.ok(!shown.includes('broken: while it was cut'));
  child.kill();
  cable.unplug();
  await server.stop();
});

await check('06: two pages chat, come back after a cut, and one leaves', async () => {
  const server = await lesson('06-websocket');
  const cable = await Cable.plug(server.port);
  const [a, b] = [await open(cable.url), await open(cable.url)];
  for (const page of [a, b]) {
    await until(async () => (await page.textContent('#state')) === 'open',
      async () => `the chat to be open; it is ${await page.textContent('#state')}`);
  }
  await a.fill('#text', MARKUP);
  await a.click('#say button');
  await shows(b, 'chat', MARKUP);
  await a.click('#try button');
  await shows(a, 'echo', 'Hello');
  cable.cut();
  await shows(a, 'echo', 'closed with 1006', 'bad');
  await until(async () => {
    await a.fill('#text', 'after the cut');
    await a.click('#say button');
    return (await lines(b, 'chat')).some((line) => line.includes('after the cut'));
  }, 'what is said after the cut');
  await a.click('#leave');
  await done(a, '06-websocket');
  await done(b, '06-websocket-other');
  cable.unplug();
  await server.stop();
});

await check('08: five readers are measured, and the follower falls back without loss', async () => {
  const server = await lesson('08-choosing');
  const page = await open(server.url);
  await until(async () => (await server.get('/report')).ws.requests === 2, 'two WebSockets');
  await page.fill('[name=text]', MARKUP);
  await page.click('#publish button');
  await until(async () => {
    const rows = await page.locator('#lanes tr').all();
    const delays = await Promise.all(rows.map((row) => row.locator('td').nth(2).textContent()));
    return delays.length === 5 && delays.every((delay) => delay.endsWith(' ms'));
  }, 'a delay in every row');
  for (const [transport, title] of [['ws', 'WebSocket'], ['events', 'SSE'], ['stream', 'HTTP streaming'], ['long', 'Long polling']]) {
    await server.post('/publish', { message: `on ${transport}` });
    await shows(page, 'follower', `${title}: on ${transport}`);
    await page.locator(`#${transport} input`).uncheck();
  }
  await server.post('/publish', { message: 'on short' });
  await shows(page, 'follower', 'Short polling: on short');
  const seen = await lines(page, 'follower', 'in');
  assert.deepEqual(seen.slice(1).map((line) => line.split(': ')[1]), ['on ws', 'on events', 'on stream', 'on long', 'on short']);
  await done(page, '08-choosing');
  await server.stop();
});

await check('09: the page goes on after a kill, and fetches the state when a change is missing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'overwire-09-'));
  const start = (port) => Server.start(port, join(process.env.PROGRAMS, '09-keeping-it'), ['--data', folder]);
  let server = await start(0);
  const { port } = server;
  const page = await open(server.url);
  const vote = async (text) => {
    await page.fill('#text', text);
    await page.click('form button');
    await shows(page, 'counts', `1  ${text}`);
  };
  await vote(MARKUP);
  await server.kill();
  server = await start(port);
  await vote('after a kill');
  assert.deepEqual(await lines(page, 'log', 'bad'), [], 'a kill loses nothing');
  await vote('lost');
  await server.kill();
  const log = join(folder, '00000001.log');
  const bytes = readFileSync(log);
  truncateSync(log, bytes.lastIndexOf('00000059 '));
  server = await start(port);
  await shows(page, 'log', 'changes are missing', 'bad');
  await until(async () => (await lines(page, 'counts')).length === 2, 'the counts without the lost voice');
  await vote('new');
  await done(page, '09-keeping-it');
  await server.stop();
});

await check('10: the page changes the node when its node ends, and misses nothing', async () => {
  const port = String(21_000 + process.pid % 9000);
  const redis = spawn('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', ''],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  process.once('exit', () => redis.kill('SIGKILL'));
  await new Promise((resolve, reject) => {
    redis.once('error', reject);
    redis.stdout.on('data', (data) => String(data).includes('Ready to accept') && resolve());
  });
  const node = () => Server.start(0, join(process.env.PROGRAMS, '10-many-servers'), ['--redis', port]);
  const nodes = [await node(), await node()];
  const to = nodes.map(({ port }) => port).join();
  const balancer = await Server.start(0, join(process.env.PROGRAMS, '10-balancer'), ['--to', to]);
  const page = await open(balancer.url);
  await page.fill('#text', MARKUP);
  await page.click('form button');
  await shows(page, 'log', MARKUP, 'in');
  const [first] = (await lines(page, 'log')).filter((line) => line.startsWith('the answers come from'));
  const [mine, other] = first.endsWith(`:${nodes[0].port}`) ? nodes : nodes.toReversed();
  await mine.kill();
  await other.post('/add-message', { message: 'from the other' });
  await shows(page, 'log', 'from the other', 'in');
  await shows(page, 'log', `the answers come from 127.0.0.1:${other.port}`);
  assert.deepEqual(await lines(page, 'log', 'bad'), []);
  await done(page, '10-many-servers');
  await balancer.kill();
  await other.stop();
  redis.kill();
});

/** Starts a program of lesson 11 with a file in which `ada` has the key `key of ada`. */
function knowsAda(program) {
  const folder = mkdtempSync(join(tmpdir(), 'overwire-11-'));
  const digest = createHash('sha1').update('key of ada').digest('hex');
  writeFileSync(join(folder, 'keys'), `${digest}  ada\n`);
  const options = program.endsWith('broken') ? ['--log', join(folder, 'log')] : [];
  return Server.start(0, join(process.env.PROGRAMS, program), ['--keys', join(folder, 'keys'), ...options]);
}

async function showKey(page, way) {
  await page.fill('#key', 'key of ada');
  await page.click(`#enter button[value=${way}]`);
  await shows(page, 'log', `the socket of ada is open, by ${way === 'cookie' ? 'the cookie' : 'a ticket'}`);
}

/** What a socket that a page opens is told: its first message, or the code of its end. */
const firstOf = (page, url) => page.evaluate((at) => new Promise((resolve) => {
  const socket = new WebSocket(at);
  socket.onmessage = ({ data }) => resolve(data);
  socket.onclose = ({ code }) => resolve(code);
}), url.replace('http', 'ws'));

await check('11: a log-out in one tab ends the socket of the other, and no script sees the cookie', async () => {
  const server = await knowsAda('11-who-are-you');
  const page = await open(server.url);
  await until(async () => (await page.textContent('#state')) === 'expected a key', 'the question for a key');
  await page.fill('#key', 'wrong');
  await page.click('#enter button[value=cookie]');
  await shows(page, 'log', 'not logged in', 'bad');
  await showKey(page, 'cookie');
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, await page.evaluate(() => document.cookie)], [true, 'Strict', '']);
  await page.fill('#text', MARKUP);
  await page.click('#chat button:not([type])');
  await shows(page, 'log', `ada: ${MARKUP}`, 'in');
  const second = await page.context().newPage();
  await second.goto(server.url);
  await shows(second, 'log', 'the socket of ada is open, by the cookie');
  await second.click('#leave');
  for (const each of [page, second]) {
    await until(async () => (await each.textContent('#state')) === 'logged out' && each.isVisible('#enter'),
      async () => `the log-out; it says ${await each.textContent('#state')}`);
  }
  await done(page, '11-who-are-you');
  await server.stop();
});

await check('11: a page without a cookie comes back with another ticket', async () => {
  const server = await knowsAda('11-who-are-you');
  const cable = await Cable.plug(server.port);
  const page = await open(cable.url);
  const opened = [];
  page.on('websocket', (socket) => opened.push(new URL(socket.url()).searchParams.get('ticket')));
  await showKey(page, 'tickets');
  cable.cut();
  await until(async () => (await lines(page, 'log')).filter((line) => line.includes('by a ticket')).length === 2,
    'the second socket');
  assert.equal(new Set(opened).size, 2);
  assert.equal(await firstOf(page, `${cable.url}/chat?ticket=${opened[0]}`), 1006, 'it is used up');
  assert.deepEqual(await page.context().cookies(), []);
  await page.reload();
  await until(async () => (await page.textContent('#state')) === 'expected a key', 'the key to be forgotten');
  await done(page, '11-tickets');
  cable.unplug();
  await server.stop();
});

await check('11: a page of another port has the cookie, and is refused by its Origin alone', async () => {
  const [server, broken, other] = [await knowsAda('11-who-are-you'), await knowsAda('11-broken'), await lesson('06-websocket')];
  const page = await open(server.url);
  await showKey(page, 'cookie');
  const stranger = await page.context().newPage();
  await stranger.goto(other.url);
  assert.equal(await firstOf(stranger, `${server.url}/chat`), 1006);
  // The broken server sets its own cookie, which replaces the other: a cookie knows no port.
  await stranger.goto(`${broken.url}/session?key=key+of+ada`);
  await stranger.evaluate(() => fetch('/session?key=key+of+ada', { method: 'POST' }));
  await stranger.goto(other.url);
  assert.equal(await firstOf(stranger, `${broken.url}/chat`), 'you are ada');
  await done(page, '11-stranger');
  for (const each of [server, broken, other]) {
    await each.stop();
  }
});

/** haproxy with the lesson's configuration and a certificate of the test, before the server on a port. */
async function haproxy(server) {
  const folder = mkdtempSync(join(tmpdir(), 'overwire-12-'));
  const place = join(folder, 'target/12'); // in the configuration
  mkdirSync(place, { recursive: true });
  const [key, certificate] = ['key.pem', 'certificate.pem'].map((name) => join(place, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-keyout', key, '-out', certificate], { stdio: 'ignore' });
  writeFileSync(join(place, 'localhost.pem'), Buffer.concat([readFileSync(certificate), readFileSync(key)]));
  const [port, clear] = [await freePort(), await freePort()];
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin`, SERVER: `127.0.0.1:${server}`,
    TLS: `127.0.0.1:${port}`, CLEAR: `127.0.0.1:${clear}` };
  const file = join(import.meta.dirname, '../../lessons/12-in-front/haproxy.cfg');
  const child = spawn('haproxy', ['-f', file], { cwd: folder, env, stdio: ['ignore', 'inherit', 'inherit'] });
  process.once('exit', () => child.kill('SIGKILL'));
  return { child, url: `https://127.0.0.1:${port}` };
}

await check('12: a proxy that buffers or loses the upgrade is seen, and HTTP/2 has no sixth connection', async () => {
  const server = await Server.start(0, join(process.env.PROGRAMS, '12-server'), []);
  const front = (...options) => Server.start(0, join(process.env.PROGRAMS, '12-in-front'),
    ['--to', String(server.port), ...options]);
  const state = (page, wanted) => until(async () => (await page.textContent('#state')) === wanted,
    async () => `${wanted}; it is ${await page.textContent('#state')}`);
  const send = async (page, text) => {
    await page.fill('#text', text);
    await page.click('form button');
  };

  const good = await front();
  let page = await open(good.url);
  await shows(page, 'log', 'WebSocket: open', 'in');
  await state(page, '1 of 1 streams are open');
  await send(page, MARKUP);
  await shows(page, 'log', MARKUP, 'in');
  await page.click('#open');
  await state(page, '6 of 7 streams are open');
  await send(page, 'a seventh');
  await shows(page, 'log', 'a seventh: waits for a connection', 'bad');
  await done(page, '12-http1');

  const bad = await front('--buffer', '4096', '--upgrade', 'lose');
  page = await open(bad.url);
  await shows(page, 'log', 'WebSocket: closed with 1006', 'bad');
  await state(page, '1 of 1 streams are open');
  const [answer] = await Promise.all([page.waitForResponse('**/add-message'), send(page, 'held back')]);
  assert.equal(answer.status(), 200);
  await server.post('/add-message', { message: 'x'.repeat(900) });
  assert.deepEqual(await lines(page, 'streams'), ['stream 1: open, 0 received']);
  for (let message = 0; message < 4; message += 1) {
    await server.post('/add-message', { message: 'x'.repeat(900) });
  }
  await shows(page, 'log', 'held back', 'in');
  await done(page, '12-buffered');

  const proxy = await haproxy(server.port);
  page = await until(() => open(proxy.url).catch(() => false), 'haproxy to listen');
  await shows(page, 'log', 'WebSocket: open', 'in');
  await page.click('#open');
  await state(page, '7 of 7 streams are open');
  await send(page, 'to all seven');
  await shows(page, 'streams', 'stream 7: open, 1 received');
  await until(async () => (await lines(page, 'streams')).every((line) => line.endsWith('open, 1 received')),
    async () => `a message on each stream; ${await lines(page, 'streams')}`);
  assert.equal(await page.textContent('#protocol'), 'h2');
  await done(page, '12-in-front');
  proxy.child.kill();
  await Promise.all([good, bad].map((one) => one.kill()));
  await server.stop();
});

await check('13: the page follows from one process to the next, and misses nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'overwire-13-'));
  const server = await Server.start(0, join(process.env.PROGRAMS, '13-supervisor'), ['--data', folder]);
  const page = await open(server.url);
  await page.fill('#text', MARKUP);
  await page.click('form button');
  await shows(page, 'log', MARKUP, 'in');
  const processes = async () => (await lines(page, 'log')).filter((line) => line.startsWith('process'));
  server.child.kill('SIGHUP');
  await until(async () => (await processes()).length === 2, 'a second process');
  const [first, second] = await processes();
  assert.match(second, /^process \d+, after \d\.\d s$/);
  assert.notEqual(second.split(',')[0], first);
  await server.post('/add-message', { message: 'from the next' });
  await shows(page, 'log', 'from the next', 'in');
  assert.deepEqual(await lines(page, 'log', 'in'), [MARKUP, 'from the next']);
  assert.deepEqual(await lines(page, 'log', 'bad'), []);
  await done(page, '13-replacing');
  await server.stop();
});

console.log(`screenshots are in ${screenshots}`);
finish();
