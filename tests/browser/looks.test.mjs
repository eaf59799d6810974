// The page in each of its states, narrow and light, wide and dark: axe-core finds nothing, nothing widens the page, and
// no title is cut. One page goes through all states.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, check, finish, until } from '../interop/server.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SIZES = [[360, 'light'], [1280, 'dark'], [1600, 'light']]; // axe-core is slow, and looks at two of them
const STREAMS = ['stream', 'sse', 'websocket'];

const screenshots = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'overwire-looks-'));
const server = await Server.tapped({ options: ['--chaos'] });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
const errors = [];
const page = await open('');

async function open(query) {
  const opened = await context.newPage();
  opened.on('pageerror', ({ stack }) => errors.push(stack));
  await opened.goto(`${server.tapUrl}/${query}`);
  await opened.locator('#tab-chaos').waitFor(); // the page knows that it is seen through the tap
  return opened;
}

const part = (lane, name) => page.locator(`.panel[data-lane="${lane}"] [data-part="${name}"]`);
const state = (lane) => page.locator(`.panel[data-lane="${lane}"]`).getAttribute('data-state');
const entries = (lane, text) => page.locator(`.panel[data-lane="${lane}"] li`, { hasText: text });
const tab = (name) => page.click(`#tab-${name}`);

async function say(text) {
  await page.fill('#message', text);
  await page.press('#message', 'Enter');
}

async function areOpen() {
  for (const lane of STREAMS) {
    await until(async () => await state(lane) === 'open', `${lane} to be open`);
  }
}

/** The checks of the looks, in each size and colour scheme. axe-core looks at the elements `within`. */
async function looks(name, within, looked = page) {
  await looked.evaluate(AXE);
  for (const [width, colorScheme] of SIZES) {
    await looked.setViewportSize({ width, height: 800 });
    await looked.emulateMedia({ colorScheme });
    await until(() => looked.evaluate(() => document.getAnimations().length === 0), 'the end of the flashes');
    if (width < 1600) {
      const { violations, passes } = await looked.evaluate((one) => window.axe.run(one), within);
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'it has looked at the contrast');
      const found = violations.map(({ id, nodes: [{ html, failureSummary }] }) => [id, html, failureSummary]);
      assert.deepEqual(found, [], `${colorScheme}, ${width} pixels`);
    }
    await looked.screenshot({ path: join(screenshots, `${name}-${colorScheme}-${width}.png`) });
    assert.ok(await looked.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `it fits in ${width}`);
    const cut = await looked.evaluate(() => [...document.querySelectorAll('.panel h2, .panel .how, button, th')]
      .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 1)
      .map((one) => one.textContent));
    assert.deepEqual(cut, [], `cut in ${width}`);
  }
  await looked.setViewportSize({ width: 1280, height: 800 });
  await looked.emulateMedia({ colorScheme: 'light' });
}

await check('a fresh page says what to press, and what each lane is', async () => {
  const background = (action) => page.locator(`[data-action="${action}"]`)
    .evaluate((button) => getComputedStyle(button).backgroundColor);
  assert.notEqual(await background('start-all'), await background('publish'), 'to start stands out');
  for (const blank of await page.locator('.blank').all()) {
    assert.match(await blank.innerText(), /\w+\. Press Start\.$/);
  }
  assert.match(await page.locator('.first-steps').innerText(), /every byte\.\s+Press Start all.*\s+Send.*\s+Open Chaos/);
  assert.equal(await page.locator('#log-in:visible, #who-button:visible').count(), 0, 'the server has no keys');
  await looks('fresh', 'body');
  await page.click('[popovertarget="about-page"]');
  await looks('about-page', '#about-page');
  await page.keyboard.press('Escape');
});

await check('with open lanes, the button Send is highlighted', async () => {
  const before = await page.locator('[data-action="publish"]').evaluate((one) => getComputedStyle(one).backgroundColor);
  await page.click('[data-action="start-all"]');
  await areOpen();
  const after = await page.locator('[data-action="publish"]').evaluate((one) => getComputedStyle(one).backgroundColor);
  assert.notEqual(after, before);
  assert.match(await page.locator('.panel[data-lane="sse"] .blank').innerText(), /Send something\.$/);
  await looks('open', 'body');
  await say('Hello');
  for (const lane of STREAMS) {
    await entries(lane, 'Hello').waitFor();
    assert.ok(await page.locator(`.panel[data-lane="${lane}"] .blank`).isHidden());
  }
});

