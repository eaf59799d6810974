// Three servers with one Redis, behind haproxy, which sends each request to the next one. The page runs all lanes, and
// a server is killed under it: the lanes reconnect to the others, and each message comes once and in order.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';

const LANES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket'];
const COUNT = 60;

const folder = mkdtempSync(join(tmpdir(), 'overwire-nodes-'));
const screenshots = process.env.SCREENSHOTS ?? folder;
process.once('exit', () => screenshots === folder || rmSync(folder, { recursive: true }));

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => { server.once('listening', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

/** Starts a program, and waits until it listens. It is killed at the end. */
async function listening(port, program, args) {
  const child = spawn(program, args, { stdio: 'ignore' });
  process.once('exit', () => child.kill('SIGKILL'));
  child.once('error', (error) => { throw error; });
  await until(() => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).once('error', () => resolve(false));
    socket.unref();
  }), `${program} to listen`);
}

const redis = await freePort();
await listening(redis, 'redis-server', ['--port', redis, '--bind', '127.0.0.1', '--save', '', '--dir', folder].map(String));
const nodes = [];
for (let at = 0; at < 3; at += 1) {
  nodes.push(await Server.start(0, undefined, ['--no-tap', '--redis', `redis://127.0.0.1:${redis}`]));
}
const balancer = await freePort();
writeFileSync(join(folder, 'haproxy.cfg'), `
defaults
  mode http
  option redispatch
  retries 2
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
frontend all
  bind 127.0.0.1:${balancer}
  default_backend nodes
backend nodes
  balance roundrobin
  option httpchk GET /health/ready
${nodes.map(({ port }, at) => `  server node${at} 127.0.0.1:${port} check inter 100ms fall 1 rise 1`).join('\n')}
`);
await listening(balancer, 'haproxy', ['-q', '-db', '-f', join(folder, 'haproxy.cfg')]);
const url = `http://localhost:${balancer}`;
await until(async () => (await fetch(`${url}/health/ready`)).ok, 'the servers to reach Redis');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } });
const panel = (lane) => page.locator(`[data-lane="${lane}"]`);
const log = (lane, kind = 'message') => panel(lane).locator(`[data-kind="${kind}"] span`).allTextContents();

/** Sends a message through the balancer. A server that is killed gives no answer: the key makes a retry safe. */
async function send(text) {
  const body = JSON.stringify({ sender: 'node', text, key: text });
  await until(async () => (await fetch(`${url}/api/send`, { method: 'POST', body }).catch(() => ({}))).ok,
    `${text} to be sent`);
}

await check('every lane opens through the balancer', async () => {
  await page.goto(url);
  for (const lane of LANES) await panel(lane).locator('[data-action="start"]').click();
  for (const lane of LANES) {
    await until(async () => ['open', 'holding'].includes(await panel(lane).getAttribute('data-state')),
      `${lane} to open`);
  }
});

const texts = Array.from({ length: COUNT }, (_, at) => `message ${at}`);

await check('a server is killed, and each lane shows each message once and in order', async () => {
  // The server of the WebSocket, so that at least one lane must reconnect.
  const stats = await Promise.all(nodes.map((node) => node.get('/api/connections?transport=websocket')));
  const victim = nodes[stats.findIndex(({ connections }) => connections.length > 0)];
  for (const [at, text] of texts.entries()) {
    if (at === COUNT / 3) await victim.kill();
    await send(text);
  }
  for (const lane of LANES) {
    await until(async () => (await log(lane)).includes(texts.at(-1)),
      async () => `${lane} to show the last message; it shows ${(await log(lane)).slice(-3)}`);
    assert.deepEqual((await log(lane)).filter((text) => text.startsWith('message ')), texts, lane);
  }
});

await check('the WebSocket tells that its connection was lost, and no lane that messages are missing', async () => {
  assert.notDeepEqual(await log('websocket', 'problem'), []);
  for (const lane of LANES) assert.deepEqual(await log(lane, 'notice'), [], lane);
  await page.screenshot({ path: join(screenshots, 'nodes.png'), fullPage: true });
});

await browser.close();
finish();
