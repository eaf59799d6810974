// Every fault on every lane, in a browser, through the tap. The messages that a lane received are compared with the
// messages that were sent. A lane may be late, and may have to reconnect, but it loses nothing and repeats nothing.
// Only when the server has forgotten everything, the lane says that messages are missing.

import assert from 'node:assert/strict';
import { Server, check, finish, until } from '../interop/server.mjs';
import { blank, complaints, fault, get, launch, limits, numbered, received, reported, running, said, send, started,
  strikesOf, tapped, texts, wire } from './lane-page.mjs';

const NAMES = ['short-poll', 'long-poll', 'stream', 'sse', 'websocket'];
const STREAMS = ['stream', 'sse', 'websocket'];

const server = await Server.tapped({ options: ['--chaos'] });
const browser = await launch();
let rooms = 0;

/** A page with a tap, and with lanes in a room of their own. `all` are the texts sent so far. */
async function scene() {
  const page = await blank(browser, server.tapUrl);
  const tap = await tapped(page);
  const room = `room ${rooms += 1}`;
  for (const name of NAMES) {
    await started(page, [name], { room, tap: `${tap}.${name}` });
  }
  const all = [];
  const post = async (texts) => {
    for (const text of texts) {
      await server.post('/api/send', { room, sender: 'node', text });
      all.push(text);
    }
  };
  await post(['before']);
  await received(page, NAMES, all);
  const everywhere = async (what, value) => {
    for (const name of NAMES) {
      await fault(page, name, what, value);
    }
  };
  return { page, post, all, everywhere, close: () => page.context().close() };
}

/** Asserts that no message is missing, and that no lane says so. */
async function whole({ page, all }) {
  await received(page, NAMES, all);
  for (const name of NAMES) {
    await running(page, name);
    assert.deepEqual(await said(page, name, 'notice'), [], name);
  }
}

/** Strikes each lane, and publishes before, during and after the strike. */
async function strike(what) {
  const scenery = await scene();
  const { page, post } = scenery;
  for (const name of NAMES) {
    await post([`${name} is well`]);
    await fault(page, name, what);
    await post(numbered(`${name} is struck`, 5));
    await until(async () => (await strikesOf(page, name)) > 0, `${what} to strike ${name}`);
  }
  await post(numbered('afterwards', 3));
  return scenery;
}

for (const what of ['drop', 'cut']) {
  await check(`${what}: each lane reconnects and resumes`, async () => {
    const scenery = await strike(what);
    await whole(scenery);
    for (const name of STREAMS) {
      assert.ok((await wire(scenery.page, name, 'reconnection')).length > 0, name);
    }
    await scenery.close();
  });
}

await check('half-open: each lane gives the silent connection up', async () => {
  const scenery = await scene();
  const { page, post, everywhere } = scenery;
  // The limits are 10 to 30 s. Shorter ones hold for the next requests.
  await limits(page, { SILENCE: 3_000, ANSWER: 2_000 });
  await limits(page, { file: 'long-poll', name: 'LongPoll', SILENCE: 3_000 });
  await limits(page, { file: 'websocket', name: 'WebSocketLane', HEARTBEAT: 1_500 });
  await everywhere('drop');
  await post(numbered('by short limits', 2));
  await whole(scenery);
  const before = {};
  for (const name of NAMES) {
    before[name] = (await said(page, name, 'problem')).length;
  }
  await everywhere('half-open');
  await post(numbered('into the silence', 5));
  for (const name of NAMES) {
    await until(async () => (await said(page, name, 'problem')).slice(before[name])
      .some((problem) => /^nothing came for/.test(problem)), async () => `${name} to notice: ${await said(page, name, 'problem')}`);
  }
  await post(['afterwards']);
  await whole(scenery);
  await scenery.close();
});

await check('delay: everything arrives in order, later', async () => {
  const scenery = await scene();
  const { page, post, everywhere } = scenery;
  await everywhere('delay', 700);
  const began = Date.now();
  await post(numbered('delayed', 5));
  await whole(scenery);
  assert.ok(Date.now() - began >= 700, 'no lane had all of it before the delay was over');
  await everywhere('delay', 0);
  await post(numbered('prompt', 5));
  await whole(scenery);
  for (const name of NAMES) {
    assert.deepEqual(await said(page, name, 'problem'), [], name);
  }
  await scenery.close();
});

await check('buffer: polls pass a buffering proxy, streams wait until its buffer is full', async () => {
  const scenery = await scene();
  const { page, post, all, everywhere } = scenery;
  await everywhere('buffer', 4096);
  await post(numbered('few', 3));
  await received(page, ['short-poll', 'long-poll'], all);
  for (const name of STREAMS) {
    assert.deepEqual((await said(page, name, 'message')).map(({ text }) => text), ['before'], name);
  }
  await post(numbered('many', 40));
  for (const name of STREAMS) {
    await reported(page, name, 'message', /^many/);
  }
  await everywhere('buffer', 0);
  await whole(scenery);
  await scenery.close();
});

await check('slow: a slow reader gets everything', async () => {
  const scenery = await scene();
  const { post, everywhere } = scenery;
  await everywhere('slow', 2000);
  await post(numbered('slowly', 20));
  await whole(scenery);
  await everywhere('slow', 0);
  await post(['fast']);
  await whole(scenery);
  await scenery.close();
});

