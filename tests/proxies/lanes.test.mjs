// The lanes of the page through nginx, haproxy and Caddy, over HTTP/2 and HTTP/3. Run by `apart` in a separate network:
// the WebRTC lane needs an address that is not a loopback address.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { check, finish, until } from '../interop/server.mjs';
import { complaints, launch, log, open, opened, say, shows, stateOf } from './browser.mjs';
import { start } from './proxies.mjs';

const MAILBOXES = ['mailbox-poll', 'mailbox-sse', 'mailbox-websocket'];
const ENDLESS = ['stream', 'sse', 'websocket'];

const { nginx, haproxy, caddy, server, announced, named, hash, startAll, stopAll } = await start();
// The flag makes Chromium use HTTP/3 to Caddy without asking. So the way over HTTP/2 needs another Chromium.
const overTcp = await launch(hash, '--disable-quic');
const overQuic = await launch(hash, '--enable-quic', `--origin-to-force-quic-on=localhost:${caddy.port}`);

/** The ways to the page. Each has its room. */
const ways = [
  { name: 'nginx', proxy: nginx, prefix: '/chat/', protocol: 'h2', browser: overTcp },
  { name: 'haproxy', proxy: haproxy, prefix: '/', protocol: 'h2', browser: overTcp },
  { name: 'caddy', proxy: caddy, prefix: '/', protocol: 'h2', browser: overTcp },
  { name: 'http3', proxy: caddy, prefix: '/chat/', protocol: 'h3', browser: overQuic },
];

/** Starts the lanes that need a second page: a peer for WebRTC, and those of mailboxes. They have no panels. */
const startOthers = (page, { prefix, name }) => page.evaluate(async ([prefix, room]) => {
  const files = { webrtc: 'WebRtc', 'mailbox-poll': 'MailboxPoll', 'mailbox-sse': 'MailboxSse',
    'mailbox-websocket': 'MailboxWebSocket' };
  window.lanes = {};
  for (const [file, name] of Object.entries(files)) {
    const lane = new (await import(`${prefix}lanes/${file}.js`))[name]({ room });
    lane.texts = [];
    lane.problems = [];
    lane.addEventListener('message', ({ detail }) => lane.texts.push(detail.text));
    lane.addEventListener('problem', ({ detail }) => lane.problems.push(detail));
    lane.start();
    window.lanes[file] = lane;
  }
}, [prefix, name]);

const other = (page, lane) => page.evaluate((lane) => {
  const { state, texts, problems } = window.lanes[lane];
  return { state, texts, problems };
}, lane);

/** Sends a text by each mailbox lane of the page, and waits until it comes back. Each had `before` already. */
async function mailboxesBring(page, before, text) {
  for (const lane of MAILBOXES) {
    const state = async () => JSON.stringify(await other(page, lane));
    await until(async () => ['open', 'holding'].includes((await other(page, lane)).state), state);
    await page.evaluate(([lane, text]) => window.lanes[lane].send('ada', text), [lane, text]);
    await until(async () => (await other(page, lane)).texts.includes(text), state);
    assert.deepEqual((await other(page, lane)).texts, [...before, text], lane);
  }
}

/** Sends from the page to its peer without the server, and waits until it is there. */
async function peerBrings({ page, others }, text) {
  await until(async () => await stateOf(page, 'webrtc') === 'open', () => log(page, 'webrtc', 'problem'));
  await say(page, 'webrtc', text);
  await until(async () => (await other(others, 'webrtc')).texts.includes(text), `the peer to have ${text}`);
}

const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

/** Sends texts to the room of a way, without the proxy. */
async function post({ name, texts }, more) {
  for (const text of more) {
    await server.post('/api/send', { room: name, sender: 'node', text });
    texts.push(text);
  }
}

const eachWay = (act) => Promise.all(ways.map(act));

/** The connections of streams and WebSockets that the server holds for a room. They have no reason to change. */
async function endless({ name }) {
  const { connections } = await server.get(`/api/connections?limit=1000&room=${name}`);
  return connections.filter(({ transport }) => ENDLESS.includes(transport))
    .map(({ id, transport }) => ({ id, transport })).sort((a, b) => (a.id < b.id ? -1 : 1));
}

await check('every lane of the page opens over https, at / and below a prefix', () => eachWay(async (way) => {
  const base = `https://localhost:${way.proxy.port}${way.prefix}`;
  const context = await way.browser.newContext({ viewport: { width: 1280, height: 800 } });
  way.protocols = new Map();
  way.page = await open(context, `${base}?room=${way.name}&start`, way.protocols);
  way.others = await open(context, `${base}health`, way.protocols);
  await startOthers(way.others, way);
  way.all = await way.page.locator('.panel').evaluateAll((panels) => panels.map(({ dataset }) => dataset.lane));
  way.lanes = way.all.filter((lane) => lane !== 'webrtc');
  await opened(way.page, way.all);
}));

await check('each lane receives each message once and in order, on connections that are held', () => (
  eachWay(async (way) => {
    const before = await endless(way);
    way.texts = [];
    for (const lane of way.lanes) {
      await say(way.page, lane, `by ${lane}`);
      way.texts.push(`by ${lane}`);
      await shows(way.page, ['websocket'], way.texts);
    }
    await post(way, numbered('message', 20));
    await shows(way.page, way.lanes, way.texts);
    await mailboxesBring(way.others, [], 'first');
    await peerBrings(way, 'first');
    assert.deepEqual(await endless(way), before, 'the same connections');
    assert.deepEqual([...new Set(before.map(({ transport }) => transport))].sort(), [...ENDLESS].sort());
  })));

/** Asserts that all answers came by the protocol. */
async function usesProtocol({ page, prefix, protocol, protocols }) {
  const hops = await page.evaluate(() => performance.getEntries().map(({ nextHopProtocol }) => nextHopProtocol));
  assert.deepEqual([...new Set(hops.filter(Boolean))], [protocol]); // what comes from a cache has none
  for (const path of ['api/poll', 'api/stream', 'api/events', 'api/send', 'sse', 'poll']) {
    assert.equal(protocols.get(prefix + path), protocol, path);
  }
}

await check('every answer came by HTTP/2, or by HTTP/3', () => eachWay(usesProtocol));

await check('after a restart of the proxy, each lane reconnects and misses nothing', async () => {
  await stopAll();
  await eachWay(async (way) => {
    way.protocols.clear();
    await post(way, numbered('meanwhile', 5));
  });
  await startAll();
  await eachWay(async (way) => {
    await opened(way.page, way.all);
    await post(way, ['afterwards']);
    await shows(way.page, way.lanes, way.texts);
    await say(way.page, 'sse', 'by the page');
    way.texts.push('by the page');
    await shows(way.page, way.lanes, way.texts);
    await mailboxesBring(way.others, ['first'], 'second');
    await peerBrings(way, 'second');
    await usesProtocol(way);
  });
});

if (process.env.SCREENSHOTS) {
  await eachWay(({ page, name }) => page.screenshot({ path: join(process.env.SCREENSHOTS, `proxies-${name}.png`) }));
}
assert.deepEqual(complaints, []);
await Promise.all([overTcp.close(), overQuic.close(), server.stop(), announced.stop(), named.stop(), stopAll()]);
finish();