await check('every control that Tab leads to shows that it has the focus', async () => {
  await page.locator('[name=mode]:checked').focus();
  const seen = new Set();
  for (let stops = 0; stops < 200; stops += 1) {
    await page.keyboard.press('Tab');
    const { name, isShown } = await page.evaluate(() => {
      const one = document.activeElement;
      const shown = one.matches('[name=mode]') ? one.nextElementSibling : one;
      return { name: `${one.tagName} ${one.id} ${one.ariaLabel ?? ''} ${one.dataset.part ?? one.textContent}`,
        isShown: one === document.body || getComputedStyle(shown).outlineStyle !== 'none' };
    });
    assert.ok(isShown, name);
    if (seen.has(name) && name.startsWith('INPUT room')) {
      break;
    }
    seen.add(name);
  }
  assert.ok([...seen].some((name) => /tab-bytes/.test(name)), 'it has come to the dock');
});

await check('the wire view: a frame opened, a filter that nothing matches, a pause', async () => {
  await part('websocket', 'bytes').click();
  await page.click('.wire-buttons [data-action="clear"]'); // few rows: axe-core looks at each byte
  await say('Hello again');
  await page.locator('.wire-bits').last().click();
  await page.locator('.frame-panel').waitFor();
  const [panelTop, listTop] = await page.evaluate(() => ['.frame-panel', '.wire-list']
    .map((selector) => document.querySelector(selector).getBoundingClientRect().top));
  assert.ok(panelTop >= listTop - 1, 'its beginning is in sight');
  await looks('frame', '#tools');
  assert.ok(await page.locator('.wire-detail').evaluate((detail) => (
    detail.getBoundingClientRect().bottom <= innerHeight)), 'the line of detail is in sight');
  await page.locator('.wire-tools [type=search]').fill('nothing is like this');
  await page.locator('.wire-empty').waitFor();
  await looks('no-match', '.wire-view');
  await page.locator('.wire-tools [type=search]').fill('');
  await page.click('.wire-buttons [data-action="pause"]');
  await looks('paused', '.wire-controls');
  await page.click('.wire-buttons [data-action="pause"]');
});

await check('the comparison: at first, in an experiment, and after a burst', async () => {
  await tab('compare');
  await looks('compare', '#tools');
  await page.click('#compare [data-action="silence"]');
  await looks('silence', '#tools');
  await page.click('#compare [data-action="stop"]');
  await page.click('#compare [data-action="burst"]');
  await page.locator('[data-result="burst"]').waitFor({ timeout: 60_000 });
  await looks('burst', '#tools');
});

await check('the faults: all lanes come first, and a fault is explained where the pointer is', async () => {
  await tab('chaos');
  assert.equal(await page.locator('.chaos-table tbody tr').first().getAttribute('data-row'), 'all lanes');
  assert.match(await page.locator('.chaos-log').innerText(), /^Nothing yet\. Start a lane, and press Drop/);
  await page.locator('.chaos-table [data-row="sse"] button').first().hover();
  assert.match(await page.locator('.chaos-hint').innerText(), /router that restarts/);
  await looks('chaos', '#tools');
  for (const select of await page.locator('.chaos-table [data-row="all lanes"] select').all()) {
    await select.selectOption({ index: 5 });
  }
  await page.locator('.chaos-table [data-row="sse"] [type=range]').fill('2');
  await page.locator('.chaos-table [data-row="stream"] [role=switch]').check();
  await looks('chaos-on', '#tools');
  await page.click('.chaos-buttons [data-action="calm"]');
  for (const fault of ['drop', 'cut']) {
    await page.locator(`.chaos-table [data-row="all lanes"] [data-fault="${fault}"] button`).click();
  }
  await say('meanwhile');
  await page.locator('.chaos-log li').nth(8).waitFor();
  await looks('chaos-log', '#tools');
  await page.click('.chaos-buttons [data-action="restart"]');
  await looks('restart', '.chaos-dialog');
});

await check('missing messages, and the explanation of the six connections', async () => {
  await page.click('.chaos-dialog [data-action="confirm"]');
  await part('websocket', 'notice').waitFor({ timeout: 30_000 });
  await looks('missing', '#panels');
  await page.click('[popovertarget="about-limit"]');
  await looks('about', '#about-limit');
  await page.keyboard.press('Escape');
});

