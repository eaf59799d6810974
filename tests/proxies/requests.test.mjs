// Requests through nginx, haproxy and Caddy, from a client with another address, and what goes wrong
// with the naive configuration of nginx. Run by `apart` in a separate network, which has the address of that client.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { check, finish, until } from '../interop/server.mjs';
import { complaints, launch, log, open, opened, say, shows } from './browser.mjs';
import { pem, start } from './proxies.mjs';

const CLIENT = '10.77.0.1'; // an address of the separate network
const CURL = ['-4', '-sS', '--cacert', pem, '--interface', CLIENT];

const { nginx, haproxy, caddy, announcer, server, announced, named, logIn, hash, stopAll } = await start();
const naive = { command: 'the naive nginx', port: nginx.ports[1] };
const guarded = { command: 'nginx with a log-in', port: nginx.ports[2] };
/** The proxies with fields, and the one with the PROXY protocol. */
const fielded = [nginx, haproxy, caddy];
const good = [...fielded, announcer];

/** Runs curl for a client that is elsewhere. Returns the status and the content. */
async function curl({ port }, path, ...args) {
  const common = [...CURL, '--http2', '--max-time', '20', '-w', '\n%{http_code} %{http_version} %{redirect_url}'];
  const all = [...common, ...args, `https://localhost:${port}${path}`];
  const output = await new Promise((resolve, reject) => {
    execFile('curl', all, (error, stdout, stderr) => (error ? reject(new Error(stderr)) : resolve(stdout)));
  });
  const [, content, status, version, location] = /^([^]*)\n(\d+) (\S+) (.*)$/.exec(output);
  return { content, status: Number(status), version, location };
}

/** The content that a curl has received, which runs until `stop`. */
function follow({ port }, path, ...args) {
  const child = spawn('curl', [...CURL, '-N', ...args, `https://localhost:${port}${path}`]);
  const reader = { content: '', stop: () => child.kill() };
  child.stdout.on('data', (data) => { reader.content += data; });
  return reader;
}

const sending = ({ port }, origin = `https://localhost:${port}`) => ['-H', `Origin: ${origin}`, '-H',
  'Content-Type: application/json', '-d', '{"sender": "ada", "text": "hello", "room": "origins"}'];

/** The rows of `/api/connections`, asked for on the server itself. */
const rows = async (query = '') => (await server.get(`/api/connections?limit=1000${query}`)).connections;

const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

async function post(room, texts) {
  for (const text of texts) {
    await server.post('/api/send', { room, sender: 'node', text });
  }
}

/** The address of the client that has asked for a target, by the log of the server. */
async function addressIn(server, target) {
  const line = () => server.log.split('\n').find((one) => one.includes(` GET ${target} `));
  await until(line, () => `${target} in the log: ${server.log.slice(-500)}`);
  return /GMT (\S+) GET/.exec(line())[1];
}

await check('the log has the address of the client, whatever the client says of itself', async () => {
  const lies = ['X-Forwarded-For: 203.0.113.1', 'X-Forwarded-Proto: http', 'X-Forwarded-Host: other.example',
    'Forwarded: for=203.0.113.1;proto=http;host=other.example'].flatMap((line) => ['-H', line]);
  for (const proxy of good) {
    const target = `/health?port=${proxy.port}`;
    const { status, version, content } = await curl(proxy, target, ...lies);
    assert.deepEqual([status, version], [200, '2'], `${proxy.command}: ${content}`);
    assert.equal(await addressIn(proxy === announcer ? announced : server, target), CLIENT, proxy.command);
  }
});

await check('a page may send to its own server, and a page of another origin may not', async () => {
  for (const proxy of good) {
    const own = await curl(proxy, '/api/send', ...sending(proxy));
    assert.equal(own.status, 200, `${proxy.command}: ${own.content}`);
    for (const origin of ['https://other.example', `http://localhost:${proxy.port}`]) {
      assert.equal((await curl(proxy, '/api/send', ...sending(proxy, origin))).status, 403, proxy.command);
    }
  }
});

await check('`/api/connections` shows the address of a reader, and refuses clients elsewhere', async () => {
  for (const proxy of good) {
    assert.equal((await curl(proxy, '/api/connections')).status, 403, proxy.command);
  }
  for (const proxy of fielded) {
    const room = `room-${proxy.port}`;
    const reader = follow(proxy, `/api/events?room=${room}`);
    await until(async () => (await rows(`&room=${room}`)).length === 1, 'the reader');
    assert.equal((await rows(`&room=${room}`))[0].client, CLIENT, proxy.command);
    reader.stop();
  }
});

await check('behind the PROXY protocol, an event arrives at once', async () => {
  const reader = follow(announcer, '/api/events?room=origins');
  await until(async () => {
    await curl(announcer, '/api/send', ...sending(announcer));
    return reader.content.includes('"text":"hello"');
  }, () => `an event; there is ${reader.content}`);
  reader.stop();
});

