// What WebKit does differently: it collects what only a signal refers to, and this build of it has no WebRTC.

import assert from 'node:assert/strict';
import { Server, check, finish } from '../interop/server.mjs';
import { Cable } from './cable.mjs';
import { Keys } from './keys.mjs';
import { WebKit } from './webkit.mjs';

const LANES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket'];

const server = await Server.tapped();
const cable = await Cable.plug(server.port);
const webkit = await WebKit.start();

/** The texts that each lane shows. */
const shown = () => Object.fromEntries([...document.querySelectorAll('[data-lane]')].map((lane) => [lane.dataset.lane,
  [...lane.querySelectorAll('[data-kind=message] span')].map(({ textContent }) => textContent)]));
const allOpen = () => document.querySelectorAll('[data-state=open], [data-state=holding]').length === 5;

const expected = [];
async function say(text) {
  expected.push(text);
  await server.post('/api/send', { room: 'tea', sender: 'node', text });
}

async function everyLaneShowsAll() {
  await webkit.until(allOpen, 'the lanes');
  for (const lane of LANES) {
    await webkit.until(`() => document.querySelector('[data-lane=${lane}]').textContent.includes('${expected.at(-1)}')`,
      `${lane} to show ${expected.at(-1)}`);
  }
  const now = await webkit.evaluate(shown);
  LANES.forEach((lane) => assert.deepEqual(now[lane], expected, lane));
}

await check('every lane is open, and shows each message once', async () => {
  await webkit.go(`${cable.url}/?room=tea&lanes=${LANES}&start`);
  await webkit.until(allOpen, 'the lanes');
  await say('one');
  await say('two');
  await everyLaneShowsAll();
});

await check('lanes that are cut come back, without loss and without repetition', async () => {
  cable.cut();
  await say('three');
  await everyLaneShowsAll();
});

await check('the watch on silence outlives a collection of garbage', async () => {
  cable.silence();
  await say('four');
  await webkit.evaluate(() => {
    for (let round = 0; round < 400; round += 1) { // enough for several collections
      Array.from({ length: 100_000 }, (_, at) => ({ at }));
    }
  });
  await everyLaneShowsAll();
  assert.deepEqual(await webkit.complaints(), []);
});

await check('nothing is wider than the window', async () => {
  for (const width of [1024, 800]) {
    await webkit.resize(width, 768);
    await webkit.until(`() => innerWidth <= ${width}`, `a window of ${width} pixels`);
    const { page, window } = await webkit.evaluate(() => ({
      page: document.documentElement.scrollWidth, window: document.documentElement.clientWidth,
    }));
    assert.ok(page <= window, `${page} of ${window} pixels`);
  }
  await webkit.resize(1280, 900);
});

await check('the bytes of each lane are shown, and a frame opens into its bits', async () => {
  await webkit.go(`${server.tapUrl}/?room=bytes&lanes=${LANES}&start`);
  await webkit.until(allOpen, 'the lanes');
  await server.post('/api/send', { room: 'bytes', sender: 'node', text: 'seen' });
  for (const lane of ['HTTP streaming', 'Server-sent events', 'WebSocket']) {
    await webkit.until(`() => [...document.querySelectorAll('.wire-row')].some(({ textContent }) => (
      textContent.includes('${lane}') && textContent.includes('"text":"seen"')))`, `the bytes of ${lane}`);
  }
  await webkit.evaluate(() => [...document.querySelectorAll('.wire-bits')].at(-1).click());
  await webkit.until(() => document.querySelector('.frame-bits')?.textContent.includes('FIN'), 'the bits');
  assert.deepEqual(await webkit.complaints(), []);
});

await check('a browser without WebRTC says so in words', async () => {
  await webkit.go(`${server.url}/?room=tea&lanes=webrtc,websocket&start`);
  await webkit.until(() => 'RTCPeerConnection' in window
    || document.querySelector('[data-lane=webrtc]')?.textContent.includes('This browser has no WebRTC.'), 'the sentence');
  await webkit.until(() => document.querySelector('[data-lane=websocket]').dataset.state === 'open', 'the other lane');
  assert.deepEqual(await webkit.complaints(), []);
});

await check('overwire.js receives what it sends, on each transport', async () => {
  await webkit.go(`${server.url}/health`);
  for (const transport of ['websocket', 'sse', 'stream', 'long-poll', 'short-poll']) {
    const received = await webkit.evaluate(async (transport) => {
      const { connect } = await import('/overwire.js');
      const client = connect('/', { room: transport, sender: 'ada', transports: [transport] });
      const came = new Promise((resolve) => { client.addEventListener('message', ({ detail }) => resolve(detail.text)); });
      await client.send(`by ${transport}`);
      const text = await came;
      client.close();
      return text;
    }, transport);
    assert.equal(received, `by ${transport}`);
  }
  assert.deepEqual(await webkit.complaints(), []);
});

await check('the form logs in, and a log-out stops the lanes', async () => {
  const keys = new Keys();
  const key = keys.add('ada', '--rights', 'read,send');
  const guarded = await Server.start(0, process.env.OVERWIRE, ['--no-tap', '--keys', keys.path]);
  await webkit.go(`${guarded.url}/?lanes=stream,sse,websocket&start`);
  await webkit.until(() => document.querySelector('#log-in')?.checkVisibility(), 'the form');
  await webkit.evaluate((key) => {
    document.querySelector('#key').value = key;
    document.querySelector('#log-in').requestSubmit();
  }, key);
  await webkit.until(() => document.querySelectorAll('[data-state=open]').length === 3, 'the lanes');
  await webkit.evaluate(() => document.querySelector('#log-out').click());
  await webkit.until(() => [...document.querySelectorAll('[data-part=state]')].every(({ textContent }) => (
    textContent === 'session over')), 'the end of the lanes');
  await guarded.stop();
  keys.remove();
});

await webkit.close();
cable.unplug();
await server.stop();
finish();
