// The page at its edges: a wrong clock, rooms of any name, a page that is kept for the back button, answers that never
// come.

import assert from 'node:assert/strict';
import { createServer, request as makeRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, check, finish, until } from '../interop/server.mjs';
import { launch } from './lane-page.mjs';

const HOUR = 3_600_000; // milliseconds

const server = await Server.tapped({ options: ['--chaos'] });
const browser = await launch();
const complaints = []; // the errors that the pages threw

/** The page, seen through the tap; `script` runs before it. */
async function open(query, script = () => {}, argument = undefined) {
  const page = await (await browser.newContext()).newPage();
  page.on('pageerror', (error) => complaints.push(error.stack));
  await page.addInitScript(script, argument);
  await page.goto(`http://localhost:${server.tapPort}/?${new URLSearchParams(query)}`);
  return page;
}

const close = (page) => page.context().close();
const lane = (page, label) => page.locator(`#panels [data-lane="${label}"]`);
const panels = (page) => page.locator('#panels [data-lane]');
const post = (room, text, sender = 'node') => server.post('/api/send', { room, sender, text });

async function running(page) {
  await until(() => panels(page).evaluateAll((all) => (
    all.every(({ dataset }) => ['open', 'holding'].includes(dataset.state)))), 'the lanes to be open');
}

/** The messages in the log of a lane: [text, delay]. */
const messages = (page, label) => lane(page, label).locator('[data-kind="message"]').evaluateAll((entries) => (
  entries.map((entry) => [entry.querySelector('span').textContent, entry.querySelector('data').textContent])));

async function comes(page, label, text) {
  await until(async () => (await messages(page, label)).some(([one, delay]) => one === text && delay),
    async () => `${text} in ${label}; there is ${JSON.stringify(await messages(page, label))}`);
}

for (const wrong of [HOUR, -HOUR]) {
  await check(`with a clock that is wrong by ${wrong / HOUR} h, old messages are history and new ones have a delay`, async () => {
    const room = `clock ${wrong}`;
    await post(room, 'old');
    const page = await open({ room, lanes: 'stream,sse', start: '' }, (wrong) => {
      const { now } = Date;
      Date.now = () => now() + wrong;
    }, wrong);
    await running(page);
    await post(room, 'new');
    for (const label of ['stream', 'sse']) {
      await comes(page, label, 'new');
      const [old, fresh] = await messages(page, label);
      assert.deepEqual(old, ['old', 'history']);
      assert.match(fresh[1], /^\d[\d.]* m?s$/);
    }
    await close(page);
  });
}

await check('the number of people is right in a room with the name of a method', async () => {
  const page = await open({ room: 'toString', lanes: 'sse' });
  const present = () => page.locator('#present').evaluate((output) => output.value);
  await until(async () => await present() !== '–', 'a number');
  assert.equal(await present(), '0');
  await close(page);
});

for (const room of ['a/b c%20d', '..', '?x=1&room=y#z', '__proto__', '\u{1F40E}'.repeat(64), '\u202eabc']) {
  await check(`a room can have the name ${JSON.stringify(room.slice(0, 16))}`, async () => {
    const page = await open({ room, lanes: 'short-poll,long-poll,stream,sse,websocket', start: '' });
    await running(page);
    await page.fill('#message', 'hello');
    await page.click('[data-action="publish"]');
    for (const label of ['short-poll', 'long-poll', 'stream', 'sse', 'websocket']) {
      await comes(page, label, 'hello');
    }
    const { messages: said } = await server.get(`/api/history?${new URLSearchParams({ room })}`);
    assert.deepEqual(said.map(({ text }) => text), ['hello']);
    await close(page);
  });
}

await check('a change of writing direction ends with its name or text', async () => {
  const page = await open({ room: 'direction', lanes: 'sse', start: '' });
  await running(page);
  await post('direction', '\u202etxet', '\u202eeman');
  await comes(page, 'sse', '\u202etxet');
  const isolated = await lane(page, 'sse').locator('[data-kind="message"] p').locator('b, span')
    .evaluateAll((parts) => parts.map((part) => getComputedStyle(part).unicodeBidi));
  assert.deepEqual(isolated, ['isolate', 'isolate']);
  await close(page);
});