await check('each proxy takes a path prefix away', async () => {
  for (const proxy of fielded) {
    for (const path of ['/health', '/chat/health']) {
      assert.match((await curl(proxy, path)).content, /^{"status":/, proxy.command + path);
    }
    const { status, location } = await curl(proxy, '/chat');
    assert.deepEqual([status, location], [301, `https://localhost:${proxy.port}/chat/`], proxy.command);
  }
});

const HANDSHAKE = ['--http1.1', '-H', 'Connection: Upgrade', '-H', 'Upgrade: websocket', '-H', 'Sec-WebSocket-Version: 13',
  '-H', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='];
const LOGGED_IN = ['-H', 'Cookie: user=alice'];

await check('nginx asks who the user is, and overwire believes nginx alone', async () => {
  const lies = ['Remote-User: mallory', 'remote-user: mallory', 'Remote_User: mallory', 'X-Auth-Request-User: mallory']
    .flatMap((line) => ['-H', line]);
  assert.equal((await curl(guarded, '/api/session', ...lies)).status, 401);
  const { status, content } = await curl(guarded, '/api/session', ...lies, ...LOGGED_IN);
  assert.deepEqual([status, JSON.parse(content || '{}').name], [200, 'alice'], content);
  const message = ['-H', `Origin: https://localhost:${guarded.port}`, '-d', '{"text": "hello"}'];
  assert.equal((await curl(guarded, '/api/send', ...LOGGED_IN, ...message)).status, 200);
  const { content: history } = await curl(guarded, '/api/history', ...LOGGED_IN);
  assert.equal(JSON.parse(history).messages[0].sender, 'alice');
  const foreign = ['-H', 'Origin: https://other.example', '-d', '{"text": "hello"}'];
  assert.equal((await curl(guarded, '/api/send', ...LOGGED_IN, ...foreign)).status, 403);
  const { method, headers } = logIn.asked.findLast(({ url }) => url === '/oauth2/auth');
  assert.deepEqual([method, headers['content-length'], headers.cookie], ['GET', undefined, 'user=alice']);
});

await check('nginx asks before a stream and a WebSocket, and leads a page to the log-in', async () => {
  const reader = follow(guarded, '/api/events', ...LOGGED_IN);
  await until(() => reader.content.includes('event: '), () => `an event: ${reader.content}`);
  reader.stop();
  assert.equal((await curl(guarded, '/api/ws', ...HANDSHAKE)).status, 401);
  const socket = follow(guarded, '/api/ws', '-i', ...HANDSHAKE, ...LOGGED_IN);
  await until(() => socket.content.startsWith('HTTP/1.1 101 '), () => `101: ${socket.content}`);
  socket.stop();
  assert.equal(logIn.asked.at(-1).headers.upgrade, undefined, 'the question about a WebSocket is no handshake');
  const page = await curl(guarded, '/?lanes=sse', '-H', 'Sec-Fetch-Mode: navigate');
  assert.deepEqual([page.status, page.location],
    [302, `https://localhost:${guarded.port}/oauth2/start?rd=/?lanes=sse`]);
});

/** The ids of the connections that are open after a request through the proxy. */
async function after(proxy) {
  assert.equal((await curl(proxy, '/health')).status, 200);
  return (await rows()).map(({ id }) => id);
}

await check('nginx and Caddy use a connection to the server again; the naive nginx does not', async () => {
  for (const proxy of [nginx, caddy]) {
    const before = await after(proxy);
    assert.deepEqual((await after(proxy)).filter((id) => !before.includes(id)), [], proxy.command);
  }
  const before = (await rows()).map(({ id }) => id);
  await after(naive);
  const isKept = async () => (await rows()).some(({ id }) => !before.includes(id));
  await until(async () => !await isKept(), 'the connection of the naive nginx to end');
});

await check('naive: a WebSocket is refused, a page may not send, and all clients look like nginx', async () => {
  const refused = await curl(naive, '/api/ws', ...HANDSHAKE);
  assert.equal(refused.status, 400);
  assert.match(refused.content, /expected `Upgrade: websocket`/);
  const unsent = await curl(naive, '/api/send', ...sending(naive));
  assert.equal(unsent.status, 403);
  assert.match(unsent.content, /Origin: .* is foreign/);
  assert.equal((await curl(naive, '/api/connections')).status, 200, 'everybody is an operator');
  await curl(naive, '/health?naive');
  assert.equal(await addressIn(server, '/health?naive'), '127.0.0.1');
});

await check('naive: what nginx buffers arrives late and in a lump, unless the server asks for each byte', async () => {
  const at = (path, id) => follow(naive, `${path}?room=lumps&client_id=${id}`);
  const [prompt, buffered] = [at('/api/events', 'prompt'), at('/buffered/api/events', 'late')];
  await until(async () => (await rows('&room=lumps')).length === 2, 'two readers');
  const texts = numbered('message', 3);
  await post('lumps', texts);
  const hasAll = ({ content }) => texts.every((text) => content.includes(text));
  await until(() => hasAll(prompt), 'the messages, because of X-Accel-Buffering: no');
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(buffered.content, '');
  await server.delete('/api/client/late'); // the stream ends
  await until(() => hasAll(buffered), 'all messages at the end');
  prompt.stop();
});

await check('naive: the page reads, and says what fails', async () => {
  const browser = await launch(hash, '--disable-quic');
  const context = await browser.newContext({ viewport: { width: 1280, height: 500 } });
  const page = await open(context, `https://localhost:${naive.port}/?room=naive&lanes=sse,websocket&start`);
  await opened(page, ['sse']);
  await post('naive', ['hello']);
  await shows(page, ['sse'], ['hello']);
  await say(page, 'sse', 'from the page');
  for (const [lane, problem] of [['websocket', 'closed with 1006'], ['sse', 'Sending failed: 403 Origin: ']]) {
    await until(async () => (await log(page, lane, 'problem')).some((text) => text.includes(problem)),
      async () => `${lane} to say ${problem}; it says ${await log(page, lane, 'problem')}`);
  }
  if (process.env.SCREENSHOTS) {
    await page.screenshot({ path: join(process.env.SCREENSHOTS, 'proxies-naive.png') });
  }
  await browser.close();
});

assert.deepEqual(complaints, []);
await Promise.all([server.stop(), announced.stop(), named.stop(), stopAll()]);
finish();
