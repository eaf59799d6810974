// The wire view in a page without lanes: first with a tap that the test plays, then with the real one. The view must
// show the bytes that a plain socket receives from the server.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { curlOf } from '../../static/wire/curl.js';
import { harOf } from '../../static/wire/har.js';
import { Server, check, finish, until } from '../interop/server.mjs';

// A page that the test provides has no address: the browser would ask before it allows connections to this machine.
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--disable-features=LocalNetworkAccessChecks'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SOURCES = new URL('../../src/', import.meta.url);
const SHOWN = 2048; // bytes of a row that are shown at first

const PAGE = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Bytes</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="icon" href="/favicon.svg"><link rel="stylesheet" href="/style.css">
  <link rel="stylesheet" href="/wire/wire-view.css"><script type="module" src="/wire-test.js"></script></head>
  <body><main><h1>Bytes</h1><div id="view"></div></main></body></html>`;
const SCRIPT = `
  import { Tap } from '/tap.js';
  import { mountWireView } from '/wire/wire-view.js';
  window.violations = [];
  document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective));
  document.querySelector('main').style.display = 'block';
  document.body.style.maxWidth = 'none';
  const titles = { 'short-poll': 'Short poll', sse: 'Server-sent events', websocket: 'WebSocket', webrtc: 'WebRTC' };
  const lanes = Object.entries(titles).map(([label, title]) => ({ label, title }));
  window.tap = new Tap();
  window.said = [];
  for (const type of ['open', 'lost', 'error', 'commanded']) {
    tap.addEventListener(type, ({ detail }) => said.push([type, detail]));
  }
  window.pointed = [];
  window.shown = [];
  const messages = { show: (id) => shown.push(id), point: (id) => id && pointed.push(id) };
  window.view = mountWireView(document.querySelector('#view'), { tap, lanes, messages });
  tap.start();`;
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-wire-'));
const server = await Server.tapped();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const complaints = []; // the errors and warnings of the consoles
const sockets = []; // of the tap that the test plays
let page = await open({ playsTap: true });

async function open({ playsTap }) {
  const context = await browser.newContext({ viewport: { width: 1600, height: 1000 }, acceptDownloads: true });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.tapUrl });
  const opened = await context.newPage();
  opened.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  opened.on('pageerror', (error) => complaints.push(error.stack));
  const serve = (contentType, body) => (route) => route.fulfill({
    contentType, body, headers: { 'Content-Security-Policy': POLICY } });
  await opened.route('**/wire-test', serve('text/html', PAGE));
  await opened.route('**/wire-test.js', serve('text/javascript', SCRIPT));
  if (playsTap) {
    await opened.routeWebSocket('**/-/tap/view?**', (socket) => {
      sockets.push({ socket, said: [], url: socket.url() });
      const own = sockets.at(-1);
      socket.onMessage((text) => own.said.push(JSON.parse(text)));
      socket.send(JSON.stringify({ type: 'open', mode: 'marked', target: server.url }));
    });
  }
  await opened.goto(`${server.tapUrl}/wire-test`);
  await opened.waitForFunction(() => window.tap?.open);
  return opened;
}

// The events of the tap that the test plays.

const KINDS = { 'chunk-size': 'framing', 'end of chunk': 'framing', 'end of message': 'framing', broken: 'problem',
  'frame header': 'framing', content: 'payload', 'chunk-data': 'payload', payload: 'payload' };

let clock = 1_000_000_000;
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const piece = (name, bytes, section = '', more = {}) => (
  { name, kind: KINDS[name] ?? 'header', section, bytes: base64(bytes), ...more });
const say = (event) => sockets.at(-1).socket.send(JSON.stringify(event));

function event(label, from, pieces, more = {}) {
  clock += 0.125;
  const counted = { payload: 0, framing: 0, header: 0, 'keep-alive': 0 };
  return { type: 'bytes', label, connection: '127.0.0.1:53122', exchange: 7, from, time: clock, pieces, counted,
    ...more };
}

const field = (name, text, more = {}) => (
  { name, kind: 'payload', section: 'WHATWG HTML, section 9.2.6', bytes: base64(text), ...more });
const endOfEvent = (meaning = 'dispatches an event of type message') => field('end of event', '\n', { meaning });

/** A chunk with lines of an event stream, as the tap labels it. */
function chunk(...lines) {
  const data = Buffer.concat(lines.map(({ bytes }) => Buffer.from(bytes, 'base64')));
  const section = 'RFC 9112, section 7.1';
  const size = data.length.toString(16);
  return [piece('chunk-size', `${size}\r\n`, section, { meaning: `0x${size} is ${data.length} bytes` }),
    piece('chunk-data', data, section, { lines }), piece('end of chunk', '\r\n', section)];
}

const keepAlive = (lines) => lines.map((line) => ({ ...line, kind: 'keep-alive' }));
const heartbeat = () => event('sse', 'server', chunk(...keepAlive([field('event field', 'event: heartbeat\n'),
  field('data field', 'data: {"timestamp":1}\n'), endOfEvent('dispatches an event of type heartbeat')])));

const message = (text, label = 'sse') => event(label, 'server', chunk(field('id field', 'id: 5\n'),
  field('data field', `data: ${text}\n`), endOfEvent()));

const KEY = Buffer.from('37fa213d', 'hex');
const mask = (bytes, key = KEY, offset = 0) => Buffer.from(bytes).map((byte, at) => byte ^ key[(at + offset) % 4]);
const frameHeader = (bytes, meaning, more = {}) => (
  piece('frame header', bytes, 'RFC 6455, section 5.2', { opcode: bytes[0] & 15, meaning, ...more }));
const payload = (bytes, opcode, offset = 0, more = {}) => piece('payload', mask(bytes, KEY, offset),
  'RFC 6455, section 5.3', { opcode, masking_key: '37fa213d', offset, ...more });
const HELLO = [frameHeader([0x81, 0x85, ...KEY], 'FIN text, length 5, mask 37 fa 21 3d'), payload('Hello', 1)];

// The parts of the view.

const rows = () => page.locator('.wire-row:not([hidden])');
const button = (action) => page.locator(`[data-action="${action}"]`);
const texts = (locator) => locator.allTextContents();
const status = () => page.locator('.wire-status').textContent();
const detail = async () => (await texts(page.locator('.wire-detail > :not(.wire-acts)'))).join('');
const act = (name) => page.locator(`[data-act="${name}"]`);
const fields = (row) => row.locator('.wire-field');
const lit = (row, where) => texts(row.locator(`${where} .is-lit, ${where}.is-lit`));

async function count(wanted) {
  await until(async () => (await rows().count()) === wanted,
    async () => `${wanted} rows; there are ${await rows().count()}`);
}

async function clear() {
  await page.evaluate(() => window.view.show(undefined));
  await page.fill('input[type=search]', '');
  await page.selectOption('[aria-label=Direction]', '');
  await button('clear').click();
  await page.mouse.move(0, 0);
  await count(0);
}

async function showAll(events) {
  await clear();
  events.forEach(say);
  await count(events.length);
}

/** The bytes of rows, by their hex. */
async function bytesOf(selector) {
  for (;;) {
    const more = page.locator(`${selector} [data-action=more]`);
    if (await more.count() === 0) {
      break;
    }
    await more.first().click();
  }
  const hex = (await texts(page.locator(`${selector} .wire-eight`))).join(' ');
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

const copied = async () => {
  await button('copy').click();
  await until(async () => (await page.locator('.wire-told').textContent()) === 'Copied.', 'the copy');
  return page.evaluate(() => navigator.clipboard.readText());
};

await check('every section that the tap names links to the page that defines it', async () => {
  const sources = readdirSync(SOURCES, { recursive: true }).filter((name) => name.endsWith('.rs'))
    .map((name) => readFileSync(new URL(name, SOURCES), 'utf8')).join('\n');
  const named = sources.matchAll(/"((?:RFC \d+|WHATWG HTML|NDJSON), section [\d.]+)"/g);
  const sections = [...new Set(Array.from(named, ([, section]) => section))];
  assert.ok(sections.length > 30, `${sections.length} sections`);
  const urls = await page.evaluate(async (all) => {
    const { sectionUrl } = await import('/wire/names.js');
    return Object.fromEntries(all.map((section) => [section, sectionUrl(section)]));
  }, [...sections, '', 'RFC 9112', 'tea']);
  for (const section of sections) {
    const rfc = /^RFC (\d+), section ([\d.]+)$/.exec(section);
    if (rfc) {
      assert.equal(urls[section], `https://www.rfc-editor.org/rfc/rfc${rfc[1]}#section-${rfc[2]}`);
    } else {
      assert.match(urls[section], /^https:\/\/(html\.spec\.whatwg\.org\/multipage|github\.com\/ndjson)\/\S+#[\w-]+$/);
    }
  }
  const events = 'https://html.spec.whatwg.org/multipage/server-sent-events.html';
  assert.equal(urls['WHATWG HTML, section 9.2.5'], `${events}#parsing-an-event-stream`);
  assert.equal(urls['WHATWG HTML, section 9.2.6'], `${events}#event-stream-interpretation`);
  assert.deepEqual([urls[''], urls['RFC 9112'], urls.tea], [undefined, undefined, undefined]);
});

