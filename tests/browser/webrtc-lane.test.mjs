// The WebRTC lane in several pages: each hears every other over data channels, with the server or without it. Run by
// `apart`, in a separate network, because a data channel needs an address that is not a loopback address.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';
import * as lanes from './lane-page.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-features=WebRtcHideLocalIpsWithMdns'];
const KEPT = 200; // messages that a peer keeps for the others

const options = ['--chaos'];
let server = await Server.tapped({ options });
const { port, tapPort } = server;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const complaints = []; // the errors that the pages threw

/** A page without scripts, with a running lane and its reports. */
async function open(room = 'general', script = () => {}, silence = 20_000) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.stack));
  await page.addInitScript(() => {
    window.connections = []; // every RTCPeerConnection, with its data channels
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...args) {
        super(...args);
        this.channels = [];
        this.addEventListener('datachannel', ({ channel }) => this.channels.push(channel));
        window.connections.push(this);
      }

      createDataChannel(...args) {
        const channel = super.createDataChannel(...args);
        this.channels.push(channel);
        return channel;
      }
    };
  });
  await page.addInitScript(script);
  await page.goto(`${server.url}/health`);
  await page.evaluate(async ([room, silence]) => {
    const { WebRtc } = await import('/lanes/webrtc.js');
    (await import('/lanes/lane.js')).Lane.SILENCE = silence;
    window.lane = new WebRtc({ room, tap: 'f00.webrtc' });
    window.said = { message: [], state: [], id: [], wire: [], notice: [], problem: [] };
    for (const [kind, list] of Object.entries(window.said)) {
      window.lane.addEventListener(kind, ({ detail }) => list.push(detail));
    }
    window.lane.start();
  }, [room, silence]);
  return page;
}

const said = (page, kind) => page.evaluate((kind) => window.said[kind], kind);
const reconnections = async (page) => (await said(page, 'wire')).filter(({ what }) => what === 'reconnection').length;
const texts = async (page) => (await said(page, 'message')).map(({ text }) => text);
const state = async (page) => (await said(page, 'state')).at(-1)?.text;
const stop = (page) => page.evaluate(() => window.lane.stop());
const start = (page) => page.evaluate(() => { window.lane.start(); });
const close = (...pages) => Promise.all(pages.map((page) => page.context().close()));
const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

/** Sends, and returns the texts. */
const sendAll = (page, all) => page.evaluate(async (all) => {
  for (const text of all) {
    await window.lane.send('ada', text);
  }
  return all;
}, all);

async function inState(page, wanted) {
  await until(async () => wanted.test(await state(page)),
    async () => `${wanted}; it is ${await state(page)}: ${JSON.stringify(await page.evaluate(() => window.said))}`);
}

/** Waits until all pages have this number of channels. */
async function met(...pages) {
  for (const page of pages) {
    await inState(page, new RegExp(`^open to ${pages.length - 1} `));
  }
}

/** Waits for the last of `wanted` on each page, and asserts that the page received each text once. */
async function received(pages, wanted) {
  for (const page of pages) {
    await until(async () => (await texts(page)).length >= wanted.length,
      async () => `${wanted.length} messages; there are ${(await texts(page)).length}: ${await said(page, 'problem')}`);
    assert.deepEqual((await texts(page)).sort(), [...wanted].sort());
  }
}

/** Asserts that the messages of one sender came in the order in which they were sent. */
async function inOrder(page, word, count) {
  assert.deepEqual((await texts(page)).filter((text) => text.startsWith(word)), numbered(word, count));
}

await check('alone, it waits for a peer; with one it is open, with two both are heard', async () => {
  const a = await open();
  await inState(a, /^waiting for a peer$/);
  assert.equal((await said(a, 'state')).at(-1).state, 'holding');
  const b = await open();
  await met(a, b);
  const c = await open();
  await met(a, b, c);
  const all = [];
  for (const page of [a, b, c]) {
    const me = await page.evaluate(() => window.lane.id);
    const id = await page.evaluate((me) => window.lane.send('ada', `from ${me}`, `id of ${me}`), me);
    assert.equal(id, `id of ${me}`);
    all.push(`from ${me}`);
  }
  await received([a, b, c], all);
  for (const page of [a, b, c]) {
    assert.ok((await said(page, 'message')).every(({ id, sender, text, timestamp, room }) => (
      sender === 'ada' && id === text.replace('from', 'id of') && Number.isFinite(timestamp) && room === 'general')));
    assert.deepEqual(await said(page, 'id'), [await page.evaluate(() => window.lane.id)]);
  }
  const exchanged = (await said(a, 'wire')).filter(({ text }) => text.startsWith('{"type":"message"'));
  assert.deepEqual(exchanged.map(({ what }) => what).sort(), ['received', 'received', 'sent', 'sent']);
  await close(b);
  await met(a, c);
  await close(c);
  await inState(a, /^waiting for a peer/);
  await close(a);
});

