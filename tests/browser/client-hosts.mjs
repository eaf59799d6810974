// The places in which overwire.js runs: Node, Chromium and Firefox. A place makes a sheet: a fresh page, or this
// process. A sheet has `evaluate(act, argument)`, and `clients`, which the functions here drive.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { until } from '../interop/server.mjs';
import { Firefox } from './firefox.mjs';
import { launch } from './lane-page.mjs';

const FILE = new URL('../../static/overwire.js', import.meta.url).href;

/** Times for tests: milliseconds. A sheet can change them. */
const SHORT = { OPENING: 1_500, STEADY: 300, CLIMB: 600_000, CLIMB_CAP: 600_000, TRIES: 2, TRIES_OF_KNOWN: 4,
  SHARED_SILENCE: 120_000 };

export async function node() {
  globalThis.WebSocket ??= WebSocket; // Node has it from version 22 on
  return {
    name: 'Node',
    sheet: async () => ({ evaluate: async (act, argument) => act(argument), module: FILE, close: async () => {} }),
    close: async () => [],
  };
}

export async function chromium() {
  const browser = await launch();
  const complaints = [];
  const context = await browser.newContext();
  return {
    name: 'Chromium',
    async sheet(base) {
      const page = await context.newPage();
      page.on('pageerror', (error) => complaints.push(error.stack));
      await page.goto(`${base}/health`);
      return {
        evaluate: (act, argument) => page.evaluate(act, argument),
        module: `${base}/overwire.js`, close: () => page.close(),
      };
    },
    close: async () => {
      await browser.close();
      return complaints;
    },
  };
}

export async function firefox() {
  const browser = await Firefox.start({
    'devtools.jsonview.enabled': false, // its viewer of JSON permits no scripts
    'network.websocket.delay-failed-reconnects': false, // the client waits by itself
    'dom.min_background_timeout_value': 10, // milliseconds: the tab that is not in front waits no longer
    'dom.timeout.enable_budget_timer_throttling': false,
  });
  return {
    name: 'Firefox',
    async sheet(base) {
      const tab = await browser.open(`${base}/health`);
      return {
        evaluate: (act, argument) => tab.evaluate(act, argument),
        module: `${base}/overwire.js`, close: () => tab.close(),
      };
    },
    close: async () => {
      const complaints = browser.complaints.filter((text) => !/connection to the server|was interrupted/.test(text));
      await browser.close();
      return complaints; // a WebSocket that fails is one more line of the console
    },
  };
}

/** Makes clients in the sheet: { name: options }. Each notes its events. Then they are `globalThis.clients[name]`. */
export async function connect(sheet, base, clients, times = {}) {
  await sheet.evaluate(async ({ module, base, clients, times }) => {
    const { Connection, Reader, connect } = await import(module);
    Object.assign(Connection, times);
    const { SILENCE = 20_000, HEARTBEAT = 15_000, ANSWER = 10_000 } = times;
    Object.assign(Reader, { SILENCE, HEARTBEAT, ANSWER });
    globalThis.clients ??= {};
    for (const [name, options] of Object.entries(clients)) {
      const client = connect(`${base}/`, options);
      client.texts = [];
      client.states = [];
      client.gaps = 0;
      client.addEventListener('message', ({ detail }) => client.texts.push(detail.text));
      client.addEventListener('state', ({ detail }) => client.states.push(detail));
      client.addEventListener('gap', () => { client.gaps += 1; });
      globalThis.clients[name] = client;
    }
  }, { module: sheet.module, base, clients, times: { ...SHORT, ...times } });
}

/** Members of a client. */
export const get = (sheet, name = 'one') => sheet.evaluate((name) => {
  const { state, transport, texts, states, gaps, id, cursor, error } = globalThis.clients[name];
  return { state, transport, texts, states, gaps, id, cursor, error: error?.message };
}, name);

/** Sends a text. Returns { id }, or { error }. */
export const send = (sheet, text, name = 'one', options = {}) => sheet.evaluate(async ({ name, text, options }) => {
  try {
    return await globalThis.clients[name].send(text, options);
  } catch (error) {
    return { error: error.message };
  }
}, { name, text, options });

export const close = (sheet, name = 'one') => sheet.evaluate((name) => globalThis.clients[name].close(), name);

/** Waits until the client is open, with this transport if one is given. */
export async function open(sheet, transport = undefined, name = 'one') {
  let now;
  await until(async () => {
    now = await get(sheet, name);
    return now.state === 'open' && (transport ?? now.transport) === now.transport;
  }, () => `${name} to be open with ${transport}; it has ${JSON.stringify(now)}`);
  return now;
}

/** Waits for the last of the texts, and asserts that the client received exactly these, in this order. */
export async function received(sheet, texts, { name = 'one', gaps = 0 } = {}) {
  let now;
  await until(async () => {
    now = await get(sheet, name);
    return now.texts.includes(texts.at(-1));
  }, () => `${name} to receive ${texts.at(-1)}; it has ${JSON.stringify(now)}`);
  assert.deepEqual(now.texts, texts, name);
  assert.equal(now.gaps, gaps, `${name}: ${JSON.stringify(now.states)}`);
}