await check('bytes are escaped like those of the client wire', async () => {
  const cases = [
    [Buffer.from('a\x1b[31m\r\n\t\x00\x7f'), 'a\\x1b[31m\\r\\n\\t\\x00\\x7f'],
    [Buffer.from([0xff, 0xe2, 0x82, 0xc0, 0x80, 0xed, 0xa0, 0x80]), '\\xff\\xe2\\x82\\xc0\\x80\\xed\\xa0\\x80'],
    [Buffer.from('\u{9b}31m\u{202e}x\u{e9}\u{20ac}\u{1f40e}'), '\\u{9b}31m\\u{202e}x\u{e9}\u{20ac}\u{1f40e}'],
    [Buffer.from('{"a": "\\"b\\"", "c": "\\u00e9 \\/"}'), '{"a": "\\"b\\"", "c": "\\u00e9 \\/"}'],
    [Buffer.from('\\n'), '\\\\n'], [Buffer.from('\\\n'), '\\\\\\n'], [Buffer.from('\\\\'), '\\\\\\'],
    [Buffer.from('\\u{9b}'), '\\\\u{9b}'], [Buffer.from('\\\xff', 'latin1'), '\\\\\\xff'],
  ];
  const escaped = await page.evaluate(async (all) => {
    const { escape, fromBase64 } = await import('/wire/bytes.js');
    return all.map((text) => escape(fromBase64(text)));
  }, cases.map(([bytes]) => base64(bytes)));
  assert.deepEqual(escaped, cases.map(([, text]) => text));
});

await check('the tap has a random id, and reopens with the same id', async () => {
  const { id, of } = await page.evaluate(() => ({ id: window.tap.id, of: window.tap.of('sse') }));
  assert.match(id, /^[0-9a-f]{32}$/);
  assert.equal(of, `${id}.sse`);
  assert.equal(new URL(sockets[0].url).search, `?tap=${id}`);
  assert.equal(await page.evaluate(() => window.tap.command({ label: 'sse', fault: 'cut' })), true);
  await until(() => sockets[0].said.length === 1, 'the command');
  assert.deepEqual(sockets[0].said, [{ label: 'sse', fault: 'cut' }]);
  await sockets[0].socket.close({ code: 1011 });
  await until(() => sockets.length === 2, 'the next tap');
  await page.waitForFunction(() => window.tap.open);
  assert.equal(sockets[1].url, sockets[0].url);
  assert.deepEqual((await page.evaluate(() => window.said)).map(([type]) => type), ['open', 'commanded', 'lost', 'open']);
  await until(async () => (await texts(page.locator('.wire-remark'))).length === 2, 'two remarks');
  assert.match((await texts(page.locator('.wire-remark'))).join(), /is closed.*open again/);
  await page.evaluate(() => window.tap.stop());
  assert.equal(await page.evaluate(() => window.tap.open || window.tap.command({})), false);
  await page.evaluate(() => window.tap.start());
  await until(() => sockets.length === 3, 'the tap to start again');
  await page.waitForFunction(() => window.tap.open);
});