await check('at 1024 pixels, and with the wider letters of other browsers, nothing is cut or covered', async () => {
  await page.setViewportSize({ width: 1024, height: 768 });
  const space = (spacing) => page.evaluate((spacing) => (
    document.querySelectorAll('*').forEach(({ style }) => { style && (style.letterSpacing = spacing); })), spacing);
  await space('0.03em');
  await page.screenshot({ path: join(screenshots, 'wider-1024.png') });
  const wrong = await page.evaluate(() => {
    const box = (one) => one.getBoundingClientRect();
    const outside = [...document.querySelectorAll('.panel header > *, .facts > *, .panel form > *')].filter((one) => (
      one.checkVisibility() && (box(one).right > box(one.closest('.panel')).right + 1)));
    const covered = [...document.querySelectorAll('.bar > *, .panel header > *, .facts > *, .tabs > *')].filter((one) => {
      const next = one.nextElementSibling;
      return next && one.checkVisibility() && next.checkVisibility() && box(one).bottom > box(next).top + 1
        && box(one).top < box(next).bottom - 1 && box(one).right > box(next).left + 1
        && box(one).left < box(next).right - 1;
    });
    const low = [...document.querySelectorAll('.bar, .dock')].filter((one) => box(one).bottom > innerHeight + 1);
    return [...outside, ...covered, ...low].map((one) => one.outerHTML.slice(0, 120));
  });
  assert.deepEqual(wrong, []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  assert.ok(await page.locator('.bar').evaluate((bar) => bar.offsetHeight < 80), 'the bar has two lines at most');
  await space('');
});

await check('on paper there are all messages and all bytes, and no controls', async () => {
  const paper = await open('?room=paper&lanes=sse,websocket&start');
  for (const lane of ['sse', 'websocket']) {
    await until(async () => (
      await paper.locator(`.panel[data-lane="${lane}"]`).getAttribute('data-state') === 'open'), `${lane} to be open`);
  }
  for (let at = 0; at < 60; at += 1) {
    await server.post('/api/send', { room: 'paper', sender: 'node', text: `message ${at}` });
  }
  const shown = paper.locator('.panel[data-lane="sse"] li', { hasText: 'message 59' });
  await shown.waitFor();
  await until(async () => await paper.locator('.wire-row', { hasText: 'message 59' }).count() > 1, 'its bytes');
  await paper.emulateMedia({ media: 'print', colorScheme: 'dark' });
  await paper.setViewportSize({ width: 720, height: 1000 }); // A4, with its margins
  const seen = await paper.evaluate(() => ({
    controls: [...document.querySelectorAll('button, select, form, [type=search], [type=checkbox]')]
      .filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 80)),
    cut: [...document.querySelectorAll('.records, .log, #panels, .dock, #tools, .wire-list, .wire-frame, .wire-row')]
      .filter((one) => one.checkVisibility() && one.scrollHeight > one.clientHeight + 4
        && getComputedStyle(one).overflowY !== 'visible').map((one) => one.className || one.id),
    width: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
    ground: getComputedStyle(document.querySelector('.log')).backgroundColor,
  }));
  assert.deepEqual([seen.controls, seen.cut, seen.width, seen.ground], [[], [], 720, 'rgba(0, 0, 0, 0)']);
  assert.ok(seen.height > 10_000, `the bytes of 60 messages need pages, not ${seen.height} pixels`);
  assert.ok(await shown.evaluate((one) => one.getBoundingClientRect().height > 0));
  await paper.close();
});

await check('with letters of twice the size the page fits in 360 pixels, and only its tables scroll', async () => {
  const large = await open('?start');
  await until(async () => (
    await large.locator('.panel[data-lane="sse"]').getAttribute('data-state') === 'open'), 'the lane to be open');
  await large.fill('#message', 'Hello, is anybody here?');
  await large.press('#message', 'Enter');
  await large.locator('.panel[data-lane="sse"] li[data-id]').waitFor();
  await large.setViewportSize({ width: 360, height: 800 });
  const line = () => large.locator('.panel h2').first().evaluate((title) => title.offsetHeight);
  const before = await line();
  const session = await context.newCDPSession(large);
  for (const name of ['bytes', 'compare', 'chaos']) {
    await large.click(`#tab-${name}`);
    await session.send('Page.setFontSizes', { fontSizes: { standard: 32, fixed: 26 } }); // a picture resets them
    assert.equal(await line(), 2 * before);
    const wide = await large.evaluate(() => [...document.querySelectorAll('body *')].filter((one) => (
      one.checkVisibility() && !one.closest('.chaos-scroller, .compare-scroller, .unseen, .skip')
        && one.getBoundingClientRect().right > innerWidth + 1)).map((one) => one.outerHTML.slice(0, 100)));
    assert.deepEqual([wide, await large.evaluate(() => document.documentElement.scrollWidth)], [[], 360], name);
    await large.screenshot({ path: join(screenshots, `large-${name}.png`) });
  }
  await large.close();
});

await check('one lane alone, and three with mailboxes', async () => {
  for (const query of ['?lanes=sse', '?mode=isolated']) {
    const other = await open(query);
    await looks(query.slice(1), 'body', other);
    await other.close();
  }
});

await check('the composer says that the server cannot be reached', async () => {
  await server.stop();
  await say('Is anybody there?');
  await until(async () => /^Sending failed: the server cannot be reached/.test(
    await page.locator('#composer-says').innerText()), 'the composer to say so');
  assert.equal(await page.inputValue('#message'), 'Is anybody there?');
  await looks('no-server', '#composer');
  assert.deepEqual(errors, []);
});

await browser.close();
console.log(`screenshots are in ${screenshots}`);
finish();