await check('a new peer gets the earlier messages', async () => {
  const a = await open();
  const all = await sendAll(a, numbered('a', KEPT + 10));
  const b = await open();
  await received([b], all.slice(-KEPT));
  assert.deepEqual(await said(b, 'notice'), []);
  await close(a, b);
});

await check('a channel that is lost during a flood loses nothing and repeats nothing', async () => {
  const a = await open();
  const b = await open();
  await met(a, b);
  const flood = (page, word) => page.evaluate(async (word) => {
    for (let count = 0; count < 150; count += 1) {
      await window.lane.send(word, `${word} ${count}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }, word);
  const lose = (page, how) => page.evaluate((how) => {
    const connection = window.connections.at(-1);
    (how === 'channel' ? connection.channels[0] : connection).close();
  }, how);
  const losses = async () => {
    for (const [page, how] of [[a, 'channel'], [b, 'channel'], [a, 'connection'], [b, 'connection']]) {
      const before = Math.max(await reconnections(a), await reconnections(b));
      await lose(page, how);
      for (const one of [a, b]) {
        // At once; or after half a minute, when ICE gives the connection up because its last packet was lost.
        await until(async () => (await reconnections(one)) > before,
          async () => `another channel after ${how}; ${await state(one)}: ${await said(one, 'problem')}`);
      }
    }
  };
  await Promise.all([flood(a, 'a'), flood(b, 'b'), losses()]);
  await received([a, b], [...numbered('a', 150), ...numbered('b', 150)]);
  for (const page of [a, b]) {
    await inOrder(page, 'a', 150);
    await inOrder(page, 'b', 150);
    assert.deepEqual(await said(page, 'notice'), []);
    assert.ok((await reconnections(page)) >= 4);
  }
  await close(a, b);
});

await check('a restarted lane resumes, and is notified if messages are gone', async () => {
  const a = await open();
  const b = await open();
  await met(a, b);
  const all = await sendAll(a, numbered('first', 3));
  await received([b], all);
  await stop(b);
  assert.equal(await state(b), 'stopped');
  await inState(a, /^waiting for a peer/);
  all.push(...await sendAll(a, numbered('while b was away', 5)));
  await start(b);
  await received([a, b], all);
  assert.deepEqual(await said(b, 'notice'), []);
  await stop(b);
  const many = await sendAll(a, numbered('many', KEPT + 1));
  await start(b);
  await received([b], [...all, ...many.slice(1)]);
  assert.equal((await said(b, 'notice')).length, 1);
  assert.deepEqual(await said(a, 'notice'), []);
  await close(a, b);
});

await check('channels stay while the server is away, and are replaced when it is back', async () => {
  const a = await open();
  const b = await open();
  await met(a, b);
  await server.kill();
  for (const page of [a, b]) {
    const noticed = async () => (await said(page, 'problem')).some((text) => text.includes('signalling closed'));
    await until(noticed, 'the loss of the server');
  }
  const all = [...await sendAll(a, ['without', 'a server']), ...await sendAll(b, ['from', 'b'])];
  await received([a, b], all);
  assert.deepEqual([await state(a), await state(b)], ['open to 1 peer', 'open to 1 peer']);
  server = await Server.tapped({ port, tapPort, options });
  for (const page of [a, b]) {
    await until(async () => (await said(page, 'id')).length === 2, 'the next welcome');
  }
  const connections = () => Promise.all([a, b].map((page) => (
    page.evaluate(() => window.connections.map(({ connectionState }) => connectionState)))));
  const renewed = (states) => /^(closed,)+connected$/.test(states.join());
  await until(async () => (await connections()).every(renewed),
    async () => `one new connection, and the end of the old one: ${await connections()}; ${JSON.stringify([
      await said(a, 'problem'), await said(b, 'problem')])}`);
  await met(a, b);
  all.push(...await sendAll(a, ['with', 'another server']));
  await received([a, b], all);
  await close(a, b);
});

await check('an offer without an answer is repeated', async () => {
  const a = await open();
  await inState(a, /^waiting for a peer/);
  const b = await open('general', () => {
    window.WebSocket = class extends WebSocket {
      send(data) {
        if (window.lost || JSON.parse(data).type !== 'offer') {
          super.send(data);
        } else {
          window.lost = true;
        }
      }
    };
  }, 1_000);
  await met(a, b);
  const problems = await said(b, 'problem'); // on a slow machine, a second is short for the next attempt too
  assert.deepEqual([...new Set(problems)], ['nothing came for 1 s'], `${problems.length} problems`);
  await close(a, b);
});

await check('rooms are separate, and an invalid message is a problem', async () => {
  const [a, b, other] = [await open('one'), await open('one'), await open('other')];
  await met(a, b);
  await inState(other, /^waiting for a peer/);
  const garbage = ['{', '[]', 'null', '{"type":"constructor"}', '{"type":"hello","log":1,"have":{}}',
    '{"type":"message"}'];
  await b.evaluate((garbage) => garbage.forEach((text) => window.connections[0].channels[0].send(text)), garbage);
  await until(async () => (await said(a, 'problem')).length === garbage.length, 'problems');
  await received([a, b], await sendAll(b, ['good']));
  assert.deepEqual(await texts(other), []);
  await close(a, b, other);
});

/** A peer without a lane: `window.links` are its links to all peers, `window.heard` their messages. */
async function stranger(room) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${server.url}/health`);
  await page.evaluate(async (room) => {
    const { Link } = await import('/lanes/link.js');
    Object.assign(window, { links: [], heard: [] });
    const socket = new WebSocket(`ws://${location.host}/api/signal?room=${room}`);
    window.meet = async (peer) => {
      const link = new Link(peer, (message) => socket.send(JSON.stringify(message)), { limit: 20_000 });
      window.links.push(link);
      link.addEventListener('text', ({ detail }) => window.heard.push(JSON.parse(detail)));
      const opened = new Promise((resolve) => { link.addEventListener('open', () => resolve(link)); });
      await link.offer();
      return opened;
    };
    window.peers = await new Promise((resolve) => {
      socket.addEventListener('message', ({ data }) => {
        const { type, from, peers, sdp, candidate } = JSON.parse(data);
        const link = window.links.findLast(({ peer }) => peer === from);
        type === 'welcome' ? resolve(peers) : type === 'answer' ? link.answered(sdp)
          : type === 'candidate' && link.addCandidate(candidate);
      });
    });
    for (const peer of window.peers) {
      await window.meet(peer);
    }
  }, room);
  return page;
}

await check('a peer that claims the logs of others does not separate them', async () => {
  const [a, b] = [await open('claimed'), await open('claimed')];
  await met(a, b);
  const c = await stranger('claimed');
  const hellos = () => c.evaluate(() => window.heard.filter(({ type }) => type === 'hello').map(({ log }) => log));
  await until(async () => (await hellos()).length === 2, 'both to introduce themselves');
  await c.evaluate(() => {
    const logs = window.heard.map(({ log }) => log).reverse(); // to each peer the log of the other
    window.links.forEach((link) => logs.forEach((log) => link.say(JSON.stringify({ type: 'hello', log, have: {} }))));
  });
  for (const page of [a, b]) {
    await until(async () => (await said(page, 'problem')).includes('a peer introduced itself twice'), 'the second hello');
  }
  await c.context().close();
  const all = [...await sendAll(a, numbered('a', 3)), ...await sendAll(b, numbered('b', 3))];
  await received([a, b], all);
  await close(a, b);
});

await check('a peer that introduces itself repeatedly is answered once, and its links are bounded', async () => {
  const a = await open('again');
  await inState(a, /^waiting for a peer/);
  await sendAll(a, numbered('a', 20));
  const c = await stranger('again');
  await c.evaluate(() => {
    for (let count = 0; count < 50; count += 1) {
      window.links[0].say(JSON.stringify({ type: 'hello', log: `log ${count}`, have: {} }));
    }
  });
  await until(async () => (await said(a, 'problem')).length === 49, 'the refusals');
  await sendAll(a, ['last']);
  await until(() => c.evaluate(() => window.heard.at(-1)?.text === 'last'), 'the last one');
  assert.deepEqual(await c.evaluate(() => window.heard.map(({ type, text }) => text ?? type)),
    ['hello', ...numbered('a', 20), 'last']);
  await c.evaluate(async () => {
    for (let count = 0; count < 31; count += 1) {
      const link = await window.meet(window.peers[0]);
      // Wait for its answer to the introduction: the next offer takes another way, and would overtake it.
      const met = new Promise((resolve) => {
        link.addEventListener('text', ({ detail }) => JSON.parse(detail).text === 'last' && resolve());
      });
      link.say(JSON.stringify({ type: 'hello', log: `link ${count}`, have: {} }));
      await met;
    }
    window.meet(window.peers[0]);
  });
  await inState(a, /^open to 32 peers$/);
  await until(async () => (await said(a, 'problem')).at(-1) === 'there are too many peers', 'the last refusal');
  await close(a, c);
});

await check('a message that is too long for a channel is an error', async () => {
  const [a, b] = [await open(), await open()];
  await met(a, b);
  const send = (length) => a.evaluate((length) => (
    window.lane.send('ada', '\u{1}'.repeat(length)).then(() => 'sent', ({ message }) => message)), length);
  assert.equal(await send(65_536), 'too long for a message over a data channel');
  assert.equal(await send(40_000), 'sent');
  await received([a, b], ['\u{1}'.repeat(40_000)]);
  await stop(a);
  assert.equal(await send(1), 'the lane is stopped');
  await close(a, b);
});

await check('faults on the way to the server lose and repeat no message of the peers', async () => {
  const room = 'chaos';
  const peers = [];
  for (const name of ['a', 'b']) {
    const page = await lanes.blank(browser, server.tapUrl);
    const tap = await lanes.tapped(page);
    await lanes.started(page, ['webrtc'], { room, tap: `${tap}.webrtc` });
    peers.push({ name, page });
  }
  const openTo = ({ page }) => until(async () => (await lanes.said(page, 'webrtc', 'state')).at(-1).text === 'open to 1 peer',
    async () => `a channel: ${JSON.stringify(await lanes.get(page, 'webrtc', 'said'))}`);
  await Promise.all(peers.map(openTo));
  const all = [];
  const faults = [['drop'], ['cut'], ['half-open'], ['delay', 500], ['drop'], ['delay', 0], ['slow', 500], ['drop'], ['slow', 0],
    ['buffer', 4096], ['drop'], ['buffer', 0], ['502', 1], ['drop'], ['502', 0], ['forget'], ['drop']];
  for (const [at, [what, value]] of faults.entries()) {
    for (const { name, page } of peers) {
      if (what === 'forget') {
        await server.post('/api/forget');
      } else {
        await lanes.fault(page, 'webrtc', what, value);
      }
      for (const text of numbered(`${name} ${at} ${what}`, 3)) {
        assert.equal((await lanes.send(page, 'webrtc', name, text)).error, undefined);
        all.push(text);
      }
    }
  }
  for (const peer of peers) {
    await until(async () => (await lanes.texts(peer.page, 'webrtc')).length >= all.length,
      async () => `${all.length} messages; there are ${(await lanes.texts(peer.page, 'webrtc')).length}`);
    await openTo(peer);
    const texts = await lanes.texts(peer.page, 'webrtc');
    for (const { name } of peers) {
      const of = (list) => list.filter((text) => text.startsWith(`${name} `));
      assert.deepEqual(of(texts), of(all), `what ${name} said, at ${peer.name}`);
    }
    assert.deepEqual(await lanes.said(peer.page, 'webrtc', 'notice'), []);
  }
  assert.deepEqual(lanes.complaints, []);
  await close(...peers.map(({ page }) => page));
});

await check('no page has thrown an error', () => assert.deepEqual(complaints, []));

await browser.close();
await server.stop();
finish();