await check('a head and a chunk are shown with names, escaped text, hex and meanings', async () => {
  await showAll([event('sse', 'client', [piece('request line', 'GET /api/events HTTP/1.1\r\n', 'RFC 9112, section 3'),
    piece('field line', 'Host: a\r\n', 'RFC 9112, section 5'),
    piece('field line', 'Accept: */*\r\n', 'RFC 9112, section 5'),
    piece('end of head', '\r\n', 'RFC 9112, section 2.1'), piece('end of message', '', 'RFC 9112, section 6.3')]),
  event('sse', 'server', [piece('status line', 'HTTP/1.1 200 OK\r\n', 'RFC 9112, section 4'),
    piece('field line', 'Transfer-Encoding: chunked\r\n', 'RFC 9112, section 5'),
    piece('end of head', '\r\n', '', { meaning: 'chunks follow' }),
    ...chunk(field('data field', 'data: w\u00f6rld \u{1f40e}\n'), endOfEvent())])]);
  const [request, answer] = [rows().nth(0), rows().nth(1)];
  assert.deepEqual(await texts(fields(request)), ['GET /api/events HTTP/1.1\\r\\n', 'Host: a\\r\\n',
    'Accept: */*\\r\\n', '\\r\\n', 'no bytes']);
  assert.deepEqual(await texts(request.locator('.wire-name')), ['request line', 'field line', 'field line',
    'end of head', 'end of message']);
  assert.match(await request.locator('.wire-head').textContent(), /^0\.000.*to server.*Server-sent events.*:53122 #7$/);
  assert.match(await answer.locator('.wire-head').textContent(), /^0\.125.*to client/);
  assert.deepEqual(await texts(fields(answer)), ['HTTP/1.1 200 OK\\r\\n', 'Transfer-Encoding: chunked\\r\\n', '\\r\\n',
    '13\\r\\n', 'data: w\u00f6rld \u{1f40e}\\n', '\\n', '\\r\\n']);
  assert.deepEqual(await texts(answer.locator('.wire-meaning')), ['chunks follow', '0x13 is 19 bytes',
    'dispatches an event of type message']);
  assert.equal((await bytesOf('.wire-row:nth-child(2)')).toString(),
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\ndata: w\u00f6rld \u{1f40e}\n\n\r\n');
  const kinds = await fields(answer).evaluateAll((all) => all.map(({ dataset }) => dataset.kind));
  assert.deepEqual(kinds, ['header', 'header', 'header', 'framing', 'payload', 'payload', 'framing']);
});

await check('pointing at a field lights it in text and hex, and the line of detail moves nothing', async () => {
  const answer = rows().nth(1);
  const boxes = async () => [await page.locator('.wire-list').boundingBox(),
    await page.locator('.wire-detail').boundingBox(), await answer.boundingBox()];
  const before = await boxes();
  await fields(answer).nth(4).hover();
  assert.deepEqual(await lit(answer, '.wire-field'), ['data: w\u00f6rld \u{1f40e}\\n']);
  assert.equal(Buffer.from((await lit(answer, '.wire-eight')).join('').replaceAll(' ', ''), 'hex').toString(),
    'data: w\u00f6rld \u{1f40e}\n');
  assert.match(await detail(), /^data fieldin chunk-data18 bytes, 0033 to 0044WHATWG HTML, section 9\.2\.6/);
  assert.deepEqual(await boxes(), before);
  await answer.locator('.wire-eight [data-field="3"]').first().hover();
  assert.deepEqual(await lit(answer, '.wire-field'), ['13\\r\\n']);
  assert.equal(await page.locator('.wire-detail a').getAttribute('href'),
    'https://www.rfc-editor.org/rfc/rfc9112#section-7.1');
  assert.deepEqual(await boxes(), before);
  await page.mouse.move(0, 0);
  assert.match(await detail(), /^Point at a field/);
});

await check('a field stays held after a click or an arrow key, until Escape', async () => {
  const [request, answer] = [rows().nth(0), rows().nth(1)];
  await answer.locator('.wire-eight [data-field="3"]').first().click();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), '13\\r\\n');
  await fields(answer).nth(0).hover();
  assert.match(await detail(), /^status line/);
  await page.locator('.wire-detail').hover();
  assert.match(await detail(), /^chunk-size/);
  await page.keyboard.press('ArrowRight');
  assert.match(await detail(), /^data field/);
  await page.keyboard.press('End');
  assert.match(await detail(), /^end of chunk/);
  await page.keyboard.press('ArrowRight');
  assert.match(await detail(), /^end of chunk/);
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowUp');
  assert.match(await detail(), /^request line/);
  assert.equal(await request.locator('.is-held').count() > 1, true);
  assert.equal(await page.locator('.wire-field[tabindex="0"]').count(), 1);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.href),
    'https://www.rfc-editor.org/rfc/rfc9112#section-3');
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Escape');
  await page.mouse.move(0, 0);
  assert.match(await detail(), /^Point at a field/);
});

await check('a frame opens into its bits, and its payload is shown masked and unmasked', async () => {
  await showAll([event('websocket', 'client', HELLO)]);
  const row = rows().first();
  assert.deepEqual(await texts(fields(row)), ['\\x81\\x857\\xfa!=', 'Hello']);
  assert.deepEqual(await texts(row.locator('.wire-meaning')), ['FIN text, length 5, mask 37 fa 21 3d',
    'unmasked; in hex as on the wire']);
  assert.equal((await bytesOf('.wire-row')).toString('hex'), '818537fa213d7f9f4d5158');
  const bits = row.locator('.wire-bits');
  await bits.click();
  assert.equal(await bits.getAttribute('aria-expanded'), 'true');
  const cells = await row.locator('.frame-bits td').evaluateAll((all) => all.map((cell) => (
    [cell.colSpan, cell.firstChild.textContent, cell.querySelector('code')?.textContent])));
  assert.deepEqual(cells, [[1, 'FIN', '1'], [1, 'RSV1', '0'], [1, 'RSV2', '0'], [1, 'RSV3', '0'], [4, 'opcode', '0001'],
    [1, 'MASK', '1'], [7, 'Payload len', '000 0101'], [16, 'Masking-key', '37 fa 21 3d'],
    [16, 'Masking-key continued', undefined], [16, 'Payload Data', '5 bytes']]);
  const lines = await row.locator('.frame-groups tr').evaluateAll((all) => all.map((line) => (
    [...line.children].map(({ textContent }) => textContent).join(' '))));
  assert.deepEqual(lines, ['on the wire 7f 9f 4d 51 58', 'XOR key 37 fa 21 3d 37', 'unmasked 48 65 6c 6c 6f',
    'as text H e l l o']);
  await bits.press('Enter');
  assert.equal(await row.locator('.frame-panel').count(), 0);
});

await check('frames with long lengths, reserved bits, no mask or no payload open into their bits', async () => {
  const cases = [
    [[0x82, 0x7e, 0x01, 0x00], ['Payload len 111 1110', 'Extended payload length 256', 'Payload Data 256 bytes'],
      'FIN binary, length 256'],
    [[0x42, 0x7f, 0, 0, 0, 1, 0, 0, 0, 0], ['RSV1 1', 'Payload len 111 1111', 'Extended payload length 4294967296'],
      'binary, length 4294967296, more follows'],
    [[0x82, 0x7f, 0x7f, ...Array(7).fill(0xff)], ['Extended payload length 9223372036854775807'],
      'FIN binary, length 9223372036854775807'],
    [[0x8a, 0x00], ['FIN 1', 'opcode 1010', 'MASK 0', 'Payload len 000 0000'], 'FIN Pong, length 0'],
  ];
  for (const [bytes, wanted, described] of cases) {
    await showAll([event('websocket', 'server', [frameHeader(bytes, described)])]);
    assert.equal(await rows().first().locator('.wire-meaning').textContent(), described);
    await rows().first().locator('.wire-bits').click();
    const cells = await page.locator('.frame-bits td').evaluateAll((all) => all.map((cell) => (
      [...cell.children].map(({ textContent }) => textContent).join(' '))));
    for (const cell of wanted) {
      assert.ok(cells.includes(cell), `${cell} in ${cells.join('; ')}`);
    }
    const widths = await page.locator('.frame-bits tbody tr').evaluateAll((all) => all.map((row) => (
      [...row.cells].reduce((sum, { colSpan }) => sum + colSpan, 0))));
    assert.ok(widths.every((width) => width === 32), `${widths}`);
  }
});

