// What Firefox does differently: when it gives a page the head of an answer.

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

await check('no page has thrown an error', () => assert.deepEqual(firefox.complaints, []));

await firefox.close();
await server.stop();
finish();
