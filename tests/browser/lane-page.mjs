// Lanes without the page: their modules are imported into a page without scripts, and driven from here.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { until } from '../interop/server.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const CLASSES = {
  'short-poll': 'ShortPoll', 'long-poll': 'LongPoll', stream: 'Stream', sse: 'Sse', websocket: 'WebSocketLane',
  webrtc: 'WebRtc', 'mailbox-poll': 'MailboxPoll', 'mailbox-sse': 'MailboxSse', 'mailbox-websocket': 'MailboxWebSocket',
};

/** The errors that the pages threw. */
export const complaints = [];

export const launch = (...flags) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...FLAGS, ...flags],
});

/** A page without scripts, from the server or the tap at `base`. It keeps the reports of each lane. */
export async function blank(browser, base) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.stack));
  await page.goto(`${base}/health`);
  await prepare(page);
  return page;
}

async function prepare(page) {
  // As in WebKit, which collects the result of `AbortSignal.any` while a request still uses it: it never aborts.
  await page.evaluate(() => { AbortSignal.any = () => new AbortController().signal; });
  await page.evaluate((classes) => {
    window.lanes = {};
    window.make = async (name, options) => {
      const lane = new (await import(`/lanes/${name}.js`))[classes[name]](options);
      lane.said = { message: [], state: [], id: [], wire: [], notice: [], problem: [], refused: [] };
      for (const [kind, list] of Object.entries(lane.said)) {
        lane.addEventListener(kind, ({ detail }) => list.push(detail));
      }
      window.lanes[name] = lane;
    };
  }, CLASSES);
}

export async function make(page, names, options = {}) {
  for (const name of names) {
    await page.evaluate(([name, options]) => window.make(name, options), [name, options]);
  }
}

export const call = (page, name, method, ...args) => page.evaluate(
  ([name, method, args]) => { window.lanes[name][method](...args); }, [name, method, args]);

export const get = (page, name, field) => page.evaluate(([name, field]) => window.lanes[name][field], [name, field]);
export const said = async (page, name, kind) => (await get(page, name, 'said'))[kind];
export const texts = async (page, name) => (await said(page, name, 'message')).map(({ text }) => text);
export const wire = async (page, name, what) => (await said(page, name, 'wire')).filter((one) => one.what === what);
export const send = (page, ...args) => page.evaluate(([name, sender, text]) => (
  window.lanes[name].send(sender, text).then((id) => ({ id }), ({ message }) => ({ error: message }))), args);

export async function started(page, names, options) {
  await make(page, names, options);
  for (const name of names) {
    await call(page, name, 'start');
    await running(page, name);
  }
}

export async function running(page, name) {
  await until(async () => ['open', 'holding'].includes(await get(page, name, 'state')),
    async () => `${name} to be open; it is ${await get(page, name, 'state')}: ${await said(page, name, 'problem')}`);
}

/** Waits for the last of `wanted`, and asserts that the lane received exactly these, in this order. */
export async function received(page, names, wanted) {
  for (const name of names) {
    await until(async () => (await texts(page, name)).includes(wanted.at(-1)),
      async () => `${name} to receive ${wanted.at(-1)}; it has ${(await texts(page, name)).slice(-5)}; ${JSON.stringify(await get(page, name, 'said'))}`);
    assert.deepEqual(await texts(page, name), wanted, name);
  }
}

export async function reported(page, name, kind, pattern) {
  await until(async () => (await said(page, name, kind)).some((one) => pattern.test(one.text ?? one)),
    async () => `${kind} ${pattern} of ${name}; it has ${JSON.stringify(await said(page, name, kind))}`);
}

/** Sets static fields of a class of a module, by default of Lane. */
export const limits = (page, { file = 'lane', name = 'Lane', ...values }) => page.evaluate(async ([file, name, values]) => {
  Object.assign((await import(`/lanes/${file}.js`))[name], values);
}, [file, name, values]);

export const numbered = (word, count) => Array.from({ length: count }, (_, at) => `${word} ${at}`);

/** Opens the tap in the page, which keeps its `struck` events. Returns the id. */
export const tapped = (page) => page.evaluate(async () => {
  const { Tap } = await import('/tap.js');
  window.tap = new Tap();
  window.struck = [];
  window.tap.addEventListener('struck', ({ detail }) => window.struck.push(detail));
  window.carriedOut = []; // what to call when the tap answers the wrong command after each command
  window.tap.addEventListener('error', ({ detail }) => {
    const call = window.carriedOut.shift();
    if (!call) {
      throw new Error(detail.error);
    }
    call();
  });
  await new Promise((resolve) => {
    window.tap.addEventListener('open', resolve);
    window.tap.start();
  });
  return window.tap.id;
});

/** Commands a fault of a lane, and waits until the tap has carried it out: it answers a wrong command after it. */
export const fault = (page, label, fault, value) => page.evaluate((command) => new Promise((resolve) => {
  window.carriedOut.push(resolve);
  window.tap.command(command);
  window.tap.command({});
}), { label, fault, value });

export const strikesOf = (page, label) => page.evaluate((label) => (
  window.struck.filter((one) => one.label === label).length), label);