await check('a payload that comes in several events is unmasked and put together', async () => {
  const text = Buffer.from('one \u20ac is not two');
  await clear();
  say(event('websocket', 'client', [frameHeader([0x81, 0x80 | text.length, ...KEY], 'FIN text, length 18')]));
  await count(1);
  await rows().first().locator('.wire-bits').click();
  assert.match(await page.locator('.frame-payload').textContent(), /18 bytes of the payload have not come yet/);
  say(event('websocket', 'client', [payload(text.subarray(0, 5), 1)])); // in the middle of a character
  say(event('websocket', 'client', [payload(text.subarray(5, 11), 1, 5)]));
  say(event('websocket', 'client', [payload(text.subarray(11), 1, 11)]));
  await count(4);
  assert.deepEqual(await texts(page.locator('.wire-row:nth-child(n + 2) .wire-field')),
    ['one \\xe2', '\\x82\\xac is ', 'not two']);
  await fields(rows().nth(2)).first().hover();
  assert.match(await detail(), /bytes 5 to 10 of the 18 of the payload; begins in the middle of a character/);
  const signs = await page.locator('.frame-groups tr:last-child td').evaluateAll((all) => (
    all.map(({ textContent }) => textContent).join('')));
  assert.equal(signs, text.toString());
  assert.match(await copied(), / > text message {3}one \u20ac is not two\n$/);
});

await check('an unmasked payload and a message of two frames are put together too', async () => {
  const part = (text) => piece('payload', text, 'RFC 6455, section 5.2', { opcode: 1 });
  await showAll([event('websocket', 'server', [frameHeader([0x01, 0x07], 'text, length 7, more follows'), part('one')]),
    event('websocket', 'server', [part(', t')]),
    event('websocket', 'server', [part('w'), frameHeader([0x80, 0x01], 'FIN continuation, length 1'),
      piece('payload', 'o', '', { opcode: 0 })])]);
  await fields(rows().nth(1)).first().hover();
  assert.match(await detail(), /bytes 3 to 5 of the 7 of the payload/);
  assert.deepEqual((await copied()).split('\n').slice(1, -1).map((line) => line.slice(8)), [
    '< frame header   01 07                                            text, length 7, more follows',
    '< payload        6f 6e 65 2c 20 74 77                             one, tw',
    '< frame header   80 01                                            FIN continuation, length 1',
    '< payload        6f                                               o',
    '< text message   one, two']);
});

await check('a line that is cut into several fields is shown to be one line', async () => {
  const part = (text) => field('part of line', text);
  const data = (text) => piece('chunk-data', text, '', { lines: [part(text)] });
  const size = piece('chunk-size', '10\r\n', '', { meaning: '0x10 is 16 bytes' });
  await showAll([event('sse', 'server', [size, data('data: on')]),
    event('sse', 'server', [data('e, two, '), piece('end of chunk', '\r\n')]),
    event('sse', 'server', chunk(field('data field', 'three\n'), endOfEvent()))]);
  await fields(rows().nth(0)).nth(1).hover();
  assert.match(await detail(), /^part of line.*part of a line that goes on: it is a data field$/);
  await fields(rows().nth(2)).nth(1).hover();
  assert.match(await detail(), /^data field.*the last of 3 parts of the line$/);
  assert.deepEqual((await copied()).split('\n').map((line) => line.slice(8)), [
    '* sse, connection 53122, exchange 7',
    '< chunk-size     10\\r\\n                                           16 bytes',
    '< part of line   data: one, two,                                  goes on in the next chunk',
    '< end of chunk   \\r\\n',
    '< chunk-size     7\\r\\n                                            7 bytes',
    '< data field     three\\n',
    '< end of event   \\n                                               dispatches an event of type message',
    '< end of chunk   \\r\\n',
    '']);
});

await check('rows are filtered by text, direction, lane and keep-alive', async () => {
  const kind = 'keep-alive';
  const ping = event('websocket', 'server', [frameHeader([0x89, 0x00], 'FIN Ping, length 0', { kind })]);
  const beat = '{"type": "heartbeat"}';
  const asked = event('websocket', 'client',
    [frameHeader([0x81, 0x80 | beat.length, ...KEY], 'FIN text, length 21', { kind }), payload(beat, 1, 0, { kind })]);
  const comment = event('sse', 'server', chunk(...keepAlive([field('comment', ': still here\n')])));
  const empty = event('short-poll', 'server', chunk(...keepAlive([field('empty line', '\n')])));
  await showAll([message('needle'), heartbeat(), ping, asked, comment, empty, message('hay'),
    event('short-poll', 'client', [piece('request line', 'GET / HTTP/1.1\r\n')])]);
  await page.check('text=hide keep-alive');
  await count(3);
  await page.uncheck('text=hide keep-alive');
  await page.selectOption('[aria-label=Direction]', 'client');
  await count(2);
  await page.selectOption('[aria-label=Direction]', '');
  await page.fill('input[type=search]', 'NEEDLE');
  await count(1);
  assert.match(await status(), /^1 of 8 rows/);
  await page.fill('input[type=search]', 'no such thing');
  await count(0);
  assert.equal(await page.locator('.wire-empty').textContent(), 'No row matches. Change the filter, or choose All.');
  await page.fill('input[type=search]', '');
  await page.click('[data-shows=websocket]');
  await count(2);
  await page.evaluate(() => window.view.show('sse'));
  await count(4);
  assert.equal(await page.locator('[data-shows=sse]').getAttribute('aria-pressed'), 'true');
});

await check('a poll that brings nothing is hidden with the keep-alive: its request, its answer, its end', async () => {
  const poll = (exchange, content) => [
    event('short-poll', 'client', [piece('request line', `GET /${exchange} HTTP/1.1\r\n`)], { exchange }),
    event('short-poll', 'server', [piece('content', content)], { exchange }),
    { type: 'end', label: 'short-poll', connection: '127.0.0.1:53122', exchange, closed: false, time: clock }];
  await showAll([...poll(20, '{"messages":[],"recovered":true}'), ...poll(21, '{"messages":[{"id":"a"}]}')]);
  await page.check('text=hide keep-alive');
  await count(3);
  assert.match(await rows().first().textContent(), /GET \/21/);
  await page.uncheck('text=hide keep-alive');
  await count(6);
});

await check('times count from the first row, or from the one before', async () => {
  await showAll([message('a'), message('b', 'short-poll'), message('c')]);
  const times = () => texts(page.locator('.wire-row:not([hidden]) .wire-time'));
  assert.deepEqual(await times(), ['0.000', '0.125', '0.250']);
  await page.selectOption('[aria-label=Time]', 'before');
  await until(async () => (await times()).join() === '+0.000,+0.125,+0.125', times);
  await page.click('.wire-lanes [data-shows=sse]');
  await until(async () => (await times()).join() === '+0.000,+0.250', times);
  await page.selectOption('[aria-label=Time]', 'first');
});

await check('Pause keeps what comes, Resume shows it, Clear forgets', async () => {
  await showAll([message('before')]);
  await button('pause').click();
  say(message('meanwhile'));
  say(message('also'));
  await until(async () => /paused: 2 wait$/.test(await status()), status);
  assert.equal(await rows().count(), 1);
  assert.equal(await button('pause').textContent(), 'Resume');
  await button('pause').click();
  await count(3);
  await button('clear').click();
  await count(0);
  await until(async () => (await status()) === '0 rows, 0 B', status);
});