await check('lanes that start or return with the page wait for the tap, and are shown', async () => {
  const page = await open({ room: 'seen', lanes: 'stream,sse,websocket', start: '' });
  const requests = { stream: 'GET /api/stream', sse: 'GET /api/events', websocket: 'GET /api/ws' };
  const seen = async () => {
    for (const [label, request] of Object.entries(requests)) {
      await until(() => page.locator(`.wire-row[data-label="${label}"]`, { hasText: request }).count(),
        `${request} among the bytes of ${label}`);
    }
  };
  await running(page);
  await seen();
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })));
  await page.click('[data-action="clear"]');
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
  await running(page);
  await seen();
  await close(page);
});

await check('a tap that does not answer does not keep a lane from starting', async () => {
  const page = await open({ room: 'no tap', lanes: 'stream', start: '' }, () => {
    window.WebSocket = class extends EventTarget { // connects forever
      close() {}
    };
  });
  await running(page);
  await close(page);
});

await check('a message into a silent connection is published once', async () => {
  const page = await open({ room: 'once', lanes: 'sse' });
  await page.click('#tab-chaos');
  for (const what of ['cut', 'half-open']) {
    await page.click(`.chaos-table tr[data-row="sse"] td[data-fault="${what}"] button`);
    await until(async () => /strikes/.test(await page.textContent('.chaos-status')), 'the strike to be sent');
    await lane(page, 'sse').locator('[data-part="text"]').fill(what);
    await lane(page, 'sse').locator('[data-action="send"]').click();
    await until(async () => Number(await lane(page, 'sse').locator('[data-part="sent"]').textContent())
      === (what === 'cut' ? 1 : 2), `${what} to be sent`);
  }
  const { messages: said } = await server.get('/api/history?room=once');
  assert.deepEqual(said.map(({ text }) => text), ['cut', 'half-open']);
  assert.deepEqual(await lane(page, 'sse').locator('[data-kind="problem"]').count(), 0);
  await close(page);
});

await check('a message without an answer is published once, even if it is sent again by hand', async () => {
  const page = await open({ room: 'by hand', lanes: 'sse' });
  await page.route('**/api/send', async (route) => {
    await route.fetch(); // the server has it
    await route.abort();
  });
  await page.fill('#message', 'hello');
  await page.click('[data-action="publish"]');
  await until(async () => /^Sending failed/.test(await page.textContent('#composer-says')), 'the page to say so');
  await page.unroute('**/api/send');
  assert.equal(await page.inputValue('#message'), 'hello');
  await page.click('[data-action="publish"]');
  await until(async () => await page.inputValue('#message') === '', 'the answer');
  const { messages: said } = await server.get('/api/history?room=by%20hand');
  assert.deepEqual(said.map(({ text }) => text), ['hello']);
  await close(page);
});

await check('a lane that is started while the mode changes does not run unseen', async () => {
  const page = await open({ room: 'unseen', lanes: 'sse' }, () => {
    const query = navigator.locks.query.bind(navigator.locks);
    navigator.locks.query = async () => {
      await new Promise((resolve) => { window.answer = resolve; });
      return query();
    };
    for (let number = 0; number < 6; number += 1) { // as another tab does
      navigator.locks.request(`overwire-connection-other-${number}`, () => new Promise((resolve) => {
        (window.release ??= []).push(resolve);
      }));
    }
  });
  const answer = () => page.evaluate(() => window.answer());
  await page.waitForFunction(() => window.answer);
  await answer();
  await until(async () => /^6 of 6/.test(await page.textContent('#gauge-text')), 'six to be held');
  await page.evaluate(() => {
    window.release.forEach((release) => release());
    window.answer = undefined;
  });
  await lane(page, 'sse').locator('[data-action="start"]').click();
  await page.waitForFunction(() => window.answer);
  await page.check('[name=mode][value=isolated]', { force: true });
  await answer();
  await until(async () => !/^6 of 6/.test(await page.textContent('#gauge-text')), 'none to be held');
  assert.match(await page.textContent('#gauge-text'), /^0 of 6/);
  await close(page);
});

