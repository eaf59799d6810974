// What of the page can differ between browsers, in Firefox: each lane connects, sends, receives, loses its connection
// and retries; the three tools; the keyboard; a reload; the settings of a reader. All tests of the page run in Firefox
// with `BROWSER=firefox tests/browser/run page`.

import assert from 'node:assert/strict';
import { Server, check, finish, until } from '../interop/server.mjs';
import { launchFirefox } from './browsers.mjs';

const LANES = ['auto', 'short-poll', 'long-poll', 'stream', 'sse', 'websocket'];
const HELD = ['long-poll', 'stream', 'sse', 'websocket'];

let server = await Server.tapped({ options: ['--chaos'] });
const complaints = []; // the errors that the pages threw
const browser = await launchFirefox();
const context = await newContext(browser);
const page = await open(context, '?room=tea');

async function newContext(of) {
  return of.newContext({ viewport: { width: 1280, height: 900 } });
}

async function open(within, query) {
  const opened = await within.newPage();
  opened.on('pageerror', ({ stack }) => complaints.push(stack));
  await opened.goto(`${server.tapUrl}/${query}`);
  await opened.locator('#dock').waitFor();
  return opened;
}

const panel = (lane, of = page) => of.locator(`.panel[data-lane="${lane}"]`);
const part = (lane, name) => panel(lane).locator(`[data-part="${name}"]`);
const log = (lane, kind = 'message', of = page) => (
  panel(lane, of).locator(`[data-kind="${kind}"] p > span`).allTextContents());
const post = (text, room = 'tea') => server.post('/api/send', { room, sender: 'node', text });
const happened = () => page.locator('.chaos-log li').allTextContents();

/** Waits until all lanes of a page are open; the data channel waits for a peer. */
async function areOpen(of = page) {
  const others = () => of.locator('.panel').evaluateAll((all) => all.map(({ dataset }) => dataset)
    .filter(({ state }) => !['open', 'holding'].includes(state)).map(({ lane, state }) => `${lane} is ${state}`));
  await until(async () => (await others()).length === 0, others);
}

async function showOnce(...texts) {
  for (const lane of LANES) {
    await until(async () => (await log(lane)).includes(texts.at(-1)),
      async () => `${lane} to show ${texts.at(-1)}; it shows ${await log(lane)}; ${await log(lane, 'problem')}`);
    assert.deepEqual((await log(lane)).filter((text) => texts.includes(text)), texts, lane);
  }
}

await check('each lane connects', async () => {
  await page.fill('#sender', '');
  await page.locator('#sender').pressSequentially('ada'); // typed: a browser reports no change that a program makes
  await page.click('[data-action="start-all"]');
  await areOpen();
  assert.match(await page.textContent('#gauge-text'), /^3 of 6/);
});

await check('each lane sends, and each shows every message once', async () => {
  const texts = [];
  for (const lane of LANES) {
    texts.push(`by ${lane}`);
    await part(lane, 'text').fill(texts.at(-1));
    await panel(lane).locator('[data-action="send"]').click();
    await until(async () => await part(lane, 'sent').textContent() === '1', `${lane} to send`);
  }
  await page.fill('#message', 'to all');
  await page.press('#message', 'Enter');
  await showOnce(...texts, 'to all');
  assert.deepEqual(await log('webrtc'), ['to all']);
});

await check('a client that the server drops comes back, and misses nothing', async () => {
  for (const lane of HELD) {
    await server.delete(`/api/client/${await part(lane, 'id').getAttribute('data-connection')}`);
  }
  await post('after the drop');
  await showOnce('after the drop');
  await areOpen();
});

await check('a lane that is refused waits, and can be told to retry now', async () => {
  await page.evaluate(() => { Math.random = () => 60; }); // the next wait lasts half a minute
  await page.route('**/api/stream*', (route) => route.fulfill({ status: 503, json: { error: 'too many' } }));
  await panel('stream').locator('[data-part="toggle"]').click();
  await panel('stream').locator('[data-part="toggle"]').click();
  await until(async () => /^retry in \d+ s$/.test(await part('stream', 'state').textContent()), 'the wait');
  assert.equal((await log('stream', 'problem')).at(-1), '503 too many');
  await page.unroute('**/api/stream*');
  await part('stream', 'retry').click();
  await areOpen();
  await page.evaluate(() => { Math.random = () => 0.1; });
});

await check('Chaos: lanes are cut in the middle of a message, and nothing is lost or repeated', async () => {
  await page.click('#tab-chaos');
  for (const lane of HELD) {
    await page.locator(`.chaos-table [data-row="${lane}"] [data-fault="cut"] button`).click();
  }
  await post('cut in the middle');
  await showOnce('cut in the middle');
  const verdicts = async () => (await happened()).filter((line) => /nothing lost, nothing repeated/.test(line)).length;
  await until(async () => await verdicts() >= 3, async () => (await happened()).join('\n'));
  const off = await page.locator('.chaos-switch').first().evaluate((one) => getComputedStyle(one).backgroundColor);
  await page.locator('.chaos-table [data-row="stream"] [role=switch]').check();
  const on = await page.locator('.chaos-table [data-row="stream"] [role=switch]')
    .evaluate((one) => getComputedStyle(one).backgroundColor);
  assert.notEqual(on, off);
  await page.click('[data-action="calm"]');
  await areOpen();
});