await check('Copy and Save give the rows as the client wire prints them', async () => {
  await showAll([event('websocket', 'client', [piece('request line', 'GET /api/ws HTTP/1.1\r\n'),
    piece('field line', 'Host: a\r\n'), piece('field line', 'Upgrade: websocket\r\n'), piece('end of head', '\r\n')]),
  event('websocket', 'client', [frameHeader([0x89, 0x85, ...KEY], 'FIN Ping, length 5, mask 37 fa 21 3d'),
    payload('hello', 9)]),
  event('websocket', 'server', [frameHeader([0x88, 0x07], 'FIN Close, length 7'),
    piece('payload', [0x03, 0xe9, ...Buffer.from('bye!!')], 'RFC 6455, section 5.2',
      { opcode: 8, meaning: 'status code 1001' })]),
  { type: 'end', label: 'websocket', connection: '127.0.0.1:53122', exchange: 7, time: clock + 1, closed: true }]);
  const text = [
    '  0.000 * websocket, connection 53122, exchange 7',
    '  0.000 > request line   GET /api/ws HTTP/1.1\\r\\n',
    '  0.000 > field line     Host: a\\r\\n',
    '  0.000 >                Upgrade: websocket\\r\\n',
    '  0.000 > end of head    \\r\\n',
    '  0.125 > frame header   89 85 37 fa 21 3d                                FIN Ping, length 5, mask 37 fa 21 3d',
    '  0.125 > payload        5f 9f 4d 51 58                                   hello',
    '  0.250 < frame header   88 07                                            FIN Close, length 7',
    '  0.250 < payload        03 e9 62 79 65 21 21                             1001 bye!!',
    '  1.250 * websocket, connection 53122, exchange 7: The exchange is over, and so is its connection.',
    ''].join('\n');
  assert.equal(await copied(), text);
  const [download] = await Promise.all([page.waitForEvent('download'), button('save').click()]);
  assert.equal(download.suggestedFilename(), 'overwire-all.txt');
  assert.equal(readFileSync(await download.path(), 'utf8'), text);
});

await check('events without bytes are rows too, and bytes are never markup', async () => {
  await showAll([message('<img src=x onerror=alert(1)> \u202e'),
    { type: 'left_out', bytes: 12345, events: 17 },
    { type: 'struck', label: 'sse', fault: 'cut', connection: '127.0.0.1:1', time: clock },
    { type: 'struck', fault: 'down', time: clock },
    { type: 'struck', fault: 'up', time: clock },
    event('sse', 'server', [piece('broken', '', 'RFC 9112, section 8', { meaning: 'it ended early' })])]);
  assert.equal(await page.locator('#view img').count(), 0);
  assert.match(await rows().first().textContent(), /data: <img src=x onerror=alert\(1\)> \\u\{202e\}\\n/);
  assert.match((await texts(page.locator('.wire-remark'))).join(),
    /12345 bytes in 17 events.*cut the connection.*reset every connection.*accepts connections again/);
  assert.match(await rows().last().textContent(), /broken.*it ended early/);
});

const MESSAGE_ID = '7c1a3b00-5e2d-8f4a-9b3c-4d0000000001';
const asked = (method, target, fields, content = '') => event('sse', 'client', [
  piece('request line', `${method} ${target} HTTP/1.1\r\n`),
  ...fields.map((line) => piece('field line', `${line}\r\n`)), piece('end of head', '\r\n'),
  ...content ? [piece('content', content)] : []]);
const answered = (...pieces) => event('sse', 'server', [piece('status line', 'HTTP/1.1 200 OK\r\n'),
  piece('field line', 'Content-Type: application/json\r\n'), piece('end of head', '\r\n'), ...pieces]);

await check('a request is taken out whatever its target is', () => {
  const taken = (line) => {
    const message = (fields) => ({ time: 1, last: 1, line, fields, content: [] });
    const exchange = { label: 'a', connection: 'c', begin: 1, end: 1, frames: [], answer: message([]) };
    exchange.request = message([['Host', 'a:8000']]);
    const { log: { entries: [{ request }] } } = JSON.parse(harOf([exchange]));
    return [request.queryString.map(({ name, value }) => `${name}=${value}`).join(), curlOf(exchange)];
  };
  assert.deepEqual(taken('OPTIONS * HTTP/1.1'), ['', "curl -X OPTIONS --request-target '*' http://a:8000"]);
  assert.deepEqual(taken('CONNECT b:1 HTTP/1.1'), ['', 'curl -X CONNECT http://a:8000b:1']);
  assert.deepEqual(taken('HEAD /?x=[1-9]&y=%3F? HTTP/1.1'),
    ['x=[1-9],y=??', "curl --head --globoff 'http://a:8000/?x=[1-9]&y=%3F?'"]);
});

await check('a row is copied as hex, and its request as a line for curl', async () => {
  await showAll([asked('POST', '/api/send?tap=f00.sse&x=1', ['Host: a:8000', 'Content-Length: 13', "X-Name: it's"],
    '{"text":"hi"}'), answered(piece('content', `{"message_id":"${MESSAGE_ID}"}`)),
  { ...asked('GET', '/api/ws', ['Host: a', 'Upgrade: websocket', 'Sec-WebSocket-Key: k']), exchange: 8 }]);
  const clip = async (name) => {
    await act(name).click();
    await until(async () => (await page.locator('.wire-told').textContent()) === 'Copied.', 'the copy');
    const text = await page.evaluate(() => navigator.clipboard.readText());
    await page.evaluate(() => { document.querySelector('.wire-told').textContent = ''; });
    return text;
  };
  assert.ok(await act('curl').isHidden());
  await fields(rows().nth(1)).first().click(); // the line is the same from the answer
  assert.equal(await clip('curl'),
    "curl -H 'X-Name: it'\\''s' --data-raw '{\"text\":\"hi\"}' 'http://a:8000/api/send?x=1'");
  assert.equal(await clip('hex'), (await texts(rows().nth(1).locator('.wire-eight'))).join(' '));
  await act('message').click();
  assert.deepEqual(await page.evaluate(() => window.shown), [MESSAGE_ID]);
  await fields(rows().nth(2)).first().click();
  assert.equal(await clip('curl'), "curl -vN --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' "
    + "-H 'Sec-WebSocket-Key: k' http://a/api/ws");
  assert.ok(await act('message').isHidden(), 'it has no message');
});

