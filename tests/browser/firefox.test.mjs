// What Firefox does differently: when it gives a page the head of an answer, and what it refuses to a page whose
// site data are blocked.

import assert from 'node:assert/strict';
import { Server, check, finish, until } from '../interop/server.mjs';
import { Firefox } from './firefox.mjs';
import { Gate } from './gate.mjs';
import { Keys } from './keys.mjs';

const server = await Server.tapped();
const firefox = await Firefox.start();

await check('a stream of an empty room is open at once', async () => {
  const tab = await firefox.open(`${server.url}/?room=empty&lanes=stream`);
  await tab.until(() => document.querySelector('[data-lane]') !== null, 'the page');
  await tab.evaluate(() => document.querySelector('[data-lane] [data-action=start]').click());
  await until(async () => (await server.get('/api/stats')).transports.stream.open === 1, 'the stream on the server');
  server.child.kill('SIGSTOP'); // nothing comes after the head and what follows it at once
  await tab.until(() => document.querySelector('[data-lane]').dataset.state === 'open', 'the stream')
    .finally(() => server.child.kill('SIGCONT'));
  await tab.close();
});

await check('with all site data blocked, the page has its lanes and counts only this tab', async () => {
  const strict = await Firefox.start({ 'network.cookie.cookieBehavior': 2 });
  const tab = await strict.open(`${server.url}/?room=strict&lanes=sse&start`);
  await tab.until(() => document.querySelector('[data-lane]')?.dataset.state === 'open', 'the lane');
  await tab.until(() => /this tab only/.test(document.querySelector('#gauge-text').textContent), 'the gauge');
  assert.deepEqual(strict.complaints, []);
  await strict.close();
});

await check('after a look at the API, the lanes that ran are back with their messages', async () => {
  const tab = await firefox.open(`${server.url}/?room=back&lanes=stream,sse,websocket`);
  await tab.until(() => document.querySelector('[data-lane] [data-action=start]')?.disabled === false
    && document.querySelector('#message').placeholder.includes('back'), 'the page');
  await tab.evaluate(() => ['stream', 'websocket'].forEach((lane) => (
    document.querySelector(`[data-lane=${lane}] [data-action=start]`).click())));
  await tab.until(() => document.querySelectorAll('[data-state=open]').length === 2, 'the lanes');
  await server.post('/api/send', { room: 'back', sender: 'node', text: 'before' });
  const all = () => [...document.querySelectorAll('[data-lane]')].map(({ dataset, innerText }) => (
    [dataset.lane, dataset.state, innerText.includes('before')])).join(' ');
  await tab.until(() => document.querySelectorAll('li[data-id]').length === 2, 'the message');
  await tab.go(`${server.url}/docs`);
  await tab.until(() => document.querySelector('article') !== null, 'the API');
  await tab.back();
  await tab.until(() => document.querySelectorAll('[data-state=open]').length === 2
    && document.querySelectorAll('li[data-id]').length === 2, 'the lanes');
  assert.equal(await tab.evaluate(all), 'stream,open,true sse,stopped,false websocket,open,true');
  await tab.close();
});

await check('while another tab is shown, the title counts the messages that come', async () => {
  const tab = await firefox.open(`${server.url}/?room=title&lanes=websocket&start`);
  await tab.until(() => document.querySelector('[data-lane]')?.dataset.state === 'open', 'the lane');
  const other = await firefox.open(`${server.url}/health`);
  await tab.until(() => document.hidden, 'the tab to be hidden');
  await server.post('/api/send', { room: 'title', sender: 'node', text: 'unread' });
  await tab.until(() => document.title === '(1) overwire', 'the number in the title');
  await other.close();
  await tab.until(() => document.title === 'overwire', 'the title, when it is seen again');
  await tab.close();
});

await check('the form logs in, the page says who it is, and a log-out stops its lanes', async () => {
  const keys = new Keys();
  const key = keys.add('ada', '--rights', 'read,send');
  const guarded = await Server.start(0, process.env.OVERWIRE, ['--no-tap', '--keys', keys.path]);
  const tab = await firefox.open(`${guarded.url}/?lanes=stream,sse,websocket&start`);
  await tab.until(() => document.querySelector('#log-in')?.checkVisibility(), 'the form');
  await tab.evaluate((key) => {
    document.querySelector('#key').value = key;
    document.querySelector('#log-in').requestSubmit();
  }, key);
  await tab.until(() => document.querySelectorAll('[data-state=open]').length === 3, 'the lanes');
  assert.equal(await tab.evaluate(() => document.querySelector('#who-button').textContent), 'ada');
  await tab.evaluate(() => document.querySelector('#log-out').click());
  const over = () => [...document.querySelectorAll('[data-part=state]')].every(({ textContent }) => (
    textContent === 'session over'));
  const took = await tab.until(over, 'the end of the lanes');
  assert.ok(took < 1_000, `it took ${took} ms`);
  await tab.until(() => document.querySelector('#log-in').checkVisibility(), 'the form');
  await tab.close();
  await guarded.stop();
  keys.remove();
});

await check('the panel Auto says which transport it has chosen, and why', async () => {
  const gate = await Gate.open(server.port);
  gate.set('refuse', '/api/ws');
  const tab = await firefox.open(`${gate.url}/?room=auto&lanes=auto&start`);
  await tab.until(() => document.querySelector('[data-part=state]').textContent === 'open: sse', 'the lane');
  await tab.until(() => /Server-sent events: open/.test(document.querySelector('[data-part=log]').textContent), 'its log');
  const log = await tab.evaluate(() => document.querySelector('[data-part=log]').textContent);
  assert.match(log, /WebSocket does not work here \(.*\), Server-sent events is next/);
  await tab.close();
  gate.close();
});

await check('no page has thrown an error', () => {
  const thrown = firefox.complaints.filter((text) => !/connection to the server at ws/.test(text)); // it was refused
  assert.deepEqual(thrown, []);
});

await firefox.close();
await server.stop();
finish();