await check('Bytes: fields, hex and bits belong together, a row is copied, the keys walk through the list', async () => {
  await panel('websocket').locator('[data-part="bytes"]').click();
  await part('websocket', 'text').fill('seen in bits');
  await part('websocket', 'text').press('Enter');
  const sent = page.locator('.wire-row:not([hidden])[data-from="client"]', { hasText: 'seen in bits' });
  await sent.locator('.wire-bits').first().click();
  assert.match(await sent.locator('.frame-panel').innerText(), /Masking-key.*unmasked/s);
  const field = sent.locator('.wire-field[data-kind="framing"]').first();
  await field.hover();
  assert.equal(await sent.locator('.wire-eight .is-lit').count(), 1, 'the hex of the field is lit');
  await page.check('text=list');
  await page.locator('.wire-row:not([hidden])', { hasText: 'seen in bits' }).first().click();
  const chosen = () => page.locator('.wire-row.is-chosen').getAttribute('data-from');
  assert.equal(await chosen(), 'client');
  await page.locator('.wire-list').focus();
  await page.keyboard.press('ArrowDown');
  assert.equal(await chosen(), 'server', 'it comes back');
  assert.match(await page.locator('.wire-pane').innerText(), /"sender":"ada"/);
  await page.uncheck('text=list');
});

await check('Compare: a burst of 100 is counted on each lane', async () => {
  await page.click('#tab-compare');
  await page.click('#compare [data-action="burst"]');
  const result = page.locator('[data-result="burst"]');
  await result.waitFor({ timeout: 60_000 });
  assert.match(await result.innerText(), /Server-sent events\s+100/);
});

await check('the keyboard: tabs, the height of the tools, from message to message', async () => {
  const selected = () => page.locator('[role=tab][aria-selected=true]').textContent();
  await page.locator('#tab-compare').focus();
  await page.keyboard.press('ArrowRight');
  assert.equal(await selected(), 'Chaos');
  await page.keyboard.press('Home');
  assert.equal(await selected(), 'Bytes');
  const height = () => page.locator('#tools').evaluate((tools) => tools.clientHeight);
  const before = await height();
  await page.locator('#splitter').focus();
  await page.keyboard.press('ArrowDown');
  assert.ok(await height() < before);
  await panel('sse').locator('.log').focus();
  await page.keyboard.press('End');
  const marked = await page.locator('li.marked').evaluateAll((all) => all.map(({ dataset }) => dataset.id));
  assert.ok(marked.length >= LANES.length && new Set(marked).size === 1, `${marked}`);
  await page.keyboard.press('Escape');
  await page.locator('#room').fill('');
  await page.locator('#room').pressSequentially('coffee');
  await page.keyboard.press('Enter');
  await until(() => page.evaluate(() => /room=coffee/.test(location.search)), 'the other room');
  await areOpen();
});

await check('a server that was restarted: every lane says that messages are missing', async () => {
  const { port, tapPort } = server;
  await post('before the restart', 'coffee');
  await showOnce('before the restart');
  await server.stop();
  server = await Server.tapped({ port, tapPort, options: ['--chaos'] });
  await areOpen();
  for (const lane of LANES) {
    await until(async () => (await log(lane, 'notice')).length === 1, `${lane} to say so`);
  }
  await post('after the restart', 'coffee');
  await showOnce('after the restart');
});

await check('a reload keeps the name and the room', async () => {
  await page.reload();
  await page.locator('#dock').waitFor();
  assert.deepEqual([await page.inputValue('#sender'), await page.inputValue('#room')], ['ada', 'coffee']);
  await page.click('[data-action="start-all"]');
  await areOpen();
  await showOnce('after the restart');
});

await browser.close();

await check('with forced colours, less motion and letters of twice the size, it fits and tells on from off', async () => {
  const other = await launchFirefox({
    'browser.display.document_color_use': 2, 'ui.prefersReducedMotion': 1, 'font.size.variable.x-western': 32,
    'font.minimum-size.x-western': 0,
  });
  const set = await open(await newContext(other), '?room=set&lanes=sse,websocket&start');
  await areOpen(set);
  const has = await set.evaluate(() => [matchMedia('(forced-colors: active)').matches,
    matchMedia('(prefers-reduced-motion)').matches, getComputedStyle(document.documentElement).fontSize]);
  assert.deepEqual(has, [true, true, '32px']);
  const ground = (selector) => set.locator(selector).first().evaluate((one) => getComputedStyle(one).backgroundColor);
  const different = async (one, another) => assert.notEqual(await ground(one), await ground(another), one);
  await different('.gauge i.own', '.gauge i:not(.own)');
  await different('[name=mode]:checked + span', '[name=mode]:not(:checked) + span');
  await set.setViewportSize({ width: 360, height: 800 });
  for (const name of ['bytes', 'compare', 'chaos']) {
    await set.click(`#tab-${name}`);
    assert.ok(await set.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} fits`);
  }
  await other.close();
});

await check('no page has thrown an error', () => {
  // Firefox also reports each connection that could not be opened, or was lost: the server was restarted.
  assert.deepEqual(complaints.filter((text) => !/connection to the server at|was interrupted/.test(text)), []);
});

await server.stop();
finish();
