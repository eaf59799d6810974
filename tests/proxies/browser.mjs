// The page behind a proxy, in Chromium.

import assert from 'node:assert/strict';
import { chromium } from '../browser/node_modules/playwright-core/index.mjs';
import { until } from '../interop/server.mjs';


/** The errors that the pages threw. */
export const complaints = [];

/** Chromium that accepts the certificate whose key has this hash. */
export const launch = (hash, ...flags) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-features=WebRtcHideLocalIpsWithMdns',
    `--ignore-certificate-errors-spki-list=${hash}`, '--host-resolver-rules=MAP localhost 127.0.0.1', ...flags],
});

/** Opens a page. `protocols` gets the protocol of the last answer for each path. */
export async function open(context, url, protocols = new Map()) {
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(`${url}: ${error.stack}`));
  const session = await context.newCDPSession(page);
  session.on('Network.responseReceived', ({ response }) => {
    protocols.set(new URL(response.url).pathname, response.protocol);
  });
  await session.send('Network.enable');
  await page.goto(url);
  return page;
}

const panel = (page, lane) => page.locator(`.panel[data-lane="${lane}"]`);

/** The texts of one kind of line in the log of a lane. */
export const log = (page, lane, kind = 'message') => (
  panel(page, lane).locator(`[data-kind="${kind}"] span`).allTextContents());

export const stateOf = (page, lane) => panel(page, lane).getAttribute('data-state');

/** Waits until these lanes of the page are open. */
export async function opened(page, lanes) {
  for (const lane of lanes) {
    await until(async () => ['open', 'holding'].includes(await stateOf(page, lane)), async () => (
      `${lane} to be open; it is ${await stateOf(page, lane)}: ${await log(page, lane, 'problem')}`));
  }
}

/** Waits until these lanes have the last of the texts, and asserts that each shows all of them once and in order. */
export async function shows(page, lanes, texts) {
  for (const lane of lanes) {
    await until(async () => (await log(page, lane)).includes(texts.at(-1)), async () => (
      `${lane} to show ${texts.at(-1)}; it shows ${(await log(page, lane)).slice(-5)}`));
    assert.deepEqual(await log(page, lane), texts, lane);
    assert.deepEqual(await log(page, lane, 'notice'), [], lane);
  }
}

export async function say(page, lane, text) {
  await panel(page, lane).locator('[data-part="text"]').fill(text);
  await panel(page, lane).locator('[data-part="text"]').press('Enter');
}
