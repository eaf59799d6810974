// What Firefox does differently: when it gives a page the head of an answer, and what it refuses to a page whose
// site data are blocked.

import assert from 'node:assert/strict';
import { Server, check, finish } from '../interop/server.mjs';
import { Firefox } from './firefox.mjs';

const server = await Server.tapped();
const firefox = await Firefox.start();

await check('a stream of an empty room is open at once', async () => {
  const tab = await firefox.open(`${server.url}/?room=empty&lanes=stream`);
  await tab.until(() => document.querySelector('[data-lane]') !== null, 'the page');
  await tab.evaluate(() => document.querySelector('[data-lane] [data-action=start]').click());
  const took = await tab.until(() => document.querySelector('[data-lane]').dataset.state === 'open', 'the stream');
  assert.ok(took < 3_000, `it took ${took} ms`);
  await tab.close();
});

await check('with all site data blocked, the page has its lanes and counts only this tab', async () => {
  const strict = await Firefox.start({ 'network.cookie.cookieBehavior': 2 });
  const tab = await strict.open(`${server.url}/?room=strict&lanes=sse&start`);
  await tab.until(() => document.querySelector('[data-lane]')?.dataset.state === 'open', 'the lane', 15_000);
  await tab.until(() => /this tab only/.test(document.querySelector('#gauge-text').textContent), 'the gauge');
  assert.deepEqual(strict.complaints, []);
  await strict.close();
});

await check('no page has thrown an error', () => assert.deepEqual(firefox.complaints, []));

await firefox.close();
await server.stop();
finish();