/** The server below the prefix `/demo/`, as behind a proxy. */
async function belowPrefix() {
  const proxy = createServer((request, response) => {
    const path = request.url.replace(/^\/demo\//, '/');
    const { method, headers } = request;
    const onward = makeRequest({ port: server.port, path, method, headers }, (answer) => {
      response.writeHead(path === request.url ? 404 : answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    response.on('close', () => onward.destroy());
    request.pipe(onward.on('error', () => response.destroy()));
  });
  await new Promise((resolve) => { proxy.listen(0, '127.0.0.1', resolve); });
  return proxy;
}

await check('the page works below a prefix that a proxy adds', async () => {
  const proxy = await belowPrefix();
  const page = await (await browser.newContext()).newPage();
  await page.goto(`http://localhost:${proxy.address().port}/demo/?room=prefix&lanes=stream,sse&start`);
  await running(page);
  await post('prefix', 'below');
  await comes(page, 'sse', 'below');
  assert.equal(await page.locator('body').evaluate((body) => getComputedStyle(body).margin), '0px', 'it has its style');
  await page.click('a[href="docs"]');
  await page.locator('[data-operation="roomStream"]').waitFor();
  await close(page);
  proxy.closeAllConnections();
  proxy.close();
});

await check('over HTTP/2 there is no limit, and no gauge', async () => {
  const page = await open({ room: 'shared', lanes: 'sse', start: '' }, () => {
    const entries = performance.getEntriesByType.bind(performance);
    performance.getEntriesByType = (type) => type === 'navigation' ? [{ nextHopProtocol: 'h2' }] : entries(type);
    for (let number = 0; number < 6; number += 1) { // as other tabs do
      navigator.locks.request(`overwire-connection-other-${number}`, () => new Promise(() => {}));
    }
  });
  await running(page);
  assert.ok(await page.locator('.gauge').isHidden());
  await close(page);
});

await check('with nine lanes in other tabs the gauge says that three wait, and the people present are not known', async () => {
  const page = await open({ room: 'nine', lanes: 'sse' }, () => {
    for (let number = 0; number < 9; number += 1) {
      navigator.locks.request(`overwire-connection-other-${number}`, () => new Promise(() => {}));
    }
  });
  await until(async () => await page.textContent('#gauge-text') === '6 of 6, 3 wait',
    async () => `three to wait; it says ${await page.textContent('#gauge-text')}`);
  await until(async () => await page.locator('#present').evaluate(({ value }) => value) === '–', 'the number');
  await page.evaluate(async () => { (await import('./lanes/sse.js')).Sse.ANSWER = 200; });
  await page.route('**/api/history?*', () => {}); // it waits in the browser
  await lane(page, 'sse').locator('[data-action="start"]').click();
  await page.click('#warning [value=start]');
  await until(async () => /^The request waits in the browser: all six connections are held\.$/.test(
    (await lane(page, 'sse').locator('[data-kind="problem"] span').allTextContents())[0]), 'the lane to say so');
  await close(page);
});

await check('what was sent while no lane runs, and what a change of mode stops, is said', async () => {
  const page = await open({ room: 'said', lanes: 'sse,stream' });
  const says = (text) => until(async () => await page.textContent('#composer-says') === text,
    async () => `${text}; it says ${await page.textContent('#composer-says')}`);
  await page.fill('#sender', 'ada');
  await page.fill('#message', 'x'.repeat(3_000)); // all of it: the server takes 65,536
  await page.press('#message', 'Enter');
  await says('Sent to said. No lane is running: start one to see it.');
  await page.evaluate(() => { Date.now = () => 2_000_000_000_000; }); // the time of a message is that of its sending
  await lane(page, 'sse').locator('[data-action="start"]').click();
  await comes(page, 'sse', 'x'.repeat(3_000));
  const time = await lane(page, 'sse').locator('[data-kind="message"] time').getAttribute('datetime');
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000, time);
  await page.locator('[name=mode][value=isolated]').check();
  await says('Stopped: Server-sent events. Room and Isolated have lanes of their own.');
  assert.equal(await page.textContent('.compare-status'), 'Counted since the mode is Isolated.');
  assert.deepEqual(await page.locator('.wire-lanes button:visible').allTextContents(), ['All', 'Server-sent events']);
  await page.reload();
  assert.equal(await page.inputValue('#sender'), 'ada', 'the name is kept');
  await close(page);
});

await check('by hand a WebSocket sends a binary message, which is refused, and closes with a code', async () => {
  const page = await open({ room: 'frames', lanes: 'websocket,sse', start: '' });
  await running(page);
  assert.ok(await lane(page, 'sse').locator('[data-part="frames"]').isHidden());
  await lane(page, 'websocket').locator('[data-part="frames"]').click();
  const says = (pattern) => until(async () => pattern.test(await page.textContent('#frames-says')),
    async () => `${pattern}; it says ${await page.textContent('#frames-says')}`);
  const row = (from, text) => page.locator(`.wire-row[data-label="websocket"][data-from="${from}"]`, { hasText: text });
  await page.fill('#frames-text', 'bytes');
  await page.press('#frames-text', 'Enter');
  await says(/^The binary message: expected a text message with a JSON object, not a binary one\.$/);
  await row('client', 'FIN Binary').waitFor();
  assert.match(await row('client', 'FIN Binary').textContent(), /bytes/);
  await page.fill('#frames-code', '1001');
  await page.press('#frames-code', 'Enter');
  await says(/^Close with 1001: .*1001/); // the words are the browser's
  await page.fill('#frames-code', '3002');
  await page.fill('#frames-reason', 'enough');
  await page.press('#frames-reason', 'Enter');
  await says(/^Close with 3002: sent\.$/);
  for (const from of ['client', 'server']) {
    await row(from, 'FIN Close').first().waitFor();
    assert.match(await row(from, 'FIN Close').first().textContent(), /3002/);
  }
  const problems = () => lane(page, 'websocket').locator('[data-kind="problem"] span').allTextContents();
  await until(async () => (await problems()).some((text) => /^closed with 3002/.test(text)), problems);
  await running(page);
  await close(page);
});

await check('a wait counts down, and can be ended', async () => {
  const page = await open({ room: 'waits', lanes: 'stream' }, () => { Math.random = () => 60; }); // 30 s
  await page.route('**/api/**', (route) => route.fulfill({ status: 502, body: '' }));
  await lane(page, 'stream').locator('[data-action="start"]').click();
  const state = () => lane(page, 'stream').locator('[data-part="state"]').textContent();
  await until(async () => /^retry in 2[89] s$/.test(await state()), state);
  await page.unroute('**/api/**');
  await lane(page, 'stream').locator('[data-part="retry"]').click();
  await running(page);
  assert.equal(await state(), 'open');
  assert.ok(await lane(page, 'stream').locator('[data-part="retry"]').isHidden());
  await close(page);
});

await check('a message leads to its bytes, and its bytes to the message', async () => {
  const page = await open({ room: 'linked', lanes: 'sse,websocket', start: '' });
  await running(page);
  for (const text of ['first', 'second']) {
    await post('linked', text);
    await comes(page, 'websocket', text);
  }
  const entry = (text) => lane(page, 'sse').locator('[data-kind="message"]', { hasText: text });
  const id = await entry('first').getAttribute('data-id');
  await page.click('#tab-compare');
  await entry('first').locator('code').click();
  const held = page.locator('.wire-row[data-label="sse"] .wire-field.is-held');
  await held.waitFor();
  assert.ok((await held.textContent()).includes(id));
  assert.equal(await page.locator('li.marked').count(), 2, 'it is marked in both lanes');
  await page.keyboard.press('Escape');
  await page.locator('h1').hover();
  assert.equal(await page.locator('li.marked').count(), 0);
  await page.locator('.wire-row:not([hidden]) .wire-field', { hasText: id }).last().click();
  await page.click('[data-act="message"]');
  assert.deepEqual(await page.locator('li.marked').evaluateAll((all) => all.map((one) => one.dataset.id)), [id, id]);
  await entry('second').focus();
  await page.keyboard.press('Enter');
  await until(async () => (await held.textContent()).includes(await entry('second').getAttribute('data-id')),
    'the bytes of the other');
  await page.click('#maximise');
  assert.ok(await page.locator('#panels').isHidden());
  await page.click('#fold');
  assert.ok(await page.locator('#panels').isVisible());
  await close(page);
});

await check('where there is no WebRTC the lane says so and stops, and only this machine has another name', async () => {
  const page = await open({ room: 'old', lanes: 'webrtc', start: '' }, () => { delete window.RTCPeerConnection; });
  await until(async () => (await lane(page, 'webrtc').locator('[data-kind="problem"] span').allTextContents())
    .join() === 'This browser has no WebRTC.', 'the lane to say so');
  assert.equal(await lane(page, 'webrtc').getAttribute('data-state'), 'stopped');
  assert.equal(await page.textContent('#other-host'), `127.0.0.1:${server.tapPort}`);
  await close(page);
});

await check('the controls wait for the modules, and what was typed stays', async () => {
  const page = await (await browser.newContext()).newPage();
  let go;
  const held = new Promise((resolve) => { go = resolve; });
  await page.route('**/app.js', async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(`${server.url}/?lanes=sse`, { waitUntil: 'commit' });
  await page.fill('#message', 'early');
  await page.press('#message', 'Enter');
  assert.ok(await page.locator('[data-action="start-all"]').isDisabled());
  go();
  await until(() => page.locator('[data-action="publish"]').isEnabled(), 'the modules');
  assert.equal(await page.inputValue('#message'), 'early');
  const [listed, loaded] = await page.evaluate(() => [
    [...document.querySelectorAll('[rel=modulepreload]')].map(({ href }) => href),
    performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => /\.js$/.test(name)),
  ]);
  assert.deepEqual(listed.sort(), loaded.filter((name) => !/\/app\.js$/.test(name)).sort(), 'all modules are preloaded');
  await close(page);
});

await check('a message that was sent before a lane was started is history there', async () => {
  const page = await open({ room: 'before', lanes: 'sse' });
  await page.fill('#message', 'before');
  await page.click('[data-action="publish"]');
  await until(async () => await page.inputValue('#message') === '', 'the answer');
  await lane(page, 'sse').locator('[data-action="start"]').click();
  await comes(page, 'sse', 'before');
  assert.deepEqual(await messages(page, 'sse'), [['before', 'history']]);
  await close(page);
});

await check('where no WebSocket passes, the bytes are not shown, and the page says why', async () => {
  const page = await open({ room: 'closed', lanes: 'sse' }, () => {
    window.WebSocket = class extends EventTarget {
      constructor() {
        super();
        setTimeout(() => this.dispatchEvent(new CloseEvent('close', { code: 1006 })));
      }

      close() {}
    };
  });
  await until(async () => /^The tap cannot be opened/.test(await page.textContent('.wire-empty')), 'the reason');
  assert.doesNotMatch(await (await page.request.get(server.url)).text(), /<noscript>.*:\d+.*<\/noscript>/s);
  await close(page);
});

await check('with forced colours, what is on differs from what is off', async () => {
  const page = await open({ room: 'forced', lanes: 'sse', start: '' });
  await running(page);
  await page.emulateMedia({ forcedColors: 'active' });
  await page.click('#tab-chaos');
  const ground = (selector) => page.locator(selector).first().evaluate((one) => getComputedStyle(one).backgroundColor);
  const off = await ground('.chaos-switch');
  await page.locator('.chaos-switch').first().check();
  assert.notEqual(await ground('.chaos-switch'), off);
  const different = async (one, other) => assert.notEqual(await ground(one), await ground(other), one);
  await different('.gauge i.own', '.gauge i:not(.own)');
  await different('[name=mode]:checked + span', '[name=mode]:not(:checked) + span');
  await page.screenshot({ path: join(process.env.SCREENSHOTS ?? tmpdir(), 'forced-colours.png') });
  await close(page);
});

await check('no page has thrown an error', () => assert.deepEqual(complaints, []));

await browser.close();
await server.stop();
finish();