await check('slow: a reader with too many queued bytes is cut off, and resumes or is notified', async () => {
  const scenery = await scene();
  const { page, post, all } = scenery;
  await fault(page, 'stream', 'slow', 1);
  const others = ['websocket', 'sse', 'long-poll'];
  const large = numbered('x'.repeat(50_000), 500); // more than may be queued anywhere, and more than the room retains
  while ((await server.get('/api/stats')).transports.stream.open > 0) {
    assert.ok(large.length > 0, 'the stream is not cut off');
    await post(large.splice(0, 10)); // fewer than the room retains, so the other lanes miss none
    await page.waitForFunction(([names, count]) => (
      names.every((name) => window.lanes[name].said.message.length >= count)), [others, all.length]);
  }
  await fault(page, 'stream', 'slow', 0);
  await post(['afterwards']);
  await reported(page, 'stream', 'message', /^afterwards$/);
  const ids = (await said(page, 'stream', 'message')).map(({ text }) => all.indexOf(text));
  assert.ok(ids.every((id, at) => at === 0 || id > ids[at - 1]), `in order, none twice: ${ids}`);
  const isWhole = ids.length === all.length;
  assert.equal((await said(page, 'stream', 'notice')).length, isWhole ? 0 : 1, 'a hole is told of');
  await received(page, others, all);
  await scenery.close();
});

await check('502: an answer of a proxy is a problem, not a message', async () => {
  const scenery = await scene();
  const { page, post, everywhere } = scenery;
  await everywhere('502', 1);
  await everywhere('drop');
  await post(numbered('behind the proxy', 5));
  for (const name of ['short-poll', 'long-poll', 'stream']) {
    await reported(page, name, 'problem', /^502 Bad Gateway$/);
  }
  for (const name of NAMES) {
    await until(async () => (await get(page, name, 'state')) === 'waiting', `${name} to wait`);
  }
  await everywhere('502', 0);
  await post(['afterwards']);
  await whole(scenery);
  await scenery.close();
});

await check('restart: each lane says once that messages are missing, and resumes', async () => {
  const scenery = await scene();
  const { page, post, all } = scenery;
  assert.deepEqual(await server.post('/api/forget'), { status: 'forgotten' });
  await post(numbered('after the restart', 5));
  await received(page, NAMES, all);
  for (const name of NAMES) {
    await running(page, name);
    assert.equal((await said(page, name, 'notice')).length, 1, `${name} tells of the hole`);
  }
  assert.ok(await page.evaluate(() => window.tap.open), 'the tap outlives it');
  await scenery.close();
});

await check('a message sent during a strike arrives once, or is an error', async () => {
  const scenery = await scene();
  const { page, post, all } = scenery;
  const seenBy = async (text) => (await said(page, 'short-poll', 'message')).filter((one) => one.text === text).length;
  for (const name of NAMES) {
    for (const what of ['cut', 'drop']) {
      const text = `${name} sends into a ${what}`;
      const sending = send(page, name, 'ada', text);
      await fault(page, name, what);
      const { id, error } = await sending;
      await post([`after ${text}`]);
      await reported(page, 'short-poll', 'message', new RegExp(`^after ${text}$`));
      const count = await seenBy(text);
      assert.ok(count <= 1, `${text}: ${count} times`);
      assert.ok(count === 1 || error, `${text}: lost, and nobody was told: ${id}`);
      if (count === 1) {
        all.splice(all.length - 1, 0, text);
      }
    }
  }
  await whole(scenery);
  await scenery.close();
});

await check('isolated: a mailbox outlives its connections, and its lane resumes', async () => {
  const page = await blank(browser, server.tapUrl);
  const tap = await tapped(page);
  for (const name of ['mailbox-poll', 'mailbox-sse']) {
    await started(page, [name], { tap: `${tap}.${name}` });
    await until(() => get(page, name, 'id'), 'the mailbox');
    const content = (text) => ({ connection_id: mailbox, text });
    const mailbox = await get(page, name, 'id');
    const all = [];
    for (const what of ['drop', 'cut', 'drop', 'cut']) {
      await fault(page, name, what);
      for (const text of numbered(`${what} ${all.length}`, 3)) {
        await server.post('/sse/message', content(text));
        all.push(text);
      }
      await received(page, [name], all);
      await until(async () => (await strikesOf(page, name)) > 0, `${what} to strike ${name}`);
    }
    assert.equal(await get(page, name, 'id'), mailbox);
    assert.deepEqual(await said(page, name, 'notice'), [], name);
  }
  await page.context().close();
});

await check('isolated: each connection to /ws has a new mailbox, and its lane says so', async () => {
  const page = await blank(browser, server.tapUrl);
  const tap = await tapped(page);
  await started(page, ['mailbox-websocket'], { tap: `${tap}.ws` });
  await until(() => get(page, 'mailbox-websocket', 'id'), 'the mailbox');
  assert.equal((await send(page, 'mailbox-websocket', 'me', 'first')).error, undefined);
  await fault(page, 'ws', 'drop');
  await reported(page, 'mailbox-websocket', 'notice', /mailbox/);
  await running(page, 'mailbox-websocket');
  assert.equal((await send(page, 'mailbox-websocket', 'me', 'second')).error, undefined);
  assert.deepEqual(await texts(page, 'mailbox-websocket'), ['first', 'second']);
  await page.context().close();
});

await check('the pages threw no error', () => assert.deepEqual(complaints, []));

await browser.close();
await server.stop();
finish();