await check('the exchanges are saved as HAR, with the frames of a WebSocket', async () => {
  await showAll([asked('GET', '/api/poll?tap=f00.sse&room=tea', ['Host: a'], ''), 
    answered(...chunk(field('line', '{"a":')), ...chunk(field('line', '1}'))), event('websocket', 'client', [piece('request line', 'GET /ws HTTP/1.1\r\n')]),
  event('websocket', 'client', HELLO), event('websocket', 'server', [piece('content', 'no request before it')],
    { exchange: 99 })]);
  const download = page.waitForEvent('download');
  await button('har').click();
  const file = await download;
  assert.equal(file.suggestedFilename(), 'overwire-all.har');
  const { log } = JSON.parse(readFileSync(await file.path(), 'utf8'));
  assert.deepEqual([log.version, log.entries.length], ['1.2', 2]);
  const [poll, socket] = log.entries;
  assert.deepEqual([poll.request.method, poll.request.url, poll.request.queryString, poll.response.status,
    poll.response.content.text, poll.response.content.mimeType, poll.time, poll.timings.wait],
  ['GET', 'http://a/api/poll?room=tea', [{ name: 'room', value: 'tea' }], 200, '{"a":1}', 'application/json', 125, 125]);
  assert.ok(!Number.isNaN(Date.parse(poll.startedDateTime)));
  assert.deepEqual(socket._webSocketMessages.map(({ type, opcode, data }) => [type, opcode, data]), [['send', 1, 'Hello']]);
});

await check('a message is found among the bytes, and bytes point at their message', async () => {
  await showAll([message('before'), event('sse', 'server', chunk(field('id field', `id: ${MESSAGE_ID}\n`),
    field('data field', 'data: x\n'), endOfEvent())), ...Array.from({ length: 30 }, (_, at) => message(`after ${at}`))]);
  await page.evaluate((id) => window.view.find('sse', id), MESSAGE_ID);
  const held = page.locator('.wire-field.is-held');
  await held.waitFor();
  assert.equal(await held.textContent(), `id: ${MESSAGE_ID}\\n`);
  assert.ok(await held.evaluate((one) => {
    const [box, list] = [one.getBoundingClientRect(), one.closest('.wire-list').getBoundingClientRect()];
    return box.top >= list.top && box.bottom <= list.bottom;
  }), 'it is in sight');
  await fields(rows().nth(1)).nth(2).hover();
  await fields(rows().nth(1)).nth(1).hover();
  assert.equal((await page.evaluate(() => window.pointed)).at(-1), MESSAGE_ID);
  await page.evaluate(() => window.view.find('sse', '00000000-0000-8000-8000-000000000000'));
  assert.equal(await page.locator('.wire-told').textContent(), 'The bytes of this message are not kept.');
});

await check('in the list each row is one line, and the chosen row is whole beside it', async () => {
  await showAll([asked('GET', '/api/events', ['Host: a']), message('hello'), event('websocket', 'client', HELLO)]);
  const list = page.getByLabel('list', { exact: true });
  await list.check();
  await page.locator('.wire-brief').nth(2).waitFor();
  const inList = page.locator('.wire-list .wire-row');
  assert.deepEqual(await texts(inList.locator('.wire-brief')),
    ['GET /api/events HTTP/1.1\\r\\n', 'id: 5\\n data: hello\\n \\n', 'Hello']);
  assert.deepEqual(await texts(inList.locator('.wire-length')), ['37 B', '25 B', '11 B']);
  assert.equal(await page.locator('.wire-list .wire-eight').count(), 0);
  await inList.nth(1).click();
  const pane = page.locator('.wire-pane');
  assert.match((await texts(pane.locator('.wire-field'))).join(), /id: 5\\n,data: hello/);
  await page.locator('.wire-list').focus();
  await page.keyboard.press('ArrowDown');
  await pane.locator('.wire-bits').click();
  await pane.locator('.frame-panel').waitFor();
  await page.evaluate(() => window.view.find('sse', 'hello'));
  await until(async () => /data: hello/.test(await pane.textContent()), 'the row that was looked for');
  await list.uncheck();
  await count(2); // those of the lane
  assert.equal((await texts(page.locator('.wire-list .wire-field'))).includes('data: hello\\n'), true);
});

await check('the characters beside the hex are those of the bytes, and a selection of the hex has only the bytes', async () => {
  await showAll([event('sse', 'server', [piece('content', 'The quick \u00e9 brown fox\x00')])]);
  assert.equal((await texts(rows().first().locator('.wire-ascii'))).join(''), 'The quick .. brown fox.');
  const selected = await rows().first().locator('.wire-hex').evaluate((one) => {
    getSelection().selectAllChildren(one);
    const text = String(getSelection());
    getSelection().removeAllRanges();
    return text;
  });
  assert.equal(Buffer.from(selected.replace(/\s/g, ''), 'hex').toString(), 'The quick \u00e9 brown fox\x00');
  assert.match(selected, /^[0-9a-f]{2}(\s+[0-9a-f]{2})*\s*$/, 'they are apart');
});

await check('500 rows and 1 MiB are kept, and a busy lane does not push out a quiet one', async () => {
  await clear();
  say(message('quiet', 'short-poll'));
  for (let number = 0; number < 520; number += 1) {
    say(message(`number ${number}`));
  }
  await until(async () => /^500 rows.*, 21 older ones dropped$/.test(await status()), status);
  await count(500);
  assert.match(await rows().first().textContent(), /data: quiet/);
  assert.match(await rows().nth(1).textContent(), /data: number 21\\n/);
  await clear();
  const large = () => event('sse', 'server', [piece('content', Buffer.alloc(300 * 1024, 'x'))]);
  for (let number = 0; number < 4; number += 1) {
    say(large());
  }
  await until(async () => /^3 rows, 900\.0 KiB, 1 older ones dropped$/.test(await status()), status);
});

await check('a long row shows its first part, and a button the rest', async () => {
  const long = Buffer.from(Array.from({ length: 3000 }, (_, at) => 32 + (at % 90)));
  await showAll([event('sse', 'server', [piece('content', long)])]);
  const row = rows().first();
  assert.equal((await row.locator('.wire-field').textContent()).length, SHOWN);
  assert.equal(await row.locator('[data-action=more]').textContent(), 'Show 952 bytes more');
  assert.deepEqual(await bytesOf('.wire-row'), long);
  assert.equal(await row.locator('.wire-field').textContent(), long.toString());
});

await check('the button of a long row can be pressed wherever the list is scrolled to', async () => {
  await showAll([event('sse', 'server', [piece('content', Buffer.alloc(64 * 1024, 'word '))])]);
  await page.locator('.wire-list').evaluate((one) => { one.scrollTop = one.scrollHeight; });
  assert.ok(await button('more').evaluate((one) => {
    const { left, top, width, height } = one.getBoundingClientRect();
    return document.elementFromPoint(left + width / 2, top + height / 2) === one;
  }), 'nothing is over it');
  const position = () => page.locator('.wire-text').evaluate((one) => getComputedStyle(one).position);
  assert.equal(await position(), 'static', 'the text stays above it');
  await showAll([message('short')]);
  assert.equal(await position(), 'sticky', 'a text without a button stays beside its hex');
});

await check('the button that opens a frame stays in sight, also in a low list', async () => {
  await page.setViewportSize({ width: 1600, height: 420 });
  await showAll([...Array.from({ length: 9 }, (_, at) => message(`before ${at}`)), event('websocket', 'client', HELLO),
    message('after')]);
  await page.locator('.wire-bits').click();
  assert.ok(await page.locator('.wire-bits').evaluate((one) => (
    one.getBoundingClientRect().top >= one.closest('.wire-list').getBoundingClientRect().top)));
  await page.setViewportSize({ width: 1600, height: 1000 });
});

await check('the list follows its end, unless the reader has scrolled up', async () => {
  await showAll(Array.from({ length: 30 }, (_, number) => message(`number ${number}`)));
  const list = page.locator('.wire-list');
  const isAtEnd = () => list.evaluate((one) => {
    const row = one.querySelector('.wire-row:last-child');
    return Math.abs(row.getBoundingClientRect().bottom - one.getBoundingClientRect().bottom) < 4;
  });
  await until(isAtEnd, 'the end');
  await list.evaluate((one) => { one.scrollTop -= 900; });
  await page.locator('.wire-to-end').waitFor();
  const place = async () => (await rows().nth(15).boundingBox()).y;
  const before = await place();
  say(message('later'));
  await count(31);
  assert.ok(Math.abs(await place() - before) < 1, `${before} has become ${await place()}`);
  await page.locator('.wire-to-end').click();
  await until(isAtEnd, 'the end');
  say(message('last'));
  await count(32);
  await until(isAtEnd, 'the end');
});

/** Rows of all heights, from two lines of hex to more than the list shows. */
const ofAllHeights = (number) => message(`number ${number} ${'x'.repeat(number % 50 === 7 ? 900 : number * 37 % 200)}`,
  number % 5 === 0 ? 'short-poll' : 'sse');

/** Sends `count` events in bursts, and waits for the last row of each burst. */
async function flood(first, count) {
  for (let number = first; number < first + count; number += 1) {
    say(ofAllHeights(number));
    if (number % 50 === 49) {
      await page.waitForFunction((text) => (
        document.querySelector('.wire-rows').lastElementChild?.textContent.includes(text)), `number ${number} `);
    }
  }
}

await check('rows in sight do not move while others come and go', async () => {
  await clear();
  await page.evaluate(() => {
    window.shifts = [];
    const shown = ({ value, sources }) => [value, ...sources.map(({ node }) => node?.textContent)];
    window.observer = new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map(shown)));
    window.observer.observe({ type: 'layout-shift' });
  });
  const moved = () => page.evaluate(() => {
    window.shifts.push(...window.observer.takeRecords().map(({ value }) => [value]));
    return window.shifts;
  });
  await flood(0, 700);
  await count(500);
  const list = page.locator('.wire-list');
  const gap = () => list.evaluate((one) => one.scrollHeight - one.scrollTop - one.clientHeight);
  assert.ok(await gap() < 1, 'it is at the end');
  assert.deepEqual(await moved(), []);

  await list.evaluate((one) => { one.scrollTop /= 2; });
  await page.locator('.wire-to-end').waitFor();
  const seen = () => list.evaluate((one) => [...one.querySelectorAll('.wire-row')]
    .map((row) => ({ row, box: row.getBoundingClientRect() }))
    .filter(({ box }) => box.bottom > one.getBoundingClientRect().top && box.top < one.getBoundingClientRect().bottom)
    .map(({ row, box }) => [box.top, row.textContent]));
  const before = await seen();
  assert.ok(before.length > 1);
  const isSame = async () => {
    const now = await seen();
    assert.deepEqual(now.map(([, text]) => text), before.map(([, text]) => text));
    now.forEach(([top], at) => assert.ok(Math.abs(top - before[at][0]) < 1, `${before[at][0]} has become ${top}`));
  };
  await flood(700, 300); // some rows above these are dropped
  await isSame();
  await flood(1000, 600); // these too, but not while they are in sight
  await isSame();
  await until(async () => await rows().count() === 500 + before.length, 'what is not seen to be dropped');
  assert.deepEqual(await moved(), []);
  await page.locator('.wire-to-end').click();
  await count(500);
  assert.ok(await gap() < 1, 'it is at the end again');
  assert.deepEqual((await seen()).at(-1)[1].match(/number \d+/)[0], 'number 1599');
});

await check('under load the newest row is the last one, and the list follows it', async () => {
  await clear();
  for (let number = 0; number < 1200; number += 1) { // without a wait: rows go before they are drawn, and after
    say(ofAllHeights(number));
    number % 100 === 0 && await page.evaluate(() => new Promise(requestAnimationFrame));
  }
  const last = () => page.locator('.wire-list .wire-row').last().textContent();
  await until(async () => /number 1199 /.test(await last()), last);
  await count(500);
  assert.ok(await page.locator('.wire-to-end').isHidden());
  const numbers = (await texts(rows())).map((text) => Number(/number (\d+) /.exec(text)[1]));
  assert.deepEqual(numbers, numbers.toSorted((one, other) => one - other));
});

await check('a view out of sight draws nothing, and everything when it is in sight again', async () => {
  await clear();
  await page.evaluate(async () => {
    document.querySelector('#view').hidden = true;
    await new Promise((resolve) => new IntersectionObserver((entries, observer) => {
      observer.disconnect();
      resolve();
    }).observe(document.querySelector('.wire-list')));
  });
  const seen = page.evaluate(() => new Promise((resolve) => window.tap.addEventListener('bytes', resolve, { once: true })));
  say(message('in the dark'));
  await seen;
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  assert.equal(await page.locator('.wire-row').count(), 0);
  await page.evaluate(() => { document.querySelector('#view').hidden = false; });
  await count(1);
});

await check('messages of a data channel are shown as the lane reports them, with one explanation', async () => {
  await clear();
  await page.evaluate(() => {
    window.lane = new EventTarget();
    window.before = new EventTarget();
    window.wire = (lane, what, text) => lane.dispatchEvent(new CustomEvent('wire', { detail: { what, text } }));
    window.view.watch('webrtc', window.before);
    window.view.watch('webrtc', window.lane);
    window.wire(window.before, 'sent', 'of a lane that is gone');
    window.wire(window.lane, 'request', 'WS /api/signal');
    window.wire(window.lane, 'sent', '{"type":"message"}');
    window.wire(window.lane, 'received', '{"type":"hello"}');
  });
  await count(3);
  assert.deepEqual(await texts(page.locator('.wire-field')), ['{"type":"message"}', '{"type":"hello"}']);
  assert.equal(await page.locator('.wire-hex').count(), 0);
  assert.equal((await texts(page.locator('.wire-remark'))).filter((text) => /no server sees/.test(text)).length, 1);
  assert.match((await texts(page.locator('.wire-way'))).join(), /to peers.*from a peer/);
});

await check('messages of a data channel are in order with the rows of the tap, whose clock is another', async () => {
  await clear();
  const early = () => Date.now() / 1000 - 3_600;
  say(message('one')); // by the clock of before
  await clear();
  say({ ...message('two'), time: early() });
  await count(1);
  await page.evaluate(() => window.wire(window.lane, 'sent', '{"text":"three"}'));
  say({ ...message('four'), time: early() });
  await until(async () => (await texts(rows())).length === 4, 'with the explanation');
  const order = (await texts(rows())).map((text) => /two|three|four/.exec(text)?.[0]).filter(Boolean);
  assert.deepEqual(order, ['two', 'three', 'four']);
});

for (const colorScheme of ['light', 'dark']) {
  for (const width of [360, 900, 1600]) {
    await check(`axe-core finds nothing, ${colorScheme}, ${width} pixels, and it fits`, async () => {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      await showAll([event('sse', 'client', [piece('request line', 'GET / HTTP/1.1\r\n', 'RFC 9112, section 3')]),
        message('a'), heartbeat(),
        { type: 'struck', label: 'sse', fault: 'drop', connection: '127.0.0.1:1', time: clock },
        event('sse', 'server', [piece('broken', '', '', { meaning: 'it ended early' })]),
        event('websocket', 'client', HELLO)]);
      await page.locator('.wire-bits').click();
      await page.locator('.wire-bits').press('ArrowRight');
      await fields(rows().nth(1)).first().hover();
      await page.evaluate(AXE);
      const { violations, passes } = await page.evaluate(() => window.axe.run());
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'it has looked at the contrast');
      assert.deepEqual(violations.map(({ id, nodes: [{ html, failureSummary }] }) => [id, html, failureSummary]), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is cut off');
      const list = await page.locator('.wire-list').evaluate((one) => one.scrollWidth - one.clientWidth);
      assert.equal(list, 0, 'the rows fit');
      const [first, second] = await page.locator('.wire-eight').evaluateAll((all) => all.map((one) => one.offsetTop));
      assert.equal(first === second, width > 360, 'sixteen bytes in a row, or eight');
      await page.screenshot({ path: join(screenshots, `wire-${colorScheme}-${width}.png`), fullPage: true });
    });
  }
}

// The same with the real tap.

await page.context().close();
page = await open({ playsTap: false });
const room = 'tea';
const ROW = '.wire-row[data-type=bytes]';

/** Sends the request of the browser again, and returns the bytes that come back. */
function receive(request) {
  const socket = connect(server.port, '127.0.0.1');
  const received = [];
  socket.on('data', (data) => received.push(data));
  socket.write(request);
  return { socket, bytes: () => Buffer.concat(received) };
}

/** An answer without its differences to another one: the date, and the random reconnection time. */
const comparable = (bytes) => bytes.toString('latin1').replace(/^Date: .*\r\n/m, '')
  .replace(/retry: \d{4}\n/, 'retry: ....\n');

await check('the bytes shown of an event stream are those that a plain socket receives', async () => {
  await page.evaluate((name) => {
    window.source = new EventSource(`/api/events?room=${name}&tap=${window.tap.of('sse')}`);
    return new Promise((resolve) => { window.source.onopen = resolve; });
  }, room);
  await count(2);
  const request = await bytesOf(`${ROW}[data-from=client]`);
  assert.match(request.toString(), new RegExp(`^GET /api/events\\?room=${room}&tap=\\w{32}\\.sse HTTP/1\\.1\\r\\n`));
  const plain = receive(request.toString('latin1').replace(/tap=\w{32}/, `tap=${'0'.repeat(32)}`));
  await until(() => plain.bytes().includes('retry: '), 'the answer to the plain socket');
  for (const text of ['one', 'w\u00f6rld \u{1f40e}\ntwo lines', 'x'.repeat(1900), 'last']) {
    await server.post('/api/send', { sender: 'node', text, room });
  }
  const shown = async () => comparable(await bytesOf(`${ROW}[data-from=server]`));
  await until(() => plain.bytes().includes('"last"'), 'the last message');
  await until(async () => (await shown()) === comparable(plain.bytes()),
    async () => `the same bytes\n${await shown()}\nand\n${comparable(plain.bytes())}`);
  assert.match(await shown(), /^HTTP\/1\.1 200 OK\r\nTransfer-Encoding: chunked\r\n/);
  plain.socket.destroy();
  await page.evaluate(() => window.source.close());
  await page.locator('.wire-remark', { hasText: 'so is its connection' }).waitFor();
  await page.screenshot({ path: join(screenshots, 'wire-sse.png') });
});

/** Parses frames, without the code of the view. */
function framesIn(bytes) {
  const frames = [];
  for (let at = 0; at < bytes.length;) {
    const [first, second] = [bytes[at], bytes[at + 1]];
    const short = second & 127;
    const extended = { 126: 2, 127: 8 }[short] ?? 0;
    const length = extended ? Number(`0x${bytes.toString('hex', at + 2, at + 2 + extended)}`) : short;
    const key = at + 2 + extended;
    const begin = key + (second & 128 ? 4 : 0);
    const content = bytes.subarray(begin, begin + length);
    frames.push({ opcode: first & 15, bytes: second & 128 ? mask(content, bytes.subarray(key, key + 4)) : content });
    at = begin + length;
  }
  return frames;
}

await check('the frames shown of a WebSocket are those that were sent and received', async () => {
  await clear();
  const words = ['one', 'w\u00f6rld \u{1f40e}', 'x'.repeat(1500), 'last'];
  const wire = await page.evaluate(async ({ name, all }) => {
    const socket = new WebSocket(`ws://${location.host}/api/ws?room=${name}&tap=${window.tap.of('websocket')}`);
    const received = [];
    const arrived = new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        received.push(data);
        return JSON.parse(data).text === all.at(-1) && resolve();
      };
    });
    await new Promise((resolve) => { socket.onopen = resolve; });
    const sent = all.map((text) => JSON.stringify({ sender: 'page', text, room: name }));
    sent.forEach((text) => socket.send(text));
    await arrived;
    const closed = new Promise((resolve) => { socket.onclose = resolve; });
    socket.close(1000, 'bye');
    await closed;
    return { sent, received };
  }, { name: 'frames', all: words });
  await page.locator('.wire-remark').waitFor();
  for (const [from, said] of [['client', wire.sent], ['server', wire.received]]) {
    const bytes = await bytesOf(`${ROW}[data-from=${from}]`);
    const frames = framesIn(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4));
    const expected = said.map((text) => ({ opcode: 1, bytes: Buffer.from(text) }));
    assert.deepEqual(frames.slice(0, -1), expected, from);
    assert.equal(frames.at(-1).opcode, 8);
    assert.equal(frames.at(-1).bytes.readUInt16BE(), 1000);
  }
  const headers = await page.locator('.wire-row:not([hidden]) .wire-bits').count();
  assert.equal(headers, wire.sent.length + wire.received.length + 2);
  await page.locator(`${ROW}[data-from=client] .wire-bits`).first().click();
  await page.screenshot({ path: join(screenshots, 'wire-websocket.png') });
});

await check('no violation of the content security policy, nothing unexpected on the console', async () => {
  assert.deepEqual(await page.evaluate(() => window.violations), []);
  assert.deepEqual(complaints, []);
});

await browser.close();
await server.stop();
console.log(`screenshots are in ${screenshots}`);
finish();
